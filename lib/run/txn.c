/* Transactions: one connection, exclusively, from BEGIN to its end. */
#include "txn.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "../wire/result.h"
#include "conn.h"
#include "once.h"

#include <stdio.h>
#include <string.h>

#define RERUN_PAUSE_MS 5 /* doubles, with full jitter */
#define ROLLBACK_MS 100  /* then the connection is closed, and the server rolls back */

static const char *const begin_sql[3][2] = {
    [PQR_READ_COMMITTED] = {"begin isolation level read committed read write",
                            "begin isolation level read committed read only"},
    [PQR_REPEATABLE_READ] = {"begin isolation level repeatable read read write",
                             "begin isolation level repeatable read read only"},
    [PQR_SERIALIZABLE] = {"begin isolation level serializable read write",
                          "begin isolation level serializable read only"},
};
static const char begin_deferrable_sql[] =
    "begin isolation level serializable read only deferrable";

static bool serialization_failure(const char *sqlstate)
{
    return strcmp(sqlstate, "40001") == 0 || strcmp(sqlstate, "40P01") == 0;
}

/* It failed for what the next run will not meet again. */
static bool safe_again(const struct pqr_tx *tx)
{
    return tx->stale || serialization_failure(tx->sqlstate);
}

static const char *begin_of(const pqr_tx_options *o)
{
    if (o->read_only && o->deferrable && o->isolation == PQR_SERIALIZABLE)
        return begin_deferrable_sql;
    return begin_sql[o->isolation][o->read_only != 0];
}

/* The connection out of the transaction's hands; NULL: there is none any more. */
static struct pqi_conn *take_conn(struct pqr_tx *tx)
{
    struct pqr *db = tx->session->db;
    pthread_mutex_lock(&db->gate_lock);
    struct pqi_conn *conn = tx->conn;
    tx->conn = NULL;
    pthread_mutex_unlock(&db->gate_lock);
    return conn;
}

static void free_tx(struct pqr_tx *tx)
{
    if (tx->session->unsure_ns == PQI_FOREVER && !tx->read_only && !tx->doubt)
        pqi_session_wrote_on(tx->session, tx->node); /* it is over, whatever it showed */
    struct pqr *db = tx->session->db;
    if (tx->falls_back)
        pqi_shard_share_back(tx->node->shard);
    pthread_mutex_lock(&db->gate_lock);
    pqi_list_remove(&tx->of_db);
    pthread_mutex_unlock(&db->gate_lock);
    pqi_list_remove(&tx->of_session);
    pqi_mem_free(tx);
}

/* The next open transaction's connection and its node; NULL: none is left. The transaction itself
 * may be freed by its owner as soon as the lock is released. */
static struct pqi_conn *cut_next(struct pqr *db, struct pqi_node **node)
{
    struct pqi_conn *conn = NULL;
    pthread_mutex_lock(&db->gate_lock);
    for (struct pqi_link *l = db->open_txs.next; l != &db->open_txs && !conn; l = l->next) {
        struct pqr_tx *tx = pqi_container(l, struct pqr_tx, of_db);
        conn = tx->conn;
        *node = tx->node;
        tx->conn = NULL;
    }
    pthread_mutex_unlock(&db->gate_lock);
    return conn;
}

void pqi_tx_cut_all(struct pqr *db)
{
    struct pqi_node *node;
    for (struct pqi_conn *conn; (conn = cut_next(db, &node));)
        pqi_conn_give_up(node, conn);
}

void pqi_tx_drop(struct pqr_tx *tx)
{
    struct pqi_conn *conn = take_conn(tx);
    if (conn)
        pqi_conn_give_up(tx->node, conn);
    free_tx(tx);
}

void pqi_tx_drop_all(struct pqr_session *s)
{
    while (!pqi_list_empty(&s->txs))
        pqi_tx_drop(pqi_container(s->txs.next, struct pqr_tx, of_session));
}

/* ---- Begin ---------------------------------------------------------------------------------- */

/* Claims its key in the transaction itself, with BEGIN. */
static int begin_once(struct pqi_op *op, const pqr_tx_options *o, pqr_error *err)
{
    int code = o->read_only ? pqi_err(err, PQR_E_USAGE,
                                      "a transaction that is read only has no idempotency key")
                            : pqi_key_check(o->idempotency_key, err);
    if (code == PQR_OK)
        code = pqi_once_begin(op, o->idempotency_key, err);
    if (code != PQR_OK) {
        pqi_mem_free(op->tx);
        pqi_op_free(op);
        return code;
    }
    return PQR_OK;
}

