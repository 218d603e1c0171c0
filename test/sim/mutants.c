/* Planted faults: functions of plan and wire whose answers are bent. The linker hands their calls over
 * (--wrap), so that the library itself is as it is. */
#include "mutants.h"

#include "../../lib/plan/fate.h"
#include "../../lib/plan/follow.h"
#include "../../lib/plan/health.h"
#include "../../lib/plan/lag.h"
#include "../../lib/plan/lane.h"
#include "../../lib/plan/lsn.h"
#include "../../lib/wire/pg.h"
#include "../../lib/wire/world.h"

#include "../../lib/base/heap.h"

#include <stdio.h>
#include <string.h>

static const char *const names[] = {
    "retries-after-eof",
    "says-failed-after-eof",
    "follows-an-older-timeline",
    "takes-any-replica-as-fresh",
    "forgets-what-was-read",
    "trusts-a-result-without-its-sync",
    "takes-rollback-for-commit",
    "swaps-answers",
    "leaves-sessions-untidy",
    "forgets-closed-connections",
    "wakes-late",
    "never-finds-a-node-up-again",
};

static const char *mutant = "";

bool sim_mutate(const char *name)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            mutant = names[i];
    return mutant[0] != '\0';
}

static bool is(const char *name)
{
    return strcmp(mutant, name) == 0;
}

/* NAME(arguments) as the library calls it, and as it is. */
#define WRAP(type, name, ...)        \
    type __real_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)

/* A write whose connection was lost may have happened. */
WRAP(struct pqi_fate, pqi_fate, const struct pqi_failure *f)
{
    struct pqi_fate fate = __real_pqi_fate(f);
    bool eof = f->sqlstate[0] == '\0' && f->given && !f->timed_out;
    if (eof && is("retries-after-eof"))
        return (struct pqi_fate){PQI_NOT_RUN, false, PQI_ELSEWHERE, PQI_ELSEWHERE};
    if (eof && is("says-failed-after-eof"))
        return (struct pqi_fate){PQI_NOT_RUN, false, PQI_ELSEWHERE, PQI_RETURN};
    return fate;
}

/* The known primary stays, whatever else is there. */
WRAP(struct pqi_follow, pqi_follow, const struct pqi_report *nodes, int n, int known,
     uint32_t timeline, uint64_t system_id)
{
    struct pqi_follow f = __real_pqi_follow(nodes, n, known, timeline, system_id);
    if (!is("follows-an-older-timeline"))
        return f;
    for (int i = 0; i < n; i++)
        if (nodes[i].state == PQR_NODE_UP && nodes[i].role == PQR_ROLE_PRIMARY)
            return (struct pqi_follow){PQI_PRIMARY_IS, i, -1}; /* the first that says so */
    return f;
}

WRAP(bool, pqi_seen_fresh, const struct pqi_seen *seen, uint32_t timeline, uint64_t replayed)
{
    return is("takes-any-replica-as-fresh") || __real_pqi_seen_fresh(seen, timeline, replayed);
}

/* What a session read elsewhere was all that was there: nothing. */
WRAP(bool, pqi_horizon_after, const struct pqi_horizon *h, int64_t at_ns, uint64_t *lsn)
{
    if (!is("forgets-what-was-read"))
        return __real_pqi_horizon_after(h, at_ns, lsn);
    *lsn = 0;
    return true;
}

/* Two calls of one segment get each other's answers. */
static void swap_answers(struct pqi_queue *q)
{
    struct pqi_mark *a = &q->ring[q->head & (q->cap - 1)];
    struct pqi_mark *b = &q->ring[(q->head + 1) & (q->cap - 1)];
    if (q->count < 2 || a->kind != PQI_MARK_RUN || b->kind != PQI_MARK_RUN || !a->shared ||
        !b->shared || a->call == b->call || q->answered)
        return;
    struct pqi_mark was = *a;
    a->call = b->call;
    a->id = b->id;
    b->call = was.call;
    b->id = was.id;
}

WRAP(struct pqi_turn, pqi_queue_take, struct pqi_queue *q, enum pqi_event event)
{
    const struct pqi_mark *head = pqi_queue_head(q);
    bool behind = event == PQI_EVENT_ERROR && head && head->kind == PQI_MARK_SYNC;
    if (is("swaps-answers") && event == PQI_EVENT_RESULT)
        swap_answers(q);
    struct pqi_turn t = __real_pqi_queue_take(q, event);
    if (!is("trusts-a-result-without-its-sync"))
        return t;
    if (behind && t.take == PQI_TAKE_ANSWER)
        t.take = PQI_TAKE_NOTHING;
    t.clean |= t.synced;
    return t;
}

WRAP(const char *, pqi_answer_tag, const struct pqi_answer *a)
{
    const char *tag = __real_pqi_answer_tag(a);
    return is("takes-rollback-for-commit") && strcmp(tag, "ROLLBACK") == 0 ? "COMMIT" : tag;
}

WRAP(void, pqi_conn_clear, struct pqi_conn *c)
{
    if (is("leaves-sessions-untidy"))
        c->leaves = false;
    else
        __real_pqi_conn_clear(c);
}

/* It counts no more as soon as it was closed here. */
WRAP(bool, pqi_parted, int fd)
{
    return __real_pqi_parted(fd) || is("forgets-closed-connections");
}

WRAP(void, pqi_heap_set, struct pqi_heap *h, struct pqi_timer *t, int64_t at_ns)
{
    __real_pqi_heap_set(h, t, is("wakes-late") ? at_ns + 20 * PQI_MS : at_ns);
}

WRAP(enum pqr_node_state, pqi_health_next, enum pqr_node_state now, enum pqi_sign sign)
{
    if (is("never-finds-a-node-up-again") && now == PQR_NODE_DOWN)
        return now;
    return __real_pqi_health_next(now, sign);
}
