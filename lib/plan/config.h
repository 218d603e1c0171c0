/* The configuration: one struct, written once and then only read. How it comes out of an
 * environment, options.h knows. */
#ifndef PQI_CONFIG_H
#define PQI_CONFIG_H

#include "target.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PQI_NAME_BYTES = 64 }; /* enough for any variable's name, with its NUL */

enum pqi_preference {
    PQI_PREFER_PRIMARY,           /* reads go to the primary only */
    PQI_PREFER_PRIMARY_PREFERRED, /* to the primary, replicas while there is none */
    PQI_PREFER_REPLICA,           /* to replicas only */
    PQI_PREFER_REPLICA_PREFERRED  /* to replicas, else the primary */
};

enum pqi_log_format { PQI_LOG_TEXT, PQI_LOG_LOGFMT, PQI_LOG_JSON };

/* Where a value came from: "environment", "default", "unused", or another variable's name. */
struct pqi_source {
    char text[PQI_NAME_BYTES];
};

struct pqi_options {
    struct pqi_shard_conf *shards; /* at least one, each with a target at least */
    int nshards;
    bool sharded;                  /* DATABASE_SHARD_COUNT > 0 */
    struct pqi_shard_conf control; /* n == 0: none */

    /* One field an option of option.def; durations in ms, 0 = as the option's text says. */
    int64_t shard_count; /* as written; `shards` is what to use */
    int64_t connection_limit;
    int64_t lanes;
    int64_t prepared_statements;
    int64_t pool_timeout_ms; /* 0: fail at once (nowait); INT64_MAX: wait without end */
    int64_t pool_queue_limit;
    int64_t connect_timeout_ms; /* INT64_MAX: none */
    int64_t socket_timeout_ms;  /* INT64_MAX: none */
    int64_t statement_timeout_ms;
    int64_t idle_timeout_ms;
    int64_t max_lifetime_ms;
    int64_t connect_rate;
    bool pgbouncer; /* a transaction pooler stands before each server */
    int64_t min_replicas, fallback_percent;
    int64_t health_interval_ms;
    int64_t retry_max;
    int64_t retry_budget_percent;
    char *fleet_id;          /* NULL: not checked */
    char *token_key;         /* a secret; NULL: tokens are not authenticated */
    int64_t max_connections; /* 0: ask the server */
    char *application_name;  /* never NULL */
    enum pqi_preference read_preference;
    int64_t max_replica_lag_ms;    /* 0: only by bytes */
    int64_t max_replica_lag_bytes; /* 0: only by time */
    char *tenant_setting;          /* NULL: servers are not told whose call it is */
    int64_t slow_query_ms;         /* 0: off */
    int log_level;                 /* a pqr_log_level */
    enum pqi_log_format log_format;
    bool strict_env;

    /* What was noticed and is not a fault: one text each. */
    char **warnings;
    int nwarnings;

    struct pqi_source *sources; /* one a row of option.def */
};

/* An empty one, with room for that many sources; NULL: no memory. */
struct pqi_options *pqi_options_new(size_t sources);

/* NULL and half-built ones are accepted. */
void pqi_options_free(struct pqi_options *o);

#endif
