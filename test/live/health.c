/* Servers that are unwell in their several ways, and what reads and people see of it. Fleet: one shard, two
 * replicas. */
#include "live.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define P "shard0/primary"
#define R1 "shard0/replica1"
#define R2 "shard0/replica2"
#define QUICK "DB_HEALTH_INTERVAL=100ms"

/* ---- A load of reads ------------------------------------------------------------------------- */

#define THREADS 16
#define WINDOW_MS 250
#define WINDOWS 400
#define MOST 4000 /* latencies kept of each window */

struct load {
    pqr *db;
    _Atomic int64_t deadline_ms;
    int level;
    bool writes; /* each fourth call is one */
    pthread_t thread[THREADS];
    int64_t begun_ms;
    _Atomic bool stop;
    _Atomic int reads, failed, writes_done, writes_unclear, worst_ms;
    struct {
        _Atomic int n;
        _Atomic int us[MOST];
    } window[WINDOWS];
};

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void note(struct load *l, int64_t begun_us, int64_t us)
{
    int64_t w = (begun_us / 1000 - l->begun_ms) / WINDOW_MS;
    if (w >= 0 && w < WINDOWS) {
        int i = atomic_fetch_add(&l->window[w].n, 1);
        if (i < MOST)
            atomic_store(&l->window[w].us[i], (int)us);
    }
    int ms = (int)(us / 1000), worst = atomic_load(&l->worst_ms);
    while (ms > worst && !atomic_compare_exchange_weak(&l->worst_ms, &worst, ms))
        ;
}

static void read_once(struct load *l, pqr_session *s)
{
    int64_t begun = now_us();
    int code = pqr_read(s,
                        PQR_QUERY(.sql = "select 1", .level = l->level,
                                  .deadline_ms = atomic_load(&l->deadline_ms)),
                        NULL, &live_error);
    note(l, begun, now_us() - begun);
    atomic_fetch_add(&l->reads, 1);
    if (code != PQR_OK) {
        atomic_fetch_add(&l->failed, 1);
        print_error("%s: %s\n", pqr_code_name(code), live_error.message);
    }
}

static void write_once(struct load *l, pqr_session *s)
{
    int code = pqr_write(s,
                         PQR_QUERY(.sql = "insert into load default values", .deadline_ms = 10000),
                         NULL, &live_error);
    bool honest = code == PQR_OK || code == PQR_E_UNKNOWN || code == PQR_E_LOST ||
                  code == PQR_E_NO_PRIMARY || code == PQR_E_CONNECT || code == PQR_E_DEADLINE;
    atomic_fetch_add(&l->writes_done, code == PQR_OK);
    atomic_fetch_add(&l->writes_unclear, !honest);
    if (!honest)
        print_error("%s: %s\n", pqr_code_name(code), live_error.message);
}

static void *call_on(void *arg)
{
    struct load *l = arg;
    for (int i = 0; !atomic_load(&l->stop); i++) {
        pqr_session *s = live_session(l->db, "acme");
        if (l->writes && i % 4 == 0)
            write_once(l, s);
        else
            read_once(l, s);
        pqr_session_close(s);
        live_sleep_ms(2);
    }
    return NULL;
}

static void begin_load(struct load *l)
{
    l->begun_ms = live_now_ms();
    for (int i = 0; i < THREADS; i++)
        pthread_create(&l->thread[i], NULL, call_on, l);
}

