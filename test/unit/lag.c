/* How far a replica is behind: single stories, and random ones against a history that forgets
 * nothing. */
#include "../../lib/plan/lag.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)

static void expect(const struct pqi_history *h, uint64_t replayed, int64_t bytes, int64_t ms)
{
    struct pqi_lag lag = pqi_lag_of(h, replayed);
    if (lag.bytes != bytes || lag.ms != ms)
        fail_msg("at %" PRIu64 ": %" PRId64 " bytes and %" PRId64 " ms, not %" PRId64
                 " and %" PRId64,
                 replayed, lag.bytes, lag.ms, bytes, ms);
}

/* ---- Stories --------------------------------------------------------------------------------- */

static void before_the_primary_was_seen_nothing_is_known(void **state)
{
    (void)state;
    static const struct pqi_history empty;
    expect(&empty, 0, -1, -1);
    expect(&empty, 1000, -1, -1);
}

static void a_replica_where_the_primary_is_does_not_lag(void **state)
{
    (void)state;
    struct pqi_history h = {0};
    pqi_history_add(&h, 1 * SECOND, 1000);
    expect(&h, 1000, 0, 0);
    pqi_history_add(&h, 2 * SECOND, 1500);
    expect(&h, 1500, 0, 0);
}

static void a_replica_that_is_ahead_of_the_sample_does_not_lag(void **state)
{
    (void)state;
    struct pqi_history h = {0};
    pqi_history_add(&h, 1 * SECOND, 1000);
    expect(&h, 1001, 0, 0);
    expect(&h, UINT64_MAX, 0, 0);
}

static void on_an_idle_primary_nothing_ages(void **state)
{
    (void)state;
    struct pqi_history h = {0};
    pqi_history_add(&h, 1 * SECOND, 1000);
    for (int s = 2; s < 10000; s++) {
        pqi_history_add(&h, s * SECOND, 1000);
        assert_int_equal(h.n, 1);
    }
    expect(&h, 1000, 0, 0);
}

static void the_first_write_after_a_long_rest_is_a_young_one(void **state)
{
    (void)state;
    struct pqi_history h = {0};
    for (int s = 1; s <= 3600; s++)
        pqi_history_add(&h, s * SECOND, 1000);
    pqi_history_add(&h, 3601 * SECOND, 1200);
    expect(&h, 1000, 200, 1000);
    expect(&h, 1199, 1, 1000);
    expect(&h, 1200, 0, 0);
}

/* The written position does not move with a WAL switch on an idle primary; the insert position
 * goes on to the next segment's header. */
static void after_a_wal_switch_an_idle_primary_s_replicas_do_not_lag(void **state)
{
    (void)state;
    const uint64_t segment = 16 << 20;
    struct pqi_history h = {0};
    pqi_history_add(&h, 1 * SECOND, 2 * segment + 1000);
    pqi_history_add(&h, 2 * SECOND, 3 * segment); /* switched: padded to its end */
    for (int s = 3; s < 100; s++)
        pqi_history_add(&h, s * SECOND, 3 * segment);
    expect(&h, 3 * segment, 0, 0);
}

static void a_replica_with_paused_replay_grows_old(void **state)
{
    (void)state;
    struct pqi_history h = {0};
    for (int s = 1; s <= 60; s++) {
        pqi_history_add(&h, s * SECOND, 1000 + 100 * (uint64_t)s);
        if (s > 10)
            expect(&h, 1000 + 100 * 10, (s - 10) * 100, (s - 10) * 1000);
    }
}

/* Its receiver was cut, then the primary went idle: what it misses it misses for ever longer. */
static void a_cut_replica_of_an_idle_primary_grows_old(void **state)
{
    (void)state;
    struct pqi_history h = {0};
    pqi_history_add(&h, 1 * SECOND, 1000);
    pqi_history_add(&h, 2 * SECOND, 1100);
    for (int s = 3; s <= 600; s++) {
        pqi_history_add(&h, s * SECOND, 1100);
        expect(&h, 1000, 100, (s - 1) * 1000);
        expect(&h, 1100, 0, 0);
    }
}

static void while_no_primary_answers_ages_stand_still(void **state)
{
    (void)state;
    struct pqi_history h = {0};
    pqi_history_add(&h, 1 * SECOND, 1000);
    pqi_history_add(&h, 3 * SECOND, 1100);
    for (int asked = 0; asked < 100; asked++)
        expect(&h, 1050, 50, 2000);
}

