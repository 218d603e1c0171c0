/* How many a second: rates of all sizes, asked at every moment. */
#include "../../lib/plan/rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)

static void without_a_bound_there_is_always_one(void **state)
{
    (void)state;
    struct pqi_rate r = {0};
    int64_t next = 0;
    for (int i = 0; i < 100000; i++)
        assert_true(pqi_rate_take(&r, 5, &next));
}

static void a_second_s_worth_is_there_at_once_and_then_one_after_the_other(void **state)
{
    (void)state;
    for (int64_t per_s = 1; per_s <= 300; per_s++) {
        struct pqi_rate r = {.per_s = per_s};
        int64_t now = 77 * SECOND, next = 0, each = SECOND / per_s;
        for (int64_t i = 0; i < per_s; i++)
            assert_true(pqi_rate_take(&r, now, &next));
        for (int i = 0; i < 3; i++) {
            assert_false(pqi_rate_take(&r, now, &next));
            assert_in_range(next, now + 1, now + each + SECOND % per_s);
            assert_false(pqi_rate_take(&r, next - 1, &next));
            assert_true(pqi_rate_take(&r, next, &next));
            now = next;
        }
    }
}

/* Asked all the time, from rest. */
static void no_second_sees_more_than_twice_the_rate_and_no_ten_more_than_eleven_times(void **state)
{
    (void)state;
    static const int64_t rates[] = {1, 7, 50, 999};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        struct pqi_rate r = {.per_s = rates[i]};
        int64_t taken = 0, next;
        for (int64_t now = SECOND; now <= 11 * SECOND; now += MS / 2) {
            taken += pqi_rate_take(&r, now, &next);
            if (now == 2 * SECOND)
                assert_true(taken <= 2 * rates[i]);
        }
        assert_in_range(taken, 10 * rates[i], 11 * rates[i]);
    }
}

static void the_meter_tells_the_most_of_any_second(void **state)
{
    (void)state;
    struct pqi_meter m = {0};
    static const int64_t at[] = {1000, 1999, 2000, 2001, 2999, 3000, 9000, 9001};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        pqi_meter_add(&m, at[i] * MS);
    assert_int_equal(m.all, 8);
    assert_int_equal(m.most, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_bound_there_is_always_one),
        cmocka_unit_test(a_second_s_worth_is_there_at_once_and_then_one_after_the_other),
        cmocka_unit_test(no_second_sees_more_than_twice_the_rate_and_no_ten_more_than_eleven_times),
        cmocka_unit_test(the_meter_tells_the_most_of_any_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
