/* Checks that all public functions share. */
#include "check.h"

#include "../base/err.h"
#include "../base/mem.h"

#include <string.h>

static bool all_zero(const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

int pqi_take_struct(void *out, size_t own, const void *given, const char *macro, pqr_error *err)
{
    memset(out, 0, own);
    memcpy(out, &own, sizeof own);
    if (!given)
        return PQR_OK;
    size_t size;
    memcpy(&size, given, sizeof size);
    if (size < sizeof size || size > 4096)
        return pqi_err(err, PQR_E_USAGE,
                       "%s: .size is %zu: make it with %s(…), or set it to sizeof", macro, size,
                       macro);
    if (size > own && !all_zero((const char *)given + own, size - own))
        return pqi_err(
            err, PQR_E_USAGE,
            "%s: a field is set that this version (%s) does not know: the header is newer "
            "than the library",
            macro, pqr_version());
    memcpy(out, given, size < own ? size : own);
    memcpy(out, &own, sizeof own);
    return PQR_OK;
}

int pqi_need(const void *pointer, const char *name, pqr_error *err)
{
    return pointer ? PQR_OK : pqi_err(err, PQR_E_USAGE, "%s is NULL", name);
}

/* ---- Queries and options -------------------------------------------------------------------- */

static int check_level(int32_t level, pqr_error *err)
{
    return level >= PQR_LEVEL_SESSION && level <= PQR_LEVEL_PRIMARY
               ? PQR_OK
               : pqi_err(err, PQR_E_USAGE, ".level is %d: not a pqr_level", level);
}

int pqi_check_deadline(int64_t deadline_ms, pqr_error *err)
{
    return deadline_ms >= 0
               ? PQR_OK
               : pqi_err(err, PQR_E_USAGE, ".deadline_ms is %lld: no time is left, or a slip",
                         (long long)deadline_ms);
}

static int check_bound(int64_t max_lag_ms, pqr_error *err)
{
    return max_lag_ms >= 0 ? PQR_OK
                           : pqi_err(err, PQR_E_USAGE, ".max_lag_ms is %lld: it is 0 or more",
                                     (long long)max_lag_ms);
}

static int check_query(const pqr_query *q, pqr_error *err)
{
    PQI_TRY(check_bound(q->max_lag_ms, err));
    PQI_TRY(check_level(q->level, err));
    PQI_TRY(pqi_check_deadline(q->deadline_ms, err));
    return q->nparams > 0 ? pqi_need(q->params, ".params", err) : PQR_OK;
}

int pqi_take_query(pqr_query *own, const pqr_query *q, pqr_error *err)
{
    PQI_TRY(pqi_need(q, "the query", err));
    PQI_TRY(pqi_take_struct(own, sizeof *own, q, "PQR_QUERY", err));
    return check_query(own, err);
}

/* Copies the queries behind their pointers: one allocation. */
int pqi_take_queries(const pqr_query ***out, const pqr_query *const *queries, size_t n,
                     pqr_error *err)
{
    int code = pqi_need(queries, "queries", err);
    if (code == PQR_OK && (n == 0 || n > 10000))
        code = pqi_err(err, PQR_E_USAGE, "a batch of %zu statements: it may have 1 to 10000", n);
    if (code != PQR_OK)
        return code;
    const pqr_query **list = pqi_mem_array(n, sizeof(pqr_query) + sizeof *list);
    pqr_query *own = list ? (pqr_query *)(void *)(list + n) : NULL;
    if (!list)
        return pqi_err(err, PQR_E_NOMEM, "no memory for a batch");
    for (size_t i = 0; i < n && code == PQR_OK; i++) {
        code = pqi_take_query(&own[i], queries[i], err);
        list[i] = &own[i];
        if (code != PQR_OK && err)
            err->index = (int32_t)i;
    }
    if (code == PQR_OK)
        *out = list;
    else
        pqi_mem_free(list);
    return code;
}

int pqi_take_tx_options(pqr_tx_options *own, const pqr_tx_options *o, pqr_error *err)
{
    PQI_TRY(pqi_take_struct(own, sizeof *own, o, "PQR_TX", err));
    if (own->isolation < PQR_READ_COMMITTED || own->isolation > PQR_SERIALIZABLE)
        return pqi_err(err, PQR_E_USAGE, ".isolation is %d: not a pqr_isolation", own->isolation);
    PQI_TRY(pqi_check_deadline(own->deadline_ms, err));
    return check_level(own->level, err);
}
