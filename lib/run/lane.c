/* Lanes: boarding, sending together, leading and handing over. */
#include "lane.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "../plan/guard.h"
#include "../wire/ask.h"
#include "conn.h"
#include "vitals.h"

#include <poll.h>
#include <string.h>

#define DEPTH 2 /* segments in flight: the server has the next one when it has answered one */
#define STILL (1 << 20) /* load enough that any other is taken before */
#define TOGETHER 16     /* fast statements: so many share a lane before the next one is used */
#define SEGMENT_MOST 64 /* riders of a segment */
#define SEGMENT_US 2000 /* about so long it may take: nobody is behind more than that */
#define SPARE_MS 500    /* unused for so long, it is for a group that has none */
#define UNSURE_MS 5     /* so long a statement that may be slow waits for fast ones */
#define OPENING_STUCK_MS 2000 /* longer than a login takes: its server may be silent */

/* ---- Choosing ------------------------------------------------------------------------------- */

/* Half of a node's connections at most, so that writes and transactions always have some. */
static int lanes_allowed(const struct pqi_node *node)
{
    int limit = (int)node->shard->db->options->connection_limit;
    int monitor = limit > 2 ? 1 : 0;
    return limit <= 2 ? 0 : (limit - monitor) / 2;
}

static struct pqi_lane *new_lane(struct pqi_group *g, struct pqi_node *node)
{
    struct pqi_lane *lane = pqi_mem_new(sizeof *lane);
    if (!lane)
        return NULL;
    lane->node = node;
    lane->group = g;
    lane->kick = -1;
    pthread_mutex_init(&lane->lock, NULL);
    pqi_list_init(&lane->pending);
    pqi_fair_init(&lane->fast);
    pqi_fair_init(&lane->unsure);
    pqi_list_init(&lane->sent);
    pqi_list_init(&lane->late);
    pqi_list_init(&lane->opening);
    if (g->driver && !(lane->side = g->driver->new_side(lane))) {
        pthread_mutex_destroy(&lane->lock);
        pqi_mem_free(lane);
        return NULL;
    }
    return lane;
}

/* One more lane for this group, unless it has its share. */
static struct pqi_lane *add_lane(struct pqi_group *g, struct pqi_node *node)
{
    struct pqi_lanes *lanes = &g->lanes[node->number];
    struct pqi_lane *lane = NULL;
    pthread_mutex_lock(&g->lock);
    int n = atomic_load(&lanes->n);
    if (n < (int)g->db->options->lanes && (lane = new_lane(g, node))) {
        lanes->lane[n] = lane;
        atomic_store(&lanes->n, n + 1);
    }
    pthread_mutex_unlock(&g->lock);
    return lane;
}

static void set_state(struct pqi_lane *lane, enum pqi_lane_state state)
{
    if (lane->state == PQI_LANE_CLOSED && state == PQI_LANE_OPENING)
        atomic_store(&lane->wanted_ns, pqi_now_ns());
    lane->state = state;
    atomic_store(&lane->state_now, state);
}

static bool has_room(const struct pqi_node *node)
{
    return atomic_load_explicit(&node->lanes, memory_order_relaxed) < lanes_allowed(node);
}

/* CLOSED → OPENING, if the node has room for another lane: all groups take from that at once. */
static bool begin_to_open(struct pqi_lane *lane)
{
    int lanes = atomic_load(&lane->node->lanes), allowed = lanes_allowed(lane->node);
    do
        if (lanes >= allowed)
            return false;
    while (!atomic_compare_exchange_weak(&lane->node->lanes, &lanes, lanes + 1));
    set_state(lane, PQI_LANE_OPENING);
    pqi_wanted_add(&lane->node->shard->db->wanted, lane);
    return true;
}

/* What it had of the node's room is free for others. */
static void set_closed(struct pqi_lane *lane)
{
    set_state(lane, PQI_LANE_CLOSED);
    atomic_fetch_sub(&lane->node->lanes, 1);
}

static bool want(struct pqi_lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    bool usable = lane->state != PQI_LANE_CLOSED || begin_to_open(lane);
    pthread_mutex_unlock(&lane->lock);
    return usable;
}

/* What is under way there, twice: one that is open beats one that is not yet. */
static int load_of(struct pqi_lane *lane, int state)
{
    return atomic_load_explicit(&lane->load, memory_order_relaxed) * 2 +
           (state == PQI_LANE_OPENING) +
           (atomic_load_explicit(&lane->still, memory_order_relaxed) ? STILL : 0);
}

