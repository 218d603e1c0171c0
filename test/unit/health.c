/* A node's state: every state, whatever is seen of it. */
#include "../../lib/plan/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define UNKNOWN PQR_NODE_UNKNOWN
#define UP PQR_NODE_UP
#define SUSPECT PQR_NODE_SUSPECT
#define DOWN PQR_NODE_DOWN

static const enum pqr_node_state states[] = {UNKNOWN, UP, SUSPECT, DOWN};
static const enum pqi_sign signs[] = {PQI_ANSWERED, PQI_QUIET, PQI_SILENT, PQI_REFUSED, PQI_FULL};

static void every_arrow_of_the_drawing_is_there(void **state)
{
    (void)state;
    static const enum pqr_node_state next[4][5] = {
        /* answered, quiet, silent, refused, full */
        {UP, SUSPECT, SUSPECT, DOWN, SUSPECT}, /* UNKNOWN */
        {UP, SUSPECT, SUSPECT, DOWN, UP},      /* UP */
        {UP, SUSPECT, DOWN, DOWN, SUSPECT},    /* SUSPECT */
        {UP, DOWN, DOWN, DOWN, DOWN},          /* DOWN */
    };
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 5; j++)
            if (pqi_health_next(states[i], signs[j]) != next[i][j])
                fail_msg("from %d, sign %d: %d, not %d", states[i], signs[j],
                         pqi_health_next(states[i], signs[j]), next[i][j]);
}

static void an_answer_makes_every_node_up(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pqi_health_next(states[i], PQI_ANSWERED), UP);
}

static void a_refusal_makes_every_node_down_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pqi_health_next(states[i], PQI_REFUSED), DOWN);
}

static void silence_once_is_suspect_and_twice_is_down(void **state)
{
    (void)state;
    assert_int_equal(pqi_health_next(UP, PQI_SILENT), SUSPECT);
    assert_int_equal(pqi_health_next(pqi_health_next(UP, PQI_SILENT), PQI_SILENT), DOWN);
    assert_int_equal(pqi_health_next(pqi_health_next(UNKNOWN, PQI_SILENT), PQI_SILENT), DOWN);
}

/* No time that passes, no failure of others: an answer. */
static void nothing_but_an_answer_makes_a_state_better_and_nothing_leads_back_to_unknown(
    void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        for (int j = 1; j < 5; j++) {
            enum pqr_node_state next = pqi_health_next(states[i], signs[j]);
            assert_true(next >= states[i]);
            assert_int_not_equal(next, UNKNOWN);
        }
}

static void a_quiet_server_is_suspect_and_never_down_for_that(void **state)
{
    (void)state;
    enum pqr_node_state now = UP;
    for (int i = 0; i < 10; i++)
        now = pqi_health_next(now, PQI_QUIET);
    assert_int_equal(now, SUSPECT);
}

/* ---- What there is to say -------------------------------------------------------------------- */

static const struct pqi_vitals well = {UP, PQR_NODE_FINE, PQR_ROLE_REPLICA, true, false, false,
                                       900};

static void a_replica_that_answers_is_fine_though_it_is_read_only(void **state)
{
    (void)state;
    assert_int_equal(pqi_health_condition(&well), PQR_NODE_FINE);
    assert_string_equal(pqi_health_text(PQR_NODE_FINE), "");
}

static void each_condition_is_told_apart(void **state)
{
    (void)state;
    struct pqi_vitals v = well;
    v.latency_us = PQI_SLOW_US;
    assert_int_equal(pqi_health_condition(&v), PQR_NODE_SLOW);
    v.role = PQR_ROLE_PRIMARY;
    assert_int_equal(pqi_health_condition(&v), PQR_NODE_READ_ONLY);
    v.fenced = true;
    assert_int_equal(pqi_health_condition(&v), PQR_NODE_FENCED);
    v.stranger = true;
    assert_int_equal(pqi_health_condition(&v), PQR_NODE_STRANGER);
    v.last = PQR_NODE_FULL; /* what it said before is no news of now */
    assert_int_equal(pqi_health_condition(&v), PQR_NODE_FULL);
    v = (struct pqi_vitals){.state = UNKNOWN, .latency_us = -1, .stranger = true};
    assert_int_equal(pqi_health_condition(&v), PQR_NODE_FINE);
}

static void every_condition_has_words_of_its_own(void **state)
{
    (void)state;
    for (int i = PQR_NODE_REFUSED; i <= PQR_NODE_BROKEN; i++) {
        const char *text = pqi_health_text((enum pqr_node_condition)i);
        assert_true(strlen(text) > 10);
        for (int j = PQR_NODE_FINE; j < i; j++)
            assert_string_not_equal(text, pqi_health_text((enum pqr_node_condition)j));
    }
}

static void a_server_that_ends_all_its_sessions_outdates_them(void **state)
{
    (void)state;
    static const char *const do_[] = {"57P01", "57P02", "57P03", "08000", "08006", "08P01"};
    static const char *const do_not[] = {"", "57014", "57P04", "57P05", "25006", "40001", "53300"};
    for (size_t i = 0; i < sizeof do_ / sizeof *do_; i++)
        assert_true(pqi_health_outdates(do_[i]));
    for (size_t i = 0; i < sizeof do_not / sizeof *do_not; i++)
        assert_false(pqi_health_outdates(do_not[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_arrow_of_the_drawing_is_there),
        cmocka_unit_test(an_answer_makes_every_node_up),
        cmocka_unit_test(a_refusal_makes_every_node_down_at_once),
        cmocka_unit_test(silence_once_is_suspect_and_twice_is_down),
        cmocka_unit_test(a_server_that_ends_all_its_sessions_outdates_them),
        cmocka_unit_test(
            nothing_but_an_answer_makes_a_state_better_and_nothing_leads_back_to_unknown),
        cmocka_unit_test(a_quiet_server_is_suspect_and_never_down_for_that),
        cmocka_unit_test(a_replica_that_answers_is_fine_though_it_is_read_only),
        cmocka_unit_test(each_condition_is_told_apart),
        cmocka_unit_test(every_condition_has_words_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
