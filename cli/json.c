/* JSON, written as one line. */
#include "json.h"

#include "text.h"

#include <inttypes.h>

static void put_text(FILE *out, const char *text)
{
    putc('"', out);
    while (*text) {
        int32_t number;
        size_t len = text_next(text, &number);
        if (number == '"' || number == '\\')
            fprintf(out, "\\%c", (int)number);
        else if (number < 0)
            fputs("\\ufffd", out); /* JSON is UTF-8 */
        else if (number < 0x20 || (number >= 0x7f && number < 0xa0))
            fprintf(out, "\\u%04x", (unsigned)number);
        else
            fwrite(text, 1, len, out);
        text += len;
    }
    putc('"', out);
}

static void begin(struct json *j, const char *name)
{
    if (j->comma)
        putc(',', j->out);
    j->comma = true;
    if (name) {
        put_text(j->out, name);
        putc(':', j->out);
    }
}

static void open(struct json *j, const char *name, char bracket)
{
    begin(j, name);
    putc(bracket, j->out);
    j->comma = false;
}

static void close(struct json *j, char bracket)
{
    putc(bracket, j->out);
    j->comma = true;
}

void json_object(struct json *j, const char *name)
{
    open(j, name, '{');
}

void json_end_object(struct json *j)
{
    close(j, '}');
}

void json_list(struct json *j, const char *name)
{
    open(j, name, '[');
}

void json_end_list(struct json *j)
{
    close(j, ']');
}

void json_text(struct json *j, const char *name, const char *text)
{
    begin(j, name);
    if (text)
        put_text(j->out, text);
    else
        fputs("null", j->out);
}

void json_int(struct json *j, const char *name, int64_t number)
{
    begin(j, name);
    fprintf(j->out, "%" PRId64, number);
}

void json_known(struct json *j, const char *name, int64_t number)
{
    if (number >= 0)
        json_int(j, name, number);
    else
        json_text(j, name, NULL);
}

void json_bool(struct json *j, const char *name, bool yes)
{
    begin(j, name);
    fputs(yes ? "true" : "false", j->out);
}

void json_done(struct json *j)
{
    putc('\n', j->out);
    fflush(j->out);
    j->comma = false;
}
