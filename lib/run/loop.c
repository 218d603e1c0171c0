/* An event loop's side of the router. One epoll with an eventfd and a timerfd in it, so that the
 * application waits for one descriptor. */
#include "loop.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "conn.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define SWEEP_MS 500
#define EVENTS 64
#define ROUNDS 4 /* of events in one dispatch: the application has other things to do too */

/* ---- Being woken ---------------------------------------------------------------------------- */

/* Makes the descriptor readable. Under the lock. */
static void signal_loop(struct pqr_loop *l)
{
    if (!l->signalled)
        pqi_flag_set(l->event.fd);
    l->signalled = true;
}

static void wake_loop(struct pqr_loop *l)
{
    pthread_mutex_lock(&l->lock);
    signal_loop(l);
    pthread_mutex_unlock(&l->lock);
}

/* A call's waiter was woken, by whatever thread. */
static void on_woken(struct pqi_waiter *w)
{
    struct pqr_call *c = pqi_container(w, struct pqr_call, op.call.waiter);
    struct pqr_loop *l = c->loop;
    pthread_mutex_lock(&l->lock);
    if (!c->is_woken && !c->is_done) {
        c->is_woken = true;
        pqi_list_append(&l->woken, &c->turn);
        atomic_store_explicit(&l->any_woken, true, memory_order_relaxed);
    }
    if (!l->dispatching)
        signal_loop(l);
    pthread_mutex_unlock(&l->lock);
}

void pqi_loop_stir(struct pqr_loop *l)
{
    pthread_mutex_lock(&l->lock);
    l->stirred = true;
    signal_loop(l);
    pthread_mutex_unlock(&l->lock);
}

/* ---- Descriptors ---------------------------------------------------------------------------- */

static void unwatch(struct pqr_loop *l, struct pqi_watch *w)
{
    if (w->fd >= 0)
        epoll_ctl(l->epoll, EPOLL_CTL_DEL, w->fd, NULL);
    w->fd = -1;
}

static bool watch(struct pqr_loop *l, struct pqi_watch *w, int fd, uint32_t events)
{
    if (w->fd == fd && w->events == events)
        return true;
    struct epoll_event ev = {.events = events, .data.ptr = w};
    int op = w->fd == fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (w->fd != fd)
        unwatch(l, w);
    w->fd = fd;
    w->events = events;
    return epoll_ctl(l->epoll, op, fd, &ev) == 0;
}

static uint32_t epoll_events(short events)
{
    return (events & POLLIN ? EPOLLIN : 0u) | (events & POLLOUT ? EPOLLOUT : 0u) | EPOLLRDHUP;
}

static short poll_events(uint32_t events)
{
    return (short)((events & EPOLLIN ? POLLIN : 0) | (events & EPOLLOUT ? POLLOUT : 0) |
                   (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP) ? POLLERR : 0));
}

/* ---- Lanes ---------------------------------------------------------------------------------- */

static struct pqi_loop_lane *side_of(struct pqi_lane *lane)
{
    return lane->side;
}

/* The group's: a lane has something to send. The loop's thread. */
static void on_boarded(struct pqi_lane *lane)
{
    struct pqr_loop *l = lane->group->loop;
    pqi_list_remove(&side_of(lane)->dirty);
    pqi_list_append(&l->dirty, &side_of(lane)->dirty);
}

/* The group's: a lane was opened, by the opener's thread. */
static void on_opened(struct pqi_lane *lane)
{
    struct pqr_loop *l = lane->group->loop;
    pthread_mutex_lock(&l->lock);
    l->lanes_came = true;
    signal_loop(l);
    pthread_mutex_unlock(&l->lock);
}

/* The group's: its connection is about to be closed. The loop's thread. */
static void on_closing(struct pqi_lane *lane)
{
    unwatch(lane->group->loop, &side_of(lane)->watch);
}

static void *new_side(struct pqi_lane *lane)
{
    struct pqi_loop_lane *side = pqi_mem_new(sizeof *side);
    if (!side)
        return NULL;
    side->lane = lane;
    side->watch = (struct pqi_watch){.kind = PQI_WATCH_LANE, .fd = -1};
    pqi_list_init(&side->dirty);
    return side;
}

static void free_side(void *side)
{
    pqi_mem_free(side);
}

static const struct pqi_group_driver driver = {
    .boarded = on_boarded,
    .opened = on_opened,
    .closing = on_closing,
    .new_side = new_side,
    .free_side = free_side,
};

