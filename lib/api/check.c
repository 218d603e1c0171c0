/* Checks that all public functions share. */
#include "check.h"

#include "../base/err.h"

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
