/* Between JSON and what the database takes and gives. Parsing and printing are jansson's. */
#include "json.h"

#include <stdio.h>
#include <time.h>

json_t *json_body(const struct request *r)
{
    json_t *body = json_loadb(r->body ? r->body : "", r->body_len, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(body))
        return body;
    json_decref(body);
    return NULL;
}

int json_texts(const json_t *object, const struct field *fields, size_t n, struct request *r)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_object_get(object, fields[i].name);
        if (json_is_string(value)) {
            *fields[i].out = json_string_value(value);
        } else if (fields[i].needed || (value && !json_is_null(value))) {
            r->field = fields[i].name;
            return INVALID;
        }
    }
    return PQR_OK;
}

static json_t *time_of(const pqr_result *res, size_t row, size_t column)
{
    int64_t us;
    time_t seconds;
    struct tm tm;
    char day[32], text[48];
    if (pqr_get_timestamptz(res, row, column, &us, NULL) != PQR_OK)
        return json_null();
    seconds = (time_t)(us / 1000000);
    if (us < 0 || !gmtime_r(&seconds, &tm))
        return json_null();
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text, sizeof text, "%s.%06dZ", day, (int)(us % 1000000));
    return json_string(text);
}

static json_t *value_of(const pqr_result *res, size_t row, size_t column, enum kind kind)
{
    if (pqr_is_null(res, row, column))
        return json_null();
    switch (kind) {
    case MEMBER_TIME:
        return time_of(res, row, column);
    case MEMBER_NUMBER:
        return json_integer(pqr_int64(res, row, column));
    case MEMBER_TRUTH:
        return json_boolean(pqr_bool(res, row, column));
    case MEMBER_TEXT:
    default:
        return json_stringn(pqr_text(res, row, column), pqr_length(res, row, column));
    }
}

json_t *json_row(const pqr_result *res, size_t row, const struct member *members, size_t n)
{
    json_t *object = json_object();
    for (size_t i = 0; i < n; i++) {
        int column = pqr_column(res, members[i].name);
        if (column >= 0)
            json_object_set_new(object, members[i].name,
                                value_of(res, row, (size_t)column, members[i].kind));
    }
    return object;
}

json_t *json_rows(const pqr_result *res, size_t max, const struct member *members, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; i < pqr_rows(res) && i < max; i++)
        json_array_append_new(array, json_row(res, i, members, n));
    return array;
}