int pqi_tx_begin_start(struct pqi_op *op, struct pqr_session *s, const pqr_tx_options *o,
                       const struct pqi_how *how, pqr_error *err)
{
    struct pqi_call *c = &op->call;
    struct pqr_tx *tx = pqi_mem_new(sizeof *tx);
    int code;
    if (!tx)
        return pqi_err(err, PQR_E_NOMEM, "no memory for a transaction");
    pqi_op_init(op, s, o->deadline_ms, 5, NULL, how);
    op->tx = tx;
    op->tx_options = *o;
    int n = 0;
    op->stmts[n++] = (struct pqi_stmt){
        .sql = begin_of(o), .sync = o->idempotency_key != NULL, .clears = true};
    c->lead = n;
    c->led = pqi_wall_lead(&s->db->wall, s->name, &op->stmts[n]);
    n += c->led;
    if (o->idempotency_key && (code = begin_once(op, o, err)) != PQR_OK)
        return code;
    n += o->idempotency_key != NULL;
    if (o->read_only) /* BEGIN READ ONLY alone can be undone by SET TRANSACTION */
        op->stmts[n++] = (struct pqi_stmt){.sql = pqi_ask_read_only_sql};
    if (s->db->options->pgbouncer) /* what has been left where nobody could clean */
        op->stmts[n++] = (struct pqi_stmt){.sql = "discard temp"};
    c->first = n;
    op->stmts[n - 1].sync = true;
    c->write = !o->read_only;
    c->level = (enum pqr_level)o->level;
    c->n = n;
    c->keep = true;
    return PQR_OK;
}

int pqi_tx_begin_end(struct pqi_op *op, struct pqr_tx **out, pqr_error *err)
{
    struct pqi_call *c = &op->call;
    struct pqr_session *s = c->session;
    struct pqr_tx *tx = op->tx;
    const pqr_tx_options *o = &op->tx_options;
    int outcome;
    if (c->err.code == PQR_OK && pqi_once_done(c, &outcome))
        pqi_err(&c->err, PQR_E_DONE_BEFORE,
                "%s: a transaction with this key is committed already: nothing was run",
                c->node->target->name);
    int code = c->err.code;
    if (err)
        *err = c->err;
    if (code == PQR_OK) {
        *tx = (struct pqr_tx){.session = s,
                              .node = c->node,
                              .conn = c->conn,
                              .read_only = o->read_only,
                              .falls_back = c->falls_back,
                              .level = o->level,
                              .isolation = o->isolation,
                              .deadline_ms = o->deadline_ms > 0 ? o->deadline_ms : s->deadline_ms,
                              .until_ns = PQI_FOREVER};
        c->falls_back = false; /* the transaction has it now */
        pqi_list_append(&s->txs, &tx->of_session);
        if (c->write)
            pqi_session_goes_on(s); /* what it sees and does is on the primary */
        pthread_mutex_lock(&s->db->gate_lock);
        pqi_list_append(&s->db->open_txs, &tx->of_db);
        pthread_mutex_unlock(&s->db->gate_lock);
        *out = tx;
    } else {
        pqi_mem_free(tx);
    }
    pqi_op_free(op);
    return code;
}

int pqi_tx_begin(struct pqr_session *s, const pqr_tx_options *o, struct pqr_tx **out,
                 pqr_error *err)
{
    static const struct pqi_how here = {0};
    struct pqi_op op;
    int code = pqi_tx_begin_start(&op, s, o, &here, err);
    if (code != PQR_OK)
        return code;
    pqi_call_run(&op.call);
    return pqi_tx_begin_end(&op, out, err);
}

/* ---- On the transaction's connection -------------------------------------------------------- */

/* A call on the transaction's own connection. */
static void init_here(struct pqi_op *op, struct pqr_tx *tx, struct pqi_conn *conn,
                      int64_t deadline_ms, const char *name, const struct pqi_how *how)
{
    struct pqi_call *c = &op->call;
    pqi_op_init(op, tx->session, deadline_ms > 0 ? deadline_ms : tx->deadline_ms, 2, name, how);
    op->tx = tx;
    c->shard = tx->node->shard;
    c->node = tx->node;
    c->conn = conn;
    c->unit = false;
    c->keep = true;
    if (tx->until_ns < c->until_ns)
        c->until_ns = tx->until_ns;
    tx->busy = true;
}

