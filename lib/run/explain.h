/* Where a tenant's calls would go, and why. */
#ifndef PQI_EXPLAIN_H
#define PQI_EXPLAIN_H

#include "state.h"

/* Waits for the shard's first look, at most `timeout_ms`. */
int pqi_explain(struct pqr *db, const void *tenant, size_t len, int64_t timeout_ms, pqr_route *out,
                pqr_error *err);

#endif
