/* Opens the connections of lanes, and finishes those that callers have no time for.
 *
 *           adopted ──┬───────────┐
 *                     ▼           ▼
 *   QUEUE ──▶ CONNECT ──▶ HANDSHAKE ──▶ PIN ──▶ installed
 *     │                       └── no lane's ──▶ pooled
 *     └─────▶ CLEAN (a pooled one) ────▶┘ */
#include "opener.h"

#include "../base/bytes.h"
#include "../base/err.h"
#include "../base/mem.h"
#include "../wire/ask.h"
#include "conn.h"
#include "lane.h"
#include "map.h"
#include "shard.h"

#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#define MOST_EVENTS 32
#define CLEAN_MS 10 /* so long it waits for a clean-up, until it looks for another connection */

struct opening {
    struct pqi_link link;
    struct pqi_opener *opener;
    struct pqi_node *node;
    struct pqi_lane *lane; /* NULL: it is for the pool */
    struct pqi_conn *conn;
    enum { QUEUE, CLEAN, CONNECT, HANDSHAKE, PIN } state;
    struct pqi_ticket ticket;
    struct pqi_waiter waiter;
    bool queued_too;  /* CLEAN: it stands in the queue besides */
    int64_t clean_ns; /* CLEAN: when it looks for another connection */
    int64_t until_ns;
    int fd; /* registered; -1: none */
    bool lookup;
};

struct pqi_opener {
    struct pqr *db;
    int epoll;
    bool watches; /* what is wanted */
    struct pqi_link openings;
    pthread_mutex_t lock;    /* guards … */
    struct pqi_link adopted; /* openings that other threads have put here */
};

struct pqi_opener *pqi_opener_new(struct pqr *db)
{
    struct pqi_opener *o = pqi_mem_new(sizeof *o);
    if (!o)
        return NULL;
    o->db = db;
    o->epoll = -1;
    pqi_list_init(&o->openings);
    pqi_list_init(&o->adopted);
    pthread_mutex_init(&o->lock, NULL);
    return o;
}

bool pqi_opener_begin(struct pqi_opener *o)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    if (o->epoll < 0)
        o->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!o->watches && o->epoll >= 0 && pqi_wanted_begin(&o->db->wanted))
        o->watches = epoll_ctl(o->epoll, EPOLL_CTL_ADD, o->db->wanted.flag, &ev) == 0;
    return o->watches;
}

int pqi_opener_fd(const struct pqi_opener *o)
{
    return o->epoll;
}

/* ---- One of them ---------------------------------------------------------------------------- */

static void unwatch(struct opening *x)
{
    if (x->fd >= 0 && x->conn && (x->lookup || pqi_conn_fd(x->conn) == x->fd))
        epoll_ctl(x->opener->epoll, EPOLL_CTL_DEL, x->fd, NULL);
    x->fd = -1;
}

/* libpq may replace its socket while it connects, perhaps by one of the same number. */
static void watch(struct opening *x)
{
    int fd = pqi_conn_fd(x->conn);
    bool lookup = x->conn->state == PQI_RESOLVING;
    if (x->fd >= 0 && (x->fd != fd || x->lookup != lookup))
        unwatch(x);
    short events = pqi_conn_events(x->conn);
    struct epoll_event ev = {.events = (events & POLLIN ? EPOLLIN : 0u) |
                                       (events & POLLOUT ? EPOLLOUT : 0u),
                             .data.ptr = x};
    if (epoll_ctl(x->opener->epoll, EPOLL_CTL_MOD, fd, &ev) != 0)
        epoll_ctl(x->opener->epoll, EPOLL_CTL_ADD, fd, &ev);
    x->fd = fd;
    x->lookup = lookup;
}

static void end(struct opening *x)
{
    pqi_list_remove(&x->link);
    pqi_waiter_free(&x->waiter);
    pqi_mem_free(x);
}

static void drop(struct opening *x)
{
    if (!x->conn)
        return;
    unwatch(x);
    pqi_conn_give_up(x->node, x->conn);
    x->conn = NULL;
}

/* Those who wait for the lane wait for the pool then. Said before it is asked for, so that the grant,
 * which may come from any thread, has the last word. */
