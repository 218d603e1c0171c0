/* Connections of a node, and the slots of its pool that they stand on. */
#ifndef PQI_CONN_H
#define PQI_CONN_H

#include "state.h"

/* Begins to connect; needs a slot of the pool and keeps it. `give_up_ns`: how long its owner will
 * wait at most. NULL: no memory, the slot is released. */
struct pqi_conn *pqi_conn_open(struct pqi_node *node, int64_t give_up_ns);

/* What it was asked first is answered: what the server says of itself. `anyone`: whoever may have
 * logged in. false: it must not be used, and is DEAD. */
bool pqi_conn_heard(struct pqi_node *node, struct pqi_conn *c, bool anyone,
                    struct pqi_sighting *seen);

/* Its handshake is done. */
void pqi_conn_made(struct pqi_node *node, struct pqi_conn *c);

/* Is it of a time before the node's role changed, or another server took its address? */
bool pqi_conn_outdated(const struct pqi_node *node, const struct pqi_conn *c);

/* Parts with a connection; the slot is released when the server has let go of it too. */
void pqi_conn_give_up(struct pqi_node *node, struct pqi_conn *c);

/* Back to the pool if provably clean, or while what its user left in the session is being cleaned
 * away (who takes it waits for that); else given up. */
void pqi_conn_back(struct pqi_node *node, struct pqi_conn *c);

/* Who has been idle since before *idle_ns, or lives since before *born_ns, is to be closed. */
void pqi_conn_limits(const struct pqi_options *o, int64_t now_ns, int64_t *idle_ns,
                     int64_t *born_ns);

#endif
