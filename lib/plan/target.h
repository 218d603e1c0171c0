/* One server as configured, and the servers of a shard; what may be shown of one, and its secrets
 * taken out of the texts of others. Knows neither URLs nor variables. */
#ifndef PQI_TARGET_H
#define PQI_TARGET_H

#include <stdbool.h>

/* A further libpq connection keyword that the URL brought (sslrootcert, krbsrvname, …). */
struct pqi_keyword {
    char *key;
    char *value;
};

/* One server as configured. A URL with several hosts yields several of these. */
struct pqi_target {
    char name[32];      /* "shard1/primary", "shard1/replica2", "control/primary"; without shards
                           "shard0/…"; further hosts of one URL: "shard1/primary.2", … */
    char variable[64];  /* the variable that it came from, for messages */
    char *host;         /* name, address, or folder of a unix socket; never NULL, as is port */
    char *hostaddr;     /* from the URL; NULL: resolve `host` */
    char *port;         /* from 1 to 65535 */
    char *dbname;       /* NULL: as user, or what the URL's service says */
    char *user;         /* NULL: libpq's own default (the name of the system's user), or likewise */
    char *password;     /* NULL: none given (libpq looks into the pass file) */
    char *password_raw; /* as it stood in the URL, for pqi_scrub; NULL: it came from elsewhere */
    char *sslmode;      /* always set: verify-full, or "prefer" for a local host, or the URL's */
    bool local;         /* unix socket, localhost, 127.0.0.0/8, ::1, and so is its hostaddr */
    struct pqi_keyword *extra;
    int nextra;
    char *shown; /* "postgresql://user@host:port/db": what may be printed; a URL again, so a
                    socket's folder is %2Fvar%2Frun%2Fpostgresql */
};

/* A shard, or the control database: its servers, the primary's URL first. */
struct pqi_shard_conf {
    struct pqi_target *targets;
    int n;
};

/* Frees its targets, half-built ones too; then it is empty. */
void pqi_shard_conf_free(struct pqi_shard_conf *conf);

/* PQR_OK or PQR_E_NOMEM; copies both. Free the list in any case. */
int pqi_keyword_add(struct pqi_keyword **list, int *n, const char *key, const char *value);
void pqi_keywords_free(struct pqi_keyword *list, int n);

/* For `shown`: the target's URL without its password; `service` may be NULL. NULL: no memory. */
char *pqi_target_show(const struct pqi_target *t, const char *service);

/* Replaces in `text`, in place, every occurrence of a target's password (as it is, and as it
 * stood percent-encoded in the URL) by "***". For texts that libpq wrote. */
void pqi_scrub(char *text, const struct pqi_target *target);

#endif
