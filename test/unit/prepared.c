/* The prepared statements of one connection: which is found, under which number, and which goes. */
#include "../../lib/plan/prepared.h"
#include "../../lib/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- The allocator --------------------------------------------------------------------------- */

static int fails_in;  /* this many allocations from now one fails; -1: none does */
static bool all_fail; /* and all behind it */
static int living;    /* blocks not freed yet */

static bool refused(void)
{
    if (fails_in < 0 || fails_in-- > 0)
        return false;
    if (all_fail)
        fails_in = 0;
    return true;
}

static void *given(void *memory)
{
    assert_non_null(memory);
    living++;
    return memory;
}

void *pqi_mem_array(size_t count, size_t size)
{
    return refused() ? NULL : given(calloc(count, size));
}

void *pqi_mem_resize(void *old, size_t count, size_t size)
{
    if (refused())
        return NULL;
    living -= old != NULL;
    return given(realloc(old, count * size));
}

char *pqi_mem_bytes(const void *bytes, size_t len)
{
    return refused() ? NULL : memcpy(given(malloc(len + 1)), bytes, len);
}

char *pqi_mem_text(const char *text)
{
    return refused() ? NULL : strcpy(given(malloc(strlen(text) + 1)), text);
}

void pqi_mem_free(void *memory)
{
    living -= memory != NULL;
    free(memory);
}

/* ---- Words ----------------------------------------------------------------------------------- */

enum { INT8 = 20, TEXT = 25, FLOAT8 = 701 };

static struct pqi_prepared p;
static unsigned seed; /* of a random test; 0: none */

static int begin(void **state)
{
    (void)state;
    seed = 0;
    fails_in = -1;
    all_fail = false;
    living = 0;
    p = (struct pqi_prepared){.limit = 3};
    return 0;
}

static int nothing_is_left(void **state)
{
    (void)state;
    pqi_prepared_free(&p);
    return living;
}

static struct pqi_prepared_use use_typed(const char *sql, const uint32_t *types, int ntypes)
{
    return pqi_prepared_use(&p, pqi_prepared_hash(sql, types, ntypes), sql, types, ntypes);
}

static struct pqi_prepared_use use(const char *sql)
{
    return use_typed(sql, NULL, 0);
}

static void is(struct pqi_prepared_use u, bool parse, uint32_t name, uint32_t evicted)
{
    if (u.parse != parse || u.name != name || u.evicted != evicted)
        fail_msg("parse %d, number %u, evicted %u; not %d, %u, %u (seed %u)", u.parse, u.name,
                 u.evicted, parse, name, evicted, seed);
}

/* It is parsed first, under this number, and another one goes for it (0: none). */
static void is_new(struct pqi_prepared_use u, uint32_t name, uint32_t evicted)
{
    is(u, true, name, evicted);
}

static void is_known(struct pqi_prepared_use u, uint32_t name)
{
    is(u, false, name, 0);
}

static void is_not_prepared(struct pqi_prepared_use u, uint32_t evicted)
{
    is(u, false, 0, evicted);
}

/* ---- Numbers --------------------------------------------------------------------------------- */

static void the_first_use_parses_and_the_next_ones_do_not(void **state)
{
    (void)state;
    is_new(use("select 1"), 1, 0);
    is_known(use("select 1"), 1);
    is_new(use("select 2"), 2, 0);
    is_known(use("select 1"), 1);
    is_known(use("select 2"), 2);
}

static void the_text_is_its_own_copy(void **state)
{
    (void)state;
    char text[] = "select 1";
    uint32_t types[] = {INT8, TEXT};
    is_new(use_typed(text, types, 2), 1, 0);
    text[7] = '2';
    types[1] = FLOAT8;
    is_known(use_typed("select 1", (const uint32_t[]){INT8, TEXT}, 2), 1);
    is_new(use_typed(text, (const uint32_t[]){INT8, TEXT}, 2), 2, 0);
    is_new(use_typed("select 1", types, 2), 3, 0);
}

