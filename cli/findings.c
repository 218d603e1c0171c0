/* What a check has found. */
#include "findings.h"

#include "memory.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

static const char *const level_names[] = {"ok", "warning", "error"};

void finding(struct findings *f, enum level level, const char *kind, const char *where,
             const char *advice, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = format_textv(format, args);
    va_end(args);
    f->list = more_memory(f->list, (size_t)f->n + 1, sizeof *f->list);
    f->list[f->n++] = (struct finding){level, kind, copy_text(where), text,
                                       advice ? copy_text(advice) : NULL};
    f->errors += level == IS_ERROR;
    f->warnings += level == IS_WARNING;
}

/* The library's messages begin with the node's name themselves. */
static void print_one(const struct finding *f, FILE *out)
{
    fprintf(out, "%s: ", level_names[f->level]);
    if (strncmp(f->text, f->where, strlen(f->where)) != 0) {
        text_print(out, f->where);
        fputs(": ", out);
    }
    text_print(out, f->text);
    putc('\n', out);
    if (!f->advice)
        return;
    fputs("    what to do: ", out);
    text_print(out, f->advice);
    putc('\n', out);
}

void findings_print(const struct findings *f, FILE *out)
{
    for (int i = 0; i < f->n; i++)
        print_one(&f->list[i], out);
    fprintf(out, "%d error%s, %d warning%s\n", f->errors, f->errors == 1 ? "" : "s", f->warnings,
            f->warnings == 1 ? "" : "s");
}

void findings_json(const struct findings *f, struct json *j)
{
    json_bool(j, "ok", f->errors == 0);
    json_int(j, "errors", f->errors);
    json_int(j, "warnings", f->warnings);
    json_list(j, "findings");
    for (int i = 0; i < f->n; i++) {
        json_object(j, NULL);
        json_text(j, "level", level_names[f->list[i].level]);
        json_text(j, "kind", f->list[i].kind);
        json_text(j, "where", f->list[i].where);
        json_text(j, "text", f->list[i].text);
        json_text(j, "advice", f->list[i].advice);
        json_end_object(j);
    }
    json_end_list(j);
}

void findings_free(struct findings *f)
{
    for (int i = 0; i < f->n; i++) {
        free(f->list[i].where);
        free(f->list[i].text);
        free(f->list[i].advice);
    }
    free(f->list);
}
