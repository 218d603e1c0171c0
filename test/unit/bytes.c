/* A growing buffer, with an allocator of this test's own: it can fail, and says what was asked. */
#include "../../lib/base/bytes.h"
#include "../../lib/base/mem.h"

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- The allocator --------------------------------------------------------------------------- */

static int fails_in;   /* this many allocations from now one fails; -1: none does */
static int resizes;    /* how many were asked for */
static int living;     /* blocks not freed yet */
static size_t granted; /* the last one's size */

void *pqi_mem_resize(void *old, size_t count, size_t size)
{
    resizes++;
    if (fails_in >= 0 && fails_in-- == 0)
        return NULL;
    granted = count * size;
    living += old == NULL;
    void *data = realloc(old, granted);
    assert_non_null(data);
    return data;
}

void pqi_mem_free(void *memory)
{
    living -= memory != NULL;
    free(memory);
}

static int begin(void **state)
{
    (void)state;
    fails_in = -1;
    resizes = living = 0;
    return 0;
}

static int nothing_is_left(void **state)
{
    (void)state;
    return living;
}

/* ---- Filling --------------------------------------------------------------------------------- */

static void expect(const struct pqi_buf *b, const char *text)
{
    assert_string_equal(pqi_buf_str(b), text);
    assert_int_equal(b->len, strlen(text));
    assert_false(b->failed);
}

static void an_empty_buffer_is_an_empty_text_and_owns_nothing(void **state)
{
    (void)state;
    struct pqi_buf b = {0};
    expect(&b, "");
    pqi_buf_free(&b);
    assert_int_equal(resizes, 0);
}

static void what_is_added_stands_in_order(void **state)
{
    (void)state;
    struct pqi_buf b = {0};
    pqi_buf_text(&b, "one");
    pqi_buf_add(&b, " two!!!", 4);
    pqi_buf_format(&b, " %s %d", "three", 4);
    pqi_buf_text(&b, "");
    pqi_buf_format(&b, "%s", "");
    pqi_buf_add(&b, NULL, 0);
    expect(&b, "one two three 4");
    pqi_buf_free(&b);
    expect(&b, "");
    pqi_buf_text(&b, "again");
    expect(&b, "again");
    pqi_buf_free(&b);
}

static void bytes_may_be_any_and_a_nul_follows_them(void **state)
{
    (void)state;
    struct pqi_buf b = {0};
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    for (size_t i = 0; i < 10; i++) {
        pqi_buf_add(&b, all, sizeof all);
        assert_int_equal(b.len, (i + 1) * sizeof all);
        assert_memory_equal(b.data + i * sizeof all, all, sizeof all);
        assert_int_equal(b.data[b.len], 0);
    }
    pqi_buf_free(&b);
}

/* Around every size at which it has to grow; the sanitizer watches its edges. */
static void every_length_fits(void **state)
{
    (void)state;
    static char text[1001];
    memset(text, 'x', 1000);
    for (int len = 0; len <= 1000; len++) {
        struct pqi_buf b = {0}, formatted = {0}, grown = {0};
        pqi_buf_add(&b, text, (size_t)len);
        pqi_buf_format(&formatted, "%.*s", len, text);
        for (int i = 0; i < len; i++)
            pqi_buf_add(&grown, "x", 1);
        assert_int_equal(b.len, len);
        assert_int_equal(formatted.len, len);
        assert_int_equal(grown.len, len);
        assert_string_equal(pqi_buf_str(&b), text + 1000 - len);
        assert_string_equal(pqi_buf_str(&formatted), text + 1000 - len);
        assert_string_equal(pqi_buf_str(&grown), text + 1000 - len);
        pqi_buf_free(&b);
        pqi_buf_free(&formatted);
        pqi_buf_free(&grown);
    }
}

static void a_million_bytes_one_by_one_take_few_allocations(void **state)
{
    (void)state;
    struct pqi_buf b = {0};
    for (int i = 0; i < 1000000; i++)
        pqi_buf_add(&b, "x", 1);
    assert_int_equal(b.len, 1000000);
    assert_in_range(resizes, 1, 40);
    assert_in_range(granted, 1000001, 2000000);
    pqi_buf_free(&b);
}

/* ---- Handing over ---------------------------------------------------------------------------- */