static void the_same_text_with_other_types_is_another_statement(void **state)
{
    (void)state;
    p.limit = 10;
    is_new(use_typed("select $1", (const uint32_t[]){INT8}, 1), 1, 0);
    is_new(use_typed("select $1", (const uint32_t[]){FLOAT8}, 1), 2, 0);
    is_new(use_typed("select $1", (const uint32_t[]){0}, 1), 3, 0);
    is_new(use_typed("select $1", (const uint32_t[]){INT8, INT8}, 2), 4, 0);
    is_new(use_typed("select $1", NULL, 0), 5, 0);
    is_known(use_typed("select $1", (const uint32_t[]){INT8}, 1), 1);
    is_known(use_typed("select $1", (const uint32_t[]){FLOAT8}, 1), 2);
    is_known(use_typed("select $1", (const uint32_t[]){0}, 1), 3);
    is_known(use_typed("select $1", (const uint32_t[]){INT8, INT8}, 2), 4);
    is_known(use_typed("select $1", NULL, 0), 5);
}

static void equal_hashes_do_not_make_equal_statements(void **state)
{
    (void)state;
    p.limit = 10;
    const uint32_t int8[] = {INT8, INT8}, float8[] = {FLOAT8};
    for (int round = 0; round < 2; round++) {
        const struct pqi_prepared_use uses[] = {
            pqi_prepared_use(&p, 7, "select 1", NULL, 0),
            pqi_prepared_use(&p, 7, "select 2", NULL, 0),
            pqi_prepared_use(&p, 7, "select 1", int8, 1),
            pqi_prepared_use(&p, 7, "select 1", int8, 2),
            pqi_prepared_use(&p, 7, "select 1", float8, 1),
        };
        for (uint32_t i = 0; i < 5; i++) {
            assert_int_equal(uses[i].name, i + 1);
            assert_int_equal(uses[i].parse, round == 0);
        }
    }
}

static void equal_texts_and_types_have_equal_hashes(void **state)
{
    (void)state;
    char text[] = "select $1", same[] = "select $1";
    uint32_t types[] = {INT8, TEXT}, same_types[] = {INT8, TEXT};
    assert_int_equal(pqi_prepared_hash(text, NULL, 0), pqi_prepared_hash(same, NULL, 0));
    assert_int_equal(pqi_prepared_hash(text, types, 0), pqi_prepared_hash(same, NULL, 0));
    assert_int_equal(pqi_prepared_hash(text, types, 2), pqi_prepared_hash(same, same_types, 2));
    assert_int_not_equal(pqi_prepared_hash(text, types, 1), pqi_prepared_hash(text, types, 2));
    assert_int_not_equal(pqi_prepared_hash(text, types, 1), pqi_prepared_hash(text, types + 1, 1));
    assert_int_not_equal(pqi_prepared_hash(text, types, 1), pqi_prepared_hash("", types, 1));
}

/* ---- Which goes ------------------------------------------------------------------------------ */

static void the_one_used_longest_ago_goes(void **state)
{
    (void)state;
    use("a");
    use("b");
    use("c");
    is_new(use("d"), 4, 1);
    is_new(use("e"), 5, 2);
    is_known(use("c"), 3);
    is_known(use("d"), 4);
    is_known(use("e"), 5);
}

static void a_use_makes_it_the_newest_wherever_it_stood(void **state)
{
    (void)state;
    use("a");
    use("b");
    use("c");
    is_known(use("a"), 1); /* was the oldest */
    is_known(use("c"), 3); /* was between */
    is_known(use("c"), 3); /* is the newest */
    is_new(use("d"), 4, 2);
    is_new(use("e"), 5, 1);
    is_new(use("f"), 6, 3);
}

static void what_went_comes_back_under_a_new_number(void **state)
{
    (void)state;
    use("a");
    use("b");
    use("c");
    is_new(use("d"), 4, 1);
    is_new(use("a"), 5, 2);
    is_known(use("a"), 5);
}

static void one_place_is_taken_by_each_in_turn(void **state)
{
    (void)state;
    p.limit = 1;
    is_new(use("a"), 1, 0);
    is_known(use("a"), 1);
    is_new(use("b"), 2, 1);
    is_known(use("b"), 2);
    is_new(use("a"), 3, 2);
}

static void with_no_place_nothing_is_prepared(void **state)
{
    (void)state;
    p.limit = 0;
    is_not_prepared(use("a"), 0);
    is_not_prepared(use("a"), 0);
    pqi_prepared_forget(&p, 1);
    assert_int_equal(living, 0);
    p.limit = -1;
    is_not_prepared(use("a"), 0);
    assert_int_equal(living, 0);
}

/* ---- Forgotten ------------------------------------------------------------------------------- */

