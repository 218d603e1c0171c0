/* Positions in the write-ahead log, and what a session has seen of it. */
#include "../../lib/plan/lsn.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- Texts ----------------------------------------------------------------------------------- */

static void a_position_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t lsn;
    } cases[] = {
        {"0/0", 0},
        {"0/1", 1},
        {"1/0", UINT64_C(0x100000000)},
        {"16/B374D848", UINT64_C(0x16B374D848)},
        {"16/b374d848", UINT64_C(0x16B374D848)},
        {"00000016/0000000a", UINT64_C(0x160000000A)},
        {"9/9", UINT64_C(0x900000009)},
        {"A/F", UINT64_C(0xA0000000F)},
        {"a/f", UINT64_C(0xA0000000F)},
        {"FFFFFFFF/FFFFFFFF", UINT64_MAX},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint64_t lsn = 42;
        if (!pqi_lsn_parse(cases[i].text, &lsn) || lsn != cases[i].lsn)
            fail_msg("\"%s\" is read as %" PRIX64, cases[i].text, lsn);
    }
}

static void what_is_no_position_is_refused_and_nothing_is_written(void **state)
{
    (void)state;
    static const char *const texts[] = {
        NULL,    "",     "/",           "0",           "0/",          "/0",          "null",
        "0/0/0", "0//0", "0\\0",        "0/0 ",        " 0/0",        "0 /0",        "0/ 0",
        "0/0\n", "-1/0", "0/-1",        "+1/0",        "0x1/0",       "1.5/0",       "G/0",
        "0/G",   "g/0",  "0/g",         "@/0",         "0/@",         "`/0",         "0/`",
        ":/0",   "0/:",  "123456789/0", "0/123456789", "000000000/0", "0/000000000",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        uint64_t lsn = 42;
        if (pqi_lsn_parse(texts[i], &lsn) || lsn != 42)
            fail_msg("\"%s\" is read as %" PRIX64, texts[i] ? texts[i] : "NULL", lsn);
    }
}

static void every_position_is_read_as_postgresql_writes_it(void **state)
{
    (void)state;
    for (int high = 0; high < 64; high++) {
        for (int low = 0; low < 64; low++) {
            uint64_t lsn = UINT64_C(1) << high | UINT64_C(1) << low, read;
            char text[32];
            snprintf(text, sizeof text, "%" PRIX64 "/%" PRIX64, lsn >> 32, lsn & 0xFFFFFFFF);
            assert_true(pqi_lsn_parse(text, &read));
            assert_true(read == lsn);
        }
    }
}

/* ---- Headers of pages and segments ----------------------------------------------------------- */

/* How PostgreSQL counts: https://doxygen.postgresql.org/xlog_8c.html, XLogBytePosToRecPtr and
 * XLogBytePosToEndRecPtr. The n-th usable byte of a segment's place in it ... */
static uint64_t place_of(uint64_t n)
{
    if (n < 8192 - 40)
        return 40 + n;
    n -= 8192 - 40;
    return 8192 + n / (8192 - 24) * 8192 + 24 + n % (8192 - 24);
}

/* ... and where a record ends that ends just before it: the place up to which a replica that has
 * replayed the record says it has. */
static uint64_t end_before(uint64_t n)
{
    return n == 0 ? 0 : place_of(n - 1) + 1;
}

static void the_insert_position_of_every_byte_is_rounded_to_what_a_replica_reaches(void **state)
{
    (void)state;
    const uint64_t segment = 1 << 20, usable = (8192 - 40) + 127 * (8192 - 24);
    for (uint64_t n = 0; n < usable; n++) {
        uint64_t lsn = 5 * segment + place_of(n), reached = 5 * segment + end_before(n);
        if (pqi_lsn_floor(lsn, segment) != reached)
            fail_msg("%" PRIX64 " is rounded to %" PRIX64 ", not %" PRIX64, lsn,
                     pqi_lsn_floor(lsn, segment), reached);
    }
}

static void a_place_that_is_no_header_stays(void **state)
{
    (void)state;
    const uint64_t segment = 1 << 20;
    for (uint64_t lsn = 0; lsn < 2 * segment; lsn++) {
        uint64_t floor = pqi_lsn_floor(lsn, segment);
        bool header = lsn % 8192 == 24 || lsn % segment == 40;
        if (header ? floor != lsn / 8192 * 8192 : floor != lsn)
            fail_msg("%" PRIX64 " is rounded to %" PRIX64, lsn, floor);
        assert_true(pqi_lsn_floor(floor, segment) == floor);
    }
}