/* Sends, unless it is too late for that: from here on it is driven. */
static void send_here(struct pqi_op *op, int n, const char *doing)
{
    struct pqi_call *c = &op->call;
    c->state = PQI_CALL_RUN;
    c->n = n;
    if (pqi_call_may_send(c, doing))
        pqi_conn_send(c->conn, c->stmts, n);
}

static int no_conn(const struct pqr_tx *tx, pqr_error *err)
{
    return pqi_err(err, tx->lost ? PQR_E_ROLLED_BACK : PQR_E_CLOSED,
                   tx->lost ? "the transaction's connection was lost: nothing of it happened"
                            : "the router was closed, and the transaction with it");
}

static int is_busy(const struct pqr_tx *tx, pqr_error *err)
{
    return tx->busy ? pqi_err(err, PQR_E_USAGE,
                              "the transaction has a call in flight: wait for it, then go on")
                    : PQR_OK;
}

/* What a statement showed holds for the session from now on, however the transaction ends. Where it
 * may write, that is until the primary has told a position that covers it. */
static void bind_session(struct pqr_tx *tx, const struct pqi_conn *conn)
{
    if (!tx->read_only)
        pqi_session_goes_on(tx->session);
    else if (tx->level != PQR_LEVEL_ANY)
        pqi_session_read_beside(tx->session, tx->node, conn);
}

/* Lost inside the block, before COMMIT: the server rolls back when it notices, so nothing of the
 * transaction happened, however far it was. */
static void settle_loss(struct pqr_tx *tx, struct pqi_call *c)
{
    tx->lost = true;
    if (c->err.code == PQR_E_UNKNOWN)
        c->err.code = PQR_E_LOST;
    c->err.retry = PQR_RETRY_SAFE;
    pqi_conn_back(tx->node, take_conn(tx));
}

/* Its statement has run, and nobody can be given what it answered: so the transaction is given up, for
 * a failure must not leave behind what doing it again would double. */
static void give_up(struct pqr_tx *tx, struct pqi_call *c)
{
    pqi_err(&c->err, PQR_E_NOMEM, "no memory for a result: nothing of the transaction happened");
    c->conn->tainted = true;
    settle_loss(tx, c);
}

/* Once the transaction has written, it has an id: known before COMMIT is sent, it tells what became
 * of that. Returns how many statements there are now. */
static int add_question(struct pqi_op *op, const pqr_query *q)
{
    const struct pqr_tx *tx = op->tx;
    bool asks = !tx->read_only && tx->id == 0 && !q->no_id && pqi_takes_snapshot(q->sql);
    if (asks)
        op->stmts[1] = pqi_ask_id_so_far();
    op->stmts[asks].sync = true;
    return 1 + asks;
}

int pqi_tx_exec_start(struct pqi_op *op, struct pqr_tx *tx, const pqr_query *q,
                      const struct pqi_how *how, pqr_error *err)
{
    struct pqi_conn *conn = tx->conn;
    if (!conn)
        return no_conn(tx, err);
    if (is_busy(tx, err) != PQR_OK)
        return PQR_E_USAGE;
    if (q->idempotency_key)
        return pqi_err(err, PQR_E_USAGE,
                       "a statement of a transaction has no idempotency key: give the key to the "
                       "transaction, by PQR_TX(.idempotency_key)");
    init_here(op, tx, conn, q->deadline_ms, q->name, how);
    int code = pqi_op_bind(op, 0, q, PQI_IN_TX, err);
    if (code != PQR_OK) {
        tx->busy = false;
        op->call.conn = NULL;
        pqi_op_free(op);
        return code;
    }
    op->stmts[0].leaves = true;
    op->call.count = 1;
    send_here(op, add_question(op, q), "about to run a statement of its transaction");
    return PQR_OK;
}

int pqi_tx_exec_end(struct pqi_op *op, pqr_result **res, pqr_error *err)
{
    struct pqi_call *c = &op->call;
    struct pqr_tx *tx = op->tx;
    struct pqi_conn *conn = c->conn;
    tx->busy = false;
    bind_session(tx, conn);
    tx->stale |= conn->own.stale;
    if (c->n > 1)
        pqi_ask_read_id(pqi_call_answer(c, 1), &tx->id);
    if (conn->state != PQI_IDLE) {
        settle_loss(tx, c);
    } else if (c->err.code == PQR_OK && res) {
        *res = pqi_result_new(pqi_call_take(c, 0), tx->node->target->name);
        if (!*res)
            give_up(tx, c);
    }
    if (c->err.code == PQR_E_ROLLED_BACK)
        c->err.retry = safe_again(tx) ? PQR_RETRY_SAFE : PQR_RETRY_NEVER;
    if (tx->sqlstate[0] == '\0')
        memcpy(tx->sqlstate, c->err.sqlstate, sizeof tx->sqlstate);
    if (err)
        *err = c->err;
    int code = c->err.code;
    c->conn = NULL; /* it stays the transaction's */
    pqi_op_free(op);
    if (tx->ending)
        pqi_tx_drop(tx);
    return code;
}