/* Fast statements go together: each time the server and the caller are woken for several, which costs
 * more than they do. Others go where least is under way. */
struct pqi_lane *pqi_lane_choose(struct pqi_group *g, struct pqi_node *node, bool fast)
{
    struct pqi_lanes *lanes = &g->lanes[node->number];
    struct pqi_lane *best = NULL, *closed = NULL;
    int least = INT32_MAX, n = atomic_load_explicit(&lanes->n, memory_order_acquire);
    for (int i = 0; i < n; i++) {
        struct pqi_lane *lane = lanes->lane[i];
        int state = atomic_load_explicit(&lane->state_now, memory_order_relaxed);
        int load = load_of(lane, state);
        if (fast && state == PQI_LANE_OPEN && load < TOGETHER * 2 &&
            atomic_load_explicit(&lane->unknown, memory_order_relaxed) == 0)
            return lane;
        if (state == PQI_LANE_CLOSED) {
            closed = lane;
        } else if (load < least) {
            best = lane;
            least = load;
        }
    }
    if (best && least == 0)
        return best;
    if (lanes_allowed(node) == 0 || g->db->options->lanes == 0)
        return NULL;
    /* All are busy: another one would serve the next. */
    if (has_room(node)) {
        if (!closed)
            closed = add_lane(g, node);
        if (closed && want(closed) && (!best || least >= STILL))
            best = closed;
    }
    if (!best && !atomic_load_explicit(&node->starved, memory_order_relaxed))
        atomic_store_explicit(&node->starved, true, memory_order_relaxed);
    return best;
}

struct pqi_lane *pqi_lane_moving(struct pqi_group *g, const struct pqi_node *node)
{
    struct pqi_lanes *lanes = &g->lanes[node->number];
    struct pqi_lane *best = NULL;
    int least = STILL, n = atomic_load_explicit(&lanes->n, memory_order_acquire);
    for (int i = 0; i < n; i++) {
        struct pqi_lane *lane = lanes->lane[i];
        int state = atomic_load_explicit(&lane->state_now, memory_order_relaxed);
        int load = load_of(lane, state);
        if (state == PQI_LANE_OPEN && load < least) {
            best = lane;
            least = load;
        }
    }
    return best;
}

/* ---- Getting off ---------------------------------------------------------------------------- */

static struct pqi_fair *turns_of(struct pqi_lane *lane, const struct pqi_rider *r)
{
    return r->class_ == PQI_PACE_FAST ? &lane->fast : &lane->unsure;
}

/* `sent`: it goes to the server now; else, if it was pending, its tenant has not had its turn. */
static void take_out(struct pqi_lane *lane, struct pqi_rider *r, bool sent)
{
    pqi_list_remove(&r->link);
    if (r->state != PQI_RIDE_PENDING || r->late)
        return;
    pqi_fair_leave(turns_of(lane, r), &r->turn, sent);
    lane->npending--;
}

static void count_load(struct pqi_lane *lane, const struct pqi_rider *r, int by)
{
    atomic_fetch_add_explicit(&lane->load, by, memory_order_relaxed);
    if (r->class_ != PQI_PACE_FAST)
        atomic_fetch_add_explicit(&lane->unknown, by, memory_order_relaxed);
}

/* Takes a rider off, with its outcome; `out` collects who is to be told once the lock is free. */
static void get_off(struct pqi_lane *lane, struct pqi_rider *r, enum pqi_outcome outcome,
                    struct pqi_link *out)
{
    take_out(lane, r, false);
    pqi_present_leave(&lane->present, r->turn.tenant);
    r->state = PQI_RIDE_LEAVING;
    r->outcome = outcome;
    count_load(lane, r, -1);
    pqi_list_append(out, &r->link);
}

/* Tells them. A rider is its owner's again, and may be gone, as soon as it was told. */
static void tell(struct pqi_link *out)
{
    while (!pqi_list_empty(out)) {
        struct pqi_rider *r = pqi_container(out->next, struct pqi_rider, link);
        pqi_list_remove(&r->link);
        pqi_waiter_finish(r->waiter);
    }
}

static void lose(struct pqi_lane *lane, struct pqi_rider *r, struct pqi_link *out)
{
    r->trouble = lane->conn->trouble;
    pqi_job_reset(&r->job);
    get_off(lane, r, PQI_OUT_LOST, out);
}

static struct pqi_rider *first_of(struct pqi_link *list)
{
    return pqi_list_empty(list) ? NULL : pqi_container(list->next, struct pqi_rider, link);
}

