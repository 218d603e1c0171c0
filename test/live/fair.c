/* Overload: one tenant with far more calls than the servers have room for does not hold up the
 * others. Fleet: one shard, no replica. */
#include "live.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PATIENCE_MS 60000 /* more than anything takes: beyond it something hangs */

/* ---- Calls of a loop, and in which order they end ----------------------------------------------- */

enum { HEAVY = 600, LIGHT = 4 };

static struct crowd {
    pqr *db;
    pqr_loop *loop;
    pqr_session *heavy, *light[LIGHT];
    int submitted, ended, failed;
    int light_ended_at[LIGHT]; /* how many had ended before it; -1: it has not */
    int refused_heavy, refused_light;
} crowd;

struct one {
    int light; /* its number; -1: a heavy one's */
};

static struct one ones[HEAVY + LIGHT];

static void note(void *arg, const pqr_done *done)
{
    const struct one *o = arg;
    bool full = done->err->code == PQR_E_POOL_FULL;
    crowd.failed += done->err->code != PQR_OK && !full;
    crowd.refused_heavy += full && o->light < 0;
    crowd.refused_light += full && o->light >= 0;
    if (o->light >= 0)
        crowd.light_ended_at[o->light] = crowd.ended;
    crowd.ended++;
    pqr_result_free(done->res);
}

static void open_crowd(pqr *db)
{
    crowd = (struct crowd){.db = db};
    OK(pqr_loop_open(db, &crowd.loop, &live_error));
    crowd.heavy = live_session(db, "heavy");
    for (int i = 0; i < LIGHT; i++) {
        char tenant[20];
        snprintf(tenant, sizeof tenant, "light %d", i);
        crowd.light[i] = live_session(db, tenant);
        crowd.light_ended_at[i] = -1;
    }
}

static void turn(void)
{
    struct pollfd p = {.fd = pqr_loop_fd(crowd.loop), .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    assert_true(pqr_loop_dispatch(crowd.loop, 0) >= 0);
}

static void close_crowd(void)
{
    while (crowd.ended < crowd.submitted)
        turn();
    pqr_session_close(crowd.heavy);
    for (int i = 0; i < LIGHT; i++)
        pqr_session_close(crowd.light[i]);
    pqr_loop_close(crowd.loop);
    pqr_close(crowd.db, 1000);
    assert_int_equal(crowd.failed, 0);
}

static void submit(int light, bool write, const char *sql)
{
    pqr_session *s = light < 0 ? crowd.heavy : crowd.light[light];
    struct one *o = &ones[crowd.submitted++];
    *o = (struct one){light};
    const pqr_query *q = PQR_QUERY(.sql = sql, .name = "one_of_many");
    if (write)
        OK(pqr_submit_write(crowd.loop, s, q, note, o, NULL, &live_error));
    else
        OK(pqr_submit_read(crowd.loop, s, q, note, o, NULL, &live_error));
}

static void all_light_ended_before(int most)
{
    for (int i = 0; i < LIGHT; i++)
        if (crowd.light_ended_at[i] < 0 || crowd.light_ended_at[i] >= most)
            fail_msg("the call of light tenant %d came after %d others", i,
                     crowd.light_ended_at[i]);
}

/* ---- The tests --------------------------------------------------------------------------------- */

static void writes_of_a_light_tenant_do_not_wait_for_all_those_of_a_heavy_one(void **state)
{
    (void)state;
    open_crowd(READY_ROUTER("DB_CONNECTION_LIMIT=4", "DB_POOL_QUEUE_LIMIT=10000"));
    for (int i = 0; i < HEAVY; i++)
        submit(-1, true, "select 1");
    for (int i = 0; i < LIGHT; i++)
        submit(i, true, "select 1");
    close_crowd();
    all_light_ended_before(40); /* connections in use, and one of each tenant before it */
}

/* How long it takes is known first: then it travels with others, in segments. */
static void reads_of_a_light_tenant_do_not_wait_for_all_those_of_a_heavy_one(void **state)
{
    (void)state;
    open_crowd(READY_ROUTER("DB_CONNECTION_LIMIT=4", "DB_LANES=1"));
    for (int i = 0; i < 20; i++) {
        submit(-1, false, "select 1");
        while (crowd.ended < crowd.submitted)
            turn();
    }
    int before = crowd.ended;
    for (int i = 0; i < HEAVY - 20; i++)
        submit(-1, false, "select 1");
    for (int i = 0; i < LIGHT; i++)
        submit(i, false, "select 1");
    close_crowd();
    all_light_ended_before(before + 300); /* two segments under way, and the one they travel in */
}

static void a_full_queue_refuses_the_tenant_that_has_most_in_it(void **state)
{
    (void)state;
    open_crowd(READY_ROUTER("DB_CONNECTION_LIMIT=3", "DB_POOL_QUEUE_LIMIT=50"));
    for (int i = 0; i < 200; i++)
        submit(-1, true, "select 1");
    for (int i = 0; i < LIGHT; i++)
        submit(i, true, "select 1");
    close_crowd();
    assert_int_equal(crowd.refused_light, 0);
    assert_true(crowd.refused_heavy >= 100);
}

/* Reads that are known to take about a millisecond: two fill a segment. */
static _Atomic bool over;

static void *read_on(void *arg)
{
    pqr_session *s = live_session(arg, "heavy");
    while (!atomic_load(&over))
        OK(pqr_read(s, PQR_QUERY(.sql = "select pg_sleep(0.001)", .deadline_ms = PATIENCE_MS), NULL,
                    &live_error));
    pqr_session_close(s);
    return NULL;
}

static void a_batch_gets_through_a_crowd_of_fast_reads(void **state)
{
    (void)state;
    enum { READERS = 8 };
    pthread_t thread[READERS];
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=4", "DB_LANES=1");
    atomic_store(&over, false);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, read_on, db), 0);
    pqr_session *s = live_session(db, "light");
    live_sleep_ms(100); /* until they are known to be fast */
    for (int i = 0; i < 5; i++) {
        pqr_result *res[2];
        const pqr_query *two[] = {PQR_QUERY(.sql = "select 1", .deadline_ms = PATIENCE_MS / 2),
                                  PQR_QUERY(.sql = "select 2")};
        OK(pqr_read_batch(s, two, 2, res, &live_error));
        assert_int_equal(pqr_int32(res[1], 0, 0), 2);
        pqr_result_free(res[0]);
        pqr_result_free(res[1]);
    }
    atomic_store(&over, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(thread[i], NULL);
    pqr_session_close(s);
    pqr_close(db, 1000);
}