static void watch_lane(struct pqr_loop *l, struct pqi_lane *lane)
{
    short events;
    int fd = pqi_lane_fd(lane, &events);
    if (fd >= 0)
        watch(l, &side_of(lane)->watch, fd, epoll_events((short)(events | POLLIN)));
}

/* Those that were opened may have been waited for. */
static void look_at_lane(struct pqr_loop *l, struct pqi_lane *lane)
{
    (void)l;
    on_boarded(lane);
}

static void pump(struct pqr_loop *l)
{
    while (!pqi_list_empty(&l->dirty)) {
        struct pqi_loop_lane *side = pqi_container(l->dirty.next, struct pqi_loop_lane, dirty);
        pqi_list_remove(&side->dirty);
        pqi_lane_pump(side->lane);
        watch_lane(l, side->lane);
    }
}

static void expect_sweep(struct pqr_loop *l)
{
    if (l->sweep_due_ns == PQI_FOREVER)
        l->sweep_due_ns = pqi_after_ms(pqi_now_ns(), SWEEP_MS);
}

static void each_lane(struct pqr_loop *l, void (*act)(struct pqr_loop *l, struct pqi_lane *lane))
{
    for (int i = 0; i < l->db->nnodes; i++)
        for (int j = 0; j < atomic_load(&l->group.lanes[i].n); j++)
            act(l, l->group.lanes[i].lane[j]);
}

static void sweep_lane(struct pqr_loop *l, struct pqi_lane *lane)
{
    int64_t idle, born;
    pqi_conn_limits(l->db->options, pqi_now_ns(), &idle, &born);
    pqi_lane_sweep(lane, idle, born);
    short events;
    if (pqi_lane_fd(lane, &events) >= 0)
        expect_sweep(l);
}

/* ---- Calls ---------------------------------------------------------------------------------- */

static void finish(struct pqr_loop *l, struct pqr_call *c)
{
    pqi_heap_remove(&l->timers, &c->timer);
    pthread_mutex_lock(&l->lock);
    pqi_list_remove(&c->turn);
    c->is_woken = false;
    c->is_done = true;
    pthread_mutex_unlock(&l->lock);
    pqi_list_append(&l->done, &c->turn);
}

/* Goes on with a call. Its descriptor is taken out first: the step may give the connection away,
 * and then it is another one's. */
static void drive(struct pqr_loop *l, struct pqr_call *c, short revents)
{
    if (c->is_done)
        return;
    unwatch(l, &c->watch);
    struct pqi_want want = pqi_call_step(&c->op.call, revents);
    if (want.done) {
        pqi_call_ended(&c->op.call);
        finish(l, c);
        return;
    }
    if (want.fd >= 0)
        watch(l, &c->watch, want.fd, epoll_events(want.events));
    if (want.until_ns != PQI_FOREVER)
        pqi_heap_set(&l->timers, &c->timer, want.until_ns);
    else
        pqi_heap_remove(&l->timers, &c->timer);
}

static struct pqr_call *next_woken(struct pqr_loop *l)
{
    struct pqr_call *c = NULL;
    if (!atomic_load_explicit(&l->any_woken, memory_order_relaxed))
        return NULL; /* one that is woken just now is seen at the end of the dispatch */
    pthread_mutex_lock(&l->lock);
    atomic_store_explicit(&l->any_woken, !pqi_list_empty(&l->woken), memory_order_relaxed);
    if (!pqi_list_empty(&l->woken)) {
        c = pqi_container(l->woken.next, struct pqr_call, turn);
        pqi_list_remove(&c->turn);
        c->is_woken = false;
    }
    pthread_mutex_unlock(&l->lock);
    return c;
}

static void drive_woken(struct pqr_loop *l)
{
    for (struct pqr_call *c; (c = next_woken(l));)
        drive(l, c, 0);
}

/* Each once: one that is due again at once must not keep the others from going on. */
static void drive_due(struct pqr_loop *l)
{
    int64_t now = pqi_now_ns();
    size_t left = l->timers.n;
    for (struct pqi_timer *t; left > 0 && (t = pqi_heap_first(&l->timers)) && t->at_ns <= now;
         left--) {
        pqi_heap_remove(&l->timers, t);
        drive(l, pqi_container(t, struct pqr_call, timer), 0);
    }
}

/* They are to end: but an answer that is there already is the better end. */
static void drive_all(struct pqr_loop *l)
{
    for (struct pqi_link *at = l->calls.next, *next; at != &l->calls; at = next) {
        next = at->next;
        drive(l, pqi_container(at, struct pqr_call, of_loop), POLLIN);
    }
}