static struct pqi_rider *first_rider(struct pqi_lane *lane)
{
    struct pqi_rider *r = first_of(&lane->sent);
    if (!r)
        r = first_of(&lane->pending);
    return r ? r : first_of(&lane->late);
}

/* Statements under way that nobody waits for any more still keep the lane busy. */
static void lay_ghosts(struct pqi_lane *lane)
{
    atomic_fetch_sub_explicit(&lane->load, lane->ghosts, memory_order_relaxed);
    atomic_fetch_sub_explicit(&lane->unknown, lane->unknown_ghosts, memory_order_relaxed);
    lane->ghosts = lane->unknown_ghosts = 0;
}

/* Whoever looked may have found that it does not move: it does. */
static void set_moving(struct pqi_lane *lane)
{
    lane->left = 0;
    if (atomic_load_explicit(&lane->still, memory_order_relaxed))
        atomic_store_explicit(&lane->still, false, memory_order_relaxed);
}

static void let_go(struct pqi_lane *lane)
{
    if (lane->group->driver)
        lane->group->driver->closing(lane);
    pqi_conn_give_up(lane->node, lane->conn);
    lane->conn = NULL;
}

/* The connection is gone: with it go those that rode on it. Those that only waited for it wait
 * for the next one. */
static void close_lane(struct pqi_lane *lane, struct pqi_link *out)
{
    struct pqi_rider *r;
    while (pqi_conn_lost(lane->conn))
        ; /* the riders are in `sent` */
    while ((r = first_of(&lane->sent)))
        lose(lane, r, out);
    let_go(lane);
    lay_ghosts(lane);
    set_moving(lane);
    if (lane->led)
        pqi_flag_set(lane->kick); /* who leads waits for a socket that is no more */
    if (lane->npending == 0) {
        set_closed(lane);
        return;
    }
    set_state(lane, PQI_LANE_OPENING);
    pqi_wanted_add(&lane->node->shard->db->wanted, lane);
}

/* ---- Sending -------------------------------------------------------------------------------- */

static int segments(const struct pqi_lane *lane)
{
    const struct pqi_queue *q = &lane->conn->queue;
    return (int)(q->syncs_sent - q->syncs_received);
}

/* One statement that is not known to be fast lets what stands before it go ahead. */
static bool put(struct pqi_lane *lane, struct pqi_rider *r, bool first)
{
    take_out(lane, r, true);
    r->state = PQI_RIDE_SENT;
    pqi_list_append(&lane->sent, &r->link);
    return pqi_conn_put(lane->conn, &r->job, !first && r->class_ != PQI_PACE_FAST);
}

static struct pqi_rider *next_of(const struct pqi_fair *turns)
{
    struct pqi_fair_turn *turn = pqi_fair_next(turns);
    return turn ? pqi_container(turn, struct pqi_rider, turn) : NULL;
}

static struct pqi_rider *next_pending(struct pqi_lane *lane)
{
    struct pqi_rider *r = next_of(&lane->fast);
    return r ? r : next_of(&lane->unsure);
}

/* It would be too late when its answer comes: the server has better things to do. */
static void set_aside(struct pqi_lane *lane, struct pqi_rider *r)
{
    take_out(lane, r, false);
    r->late = true;
    pqi_list_append(&lane->late, &r->link);
}

/* Was it placed by what was known of another time of the node, with another role or before a restart? It
 * may have waited since then for this connection, which is of now. */
static bool is_of_another_time(const struct pqi_lane *lane, const struct pqi_rider *r)
{
    return r->generation != lane->conn->generation;
}

static void place_anew(struct pqi_lane *lane, struct pqi_rider *r, struct pqi_link *out)
{
    pqi_err(r->err, PQR_E_CONNECT, "%s: it has changed its role, or was restarted",
            lane->node->target->name);
    get_off(lane, r, PQI_OUT_ANEW, out);
}

/* Fast ones may come all the time: who waits for them to end has its turn behind some of them. */
static bool put_unsure(struct pqi_lane *lane, int64_t now)
{
    struct pqi_rider *r = next_of(&lane->unsure);
    bool due = r && now - r->since_ns >= UNSURE_MS * PQI_MS && !r->own_sync &&
               !is_of_another_time(lane, r) && r->until_ns - now >= r->cost_us * 1000;
    return !due || put(lane, r, false);
}

/* Those that are sent together share a Sync. One that was skipped once goes by itself; and of a
 * tenant that has many waiting only so many go that the others' answers do not wait for them. */
