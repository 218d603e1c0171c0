/* The steps of a call, between the files that they stand in (call.c, reach.c, board.c, attempt.c).
 * Each may end the call, or take it on to another state; nobody else includes this. */
#ifndef PQI_STEPS_H
#define PQI_STEPS_H

#include "../plan/detour.h"
#include "../plan/fate.h"
#include "../wire/pg.h"
#include "pool.h"

struct pqi_call;
struct pqi_once;

#define PQI_CLEANINGS_MAX 4 /* connections that could not be cleaned: then the call ends */
#define PQI_PAUSE_MS 10     /* before the second; doubles, with full jitter */

/* ---- call.c: ends, and running again --------------------------------------------------------- */

/* Every way to DONE leads through here. `err` is written already; the second says where it was. */
void pqi_call_done(struct pqi_call *c);
void pqi_call_end_with_error(struct pqi_call *c);
/* Before anything was sent: its time has passed, or the router is closing. */
void pqi_call_end_unsent(struct pqi_call *c, const char *doing);
void pqi_call_none_happened(struct pqi_call *c);
/* Gives up its place in the queue, if it has one, and what it may have got there. */
void pqi_call_leave_queue(struct pqi_call *c);

/* Is it to end now, by its caller's wish or the router's? */
bool pqi_call_aborted(const struct pqi_call *c);
int pqi_call_abort_code(const struct pqi_call *c);
const char *pqi_call_abort_text(const struct pqi_call *c);
int64_t pqi_call_spent_ms(const struct pqi_call *c);

/* Is there time, and a retry left for it? Takes that from the router's budget: only to be asked by who
 * then runs it again. Finding out what became of it is none. */
bool pqi_call_may_rerun(struct pqi_call *c);
void pqi_call_rerun(struct pqi_call *c, enum pqi_again how);
/* Its connection is dead, or may not be used again. */
void pqi_call_drop_conn(struct pqi_call *c);

/* Behind the pooler is another server than was known: the connection is given up, and the monitor looks
 * anew. Nothing that was sent there counts; `err` says so. */
void pqi_call_moved(struct pqi_call *c);

/* Gives its place in the primary's share of reads back, if it has one. */
void pqi_call_share_back(struct pqi_call *c);

/* Which node serves it? Fills `node`; false: none. `err` stays as it is. */
bool pqi_call_find_place(struct pqi_call *c);

/* ---- hang.c ----------------------------------------------------------------------------------- */

/* It goes to its node now: begins to look whether that hangs, and for a way around what takes long. */
void pqi_call_watch(struct pqi_call *c);
/* Looks; it may be elsewhere afterwards. */
void pqi_call_look(struct pqi_call *c, int64_t now);
/* To another node, if it only reads and one can serve it. NONE: at any rate, since its own hangs. PEER and
 * AWAY: if a connection is there. */
void pqi_call_leave(struct pqi_call *c, enum pqi_detour how);

/* ---- detour.c --------------------------------------------------------------------------------- */

/* Does it wait for a connection that is being made, or for its turn to have one? */
bool pqi_call_makes(const struct pqi_call *c);
/* It has waited for a while: looks whether another connection is there; it may be elsewhere afterwards. */
void pqi_call_detour(struct pqi_call *c, int64_t now);
/* Is one there on that node? */
bool pqi_call_ready_at(const struct pqi_call *c, struct pqi_node *node, enum pqi_detour how);
/* Lets go of the connection that is being made: others will have it when it is. */
void pqi_call_pass_on(struct pqi_call *c);
/* Goes on with one that is there, rather than with that which is being made. */
void pqi_call_use_made(struct pqi_call *c, struct pqi_conn *other);

/* ---- reach.c ---------------------------------------------------------------------------------- */

/* It has its place: on to a lane, or to a connection of its own. */
void pqi_call_acquire(struct pqi_call *c);
/* Goes on with what pqi_pool_try gave. */
void pqi_call_go_on(struct pqi_call *c, enum pqi_taken taken, struct pqi_conn *conn);
void pqi_call_queue_step(struct pqi_call *c, int64_t now);
void pqi_call_connect_step(struct pqi_call *c, short revents);
void pqi_call_clean_step(struct pqi_call *c, short revents);
void pqi_call_clean_late(struct pqi_call *c, int64_t now);
/* The session could not be cleaned, so nothing of the call has run. */
void pqi_call_uncleaned(struct pqi_call *c);
void pqi_call_pool_timed_out(struct pqi_call *c);
int pqi_call_trouble_code(enum pqi_trouble_kind kind);

/* ---- board.c ----------------------------------------------------------------------------------- */

/* Boards a lane of its node, if there is one to be had for such a statement. */
bool pqi_call_board(struct pqi_call *c);
void pqi_call_ride_step(struct pqi_call *c, int64_t now);
/* Its lane is being opened: to another one that moves, or on a connection that is there. false: there
 * is neither. */
bool pqi_call_ride_elsewhere(struct pqi_call *c);

/* ---- attempt.c -------------------------------------------------------------------------------- */

void pqi_call_attempt(struct pqi_call *c);
void pqi_call_ahead_step(struct pqi_call *c, short revents);
void pqi_call_run_step(struct pqi_call *c, short revents);
void pqi_call_run_late(struct pqi_call *c);
/* What was sent is answered, or not: `statement` is the one that failed (-1: none of them, the
 * connection was lost, or `timed_out`). */
void pqi_call_run_done(struct pqi_call *c);
void pqi_call_run_failed(struct pqi_call *c, int statement, bool timed_out);

/* ---- once.c: a call with a key ------------------------------------------------------------------ */

/* What is held can go on: its tag is known. */
void pqi_once_go_on(struct pqi_call *c);
/* It failed. true: since it was done before, and now it reads what was told of that. */
bool pqi_once_failed(struct pqi_call *c, int statement);
/* Adds to `err` what to do about a key that cannot be claimed. */
void pqi_once_explain(struct pqi_call *c, int statement);
/* Its answer was lost: doing it again finds out. false: there is no time for that. */
bool pqi_once_doubt(struct pqi_call *c);
bool pqi_once_waits(const struct pqi_call *c); /* is an attempt still in doubt? */
bool pqi_once_reads(const struct pqi_call *c);
void pqi_once_read_attempt(struct pqi_call *c);
void pqi_once_read_step(struct pqi_call *c, short revents);
/* The call ends. If an attempt is in doubt, `err` tells of that. */
void pqi_once_ends(struct pqi_call *c);
void pqi_once_free(struct pqi_once *o);

/* ---- settle.c --------------------------------------------------------------------------------- */

/* Its answer was lost, and `err` says so: begins to find out what became of it. false: there is
 * nothing to go by, or no time. */
bool pqi_call_doubt(struct pqi_call *c);
/* It has a connection to ask on; the answer; none came in time. */
void pqi_call_doubt_attempt(struct pqi_call *c);
void pqi_call_doubt_step(struct pqi_call *c, short revents);
void pqi_call_doubt_late(struct pqi_call *c);
/* The call ends, and nothing has settled it: `err` tells of that. */
void pqi_call_doubt_ends(struct pqi_call *c);

#endif
