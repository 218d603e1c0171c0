/* How long each statement takes, as measured: so that a fast one is never put behind a slow one.
 * A small table without locks: two statements may share a place, and then the later one has it. */
#ifndef PQI_PACE_H
#define PQI_PACE_H

#include <stdatomic.h>
#include <stdint.h>

#define PQI_PACE_PLACES 1024
#define PQI_PACE_SLOW_US 5000 /* from here on a statement is slow */

/* All zero: nothing is known. */
struct pqi_pace {
    _Atomic uint64_t place[PQI_PACE_PLACES];
};

enum pqi_pace_class { PQI_PACE_UNKNOWN, PQI_PACE_FAST, PQI_PACE_SLOW };

/* By a statement's hash; *us (may be NULL) is how long it takes, a guess where it is unknown. */
enum pqi_pace_class pqi_pace_of(const struct pqi_pace *p, uint64_t hash, int64_t *us);
void pqi_pace_note(struct pqi_pace *p, uint64_t hash, int64_t us);

#endif
