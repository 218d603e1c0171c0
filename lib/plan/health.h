/* A node's state, from what was seen of it. One table, one function. */
#ifndef PQI_HEALTH_H
#define PQI_HEALTH_H

#include <pqrouter/pqrouter.h>
#include <stdbool.h>

/*              answered
 *    UNKNOWN ───────────▶ UP ◀────────────┐
 *       │                 │ silent        │ answered
 *       │ silent          ▼               │
 *       ├────────────▶ SUSPECT ───────────┤
 *       │ refused         │ silent,       │ answered
 *       ▼                 ▼ refused       │
 *      DOWN ◀─────────────┴───────────────┘   (refused: from every state)
 */
enum pqi_seen_of_node {
    PQI_ANSWERED, /* a probe or a call was answered */
    PQI_SILENT,   /* a probe ran into its time limit */
    PQI_REFUSED   /* connection refused, reset, login refused, or shutting down */
};

/* Does what ended a connection say that the others of that server have had their time, too? It shuts
 * down, starts, or lost its state (57P01 to 57P03), or something between says that the link is gone
 * (08…). "": it said nothing; perhaps only that one link ended. */
bool pqi_health_outdates(const char *sqlstate);

enum pqr_node_state pqi_health_next(enum pqr_node_state now, enum pqi_seen_of_node seen);

#endif