static void end_load(struct load *l)
{
    atomic_store(&l->stop, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(l->thread[i], NULL);
}

static int by_size(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Of the calls that began in these windows. */
static int p99_us(struct load *l, int64_t from, int64_t to)
{
    int *all = calloc((size_t)(to - from) * MOST, sizeof *all), n = 0;
    for (int64_t w = from; w < to && w < WINDOWS; w++)
        for (int i = 0; i < atomic_load(&l->window[w].n) && i < MOST; i++)
            all[n++] = atomic_load(&l->window[w].us[i]);
    qsort(all, (size_t)n, sizeof *all, by_size);
    int p99 = n > 0 ? all[n * 99 / 100] : -1;
    free(all);
    return p99;
}

/* ---- Silence --------------------------------------------------------------------------------- */

static int64_t window_now(const struct load *l)
{
    return (live_now_ms() - l->begun_ms) / WINDOW_MS;
}

/* 300 ms are enough where the machine is not busy with other things. */
static int deadline_ms(void)
{
    const char *text = getenv("HEALTH_DEADLINE_MS");
    return text ? atoi(text) : live_slow_build() ? 5000 : 1500;
}

/* One of two replicas is frozen under load. What is stuck there goes elsewhere in time, and soon nothing goes
 * there any more. The monitor's interval is so long that its own link says nothing. */
static void freeze_one_of_two(const char *lanes, int level)
{
    struct load *l = calloc(1, sizeof *l);
    l->db = READY_ROUTER(lanes, "DB_HEALTH_INTERVAL=60");
    l->deadline_ms = 30000; /* until all are connected, everywhere */
    l->level = level;
    EVENTUALLY(5000, serves_reads(l->db, R1) && serves_reads(l->db, R2));
    begin_load(l);
    EVENTUALLY(20000, atomic_load(&l->reads) > 2000);
    atomic_store(&l->deadline_ms, deadline_ms());
    int64_t warm = window_now(l) + 1;
    live_sleep_ms(1000);
    int64_t frozen_at = window_now(l);
    pqr_stats then, now;
    OK(pqr_stats_get(l->db, &then, sizeof then));
    fleet("stop " R1);
    int64_t frozen_ms = live_now_ms();
    EVENTUALLY(5000, health_of(l->db, R1).state != PQR_NODE_UP);
    pqr_node_health h = health_of(l->db, R1);
    int64_t suspect_ms = live_now_ms() - frozen_ms;
    live_sleep_ms(3000);
    end_load(l);
    assert_int_equal(h.condition, PQR_NODE_SILENT);
    assert_true(h.silent_ms > 0);
    fleet("cont " R1);
    OK(pqr_stats_get(l->db, &now, sizeof now));
    print_message("%d sent elsewhere, %d new connections\n", (int)(now.retries - then.retries),
                  (int)(now.connects - then.connects));
    int before = p99_us(l, warm, frozen_at), back_after = -1;
    for (int64_t w = frozen_at + 1; w < frozen_at + 3000 / WINDOW_MS && back_after < 0; w++)
        if (p99_us(l, w, w + 1) <= 2 * before)
            back_after = (int)(w - frozen_at) * WINDOW_MS;
    print_message("%s: %d reads, %d failed; suspect %d ms after the command that froze it; "
                  "p99 %.1f ms before, within twice that %d ms after, worst %d ms\n",
                  lanes, l->reads, l->failed, (int)suspect_ms, before / 1000.0, back_after,
                  l->worst_ms);
    assert_int_equal(l->failed, 0);
    assert_true(back_after > 0);
    EVENTUALLY(10000, health_of(l->db, R1).state == PQR_NODE_UP && serves_reads(l->db, R1));
    assert_int_equal(health_of(l->db, R1).silent_ms, 0);
    pqr_close(l->db, 0);
    free(l);
}

static void reads_leave_a_replica_that_is_frozen_under_them(void **state)
{
    (void)state;
    freeze_one_of_two("DB_LANES=3", PQR_LEVEL_SESSION);
}

static void reads_on_connections_of_their_own_leave_it_too(void **state)
{
    (void)state;
    freeze_one_of_two("DB_LANES=0", PQR_LEVEL_ANY);
}

/* It takes its time on a server that is well: nothing is sent twice. */
static void a_long_statement_stays_where_it_runs(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=60");
    pqr_session *s = live_session(db, "acme");
    pqr_stats stats;
    for (int i = 0; i < 2; i++)
        OK(pqr_read(s, PQR_QUERY(.sql = "select pg_sleep(1.5)", .deadline_ms = 10000), NULL,
                    &live_error));
    OK(pqr_stats_get(db, &stats, sizeof stats));
    assert_int_equal(stats.retries, 0);
    assert_int_equal(health_of(db, R1).state, PQR_NODE_UP);
    assert_int_equal(health_of(db, R2).state, PQR_NODE_UP);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_frozen_primary_is_seen_by_the_writes_that_wait_for_it(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=60");
    pqr_session *s = live_session(db, "acme");
    OK(pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    fleet("stop " P);
    int code = pqr_write(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 1000), NULL, &live_error);
    pqr_node_health h = health_of(db, P);
    fleet("cont " P);
    assert_int_equal(code, PQR_E_UNKNOWN);
    assert_int_not_equal(h.state, PQR_NODE_UP);
    assert_int_equal(h.condition, PQR_NODE_SILENT);
    EVENTUALLY(10000, health_of(db, P).state == PQR_NODE_UP);
    pqr_session_close(s);
    pqr_close(db, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_leave_a_replica_that_is_frozen_under_them),
        cmocka_unit_test(reads_on_connections_of_their_own_leave_it_too),
        cmocka_unit_test(a_long_statement_stays_where_it_runs),
        cmocka_unit_test(a_frozen_primary_is_seen_by_the_writes_that_wait_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
