/* One call, from submit to answer: place → connection → handshake → run → finish, with reruns of
 * what provably did not run. A state machine that waits for nothing itself: whoever waits for the
 * call drives it. */
#ifndef PQI_CALL_H
#define PQI_CALL_H

#include "shard.h"

struct pqr_session;

struct pqi_call {
    /* Set before pqi_call_run, by pqi_call_init and the caller: */
    struct pqr *db;
    struct pqr_session *session;
    bool write;           /* needs the primary */
    bool effects;         /* may have happened when its answer is lost */
    bool early, partial;  /* as in struct pqi_failure */
    enum pqr_level level; /* reads */
    const struct pqi_stmt *stmts;
    int n;
    int first, count; /* which of them are the caller's */
    int position;     /* which one tells the server's position; -1: none */
    bool keep;        /* leaves the connection in `conn` when it succeeds */
    bool unit;        /* may be run again as a whole; false: a part of a transaction */
    const char *name; /* labels it in errors and the log; NULL: none */
    int64_t until_ns; /* its deadline */

    /* The outcome: */
    pqr_error err;
    struct pqi_node *node;
    struct pqi_conn *conn; /* with its answers, until pqi_call_end */

    /*            ┌─────────────────────────────────────────┐ rerun
     *            ▼                                         │
     *   PLACE ─▶ QUEUE ─▶ CONNECT ─▶ HANDSHAKE ─▶ RUN ─────┼─▶ DONE
     *    ▲ │       └────────────────────────────▶┘         │
     *    └─ HOPE (no node can serve it yet)     PAUSE ◀────┘ */
    enum pqi_call_state {
        PQI_CALL_PLACE,
        PQI_CALL_HOPE,
        PQI_CALL_QUEUE,
        PQI_CALL_CONNECT,
        PQI_CALL_HANDSHAKE,
        PQI_CALL_RUN,
        PQI_CALL_PAUSE,
        PQI_CALL_DONE
    } state;
    struct pqi_shard *shard;
    int64_t map_version;
    int64_t begun_ns, queue_until_ns, hope_until_ns, pause_until_ns;
    int attempts;
    bool tried[PQI_NODES_MAX];
    struct pqi_waiter waiter;
    struct pqi_ticket ticket;
    struct pqi_hope hope;
    bool hoping;
};

void pqi_call_init(struct pqi_call *c, struct pqr_session *s, int64_t deadline_ms);

/* Drives it to its end, waiting in this thread. Returns err.code. Then the answers are in
 * `conn` (if there is one) until pqi_call_end gives the connection back. */
int pqi_call_run(struct pqi_call *c);
void pqi_call_end(struct pqi_call *c);

/* What a call needs next. */
struct pqi_want {
    bool done;
    int fd; /* -1: its waiter */
    short events;
    int64_t until_ns;
};
struct pqi_want pqi_call_step(struct pqi_call *c, short revents);

#endif
