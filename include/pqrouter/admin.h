/* pqrouter, the operator's calls: what the command `pqrouter` is made of.
 *
 * What lives here: counters, where a tenant goes and why, one server's answer, the stamps and the
 * shard map, the configuration explained. The rules of <pqrouter/pqrouter.h> hold.
 */
#ifndef PQROUTER_ADMIN_H
#define PQROUTER_ADMIN_H

#include <pqrouter/pqrouter.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Counters ----------------------------------------------------------------------------- */

/* Since the router was opened. */
typedef struct pqr_stats {
    uint64_t reads, writes, transactions, batches; /* calls begun; transactions: commits */
    uint64_t errors;                               /* calls that ended with an error */
    uint64_t retries;   /* times something was run again that provably had not run */
    uint64_t unknown;   /* writes that may have happened */
    uint64_t deadlines; /* calls that ran out of time */
    uint64_t pool_timeouts, pool_full;
    uint64_t connects, connects_failed;
    uint64_t connections_lost; /* in a call */
    uint64_t discarded;        /* pooled connections found dead before use */
    uint64_t fallback_reads;   /* reads that the primary served for want of a replica */
    uint64_t map_reloads;
    uint64_t failovers;      /* times a shard's primary was found on a later timeline than before */
    uint64_t tokens_ignored; /* damaged or made up, or of another version, tenant, fleet or key */
    uint64_t tokens_clamped; /* ahead of the shard's primary, or of other servers: what they say
                                does not count */
} pqr_stats;

/* Writes the first `each` bytes (sizeof(pqr_stats)) of the counters. Errors: USAGE, FORKED,
 * CLOSED.
 * Since 0.1. */
PQR_API int pqr_stats_get(pqr *db, pqr_stats *out, size_t each);

/* ---- Where a tenant goes ------------------------------------------------------------------ */

/* The slot of a tenant, 0 to 16383: the top 14 bits of XXH3-64 of its bytes, for ever.
 * docs/sharding.md has test vectors for other languages. Since 0.1. */
PQR_API unsigned pqr_slot(const void *tenant, size_t len);

typedef struct pqr_route {
    int32_t slot;
    int32_t shard;
    int32_t pinned; /* 1: a pin decided, not the slot's owner */
    int32_t reserved;
    int64_t map_version; /* 0: no stamped shard was seen yet; the formula decided */
    char write_node[32]; /* who would take a write now; "": nobody */
    char write_why[512]; /* why nobody */
    char read_node[32];  /* who would serve a new session's read now; "": nobody */
    char read_why[512];  /* for each node: why it is or is not eligible */
} pqr_route;

/* Explains where a tenant's calls would go now; sends nothing to the tenant's tables. Waits for
 * the shard's first look at its servers, at most `timeout_ms`. Since 0.1. */
PQR_API int pqr_route_tenant(pqr *db, const char *tenant, size_t tenant_len, int64_t timeout_ms,
                             pqr_route *out, size_t each, pqr_error *err);

/* Runs one reading statement on one server, named as in pqr_health ("shard0/replica1"), whatever
 * its role and lag. Errors: as pqr_read. Since 0.1. */
PQR_API int pqr_node_read(pqr *db, const char *node, const pqr_query *q, pqr_result **res,
                          pqr_error *err);

/* ---- Stamps and the shard map ------------------------------------------------------------- */

/* Called with what was done, one line a step. */
typedef void pqr_progress_fn(void *arg, const char *text);

/* Creates the schema pqrouter in every shard (and the control database) and stamps each with the
 * fleet's id, its number and the shard map. What is stamped already is checked and left alone;
 * new shards get the map in force and own nothing. Without DATABASE_FLEET_ID a new fleet gets a
 * random id. Run again after a failure: it goes on. `progress` may be NULL. Errors: as pqr_write,
 * WRONG_SHARD (a stamp is of another shard or fleet: nothing is written anywhere). Since 0.1. */
PQR_API int pqr_init(pqr *db, int64_t timeout_ms, pqr_progress_fn *progress, void *arg,
                     pqr_error *err);

/* The SQL that pqr_init would run on an unstamped fleet, for people who apply it themselves: calls
 * `text` once a database with its whole SQL, which is of no use to another one; it begins with
 * "-- shard0: ", "-- shard1: ", …, "-- control: ". Asks no server. Errors: CONFIG (needs
 * DATABASE_FLEET_ID), NOMEM. Since 0.1. */
PQR_API int pqr_init_sql(pqr *db, pqr_progress_fn *text, void *arg, pqr_error *err);

/* Pins a tenant to a shard, in every shard's map, under a new version of it. Moves no rows: pin a
 * tenant before it has any. Writes nothing where every shard has that pin already. Running
 * processes follow within DB_HEALTH_INTERVAL. Errors: as pqr_init, UNSTAMPED. Since 0.1. */
PQR_API int pqr_pin(pqr *db, const char *tenant, size_t tenant_len, int shard, int64_t timeout_ms,
                    pqr_error *err);

/* Deletes the idempotency keys of what was done more than `older_ms` ago, in every shard and the
 * control database, a few thousand at a time; each such step waits `timeout_ms` at most. `progress`
 * (a line a shard) and `deleted` (how many, also after a failure) may be NULL. Errors: as pqr_write.
 * Since 0.1. */
PQR_API int pqr_purge(pqr *db, int64_t older_ms, int64_t timeout_ms, pqr_progress_fn *progress,
                      void *arg, int64_t *deleted, pqr_error *err);

/* ---- The configuration, explained --------------------------------------------------------- */

/* One setting in force: its name, value (never a secret) and where it came from. */
typedef void pqr_setting_fn(void *arg, const char *name, const char *value, const char *source);

/* Calls `each` for every setting. Since 0.1. */
PQR_API int pqr_settings(pqr *db, pqr_setting_fn *each, void *arg, pqr_error *err);

/* All faults of a configuration, whole, one call a fault; `env` as in pqr_options. Returns how
 * many there are (0: it is usable), or NOMEM. Since 0.1. */
PQR_API int pqr_config_faults(const char *const *env, pqr_progress_fn *fault, void *arg);

/* The reference pages, printed from the lists that the library itself is made of: "options",
 * "errors". Calls `text` once with the whole page. Errors: USAGE, NOMEM. Since 0.1. */
PQR_API int pqr_docs(const char *page, pqr_progress_fn *text, void *arg, pqr_error *err);

#ifdef __cplusplus
}
#endif

#endif
