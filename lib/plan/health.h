/* A node's state, from what was seen of it. One table, one function. */
#ifndef PQI_HEALTH_H
#define PQI_HEALTH_H

#include <pqrouter/pqrouter.h>

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

enum pqr_node_state pqi_health_next(enum pqr_node_state now, enum pqi_seen_of_node seen);

#endif
