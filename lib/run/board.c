/* How a call rides on a lane, with others. */
#include "../base/err.h"
#include "../base/mem.h"
#include "call.h"
#include "conn.h"
#include "steps.h"
#include "vitals.h"

#include <sched.h>

#define STUCK_LOOK_MS 100 /* the longest time between two looks whether it is stuck */
#define STAYS_MS \
    3000 /* so long one that is stuck waits for a connection that needs no queue: longer
                             than a lane takes to find that its head is nobody's, and to open anew */

static bool make_answers(struct pqi_call *c)
{
    struct pqi_job *job = &c->rider.job;
    int n = c->count + c->led + c->tail;
    if (!job->answers) {
        job->answers = c->few;
        if (n > (int)(sizeof c->few / sizeof *c->few))
            job->answers = pqi_mem_array((size_t)n, sizeof *job->answers);
    }
    job->n = n;
    return job->answers != NULL;
}

static bool board(struct pqi_call *c, struct pqi_lane *lane, enum pqi_pace_class class_,
                  int64_t cost_us)
{
    if (!make_answers(c))
        return false;
    c->rider.job.stmts = c->stmts + c->first - c->led;
    c->rider.waiter = &c->waiter;
    c->rider.err = &c->err;
    c->rider.hash = c->hash;
    c->rider.class_ = class_;
    c->rider.cost_us = cost_us;
    c->rider.until_ns = c->until_ns;
    c->rider.generation = c->generation;
    c->stuck_ms = PQI_STUCK_MS;
    c->rider.since_ns = pqi_now_ns();
    c->stuck_ns = pqi_after_ms(c->rider.since_ns, c->stuck_ms);
    if (!pqi_lane_board(lane, &c->rider))
        return false;
    c->state = PQI_CALL_RIDE;
    return true;
}

/* Boards a lane of its node, if there is one to be had for such a statement. */
bool pqi_call_board(struct pqi_call *c)
{
    if (!c->group || c->off_lanes || c->db->options->pgbouncer)
        return false;
    int64_t cost_us;
    enum pqi_pace_class class_ = pqi_pace_of(&c->db->pace, c->hash, &cost_us);
    struct pqi_lane *lane = class_ == PQI_PACE_SLOW
                                ? NULL
                                : pqi_lane_choose(c->group, c->node, class_ == PQI_PACE_FAST);
    return lane && board(c, lane, class_, cost_us);
}

static void ride_trouble(struct pqi_call *c)
{
    const struct pqi_trouble *t = &c->rider.trouble;
    pqi_err(&c->err, pqi_call_trouble_code(t->kind), "%s (%s): %s", c->node->target->name,
            c->node->target->shown, t->text);
    pqi_copy_text(c->err.sqlstate, sizeof c->err.sqlstate, t->sqlstate);
    /* Where no lane can be opened here, an idle connection may still serve it. */
    if (c->err.code == PQR_E_NOMEM)
        c->off_lanes = true;
    else
        c->tried[c->node->index] = true;
    if (pqi_call_may_rerun(c))
        pqi_call_rerun(c, PQI_ELSEWHERE);
    else
        pqi_call_end_with_error(c);
}

static void ride_anew(struct pqi_call *c)
{
    int64_t now = pqi_now_ns();
    if (now >= c->hope_until_ns) {
        pqi_call_end_with_error(c);
        return;
    }
    pqi_call_none_happened(c);
    c->attempts--;
    c->pause_until_ns = pqi_after_ms(now, PQI_PAUSE_MS);
    c->state = PQI_CALL_PAUSE;
}

static void ride_over(struct pqi_call *c)
{
    c->rode = true;
    switch (c->rider.outcome) {
    case PQI_OUT_ANSWERED:
        pqi_call_run_done(c);
        break;
    case PQI_OUT_LOST:
        pqi_call_run_failed(c, -1, false);
        break;
    case PQI_OUT_TROUBLE:
        ride_trouble(c);
        break;
    case PQI_OUT_REFUSED:
        pqi_call_end_with_error(c);
        break;
    case PQI_OUT_ANEW:
        ride_anew(c);
        break;
    }
    if (c->state != PQI_CALL_DONE)
        c->rode = false;
}

/* Does it wait in vain for its lane to be opened? While that waits for the pool, as any call for a
 * connection; then, while it connects, as any call for a server. */
static bool waits_in_vain(const struct pqi_call *c, struct pqi_lane *lane, int64_t now,
                          bool *for_the_pool)
{
    if (now < c->queue_until_ns || !pqi_lane_opening(lane))
        return false;
    *for_the_pool = atomic_load(&lane->queued);
    return *for_the_pool || now >= c->hope_until_ns;
}

