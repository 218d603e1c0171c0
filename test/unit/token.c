/* Tokens: their text, whom they are for, and what they bind to. */
#include "../../lib/plan/token.h"
#include "../../lib/base/mac.h"
#include "../../lib/plan/stamp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The second was made with another implementation of HMAC. */
#define PLAIN_GOLDEN "pAAADAAAABWVTMifo5LrAAAAAFrN02Eh7iZWyFRLsDw"
#define KEYED_GOLDEN "kAAADAAAABWVTMifo5LrAAAAAFrN02Eh7iZWywfTqwl1r-z3Ea4rqNtwqww"

/* ---- Words ----------------------------------------------------------------------------------- */

static const struct pqi_token_holder acme = {.tenant = "acme", .tenant_len = 4};
static const struct pqi_token sample = {
    .shard = 3, .system_id = UINT64_C(7301234567890123456), .seen = {5, UINT64_C(0x16B374D848)}};

static bool same(const struct pqi_token *a, const struct pqi_token *b)
{
    return a->shard == b->shard && a->system_id == b->system_id && a->unsure == b->unsure &&
           a->seen.timeline == b->seen.timeline && a->seen.lsn == b->seen.lsn;
}

static const char *text_of(const struct pqi_token *t, const struct pqi_token_holder *h)
{
    static char text[8][PQR_TOKEN_MAX];
    static int next;
    char *to = text[next++ % 8];
    assert_true(pqi_token_write(t, h, to));
    assert_true(strlen(to) < PQR_TOKEN_MAX);
    return to;
}

static void expect(const char *text, const struct pqi_token_holder *h, const struct pqi_token *want)
{
    struct pqi_token got;
    int ignored = 0;
    assert_int_equal(pqi_token_read(text, h, &got, &ignored), 1);
    assert_int_equal(ignored, 0);
    assert_true(same(&got, want));
}

static void expect_ignored(const char *text, const struct pqi_token_holder *h)
{
    struct pqi_token got;
    int ignored = 0;
    if (pqi_token_read(text, h, &got, &ignored) != 0 || ignored != 1)
        fail_msg("\"%.80s\" counts, or %d are ignored", text, ignored);
}

/* ---- Text ------------------------------------------------------------------------------------ */

static void tokens_of_all_kinds_come_back_as_they_were(void **state)
{
    (void)state;
    static const int shards[] = {0, 1, 3, 1023, PQI_STAMP_CONTROL};
    static const uint64_t numbers[] = {0,         1, 0x80, 0xFFFF, UINT64_C(0x123456789ABCDEF0),
                                       UINT64_MAX};
    static const struct pqi_token_holder holders[] = {
        {.tenant = NULL},
        {.tenant = "acme", .tenant_len = 4},
        {.tenant = "a\0b", .tenant_len = 3},
        {.control = true},
        {.tenant = "acme", .tenant_len = 4, .key = "0123456789abcdef"},
        {.control = true, .fleet = "shop", .key = "0123456789abcdef"},
    };
    size_t n = 0;
    for (size_t h = 0; h < sizeof holders / sizeof *holders; h++)
        for (size_t s = 0; s < 5; s++)
            for (size_t i = 0; i < 6 * 6 * 6 * 2; i++, n++) {
                struct pqi_token t = {shards[s],
                                      numbers[i % 6],
                                      {(uint32_t)numbers[i / 6 % 6], numbers[i / 36 % 6]},
                                      i / 216};
                if (!holders[h].key || pqi_mac_built_in())
                    expect(text_of(&t, &holders[h]), &holders[h], &t);
            }
    assert_int_equal(n, 6 * 5 * 432);
}

/* Other processes may be of another build of this version. */
static void the_text_of_a_version_never_changes(void **state)
{
    (void)state;
    assert_string_equal(text_of(&sample, &acme), PLAIN_GOLDEN);
    struct pqi_token_holder keyed = acme;
    keyed.key = "0123456789abcdef";
    keyed.fleet = "shop";
    if (pqi_mac_built_in())
        assert_string_equal(text_of(&sample, &keyed), KEYED_GOLDEN);
}

static void only_letters_that_cookies_and_urls_leave_alone_are_used(void **state)
{
    (void)state;
    struct pqi_token t = sample;
    for (uint64_t i = 0; i < 2000; i++) {
        t.seen.lsn = i * UINT64_C(0x9E3779B97F4A7C15);
        const char *text = text_of(&t, &acme);
        assert_int_equal(strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                      "0123456789-_"),
                         strlen(text));
    }
}

