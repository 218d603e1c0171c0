/* Sessions: reads and writes of one unit of application work. */
#include "session.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "../plan/guard.h"
#include "../wire/result.h"

#include <stdio.h>
#include <string.h>

/* A read runs read-only wherever it lands, also on a replica that is promoted meanwhile. It ends
 * with the segment, and inside it cannot be switched off: a snapshot was taken already.
 * https://www.postgresql.org/docs/15/sql-set-transaction.html */
static const char read_only_sql[] =
    "select pg_catalog.set_config('transaction_read_only', 'on', true)";

int pqi_session_open(struct pqr *db, const pqr_session_options *o, struct pqr_session **out,
                     pqr_error *err)
{
    struct pqr_session *s = pqi_mem_new(sizeof *s);
    if (!s)
        return pqi_err(err, PQR_E_NOMEM, "no memory for a session");
    s->control = o->tenant == pqr_control_tenant;
    s->stay = -1;
    s->deadline_ms = o->deadline_ms > 0 ? o->deadline_ms : db->options->socket_timeout_ms;
    pqi_list_init(&s->txs);
    pqi_list_init(&s->loans);
    if (o->tenant && !s->control) {
        s->tenant_len = o->tenant_len > 0 ? o->tenant_len : strlen(o->tenant);
        s->tenant = pqi_mem_bytes(o->tenant, s->tenant_len);
        if (!s->tenant) {
            pqi_mem_free(s);
            return pqi_err(err, PQR_E_NOMEM, "no memory for a session");
        }
    }
    s->db = pqi_router_ref(db);
    *out = s;
    return PQR_OK;
}

void pqi_session_close(struct pqr_session *s)
{
    while (!pqi_list_empty(&s->txs))
        pqi_tx_rollback(pqi_container(s->txs.next, struct pqr_tx, of_session));
    pqi_session_give_back(s, NULL);
    struct pqr *db = s->db;
    pqi_mem_free(s->tenant);
    pqi_mem_free(s);
    pqi_router_unref(db);
}

struct pqi_shard *pqi_session_shard(struct pqr_session *s, int64_t *map_version, pqr_error *err)
{
    struct pqi_shard *shard;
    *map_version = INT64_MAX; /* no map decides, so none can be too old */
    if (s->fixed)
        shard = s->fixed;
    else if (s->control)
        shard = pqi_router_control(s->db);
    else
        shard = pqi_router_shard(s->db, s->tenant ? s->tenant : "", s->tenant_len, map_version);
    if (!shard) {
        pqi_err(err, PQR_E_MAP,
                "the tenant's shard is not configured: DATABASE_SHARD_COUNT is below the shard map's");
        return NULL;
    }
    if (shard != s->shard) {
        s->shard = shard;
        s->seen = (struct pqi_seen){0};
        s->unsure = false;
        s->stay = -1;
    }
    return shard;
}

void pqi_session_saw(struct pqr_session *s, const struct pqi_call *c)
{
    struct pqi_position at;
    if (!c->write && c->level == PQR_LEVEL_ANY)
        return;
    if (c->unit && !c->write)
        s->stay = c->node->index;
    if (c->position < 0)
        return;
    if (!pqi_ask_position(&c->conn->answers[c->position], &at)) {
        s->unsure |= c->write;
        return;
    }
    if (at.role == PQR_ROLE_PRIMARY) {
        pthread_mutex_lock(&c->shard->lock);
        uint64_t segment_bytes = c->shard->segment_bytes;
        pthread_mutex_unlock(&c->shard->lock);
        at.lsn = pqi_lsn_floor(at.lsn, segment_bytes);
        s->unsure &= !c->write;
    }
    pqi_seen_raise(&s->seen, at.timeline, at.lsn);
}

/* Is there a replica at all that could be behind? */
static bool tracks(const struct pqr_session *s)
{
    return s->shard && s->shard->n > 1;
}

/* ---- What a caller sends -------------------------------------------------------------------- */

static int check_query(const pqr_query *q, enum pqi_place place, pqr_error *err)
{
    char why[256];
    int code = pqi_sql_check(q->sql, err);
    if (code == PQR_OK && pqi_guard(q->sql, place, why, sizeof why) == PQI_REFUSE)
        code = pqi_err(err, PQR_E_USAGE, "%s%s%s", q->name ? q->name : "", q->name ? ": " : "", why);
    return code;
}

static void free_params(struct pqi_stmt *stmts, int n)
{
    for (int i = 0; i < n; i++)
        pqi_params_free(stmts[i].params);
}

static int bind(struct pqi_stmt *stmt, const pqr_query *q, enum pqi_place place, pqr_error *err)
{
    struct pqi_params *params = NULL;
    int code = check_query(q, place, err);
    if (code == PQR_OK)
        code = pqi_params_bind(&params, q->params, q->nparams, false, err);
    *stmt = (struct pqi_stmt){.sql = q->sql, .params = params, .binary = q->binary_result != 0};
    return code;
}

/* The answer's result, or USAGE when its command tag shows that the statement was not what this
 * place allows: then the connection is not used again either. */
static int take_result(struct pqi_call *c, int i, enum pqi_place place, pqr_result **out,
                       pqr_error *err)
{
    const char *tag = pqi_answer_tag(&c->conn->answers[i]);
    if (!pqi_tag_allowed(tag, place)) {
        c->conn->tainted = true;
        return pqi_err(err, PQR_E_USAGE, "%s: a statement that answers %s is not a read: send it with "
                       "pqr_write or in a transaction", c->node->target->name, tag);
    }
    *out = pqi_result_new(pqi_conn_take(c->conn, i), c->node->target->name);
    return *out ? PQR_OK : pqi_err(err, PQR_E_NOMEM, "no memory for a result");
}

