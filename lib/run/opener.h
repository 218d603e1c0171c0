/* Opens the connections of the lanes that are wanted, on the monitor's thread: no caller's deadline ends what all the
 * others wait for, and no caller waits for a name or a handshake. And finishes those that a caller had begun for
 * itself and has no time for any more: were they given up, callers with less time than a login takes would never
 * have any. */
#ifndef PQI_OPENER_H
#define PQI_OPENER_H

#include <pqrouter/pqrouter.h>
#include <stdbool.h>
#include <stdint.h>

struct pqi_conn;
struct pqi_node;
struct pqi_opener;
struct pqr;

struct pqi_opener *pqi_opener_new(struct pqr *db); /* NULL: no memory */

/* Takes its descriptors, if it has none yet. false: there are none. */
bool pqi_opener_begin(struct pqi_opener *o);

/* Takes over a connection that is being made; it goes to the pool. false: it is not worth it, or there is no
 * memory, and it stays the caller's. Any thread's. */
bool pqi_opener_adopt(struct pqi_opener *o, struct pqi_node *node, struct pqi_conn *conn);

/* ---- The monitor's thread ------------------------------------------------------------------- */

/* Readable when there is something to step for. */
int pqi_opener_fd(const struct pqi_opener *o);
/* Goes on; returns when it wants to be called again at the latest. */
int64_t pqi_opener_step(struct pqi_opener *o, int64_t now_ns);
/* Gives up on all that it was opening or was to open. */
void pqi_opener_end(struct pqi_opener *o);

/* NULL is accepted. */
void pqi_opener_free(struct pqi_opener *o, bool forked);

#endif
