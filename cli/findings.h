/* What a check has found: for each thing how bad it is, where, and what to do. */
#ifndef CLI_FINDINGS_H
#define CLI_FINDINGS_H

#include "json.h"

#include <stdio.h>

enum level { IS_OK, IS_WARNING, IS_ERROR };

struct finding {
    enum level level;
    const char *kind; /* a word for programs, for ever: docs/command.md lists them */
    char *where;      /* a node, a shard, or "configuration" */
    char *text;
    char *advice; /* what to do; NULL: nothing */
};

struct findings {
    struct finding *list;
    int n;
    int errors, warnings;
};

/* `advice` may be NULL; all texts are copied. */
void finding(struct findings *f, enum level level, const char *kind, const char *where,
             const char *advice, const char *format, ...) __attribute__((format(printf, 6, 7)));

void findings_print(const struct findings *f, FILE *out);
void findings_json(const struct findings *f, struct json *j); /* into an open object */
void findings_free(struct findings *f);

#endif
