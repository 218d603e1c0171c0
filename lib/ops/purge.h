/* Idempotency keys that nobody will ask for again. */
#ifndef PQI_PURGE_H
#define PQI_PURGE_H

#include "../run/state.h"

#include <pqrouter/admin.h>

int pqi_purge(struct pqr *db, int64_t older_ms, int64_t timeout_ms, pqr_progress_fn *progress,
              void *arg, int64_t *deleted, pqr_error *err);

#endif