static void what_is_forgotten_is_parsed_anew_under_a_new_number(void **state)
{
    (void)state;
    use("a");
    use("b");
    pqi_prepared_forget(&p, 1);
    is_known(use("b"), 2);
    is_new(use("a"), 3, 0);
    is_known(use("a"), 3);
}

static void what_is_forgotten_leaves_a_place_for_another(void **state)
{
    (void)state;
    use("a");
    use("b");
    use("c");
    pqi_prepared_forget(&p, 2);
    is_new(use("d"), 4, 0);
    is_new(use("e"), 5, 1);
    is_known(use("c"), 3);
}

static void any_can_be_forgotten_and_the_order_stays(void **state)
{
    (void)state;
    for (uint32_t gone = 1; gone <= 3; gone++) {
        pqi_prepared_free(&p);
        use("a");
        use("b");
        use("c");
        pqi_prepared_forget(&p, gone);
        is_new(use("d"), 4, 0);
        is_new(use("e"), 5, gone == 1 ? 2 : 1);
        is_new(use("f"), 6, gone == 3 ? 2 : 3);
        is_new(use("g"), 7, 4);
    }
}

static void all_can_be_forgotten(void **state)
{
    (void)state;
    use("a");
    use("b");
    pqi_prepared_forget(&p, 2);
    pqi_prepared_forget(&p, 1);
    assert_int_equal(p.n, 0);
    is_new(use("a"), 3, 0);
}

static void a_number_that_is_not_there_is_forgotten_already(void **state)
{
    (void)state;
    pqi_prepared_forget(&p, 1);
    use("a");
    pqi_prepared_forget(&p, 0);
    pqi_prepared_forget(&p, 2);
    pqi_prepared_forget(&p, UINT32_MAX);
    is_known(use("a"), 1);
    pqi_prepared_forget(&p, 1);
    pqi_prepared_forget(&p, 1);
    is_new(use("a"), 2, 0);
}

static void a_freed_one_keeps_its_limit_and_can_be_used_again(void **state)
{
    (void)state;
    use_typed("a", (const uint32_t[]){INT8}, 1);
    use("b");
    pqi_prepared_free(&p);
    assert_int_equal(living, 0);
    assert_int_equal(p.limit, 3);
    is_new(use("b"), 1, 0);
}

static void the_last_number_is_given_once_and_none_after_it(void **state)
{
    (void)state;
    use("a");
    p.names = UINT32_MAX - 1;
    is_new(use("b"), UINT32_MAX, 0);
    for (int i = 0; i < 5; i++)
        is_not_prepared(use("c"), 0);
    is_known(use("a"), 1);
    is_known(use("b"), UINT32_MAX);
    pqi_prepared_forget(&p, 1);
    is_not_prepared(use("a"), 0);
}

/* ---- Beside a plain model -------------------------------------------------------------------- */

enum { MOST = 200 };

/* The statements in their order of use, the newest first. */
static struct plain {
    int text, type;
    uint32_t name;
} list[MOST];
static int nlist;
static uint32_t nnames;
static uint64_t chance;

static int dice(int n)
{
    chance = chance * 6364136223846793005u + 1442695040888963407u;
    return (int)((chance >> 33) % (unsigned)n);
}

static void out_of_list(int i)
{
    nlist--;
    memmove(&list[i], &list[i + 1], (size_t)(nlist - i) * sizeof *list);
}

static void into_list(struct plain one)
{
    memmove(&list[1], &list[0], (size_t)nlist * sizeof *list);
    list[0] = one;
    nlist++;
}

static int place_in_list(int text, int type)
{
    int i = 0;
    while (i < nlist && (list[i].text != text || list[i].type != type))
        i++;
    return i;
}

/* Type 0: no parameter. With few buckets, different ones meet in one; with none, all do. */
static struct pqi_prepared_use use_plain(int text, int type, int buckets)
{
    char sql[20];
    const uint32_t types[] = {(uint32_t)type};
    snprintf(sql, sizeof sql, "select %d", text);
    uint64_t hash = pqi_prepared_hash(sql, types, type != 0);
    return pqi_prepared_use(&p, buckets ? hash % (unsigned)buckets : hash, sql, types, type != 0);
}

