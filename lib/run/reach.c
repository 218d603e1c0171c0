/* How a call gets a connection of its own: from the pool, or a new one. */
#include "../base/err.h"
#include "call.h"
#include "conn.h"
#include "session.h"
#include "steps.h"

#include <poll.h>
#include <string.h>

#define CLEAN_MS 10 /* so long it waits for a clean-up, until it looks for another connection */

static void begin_connect(struct pqi_call *c);
static void use_pooled(struct pqi_call *c);

/* Of its place in the queue; REFUSED: it has none. */
static enum pqi_ticket_state queued_too(struct pqi_call *c)
{
    return c->queued_too ? pqi_pool_queued(&c->node->pool, &c->ticket) : PQI_TICKET_REFUSED;
}

/* ---- Connecting ----------------------------------------------------------------------------- */

int pqi_call_trouble_code(enum pqi_trouble_kind kind)
{
    switch (kind) {
    case PQI_TROUBLE_LOGIN:
    case PQI_TROUBLE_TLS:
        return PQR_E_AUTH;
    case PQI_TROUBLE_NOMEM:
        return PQR_E_NOMEM;
    default:
        return PQR_E_CONNECT;
    }
}

/* No connection could be made: nothing was sent. The next node, or the same after a pause. */
static void connect_failed(struct pqi_call *c)
{
    struct pqi_trouble t = c->conn->trouble;
    pqi_call_drop_conn(c);
    pqi_count(c->db, connects_failed);
    pqi_shard_troubled(c->node, &t);
    pqi_err(&c->err, pqi_call_trouble_code(t.kind), "%s (%s): %s", c->node->target->name,
            c->node->target->shown, t.text);
    pqi_copy_text(c->err.sqlstate, sizeof c->err.sqlstate, t.sqlstate);
    bool only_here = c->write || c->session->fixed_node;
    if (c->err.code == PQR_E_NOMEM || (c->err.code == PQR_E_AUTH && only_here)) {
        pqi_call_end_with_error(c); /* its servers are as they were, or want a person's hand */
        return;
    }
    pqi_shard_look_again(c->shard);
    c->tried[c->node->index] = true;
    if (pqi_call_may_rerun(c))
        pqi_call_rerun(c, c->write ? PQI_BACKOFF : PQI_ELSEWHERE);
    else
        pqi_call_end_with_error(c);
}

/* What placed the call is outdated: the monitor looks again, and then the call is placed again. */
static void place_anew(struct pqi_call *c, const char *why)
{
    int64_t now = pqi_now_ns();
    pqi_shard_look_again(c->shard);
    c->conn->tainted = true; /* it was looked at by an older map, or for another role */
    pqi_conn_back(c->node, c->conn);
    c->conn = NULL;
    if (now >= c->hope_until_ns) {
        pqi_err(&c->err, c->write ? PQR_E_NO_PRIMARY : PQR_E_CONNECT, "%s: %s",
                c->node->target->name, why);
        pqi_call_end_with_error(c);
        return;
    }
    pqi_call_none_happened(c);
    c->attempts--; /* nothing has failed */
    c->pause_until_ns = pqi_after_ms(now, PQI_PAUSE_MS);
    c->state = PQI_CALL_PAUSE;
}

/* Was it placed by what was known of another time of its node, with another role or before a restart?
 * Then the connection is a good one, but perhaps not for this call. */
static bool is_of_another_time(const struct pqi_call *c)
{
    return c->conn->generation != c->generation || pqi_conn_outdated(c->node, c->conn);
}

static void place_again(struct pqi_call *c)
{
    pqi_conn_back(c->node, c->conn);
    c->conn = NULL;
    c->attempts--;
    c->state = PQI_CALL_PLACE;
}

/* The handshake is in: may this connection be used, and is the map that placed the call still the
 * newest? A newer one is the monitor's to load; the call is then placed again. */
