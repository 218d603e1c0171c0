/* A result without rows is an outcome of its own. */
#include "rows.h"

#include "status.h"

#include <stdio.h>

int one_row(int code, pqr_result **res, pqr_error *err)
{
    if (code != PQR_OK || pqr_rows(*res) > 0)
        return code;
    snprintf(err->node, sizeof err->node, "%s", pqr_source(*res));
    pqr_result_free(*res);
    *res = NULL;
    return MISSING;
}
