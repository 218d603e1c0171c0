/* A public call on its way: what all kinds share. */
#include "op.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "../wire/result.h"
#include "session.h"

#include <string.h>

bool pqi_op_init(struct pqi_op *op, struct pqr_session *s, int64_t deadline_ms, int n,
                 const char *name, const struct pqi_how *how)
{
    pqi_call_init(&op->call, s, deadline_ms);
    op->stmts = op->few;
    op->first_bound = op->nbound = 0;
    op->copies = how->copy;
    op->name = NULL;
    op->tx = NULL;
    op->taints = false;
    if (n > (int)(sizeof op->few / sizeof *op->few))
        op->stmts = pqi_mem_array((size_t)n, sizeof *op->stmts);
    if (how->copy && name)
        op->name = pqi_mem_text(name);
    op->call.stmts = op->stmts;
    op->call.name = how->copy ? op->name : name;
    return op->stmts && (!how->copy || !name || op->name);
}

static int check_query(const struct pqr *db, const pqr_query *q, enum pqi_place place, bool *taints,
                       pqr_error *err)
{
    const char *setting = db->wall.setting;
    char why[256];
    int code = pqi_sql_check(q->sql, err);
    if (code != PQR_OK)
        return code;
    if (setting && pqi_changes_setting(q->sql, setting))
        return pqi_err(err, PQR_E_USAGE,
                       "%s%s%s holds the session's tenant (DB_TENANT_SETTING) and is not to be "
                       "changed: open a session for the other tenant",
                       q->name ? q->name : "", q->name ? ": " : "", setting);
    enum pqi_verdict verdict = pqi_guard(q->sql, place, why, sizeof why);
    *taints = verdict == PQI_TAINT;
    if (*taints && db->options->pgbouncer)
        return pqi_err(err, PQR_E_USAGE,
                       "%s%s%s; behind a transaction pooler (DB_PGBOUNCER) its session goes on to "
                       "others, so this needs a direct connection",
                       q->name ? q->name : "", q->name ? ": " : "", why);
    return verdict == PQI_REFUSE ? pqi_err(err, PQR_E_USAGE, "%s%s%s", q->name ? q->name : "",
                                           q->name ? ": " : "", why)
                                 : PQR_OK;
}

int pqi_op_bind(struct pqi_op *op, int i, const pqr_query *q, enum pqi_place place, pqr_error *err)
{
    struct pqi_params *params = NULL;
    bool taints = false;
    op->place = place;
    int code = check_query(op->call.db, q, place, &taints, err);
    if (code == PQR_OK)
        code = pqi_params_bind(&params, q->params, q->nparams, op->copies, err);
    const char *sql = q->sql;
    if (code == PQR_OK && op->copies && !(sql = pqi_mem_text(q->sql)))
        code = pqi_err(err, PQR_E_NOMEM, "no memory for a statement");
    if (code != PQR_OK) {
        pqi_params_free(params);
        return code;
    }
    op->stmts[i] = (struct pqi_stmt){
        .sql = sql,
        .params = params,
        .binary = q->binary_result != 0,
        .taints = taints,
        .prepare = true,
        .defers = place == PQI_IN_WRITE,
        .hash = pqi_prepared_hash(sql, params ? params->types : NULL, params ? params->n : 0)};
    if (op->nbound++ == 0)
        op->first_bound = i;
    return PQR_OK;
}

int pqi_op_no_result(struct pqi_op *op, pqr_error *err)
{
    if (op->call.effects)
        return pqi_err(err, PQR_E_ROWS_LOST,
                       "%s: the write is done, but there is no memory for its result",
                       op->call.node->target->name);
    return pqi_err(err, PQR_E_NOMEM, "no memory for a result");
}

/* USAGE when its command tag shows that the statement was not what its place allows: then the
 * connection is not used again either. */
int pqi_op_result(struct pqi_op *op, int i, pqr_result **out, pqr_error *err)
{
    struct pqi_call *c = &op->call;
    const char *tag = pqi_answer_tag(pqi_call_answer(c, i));
    if (!pqi_tag_allowed(tag, op->place)) {
        if (c->conn)
            c->conn->tainted = true; /* a lane has seen to that itself */
        return pqi_err(err, PQR_E_USAGE,
                       "%s: a statement that answers %s is not a read: send it with "
                       "pqr_write or in a transaction",
                       c->node->target->name, tag);
    }
    if (!out)
        return PQR_OK;
    *out = pqi_result_new(pqi_call_take(c, i), c->node->target->name);
    return *out ? PQR_OK : pqi_op_no_result(op, err);
}

void pqi_op_free(struct pqi_op *op)
{
    pqi_call_end(&op->call);
    for (int i = op->first_bound; i < op->first_bound + op->nbound; i++) {
        pqi_params_free(op->stmts[i].params);
        if (op->copies)
            pqi_mem_free((char *)(uintptr_t)op->stmts[i].sql);
    }
    if (op->stmts != op->few)
        pqi_mem_free(op->stmts);
    pqi_mem_free(op->name);
}
