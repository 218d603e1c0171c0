/* The public functions of event loops: each checks its arguments, passes the gate, starts the
 * call and gives it to the loop; its end makes the result and calls back. */
#include "../run/loop.h"
#include "../base/err.h"
#include "../base/mem.h"
#include "../run/gate.h"
#include "../run/lend.h"
#include "../run/monitor.h"
#include "../run/once.h"
#include "../run/router.h"
#include "../run/statement.h"
#include "../run/txn.h"
#include "check.h"

#include <string.h>

/* ---- The loop ------------------------------------------------------------------------------- */

int pqr_loop_open(pqr *db, pqr_loop **out, pqr_error *err)
{
    pqi_err_none(err);
    int code = pqi_need(db, "db", err);
    if (code == PQR_OK)
        code = pqi_need(out, "out", err);
    if (code == PQR_OK)
        code = pqi_gate_in(db, true, err);
    if (code != PQR_OK)
        return code;
    code = pqi_loop_open(db, out, err);
    if (code == PQR_OK)
        atomic_fetch_add(&db->refs, 1);
    pqi_gate_out(db);
    return code;
}

int pqr_loop_fd(const pqr_loop *loop)
{
    return loop ? loop->epoll : PQR_E_USAGE;
}

int pqr_loop_dispatch(pqr_loop *loop, int max)
{
    if (!loop)
        return PQR_E_USAGE;
    int code = pqi_gate_pid(loop->db, NULL);
    return code == PQR_OK ? pqi_loop_dispatch(loop, max) : code;
}

static void end_works(struct pqr_loop *loop);

void pqr_loop_close(pqr_loop *loop)
{
    if (!loop)
        return;
    struct pqr *db = loop->db;
    bool forked = pqi_gate_pid(db, NULL) != PQR_OK;
    if (forked) {
        pqi_loop_orphan(loop);
    } else if (loop->dispatching) {
        pqi_log(&db->log, PQR_LOG_ERROR, "usage",
                "pqr_loop_close was called in a callback of that loop: nothing is done");
        return;
    } else {
        pqi_loop_end_calls(loop);
        end_works(loop);
        pqi_loop_end_calls(loop);
        pqi_loop_close(loop);
    }
    pqi_router_unref(db);
}

void pqr_cancel(pqr_call *call)
{
    if (call && pqi_gate_pid(call->loop->db, NULL) == PQR_OK)
        pqi_loop_cancel(call);
}

/* ---- Submissions ---------------------------------------------------------------------------- */

struct submission {
    struct pqr_call c;
    pqr_done_fn *done;
    void *arg;
    size_t n; /* read_batch: of so many */
    int mode; /* lend */
    void (*end)(struct submission *x, pqr_done *done, pqr_error *err);
};

/* One call less; a session that was closed meanwhile ends with the last. */
static void release(struct pqr_session *s)
{
    if (--s->calls == 0 && s->closing)
        pqi_session_close(s);
}

/* What it would have got is not to be had from a session that was closed meanwhile. */
static void take_back(struct pqr_session *s, pqr_done *done, pqr_error *err)
{
    if (!done->tx && !done->conn)
        return;
    if (done->tx)
        pqi_tx_drop(done->tx);
    if (done->conn)
        pqi_lend_back(s, done->conn);
    done->tx = NULL;
    done->conn = NULL;
    pqi_err(err, PQR_E_CANCELLED, "its session was closed before it ended");
}

/* One is kept for the next: a call at a time is the commonest load there is. */
static struct submission *allocate(struct pqr_loop *loop)
{
    struct submission *x = loop->spare ? loop->spare : pqi_mem_resize(NULL, 1, sizeof *x);
    loop->spare = NULL;
    return x;
}

static void forget(struct pqr_loop *loop, struct submission *x)
{
    if (loop->spare)
        pqi_mem_free(x);
    else
        loop->spare = x;
}

/* Everything is given back before the callback: it may submit the next call, or close the
 * session. */
