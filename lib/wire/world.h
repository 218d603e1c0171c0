/* The seam: all time, chance and waiting that the router uses. Real in the product; a simulation
 * replaces this file and its neighbours as a whole, at the same names. */
#ifndef PQI_WORLD_H
#define PQI_WORLD_H

#include <pqrouter/pqrouter.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PQI_MS INT64_C(1000000) /* one millisecond, in nanoseconds */
#define PQI_FOREVER INT64_MAX   /* a moment that never comes */

/* Monotonic time in nanoseconds; never steps. */
int64_t pqi_now_ns(void);

/* now + ms, PQI_FOREVER if that is beyond reach or ms is INT64_MAX. */
int64_t pqi_after_ms(int64_t now_ns, int64_t ms);

/* This process, without a system call each time. */
pid_t pqi_pid(void);

/* Uniformly random; for jitter and spreading, not for secrets. Thread-safe. */
uint64_t pqi_random(void);

/* After fork() a child would draw what its parent and siblings draw: not so after this. */
void pqi_chance_anew(void);

/* How who makes a call waits: in the system, and its thread with it, or in the application's
 * function, which lets other fibers of the thread go on. No lock may be held meanwhile: one of them
 * may want it. */
struct pqi_wait {
    pqr_wait_fn *fn; /* NULL: in the system */
    void *arg;
};

/* Waits until `fd` has one of `events` (POLLIN, POLLOUT), `kick_fd` is readable (-1: none), or
 * the moment `until_ns`. Returns the events of `fd`, 0 for the others. What ends a wait early (a
 * signal, the application's function) is waited through. `how` NULL: in the system. */
short pqi_wait_fd(const struct pqi_wait *how, int fd, short events, int kick_fd, int64_t until_ns);

/* The same, where the second descriptor is a flag for everybody: it may be seen 0.1 s late. */
short pqi_wait_or_abort(const struct pqi_wait *how, int fd, short events, int abort_fd,
                        int64_t until_ns);

/* Something that one caller waits for and somebody else wakes. With a hook it wakes nobody: the
 * hook is called instead, under the lock (an event loop's: it notes who is to go on). */
struct pqi_waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    int flag; /* while it is waited for by the application's function; else -1 */
    bool woken, finished;
    void (*hook)(struct pqi_waiter *w);
};

void pqi_waiter_init(struct pqi_waiter *w);
void pqi_waiter_free(struct pqi_waiter *w);
void pqi_waiter_wake(struct pqi_waiter *w);
/* Wakes for the last time: what was waited for is there. The waiter, and all around it, may be gone
 * as soon as its owner sees this; so nothing of the owner's may be touched afterwards. */
void pqi_waiter_finish(struct pqi_waiter *w);
bool pqi_waiter_finished(struct pqi_waiter *w);
void pqi_waiter_reset(struct pqi_waiter *w);
/* true: it was woken since the last wait; false: the moment came first. `how` as above. */
bool pqi_waiter_wait(struct pqi_waiter *w, const struct pqi_wait *how, int64_t until_ns);

/* A flag that can be polled: readable from the first set on. -1: none to be had, and accepted. */
int pqi_flag_new(void);
void pqi_flag_set(int fd);
void pqi_flag_clear(int fd);
void pqi_flag_close(int fd);

/* Starts a thread that blocks all signals: they belong to the application. */
bool pqi_thread_start(pthread_t *out, void *(*run)(void *), void *arg, bool detached);

#endif
