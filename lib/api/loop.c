/* The public functions of event loops: each checks its arguments, passes the gate, starts the
 * call and gives it to the loop; its end makes the result and calls back. */
#include "../run/loop.h"
#include "../base/err.h"
#include "../base/mem.h"
#include "../run/gate.h"
#include "../run/lend.h"
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

void pqr_loop_close(pqr_loop *loop)
{
    if (!loop)
        return;
    struct pqr *db = loop->db;
    if (pqi_gate_pid(db, NULL) == PQR_OK)
        pqi_loop_close(loop);
    else
        pqi_loop_orphan(loop);
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

/* Everything is given back before the callback: it may submit the next call, or close the
 * session. */
static void over(struct pqr_call *c)
{
    struct submission *x = pqi_container(c, struct submission, c);
    struct pqr *db = c->loop->db;
    struct pqr_session *s = c->op.call.session;
    pqr_error err;
    pqr_result *few[1] = {NULL}, **list = few;
    pqr_done done = {.size = sizeof done, .err = &err};
    if (x->n > 1)
        list = pqi_mem_array(x->n, sizeof *list);
    done.batch = list;
    x->end(x, &done, &err);
    if (--s->calls == 0 && s->closing)
        pqi_session_close(s);
    pqi_gate_out(db);
    x->done(x->arg, &done);
    if (list != few)
        pqi_mem_free(list);
    pqi_mem_free(x);
}

static int check_submit(struct pqr_loop *loop, const void *on, const char *what, pqr_done_fn *done,
                        pqr_error *err)
{
    pqi_err_none(err);
    int code = pqi_need(loop, "the loop", err);
    if (code == PQR_OK)
        code = pqi_need(on, what, err);
    if (code == PQR_OK && !done)
        code = pqi_err(err, PQR_E_USAGE, "done is NULL");
    return code;
}

/* Passes the gate; NULL: err says why not. */
static struct submission *new_submission(struct pqr_loop *loop, bool begins, pqr_done_fn *done,
                                         void *arg, int *code, pqr_error *err)
{
    *code = pqi_gate_in(loop->db, begins, err);
    if (*code != PQR_OK)
        return NULL;
    struct submission *x = pqi_loop_has_room(loop) ? pqi_mem_new(sizeof *x) : NULL;
    if (!x) {
        pqi_gate_out(loop->db);
        *code = pqi_err(err, PQR_E_NOMEM, "no memory for a call");
        return NULL;
    }
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
        pqi_mem_free(x);
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
    int code = check_submit(loop, s, "the session", done, err);
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
    int code = check_submit(loop, s, "the session", done, err);
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
    int code = check_submit(loop, s, "the session", done, err);
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
    int code = check_submit(loop, s, "the session", done, err);
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
    if (pqi_tx_exec_end(&x->c.op, &res, err) == PQR_OK)
        done->res = res;
    done->batch = NULL;
}

int pqr_submit_exec(pqr_loop *loop, pqr_tx *tx, const pqr_query *q, pqr_done_fn *done, void *arg,
                    pqr_call **call, pqr_error *err)
{
    pqr_query own;
    int code = check_submit(loop, tx, "the transaction", done, err);
    if (code == PQR_OK)
        code = pqi_take_query(&own, q, err);
    struct submission *x = code == PQR_OK ? new_submission(loop, false, done, arg, &code, err)
                                          : NULL;
    if (!x)
        return code;
    const struct pqi_how how = how_on(loop);
    x->end = end_exec;
    return submit(loop, x, pqi_tx_exec_start(&x->c.op, tx, &own, &how, err), call);
}

static void end_commit(struct submission *x, pqr_done *done, pqr_error *err)
{
    pqi_tx_commit_end(&x->c.op, err);
    done->batch = NULL;
}

int pqr_submit_commit(pqr_loop *loop, pqr_tx *tx, pqr_done_fn *done, void *arg, pqr_call **call,
                      pqr_error *err)
{
    int code = check_submit(loop, tx, "the transaction", done, err);
    struct submission *x = code == PQR_OK ? new_submission(loop, false, done, arg, &code, err)
                                          : NULL;
    if (code == PQR_E_CLOSED)
        pqi_tx_rollback(tx); /* its connection is gone already: this only frees */
    if (!x)
        return code;
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

int pqr_submit_rollback(pqr_loop *loop, pqr_tx *tx, pqr_done_fn *done, void *arg, pqr_call **call,
                        pqr_error *err)
{
    int code = check_submit(loop, tx, "the transaction", done, err);
    struct submission *x = code == PQR_OK ? new_submission(loop, false, done, arg, &code, err)
                                          : NULL;
    if (code == PQR_E_CLOSED)
        pqi_tx_rollback(tx);
    if (!x)
        return code;
    const struct pqi_how how = how_on(loop);
    struct pqr_session *s = tx->session;
    x->end = end_rollback;
    if (!pqi_tx_rollback_start(&x->c.op, tx, &how)) {
        x->end = end_nothing;
        pqi_op_init(&x->c.op, s, 0, 1, NULL, &how);
        x->c.op.call.state = PQI_CALL_DONE;
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
    int code = check_submit(loop, s, "the session", done, err);
    if (code == PQR_OK && mode != PQR_LEND_READ && mode != PQR_LEND_WRITE)
        code = pqi_err(err, PQR_E_USAGE, "mode is %d: not a pqr_lend_mode", mode);
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
    struct pqr_loop *loop;
    struct pqr_session *session;
    pqr_tx_options options;
    pqr_loop_work_fn *run;
    pqr_done_fn *done;
    void *arg;
    int64_t until_ns; /* of the whole */
    int again;
    pqr_error err; /* what the last run ended with */
};

static void end_work(struct pqi_work *w)
{
    const pqr_done done = {.size = sizeof done, .err = &w->err};
    w->done(w->arg, &done);
    pqi_mem_free(w);
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
    int64_t pause = pqi_tx_pause_until(&w->err, w->again, w->until_ns);
    pqr_error err;
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
    if (!done->tx) {
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
    if (!w)
        return;
    tx->work = NULL;
    pqi_err_none(&w->err);
    if (err)
        w->err = *err;
    int code = w->err.code == PQR_OK
                   ? pqr_submit_commit(w->loop, tx, on_committed, w, NULL, &w->err)
                   : pqr_submit_rollback(w->loop, tx, on_rolled_back, w, NULL, NULL);
    if (code == PQR_E_USAGE) /* a call of it is in flight: it ends the transaction */
        pqi_tx_rollback(tx);
    if (code != PQR_OK)
        end_work(w);
}

int pqr_submit_transact(pqr_loop *loop, pqr_session *s, const pqr_tx_options *options,
                        pqr_loop_work_fn *work, pqr_done_fn *done, void *arg, pqr_error *err)
{
    pqr_tx_options own;
    int code = check_submit(loop, s, "the session", done, err);
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
    w->until_ns = pqi_after_ms(pqi_now_ns(),
                               own.deadline_ms > 0 ? own.deadline_ms : s->deadline_ms);
    code = begin_work(w, 0, err);
    if (code != PQR_OK)
        pqi_mem_free(w);
    return code;
}

/* ---- Ready ---------------------------------------------------------------------------------- */

/* Shard by shard: a call with no statements, which only wants a connection that takes writes. */
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

static int look_at(struct look *k, pqr_call **call, pqr_error *err)
{
    int code;
    struct submission *x = new_submission(k->loop, true, on_looked, k, &code, err);
    if (!x)
        return code;
    const struct pqi_how how = how_on(k->loop);
    x->end = end_look;
    k->session->fixed = &k->loop->db->shards[k->group];
    pqi_op_init(&x->c.op, k->session, 0, 1, NULL, &how);
    x->c.op.call.write = true;
    x->c.op.call.until_ns = x->c.op.call.hope_until_ns = k->until_ns;
    return submit(k->loop, x, PQR_OK, call);
}

static void on_looked(void *arg, const pqr_done *done)
{
    struct look *k = arg;
    pqr_error err;
    if (done->err->code != PQR_OK && k->first.code == PQR_OK)
        k->first = *done->err;
    else if (done->err->code != PQR_OK)
        pqi_err_add(&k->first, " | %s", done->err->message);
    bool cancelled = done->err->code == PQR_E_CANCELLED || done->err->code == PQR_E_CLOSED;
    if (!cancelled && ++k->group < k->loop->db->ngroups && look_at(k, NULL, &err) == PQR_OK)
        return;
    const pqr_done end = {.size = sizeof end, .err = &k->first};
    pqr_session_close(k->session);
    k->done(k->arg, &end);
    pqi_mem_free(k);
}

int pqr_submit_ready(pqr_loop *loop, int64_t timeout_ms, pqr_done_fn *done, void *arg,
                     pqr_error *err)
{
    int code = check_submit(loop, loop, "the loop", done, err);
    struct look *k = code == PQR_OK ? pqi_mem_new(sizeof *k) : NULL;
    if (code == PQR_OK && !k)
        code = pqi_err(err, PQR_E_NOMEM, "no memory for a call");
    if (code != PQR_OK)
        return code;
    const pqr_session_options o = {.size = sizeof o};
    *k = (struct look){.loop = loop, .done = done, .arg = arg};
    k->until_ns = pqi_after_ms(pqi_now_ns(), timeout_ms);
    pqi_err_none(&k->first);
    code = pqi_session_open(loop->db, &o, &k->session, err);
    if (code == PQR_OK)
        code = look_at(k, NULL, err);
    if (code != PQR_OK && k->session)
        pqr_session_close(k->session);
    if (code != PQR_OK)
        pqi_mem_free(k);
    return code;
}
