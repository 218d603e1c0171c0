/* Reads, writes and batches of a session. */
#include "statement.h"

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

/* Fills [read only][the caller's …], one segment. On a lane only the caller's travel: its
 * connection is read only by itself. */
static int build_read(struct pqi_op *op, const pqr_query *const *q, int n, struct pqi_group *group,
                      pqr_error *err)
{
    struct pqi_call *c = &op->call;
    struct pqi_stmt *stmts = op->stmts;
    stmts[0] = (struct pqi_stmt){.sql = pqi_ask_read_only_sql, .joins = true};
    c->first = 1;
    for (int i = 0; i < n; i++) {
        int code = pqi_op_bind(op, 1 + i, q[i], PQI_IN_READ, err);
        if (code != PQR_OK && err)
            err->index = n > 1 ? i : -1;
        if (code != PQR_OK)
            return code;
    }
    c->count = n;
    c->n = 1 + n;
    stmts[n].sync = true;
    c->hash = n == 1 ? stmts[1].hash : 0;
    if (!c->session->fixed_node && !c->session->stamping && shareable(stmts + 1, n))
        c->group = group;
    return PQR_OK;
}

int pqi_read_start(struct pqi_op *op, struct pqr_session *s, const pqr_query *const *q, size_t n,
                   const struct pqi_how *how, pqr_error *err)
{
    int code = PQR_OK;
    if (!pqi_op_init(op, s, q[0]->deadline_ms, (int)n + 1, q[0]->name, how))
        code = pqi_err(err, PQR_E_NOMEM, "no memory for a batch");
    op->call.level = (enum pqr_level)q[0]->level;
    if (code == PQR_OK)
        code = build_read(op, q, (int)n, how->group, err);
    if (code != PQR_OK)
        pqi_op_free(op);
    return code;
}

/* ---- Writes --------------------------------------------------------------------------------- */

int pqi_write_start(struct pqi_op *op, struct pqr_session *s, const pqr_query *q,
                    const struct pqi_how *how, pqr_error *err)
{
    struct pqi_call *c = &op->call;
    int code = PQR_OK;
    if (!pqi_op_init(op, s, q->deadline_ms, 1, q->name, how))
        code = pqi_err(err, PQR_E_NOMEM, "no memory for a write");
    if (code == PQR_OK)
        code = pqi_op_bind(op, 0, q, q->alone ? PQI_IN_ALONE : PQI_IN_WRITE, err);
    if (code != PQR_OK) {
        pqi_op_free(op);
        return code;
    }
    op->stmts[0].sync = true;
    op->stmts[0].prepare = !q->alone;
    op->stmts[0].alone = q->alone != 0 || pqi_commits_inside(q->sql);
    op->stmts[0].joins = !op->stmts[0].alone;
    op->stmts[0].leaves = op->stmts[0].alone;
    c->write = c->effects = true;
    c->partial = op->stmts[0].alone;
    c->count = c->n = 1;
    return PQR_OK;
}

/* ---- Ending --------------------------------------------------------------------------------- */

int pqi_statement_end(struct pqi_op *op, pqr_result **res, pqr_error *err)
{
    struct pqi_call *c = &op->call;
    int code = c->err.code, taken = 0;
    if (err && code != PQR_OK)
        *err = c->err;
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