static void a_segment_has_the_size_that_its_server_says(void **state)
{
    (void)state;
    const uint64_t mb = 1 << 20;
    for (uint64_t size = mb; size <= 1024 * mb; size *= 2) {
        assert_true(pqi_lsn_floor(3 * size + 40, size) == 3 * size);
        assert_true(pqi_lsn_floor(3 * size + 8192 + 40, size) == 3 * size + 8192 + 40);
        assert_true(pqi_lsn_floor(3 * size + size / 2 + 40, size) == 3 * size + size / 2 + 40);
    }
}

static void while_the_size_is_not_known_only_pages_count(void **state)
{
    (void)state;
    assert_true(pqi_lsn_floor(40, 0) == 40);
    assert_true(pqi_lsn_floor(8192 + 24, 0) == 8192);
    assert_true(pqi_lsn_floor(0, 0) == 0);
}

static void the_highest_positions_do_not_overflow(void **state)
{
    (void)state;
    assert_true(pqi_lsn_floor(UINT64_MAX, 16 << 20) == UINT64_MAX);
    assert_true(pqi_lsn_floor(UINT64_MAX - 8191 + 24, 16 << 20) == UINT64_MAX - 8191);
}

/* ---- What a session has seen ----------------------------------------------------------------- */

static struct pqi_seen raised(uint32_t timeline, uint64_t lsn, uint32_t by_timeline,
                              uint64_t by_lsn)
{
    struct pqi_seen seen = {timeline, lsn};
    pqi_seen_raise(&seen, by_timeline, by_lsn);
    return seen;
}

static void a_session_that_saw_nothing_takes_what_it_sees(void **state)
{
    (void)state;
    struct pqi_seen seen = raised(0, 0, 3, 500);
    assert_int_equal(seen.timeline, 3);
    assert_int_equal(seen.lsn, 500);
    seen = raised(0, 0, 0, 500); /* from a server that may not tell its timeline */
    assert_int_equal(seen.timeline, 0);
    assert_int_equal(seen.lsn, 500);
}

static void a_later_timeline_counts_before_a_later_position(void **state)
{
    (void)state;
    struct pqi_seen seen = raised(1, 900, 2, 500);
    assert_int_equal(seen.timeline, 2);
    assert_int_equal(seen.lsn, 500);
    seen = raised(0, 900, 2, 500);
    assert_int_equal(seen.timeline, 2);
    assert_int_equal(seen.lsn, 500);
    seen = raised(2, 500, 1, 900);
    assert_int_equal(seen.timeline, 2);
    assert_int_equal(seen.lsn, 500);
}

static void an_unknown_timeline_raises_only_the_position(void **state)
{
    (void)state;
    struct pqi_seen seen = raised(2, 500, 0, 900);
    assert_int_equal(seen.timeline, 2);
    assert_int_equal(seen.lsn, 900);
    seen = raised(2, 500, 0, 400);
    assert_int_equal(seen.lsn, 500);
}

/* Every small pair of what was seen and what is seen. */
static void what_was_seen_never_falls(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < 4; t++)
        for (uint64_t l = 0; l < 4; l++)
            for (uint32_t by_t = 0; by_t < 4; by_t++)
                for (uint64_t by_l = 0; by_l < 4; by_l++) {
                    struct pqi_seen seen = raised(t, l, by_t, by_l);
                    bool later = seen.timeline > t || (seen.timeline == t && seen.lsn >= l);
                    bool covers = seen.timeline > by_t || seen.lsn >= by_l;
                    bool either = (seen.timeline == t || seen.timeline == by_t) &&
                                  (seen.lsn == l || seen.lsn == by_l);
                    if (!later || !covers || !either)
                        fail_msg("%u/%" PRIu64 " raised by %u/%" PRIu64 " is %u/%" PRIu64, t, l,
                                 by_t, by_l, seen.timeline, seen.lsn);
                    struct pqi_seen again = raised(seen.timeline, seen.lsn, by_t, by_l);
                    assert_memory_equal(&again.lsn, &seen.lsn, sizeof seen.lsn);
                    assert_int_equal(again.timeline, seen.timeline);
                }
}

