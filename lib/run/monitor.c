/* The monitor. One thread, one epoll: a probe a node, and the connections that part.
 *
 * A shard is looked at in rounds: its primary first, its replicas when the primary has answered
 * (or has kept silent for a moment), since a replica's lag is measured against the sample before. */
#include "monitor.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "../plan/hang.h"
#include "../plan/probe.h"
#include "conn.h"
#include "lane.h"
#include "map.h"
#include "opener.h"
#include "parting.h"
#include "shard.h"
#include "vitals.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define PRIMARY_HEAD_START_MS 50
#define FIRST_ROUNDS 4 /* at the start, rounds follow quickly until lags are known */
#define FIRST_ROUNDS_MS 15
#define YOUNG_MS 2000    /* so long after the grace at the most */
#define LOOK_AGAIN_MS 20 /* rounds that calls ask for are at least this far apart … */
#define TRY_AGAIN_MS 50  /* … and tries at a server that fails */
#define SWEEP_MS 500

/* What an epoll event points at. */
struct watch {
    enum { WATCH_FLAG, WATCH_PARTINGS, WATCH_OPENER, WATCH_PROBE } kind;
    int fd; /* registered; -1: none */
};

struct pqi_probe {
    struct watch watch;
    struct pqi_node *node;
    struct pqi_conn *conn;
    bool own_slot;       /* the monitor keeps a connection of its own in this pool */
    bool wants_conn;     /* waits for the pool */
    bool watches_lookup; /* the descriptor watched is its name's look-up */
    enum { ASKED_NOTHING, ASKED_SELF, ASKED_MAP } asked;
    bool told_quiet;  /* that what is under way is not answered */
    int failures;     /* in a row */
    int64_t again_ns; /* after a failure: when it is tried again */
    int64_t tried_ns;
    int64_t asked_ns, until_ns;
    int64_t answered_ns; /* ASKED_MAP: what was seen before, told when the map is in */
    struct pqi_sighting seen;
};

/* The rounds of one shard. */
struct round {
    struct pqi_shard *shard;
    int64_t due_ns, last_ns;
    int64_t replicas_due_ns; /* PQI_FOREVER: asked already */
    int count;
};

struct pqi_monitor {
    struct pqr *db;
    int epoll;
    struct watch flag, partings, opener;
    pthread_mutex_t lock; /* guards the start and `stop` */
    pthread_t thread;
    bool running, stop;
    struct pqi_probe *probes;
    int nprobes;
    struct round *rounds; /* one a shard; only the thread looks inside */
    int64_t sweep_due_ns;
};

/* ---- Making --------------------------------------------------------------------------------- */

static void count_nodes(struct pqr *db, int *n)
{
    *n = 0;
    for (int i = 0; i < db->ngroups; i++)
        *n += db->shards[i].n;
}

static void init_probe(struct pqi_monitor *m, struct pqi_node *node)
{
    struct pqi_probe *p = &m->probes[m->nprobes++];
    int limit = (int)m->db->options->connection_limit;
    *p = (struct pqi_probe){.watch = {WATCH_PROBE, -1}, .node = node, .own_slot = limit > 2};
    node->probe = p;
    pqi_pool_init(&node->pool, limit, m->db->options->pool_queue_limit, p->own_slot,
                  &m->db->monitor_flag);
    pqi_pool_bound(&node->pool, m->db->options->connect_rate);
}

static bool add_watch(struct pqi_monitor *m, struct watch *w)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = w};
    return epoll_ctl(m->epoll, EPOLL_CTL_ADD, w->fd, &ev) == 0 || errno == EEXIST;
}

