/* Does a server hang that a call waits for? Each verdict, at each moment of a call's life. */
#include "../../lib/plan/hang.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define MS INT64_C(1000000)
#define BEGAN (5000 * MS)

static struct pqi_waiting call_of(int64_t deadline_ms)
{
    return (struct pqi_waiting){.since_ns = BEGAN, .until_ns = BEGAN + deadline_ms * MS};
}

static enum pqi_hang at(const struct pqi_waiting *w, int64_t ms)
{
    return pqi_hang_look(w, BEGAN + ms * MS).verdict;
}

static void a_call_of_300_ms_asks_after_60_and_leaves_60_later(void **state)
{
    (void)state;
    struct pqi_waiting w = call_of(300);
    assert_int_equal(at(&w, 59), PQI_HANG_WAIT);
    assert_int_equal(at(&w, 60), PQI_HANG_ASK);
    w.asked_ns = BEGAN + 61 * MS;
    assert_int_equal(at(&w, 120), PQI_HANG_WAIT);
    assert_int_equal(at(&w, 121), PQI_HANG_LEAVE);
}

static void a_call_with_time_asks_after_100_and_leaves_150_later(void **state)
{
    (void)state;
    struct pqi_waiting w = call_of(30000);
    assert_int_equal(at(&w, 99), PQI_HANG_WAIT);
    assert_int_equal(at(&w, 100), PQI_HANG_ASK);
    w.asked_ns = BEGAN + 101 * MS;
    assert_int_equal(at(&w, 250), PQI_HANG_WAIT);
    assert_int_equal(at(&w, 251), PQI_HANG_LEAVE);
    w.until_ns = INT64_MAX; /* without end */
    assert_int_equal(at(&w, 251), PQI_HANG_LEAVE);
}

/* It was asked long before this call came. */
static void where_the_monitor_waits_already_a_call_leaves_after_its_first_look(void **state)
{
    (void)state;
    struct pqi_waiting w = call_of(300);
    w.asked_ns = BEGAN - 400 * MS;
    assert_int_equal(at(&w, 59), PQI_HANG_WAIT);
    assert_int_equal(at(&w, 60), PQI_HANG_LEAVE);
}

/* Whatever else was heard: that came from the pooler. */
static void where_a_pooler_has_no_server_a_call_leaves_at_once(void **state)
{
    (void)state;
    struct pqi_waiting w = call_of(300);
    w.gone = true;
    assert_int_equal(at(&w, 0), PQI_HANG_LEAVE);
    w.heard_ns = BEGAN + 30 * MS;
    assert_int_equal(at(&w, 31), PQI_HANG_LEAVE);
    assert_true(pqi_hang_look(&w, BEGAN + 31 * MS).look_ns > BEGAN + 31 * MS);
}

static void a_server_that_answers_others_does_not_hang_however_long_a_statement_takes(void **state)
{
    (void)state;
    struct pqi_waiting w = call_of(30000);
    w.asked_ns = BEGAN + 50 * MS;
    for (int64_t ms = 1; ms < 30000; ms += 7) {
        w.heard_ns = BEGAN + (ms - 1) * MS;
        enum pqi_hang now = at(&w, ms);
        assert_true(now == PQI_HANG_WAIT || now == PQI_HANG_PROVEN);
    }
}

static void each_proof_of_life_doubles_the_peace_up_to_a_second(void **state)
{
    (void)state;
    struct pqi_waiting w = call_of(30000);
    static const int64_t peace[] = {100, 200, 400, 800, 1000, 1000, 1000};
    for (w.proven = 0; w.proven < 7; w.proven++) {
        w.heard_ns = BEGAN + 300 * MS;
        assert_int_equal(at(&w, 300 + peace[w.proven] - 1), PQI_HANG_PROVEN);
        assert_int_equal(at(&w, 300 + peace[w.proven]), PQI_HANG_ASK);
    }
    w.proven = 1000000;
    assert_int_equal(at(&w, 1300), PQI_HANG_ASK);
}

/* Its only connection to ask on may be one of those that hang. */
static void where_the_monitor_cannot_ask_a_call_leaves_after_half_of_its_time(void **state)
{
    (void)state;
    struct pqi_waiting w = call_of(300);
    assert_int_equal(at(&w, 149), PQI_HANG_ASK);
    assert_int_equal(at(&w, 150), PQI_HANG_LEAVE);
    w = call_of(30000);
    assert_int_equal(at(&w, 14999), PQI_HANG_ASK);
    assert_int_equal(at(&w, 15000), PQI_HANG_LEAVE);
    w.heard_ns = BEGAN + 5000 * MS;
    assert_int_equal(at(&w, 19999), PQI_HANG_ASK);
    assert_int_equal(at(&w, 20000), PQI_HANG_LEAVE);
}