static void say_queued(struct opening *x, bool queued)
{
    if (!queued && atomic_load(&x->lane->queued)) /* only now it begins to open */
        atomic_store(&x->lane->wanted_ns, pqi_now_ns());
    atomic_store(&x->lane->queued, queued);
}

/* Gives up its place in the queue, and what it may have got there. */
static void leave_queue(struct opening *x)
{
    struct pqi_node *node = x->node;
    bool queued = x->queued_too;
    x->queued_too = false;
    if (queued)
        say_queued(x, false);
    if (!queued || !pqi_pool_leave(&node->pool, &x->ticket))
        return;
    if (x->ticket.conn)
        pqi_conn_back(node, x->ticket.conn);
    else
        pqi_pool_release(&node->pool);
}

static void fail(struct opening *x, enum pqi_outcome outcome, const pqr_error *err)
{
    leave_queue(x);
    struct pqi_lane *lane = x->lane;
    struct pqi_trouble trouble = {0};
    if (x->conn)
        trouble = x->conn->trouble;
    drop(x);
    end(x);
    if (lane)
        pqi_lane_fail(lane, outcome, &trouble, err);
}

static void fail_connect(struct opening *x)
{
    struct pqi_node *node = x->node;
    pqi_count(x->opener->db, connects_failed);
    pqi_shard_troubled(node, &x->conn->trouble);
    if (x->conn->trouble.kind != PQI_TROUBLE_NOMEM)
        pqi_shard_look_again(node->shard);
    fail(x, PQI_OUT_TROUBLE, NULL);
}

static void anew(struct opening *x, const char *why)
{
    pqr_error err;
    pqi_shard_look_again(x->node->shard);
    pqi_err(&err, PQR_E_CONNECT, "%s: %s", x->node->target->name, why);
    fail(x, PQI_OUT_ANEW, &err);
}

/* Nobody waits for it. */
static void to_pool(struct opening *x)
{
    pqi_conn_back(x->node, x->conn);
    end(x);
}

/* The opening may have failed, and be gone, when this returns. */
static void pin(struct opening *x)
{
    x->state = PIN;
    x->until_ns = pqi_after_ms(pqi_now_ns(), x->opener->db->options->connect_timeout_ms);
    pqi_ask_pin_reads(x->conn);
    if (x->conn->state == PQI_DEAD)
        fail_connect(x);
    else
        watch(x);
}

static void handshake_done(struct opening *x)
{
    struct pqi_node *node = x->node;
    struct pqi_sighting seen;
    pqr_error err;
    if (!pqi_conn_heard(node, x->conn, false, &seen)) {
        fail_connect(x);
        return;
    }
    pqi_conn_made(node, x->conn);
    if (pqi_shard_admit(node, &seen, false, &err) != PQR_OK) {
        pqi_shard_look_again(node->shard);
        fail(x, PQI_OUT_REFUSED, &err);
    } else if (!pqi_map_newest(x->opener->db, seen.stamp.map_version)) {
        anew(x, "its stamp names a newer shard map than could be loaded");
    } else if (!pqi_shard_recognises(node, &seen)) {
        anew(x, "another server than was known answers there");
    } else if (!x->lane) {
        to_pool(x);
    } else {
        pin(x);
    }
}

static void pinned(struct opening *x)
{
    char why[200];
    if (!pqi_ask_pinned(x->conn, why, sizeof why)) {
        pqi_conn_fail(x->conn, PQI_TROUBLE_PROTOCOL, why);
        fail_connect(x);
        return;
    }
    struct pqi_lane *lane = x->lane;
    struct pqi_conn *conn = x->conn;
    unwatch(x);
    end(x);
    pqi_lane_install(lane, conn);
}

static void take(struct opening *x);

/* A pooled connection is no good after all: the next one, or a new one. */
static void discard(struct opening *x)
{
    pqi_count(x->opener->db, discarded);
    drop(x);
    take(x);
}

