/* Which statements have been seen to leave nothing in a session, so that not every run of them is
 * looked behind. A small table without locks: two statements may share a place, and then both are
 * looked behind. */
#ifndef PQI_HABIT_H
#define PQI_HABIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PQI_HABIT_PLACES 1024
#define PQI_HABIT_PROOFS 8  /* so often one is looked behind at first, */
#define PQI_HABIT_SAMPLE 16 /* and once in so many runs for ever */

/* All zero: nothing is known. */
struct pqi_habits {
    _Atomic uint64_t place[PQI_HABIT_PLACES];
};

/* Is this run of a statement (by its hash) to be looked behind? `dice` is any number. */
bool pqi_habit_asks(const struct pqi_habits *h, uint64_t hash, uint64_t dice);

/* What was found: one that left something once is looked behind every time. */
void pqi_habit_note(struct pqi_habits *h, uint64_t hash, bool left);

#endif