static void spoil_every_letter(const struct pqi_token_holder *h)
{
    char text[PQR_TOKEN_MAX];
    strcpy(text, text_of(&sample, h));
    for (size_t i = 0; text[i]; i++) {
        char right = text[i];
        for (int c = 1; c < 256; c++) {
            text[i] = (char)c;
            if (text[i] != right && c != '.')
                expect_ignored(text, h);
        }
        text[i] = right;
    }
    expect(text, h, &sample);
}

static void a_token_with_one_letter_changed_is_ignored(void **state)
{
    (void)state;
    struct pqi_token_holder keyed = acme;
    keyed.key = "0123456789abcdef";
    spoil_every_letter(&acme);
    if (pqi_mac_built_in())
        spoil_every_letter(&keyed);
}

static void a_token_cut_short_or_with_more_behind_it_is_ignored(void **state)
{
    (void)state;
    char text[PQR_TOKEN_MAX + 8];
    for (size_t len = 1; len < strlen(text_of(&sample, &acme)); len++) {
        snprintf(text, len + 1, "%s", text_of(&sample, &acme));
        expect_ignored(text, &acme);
    }
    snprintf(text, sizeof text, "%sA", text_of(&sample, &acme));
    expect_ignored(text, &acme);
    snprintf(text, sizeof text, " %s", text_of(&sample, &acme));
    expect_ignored(text, &acme);
}

/* The same bits, and one more set where none belongs. */
static void there_is_one_text_for_what_a_token_says(void **state)
{
    (void)state;
    char text[PQR_TOKEN_MAX];
    strcpy(text, text_of(&sample, &acme));
    char *last = &text[strlen(text) - 1];
    ++*last; /* A to B, or the like: the last letter holds two bits that say nothing */
    expect_ignored(text, &acme);
}

static void a_token_of_another_version_is_ignored(void **state)
{
    (void)state;
    char text[PQR_TOKEN_MAX];
    for (int c = 'A'; c <= 'z'; c++) {
        strcpy(text, text_of(&sample, &acme));
        if (text[0] == c)
            continue;
        text[0] = (char)c;
        expect_ignored(text, &acme);
    }
}

static void an_empty_text_is_no_token(void **state)
{
    (void)state;
    struct pqi_token t;
    int ignored = 0;
    assert_int_equal(pqi_token_read("", &acme, &t, &ignored), 0);
    assert_int_equal(ignored, 0);
}

/* Read without end they would take seconds; what is behind a million bytes is never looked at. */
static void of_a_huge_text_only_the_beginning_is_read(void **state)
{
    (void)state;
    size_t size = 1 << 20;
    char *text = malloc(size + 1);
    struct pqi_token t;
    int ignored = 0;
    memset(text, 'p', size);
    text[size] = '\0';
    assert_int_equal(pqi_token_read(text, &acme, &t, &ignored), 0);
    assert_int_equal(ignored, 1);
    memset(text, '.', size);
    ignored = 0;
    assert_int_equal(pqi_token_read(text, &acme, &t, &ignored), 0);
    assert_int_equal(ignored, 32);
    /* Not even whether it ends: the page behind it may be another's. */
    memset(text, 'p', PQR_TOKEN_MAX + 1);
    ignored = 0;
    assert_int_equal(pqi_token_read(text, &acme, &t, &ignored), 0);
    assert_int_equal(ignored, 1);
    free(text);
}

static void random_bytes_are_ignored(void **state)
{
    (void)state;
    uint64_t seed = 12345;
    for (int round = 0; round < 200000; round++) {
        char text[200];
        struct pqi_token t;
        int ignored = 0;
        size_t len = (size_t)(seed >> 33) % (sizeof text - 1);
        for (size_t i = 0; i < len; i++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
            text[i] = (char)(seed >> 40 | 1); /* no NUL */
        }
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
        text[len] = '\0';
        text[0] = len > 0 ? 'p' : '\0';
        assert_int_equal(pqi_token_read(text, &acme, &t, &ignored), 0);
        assert_true(ignored >= (len > 0) && ignored <= 32);
    }
}

/* ---- Whom it is for -------------------------------------------------------------------------- */

static void expect_strangers(const struct pqi_token_holder *own,
                             const struct pqi_token_holder *others, size_t n)
{
    expect(text_of(&sample, own), own, &sample);
    for (size_t i = 0; i < n; i++) {
        expect_ignored(text_of(&sample, own), &others[i]);
        expect_ignored(text_of(&sample, &others[i]), own);
    }
}

