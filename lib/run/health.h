/* Is it ready, how is each server, and where would a tenant's calls go? For people. */
#ifndef PQI_RUN_HEALTH_H
#define PQI_RUN_HEALTH_H

#include "state.h"

/* Waits until every shard has a primary that takes writes. */
int pqi_router_ready(struct pqr *db, int64_t timeout_ms, pqr_error *err);

/* What is known of each server. */
int pqi_router_health(struct pqr *db, pqr_node_health *out, size_t cap, size_t each);

/* The node of that name; NULL: none. */
struct pqi_node *pqi_router_node(struct pqr *db, const char *name);

#endif
