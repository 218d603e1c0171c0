/* One connection to a PostgreSQL server: a thin, non-blocking adapter of libpq. It knows segments
 * (statements up to a Sync) and what was answered; it decides nothing, waits for nothing, and
 * never sits in PQgetResult. */
#ifndef PQI_PG_H
#define PQI_PG_H

#include "../base/list.h"
#include "../plan/fate.h"
#include "../plan/lane.h"
#include "../plan/param.h"
#include "../plan/prepared.h"
#include "../plan/settle.h"
#include "dial.h"
#include "resolve.h"

#include <stdbool.h>
#include <stdint.h>

struct pg_conn;
struct pg_result;

/*   new ─▶ RESOLVING ─▶ CONNECTING ─▶ IDLE ◀─▶ BUSY
 *              └──────────────┴─────────┴───────┴──▶ DEAD (only pqi_conn_part is allowed) */
enum pqi_conn_state { PQI_RESOLVING, PQI_CONNECTING, PQI_IDLE, PQI_BUSY, PQI_DEAD };

/* One statement to send. What it points at must live until the answers are in. */
struct pqi_stmt {
    const char *sql;
    struct pqi_params *params; /* NULL: none */
    bool binary;               /* the result in binary form */
    bool sync;                 /* ends its segment */
    bool alone;                /* acts without waiting for its Sync (VACUUM, CALL …) */
    bool prepare;              /* worth a prepared statement */
    uint64_t hash;             /* pqi_prepared_hash, if `prepare` */
    bool taints;               /* may change the session: the connection is not pooled again */
    bool leaves;               /* may leave temporary objects and channels in the session */
    bool defers; /* it may also have deferred triggers do so, behind all that cleans the session */
    bool clears; /* the first of a send: what these left goes ahead of it, with a Sync of its own */
    bool joins;  /* the first segment of a send: what cleans the session stands there too */
    bool
        sweeps; /* behind a pooler: likewise, but only behind it, and what that fails with is nothing */
    const char *proves; /* behind a pooler: how `proof` is joined to the text; NULL: not at all */
    bool own;           /* the router's: its prepared statement takes no place of the callers' */
    bool hold;          /* what follows it waits for pqi_conn_go_on, in the same segment */
    bool flush; /* its answer, and those before, leave the server before the next one runs */
    int since;  /* servers before this version do not know it: left out there, and unanswered */
};

/* What came back for a statement. */
struct pqi_answer {
    enum {
        PQI_UNANSWERED, /* nothing yet, or the connection was lost first */
        PQI_ANSWER_OK,
        PQI_ANSWER_ERROR,  /* this one failed */
        PQI_ANSWER_SKIPPED /* another one of its segment failed first: it did not run */
    } state;
    bool acknowledged; /* its segment's Sync came, and no statement of the segment failed */
    struct pg_result *pg;
};

/* What one caller wants of one connection: statements, and room for the answers to them. */
struct pqi_job {
    struct pqi_link link; /* the holder's, and the connection's once it has ended */
    const struct pqi_stmt *stmts;
    int n;
    struct pqi_answer *answers; /* n of them, all zero at first */
    bool given;                 /* at least one Sync (or a statement alone) was given to libpq */
    bool again;    /* ended, and is to be run again: it was skipped for a neighbour's failure */
    bool stale;    /* (where its Sync is its own) it failed for want of a prepared statement */
    bool repaired; /* it was so before, for want of a prepared statement: not another time */

    /* pg.c's own: */
    bool shared;
    uint64_t id;
    int segment;       /* its segment's first statement */
    int segment_error; /* the statement that failed in it; -1: none */
};

/* Why a connection died, or could not be made. */
struct pqi_trouble {
    enum pqi_trouble_kind {
        PQI_TROUBLE_NONE,
        PQI_TROUBLE_NAME,    /* the name could not be resolved */
        PQI_TROUBLE_REFUSED, /* nobody listens, no route */
        PQI_TROUBLE_TIMEOUT,
        PQI_TROUBLE_LOGIN, /* password, role, database, pg_hba.conf */
        PQI_TROUBLE_TLS,
        PQI_TROUBLE_FULL,     /* 53300: max_connections reached */
        PQI_TROUBLE_NOT_NOW,  /* 57P03: starting up, shutting down */
        PQI_TROUBLE_LOST,     /* was connected, and the link ended */
        PQI_TROUBLE_PROTOCOL, /* answered what cannot be: closed for safety */
        PQI_TROUBLE_NOMEM     /* this process lacks memory, descriptors, ports: no server's fault */
    } kind;
    char sqlstate[6];
    enum pqi_severity severity;
    char text[320]; /* scrubbed of secrets */
};

