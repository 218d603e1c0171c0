/* One of two replicas is frozen and thawed, again and again, under reads that have 300 ms: none of them fails.
 * And who waits for a connection has its turn. Fleet: one shard, two replicas.
 *
 * Beside them somebody asks the replica that is well, by plain libpq: where that gets no answer in the same time
 * either, it was the machine that stood still, and what failed meanwhile is counted apart; likewise where somebody
 * who only sleeps and works a little lost a third of that time. */
#include "live.h"

#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define P "shard0/primary"
#define R1 "shard0/replica1"
#define R2 "shard0/replica2"

enum { THREADS = 16, SUBMITTED = 16, ROUNDS = 3, FROZEN_MS = 1500, KEPT = 400000 };

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int deadline_ms(void)
{
    const char *text = getenv("FREEZE_DEADLINE_MS");
    return text ? atoi(text) : live_slow_build() ? 4000 : 300;
}

/* ---- What was read -------------------------------------------------------------------------- */

struct read {
    _Atomic int64_t begun_us;
    _Atomic int us, code;
};

static struct load {
    pqr *db;
    int level;
    _Atomic int deadline_ms;
    _Atomic bool stop;
    _Atomic int n;
    struct read reads[KEPT];
    char text[8][256]; /* of the first failures */
    _Atomic int failed;
} load;

static void keep(struct read *r, int64_t begun_us, int code)
{
    atomic_store(&r->code, code);
    atomic_store(&r->us, (int)(now_us() - begun_us));
    atomic_store(&r->begun_us, begun_us);
}

static void note(int64_t begun_us, const pqr_error *err)
{
    int i = atomic_fetch_add(&load.n, 1);
    if (i < KEPT)
        keep(&load.reads[i], begun_us, err->code);
    int failed = err->code != PQR_OK ? atomic_fetch_add(&load.failed, 1) : 8;
    if (failed < 8)
        snprintf(load.text[failed], sizeof load.text[0], "%.60s: %s: %.150s", err->node,
                 pqr_code_name(err->code), err->message);
}

static void *read_on(void *arg)
{
    (void)arg;
    while (!atomic_load(&load.stop)) {
        pqr_session *s = live_session(load.db, "acme");
        int64_t begun = now_us();
        pqr_read(s,
                 PQR_QUERY(.sql = "select 1", .level = load.level,
                           .deadline_ms = atomic_load(&load.deadline_ms)),
                 NULL, &live_error);
        note(begun, &live_error);
        pqr_session_close(s);
        live_sleep_ms(2);
    }
    return NULL;
}

/* ---- The same from a loop --------------------------------------------------------------------- */

struct submitted {
    pqr_loop *loop;
    pqr_session *s;
    int64_t begun_us;
    bool over;
};

static void on_done(void *arg, const pqr_done *done)
{
    struct submitted *sub = arg;
    assert_false(sub->over);
    note(sub->begun_us, done->err);
    pqr_result_free(done->res);
    sub->over = true;
}

static void submit(struct submitted *sub)
{
    pqr_session_close(sub->s);
    sub->s = live_session(load.db, "acme");
    sub->over = false;
    sub->begun_us = now_us();
    OK(pqr_submit_read(sub->loop, sub->s,
                       PQR_QUERY(.sql = "select 1", .level = load.level,
                                 .deadline_ms = atomic_load(&load.deadline_ms)),
                       on_done, sub, NULL, &live_error));
}

static void *read_by_loop(void *arg)
{
    (void)arg;
    pqr_loop *loop;
    struct submitted sub[SUBMITTED] = {0};
    OK(pqr_loop_open(load.db, &loop, &live_error));
    for (int i = 0; i < SUBMITTED; i++) {
        sub[i].loop = loop;
        submit(&sub[i]);
    }
    for (int left = SUBMITTED; left > 0;) {
        struct pollfd p = {.fd = pqr_loop_fd(loop), .events = POLLIN};
        poll(&p, 1, 60000);
        pqr_loop_dispatch(loop, 0);
        left = 0;
        for (int i = 0; i < SUBMITTED; i++) {
            if (sub[i].over && !atomic_load(&load.stop))
                submit(&sub[i]);
            left += !sub[i].over;
        }
        live_sleep_ms(2);
    }
    for (int i = 0; i < SUBMITTED; i++)
        pqr_session_close(sub[i].s);
    pqr_loop_close(loop);
    return NULL;
}

