/* Stamps and pins: what `pqrouter init` and `pqrouter pin` write into the shards. Each step may
 * be run again. */
#ifndef PQI_INIT_H
#define PQI_INIT_H

#include "../run/state.h"

#include <pqrouter/admin.h>

int pqi_init(struct pqr *db, int64_t timeout_ms, pqr_progress_fn *progress, void *arg,
             pqr_error *err);
int pqi_init_sql(struct pqr *db, pqr_progress_fn *text, void *arg, pqr_error *err);
int pqi_pin(struct pqr *db, const void *tenant, size_t len, int shard, int64_t timeout_ms,
            pqr_error *err);

#endif
