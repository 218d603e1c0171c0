/* Reads, writes and batches of a session. */
#include "statement.h"

#include "once.h"

#include "../base/err.h"
#include "../wire/result.h"

#include <string.h>

/* ---- Reads ---------------------------------------------------------------------------------- */

/* What is small enough to travel with others, and leaves nothing behind. */
#define SHARED_STATEMENTS 64
#define SHARED_BYTES 65536

static bool shareable(const struct pqi_stmt *stmts, int n)
{
    size_t bytes = 0;
    bool taints = false;
    for (int i = 0; i < n && bytes <= SHARED_BYTES; i++) {
        taints |= stmts[i].taints;
        bytes += strlen(stmts[i].sql) + pqi_params_bytes(stmts[i].params);
    }
    return !taints && n <= SHARED_STATEMENTS && bytes <= SHARED_BYTES;
}

/* Fills [read only][whose it is][the caller's …][how far], one segment. On a lane the first does not
 * travel: its connection is read only by itself. */
static int build_read(struct pqi_op *op, const pqr_query *const *q, int n, struct pqi_group *group,
                      pqr_error *err)
{
    struct pqi_call *c = &op->call;
    struct pqi_stmt *stmts = op->stmts;
    for (int i = 0; i < n; i++)
        if (q[i]->idempotency_key)
            return pqi_err(err, PQR_E_USAGE, "a read has no idempotency key");
    stmts[0] = (struct pqi_stmt){.sql = pqi_ask_read_only_sql, .joins = true};
    c->lead = 1;
    c->led = pqi_wall_lead(&c->db->wall, c->session->name, &stmts[c->lead]);
    c->first = 1 + c->led;
    for (int i = 0; i < n; i++) {
        int code = pqi_op_bind(op, c->first + i, q[i], PQI_IN_READ, err);
        if (code != PQR_OK && err)
            err->index = n > 1 ? i : -1;
        if (code != PQR_OK)
            return code;
    }
    c->count = n;
    c->tail = c->session->tells && c->level != PQR_LEVEL_ANY && !c->session->fixed_node ? 1 : 0;
    c->n = c->first + n + c->tail;
    if (c->tail > 0)
        stmts[c->n - 1] = pqi_ask_how_far();
    stmts[c->n - 1].sync = true;
    c->hash = n == 1 ? stmts[c->first].hash : 0;
    if (!c->session->fixed_node && !c->session->stamping && shareable(stmts + c->first, n))
        c->group = group;
    return PQR_OK;
}

int pqi_read_start(struct pqi_op *op, struct pqr_session *s, const pqr_query *const *q, size_t n,
                   const struct pqi_how *how, pqr_error *err)
{
    int code = PQR_OK;
    if (!pqi_op_init(op, s, q[0]->deadline_ms, (int)n + 3, q[0]->name, how))
        code = pqi_err(err, PQR_E_NOMEM, "no memory for a batch");
    op->call.level = (enum pqr_level)q[0]->level;
    op->call.max_lag_ms = q[0]->max_lag_ms;
    if (code == PQR_OK)
        code = build_read(op, q, (int)n, how->group, err);
    if (code != PQR_OK)
        pqi_op_free(op);
    return code;
}

/* ---- Writes --------------------------------------------------------------------------------- */

/* The segment behind a write tells where that is. */
static void append_position(struct pqi_call *c, struct pqi_stmt *stmt)
{
    if (!pqi_session_wants_position(c->session))
        return;
    *stmt = pqi_ask_position();
    c->tail = 1;
    c->n++;
}

/* Fills [whose it is][id][the caller's] · [position]. All are one flight, so it costs no time; and if the
 * connection is lost with the answer, the id, which left the server before, tells what to ask for. */
static void build_write(struct pqi_op *op)
{
    struct pqi_call *c = &op->call;
    op->stmts[c->first].sync = true;
    if (c->tells_id)
        op->stmts[c->led] = pqi_ask_id();
    op->stmts[0].joins = true;
    c->n = c->first + 1;
    append_position(c, &op->stmts[c->n]);
}

/* With a key no id is needed: doing it again finds out. */
static int build_once(struct pqi_op *op, const pqr_query *q, pqr_error *err)
{
    struct pqi_call *c = &op->call;
    int code = pqi_once_write(op, q->idempotency_key, err);
    c->n = c->first + 2;
    append_position(c, &op->stmts[c->n]);
    return code;
}

/* Behind a pooler what a session is told does not last. */
static int check_alone(const struct pqr *db, pqr_error *err)
{
    if (!db->options->pgbouncer || !db->wall.setting)
        return PQR_OK;
    return pqi_err(err, PQR_E_USAGE,
                   "a statement that commits by itself cannot be told its tenant (%s) behind a "
                   "transaction pooler (DB_PGBOUNCER): run it on a direct connection",
                   db->wall.setting);
}

/* One that commits by itself, in parts or early, has nothing around it: whose it is is told before. And
 * behind a pooler, whether the server is still the one that is known. */
