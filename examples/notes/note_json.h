/* What a request says of notes, and a reply of the rows of a result. */
#ifndef NOTES_NOTE_JSON_H
#define NOTES_NOTE_JSON_H

#include "json.h"
#include "notes.h"

/* The note that a body describes; its texts live as long as *body, which is freed by the caller
 * (NULL after MALFORMED). PQR_OK, MALFORMED or INVALID. */
int note_draft(struct request *r, json_t **body, struct draft *d);

/* Which page of which list. */
struct page {
    const char *q; /* NULL: not a search */
    int limit;
    bool continues; /* after `cursor`; else from the first */
    struct cursor cursor;
};

/* PQR_OK or MALFORMED. The result to fetch has one row more than `limit`: so it is seen whether
 * there is a next page. */
int page_read(struct request *r, struct page *p);
const struct cursor *page_after(const struct page *p);

/* Replies: they free `res`. A row's columns; a new note's and where it is; a page's rows and its
 * next one's cursor. PQR_OK, or a code. */
int note_reply(struct reply *reply, int http, pqr_result *res);
int note_reply_new(struct reply *reply, const struct request *r, pqr_result *res);
int page_reply(struct reply *reply, struct request *r, const struct page *p, pqr_result *res);

/* For replies of another shape. */
json_t *note_row(const pqr_result *res, size_t row);
json_t *note_rows(const pqr_result *res, size_t max);

#endif
