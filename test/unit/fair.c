/* Whose turn it is. */
#include "../../lib/plan/fair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct pqi_fair fair;

/* ---- One queue ---------------------------------------------------------------------------------- */

enum { MOST = 1000 };

static struct pqi_fair_turn request[MOST];
static int used;

static int empty(void **state)
{
    (void)state;
    memset(request, 0, sizeof request);
    used = 0;
    pqi_fair_init(&fair);
    return 0;
}

static struct pqi_fair_turn *come(uint32_t tenant)
{
    assert_true(used < MOST);
    struct pqi_fair_turn *t = &request[used++];
    t->tenant = tenant;
    pqi_fair_join(&fair, t);
    return t;
}

static struct pqi_fair_turn *serve(void)
{
    struct pqi_fair_turn *t = pqi_fair_next(&fair);
    assert_non_null(t);
    pqi_fair_leave(&fair, t, true);
    return t;
}

static void expect_served(const char *order)
{
    for (; *order; order++)
        assert_int_equal(serve()->tenant, *order);
}

static void expect_nobody(void)
{
    assert_null(pqi_fair_next(&fair));
    for (int i = 0; i < PQI_FAIR_BUCKETS; i++)
        assert_null(fair.bucket[i]);
}

/* ---- Turns -------------------------------------------------------------------------------------- */

static void a_tenant_alone_is_served_first_come_first_served(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        come('a');
    for (int i = 0; i < 100; i++)
        assert_ptr_equal(serve(), &request[i]);
    expect_nobody();
}

static void tenants_with_one_request_each_are_served_as_they_came(void **state)
{
    (void)state;
    for (const char *who = "dacb"; *who; who++)
        come((uint32_t)*who);
    expect_served("dacb");
    expect_nobody();
}

static void who_comes_to_a_crowd_of_one_tenant_is_next_but_one(void **state)
{
    (void)state;
    for (int i = 0; i < 500; i++)
        come('h');
    expect_served("hhh");
    come('l');
    expect_served("hlhh");
    come('l');
    expect_served("hlh");
}

static void those_with_many_waiting_alternate(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++)
        come('a');
    for (int i = 0; i < 3; i++)
        come('b');
    come('c');
    expect_served("abcababaaa");
    expect_nobody();
}

static void who_was_served_and_comes_again_stands_behind_the_others(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        come('a');
    come('b');
    expect_served("ab");
    come('b');
    expect_served("ab");
    come('b');
    expect_served("aba");
}

static void where_one_gives_up_the_next_of_its_tenant_has_its_turn(void **state)
{
    (void)state;
    struct pqi_fair_turn *first = come('a'), *second = come('a'), *third = come('a');
    come('b');
    come('a');
    pqi_fair_leave(&fair, first, false);
    assert_ptr_equal(pqi_fair_next(&fair), second);
    pqi_fair_leave(&fair, third, false);
    expect_served("aba");
    expect_nobody();
}

static void tenants_of_one_bucket_are_kept_apart(void **state)
{
    (void)state;
    enum { A = 5, B = A + PQI_FAIR_BUCKETS, C = B + PQI_FAIR_BUCKETS };
    const uint32_t coming[] = {A, A, B, B, C, C}, expected[] = {A, B, C, A, B, C};
    for (int i = 0; i < 6; i++)
        come(coming[i]);
    for (int i = 0; i < 6; i++)
        assert_int_equal(serve()->tenant, expected[i]);
    expect_nobody();
}

/* Beside a plain model: while a tenant waits, no other is served twice without it, and its own are
 * served as they came. */
