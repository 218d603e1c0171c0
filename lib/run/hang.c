/* A call that waits for a server looks whether that hangs, lets the monitor ask it, and goes elsewhere if
 * it only reads. */
#include "../plan/hang.h"
#include "call.h"
#include "conn.h"
#include "session.h"
#include "steps.h"
#include "vitals.h"

#include <string.h>

void pqi_call_watch(struct pqi_call *c)
{
    c->placed_ns = pqi_now_ns();
    c->proven = 0;
    const struct pqi_waiting w = {.since_ns = c->placed_ns, .until_ns = c->until_ns};
    c->look_ns = pqi_hang_look(&w, c->placed_ns).look_ns;
    c->detour_ns = pqi_detour(c->placed_ns, c->until_ns, c->placed_ns).look_ns;
}

/* What only reads, whole, may be sent again anywhere. Not bounded by the budget of reruns: the monitor has
 * found the server silent, too, and a call leaves each server once. */
static bool may_leave(const struct pqi_call *c)
{
    return !c->write && !c->effects && c->unit && !c->session->fixed_node && !c->doubt &&
           c->attempts <= c->db->options->retry_max && !pqi_call_aborted(c);
}

/* Lets go of what it has or waits for at its node. false: its outcome is on the way. */
static bool let_go(struct pqi_call *c)
{
    if (c->state == PQI_CALL_RIDE) {
        if (!pqi_lane_leave(c->rider.lane, &c->rider, NULL))
            return false;
        c->rode = false;
        return true;
    }
    pqi_call_leave_queue(c);
    if (c->state == PQI_CALL_CONNECT || c->state == PQI_CALL_HANDSHAKE)
        pqi_call_pass_on(c);
    else if (c->state != PQI_CALL_QUEUE)
        pqi_call_drop_conn(c); /* an answer may be under way: it is nobody's any more */
    return true;
}

void pqi_call_leave(struct pqi_call *c, enum pqi_detour how)
{
    if (!may_leave(c))
        return;
    struct pqi_node *here = c->node, *there = NULL;
    uint64_t generation = c->generation;
    bool tried = c->tried[here->index];
    c->tried[here->index] = true;
    if (pqi_call_find_place(c) && c->node != here)
        there = c->node;
    c->node = here;
    if (there && how != PQI_DETOUR_NONE && !pqi_call_ready_at(c, there, how))
        there = NULL;
    if (!there || !let_go(c)) {
        c->tried[here->index] = tried;
        c->generation =
            generation; /* not the other node's: its answer here counts for the session */
        pqi_call_share_back(c);
        return;
    }
    c->node = there;
    if (how == PQI_DETOUR_NONE) { /* else nothing was sent, and nothing has failed */
        pqi_count(c->db, retries);
        c->attempts++;
    }
    c->off_lanes = false; /* it was the server that was stuck, not the lane */
    pqi_call_watch(c);
    pqi_call_acquire(c);
}

void pqi_call_look(struct pqi_call *c, int64_t now)
{
    struct pqi_node *node = c->node;
    const struct pqi_waiting w = {.since_ns = c->placed_ns,
                                  .until_ns = c->until_ns,
                                  .heard_ns = atomic_load(&node->heard_ns),
                                  .asked_ns = atomic_load(&node->asked_ns),
                                  .proven = c->proven,
                                  .gone = pqi_shard_gone(node)};
    struct pqi_hang_verdict v = pqi_hang_look(&w, now);
    c->look_ns = v.look_ns;
    c->proven += v.verdict == PQI_HANG_PROVEN;
    if (v.verdict == PQI_HANG_ASK || v.verdict == PQI_HANG_LEAVE)
        pqi_node_doubt(node, w.since_ns > w.heard_ns ? w.since_ns : w.heard_ns);
    if (v.verdict == PQI_HANG_LEAVE)
        pqi_call_leave(c, PQI_DETOUR_NONE);
}