static void between_two_samples_the_older_one_counts(void **state)
{
    (void)state;
    struct pqi_history h = {0};
    pqi_history_add(&h, 1 * SECOND, 1000);
    pqi_history_add(&h, 2 * SECOND, 2000);
    pqi_history_add(&h, 3 * SECOND, 3000);
    expect(&h, 1999, 1001, 2000);
    expect(&h, 2000, 1000, 1000);
    expect(&h, 2001, 999, 1000);
    expect(&h, 2999, 1, 1000);
}

static void what_is_older_than_the_first_sample_is_not_known(void **state)
{
    (void)state;
    struct pqi_history h = {0};
    pqi_history_add(&h, 1 * SECOND, 1000);
    expect(&h, 999, 1, -1);
    expect(&h, 0, 1000, -1);
    pqi_history_add(&h, 2 * SECOND, 1100);
    expect(&h, 999, 101, -1);
    expect(&h, 1000, 100, 1000);
}

static void a_primary_that_is_behind_the_last_one_starts_anew(void **state)
{
    (void)state;
    struct pqi_history h = {0};
    pqi_history_add(&h, 1 * SECOND, 1000);
    pqi_history_add(&h, 2 * SECOND, 2000);
    pqi_history_add(&h, 3 * SECOND, 1500);
    expect(&h, 1500, 0, 0);
    expect(&h, 1499, 1, -1);
    expect(&h, 1000, 500, -1);
    pqi_history_add(&h, 4 * SECOND, 1600);
    expect(&h, 1500, 100, 1000);
}

static void a_part_of_a_millisecond_is_a_whole_one(void **state)
{
    (void)state;
    static const struct {
        int64_t ns, ms;
    } gaps[] = {{1, 1},      {MS - 1, 1},       {MS, 1},
                {MS + 1, 2}, {1000 * MS, 1000}, {1000 * MS + 1, 1001}};
    for (size_t i = 0; i < sizeof gaps / sizeof *gaps; i++) {
        struct pqi_history h = {0};
        pqi_history_add(&h, 5 * SECOND, 1000);
        pqi_history_add(&h, 5 * SECOND + gaps[i].ns, 1001);
        expect(&h, 1000, 1, gaps[i].ms);
    }
}

/* ---- Thinning -------------------------------------------------------------------------------- */

static void positions_rise(const struct pqi_history *h)
{
    bool rising = h->n >= 1 && h->n <= PQI_HISTORY_MAX;
    for (int i = 1; i < h->n; i++)
        rising &= h->sample[i].lsn > h->sample[i - 1].lsn &&
                  h->sample[i].at_ns > h->sample[i - 1].at_ns;
    assert_true(rising);
}

static void a_long_history_keeps_its_beginning_and_its_last_step(void **state)
{
    (void)state;
    struct pqi_history h = {0};
    for (int s = 0; s < 20000; s++) {
        pqi_history_add(&h, s * SECOND, 1000 + 10 * (uint64_t)s);
        positions_rise(&h);
        if (s > 0) {
            expect(&h, 1000, 10 * s, s * 1000);
            expect(&h, 1000 + 10 * (uint64_t)(s - 1), 10, 1000);
        }
    }
}

/* A second a sample: half a day later an age is still told to a fifth, and never too young. */
static void a_long_history_gets_coarser_only_with_age(void **state)
{
    (void)state;
    struct pqi_history h = {0};
    for (int s = 0; s < 40000; s++) {
        pqi_history_add(&h, s * SECOND, 1000 + 10 * (uint64_t)s);
        if (s % 997 != 0)
            continue;
        for (int age = 1; age <= s; age += 1 + age / 16) {
            int64_t told = pqi_lag_of(&h, 1000 + 10 * (uint64_t)(s - age)).ms;
            int64_t most = age * INT64_C(1000) * 12 / 10 + 1000;
            if (told < age * INT64_C(1000) || told > most)
                fail_msg("after %d s an age of %d s is told as %" PRId64 " ms", s, age, told);
        }
    }
}

static void what_was_known_once_stays_known(void **state)
{
    (void)state;
    struct pqi_history h = {0};
    for (int s = 0; s < 500; s++) {
        pqi_history_add(&h, s * SECOND, 1000 + 10 * (uint64_t)s);
        for (int behind = 0; behind <= s; behind++)
            assert_true(pqi_lag_of(&h, 1000 + 10 * (uint64_t)behind).ms >= 0);
    }
}

/* ---- Random primaries ------------------------------------------------------------------------ */

enum { WRITES = 1500 };

/* What really happened: the primary went past `lsn[i]` at at_ns[i], to lsn[i + 1]. */
struct truth {
    int n;
    int64_t at_ns[WRITES];
    uint64_t lsn[WRITES + 1];
};

static unsigned seed;

