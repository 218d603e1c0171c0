/* The gate that every public call passes, so that closing knows when nobody is inside. */
#ifndef PQI_GATE_H
#define PQI_GATE_H

#include "state.h"

/* FORKED in a child, CLOSED once closing (for what begins something: once draining), NOMEM when the
 * first use finds no descriptors. PQR_OK: pass out by pqi_gate_out when done. */
int pqi_gate_in(struct pqr *db, bool begins, pqr_error *err);
void pqi_gate_out(struct pqr *db);

/* The same for what only looks, and is no use: a child of fork() may still use the router. */
int pqi_gate_look(struct pqr *db, bool begins, pqr_error *err);

/* From now on nobody comes in. */
void pqi_gate_close(struct pqr *db);

/* After closing: waits until nobody is inside; false: the moment came first. */
bool pqi_gate_wait_empty(struct pqr *db, int64_t until_ns);

/* FORKED in a child of the process that used it; else PQR_OK. Takes no lock. */
int pqi_gate_pid(const struct pqr *db, pqr_error *err);

#endif
