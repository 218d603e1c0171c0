/* Notes: JSON in, the repository, JSON out. */
#include "note_api.h"

#include "note_json.h"

#include <stdlib.h>

enum { BULK_MAX = 500 };

static struct whose whose(const struct request *r)
{
    return (struct whose){.tenant = r->tenant, .account = r->account};
}

/* What every handler of one row ends with. */
static int reply_row(struct reply *reply, int http, int code, pqr_result *res)
{
    return code == PQR_OK ? note_reply(reply, http, res) : code;
}

/* ---- One note ------------------------------------------------------------------------------- */

int api_note_create(struct request *r, struct reply *reply)
{
    struct draft d;
    struct whose by = whose(r);
    pqr_result *res = NULL;
    json_t *body = NULL;
    int code = note_draft(r, &body, &d);
    if (code == PQR_OK)
        code = note_create(r->session, &by, &d, &res, &r->err);
    json_decref(body);
    return code == PQR_OK ? note_reply_new(reply, r, res) : code;
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

int api_note_list(struct request *r, struct reply *reply)
{
    struct page p;
    pqr_result *res = NULL;
    int code = page_read(r, &p);
    if (code == PQR_OK)
        code = note_list(r->session, r->tenant, p.q, page_after(&p), p.limit + 1, request_level(r),
                         &res, &r->err);
    return code == PQR_OK ? page_reply(reply, r, &p, res) : code;
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
    json_t *rows = note_rows(res, pqr_rows(res));
    json_t *answer = json_object();
    if (note_count(r->session, r->tenant, PQR_LEVEL_SESSION, &count, &r->err) == PQR_OK) {
        pqr_result_free(res);
        res = count;
        json_decref(answer);
        answer = note_row(count, 0);
    }
    json_object_set_new(answer, "notes", rows);
    return reply_with(reply, 200, answer, res);
}