static void handshake_done(struct pqi_call *c)
{
    struct pqi_sighting seen;
    if (!pqi_conn_heard(c->node, c->conn, c->session->stamping, &seen)) {
        connect_failed(c);
        return;
    }
    pqi_conn_made(c->node, c->conn);
    c->conn->tainted |= c->session->stamping; /* whose it is was not looked at */
    if (!c->session->stamping && pqi_shard_admit(c->node, &seen, c->write, &c->err) != PQR_OK) {
        c->conn->tainted = true;
        pqi_conn_back(c->node, c->conn);
        c->conn = NULL;
        pqi_shard_look_again(c->shard);
        pqi_call_end_with_error(c);
        return;
    }
    const char *outdated = NULL;
    if (seen.stamp.map_version > c->map_version)
        outdated = "its stamp names a newer shard map than could be loaded";
    else if (!pqi_shard_recognises(c->node, &seen))
        outdated = "another server than was known answers there";
    else if (c->write && seen.role != PQR_ROLE_PRIMARY)
        outdated = "the server known as its primary is a replica";
    if (outdated)
        place_anew(c, outdated);
    else if (is_of_another_time(c))
        place_again(c);
    else
        pqi_call_attempt(c);
}

void pqi_call_connect_step(struct pqi_call *c, short revents)
{
    if (queued_too(c) == PQI_TICKET_GRANTED) {
        pqi_call_use_made(c, c->ticket.conn);
        return;
    }
    pqi_conn_step(c->conn, revents);
    bool made = c->conn->state == PQI_IDLE && c->state == PQI_CALL_HANDSHAKE;
    if (c->conn->state == PQI_DEAD || made)
        pqi_call_leave_queue(c);
    if (c->conn->state == PQI_DEAD) {
        connect_failed(c);
    } else if (c->conn->state == PQI_IDLE && c->state == PQI_CALL_CONNECT) {
        pqi_ask_handshake(c->conn, c->db->options);
        c->state = PQI_CALL_HANDSHAKE;
    } else if (made) {
        handshake_done(c);
    }
}

static void begin_connect(struct pqi_call *c)
{
    c->conn = pqi_conn_open(c->node, c->until_ns);
    if (!c->conn) {
        pqi_err(&c->err, PQR_E_NOMEM, "no memory for a connection");
        pqi_call_end_with_error(c);
        return;
    }
    c->state = PQI_CALL_CONNECT;
    pqi_call_connect_step(c, 0); /* it may have failed at once */
}

/* ---- Getting a connection ------------------------------------------------------------------- */

/* An idle connection may have been ended by the server, or be of a time before a failover: then
 * it never was, for the call. */
static void discard(struct pqi_call *c)
{
    pqi_count(c->db, discarded);
    pqi_call_drop_conn(c);
    pqi_call_acquire(c);
}

/* The session could not be cleaned, so nothing of the call has run. */
void pqi_call_uncleaned(struct pqi_call *c)
{
    if (++c->attempts < PQI_CLEANINGS_MAX) {
        discard(c);
        return;
    }
    pqi_err(&c->err, PQR_E_CONNECT, "%s: its sessions cannot be cleaned between callers: %s",
            c->node->target->name, c->conn->unclean);
    pqi_copy_text(c->err.sqlstate, sizeof c->err.sqlstate, c->conn->unclean_sqlstate);
    pqi_call_end_with_error(c);
}

/* A connection, or (NULL) a slot. */
static void use(struct pqi_call *c, struct pqi_conn *conn)
{
    c->conn = conn;
    if (conn)
        use_pooled(c);
    else
        begin_connect(c);
}

/* Another one than that which takes its time. */
static void use_other(struct pqi_call *c, struct pqi_conn *other)
{
    c->queued_too = false;
    pqi_conn_back(c->node, c->conn);
    use(c, other);
}

/* Nobody waits for long for what another has left, if there is another connection to be had or to be
 * opened; else for what comes first. */
void pqi_call_clean_late(struct pqi_call *c, int64_t now)
{
    struct pqi_conn *other = NULL;
    c->conn->slow = true;
    c->clean_ns = pqi_after_ms(now, CLEAN_MS);
    enum pqi_ticket_state queued = queued_too(c);
    if (queued == PQI_TICKET_GRANTED) {
        use_other(c, c->ticket.conn);
        return;
    }
    enum pqi_taken taken = PQI_TAKE_WAIT;
    if (queued == PQI_TICKET_REFUSED)
        taken = pqi_pool_take_other(&c->node->pool, &c->ticket, &other);
    c->queued_too = taken == PQI_TAKE_WAIT;
    if (taken == PQI_TAKE_CONN || taken == PQI_TAKE_SLOT)
        use_other(c, other);
    else if (now >= c->queue_until_ns)
        pqi_call_pool_timed_out(c);
}

