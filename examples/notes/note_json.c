/* Notes as JSON, and pages of them. */
#include "note_json.h"

#include <stdio.h>
#include <stdlib.h>

enum { PAGE = 20, PAGE_MAX = 100 };

static const struct member members[] = {
    {"id", MEMBER_TEXT},         {"slug", MEMBER_TEXT},       {"title", MEMBER_TEXT},
    {"body", MEMBER_TEXT},       {"parent", MEMBER_TEXT},     {"author", MEMBER_TEXT},
    {"created_at", MEMBER_TIME}, {"updated_at", MEMBER_TIME}, {"deleted_at", MEMBER_TIME},
    {"created", MEMBER_TRUTH},   {"count", MEMBER_NUMBER},    {"server", MEMBER_TEXT},
};

json_t *note_row(const pqr_result *res, size_t row)
{
    return json_row(res, row, members, COUNT(members));
}

json_t *note_rows(const pqr_result *res, size_t max)
{
    return json_rows(res, max, members, COUNT(members));
}

/* ---- One note ------------------------------------------------------------------------------- */

int note_draft(struct request *r, json_t **body, struct draft *d)
{
    const struct field fields[] = {{"slug", &d->slug, true},
                                   {"title", &d->title, true},
                                   {"body", &d->body, false},
                                   {"parent", &d->parent, false}};
    *d = (struct draft){0};
    *body = json_body(r);
    return *body ? json_texts(*body, fields, COUNT(fields), r) : MALFORMED;
}

int note_reply(struct reply *reply, int http, pqr_result *res)
{
    return reply_with(reply, http, note_row(res, 0), res);
}

int note_reply_new(struct reply *reply, const struct request *r, pqr_result *res)
{
    snprintf(reply->location, sizeof reply->location, "/t/%s/notes/%s", r->tenant,
             pqr_text(res, 0, 0));
    return note_reply(reply, 201, res);
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

static int page_cursor(struct request *r, struct page *p)
{
    const char *text = request_query(r, "cursor");
    p->continues = text;
    if (text && !cursor_read(text, r->tenant, p->q, &p->cursor)) {
        r->field = "cursor";
        return MALFORMED;
    }
    return PQR_OK;
}

int page_read(struct request *r, struct page *p)
{
    p->q = request_query(r, "q");
    int code = page_limit(r, &p->limit);
    return code == PQR_OK ? page_cursor(r, p) : code;
}

const struct cursor *page_after(const struct page *p)
{
    return p->continues ? &p->cursor : NULL;
}

/* Where the next page begins, if there is one: one row more than asked for was fetched to see. */
static int page_next(struct request *r, const struct page *p, const pqr_result *res, json_t *body)
{
    struct cursor c;
    char text[CURSOR_TEXT];
    size_t last = (size_t)p->limit - 1;
    if (pqr_rows(res) <= (size_t)p->limit)
        return json_object_set_new(body, "next", json_null());
    int code = pqr_get_uuid(res, last, 0, c.id, &r->err);
    if (code == PQR_OK)
        code = pqr_get_timestamptz(res, last, 3, &c.created_us, &r->err);
    if (code != PQR_OK)
        return code;
    cursor_write(&c, r->tenant, p->q, text);
    return json_object_set_new(body, "next", json_string(text));
}

int page_reply(struct reply *reply, struct request *r, const struct page *p, pqr_result *res)
{
    json_t *body = json_object();
    json_object_set_new(body, "notes", note_rows(res, (size_t)p->limit));
    int code = page_next(r, p, res, body);
    if (code == PQR_OK)
        return reply_with(reply, 200, body, res);
    json_decref(body);
    pqr_result_free(res);
    return code;
}
