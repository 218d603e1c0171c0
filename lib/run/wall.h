/* What is told a server ahead of a session's statements.
 *
 * The wall between tenants that servers keep, by row-level security: ahead of what a session runs
 * goes, in the same segment, the statement that tells the server whose session it is
 * (DB_TENANT_SETTING). If that one fails, or its Parse, the server skips what stands behind it. It
 * holds to the segment's or the transaction's end: neighbours on a lane, each with one of its own,
 * never run under another's.
 *
 * Behind a transaction pooler (DB_PGBOUNCER) there is always such a statement. It sets all that a
 * session is relied on for elsewhere, and fails where another server than was known is reached. */
#ifndef PQI_RUN_WALL_H
#define PQI_RUN_WALL_H

#include "../plan/config.h"
#include "../wire/pg.h"

/* All zero: there is none. */
struct pqi_wall {
    const char *setting; /* the options' */
    char *sql;           /* until the transaction's end; NULL: nothing is told */
    char *lasting_sql;   /* until the session's */
    uint64_t hash;
};

int pqi_wall_init(struct pqi_wall *w, const struct pqi_options *o, pqr_error *err);
void pqi_wall_free(struct pqi_wall *w);

/* A tenant (NULL: none, which is told as "") as the parameter that is told; *out stays NULL where
 * there is no wall. USAGE: no setting can hold it. */
int pqi_wall_name(const struct pqi_wall *w, const char *tenant, size_t len, struct pqi_params **out,
                  pqr_error *err);

/* Puts what tells that name into `stmt`, ahead of what follows there. false: nothing is told. */
bool pqi_wall_lead(const struct pqi_wall *w, struct pqi_params *name, struct pqi_stmt *stmt);

/* The same to the connection's end: it must not be pooled again. Ends its segment. */
bool pqi_wall_lead_lasting(const struct pqi_wall *w, struct pqi_params *name,
                           struct pqi_stmt *stmt);

#endif
