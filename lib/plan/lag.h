/* How far a replica is behind, from the router's own record of where the primary was when.
 * Takes no server clock: now() - pg_last_xact_replay_timestamp() grows on an idle primary. */
#ifndef PQI_LAG_H
#define PQI_LAG_H

#include <stdbool.h>
#include <stdint.h>

#define PQI_HISTORY_MAX 128

/* Where the primary was (pg_current_wal_lsn(), the written position: after a WAL switch on an
 * idle primary no replica ever reaches the insert position), oldest first, positions rising.
 * `at_ns` is the last moment at which it was seen there. Zero-initialised is empty. */
struct pqi_history {
    int n;
    struct pqi_sample {
        int64_t at_ns;
        uint64_t lsn;
    } sample[PQI_HISTORY_MAX];
};

/* Notes that the primary was at `lsn`. A position below the last one (a promotion) starts anew. */
void pqi_history_add(struct pqi_history *h, int64_t at_ns, uint64_t lsn);

/* -1: not known, which is not fresh. */
struct pqi_lag {
    int64_t bytes;
    int64_t ms;
};

/* How far a replica that has replayed up to `replayed` is behind the newest sample. The time is
 * an upper bound: how long before the newest sample the primary was last seen at or before that
 * position. While no primary answers no sample is added, so ages stand still. */
struct pqi_lag pqi_lag_of(const struct pqi_history *h, uint64_t replayed);

/* Up to where anything that the primary had shown by some moment can reach: its end of log (the
 * insert position: what is visible may not be written yet), sampled after that moment. All zero is
 * empty. */
#define PQI_HORIZON_MAX 16
struct pqi_horizon {
    int n;
    struct pqi_sample sample[PQI_HORIZON_MAX]; /* oldest first */
};

void pqi_horizon_add(struct pqi_horizon *h, int64_t at_ns, uint64_t lsn);

/* The first sample that was taken at `at_ns` or later. false: there is none yet. */
bool pqi_horizon_after(const struct pqi_horizon *h, int64_t at_ns, uint64_t *lsn);

#endif