/* ---- Beside them -------------------------------------------------------------------------------- */

static struct beside {
    _Atomic bool stop;
    int n, nsleeps;
    struct read stalls[10000]; /* answers that took long */
    struct read sleeps[10000]; /* and sleeps, with a millisecond's work behind each */
} beside;

static int64_t worked_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void *sleep_beside(void *arg)
{
    (void)arg;
    while (!atomic_load(&beside.stop)) {
        int64_t begun = now_us();
        live_sleep_ms(9);
        for (int64_t from = worked_us(); worked_us() - from < 1000;)
            ;
        if (now_us() - begun > 20000 && beside.nsleeps < 10000)
            keep(&beside.sleeps[beside.nsleeps++], begun, 0);
    }
    return NULL;
}

/* A round trip on a link that is there, and now and then a new one: reads need both. */
static void *ask_beside(void *arg)
{
    (void)arg;
    PGconn *pg = NULL;
    for (int i = 0; !atomic_load(&beside.stop); i++) {
        int64_t begun = now_us();
        if (i % 20 == 0) {
            PQfinish(pg);
            pg = PQconnectdb(getenv("DATABASE_REPLICA_2_URL"));
        }
        PQclear(PQexec(pg, "select 1"));
        int us = (int)(now_us() - begun);
        if (us > 20000 && beside.n < 10000)
            keep(&beside.stalls[beside.n++], begun, 0);
        live_sleep_ms(2);
    }
    PQfinish(pg);
    return NULL;
}

/* Of the time of a read, how much do these take? */
static int within_us(const struct read *r, const struct read *stalls, int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++) {
        int64_t from = stalls[i].begun_us, to = from + stalls[i].us;
        from = from > r->begun_us ? from : r->begun_us;
        to = to < r->begun_us + r->us ? to : r->begun_us + r->us;
        sum += to > from ? (int)(to - from) : 0;
    }
    return sum;
}

/* How much did one that waited beside it lose? */
static int stalled_us(const struct read *r)
{
    int asked = within_us(r, beside.stalls, beside.n);
    int slept = within_us(r, beside.sleeps, beside.nsleeps);
    return asked > slept ? asked : slept;
}

/* ---- Freezing ----------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Of the reads that began in that time. */
static int p99_us(int64_t from_us, int64_t to_us)
{
    static int all[KEPT];
    int n = 0, most = atomic_load(&load.n);
    for (int i = 0; i < most && i < KEPT; i++)
        if (load.reads[i].begun_us >= from_us && load.reads[i].begun_us < to_us)
            all[n++] = load.reads[i].us;
    qsort(all, (size_t)n, sizeof *all, by_size);
    return n > 0 ? all[n * 99 / 100] : -1;
}

static void freeze_and_thaw(int round)
{
    int64_t before = now_us();
    live_sleep_ms(500);
    int64_t frozen = now_us();
    fleet("stop " R1);
    live_sleep_ms(FROZEN_MS);
    int64_t thawed = now_us();
    fleet("cont " R1);
    EVENTUALLY(20000, serves_reads(load.db, R1));
    live_sleep_ms(300);
    int was = p99_us(before, frozen), back = -1;
    for (int64_t w = frozen; w < thawed && back < 0; w += 100000)
        if (p99_us(w, w + 100000) <= 2 * was)
            back = (int)(w - frozen) / 1000;
    print_message("  round %d: p99 %.1f ms before, within twice that %d ms after it froze; "
                  "%.1f ms in the second after it thawed\n",
                  round, was / 1000.0, back, p99_us(thawed, thawed + 1000000) / 1000.0);
}

static void count_failures(const char *how)
{
    int failed = 0, excused = 0, worst = 0, beside_us = 0;
    for (int i = 0; i < atomic_load(&load.n) && i < KEPT; i++) {
        const struct read *r = &load.reads[i];
        bool stood = r->code != PQR_OK && stalled_us(r) >= deadline_ms() * 1000 / 3;
        failed += r->code != PQR_OK && !stood;
        excused += stood;
        worst = r->us > worst ? r->us : worst;
    }
    for (int i = 0; i < beside.n; i++)
        beside_us = beside.stalls[i].us > beside_us ? beside.stalls[i].us : beside_us;
    print_message("%s: %d reads of %d ms, %d failed (%d more while the machine stood still), the "
                  "longest took %d ms; the longest wait beside them: %d ms\n",
                  how, atomic_load(&load.n), deadline_ms(), failed, excused, worst / 1000,
                  beside_us / 1000);
    for (int i = 0; i < atomic_load(&load.failed) && i < 8; i++)
        print_message("  %s\n", load.text[i]);
    assert_int_equal(failed, 0);
}