static void send_segment(struct pqi_lane *lane, struct pqi_link *out)
{
    int n = 0;
    uint64_t first = 0, share = pqi_present_share(&lane->present, SEGMENT_MOST);
    int64_t us = 0, now = pqi_now_ns();
    bool alone = false;
    for (struct pqi_rider *r; n < SEGMENT_MOST && !alone && (r = next_pending(lane));) {
        if (is_of_another_time(lane, r)) {
            place_anew(lane, r, out);
            continue;
        }
        if (r->until_ns - now < r->cost_us * 1000) {
            set_aside(lane, r);
            continue;
        }
        us += r->cost_us;
        if (n > 0 && (r->own_sync || us > SEGMENT_US || r->turn.round - first >= share))
            break;
        if (n == 0)
            first = r->turn.round;
        alone = r->own_sync;
        if (!put(lane, r, n++ == 0))
            return;
    }
    if (n > 0 && (alone || put_unsure(lane, now)))
        pqi_conn_sync(lane->conn);
}

/* A connection of another time (the node changed its role, was replaced) takes nobody any more. */
static bool outdated(const struct pqi_lane *lane)
{
    return pqi_conn_outdated(lane->node, lane->conn) || lane->conn->tainted || lane->retires;
}

static void pump(struct pqi_lane *lane, struct pqi_link *out)
{
    if (lane->state != PQI_LANE_OPEN)
        return;
    if (outdated(lane)) {
        if (pqi_queue_empty(&lane->conn->queue))
            close_lane(lane, out);
        return;
    }
    if (lane->rests && !pqi_queue_empty(&lane->conn->queue))
        return;
    while (lane->npending > 0 && lane->conn->state != PQI_DEAD && segments(lane) < DEPTH)
        send_segment(lane, out);
    if (lane->conn->state == PQI_DEAD)
        close_lane(lane, out);
}

void pqi_lane_pump(struct pqi_lane *lane)
{
    struct pqi_link out;
    pqi_list_init(&out);
    pthread_mutex_lock(&lane->lock);
    pump(lane, &out);
    pthread_mutex_unlock(&lane->lock);
    tell(&out);
}

static void append(struct pqi_lane *lane, struct pqi_rider *r)
{
    r->state = PQI_RIDE_PENDING;
    r->late = false;
    pqi_list_append(&lane->pending, &r->link);
    pqi_fair_join(turns_of(lane, r), &r->turn);
    lane->npending++;
}

/* The socket was too full for what was given to it: who leads must wait for room too. */
static void kick_if_full(struct pqi_lane *lane)
{
    if (lane->state == PQI_LANE_OPEN && lane->led && lane->kick >= 0 &&
        pqi_conn_events(lane->conn) & POLLOUT)
        pqi_flag_set(lane->kick);
}

bool pqi_lane_board(struct pqi_lane *lane, struct pqi_rider *r)
{
    struct pqi_link out;
    pqi_list_init(&out);
    count_load(lane, r, 1);
    pqi_waiter_reset(r->waiter);
    pthread_mutex_lock(&lane->lock);
    bool opens = lane->state == PQI_LANE_CLOSED;
    if (opens && !begin_to_open(lane)) {
        pthread_mutex_unlock(&lane->lock);
        count_load(lane, r, -1);
        return false;
    }
    r->lane = lane;
    r->own_sync = false;
    r->job.repaired = false;
    pqi_present_enter(&lane->present, r->turn.tenant);
    append(lane, r);
    if (!opens && lane->group->driver) {
        lane->group->driver->boarded(lane);
    } else if (!opens) {
        pump(lane, &out);
        kick_if_full(lane);
    }
    pthread_mutex_unlock(&lane->lock);
    tell(&out);
    return true;
}

/* ---- Answers -------------------------------------------------------------------------------- */

/* What answers with another tag than a read's was no read: the guard before it was deceived, and
 * the session may not be what it was. */
static void check_tags(struct pqi_lane *lane, const struct pqi_rider *r)
{
    for (int i = 0; i < r->job.n; i++)
        lane->conn->tainted |= r->job.answers[i].state == PQI_ANSWER_OK &&
                               !pqi_tag_allowed(pqi_answer_tag(&r->job.answers[i]), PQI_IN_READ);
}

/* The server sends what it has at a Sync, or when its buffer is full: so of those that came together
 * nobody knows who took how long. The first is measured, as if all had taken the same. */
static void measure(struct pqi_lane *lane, uint64_t first_hash, int64_t before_ns, int together)
{
    struct pqr *db = lane->node->shard->db;
    if (first_hash != 0)
        pqi_pace_note(&db->pace, first_hash, (lane->conn->moved_ns - before_ns) / 1000 / together);
}