int pqi_tx_exec(struct pqr_tx *tx, const pqr_query *q, pqr_result **res, pqr_error *err)
{
    static const struct pqi_how here = {0};
    struct pqi_op op;
    int code = pqi_tx_exec_start(&op, tx, q, &here, err);
    if (code != PQR_OK)
        return code;
    pqi_call_run(&op.call);
    return pqi_tx_exec_end(&op, res, err);
}

/* ---- Commit --------------------------------------------------------------------------------- */

/* COMMIT of a failed block answers with the tag ROLLBACK and no error: what failed first is told. */
static void check_commit_tag(struct pqi_call *c, const struct pqr_tx *tx)
{
    if (strcmp(pqi_answer_tag(pqi_call_answer(c, 0)), "COMMIT") == 0)
        return;
    pqi_err(&c->err, PQR_E_ROLLED_BACK,
            "%s: the transaction had failed before (SQLSTATE %s), so COMMIT rolled it back",
            c->node->target->name, tx->sqlstate);
    memcpy(c->err.sqlstate, tx->sqlstate, sizeof c->err.sqlstate);
    if (safe_again(tx))
        c->err.retry = PQR_RETRY_SAFE;
}

/* COMMIT takes effect when it is executed, before its Sync: its tag is proof, also when the server
 * ended the session right after it. */
static bool committed(struct pqi_call *c)
{
    const struct pqi_answer *a = pqi_call_answer(c, 0);
    return a && a->state == PQI_ANSWER_OK && strcmp(pqi_answer_tag(a), "COMMIT") == 0;
}

int pqi_tx_commit_start(struct pqi_op *op, struct pqr_tx *tx, const struct pqi_how *how,
                        pqr_error *err)
{
    struct pqi_call *c = &op->call;
    if (is_busy(tx, err) != PQR_OK)
        return PQR_E_USAGE;
    struct pqi_conn *conn = take_conn(tx);
    if (!conn) {
        int code = no_conn(tx, err);
        free_tx(tx);
        return code;
    }
    init_here(op, tx, conn, 0, NULL, how);
    c->write = !tx->read_only;
    c->effects = c->early = true; /* a read-only one sends notifications */
    c->level = (enum pqr_level)tx->level;
    c->keep = false;
    c->id = tx->id;
    op->stmts[0] = (struct pqi_stmt){.sql = "commit", .sync = true, .sweeps = true};
    op->stmts[1] = pqi_ask_position();
    c->tail = c->write && pqi_session_wants_position(c->session) ? 1 : 0;
    send_here(op, 1 + c->tail, "about to COMMIT");
    return PQR_OK;
}

int pqi_tx_commit_end(struct pqi_op *op, pqr_error *err)
{
    struct pqi_call *c = &op->call;
    if (c->err.code == PQR_OK && !c->resolved)
        check_commit_tag(c, op->tx);
    else if (c->err.code != PQR_OK && committed(c))
        pqi_err_none(&c->err);
    op->tx->doubt = c->err.code == PQR_E_UNKNOWN;
    pqi_count(c->db, transactions);
    if (err)
        *err = c->err;
    int code = c->err.code;
    pqi_op_free(op);
    free_tx(op->tx);
    return code;
}

int pqi_tx_commit(struct pqr_tx *tx, pqr_error *err)
{
    static const struct pqi_how here = {0};
    struct pqi_op op;
    int code = pqi_tx_commit_start(&op, tx, &here, err);
    if (code != PQR_OK)
        return code;
    pqi_call_run(&op.call);
    return pqi_tx_commit_end(&op, err);
}

/* ---- Rollback ------------------------------------------------------------------------------- */

