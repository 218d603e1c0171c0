/* pqr_param[] -> the arguments of PQsendQueryParams. Each parameter is encoded twice by the same
 * code, first into nothing to learn its size. Formats: the manual's "Binary format" is the types'
 * send functions (src/backend/utils/adt/…). */
#include "param.h"

#include "../base/err.h"
#include "../base/mem.h"

#include <string.h>

#define TEXT_FORMAT 0
#define BINARY_FORMAT 1

/* Microseconds from 1970-01-01 to 2000-01-01, and to PostgreSQL's first timestamp, 4714 BC. */
#define EPOCH_SHIFT_US INT64_C(946684800000000)
#define FIRST_US INT64_C(-210866803200000000)

/* A message of a gigabyte ends the connection; 24 MB of it are left for the statement and the
 * frame. */
#define ALL_PARAMS_MAX (1000 << 20)

/* By PQR_TYPE_…; width 0: the elements bring their length. */
static const struct type {
    uint32_t oid;
    uint32_t array_oid;
    size_t width;
} types[] = {
    [PQR_TYPE_TEXT] = {0, 0, 0},
    [PQR_TYPE_BYTES] = {17, 1001, 0},
    [PQR_TYPE_BOOL] = {16, 1000, sizeof(bool)},
    [PQR_TYPE_INT32] = {23, 1007, 4},
    [PQR_TYPE_INT64] = {20, 1016, 8},
    [PQR_TYPE_FLOAT8] = {701, 1022, 8},
    [PQR_TYPE_UUID] = {2950, 2951, 16},
    [PQR_TYPE_TIMESTAMPTZ] = {1184, 1185, 8},
};

#define NTYPES (sizeof types / sizeof *types)

/* ---- Where bytes go -------------------------------------------------------------------------- */

/* `out` NULL: they are only counted. */
struct sink {
    char *out;
    size_t len;
    bool too_long; /* the count itself overflowed */
};

static void put(struct sink *s, const void *bytes, size_t len)
{
    if (s->out && len > 0)
        memcpy(s->out + s->len, bytes, len);
    if (__builtin_add_overflow(s->len, len, &s->len))
        s->too_long = true;
}

static void put_u32(struct sink *s, uint32_t v)
{
    unsigned char b[] = {(unsigned char)(v >> 24), (unsigned char)(v >> 16),
                         (unsigned char)(v >> 8), (unsigned char)v};
    put(s, b, sizeof b);
}

static void put_u64(struct sink *s, uint64_t v)
{
    put_u32(s, (uint32_t)(v >> 32));
    put_u32(s, (uint32_t)v);
}

/* ---- One value ------------------------------------------------------------------------------- */

/* A value, of a scalar or an element of an array, where it lies in its C type. */
static const char *put_value(struct sink *s, uint32_t type, const void *at)
{
    int32_t i32;
    int64_t i64;
    switch (type) {
    case PQR_TYPE_BYTES: {
        const pqr_bytes *b = at;
        put(s, b->ptr, b->len);
        return NULL;
    }
    case PQR_TYPE_BOOL:
        put(s, *(const unsigned char *)at ? "\1" : "\0", 1);
        return NULL;
    case PQR_TYPE_INT32:
        memcpy(&i32, at, sizeof i32);
        put_u32(s, (uint32_t)i32);
        return NULL;
    case PQR_TYPE_UUID:
        put(s, at, 16);
        return NULL;
    case PQR_TYPE_TIMESTAMPTZ:
        memcpy(&i64, at, sizeof i64);
        if (i64 < FIRST_US)
            return "a time before 4714 BC, where PostgreSQL's times begin";
        put_u64(s, (uint64_t)(i64 - EPOCH_SHIFT_US));
        return NULL;
    default: /* INT64, FLOAT8: their 64 bits as they are */
        memcpy(&i64, at, sizeof i64);
        put_u64(s, (uint64_t)i64);
        return NULL;
    }
}

static const char *put_scalar(struct sink *s, const pqr_param *p)
{
    switch (p->type) {
    case PQR_TYPE_TEXT:
        put(s, p->v.ptr, p->len == PQR_ZSTR ? strlen(p->v.ptr) : p->len);
        return NULL;
    case PQR_TYPE_BYTES:
        return put_value(s, p->type, &(pqr_bytes){p->v.ptr, p->len});
    case PQR_TYPE_UUID:
        return put_value(s, p->type, p->v.ptr);
    case PQR_TYPE_BOOL:
        return put_value(s, p->type, &(bool){p->v.i64 != 0});
    case PQR_TYPE_INT32:
        if (p->v.i64 < INT32_MIN || p->v.i64 > INT32_MAX)
            return "a value that 32 bits do not hold: send it as PQR_INT64";
        return put_value(s, p->type, &(int32_t){(int32_t)p->v.i64});
    default:
        return put_value(s, p->type, &p->v);
    }
}

/* ---- Arrays ---------------------------------------------------------------------------------- */

static uint32_t element_type(const pqr_param *p)
{
    return p->type - PQR_ARRAY;
}

