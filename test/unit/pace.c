/* How long statements take, and up to where a primary's log reaches. */
#include "../../lib/plan/pace.h"
#include "../../lib/plan/lag.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define A UINT64_C(0x1234567800000001)
#define B UINT64_C(0x8765432100000001) /* in the same place as A */

/* ---- Pace ------------------------------------------------------------------------------------ */

static struct pqi_pace pace;

static int fresh_pace(void **state)
{
    (void)state;
    pace = (struct pqi_pace){0};
    return 0;
}

static void what_was_never_measured_is_unknown(void **state)
{
    (void)state;
    int64_t us = 0;
    assert_int_equal(pqi_pace_of(&pace, A, &us), PQI_PACE_UNKNOWN);
    assert_true(us > 0);
    assert_int_equal(pqi_pace_of(&pace, 0, NULL), PQI_PACE_UNKNOWN);
}

static void a_first_measure_is_believed_when_it_is_short_or_far_too_long(void **state)
{
    (void)state;
    int64_t us = 0;
    pqi_pace_note(&pace, A, 120);
    assert_int_equal(pqi_pace_of(&pace, A, &us), PQI_PACE_FAST);
    assert_int_equal(us, 120);
    fresh_pace(state);
    pqi_pace_note(&pace, A, 10 * PQI_PACE_SLOW_US);
    assert_int_equal(pqi_pace_of(&pace, A, &us), PQI_PACE_SLOW);
    fresh_pace(state);
    pqi_pace_note(&pace, A, 2 * PQI_PACE_SLOW_US); /* planning, or a busy machine */
    assert_int_equal(pqi_pace_of(&pace, A, &us), PQI_PACE_FAST);
}

static void a_fast_statement_is_slow_only_after_many_slow_measures_in_a_row(void **state)
{
    (void)state;
    pqi_pace_note(&pace, A, 100);
    for (int i = 0; i < 31; i++) {
        pqi_pace_note(&pace, A, 300000);
        assert_int_equal(pqi_pace_of(&pace, A, NULL), PQI_PACE_FAST);
    }
    pqi_pace_note(&pace, A, 100); /* one fast one, and the count begins anew */
    for (int i = 0; i < 31; i++)
        pqi_pace_note(&pace, A, 300000);
    assert_int_equal(pqi_pace_of(&pace, A, NULL), PQI_PACE_FAST);
    pqi_pace_note(&pace, A, 300000);
    assert_int_equal(pqi_pace_of(&pace, A, NULL), PQI_PACE_SLOW);
}

static void a_slow_statement_that_gets_fast_is_fast_soon(void **state)
{
    (void)state;
    pqi_pace_note(&pace, A, 300000);
    for (int i = 0; i < 8; i++)
        pqi_pace_note(&pace, A, 100);
    assert_int_equal(pqi_pace_of(&pace, A, NULL), PQI_PACE_FAST);
}

static void two_statements_of_one_place_do_not_speak_for_each_other(void **state)
{
    (void)state;
    pqi_pace_note(&pace, A, 300000);
    assert_int_equal(pqi_pace_of(&pace, B, NULL), PQI_PACE_UNKNOWN);
    pqi_pace_note(&pace, B, 10);
    assert_int_equal(pqi_pace_of(&pace, B, NULL), PQI_PACE_FAST);
    assert_int_equal(pqi_pace_of(&pace, A, NULL), PQI_PACE_SLOW);
}

/* As many as a place holds, each measured in turn with the others. */
static void hot_statements_of_one_place_do_not_replace_each_other(void **state)
{
    (void)state;
    for (int n = 0; n < 32; n++)
        for (uint64_t i = 0; i < PQI_PACE_WAYS; i++)
            pqi_pace_note(&pace, A + (i << 33), 8 * PQI_PACE_SLOW_US); /* not sure at first */
    for (uint64_t i = 0; i < PQI_PACE_WAYS; i++)
        assert_int_equal(pqi_pace_of(&pace, A + (i << 33), NULL), PQI_PACE_FAST);
    for (uint64_t i = 0; i < PQI_PACE_WAYS; i++)
        pqi_pace_note(&pace, A + (i << 33), 8 * PQI_PACE_SLOW_US);
    for (uint64_t i = 0; i < PQI_PACE_WAYS; i++)
        assert_int_equal(pqi_pace_of(&pace, A + (i << 33), NULL), PQI_PACE_SLOW);
}

