/* What became of a transaction whose answer was lost: what its server says of its id, held against
 * whose id it was. */
#ifndef PQI_SETTLE_H
#define PQI_SETTLE_H

#include <stdbool.h>
#include <stdint.h>

/* Whose transaction ids they are. A primary gives each id once; another cluster, a promoted replica,
 * and a server that restarted from a crash may give it again, to somebody else. */
struct pqi_origin {
    uint64_t system_id;     /* 0: not known */
    uint32_t timeline;      /* 0: it was no primary */
    int64_t incarnation_us; /* as in struct pqi_sighting; 0: it does not tell */
};

/* Can ids from there be told from reissued ones? */
bool pqi_origin_proven(const struct pqi_origin *o);

/* What a primary says of an id (pg_xact_status). */
enum pqi_xact {
    PQI_XACT_UNTOLD, /* no usable answer */
    PQI_XACT_IN_PROGRESS,
    PQI_XACT_COMMITTED,
    PQI_XACT_ABORTED,
    PQI_XACT_FORGOTTEN, /* NULL: too long ago */
    PQI_XACT_FUTURE     /* 22023: not given yet */
};

struct pqi_settled {
    enum pqi_settling {
        PQI_SETTLED_COMMITTED,
        PQI_SETTLED_ABSENT, /* it did not happen, and never will */
        PQI_SETTLED_NOT_YET,
        PQI_SETTLED_NEVER /* nobody can tell: `why` */
    } how;
    const char *why;
};

/* `then`: where the transaction ran; `now`: the primary that says `xact` of its id. */
struct pqi_settled pqi_settle(const struct pqi_origin *then, const struct pqi_origin *now,
                              enum pqi_xact xact);

#endif
