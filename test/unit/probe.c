/* When a server is looked at again: every interval and history, at the ends of chance. */
#include "../../lib/plan/probe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const int64_t intervals[] = {100, 1000, 5000, 300000};
static const uint64_t chances[] = {0, 1, 17, 999, 123456789, UINT64_MAX - 1, UINT64_MAX};
#define EACH(x, of) for (size_t x = 0; x < sizeof(of) / sizeof *(of); x++)

static void servers_that_answer_are_asked_once_an_interval(void **state)
{
    (void)state;
    EACH(i, intervals)
    EACH(c, chances)
    {
        int64_t ms = pqi_probe_in_ms(intervals[i], -1, chances[c]);
        assert_in_range(ms, intervals[i] * 9 / 10, intervals[i] * 11 / 10);
    }
}

static void without_a_primary_they_are_asked_at_least_every_75_ms_at_first(void **state)
{
    (void)state;
    EACH(i, intervals)
    EACH(c, chances)
    for (int64_t missing = 0; missing <= 2000; missing += 10) {
        assert_in_range(pqi_probe_in_ms(intervals[i], missing, chances[c]), 50, 75);
        for (int failures = 1; failures < 40; failures++)
            assert_in_range(pqi_probe_again_ms(intervals[i], failures, missing, chances[c]), 37,
                            75);
    }
}

/* A promotion that takes its time is still seen soon, and a shard that is gone for good costs little. */
static void without_a_primary_for_long_they_are_asked_more_seldom_but_not_less_than_every_750_ms(
    void **state)
{
    (void)state;
    EACH(c, chances)
    {
        assert_in_range(pqi_probe_in_ms(300000, 10000, chances[c]), 250, 375);
        assert_in_range(pqi_probe_in_ms(300000, 86400000, chances[c]), 500, 750);
        assert_in_range(pqi_probe_again_ms(300000, 30, INT64_MAX, chances[c]), 500, 750);
        assert_in_range(pqi_probe_in_ms(100, 86400000, chances[c]), 90, 110);
    }
}

static void one_that_fails_is_tried_again_soon_then_more_and_more_seldom(void **state)
{
    (void)state;
    EACH(c, chances)
    {
        int64_t middle = 50;
        for (int failures = 1; failures < 70; failures++, middle *= middle < 1500 ? 2 : 1) {
            int64_t of = middle < 1500 ? middle : 1500;
            assert_in_range(pqi_probe_again_ms(1000, failures, -1, chances[c]), of - of / 4,
                            of - of / 4 + of / 2);
        }
    }
}

static void its_return_is_seen_within_two_intervals(void **state)
{
    (void)state;
    EACH(i, intervals)
    EACH(c, chances)
    for (int failures = 1; failures < 1000; failures++) {
        int64_t ms = pqi_probe_again_ms(intervals[i], failures, -1, chances[c]);
        assert_in_range(ms, 1, 2 * intervals[i]);
    }
}

static void chance_spreads_the_tries(void **state)
{
    (void)state;
    int64_t first = pqi_probe_again_ms(1000, 9, -1, 0);
    assert_int_not_equal(first, pqi_probe_again_ms(1000, 9, -1, 300));
    assert_int_not_equal(pqi_probe_in_ms(1000, -1, 0), pqi_probe_in_ms(1000, -1, 100));
    assert_int_not_equal(pqi_probe_in_ms(1000, 0, 0), pqi_probe_in_ms(1000, 0, 20));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(servers_that_answer_are_asked_once_an_interval),
        cmocka_unit_test(without_a_primary_they_are_asked_at_least_every_75_ms_at_first),
        cmocka_unit_test(
            without_a_primary_for_long_they_are_asked_more_seldom_but_not_less_than_every_750_ms),
        cmocka_unit_test(one_that_fails_is_tried_again_soon_then_more_and_more_seldom),
        cmocka_unit_test(its_return_is_seen_within_two_intervals),
        cmocka_unit_test(chance_spreads_the_tries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
