/* JSON, written as one line. The caller opens and closes in order; the commas come by themselves.
 * Inside an object each value has a name; in a list, and at the top, the name is NULL. */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    bool comma; /* something stands before */
};

void json_object(struct json *j, const char *name);
void json_end_object(struct json *j);
void json_list(struct json *j, const char *name);
void json_end_list(struct json *j);

void json_text(struct json *j, const char *name, const char *text); /* NULL: null */
void json_int(struct json *j, const char *name, int64_t number);
void json_known(struct json *j, const char *name, int64_t number); /* negative: null */
void json_bool(struct json *j, const char *name, bool yes);

/* The end of the line, written out. */
void json_done(struct json *j);

#endif
