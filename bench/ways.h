/* Ways to read one row by its key and to write one: plain libpq with a connection a caller, and
 * pqrouter. */
#ifndef WAYS_H
#define WAYS_H

#include "bench.h"

#include <pqrouter/pqrouter.h>

#define ROWS 10000

/* As in the fleet's environment: DATABASE_PRIMARY_URL. */
extern const struct bench_way libpq_read, libpq_write;
/* Ahead of the write the transaction's id, behind its commit the position: what an expert would write who
 * wants to know what became of a write whose answer was lost, and to read it from replicas. */
extern const struct bench_way by_hand_write;
/* .shared is the router. */
extern const struct bench_way pqrouter_read, pqrouter_write, pqrouter_write_no_id;

/* From one event loop, with so many calls in flight. */
extern const struct bench_way loop_read, loop_write;

/* Makes the table, with ROWS rows. false: it says why on stderr. */
bool ways_prepare(pqr *db);

#endif