static void build_alone(struct pqi_op *op, const pqr_query *q)
{
    struct pqi_call *c = &op->call;
    struct pqi_stmt *write = &op->stmts[0];
    write->sync = write->alone = write->leaves = true;
    write->prepare = !q->alone;
    c->partial = true;
    c->n = 1;
    bool leads = c->db->options->pgbouncer
                     ? pqi_wall_lead(&c->db->wall, NULL, &op->stmts[1])
                     : pqi_wall_lead_lasting(&c->db->wall, c->session->name, &op->stmts[1]);
    op->stmts[1].sync = true;
    if (leads)
        c->ahead = &op->stmts[1];
}

static int check_key(const pqr_query *q, bool alone, pqr_error *err)
{
    if (!q->idempotency_key)
        return PQR_OK;
    if (alone)
        return pqi_err(err, PQR_E_USAGE,
                       "a statement that commits by itself cannot have an idempotency key: of it, "
                       "parts may happen");
    return pqi_key_check(q->idempotency_key, err);
}

int pqi_write_start(struct pqi_op *op, struct pqr_session *s, const pqr_query *q,
                    const struct pqi_how *how, pqr_error *err)
{
    struct pqi_call *c = &op->call;
    int code = PQR_OK;
    const char *key = q->idempotency_key;
    bool alone = q->alone != 0 || (q->sql && pqi_commits_inside(q->sql));
    if (!pqi_op_init(op, s, q->deadline_ms, 5, q->name, how))
        code = pqi_err(err, PQR_E_NOMEM, "no memory for a write");
    c->tells_id = !alone && !q->no_id && !key;
    c->count = 1;
    if (code == PQR_OK && !alone)
        c->led = pqi_wall_lead(&c->db->wall, s->name, &op->stmts[0]);
    c->first = c->led + (c->tells_id || (key && !alone));
    if (code == PQR_OK && alone)
        code = check_alone(c->db, err);
    if (code == PQR_OK)
        code = check_key(q, alone, err);
    if (code == PQR_OK)
        code = pqi_op_bind(op, c->first, q, q->alone ? PQI_IN_ALONE : PQI_IN_WRITE, err);
    if (code != PQR_OK) {
        pqi_op_free(op);
        return code;
    }
    if (alone)
        build_alone(op, q);
    else if (key)
        code = build_once(op, q, err);
    else
        build_write(op);
    c->write = c->effects = true;
    if (code != PQR_OK)
        pqi_op_free(op);
    return code;
}

/* ---- Ending --------------------------------------------------------------------------------- */

/* It is committed, and its answer was lost, or came and was not acknowledged. */
static int resolved(struct pqi_op *op, pqr_result **res, pqr_error *err)
{
    struct pqi_call *c = &op->call;
    const char *source = c->node->target->name;
    int outcome = PQR_OUTCOME_RESOLVED;
    const char *tag = pqi_once_done(c, &outcome);
    if (!res)
        return PQR_OK;
    if (c->kept.pg) {
        *res = pqi_result_new(c->kept.pg, source);
        c->kept.pg = NULL;
    } else if (pqi_returns_rows(op->stmts[c->first].sql)) {
        return pqi_err(err, PQR_E_ROWS_LOST,
                       outcome == PQR_OUTCOME_REPEATED
                           ? "%s: a write with this key was done before, and the rows that it "
                             "returned are not kept: read what you need of it"
                           : "%s: the write is done, but the rows that it returned were lost with "
                             "the connection: read what you need of it",
                       source);
    } else {
        *res = pqi_result_known_by(outcome, tag ? pqi_tag_affected(tag) : -1, source);
    }
    return *res ? PQR_OK : pqi_op_no_result(op, err);
}

int pqi_statement_end(struct pqi_op *op, pqr_result **res, pqr_error *err)
{
    struct pqi_call *c = &op->call;
    int code = c->err.code, taken = 0;
    if (err && (code != PQR_OK || c->local))
        *err = c->err;
    int outcome;
    if (code == PQR_OK && (c->resolved || pqi_once_done(c, &outcome))) {
        code = resolved(op, res, err);
        taken = code == PQR_OK ? c->count : 0;
    }
    for (; code == PQR_OK && taken < c->count; taken += code == PQR_OK)
        code = pqi_op_result(op, c->first + taken, res ? &res[taken] : NULL, err);
    if (code != PQR_OK && c->err.code == PQR_OK && c->count > 1 && err)
        err->index = taken;
    for (int i = 0; code != PQR_OK && res && i < taken; i++) {
        pqi_result_unref(res[i]);
        res[i] = NULL;
    }
    pqi_op_free(op);
    return code;
}

int pqi_read(struct pqr_session *s, const pqr_query *const *q, size_t n, pqr_result **res,
             pqr_error *err)
{
    const struct pqi_how here = {.group = &s->db->threads};
    struct pqi_op op;
    int code = pqi_read_start(&op, s, q, n, &here, err);
    if (code != PQR_OK)
        return code;
    pqi_call_run(&op.call);
    return pqi_statement_end(&op, res, err);
}

int pqi_write(struct pqr_session *s, const pqr_query *q, pqr_result **res, pqr_error *err)
{
    const struct pqi_how here = {.group = NULL};
    struct pqi_op op;
    int code = pqi_write_start(&op, s, q, &here, err);
    if (code != PQR_OK)
        return code;
    pqi_call_run(&op.call);
    return pqi_statement_end(&op, res, err);
}
