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
 * its own answer; the others wait to be woken, and look now and then whether answers lie in the socket
 * that it does not take: then it leads no more. A loop leads its lanes itself. */
#ifndef PQI_RUN_LANE_H
#define PQI_RUN_LANE_H

#include "ride.h"

bool pqi_group_init(struct pqi_group *g, struct pqr *db);
/* Closes and frees every lane; nobody rides any more. */
void pqi_group_free(struct pqi_group *g, bool forked);

/* A lane for one more read on `node`; one is opened if that is worth it and there is room for it. One
 * that does not move is taken only where there is no other.
 * `fast`: it is known to be. NULL: none is to be had, take a connection. */
struct pqi_lane *pqi_lane_choose(struct pqi_group *g, struct pqi_node *node, bool fast);

/* One that is open and moves, with the least under way; NULL: none is. */
struct pqi_lane *pqi_lane_moving(struct pqi_group *g, const struct pqi_node *node);

/* Boards: sends at once what may be sent. false: it was closed meanwhile, and there is no room for
 * another one. */
bool pqi_lane_board(struct pqi_lane *lane, struct pqi_rider *r);

/* Waits in this thread until the rider has its outcome, the moment comes, or the router aborts;
 * leads where nobody does. */
void pqi_lane_wait(struct pqi_lane *lane, struct pqi_rider *r, int64_t until_ns);

/* Gets off before its time. false: its outcome is on the way, wait for it. What was sent for it
 * runs on, and what comes is dropped. `sent` (may be NULL): was it given to the server? */
bool pqi_lane_leave(struct pqi_lane *lane, struct pqi_rider *r, bool *sent);

/* Does it wait behind another's statement that gets nowhere? Then it may go elsewhere. Takes
 * what has come and whoever leads has not taken, and closes a lane that will never move: the rider may
 * have its outcome afterwards. */
bool pqi_lane_stuck(struct pqi_lane *lane, struct pqi_rider *r, int64_t now_ns);
/* Is its connection still being opened? */
bool pqi_lane_opening(struct pqi_lane *lane);

/* ---- For who drives it ---------------------------------------------------------------------- */

/* Goes on after the socket said `revents`; the loop's. */
void pqi_lane_step(struct pqi_lane *lane, short revents);
/* Sends what waits. */
void pqi_lane_pump(struct pqi_lane *lane);
/* What to wait for; -1: nothing. */
int pqi_lane_fd(struct pqi_lane *lane, short *events);
/* Lets go of a connection that nobody rides: idle for too long, too old, or of another time. One that
 * somebody rides has a moment's rest, and ends there if it is too old. */
void pqi_lane_sweep(struct pqi_lane *lane, int64_t idle_ns, int64_t born_ns);
/* Everybody looks whether the router aborts. */
void pqi_group_stir(struct pqi_group *g);

/* ---- For the opener ------------------------------------------------------------------------- */

void pqi_lane_install(struct pqi_lane *lane, struct pqi_conn *conn);
/* It could not be opened: everybody who waits for it is told. */
void pqi_lane_fail(struct pqi_lane *lane, enum pqi_outcome outcome,
                   const struct pqi_trouble *trouble, const pqr_error *err);

#endif
