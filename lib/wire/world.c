/* The real world: clocks, chance, waiting, threads. */
#include "world.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define HOOK_MOST_MS 60000 /* no wait by the application's function is asked to last longer */
#define NO_FD_MS 10        /* so often is looked at what it has no descriptor for */
#define ABORT_LOOK_MS 100  /* and at a flag that it is not given */

int64_t pqi_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t pqi_after_ms(int64_t now_ns, int64_t ms)
{
    int64_t span, moment;
    if (__builtin_mul_overflow(ms, PQI_MS, &span) || __builtin_add_overflow(now_ns, span, &moment))
        return PQI_FOREVER;
    return moment;
}

/* In memory that the kernel clears in a child of fork(), however that was made; NULL: not yet had. */
static _Atomic(_Atomic pid_t *) own_pid;

static pid_t ask_pid(void)
{
    _Atomic pid_t *known = atomic_load(&own_pid), *unset = NULL;
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    if (!known) {
        void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED)
            return getpid();
        bool cleared = madvise(page, size, MADV_WIPEONFORK) == 0;
        if (cleared && atomic_compare_exchange_strong(&own_pid, &unset, page))
            known = page;
        else
            munmap(page, size);
    }
    if (!known)
        return getpid();
    atomic_store(known, getpid());
    return atomic_load(known);
}

pid_t pqi_pid(void)
{
    _Atomic pid_t *known = atomic_load_explicit(&own_pid, memory_order_acquire);
    pid_t pid = known ? atomic_load_explicit(known, memory_order_relaxed) : 0;
    return pid != 0 ? pid : ask_pid();
}

static _Atomic uint64_t chance;

void pqi_chance_anew(void)
{
    atomic_store(&chance, 0);
}

/* SplitMix64 (Steele, Lea, Flood 2014) over a counter that starts at a random place. */
uint64_t pqi_random(void)
{
    uint64_t seed = 0;
    if (atomic_load_explicit(&chance, memory_order_relaxed) == 0) {
        if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
            seed = (uint64_t)pqi_now_ns() ^ (uint64_t)getpid() << 32;
        uint64_t unset = 0;
        atomic_compare_exchange_strong(&chance, &unset, seed | 1);
    }
    uint64_t z = atomic_fetch_add_explicit(&chance, UINT64_C(0x9E3779B97F4A7C15),
                                           memory_order_relaxed);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* What is left until the moment, for ppoll; NULL: for ever. */
static const struct timespec *time_left(int64_t until_ns, struct timespec *t)
{
    if (until_ns == PQI_FOREVER)
        return NULL;
    int64_t left = until_ns - pqi_now_ns();
    if (left < 0)
        left = 0;
    t->tv_sec = (time_t)(left / 1000000000);
    t->tv_nsec = (long)(left % 1000000000);
    return t;
}

/* ---- Waiting for descriptors ---------------------------------------------------------------- */

static bool hooked(const struct pqi_wait *how)
{
    return how && how->fn;
}

/* Waits by the application's function, once. false: the moment had come already. Nothing of a
 * thread's own (errno) may be used across it: a fiber may go on in another thread. */
static bool hook(const struct pqi_wait *how, int fd, int64_t until_ns)
{
    int64_t left = until_ns == PQI_FOREVER ? INT64_MAX : until_ns - pqi_now_ns();
    if (left <= 0)
        return false;
    int64_t ms = left / PQI_MS + (left % PQI_MS > 0), most = fd < 0 ? NO_FD_MS : HOOK_MOST_MS;
    how->fn(how->arg, fd, (int)(ms < most ? ms : most));
    return true;
}

/* One descriptor for both (or none), made for one wait. Schedulers of fibers take a descriptor from one fiber
 * at a time, and not kindly that it goes away meanwhile: but others may close this socket, and a
 * look-up is waited for by many. -1: none is to be had. */
static int join(const struct pollfd fds[2])
{
    int both = epoll_create1(EPOLL_CLOEXEC);
    for (uint32_t i = 0; i < 2 && both >= 0; i++) {
        struct epoll_event ev = {.events = (fds[i].events & POLLIN ? EPOLLIN : 0u) |
                                           (fds[i].events & POLLOUT ? EPOLLOUT : 0u),
                                 .data.u32 = i};
        if (fds[i].fd >= 0 && epoll_ctl(both, EPOLL_CTL_ADD, fds[i].fd, &ev) != 0) {
            close(both);
            both = -1;
        }
    }
    return both;
}

/* Is anything ready? `revents` are the first one's. */
static bool look(int both, struct pollfd fds[2], short *revents)
{
    struct epoll_event ev[2];
    if (both < 0) {
        bool any = poll(fds, 2, 0) > 0;
        *revents = fds[0].revents;
        return any;
    }
    int n = epoll_wait(both, ev, 2, 0);
    *revents = 0;
    for (int i = 0; i < n; i++)
        if (ev[i].data.u32 == 0)
            *revents = (short)((ev[i].events & EPOLLIN ? POLLIN : 0) |
                               (ev[i].events & EPOLLOUT ? POLLOUT : 0) |
                               (ev[i].events & EPOLLERR ? POLLERR : 0) |
                               (ev[i].events & EPOLLHUP ? POLLHUP : 0));
    return n > 0;
}

static short wait_hooked(const struct pqi_wait *how, struct pollfd fds[2], int64_t until_ns)
{
    short revents = 0;
    int both = join(fds);
    bool more = true;
    while (more) {
        more = hook(how, both, until_ns);
        if (look(both, fds, &revents))
            break;
    }
    if (both >= 0)
        close(both);
    return revents;
}

short pqi_wait_fd(const struct pqi_wait *how, int fd, short events, int kick_fd, int64_t until_ns)
{
    struct pollfd fds[2] = {{.fd = fd, .events = events}, {.fd = kick_fd, .events = POLLIN}};
    if (hooked(how))
        return wait_hooked(how, fds, until_ns);
    for (;;) {
        struct timespec t;
        int n = ppoll(fds, kick_fd >= 0 ? 2 : 1, time_left(until_ns, &t), NULL);
        if (n >= 0)
            return fds[0].revents;
        if (errno != EINTR)
            return POLLERR;
    }
}

/* In the epolls of more than 500 fibers the flag may not be: so many ways lead from one descriptor
 * to an epoll two steps away, then Linux refuses the next (EINVAL, and to the application). */
short pqi_wait_or_abort(const struct pqi_wait *how, int fd, short events, int abort_fd,
                        int64_t until_ns)
{
    if (!hooked(how))
        return pqi_wait_fd(how, fd, events, abort_fd, until_ns);
    for (;;) {
        struct pollfd flag = {.fd = abort_fd, .events = POLLIN};
        int64_t look_ns = pqi_after_ms(pqi_now_ns(), ABORT_LOOK_MS);
        bool last = until_ns <= look_ns;
        short revents = pqi_wait_fd(how, fd, events, -1, last ? until_ns : look_ns);
        if (revents || last || poll(&flag, 1, 0) > 0)
            return revents;
    }
}

/* ---- Waiting to be woken -------------------------------------------------------------------- */

void pqi_waiter_init(struct pqi_waiter *w)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->cond, &attr);
    pthread_condattr_destroy(&attr);
    w->flag = -1;
    w->woken = w->finished = false;
    w->hook = NULL;
}

