/* A write, a read, and who answered. The environment says where the servers are. */
#include <pqrouter/pqrouter.h>
#include <stdio.h>

int main(void)
{
    const pqr_query *make =
        PQR_QUERY(.sql = "create table if not exists note (id bigint generated "
                         "always as identity primary key, tenant text, body text)");
    const pqr_query *add = PQR_QUERY(.sql = "insert into note (tenant, body) values ($1, $2)",
                                     PQR_PARAMS(PQR_TEXT("acme"), PQR_TEXT("hello")));
    const pqr_query *count = PQR_QUERY(.sql = "select count(*) from note where tenant = $1",
                                       PQR_PARAMS(PQR_TEXT("acme")));
    pqr *db = NULL;
    pqr_session *s = NULL;
    pqr_result *res = NULL;
    pqr_error err; /* each call writes it whole: in the end it is the last one's */
    if (pqr_open(&db, NULL, &err) ||
        pqr_session_open(db, PQR_SESSION(.tenant = "acme", .deadline_ms = 5000), &s, &err) ||
        pqr_write(s, make, NULL, &err) || pqr_write(s, add, NULL, &err) ||
        pqr_read(s, count, &res, &err))
        fprintf(stderr, "%s: %s\n", pqr_code_name(err.code), err.message);
    else /* 1 from shard0/primary, or from a replica that has the note already */
        printf("%lld from %s\n", (long long)pqr_int64(res, 0, 0), pqr_source(res));
    pqr_result_free(res);
    pqr_session_close(s);
    pqr_close(db, 1000);
    return err.code != PQR_OK;
}
