/* A node's state, from what was seen of it. One table, one function. */
#ifndef PQI_HEALTH_H
#define PQI_HEALTH_H

#include <pqrouter/pqrouter.h>
#include <stdbool.h>
#include <stdint.h>

/*              answered
 *    UNKNOWN ───────────▶ UP ◀──────────────────┐
 *       │                 │ quiet, silent       │ answered: the only way back, for each of them
 *       │ quiet, silent,  ▼                     │
 *       │ full         SUSPECT ─────────────────┤
 *       ├───────────────▶ │ silent, refused     │
 *       │ refused         ▼                     │
 *       └───────────────▶ DOWN ─────────────────┘   (refused: from every state)
 */
enum pqi_sign {
    PQI_ANSWERED, /* a probe was answered */
    PQI_QUIET,    /* a probe and calls wait, and nothing has come for a moment */
    PQI_SILENT,   /* a probe ran into its time limit */
    PQI_REFUSED,  /* nobody listens, no such name, login refused, starting up or shutting down */
    PQI_FULL /* it has no connection left, so it lives: but for who knows nothing else of it … */
};

enum pqr_node_state pqi_health_next(enum pqr_node_state now, enum pqi_sign sign);

/* Does what ended a connection say that the others of that server have had their time, too? It shuts
 * down, starts, or lost its state (57P01 to 57P03), or something between says that the link is gone
 * (08…). "": it said nothing; perhaps only that one link ended. */
bool pqi_health_outdates(const char *sqlstate);

/* Slower than this, a probe is told as slow. */
#define PQI_SLOW_US 250000

/* What there is to say of a node. */
struct pqi_vitals {
    enum pqr_node_state state;
    enum pqr_node_condition last; /* why it was not reached last; PQR_NODE_FINE: it was */
    enum pqr_role role;
    bool read_only;     /* default_transaction_read_only is on */
    bool stranger;      /* its system identifier is not the shard's */
    bool fenced;        /* it claims to be primary, on an older line than was seen */
    int64_t latency_us; /* of its last probe; -1: none */
};

/* The worst of it. */
enum pqr_node_condition pqi_health_condition(const struct pqi_vitals *v);

/* One sentence part; "" when it is fine. */
const char *pqi_health_text(enum pqr_node_condition condition);

#endif
