/* The public functions of <pqrouter/pqrouter.h>, but for results: each checks its arguments,
 * passes the gate, and hands down. */
#include "../base/err.h"
#include "../base/mem.h"
#include "../run/gate.h"
#include "../run/health.h"
#include "../run/lend.h"
#include "../run/router.h"
#include "../run/statement.h"
#include "../run/txn.h"
#include "check.h"

#include <string.h>

const char pqr_control_tenant[] = "(the control database)";

const char *pqr_version(void)
{
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
    return TEXT(PQR_VERSION_MAJOR) "." TEXT(PQR_VERSION_MINOR) "." TEXT(PQR_VERSION_PATCH);
}

/* ---- The router ----------------------------------------------------------------------------- */

int pqr_open(pqr **out, const pqr_options *options, pqr_error *err)
{
    pqr_options own;
    pqi_err_none(err);
    int code = pqi_need(out, "out", err);
    if (code == PQR_OK)
        code = pqi_take_struct(&own, sizeof own, options, "PQR_OPTIONS", err);
    return code == PQR_OK ? pqi_router_open(out, &own, err) : code;
}

int pqr_ready(pqr *db, int64_t timeout_ms, pqr_error *err)
{
    pqi_err_none(err);
    int code = pqi_need(db, "db", err);
    if (code == PQR_OK)
        code = pqi_gate_in(db, true, err);
    if (code != PQR_OK)
        return code;
    code = pqi_router_ready(db, timeout_ms, err);
    pqi_gate_out(db);
    return code;
}

int pqr_health(pqr *db, pqr_node_health *out, size_t cap, size_t each)
{
    if (!db || (out && each == 0))
        return PQR_E_USAGE;
    int code = pqi_gate_look(db, false, NULL);
    if (code != PQR_OK)
        return code;
    int n = pqi_router_health(db, out, cap, each);
    pqi_gate_out(db);
    return n;
}

void pqr_close(pqr *db, int64_t drain_ms)
{
    if (db)
        pqi_router_close(db, drain_ms);
}

/* ---- Sessions ------------------------------------------------------------------------------- */

static int check_tenant(const pqr *db, const pqr_session_options *o, pqr_error *err)
{
    bool sharded = db->options->sharded;
    if (o->tenant == pqr_control_tenant && db->ngroups == db->nshards)
        return pqi_err(err, PQR_E_USAGE,
                       sharded ? "no control database is configured: set DATABASE_PRIMARY_URL "
                                 "beside the shards'"
                               : "there is no control database without shards: leave .tenant NULL");
    if (!o->tenant && sharded)
        return pqi_err(err, PQR_E_USAGE, "a session needs a tenant where there are shards");
    if (o->deadline_ms < 0)
        return pqi_err(err, PQR_E_USAGE, ".deadline_ms is %lld: no time is left, or a slip",
                       (long long)o->deadline_ms);
    if (o->tenant_len > 65536)
        return pqi_err(err, PQR_E_USAGE, "a tenant of %zu bytes: more than 65536", o->tenant_len);
    return PQR_OK;
}

int pqr_session_open(pqr *db, const pqr_session_options *options, pqr_session **out, pqr_error *err)
{
    pqr_session_options own;
    pqi_err_none(err);
    int code = pqi_need(db, "db", err);
    if (code == PQR_OK)
        code = pqi_need(out, "out", err);
    if (code == PQR_OK)
        code = pqi_take_struct(&own, sizeof own, options, "PQR_SESSION", err);
    if (code == PQR_OK)
        code = pqi_gate_look(db, true, err);
    if (code != PQR_OK)
        return code;
    code = check_tenant(db, &own, err);
    if (code == PQR_OK)
        code = pqi_session_open(db, &own, out, err);
    pqi_gate_out(db);
    return code;
}

void pqr_session_close(pqr_session *s)
{
    if (!s)
        return;
    if (pqi_gate_pid(s->db, NULL) == PQR_OK)
        pqi_session_close(s);
    else
        pqi_router_unref(s->db); /* in a child: what it holds is the parent's */
}

/* ---- Statements ----------------------------------------------------------------------------- */

int pqr_read(pqr_session *s, const pqr_query *q, pqr_result **res, pqr_error *err)
{
    pqr_query own;
    pqi_err_none(err);
    int code = pqi_need(s, "the session", err);
    if (code == PQR_OK)
        code = pqi_take_query(&own, q, err);
    if (code == PQR_OK)
        code = pqi_gate_in(s->db, true, err);
    if (code != PQR_OK)
        return code;
    const pqr_query *one = &own;
    pqi_count(s->db, reads);
    code = pqi_read(s, &one, 1, res, err);
    pqi_gate_out(s->db);
    return code;
}

int pqr_write(pqr_session *s, const pqr_query *q, pqr_result **res, pqr_error *err)
{
    pqr_query own;
    pqi_err_none(err);
    int code = pqi_need(s, "the session", err);
    if (code == PQR_OK)
        code = pqi_take_query(&own, q, err);
    if (code == PQR_OK)
        code = pqi_gate_in(s->db, true, err);
    if (code != PQR_OK)
        return code;
    pqi_count(s->db, writes);
    code = pqi_write(s, &own, res, err);
    pqi_gate_out(s->db);
    return code;
}

