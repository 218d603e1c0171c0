/* The table of routes, and what happens before a handler: a session for the tenant, opened for
 * this request and closed at its end, and who is logged in. */
#include "routes.h"

#include "account_api.h"
#include "health.h"
#include "login.h"
#include "note_api.h"

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

/* ---- Paths ---------------------------------------------------------------------------------- */

/* A tenant's name: a to z, 0 to 9, and inside also "-". */
static bool read_tenant(const char *step, size_t len, char tenant[TENANT_MAX + 1])
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
    if (len < 1 || len > TENANT_MAX || strspn(step, good) < len || *step == '-' ||
        step[len - 1] == '-')
        return false;
    memcpy(tenant, step, len);
    tenant[len] = '\0';
    return true;
}

static int hex(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* A UUID in the one way that PostgreSQL prints it. */
static bool read_id(const char *step, size_t len, uint8_t id[16])
{
    if (len != 36)
        return false;
    for (int n = 0; n < 16; n++, step += 2) {
        if ((n == 4 || n == 6 || n == 8 || n == 10) && *step++ != '-')
            return false;
        int high = hex(step[0]), low = hex(step[1]);
        if (high < 0 || low < 0)
            return false;
        id[n] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool step_fits(const char *pattern, size_t pattern_len, const char *step, size_t len,
                      struct request *r)
{
    if (strncmp(pattern, "{tenant}", pattern_len) == 0)
        return read_tenant(step, len, r->tenant);
    if (strncmp(pattern, "{id}", pattern_len) == 0)
        return read_id(step, len, r->id);
    return pattern_len == len && memcmp(pattern, step, len) == 0;
}

static bool path_fits(const char *pattern, const char *path, struct request *r)
{
    while (*pattern == '/' && *path == '/') {
        size_t pattern_len = strcspn(++pattern, "/"), len = strcspn(++path, "/");
        if (!step_fits(pattern, pattern_len, path, len, r))
            return false;
        pattern += pattern_len;
        path += len;
    }
    return !*pattern && !*path;
}

/* ---- Serving -------------------------------------------------------------------------------- */

static int run(const struct route *route, struct request *r, struct reply *reply)
{
    if (route->needs == PUBLIC)
        return route->handler(r, reply);
    int code = pqr_session_open(
        r->app->db, PQR_SESSION(.tenant = r->tenant, .deadline_ms = r->app->deadline_ms),
        &r->session, &r->err);
    if (code == PQR_OK && route->needs == LOGGED_IN)
        code = login_check(r);
    if (code == PQR_OK)
        code = route->handler(r, reply);
    pqr_session_close(r->session);
    r->session = NULL;
    return code;
}

static void allow(struct reply *reply, const char *method)
{
    size_t used = strlen(reply->allow);
    if (used + strlen(method) + sizeof ", " <= sizeof reply->allow) {
        strcat(reply->allow, used > 0 ? ", " : "");
        strcat(reply->allow, method);
    }
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
        allow(reply, routes[i].method);
    }
    return *reply->allow ? WRONG_METHOD : NO_ROUTE;
}
