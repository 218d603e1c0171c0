/* The shard map in force. */
#include "map.h"

#include "shard.h"

struct pqi_shard *pqi_map_place(struct pqr *db, const void *tenant, size_t len, int64_t *version,
                                bool *pinned)
{
    pthread_mutex_lock(&db->map_lock);
    int i = pqi_map_shard(db->map, tenant, len, pinned);
    *version = db->map->version;
    pthread_mutex_unlock(&db->map_lock);
    return i < db->nshards ? &db->shards[i] : NULL;
}

struct pqi_shard *pqi_map_control(struct pqr *db)
{
    return db->ngroups > db->nshards ? &db->shards[db->nshards] : NULL;
}

int64_t pqi_map_version(struct pqr *db)
{
    pthread_mutex_lock(&db->map_lock);
    int64_t version = db->map->version;
    pthread_mutex_unlock(&db->map_lock);
    return version;
}

bool pqi_map_newest(struct pqr *db, int64_t version)
{
    return version <= pqi_map_version(db);
}

void pqi_map_install(struct pqr *db, struct pqi_map *map)
{
    for (int i = 0; i < db->nshards && map->version > pqi_map_version(db); i++)
        pqi_shard_map_changed(&db->shards[i]);
    pthread_mutex_lock(&db->map_lock);
    struct pqi_map *old = map;
    if (map->version > db->map->version) {
        old = db->map;
        db->map = map;
    }
    pthread_mutex_unlock(&db->map_lock);
    if (old == map) {
        pqi_map_free(map);
        return;
    }
    pqi_count(db, map_reloads);
    pqi_log(&db->log, PQR_LOG_INFO, "map", "the shard map is now version %lld (before: %lld)",
            (long long)map->version, (long long)old->version);
    pqi_map_free(old);
}
