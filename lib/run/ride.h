/* What travels on shared connections, and who guards what: structures only. run/lane.h has what
 * is done with them. */
#ifndef PQI_RIDE_H
#define PQI_RIDE_H

#include "../plan/fair.h"
#include "../plan/pace.h"
#include "../plan/stuck.h"
#include "../wire/pg.h"
#include "../wire/world.h"

#include <stdatomic.h>

struct pqi_group;
struct pqi_lane;
struct pqi_node;

#define PQI_LANES_MAX 16

/* A call on a lane. Its owner fills job, waiter, tenant and the rest down to `lane` before boarding. */
struct pqi_rider {
    struct pqi_link link;
    struct pqi_job job;
    struct pqi_waiter *waiter;
    struct pqi_fair_turn turn;
    uint64_t hash; /* of its statement; 0: several, not measured */
    enum pqi_pace_class class_;
    int64_t cost_us;       /* about how long it takes */
    int64_t since_ns;      /* when it boarded */
    int64_t until_ns;      /* its deadline */
    uint64_t generation;   /* of its node, when it was placed */
    struct pqi_lane *lane; /* NULL: on none */
    bool late;             /* it cannot be answered by its deadline any more: it is not sent */
    bool own_sync;         /* it was skipped once with others: now it goes by itself */
    enum pqi_ride {
        PQI_RIDE_PENDING,
        PQI_RIDE_SENT,
        PQI_RIDE_LEAVING, /* has its outcome; its owner is about to be told */
    } state;

    /* The outcome, once pqi_waiter_finished: */
    enum pqi_outcome {
        PQI_OUT_ANSWERED, /* job.answers */
        PQI_OUT_LOST,     /* the connection was lost: `trouble` */
        PQI_OUT_TROUBLE,  /* it could not be opened: `trouble` */
        PQI_OUT_REFUSED,  /* the server there must not be used: `err` */
        PQI_OUT_ANEW      /* what placed the call is outdated: `err` says how */
    } outcome;
    struct pqi_trouble trouble;
    pqr_error *err; /* its owner's */
};

struct pqi_lane {
    struct pqi_node *node;
    struct pqi_group *group;
    _Atomic int load;      /* riders; read without the lock, to choose a lane */
    _Atomic int unknown;   /* those of them that may be slow, likewise */
    _Atomic int state_now; /* `state`, likewise */
    _Atomic bool still;    /* nothing comes, so take another one if there is one; likewise */

    pthread_mutex_t
        lock; /* guards all below; taken before a pool's lock, never while one is held */
    enum pqi_lane_state { PQI_LANE_CLOSED, PQI_LANE_OPENING, PQI_LANE_OPEN } state;
    struct pqi_conn *conn;        /* OPEN */
    struct pqi_link pending;      /* riders, as they came */
    struct pqi_fair fast, unsure; /* the same, by turns: those known to be fast go first */
    struct pqi_present present;   /* all who ride, by tenant */
    struct pqi_link sent;         /* in the order of their statements */
    struct pqi_link late;         /* pending, and too late to be sent */
    int npending;                 /* fast and unsure ones */
    int ghosts;         /* sent, and nobody waits for them any more: still counted in `load` … */
    int unknown_ghosts; /* … and in `unknown` */
    int left;           /* riders that have left since an answer came */
    bool rests;         /* nothing is sent until what is under way was answered */
    bool retires;       /* likewise, and then it is closed */
    bool led;
    uint32_t term;             /* of who leads: another one, and it leads no more */
    int kick;                  /* wakes who leads; -1: nobody has led yet */
    _Atomic int64_t wanted_ns; /* OPENING: since when, the time in the pool's queue apart */
    int64_t idle_since_ns;
    uint64_t looked_at; /* by which of the connection's jobs its session was looked at last */
    bool looks;         /* and that answer was not seen yet */
    char session[24];   /* what it held at first */

    struct pqi_link opening; /* the opener's */
    _Atomic bool queued;     /* OPENING: it waits for the pool, which is full */
    bool orphan;             /* its group is gone while it was being opened */
    void *side;              /* its driver's */
};

/* The lanes of one group to one node. */
struct pqi_lanes {
    struct pqi_lane *lane[PQI_LANES_MAX];
    _Atomic int n;
};

/* What a loop does about its lanes. */
struct pqi_group_driver {
    void (*boarded)(struct pqi_lane *lane); /* it has something to send */
    void (*opened)(struct pqi_lane *lane);  /* on the opener's thread */
    void (*closing)(struct pqi_lane *lane); /* its connection is about to go */
    void *(*new_side)(struct pqi_lane *lane);
    void (*free_side)(void *side);
};

/* Who shares lanes. */
struct pqi_group {
    struct pqr *db;
    struct pqi_lanes *lanes; /* one a node */
    pthread_mutex_t lock;    /* guards the making of lanes */
    struct pqr_loop *loop;   /* whose; NULL: the blocking callers', and whoever waits drives */
    const struct pqi_group_driver *driver; /* NULL without a loop */
};

#endif
