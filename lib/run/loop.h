/* An event loop's side of the router: submitted calls, driven by pqr_loop_dispatch. Everything
 * runs on the loop's thread, but for being woken. */
#ifndef PQI_LOOP_H
#define PQI_LOOP_H

#include "../base/heap.h"
#include "op.h"

/* What a loop's epoll may tell of. */
struct pqi_watch {
    enum { PQI_WATCH_EVENT, PQI_WATCH_TIMER, PQI_WATCH_LANE, PQI_WATCH_CALL } kind;
    int fd;          /* registered; -1: not */
    uint32_t events; /* for which */
};

/* A submitted call. What it is about lies around it (api/loop.c). */
struct pqr_call {
    struct pqi_op op;
    struct pqr_loop *loop;
    struct pqi_link of_loop; /* all in flight */
    struct pqi_link turn;    /* woken, or its callback is due */
    bool is_woken;           /* in `woken`; guarded by the loop's lock */
    bool is_done;
    struct pqi_watch watch;
    struct pqi_timer timer;
    /* Ends it: makes its result, calls its callback, frees it. */
    void (*over)(struct pqr_call *c);
};

/* A lane as a loop sees it. */
struct pqi_loop_lane {
    struct pqi_watch watch;
    struct pqi_lane *lane;
    struct pqi_link dirty; /* has something to send */
};

struct pqr_loop {
    struct pqr *db;
    struct pqi_link of_db; /* guarded by db->gate_lock */
    struct pqi_group group;
    int epoll;
    struct pqi_watch event, timer;
    struct pqi_heap timers;
    int64_t timer_at_ns; /* what the timer's descriptor is set to; PQI_FOREVER: nothing */
    int64_t sweep_due_ns;
    struct pqi_link calls; /* in flight */
    size_t ncalls;
    struct pqi_link done;  /* callbacks that are due */
    struct pqi_link dirty; /* lanes */
    void *spare;           /* memory for a call; api/loop.c's */
    struct pqi_link works; /* transactions that are run as a whole; api/loop.c's */
    bool dispatching, closing;

    pthread_mutex_t lock;  /* guards all below */
    struct pqi_link woken; /* calls that somebody woke */
    bool lanes_came, stirred, signalled;
    _Atomic bool
        any_woken; /* `woken` is not empty, or was not a moment ago; read without the lock */
};

int pqi_loop_open(struct pqr *db, struct pqr_loop **out, pqr_error *err);
int pqi_loop_dispatch(struct pqr_loop *l, int max);

/* Ends every call in flight; their callbacks run. From the first on it is `closing`, and nothing
 * is to be submitted any more. */
void pqi_loop_end_calls(struct pqr_loop *l);
/* With no call in flight: closes its lanes, frees it. */
void pqi_loop_close(struct pqr_loop *l);
/* In a child of fork(): frees it, speaks to nobody. */
void pqi_loop_orphan(struct pqr_loop *l);

/* Room for one more call; before its submission. false: no memory. */
bool pqi_loop_has_room(struct pqr_loop *l);

/* Begins to drive a call that pqi_call_init and its maker have filled. `over` is never called
 * before this returns. */
void pqi_loop_submit(struct pqr_loop *l, struct pqr_call *c);

/* A call that was never driven and has ended: only its callback is due. Needs no room. */
void pqi_loop_post(struct pqr_loop *l, struct pqr_call *c);

/* Ends a call early: as if its deadline had come. */
void pqi_loop_cancel(struct pqr_call *c);

/* The router aborts: every call looks. Any thread's. */
void pqi_loop_stir(struct pqr_loop *l);

#endif
