/* What became of a transaction: by what its server says of its id, and by whose id it was. */
#include "../../lib/plan/settle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct pqi_origin here = {7000, 3, 1234567};

static const enum pqi_xact all[] = {PQI_XACT_UNTOLD,  PQI_XACT_IN_PROGRESS, PQI_XACT_COMMITTED,
                                    PQI_XACT_ABORTED, PQI_XACT_FORGOTTEN,   PQI_XACT_FUTURE};
#define ALL (sizeof all / sizeof *all)

static enum pqi_settling settled(enum pqi_xact xact)
{
    struct pqi_settled s = pqi_settle(&here, &here, xact);
    assert_non_null(s.why);
    if (s.how == PQI_SETTLED_NEVER || s.how == PQI_SETTLED_NOT_YET)
        assert_true(strlen(s.why) > 0);
    return s.how;
}

static void on_the_same_incarnation_the_server_decides(void **state)
{
    (void)state;
    assert_int_equal(settled(PQI_XACT_COMMITTED), PQI_SETTLED_COMMITTED);
    assert_int_equal(settled(PQI_XACT_ABORTED), PQI_SETTLED_ABSENT);
    assert_int_equal(settled(PQI_XACT_FUTURE), PQI_SETTLED_ABSENT);
    assert_int_equal(settled(PQI_XACT_IN_PROGRESS), PQI_SETTLED_NOT_YET);
}

static void what_it_does_not_say_is_never_settled(void **state)
{
    (void)state;
    assert_int_equal(settled(PQI_XACT_FORGOTTEN), PQI_SETTLED_NEVER);
    assert_int_equal(settled(PQI_XACT_UNTOLD), PQI_SETTLED_NEVER);
    assert_int_equal(settled((enum pqi_xact)99), PQI_SETTLED_NEVER);
}

static void after_any_change_nothing_it_says_counts(void **state)
{
    (void)state;
    const struct pqi_origin others[] = {
        {7001, 3, 1234567}, {7000, 4, 1234567}, {7000, 2, 1234567}, {7000, 3, 1234568},
        {7000, 3, 1234566}, {7001, 4, 1},       {7000, 4, 1},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        for (size_t x = 0; x < ALL; x++) {
            struct pqi_settled s = pqi_settle(&here, &others[i], all[x]);
            assert_int_equal(s.how, PQI_SETTLED_NEVER);
            assert_true(strlen(s.why) > 0);
            assert_int_equal(pqi_settle(&others[i], &here, all[x]).how, PQI_SETTLED_NEVER);
        }
}

static void the_reason_names_what_has_changed(void **state)
{
    (void)state;
    const struct pqi_origin cluster = {1, 3, 1234567}, timeline = {7000, 4, 9},
                            crash = {7000, 3, 9};
    assert_non_null(strstr(pqi_settle(&here, &cluster, PQI_XACT_COMMITTED).why, "another cluster"));
    assert_non_null(strstr(pqi_settle(&here, &timeline, PQI_XACT_COMMITTED).why, "promoted"));
    assert_non_null(strstr(pqi_settle(&here, &crash, PQI_XACT_COMMITTED).why, "crash"));
}

/* Two servers that do not tell look alike, and may be different ones. */
static void without_proof_of_either_side_nothing_is_settled(void **state)
{
    (void)state;
    for (int missing = 1; missing < 8; missing++) {
        const struct pqi_origin vague = {missing & 1 ? 0 : here.system_id,
                                         missing & 2 ? 0 : here.timeline,
                                         missing & 4 ? 0 : here.incarnation_us};
        assert_false(pqi_origin_proven(&vague));
        for (size_t x = 0; x < ALL; x++) {
            assert_int_equal(pqi_settle(&vague, &vague, all[x]).how, PQI_SETTLED_NEVER);
            assert_int_equal(pqi_settle(&vague, &here, all[x]).how, PQI_SETTLED_NEVER);
            assert_int_equal(pqi_settle(&here, &vague, all[x]).how, PQI_SETTLED_NEVER);
        }
    }
    assert_true(pqi_origin_proven(&here));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_the_same_incarnation_the_server_decides),
        cmocka_unit_test(what_it_does_not_say_is_never_settled),
        cmocka_unit_test(after_any_change_nothing_it_says_counts),
        cmocka_unit_test(the_reason_names_what_has_changed),
        cmocka_unit_test(without_proof_of_either_side_nothing_is_settled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