struct pqi_conn {
    /* The owner's: */
    struct pqi_link link;
    int64_t born_ns, idle_since_ns;
    uint64_t generation;
    bool ready; /* its handshake is done */
    struct pqi_origin
        origin; /* of the ids of its transactions; all zero: no primary, or not asked */
    uint64_t segment_bytes;
    bool pooled;     /* a transaction pooler is in between: no session is its own */
    char proof[640]; /* … and a condition that fails (22012) on another server than answered here */
    bool slow;       /* it cleans, and somebody has waited in vain for that to end */

    /* Read by the owner: */
    enum pqi_conn_state state;
    int64_t connect_until_ns;   /* until it is ready: when to call pqi_conn_late */
    struct pqi_answer *answers; /* of the last send */
    int n;
    struct pqi_job own;    /* the last pqi_conn_send */
    struct pqi_link ended; /* jobs of pqi_conn_put that have ended; the owner takes them out */
    struct pqi_queue queue;
    int64_t moved_ns; /* when an answer came last */
    int64_t
        stepped_ns; /* when it was looked at last, whatever had come; CONNECTING: when it went on */
    bool warned;    /* a WARNING that the server is going down came */
    bool alone;     /* a commit of it did not wait for its synchronous standby to the end */
    bool tainted;   /* must not be pooled again */
    bool held;      /* IDLE: amid a segment, and nothing of it was acknowledged yet */
    bool leaves;    /* so did what its present user ran: to be cleaned before anybody else's turn */
    bool deferred;  /* so may deferred triggers have: to be cleaned before who does not `join` */
    bool cleans;    /* BUSY: with cleaning alone */
    bool uncleaned; /* IDLE: cleaning failed. What was sent with it did not happen */
    char unclean[160]; /* what the server said to that; scrubbed of secrets */
    char unclean_sqlstate[6];
    struct pqi_trouble trouble;

    /* pg.c's own: */
    const struct pqi_dial *dial;
    struct pg_conn *pg;
    struct pqi_resolver *resolver;
    struct pqi_lookup *lookup;
    int lookup_fd; /* RESOLVING: its own, on the look-up that it may share with others; else -1 */
    int first, address; /* where in the look-up it began; how many it tried before */
    int64_t timeout_ms, give_up_ns, dialed_ns;
    short events; /* what it waits for */
    bool cut;     /* the link is at its end, and what came before is being read */
    enum { PQI_BEHIND_NOTHING, PQI_BEHIND_SYNC, PQI_BEHIND_OTHER } behind_end;
    int cap;      /* room for answers */
    uint64_t ids; /* of jobs, given so far */
    int next;     /* of its own job: the statement to be sent next */
    bool joined;  /* … what cleans the session has its place ahead */
    bool sweeps;  /* … its first statement's */
    struct pqi_prepared prepared;
    uint32_t unclosed[8]; /* prepared statements that are still to be closed */
    int nunclosed;
};

/* Begins to connect. Never blocks: a name is resolved elsewhere. A name's addresses are tried one
 * after the other, first the one that worked last; each gets `timeout_ms` at most, and of the time
 * up to `give_up_ns` an equal share. NULL: no memory. */
struct pqi_conn *pqi_conn_new(const struct pqi_dial *dial, struct pqi_resolver *resolver,
                              int64_t timeout_ms, int64_t give_up_ns);

/* What to wait for before the next step. */
int pqi_conn_fd(const struct pqi_conn *c);
short pqi_conn_events(const struct pqi_conn *c);

/* Goes on as far as it can without waiting; `revents` is what the wait said (0 at first). */
void pqi_conn_step(struct pqi_conn *c, short revents);

/* The moment connect_until_ns has come, and it is not ready: goes on to its name's next address,
 * or is DEAD. */
void pqi_conn_late(struct pqi_conn *c);

/* Its owner waits no longer, and somebody else may go on with it: it has all of its `timeout_ms`. false:
 * it is not on its way, or nobody has answered at its address yet: then a new one is as good. */