static void use_both(int text, int type, int buckets, bool memory_may_fail)
{
    const struct pqi_prepared_use u = use_plain(text, type, buckets);
    const int i = place_in_list(text, type);
    if (i < nlist) {
        const struct plain one = list[i];
        is_known(u, one.name);
        out_of_list(i);
        into_list(one);
        return;
    }
    const bool failed = memory_may_fail && u.name == 0;
    const uint32_t evicted = nlist == p.limit ? list[nlist - 1].name : 0;
    if (evicted)
        out_of_list(nlist - 1);
    if (failed) {
        is_not_prepared(u, evicted);
    } else {
        is_new(u, ++nnames, evicted);
        into_list((struct plain){text, type, nnames});
    }
}

/* From the oldest to the newest all are found, which leaves their order as it is. */
static void both_hold_the_same(int buckets)
{
    assert_int_equal(p.n, nlist);
    for (int i = 0; i < nlist; i++) {
        const struct plain one = list[nlist - 1];
        use_both(one.text, one.type, buckets, false);
    }
}

static void start_model(int limit)
{
    pqi_prepared_free(&p);
    p.limit = limit;
    nlist = 0;
    nnames = 0;
}

static void live(int steps, int texts, int buckets, bool memory_fails)
{
    for (int step = 0; step < steps; step++) {
        if (nlist > 0 && dice(10) == 0) {
            const int i = dice(nlist);
            pqi_prepared_forget(&p, list[i].name);
            out_of_list(i);
            continue;
        }
        fails_in = memory_fails && dice(3) == 0 ? dice(5) : -1;
        const bool may_fail = fails_in >= 0;
        use_both(dice(texts), dice(3), buckets, may_fail);
        fails_in = -1;
        if (step % 50 == 0)
            both_hold_the_same(buckets);
    }
    both_hold_the_same(buckets);
}

static void random_uses_go_as_the_model_says(void **state)
{
    (void)state;
    for (seed = 1; seed <= 60; seed++) {
        chance = seed;
        start_model(1 + dice(seed % 3 ? 10 : MOST - 1));
        live(3000, 2 + dice(p.limit * 2), (int)(seed % 4), false);
    }
}

static void so_they_do_when_memory_fails_now_and_then(void **state)
{
    (void)state;
    for (seed = 1; seed <= 60; seed++) {
        chance = seed;
        start_model(1 + dice(seed % 3 ? 10 : MOST - 1));
        live(2000, 2 + dice(p.limit * 2), (int)(seed % 4), true);
    }
}

static void many_statements_of_one_hash_are_told_apart(void **state)
{
    (void)state;
    start_model(MOST - 1);
    for (int round = 0; round < 3; round++)
        for (int text = 0; text < MOST - 1; text++)
            use_both(text, text % 3, 1, false);
    assert_int_equal(nnames, MOST - 1);
    for (int text = 0; text < MOST; text++)
        use_both(1000 + text, 0, 1, false);
    both_hold_the_same(1);
}

/* ---- The router's own ------------------------------------------------------------------------ */

static struct pqi_prepared_use keep(const char *sql)
{
    return pqi_prepared_keep(&p, pqi_prepared_hash(sql, NULL, 0), sql, NULL, 0);
}

static void what_is_kept_takes_no_place_of_the_others_and_stays(void **state)
{
    (void)state;
    p.limit = 1;
    is_new(keep("x"), 1, 0);
    is_new(keep("y"), 2, 0);
    is_new(use("a"), 3, 0);
    is_known(keep("x"), 1);
    is_known(use("a"), 3);
    is_new(keep("z"), 4, 0);
    is_known(use("a"), 3);
    is_new(use("b"), 5, 3);
    is_new(use("a"), 6, 5);
    is_known(keep("x"), 1);
    is_known(keep("y"), 2);
    is_known(keep("z"), 4);
}

static void what_is_kept_can_be_forgotten_and_is_kept_anew(void **state)
{
    (void)state;
    p.limit = 1;
    is_new(keep("x"), 1, 0);
    is_new(use("a"), 2, 0);
    pqi_prepared_forget(&p, 1);
    is_new(keep("x"), 3, 0);
    is_known(use("a"), 2);
    is_new(use("b"), 4, 2);
    is_known(keep("x"), 3);
}

static void where_none_is_allowed_none_is_kept(void **state)
{
    (void)state;
    p.limit = 0;
    is_not_prepared(keep("x"), 0);
}

static void a_callers_own_use_of_a_kept_text_changes_nothing(void **state)
{
    (void)state;
    p.limit = 1;
    is_new(keep("x"), 1, 0);
    is_known(use("x"), 1);
    is_new(use("a"), 2, 0);
    is_new(use("b"), 3, 2);
    is_known(use("x"), 1);
    is_known(keep("x"), 1);
}

