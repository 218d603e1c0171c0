/* How long does a call wait for a connection that is being made? At each moment of calls of all lengths. */
#include "../../lib/plan/detour.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS INT64_C(1000000)
#define BEGAN (5000 * MS)

static enum pqi_detour at(int64_t deadline_ms, int64_t ms)
{
    return pqi_detour(BEGAN, BEGAN + deadline_ms * MS, BEGAN + ms * MS).how;
}

static void a_call_of_300_ms_looks_there_after_20_elsewhere_after_60_and_everywhere_after_150(
    void **state)
{
    (void)state;
    assert_int_equal(at(300, 0), PQI_DETOUR_NONE);
    assert_int_equal(at(300, 19), PQI_DETOUR_NONE);
    assert_int_equal(at(300, 20), PQI_DETOUR_HERE);
    assert_int_equal(at(300, 59), PQI_DETOUR_HERE);
    assert_int_equal(at(300, 60), PQI_DETOUR_PEER);
    assert_int_equal(at(300, 149), PQI_DETOUR_PEER);
    assert_int_equal(at(300, 150), PQI_DETOUR_AWAY);
    assert_int_equal(at(300, 299), PQI_DETOUR_AWAY);
}

static void a_call_with_time_looks_elsewhere_after_a_second(void **state)
{
    (void)state;
    assert_int_equal(at(30000, 999), PQI_DETOUR_HERE);
    assert_int_equal(at(30000, 1000), PQI_DETOUR_PEER);
    assert_int_equal(at(30000, 14999), PQI_DETOUR_PEER);
    assert_int_equal(at(30000, 15000), PQI_DETOUR_AWAY);
    assert_int_equal(pqi_detour(BEGAN, INT64_MAX, BEGAN + 999 * MS).how, PQI_DETOUR_HERE);
    assert_int_equal(pqi_detour(BEGAN, INT64_MAX, BEGAN + 1000 * MS).how, PQI_DETOUR_PEER);
}

static void one_with_hardly_any_looks_everywhere_at_once(void **state)
{
    (void)state;
    assert_int_equal(at(10, 1), PQI_DETOUR_NONE);
    assert_int_equal(at(10, 2), PQI_DETOUR_PEER);
    assert_int_equal(at(10, 5), PQI_DETOUR_AWAY);
    assert_int_equal(at(0, 0), PQI_DETOUR_AWAY);
    assert_int_equal(at(-5, 0), PQI_DETOUR_AWAY);
}

/* Whoever looks when told to: no look is missed by more than a moment, and they do not come too often. */
static void looks_come_in_time_and_not_too_often(void **state)
{
    (void)state;
    for (int64_t deadline = 50; deadline <= 30000; deadline += 50) {
        int64_t until = BEGAN + deadline * MS, now = BEGAN;
        int looks = 0, peer = 0, away = 0;
        for (; now < until; looks++) {
            struct pqi_detour_verdict v = pqi_detour(BEGAN, until, now);
            assert_true(v.look_ns > now);
            assert_true(v.look_ns - now <= 100 * MS);
            away += v.how == PQI_DETOUR_AWAY;
            if (v.how == PQI_DETOUR_PEER && peer++ == 0)
                assert_true(now - BEGAN <= deadline * MS / 5 && now - BEGAN <= 1100 * MS);
            now = v.look_ns;
        }
        assert_true(peer > 0 && away > 0);
        assert_true(looks <= 30 + deadline / 100);
    }
}

/* What it may do grows with the time that it has waited. */
static void patience_only_ends(void **state)
{
    (void)state;
    for (int64_t deadline = 1; deadline <= 2000; deadline += 7)
        for (int64_t ms = 1; ms <= deadline; ms++)
            assert_true(at(deadline, ms) >= at(deadline, ms - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            a_call_of_300_ms_looks_there_after_20_elsewhere_after_60_and_everywhere_after_150),
        cmocka_unit_test(a_call_with_time_looks_elsewhere_after_a_second),
        cmocka_unit_test(one_with_hardly_any_looks_everywhere_at_once),
        cmocka_unit_test(looks_come_in_time_and_not_too_often),
        cmocka_unit_test(patience_only_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
