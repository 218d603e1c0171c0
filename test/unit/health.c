/* A node's state: every state, whatever is seen of it. */
#include "../../lib/plan/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define UNKNOWN PQR_NODE_UNKNOWN
#define UP PQR_NODE_UP
#define SUSPECT PQR_NODE_SUSPECT
#define DOWN PQR_NODE_DOWN

static const enum pqr_node_state states[] = {UNKNOWN, UP, SUSPECT, DOWN};
static const enum pqi_seen_of_node all_seen[] = {PQI_ANSWERED, PQI_SILENT, PQI_REFUSED};

static void every_arrow_of_the_drawing_is_there(void **state)
{
    (void)state;
    static const struct {
        enum pqr_node_state from;
        enum pqi_seen_of_node seen;
        enum pqr_node_state to;
    } arrows[] = {
        {UNKNOWN, PQI_ANSWERED, UP}, {UNKNOWN, PQI_SILENT, SUSPECT}, {UNKNOWN, PQI_REFUSED, DOWN},
        {UP, PQI_ANSWERED, UP},      {UP, PQI_SILENT, SUSPECT},      {UP, PQI_REFUSED, DOWN},
        {SUSPECT, PQI_ANSWERED, UP}, {SUSPECT, PQI_SILENT, DOWN},    {SUSPECT, PQI_REFUSED, DOWN},
        {DOWN, PQI_ANSWERED, UP},    {DOWN, PQI_SILENT, DOWN},       {DOWN, PQI_REFUSED, DOWN},
    };
    for (size_t i = 0; i < sizeof arrows / sizeof *arrows; i++)
        if (pqi_health_next(arrows[i].from, arrows[i].seen) != arrows[i].to)
            fail_msg("from %d, seen %d: %d, not %d", arrows[i].from, arrows[i].seen,
                     pqi_health_next(arrows[i].from, arrows[i].seen), arrows[i].to);
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

static void silence_never_makes_a_state_better_and_nothing_leads_back_to_unknown(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_true(pqi_health_next(states[i], PQI_SILENT) > UP);
        assert_true(pqi_health_next(states[i], PQI_SILENT) >= states[i]);
        for (int j = 0; j < 3; j++)
            assert_int_not_equal(pqi_health_next(states[i], all_seen[j]), UNKNOWN);
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
        cmocka_unit_test(silence_never_makes_a_state_better_and_nothing_leads_back_to_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