static void with_many_kept_ones_all_places_are_to_be_had(void **state)
{
    (void)state;
    char sql[20];
    p.limit = 20;
    for (int i = 0; i < 40; i++) {
        snprintf(sql, sizeof sql, "%s %d", i % 2 ? "keep" : "use", i);
        is_new(i % 2 ? keep(sql) : use(sql), (uint32_t)i + 1, 0);
    }
    for (int i = 0; i < 40; i++) {
        snprintf(sql, sizeof sql, "%s %d", i % 2 ? "keep" : "use", i);
        is_known(i % 2 ? keep(sql) : use(sql), (uint32_t)i + 1);
    }
    is_new(use("one more"), 41, 1);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static void whichever_allocation_fails_the_next_use_prepares_it(void **state)
{
    (void)state;
    const uint32_t types[] = {INT8};
    int n = 0;
    for (bool failed = true; failed; n++) {
        pqi_prepared_free(&p);
        assert_int_equal(living, 0);
        fails_in = n;
        struct pqi_prepared_use u = use_typed("select $1", types, 1);
        failed = fails_in < 0;
        fails_in = -1;
        if (failed) {
            is_not_prepared(u, 0);
            assert_int_equal(p.n, 0);
            is_new(use_typed("select $1", types, 1), 1, 0);
        } else {
            is_new(u, 1, 0);
        }
        is_known(use_typed("select $1", types, 1), 1);
    }
    assert_int_equal(n, 5); /* buckets, places, text, types; and one time none */
}

static void where_one_went_for_nothing_it_is_named_all_the_same(void **state)
{
    (void)state;
    p.limit = 2;
    use("a");
    use("b");
    fails_in = 0;
    is_not_prepared(use("c"), 1);
    fails_in = -1;
    is_known(use("b"), 2);
    is_new(use("c"), 3, 0);
    is_new(use("a"), 4, 2);
}

static void where_no_more_places_can_be_had_those_there_are_still_serve(void **state)
{
    (void)state;
    start_model(MOST - 1);
    for (int text = 0; text < 16; text++)
        use_both(text, 1, 0, false);
    fails_in = 0;
    all_fail = true;
    for (int text = 16; text < 20; text++)
        is_not_prepared(use_plain(text, 1, 0), 0);
    both_hold_the_same(0);
    fails_in = -1;
    for (int text = 16; text < 20; text++)
        use_both(text, 1, 0, false);
    both_hold_the_same(0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, nothing_is_left)
    const struct CMUnitTest tests[] = {
        TEST(the_first_use_parses_and_the_next_ones_do_not),
        TEST(the_text_is_its_own_copy),
        TEST(the_same_text_with_other_types_is_another_statement),
        TEST(equal_hashes_do_not_make_equal_statements),
        TEST(equal_texts_and_types_have_equal_hashes),
        TEST(the_one_used_longest_ago_goes),
        TEST(a_use_makes_it_the_newest_wherever_it_stood),
        TEST(what_went_comes_back_under_a_new_number),
        TEST(one_place_is_taken_by_each_in_turn),
        TEST(with_no_place_nothing_is_prepared),
        TEST(what_is_forgotten_is_parsed_anew_under_a_new_number),
        TEST(what_is_forgotten_leaves_a_place_for_another),
        TEST(any_can_be_forgotten_and_the_order_stays),
        TEST(all_can_be_forgotten),
        TEST(a_number_that_is_not_there_is_forgotten_already),
        TEST(a_freed_one_keeps_its_limit_and_can_be_used_again),
        TEST(the_last_number_is_given_once_and_none_after_it),
        TEST(random_uses_go_as_the_model_says),
        TEST(so_they_do_when_memory_fails_now_and_then),
        TEST(many_statements_of_one_hash_are_told_apart),
        TEST(what_is_kept_takes_no_place_of_the_others_and_stays),
        TEST(what_is_kept_can_be_forgotten_and_is_kept_anew),
        TEST(where_none_is_allowed_none_is_kept),
        TEST(a_callers_own_use_of_a_kept_text_changes_nothing),
        TEST(with_many_kept_ones_all_places_are_to_be_had),
        TEST(whichever_allocation_fails_the_next_use_prepares_it),
        TEST(where_one_went_for_nothing_it_is_named_all_the_same),
        TEST(where_no_more_places_can_be_had_those_there_are_still_serve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
