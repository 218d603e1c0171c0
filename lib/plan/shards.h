/* Which servers make up which shard: counts, gaps, and the control database beside them. What a
 * server is, databases.h has read. */
#ifndef PQI_SHARDS_H
#define PQI_SHARDS_H

#include "draft.h"

/* Moves the servers of the variables to their shards, as "shard1/replica2". Nothing can be said
 * where DATABASE_SHARD_COUNT is at fault. */
void pqi_shards_build(struct pqi_draft *d);

#endif