int pqi_monitor_new(struct pqi_monitor **out, struct pqr *db, pqr_error *err)
{
    int n;
    count_nodes(db, &n);
    struct pqi_monitor *m = pqi_mem_new(sizeof *m);
    if (!m)
        return pqi_err(err, PQR_E_NOMEM, "no memory for the monitor");
    m->db = db;
    pthread_mutex_init(&m->lock, NULL);
    m->probes = pqi_mem_array((size_t)n, sizeof *m->probes);
    m->rounds = pqi_mem_array((size_t)db->ngroups, sizeof *m->rounds);
    m->epoll = -1;
    if (!m->probes || !m->rounds) {
        pqi_monitor_free(m, false);
        return pqi_err(err, PQR_E_NOMEM, "no memory for the monitor");
    }
    for (int i = 0; i < db->ngroups; i++) {
        m->rounds[i] = (struct round){.shard = &db->shards[i], .replicas_due_ns = PQI_FOREVER};
        for (int j = 0; j < db->shards[i].n; j++)
            init_probe(m, &db->shards[i].nodes[j]);
    }
    *out = m;
    return PQR_OK;
}

bool pqi_monitor_begin(struct pqi_monitor *m)
{
    m->flag = (struct watch){WATCH_FLAG, m->db->monitor_flag};
    m->partings = (struct watch){WATCH_PARTINGS, pqi_partings_fd(m->db->partings)};
    if (m->epoll < 0)
        m->epoll = epoll_create1(EPOLL_CLOEXEC);
    m->opener = (struct watch){WATCH_OPENER, pqi_opener_fd(m->db->opener)};
    return m->epoll >= 0 && add_watch(m, &m->flag) && add_watch(m, &m->partings) &&
           add_watch(m, &m->opener);
}

/* ---- Descriptors ---------------------------------------------------------------------------- */

/* No longer waits for the probe's connection. libpq closes a socket by itself when it gives up on
 * it, which takes it out of epoll too; its number may be another one's by now. */
static void unwatch(struct pqi_monitor *m, struct pqi_probe *p)
{
    struct watch *w = &p->watch;
    if (w->fd >= 0 && (p->watches_lookup || pqi_conn_fd(p->conn) == w->fd))
        epoll_ctl(m->epoll, EPOLL_CTL_DEL, w->fd, NULL);
    w->fd = -1;
}

/* Keeps epoll in step with what the connection waits for: first its name's look-up, then its
 * socket, which libpq may replace while it connects, perhaps by one of the same number. */
static void watch(struct pqi_monitor *m, struct pqi_probe *p)
{
    int fd = pqi_conn_fd(p->conn);
    bool lookup = p->conn->state == PQI_RESOLVING;
    if (p->watch.fd >= 0 && (p->watch.fd != fd || p->watches_lookup != lookup))
        unwatch(m, p);
    short events = pqi_conn_events(p->conn);
    struct epoll_event ev = {.events = (events & POLLIN ? EPOLLIN : 0u) |
                                       (events & POLLOUT ? EPOLLOUT : 0u),
                             .data.ptr = &p->watch};
    if (epoll_ctl(m->epoll, EPOLL_CTL_MOD, fd, &ev) != 0)
        epoll_ctl(m->epoll, EPOLL_CTL_ADD, fd, &ev);
    p->watch.fd = fd;
    p->watches_lookup = lookup;
}

/* ---- Probes --------------------------------------------------------------------------------- */

static int64_t patience_ms(const struct pqi_probe *p)
{
    int64_t interval = p->node->shard->db->options->health_interval_ms;
    return interval < 1000 ? 1000 : interval > 5000 ? 5000 : interval;
}

/* The connection is no good: parts with it. A slot of the monitor's own is taken again by the
 * next probe, once the server has let go. */
static void drop_conn(struct pqi_monitor *m, struct pqi_probe *p)
{
    unwatch(m, p);
    pqi_conn_give_up(p->node, p->conn);
    p->conn = NULL;
    p->asked = ASKED_NOTHING;
    p->own_slot = false;
    atomic_store(&p->node->asked_ns, 0);
}

static void ask(struct pqi_monitor *m, struct pqi_probe *p, int64_t now)
{
    if (p->conn->ready)
        pqi_ask_probe(p->conn);
    else
        pqi_ask_handshake(p->conn, m->db->options);
    p->asked = ASKED_SELF;
    p->asked_ns = now;
    p->told_quiet = false;
    int64_t none = 0; /* else since it began to connect */
    atomic_compare_exchange_strong(&p->node->asked_ns, &none, now);
    p->until_ns = pqi_after_ms(now, patience_ms(p));
}

