/* The table of routes, and what happens before a handler: a session for the tenant, opened for
 * this request and closed at its end, and who is logged in. */
#include "routes.h"

#include "account_api.h"
#include "health.h"
#include "login.h"
#include "note_api.h"
#include "path.h"

#include <string.h>

static const struct route {
    const char *method, *path; /* {tenant} and {id} stand for one step each */
    enum { PUBLIC, TENANT, LOGGED_IN } needs;
    handler_fn *handler;
} routes[] = {
    {"GET", "/health", PUBLIC, api_health},
    {"POST", "/t/{tenant}/accounts", TENANT, api_account_create},
    {"GET", "/t/{tenant}/accounts", LOGGED_IN, api_account_find},
    {"POST", "/t/{tenant}/login", TENANT, login_open},
    {"DELETE", "/t/{tenant}/login", TENANT, login_close},
    {"POST", "/t/{tenant}/notes", LOGGED_IN, api_note_create},
    {"PUT", "/t/{tenant}/notes", LOGGED_IN, api_note_put},
    {"GET", "/t/{tenant}/notes", LOGGED_IN, api_note_list},
    {"GET", "/t/{tenant}/notes/count", LOGGED_IN, api_note_count},
    {"GET", "/t/{tenant}/notes/{id}", LOGGED_IN, api_note_find},
    {"PATCH", "/t/{tenant}/notes/{id}", LOGGED_IN, api_note_update},
    {"DELETE", "/t/{tenant}/notes/{id}", LOGGED_IN, api_note_delete},
    {"POST", "/t/{tenant}/notes/{id}/restore", LOGGED_IN, api_note_restore},
};

/* ---- Serving -------------------------------------------------------------------------------- */

static int run(const struct route *route, struct request *r, struct reply *reply)
{
    if (route->needs == PUBLIC)
        return route->handler(r, reply);
    int code = pqr_session_open(r->app->db,
                                PQR_SESSION(.tenant = r->tenant, .deadline_ms = r->app->deadline_ms,
                                            .token = request_seen(r)),
                                &r->session, &r->err);
    if (code == PQR_OK && route->needs == LOGGED_IN)
        code = login_check(r);
    if (code == PQR_OK)
        code = route->handler(r, reply);
    reply_seen(reply, r);
    pqr_session_close(r->session);
    r->session = NULL;
    return code;
}

int serve(struct request *r, struct reply *reply)
{
    if (strcmp(r->method, "HEAD") == 0) /* GET, but for the body, which is left out later */
        r->method = "GET";
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!path_fits(routes[i].path, r->path, r))
            continue;
        if (strcmp(routes[i].method, r->method) == 0)
            return run(&routes[i], r, reply);
        path_allow(reply, routes[i].method);
    }
    return *reply->allow ? WRONG_METHOD : NO_ROUTE;
}
