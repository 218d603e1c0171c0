/* When who waits behind a statement gives up on it: each kind of head, at each moment. */
#include "../../lib/plan/stuck.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { ITS = 7, OTHER = 8 };

/* From which millisecond on somebody is sent away who comes with that hash. */
static int64_t patience(struct pqi_head h, uint64_t hash)
{
    h.left = 0;
    for (h.still_ms = 0; h.still_ms < 10000; h.still_ms++)
        if (pqi_head_sends_away(&h, hash))
            break;
    int64_t from = h.still_ms;
    for (; h.still_ms < 10000; h.still_ms++)
        assert_true(pqi_head_sends_away(&h, hash));
    return from;
}

static void who_waits_behind_a_statement_that_may_be_slow_goes_soon(void **state)
{
    (void)state;
    assert_int_equal(patience((struct pqi_head){.class_ = PQI_PACE_UNKNOWN, .hash = ITS}, OTHER),
                     PQI_STUCK_MS);
    assert_int_equal(patience((struct pqi_head){.class_ = PQI_PACE_SLOW, .hash = ITS}, OTHER),
                     PQI_STUCK_MS);
    assert_int_equal(patience((struct pqi_head){.class_ = PQI_PACE_UNKNOWN}, 0), PQI_STUCK_MS);
}

static void who_waits_behind_its_own_like_has_patience(void **state)
{
    (void)state;
    assert_int_equal(patience((struct pqi_head){.class_ = PQI_PACE_UNKNOWN, .hash = ITS}, ITS),
                     100);
    assert_int_equal(patience((struct pqi_head){.class_ = PQI_PACE_SLOW, .hash = ITS}, ITS), 100);
}

static void a_statement_known_to_be_fast_is_waited_for_longest(void **state)
{
    (void)state;
    assert_int_equal(patience((struct pqi_head){.class_ = PQI_PACE_FAST, .hash = ITS}, ITS), 250);
    assert_int_equal(patience((struct pqi_head){.class_ = PQI_PACE_FAST, .hash = ITS}, OTHER), 250);
}

static void one_that_is_nobodys_is_given_up_soon_whatever_it_is(void **state)
{
    (void)state;
    for (int class_ = PQI_PACE_UNKNOWN; class_ <= PQI_PACE_SLOW; class_++)
        assert_int_equal(patience((struct pqi_head){.nobodys = true,
                                                    .class_ = (enum pqi_pace_class)class_,
                                                    .hash = ITS},
                                  ITS),
                         PQI_STUCK_MS);
}

static void they_go_one_after_the_other(void **state)
{
    (void)state;
    for (int64_t ms = PQI_STUCK_MS; ms < 1000; ms++) {
        struct pqi_head h = {.nobodys = true, .still_ms = ms};
        while (pqi_head_sends_away(&h, ITS))
            h.left++;
        assert_int_equal(h.left, ms);
    }
}

static void new_ones_avoid_it_from_the_first_look_on(void **state)
{
    (void)state;
    for (int64_t ms = 0; ms < 1000; ms++) {
        struct pqi_head h = {.class_ = PQI_PACE_FAST, .still_ms = ms};
        assert_int_equal(pqi_head_is_still(&h), ms >= PQI_STUCK_MS);
    }
}

static void only_one_that_is_nobodys_is_dead_and_after_a_second(void **state)
{
    (void)state;
    for (int64_t ms = 0; ms < 5000; ms++) {
        assert_int_equal(pqi_head_is_dead(&(struct pqi_head){.nobodys = true, .still_ms = ms}),
                         ms >= 1000);
        assert_false(pqi_head_is_dead(&(struct pqi_head){.hash = ITS, .still_ms = ms}));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_waits_behind_a_statement_that_may_be_slow_goes_soon),
        cmocka_unit_test(who_waits_behind_its_own_like_has_patience),
        cmocka_unit_test(a_statement_known_to_be_fast_is_waited_for_longest),
        cmocka_unit_test(one_that_is_nobodys_is_given_up_soon_whatever_it_is),
        cmocka_unit_test(they_go_one_after_the_other),
        cmocka_unit_test(new_ones_avoid_it_from_the_first_look_on),
        cmocka_unit_test(only_one_that_is_nobodys_is_dead_and_after_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
