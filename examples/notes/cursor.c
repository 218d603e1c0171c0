/* Cursors. Their checksum finds accidents: a text cut off or changed, a cursor of another search.
 * It is no signature, and need not be one: who forges a cursor skips to another place of a list
 * that is theirs to read anyhow, since the statement filters by tenant whatever the cursor says. */
#include "cursor.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { TIME = 8, ID = 16, SUM = 8 };
_Static_assert(TIME + ID + SUM == CURSOR_BYTES, "the parts of a cursor");

static const int64_t year_9999_us = INT64_C(253402300800000000);

static void put64(uint8_t *out, uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8)
        out[i] = (uint8_t)v;
}

static uint64_t get64(const uint8_t *in)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | in[i];
    return v;
}

static uint64_t checksum(const uint8_t *position, const char *tenant, const char *q)
{
    XXH64_hash_t sum = XXH3_64bits(position, TIME + ID);
    sum = XXH3_64bits_withSeed(tenant, strlen(tenant), sum);
    return q ? XXH3_64bits_withSeed(q, strlen(q), sum) : sum;
}

void cursor_write(const struct cursor *c, const char *tenant, const char *q, char out[CURSOR_TEXT])
{
    uint8_t bytes[CURSOR_BYTES];
    put64(bytes, (uint64_t)c->created_us);
    memcpy(bytes + TIME, c->id, ID);
    put64(bytes + TIME + ID, checksum(bytes, tenant, q));
    base64url_write(bytes, sizeof bytes, out);
}

bool cursor_read(const char *text, const char *tenant, const char *q, struct cursor *out)
{
    uint8_t bytes[CURSOR_BYTES];
    if (!base64url_read(text, bytes, sizeof bytes) ||
        get64(bytes + TIME + ID) != checksum(bytes, tenant, q))
        return false;
    out->created_us = (int64_t)get64(bytes);
    memcpy(out->id, bytes + TIME, ID);
    return out->created_us >= 0 && out->created_us < year_9999_us;
}
