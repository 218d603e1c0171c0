/* Tokens: their text, and what they bind to. */
#include "token.h"

#include "../base/mac.h"
#include "stamp.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* A letter for the version, then in base64url: what is in `struct body`, big-endian, and behind it
 * a checksum or the first half of an HMAC-SHA256. */
enum {
    BODY_BYTES = 27, /* flags 1, shard 2, timeline 4, system id 8, position 8, tenant's hash 4 */
    SUM_BYTES = 4,
    MAC_BYTES = 16,
    BYTES_MAX = BODY_BYTES + MAC_BYTES,
    TEXTS_MAX = 32 /* tokens in one text: what comes behind is ignored */
};

#define PLAIN 'p'
#define KEYED 'k'
#define UNSURE 1u
#define NO_SHARD 0xFFFFu /* the control database */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* ---- Numbers and letters ---------------------------------------------------------------------- */

static unsigned char *put(unsigned char *to, uint64_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--)
        *to++ = (unsigned char)(value >> (8 * i));
    return to;
}

static uint64_t take(const unsigned char **at, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value = value << 8 | *(*at)++;
    return value;
}

static size_t letters(size_t bytes)
{
    return (bytes * 8 + 5) / 6;
}

static void encode(char *to, const unsigned char *bytes, size_t n)
{
    uint32_t held = 0;
    int bits = 0;
    for (size_t i = 0; i < n; i++) {
        held = held << 8 | bytes[i];
        for (bits += 8; bits >= 6; bits -= 6)
            *to++ = alphabet[held >> (bits - 6) & 63];
    }
    if (bits > 0)
        *to++ = alphabet[held << (6 - bits) & 63];
    *to = '\0';
}

static int value_of(char c)
{
    const char *at = c ? strchr(alphabet, c) : NULL;
    return at ? (int)(at - alphabet) : -1;
}

/* Exactly `n` bytes: bits that are left over must be none. */
static bool decode(unsigned char *to, size_t n, const char *text, size_t len)
{
    uint32_t held = 0;
    int bits = 0;
    if (len != letters(n))
        return false;
    for (size_t i = 0; i < len; i++) {
        int value = value_of(text[i]);
        if (value < 0)
            return false;
        held = held << 6 | (uint32_t)value;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            *to++ = (unsigned char)(held >> bits);
        }
    }
    return (held & ((1u << bits) - 1)) == 0;
}

/* ---- What it bears ---------------------------------------------------------------------------- */

/* So that tokens that were mixed up are found out, also without a key. */
static uint32_t tenant_hash(const struct pqi_token_holder *h)
{
    return (uint32_t)XXH3_64bits_withSeed(h->tenant ? h->tenant : "", h->tenant_len,
                                          h->control ? 2 : 1);
}

static void put_body(unsigned char *to, const struct pqi_token *t, const struct pqi_token_holder *h)
{
    to = put(to, t->unsure ? UNSURE : 0, 1);
    to = put(to, t->shard == PQI_STAMP_CONTROL ? NO_SHARD : (uint64_t)t->shard, 2);
    to = put(to, t->seen.timeline, 4);
    to = put(to, t->system_id, 8);
    to = put(to, t->seen.lsn, 8);
    put(to, tenant_hash(h), 4);
}

static bool take_body(const unsigned char *at, struct pqi_token *t,
                      const struct pqi_token_holder *h)
{
    uint64_t flags = take(&at, 1), shard = take(&at, 2);
    t->unsure = flags & UNSURE;
    t->shard = shard == NO_SHARD ? PQI_STAMP_CONTROL : (int)shard;
    t->seen.timeline = (uint32_t)take(&at, 4);
    t->system_id = take(&at, 8);
    t->seen.lsn = take(&at, 8);
    return flags <= UNSURE && take(&at, 4) == tenant_hash(h);
}

/* ---- What vouches for it ---------------------------------------------------------------------- */

static void sum(const unsigned char *body, unsigned char *out)
{
    put(out, XXH3_64bits_withSeed(body, BODY_BYTES, PLAIN) & 0xFFFFFFFFu, SUM_BYTES);
}

/* Bound to the whole tenant and the fleet, each with its length, so that none runs into the next. */
static bool sign(const unsigned char *body, const struct pqi_token_holder *h, unsigned char *out)
{
    static const char what[] = "pqrouter token p1";
    unsigned char whole[PQI_MAC_BYTES], sizes[1 + 8 + 8];
    size_t fleet = h->fleet ? strlen(h->fleet) : 0;
    put(put(put(sizes, h->control, 1), fleet, 8), h->tenant_len, 8);
    const struct pqi_part_of_mac parts[] = {
        {what, sizeof what},
        {body, BODY_BYTES},
        {sizes, sizeof sizes},
        {h->fleet ? h->fleet : "", fleet},
        {h->tenant ? h->tenant : "", h->tenant_len},
    };
    bool good = pqi_mac(h->key, parts, sizeof parts / sizeof *parts, whole);
    memcpy(out, whole, MAC_BYTES);
    return good;
}

