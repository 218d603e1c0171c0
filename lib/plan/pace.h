/* How long each statement takes, as measured: so that a fast one is never put behind a slow one.
 * A small table without locks: so many statements share a place, and one more replaces one of them
 * that was not measured lately. One table for all servers: slow answers of a sick one make no
 * statement slow that is fast elsewhere, since that takes many in a row. */
#ifndef PQI_PACE_H
#define PQI_PACE_H

#include <stdatomic.h>
#include <stdint.h>

#define PQI_PACE_PLACES 512
#define PQI_PACE_WAYS 4
#define PQI_PACE_SLOW_US 5000 /* from here on a statement is slow */

/* All zero: nothing is known. */
struct pqi_pace {
    _Atomic uint64_t place[PQI_PACE_PLACES][PQI_PACE_WAYS];
};

enum pqi_pace_class { PQI_PACE_UNKNOWN, PQI_PACE_FAST, PQI_PACE_SLOW };

/* By a statement's hash; *us (may be NULL) is how long it takes, a guess where it is unknown. */
enum pqi_pace_class pqi_pace_of(const struct pqi_pace *p, uint64_t hash, int64_t *us);
void pqi_pace_note(struct pqi_pace *p, uint64_t hash, int64_t us);

#endif
