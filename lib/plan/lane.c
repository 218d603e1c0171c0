/* The queue of one pipelined connection. */
#include "lane.h"

#include "../base/mem.h"

#include <string.h>

static struct pqi_mark *at(const struct pqi_queue *q, uint32_t i)
{
    return &q->ring[(q->head + i) & (q->cap - 1)];
}

bool pqi_queue_reserve(struct pqi_queue *q, uint32_t n)
{
    uint32_t cap = q->cap ? q->cap : 16;
    if (n > UINT32_MAX / 4 - q->count)
        return false;
    while (cap < q->count + n)
        cap *= 2;
    if (cap == q->cap)
        return true;
    struct pqi_mark *ring = pqi_mem_array(cap, sizeof *ring);
    if (!ring)
        return false;
    for (uint32_t i = 0; i < q->count; i++)
        ring[i] = *at(q, i);
    pqi_mem_free(q->ring);
    q->ring = ring;
    q->cap = cap;
    q->head = 0;
    return true;
}

void pqi_queue_free(struct pqi_queue *q)
{
    pqi_mem_free(q->ring);
    memset(q, 0, sizeof *q);
}

void pqi_queue_push(struct pqi_queue *q, const struct pqi_mark *mark)
{
    q->count++;
    *at(q, q->count - 1) = *mark;
    q->syncs_sent += mark->kind == PQI_MARK_SYNC;
}

static void pop(struct pqi_queue *q)
{
    q->head = (q->head + 1) & (q->cap - 1);
    q->count--;
    q->answered = false;
}

static struct pqi_turn broken(const char *why)
{
    return (struct pqi_turn){.broken = why};
}

/* ---- A statement is due --------------------------------------------------------------------- */

static struct pqi_turn answered(struct pqi_queue *q, const struct pqi_mark *m, enum pqi_event event)
{
    struct pqi_turn turn = {.mark = *m};
    if (q->answered)
        return broken("two results for one statement");
    if (event == PQI_EVENT_SKIPPED && !q->segment_failed)
        return broken("a statement was skipped, though none had failed before it");
    if (event != PQI_EVENT_SKIPPED && q->segment_failed)
        return broken("a statement was answered, though one before it had failed");
    q->answered = true;
    q->segment_failed |= event != PQI_EVENT_RESULT;
    if (m->kind == PQI_MARK_CLOSE || m->kind == PQI_MARK_CLEAN)
        return turn;
    q->failed |= event == PQI_EVENT_ERROR;
    q->skipped |= event == PQI_EVENT_STALE || event == PQI_EVENT_SKIPPED;
    if (event == PQI_EVENT_ERROR || (event == PQI_EVENT_RESULT && m->kind == PQI_MARK_RUN))
        turn.take = PQI_TAKE_ANSWER; /* also of a Parse: what fails there is the statement */
    else if (event != PQI_EVENT_RESULT)
        turn.take = PQI_TAKE_SKIPPED;
    return turn;
}

/* Its results have ended. Where the Sync is shared, its call may have too. */
static struct pqi_turn ended(struct pqi_queue *q, const struct pqi_mark *m)
{
    struct pqi_turn turn = {.mark = *m};
    if (!q->answered)
        return broken("a statement ended without a result");
    if (m->kind == PQI_MARK_RUN && m->shared && m->last)
        turn.end = q->skipped && !q->failed ? PQI_END_AGAIN : PQI_END_DONE;
    if (m->kind == PQI_MARK_RUN) {
        q->has_before = true;
        q->before = *m;
    }
    if (m->last)
        q->failed = q->skipped = false;
    pop(q);
    return turn;
}

static struct pqi_turn statement(struct pqi_queue *q, enum pqi_event event)
{
    const struct pqi_mark m = *at(q, 0);
    switch (event) {
    case PQI_EVENT_NULL:
        return ended(q, &m);
    case PQI_EVENT_SYNC:
        return broken("a Sync where a statement's result was due");
    default:
        return answered(q, &m, event);
    }
}

/* ---- A Sync is due -------------------------------------------------------------------------- */

/* An error between the last result and the Sync belongs to the segment, told by its last
 * statement. Where that one's answer was handed on already, nobody is left to be told. */
static struct pqi_turn late_error(struct pqi_queue *q)
{
    struct pqi_turn turn = {0};
    q->segment_failed = true;
    if (q->has_before && !q->before.shared) {
        turn.mark = q->before;
        turn.take = PQI_TAKE_ANSWER;
    }
    return turn;
}

static struct pqi_turn sync(struct pqi_queue *q, enum pqi_event event)
{
    struct pqi_turn turn = {.mark = *at(q, 0)};
    switch (event) {
    case PQI_EVENT_NULL:
        return turn;
    case PQI_EVENT_ERROR:
    case PQI_EVENT_STALE:
        return q->segment_failed ? broken("two errors in one segment") : late_error(q);
    case PQI_EVENT_SYNC:
        break;
    default:
        return broken("a result where a Sync was due");
    }
    turn.synced = true;
    turn.clean = !q->segment_failed;
    if (turn.mark.last) {
        turn.end = PQI_END_DONE;
        q->failed = q->skipped = false;
    }
    q->segment_failed = q->has_before = false;
    q->syncs_received++;
    pop(q);
    return turn;
}

/* ---- In order ------------------------------------------------------------------------------- */

struct pqi_turn pqi_queue_take(struct pqi_queue *q, enum pqi_event event)
{
    if (q->count == 0)
        return event == PQI_EVENT_NULL ? (struct pqi_turn){0}
                                       : broken("an answer, though nothing was asked");
    struct pqi_turn turn = at(q, 0)->kind == PQI_MARK_SYNC ? sync(q, event) : statement(q, event);
    if (!turn.mark.call) {
        turn.take = PQI_TAKE_NOTHING;
        turn.end = PQI_END_NONE;
    }
    if (!turn.broken && q->count == 0 && q->syncs_sent != q->syncs_received)
        return broken("Syncs sent and received do not agree");
    return turn;
}

void pqi_queue_abandon(struct pqi_queue *q, const void *call)
{
    for (uint32_t i = 0; i < q->count; i++)
        if (at(q, i)->call == call)
            at(q, i)->call = NULL;
    if (q->before.call == call)
        q->before.call = NULL;
}

void *pqi_queue_lost(struct pqi_queue *q)
{
    void *call = NULL;
    while (q->count > 0 && !call) {
        call = at(q, 0)->call;
        if (call)
            pqi_queue_abandon(q, call);
        pop(q);
    }
    return call;
}

const struct pqi_mark *pqi_queue_head(const struct pqi_queue *q)
{
    return q->count > 0 ? at(q, 0) : NULL;
}

bool pqi_queue_holds(const struct pqi_queue *q, const void *call)
{
    for (uint32_t i = 0; i < q->count; i++)
        if (at(q, i)->call == call)
            return true;
    return false;
}