static void a_server_is_fresh_only_if_position_and_timeline_are(void **state)
{
    (void)state;
    static const struct {
        uint32_t timeline;
        uint64_t replayed;
        bool fresh;
    } servers[] = {
        {2, 500, true},  {2, 501, true},  {2, 499, false},
        {3, 500, true},  {3, 499, false}, {1, 500, false},
        {1, 900, false}, {1, 499, false}, {0, 500, false}, /* not proven */
        {0, 499, false}, {2, 0, false},   {UINT32_MAX, UINT64_MAX, true},
    };
    const struct pqi_seen seen = {2, 500};
    for (size_t i = 0; i < COUNT(servers); i++)
        if (pqi_seen_fresh(&seen, servers[i].timeline, servers[i].replayed) != servers[i].fresh)
            fail_msg("a server at %u/%" PRIu64 " is judged wrongly", servers[i].timeline,
                     servers[i].replayed);
}

static void an_unproven_timeline_will_do_for_who_has_seen_no_proven_one(void **state)
{
    (void)state;
    const struct pqi_seen seen = {0, 500};
    assert_true(pqi_seen_fresh(&seen, 0, 500));
    assert_true(pqi_seen_fresh(&seen, 1, 500));
    assert_false(pqi_seen_fresh(&seen, 0, 499));
    assert_false(pqi_seen_fresh(&seen, 1, 499));
}

static void to_a_session_that_saw_nothing_every_server_is_fresh(void **state)
{
    (void)state;
    const struct pqi_seen nothing = {0, 0};
    for (uint32_t timeline = 0; timeline < 3; timeline++)
        assert_true(pqi_seen_fresh(&nothing, timeline, 0));
}

static void where_a_session_read_it_may_read_again(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < 4; t++)
        for (uint64_t l = 0; l < 4; l++)
            for (uint32_t at_t = 0; at_t < 4; at_t++)
                for (uint64_t at_l = 0; at_l < 4; at_l++) {
                    struct pqi_seen seen = {t, l};
                    if (!pqi_seen_fresh(&seen, at_t, at_l))
                        continue;
                    pqi_seen_raise(&seen, at_t, at_l);
                    assert_true(pqi_seen_fresh(&seen, at_t, at_l));
                }
}

static void what_a_replica_has_shown_may_be_a_record_beyond_what_it_counts_as_replayed(void **state)
{
    (void)state;
    assert_true(pqi_lsn_shown(1000, 1000) == 1000); /* there is no more that it could show */
    assert_true(pqi_lsn_shown(1000, 1001) == 1001);
    assert_true(pqi_lsn_shown(1000, 9000) == 1001);
    assert_true(pqi_lsn_shown(1000, 0) == 1001);   /* it is not streamed to: nobody knows */
    assert_true(pqi_lsn_shown(1000, 900) == 1001); /* or was not, lately */
    assert_true(pqi_lsn_shown(UINT64_MAX, 0) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            what_a_replica_has_shown_may_be_a_record_beyond_what_it_counts_as_replayed),
        cmocka_unit_test(a_position_is_read),
        cmocka_unit_test(what_is_no_position_is_refused_and_nothing_is_written),
        cmocka_unit_test(every_position_is_read_as_postgresql_writes_it),
        cmocka_unit_test(the_insert_position_of_every_byte_is_rounded_to_what_a_replica_reaches),
        cmocka_unit_test(a_place_that_is_no_header_stays),
        cmocka_unit_test(a_segment_has_the_size_that_its_server_says),
        cmocka_unit_test(while_the_size_is_not_known_only_pages_count),
        cmocka_unit_test(the_highest_positions_do_not_overflow),
        cmocka_unit_test(a_session_that_saw_nothing_takes_what_it_sees),
        cmocka_unit_test(a_later_timeline_counts_before_a_later_position),
        cmocka_unit_test(an_unknown_timeline_raises_only_the_position),
        cmocka_unit_test(what_was_seen_never_falls),
        cmocka_unit_test(a_server_is_fresh_only_if_position_and_timeline_are),
        cmocka_unit_test(an_unproven_timeline_will_do_for_who_has_seen_no_proven_one),
        cmocka_unit_test(to_a_session_that_saw_nothing_every_server_is_fresh),
        cmocka_unit_test(where_a_session_read_it_may_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
