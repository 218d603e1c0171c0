/* How long each statement takes. Of each a place holds the upper half of its hash, whether it was
 * measured lately, strikes, and microseconds. */
#include "pace.h"

#include <stdbool.h>

/* A busy machine makes measures longer and nothing makes them shorter: so a statement that was fast
 * is slow only after so many slow measures in a row. */
#define STRIKES 32
#define UNKNOWN_US 500
#define MOST_US ((1 << 24) - 1)
#define LATELY (UINT64_C(1) << 31)

struct pace {
    uint32_t tag;
    int strikes;
    int64_t us;
};

static struct pace unpack(uint64_t place)
{
    return (struct pace){(uint32_t)(place >> 32), (int)(place >> 24 & 127),
                         (int64_t)(place & MOST_US)};
}

static uint64_t pack(struct pace p)
{
    return (uint64_t)p.tag << 32 | LATELY | (uint64_t)p.strikes << 24 | (uint64_t)p.us;
}

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32) | 1; /* never the 0 of an empty place */
}

/* Where the statement is; -1: nowhere. */
static int find(const _Atomic uint64_t *ways, uint32_t tag)
{
    for (int i = 0; i < PQI_PACE_WAYS; i++)
        if (atomic_load_explicit(&ways[i], memory_order_relaxed) >> 32 == tag)
            return i;
    return -1;
}

/* Where a new one goes: the first that was not measured since this was asked last. */
static int make_room(_Atomic uint64_t *ways, uint32_t tag)
{
    int begin = (int)(tag / 2 % PQI_PACE_WAYS);
    for (int i = 0; i < PQI_PACE_WAYS; i++) {
        int way = (begin + i) % PQI_PACE_WAYS;
        uint64_t held = atomic_load_explicit(&ways[way], memory_order_relaxed);
        if (!(held & LATELY))
            return way;
    }
    for (int i = 0; i < PQI_PACE_WAYS; i++)
        atomic_fetch_and_explicit(&ways[i], ~LATELY, memory_order_relaxed);
    return begin;
}

enum pqi_pace_class pqi_pace_of(const struct pqi_pace *p, uint64_t hash, int64_t *us)
{
    const _Atomic uint64_t *ways = p->place[hash % PQI_PACE_PLACES];
    int way = find(ways, tag_of(hash));
    struct pace now = {.us = UNKNOWN_US};
    if (way >= 0)
        now = unpack(atomic_load_explicit(&ways[way], memory_order_relaxed));
    if (us)
        *us = now.us;
    if (way < 0)
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
    _Atomic uint64_t *ways = p->place[hash % PQI_PACE_PLACES];
    uint32_t tag = tag_of(hash);
    int way = find(ways, tag);
    int64_t measured = us < 0 ? 0 : us > MOST_US ? MOST_US : us;
    struct pace after = first(tag, measured);
    if (way >= 0)
        after = next(unpack(atomic_load_explicit(&ways[way], memory_order_relaxed)), measured);
    else
        way = make_room(ways, tag);
    atomic_store_explicit(&ways[way], pack(after), memory_order_relaxed);
}
