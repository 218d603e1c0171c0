/* Reads, writes and batches of a session. */
#include "statement.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "../plan/guard.h"
#include "../wire/result.h"
#include "call.h"

#include <string.h>

/* ---- What a caller sends -------------------------------------------------------------------- */

static int check_query(const pqr_query *q, enum pqi_place place, bool *taints, pqr_error *err)
{
    char why[256];
    int code = pqi_sql_check(q->sql, err);
    if (code != PQR_OK)
        return code;
    enum pqi_verdict verdict = pqi_guard(q->sql, place, why, sizeof why);
    *taints = verdict == PQI_TAINT;
    return verdict == PQI_REFUSE ? pqi_err(err, PQR_E_USAGE, "%s%s%s", q->name ? q->name : "",
                                           q->name ? ": " : "", why)
                                 : PQR_OK;
}

static void free_params(struct pqi_stmt *stmts, int n)
{
    for (int i = 0; i < n; i++)
        pqi_params_free(stmts[i].params);
}

static int bind(struct pqi_stmt *stmt, const pqr_query *q, enum pqi_place place, pqr_error *err)
{
    struct pqi_params *params = NULL;
    bool taints = false;
    int code = check_query(q, place, &taints, err);
    if (code == PQR_OK)
        code = pqi_params_bind(&params, q->params, q->nparams, false, err);
    *stmt = (struct pqi_stmt){.sql = q->sql,
                              .params = params,
                              .binary = q->binary_result != 0,
                              .prepare = code == PQR_OK,
                              .taints = taints};
    if (code == PQR_OK)
        stmt->hash = pqi_prepared_hash(q->sql, params ? params->types : NULL,
                                       params ? params->n : 0);
    return code;
}

/* USAGE when the command tag shows that the statement was not what this place allows: then the
 * connection is not used again either. */
static int check_tag(struct pqi_call *c, int i, enum pqi_place place, pqr_error *err)
{
    const char *tag = pqi_answer_tag(pqi_call_answer(c, i));
    if (pqi_tag_allowed(tag, place))
        return PQR_OK;
    if (c->conn)
        c->conn->tainted = true; /* a lane has seen to that itself */
    return pqi_err(err, PQR_E_USAGE,
                   "%s: a statement that answers %s is not a read: send it with "
                   "pqr_write or in a transaction",
                   c->node->target->name, tag);
}

static int take_result(struct pqi_call *c, int i, pqr_result **out, pqr_error *err)
{
    *out = pqi_result_new(pqi_call_take(c, i), c->node->target->name);
    if (*out)
        return PQR_OK;
    pqi_err(err, PQR_E_NOMEM,
            c->effects ? "the write is done; no memory for its result" : "no memory for a result");
    if (err && c->effects)
        err->retry = PQR_RETRY_NEVER;
    return PQR_E_NOMEM;
}

static int finish(struct pqi_call *c, enum pqi_place place, pqr_result **res, pqr_error *err)
{
    int code = pqi_call_run(c);
    if (err)
        *err = c->err;
    for (int i = 0; code == PQR_OK && i < c->count; i++)
        code = check_tag(c, c->first + i, place, err);
    int taken = 0;
    for (; code == PQR_OK && res && taken < c->count; taken += code == PQR_OK)
        code = take_result(c, c->first + taken, &res[taken], err);
    if (code != PQR_OK)
        for (int i = 0; i < taken; i++) {
            pqi_result_unref(res[i]);
            res[i] = NULL;
        }
    pqi_call_end(c);
    return code;
}

/* ---- Reads and writes ----------------------------------------------------------------------- */

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

/* Fills [read only][the caller's …], one segment. On a lane only the caller's travel: its
 * connection is read only by itself. */
static int build_read(struct pqi_call *c, struct pqi_stmt *stmts, const pqr_query *const *q, int n,
                      pqr_error *err)
{
    stmts[0] = (struct pqi_stmt){.sql = pqi_ask_read_only_sql};
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
    stmts[c->n - 1].sync = true;
    c->stmts = stmts;
    c->hash = n == 1 ? stmts[1].hash : 0;
    if (!c->session->fixed_node && !c->session->stamping && shareable(stmts + 1, n))
        c->group = &c->db->threads;
    return PQR_OK;
}

int pqi_read(struct pqr_session *s, const pqr_query *const *q, size_t n, pqr_result **res,
             pqr_error *err)
{
    struct pqi_stmt few[8], *stmts = few;
    if (n + 1 > sizeof few / sizeof *few)
        stmts = pqi_mem_array(n + 1, sizeof *stmts);
    if (!stmts)
        return pqi_err(err, PQR_E_NOMEM, "no memory for a batch");
    struct pqi_call c;
    pqi_call_init(&c, s, q[0]->deadline_ms);
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

int pqi_write(struct pqr_session *s, const pqr_query *q, pqr_result **res, pqr_error *err)
{
    struct pqi_call c;
    enum pqi_place place = q->alone ? PQI_IN_ALONE : PQI_IN_WRITE;
    struct pqi_stmt stmts[2] = {[1] = pqi_ask_position_stmt()};
    pqi_call_init(&c, s, q->deadline_ms);
    int code = bind(&stmts[0], q, place, err);
    stmts[0].sync = true;
    stmts[0].prepare &= !q->alone;
    stmts[0].alone = q->alone != 0 || (code == PQR_OK && pqi_commits_inside(q->sql));
    c.write = c.effects = true;
    c.partial = stmts[0].alone;
    c.stmts = stmts;
    c.n = 2;
    c.count = 1;
    c.position = 1;
    c.name = q->name;
    if (code == PQR_OK)
        code = finish(&c, place, res, err);
    else
        pqi_call_end(&c);
    free_params(stmts, 1);
    return code;
}
