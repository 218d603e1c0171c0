/* Many who work in one thread, by one event loop. */
#include "driver.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

static void finish(struct actor *a, int code, const pqr_error *err, pqr_result *const *res, int n)
{
    op_done(a, code, err, res, n);
    a->busy = a->cancel = false;
    a->call = NULL;
    a->due_ns = now_ns() + actor_pause_ns(a);
}

static void answered(void *arg, const pqr_done *done)
{
    struct actor *a = arg;
    pqr_result *const *res = done->batch ? done->batch : &done->res;
    int n = done->batch ? (int)done->n : done->res ? 1 : 0;
    finish(a, done->err->code, done->err, res, n);
    for (int i = 0; i < n; i++)
        pqr_result_free(res[i]);
}

/* ---- Transfers: a step submits the next ------------------------------------------------------ */

struct crowd_actor {
    struct actor a;
    pqr_loop *loop;
    pqr_tx *tx;
};

static void go_on(struct crowd_actor *c, const pqr_error *err);

static void moved(void *arg, const pqr_done *done)
{
    pqr_result_free(done->res);
    go_on(arg, done->err);
}

static void go_on(struct crowd_actor *c, const pqr_error *err)
{
    pqr_error refused = {.code = PQR_OK};
    if (err && err->code != PQR_OK)
        pqr_work_done(c->tx, err);
    else if (c->a.step == c->a.op.steps)
        pqr_work_done(c->tx, NULL);
    else if (pqr_submit_exec(c->loop, c->tx, &c->a.op.q[c->a.step++], moved, c, NULL, &refused))
        pqr_work_done(c->tx, &refused);
}

static void transfer(pqr_tx *tx, void *arg)
{
    struct crowd_actor *c = arg;
    c->tx = tx;
    c->a.step = 0;
    go_on(c, NULL);
}

/* ---- Submitting ------------------------------------------------------------------------------ */

static int submit(struct crowd_actor *c, pqr_error *err)
{
    struct actor *a = &c->a;
    struct op *op = &a->op;
    if (op->kind == TRANSFER)
        return pqr_submit_transact(c->loop, a->s,
                                   PQR_TX(.isolation = op->isolation,
                                          .deadline_ms = op->deadline_ms,
                                          .idempotency_key = op->once),
                                   transfer, answered, c, err);
    if (op->kind == READ_BATCH) {
        const pqr_query *const queries[BATCH] = {&op->q[0], &op->q[1], &op->q[2]};
        return pqr_submit_read_batch(c->loop, a->s, queries, BATCH, answered, c, &a->call, err);
    }
    return op_is_write(op->kind)
               ? pqr_submit_write(c->loop, a->s, op->q, answered, c, &a->call, err)
               : pqr_submit_read(c->loop, a->s, op->q, answered, c, &a->call, err);
}

static void begin(struct crowd_actor *c)
{
    struct actor *a = &c->a;
    pqr_error err = {.code = PQR_OK};
    if (!actor_session(a)) {
        a->due_ns = now_ns() + actor_pause_ns(a);
        return;
    }
    do
        op_choose(a);
    while (a->op.kind == TX_FAIL || a->op.kind == TX_ROLLBACK); /* those are for threads */
    a->busy = true;
    a->cancel = actor_chance(a, 100) == 0;
    history_call(a->d, &a->op);
    int code = submit(c, &err);
    if (code != PQR_OK)
        finish(a, code, &err, NULL, 0);
}

/* Begins what is due and cancels what is to be cancelled; returns how long there is nothing to do,
 * in ms, -1 when nobody will ever do anything. */
static int look(struct crowd_actor *all, int n, bool stop)
{
    int64_t next = INT64_MAX, now = now_ns();
    bool busy = false;
    for (int i = 0; i < n; i++) {
        struct actor *a = &all[i].a;
        if (a->busy && a->cancel && a->call) {
            a->cancel = false;
            a->op.cancelled = true;
            pqr_cancel(a->call);
        }
        if (!a->busy && !stop && a->due_ns <= now)
            begin(&all[i]);
        if (!a->busy && !stop && a->due_ns < next)
            next = a->due_ns;
        busy = busy || a->busy;
    }
    if (stop && !busy)
        return -1;
    return next - now > 100000000 ? 100 : next > now ? (int)((next - now) / 1000000) + 1 : 0;
}

void *crowd_thread(void *arg)
{
    const struct crowd *crowd = arg;
    struct driver *d = crowd->d;
    int n = (int)d->set.actors, wait;
    pqr_loop *loop = NULL;
    pqr_error err;
    struct crowd_actor *all = calloc((size_t)n, sizeof *all);
    if (!all || pqr_loop_open(d->db, &loop, &err) != PQR_OK) {
        fprintf(stderr, "driver: no loop: %s\n", all ? err.message : "no memory");
        exit(1);
    }
    for (int i = 0; i < n; i++) {
        actor_init(&all[i].a, d, crowd->first + i);
        all[i].loop = loop;
        all[i].a.due_ns = now_ns() + actor_pause_ns(&all[i].a);
    }
    struct pollfd fd = {.fd = pqr_loop_fd(loop), .events = POLLIN};
    while ((wait = look(all, n, d->stop)) >= 0) {
        poll(&fd, 1, wait);
        pqr_loop_dispatch(loop, 0);
    }
    for (int i = 0; i < n; i++)
        actor_end(&all[i].a);
    pqr_loop_close(loop);
    free(all);
    return NULL;
}
