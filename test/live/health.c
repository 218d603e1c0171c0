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
        print_error("%s: %s: %s (%d ms after the begin)\n", live_error.node, pqr_code_name(code),
                    live_error.message, (int)(live_now_ms() - l->begun_ms));
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
    return text ? atoi(text) : live_slow_build() ? 8000 : 3000;
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

/* ---- Replicas that are lost, or late ---------------------------------------------------------- */

static const char *read_at(pqr *db, int level)
{
    static char source[64];
    pqr_session *s = live_session(db, "acme");
    pqr_result *res = NULL;
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1", .level = level), &res, &live_error));
    snprintf(source, sizeof source, "%s", pqr_source(res));
    pqr_result_free(res);
    pqr_session_close(s);
    return source;
}

static void is_refused(pqr *db, int level)
{
    pqr_session *s = live_session(db, "acme");
    FAILS(PQR_E_FALLBACK,
          pqr_read(s, PQR_QUERY(.sql = "select 1", .level = level, .deadline_ms = 300), NULL,
                   &live_error));
    says("DB_FALLBACK_PERCENT");
    assert_int_equal(live_error.retry, PQR_RETRY_SAFE);
    pqr_session_close(s);
}

static pqr_tx *hold_a_read(pqr_session *s)
{
    pqr_tx *tx;
    OK(pqr_begin(s, PQR_TX(.read_only = 1), &tx, &live_error));
    return tx;
}

static void *read_once_more(void *arg)
{
    return strcmp(read_at(arg, PQR_LEVEL_SESSION), P) == 0 ? arg : NULL;
}