static int finish(struct pqi_call *c, enum pqi_place place, pqr_result **res, pqr_error *err)
{
    int code = pqi_call_run(c);
    if (err)
        *err = c->err;
    int taken = 0;
    for (; code == PQR_OK && res && taken < c->count; taken += code == PQR_OK)
        code = take_result(c, c->first + taken, place, &res[taken], err);
    if (code != PQR_OK)
        for (int i = 0; i < taken; i++) {
            pqi_result_unref(res[i]);
            res[i] = NULL;
        }
    pqi_call_end(c);
    return code;
}

/* ---- Reads and writes ----------------------------------------------------------------------- */

/* Fills [read only][the caller's …][position], one segment. */
static int build_read(struct pqi_call *c, struct pqi_stmt *stmts, const pqr_query *const *q, int n,
                      pqr_error *err)
{
    stmts[0] = (struct pqi_stmt){.sql = read_only_sql};
    c->first = 1;
    for (int i = 0; i < n; i++) {
        int code = bind(&stmts[1 + i], q[i], PQI_IN_READ, err);
        c->count++;
        if (code != PQR_OK && err)
            err->index = n > 1 ? i : -1;
        if (code != PQR_OK)
            return code;
    }
    c->n = 1 + n;
    if (tracks(c->session) && c->level != PQR_LEVEL_ANY) {
        c->position = c->n++;
        stmts[c->position] = (struct pqi_stmt){.sql = pqi_ask_position_sql};
    }
    stmts[c->n - 1].sync = true;
    c->stmts = stmts;
    return PQR_OK;
}

int pqi_session_read(struct pqr_session *s, const pqr_query *const *q, size_t n, pqr_result **res,
                     pqr_error *err)
{
    struct pqi_stmt few[8], *stmts = few;
    if (n + 2 > sizeof few / sizeof *few)
        stmts = pqi_mem_array(n + 2, sizeof *stmts);
    if (!stmts)
        return pqi_err(err, PQR_E_NOMEM, "no memory for a batch");
    struct pqi_call c;
    int64_t version;
    pqi_call_init(&c, s, q[0]->deadline_ms);
    pqi_session_shard(s, &version, NULL);
    c.level = (enum pqr_level)q[0]->level;
    c.name = q[0]->name;
    int code = build_read(&c, stmts, q, (int)n, err);
    if (code == PQR_OK)
        code = finish(&c, PQI_IN_READ, res, err);
    else
        pqi_call_end(&c);
    free_params(stmts + 1, c.count);
    if (stmts != few)
        pqi_mem_free(stmts);
    return code;
}

int pqi_session_write(struct pqr_session *s, const pqr_query *q, pqr_result **res, pqr_error *err)
{
    struct pqi_call c;
    int64_t version;
    enum pqi_place place = q->alone ? PQI_IN_ALONE : PQI_IN_WRITE;
    struct pqi_stmt stmts[2];
    pqi_call_init(&c, s, q->deadline_ms);
    pqi_session_shard(s, &version, NULL);
    int code = bind(&stmts[0], q, place, err);
    stmts[0].sync = true;
    stmts[0].alone = q->alone != 0;
    c.write = true;
    c.stmts = stmts;
    c.n = c.count = 1;
    c.name = q->name;
    if (tracks(s)) {
        /* Behind the commit, with a Sync of its own: where this write can be read from. */
        stmts[1] = (struct pqi_stmt){.sql = pqi_ask_position_sql, .sync = true};
        c.position = 1;
        c.n = 2;
    }
    if (code == PQR_OK)
        code = finish(&c, place, res, err);
    else
        pqi_call_end(&c);
    free_params(stmts, 1);
    return code;
}

/* ---- Lending -------------------------------------------------------------------------------- */

struct loan {
    struct pqi_link link;
    struct pqi_node *node;
    struct pqi_conn *conn;
    struct pg_conn *pg;
};

static int lend(struct pqi_call *c, struct pg_conn **out, pqr_error *err)
{
    struct loan *loan = pqi_mem_new(sizeof *loan);
    struct pg_conn *pg = loan ? pqi_conn_lend(c->conn) : NULL;
    if (!pg) {
        pqi_mem_free(loan);
        c->keep = false;
        return pqi_err(err, PQR_E_NOMEM, "%s: the connection cannot be lent", c->node->target->name);
    }
    c->conn->tainted = true;
    *loan = (struct loan){.node = c->node, .conn = c->conn, .pg = pg};
    pqi_list_append(&c->session->loans, &loan->link);
    *out = pg;
    return PQR_OK;
}

int pqi_session_lend(struct pqr_session *s, int mode, struct pg_conn **out, pqr_error *err)
{
    static const struct pqi_stmt read_only = {
        .sql = "select pg_catalog.set_config('default_transaction_read_only', 'on', false)",
        .sync = true};
    struct pqi_call c;
    int64_t version;
    pqi_call_init(&c, s, 0);
    pqi_session_shard(s, &version, NULL);
    c.keep = true;
    c.write = mode == PQR_LEND_WRITE;
    c.stmts = &read_only;
    c.n = c.write ? 0 : 1;
    int code = pqi_call_run(&c);
    if (err)
        *err = c.err;
    if (code == PQR_OK)
        code = lend(&c, out, err);
    pqi_call_end(&c);
    return code;
}

/* NULL: all of them. */
void pqi_session_give_back(struct pqr_session *s, struct pg_conn *pg)
{
    for (struct pqi_link *l = s->loans.next, *next; l != &s->loans; l = next) {
        struct loan *loan = pqi_container(l, struct loan, link);
        next = l->next;
        if (pg && loan->pg != pg)
            continue;
        pqi_list_remove(l);
        pqi_conn_give_up(loan->node, loan->conn);
        pqi_mem_free(loan);
    }
}
