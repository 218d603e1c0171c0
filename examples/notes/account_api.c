/* Accounts: JSON in, the repository, JSON out. */
#include "account_api.h"

#include "accounts.h"
#include "json.h"

#include <string.h>

static const struct member members[] = {
    {"id", MEMBER_TEXT},
    {"email", MEMBER_TEXT},
    {"created_at", MEMBER_TIME},
};

static int reply_account(struct reply *reply, int http, pqr_result *res)
{
    return reply_with(reply, http, json_row(res, 0, members, COUNT(members)), res);
}

/* Before the database is asked for anything, as with a login. */
static int hash_of(struct request *r, const char *password, char hash[PASSWORD_HASH])
{
    size_t len = strlen(password);
    if (len < PASSWORD_MIN || len > PASSWORD_MAX) {
        r->field = "password";
        return INVALID;
    }
    return password_hash(r->app->hasher, password, r->app->deadline_ms, hash);
}

int api_account_create(struct request *r, struct reply *reply)
{
    const char *email = "", *password = "";
    const struct field fields[] = {{"email", &email, true}, {"password", &password, true}};
    char hash[PASSWORD_HASH];
    pqr_result *res = NULL;
    json_t *body = json_body(r);
    int code = body ? json_texts(body, fields, COUNT(fields), r) : MALFORMED;
    if (code == PQR_OK)
        code = hash_of(r, password, hash);
    if (code == PQR_OK)
        code = account_create(r->session, r->tenant, email, hash, &res, &r->err);
    json_decref(body);
    return code == PQR_OK ? reply_account(reply, 201, res) : code;
}

int api_account_find(struct request *r, struct reply *reply)
{
    const char *email = request_query(r, "email");
    pqr_result *res = NULL;
    if (!email) {
        r->field = "email";
        return MALFORMED;
    }
    int code = account_by_email(r->session, r->tenant, email, request_level(r), &res, &r->err);
    return code == PQR_OK ? reply_account(reply, 200, res) : code;
}