/* A pooled connection that is still being cleaned up behind its last user was asked nothing. */
static bool only_cleans(const struct pqi_probe *p)
{
    return p->conn->cleans && p->asked == ASKED_NOTHING;
}

/* For how long the shard has been without a primary; -1: it has one. */
static int64_t missing_ms(struct pqi_shard *s, int64_t now)
{
    pthread_mutex_lock(&s->lock);
    int64_t since = s->missing_ns;
    pthread_mutex_unlock(&s->lock);
    return since > 0 ? (now > since ? (now - since) / PQI_MS : 0) : -1;
}

/* Servers that do not answer are left alone for longer and longer. */
static void back_off(struct pqi_monitor *m, struct pqi_probe *p)
{
    int64_t now = pqi_now_ns(), interval = m->db->options->health_interval_ms;
    p->failures++;
    p->again_ns = pqi_after_ms(
        now,
        pqi_probe_again_ms(interval, p->failures, missing_ms(p->node->shard, now), pqi_random()));
}

static void failed(struct pqi_monitor *m, struct pqi_probe *p)
{
    if (only_cleans(p)) { /* that says nothing of the server: another connection will do */
        drop_conn(m, p);
        p->wants_conn = true;
        return;
    }
    struct pqi_trouble trouble = p->conn->trouble;
    bool was_ready = p->conn->ready;
    drop_conn(m, p);
    if (!was_ready)
        pqi_count(m->db, connects_failed);
    pqi_shard_troubled(p->node, &trouble);
    if (was_ready) /* the link is gone, but perhaps not the server: connect anew at once */
        pqi_shard_look_again(p->node->shard);
    else
        back_off(m, p);
}

/* Tells what was seen, and lets go of a connection that is only borrowed. */
static void tell_shard(struct pqi_monitor *m, struct pqi_probe *p)
{
    p->asked = ASKED_NOTHING;
    p->failures = 0;
    atomic_store(&p->node->asked_ns, 0);
    pqi_node_heard(p->node, p->answered_ns);
    pqi_shard_sighted(p->node, &p->seen, p->asked_ns, p->answered_ns);
    if (p->own_slot)
        return;
    unwatch(m, p);
    pqi_conn_back(p->node, p->conn);
    p->conn = NULL;
}

static void answered_map(struct pqi_monitor *m, struct pqi_probe *p)
{
    struct pqi_map *map;
    pqr_error err;
    if (pqi_ask_read_map(p->conn, &map, &err) == PQR_OK)
        pqi_map_install(m->db, map);
    else
        pqi_log(&m->db->log, PQR_LOG_ERROR, "map_unusable", "%s: the shard map cannot be used: %s",
                p->node->target->name, err.message);
    tell_shard(m, p);
}

/* A newer map is loaded before the node counts as seen: no call is ever placed by the older one
 * once the newer is known. */
static void answered_self(struct pqi_monitor *m, struct pqi_probe *p, int64_t now)
{
    if (!pqi_conn_heard(p->node, p->conn, false, &p->seen)) {
        failed(m, p);
        return;
    }
    p->answered_ns = now;
    if (!p->conn->ready)
        pqi_conn_made(p->node, p->conn);
    if (p->seen.stamp.state == PQI_STAMP_READ &&
        pqi_stamp_check(&p->seen.stamp, &p->node->shard->expected, false, NULL) == PQR_OK &&
        p->seen.stamp.map_version > pqi_map_version(m->db)) {
        pqi_ask_map(p->conn);
        p->asked = ASKED_MAP;
    } else {
        tell_shard(m, p);
    }
}

/* libpq may close its socket, which would not take it out of the epoll while a child of fork() holds
 * it: so it is taken out first. */
