/* The shard map in force: which shard a tenant is on. Replaced whole when a newer one is loaded. */
#ifndef PQI_MAP_H
#define PQI_MAP_H

#include "state.h"

/* The shard of a tenant now, and the map version that said so. NULL: the map names a shard that
 * is not configured. */
struct pqi_shard *pqi_map_place(struct pqr *db, const void *tenant, size_t len, int64_t *version,
                                bool *pinned);
struct pqi_shard *pqi_map_control(struct pqr *db); /* NULL: none configured */
int64_t pqi_map_version(struct pqr *db);
/* Is no newer map known to exist than the one in force, given that a stamp names `version`? */
bool pqi_map_newest(struct pqr *db, int64_t version);

/* Installs a map if it is newer than the one in force; takes it over either way. */
void pqi_map_install(struct pqr *db, struct pqi_map *map);

#endif
