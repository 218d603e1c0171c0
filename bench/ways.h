/* Ways to read one row by its key and to write one: plain libpq with a connection a caller, and
 * pqrouter. */
#ifndef WAYS_H
#define WAYS_H

#include "bench.h"

#include <pqrouter/pqrouter.h>

#define ROWS 10000

/* As in the fleet's environment: DATABASE_PRIMARY_URL. */
extern const struct bench_way libpq_read, libpq_write;
/* .shared is the router. */
extern const struct bench_way pqrouter_read, pqrouter_write;

/* From one event loop, with so many calls in flight. */
extern const struct bench_way loop_read, loop_write;

/* Makes the table, with ROWS rows. false: it says why on stderr. */
bool ways_prepare(pqr *db);

#endif
