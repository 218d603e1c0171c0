/* How many calls may be run again: a share of the recent ones, and a few in a quiet process. */
#include "../../lib/plan/budget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SECOND 1000000000LL

static struct pqi_budget b;
static uint64_t calls;
static int64_t now;

static int begin(void **state)
{
    (void)state;
    b = (struct pqi_budget){0};
    calls = 0;
    now = 77 * SECOND;
    return 0;
}

/* How many of `n` may be run again now. */
static int granted(int percent, int n)
{
    int got = 0;
    for (int i = 0; i < n; i++)
        got += pqi_budget_take(&b, percent, calls, now);
    return got;
}

static void a_quiet_process_has_a_few_and_no_more(void **state)
{
    (void)state;
    assert_int_equal(granted(10, 1000), PQI_BUDGET_FLOOR);
    assert_int_equal(granted(10, 1000), 0);
}

static void a_few_come_back_with_time_up_to_what_there_was(void **state)
{
    (void)state;
    granted(10, 1000);
    now += SECOND;
    assert_int_equal(granted(10, 1000), PQI_BUDGET_FLOOR_S);
    now += SECOND / PQI_BUDGET_FLOOR_S / 2;
    assert_int_equal(granted(10, 1000), 0);
    now += SECOND / PQI_BUDGET_FLOOR_S / 2 + 1;
    assert_int_equal(granted(10, 1000), 1);
    now += 3600 * SECOND;
    assert_int_equal(granted(10, 1000), PQI_BUDGET_FLOOR);
}

static void it_is_that_share_of_the_calls(void **state)
{
    (void)state;
    static const int percents[] = {1, 10, 33, 100};
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        begin(NULL);
        granted(percents[i], 1000);
        int got = 0;
        for (int round = 0; round < 100; round++) {
            calls += 100;
            got += granted(percents[i], 1000);
        }
        assert_in_range(got, 100 * percents[i] - 1, 100 * percents[i]);
    }
}

static void what_is_saved_up_is_bounded(void **state)
{
    (void)state;
    granted(10, 1);
    calls += 100000000;
    assert_int_equal(granted(10, 100000), PQI_BUDGET_RECENT / 10);
    granted(1, 1000);
    calls += 100000000;
    assert_int_equal(granted(1, 100000), PQI_BUDGET_FLOOR);
}

static void what_calls_gave_is_not_lost_with_time(void **state)
{
    (void)state;
    granted(10, 1000);
    calls += 5000;
    now += 3600 * SECOND;
    assert_int_equal(granted(10, 1000), PQI_BUDGET_FLOOR + 500);
}

static void none_is_none(void **state)
{
    (void)state;
    assert_int_equal(granted(0, 10), 0);
    calls += 100000;
    now += 3600 * SECOND;
    assert_int_equal(granted(0, 10), 0);
}

static void when_all_fails_no_more_than_the_share_is_added(void **state)
{
    (void)state;
    int again = 0;
    for (int i = 0; i < 100000; i++) { /* ten thousand a second, for ten seconds */
        calls++;
        now += SECOND / 10000;
        again += pqi_budget_take(&b, 10, calls, now);
    }
    assert_in_range(again, 10000, 10000 + PQI_BUDGET_FLOOR + 10 * PQI_BUDGET_FLOOR_S);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, begin)
    const struct CMUnitTest tests[] = {
        TEST(a_quiet_process_has_a_few_and_no_more),
        TEST(a_few_come_back_with_time_up_to_what_there_was),
        TEST(it_is_that_share_of_the_calls),
        TEST(what_is_saved_up_is_bounded),
        TEST(what_calls_gave_is_not_lost_with_time),
        TEST(none_is_none),
        TEST(when_all_fails_no_more_than_the_share_is_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
