/* A call that waits for a connection that is being made, or for its turn, takes another one that is there
 * sooner: on its node, or on another one that may serve it. */
#include "call.h"
#include "conn.h"
#include "opener.h"
#include "steps.h"

static bool connects(const struct pqi_call *c)
{
    return c->state == PQI_CALL_CONNECT || c->state == PQI_CALL_HANDSHAKE;
}

static bool waits_for_lane(const struct pqi_call *c)
{
    return c->state == PQI_CALL_RIDE && pqi_lane_opening(c->rider.lane);
}

bool pqi_call_makes(const struct pqi_call *c)
{
    return connects(c) || c->state == PQI_CALL_QUEUE || waits_for_lane(c);
}

void pqi_call_pass_on(struct pqi_call *c)
{
    if (!pqi_opener_adopt(c->db->opener, c->node, c->conn))
        pqi_conn_give_up(c->node, c->conn);
    c->conn = NULL;
}

void pqi_call_use_made(struct pqi_call *c, struct pqi_conn *other)
{
    c->queued_too = false;
    pqi_call_pass_on(c);
    pqi_call_go_on(c, PQI_TAKE_CONN, other);
}

/* From now on it takes what comes back, too: connect_step looks whether something has. */
static bool take_or_line_up(struct pqi_call *c)
{
    struct pqi_conn *other;
    if (c->queued_too)
        return false;
    enum pqi_taken taken = pqi_pool_take_made(&c->node->pool, &c->ticket, &other);
    c->queued_too = taken == PQI_TAKE_WAIT;
    if (taken == PQI_TAKE_CONN)
        pqi_call_use_made(c, other);
    return taken == PQI_TAKE_CONN;
}

/* Who stands in the queue gets what comes back anyway. */
static bool take_here(struct pqi_call *c)
{
    if (connects(c))
        return take_or_line_up(c);
    return c->state == PQI_CALL_RIDE && pqi_call_ride_elsewhere(c);
}

#define COMES_MS 20 /* what came back last there did so a moment ago */

/* It stands in a queue that does not move, and there it does. */
static bool queue_moves_at(const struct pqi_call *c, struct pqi_node *node)
{
    return c->state == PQI_CALL_QUEUE && atomic_load(&c->node->pool.came_ns) <= c->placed_ns &&
           pqi_now_ns() - atomic_load(&node->pool.came_ns) <= COMES_MS * PQI_MS;
}

bool pqi_call_ready_at(const struct pqi_call *c, struct pqi_node *node, enum pqi_detour how)
{
    if (how != PQI_DETOUR_AWAY && pqi_shard_primary_is(node))
        return false;
    bool rides = c->group && pqi_pace_of(&c->db->pace, c->hash, NULL) != PQI_PACE_SLOW;
    return (rides && pqi_lane_moving(c->group, node)) || pqi_pool_has_made(&node->pool) ||
           queue_moves_at(c, node);
}

static bool ready_elsewhere(const struct pqi_call *c, enum pqi_detour how)
{
    bool ready = false;
    for (int i = 0; i < c->shard->n && !ready; i++)
        ready = &c->shard->nodes[i] != c->node && !c->tried[i] &&
                pqi_call_ready_at(c, &c->shard->nodes[i], how);
    return ready;
}

void pqi_call_detour(struct pqi_call *c, int64_t now)
{
    struct pqi_detour_verdict v = pqi_detour(c->placed_ns, c->until_ns, now);
    c->detour_ns = v.look_ns;
    if (v.how == PQI_DETOUR_NONE || take_here(c))
        return;
    /* One in the primary's share of reads is there for want of a replica. */
    if (v.how != PQI_DETOUR_HERE && !c->falls_back && ready_elsewhere(c, v.how))
        pqi_call_leave(c, v.how);
}