/* Two of four connections: a third read waits until one of them is back. Writes always get theirs. */
static void share_of_two(void)
{
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=4", "DB_POOL_TIMEOUT=10", QUICK);
    pqr_session *s = live_session(db, "acme");
    pqr_tx *tx[2] = {hold_a_read(s), hold_a_read(s)};
    pthread_t third;
    pthread_create(&third, NULL, read_once_more, db);
    live_sleep_ms(300);
    assert_int_equal(health_of(db, P).conns_used, 3); /* the monitor's and two */
    run_write(db, "acme", "select 1");
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1", .level = PQR_LEVEL_PRIMARY), NULL, &live_error));
    pqr_rollback(tx[0]);
    void *served;
    pthread_join(third, &served);
    assert_non_null(served);
    pqr_rollback(tx[1]);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void with_the_replicas_lost_reads_take_no_more_than_their_share_of_the_primary(void **state)
{
    (void)state;
    fleet("kill " R1);
    fleet("kill " R2);
    pqr *none = READY_ROUTER("DB_FALLBACK_PERCENT=0", QUICK);
    pqr *all = READY_ROUTER("DB_FALLBACK_PERCENT=100", QUICK);
    is_refused(none, PQR_LEVEL_SESSION);
    is_refused(none, PQR_LEVEL_ANY);
    assert_string_equal(read_at(none, PQR_LEVEL_PRIMARY), P); /* that is no fallback */
    run_write(none, "acme", "select 1");
    assert_string_equal(read_at(all, PQR_LEVEL_SESSION), P);
    assert_string_equal(read_at(all, PQR_LEVEL_ANY), P);
    share_of_two();
    fleet("start " R1);
    fleet("start " R2);
    EVENTUALLY(20000, serves_reads(none, R1) && serves_reads(none, R2));
    assert_string_not_equal(read_at(none, PQR_LEVEL_SESSION), P);
    pqr_close(none, 0);
    pqr_close(all, 0);
}

/* At most once in a while: the limits are in bytes, so that no time passes them. */
static void reads_of_level_any_take_replicas_a_little_late_rather_than_the_primary(void **state)
{
    (void)state;
#define LIMIT "DB_MAX_REPLICA_LAG=0", "DB_MAX_REPLICA_LAG_BYTES=20000"
    pqr *strict = READY_ROUTER("DB_MIN_REPLICAS=0", LIMIT, QUICK);
    pqr *easy = READY_ROUTER("DB_MIN_REPLICAS=1", LIMIT, QUICK);
    pqr *stale = READY_ROUTER("DB_MIN_REPLICAS=1", "DB_FALLBACK_PERCENT=0", LIMIT, QUICK);
    fleet("pause-replay " R1);
    fleet("pause-replay " R2);
    ask(P, "insert into load(body) select repeat('x', 100) from generate_series(1, 300)");
    EVENTUALLY(5000, !serves_reads(strict, R1) && !serves_reads(strict, R2));
    EVENTUALLY(5000, !serves_reads(easy, R1) && !serves_reads(easy, R2));
    assert_in_range(health_of(easy, R1).lag_bytes, 20001, 200000);
    assert_string_equal(read_at(strict, PQR_LEVEL_ANY), P);
    assert_string_not_equal(read_at(easy, PQR_LEVEL_ANY), P);
    assert_string_equal(read_at(easy, PQR_LEVEL_SESSION), P);
    /* Ten times beyond the limit it is the primary's turn, unless that has its share. */
    ask(P, "insert into load(body) select repeat('x', 100) from generate_series(1, 3000)");
    EVENTUALLY(5000,
               health_of(easy, R1).lag_bytes > 200000 && health_of(easy, R2).lag_bytes > 200000);
    EVENTUALLY(5000, !serves_reads(stale, R1) && !serves_reads(stale, R2));
    assert_string_equal(read_at(easy, PQR_LEVEL_ANY), P);
    assert_string_not_equal(read_at(stale, PQR_LEVEL_ANY), P);
    is_refused(stale, PQR_LEVEL_SESSION);
    fleet("resume-replay " R1);
    fleet("resume-replay " R2);
    EVENTUALLY(10000, serves_reads(easy, R1) && serves_reads(easy, R2));
    pqr_close(strict, 0);
    pqr_close(easy, 0);
    pqr_close(stale, 0);
}

static void a_process_that_starts_without_the_primary_reads_from_the_replicas(void **state)
{
    (void)state;
    fleet("kill " P);
    pqr *db = ROUTER(QUICK);
    FAILS(PQR_E_NO_PRIMARY, pqr_ready(db, 1000, &live_error));
    says("shard0/primary (");
    for (int i = 0; i < 4; i++) {
        assert_string_not_equal(read_at(db, PQR_LEVEL_ANY), P);
        assert_string_not_equal(read_at(db, PQR_LEVEL_SESSION), P);
    }
    pqr_session *s = live_session(db, "acme");
    FAILS(PQR_E_NO_PRIMARY,
          pqr_write(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 300), NULL, &live_error));
    assert_int_equal(health_of(db, P).condition, PQR_NODE_REFUSED);
    fleet("start " P);
    OK(pqr_ready(db, 10000, &live_error));
    OK(pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    EVENTUALLY(10000, health_of(db, R1).lag_ms >= 0 && serves_reads(db, R1));
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* ---- What is told apart ----------------------------------------------------------------------- */

static void what_is_wrong_with_a_server_is_told_apart(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(QUICK);
    EVENTUALLY(5000, health_of(db, R1).condition == PQR_NODE_FINE);
    fleet("sql " P " \"alter system set default_transaction_read_only = on\"");
    fleet("sql " P " 'select pg_reload_conf()'");
    EVENTUALLY(5000, health_of(db, P).condition == PQR_NODE_READ_ONLY);
    assert_non_null(strstr(health_of(db, P).why, "default_transaction_read_only"));
    fleet("sql " P " 'alter system reset default_transaction_read_only'");
    fleet("sql " P " 'select pg_reload_conf()'");
    EVENTUALLY(5000, health_of(db, P).condition == PQR_NODE_FINE);
    fleet("kill " R1);
    EVENTUALLY(5000, health_of(db, R1).condition == PQR_NODE_REFUSED);
    assert_int_equal(health_of(db, R1).state, PQR_NODE_DOWN);
    fleet("start " R1);
    EVENTUALLY(10000, health_of(db, R1).condition == PQR_NODE_FINE && serves_reads(db, R1));
    run_write(db, "acme", "select 1"); /* it has a connection now */
    fleet("sql " P " 'alter role app connection limit 0'");
    pqr *late = ROUTER(QUICK);
    EVENTUALLY(5000, pqr_ready(late, 100, &live_error) != PQR_OK &&
                         health_of(late, P).condition == PQR_NODE_FULL);
    says("no connection is left");
    assert_string_equal(live_error.sqlstate, "53300");
    run_write(db, "acme", "select 1"); /* who has connections goes on */
    fleet("sql " P " 'alter role app connection limit -1'");
    OK(pqr_ready(late, 10000, &live_error));
    pqr_close(late, 0);
    pqr_close(db, 0);
}

/* ---- Restarts, and new connections ------------------------------------------------------------ */

static void all_servers_restarted_one_after_another_cost_no_read(void **state)
{
    (void)state;
    static const char *const nodes[] = {R1, P, R2};
    struct load *l = calloc(1, sizeof *l);
    l->db = READY_ROUTER("DB_CONNECT_RATE=20");
    l->deadline_ms = 20000;
    l->writes = true;
    EVENTUALLY(5000, serves_reads(l->db, R1) && serves_reads(l->db, R2));
    begin_load(l);
    EVENTUALLY(20000, atomic_load(&l->reads) > 500);
    for (int i = 0; i < 3; i++) {
        fleet("restart %s", nodes[i]);
        EVENTUALLY(20000, health_of(l->db, nodes[i]).state == PQR_NODE_UP);
        EVENTUALLY(20000, serves_reads(l->db, R1) && serves_reads(l->db, R2));
    }
    end_load(l);
    print_message("%d reads, %d failed; %d writes, the worst call %d ms\n", l->reads, l->failed,
                  l->writes_done, l->worst_ms);
    for (int i = 0; i < 3; i++) {
        pqr_node_health h = health_of(l->db, nodes[i]);
        print_message("%s: %d new connections, at most %d in a second\n", nodes[i], (int)h.connects,
                      h.connects_most);
        assert_in_range(h.connects, 2, 1000);
        assert_in_range(h.connects_most, 1, 2 * 20 + 20); /* and the monitor's own tries */
    }
    assert_int_equal(l->failed, 0);
    assert_int_equal(l->writes_unclear, 0);
    pqr_close(l->db, 0);
    free(l);
}

static void *write_once_more(void *arg)
{
    pqr_session *s = live_session(arg, "acme");
    OK(pqr_write(s, PQR_QUERY(.sql = "select pg_sleep(0.2)", .deadline_ms = 60000), NULL,
                 &live_error));
    pqr_session_close(s);
    return NULL;
}

/* Twelve at once want a connection each. */
static int connects_in_a_second(const char *rate)
{
    pqr *db = READY_ROUTER(rate, "DB_POOL_TIMEOUT=60");
    pthread_t t[12];
    for (int i = 0; i < 12; i++)
        pthread_create(&t[i], NULL, write_once_more, db);
    for (int i = 0; i < 12; i++)
        pthread_join(t[i], NULL);
    int most = health_of(db, P).connects_most;
    pqr_close(db, 0);
    return most;
}

static void new_connections_are_bounded_by_the_second(void **state)
{
    (void)state;
    assert_in_range(connects_in_a_second("DB_CONNECT_RATE=2"), 1, 2 * 2 + 1);
    int most = connects_in_a_second("DB_CONNECT_RATE=0");
    assert_in_range(most, 2 * 2 + 2, 13);
}

static int32_t backend_of_read(pqr_session *s, const char *sql)
{
    pqr_result *res;
    OK(pqr_read(s, PQR_QUERY(.sql = sql, .level = PQR_LEVEL_PRIMARY), &res, &live_error));
    int32_t pid = pqr_int32(res, 0, 0);
    pqr_result_free(res);
    return pid;
}

/* libpq's buffer has grown, and does not shrink. */
static void a_connection_that_carried_a_huge_result_is_not_used_again(void **state)
{
    (void)state;
    static const char *const lanes[] = {"DB_LANES=0", "DB_LANES=1"};
    for (int i = 0; i < 2; i++) {
        pqr *db = READY_ROUTER(lanes[i]);
        pqr_session *s = live_session(db, "acme");
        int32_t first = backend_of_read(s, "select pg_backend_pid(), repeat('x', 1000000)");
        assert_int_equal(backend_of_read(s, "select pg_backend_pid(), ''"), first);
        first = backend_of_read(s, "select pg_backend_pid(), repeat('x', 9000000)");
        assert_int_not_equal(backend_of_read(s, "select pg_backend_pid(), ''"), first);
        pqr_session_close(s);
        pqr_close(db, 0);
    }
}

static int prepare(void **state)
{
    (void)state;
    ask(P, "create table load(body text)");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_leave_a_replica_that_is_frozen_under_them),
        cmocka_unit_test(reads_on_connections_of_their_own_leave_it_too),
        cmocka_unit_test(a_long_statement_stays_where_it_runs),
        cmocka_unit_test(a_frozen_primary_is_seen_by_the_writes_that_wait_for_it),
        cmocka_unit_test(with_the_replicas_lost_reads_take_no_more_than_their_share_of_the_primary),
        cmocka_unit_test(reads_of_level_any_take_replicas_a_little_late_rather_than_the_primary),
        cmocka_unit_test(a_process_that_starts_without_the_primary_reads_from_the_replicas),
        cmocka_unit_test(what_is_wrong_with_a_server_is_told_apart),
        cmocka_unit_test(all_servers_restarted_one_after_another_cost_no_read),
        cmocka_unit_test(new_connections_are_bounded_by_the_second),
        cmocka_unit_test(a_connection_that_carried_a_huge_result_is_not_used_again),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