static void take_ended(struct pqi_lane *lane, int64_t before_ns, struct pqi_link *out)
{
    uint64_t first_hash = 0;
    int together = 0;
    while (!pqi_list_empty(&lane->conn->ended)) {
        struct pqi_job *job = pqi_container(lane->conn->ended.next, struct pqi_job, link);
        struct pqi_rider *r = pqi_container(job, struct pqi_rider, job);
        pqi_list_remove(&job->link);
        if (job->again) {
            pqi_list_remove(&r->link);
            pqi_job_reset(job);
            r->own_sync = true;
            append(lane, r);
            continue;
        }
        check_tags(lane, r);
        if (together++ == 0)
            first_hash = r->hash;
        atomic_fetch_add_explicit(&lane->node->calls, 1, memory_order_relaxed);
        get_off(lane, r, PQI_OUT_ANSWERED, out);
    }
    if (together > 0)
        measure(lane, first_hash, before_ns, together);
}

/* What a function did to the session is seen in no answer: builds for development ask the server,
 * whenever the lane rests after it was used. */
static void look(struct pqi_lane *lane)
{
    if (!PQI_LOOK_AT_SESSIONS || lane->looked_at == lane->conn->ids)
        return;
    pqi_ask_look(lane->conn);
    lane->looked_at = lane->conn->ids;
    lane->looks = true;
}

static bool looks_the_same(struct pqi_lane *lane)
{
    lane->looks = false;
    return strcmp(lane->session, pqi_ask_looked(lane->conn)) == 0;
}

/* While nothing is under way the session must be as it was pinned. */
static void check_rest(struct pqi_lane *lane)
{
    if (lane->conn->state != PQI_IDLE)
        return;
    lane->idle_since_ns = lane->conn->moved_ns;
    lane->rests = false;
    lay_ghosts(lane);
    lane->conn->tainted |= pqi_conn_block(lane->conn) != PQI_BLOCK_NONE ||
                           !pqi_conn_reads_only(lane->conn);
}

static void step(struct pqi_lane *lane, short revents, struct pqi_link *out)
{
    if (lane->state != PQI_LANE_OPEN)
        return;
    int64_t before = lane->conn->moved_ns;
    if (lane->conn->state == PQI_BUSY)
        pqi_conn_step(lane->conn, revents);
    else if (revents)
        pqi_conn_fail(lane->conn, PQI_TROUBLE_LOST, "the server ended it");
    if (lane->conn->moved_ns != before)
        pqi_node_heard(lane->node, lane->conn->moved_ns);
    take_ended(lane, before, out);
    if (lane->conn->state == PQI_DEAD) {
        pqi_count(lane->node->shard->db, connections_lost);
        close_lane(lane, out);
        return;
    }
    /* The server tells of it before the Sync's answer: nothing is sent to such a session any more,
     * however busy it is. */
    if (lane->conn->moved_ns != before) {
        lane->conn->tainted |= !pqi_conn_reads_only(lane->conn);
        set_moving(lane);
    }
    check_rest(lane);
    pump(lane, out);
}

void pqi_lane_step(struct pqi_lane *lane, short revents)
{
    struct pqi_link out;
    pqi_list_init(&out);
    pthread_mutex_lock(&lane->lock);
    step(lane, revents, &out);
    pthread_mutex_unlock(&lane->lock);
    tell(&out);
}

int pqi_lane_fd(struct pqi_lane *lane, short *events)
{
    pthread_mutex_lock(&lane->lock);
    int fd = lane->state == PQI_LANE_OPEN ? pqi_conn_fd(lane->conn) : -1;
    *events = fd >= 0 ? pqi_conn_events(lane->conn) : 0;
    pthread_mutex_unlock(&lane->lock);
    return fd;
}

/* ---- Leading and handing over --------------------------------------------------------------- */

/* Somebody must lead while anybody rides: the first of them is woken and will see to it. Under
 * the lock: a rider that is on the lane cannot go away meanwhile. */
static void hand_over(struct pqi_lane *lane)
{
    struct pqi_rider *next = lane->led || lane->group->loop ? NULL : first_rider(lane);
    if (next && lane->state == PQI_LANE_OPEN)
        pqi_waiter_wake(next->waiter);
}

static bool aborting(const struct pqi_lane *lane)
{
    return atomic_load_explicit(&lane->node->shard->db->aborting, memory_order_relaxed);
}