/* The timer's descriptor is only ever set to come sooner; if it comes too soon, it is set anew. */
static void set_timer(struct pqr_loop *l)
{
    struct pqi_timer *first = pqi_heap_first(&l->timers);
    int64_t at = first ? first->at_ns : PQI_FOREVER;
    if (l->sweep_due_ns < at)
        at = l->sweep_due_ns;
    if (at >= l->timer_at_ns)
        return;
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)}};
    if (at <= 0)
        when.it_value.tv_nsec = 1;
    timerfd_settime(l->timer.fd, TFD_TIMER_ABSTIME, &when, NULL);
    l->timer_at_ns = at;
}

bool pqi_loop_has_room(struct pqr_loop *l)
{
    return pqi_heap_reserve(&l->timers, l->ncalls + 1);
}

void pqi_loop_submit(struct pqr_loop *l, struct pqr_call *c)
{
    c->loop = l;
    l->ncalls++;
    c->watch = (struct pqi_watch){.kind = PQI_WATCH_CALL, .fd = -1};
    c->op.call.waiter.hook = on_woken;
    pqi_list_init(&c->turn);
    pqi_list_append(&l->calls, &c->of_loop);
    drive(l, c, 0);
    if (l->dispatching)
        return;
    if (!pqi_list_empty(&l->dirty) || c->is_done)
        wake_loop(l); /* what is submitted until the next dispatch goes out together */
    set_timer(l);
}

void pqi_loop_post(struct pqr_loop *l, struct pqr_call *c)
{
    c->loop = l;
    c->is_done = true;
    l->ncalls++;
    pqi_list_append(&l->calls, &c->of_loop);
    pqi_list_append(&l->done, &c->turn);
    if (!l->dispatching)
        wake_loop(l);
}

void pqi_loop_cancel(struct pqr_call *c)
{
    struct pqr_loop *l = c->loop;
    if (c->is_done)
        return;
    c->op.call.cancelled = true;
    drive(l, c, POLLIN); /* its answer may be there already */
    if (l->dispatching)
        return;
    if (!pqi_list_empty(&l->dirty) || c->is_done)
        wake_loop(l);
    set_timer(l);
}

/* ---- Dispatching ---------------------------------------------------------------------------- */

static void handle(struct pqr_loop *l, struct pqi_watch *w, uint32_t events)
{
    uint64_t count;
    switch (w->kind) {
    case PQI_WATCH_EVENT:
        break;
    case PQI_WATCH_TIMER:
        while (read(w->fd, &count, sizeof count) < 0 && errno == EINTR)
            ;
        l->timer_at_ns = PQI_FOREVER;
        break;
    case PQI_WATCH_LANE: {
        struct pqi_lane *lane = pqi_container(w, struct pqi_loop_lane, watch)->lane;
        /* libpq closes a socket at its end, which does not take it out of the epoll while a child of
         * fork() holds it. */
        if (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP))
            unwatch(l, w);
        pqi_lane_step(lane, poll_events(events));
        watch_lane(l, lane);
        break;
    }
    case PQI_WATCH_CALL:
        drive(l, pqi_container(w, struct pqr_call, watch), poll_events(events));
        break;
    }
}

/* A step of one call or lane may end another one whose event was fetched beside it: such an event
 * points at a watch that is not registered any more, or is freed. So one by one, and calls are
 * freed only behind their callbacks, which come later. */
static bool take_events(struct pqr_loop *l)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(l->epoll, events, EVENTS, 0);
    for (int i = 0; i < n; i++) {
        struct pqi_watch *w = events[i].data.ptr;
        if (w->fd >= 0)
            handle(l, w, events[i].events);
    }
    return n > 0;
}

static void take_signals(struct pqr_loop *l)
{
    pthread_mutex_lock(&l->lock);
    bool came = l->lanes_came, stirred = l->stirred;
    if (l->signalled)
        pqi_flag_clear(l->event.fd);
    l->lanes_came = l->stirred = l->signalled = false;
    pthread_mutex_unlock(&l->lock);
    if (came) {
        each_lane(l, look_at_lane);
        expect_sweep(l);
    }
    if (stirred)
        drive_all(l);
}

static bool run_one(struct pqr_loop *l)
{
    if (pqi_list_empty(&l->done))
        return false;
    struct pqr_call *c = pqi_container(l->done.next, struct pqr_call, turn);
    pqi_list_remove(&c->turn);
    pqi_list_remove(&c->of_loop);
    l->ncalls--;
    c->over(c);
    return true;
}

