/* A node's state. */
#include "health.h"

#include <string.h>

enum pqr_node_state pqi_health_next(enum pqr_node_state now, enum pqi_seen_of_node seen)
{
    static const enum pqr_node_state next[4][3] = {
        /*                      ANSWERED     SILENT            REFUSED      */
        [PQR_NODE_UNKNOWN] = {PQR_NODE_UP, PQR_NODE_SUSPECT, PQR_NODE_DOWN},
        [PQR_NODE_UP] = {PQR_NODE_UP, PQR_NODE_SUSPECT, PQR_NODE_DOWN},
        [PQR_NODE_SUSPECT] = {PQR_NODE_UP, PQR_NODE_DOWN, PQR_NODE_DOWN},
        [PQR_NODE_DOWN] = {PQR_NODE_UP, PQR_NODE_DOWN, PQR_NODE_DOWN},
    };
    return next[now][seen];
}

bool pqi_health_outdates(const char *sqlstate)
{
    static const char *const states[] = {"57P01", "57P02", "57P03", "08"};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        if (strncmp(sqlstate, states[i], strlen(states[i])) == 0)
            return true;
    return false;
}
