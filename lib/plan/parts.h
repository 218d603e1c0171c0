/* A URL or keyword string taken apart: what it says of servers, under whichever names it said so,
 * and why it is refused. How such a text is read, url.h knows; what comes of it, servers.h. */
#ifndef PQI_PARTS_H
#define PQI_PARTS_H

#include "target.h"

#include <stddef.h>

/* A piece of a text. */
struct pqi_slice {
    const char *at;
    size_t len;
};

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
enum { PQI_WISHES = 6 };

/* One URL, taken apart and decoded. Zero-initialised is empty. */
struct pqi_url {
    char *part[PQI_PARTS]; /* NULL: it does not say */
    struct pqi_keyword *extra;
    int nextra;
    struct pqi_wish wish[PQI_WISHES];
    int nwishes;
    char *dropped; /* "pool, conn_max_age": what frameworks use themselves; NULL: none */
};

void pqi_url_free(struct pqi_url *url);

/* Puts *text, which becomes NULL, in the place of what the URL said before. */
void pqi_url_take(struct pqi_url *url, enum pqi_part part, char **text);

/* Keeps the password as it stood. PQR_OK or PQR_E_NOMEM. */
int pqi_url_keep_raw(struct pqi_url *url, struct pqi_slice password);

/* Why a text is no usable URL. No reason quotes a value. */
struct pqi_url_fault {
    const char *reason; /* static */
    char parameter[33]; /* the parameter at fault; "": none, or its name is better not shown */
};

/* Fills *fault; `parameter` may be NULL, and is shown if it is not. PQR_E_CONFIG. */
int pqi_url_refuse(struct pqi_url_fault *fault, const char *reason, const char *parameter);

#endif
