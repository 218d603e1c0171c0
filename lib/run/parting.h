/* Connections that were closed here and still count at their server: a server process outlives
 * the socket, and a new connection beside it would exceed DB_CONNECTION_LIMIT there. */
#ifndef PQI_PARTING_H
#define PQI_PARTING_H

#include "pool.h"

struct pqi_partings;

struct pqi_partings *pqi_partings_new(void); /* NULL: no memory */

/* Before the first use: takes its descriptor. false: there is none to be had. */
bool pqi_partings_begin(struct pqi_partings *p);

/* Readable when there is something to step for. */
int pqi_partings_fd(const struct pqi_partings *p);

/* Takes a parting descriptor over: the pool's slot is released when the server has let go: a
 * dead link ends by keepalive, a frozen server keeps its slots. fd -1, or after the end: at once.
 * Thread-safe. */
void pqi_part(struct pqi_partings *p, struct pqi_pool *pool, int fd);

/* Releases what has parted. */
void pqi_partings_step(struct pqi_partings *p);

/* From now on nothing is waited for. */
void pqi_partings_end(struct pqi_partings *p);

/* NULL is accepted. */
void pqi_partings_free(struct pqi_partings *p);

#endif
