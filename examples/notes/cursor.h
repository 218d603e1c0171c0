/* Where a page ended, as a text that the client hands back unread. */
#ifndef NOTES_CURSOR_H
#define NOTES_CURSOR_H

#include "base64url.h"

#include <stdbool.h>
#include <stdint.h>

/* The last row of a page: rows are in the order of (created_at, id), newest first. */
struct cursor {
    int64_t created_us; /* microseconds since 1970 */
    uint8_t id[16];
};

enum { CURSOR_BYTES = 32, CURSOR_TEXT = BASE64URL_LEN(CURSOR_BYTES) + 1 };

/* A cursor belongs to one tenant's list, or to its search for `q` (NULL: the list). */
void cursor_write(const struct cursor *c, const char *tenant, const char *q, char out[CURSOR_TEXT]);

/* False: damaged, or another list's. */
bool cursor_read(const char *text, const char *tenant, const char *q, struct cursor *out);

#endif
