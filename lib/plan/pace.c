/* How long each statement takes. A place holds the upper half of a hash, strikes, and microseconds. */
#include "pace.h"

#include <stdbool.h>

/* A busy machine makes measures longer and nothing makes them shorter: so a statement that was fast
 * is slow only after so many slow measures in a row. */
#define STRIKES 32
#define UNKNOWN_US 500
#define MOST_US ((1 << 24) - 1)

struct pace {
    uint32_t tag;
    int strikes;
    int64_t us;
};

static struct pace unpack(uint64_t place)
{
    return (struct pace){(uint32_t)(place >> 32), (int)(place >> 24 & 255),
                         (int64_t)(place & MOST_US)};
}

static uint64_t pack(struct pace p)
{
    return (uint64_t)p.tag << 32 | (uint64_t)p.strikes << 24 | (uint64_t)p.us;
}

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32) | 1; /* never the 0 of an empty place */
}

enum pqi_pace_class pqi_pace_of(const struct pqi_pace *p, uint64_t hash, int64_t *us)
{
    struct pace now = unpack(
        atomic_load_explicit(&p->place[hash % PQI_PACE_PLACES], memory_order_relaxed));
    bool known = now.tag == tag_of(hash);
    if (us)
        *us = known ? now.us : UNKNOWN_US;
    if (!known)
        return PQI_PACE_UNKNOWN;
    return now.us < PQI_PACE_SLOW_US ? PQI_PACE_FAST : PQI_PACE_SLOW;
}

/* Of a first measure much may be planning: only what is far beyond is believed at once. */
static struct pace first(uint32_t tag, int64_t us)
{
    bool surely = us >= 10 * PQI_PACE_SLOW_US;
    return (struct pace){tag, 0, surely || us < PQI_PACE_SLOW_US / 2 ? us : PQI_PACE_SLOW_US / 2};
}

static struct pace next(struct pace p, int64_t us)
{
    if (us < PQI_PACE_SLOW_US)
        return (struct pace){p.tag, 0, (p.us + us) / 2};
    if (p.strikes + 1 < STRIKES && p.us < PQI_PACE_SLOW_US)
        return (struct pace){p.tag, p.strikes + 1, p.us};
    return (struct pace){p.tag, 0, us};
}

void pqi_pace_note(struct pqi_pace *p, uint64_t hash, int64_t us)
{
    _Atomic uint64_t *place = &p->place[hash % PQI_PACE_PLACES];
    struct pace before = unpack(atomic_load_explicit(place, memory_order_relaxed));
    uint32_t tag = tag_of(hash);
    int64_t measured = us < 0 ? 0 : us > MOST_US ? MOST_US : us;
    struct pace after = before.tag == tag ? next(before, measured) : first(tag, measured);
    atomic_store_explicit(place, pack(after), memory_order_relaxed);
}
