/* Makes the tables of this service on every shard. */
#ifndef NOTES_MIGRATE_H
#define NOTES_MIGRATE_H

#include <pqrouter/pqrouter.h>

#include <stdint.h>

/* Runs schema.sql on each shard's primary and says so on stdout. At the first that fails it ends,
 * and may be run again. PQR_OK, or a code; why is told on stderr. */
int migrate(pqr *db, int64_t timeout_ms);

#endif
