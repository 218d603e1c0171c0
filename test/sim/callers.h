/* Callers: each a thread with a session, that reads and writes, blocking or by way of an event loop,
 * and has each answer looked at. */
#ifndef SIM_CALLERS_H
#define SIM_CALLERS_H

#include <pqrouter/pqrouter.h>
#include <stdbool.h>

/* Lets `n` callers go to work on a router; `loops` event loops are opened for some of them. */
void sim_callers_start(pqr *db, int n, int loops);
/* From now on they have less to do. */
void sim_callers_rest(void);
/* They go on as they are until told that all is calm: then each call must succeed, a few times, and
 * that was all. Waits for it. */
void sim_callers_calm(void);

#endif