static void a_full_place_forgets_those_that_are_not_used_any_more(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < PQI_PACE_WAYS; i++)
        pqi_pace_note(&pace, A + (i << 33), 100);
    pqi_pace_note(&pace, A + (UINT64_C(100) << 33),
                  100); /* a new one: it has the place of one of them */
    for (int n = 0; n < 40; n++) {
        pqi_pace_note(&pace, A, 100);
        pqi_pace_note(&pace, A + (UINT64_C(101) << 33), 100);
        assert_int_equal(pqi_pace_of(&pace, A, NULL), PQI_PACE_FAST);
        assert_int_equal(pqi_pace_of(&pace, A + (UINT64_C(101) << 33), NULL), PQI_PACE_FAST);
    }
    int known = 0;
    for (uint64_t i = 1; i < PQI_PACE_WAYS; i++)
        known += pqi_pace_of(&pace, A + (i << 33), NULL) != PQI_PACE_UNKNOWN;
    assert_true(known < PQI_PACE_WAYS - 1);
}

/* One table serves all servers: the healthy ones speak for a statement that is slow on a sick one. */
static void slow_answers_of_one_server_among_others_make_no_statement_slow(void **state)
{
    (void)state;
    pqi_pace_note(&pace, A, 100);
    for (int i = 0; i < 1000; i++) {
        for (int j = 0; j < 20; j++)
            pqi_pace_note(&pace, A, 300000);
        pqi_pace_note(&pace, A, 100);
        assert_int_equal(pqi_pace_of(&pace, A, NULL), PQI_PACE_FAST);
    }
}

static void a_measure_beyond_all_bounds_is_cut(void **state)
{
    (void)state;
    int64_t us = 0;
    pqi_pace_note(&pace, A, INT64_MAX);
    assert_int_equal(pqi_pace_of(&pace, A, &us), PQI_PACE_SLOW);
    assert_true(us > 0);
    fresh_pace(state);
    pqi_pace_note(&pace, A, INT64_MIN);
    assert_int_equal(pqi_pace_of(&pace, A, &us), PQI_PACE_FAST);
    assert_int_equal(us, 0);
}

/* ---- Horizon --------------------------------------------------------------------------------- */

static void only_a_position_told_after_a_moment_covers_it(void **state)
{
    (void)state;
    struct pqi_horizon h = {0};
    uint64_t lsn = 0;
    assert_false(pqi_horizon_after(&h, 0, &lsn));
    pqi_horizon_add(&h, 10, 100);
    pqi_horizon_add(&h, 20, 200);
    assert_true(pqi_horizon_after(&h, 5, &lsn));
    assert_int_equal(lsn, 100);
    assert_true(pqi_horizon_after(&h, 11, &lsn));
    assert_int_equal(lsn, 200);
    assert_false(pqi_horizon_after(&h, 21, &lsn));
}

static void the_oldest_positions_are_forgotten_and_later_ones_cover_as_well(void **state)
{
    (void)state;
    struct pqi_horizon h = {0};
    uint64_t lsn = 0;
    for (int i = 1; i <= 3 * PQI_HORIZON_MAX; i++)
        pqi_horizon_add(&h, i * 10, (uint64_t)i * 100);
    assert_true(pqi_horizon_after(&h, 1, &lsn));
    assert_int_equal(lsn, (2 * PQI_HORIZON_MAX + 1) * 100);
}

static void a_position_below_the_last_one_begins_anew(void **state)
{
    (void)state;
    struct pqi_horizon h = {0};
    uint64_t lsn = 0;
    pqi_horizon_add(&h, 10, 500);
    pqi_horizon_add(&h, 20, 100); /* another timeline */
    assert_true(pqi_horizon_after(&h, 1, &lsn));
    assert_int_equal(lsn, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define PACE(name) cmocka_unit_test_setup(name, fresh_pace)
        PACE(what_was_never_measured_is_unknown),
        PACE(a_first_measure_is_believed_when_it_is_short_or_far_too_long),
        PACE(a_fast_statement_is_slow_only_after_many_slow_measures_in_a_row),
        PACE(a_slow_statement_that_gets_fast_is_fast_soon),
        PACE(two_statements_of_one_place_do_not_speak_for_each_other),
        PACE(hot_statements_of_one_place_do_not_replace_each_other),
        PACE(a_full_place_forgets_those_that_are_not_used_any_more),
        PACE(slow_answers_of_one_server_among_others_make_no_statement_slow),
        PACE(a_measure_beyond_all_bounds_is_cut),
        cmocka_unit_test(only_a_position_told_after_a_moment_covers_it),
        cmocka_unit_test(the_oldest_positions_are_forgotten_and_later_ones_cover_as_well),
        cmocka_unit_test(a_position_below_the_last_one_begins_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
