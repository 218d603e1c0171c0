/* A request and its reply, as handlers see them: of HTTP only what they need. */
#ifndef NOTES_REQUEST_H
#define NOTES_REQUEST_H

#include "accounts.h"
#include "app.h"
#include "status.h"

#include <jansson.h>

enum { TENANT_MAX = 63, LOCATION_MAX = 160, COOKIE_MAX = 256 };

struct MHD_Connection;

struct request {
    struct app *app;
    struct MHD_Connection *http;
    const char *method, *path;
    const char *body; /* may have any bytes in it */
    size_t body_len;
    char tenant[TENANT_MAX + 1]; /* of the path */
    uint8_t id[16];              /* of the path */
    uint8_t account[16];         /* who is logged in */
    pqr_session *session;        /* the tenant's, for this request alone */
    pqr_error err;               /* of the last call: why it failed, and where */
    const char *field;           /* which field is not acceptable; NULL: not said */
};

struct reply {
    int http; /* the status, where it is not an error */
    json_t *body;
    char served_by[32]; /* the server whose answer this is; "": none was asked */
    char location[LOCATION_MAX];
    char cookie[COOKIE_MAX];
    char allow[64]; /* methods that the path has, for WRONG_METHOD */
};

/* Answers one kind of request: returns PQR_OK and fills the reply, or a code for status_of. */
typedef int handler_fn(struct request *r, struct reply *reply);

/* A parameter of the URL, a header; NULL: there is none. Live as long as the request. */
const char *request_query(const struct request *r, const char *name);
const char *request_header(const struct request *r, const char *name);

/* The token that it came with; false: none, or none that can be. */
bool request_token(const struct request *r, uint8_t token[TOKEN_BYTES]);

/* What the client has seen and written in requests before, to whichever process: the token of its
 * cookie; "": it has none. For pqr_session_open. */
const char *request_seen(const struct request *r);

/* Into the cookie goes what it has seen by now: before the session is closed. */
void reply_seen(struct reply *reply, const struct request *r);

/* How fresh a read of this request must be: what another client has just written, only the primary
 * surely has, and `Cache-Control: no-cache` asks that. */
int request_level(const struct request *r);

/* PQR_OK, with `body`. Notes who has answered, and frees `res`. */
int reply_with(struct reply *reply, int http, json_t *body, pqr_result *res);

#endif