static void over(struct pqr_call *c)
{
    struct submission *x = pqi_container(c, struct submission, c);
    struct pqr_loop *loop = c->loop;
    struct pqr *db = loop->db;
    struct pqr_session *s = c->op.call.session;
    pqr_error err;
    pqr_result *few[1] = {NULL}, **list = few;
    pqr_done done = {.size = sizeof done, .err = &err};
    if (x->n > 1)
        list = pqi_mem_array(x->n, sizeof *list);
    done.batch = list;
    pqi_err_none(&err);
    x->end(x, &done, &err);
    if (s->closing)
        take_back(s, &done, &err);
    release(s);
    pqi_gate_out(db);
    x->done(x->arg, &done);
    if (list != few)
        pqi_mem_free(list);
    forget(loop, x);
}

static int check_loop(const struct pqr_loop *loop, pqr_done_fn *done, pqr_error *err)
{
    pqi_err_none(err);
    int code = pqi_need(loop, "the loop", err);
    if (code == PQR_OK && !done)
        code = pqi_err(err, PQR_E_USAGE, "done is NULL");
    return code;
}

static int check_session(const struct pqr_loop *loop, const struct pqr_session *s, pqr_error *err)
{
    int code = pqi_need(s, "the session", err);
    if (code == PQR_OK && s->db != loop->db)
        code = pqi_err(err, PQR_E_USAGE, "the loop and the session are of two routers");
    if (code == PQR_OK && s->closing)
        code = pqi_err(err, PQR_E_USAGE, "the session was closed");
    return code;
}

static int check_submit(const struct pqr_loop *loop, const struct pqr_session *s, pqr_done_fn *done,
                        pqr_error *err)
{
    int code = check_loop(loop, done, err);
    return code == PQR_OK ? check_session(loop, s, err) : code;
}

static int check_submit_tx(const struct pqr_loop *loop, const struct pqr_tx *tx, pqr_done_fn *done,
                           pqr_error *err)
{
    int code = check_loop(loop, done, err);
    if (code == PQR_OK)
        code = pqi_need(tx, "the transaction", err);
    /* Its session may be closed already: it is to be ended all the same. */
    if (code == PQR_OK && tx->session->db != loop->db)
        code = pqi_err(err, PQR_E_USAGE, "the loop and the transaction are of two routers");
    return code;
}

/* Passes the gate; NULL: err says why not. */
static struct submission *new_submission(struct pqr_loop *loop, bool begins, pqr_done_fn *done,
                                         void *arg, int *code, pqr_error *err)
{
    *code = pqi_gate_in(loop->db, begins, err);
    if (*code != PQR_OK)
        return NULL;
    if (loop->closing) {
        pqi_gate_out(loop->db);
        *code = pqi_err(err, PQR_E_CLOSED, "the loop is closing: no new calls");
        return NULL;
    }
    struct submission *x = pqi_loop_has_room(loop) ? allocate(loop) : NULL;
    if (!x) {
        pqi_gate_out(loop->db);
        *code = pqi_err(err, PQR_E_NOMEM, "no memory for a call");
        return NULL;
    }
    /* The call, which is most of it, is cleared when it is started. */
    size_t call = offsetof(struct submission, c.op.call) + sizeof x->c.op.call;
    memset((char *)x + call, 0, sizeof *x - call);
    x->c.over = over;
    x->done = done;
    x->arg = arg;
    return x;
}

/* Off it goes, if it could be started. */
static int submit(struct pqr_loop *loop, struct submission *x, int started, pqr_call **call)
{
    if (started != PQR_OK) {
        pqi_gate_out(loop->db);
        forget(loop, x);
        return started;
    }
    x->c.op.call.session->calls++;
    pqi_loop_submit(loop, &x->c);
    if (call)
        *call = &x->c;
    return PQR_OK;
}

static struct pqi_how how_on(struct pqr_loop *loop)
{
    return (struct pqi_how){.group = &loop->group, .copy = true};
}

/* ---- Reads and writes ----------------------------------------------------------------------- */