static void a_token_of_another_tenant_is_ignored(void **state)
{
    (void)state;
    static const struct pqi_token_holder others[] = {
        {.tenant = "acmf", .tenant_len = 4},
        {.tenant = "acme\0", .tenant_len = 5},
        {.tenant = "acm", .tenant_len = 3},
        {.tenant = "acme", .tenant_len = 4, .control = true},
        {.tenant = NULL},
    };
    expect_strangers(&acme, others, sizeof others / sizeof *others);
}

static void with_a_key_a_token_of_another_key_fleet_or_tenant_is_ignored(void **state)
{
    (void)state;
    static const char key[] = "0123456789abcdef";
    const struct pqi_token_holder own = {
        .tenant = "acme", .tenant_len = 4, .fleet = "shop", .key = key};
    const struct pqi_token_holder others[] = {
        {.tenant = "acme", .tenant_len = 4, .fleet = "shop", .key = "0123456789abcdeg"},
        {.tenant = "acme", .tenant_len = 4, .fleet = "shop", .key = "0123456789abcdef0"},
        {.tenant = "acme", .tenant_len = 4, .fleet = "shoq", .key = key},
        {.tenant = "acme", .tenant_len = 4, .fleet = NULL, .key = key},
        {.tenant = "pacme", .tenant_len = 5, .fleet = "sho", .key = key},
        {.tenant = "acmf", .tenant_len = 4, .fleet = "shop", .key = key},
        {.tenant = "acme", .tenant_len = 4, .fleet = "shop", .control = true, .key = key},
        {.tenant = "acme", .tenant_len = 4, .fleet = "shop", .key = NULL},
    };
    if (pqi_mac_built_in())
        expect_strangers(&own, others, sizeof others / sizeof *others);
    else
        assert_false(pqi_token_write(&sample, &own, (char[PQR_TOKEN_MAX]){0}));
}

/* The hash of its tenant is no protection: who knows how can make one up. Half of a code that is
 * right is none. */
static void a_key_is_what_protects_from_made_up_tokens(void **state)
{
    (void)state;
    struct pqi_token_holder keyed = acme, wrong = acme;
    keyed.key = "0123456789abcdef";
    wrong.key = "fedcba9876543210";
    if (!pqi_mac_built_in())
        return;
    char a[PQR_TOKEN_MAX], b[PQR_TOKEN_MAX];
    strcpy(a, text_of(&sample, &keyed));
    strcpy(b, text_of(&sample, &wrong));
    assert_memory_equal(a, b, 37); /* what they say is the same */
    assert_string_not_equal(a + 37, b + 37);
    memcpy(b, a, 48); /* and eight of sixteen bytes of the code */
    expect_ignored(b, &keyed);
}

/* ---- Several --------------------------------------------------------------------------------- */

static struct pqi_token read_list(int counts, int ignores, const char *a, const char *b,
                                  const char *c)
{
    char text[4 * PQR_TOKEN_MAX];
    struct pqi_token t = {0};
    int ignored = 0;
    snprintf(text, sizeof text, "%s.%s.%s", a, b, c);
    assert_int_equal(pqi_token_read(text, &acme, &t, &ignored), counts);
    assert_int_equal(ignored, ignores);
    return t;
}

static void of_several_tokens_the_highest_counts(void **state)
{
    (void)state;
    struct pqi_token low = sample, high = sample, newer = sample;
    low.seen.lsn -= 1;
    high.seen.lsn += 1;
    newer.seen = (struct pqi_seen){6, 10};
    const char *l = text_of(&low, &acme), *m = text_of(&sample, &acme), *h = text_of(&high, &acme),
               *n = text_of(&newer, &acme);
    struct pqi_token t = read_list(3, 0, l, h, m);
    assert_true(same(&t, &high));
    t = read_list(3, 0, h, n, l);
    high.seen.timeline = 6; /* it followed the new line, and had not come to where that begins */
    assert_true(same(&t, &high));
    t = read_list(2, 1, l, "nonsense", m);
    assert_true(same(&t, &sample));
    t = read_list(1, 3, "p", m, "..");
    assert_true(same(&t, &sample));
}

