/* How long each statement takes. A place holds the upper half of a hash, and microseconds. */
#include "pace.h"

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32) | 1; /* never the 0 of an empty place */
}

enum pqi_pace_class pqi_pace_of(const struct pqi_pace *p, uint64_t hash)
{
    uint64_t now = atomic_load_explicit(&p->place[hash % PQI_PACE_PLACES], memory_order_relaxed);
    if (now >> 32 != tag_of(hash))
        return PQI_PACE_UNKNOWN;
    return (uint32_t)now < PQI_PACE_SLOW_US ? PQI_PACE_FAST : PQI_PACE_SLOW;
}

/* A moving average, the last measure with a quarter of the weight. */
void pqi_pace_note(struct pqi_pace *p, uint64_t hash, int64_t us)
{
    _Atomic uint64_t *place = &p->place[hash % PQI_PACE_PLACES];
    uint64_t before = atomic_load_explicit(place, memory_order_relaxed);
    int64_t most = UINT32_MAX;
    int64_t measured = us < 0 ? 0 : us > most ? most : us;
    if (before >> 32 == tag_of(hash)) {
        int64_t average = (int64_t)(uint32_t)before;
        measured = average + (measured - average) / 4;
    }
    atomic_store_explicit(place, (uint64_t)tag_of(hash) << 32 | (uint64_t)measured,
                          memory_order_relaxed);
}