static void end_statement(struct submission *x, pqr_done *done, pqr_error *err)
{
    pqr_result *res = NULL;
    if (pqi_statement_end(&x->c.op, &res, err) == PQR_OK)
        done->res = res;
    done->batch = NULL;
}

int pqr_submit_read(pqr_loop *loop, pqr_session *s, const pqr_query *q, pqr_done_fn *done,
                    void *arg, pqr_call **call, pqr_error *err)
{
    pqr_query own;
    int code = check_submit(loop, s, done, err);
    if (code == PQR_OK)
        code = pqi_take_query(&own, q, err);
    struct submission *x = code == PQR_OK ? new_submission(loop, true, done, arg, &code, err)
                                          : NULL;
    if (!x)
        return code;
    const struct pqi_how how = how_on(loop);
    const pqr_query *one = &own;
    x->end = end_statement;
    pqi_count(loop->db, reads);
    return submit(loop, x, pqi_read_start(&x->c.op, s, &one, 1, &how, err), call);
}

int pqr_submit_write(pqr_loop *loop, pqr_session *s, const pqr_query *q, pqr_done_fn *done,
                     void *arg, pqr_call **call, pqr_error *err)
{
    pqr_query own;
    int code = check_submit(loop, s, done, err);
    if (code == PQR_OK)
        code = pqi_take_query(&own, q, err);
    struct submission *x = code == PQR_OK ? new_submission(loop, true, done, arg, &code, err)
                                          : NULL;
    if (!x)
        return code;
    const struct pqi_how how = how_on(loop);
    x->end = end_statement;
    pqi_count(loop->db, writes);
    return submit(loop, x, pqi_write_start(&x->c.op, s, &own, &how, err), call);
}

static void end_batch(struct submission *x, pqr_done *done, pqr_error *err)
{
    pqr_result **list = (pqr_result **)(uintptr_t)done->batch;
    done->batch = NULL;
    if (!list) {
        pqi_statement_end(&x->c.op, NULL, err);
        pqi_err(err, PQR_E_NOMEM, "no memory for the results of a batch");
    } else if (pqi_statement_end(&x->c.op, list, err) == PQR_OK) {
        done->batch = list;
        done->n = x->n;
    }
}

int pqr_submit_read_batch(pqr_loop *loop, pqr_session *s, const pqr_query *const *queries, size_t n,
                          pqr_done_fn *done, void *arg, pqr_call **call, pqr_error *err)
{
    int code = check_submit(loop, s, done, err);
    const pqr_query **list = NULL;
    if (code == PQR_OK)
        code = pqi_take_queries(&list, queries, n, err);
    struct submission *x = code == PQR_OK ? new_submission(loop, true, done, arg, &code, err)
                                          : NULL;
    if (x) {
        const struct pqi_how how = how_on(loop);
        x->end = end_batch;
        x->n = n;
        pqi_count(loop->db, batches);
        code = submit(loop, x, pqi_read_start(&x->c.op, s, list, n, &how, err), call);
    }
    pqi_mem_free(list);
    return code;
}

/* ---- Transactions --------------------------------------------------------------------------- */

static void end_begin(struct submission *x, pqr_done *done, pqr_error *err)
{
    pqr_tx *tx = NULL;
    if (pqi_tx_begin_end(&x->c.op, &tx, err) == PQR_OK)
        done->tx = tx;
    done->batch = NULL;
}

int pqr_submit_begin(pqr_loop *loop, pqr_session *s, const pqr_tx_options *options,
                     pqr_done_fn *done, void *arg, pqr_call **call, pqr_error *err)
{
    pqr_tx_options own;
    int code = check_submit(loop, s, done, err);
    if (code == PQR_OK)
        code = pqi_take_tx_options(&own, options, err);
    struct submission *x = code == PQR_OK ? new_submission(loop, true, done, arg, &code, err)
                                          : NULL;
    if (!x)
        return code;
    const struct pqi_how how = how_on(loop);
    x->end = end_begin;
    return submit(loop, x, pqi_tx_begin_start(&x->c.op, s, &own, &how, err), call);
}

