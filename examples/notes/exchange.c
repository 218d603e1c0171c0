/* Bodies and replies. */
#include "exchange.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a body that is too long so much is read, so that its client gets as far as the answer. */
enum { UNREAD_MAX = 4 * 1024 * 1024 };

bool body_receive(struct body *b, const char *data, size_t *size)
{
    if (b->received + *size <= BODY_MAX) {
        char *bytes = realloc(b->bytes, b->received + *size);
        if (!bytes)
            return false;
        memcpy(bytes + b->received, data, *size);
        b->bytes = bytes;
    }
    b->received += *size;
    *size = 0;
    return b->received <= UNREAD_MAX;
}

/* What goes wrong is told to the client in one word; the log has the whole of it. */
static void note_failure(const struct request *r, int code, struct status status)
{
    if (status.http >= 500)
        fprintf(stderr, "notes: %s %s: %d: %s %s\n", r->method, r->path, status.http,
                code < 0 ? pqr_code_name(code) : status.word, code < 0 ? r->err.message : "");
}

void reply_error(struct reply *reply, struct request *r, int code)
{
    struct status status = status_of(code, &r->err);
    const char *field = r->field ? r->field : code < 0 ? status_field(&r->err) : NULL;
    json_decref(reply->body);
    reply->body = json_pack("{s:s, s:s*}", "error", status.word, "field", field);
    reply->http = status.http;
    if (code != UNAUTHORIZED) /* who was asked would tell whether there is such an account */
        snprintf(reply->served_by, sizeof reply->served_by, "%s", r->err.node);
    note_failure(r, code, status);
}

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    if (*value)
        MHD_add_response_header(response, name, value);
}

static void add_headers(struct MHD_Response *response, const struct reply *reply, bool stopping)
{
    add_header(response, "Content-Type", reply->http == 204 ? "" : "application/json");
    add_header(response, "Cache-Control", "no-store");
    add_header(response, "X-Served-By", *reply->served_by ? reply->served_by : "none");
    add_header(response, "Location", reply->location);
    add_header(response, "Set-Cookie", reply->cookie);
    add_header(response, "Allow", reply->http == 405 ? reply->allow : "");
    add_header(response, "Retry-After", reply->http == 503 ? "1" : "");
    add_header(response, "WWW-Authenticate", reply->http == 401 ? "Bearer" : "");
    add_header(response, "Connection", stopping ? "close" : "");
}

int reply_send(struct reply *reply, struct MHD_Connection *c, bool stopping)
{
    char *text = reply->http == 204 ? strdup("") : json_dumps(reply->body, JSON_COMPACT);
    struct MHD_Response *response = NULL;
    enum MHD_Result queued = MHD_NO; /* closes the connection */
    if (text)
        response = MHD_create_response_from_buffer_with_free_callback(strlen(text), text, free);
    if (response) {
        add_headers(response, reply, stopping);
        queued = MHD_queue_response(c, (unsigned)reply->http, response);
        MHD_destroy_response(response);
    } else {
        free(text);
    }
    json_decref(reply->body);
    reply->body = NULL;
    return (int)queued;
}
