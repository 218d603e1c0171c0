/* The stamp: whose database this is, and what may be done there. */
#include "../../lib/plan/stamp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define CONTROL PQI_STAMP_CONTROL

static struct pqi_stamp stamped(const char *fleet, int shard, int shards)
{
    struct pqi_stamp s = {
        .state = PQI_STAMP_READ, .shard = shard, .shards = shards, .map_version = 1};
    snprintf(s.fleet, sizeof s.fleet, "%s", fleet);
    return s;
}

static struct pqi_stamp_expected expecting(const char *fleet, int shard, int shards)
{
    return (struct pqi_stamp_expected){fleet, shard, shards};
}

/* The same for reads and writes, unless they are told apart. */
static void expect(struct pqi_stamp s, struct pqi_stamp_expected e, bool write, int code,
                   const char *says)
{
    pqr_error err;
    memset(&err, 0xAA, sizeof err);
    int got = pqi_stamp_check(&s, &e, write, &err);
    if (got != code)
        fail_msg("shard %d of %d: %d, not %d (%s)", e.shard, e.shards, got, code, err.message);
    assert_int_equal(pqi_stamp_check(&s, &e, write, NULL), code);
    if (code == PQR_OK)
        return;
    assert_int_equal(err.code, code);
    if (strcmp(err.message, says) != 0)
        fail_msg("\"%s\", not \"%s\"", err.message, says);
}

static void expect_both(struct pqi_stamp s, struct pqi_stamp_expected e, int code, const char *says)
{
    expect(s, e, false, code, says);
    expect(s, e, true, code, says);
}

/* A row of a database, as text; refused: NULL. */
static const struct pqi_stamp *read_row(const char *fleet, const char *shard, const char *shards,
                                        const char *version)
{
    static struct pqi_stamp s;
    s = (struct pqi_stamp){.shard = 77};
    bool good = pqi_stamp_read((const char *const[]){fleet, shard, shards, version}, &s);
    if (!good)
        assert_int_equal(s.shard, 77);
    return good ? &s : NULL;
}

static void a_row_is_read_as_it_was_written(void **state)
{
    (void)state;
    const struct pqi_stamp *s = read_row("acme", "3", "4", "12");
    assert_non_null(s);
    assert_int_equal(s->state, PQI_STAMP_READ);
    assert_string_equal(s->fleet, "acme");
    assert_int_equal(s->shard, 3);
    assert_int_equal(s->shards, 4);
    assert_int_equal(s->map_version, 12);
    assert_int_equal(read_row("", "-1", "1024", "0")->shard, CONTROL);
    assert_int_equal(read_row("", "1023", "0", "9223372036854775807")->map_version, INT64_MAX);
}

static void a_row_that_nobody_of_ours_wrote_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",    "x",   "-2",   " 1",  "1 ",         "+1",
                                      "0x1", "1.0", "1024", "--1", "4294967296", "-1x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_null(read_row("acme", bad[i], "2", "1"));
    assert_null(read_row("acme", "0", "1025", "1"));
    assert_null(read_row("acme", "0", "-1", "1"));
    assert_null(read_row("acme", "0", "2", "-1"));
    assert_null(read_row("acme", "0", "2", "9223372036854775808"));
}

static void a_longer_name_of_a_fleet_is_not_taken_for_its_beginning(void **state)
{
    (void)state;
    char longest[64], longer[65];
    memset(longest, 'a', sizeof longest);
    memset(longer, 'a', sizeof longer);
    longest[63] = longer[64] = '\0';
    assert_string_equal(read_row(longest, "0", "1", "1")->fleet, longest);
    assert_null(read_row(longer, "0", "1", "1"));
}

static void the_right_stamp_admits(void **state)
{
    (void)state;
    expect_both(stamped("acme", 0, 2), expecting("acme", 0, 2), PQR_OK, NULL);
    expect_both(stamped("acme", 1, 2), expecting("acme", 1, 2), PQR_OK, NULL);
    expect_both(stamped("acme", 1023, 1024), expecting("acme", 1023, 1024), PQR_OK, NULL);
    expect_both(stamped("acme", CONTROL, 2), expecting("acme", CONTROL, 2), PQR_OK, NULL);
}

static void any_fleet_will_do_where_none_is_expected(void **state)
{
    (void)state;
    expect_both(stamped("acme", 1, 2), expecting(NULL, 1, 2), PQR_OK, NULL);
    expect_both(stamped("", 1, 2), expecting(NULL, 1, 2), PQR_OK, NULL);
}