bool pqi_conn_pass_on(struct pqi_conn *c);

/* Gives up on it from outside: its time has passed. */
void pqi_conn_fail(struct pqi_conn *c, enum pqi_trouble_kind kind, const char *text);

/* Has the server ended it, or said anything while it was IDLE? Then it must not be used. */
bool pqi_conn_stale(const struct pqi_conn *c);

/* Has come what it waits for, so that pqi_conn_step would go on? Then it is not its server that is late. */
bool pqi_conn_may_go_on(const struct pqi_conn *c);

/* BUSY: is there anything to be read? Reads nothing. */
bool pqi_conn_spoke(const struct pqi_conn *c);

/* IDLE → BUSY: gives the statements to libpq, which go out at once; the last one must end its
 * segment. The answers are
 * in when the state is IDLE again; DEAD: those that came before the loss.
 * Those that `join` meet no temporary object in the session and leave none, nor a channel: what
 * cleans it stands around them. */
void pqi_conn_send(struct pqi_conn *c, const struct pqi_stmt *stmts, int n);

/* IDLE and `held` → BUSY: gives it the rest. What came before can be looked at, and what follows be
 * changed by that, with all of it still to be done or undone as one. */
void pqi_conn_go_on(struct pqi_conn *c);

/* IDLE → BUSY: cleans the session, and nothing else. */
void pqi_conn_clear(struct pqi_conn *c);

/* On a lane: gives a job's statements to libpq, behind those of other callers, with no Sync of
 * their own; what the job points at must live until it has ended or was abandoned. `flush`: what
 * stands before it is answered first, in case this one takes its time. false: the connection is
 * DEAD, and the job was not begun. */
bool pqi_conn_put(struct pqi_conn *c, struct pqi_job *job, bool flush);
/* Ends the segment of the jobs put since the last Sync, and lets them go. */
void pqi_conn_sync(struct pqi_conn *c);
/* Nobody waits for this job any more: its answers are dropped, its memory is free at once. */
void pqi_conn_abandon(struct pqi_conn *c, struct pqi_job *job);
/* DEAD: a job that was put and has not ended; each comes once. NULL: no more. */
struct pqi_job *pqi_conn_lost(struct pqi_conn *c);
/* Clears a job's answers, so that it can be put again. */
void pqi_job_reset(struct pqi_job *job);

/* Takes an answer's result out (PQclear is the caller's now). */
struct pg_result *pqi_conn_take(struct pqi_conn *c, int i);

/* Frees what it holds. */
void pqi_answer_clear(struct pqi_answer *a);

/* What a failed answer says. */
const char *pqi_answer_sqlstate(const struct pqi_answer *a);
/* Did it fail in a function or procedure that was at work? */
bool pqi_answer_inside(const struct pqi_answer *a);
/* Its command tag ("SELECT 3"); "" when it has none. */
const char *pqi_answer_tag(const struct pqi_answer *a);
/* Adds what the server said to an error: SQLSTATE, names, and its primary message behind what
 * stands there. Never DETAIL: it quotes rows. */
void pqi_answer_tell(const struct pqi_answer *a, pqr_error *err);

/* IDLE: provably clean, that is in no transaction and not tainted. */
bool pqi_conn_clean(const struct pqi_conn *c);

/* As libpq has it: 150004. */
int pqi_conn_server_version(const struct pqi_conn *c);

/* Is the session still read-only by default? (The server reports it.) */
bool pqi_conn_reads_only(const struct pqi_conn *c);

/* IDLE: in which transaction block is it? */
enum pqi_block { PQI_BLOCK_NONE, PQI_BLOCK_OPEN, PQI_BLOCK_FAILED };
enum pqi_block pqi_conn_block(const struct pqi_conn *c);

/* IDLE: the plain, blocking libpq connection, for lending. NULL: it could not be made so. */
struct pg_conn *pqi_conn_lend(struct pqi_conn *c);

/* Says goodbye and frees. Returns a descriptor that becomes readable with end-of-file when the
 * server has let go (close it then), or -1. */
int pqi_conn_part(struct pqi_conn *c);

/* After fork(), in the child: frees without a word on the inherited socket. */
void pqi_conn_orphan(struct pqi_conn *c);

/* One more look at a parting descriptor: true when the server is gone. Never blocks. */
bool pqi_parted(int fd);

#endif
