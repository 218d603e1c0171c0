/* Statements on notes.account and notes.token. Each one filters by tenant: a shard has many. */
#include "accounts.h"

#include "rows.h"
#include "status.h"

/* What was written a moment ago, in another session, may not be on the replica that this one
 * reads. So what is not found is looked for on the primary, before anybody is told that it is not
 * there. */
static int read_or_ask_primary(pqr_session *s, pqr_query q, pqr_result **res, pqr_error *err)
{
    int code = one_row(pqr_read(s, &q, res, err), res, err);
    if (code == MISSING && q.level != PQR_LEVEL_PRIMARY) {
        q.level = PQR_LEVEL_PRIMARY;
        code = one_row(pqr_read(s, &q, res, err), res, err);
    }
    return code;
}

int account_create(pqr_session *s, const char *tenant, const char *email, const char *hash,
                   pqr_result **res, pqr_error *err)
{
    return pqr_write(s,
                     PQR_QUERY(.name = "create account",
                               .sql = "insert into notes.account (tenant, email, password_hash) "
                                      "values ($1, $2, $3) returning id, email, created_at",
                               PQR_PARAMS(PQR_TEXT(tenant), PQR_TEXT(email), PQR_TEXT(hash))),
                     res, err);
}

int account_by_email(pqr_session *s, const char *tenant, const char *email, int level,
                     pqr_result **res, pqr_error *err)
{
    return one_row(
        pqr_read(s,
                 PQR_QUERY(.name = "find account by email",
                           .sql = "select id, email, created_at from notes.account "
                                  "where tenant = $1 and lower(email) = lower($2)",
                           PQR_PARAMS(PQR_TEXT(tenant), PQR_TEXT(email)), .level = level),
                 res, err),
        res, err);
}

int account_credentials(pqr_session *s, const char *tenant, const char *email, pqr_result **res,
                        pqr_error *err)
{
    return read_or_ask_primary(s,
                               *PQR_QUERY(.name = "find credentials",
                                          .sql = "select id, password_hash from notes.account "
                                                 "where tenant = $1 and lower(email) = lower($2)",
                                          PQR_PARAMS(PQR_TEXT(tenant), PQR_TEXT(email))),
                               res, err);
}

int account_lock(pqr_tx *tx, const char *tenant, const uint8_t id[16], const char *hash,
                 pqr_error *err)
{
    pqr_result *res = NULL;
    int code = one_row(
        pqr_exec(tx,
                 PQR_QUERY(.name = "lock account",
                           .sql = "select 1 from notes.account "
                                  "where tenant = $1 and id = $2 and password_hash = $3 for update",
                           PQR_PARAMS(PQR_TEXT(tenant), PQR_UUID(id), PQR_TEXT(hash))),
                 &res, err),
        &res, err);
    pqr_result_free(res);
    return code;
}

int token_create(pqr_tx *tx, const char *tenant, const uint8_t account[16],
                 const uint8_t token[TOKEN_BYTES], pqr_result **res, pqr_error *err)
{
    int code = pqr_exec(tx,
                        PQR_QUERY(.name = "forget old tokens",
                                  .sql = "delete from notes.token where tenant = $1 "
                                         "and account = $2 and expires_at < now()",
                                  PQR_PARAMS(PQR_TEXT(tenant), PQR_UUID(account))),
                        NULL, err);
    if (code == PQR_OK)
        code = pqr_exec(
            tx,
            PQR_QUERY(.name = "create token",
                      .sql = "insert into notes.token (tenant, hash, account, expires_at) "
                             "values ($1, sha256($2), $3, now() + interval '12 hours') "
                             "returning expires_at",
                      PQR_PARAMS(PQR_TEXT(tenant), PQR_BYTES(token, TOKEN_BYTES),
                                 PQR_UUID(account))),
            res, err);
    return code;
}

const pqr_query *token_account_query(struct statement *st, const char *tenant,
                                     const uint8_t token[TOKEN_BYTES], int level)
{
    return statement_keep(
        st, PQR_QUERY(.name = "find token",
                      .sql = "select account from notes.token "
                             "where tenant = $1 and hash = sha256($2) and expires_at > now()",
                      PQR_PARAMS(PQR_TEXT(tenant), PQR_BYTES(token, TOKEN_BYTES)), .level = level));
}

int token_account(pqr_session *s, const char *tenant, const uint8_t token[TOKEN_BYTES], int level,
                  pqr_result **res, pqr_error *err)
{
    struct statement st;
    return read_or_ask_primary(s, *token_account_query(&st, tenant, token, level), res, err);
}

int token_delete(pqr_session *s, const char *tenant, const uint8_t token[TOKEN_BYTES],
                 pqr_result **res, pqr_error *err)
{
    return pqr_write(s,
                     PQR_QUERY(.name = "delete token",
                               .sql = "delete from notes.token "
                                      "where tenant = $1 and hash = sha256($2)",
                               PQR_PARAMS(PQR_TEXT(tenant), PQR_BYTES(token, TOKEN_BYTES))),
                     res, err);
}
