/* Tokens: any text is read or ignored; what is read is written as the same text. What is made up of the
 * input is written, read, merged in either order, and damaged. */
#include "../../lib/plan/token.h"
#include "../../lib/plan/stamp.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TENANT "acme", 4, false
#define KEY "0123456789abcdef"

static const struct pqi_token_holder plain = {TENANT, NULL, NULL};
static const struct pqi_token_holder keyed = {TENANT, "fleet", KEY};
static const struct pqi_token_holder strangers[] = {
    {"acmf", 4, false, "fleet", KEY},
    {"acme", 4, true, "fleet", KEY},
    {TENANT, "fleeu", KEY},
    {TENANT, NULL, KEY},
    {TENANT, "fleet", "0123456789abcdeg"},
    {TENANT, "fleet", NULL},
};

static void expect(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz-token: %s\n", what);
    abort();
}

/* ---- Any text --------------------------------------------------------------------------------- */

static int count_parts(const char *text)
{
    int n = 1;
    for (; *text; text++)
        n += *text == '.';
    return n;
}

static void read_text(const char *text, const struct pqi_token_holder *h)
{
    struct pqi_token t = {.shard = 77};
    char again[PQR_TOKEN_MAX];
    int ignored = 0, counted = pqi_token_read(text, h, &t, &ignored);
    expect(counted >= 0 && ignored >= 0 && counted + ignored <= 32, "it has too many parts");
    expect(counted + ignored <= count_parts(text), "it has more parts than there are");
    expect(!*text || counted + ignored > 0, "a text is nothing at all");
    expect(counted > 0 || t.shard == 77, "what does not count was written");
    if (counted != 1 || ignored != 0 || strchr(text, '.'))
        return;
    expect(pqi_token_write(&t, h, again), "what was read cannot be written");
    expect(strcmp(text, again) == 0, "two texts say the same");
}

/* ---- Any token -------------------------------------------------------------------------------- */

static uint64_t take(const uint8_t **at, const uint8_t *end, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value = value << 8 | (*at < end ? *(*at)++ : 0u);
    return value;
}

static struct pqi_token take_token(const uint8_t **at, const uint8_t *end)
{
    uint64_t flags = take(at, end, 1), shard = take(at, end, 2);
    return (struct pqi_token){.shard = shard == 0xFFFF ? PQI_STAMP_CONTROL : (int)shard,
                              .system_id = flags & 2 ? 1 : take(at, end, 8),
                              .seen = {(uint32_t)take(at, end, 4), take(at, end, 8)},
                              .unsure = flags & 1};
}

static bool same(const struct pqi_token *a, const struct pqi_token *b)
{
    return a->shard == b->shard && a->system_id == b->system_id &&
           a->seen.timeline == b->seen.timeline && a->seen.lsn == b->seen.lsn &&
           a->unsure == b->unsure;
}

static bool covers(const struct pqi_token *a, const struct pqi_token *b)
{
    return a->seen.timeline >= b->seen.timeline && a->seen.lsn >= b->seen.lsn &&
           a->unsure >= b->unsure;
}

static struct pqi_token merged(struct pqi_token a, const struct pqi_token *b)
{
    pqi_token_merge(&a, b);
    return a;
}

/* Whose servers and shard it names counts no more once it is unsure: that of the first stays. */
static void merge(const struct pqi_token *a, const struct pqi_token *b)
{
    struct pqi_token ab = merged(*a, b), ba = merged(*b, a);
    bool compare = a->shard == b->shard && a->system_id == b->system_id;
    expect(ab.seen.timeline == ba.seen.timeline && ab.seen.lsn == ba.seen.lsn &&
               ab.unsure == ba.unsure,
           "the order matters");
    expect(!compare || same(&ab, &ba), "the order matters for those that compare");
    expect(covers(&ab, a) && covers(&ab, b), "it is lower than one of them");
    expect(compare || ab.unsure, "what does not compare is sure");
    ba = merged(*a, a);
    expect(same(&ba, a), "merged with itself it is another one");
}

static int read_of(const char *text, const struct pqi_token_holder *h, struct pqi_token *t)
{
    int ignored = 0;
    return pqi_token_read(text, h, t, &ignored);
}

static void write_and_read(const struct pqi_token *a, const struct pqi_token *b,
                           const struct pqi_token_holder *h)
{
    char text[PQR_TOKEN_MAX], more[PQR_TOKEN_MAX], both[2 * PQR_TOKEN_MAX];
    struct pqi_token t, m = merged(*a, b);
    expect(pqi_token_write(a, h, text) && pqi_token_write(b, h, more), "it cannot be written");
    expect(read_of(text, h, &t) == 1 && same(&t, a), "it is read as another one");
    snprintf(both, sizeof both, "%s.%s", text, more);
    expect(read_of(both, h, &t) == 2 && same(&t, &m), "a list is read as another one");
}

/* One bit, somewhere. */
static void damage(const struct pqi_token *a, unsigned where)
{
    char text[PQR_TOKEN_MAX];
    struct pqi_token t;
    expect(pqi_token_write(a, &keyed, text), "it cannot be written");
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
        expect(read_of(text, &strangers[i], &t) == 0, "a stranger's token counts");
    size_t at = where / 8 % strlen(text);
    text[at] = (char)(text[at] ^ 1 << where % 8);
    expect(read_of(text, &keyed, &t) == 0, "a flipped bit was not noticed");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *at = data, *end = data + size;
    char *text = size <= 4096 ? malloc(size + 1) : NULL;
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    unsigned where = (unsigned)take(&at, end, 2);
    struct pqi_token a = take_token(&at, end), b = take_token(&at, end);
    if (where & 0x8000) { /* positions of the same servers */
        b.shard = a.shard;
        b.system_id = a.system_id;
    }
    read_text(text, &plain);
    merge(&a, &b);
    write_and_read(&a, &b, &plain);
#if PQI_OPENSSL
    read_text(text, &keyed);
    write_and_read(&a, &b, &keyed);
    damage(&a, where);
#else
    (void)damage;
#endif
    free(text);
    return 0;
}
