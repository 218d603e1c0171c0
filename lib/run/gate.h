/* The gate that every public call passes, so that closing knows when nobody is inside. */
#ifndef PQI_GATE_H
#define PQI_GATE_H

#include "state.h"

/* FORKED in a child, CLOSED once closing (for what begins something: once draining). PQR_OK: pass
 * out by pqi_gate_out when done. */
int pqi_gate_in(struct pqr *db, bool begins, pqr_error *err);
void pqi_gate_out(struct pqr *db);

/* FORKED in a child of the process that used it; else PQR_OK. Takes no lock. */
int pqi_gate_pid(const struct pqr *db, pqr_error *err);

#endif