/* What its last user left in the session must be gone first; it almost always is by now. */
void pqi_call_clean_step(struct pqi_call *c, short revents)
{
    pqi_conn_step(c->conn, revents);
    if (c->conn->state == PQI_BUSY) {
        if (queued_too(c) == PQI_TICKET_GRANTED)
            use_other(c, c->ticket.conn);
        return;
    }
    pqi_call_leave_queue(c);
    bool idle = c->conn->state == PQI_IDLE;
    if (c->conn->state == PQI_DEAD || (idle && !c->conn->uncleaned && pqi_conn_stale(c->conn)))
        discard(c);
    else if (idle && c->conn->uncleaned)
        pqi_call_uncleaned(c);
    else if (idle)
        pqi_call_attempt(c);
}

/* Who neither joins nor clears it itself must find a session as new. */
static bool clear_first(const struct pqi_call *c)
{
    return !c->conn->cleans && (c->lends || (c->partial && c->conn->deferred));
}

static void use_pooled(struct pqi_call *c)
{
    if (pqi_conn_outdated(c->node, c->conn) || pqi_conn_stale(c->conn)) {
        discard(c);
        return;
    }
    if (is_of_another_time(c)) {
        place_again(c);
        return;
    }
    if (clear_first(c))
        pqi_conn_clear(c->conn);
    if (c->conn->cleans) {
        c->state = PQI_CALL_CLEAN;
        c->clean_ns = pqi_after_ms(pqi_now_ns(), CLEAN_MS);
        pqi_call_clean_step(c, POLLIN);
    } else {
        pqi_call_attempt(c);
    }
}

static void pool_is_full(struct pqi_call *c)
{
    if (pqi_call_aborted(c)) {
        pqi_call_end_unsent(c, "waiting for a connection");
        return;
    }
    pqi_count(c->db, pool_full);
    pqi_err(&c->err, PQR_E_POOL_FULL,
            "%s: %lld calls wait for its %lld connections already: shed load, or raise "
            "DB_CONNECTION_LIMIT or DB_POOL_QUEUE_LIMIT",
            c->node->target->name, (long long)c->db->options->pool_queue_limit,
            (long long)c->db->options->connection_limit);
    pqi_call_end_with_error(c);
}

void pqi_call_acquire(struct pqi_call *c)
{
    if (pqi_call_board(c))
        return;
    switch (pqi_pool_take(&c->node->pool, &c->ticket, &c->conn)) {
    case PQI_TAKE_CONN:
        use_pooled(c);
        return;
    case PQI_TAKE_SLOT:
        begin_connect(c);
        return;
    case PQI_TAKE_WAIT:
        c->state = PQI_CALL_QUEUE;
        return;
    case PQI_TAKE_FULL:
        pool_is_full(c);
        return;
    }
}

void pqi_call_go_on(struct pqi_call *c, enum pqi_taken taken, struct pqi_conn *conn)
{
    use(c, taken == PQI_TAKE_CONN ? conn : NULL);
}

void pqi_call_pool_timed_out(struct pqi_call *c)
{
    pqi_count(c->db, pool_timeouts);
    pqi_err(&c->err, PQR_E_POOL_TIMEOUT,
            "%s: none of its %lld connections came free in %lld ms (DB_POOL_TIMEOUT): raise "
            "DB_CONNECTION_LIMIT if the server has room, or hold connections for less time",
            c->node->target->name, (long long)c->db->options->connection_limit,
            (long long)pqi_call_spent_ms(c));
    pqi_call_end_with_error(c);
}

void pqi_call_queue_step(struct pqi_call *c, int64_t now)
{
    enum pqi_ticket_state queued = pqi_pool_queued(&c->node->pool, &c->ticket);
    if (pqi_call_aborted(c) || now >= c->until_ns) {
        pqi_call_end_unsent(c,
                            "waiting for a connection"); /* also if it was granted one just now */
    } else if (queued == PQI_TICKET_GRANTED) {
        use(c, c->ticket.conn);
    } else if (queued == PQI_TICKET_REFUSED) {
        pool_is_full(c);
    } else if (now >= c->queue_until_ns) {
        pqi_call_pool_timed_out(c);
    } else if (!pqi_pool_stirred(&c->node->pool, &c->ticket)) {
        return; /* woken to look at something else: it keeps its place */
    } else if (pqi_pool_leave(&c->node->pool, &c->ticket)) {
        use(c, c->ticket.conn);
    } else { /* stirred: the node has left, perhaps another one can serve the call */
        c->attempts--;
        c->state = PQI_CALL_PLACE;
    }
}