static void end_exec(struct submission *x, pqr_done *done, pqr_error *err)
{
    pqr_result *res = NULL;
    x->c.op.tx->call = NULL;
    if (pqi_tx_exec_end(&x->c.op, &res, err) == PQR_OK)
        done->res = res;
    done->batch = NULL;
}

int pqr_submit_exec(pqr_loop *loop, pqr_tx *tx, const pqr_query *q, pqr_done_fn *done, void *arg,
                    pqr_call **call, pqr_error *err)
{
    pqr_query own;
    int code = check_submit_tx(loop, tx, done, err);
    if (code == PQR_OK)
        code = pqi_take_query(&own, q, err);
    struct submission *x = code == PQR_OK ? new_submission(loop, false, done, arg, &code, err)
                                          : NULL;
    if (!x)
        return code;
    const struct pqi_how how = how_on(loop);
    x->end = end_exec;
    code = submit(loop, x, pqi_tx_exec_start(&x->c.op, tx, &own, &how, err), call);
    if (code == PQR_OK)
        tx->call = &x->c;
    return code;
}

/* It ends here, or by pqr_work_done. USAGE: it stands. */
static int check_end(const struct pqr_loop *loop, const struct pqr_tx *tx, pqr_done_fn *done,
                     pqr_error *err)
{
    int code = check_submit_tx(loop, tx, done, err);
    if (code == PQR_OK && tx->work)
        code = pqi_err(err, PQR_E_USAGE, "this transaction is ended by pqr_work_done");
    if (code == PQR_OK && tx->ending)
        code = pqi_err(err, PQR_E_USAGE, "the transaction was rolled back already");
    return code;
}

/* It could not be submitted: it ends all the same. */
static void end_here(struct pqr_tx *tx, int code)
{
    if (code != PQR_E_FORKED)
        pqi_tx_drop(tx);
}

static void end_commit(struct submission *x, pqr_done *done, pqr_error *err)
{
    pqi_tx_commit_end(&x->c.op, err);
    done->batch = NULL;
}

int pqr_submit_commit(pqr_loop *loop, pqr_tx *tx, pqr_done_fn *done, void *arg, pqr_call **call,
                      pqr_error *err)
{
    int code = check_end(loop, tx, done, err);
    if (code == PQR_OK && tx->busy)
        code = pqi_err(err, PQR_E_USAGE,
                       "the transaction has a call in flight: wait for it, then commit");
    if (code != PQR_OK)
        return code;
    struct submission *x = new_submission(loop, false, done, arg, &code, err);
    if (!x) {
        end_here(tx, code);
        return code;
    }
    const struct pqi_how how = how_on(loop);
    x->end = end_commit;
    return submit(loop, x, pqi_tx_commit_start(&x->c.op, tx, &how, err), call);
}

static void end_rollback(struct submission *x, pqr_done *done, pqr_error *err)
{
    pqi_tx_rollback_end(&x->c.op);
    pqi_err_none(err);
    done->batch = NULL;
}

/* Where nothing is left to be rolled back there is no call to drive: one that is done at once. */
static void end_nothing(struct submission *x, pqr_done *done, pqr_error *err)
{
    pqi_op_free(&x->c.op);
    pqi_err_none(err);
    done->batch = NULL;
}

/* A call of it that is in flight is cancelled, and its end is the transaction's. */
int pqr_submit_rollback(pqr_loop *loop, pqr_tx *tx, pqr_done_fn *done, void *arg, pqr_call **call,
                        pqr_error *err)
{
    int code = check_end(loop, tx, done, err);
    if (code == PQR_OK && tx->call && tx->call->loop != loop)
        code = pqi_err(err, PQR_E_USAGE, "a call of the transaction is in flight on another loop");
    if (code != PQR_OK)
        return code;
    struct submission *x = new_submission(loop, false, done, arg, &code, err);
    if (!x && tx->busy && code != PQR_E_FORKED)
        tx->ending = true;
    else if (!x)
        end_here(tx, code);
    if (!x)
        return code;
    const struct pqi_how how = how_on(loop);
    struct pqr_session *s = tx->session;
    struct pqr_call *in_flight = tx->call;
    x->end = end_rollback;
    if (!pqi_tx_rollback_start(&x->c.op, tx, &how)) {
        x->end = end_nothing;
        pqi_op_init(&x->c.op, s, 0, 1, NULL, &how);
        x->c.op.call.state = PQI_CALL_DONE;
        if (in_flight)
            pqi_loop_cancel(in_flight);
    }
    return submit(loop, x, PQR_OK, call);
}