/* ---- What it costs the others, told and not judged ---------------------------------------------- */

enum { OTHERS = 9, CALLS_MOST = 200000 };

static struct side {
    pqr *db;
    const char *tenant;
    int64_t *us;
    int n;
    pthread_t thread;
} sides[OTHERS];

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void *measure(void *arg)
{
    struct side *side = arg;
    pqr_session *s = live_session(side->db, side->tenant);
    while (!atomic_load(&over) && side->n < CALLS_MOST) {
        int64_t before = now_us();
        OK(pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
        side->us[side->n++] = now_us() - before;
    }
    pqr_session_close(s);
    return NULL;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void *call_on(void *arg)
{
    pqr_session *s = live_session(arg, "heavy");
    while (!atomic_load(&over))
        OK(pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    pqr_session_close(s);
    return NULL;
}

/* The others' p99 in `ms`, beside one tenant that calls from so many threads. */
static int64_t others_p99(pqr *db, int heavy, int ms)
{
    static const char *const names[OTHERS] = {"t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"};
    pthread_t thread[64];
    atomic_store(&over, false);
    for (int i = 0; i < OTHERS; i++) {
        sides[i] = (struct side){db, names[i], calloc(CALLS_MOST, sizeof(int64_t)), 0, 0};
        assert_non_null(sides[i].us);
        assert_int_equal(pthread_create(&sides[i].thread, NULL, measure, &sides[i]), 0);
    }
    for (int i = 0; i < heavy; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, call_on, db), 0);
    live_sleep_ms(ms);
    atomic_store(&over, true);
    for (int i = 0; i < heavy; i++)
        pthread_join(thread[i], NULL);
    int64_t *all = calloc((size_t)OTHERS * CALLS_MOST, sizeof *all);
    size_t n = 0;
    assert_non_null(all);
    for (int i = 0; i < OTHERS; i++) {
        pthread_join(sides[i].thread, NULL);
        memcpy(all + n, sides[i].us, (size_t)sides[i].n * sizeof *all);
        n += (size_t)sides[i].n;
        free(sides[i].us);
    }
    assert_true(n > 0);
    qsort(all, n, sizeof *all, by_size);
    int64_t p99 = all[n * 99 / 100];
    free(all);
    return p99;
}

static void one_tenant_at_ten_times_the_load_leaves_every_other_its_answers(void **state)
{
    (void)state;
    const char *asked = getenv("FAIR_MS");
    int ms = asked ? atoi(asked) : 200;
    pqr *db = READY_ROUTER("PQR_LOG=off");
    double ratio[5];
    for (int i = 0; i < 5; i++) {
        int64_t before = others_p99(db, 1, ms), during = others_p99(db, 10, ms);
        ratio[i] = (double)during / (double)before;
        printf("others' p99: %lld us beside one caller of the heavy tenant, %lld us beside ten: "
               "%.2f\n",
               (long long)before, (long long)during, ratio[i]);
    }
    pqr_close(db, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_of_a_light_tenant_do_not_wait_for_all_those_of_a_heavy_one),
        cmocka_unit_test(reads_of_a_light_tenant_do_not_wait_for_all_those_of_a_heavy_one),
        cmocka_unit_test(a_full_queue_refuses_the_tenant_that_has_most_in_it),
        cmocka_unit_test(a_batch_gets_through_a_crowd_of_fast_reads),
        cmocka_unit_test(one_tenant_at_ten_times_the_load_leaves_every_other_its_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