/* Who leads may be a fiber that is not let go on, or a thread that was stopped, with everybody's
 * answers in the socket. Who has waited for a while takes them, and the lead from it. */
static void look_for_answers(struct pqi_lane *lane, struct pqi_link *out)
{
    if (!lane->led || lane->state != PQI_LANE_OPEN || lane->conn->state != PQI_BUSY)
        return;
    const struct pqi_conn *conn = lane->conn;
    int64_t before = conn->moved_ns;
    step(lane, POLLIN, out);
    if (lane->conn == conn && conn->moved_ns == before)
        return;
    lane->led = false;
    lane->term++;
    hand_over(lane);
}

/* Leads until it has its own outcome, or must go. Enters with the lock held, leaves without.
 * true: it has taken its own outcome. */
static bool lead(struct pqi_lane *lane, struct pqi_rider *r, int64_t until_ns)
{
    struct pqi_link out;
    bool mine = false, late = false;
    pqi_list_init(&out);
    uint32_t term = ++lane->term;
    lane->led = true;
    if (lane->kick < 0)
        lane->kick = pqi_flag_new();
    while (r->state != PQI_RIDE_LEAVING && lane->state == PQI_LANE_OPEN && !aborting(lane) &&
           !late) {
        const struct pqi_conn *conn = lane->conn;
        int64_t born_ns = conn->born_ns;
        int fd = pqi_conn_fd(conn), kick = lane->kick;
        short events = pqi_conn_events(lane->conn);
        pthread_mutex_unlock(&lane->lock);
        tell(&out);
        short revents = pqi_wait_fd(&lane->group->db->wait, fd, events, kick, until_ns);
        late = revents == 0 && pqi_now_ns() >= until_ns;
        pthread_mutex_lock(&lane->lock);
        if (lane->term != term) {
            pthread_mutex_unlock(&lane->lock);
            return false;
        }
        if (revents == 0 && !late)
            pqi_flag_clear(kick);
        bool rides = r->state != PQI_RIDE_LEAVING;
        if (lane->conn != conn || conn->born_ns != born_ns)
            revents = 0; /* the lane has another connection by now */
        step(lane, revents, &out);
        mine = rides && r->state == PQI_RIDE_LEAVING;
        late |= lane->conn == conn && conn->stepped_ns >= until_ns; /* while bytes keep coming */
    }
    if (mine)
        pqi_list_remove(&r->link); /* it need not be told */
    lane->led = false;
    hand_over(lane);
    pthread_mutex_unlock(&lane->lock);
    tell(&out);
    return mine;
}

void pqi_lane_wait(struct pqi_lane *lane, struct pqi_rider *r, int64_t until_ns)
{
    while (!pqi_waiter_finished(r->waiter)) {
        pthread_mutex_lock(&lane->lock);
        if (r->state != PQI_RIDE_LEAVING && lane->state == PQI_LANE_OPEN && !lane->led &&
            !aborting(lane)) {
            if (lead(lane, r, until_ns))
                pqi_waiter_finish(r->waiter);
        } else {
            pthread_mutex_unlock(&lane->lock);
            pqi_waiter_wait(r->waiter, &lane->group->db->wait, until_ns);
        }
        if (aborting(lane) || pqi_now_ns() >= until_ns)
            return;
    }
}

bool pqi_lane_leave(struct pqi_lane *lane, struct pqi_rider *r, bool *sent)
{
    pthread_mutex_lock(&lane->lock);
    bool leaves = r->state != PQI_RIDE_LEAVING;
    if (leaves) {
        if (sent)
            *sent = r->state == PQI_RIDE_SENT;
        take_out(lane, r, false);
        pqi_present_leave(&lane->present, r->turn.tenant);
        if (r->state == PQI_RIDE_SENT) {
            pqi_conn_abandon(lane->conn, &r->job);
            lane->ghosts++;
            lane->unknown_ghosts += r->class_ != PQI_PACE_FAST;
        } else {
            count_load(lane, r, -1);
        }
        r->lane = NULL;
        lane->left++;
        hand_over(lane);
    }
    pthread_mutex_unlock(&lane->lock);
    return leaves;
}