static void sweep(struct pqr_loop *l)
{
    int64_t now = pqi_now_ns();
    if (l->sweep_due_ns > now)
        return;
    l->sweep_due_ns = PQI_FOREVER; /* unless one is still open */
    each_lane(l, sweep_lane);
}

static void set_dispatching(struct pqr_loop *l, bool is)
{
    pthread_mutex_lock(&l->lock);
    l->dispatching = is;
    pthread_mutex_unlock(&l->lock);
}

/* One round: what has come is taken, and what follows from it is done. */
static bool go_on(struct pqr_loop *l, int max, int *n)
{
    take_signals(l);
    bool came = take_events(l);
    drive_due(l);
    drive_woken(l);
    while ((max <= 0 || *n < max) && run_one(l)) {
        ++*n;
        drive_woken(l);
    }
    pump(l);
    drive_woken(l);
    return came;
}

/* Until a round finds no event: a descriptor may have more than was taken from it (libpq reads a
 * buffer at a time), and who waits for edges is not told of that again. */
int pqi_loop_dispatch(struct pqr_loop *l, int max)
{
    int n = 0;
    bool more = true;
    if (l->dispatching)
        return PQR_E_USAGE;
    set_dispatching(l, true);
    for (int round = 0; more && round < ROUNDS && (max <= 0 || n < max || round == 0); round++)
        more = go_on(l, max, &n) || !pqi_list_empty(&l->done);
    sweep(l);
    set_timer(l);
    set_dispatching(l, false);
    pthread_mutex_lock(&l->lock);
    if (more || !pqi_list_empty(&l->done) || !pqi_list_empty(&l->woken))
        signal_loop(l);
    pthread_mutex_unlock(&l->lock);
    return n;
}

/* ---- Opening and closing -------------------------------------------------------------------- */

static bool add(struct pqr_loop *l, struct pqi_watch *w, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = w};
    w->fd = fd;
    return fd >= 0 && l->epoll >= 0 && epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev) == 0;
}

static void free_loop(struct pqr_loop *l, bool forked)
{
    pqi_group_free(&l->group, forked);
    pqi_flag_close(l->event.fd);
    pqi_flag_close(l->timer.fd);
    if (l->epoll >= 0)
        close(l->epoll);
    pqi_heap_free(&l->timers);
    pqi_mem_free(l->spare);
    pthread_mutex_destroy(&l->lock);
    pqi_mem_free(l);
}

int pqi_loop_open(struct pqr *db, struct pqr_loop **out, pqr_error *err)
{
    struct pqr_loop *l = pqi_mem_new(sizeof *l);
    if (!l)
        return pqi_err(err, PQR_E_NOMEM, "no memory for a loop");
    l->db = db;
    l->timer_at_ns = l->sweep_due_ns = PQI_FOREVER;
    pthread_mutex_init(&l->lock, NULL);
    pqi_list_init(&l->calls);
    pqi_list_init(&l->done);
    pqi_list_init(&l->dirty);
    pqi_list_init(&l->woken);
    pqi_list_init(&l->works);
    l->event.kind = PQI_WATCH_EVENT;
    l->timer.kind = PQI_WATCH_TIMER;
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    bool made = add(l, &l->event, pqi_flag_new());
    made &= add(l, &l->timer, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    made &= pqi_group_init(&l->group, db);
    l->group.loop = l;
    l->group.driver = &driver;
    if (!made) {
        free_loop(l, false);
        return pqi_err(err, PQR_E_NOMEM, "no memory or descriptors for a loop");
    }
    pthread_mutex_lock(&db->gate_lock);
    pqi_list_append(&db->loops, &l->of_db);
    pthread_mutex_unlock(&db->gate_lock);
    *out = l;
    return PQR_OK;
}

void pqi_loop_end_calls(struct pqr_loop *l)
{
    l->closing = true;
    for (struct pqi_link *at = l->calls.next; at != &l->calls; at = at->next)
        pqi_container(at, struct pqr_call, of_loop)->op.call.cancelled = true;
    while (!pqi_list_empty(&l->calls)) {
        drive_all(l);
        pqi_loop_dispatch(l, 0);
    }
}

void pqi_loop_close(struct pqr_loop *l)
{
    struct pqr *db = l->db;
    pthread_mutex_lock(&db->gate_lock);
    pqi_list_remove(&l->of_db);
    pthread_mutex_unlock(&db->gate_lock);
    free_loop(l, false);
}

void pqi_loop_orphan(struct pqr_loop *l)
{
    free_loop(l, true);
}
