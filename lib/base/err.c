/* Filling a pqr_error, and what each code means. Nothing here is written to stderr or kept. */
#include "err.h"

#include <stdio.h>
#include <string.h>

struct code {
    int code;
    int retry;
    const char *name;
    const char *advice;
};

static const struct code codes[] = {
#define PQI_ERROR(name, number, retry, meaning, advice) {number, PQR_RETRY_##retry, #name, advice},
#include "errors.def"
#undef PQI_ERROR
};

static const struct code *find(int code)
{
    size_t i = (size_t)(-(long)code);
    return code <= 0 && i < sizeof codes / sizeof *codes ? &codes[i] : NULL;
}

const char *pqr_code_name(int code)
{
    const struct code *c = find(code);
    return c ? c->name : "unknown code";
}

const char *pqr_code_advice(int code)
{
    const struct code *c = find(code);
    return c ? c->advice : "";
}

/* Where a text of `len` bytes may be cut at `max` without splitting a UTF-8 character. */
static size_t cut(const char *text, size_t len, size_t max)
{
    if (len <= max)
        return len;
    while (max > 0 && ((unsigned char)text[max] & 0xC0) == 0x80)
        max--;
    return max;
}

static void blank_controls(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7F)
            *text = ' ';
}

void pqi_copy_text(char *field, size_t size, const char *text)
{
    size_t len = text ? cut(text, strlen(text), size - 1) : 0;
    memcpy(field, text ? text : "", len);
    memset(field + len, 0, size - len);
    blank_controls(field);
}

/* Formats into the message from `at` on. What does not fit is cut at a whole character. */
static void format_message(pqr_error *err, size_t at, const char *format, va_list args)
{
    char text[2 * sizeof err->message];
    if (vsnprintf(text, sizeof text, format, args) < 0)
        text[0] = '\0';
    pqi_copy_text(err->message + at, sizeof err->message - at, text);
}

int pqi_errv(pqr_error *err, int code, const char *format, va_list args)
{
    if (!err)
        return code;
    memset(err, 0, sizeof *err);
    const struct code *c = find(code);
    err->code = code;
    err->retry = c ? c->retry : PQR_RETRY_UNKNOWN;
    err->shard = -1;
    err->index = -1;
    format_message(err, 0, format, args);
    return code;
}

int pqi_err(pqr_error *err, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    pqi_errv(err, code, format, args);
    va_end(args);
    return code;
}

int pqi_err_none(pqr_error *err)
{
    if (err) {
        memset(err, 0, sizeof *err);
        err->shard = -1;
        err->index = -1;
    }
    return PQR_OK;
}

void pqi_err_add(pqr_error *err, const char *format, ...)
{
    if (!err)
        return;
    va_list args;
    va_start(args, format);
    format_message(err, strlen(err->message), format, args);
    va_end(args);
}