/* ---- Lending -------------------------------------------------------------------------------- */

static void end_lend(struct submission *x, pqr_done *done, pqr_error *err)
{
    struct pg_conn *conn = NULL;
    if (pqi_lend_end(&x->c.op, &conn, err) == PQR_OK)
        done->conn = conn;
    done->batch = NULL;
}

int pqr_submit_lend(pqr_loop *loop, pqr_session *s, int mode, pqr_done_fn *done, void *arg,
                    pqr_call **call, pqr_error *err)
{
    int code = check_submit(loop, s, done, err);
    if (code == PQR_OK)
        code = pqi_lend_check(s->db, mode, err);
    struct submission *x = code == PQR_OK ? new_submission(loop, true, done, arg, &code, err)
                                          : NULL;
    if (!x)
        return code;
    const struct pqi_how how = how_on(loop);
    x->end = end_lend;
    return submit(loop, x, pqi_lend_start(&x->c.op, s, mode, &how), call);
}

/* ---- Whole transactions, again and again ---------------------------------------------------- */

struct pqi_work {
    struct pqi_link of_loop;
    struct pqr_loop *loop;
    struct pqr_session *session; /* it counts as a call of it, also between its calls */
    pqr_tx_options options;
    pqr_loop_work_fn *run;
    pqr_done_fn *done;
    void *arg;
    int64_t until_ns; /* of the whole */
    int again;
    pqr_error err; /* what the last run ended with */
    bool begun;    /* it had begun */
    struct pqi_tx_runs runs;
    char key[PQI_KEY_BYTES_MAX + 1];
    struct pqr_call last; /* its callback, where that may not run at once */
};

static void end_work(struct pqi_work *w)
{
    const pqr_done done = {.size = sizeof done, .err = &w->err};
    pqi_list_remove(&w->of_loop);
    release(w->session);
    w->done(w->arg, &done);
    pqi_mem_free(w);
}

static void last_over(struct pqr_call *c)
{
    end_work(pqi_container(c, struct pqi_work, last));
}

/* Outside of a dispatch, or in the middle of a callback: its own comes later. */
static void end_work_later(struct pqi_work *w)
{
    w->last.over = last_over;
    pqi_loop_post(w->loop, &w->last);
}

static void on_begun(void *arg, const pqr_done *done);

/* Begins a run, after a pause if it is not the first. */
static int begin_work(struct pqi_work *w, int64_t pause_until_ns, pqr_error *err)
{
    int code;
    struct submission *x = new_submission(w->loop, w->again == 0, on_begun, w, &code, err);
    if (!x)
        return code;
    const struct pqi_how how = how_on(w->loop);
    x->end = end_begin;
    code = pqi_tx_begin_start(&x->c.op, w->session, &w->options, &how, err);
    if (code == PQR_OK) {
        x->c.op.call.until_ns = w->until_ns;
        x->c.op.call.pause_until_ns = pause_until_ns;
        x->c.op.call.state = pause_until_ns > 0 ? PQI_CALL_PAUSE : PQI_CALL_PLACE;
    }
    return submit(w->loop, x, code, NULL);
}

static void run_again_or_end(struct pqi_work *w)
{
    pqr_error err;
    if (w->runs.key)
        pqi_tx_run_ended(&w->runs, w->begun, &w->err);
    int64_t pause = pqi_tx_pause_until(&w->err, w->runs.key, w->loop->db->options->retry_max,
                                       w->again, w->until_ns);
    if (pause == 0) {
        end_work(w);
        return;
    }
    w->again++;
    pqi_count(w->loop->db, retries);
    if (begin_work(w, pause, &err) != PQR_OK)
        end_work(w); /* with what made it run again */
}