static void nobody_is_served_twice_while_another_waits_through(void **state)
{
    (void)state;
    enum { TENANTS = 40, ROUNDS = 300000 };
    static int since[TENANTS][TENANTS], inside[TENANTS];
    static uint64_t came[MOST], order;
    bool waits[MOST] = {false};
    memset(since, 0, sizeof since);
    memset(inside, 0, sizeof inside);
    srand(4711);
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t who = rand() % 3 == 0 ? 0 : (uint32_t)(rand() % TENANTS);
        int at = rand() % MOST, what = rand() % 100;
        struct pqi_fair_turn *t = &request[at];
        if (what < 51 && !waits[at]) {
            t->tenant = who;
            came[at] = ++order;
            waits[at] = true;
            if (inside[who]++ == 0)
                memset(since[who], 0, sizeof since[who]);
            pqi_fair_join(&fair, t);
        } else if (what < 55 && waits[at]) {
            waits[at] = false;
            inside[t->tenant]--;
            pqi_fair_leave(&fair, t, false);
        } else if (what >= 55 && pqi_fair_next(&fair)) {
            t = serve();
            at = (int)(t - request);
            assert_true(waits[at]);
            waits[at] = false;
            inside[t->tenant]--;
            memset(since[t->tenant], 0, sizeof since[0]);
            for (uint32_t other = 0; other < TENANTS; other++)
                if (inside[other] > 0 && other != t->tenant)
                    assert_true(++since[other][t->tenant] <= 1);
            for (int j = 0; j < MOST; j++)
                assert_false(waits[j] && request[j].tenant == t->tenant && came[j] < came[at]);
        }
    }
    assert_true(order > ROUNDS / 10);
}

/* ---- One too many ------------------------------------------------------------------------------- */

static void of_one_too_many_the_last_of_the_tenant_with_the_most_has_to_go(void **state)
{
    (void)state;
    come('a');
    come('b');
    come('a');
    struct pqi_fair_turn *last = come('a');
    come('b');
    assert_ptr_equal(pqi_fair_most(&fair, come('c')), last);
}

static void of_two_with_as_many_the_one_that_came_has_to_go(void **state)
{
    (void)state;
    come('a');
    come('b');
    struct pqi_fair_turn *came = come('c');
    assert_ptr_equal(pqi_fair_most(&fair, came), came);
    come('a');
    came = come('b');
    assert_ptr_equal(pqi_fair_most(&fair, came), came);
}

/* ---- Shares ------------------------------------------------------------------------------------- */

static void who_is_alone_may_have_all_and_others_have_their_shares(void **state)
{
    (void)state;
    struct pqi_present present = {0};
    for (int i = 0; i < 10; i++)
        pqi_present_enter(&present, 1);
    assert_int_equal(pqi_present_share(&present, 64), 64);
    pqi_present_enter(&present, 2);
    assert_int_equal(pqi_present_share(&present, 64), 32);
    for (uint32_t t = 3; t < 60; t++)
        pqi_present_enter(&present, t);
    assert_int_equal(present.tenants, 59);
    assert_int_equal(pqi_present_share(&present, 64), PQI_SHARE_LEAST);
    for (uint32_t t = 2; t < 60; t++)
        pqi_present_leave(&present, t);
    assert_int_equal(pqi_present_share(&present, 64), 64);
    for (int i = 0; i < 10; i++)
        pqi_present_leave(&present, 1);
    assert_int_equal(present.tenants, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_tenant_alone_is_served_first_come_first_served, empty),
        cmocka_unit_test_setup(tenants_with_one_request_each_are_served_as_they_came, empty),
        cmocka_unit_test_setup(who_comes_to_a_crowd_of_one_tenant_is_next_but_one, empty),
        cmocka_unit_test_setup(those_with_many_waiting_alternate, empty),
        cmocka_unit_test_setup(who_was_served_and_comes_again_stands_behind_the_others, empty),
        cmocka_unit_test_setup(where_one_gives_up_the_next_of_its_tenant_has_its_turn, empty),
        cmocka_unit_test_setup(tenants_of_one_bucket_are_kept_apart, empty),
        cmocka_unit_test_setup(nobody_is_served_twice_while_another_waits_through, empty),
        cmocka_unit_test_setup(of_one_too_many_the_last_of_the_tenant_with_the_most_has_to_go,
                               empty),
        cmocka_unit_test_setup(of_two_with_as_many_the_one_that_came_has_to_go, empty),
        cmocka_unit_test(who_is_alone_may_have_all_and_others_have_their_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
