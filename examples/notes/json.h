/* JSON of requests and replies, by tables of what belongs in it. */
#ifndef NOTES_JSON_H
#define NOTES_JSON_H

#include "request.h"

/* The body as an object; NULL: it is none. Free with json_decref. */
json_t *json_body(const struct request *r);

/* A text that an object of a request may, or must, have. */
struct field {
    const char *name;
    const char **out; /* lives as long as the object; untouched if there is none */
    bool needed;
};

/* PQR_OK; INVALID: what is needed is not there, or one is not a text (or null, if not needed). */
int json_texts(const json_t *object, const struct field *fields, size_t n, struct request *r);

enum kind { MEMBER_TEXT, MEMBER_TIME, MEMBER_NUMBER, MEMBER_TRUTH };

/* A member of a reply, from the result's column of that name. */
struct member {
    const char *name;
    enum kind kind;
};

/* A row as an object, and all rows (at most `max`) as an array: those members that the result has
 * a column for. NULL in the database is null. */
json_t *json_row(const pqr_result *res, size_t row, const struct member *members, size_t n);
json_t *json_rows(const pqr_result *res, size_t max, const struct member *members, size_t n);

#define COUNT(array) (sizeof(array) / sizeof *(array))

#endif