static void on_begun(void *arg, const pqr_done *done)
{
    struct pqi_work *w = arg;
    w->err = *done->err;
    w->begun = done->tx != NULL;
    if (!done->tx) {
        pqi_tx_not_begun(w->err.code, &w->err);
        run_again_or_end(w);
        return;
    }
    done->tx->until_ns = w->until_ns;
    done->tx->work = w;
    w->run(done->tx, w->arg);
}

static void on_committed(void *arg, const pqr_done *done)
{
    struct pqi_work *w = arg;
    w->err = *done->err;
    run_again_or_end(w);
}

static void on_rolled_back(void *arg, const pqr_done *done)
{
    (void)done; /* what the work failed with is what counts */
    run_again_or_end(arg);
}

void pqr_work_done(pqr_tx *tx, const pqr_error *err)
{
    struct pqi_work *w = tx ? tx->work : NULL;
    if (!w || pqi_gate_pid(w->loop->db, NULL) != PQR_OK)
        return;
    tx->work = NULL;
    pqi_err_none(&w->err);
    if (err)
        w->err = *err;
    if (w->err.code == PQR_OK && tx->busy)
        pqi_err(&w->err, PQR_E_USAGE, "pqr_work_done came while a call was in flight: rolled back");
    int code = w->err.code == PQR_OK
                   ? pqr_submit_commit(w->loop, tx, on_committed, w, NULL, &w->err)
                   : pqr_submit_rollback(w->loop, tx, on_rolled_back, w, NULL, NULL);
    if (code != PQR_OK)
        end_work_later(w);
}

/* Its transaction, while the application has it. */
static struct pqr_tx *tx_of(struct pqi_work *w)
{
    struct pqi_link *txs = &w->session->txs;
    for (struct pqi_link *at = txs->next; at != txs; at = at->next) {
        struct pqr_tx *tx = pqi_container(at, struct pqr_tx, of_session);
        if (tx->work == w)
            return tx;
    }
    return NULL;
}

/* Those that have no call in flight are in the application's hands: they end without it. */
static void end_works(struct pqr_loop *loop)
{
    for (struct pqi_link *at = loop->works.next; at != &loop->works; at = at->next) {
        struct pqi_work *w = pqi_container(at, struct pqi_work, of_loop);
        struct pqr_tx *tx = tx_of(w);
        if (tx)
            pqi_tx_drop(tx);
        pqi_err(&w->err, PQR_E_CANCELLED, "the loop was closed before the work was done");
        end_work_later(w);
    }
}

/* One that is too long stays where it is, and is refused. */
static void copy_key(struct pqi_work *w)
{
    const char *key = w->options.idempotency_key;
    w->runs.key = key != NULL;
    if (!key || strlen(key) > PQI_KEY_BYTES_MAX)
        return;
    memcpy(w->key, key, strlen(key));
    w->options.idempotency_key = w->key;
}

int pqr_submit_transact(pqr_loop *loop, pqr_session *s, const pqr_tx_options *options,
                        pqr_loop_work_fn *work, pqr_done_fn *done, void *arg, pqr_error *err)
{
    pqr_tx_options own;
    int code = check_submit(loop, s, done, err);
    if (code == PQR_OK && !work)
        code = pqi_err(err, PQR_E_USAGE, "work is NULL");
    if (code == PQR_OK)
        code = pqi_take_tx_options(&own, options, err);
    struct pqi_work *w = code == PQR_OK ? pqi_mem_new(sizeof *w) : NULL;
    if (code == PQR_OK && !w)
        code = pqi_err(err, PQR_E_NOMEM, "no memory for a transaction");
    if (code != PQR_OK)
        return code;
    *w = (struct pqi_work){
        .loop = loop, .session = s, .options = own, .run = work, .done = done, .arg = arg};
    copy_key(w);
    w->until_ns = pqi_after_ms(pqi_now_ns(),
                               own.deadline_ms > 0 ? own.deadline_ms : s->deadline_ms);
    code = begin_work(w, 0, err);
    if (code != PQR_OK) {
        pqi_mem_free(w);
        return code;
    }
    pqi_list_append(&loop->works, &w->of_loop);
    s->calls++;
    return PQR_OK;
}