/* What its last user left in the session is gone, or not. */
static void cleaned(struct opening *x)
{
    leave_queue(x);
    if (x->conn->state == PQI_DEAD || x->conn->uncleaned || pqi_conn_stale(x->conn)) {
        discard(x);
        return;
    }
    pin(x);
}

/* libpq may close its socket, which would not take it out of the epoll while a child of fork() holds
 * it: so it is taken out first. */
static void conn_step(struct opening *x, short revents)
{
    unwatch(x);
    pqi_conn_step(x->conn, revents);
    if (x->state == CLEAN && x->conn->state != PQI_BUSY) {
        cleaned(x);
        return;
    }
    if (x->conn->state == PQI_IDLE && x->state == CONNECT) {
        pqi_ask_handshake(x->conn, x->opener->db->options);
        x->state = HANDSHAKE;
    }
    if (x->conn->state == PQI_DEAD)
        fail_connect(x);
    else if (x->conn->state != PQI_IDLE)
        watch(x);
    else if (x->state == HANDSHAKE)
        handshake_done(x);
    else
        pinned(x);
}

static void open_new(struct opening *x)
{
    x->conn = pqi_conn_open(x->node, PQI_FOREVER);
    if (!x->conn) {
        pqr_error err;
        pqi_err(&err, PQR_E_NOMEM, "no memory for a connection");
        fail(x, PQI_OUT_REFUSED, &err);
        return;
    }
    x->state = CONNECT;
    conn_step(x, 0);
}

/* A connection that is idle in the pool becomes the lane's, if it is still good; NULL: a slot, for
 * a new one. */
static void use(struct opening *x, struct pqi_conn *pooled)
{
    struct pqi_node *node = x->node;
    say_queued(x, false);
    x->conn = pooled;
    if (!pooled) {
        open_new(x);
    } else if (pqi_conn_outdated(node, pooled) || pqi_conn_stale(pooled)) {
        discard(x);
    } else if (pooled->cleans || pooled->deferred) {
        if (!pooled->cleans)
            pqi_conn_clear(pooled);
        x->state = CLEAN;
        x->clean_ns = pqi_after_ms(pqi_now_ns(), CLEAN_MS);
        x->until_ns = pqi_after_ms(pqi_now_ns(), x->opener->db->options->connect_timeout_ms);
        conn_step(x, POLLIN);
    } else {
        pin(x);
    }
}

static void take(struct opening *x)
{
    struct pqi_conn *conn = NULL;
    x->state = QUEUE;
    say_queued(x, true);
    switch (pqi_pool_take(&x->node->pool, &x->ticket, &conn)) {
    case PQI_TAKE_CONN:
    case PQI_TAKE_SLOT:
        use(x, conn);
        break;
    case PQI_TAKE_WAIT:
        break;
    case PQI_TAKE_FULL:
        anew(x, "its pool is full");
        break;
    }
}

/* It may have got something: the opener looks. */
static void on_granted(struct pqi_waiter *w)
{
    struct opening *x = pqi_container(w, struct opening, waiter);
    say_queued(x, false);
    pqi_flag_set(x->opener->db->wanted.flag);
}

static struct opening *new_opening(struct pqi_opener *o, struct pqi_node *node,
                                   struct pqi_lane *lane)
{
    struct opening *x = pqi_mem_new(sizeof *x);
    if (!x)
        return NULL;
    x->opener = o;
    x->node = node;
    x->lane = lane;
    x->fd = -1;
    pqi_waiter_init(&x->waiter);
    x->waiter.hook = on_granted;
    x->ticket.waiter = &x->waiter;
    pqi_list_init(&x->ticket.link);
    pqi_list_init(&x->link);
    return x;
}

static void start(struct pqi_opener *o, struct pqi_lane *lane)
{
    struct opening *x = new_opening(o, lane->node, lane);
    if (!x) {
        pqr_error err;
        pqi_err(&err, PQR_E_NOMEM, "no memory for a connection");
        pqi_lane_fail(lane, PQI_OUT_REFUSED, NULL, &err);
        return;
    }
    pqi_list_append(&o->openings, &x->link);
    take(x);
}

/* ---- Those of others ------------------------------------------------------------------------ */

