/* The public functions of <pqrouter/pqrouter.h>, but for results: each checks its arguments,
 * passes the gate, and hands down. */
#include "../base/err.h"
#include "../base/mem.h"
#include "../run/gate.h"
#include "../run/health.h"
#include "../run/lend.h"
#include "../run/router.h"
#include "../run/statement.h"
#include "../run/token.h"
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
    PQI_TRY(pqi_need(out, "out", err));
    PQI_TRY(pqi_take_struct(&own, sizeof own, options, "PQR_OPTIONS", err));
    return pqi_router_open(out, &own, err);
}

int pqr_set_wait(pqr *db, pqr_wait_fn *wait, void *arg, pqr_error *err)
{
    pqi_err_none(err);
    PQI_TRY(pqi_need(db, "db", err));
    PQI_TRY(pqi_gate_look(db, true, err));
    return pqi_leave(db, pqi_router_set_wait(db, wait, arg, err));
}

int pqr_ready(pqr *db, int64_t timeout_ms, pqr_error *err)
{
    pqi_err_none(err);
    PQI_TRY(pqi_need(db, "db", err));
    PQI_TRY(pqi_gate_in(db, true, err));
    return pqi_leave(db, pqi_router_ready(db, timeout_ms, err));
}

int pqr_health(pqr *db, pqr_node_health *out, size_t cap, size_t each)
{
    if (!db || (out && each == 0))
        return PQR_E_USAGE;
    PQI_TRY(pqi_gate_look(db, false, NULL));
    return pqi_leave(db, pqi_router_health(db, out, cap, each));
}

void pqr_close(pqr *db, int64_t drain_ms)
{
    if (db)
        pqi_router_close(db, drain_ms);
}

/* ---- Fields of several structs -------------------------------------------------------------- */

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
    if (o->tenant_len > 65536)
        return pqi_err(err, PQR_E_USAGE, "a tenant of %zu bytes: more than 65536", o->tenant_len);
    return pqi_check_deadline(o->deadline_ms, err);
}

int pqr_session_open(pqr *db, const pqr_session_options *options, pqr_session **out, pqr_error *err)
{
    pqr_session_options own;
    pqi_err_none(err);
    PQI_TRY(pqi_need(db, "db", err));
    PQI_TRY(pqi_need(out, "out", err));
    PQI_TRY(pqi_take_struct(&own, sizeof own, options, "PQR_SESSION", err));
    PQI_TRY(pqi_gate_look(db, true, err));
    struct pqr_session *s = NULL;
    int code = check_tenant(db, &own, err);
    if (code == PQR_OK)
        code = pqi_session_open(db, &own, &s, err);
    if (code == PQR_OK && own.token && !pqi_session_take_token(s, own.token)) {
        pqi_session_close(s);
        code = pqi_err(err, PQR_E_NOMEM, "no memory to authenticate the session's token");
    }
    if (code == PQR_OK)
        *out = s;
    return pqi_leave(db, code);
}

int pqr_session_token(pqr_session *s, char *buf, size_t size)
{
    if (!s || !buf || size == 0)
        return PQR_E_USAGE;
    PQI_TRY(pqi_gate_pid(s->db, NULL));
    return pqi_session_token(s, buf, size);
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
    PQI_TRY(pqi_need(s, "the session", err));
    PQI_TRY(pqi_take_query(&own, q, err));
    PQI_TRY(pqi_gate_in(s->db, true, err));
    const pqr_query *one = &own;
    pqi_count(s->db, reads);
    return pqi_leave(s->db, pqi_read(s, &one, 1, res, err));
}

int pqr_write(pqr_session *s, const pqr_query *q, pqr_result **res, pqr_error *err)
{
    pqr_query own;
    pqi_err_none(err);
    PQI_TRY(pqi_need(s, "the session", err));
    PQI_TRY(pqi_take_query(&own, q, err));
    PQI_TRY(pqi_gate_in(s->db, true, err));
    pqi_count(s->db, writes);
    return pqi_leave(s->db, pqi_write(s, &own, res, err));
}

static int read_batch(pqr_session *s, const pqr_query *const *queries, size_t n, pqr_result **res,
                      pqr_error *err)
{
    PQI_TRY(pqi_gate_in(s->db, true, err));
    pqi_count(s->db, batches);
    return pqi_leave(s->db, pqi_read(s, queries, n, res, err));
}

int pqr_read_batch(pqr_session *s, const pqr_query *const *queries, size_t n, pqr_result **res,
                   pqr_error *err)
{
    pqi_err_none(err);
    const pqr_query **list = NULL;
    PQI_TRY(pqi_need(s, "the session", err));
    for (size_t i = 0; res && i < n; i++)
        res[i] = NULL;
    PQI_TRY(pqi_take_queries(&list, queries, n, err));
    int code = read_batch(s, list, n, res, err);
    pqi_mem_free(list);
    return code;
}

/* ---- Transactions --------------------------------------------------------------------------- */

int pqr_begin(pqr_session *s, const pqr_tx_options *options, pqr_tx **out, pqr_error *err)
{
    pqr_tx_options own;
    pqi_err_none(err);
    PQI_TRY(pqi_need(s, "the session", err));
    PQI_TRY(pqi_need(out, "out", err));
    PQI_TRY(pqi_take_tx_options(&own, options, err));
    PQI_TRY(pqi_gate_in(s->db, true, err));
    return pqi_leave(s->db, pqi_tx_begin(s, &own, out, err));
}

int pqr_exec(pqr_tx *tx, const pqr_query *q, pqr_result **res, pqr_error *err)
{
    pqr_query own;
    pqi_err_none(err);
    PQI_TRY(pqi_need(tx, "the transaction", err));
    PQI_TRY(pqi_take_query(&own, q, err));
    PQI_TRY(pqi_gate_in(tx->session->db, false, err));
    struct pqr *db = tx->session->db;
    return pqi_leave(db, pqi_tx_exec(tx, &own, res, err));
}

int pqr_commit(pqr_tx *tx, pqr_error *err)
{
    pqi_err_none(err);
    PQI_TRY(pqi_need(tx, "the transaction", err));
    struct pqr *db = tx->session->db;
    int code = pqi_gate_in(db, false, err);
    if (code == PQR_E_CLOSED)
        pqi_tx_rollback(tx); /* its connection is gone already: this only frees */
    if (code != PQR_OK)
        return code;
    return pqi_leave(db, pqi_tx_commit(tx, err));
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
    PQI_TRY(pqi_need(s, "the session", err));
    if (!work)
        return pqi_err(err, PQR_E_USAGE, "work is NULL");
    PQI_TRY(pqi_take_tx_options(&own, options, err));
    PQI_TRY(pqi_gate_in(s->db, true, err));
    struct pqr *db = s->db;
    return pqi_leave(db, pqi_tx_transact(s, &own, work, arg, err));
}

/* ---- Lending -------------------------------------------------------------------------------- */

int pqr_lend(pqr_session *s, int mode, struct pg_conn **out, pqr_error *err)
{
    pqi_err_none(err);
    PQI_TRY(pqi_need(s, "the session", err));
    PQI_TRY(pqi_need(out, "out", err));
    PQI_TRY(pqi_lend_check(s->db, mode, err));
    PQI_TRY(pqi_gate_in(s->db, true, err));
    return pqi_leave(s->db, pqi_lend(s, mode, out, err));
}

void pqr_give_back(pqr_session *s, struct pg_conn *conn)
{
    if (s && conn && pqi_gate_pid(s->db, NULL) == PQR_OK)
        pqi_lend_back(s, conn);
}
