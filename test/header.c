/* The public headers as an application in strict C11 sees them: every macro, used once. Compiled
 * by headers.sh, never run. */
#include <pqrouter/admin.h>
#include <pqrouter/pqrouter.h>

_Static_assert(sizeof(pqr_error) == 1536, "the size of pqr_error is part of the ABI");

static int work(pqr_tx *tx, void *arg, pqr_error *err)
{
    (void)arg;
    return pqr_exec(tx, PQR_QUERY(.sql = "select 1"), NULL, err);
}

static void parameters(pqr_session *s, pqr_result **res, pqr_error *err)
{
    static const uint8_t uuid[16] = {0};
    static const uint8_t uuids[1][16] = {{0}};
    static const char *const texts[] = {"a", NULL};
    static const pqr_bytes bytes[] = {{"a", 1}};
    static const bool bools[] = {true};
    static const int32_t int32s[] = {1};
    static const int64_t int64s[] = {1};
    static const double float8s[] = {1.0};
    pqr_write(s,
              PQR_QUERY(.name = "all", .sql = "select $1",
                        PQR_PARAMS(PQR_NULL, PQR_TEXT("a"), PQR_TEXT_N("a", 1), PQR_BYTES("a", 1),
                                   PQR_BOOL(true), PQR_INT32(1), PQR_INT64(1), PQR_FLOAT8(1.0),
                                   PQR_UUID(uuid), PQR_TIMESTAMPTZ(0), PQR_TEXT_ARRAY(texts, 2),
                                   PQR_BYTES_ARRAY(bytes, 1), PQR_BOOL_ARRAY(bools, 1),
                                   PQR_INT32_ARRAY(int32s, 1), PQR_INT64_ARRAY(int64s, 1),
                                   PQR_FLOAT8_ARRAY(float8s, 1), PQR_UUID_ARRAY(uuids, 1),
                                   PQR_TIMESTAMPTZ_ARRAY(int64s, 1)),
                        .deadline_ms = 100),
              res, err);
}

int main(void)
{
    static const char *const env[] = {NULL};
    pqr *db = NULL;
    pqr_session *s = NULL;
    pqr_result *res = NULL;
    pqr_error err;
    if (pqr_open(&db, PQR_OPTIONS(.env = env), &err) != PQR_OK)
        return 1;
    pqr_session_open(db, PQR_SESSION(.tenant = PQR_CONTROL, .deadline_ms = 500), &s, &err);
    pqr_read(s, PQR_QUERY(.sql = "select 1", .level = PQR_LEVEL_ANY), &res, &err);
    parameters(s, &res, &err);
    pqr_transact(s, PQR_TX(.isolation = PQR_SERIALIZABLE), work, NULL, &err);
    pqr_result_free(res);
    pqr_session_close(s);
    pqr_close(db, 0);
    return 0;
}
