/* Bytes as text that may stand in a URL (RFC 4648, section 5), without padding. */
#ifndef NOTES_BASE64URL_H
#define NOTES_BASE64URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BASE64URL_LEN(bytes) (((bytes)*4 + 2) / 3) /* without NUL */

/* Writes BASE64URL_LEN(len) characters and NUL. */
void base64url_write(const uint8_t *in, size_t len, char *out);

/* Reads exactly `len` bytes; false: `text` is not what base64url_write makes of any. */
bool base64url_read(const char *text, uint8_t *out, size_t len);

#endif
