/* Positions in the write-ahead log, and what a session has seen of it. Pure arithmetic. */
#ifndef PQI_LSN_H
#define PQI_LSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "16/B374D848" → a number; false: not a position. */
bool pqi_lsn_parse(const char *text, uint64_t *out);

/* A position that only names the header of a page or segment (24 bytes into a page, 40 into a
 * segment of `segment_bytes`) → the start of that page: nothing is written between, so no replica
 * ever replays up to the former. https://www.postgresql.org/docs/15/wal-internals.html */
uint64_t pqi_lsn_floor(uint64_t lsn, uint64_t segment_bytes);

/* What a replica may have shown by a moment when it told that it has replayed up to `replayed`, and
 * received up to `received` (0: it does not tell). A transaction becomes visible just before the end
 * of its record counts as replayed: so where there is more than that, it may be one record beyond.
 * That is any position past `replayed`, since replicas stop at ends of records. */
uint64_t pqi_lsn_shown(uint64_t replayed, uint64_t received);

/* What a session has written or read: nothing older may be shown to it. */
struct pqi_seen {
    uint32_t timeline; /* 0: nothing yet */
    uint64_t lsn;
};

/* Raises what was seen: a later timeline counts before a later position. */
void pqi_seen_raise(struct pqi_seen *seen, uint32_t timeline, uint64_t lsn);

/* Is a node at (timeline, replayed) fresh enough? Both must hold: after a promotion positions can
 * go backwards. A node whose timeline is not proven (0) is fresh only for who has seen
 * none that was. */
bool pqi_seen_fresh(const struct pqi_seen *seen, uint32_t timeline, uint64_t replayed);

#endif