static void step(struct pqi_monitor *m, struct pqi_probe *p, short revents, int64_t now)
{
    unwatch(m, p);
    pqi_conn_step(p->conn, revents);
    if (p->conn->state == PQI_IDLE && p->asked == ASKED_NOTHING)
        ask(m, p, now);
    else if (p->conn->state == PQI_IDLE && p->asked == ASKED_SELF)
        answered_self(m, p, now);
    else if (p->conn->state == PQI_IDLE)
        answered_map(m, p);
    if (p->conn && p->conn->state == PQI_DEAD)
        failed(m, p);
    if (p->conn) /* also while it is idle: the server's end is seen at once */
        watch(m, p);
}

static bool get_conn(struct pqi_monitor *m, struct pqi_probe *p, int64_t now)
{
    enum pqi_taken taken = PQI_TAKE_SLOT;
    if (!p->own_slot)
        taken = pqi_pool_take_for_monitor(&p->node->pool, &p->conn);
    p->wants_conn = taken == PQI_TAKE_WAIT;
    if (taken == PQI_TAKE_CONN &&
        (pqi_conn_outdated(p->node, p->conn) || pqi_conn_stale(p->conn))) {
        pqi_conn_give_up(p->node, p->conn);
        p->conn = NULL;
        p->wants_conn = true;
        return false;
    }
    p->until_ns = pqi_after_ms(now, patience_ms(p));
    p->asked_ns = now;
    if (taken == PQI_TAKE_SLOT) {
        p->own_slot = m->db->options->connection_limit > 2;
        p->conn = pqi_conn_open(p->node, p->until_ns);
        p->own_slot &= p->conn != NULL;
        p->told_quiet = false;
        atomic_store(&p->node->asked_ns, p->conn ? now : 0);
    }
    return p->conn != NULL;
}

static void probe(struct pqi_monitor *m, struct pqi_probe *p, int64_t now)
{
    if (p->asked || (p->conn && p->conn->state != PQI_IDLE))
        return; /* the last one is still under way */
    if (p->conn && pqi_shard_replaced(p->node))
        drop_conn(m, p);
    p->tried_ns = now;
    if (!p->conn && !get_conn(m, p, now))
        return;
    step(m, p, 0, now);
}

/* This thread may have been late itself: to prove passwords takes it milliseconds each, and there may be
 * many servers. Each has a quarter of the patience from when it was heard last, and ten times the patience
 * in all. */
static int64_t spared_ns(const struct pqi_probe *p, int64_t late_ns)
{
    int64_t patience = patience_ms(p), heard = pqi_after_ms(p->conn->stepped_ns, patience / 4);
    int64_t most = pqi_after_ms(late_ns, 10 * patience);
    return heard < late_ns ? late_ns : heard < most ? heard : most;
}

/* The monitor's patience ends, or that with the address being tried. */
static int64_t late_ns(const struct pqi_probe *p)
{
    bool connecting = !p->conn->ready && !p->asked;
    int64_t late = connecting && p->conn->connect_until_ns < p->until_ns ? p->conn->connect_until_ns
                                                                         : p->until_ns;
    return spared_ns(p, late);
}

/* It has answered, and this thread has not come to hear it yet. */
static bool is_heard_late(const struct pqi_probe *p, int64_t now)
{
    return now < pqi_after_ms(p->until_ns, 10 * patience_ms(p)) && pqi_conn_may_go_on(p->conn);
}

static void probe_late(struct pqi_monitor *m, struct pqi_probe *p, int64_t now)
{
    bool under_way = p->conn && (p->asked || p->conn->state != PQI_IDLE);
    if (!under_way || late_ns(p) > now || is_heard_late(p, now))
        return;
    if (!p->asked) {
        pqi_conn_late(p->conn);
    } else {
        char text[80];
        snprintf(text, sizeof text, "it accepts connections but does not answer, for %lld ms",
                 (long long)((now - p->asked_ns) / PQI_MS));
        p->conn->trouble.kind = PQI_TROUBLE_NONE;
        pqi_conn_fail(p->conn, PQI_TROUBLE_TIMEOUT, text);
    }
    step(m, p, 0, now); /* its name's next address, or it failed */
}