static void freeze_often(const char *lanes, int level)
{
    pthread_t thread[THREADS], loop, eyes, sleeper;
    memset(&load, 0, sizeof load);
    memset(&beside, 0, sizeof beside);
    load.db = READY_ROUTER(lanes, "DB_HEALTH_INTERVAL=60");
    load.level = level;
    load.deadline_ms = 30000; /* until all are connected, everywhere */
    EVENTUALLY(5000, serves_reads(load.db, R1) && serves_reads(load.db, R2));
    for (int i = 0; i < THREADS; i++)
        pthread_create(&thread[i], NULL, read_on, NULL);
    pthread_create(&loop, NULL, read_by_loop, NULL);
    pthread_create(&eyes, NULL, ask_beside, NULL);
    pthread_create(&sleeper, NULL, sleep_beside, NULL);
    EVENTUALLY(30000, atomic_load(&load.n) > 2000);
    atomic_store(&load.deadline_ms, deadline_ms());
    for (int i = 0; i < ROUNDS; i++)
        freeze_and_thaw(i + 1);
    atomic_store(&load.stop, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    pthread_join(loop, NULL);
    atomic_store(&beside.stop, true);
    pthread_join(eyes, NULL);
    pthread_join(sleeper, NULL);
    count_failures(lanes);
    pqr_close(load.db, 0);
}

static void no_read_on_lanes_fails_while_a_replica_freezes_and_thaws(void **state)
{
    (void)state;
    freeze_often("DB_LANES=3", PQR_LEVEL_SESSION);
}

static void nor_one_on_a_connection_of_its_own(void **state)
{
    (void)state;
    freeze_often("DB_LANES=0", PQR_LEVEL_ANY);
}

/* As where the pool is small: they stand in its queue. */
static void nor_one_that_waits_for_a_connection(void **state)
{
    (void)state;
    freeze_often("DB_CONNECTION_LIMIT=2", PQR_LEVEL_ANY);
}

/* ---- Turns --------------------------------------------------------------------------------------- */

struct turn {
    pqr *db;
    int came; /* as which */
};
static _Atomic int turns;

static void *begin_in_turn(void *arg)
{
    struct turn *t = arg;
    pqr_tx *tx;
    pqr_session *s = live_session(t->db, "acme");
    OK(pqr_begin(s, NULL, &tx, &live_error));
    t->came = atomic_fetch_add(&turns, 1);
    pqr_rollback(tx);
    pqr_session_close(s);
    return NULL;
}

/* However often they look meanwhile whether the server hangs. */
static void who_waits_for_a_connection_keeps_its_place(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=3", "DB_LANES=0");
    pqr_session *s = live_session(db, "acme");
    for (int i = 0; i < 5; i++) {
        pqr_tx *tx[2];
        struct turn turn[2] = {{db, -1}, {db, -1}};
        pthread_t thread[2];
        OK(pqr_begin(s, NULL, &tx[0], &live_error));
        OK(pqr_begin(s, NULL, &tx[1], &live_error));
        atomic_store(&turns, 0);
        for (int j = 0; j < 2; j++) {
            pthread_create(&thread[j], NULL, begin_in_turn, &turn[j]);
            EVENTUALLY(20000, health_of(db, P).conns_waiting == j + 1);
            live_sleep_ms(30);
        }
        live_sleep_ms(150 + 37 * i);
        pqr_rollback(tx[0]);
        pthread_join(thread[0], NULL);
        pthread_join(thread[1], NULL);
        pqr_rollback(tx[1]);
        assert_int_equal(turn[0].came, 0);
        assert_int_equal(turn[1].came, 1);
    }
    pqr_session_close(s);
    pqr_close(db, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_read_on_lanes_fails_while_a_replica_freezes_and_thaws),
        cmocka_unit_test(nor_one_on_a_connection_of_its_own),
        cmocka_unit_test(nor_one_that_waits_for_a_connection),
        cmocka_unit_test(who_waits_for_a_connection_keeps_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
