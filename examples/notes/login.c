/* Logging in: a short read, a long computation, a short transaction. No connection is held while
 * the password is hashed, so a hundred logins at a time take processors, not the pool. */
#include "login.h"

#include "accounts.h"
#include "base64url.h"
#include "json.h"

#include <string.h>
#include <sys/random.h>

enum { TOKEN_TEXT = BASE64URL_LEN(TOKEN_BYTES) + 1 };

/* ---- Who a request is from ------------------------------------------------------------------ */

int login_check(struct request *r)
{
    uint8_t token[TOKEN_BYTES];
    pqr_result *res = NULL;
    /* A replica may not know of a logout yet: good enough to read, not to change anything. */
    bool reads = strcmp(r->method, "GET") == 0;
    if (!request_token(r, token))
        return UNAUTHORIZED;
    int code = token_account(r->session, r->tenant, token,
                             reads ? request_level(r) : PQR_LEVEL_PRIMARY, &res, &r->err);
    if (code == PQR_OK)
        code = pqr_get_uuid(res, 0, 0, r->account, &r->err);
    pqr_result_free(res);
    return code == MISSING ? UNAUTHORIZED : code;
}

/* ---- Logging in and out --------------------------------------------------------------------- */

struct login {
    const char *tenant;
    uint8_t account[16];
    char hash[PASSWORD_HASH]; /* that the password was compared with */
    uint8_t token[TOKEN_BYTES];
    pqr_result *opened; /* expires_at */
};

/* The work of the transaction. The password may have been changed while it was hashed here, so
 * the account is looked at again. */
static int open_login(pqr_tx *tx, void *arg, pqr_error *err)
{
    struct login *l = arg;
    int code = account_lock(tx, l->tenant, l->account, l->hash, err);
    pqr_result_free(l->opened); /* of a run that was rolled back */
    l->opened = NULL;
    if (code == PQR_OK)
        code = token_create(tx, l->tenant, l->account, l->token, &l->opened, err);
    return code;
}

/* What is known of the account. The connection that told it is the pool's again afterwards. */
static int look_up(struct request *r, const char *email, struct login *l)
{
    pqr_result *res = NULL;
    int code = account_credentials(r->session, r->tenant, email, &res, &r->err);
    if (code == PQR_OK)
        code = pqr_get_uuid(res, 0, 0, l->account, &r->err);
    if (code == PQR_OK && pqr_length(res, 0, 1) < sizeof l->hash)
        memcpy(l->hash, pqr_text(res, 0, 1), pqr_length(res, 0, 1) + 1);
    pqr_result_free(res);
    return code;
}

static int log_in(struct request *r, const char *email, const char *password, struct login *l)
{
    int found = look_up(r, email, l);
    if (found != PQR_OK && found != MISSING)
        return found;
    int code = password_check(r->app->hasher, password, found == PQR_OK ? l->hash : NULL,
                              r->app->deadline_ms);
    if (code == PQR_OK && getrandom(l->token, sizeof l->token, 0) != sizeof l->token)
        code = PQR_E_NOMEM;
    if (code == PQR_OK)
        code = pqr_transact(r->session, NULL, open_login, l, &r->err);
    return code == MISSING ? UNAUTHORIZED : code;
}

int login_open(struct request *r, struct reply *reply)
{
    static const struct member members[] = {{"expires_at", MEMBER_TIME}};
    struct login l = {.tenant = r->tenant};
    const char *email = "", *password = "";
    const struct field fields[] = {{"email", &email, true}, {"password", &password, true}};
    char token[TOKEN_TEXT];
    json_t *body = json_body(r);
    int code = body ? json_texts(body, fields, COUNT(fields), r) : MALFORMED;
    if (code == PQR_OK && strlen(password) > PASSWORD_MAX)
        code = UNAUTHORIZED; /* it is nobody's, and would only cost time */
    if (code == PQR_OK)
        code = log_in(r, email, password, &l);
    json_decref(body);
    if (code != PQR_OK) {
        pqr_result_free(l.opened);
        return code;
    }
    base64url_write(l.token, sizeof l.token, token);
    json_t *answer = json_row(l.opened, 0, members, COUNT(members));
    json_object_set_new(answer, "token", json_string(token));
    return reply_with(reply, 200, answer, l.opened);
}

int login_close(struct request *r, struct reply *reply)
{
    uint8_t token[TOKEN_BYTES];
    pqr_result *res = NULL;
    if (!request_token(r, token))
        return UNAUTHORIZED;
    int code = token_delete(r->session, r->tenant, token, &res, &r->err);
    return code == PQR_OK ? reply_with(reply, 204, NULL, res) : code;
}