/* ---- Text ------------------------------------------------------------------------------------- */

bool pqi_token_write(const struct pqi_token *t, const struct pqi_token_holder *h,
                     char out[PQR_TOKEN_MAX])
{
    unsigned char bytes[BYTES_MAX];
    _Static_assert(1 + (BYTES_MAX * 8 + 5) / 6 < PQR_TOKEN_MAX, "a token fits its buffer");
    put_body(bytes, t, h);
    out[0] = '\0';
    if (!h->key)
        sum(bytes, bytes + BODY_BYTES);
    else if (!sign(bytes, h, bytes + BODY_BYTES))
        return false;
    out[0] = h->key ? KEYED : PLAIN;
    encode(out + 1, bytes, BODY_BYTES + (h->key ? MAC_BYTES : SUM_BYTES));
    return true;
}

enum verdict { IGNORED, COUNTS, NO_MEMORY };

static enum verdict read_one(const char *text, size_t len, const struct pqi_token_holder *h,
                             struct pqi_token *out)
{
    unsigned char bytes[BYTES_MAX], own[MAC_BYTES];
    size_t tail = h->key ? MAC_BYTES : SUM_BYTES;
    if (len == 0 || text[0] != (h->key ? KEYED : PLAIN) ||
        !decode(bytes, BODY_BYTES + tail, text + 1, len - 1))
        return IGNORED;
    if (!h->key)
        sum(bytes, own);
    else if (!sign(bytes, h, own))
        return NO_MEMORY;
    return pqi_mac_same(own, bytes + BODY_BYTES, tail) && take_body(bytes, out, h) ? COUNTS
                                                                                   : IGNORED;
}

void pqi_token_merge(struct pqi_token *t, const struct pqi_token *more)
{
    t->unsure |= more->unsure;
    if (t->shard != more->shard || t->system_id != more->system_id)
        t->unsure = true;
    /* Each for itself: a replica that follows a new line may not have come to where it begins. */
    if (t->seen.timeline < more->seen.timeline)
        t->seen.timeline = more->seen.timeline;
    if (t->seen.lsn < more->seen.lsn)
        t->seen.lsn = more->seen.lsn;
}

int pqi_token_read(const char *text, const struct pqi_token_holder *h, struct pqi_token *out,
                   int *ignored)
{
    int counted = 0;
    for (int i = 0; *text && i < TEXTS_MAX; i++) {
        struct pqi_token one;
        size_t len = strnlen(text, PQR_TOKEN_MAX);
        const char *dot = memchr(text, '.', len);
        len = dot ? (size_t)(dot - text) : len;
        enum verdict verdict = read_one(text, len, h, &one);
        if (verdict == NO_MEMORY)
            return -1;
        if (verdict == IGNORED)
            ++*ignored;
        else if (counted++ == 0)
            *out = one;
        else
            pqi_token_merge(out, &one);
        if (!dot && text[len]) /* longer than any token: who knows where it ends */
            break;
        text += len + (dot ? 1 : 0);
    }
    return counted;
}

/* ---- What it binds to ------------------------------------------------------------------------- */

static bool is_here(const struct pqi_token *t, const struct pqi_token_known *k)
{
    return t->shard == k->shard && t->system_id != 0 && t->system_id == k->system_id;
}

/* Has enough been told since it came? The primary alone does not know whether another one was
 * promoted beside it. */
static bool can_tell(const struct pqi_token *t, const struct pqi_token_known *k)
{
    bool here = is_here(t, k);
    if (here && t->seen.timeline > k->timeline && !k->all_told)
        return false;
    if (t->unsure)
        return k->told;
    return k->based && (k->told || !here);
}

enum pqi_token_verdict pqi_token_judge(const struct pqi_token *t, const struct pqi_token_known *k,
                                       struct pqi_seen *out)
{
    bool within = is_here(t, k) && t->seen.timeline <= k->timeline && t->seen.lsn <= k->lsn;
    if (within && !t->unsure) {
        *out = t->seen;
        return PQI_TOKEN_TAKEN;
    }
    if (!can_tell(t, k)) {
        *out = (struct pqi_seen){UINT32_MAX, UINT64_MAX};
        return PQI_TOKEN_OPEN;
    }
    *out = t->unsure ? k->covers : k->base;
    return t->unsure ? PQI_TOKEN_UNSURE : PQI_TOKEN_CLAMPED;
}