static void another_fleet_is_refused(void **state)
{
    (void)state;
    expect_both(stamped("other", 1, 2), expecting("acme", 1, 2), PQR_E_WRONG_SHARD,
                "the database configured as shard 1 is stamped as fleet \"other\", not \"acme\": "
                "correct its URL or DATABASE_FLEET_ID");
    expect_both(stamped("ACME", CONTROL, 2), expecting("acme", CONTROL, 2), PQR_E_WRONG_SHARD,
                "the database configured as the control database is stamped as fleet \"ACME\", not "
                "\"acme\": correct its URL or DATABASE_FLEET_ID");
    expect_both(stamped("acme2", 0, 1), expecting("acme", 0, 1), PQR_E_WRONG_SHARD,
                "the database configured as shard 0 is stamped as fleet \"acme2\", not \"acme\": "
                "correct its URL or DATABASE_FLEET_ID");
}

static void another_shard_is_refused(void **state)
{
    (void)state;
    expect_both(
        stamped("acme", 0, 2), expecting("acme", 1, 2), PQR_E_WRONG_SHARD,
        "the database configured as shard 1 is stamped as shard 0 of fleet \"acme\": correct "
        "its URL");
    expect_both(stamped("acme", CONTROL, 2), expecting(NULL, 0, 2), PQR_E_WRONG_SHARD,
                "the database configured as shard 0 is stamped as the control database of fleet "
                "\"acme\": correct its URL");
    expect_both(stamped("acme", 0, 2), expecting(NULL, CONTROL, 2), PQR_E_WRONG_SHARD,
                "the database configured as the control database is stamped as shard 0 of fleet "
                "\"acme\": correct its URL");
}

static void a_pair_of_numbers_admits_only_if_they_are_equal(void **state)
{
    (void)state;
    for (int is = CONTROL; is < 8; is++)
        for (int wanted = CONTROL; wanted < 8; wanted++) {
            struct pqi_stamp s = stamped("acme", is, 8);
            struct pqi_stamp_expected e = expecting("acme", wanted, 8);
            int code = pqi_stamp_check(&s, &e, true, NULL);
            assert_int_equal(code, is == wanted ? PQR_OK : PQR_E_WRONG_SHARD);
        }
}

static void a_count_below_the_map_s_is_refused(void **state)
{
    (void)state;
    expect_both(
        stamped("acme", 1, 4), expecting("acme", 1, 3), PQR_E_MAP,
        "the shard map has 4 shards, but DATABASE_SHARD_COUNT is 3: shards that own tenants "
        "must be configured");
    expect_both(
        stamped("acme", 0, 2), expecting("acme", 0, 0), PQR_E_MAP,
        "the shard map has 2 shards, but DATABASE_SHARD_COUNT is 0: shards that own tenants "
        "must be configured");
    expect_both(
        stamped("acme", 0, 2), expecting("acme", 0, 1), PQR_E_MAP,
        "the shard map has 2 shards, but DATABASE_SHARD_COUNT is 1: shards that own tenants "
        "must be configured");
}

static void a_count_above_the_map_s_is_a_fleet_that_grows(void **state)
{
    (void)state;
    expect_both(stamped("acme", 1, 2), expecting("acme", 1, 3), PQR_OK, NULL);
    expect_both(stamped("acme", 0, 1), expecting("acme", 0, 2), PQR_OK, NULL);
}

static void a_fleet_of_one_shard_may_go_unsharded(void **state)
{
    (void)state;
    expect_both(stamped("acme", 0, 1), expecting("acme", 0, 0), PQR_OK, NULL);
    expect_both(stamped("acme", 0, 1), expecting(NULL, 0, 0), PQR_OK, NULL);
    expect_both(stamped("acme", 0, 1), expecting(NULL, 0, 1), PQR_OK, NULL);
}

static void the_control_database_owns_no_slots_so_no_count_concerns_it(void **state)
{
    (void)state;
    expect_both(stamped("acme", CONTROL, 4), expecting("acme", CONTROL, 2), PQR_OK, NULL);
    expect_both(stamped("acme", CONTROL, 4), expecting("acme", CONTROL, 0), PQR_OK, NULL);
}

static void the_fleet_is_told_before_the_shard_and_the_shard_before_the_map(void **state)
{
    (void)state;
    struct pqi_stamp s = stamped("other", 0, 9);
    struct pqi_stamp_expected e = expecting("acme", 1, 2);
    pqr_error err;
    assert_int_equal(pqi_stamp_check(&s, &e, true, &err), PQR_E_WRONG_SHARD);
    assert_non_null(strstr(err.message, "stamped as fleet \"other\""));
    s = stamped("acme", 0, 9);
    assert_int_equal(pqi_stamp_check(&s, &e, true, &err), PQR_E_WRONG_SHARD);
    assert_non_null(strstr(err.message, "stamped as shard 0"));
}