/* ---- Rounds --------------------------------------------------------------------------------- */

static bool lags_unknown(struct pqi_shard *s)
{
    bool unknown = false;
    for (int i = 0; i < s->n; i++) {
        const struct pqi_known *k = &s->nodes[i].known;
        unknown |= k->report.state == PQR_NODE_UP && k->report.role == PQR_ROLE_REPLICA &&
                   k->lag.ms < 0;
    }
    return unknown;
}

static int64_t next_round_ns(struct pqi_monitor *m, struct round *r, int64_t now)
{
    int64_t ms = m->db->options->health_interval_ms;
    pthread_mutex_lock(&r->shard->lock);
    bool young = now < pqi_after_ms(r->shard->grace_until_ns, YOUNG_MS);
    bool hurry = r->count < FIRST_ROUNDS || (young && lags_unknown(r->shard));
    pthread_mutex_unlock(&r->shard->lock);
    if (hurry)
        return pqi_after_ms(now, FIRST_ROUNDS_MS);
    return pqi_after_ms(now, pqi_probe_in_ms(ms, missing_ms(r->shard, now), pqi_random()));
}

/* Those that fail have their own time. */
static void probe_in_round(struct pqi_monitor *m, struct pqi_probe *p, int64_t now)
{
    if (p->failures == 0)
        probe(m, p, now);
}

static void probe_all(struct pqi_monitor *m, struct pqi_shard *s, int but, int64_t now)
{
    for (int i = 0; i < s->n; i++)
        if (i != but)
            probe_in_round(m, s->nodes[i].probe, now);
}

static void begin_round(struct pqi_monitor *m, struct round *r, int primary, int64_t now)
{
    struct pqi_shard *s = r->shard;
    r->count++;
    r->last_ns = now;
    r->due_ns = next_round_ns(m, r, now);
    if (primary < 0) {
        probe_all(m, s, -1, now);
        return;
    }
    probe_in_round(m, s->nodes[primary].probe, now);
    r->replicas_due_ns = pqi_after_ms(now, PRIMARY_HEAD_START_MS);
}

static bool primary_answered(const struct round *r, int primary)
{
    const struct pqi_probe *p = r->shard->nodes[primary].probe;
    return !p->asked && !(p->conn && p->conn->state != PQI_IDLE);
}

/* A server that failed is tried again when its time has come, or sooner when a call asks. */
static int64_t try_again(struct pqi_monitor *m, struct pqi_probe *p, bool asked, int64_t now)
{
    int64_t soonest = pqi_after_ms(p->tried_ns, TRY_AGAIN_MS);
    if (p->failures == 0)
        return PQI_FOREVER;
    if (asked && p->again_ns > soonest)
        p->again_ns = soonest;
    if (p->again_ns > now)
        return p->again_ns;
    p->again_ns = pqi_after_ms(now, 2 * patience_ms(p)); /* unless this try ends before */
    probe(m, p, now);
    return p->again_ns;
}

/* Calls wait in vain for what is well as far as one knows: it is asked at once. While that is under way,
 * too, its silence counts. Returns when to look again. */
static int64_t look_into_doubt(struct pqi_monitor *m, struct pqi_probe *p, int64_t now)
{
    struct pqi_node *node = p->node;
    int64_t doubted = atomic_load(&node->doubted_ns), heard = atomic_load(&node->heard_ns);
    if (doubted == 0 || p->failures > 0)
        return PQI_FOREVER;
    if (heard > doubted) {
        atomic_store(&node->doubted_ns, 0);
        return PQI_FOREVER;
    }
    probe(m, p, now);
    int64_t asked = atomic_load(&node->asked_ns);
    if (asked == 0 || p->told_quiet)
        return PQI_FOREVER;
    int64_t quiet = pqi_hang_quiet_ms(asked, heard, now);
    if (quiet < PQI_QUIET_MS)
        return pqi_after_ms(now, PQI_QUIET_MS - quiet);
    p->told_quiet = true;
    pqi_shard_quiet(node, quiet);
    return PQI_FOREVER;
}

