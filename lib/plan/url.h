/* Servers as configured, and the URLs or keyword strings that say so: the dialects of libpq and of
 * the frameworks that stretched it. Never calls libpq, does no I/O; no reason quotes a value. */
#ifndef PQI_URL_H
#define PQI_URL_H

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
    bool local;         /* unix socket, localhost, 127.0.0.0/8, ::1, or so says hostaddr */
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

/* ---- Reading URLs ------------------------------------------------------------------------- */

/* What a URL can say of a server, under whichever name. */
enum pqi_part {
    PQI_HOST, /* HOST, HOSTADDR and PORT may be lists, with commas */
    PQI_HOSTADDR,
    PQI_PORT,
    PQI_DBNAME,
    PQI_USER,
    PQI_PASSWORD,
    PQI_PASSWORD_RAW, /* as it stood in the text */
    PQI_PASSFILE,
    PQI_SERVICE,
    PQI_SSLMODE,
    PQI_SSL,       /* ssl=true */
    PQI_SSLACCEPT, /* Prisma's: strict or not */
    PQI_OPTIONS,
    PQI_SCHEMA,      /* one schema's name */
    PQI_SEARCH_PATH, /* a list as SQL has it */
    PQI_PARTS
};

/* An option of ours under the name that a framework gave it inside its URL. */
struct pqi_wish {
    const char *parameter; /* "connection_limit" */
    const char *option;    /* "DB_CONNECTION_LIMIT" */
    char *value;
};
enum { PQI_WISHES = 5 };

/* One URL, taken apart and decoded. Zero-initialised is empty. */
struct pqi_url {
    char *part[PQI_PARTS]; /* NULL: it does not say */
    struct pqi_keyword *extra;
    int nextra;
    struct pqi_wish wish[PQI_WISHES];
    int nwishes;
    char *dropped; /* "pool, conn_max_age": what frameworks use themselves; NULL: none */
};

/* Why a text is no usable URL. */
struct pqi_url_fault {
    const char *reason; /* static */
    char parameter[33]; /* the parameter at fault; "": none, or its name is better not shown */
};

/* Takes `text` apart. PQR_E_CONFIG: *fault says why. PQR_E_NOMEM. Free `url` in any case. */
int pqi_url_read(struct pqi_url *url, const char *text, struct pqi_url_fault *fault);

/* A target for each of its hosts, added to `out`, without names. Errors as above; free `out` in
 * any case. */
int pqi_url_targets(const struct pqi_url *url, struct pqi_shard_conf *out,
                    struct pqi_url_fault *fault);

void pqi_url_free(struct pqi_url *url);
void pqi_shard_conf_free(struct pqi_shard_conf *conf);

/* Replaces in `text`, in place, every occurrence of a target's password (as it is, and as it
 * stood percent-encoded in the URL) by "***". For texts that libpq wrote. */
void pqi_scrub(char *text, const struct pqi_target *target);

#endif