/* Its connections do not freeze all at the same moment: some answer for a while yet. */
static void a_call_leaves_in_time_though_others_were_answered_a_while_longer(void **state)
{
    (void)state;
    for (int64_t last = 0; last <= 100; last++) {
        struct pqi_waiting w = call_of(300);
        int64_t now = BEGAN;
        struct pqi_hang_verdict v = {PQI_HANG_WAIT, now};
        while (v.verdict != PQI_HANG_LEAVE) {
            now = v.look_ns;
            assert_true(now < w.until_ns);
            int64_t heard = now - BEGAN < last * MS ? now - MS : BEGAN + last * MS;
            w.heard_ns = heard;
            v = pqi_hang_look(&w, now);
            w.proven += v.verdict == PQI_HANG_PROVEN;
            if (v.verdict == PQI_HANG_ASK)
                w.asked_ns = now + 2 * MS;
        }
        assert_true(now - BEGAN <= 230 * MS);
    }
}

/* Whatever has happened: the next look is in the future, and not beyond what the verdict needs. */
static void the_next_look_is_always_ahead_and_never_far(void **state)
{
    (void)state;
    static const int64_t deadlines[] = {1, 20, 100, 300, 1000, 30000};
    for (size_t d = 0; d < sizeof deadlines / sizeof *deadlines; d++)
        for (int64_t now = 0; now < 1500; now += 10)
            for (int64_t heard = -100; heard <= now; heard += 30)
                for (int64_t asked = -100; asked <= now; asked += 30)
                    for (int proven = 0; proven < 6; proven += 5) {
                        struct pqi_waiting w = call_of(deadlines[d]);
                        w.heard_ns = heard == -100 ? 0 : BEGAN + heard * MS;
                        w.asked_ns = asked == -100 ? 0 : BEGAN + asked * MS;
                        w.proven = proven;
                        struct pqi_hang_verdict v = pqi_hang_look(&w, BEGAN + now * MS);
                        assert_true(v.look_ns > BEGAN + now * MS);
                        assert_true(v.look_ns <= BEGAN + (now + 2000) * MS);
                        if (v.verdict == PQI_HANG_LEAVE && w.asked_ns == 0) {
                            int64_t since = w.heard_ns > BEGAN ? w.heard_ns : BEGAN;
                            assert_true(BEGAN + now * MS - since >= deadlines[d] * MS / 2);
                            assert_true(BEGAN + now * MS - since >= 20 * MS);
                        } else if (v.verdict == PQI_HANG_LEAVE) {
                            int64_t since = w.asked_ns > w.heard_ns ? w.asked_ns : w.heard_ns;
                            assert_true(BEGAN + now * MS - since >= 20 * MS);
                        }
                    }
}

/* Asked, and patient as told, every call of 300 ms or more has left a dead server by the half of its time. */
static void a_call_has_half_of_its_time_left_when_it_leaves(void **state)
{
    (void)state;
    for (int64_t deadline = 300; deadline < 40000; deadline += 100) {
        struct pqi_waiting w = call_of(deadline);
        int64_t now = BEGAN;
        struct pqi_hang_verdict v = {PQI_HANG_WAIT, now};
        for (int looks = 0; v.verdict != PQI_HANG_LEAVE; looks++) {
            assert_in_range(looks, 0, 4);
            now = v.look_ns;
            v = pqi_hang_look(&w, now);
            if (v.verdict == PQI_HANG_ASK)
                w.asked_ns = now + 2 * MS;
        }
        assert_true(now - BEGAN <= deadline * MS / 2);
        assert_true(now - BEGAN <= 260 * MS);
    }
}

static void the_quiet_is_as_old_as_the_question_unless_something_was_heard(void **state)
{
    (void)state;
    assert_int_equal(pqi_hang_quiet_ms(0, 0, BEGAN), 0);
    assert_int_equal(pqi_hang_quiet_ms(BEGAN, 0, BEGAN + 250 * MS), 250);
    assert_int_equal(pqi_hang_quiet_ms(BEGAN, BEGAN + 200 * MS, BEGAN + 250 * MS), 50);
    assert_int_equal(pqi_hang_quiet_ms(BEGAN, BEGAN + 251 * MS, BEGAN + 250 * MS), 0);
    assert_int_equal(pqi_hang_quiet_ms(0, BEGAN, BEGAN + 250 * MS), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_of_300_ms_asks_after_60_and_leaves_60_later),
        cmocka_unit_test(a_call_with_time_asks_after_100_and_leaves_150_later),
        cmocka_unit_test(where_the_monitor_waits_already_a_call_leaves_after_its_first_look),
        cmocka_unit_test(where_a_pooler_has_no_server_a_call_leaves_at_once),
        cmocka_unit_test(a_server_that_answers_others_does_not_hang_however_long_a_statement_takes),
        cmocka_unit_test(each_proof_of_life_doubles_the_peace_up_to_a_second),
        cmocka_unit_test(where_the_monitor_cannot_ask_a_call_leaves_after_half_of_its_time),
        cmocka_unit_test(a_call_leaves_in_time_though_others_were_answered_a_while_longer),
        cmocka_unit_test(the_next_look_is_always_ahead_and_never_far),
        cmocka_unit_test(a_call_has_half_of_its_time_left_when_it_leaves),
        cmocka_unit_test(the_quiet_is_as_old_as_the_question_unless_something_was_heard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
