/* The steps of a request. Each submits a call and returns; its callback takes the next one.
 *
 *     begin ──▶ token: whose is it? ──▶ statement ──▶ over
 *       │             │      └─ a replica does not know: the primary, once
 *       └─ health ────┴─ nobody's, or no such path ──▶ over
 */
#include "work.h"

#include "../notes/health.h"
#include "../notes/path.h"
#include "../notes/rows.h"

#include <string.h>

/* PQR_OK: a call was submitted, and goes on from its callback; else a code, and nothing was. */
typedef int step_fn(struct work *w);
/* Takes the answer. Frees `res`. */
typedef int take_fn(struct work *w, pqr_result *res);

struct route {
    const char *method, *path;
    handler_fn *at_once; /* asks nobody; NULL: the two below, for who is logged in */
    step_fn *submit;
    take_fn *take;
};

/* ---- The statements ------------------------------------------------------------------------- */

static void on_answer(void *arg, const pqr_done *done);

static int submit_read(struct work *w, const pqr_query *q)
{
    return pqr_submit_read(w->loop, w->r.session, q, on_answer, w, &w->call, &w->r.err);
}

static int find(struct work *w)
{
    struct statement st;
    return submit_read(w, note_by_id_query(&st, w->r.tenant, w->r.id, request_level(&w->r)));
}

static int found(struct work *w, pqr_result *res)
{
    int code = one_row(PQR_OK, &res, &w->r.err);
    return code == PQR_OK ? note_reply(&w->reply, 200, res) : code;
}

static int list(struct work *w)
{
    struct statement st;
    struct page *p = &w->page;
    int code = page_read(&w->r, p);
    if (code != PQR_OK)
        return code;
    return submit_read(w, note_list_query(&st, w->r.tenant, p->q, page_after(p), p->limit + 1,
                                          request_level(&w->r)));
}

static int listed(struct work *w, pqr_result *res)
{
    return page_reply(&w->reply, &w->r, &w->page, res);
}

/* What is submitted is copied: neither the statement nor the body has to stay. */
static int create(struct work *w)
{
    struct statement st;
    struct draft d;
    const struct whose by = {.tenant = w->r.tenant, .account = w->r.account};
    json_t *body = NULL;
    int code = note_draft(&w->r, &body, &d);
    if (code == PQR_OK)
        code = pqr_submit_write(w->loop, w->r.session, note_create_query(&st, &by, &d), on_answer,
                                w, &w->call, &w->r.err);
    json_decref(body);
    return code;
}

static int created(struct work *w, pqr_result *res)
{
    return note_reply_new(&w->reply, &w->r, res);
}

static const struct route routes[] = {
    {"GET", "/health", api_health, NULL, NULL},
    {"POST", "/t/{tenant}/notes", NULL, create, created},
    {"GET", "/t/{tenant}/notes", NULL, list, listed},
    {"GET", "/t/{tenant}/notes/{id}", NULL, find, found},
};

/* ---- From step to step ---------------------------------------------------------------------- */

/* A session may be closed in the callback of its last call. */
static void end(struct work *w, int code)
{
    reply_seen(&w->reply, &w->r);
    pqr_session_close(w->r.session);
    w->r.session = NULL;
    w->code = code;
}

/* What every callback begins with: the call is gone, its error and its result are ours. */
static int take(struct work *w, const pqr_done *done, pqr_result **res)
{
    w->call = NULL;
    w->r.err = *done->err;
    *res = done->res;
    return done->err->code;
}

static void on_answer(void *arg, const pqr_done *done)
{
    struct work *w = arg;
    pqr_result *res = NULL;
    int code = take(w, done, &res);
    end(w, code == PQR_OK ? w->route->take(w, res) : code);
    w->over(w);
}

static void on_token(void *arg, const pqr_done *done);

static int ask_token(struct work *w, int level)
{
    struct statement st;
    w->token_level = level;
    return pqr_submit_read(w->loop, w->r.session,
                           token_account_query(&st, w->r.tenant, w->token, level), on_token, w,
                           &w->call, &w->r.err);
}

/* A call that was cancelled too late has its answer; but nothing follows from it. */
static int after_token(struct work *w, int code, const pqr_result *res)
{
    if (w->cancelled)
        return PQR_E_CANCELLED;
    if (code == MISSING && w->token_level != PQR_LEVEL_PRIMARY)
        return ask_token(w, PQR_LEVEL_PRIMARY);
    if (code == PQR_OK)
        code = pqr_get_uuid(res, 0, 0, w->r.account, &w->r.err);
    if (code == PQR_OK)
        code = w->route->submit(w);
    return code == MISSING ? UNAUTHORIZED : code;
}

static void on_token(void *arg, const pqr_done *done)
{
    struct work *w = arg;
    pqr_result *res = NULL;
    int code = take(w, done, &res);
    code = after_token(w, one_row(code, &res, &w->r.err), res);
    pqr_result_free(res);
    if (code == PQR_OK) /* the next call is on its way */
        return;
    end(w, code);
    w->over(w);
}

/* ---- Beginning ------------------------------------------------------------------------------ */

/* PQR_OK, or a code; reply->allow has the methods that the path has. */
static int find_route(struct work *w)
{
    for (size_t i = 0; i < COUNT(routes); i++) {
        if (!path_fits(routes[i].path, w->r.path, &w->r))
            continue;
        if (strcmp(routes[i].method, w->r.method) == 0) {
            w->route = &routes[i];
            return PQR_OK;
        }
        path_allow(&w->reply, routes[i].method);
    }
    return *w->reply.allow ? WRONG_METHOD : NO_ROUTE;
}

static int first_step(struct work *w)
{
    /* A replica may not know of a logout yet: good enough to read, not to change anything. */
    bool reads = strcmp(w->r.method, "GET") == 0;
    int code = pqr_session_open(w->r.app->db,
                                PQR_SESSION(.tenant = w->r.tenant,
                                            .deadline_ms = w->r.app->deadline_ms,
                                            .token = request_seen(&w->r)),
                                &w->r.session, &w->r.err);
    if (code == PQR_OK && !request_token(&w->r, w->token))
        code = UNAUTHORIZED;
    if (code == PQR_OK)
        code = ask_token(w, reads ? request_level(&w->r) : PQR_LEVEL_PRIMARY);
    return code;
}

bool work_begin(struct work *w)
{
    if (strcmp(w->r.method, "HEAD") == 0) /* GET, but for the body, which is left out later */
        w->r.method = "GET";
    int code = find_route(w);
    if (code == PQR_OK && w->route->at_once) {
        end(w, w->route->at_once(&w->r, &w->reply));
        return false;
    }
    if (code == PQR_OK)
        code = first_step(w);
    if (code == PQR_OK)
        return true;
    end(w, code);
    return false;
}

void work_cancel(struct work *w)
{
    w->cancelled = true;
    if (w->call)
        pqr_cancel(w->call);
}
