/* Lanes: connections on which the reads of many callers travel together. A lane belongs to one
 * group: the blocking callers', or one pqr_loop's.
 *
 *            want               installed              lost, or let go while empty
 *   CLOSED ────────▶ OPENING ──────────────▶ OPEN ────────────────────────────▶ CLOSED
 *                       └──── failed: its riders are told ────▶ CLOSED
 *
 * A call boards as a rider: it waits (PENDING) until a segment is sent with it (SENT), and gets
 * off with its answers or a reason. Whoever waits drives: in the blocking callers' group one rider
 * leads (waits for the socket, completes everybody's calls, wakes them) and hands over when it has
 * its own answer; the others wait to be woken. A loop leads its lanes itself. */
#ifndef PQI_RUN_LANE_H
#define PQI_RUN_LANE_H

#include "../plan/pace.h"
#include "../wire/pg.h"
#include "../wire/world.h"

#include <stdatomic.h>

struct pqi_group;
struct pqi_lane;
struct pqi_node;

#define PQI_LANES_MAX 16

/* A call on a lane. Its owner fills job, waiter, hash and class before boarding. */
struct pqi_rider {
    struct pqi_link link;
    struct pqi_job job;
    struct pqi_waiter *waiter;
    uint64_t hash; /* of its statement; 0: several, not measured */
    enum pqi_pace_class class_;
    struct pqi_lane *lane; /* NULL: on none */
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
    _Atomic int state_now; /* `state`, likewise */

    pthread_mutex_t
        lock; /* guards all below; taken before a pool's lock, never while one is held */
    enum pqi_lane_state { PQI_LANE_CLOSED, PQI_LANE_OPENING, PQI_LANE_OPEN } state;
    struct pqi_conn *conn;        /* OPEN */
    struct pqi_link fast, unsure; /* pending riders: those known to be fast go first */
    struct pqi_link sent;         /* in the order of their statements */
    int npending;
    int ghosts; /* sent, and nobody waits for them any more: still counted in `load` */
    bool led;
    int kick; /* wakes who leads; -1: nobody has led yet */
    int64_t idle_since_ns;

    struct pqi_link opening; /* the opener's */
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

bool pqi_group_init(struct pqi_group *g, struct pqr *db);
/* Closes and frees every lane; nobody rides any more. */
void pqi_group_free(struct pqi_group *g, bool forked);

/* A lane for one more read on `node`; one is opened if that is worth it and there is room for it.
 * NULL: none is to be had, take a connection. */
struct pqi_lane *pqi_lane_choose(struct pqi_group *g, struct pqi_node *node);

/* Boards: sends at once what may be sent. */
void pqi_lane_board(struct pqi_lane *lane, struct pqi_rider *r);

/* Waits in this thread until the rider has its outcome, the moment comes, or the router aborts;
 * leads where nobody does. */
void pqi_lane_wait(struct pqi_lane *lane, struct pqi_rider *r, int64_t until_ns);

/* Gets off before its time. false: its outcome is on the way, wait for it. What was sent for it
 * runs on, and what comes is dropped. `sent` (may be NULL): was it given to the server? */
bool pqi_lane_leave(struct pqi_lane *lane, struct pqi_rider *r, bool *sent);

/* Does it wait behind another's statement that gets nowhere? Then it had better go elsewhere. */
bool pqi_lane_stuck(struct pqi_lane *lane, struct pqi_rider *r, int64_t now_ns);
/* Is its connection still being opened? */
bool pqi_lane_opening(struct pqi_lane *lane);
#define PQI_STUCK_MS 5

/* ---- For who drives it ---------------------------------------------------------------------- */

/* Goes on after the socket said `revents`; the loop's. */
void pqi_lane_step(struct pqi_lane *lane, short revents);
/* Sends what waits. */
void pqi_lane_pump(struct pqi_lane *lane);
/* What to wait for; -1: nothing. */
int pqi_lane_fd(struct pqi_lane *lane, short *events);
/* Lets go of a connection that nobody rides: idle for too long, too old, or of another time. */
void pqi_lane_sweep(struct pqi_lane *lane, int64_t idle_ns, int64_t born_ns);
/* Everybody looks whether the router aborts. */
void pqi_group_stir(struct pqi_group *g);

/* ---- For the opener ------------------------------------------------------------------------- */

void pqi_lane_install(struct pqi_lane *lane, struct pqi_conn *conn);
/* It could not be opened: everybody who waits for it is told. */
void pqi_lane_fail(struct pqi_lane *lane, enum pqi_outcome outcome,
                   const struct pqi_trouble *trouble, const pqr_error *err);

#endif