static int64_t upto(int64_t most)
{
    return 1 +
           (int64_t)(((uint64_t)rand_r(&seed) << 31 | (uint64_t)rand_r(&seed)) % (uint64_t)most);
}

/* How long, at `now`, the primary had been past a position: exactly. 0: it never was. */
static int64_t true_age(const struct truth *t, int64_t now, uint64_t replayed)
{
    int first = 0, end = t->n; /* the first write past it lies between */
    while (first < end) {
        int middle = (first + end) / 2;
        if (t->lsn[middle + 1] > replayed)
            end = middle;
        else
            first = middle + 1;
    }
    return first < t->n && t->at_ns[first] <= now ? now - t->at_ns[first] : 0;
}

static void compare(const struct truth *t, const struct pqi_history *h, uint64_t replayed,
                    unsigned of)
{
    const struct pqi_sample *newest = &h->sample[h->n - 1];
    struct pqi_lag lag = pqi_lag_of(h, replayed);
    int64_t age = true_age(t, newest->at_ns, replayed);
    bool known = replayed >= h->sample[0].lsn;
    if (lag.bytes != (replayed < newest->lsn ? (int64_t)(newest->lsn - replayed) : 0))
        fail_msg("seed %u: at %" PRIu64 ": %" PRId64 " bytes", of, replayed, lag.bytes);
    if (known ? lag.ms < 0 : lag.ms != -1)
        fail_msg("seed %u: at %" PRIu64 ": %" PRId64 " ms", of, replayed, lag.ms);
    if (known && lag.ms * MS < age)
        fail_msg("seed %u: at %" PRIu64 ": %" PRId64 " ms, and truly %" PRId64 " ns", of, replayed,
                 lag.ms, age);
}

/* One primary that writes and rests at random, sampled at random; now and then some replica's
 * position is judged. */
static void live(unsigned story)
{
    static struct truth t;
    struct pqi_history h = {0};
    seed = story;
    t = (struct truth){.lsn = {1000}};
    uint64_t first = 0;
    int64_t now = 0, write_at = upto(SECOND), sample_at = upto(SECOND);
    int64_t rests = story % 3 == 0 ? 20 * SECOND : SECOND,
            samples = story % 5 == 0 ? 100 * MS : SECOND;
    for (int events = 0; events < 5000 && t.n < WRITES; events++) {
        now = write_at < sample_at ? write_at : sample_at;
        if (write_at <= sample_at) {
            t.at_ns[t.n] = now;
            t.lsn[t.n + 1] = t.lsn[t.n] + (uint64_t)upto(1000);
            t.n++;
            write_at = now + upto(rests);
            continue;
        }
        pqi_history_add(&h, now, t.lsn[t.n]);
        first = first ? first : t.lsn[t.n];
        sample_at = now + upto(samples);
        positions_rise(&h);
        assert_true(h.sample[0].lsn == first);
        for (int i = 0; i < 4; i++)
            compare(&t, &h, (uint64_t)upto((int64_t)t.lsn[t.n] + 100), story);
        compare(&t, &h, t.lsn[t.n - (t.n > 0)], story);
    }
}

static void no_age_is_ever_told_younger_than_it_is(void **state)
{
    (void)state;
    for (unsigned story = 1; story <= 100; story++)
        live(story);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_the_primary_was_seen_nothing_is_known),
        cmocka_unit_test(a_replica_where_the_primary_is_does_not_lag),
        cmocka_unit_test(a_replica_that_is_ahead_of_the_sample_does_not_lag),
        cmocka_unit_test(on_an_idle_primary_nothing_ages),
        cmocka_unit_test(the_first_write_after_a_long_rest_is_a_young_one),
        cmocka_unit_test(after_a_wal_switch_an_idle_primary_s_replicas_do_not_lag),
        cmocka_unit_test(a_replica_with_paused_replay_grows_old),
        cmocka_unit_test(a_cut_replica_of_an_idle_primary_grows_old),
        cmocka_unit_test(while_no_primary_answers_ages_stand_still),
        cmocka_unit_test(between_two_samples_the_older_one_counts),
        cmocka_unit_test(what_is_older_than_the_first_sample_is_not_known),
        cmocka_unit_test(a_primary_that_is_behind_the_last_one_starts_anew),
        cmocka_unit_test(a_part_of_a_millisecond_is_a_whole_one),
        cmocka_unit_test(a_long_history_keeps_its_beginning_and_its_last_step),
        cmocka_unit_test(a_long_history_gets_coarser_only_with_age),
        cmocka_unit_test(what_was_known_once_stays_known),
        cmocka_unit_test(no_age_is_ever_told_younger_than_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
