/* Deletes old idempotency keys, shard by shard and batch by batch: each batch is a transaction of its
 * own, so that it holds few rows for a short time, and what was done stays done. */
#include "purge.h"

#include "../base/err.h"
#include "../run/router.h"
#include "../run/session.h"
#include "../run/statement.h"
#include "../wire/result.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BATCH_ROWS 2000

/* Rows that somebody is writing now are not old. */
static const char purge_sql[] =
    "with old as (select tenant, key from pqrouter.outcome where at operator(pg_catalog.<)"
    " (pg_catalog.now() operator(pg_catalog.-) pg_catalog.make_interval(secs => $1))"
    " order by at limit $2 for update skip locked)"
    " delete from pqrouter.outcome o using old where o.tenant operator(pg_catalog.=) old.tenant"
    " and o.key operator(pg_catalog.=) old.key";

static int purge_batch(struct pqr_session *s, int64_t older_ms, int64_t *n, pqr_error *err)
{
    const pqr_param params[] = {PQR_FLOAT8((double)older_ms / 1000), PQR_INT64(BATCH_ROWS)};
    const pqr_query q = {
        .size = sizeof q, .name = "purge keys", .sql = purge_sql, .params = params, .nparams = 2};
    pqr_result *res = NULL;
    int code = pqi_write(s, &q, &res, err);
    *n = code == PQR_OK ? pqi_result_affected(res) : 0;
    pqi_result_unref(res);
    if (code == PQR_E_SQL && err && strcmp(err->sqlstate, "42P01") == 0)
        pqi_err_add(err, ": run pqrouter init, which makes it");
    if (code == PQR_E_SQL && err && strcmp(err->sqlstate, "42501") == 0)
        pqi_err_add(err,
                    ": run it as the role that ran pqrouter init, or grant delete to this one");
    return code;
}

static int purge_shard(struct pqi_shard *shard, int64_t older_ms, int64_t timeout_ms,
                       int64_t *deleted, pqr_error *err)
{
    const pqr_session_options o = {.size = sizeof o, .deadline_ms = timeout_ms};
    struct pqr_session *s;
    int code = pqi_session_open(shard->db, &o, &s, err);
    if (code != PQR_OK)
        return code;
    s->fixed = shard;
    int64_t n = BATCH_ROWS; /* -1: a batch is done, and how many it were was lost */
    while (code == PQR_OK && (n == BATCH_ROWS || n < 0)) {
        code = purge_batch(s, older_ms, &n, err);
        *deleted += n > 0 ? n : 0;
    }
    pqi_session_close(s);
    return code;
}

int pqi_purge(struct pqr *db, int64_t older_ms, int64_t timeout_ms, pqr_progress_fn *progress,
              void *arg, int64_t *deleted, pqr_error *err)
{
    int code = PQR_OK;
    *deleted = 0;
    for (int i = 0; i < db->ngroups && code == PQR_OK; i++) {
        char text[160];
        int64_t n = 0;
        code = purge_shard(&db->shards[i], older_ms, timeout_ms, &n, err);
        *deleted += n;
        snprintf(text, sizeof text, "%s: %" PRId64 " keys are deleted%s", db->shards[i].name, n,
                 code == PQR_OK ? "" : ", and then it failed");
        if (progress && (code == PQR_OK || n > 0))
            progress(arg, text);
    }
    return code;
}