bool pqi_tx_rollback_start(struct pqi_op *op, struct pqr_tx *tx, const struct pqi_how *how)
{
    tx->ending = tx->busy; /* a call is on its connection: that call's end ends both */
    if (tx->busy)
        return false;
    struct pqi_conn *conn = take_conn(tx);
    if (!conn) {
        free_tx(tx);
        return false;
    }
    init_here(op, tx, conn, ROLLBACK_MS, NULL, how);
    op->call.keep = false;
    op->stmts[0] = (struct pqi_stmt){.sql = "rollback", .sync = true};
    send_here(op, 1, "about to roll back");
    return true;
}

void pqi_tx_rollback_end(struct pqi_op *op)
{
    pqi_op_free(op);
    free_tx(op->tx);
}

void pqi_tx_rollback(struct pqr_tx *tx)
{
    static const struct pqi_how here = {0};
    struct pqi_op op;
    if (!pqi_tx_rollback_start(&op, tx, &here))
        return;
    pqi_call_run(&op.call);
    pqi_tx_rollback_end(&op);
}

/* ---- Whole transactions, again and again ---------------------------------------------------- */

/* Also where a prepared statement was gone, or fitted its tables no more: it is known now. With a key
 * doing it again finds out what became of the one before. */
static bool worth_again(const pqr_error *e, bool key)
{
    if (e->code == PQR_E_LOST || (key && e->code == PQR_E_UNKNOWN))
        return true;
    bool fails = serialization_failure(e->sqlstate) ||
                 (e->retry == PQR_RETRY_SAFE &&
                  (strcmp(e->sqlstate, "0A000") == 0 || strcmp(e->sqlstate, "26000") == 0));
    return fails && (e->code == PQR_E_SQL || e->code == PQR_E_ROLLED_BACK);
}

int64_t pqi_tx_pause_until(const pqr_error *e, bool key, int64_t most_often, int again,
                           int64_t until_ns)
{
    int64_t most = RERUN_PAUSE_MS * PQI_MS << again;
    int64_t pause_until = pqi_now_ns() + (int64_t)(pqi_random() % (uint64_t)most);
    return worth_again(e, key) && again < most_often && pause_until < until_ns ? pause_until : 0;
}

int pqi_tx_not_begun(int code, pqr_error *err)
{
    if (code != PQR_E_DONE_BEFORE)
        return code;
    err->code = PQR_OK;
    return PQR_OK;
}

void pqi_tx_run_ended(struct pqi_tx_runs *r, bool begun, pqr_error *err)
{
    if (r->doubt && !begun && err->code != PQR_OK)
        *err = r->lost;
    r->doubt = r->key && err->code == PQR_E_UNKNOWN;
    if (r->doubt)
        r->lost = *err;
}

static int transact_once(struct pqr_session *s, const pqr_tx_options *o, pqr_work_fn *work,
                         void *arg, int64_t until_ns, bool *begun, pqr_error *err)
{
    struct pqr_tx *tx;
    int code = pqi_tx_begin(s, o, &tx, err);
    *begun = code == PQR_OK;
    if (code != PQR_OK)
        return pqi_tx_not_begun(code, err);
    tx->until_ns = until_ns;
    pqi_err_none(err);
    code = work(tx, arg, err);
    if (code == PQR_OK)
        return pqi_tx_commit(tx, err);
    pqi_tx_rollback(tx);
    return code;
}

int pqi_tx_transact(struct pqr_session *s, const pqr_tx_options *o, pqr_work_fn *work, void *arg,
                    pqr_error *err)
{
    pqr_error own;
    err = err ? err : &own;
    pqr_tx_options left = *o;
    int64_t now = pqi_now_ns();
    int64_t until = pqi_after_ms(now, o->deadline_ms > 0 ? o->deadline_ms : s->deadline_ms);
    struct pqi_tx_runs runs = {.key = o->idempotency_key != NULL};
    for (int again = 0;; again++) {
        left.deadline_ms = until == PQI_FOREVER ? 0 : (until - now) / PQI_MS + 1;
        bool begun;
        int code = transact_once(s, &left, work, arg, until, &begun, err);
        if (runs.key) {
            pqi_tx_run_ended(&runs, begun, err);
            code = code == PQR_OK ? code : err->code;
        }
        int64_t pause_until = code == PQR_OK
                                  ? 0
                                  : pqi_tx_pause_until(err, runs.key, s->db->options->retry_max,
                                                       again, until);
        if (pause_until == 0)
            return code;
        pqi_count(s->db, retries);
        pqi_wait_or_abort(&s->db->wait, -1, 0, s->db->abort_flag, pause_until);
        now = pqi_now_ns();
        if (now >= until)
            return code;
    }
}
