/* Which statements leave nothing. A place holds the upper 56 bits of a hash, and how often. */
#include "habit.h"

#define COUNT_MASK UINT64_C(255)
#define LEAVES 255 /* it has left something */

static uint64_t tag_of(uint64_t hash)
{
    return hash & ~COUNT_MASK;
}

bool pqi_habit_asks(const struct pqi_habits *h, uint64_t hash, uint64_t dice)
{
    uint64_t now = atomic_load_explicit(&h->place[hash % PQI_HABIT_PLACES], memory_order_relaxed);
    uint64_t proofs = now & COUNT_MASK;
    if (tag_of(now) != tag_of(hash) || proofs < PQI_HABIT_PROOFS || proofs == LEAVES)
        return true;
    return dice % PQI_HABIT_SAMPLE == 0;
}

void pqi_habit_note(struct pqi_habits *h, uint64_t hash, bool left)
{
    _Atomic uint64_t *place = &h->place[hash % PQI_HABIT_PLACES];
    uint64_t before = atomic_load_explicit(place, memory_order_relaxed);
    uint64_t proofs = tag_of(before) == tag_of(hash) ? before & COUNT_MASK : 0;
    if (left)
        proofs = LEAVES;
    else if (proofs < PQI_HABIT_PROOFS)
        proofs++;
    atomic_store_explicit(place, tag_of(hash) | proofs, memory_order_relaxed);
}