bool pqi_opener_adopt(struct pqi_opener *o, struct pqi_node *node, struct pqi_conn *conn)
{
    if (atomic_load(&o->db->aborting) || !pqi_conn_pass_on(conn))
        return false;
    struct opening *x = new_opening(o, node, NULL);
    if (!x)
        return false;
    x->conn = conn;
    x->state = conn->state == PQI_CONNECTING ? CONNECT : HANDSHAKE;
    pthread_mutex_lock(&o->lock);
    pqi_list_append(&o->adopted, &x->link);
    pthread_mutex_unlock(&o->lock);
    pqi_flag_set(o->db->wanted.flag);
    return true;
}

static struct opening *next_adopted(struct pqi_opener *o)
{
    struct opening *x = NULL;
    pthread_mutex_lock(&o->lock);
    if (!pqi_list_empty(&o->adopted)) {
        x = pqi_container(o->adopted.next, struct opening, link);
        pqi_list_remove(&x->link);
        pqi_list_append(&o->openings, &x->link);
    }
    pthread_mutex_unlock(&o->lock);
    return x;
}

/* ---- All of them ---------------------------------------------------------------------------- */

/* Another one than that which takes its time. */
static void use_other(struct opening *x, struct pqi_conn *other)
{
    x->queued_too = false;
    unwatch(x);
    pqi_conn_back(x->node, x->conn);
    use(x, other);
}

/* Whoever waits for the lane need not wait for what another has left in a connection, if there is
 * another one; else for what comes first. That it takes so long says nothing of the server. */
static void clean_late(struct opening *x, int64_t now)
{
    struct pqi_conn *other = NULL;
    x->conn->slow = true;
    x->clean_ns = pqi_after_ms(now, CLEAN_MS);
    if (now >= x->until_ns) {
        leave_queue(x);
        discard(x);
        return;
    }
    if (x->queued_too)
        return;
    say_queued(x, true);
    enum pqi_taken taken = pqi_pool_take_other(&x->node->pool, &x->ticket, &other);
    x->queued_too = taken == PQI_TAKE_WAIT;
    if (taken == PQI_TAKE_FULL)
        say_queued(x, false);
    if (taken == PQI_TAKE_CONN || taken == PQI_TAKE_SLOT)
        use_other(x, other);
}

static void look_at_ticket(struct opening *x)
{
    enum pqi_ticket_state queued = pqi_pool_queued(&x->node->pool, &x->ticket);
    if (queued == PQI_TICKET_WAITS)
        return;
    if (x->queued_too && queued == PQI_TICKET_GRANTED)
        use_other(x, x->ticket.conn);
    else if (x->queued_too)
        leave_queue(x); /* refused: it was full */
    else if (queued == PQI_TICKET_GRANTED)
        use(x, x->ticket.conn);
    else
        anew(x, "its pool is full");
}

static void look_at_queued(struct pqi_opener *o)
{
    for (struct pqi_link *l = o->openings.next, *next; l != &o->openings; l = next) {
        struct opening *x = pqi_container(l, struct opening, link);
        next = l->next;
        if (x->state != QUEUE && !x->queued_too)
            continue;
        say_queued(x, true);
        look_at_ticket(x);
    }
}

static int64_t look_at_time(struct pqi_opener *o, int64_t now)
{
    int64_t due = PQI_FOREVER, ms = o->db->options->connect_timeout_ms;
    for (struct pqi_link *l = o->openings.next, *next; l != &o->openings; l = next) {
        struct opening *x = pqi_container(l, struct opening, link);
        next = l->next;
        if (x->state == QUEUE)
            continue;
        int64_t late = x->state == CLEAN ? x->clean_ns
                       : x->state == PIN ? x->until_ns
                                         : x->conn->connect_until_ns;
        if (late > now) {
            due = late < due ? late : due;
        } else if (x->state != CLEAN && now < pqi_after_ms(late, ms) &&
                   pqi_conn_may_go_on(x->conn)) {
            due = now; /* it is this thread that is late */
        } else if (x->state == CLEAN) {
            clean_late(x, now);
            due = pqi_after_ms(now, CLEAN_MS) < due ? pqi_after_ms(now, CLEAN_MS) : due;
        } else if (x->state == PIN) {
            pqi_conn_fail(x->conn, PQI_TROUBLE_TIMEOUT, "it does not answer");
            fail_connect(x);
        } else {
            pqi_conn_late(x->conn);
            if (x->conn->state != PQI_DEAD) /* its name's next address */
                x->state = CONNECT;
            conn_step(x, 0);
        }
    }
    return due;
}

