/* What handlers ask of a request, and how they reply. */
#include "request.h"

#include "base64url.h"

#include <microhttpd.h>
#include <stdio.h>
#include <string.h>

const char *request_query(const struct request *r, const char *name)
{
    return MHD_lookup_connection_value(r->http, MHD_GET_ARGUMENT_KIND, name);
}

const char *request_header(const struct request *r, const char *name)
{
    return MHD_lookup_connection_value(r->http, MHD_HEADER_KIND, name);
}

bool request_token(const struct request *r, uint8_t token[TOKEN_BYTES])
{
    static const char scheme[] = "Bearer ";
    const char *header = request_header(r, "Authorization");
    return header && strncmp(header, scheme, strlen(scheme)) == 0 &&
           base64url_read(header + strlen(scheme), token, TOKEN_BYTES);
}

const char *request_seen(const struct request *r)
{
    const char *seen = MHD_lookup_connection_value(r->http, MHD_COOKIE_KIND, "seen");
    return seen ? seen : "";
}

void reply_seen(struct reply *reply, const struct request *r)
{
    char token[PQR_TOKEN_MAX];
    if (r->session && pqr_session_token(r->session, token, sizeof token) == PQR_OK && *token)
        snprintf(reply->cookie, sizeof reply->cookie, "seen=%s; Path=/t/%s; HttpOnly; SameSite=Lax",
                 token, r->tenant);
}

int request_level(const struct request *r)
{
    const char *cache = request_header(r, "Cache-Control");
    return cache && strstr(cache, "no-cache") ? PQR_LEVEL_PRIMARY : PQR_LEVEL_SESSION;
}

int reply_with(struct reply *reply, int http, json_t *body, pqr_result *res)
{
    reply->http = http;
    reply->body = body;
    if (res)
        snprintf(reply->served_by, sizeof reply->served_by, "%s", pqr_source(res));
    pqr_result_free(res);
    return PQR_OK;
}
