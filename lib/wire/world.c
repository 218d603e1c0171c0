/* The real world: clocks, chance, waiting, threads. */
#include "world.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

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

short pqi_wait_fd(int fd, short events, int abort_fd, int64_t until_ns)
{
    struct pollfd fds[2] = {{.fd = fd, .events = events}, {.fd = abort_fd, .events = POLLIN}};
    for (;;) {
        struct timespec t;
        int n = ppoll(fds, abort_fd >= 0 ? 2 : 1, time_left(until_ns, &t), NULL);
        if (n >= 0)
            return fds[0].revents;
        if (errno != EINTR)
            return POLLERR;
    }
}

void pqi_waiter_init(struct pqi_waiter *w)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->cond, &attr);
    pthread_condattr_destroy(&attr);
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

bool pqi_waiter_wait(struct pqi_waiter *w, int64_t until_ns)
{
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