static const char *text_element(const pqr_param *p, size_t i)
{
    return ((const char *const *)p->v.ptr)[i];
}

static const void *element(const pqr_param *p, size_t i)
{
    uint32_t type = element_type(p);
    size_t width = type == PQR_TYPE_BYTES ? sizeof(pqr_bytes) : types[type].width;
    return (const char *)p->v.ptr + i * width;
}

static bool is_null_element(const pqr_param *p, size_t i)
{
    if (p->nulls && p->nulls[i])
        return true;
    if (element_type(p) == PQR_TYPE_TEXT)
        return !text_element(p, i);
    return element_type(p) == PQR_TYPE_BYTES && !((const pqr_bytes *)p->v.ptr)[i].ptr;
}

static void put_quoted(struct sink *s, const char *text)
{
    put(s, "\"", 1);
    for (;;) {
        size_t plain = strcspn(text, "\"\\");
        put(s, text, plain);
        text += plain;
        if (!*text)
            break;
        put(s, "\\", 1);
        put(s, text++, 1);
    }
    put(s, "\"", 1);
}

/* {"a","b \"c\"",NULL}: quoted always, so no element is taken for NULL or for several. */
static void put_array_literal(struct sink *s, const pqr_param *p)
{
    put(s, "{", 1);
    for (size_t i = 0; i < p->len; i++) {
        if (i > 0)
            put(s, ",", 1);
        if (is_null_element(p, i))
            put(s, "NULL", 4);
        else
            put_quoted(s, text_element(p, i));
    }
    put(s, "}", 1);
}

static bool has_nulls(const pqr_param *p)
{
    for (size_t i = 0; i < p->len; i++)
        if (is_null_element(p, i))
            return true;
    return false;
}

static size_t value_length(const pqr_param *p, size_t i)
{
    uint32_t type = element_type(p);
    if (type == PQR_TYPE_BYTES)
        return ((const pqr_bytes *)p->v.ptr)[i].len;
    return type == PQR_TYPE_BOOL ? 1 : types[type].width;
}

static const char *put_array(struct sink *s, const pqr_param *p)
{
    put_u32(s, p->len > 0); /* dimensions */
    put_u32(s, has_nulls(p));
    put_u32(s, types[element_type(p)].oid);
    if (p->len > 0) {
        put_u32(s, (uint32_t)p->len);
        put_u32(s, 1); /* lower bound */
    }
    for (size_t i = 0; i < p->len; i++) {
        if (is_null_element(p, i)) {
            put_u32(s, UINT32_MAX);
            continue;
        }
        put_u32(s, (uint32_t)value_length(p, i));
        const char *why = put_value(s, element_type(p), element(p, i));
        if (why)
            return why;
    }
    return NULL;
}

/* ---- One parameter --------------------------------------------------------------------------- */

static bool is_array(const pqr_param *p)
{
    return p->type >= PQR_ARRAY;
}

static bool is_text(const pqr_param *p)
{
    return p->type == PQR_TYPE_TEXT || p->type == PQR_ARRAY + PQR_TYPE_TEXT;
}

static bool is_null(const pqr_param *p)
{
    bool by_pointer = p->type == PQR_TYPE_TEXT || p->type == PQR_TYPE_BYTES ||
                      p->type == PQR_TYPE_UUID;
    return p->type == PQR_TYPE_NULL || (by_pointer && !p->v.ptr);
}

/* May the caller's bytes be sent from where they are? Text must end with NUL for that. */
static bool in_place(const pqr_param *p)
{
    return (p->type == PQR_TYPE_TEXT && p->len == PQR_ZSTR) || p->type == PQR_TYPE_BYTES;
}

static uint32_t oid_of(const pqr_param *p)
{
    if (p->type == PQR_TYPE_NULL)
        return 0;
    return is_array(p) ? types[element_type(p)].array_oid : types[p->type].oid;
}

/* What is wrong with it that shows before it is encoded: NULL or a reason. */
static const char *check(const pqr_param *p)
{
    uint32_t type = is_array(p) ? element_type(p) : p->type;
    if (type >= NTYPES || (is_array(p) && type == PQR_TYPE_NULL))
        return "not a type that exists: make parameters with the PQR_… macros";
    if (is_array(p) && p->len > 0 && !p->v.ptr)
        return "an array with elements, but its pointer is NULL: for SQL NULL use PQR_NULL";
    /* No element takes less than four bytes: so the array is not walked in vain. */
    if (is_array(p) && p->len > PQI_PARAM_MAX / 4)
        return "an array of more elements than fit a parameter: send it in parts";
    if (p->type == PQR_TYPE_TEXT && p->v.ptr && p->len <= PQI_PARAM_MAX &&
        memchr(p->v.ptr, '\0', p->len))
        return "a text with a NUL inside, which PostgreSQL does not store: send it as PQR_BYTES";
    return NULL;
}

static const char *encode(struct sink *s, const pqr_param *p)
{
    if (is_null(p))
        return NULL;
    if (!is_array(p))
        return put_scalar(s, p);
    if (!is_text(p))
        return put_array(s, p);
    put_array_literal(s, p);
    return NULL;
}