/* Drives one shard's rounds; returns when it wants to be looked at again. */
static int64_t drive(struct pqi_monitor *m, struct round *r, int64_t now)
{
    struct pqi_shard *s = r->shard;
    pthread_mutex_lock(&s->lock);
    bool in_use = s->in_use, again = s->round_due_ns == 0;
    int primary = s->follow.verdict == PQI_PRIMARY_IS ? s->follow.node : -1;
    if (in_use)
        s->round_due_ns = PQI_FOREVER;
    pthread_mutex_unlock(&s->lock);
    if (!in_use)
        return PQI_FOREVER;
    int64_t soonest = pqi_after_ms(r->last_ns, LOOK_AGAIN_MS);
    if (again && r->count > 0 && r->due_ns > soonest)
        r->due_ns = soonest;
    if (r->replicas_due_ns != PQI_FOREVER &&
        (primary < 0 || r->replicas_due_ns <= now || primary_answered(r, primary))) {
        r->replicas_due_ns = PQI_FOREVER;
        probe_all(m, s, primary, now);
    }
    if (r->due_ns <= now)
        begin_round(m, r, primary, now);
    int64_t next = r->due_ns < r->replicas_due_ns ? r->due_ns : r->replicas_due_ns;
    for (int i = 0; i < s->n; i++) {
        struct pqi_probe *p = s->nodes[i].probe;
        int64_t again_ns = try_again(m, p, again, now);
        next = again_ns < next ? again_ns : next;
        int64_t doubt_ns = look_into_doubt(m, p, now);
        next = doubt_ns < next ? doubt_ns : next;
        probe_late(m, p, now);
        if (p->wants_conn)
            probe(m, p, now);
        int64_t late = p->conn && p->conn->state != PQI_IDLE ? late_ns(p) : PQI_FOREVER;
        next = late < next ? late : next;
    }
    return next;
}

/* Nobody takes these before others, to find out whether they are done. */
static void look_at_slow(struct pqi_node *node)
{
    for (struct pqi_conn *c; (c = pqi_pool_heard(&node->pool));) {
        pqi_conn_step(c, POLLIN);
        c->slow = c->state == PQI_BUSY;
        pqi_conn_back(node, c);
    }
}

static int64_t refill_pools(struct pqi_monitor *m, int64_t now)
{
    int64_t next = PQI_FOREVER;
    for (int i = 0; i < m->nprobes; i++) {
        int64_t due = pqi_pool_refill(&m->probes[i].node->pool, now);
        next = due < next ? due : next;
    }
    return next;
}

static void sweep(struct pqi_monitor *m, int64_t now)
{
    for (int i = 0; i < m->nprobes; i++) {
        struct pqi_node *node = m->probes[i].node;
        int64_t idle, born;
        pqi_conn_limits(m->db->options, now, &idle, &born);
        struct pqi_conn *c;
        while ((c = pqi_pool_expire(&node->pool, idle, born)))
            pqi_conn_give_up(node, c);
        look_at_slow(node);
        struct pqi_lanes *lanes = &m->db->threads.lanes[node->number];
        for (int j = 0; j < atomic_load(&lanes->n); j++)
            pqi_lane_sweep(lanes->lane[j], idle, born);
    }
}

/* ---- The thread ----------------------------------------------------------------------------- */

static bool stopping(struct pqi_monitor *m)
{
    pthread_mutex_lock(&m->lock);
    bool stop = m->stop;
    pthread_mutex_unlock(&m->lock);
    return stop;
}