void pqi_waiter_free(struct pqi_waiter *w)
{
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->lock);
}

static void wake(struct pqi_waiter *w, bool finished)
{
    pthread_mutex_lock(&w->lock);
    w->woken = true;
    w->finished |= finished;
    if (w->hook)
        w->hook(w);
    else if (w->flag >= 0)
        pqi_flag_set(w->flag);
    else
        pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

void pqi_waiter_wake(struct pqi_waiter *w)
{
    wake(w, false);
}

void pqi_waiter_finish(struct pqi_waiter *w)
{
    wake(w, true);
}

bool pqi_waiter_finished(struct pqi_waiter *w)
{
    pthread_mutex_lock(&w->lock);
    bool finished = w->finished;
    pthread_mutex_unlock(&w->lock);
    return finished;
}

void pqi_waiter_reset(struct pqi_waiter *w)
{
    pthread_mutex_lock(&w->lock);
    w->woken = w->finished = false;
    pthread_mutex_unlock(&w->lock);
}

/* The flag is there only while it is waited for: threads, and calls that need not wait, have none. */
static bool waiter_wait_hooked(struct pqi_waiter *w, const struct pqi_wait *how, int64_t until_ns)
{
    int flag = pqi_flag_new();
    bool more = true;
    pthread_mutex_lock(&w->lock);
    w->flag = flag;
    while (!w->woken && more) {
        pthread_mutex_unlock(&w->lock);
        more = hook(how, flag, until_ns);
        pthread_mutex_lock(&w->lock);
    }
    bool woken = w->woken;
    w->woken = false;
    w->flag = -1;
    pthread_mutex_unlock(&w->lock);
    pqi_flag_close(flag);
    return woken;
}

bool pqi_waiter_wait(struct pqi_waiter *w, const struct pqi_wait *how, int64_t until_ns)
{
    if (hooked(how))
        return waiter_wait_hooked(w, how, until_ns);
    struct timespec t = {.tv_sec = (time_t)(until_ns / 1000000000),
                         .tv_nsec = (long)(until_ns % 1000000000)};
    pthread_mutex_lock(&w->lock);
    int status = 0;
    while (!w->woken && status != ETIMEDOUT)
        status = until_ns == PQI_FOREVER ? pthread_cond_wait(&w->cond, &w->lock)
                                         : pthread_cond_timedwait(&w->cond, &w->lock, &t);
    bool woken = w->woken;
    w->woken = false;
    pthread_mutex_unlock(&w->lock);
    return woken;
}

/* ---- Flags and threads ---------------------------------------------------------------------- */

int pqi_flag_new(void)
{
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void pqi_flag_set(int fd)
{
    uint64_t one = 1;
    while (fd >= 0 && write(fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void pqi_flag_clear(int fd)
{
    uint64_t count;
    while (read(fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
}

void pqi_flag_close(int fd)
{
    if (fd >= 0)
        close(fd);
}

bool pqi_thread_start(pthread_t *out, void *(*run)(void *), void *arg, bool detached)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int status = pthread_create(&thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (status != 0)
        return false;
    if (detached)
        pthread_detach(thread);
    if (out)
        *out = thread;
    return true;
}
