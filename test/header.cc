/* The public headers as an application in C++17 sees them: structs are filled by hand. Compiled
 * by headers.sh, never run. */
#include <pqrouter/admin.h>
#include <pqrouter/pqrouter.h>

int main()
{
    pqr_options options = {};
    options.size = sizeof options;
    pqr_error err;
    pqr *db = nullptr;
    if (pqr_open(&db, &options, &err) != PQR_OK)
        return 1;

    pqr_session_options unit = {};
    unit.size = sizeof unit;
    unit.tenant = PQR_CONTROL;
    pqr_session *s = nullptr;
    pqr_session_open(db, &unit, &s, &err);

    pqr_param params[2] = {};
    params[0].type = PQR_TYPE_TEXT;
    params[0].len = PQR_ZSTR;
    params[0].v.ptr = "acme";
    params[1].type = PQR_TYPE_INT64;
    params[1].v.i64 = 1;
    pqr_query query = {};
    query.size = sizeof query;
    query.sql = "select $1, $2";
    query.params = params;
    query.nparams = 2;
    pqr_result *res = nullptr;
    pqr_read(s, &query, &res, &err);

    pqr_tx_options how = {};
    how.size = sizeof how;
    how.isolation = PQR_SERIALIZABLE;
    pqr_tx *tx = nullptr;
    pqr_begin(s, &how, &tx, &err);
    pqr_rollback(tx);

    pqr_result_free(res);
    pqr_session_close(s);
    pqr_close(db, 0);
}