static void handle(struct pqi_monitor *m, struct epoll_event *ev, int64_t now)
{
    struct watch *w = ev->data.ptr;
    switch (w->kind) {
    case WATCH_FLAG:
        pqi_flag_clear(w->fd);
        break;
    case WATCH_PROBE: {
        struct pqi_probe *p = pqi_container(w, struct pqi_probe, watch);
        short revents = (short)((ev->events & EPOLLIN ? POLLIN : 0) |
                                (ev->events & EPOLLOUT ? POLLOUT : 0) |
                                (ev->events & (EPOLLERR | EPOLLHUP) ? POLLERR : 0));
        if (p->conn && p->conn->state == PQI_IDLE) { /* something unasked: goodbye, most often */
            unwatch(m, p);
            pqi_shard_look_again(p->node->shard);
        } else if (p->conn) {
            step(m, p, revents, now);
        }
        break;
    }
    case WATCH_PARTINGS:
        pqi_partings_step(m->db->partings);
        break;
    case WATCH_OPENER: /* stepped in each turn */
        break;
    }
}

static int timeout_ms(int64_t next, int64_t now)
{
    if (next <= now)
        return 0;
    int64_t ms = (next - now + PQI_MS - 1) / PQI_MS;
    return ms > SWEEP_MS ? SWEEP_MS : (int)ms;
}

static void *run(void *arg)
{
    struct pqi_monitor *m = arg;
    while (!stopping(m)) {
        int64_t now = pqi_now_ns(), next = PQI_FOREVER;
        for (int i = 0; i < m->db->ngroups; i++) {
            int64_t due = drive(m, &m->rounds[i], now);
            next = due < next ? due : next;
        }
        int64_t due = pqi_opener_step(m->db->opener, now), refill = refill_pools(m, now);
        next = due < next ? due : next;
        next = refill < next ? refill : next;
        if (m->sweep_due_ns <= now) {
            sweep(m, now);
            pqi_partings_step(m->db->partings);
            m->sweep_due_ns = pqi_after_ms(now, SWEEP_MS);
        }
        struct epoll_event events[64];
        int n = epoll_wait(m->epoll, events, 64, timeout_ms(next, pqi_now_ns()));
        for (int i = 0; i < n; i++)
            handle(m, &events[i], pqi_now_ns());
    }
    return NULL;
}

static bool is_in_use(struct pqi_shard *s)
{
    pthread_mutex_lock(&s->lock);
    bool in_use = s->in_use;
    pthread_mutex_unlock(&s->lock);
    return in_use;
}

/* From its first shard on it runs, or no shard is in use: the next call tries again. */
int pqi_monitor_use(struct pqi_monitor *m, struct pqi_shard *s, pqr_error *err)
{
    if (is_in_use(s))
        return PQR_OK;
    pthread_mutex_lock(&m->lock);
    if (!m->running && !m->stop)
        m->running = pqi_thread_start(&m->thread, run, m, false);
    bool running = m->running;
    pthread_mutex_unlock(&m->lock);
    if (!running)
        return pqi_err(err, PQR_E_NOMEM, "no thread for the monitor");
    pthread_mutex_lock(&s->lock);
    if (!s->in_use)
        s->grace_until_ns = pqi_after_ms(pqi_now_ns(), 1000);
    s->in_use = true;
    pthread_mutex_unlock(&s->lock);
    pqi_flag_set(m->db->monitor_flag);
    return PQR_OK;
}

void pqi_monitor_stop(struct pqi_monitor *m)
{
    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    bool join = m->running && !m->stop;
    m->stop = true;
    pthread_mutex_unlock(&m->lock);
    if (!join)
        return;
    pqi_flag_set(m->db->monitor_flag);
    pthread_join(m->thread, NULL);
    pqi_opener_end(m->db->opener);
    for (int i = 0; i < m->nprobes; i++)
        if (m->probes[i].conn)
            drop_conn(m, &m->probes[i]);
}

void pqi_monitor_free(struct pqi_monitor *m, bool forked)
{
    if (!m)
        return;
    for (int i = 0; forked && i < m->nprobes; i++)
        if (m->probes[i].conn)
            pqi_conn_orphan(m->probes[i].conn);
    if (m->epoll >= 0)
        close(m->epoll);
    pqi_mem_free(m->probes);
    pqi_mem_free(m->rounds);
    pthread_mutex_destroy(&m->lock);
    pqi_mem_free(m);
}
