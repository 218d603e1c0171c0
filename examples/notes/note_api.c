/* Notes: JSON in, the repository, JSON out. */
#include "note_api.h"

#include "json.h"
#include "notes.h"

#include <stdio.h>
#include <stdlib.h>

enum { PAGE = 20, PAGE_MAX = 100, BULK_MAX = 500 };

static const struct member members[] = {
    {"id", MEMBER_TEXT},         {"slug", MEMBER_TEXT},       {"title", MEMBER_TEXT},
    {"body", MEMBER_TEXT},       {"parent", MEMBER_TEXT},     {"author", MEMBER_TEXT},
    {"created_at", MEMBER_TIME}, {"updated_at", MEMBER_TIME}, {"deleted_at", MEMBER_TIME},
    {"created", MEMBER_TRUTH},   {"count", MEMBER_NUMBER},    {"server", MEMBER_TEXT},
};

static struct whose whose(const struct request *r)
{
    return (struct whose){.tenant = r->tenant, .account = r->account};
}

/* What every handler of one row ends with. */
static int reply_row(struct reply *reply, int http, int code, pqr_result *res)
{
    if (code != PQR_OK)
        return code;
    return reply_with(reply, http, json_row(res, 0, members, COUNT(members)), res);
}

/* ---- One note ------------------------------------------------------------------------------- */

int api_note_create(struct request *r, struct reply *reply)
{
    struct draft d = {0};
    const struct field fields[] = {{"slug", &d.slug, true},
                                   {"title", &d.title, true},
                                   {"body", &d.body, false},
                                   {"parent", &d.parent, false}};
    struct whose by = whose(r);
    pqr_result *res = NULL;
    json_t *body = json_body(r);
    int code = body ? json_texts(body, fields, COUNT(fields), r) : MALFORMED;
    if (code == PQR_OK)
        code = note_create(r->session, &by, &d, &res, &r->err);
    json_decref(body);
    if (code == PQR_OK)
        snprintf(reply->location, sizeof reply->location, "/t/%s/notes/%s", r->tenant,
                 pqr_text(res, 0, 0));
    return reply_row(reply, 201, code, res);
}

int api_note_find(struct request *r, struct reply *reply)
{
    pqr_result *res = NULL;
    int code = note_by_id(r->session, r->tenant, r->id, request_level(r), &res, &r->err);
    return reply_row(reply, 200, code, res);
}

int api_note_update(struct request *r, struct reply *reply)
{
    struct draft d = {0};
    const struct field fields[] = {
        {"slug", &d.slug, false}, {"title", &d.title, false}, {"body", &d.body, false}};
    pqr_result *res = NULL;
    json_t *body = json_body(r);
    int code = body ? json_texts(body, fields, COUNT(fields), r) : MALFORMED;
    if (code == PQR_OK)
        code = note_update(r->session, r->tenant, r->id, &d, &res, &r->err);
    json_decref(body);
    return reply_row(reply, 200, code, res);
}

int api_note_delete(struct request *r, struct reply *reply)
{
    struct whose by = whose(r);
    pqr_result *res = NULL;
    int code = note_delete(r->session, &by, r->id, &res, &r->err);
    return reply_row(reply, 200, code, res);
}

int api_note_restore(struct request *r, struct reply *reply)
{
    pqr_result *res = NULL;
    int code = note_restore(r->session, r->tenant, r->id, &res, &r->err);
    return reply_row(reply, 200, code, res);
}

/* ---- Pages ---------------------------------------------------------------------------------- */

static int page_limit(struct request *r, int *limit)
{
    const char *text = request_query(r, "limit");
    char *end = NULL;
    long n = text ? strtol(text, &end, 10) : PAGE;
    if (text && (*text < '0' || *text > '9' || *end))
        n = 0;
    if (n < 1 || n > PAGE_MAX) {
        r->field = "limit";
        return MALFORMED;
    }
    *limit = (int)n;
    return PQR_OK;
}

/* *after stays NULL on the first page. */
static int page_cursor(struct request *r, const char *q, struct cursor *c,
                       const struct cursor **after)
{
    const char *text = request_query(r, "cursor");
    if (!text)
        return PQR_OK;
    if (!cursor_read(text, r->tenant, q, c)) {
        r->field = "cursor";
        return MALFORMED;
    }
    *after = c;
    return PQR_OK;
}

