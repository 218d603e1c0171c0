/* The seam: wire/world.c's names, with virtual time, drawn chance and coroutines behind them; and the
 * few calls by which the library waits for the kernel itself (the linker hands them over, --wrap). */
#include "turns.h"

#include "../../lib/wire/world.h"

#include <errno.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

int64_t pqi_now_ns(void)
{
    return sim_now();
}

int64_t pqi_after_ms(int64_t now_ns, int64_t ms)
{
    int64_t span, moment;
    if (__builtin_mul_overflow(ms, PQI_MS, &span) || __builtin_add_overflow(now_ns, span, &moment))
        return PQI_FOREVER;
    return moment;
}

pid_t pqi_pid(void)
{
    return 1;
}

uint64_t pqi_random(void)
{
    return sim_draw(SIM_LIBRARY);
}

void pqi_chance_anew(void)
{
}

short pqi_wait_fd(const struct pqi_wait *how, int fd, short events, int kick_fd, int64_t until_ns)
{
    struct pollfd fds[2] = {{.fd = fd, .events = events}, {.fd = kick_fd, .events = POLLIN}};
    (void)how;
    sim_wait(fds, 2, NULL, until_ns);
    return fds[0].revents;
}

short pqi_wait_or_abort(const struct pqi_wait *how, int fd, short events, int abort_fd,
                        int64_t until_ns)
{
    return pqi_wait_fd(how, fd, events, abort_fd, until_ns);
}

int __real_close(int fd);
int __wrap_close(int fd);

/* ---- Waiting to be woken -------------------------------------------------------------------- */

void pqi_waiter_init(struct pqi_waiter *w)
{
    *w = (struct pqi_waiter){.flag = -1};
}

void pqi_waiter_free(struct pqi_waiter *w)
{
    (void)w;
}

void pqi_waiter_wake(struct pqi_waiter *w)
{
    w->woken = true;
    if (w->hook)
        w->hook(w);
}

void pqi_waiter_finish(struct pqi_waiter *w)
{
    w->finished = true;
    pqi_waiter_wake(w);
}

bool pqi_waiter_finished(struct pqi_waiter *w)
{
    return w->finished;
}

void pqi_waiter_reset(struct pqi_waiter *w)
{
    w->woken = w->finished = false;
}

bool pqi_waiter_wait(struct pqi_waiter *w, const struct pqi_wait *how, int64_t until_ns)
{
    (void)how;
    if (!w->woken)
        sim_wait(NULL, 0, &w->woken, until_ns);
    bool woken = w->woken;
    w->woken = false;
    return woken;
}

/* ---- Flags and threads ---------------------------------------------------------------------- */

int pqi_flag_new(void)
{
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void pqi_flag_set(int fd)
{
    if (fd >= 0)
        eventfd_write(fd, 1);
}

void pqi_flag_clear(int fd)
{
    eventfd_t count;
    eventfd_read(fd, &count);
}

void pqi_flag_close(int fd)
{
    if (fd >= 0)
        __wrap_close(fd);
}

struct start {
    void *(*run)(void *arg);
    void *arg;
};

static void run_thread(void *arg)
{
    struct start s = *(struct start *)arg;
    free(arg);
    s.run(s.arg);
}

bool pqi_thread_start(pthread_t *out, void *(*run)(void *), void *arg, bool detached)
{
    struct start *s = malloc(sizeof *s);
    if (!s)
        return false;
    *s = (struct start){run, arg};
    struct sim_thread *t = sim_spawn(detached ? "resolver" : "monitor", run_thread, s);
    if (out)
        *out = (pthread_t)(uintptr_t)t;
    return true;
}

int __wrap_pthread_join(pthread_t thread, void **value);
int __wrap_pthread_join(pthread_t thread, void **value)
{
    (void)value;
    sim_join((struct sim_thread *)(uintptr_t)thread);
    return 0;
}

int __wrap_sched_yield(void);
int __wrap_sched_yield(void)
{
    sim_sleep(1 * US);
    return 0;
}

/* ---- The kernel's waiting ------------------------------------------------------------------- */

int __real_epoll_wait(int fd, struct epoll_event *events, int most, int ms);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int most, int ms);
int __wrap_epoll_wait(int fd, struct epoll_event *events, int most, int ms)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    if (ms != 0)
        sim_wait(&one, 1, NULL, ms < 0 ? NEVER : sim_now() + ms * MS);
    return __real_epoll_wait(fd, events, most, 0);
}

/* A timer is an eventfd that is set when its moment has come. */
#define TIMERS_MAX 1024
static uint64_t armed[TIMERS_MAX]; /* by descriptor: how often it was set anew */

static void on_timer(void *arg, uint64_t tag)
{
    int fd = (int)(intptr_t)arg;
    if (armed[fd] == tag)
        pqi_flag_set(fd);
    sim_stir();
}

int __wrap_timerfd_create(int clock, int flags);
int __wrap_timerfd_create(int clock, int flags)
{
    (void)clock, (void)flags;
    int fd = pqi_flag_new();
    if (fd >= TIMERS_MAX)
        abort();
    armed[fd]++;
    return fd;
}

int __wrap_close(int fd)
{
    if (fd >= 0 && fd < TIMERS_MAX)
        armed[fd]++; /* its number may be another one's soon */
    return __real_close(fd);
}

int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *when,
                           struct itimerspec *old);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *when, struct itimerspec *old)
{
    (void)flags, (void)old;
    int64_t at = (int64_t)when->it_value.tv_sec * SECOND + when->it_value.tv_nsec;
    armed[fd]++;
    if (at > 0)
        sim_at(at, on_timer, (void *)(intptr_t)fd, armed[fd]);
    return 0;
}
