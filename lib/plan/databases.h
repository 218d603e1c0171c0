/* What variables say of databases: a URL each, or one database in parts (DATABASE_HOST, …), with
 * libpq's own variables for what they leave out. Which shard a server belongs to, shards.h knows. */
#ifndef PQI_DATABASES_H
#define PQI_DATABASES_H

#include "draft.h"

/* Reads every URL that counts: its variable then has its servers, and the options that it sets are
 * set. Parts that are no texts become faults, and count as not set. */
void pqi_databases_read(struct pqi_draft *d);

/* The first of the parts that is set; NULL: none. */
const struct pqi_var *pqi_database_part(const struct pqi_draft *d);

/* The servers of the database in parts, whose first one is named `first`, in `out`, which is empty;
 * it stays so where they are at fault. Free it. */
void pqi_database_of_parts(struct pqi_draft *d, const char *first, struct pqi_shard_conf *out);

/* Tells that a URL takes their place. */
void pqi_database_parts_unused(struct pqi_draft *d);

#endif
