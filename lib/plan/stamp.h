/* The stamp: whose database this is. Written by `pqrouter init`, read by every new connection
 * before any call is sent, so that a wrong URL can never reach another shard's rows. */
#ifndef PQI_STAMP_H
#define PQI_STAMP_H

#include <pqrouter/pqrouter.h>
#include <stdbool.h>
#include <stdint.h>

#define PQI_STAMP_CONTROL (-1) /* the shard number of the control database */

struct pqi_stamp {
    enum {
        PQI_STAMP_UNREAD, /* not asked yet */
        PQI_STAMP_NONE,   /* 42P01: no such table */
        PQI_STAMP_DENIED, /* 42501: no right to read it */
        PQI_STAMP_READ
    } state;
    char fleet[64];
    int shard;
    int shards; /* how many the map knows */
    int64_t map_version;
};

/* What this process expects of a node of `shard`. */
struct pqi_stamp_expected {
    const char *fleet; /* NULL: any */
    int shard;
    int shards; /* DATABASE_SHARD_COUNT; 0: not sharded */
};

/* Reads what stands in a database's row, as text: fleet, shard, shards, map version. false: nothing
 * that pqrouter init writes; `out` is left alone. Never cut short: of another fleet's longer name the
 * beginning might be this one's. */
bool pqi_stamp_read(const char *const row[4], struct pqi_stamp *out);

/* PQR_OK: calls may be sent there (writes, with `write`). Else WRONG_SHARD, UNSTAMPED or MAP with
 * what to do. An unstamped database is refused for writes where there are two or more shards, and
 * for everything where a fleet id is expected. */
int pqi_stamp_check(const struct pqi_stamp *stamp, const struct pqi_stamp_expected *expected,
                    bool write, pqr_error *err);

#endif
