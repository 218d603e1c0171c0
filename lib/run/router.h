/* The router as a whole: made and unmade. */
#ifndef PQI_ROUTER_H
#define PQI_ROUTER_H

#include "state.h"

int pqi_router_open(struct pqr **out, const pqr_options *options, pqr_error *err);
/* How calls wait, if not in the system. USAGE: it is used already. */
int pqi_router_set_wait(struct pqr *db, pqr_wait_fn *wait, void *arg, pqr_error *err);
void pqi_router_close(struct pqr *db, int64_t drain_ms);

/* One owner less: the application, or a session. The last one frees. */
void pqi_router_unref(struct pqr *db);

/* Ends a session with all that it holds. */
void pqi_session_close(struct pqr_session *s);

#endif
