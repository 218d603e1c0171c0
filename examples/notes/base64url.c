/* Base64url, in one direction and the other. One text for each sequence of bytes, no second. */
#include "base64url.h"

#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void base64url_write(const uint8_t *in, size_t len, char *out)
{
    uint32_t bits = 0;
    int n = 0; /* how many of them are not written yet */
    for (size_t i = 0; i < len; i++) {
        bits = bits << 8 | in[i];
        for (n += 8; n >= 6; n -= 6)
            *out++ = digits[bits >> (n - 6) & 63];
    }
    if (n > 0)
        *out++ = digits[bits << (6 - n) & 63];
    *out = '\0';
}

bool base64url_read(const char *text, uint8_t *out, size_t len)
{
    uint32_t bits = 0;
    int n = 0;
    size_t written = 0;
    if (strlen(text) != BASE64URL_LEN(len))
        return false;
    for (; *text; text++) {
        const char *digit = strchr(digits, *text);
        if (!digit)
            return false;
        bits = bits << 6 | (uint32_t)(digit - digits);
        n += 6;
        if (n >= 8) {
            n -= 8;
            out[written++] = (uint8_t)(bits >> n);
        }
    }
    return (bits & ((1u << n) - 1)) == 0; /* what is left of the last digit says nothing */
}