static void a_text_is_handed_over_and_the_buffer_is_empty(void **state)
{
    (void)state;
    struct pqi_buf b = {0};
    pqi_buf_text(&b, "mine");
    char *text = pqi_buf_take(&b);
    assert_string_equal(text, "mine");
    expect(&b, "");
    assert_null(b.data);
    pqi_buf_text(&b, "other");
    assert_string_equal(text, "mine");
    pqi_buf_free(&b);
    pqi_mem_free(text);
}

static void an_empty_text_is_handed_over_too(void **state)
{
    (void)state;
    struct pqi_buf b = {0};
    char *text = pqi_buf_take(&b);
    assert_non_null(text);
    assert_string_equal(text, "");
    pqi_mem_free(text);
}

/* ---- Failing --------------------------------------------------------------------------------- */

static void add_all(struct pqi_buf *b)
{
    for (int i = 0; i < 50; i++) {
        pqi_buf_text(b, "some text ");
        pqi_buf_add(b, "and bytes ", 10);
        pqi_buf_format(b, "and number %d ", i);
    }
}

static void whichever_allocation_fails_it_is_noticed_at_the_end(void **state)
{
    (void)state;
    struct pqi_buf whole = {0};
    add_all(&whole);
    int needed = resizes;
    assert_true(needed >= 5);
    for (int n = 0; n < needed; n++) {
        struct pqi_buf b = {0};
        fails_in = n;
        add_all(&b);
        assert_true(b.failed);
        assert_string_equal(pqi_buf_str(&b), "");
        if (n % 2 == 0) {
            assert_null(pqi_buf_take(&b));
            assert_false(b.failed);
        }
        pqi_buf_free(&b);
        assert_int_equal(living, 1);
    }
    fails_in = -1;
    pqi_buf_free(&whole);
}

static void after_a_failure_nothing_more_is_asked_for(void **state)
{
    (void)state;
    struct pqi_buf b = {0};
    pqi_buf_text(&b, "kept");
    fails_in = 0;
    pqi_buf_format(&b, "%1000d", 1);
    assert_true(b.failed);
    int before = resizes;
    add_all(&b);
    pqi_buf_add(&b, "x", 1); /* would fit */
    assert_int_equal(resizes, before);
    assert_int_equal(b.len, 4);
    assert_null(pqi_buf_take(&b));
}

static void an_empty_text_that_cannot_be_had_is_null(void **state)
{
    (void)state;
    struct pqi_buf b = {0};
    fails_in = 0;
    assert_null(pqi_buf_take(&b));
    assert_null(b.data);
    assert_false(b.failed);
}

/* Nothing is read or asked for: the sum is refused before. */
static void a_length_beyond_all_memory_is_a_failure(void **state)
{
    (void)state;
    static const size_t lengths[] = {
        SIZE_MAX,         SIZE_MAX - 1,         SIZE_MAX - 3,         SIZE_MAX - 4,    SIZE_MAX - 5,
        SIZE_MAX / 3 * 2, SIZE_MAX / 3 * 2 + 1, SIZE_MAX / 3 * 2 + 2, SIZE_MAX / 2 + 2};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct pqi_buf b = {0};
        pqi_buf_text(&b, "four");
        int before = resizes;
        pqi_buf_add(&b, "x", lengths[i]);
        assert_true(b.failed);
        assert_int_equal(resizes, before);
        assert_string_equal(pqi_buf_str(&b), "");
        pqi_buf_free(&b);
    }
}

static void room_for_a_very_long_text_is_asked_for_whole(void **state)
{
    (void)state;
    struct pqi_buf b = {0};
    const size_t len = 100 << 20;
    char *text = calloc(1, len);
    assert_non_null(text);
    pqi_buf_add(&b, text, len);
    free(text);
    assert_int_equal(b.len, len);
    assert_true(granted > len);
    pqi_buf_free(&b);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, nothing_is_left)
    const struct CMUnitTest tests[] = {
        TEST(an_empty_buffer_is_an_empty_text_and_owns_nothing),
        TEST(what_is_added_stands_in_order),
        TEST(bytes_may_be_any_and_a_nul_follows_them),
        TEST(every_length_fits),
        TEST(a_million_bytes_one_by_one_take_few_allocations),
        TEST(a_text_is_handed_over_and_the_buffer_is_empty),
        TEST(an_empty_text_is_handed_over_too),
        TEST(whichever_allocation_fails_it_is_noticed_at_the_end),
        TEST(after_a_failure_nothing_more_is_asked_for),
        TEST(an_empty_text_that_cannot_be_had_is_null),
        TEST(a_length_beyond_all_memory_is_a_failure),
        TEST(room_for_a_very_long_text_is_asked_for_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