static struct epoll_event *event_of(const struct opening *x, struct epoll_event *events, int n)
{
    for (int i = 0; i < n; i++)
        if (events[i].data.ptr == x)
            return &events[i];
    return NULL;
}

/* Those first that began first: to prove a password takes this thread milliseconds, and where all went
 * on together, none of many would be through before all were, or were out of time. So one that took
 * its time ends the round: meanwhile an older one may have got its next answer.
 * An event of none of them is of one that has ended: a child of fork() may hold its socket open. */
static void step_oldest(struct pqi_opener *o, struct epoll_event *events, int n)
{
    int64_t until_ns = pqi_after_ms(pqi_now_ns(), 1);
    for (struct pqi_link *l = o->openings.next, *next; l != &o->openings; l = next) {
        struct opening *x = pqi_container(l, struct opening, link);
        const struct epoll_event *ev = event_of(x, events, n);
        next = l->next;
        if (!ev || x->state == QUEUE)
            continue;
        uint32_t got = ev->events;
        conn_step(x, (short)((got & EPOLLIN ? POLLIN : 0) | (got & EPOLLOUT ? POLLOUT : 0) |
                             (got & (EPOLLERR | EPOLLHUP) ? POLLERR : 0)));
        if (pqi_now_ns() >= until_ns)
            return;
    }
}

int64_t pqi_opener_step(struct pqi_opener *o, int64_t now)
{
    struct epoll_event events[MOST_EVENTS];
    int n = epoll_wait(o->epoll, events, MOST_EVENTS, 0);
    if (event_of(NULL, events, n))
        pqi_flag_clear(o->db->wanted.flag);
    step_oldest(o, events, n);
    for (struct pqi_lane *lane; (lane = pqi_wanted_next(&o->db->wanted));)
        start(o, lane);
    for (struct opening *x; (x = next_adopted(o));)
        conn_step(x, 0);
    look_at_queued(o);
    return look_at_time(o, now);
}

static void give_up_all(struct pqi_opener *o)
{
    pqr_error err;
    pqi_err(&err, PQR_E_CLOSED, "the router was closed while a connection was opened");
    for (struct pqi_lane *lane; (lane = pqi_wanted_next(&o->db->wanted));)
        pqi_lane_fail(lane, PQI_OUT_REFUSED, NULL, &err);
    while (next_adopted(o))
        ;
    while (!pqi_list_empty(&o->openings)) {
        struct opening *x = pqi_container(o->openings.next, struct opening, link);
        struct pqi_pool *pool = &x->node->pool;
        if (x->state == QUEUE && pqi_pool_leave(pool, &x->ticket)) {
            if (x->ticket.conn)
                pqi_conn_give_up(x->node, x->ticket.conn);
            else
                pqi_pool_release(pool);
        }
        fail(x, PQI_OUT_REFUSED, &err);
    }
}

void pqi_opener_end(struct pqi_opener *o)
{
    give_up_all(o);
}

void pqi_opener_free(struct pqi_opener *o, bool forked)
{
    if (!o)
        return;
    /* In a child of fork() the lock may be held for good: then what it guards is left. */
    while (forked && pthread_mutex_trylock(&o->lock) == 0) {
        pthread_mutex_unlock(&o->lock);
        if (!next_adopted(o))
            break;
    }
    while (!pqi_list_empty(&o->openings)) { /* only in a child of fork() */
        struct opening *x = pqi_container(o->openings.next, struct opening, link);
        if (x->conn && forked)
            pqi_conn_orphan(x->conn);
        end(x);
    }
    if (o->epoll >= 0)
        close(o->epoll);
    pthread_mutex_destroy(&o->lock);
    pqi_mem_free(o);
}