int pqr_read_batch(pqr_session *s, const pqr_query *const *queries, size_t n, pqr_result **res,
                   pqr_error *err)
{
    pqi_err_none(err);
    const pqr_query **list = NULL;
    int code = pqi_need(s, "the session", err);
    for (size_t i = 0; code == PQR_OK && res && i < n; i++)
        res[i] = NULL;
    if (code == PQR_OK)
        code = pqi_take_queries(&list, queries, n, err);
    if (code == PQR_OK)
        code = pqi_gate_in(s->db, true, err);
    if (code == PQR_OK) {
        pqi_count(s->db, batches);
        code = pqi_read(s, list, n, res, err);
        pqi_gate_out(s->db);
    }
    pqi_mem_free(list);
    return code;
}

/* ---- Transactions --------------------------------------------------------------------------- */

int pqr_begin(pqr_session *s, const pqr_tx_options *options, pqr_tx **out, pqr_error *err)
{
    pqr_tx_options own;
    pqi_err_none(err);
    int code = pqi_need(s, "the session", err);
    if (code == PQR_OK)
        code = pqi_need(out, "out", err);
    if (code == PQR_OK)
        code = pqi_take_tx_options(&own, options, err);
    if (code == PQR_OK)
        code = pqi_gate_in(s->db, true, err);
    if (code != PQR_OK)
        return code;
    code = pqi_tx_begin(s, &own, out, err);
    pqi_gate_out(s->db);
    return code;
}

int pqr_exec(pqr_tx *tx, const pqr_query *q, pqr_result **res, pqr_error *err)
{
    pqr_query own;
    pqi_err_none(err);
    int code = pqi_need(tx, "the transaction", err);
    if (code == PQR_OK)
        code = pqi_take_query(&own, q, err);
    if (code == PQR_OK)
        code = pqi_gate_in(tx->session->db, false, err);
    if (code != PQR_OK)
        return code;
    struct pqr *db = tx->session->db;
    code = pqi_tx_exec(tx, &own, res, err);
    pqi_gate_out(db);
    return code;
}

int pqr_commit(pqr_tx *tx, pqr_error *err)
{
    pqi_err_none(err);
    int code = pqi_need(tx, "the transaction", err);
    if (code != PQR_OK)
        return code;
    struct pqr *db = tx->session->db;
    code = pqi_gate_in(db, false, err);
    if (code == PQR_E_CLOSED)
        pqi_tx_rollback(tx); /* its connection is gone already: this only frees */
    if (code != PQR_OK)
        return code;
    code = pqi_tx_commit(tx, err);
    pqi_gate_out(db);
    return code;
}

void pqr_rollback(pqr_tx *tx)
{
    if (!tx || pqi_gate_pid(tx->session->db, NULL) != PQR_OK)
        return;
    struct pqr *db = tx->session->db;
    bool inside = pqi_gate_in(db, false, NULL) == PQR_OK;
    pqi_tx_rollback(tx);
    if (inside)
        pqi_gate_out(db);
}

int pqr_transact(pqr_session *s, const pqr_tx_options *options, pqr_work_fn *work, void *arg,
                 pqr_error *err)
{
    pqr_tx_options own;
    pqi_err_none(err);
    int code = pqi_need(s, "the session", err);
    if (code == PQR_OK && !work)
        code = pqi_err(err, PQR_E_USAGE, "work is NULL");
    if (code == PQR_OK)
        code = pqi_take_tx_options(&own, options, err);
    if (code == PQR_OK)
        code = pqi_gate_in(s->db, true, err);
    if (code != PQR_OK)
        return code;
    struct pqr *db = s->db;
    code = pqi_tx_transact(s, &own, work, arg, err);
    pqi_gate_out(db);
    return code;
}

/* ---- Lending -------------------------------------------------------------------------------- */

int pqr_lend(pqr_session *s, int mode, struct pg_conn **out, pqr_error *err)
{
    pqi_err_none(err);
    int code = pqi_need(s, "the session", err);
    if (code == PQR_OK)
        code = pqi_need(out, "out", err);
    if (code == PQR_OK && mode != PQR_LEND_READ && mode != PQR_LEND_WRITE)
        code = pqi_err(err, PQR_E_USAGE, "mode is %d: not a pqr_lend_mode", mode);
    if (code == PQR_OK)
        code = pqi_gate_in(s->db, true, err);
    if (code != PQR_OK)
        return code;
    code = pqi_lend(s, mode, out, err);
    pqi_gate_out(s->db);
    return code;
}

void pqr_give_back(pqr_session *s, struct pg_conn *conn)
{
    if (s && conn && pqi_gate_pid(s->db, NULL) == PQR_OK)
        pqi_lend_back(s, conn);
}