/* Where the next page begins, if there is one: one row more than asked for was fetched to see. */
static int page_next(struct request *r, const char *q, const pqr_result *res, int limit,
                     json_t *body)
{
    struct cursor c;
    char text[CURSOR_TEXT];
    size_t last = (size_t)limit - 1;
    if (pqr_rows(res) <= (size_t)limit)
        return json_object_set_new(body, "next", json_null());
    int code = pqr_get_uuid(res, last, 0, c.id, &r->err);
    if (code == PQR_OK)
        code = pqr_get_timestamptz(res, last, 3, &c.created_us, &r->err);
    if (code != PQR_OK)
        return code;
    cursor_write(&c, r->tenant, q, text);
    return json_object_set_new(body, "next", json_string(text));
}

int api_note_list(struct request *r, struct reply *reply)
{
    const char *q = request_query(r, "q");
    struct cursor c;
    const struct cursor *after = NULL;
    int limit = 0;
    pqr_result *res = NULL;
    int code = page_limit(r, &limit);
    if (code == PQR_OK)
        code = page_cursor(r, q, &c, &after);
    if (code == PQR_OK)
        code = note_list(r->session, r->tenant, q, after, limit + 1, request_level(r), &res,
                         &r->err);
    if (code != PQR_OK)
        return code;
    json_t *body = json_object();
    json_object_set_new(body, "notes", json_rows(res, (size_t)limit, members, COUNT(members)));
    code = page_next(r, q, res, limit, body);
    if (code == PQR_OK)
        return reply_with(reply, 200, body, res);
    json_decref(body);
    pqr_result_free(res);
    return code;
}

int api_note_count(struct request *r, struct reply *reply)
{
    pqr_result *res = NULL;
    int code = note_count(r->session, r->tenant, request_level(r), &res, &r->err);
    return reply_row(reply, 200, code, res);
}

/* ---- Many at once --------------------------------------------------------------------------- */

/* The columns of a bulk: what unnest makes rows of. */
struct bulk {
    const char **slugs, **titles, **bodies;
};

static int bulk_fill(struct request *r, const json_t *notes, struct bulk *b)
{
    int code = PQR_OK;
    for (size_t i = 0; i < json_array_size(notes) && code == PQR_OK; i++) {
        const json_t *note = json_array_get(notes, i);
        const struct field fields[] = {{"slug", &b->slugs[i], true},
                                       {"title", &b->titles[i], true},
                                       {"body", &b->bodies[i], false}};
        if (json_is_object(note)) {
            code = json_texts(note, fields, COUNT(fields), r);
        } else {
            r->field = "notes";
            code = INVALID;
        }
    }
    return code;
}

static int put(struct request *r, const json_t *notes, pqr_result **res)
{
    size_t n = json_array_size(notes);
    struct whose by = whose(r);
    if (n < 1 || n > BULK_MAX) {
        r->field = "notes";
        return INVALID;
    }
    const char **texts = calloc(n, 3 * sizeof *texts);
    if (!texts)
        return PQR_E_NOMEM;
    struct bulk b = {.slugs = texts, .titles = texts + n, .bodies = texts + 2 * n};
    int code = bulk_fill(r, notes, &b);
    if (code == PQR_OK)
        code = note_put(r->session, &by, b.slugs, b.titles, b.bodies, n, res, &r->err);
    free(texts);
    return code;
}

/* With how many notes there are now, counted in the same session: a session sees what it wrote.
 * A count that fails is left out, since what was asked for has been done. */
int api_note_put(struct request *r, struct reply *reply)
{
    pqr_result *res = NULL, *count = NULL;
    json_t *body = json_body(r);
    int code = body ? put(r, json_object_get(body, "notes"), &res) : MALFORMED;
    json_decref(body);
    if (code != PQR_OK)
        return code;
    json_t *rows = json_rows(res, pqr_rows(res), members, COUNT(members));
    json_t *answer = json_object();
    if (note_count(r->session, r->tenant, PQR_LEVEL_SESSION, &count, &r->err) == PQR_OK) {
        pqr_result_free(res);
        res = count;
        json_decref(answer);
        answer = json_row(count, 0, members, COUNT(members));
    }
    json_object_set_new(answer, "notes", rows);
    return reply_with(reply, 200, answer, res);
}
