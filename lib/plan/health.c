/* A node's state. */
#include "health.h"

#include <string.h>

enum pqr_node_state pqi_health_next(enum pqr_node_state now, enum pqi_sign sign)
{
#define UP PQR_NODE_UP
#define SUSPECT PQR_NODE_SUSPECT
#define DOWN PQR_NODE_DOWN
    static const enum pqr_node_state next[4][5] = {
        /*                     ANSWERED  QUIET    SILENT   REFUSED  FULL   */
        [PQR_NODE_UNKNOWN] = {UP, SUSPECT, SUSPECT, DOWN, SUSPECT},
        [PQR_NODE_UP] = {UP, SUSPECT, SUSPECT, DOWN, UP},
        [PQR_NODE_SUSPECT] = {UP, SUSPECT, DOWN, DOWN, SUSPECT},
        [PQR_NODE_DOWN] = {UP, DOWN, DOWN, DOWN, DOWN},
    };
#undef UP
#undef SUSPECT
#undef DOWN
    return next[now][sign];
}

bool pqi_health_outdates(const char *sqlstate)
{
    static const char *const states[] = {"57P01", "57P02", "57P03", "08"};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        if (strncmp(sqlstate, states[i], strlen(states[i])) == 0)
            return true;
    return false;
}

enum pqr_node_condition pqi_health_condition(const struct pqi_vitals *v)
{
    if (v->last != PQR_NODE_FINE)
        return v->last;
    if (v->state == PQR_NODE_UNKNOWN)
        return PQR_NODE_FINE;
    if (v->stranger)
        return PQR_NODE_STRANGER;
    if (v->fenced)
        return PQR_NODE_FENCED;
    if (v->role == PQR_ROLE_PRIMARY && v->read_only)
        return PQR_NODE_READ_ONLY;
    return v->latency_us >= PQI_SLOW_US ? PQR_NODE_SLOW : PQR_NODE_FINE;
}

const char *pqi_health_text(enum pqr_node_condition condition)
{
    switch (condition) {
    case PQR_NODE_FINE:
        return "";
    case PQR_NODE_REFUSED:
        return "it refuses connections";
    case PQR_NODE_SILENT:
        return "it does not answer";
    case PQR_NODE_SLOW:
        return "it answers slowly";
    case PQR_NODE_READ_ONLY:
        return "it takes no writes: default_transaction_read_only is on";
    case PQR_NODE_STARTING:
        return "it is starting up or shutting down";
    case PQR_NODE_STRANGER:
        return "it belongs to another cluster: its system identifier is not the shard's";
    case PQR_NODE_FENCED:
        return "it claims to be primary on an outdated timeline: no write goes there";
    case PQR_NODE_FULL:
        return "it has no connection left";
    case PQR_NODE_NO_LOGIN:
        return "it refuses the login";
    case PQR_NODE_BROKEN:
        return "it answers what cannot be";
    }
    return "";
}
