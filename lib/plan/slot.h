/* tenant -> slot -> shard. The slot of a tenant never changes; the map says which shard owns a
 * slot, and pins move single tenants past it. Knows nothing of where the map is kept. */
#ifndef PQI_SLOT_H
#define PQI_SLOT_H

#include <pqrouter/pqrouter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PQI_SLOTS 16384
#define PQI_SHARDS_MAX 1024

/* A tenant that lives on `shard`, whatever owns its slot. */
struct pqi_pin {
    const char *tenant; /* bytes, not a string */
    size_t len;
    int shard;
};

/* Immutable once it is in use, and then read from any thread. */
struct pqi_map {
    int64_t version;           /* 0: by formula, or not set yet */
    int shards;                /* at least one more than the highest shard that it names */
    uint16_t owner[PQI_SLOTS]; /* the shard of each slot */
    struct pqi_pin *pins;      /* sorted by length, then bytes; owned, in one allocation */
    size_t npins;
};

/* The slot of a tenant: the top 14 bits of XXH3-64(bytes, seed 0). */
unsigned pqi_slot(const void *tenant, size_t len);

/* The first map of `shards` (1 to PQI_SHARDS_MAX): slot * shards / PQI_SLOTS, version 0.
 * NULL: out of memory, or no such number of shards. Free with pqi_map_free. */
struct pqi_map *pqi_map_new(int shards);

/* Reads "0-8191:0 8192-16383:1": ranges of slots with their shard, blanks between them, every slot
 * once, ascending; one slot is "7-7:0". `shards` becomes the highest shard + 1; the
 * version stays 0. Errors: MAP (where and what is wrong), NOMEM. */
int pqi_map_parse(struct pqi_map **out, const char *text, pqr_error *err);

/* The map's slots as that text, in the fewest ranges (pqi_mem_free). NULL: out of memory. */
char *pqi_map_format(const struct pqi_map *map);

/* Replaces the pins by copies of these, in any order; raises `shards` if a pin needs it.
 * Errors: MAP (the same tenant twice, a shard out of range), NOMEM: then the map is as before. */
int pqi_map_set_pins(struct pqi_map *map, const struct pqi_pin *pins, size_t n, pqr_error *err);

/* Reads "61636d65:1 …" and sets these pins: each tenant's bytes in hexadecimal, its shard, a blank
 * before the next. Errors: as pqi_map_set_pins, MAP also for anything else. */
int pqi_map_read_pins(struct pqi_map *map, const char *text, pqr_error *err);

/* The shard of a tenant. `pinned` (may be NULL) tells whether a pin decided. */
int pqi_map_shard(const struct pqi_map *map, const void *tenant, size_t len, bool *pinned);

/* NULL is accepted. */
void pqi_map_free(struct pqi_map *map);

#endif