/* What stands at its head. false: nothing is under way. */
static bool head_of(const struct pqi_lane *lane, int64_t now_ns, struct pqi_head *out,
                    const struct pqi_rider **rider)
{
    const struct pqi_mark *mark = pqi_queue_head(&lane->conn->queue);
    if (!mark)
        return false;
    bool rides = mark->call && mark->call != &lane->conn->own;
    const struct pqi_rider *r = rides ? pqi_container(mark->call, struct pqi_rider, job) : NULL;
    *rider = r;
    *out = (struct pqi_head){.nobodys = !r,
                             .class_ = r ? r->class_ : PQI_PACE_UNKNOWN,
                             .hash = r ? r->hash : 0,
                             .still_ms = (now_ns - lane->conn->moved_ns) / PQI_MS,
                             .left = lane->left};
    return true;
}

/* It will never move: whoever rides there goes elsewhere, who only waits has the next connection. */
static void close_dead(struct pqi_lane *lane, struct pqi_link *out)
{
    pqi_conn_fail(lane->conn, PQI_TROUBLE_LOST,
                  "a statement that nobody waits for any more does not end there");
    close_lane(lane, out);
}

/* A look at a lane that does not move. */
static bool look_at_head(struct pqi_lane *lane, struct pqi_rider *r, int64_t now_ns,
                         struct pqi_link *out)
{
    struct pqi_head head;
    const struct pqi_rider *slow;
    if (lane->state != PQI_LANE_OPEN || !head_of(lane, now_ns, &head, &slow))
        return false;
    if (pqi_head_is_dead(&head)) {
        close_dead(lane, out);
        return false;
    }
    if (pqi_head_is_still(&head))
        atomic_store_explicit(&lane->still, true, memory_order_relaxed);
    return r->state != PQI_RIDE_LEAVING && slow != r && pqi_head_sends_away(&head, r->hash);
}

bool pqi_lane_stuck(struct pqi_lane *lane, struct pqi_rider *r, int64_t now_ns)
{
    struct pqi_link out;
    pqi_list_init(&out);
    pthread_mutex_lock(&lane->lock);
    look_for_answers(lane, &out);
    bool stuck = look_at_head(lane, r, now_ns, &out);
    if (lane->state == PQI_LANE_OPENING && r->state != PQI_RIDE_LEAVING)
        stuck = now_ns - atomic_load(&lane->wanted_ns) >= OPENING_STUCK_MS * PQI_MS &&
                !atomic_load(&lane->queued); /* else it would stand in the same queue, behind it */
    pthread_mutex_unlock(&lane->lock);
    tell(&out);
    return stuck;
}

bool pqi_lane_opening(struct pqi_lane *lane)
{
    return atomic_load(&lane->state_now) == PQI_LANE_OPENING;
}

/* Nobody uses it any more. */
static void bury(struct pqi_lane *lane, bool forked)
{
    if (lane->conn && forked)
        pqi_conn_orphan(lane->conn);
    else if (lane->conn)
        pqi_conn_give_up(lane->node, lane->conn);
    if (!forked && lane->state != PQI_LANE_CLOSED)
        set_closed(lane);
    pqi_flag_close(lane->kick);
    pthread_mutex_destroy(&lane->lock);
    pqi_mem_free(lane);
}

/* ---- Opening and closing -------------------------------------------------------------------- */

void pqi_lane_install(struct pqi_lane *lane, struct pqi_conn *conn)
{
    struct pqi_link out;
    pqi_list_init(&out);
    pthread_mutex_lock(&lane->lock);
    lane->conn = conn;
    lane->idle_since_ns = pqi_now_ns();
    lane->looked_at = conn->ids;
    lane->looks = lane->rests = lane->retires = false;
    if (PQI_LOOK_AT_SESSIONS)
        pqi_copy_text(lane->session, sizeof lane->session, pqi_ask_looked(conn));
    set_state(lane, PQI_LANE_OPEN);
    bool orphan = lane->orphan;
    if (!orphan && lane->group->driver) {
        lane->group->driver->opened(lane);
    } else if (!orphan) {
        pump(lane, &out);
        hand_over(lane);
    }
    pthread_mutex_unlock(&lane->lock);
    tell(&out);
    if (orphan)
        bury(lane, false);
}

void pqi_lane_fail(struct pqi_lane *lane, enum pqi_outcome outcome,
                   const struct pqi_trouble *trouble, const pqr_error *err)
{
    struct pqi_link out;
    struct pqi_rider *r;
    pqi_list_init(&out);
    pthread_mutex_lock(&lane->lock);
    while ((r = first_rider(lane))) {
        if (trouble)
            r->trouble = *trouble;
        if (err)
            *r->err = *err;
        get_off(lane, r, outcome, &out);
    }
    set_closed(lane);
    bool orphan = lane->orphan;
    pthread_mutex_unlock(&lane->lock);
    tell(&out);
    if (orphan)
        bury(lane, false);
}

