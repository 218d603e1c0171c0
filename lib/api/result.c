/* The public getters of a result. */
#include "../wire/result.h"
#include "../base/err.h"

#include <string.h>

/* ---- The result ------------------------------------------------------------------------------ */

pqr_result *pqr_result_ref(pqr_result *res)
{
    return pqi_result_ref(res);
}

void pqr_result_free(pqr_result *res)
{
    pqi_result_unref(res);
}

const struct pg_result *pqr_result_pg(const pqr_result *res)
{
    return res ? res->pg : NULL;
}

const char *pqr_source(const pqr_result *res)
{
    return res ? res->source : "";
}

int pqr_known_by(const pqr_result *res)
{
    return res ? res->outcome : PQR_OUTCOME_ANSWERED;
}

size_t pqr_rows(const pqr_result *res)
{
    return pqi_result_rows(res);
}

size_t pqr_columns(const pqr_result *res)
{
    return pqi_result_columns(res);
}

int64_t pqr_affected(const pqr_result *res)
{
    return pqi_result_affected(res);
}

const char *pqr_column_name(const pqr_result *res, size_t column)
{
    return pqi_result_column_name(res, column);
}

/* Not PQfnumber: that one folds the case of what it is given, as SQL does. */
int pqr_column(const pqr_result *res, const char *name)
{
    size_t n = name ? pqr_columns(res) : 0;
    for (size_t i = 0; i < n; i++)
        if (strcmp(pqi_result_column_name(res, i), name) == 0)
            return (int)i;
    return -1;
}

/* ---- The plain getters ----------------------------------------------------------------------- */

/* The value there; one that is of no type, if there is none. */
static struct pqi_value at(const pqr_result *res, size_t row, size_t column)
{
    struct pqi_value v;
    return pqi_result_value(res, row, column, &v) ? v : (struct pqi_value){.bytes = ""};
}

bool pqr_is_null(const pqr_result *res, size_t row, size_t column)
{
    return at(res, row, column).null;
}

const char *pqr_text(const pqr_result *res, size_t row, size_t column)
{
    return at(res, row, column).bytes;
}

size_t pqr_length(const pqr_result *res, size_t row, size_t column)
{
    return (size_t)at(res, row, column).len;
}

int32_t pqr_int32(const pqr_result *res, size_t row, size_t column)
{
    struct pqi_value v = at(res, row, column);
    const char *why;
    int32_t out = 0;
    pqi_value_int32(&v, &out, &why);
    return out;
}

int64_t pqr_int64(const pqr_result *res, size_t row, size_t column)
{
    struct pqi_value v = at(res, row, column);
    const char *why;
    int64_t out = 0;
    pqi_value_int64(&v, &out, &why);
    return out;
}

double pqr_float8(const pqr_result *res, size_t row, size_t column)
{
    struct pqi_value v = at(res, row, column);
    const char *why;
    double out = 0;
    pqi_value_float8(&v, &out, &why);
    return out;
}

bool pqr_bool(const pqr_result *res, size_t row, size_t column)
{
    struct pqi_value v = at(res, row, column);
    const char *why;
    bool out = false;
    pqi_value_bool(&v, &out, &why);
    return out;
}

/* ---- The checked getters --------------------------------------------------------------------- */

static int locate(const pqr_result *res, size_t row, size_t column, const void *out,
                  struct pqi_value *v, pqr_error *err)
{
    if (!res || !out)
        return pqi_err(err, PQR_E_USAGE, "%s is NULL", res ? "the place for the value" : "res");
    if (!pqi_result_value(res, row, column, v))
        return pqi_err(err, PQR_E_TYPE,
                       "no row %zu, column %zu: the result has %zu rows and %zu columns", row,
                       column, pqr_rows(res), pqr_columns(res));
    return PQR_OK;
}

static int finish(const pqr_result *res, size_t row, size_t column, const char *why, pqr_error *err)
{
    if (!why)
        return pqi_err_none(err);
    return pqi_err(err, PQR_E_TYPE, "row %zu, column %zu (%s): %s", row, column,
                   pqr_column_name(res, column), why);
}

int pqr_get_int32(const pqr_result *res, size_t row, size_t column, int32_t *out, pqr_error *err)
{
    struct pqi_value v;
    const char *why;
    int code = locate(res, row, column, out, &v, err);
    if (code < 0)
        return code;
    pqi_value_int32(&v, out, &why);
    return finish(res, row, column, why, err);
}

int pqr_get_int64(const pqr_result *res, size_t row, size_t column, int64_t *out, pqr_error *err)
{
    struct pqi_value v;
    const char *why;
    int code = locate(res, row, column, out, &v, err);
    if (code < 0)
        return code;
    pqi_value_int64(&v, out, &why);
    return finish(res, row, column, why, err);
}

int pqr_get_float8(const pqr_result *res, size_t row, size_t column, double *out, pqr_error *err)
{
    struct pqi_value v;
    const char *why;
    int code = locate(res, row, column, out, &v, err);
    if (code < 0)
        return code;
    pqi_value_float8(&v, out, &why);
    return finish(res, row, column, why, err);
}

int pqr_get_bool(const pqr_result *res, size_t row, size_t column, bool *out, pqr_error *err)
{
    struct pqi_value v;
    const char *why;
    int code = locate(res, row, column, out, &v, err);
    if (code < 0)
        return code;
    pqi_value_bool(&v, out, &why);
    return finish(res, row, column, why, err);
}

int pqr_get_uuid(const pqr_result *res, size_t row, size_t column, uint8_t out[16], pqr_error *err)
{
    struct pqi_value v;
    const char *why;
    int code = locate(res, row, column, out, &v, err);
    if (code < 0)
        return code;
    pqi_value_uuid(&v, out, &why);
    return finish(res, row, column, why, err);
}

int pqr_get_timestamptz(const pqr_result *res, size_t row, size_t column, int64_t *out,
                        pqr_error *err)
{
    struct pqi_value v;
    const char *why;
    int code = locate(res, row, column, out, &v, err);
    if (code < 0)
        return code;
    pqi_value_timestamptz(&v, out, &why);
    return finish(res, row, column, why, err);
}

/* buf may be NULL with cap 0, to ask for the length. */
int pqr_get_bytes(const pqr_result *res, size_t row, size_t column, void *buf, size_t cap,
                  size_t *len, pqr_error *err)
{
    struct pqi_value v;
    const char *why;
    int code = locate(res, row, column, cap > 0 && !buf ? NULL : len, &v, err);
    if (code < 0)
        return code;
    pqi_value_bytes(&v, buf, cap, len, &why);
    return finish(res, row, column, why, err);
}
