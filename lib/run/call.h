/* One call, from submit to answer: place → connection → handshake → run → finish, with reruns of
 * what provably did not run. A state machine that waits for nothing itself: whoever waits for the
 * call drives it. */
#ifndef PQI_CALL_H
#define PQI_CALL_H

#include "lane.h"
#include "shard.h"

struct pqr_session;
struct pqi_doubt;
struct pqi_once;

struct pqi_call {
    /* Set before pqi_call_run, by pqi_call_init and the caller: */
    struct pqr *db;
    struct pqr_session *session;
    bool write;           /* needs the primary */
    bool effects;         /* may have happened when its answer is lost */
    bool early, partial;  /* as in struct pqi_failure */
    enum pqr_level level; /* reads */
    int64_t max_lag_ms;   /* reads: their own bound; 0: none */
    const struct pqi_stmt *stmts;
    int n;
    int first, count; /* which of them are the caller's */
    int tail;         /* so many at the end are the router's, and change no outcome */
    bool tells_id;    /* the first, but for `lead`, asks for the transaction's id */
    bool led;         /* stmts[lead] tells the server whose call it is (wall.h) … */
    int lead;         /* … ahead of all whose answers count; in a read just before `first` */
    const struct pqi_stmt
        *ahead;              /* in a segment of its own, before what must stand alone; or NULL */
    bool lends;              /* the connection leaves our hands: its session is cleaned first */
    bool keep;               /* leaves the connection in `conn` when it succeeds */
    bool looks;              /* only whether a node can serve it: takes no connection */
    bool unit;               /* may be run again as a whole; false: a part of a transaction */
    const char *name;        /* labels it in errors and the log; NULL: none */
    struct pqi_group *group; /* whose lanes it may share; NULL: it takes a connection of its own */
    uint64_t hash;           /* of its one statement, to know how long it takes; 0: none */
    int64_t until_ns;        /* its deadline */
    bool cancelled;          /* by its caller: to end at its next step */

    /* The outcome: */
    pqr_error err;
    struct pqi_node *node;
    struct pqi_conn *conn;  /* a connection of its own, until pqi_call_end */
    uint64_t id;            /* of its transaction; 0: not told */
    bool rode;              /* its answers came by a lane */
    bool local;             /* it is committed, and no synchronous standby is known to have it */
    bool resolved;          /* its answer was lost, and it is known to be committed: … */
    struct pqi_answer kept; /* … this came before, if anything did */

    /*            ┌─────────────────────────────────────────┐ rerun
     *            ▼                                         │
     *   PLACE ─▶ QUEUE ─▶ CONNECT ─▶ HANDSHAKE ─▶ RUN ─────┼─▶ DONE
     *    ▲ │ │     └────────────────────────────▶┘ ▲       │
     *    │ │ └──▶ RIDE (on a lane, with others) ───┼───────┤
     *    │ │        └─ stuck behind another ──▶ QUEUE      │
     *    └─ HOPE (no node can serve it yet)     PAUSE ◀────┘ */
    enum pqi_call_state {
        PQI_CALL_PLACE,
        PQI_CALL_HOPE,
        PQI_CALL_QUEUE,
        PQI_CALL_CONNECT,
        PQI_CALL_HANDSHAKE,
        PQI_CALL_CLEAN, /* a pooled connection: what its last user left in the session goes first */
        PQI_CALL_AHEAD, /* what runs before it alone is under way */
        PQI_CALL_RUN,
        PQI_CALL_RIDE,
        PQI_CALL_PAUSE,
        PQI_CALL_DONE
    } state;
    struct pqi_shard *shard;
    int64_t map_version;
    int64_t begun_ns, queue_until_ns, hope_until_ns, pause_until_ns;
    int attempts;
    struct pqi_once *once;   /* it has a key */
    struct pqi_doubt *doubt; /* its answer was lost: it is finding out what became of it */
    int undone;              /* so often what it left in its session could not be removed */
    bool tried[PQI_NODES_MAX];
    bool catching_up;      /* the token asks for all that the primary had */
    int64_t look_until_ns; /* so long its session's token lets it wait for a look at the replicas */
    struct pqi_waiter waiter;
    struct pqi_ticket ticket;
    bool queued_too;  /* CLEAN, CONNECT, HANDSHAKE: it waits for another one besides */
    int64_t clean_ns; /* CLEAN: when it looks for another connection */
    struct pqi_hope hope;
    bool hoping;
    bool falls_back;     /* it has a place in the primary's share of reads */
    bool off_lanes;      /* it was stuck on one */
    uint64_t generation; /* of its node, when it was placed */
    int64_t sent_ns;     /* on a connection of its own */
    int64_t placed_ns;   /* when it went to its node */
    int64_t look_ns;     /* when it looks whether that hangs; 0: it does not look */
    int proven;          /* how often that was found alive since */
    int64_t detour_ns;   /* when it looks for a connection that is there sooner */
    int64_t stuck_ns;    /* RIDE: when it looks whether it is stuck */
    int64_t stuck_ms;    /* how long after the last look; doubles */
    struct pqi_rider rider;
    struct pqi_answer few[4]; /* the rider's answers, where they suffice */
};

void pqi_call_init(struct pqi_call *c, struct pqr_session *s, int64_t deadline_ms);

/* Drives it to its end, waiting in this thread. Returns err.code. Then the answers can be had
 * until pqi_call_end, which gives the connection back. */
int pqi_call_run(struct pqi_call *c);
void pqi_call_end(struct pqi_call *c);
/* Counts and logs one that is done: pqi_call_run does it itself. */
void pqi_call_ended(struct pqi_call *c);

/* May it still send? Otherwise, its time having passed or the router closing, it is DONE and has
 * sent nothing; `doing` tells what it was about. */
bool pqi_call_may_send(struct pqi_call *c, const char *doing);

/* The answer to stmts[i]; NULL: none came. */
struct pqi_answer *pqi_call_answer(struct pqi_call *c, int i);
/* Takes its result out (PQclear is the caller's now). */
struct pg_result *pqi_call_take(struct pqi_call *c, int i);

/* What a call needs next. */
struct pqi_want {
    bool done;
    int fd; /* -1: its waiter */
    short events;
    int64_t until_ns;
};
struct pqi_want pqi_call_step(struct pqi_call *c, short revents);

#endif