static void an_unstamped_shard_of_several_is_read_but_not_written(void **state)
{
    (void)state;
    const struct pqi_stamp none = {.state = PQI_STAMP_NONE};
    for (int shards = 2; shards <= 3; shards++) {
        expect(none, expecting(NULL, 1, shards), false, PQR_OK, NULL);
        expect(
            none, expecting(NULL, 1, shards), true, PQR_E_UNSTAMPED,
            "shard 1 is not stamped: run pqrouter init, or apply the SQL of pqrouter init --sql");
    }
}

static void a_single_shard_needs_no_stamp(void **state)
{
    (void)state;
    const struct pqi_stamp none = {.state = PQI_STAMP_NONE};
    expect_both(none, expecting(NULL, 0, 0), PQR_OK, NULL);
    expect_both(none, expecting(NULL, 0, 1), PQR_OK, NULL);
}

static void the_control_database_needs_no_stamp(void **state)
{
    (void)state;
    const struct pqi_stamp none = {.state = PQI_STAMP_NONE};
    expect_both(none, expecting(NULL, CONTROL, 0), PQR_OK, NULL);
    expect_both(none, expecting(NULL, CONTROL, 4), PQR_OK, NULL);
}

static void where_a_fleet_is_expected_nothing_unstamped_is_admitted(void **state)
{
    (void)state;
    const struct pqi_stamp none = {.state = PQI_STAMP_NONE};
    for (int shards = 0; shards <= 3; shards++)
        expect_both(none, expecting("acme", 0, shards), PQR_E_UNSTAMPED,
                    "shard 0 is not stamped, and DATABASE_FLEET_ID expects fleet \"acme\": run "
                    "pqrouter init, or apply the SQL of pqrouter init --sql");
    expect_both(
        none, expecting("acme", CONTROL, 2), PQR_E_UNSTAMPED,
        "the control database is not stamped, and DATABASE_FLEET_ID expects fleet \"acme\": "
        "run pqrouter init, or apply the SQL of pqrouter init --sql");
}

static void a_stamp_that_may_not_be_read_is_refused(void **state)
{
    (void)state;
    const struct pqi_stamp denied = {.state = PQI_STAMP_DENIED};
    for (int shards = 0; shards <= 2; shards++)
        expect_both(
            denied, expecting(shards ? "acme" : NULL, 0, shards), PQR_E_WRONG_SHARD,
            "shard 0: no right to read its stamp: grant usage on schema pqrouter and select on "
            "pqrouter.stamp to this role");
    expect_both(
        denied, expecting(NULL, CONTROL, 2), PQR_E_WRONG_SHARD,
        "the control database: no right to read its stamp: grant usage on schema pqrouter and "
        "select on pqrouter.stamp to this role");
}

static void nothing_goes_before_the_stamp_was_asked_for(void **state)
{
    (void)state;
    const struct pqi_stamp unread = {.state = PQI_STAMP_UNREAD};
    expect_both(unread, expecting(NULL, 0, 0), PQR_E_BUG,
                "a connection was used before its stamp was read");
    const struct pqi_stamp zeroed = {0};
    expect_both(zeroed, expecting("acme", CONTROL, 2), PQR_E_BUG,
                "a connection was used before its stamp was read");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_is_read_as_it_was_written),
        cmocka_unit_test(a_row_that_nobody_of_ours_wrote_is_refused),
        cmocka_unit_test(a_longer_name_of_a_fleet_is_not_taken_for_its_beginning),
        cmocka_unit_test(the_right_stamp_admits),
        cmocka_unit_test(any_fleet_will_do_where_none_is_expected),
        cmocka_unit_test(another_fleet_is_refused),
        cmocka_unit_test(another_shard_is_refused),
        cmocka_unit_test(a_pair_of_numbers_admits_only_if_they_are_equal),
        cmocka_unit_test(a_count_below_the_map_s_is_refused),
        cmocka_unit_test(a_count_above_the_map_s_is_a_fleet_that_grows),
        cmocka_unit_test(a_fleet_of_one_shard_may_go_unsharded),
        cmocka_unit_test(the_control_database_owns_no_slots_so_no_count_concerns_it),
        cmocka_unit_test(the_fleet_is_told_before_the_shard_and_the_shard_before_the_map),
        cmocka_unit_test(an_unstamped_shard_of_several_is_read_but_not_written),
        cmocka_unit_test(a_single_shard_needs_no_stamp),
        cmocka_unit_test(the_control_database_needs_no_stamp),
        cmocka_unit_test(where_a_fleet_is_expected_nothing_unstamped_is_admitted),
        cmocka_unit_test(a_stamp_that_may_not_be_read_is_refused),
        cmocka_unit_test(nothing_goes_before_the_stamp_was_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
