/* What became of a transaction whose answer was lost. */
#include "settle.h"

#include <stddef.h>

bool pqi_origin_proven(const struct pqi_origin *o)
{
    return o->system_id != 0 && o->timeline != 0 && o->incarnation_us != 0;
}

/* Why an id of `then` says nothing now; NULL: it does. */
static const char *another(const struct pqi_origin *then, const struct pqi_origin *now)
{
    if (!pqi_origin_proven(then) || !pqi_origin_proven(now))
        return "the server does not tell enough of itself";
    if (now->system_id != then->system_id)
        return "another cluster answers there now";
    if (now->timeline != then->timeline)
        return "a server was promoted since, which may have given its id to another one";
    if (now->incarnation_us != then->incarnation_us)
        return "the server has restarted from a crash since, and may have given its id to another one";
    return NULL;
}

struct pqi_settled pqi_settle(const struct pqi_origin *then, const struct pqi_origin *now,
                              enum pqi_xact xact)
{
    const char *why = another(then, now);
    if (why)
        return (struct pqi_settled){PQI_SETTLED_NEVER, why};
    switch (xact) {
    case PQI_XACT_COMMITTED:
        return (struct pqi_settled){PQI_SETTLED_COMMITTED, ""};
    /* It was given an id there, so one that was not given yet is lost with what it did. */
    case PQI_XACT_ABORTED:
    case PQI_XACT_FUTURE:
        return (struct pqi_settled){PQI_SETTLED_ABSENT, ""};
    case PQI_XACT_IN_PROGRESS:
        return (struct pqi_settled){PQI_SETTLED_NOT_YET, "the server is still at it"};
    case PQI_XACT_FORGOTTEN:
        return (struct pqi_settled){PQI_SETTLED_NEVER, "it is too long ago for the server to know"};
    case PQI_XACT_UNTOLD:
        break;
    }
    return (struct pqi_settled){PQI_SETTLED_NEVER, "the server does not say what became of it"};
}