static void tokens_that_do_not_compare_make_an_unsure_one(void **state)
{
    (void)state;
    struct pqi_token moved = sample, restored = sample, unsure = sample;
    moved.shard = 2;
    restored.system_id++;
    unsure.unsure = true;
    const char *m = text_of(&sample, &acme);
    assert_true(read_list(3, 0, m, text_of(&moved, &acme), m).unsure);
    assert_true(read_list(3, 0, m, text_of(&restored, &acme), m).unsure);
    assert_true(read_list(3, 0, text_of(&unsure, &acme), m, m).unsure);
    assert_true(read_list(3, 0, m, m, text_of(&unsure, &acme)).unsure);
    assert_false(read_list(3, 0, m, m, m).unsure);
}

/* ---- What it binds to ------------------------------------------------------------------------ */

/* Every case of small numbers, against what must hold of each. */
static void check_verdict(const struct pqi_token *t, const struct pqi_token_known *k)
{
    struct pqi_seen out = {99, 99};
    enum pqi_token_verdict v = pqi_token_judge(t, k, &out);
    bool here = t->shard == k->shard && t->system_id == k->system_id && k->system_id != 0;
    bool can_be = here && t->seen.timeline <= k->timeline && t->seen.lsn <= k->lsn;
    bool promoted = here && t->seen.timeline > k->timeline; /* perhaps */
    if (can_be && !t->unsure) {
        assert_int_equal(v, PQI_TOKEN_TAKEN); /* no question is asked for it */
        assert_true(out.timeline == t->seen.timeline && out.lsn == t->seen.lsn);
        return;
    }
    if (v == PQI_TOKEN_OPEN) { /* nobody passes for fresh; and it does not stay so */
        assert_false(pqi_seen_fresh(&out, k->timeline, k->lsn));
        assert_false(k->told && k->all_told && k->based);
        return;
    }
    assert_true(k->all_told || !promoted);
    if (t->unsure) {
        assert_int_equal(v, PQI_TOKEN_UNSURE);
        assert_true(k->told && out.timeline == k->covers.timeline && out.lsn == k->covers.lsn);
    } else {
        assert_int_equal(v, PQI_TOKEN_CLAMPED);
        assert_true(k->told || !here); /* not before the primary was asked once more */
        assert_true(k->based && out.timeline == k->base.timeline && out.lsn == k->base.lsn);
    }
}

static void what_a_token_binds_to_is_what_it_says_or_what_is_left_of_it(void **state)
{
    (void)state;
    int cases = 0;
    for (int i = 0; i < 3 * 3 * 3 * 3 * 2; i++)
        for (int j = 0; j < 3 * 3 * 3 * 8; j++, cases++) {
            struct pqi_token t = {i % 3 - 1,
                                  (uint64_t)(i / 3 % 3),
                                  {(uint32_t)(i / 9 % 3), (uint64_t)(i / 27 % 3)},
                                  i / 81};
            uint32_t timeline = (uint32_t)(j / 3 % 3);
            struct pqi_token_known k = {.shard = 1,
                                        .system_id = (uint64_t)(j % 3),
                                        .timeline = timeline,
                                        .lsn = (uint64_t)(j / 9 % 3),
                                        .told = j / 27 & 1,
                                        .covers = {timeline, 7},
                                        .all_told = j / 27 & 2,
                                        .based = j / 27 & 4,
                                        .base = {timeline, 5}};
            check_verdict(&t, &k);
        }
    assert_int_equal(cases, 162 * 216);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_of_all_kinds_come_back_as_they_were),
        cmocka_unit_test(the_text_of_a_version_never_changes),
        cmocka_unit_test(only_letters_that_cookies_and_urls_leave_alone_are_used),
        cmocka_unit_test(a_token_with_one_letter_changed_is_ignored),
        cmocka_unit_test(a_token_cut_short_or_with_more_behind_it_is_ignored),
        cmocka_unit_test(there_is_one_text_for_what_a_token_says),
        cmocka_unit_test(a_token_of_another_version_is_ignored),
        cmocka_unit_test(an_empty_text_is_no_token),
        cmocka_unit_test(of_a_huge_text_only_the_beginning_is_read),
        cmocka_unit_test(random_bytes_are_ignored),
        cmocka_unit_test(a_token_of_another_tenant_is_ignored),
        cmocka_unit_test(with_a_key_a_token_of_another_key_fleet_or_tenant_is_ignored),
        cmocka_unit_test(a_key_is_what_protects_from_made_up_tokens),
        cmocka_unit_test(of_several_tokens_the_highest_counts),
        cmocka_unit_test(tokens_that_do_not_compare_make_an_unsure_one),
        cmocka_unit_test(what_a_token_binds_to_is_what_it_says_or_what_is_left_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