static void not_opened(struct pqi_call *c)
{
    pqi_err(&c->err, PQR_E_CONNECT, "%s (%s): no connection in %lld ms", c->node->target->name,
            c->node->target->shown, (long long)pqi_call_spent_ms(c));
    pqi_call_end_with_error(c);
}

/* Out of time or patience: the answer, if it comes, is dropped. */
static void ride_ended(struct pqi_call *c, bool sent, bool for_a_lane, bool for_the_pool)
{
    c->rider.trouble = (struct pqi_trouble){0};
    if (for_a_lane && for_the_pool) {
        pqi_call_pool_timed_out(c);
    } else if (for_a_lane) {
        not_opened(c);
    } else if (!sent) {
        pqi_call_end_unsent(c, "waiting for a connection");
    } else {
        pqi_count(c->db, deadlines);
        c->rode = true;
        c->rider.job.given = true;
        c->rider.outcome = PQI_OUT_ANSWERED;
        pqi_call_run_failed(c, -1, true);
    }
}

/* What was taken for one that has its outcome after all. */
static void give_back(struct pqi_call *c, enum pqi_taken taken, struct pqi_conn *conn)
{
    struct pqi_pool *pool = &c->node->pool;
    if (taken == PQI_TAKE_WAIT && !pqi_pool_leave(pool, &c->ticket))
        return;
    if (taken == PQI_TAKE_WAIT)
        conn = c->ticket.conn;
    if (conn)
        pqi_conn_back(c->node, conn);
    else
        pqi_pool_release(pool);
}

/* Stuck: on a connection of its own it waits for nobody. Where there is none to be had it stays, as in
 * the pool's queue it would wait too, and behind others; for a while, then it lines up there. */
static bool leave_stuck(struct pqi_call *c, int64_t now)
{
    struct pqi_conn *conn = NULL;
    bool lines_up = now - c->rider.since_ns >= STAYS_MS * PQI_MS;
    enum pqi_taken taken = lines_up ? pqi_pool_take(&c->node->pool, &c->ticket, &conn)
                                    : pqi_pool_try(&c->node->pool, &conn);
    if (taken == PQI_TAKE_FULL || (taken == PQI_TAKE_WAIT && !lines_up))
        return false;
    if (!pqi_lane_leave(c->rider.lane, &c->rider, NULL)) {
        give_back(c, taken, conn);
        return false;
    }
    c->off_lanes = true;
    if (taken == PQI_TAKE_WAIT)
        c->state = PQI_CALL_QUEUE;
    else
        pqi_call_go_on(c, taken, conn);
    return true;
}

static bool to_other_lane(struct pqi_call *c, struct pqi_lane *other)
{
    if (!pqi_lane_leave(c->rider.lane, &c->rider, NULL))
        return false;
    if (!board(c, other, c->rider.class_, c->rider.cost_us)) /* it was closed just now */
        pqi_call_acquire(c);
    return true;
}

bool pqi_call_ride_elsewhere(struct pqi_call *c)
{
    struct pqi_conn *conn;
    struct pqi_lane *other = pqi_lane_moving(c->group, c->node);
    if (other)
        return to_other_lane(c, other);
    if (pqi_pool_take_made(&c->node->pool, NULL, &conn) != PQI_TAKE_CONN)
        return false;
    if (!pqi_lane_leave(c->rider.lane, &c->rider, NULL)) {
        pqi_conn_back(c->node, conn);
        return false;
    }
    c->off_lanes = true;
    pqi_call_go_on(c, PQI_TAKE_CONN, conn);
    return true;
}

void pqi_call_ride_step(struct pqi_call *c, int64_t now)
{
    struct pqi_lane *lane = c->rider.lane;
    bool sent = false, for_the_pool = false, late = pqi_call_aborted(c) || now >= c->until_ns;
    bool waits = !late && waits_in_vain(c, lane, now, &for_the_pool);
    /* Where the whole server is in doubt, another connection to it is no better. */
    bool stuck = !late && !waits && now >= c->stuck_ns && pqi_node_silent_ms(c->node) == 0 &&
                 pqi_lane_stuck(lane, &c->rider, now);
    if (now >= c->stuck_ns) {
        c->stuck_ms = c->stuck_ms < STUCK_LOOK_MS ? c->stuck_ms * 2 : STUCK_LOOK_MS;
        c->stuck_ns = pqi_after_ms(now, c->stuck_ms);
    }
    if (!pqi_waiter_finished(&c->waiter)) {
        if (stuck && leave_stuck(c, now))
            return;
        if (!late && !waits)
            return; /* if it has its outcome just now, it is told of it */
        if (pqi_lane_leave(lane, &c->rider, &sent)) {
            ride_ended(c, sent, waits, for_the_pool);
            return;
        }
        while (!pqi_waiter_finished(&c->waiter)) /* somebody is about to tell */
            sched_yield();
    }
    ride_over(c);
}
