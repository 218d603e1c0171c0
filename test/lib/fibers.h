/* Fibers for live tests: many on a thread, by ucontext, and what the router's waits were like. A
 * fiber may not fail its test by itself (that would be a jump out of its stack): it notes a fault. */
#ifndef TEST_FIBERS_H
#define TEST_FIBERS_H

#include <pqrouter/pqrouter.h>
#include <pthread.h>

enum { FIBERS_MAX = 128, FIBER_STACK_BYTES = 512 * 1024 };

struct fiber;
struct fibers {
    struct fiber *fiber[FIBERS_MAX];
    int n, left;
    pthread_mutex_t lock; /* one thread's turn at a time; guards all below */
    int early;            /* 3: every third wait returns before its time; 0: none does */

    /* What was seen: */
    long waits, outside;         /* of fibers; of threads that run none */
    long epolls, flags, no_fds;  /* what was waited for */
    long empty;                  /* waits for an epoll with nothing in it: for a moment */
    int doubled;                 /* in how many other epolls a descriptor of one was at most */
    int waiting, most_waiting;   /* at once */
    int on_flags, most_on_flags; /* of these, on a flag: they are to be woken */
    int least_ms, most_ms;       /* how long they should wait */
    long moves;                  /* fibers that went on in another thread */
    size_t deepest;              /* bytes of a stack that were used */
    char fault[400];             /* the first one */
};

void fibers_init(struct fibers *f);
void fibers_free(struct fibers *f);

/* The router's function; `arg` is a struct fibers. */
pqr_wait_fn fibers_wait;

/* One more fiber. It runs once fibers_run is called (or, called in a fiber, when this one waits). */
void fibers_start(struct fibers *f, void (*run)(void *arg), void *arg);

/* Runs them all to their end; `threads` take turns. Fails the test after a minute, and for a fault. */
void fibers_run(struct fibers *f, int threads);

/* In a fiber: lets the others go on for so long. */
void fiber_sleep(struct fibers *f, int ms);

/* In a fiber or a thread: the test is to fail, later. */
void fibers_fault(struct fibers *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define HOLDS(f, condition) \
    ((condition) ? (void)0 : fibers_fault((f), "line %d: %s", __LINE__, #condition))
#define FIBER_OK(f, call, err)                                                    \
    ((call) == PQR_OK ? (void)0                                                   \
                      : fibers_fault((f), "line %d: %s: %s: %s", __LINE__, #call, \
                                     pqr_code_name((err)->code), (err)->message))

#endif