/* ---- Ready ---------------------------------------------------------------------------------- */

/* Shard by shard: a call with no statements, which only looks whether there is a primary. */
struct look {
    struct pqr_loop *loop;
    struct pqr_session *session;
    int group;
    int64_t until_ns;
    pqr_done_fn *done;
    void *arg;
    pqr_error first; /* the first shard's error, with the others' behind it */
};

static void on_looked(void *arg, const pqr_done *done);

static void end_look(struct submission *x, pqr_done *done, pqr_error *err)
{
    *err = x->c.op.call.err;
    pqi_op_free(&x->c.op);
    done->batch = NULL;
}

static int look_at(struct look *k, pqr_error *err)
{
    int code;
    struct submission *x = new_submission(k->loop, true, on_looked, k, &code, err);
    if (!x)
        return code;
    const struct pqi_how how = how_on(k->loop);
    x->end = end_look;
    k->session->fixed = &k->loop->db->shards[k->group];
    pqi_op_init(&x->c.op, k->session, 0, 1, NULL, &how);
    x->c.op.call.write = x->c.op.call.looks = true;
    x->c.op.call.until_ns = x->c.op.call.hope_until_ns = k->until_ns;
    return submit(k->loop, x, PQR_OK, NULL);
}

static void note_error(struct look *k, const pqr_error *err)
{
    if (k->first.code == PQR_OK)
        k->first = *err;
    else if (err->code != PQR_OK)
        pqi_err_add(&k->first, " | %s", err->message);
}

static void on_looked(void *arg, const pqr_done *done)
{
    struct look *k = arg;
    pqr_error err;
    note_error(k, done->err);
    bool cancelled = done->err->code == PQR_E_CANCELLED || done->err->code == PQR_E_CLOSED;
    if (!cancelled && ++k->group < k->loop->db->ngroups) {
        if (look_at(k, &err) == PQR_OK)
            return;
        note_error(k, &err);
    }
    const pqr_done end = {.size = sizeof end, .err = &k->first};
    pqr_session_close(k->session);
    k->done(k->arg, &end);
    pqi_mem_free(k);
}

/* All of them at once: those that come later are looked at meanwhile. */
static int use_all(struct pqr *db, pqr_error *err)
{
    int code = pqi_gate_in(db, true, err);
    if (code != PQR_OK)
        return code;
    for (int i = 0; i < db->ngroups && code == PQR_OK; i++)
        code = pqi_monitor_use(db->monitor, &db->shards[i], err);
    pqi_gate_out(db);
    return code;
}

int pqr_submit_ready(pqr_loop *loop, int64_t timeout_ms, pqr_done_fn *done, void *arg,
                     pqr_error *err)
{
    int code = check_loop(loop, done, err);
    struct look *k = code == PQR_OK ? pqi_mem_new(sizeof *k) : NULL;
    if (code == PQR_OK && !k)
        code = pqi_err(err, PQR_E_NOMEM, "no memory for a call");
    if (code != PQR_OK)
        return code;
    const pqr_session_options o = {.size = sizeof o};
    *k = (struct look){.loop = loop, .done = done, .arg = arg};
    k->until_ns = pqi_after_ms(pqi_now_ns(), timeout_ms);
    pqi_err_none(&k->first);
    code = use_all(loop->db, err);
    if (code == PQR_OK)
        code = pqi_session_open(loop->db, &o, &k->session, err);
    if (code == PQR_OK)
        code = look_at(k, err);
    if (code != PQR_OK && k->session)
        pqr_session_close(k->session);
    if (code != PQR_OK)
        pqi_mem_free(k);
    return code;
}
