/* The configuration: environment variables in, one struct out. Knows names, ranges, URLs and
 * texts (options.def is the one list); knows no file but NAME_FILE secrets, no socket, no clock. */
#ifndef PQI_OPTIONS_H
#define PQI_OPTIONS_H

#include "url.h"

#include <pqrouter/pqrouter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pqi_preference {
    PQI_PREFER_PRIMARY,           /* reads go to the primary only */
    PQI_PREFER_PRIMARY_PREFERRED, /* to the primary, replicas while there is none */
    PQI_PREFER_REPLICA,           /* to replicas only */
    PQI_PREFER_REPLICA_PREFERRED  /* to replicas, else the primary */
};

enum pqi_log_format { PQI_LOG_TEXT, PQI_LOG_LOGFMT, PQI_LOG_JSON };

struct pqi_options {
    struct pqi_shard_conf *shards; /* at least one, each with a target at least */
    int nshards;
    bool sharded;                  /* DATABASE_SHARD_COUNT > 0 */
    struct pqi_shard_conf control; /* n == 0: none */

    /* One field an option of options.def; durations in ms, 0 = as the option's text says. */
    int64_t shard_count; /* as written; `shards` is what to use */
    int64_t connection_limit;
    int64_t pool_timeout_ms; /* 0: fail at once (nowait); INT64_MAX: wait without end */
    int64_t pool_queue_limit;
    int64_t connect_timeout_ms; /* INT64_MAX: none */
    int64_t socket_timeout_ms;  /* INT64_MAX: none */
    int64_t statement_timeout_ms;
    int64_t idle_timeout_ms;
    int64_t max_lifetime_ms;
    int64_t health_interval_ms;
    char *fleet_id;          /* NULL: not checked */
    int64_t max_connections; /* 0: ask the server */
    char *application_name;  /* never NULL */
    enum pqi_preference read_preference;
    int64_t max_replica_lag_ms;    /* 0: only by bytes */
    int64_t max_replica_lag_bytes; /* 0: only by time */
    int64_t slow_query_ms;         /* 0: off */
    int log_level;                 /* a pqr_log_level */
    enum pqi_log_format log_format;
    bool strict_env;

    /* What was noticed and is not a fault: one text each. */
    char **warnings;
    int nwarnings;

    struct pqi_source *sources; /* one a row of options.def, for pqi_options_settings */
};

/* A value in force and where it came from, for `pqrouter env`: one an option that this version
 * knows, in the order of options.def; the URLs' follow, one a server. */
struct pqi_setting {
    char *name;   /* "DB_CONNECTION_LIMIT", "DATABASE_SHARD_0_URL" */
    char *value;  /* never a secret: URLs as `shown`, a password as "(set)"; "": none */
    char *source; /* "environment", "default", "unused", or the other variable it came from */
};

/* Reads `env` ("NAME=value" strings, ended by NULL). On success *out is the configuration
 * (pqi_options_free). Otherwise PQR_E_CONFIG with all faults, "; " between them (as many as fit,
 * then "… and N more"), or PQR_E_NOMEM. `faults`, if not NULL, gets all of them whole, one a line
 * (pqi_mem_free), or NULL when there is none. */
int pqi_options_load(struct pqi_options **out, const char *const *env, char **faults,
                     pqr_error *err);
void pqi_options_free(struct pqi_options *o);

/* The settings in force. 0 entries and NULL when out of memory. Free with pqi_settings_free. */
size_t pqi_options_settings(const struct pqi_options *o, struct pqi_setting **out);
void pqi_settings_free(struct pqi_setting *s, size_t n);

/* docs/options.md, printed from options.def (pqi_mem_free). */
char *pqi_options_markdown(void);

#endif