/* One that is always busy comes to rest for a moment now and then, where what is checked at rest can
 * be; too old, it ends then. */
static void have_rest(struct pqi_lane *lane, int64_t born_ns)
{
    lane->rests = true;
    lane->retires |= lane->conn->born_ns < born_ns;
}

/* Has another group none, while this one was not used lately? */
static bool is_owed(struct pqi_lane *lane)
{
    return pqi_now_ns() - lane->idle_since_ns >= SPARE_MS * PQI_MS &&
           atomic_exchange(&lane->node->starved, false);
}

void pqi_lane_sweep(struct pqi_lane *lane, int64_t idle_ns, int64_t born_ns)
{
    struct pqi_link out;
    bool changed = false;
    pqi_list_init(&out);
    pthread_mutex_lock(&lane->lock);
    if (lane->state == PQI_LANE_OPEN && !lane->led && !first_rider(lane)) {
        /* Abandoned answers may still be due: they are read here, as nobody else does. */
        int64_t before = lane->conn->moved_ns;
        if (lane->conn->state == PQI_BUSY)
            pqi_conn_step(lane->conn, POLLIN);
        if (lane->conn->moved_ns != before)
            set_moving(lane);
        check_rest(lane);
        bool done = lane->conn->state == PQI_IDLE;
        bool old = lane->idle_since_ns < idle_ns || lane->conn->born_ns < born_ns;
        bool frozen = !done && pqi_now_ns() - lane->conn->moved_ns > 1000 * PQI_MS;
        changed = done && lane->looks && !looks_the_same(lane);
        if (lane->conn->state == PQI_DEAD || frozen || changed ||
            (done && (old || outdated(lane) || pqi_conn_stale(lane->conn) || is_owed(lane))))
            close_lane(lane, &out);
        else if (done)
            look(lane);
    } else if (lane->state == PQI_LANE_OPEN) {
        have_rest(lane, born_ns);
    }
    pthread_mutex_unlock(&lane->lock);
    tell(&out);
    if (changed)
        pqi_log(&lane->node->shard->db->log, PQR_LOG_ERROR, "session",
                "%s: a read has left something in a session that reads share (a setting, a lock, a "
                "channel …): its connection is closed",
                lane->node->target->name);
}

void pqi_group_stir(struct pqi_group *g)
{
    for (int i = 0; i < g->db->nnodes; i++)
        for (int j = 0; j < atomic_load(&g->lanes[i].n); j++) {
            struct pqi_lane *lane = g->lanes[i].lane[j];
            pthread_mutex_lock(&lane->lock);
            struct pqi_link *lists[] = {&lane->sent, &lane->pending, &lane->late};
            for (int k = 0; k < 3; k++)
                for (struct pqi_link *l = lists[k]->next; l != lists[k]; l = l->next)
                    pqi_waiter_wake(pqi_container(l, struct pqi_rider, link)->waiter);
            if (lane->kick >= 0)
                pqi_flag_set(lane->kick);
            pthread_mutex_unlock(&lane->lock);
        }
}

/* ---- Groups --------------------------------------------------------------------------------- */

bool pqi_group_init(struct pqi_group *g, struct pqr *db)
{
    g->db = db;
    pthread_mutex_init(&g->lock, NULL);
    g->lanes = pqi_mem_array((size_t)db->nnodes, sizeof *g->lanes);
    return g->lanes != NULL;
}

/* One that is being opened is the opener's until that has ended. */
static void free_lane(struct pqi_group *g, struct pqi_lane *lane, bool forked)
{
    bool opening = false;
    void *side = lane->side; /* from `orphan` on the lane may be freed by the opener */
    if (!forked) {
        pthread_mutex_lock(&lane->lock);
        if (lane->conn && g->driver)
            g->driver->closing(lane);
        opening = lane->orphan = lane->state == PQI_LANE_OPENING;
        pthread_mutex_unlock(&lane->lock);
    }
    if (g->driver)
        g->driver->free_side(side);
    if (!opening)
        bury(lane, forked);
}

void pqi_group_free(struct pqi_group *g, bool forked)
{
    if (!g->db)
        return;
    for (int i = 0; g->lanes && i < g->db->nnodes; i++)
        for (int j = 0; j < atomic_load(&g->lanes[i].n); j++)
            free_lane(g, g->lanes[i].lane[j], forked);
    pqi_mem_free(g->lanes);
    pthread_mutex_destroy(&g->lock);
    g->db = NULL;
}
