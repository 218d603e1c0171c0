/* What is to be said of a node's health, and what a failure says of it. */
#ifndef PQI_VITALS_H
#define PQI_VITALS_H

#include "../plan/health.h"
#include "state.h"

/* What a failure says of the node; false: nothing, for it may have been that one link, or this process
 * lacks something: the monitor looks. */
bool pqi_sign_of(enum pqi_trouble_kind kind, enum pqi_sign *sign);

/* What is wrong with it. Under the shard's lock. */
enum pqr_node_condition pqi_node_condition(const struct pqi_shard *s, const struct pqi_known *k);

/* Calls have waited for a node since `since_ns` and nothing came: the monitor asks it at once. */
void pqi_node_doubt(struct pqi_node *node, int64_t since_ns);

/* An answer of any kind came from it. */
void pqi_node_heard(struct pqi_node *node, int64_t now_ns);

/* For how long calls have waited there in vain; 0: it answers. */
int64_t pqi_node_silent_ms(const struct pqi_node *node);

#endif