/* Adds its bytes to *size. */
static int measure(const pqr_param *p, size_t index, size_t *size, pqr_error *err)
{
    struct sink s = {0};
    const char *why = check(p);
    if (!why)
        why = encode(&s, p);
    if (why)
        return pqi_err(err, PQR_E_USAGE, "$%zu: %s", index + 1, why);
    if (s.too_long || s.len > PQI_PARAM_MAX)
        return pqi_err(err, PQR_E_USAGE,
                       "$%zu: %zu bytes, more than the %d a parameter may have: send it in parts",
                       index + 1, s.too_long ? SIZE_MAX : s.len, PQI_PARAM_MAX);
    *size += s.len;
    return PQR_OK;
}

/* ---- All of them ----------------------------------------------------------------------------- */

/* The bytes to be encoded, a NUL behind each parameter included, to *arena. */
static int measure_all(const pqr_param *params, size_t n, bool copy, size_t *arena, pqr_error *err)
{
    size_t all = 0;
    *arena = 0;
    for (size_t i = 0; i < n; i++) {
        size_t before = all;
        if (measure(&params[i], i, &all, err) < 0)
            return PQR_E_USAGE;
        if (all > ALL_PARAMS_MAX)
            return pqi_err(err, PQR_E_USAGE,
                           "$1 to $%zu: %zu bytes, more than the %d that all parameters may have: "
                           "send them in several statements",
                           i + 1, all, ALL_PARAMS_MAX);
        if (copy || !in_place(&params[i]))
            *arena += all - before + 1;
    }
    return PQR_OK;
}

/* Room for `n` parameters with `arena` bytes behind them; not zeroed. */
static struct pqi_params *allocate(size_t n, size_t arena)
{
    size_t each = sizeof(char *) + sizeof(uint32_t) + 2 * sizeof(int);
    struct pqi_params *b = pqi_mem_resize(NULL, 1, sizeof *b + n * each + arena);
    if (!b)
        return NULL;
    b->n = (int)n;
    b->values = (const char **)(b + 1);
    b->types = (uint32_t *)(b->values + n);
    b->lengths = (int *)(b->types + n);
    b->formats = b->lengths + n;
    return b;
}

/* Encodes into `arena`, or refers to the caller's bytes. Cannot fail: it was measured. */
static const char *encode_value(struct sink *arena, const pqr_param *p, bool copy, int *length)
{
    *length = 0;
    if (is_null(p))
        return NULL;
    struct sink count = {0};
    bool refer = !copy && in_place(p);
    struct sink *to = refer ? &count : arena;
    const char *value = refer ? p->v.ptr : arena->out + arena->len;
    size_t before = to->len;
    encode(to, p);
    *length = (int)(to->len - before);
    if (!refer)
        put(arena, "", 1);
    return value;
}

int pqi_params_bind(struct pqi_params **out, const pqr_param *params, size_t n, bool copy,
                    pqr_error *err)
{
    if (n > PQI_PARAMS_MAX)
        return pqi_err(err, PQR_E_USAGE,
                       "%zu parameters, more than the %d a statement may have: send an array", n,
                       PQI_PARAMS_MAX);
    if (n > 0 && !params)
        return pqi_err(err, PQR_E_USAGE, "params is NULL, but nparams is %zu", n);
    size_t arena_size = 0;
    if (measure_all(params, n, copy, &arena_size, err) < 0)
        return PQR_E_USAGE;
    struct pqi_params *b = n > 0 ? allocate(n, arena_size) : NULL;
    if (n > 0 && !b)
        return pqi_err(err, PQR_E_NOMEM, "no memory for %zu parameters", n);
    struct sink arena = {.out = b ? (char *)(b->formats + n) : NULL};
    for (size_t i = 0; i < n; i++) {
        b->types[i] = oid_of(&params[i]);
        b->formats[i] = is_text(&params[i]) || is_null(&params[i]) ? TEXT_FORMAT : BINARY_FORMAT;
        b->values[i] = encode_value(&arena, &params[i], copy, &b->lengths[i]);
    }
    *out = b;
    return PQR_OK;
}

void pqi_params_free(struct pqi_params *p)
{
    pqi_mem_free(p);
}

int pqi_sql_check(const char *sql, pqr_error *err)
{
    if (!sql)
        return pqi_err(err, PQR_E_USAGE, "sql is NULL: give it one statement");
    if (!sql[strspn(sql, " \t\r\n\f\v")])
        return pqi_err(err, PQR_E_USAGE, "sql is empty: give it one statement");
    if (strnlen(sql, PQI_SQL_MAX + 1) > PQI_SQL_MAX)
        return pqi_err(err, PQR_E_USAGE,
                       "sql has more than %d bytes: send values as parameters, not in the text",
                       PQI_SQL_MAX);
    return PQR_OK;
}

size_t pqi_params_bytes(const struct pqi_params *p)
{
    size_t bytes = 0;
    for (int i = 0; p && i < p->n; i++)
        bytes += p->values[i] ? (size_t)p->lengths[i] : 0;
    return bytes;
}
