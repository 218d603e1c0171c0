/* Lanes that never rest, and lanes that do not move. Fleet: one shard, no replica. */
#include "live.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define P "shard0/primary"
#define PATIENCE_MS 60000 /* more than anything takes: beyond it something hangs */

/* ---- Readers that keep a lane busy -------------------------------------------------------------- */

enum { READERS = 12 };

static struct busy {
    pqr *db;
    pthread_t thread[READERS];
    _Atomic bool over;
    _Atomic int answered, failed;
} busy;

/* About a millisecond each: some are under way while others board. */
static void *read_on(void *arg)
{
    (void)arg;
    pqr_session *s = live_session(busy.db, "busy");
    while (!atomic_load(&busy.over))
        if (pqr_read(s, PQR_QUERY(.sql = "select pg_sleep(0.001)", .deadline_ms = PATIENCE_MS),
                     NULL, &live_error) == PQR_OK)
            atomic_fetch_add(&busy.answered, 1);
        else if (atomic_fetch_add(&busy.failed, 1) < 5)
            print_error("%s: %s\n", pqr_code_name(live_error.code), live_error.message);
    pqr_session_close(s);
    return NULL;
}

static void begin_busy(pqr *db)
{
    busy.db = db;
    atomic_store(&busy.over, false);
    atomic_store(&busy.answered, 0);
    atomic_store(&busy.failed, 0);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&busy.thread[i], NULL, read_on, NULL), 0);
}

static void end_busy(void)
{
    atomic_store(&busy.over, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(busy.thread[i], NULL);
    assert_int_equal(atomic_load(&busy.failed), 0);
}

/* ---- Lanes that never rest ---------------------------------------------------------------------- */

static void a_busy_lane_that_can_write_is_closed(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=4", "DB_LANES=1");
    pqr_session *s = live_session(db, "acme");
    begin_busy(db);
    for (int i = 0; i < 10; i++) {
        OK(pqr_read(s, PQR_QUERY(.sql = "select unpin()", .deadline_ms = PATIENCE_MS), NULL,
                    &live_error));
        FAILS(PQR_E_READ_ONLY, pqr_read(s,
                                        PQR_QUERY(.sql = "insert into marks(tenant) values ('x')",
                                                  .deadline_ms = PATIENCE_MS),
                                        NULL, &live_error));
    }
    end_busy();
    assert_int_equal(ask_number(P, "select count(*) from marks where tenant = 'x'"), 0);
    pqr_session_close(s);
    pqr_close(db, 1000);
}

static void a_busy_lane_ends_with_its_lifetime(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=4", "DB_LANES=1", "DB_MAX_LIFETIME=1");
    pqr_session *s = live_session(db, "acme");
    begin_busy(db);
    EVENTUALLY(PATIENCE_MS, ask_number(P, "select count(*) from pg_stat_activity where"
                                          " query like 'select pg_sleep(0.001)%%'") == 1);
    long first = ask_number(P, "select pid from pg_stat_activity where"
                               " query like 'select pg_sleep(0.001)%%'");
    EVENTUALLY(PATIENCE_MS / 2,
               ask_number(P, "select count(*) from pg_stat_activity where pid = %ld", first) == 0);
    end_busy();
    pqr_session_close(s);
    pqr_close(db, 1000);
}

/* ---- Servers that stand still ------------------------------------------------------------------- */

/* As long as a statement known to be fast is waited for, and more. The lane has all the answers a moment
 * later; the pool has nothing for those who leave it. */
static void reads_stay_on_a_lane_that_stands_still_where_nothing_else_is_to_be_had(void **state)
{
    (void)state;
    pqr_tx *tx;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=3", "DB_LANES=1", "DB_POOL_QUEUE_LIMIT=0");
    pqr_session *holder = live_session(db, "holder"), *s = live_session(db, "acme");
    OK(pqr_begin(holder, NULL, &tx, &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = "select 1"), NULL, &live_error)); /* the last connection */
    begin_busy(db);
    EVENTUALLY(PATIENCE_MS, atomic_load(&busy.answered) > 200);
    fleet("stop " P);
    live_sleep_ms(600);
    fleet("cont " P);
    int before = atomic_load(&busy.answered);
    EVENTUALLY(PATIENCE_MS, atomic_load(&busy.answered) > before + 200);
    end_busy();
    OK(pqr_commit(tx, &live_error));
    pqr_session_close(holder);
    pqr_session_close(s);
    pqr_close(db, 1000);
}

static void *sleep_on(void *arg)
{
    pqr_session *s = live_session(arg, "sleeper");
    pqr_read(s, PQR_QUERY(.sql = "select pg_sleep(40)", .deadline_ms = PATIENCE_MS), NULL, NULL);
    pqr_session_close(s);
    return NULL;
}

static bool one_sleeps(void)
{
    return ask_number(P, "select count(*) from pg_stat_activity where state = 'active'"
                         " and query = 'select pg_sleep(40)'") == 1;
}

static void wake_sleeper(pthread_t sleeper)
{
    ask(P, "select pg_cancel_backend(pid) from pg_stat_activity where state = 'active'"
           " and query in ('select pg_sleep(40)', 'select pg_sleep($1)')");
    pthread_join(sleeper, NULL);
}

static void *write_on(void *arg)
{
    pqr_session *s = live_session(arg, "writer");
    while (!atomic_load(&busy.over))
        OK(pqr_write(s, PQR_QUERY(.sql = "select pg_sleep(0.02)", .deadline_ms = PATIENCE_MS), NULL,
                     &live_error));
    pqr_session_close(s);
    return NULL;
}

/* Others wait for connections all the time. */
static void a_read_behind_a_slow_one_gets_its_turn_for_a_connection(void **state)
{
    (void)state;
    enum { WRITERS = 6 };
    pthread_t sleeper, writer[WRITERS];
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=4", "DB_LANES=1");
    pqr_session *s = live_session(db, "acme");
    atomic_store(&busy.over, false);
    assert_int_equal(pthread_create(&sleeper, NULL, sleep_on, db), 0);
    EVENTUALLY(PATIENCE_MS, one_sleeps());
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writer[i], NULL, write_on, db), 0);
    for (int i = 0; i < 3; i++)
        OK(pqr_read(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 15000), NULL, &live_error));
    assert_true(one_sleeps());
    atomic_store(&busy.over, true);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(writer[i], NULL);
    wake_sleeper(sleeper);
    pqr_session_close(s);
    pqr_close(db, 1000);
}

/* One text: fast for everybody, and for one who asks for it not. */
static int sleep_for(pqr_session *s, double seconds, int64_t deadline_ms)
{
    return pqr_read(s,
                    PQR_QUERY(.sql = "select pg_sleep($1)", PQR_PARAMS(PQR_FLOAT8(seconds)),
                              .deadline_ms = deadline_ms),
                    NULL, &live_error);
}

static void *sleep_among_fast_ones(void *arg)
{
    pqr_session *s = live_session(arg, "sleeper");
    sleep_for(s, 100, PATIENCE_MS);
    pqr_session_close(s);
    return NULL;
}

static bool one_of_the_fast_ones_sleeps(void)
{
    return ask_number(P, "select count(*) from pg_stat_activity where state = 'active'"
                         " and query = 'select pg_sleep($1)'") == 1;
}

static bool rides(pqr_session *s)
{
    pqr_result *r;
    OK(pqr_read(s,
                PQR_QUERY(.sql = "select current_setting('default_transaction_read_only')",
                          .deadline_ms = PATIENCE_MS),
                &r, &live_error));
    bool on = strcmp(pqr_text(r, 0, 0), "on") == 0; /* as it is on lanes only */
    pqr_result_free(r);
    return on;
}

static void fast_reads_avoid_a_lane_that_does_not_move(void **state)
{
    (void)state;
    pthread_t sleeper;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=20");
    pqr_session *s = live_session(db, "acme");
    for (int i = 0; i < 100; i++) { /* until they are known to be fast */
        rides(s);
        OK(sleep_for(s, 0, PATIENCE_MS));
    }
    assert_int_equal(pthread_create(&sleeper, NULL, sleep_among_fast_ones, db), 0);
    EVENTUALLY(PATIENCE_MS, one_of_the_fast_ones_sleeps());
    int riding = 0;
    for (int i = 0; i < 100; i++)
        riding += rides(s);
    assert_in_range(riding, 80, 100); /* but for the first: they find out, and open another one */
    assert_true(one_of_the_fast_ones_sleeps());
    wake_sleeper(sleeper);
    pqr_session_close(s);
    pqr_close(db, 1000);
}

static void a_lane_with_what_nobody_waits_for_is_closed_though_others_ride(void **state)
{
    (void)state;
    pqr_tx *tx;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=3", "DB_LANES=1");
    pqr_session *holder = live_session(db, "holder"), *s = live_session(db, "acme");
    OK(pqr_begin(holder, NULL, &tx, &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = "select 1"), NULL, &live_error)); /* the last connection */
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    begin_busy(db);
    FAILS(PQR_E_DEADLINE, sleep_for(s, 100, 300));
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 30000), NULL, &live_error));
    EVENTUALLY(PATIENCE_MS, !one_of_the_fast_ones_sleeps());
    end_busy();
    OK(pqr_commit(tx, &live_error));
    pqr_session_close(holder);
    pqr_session_close(s);
    pqr_close(db, 1000);
}

/* ---- Groups -------------------------------------------------------------------------------------- */

static void note_ride(void *arg, const pqr_done *done)
{
    assert_int_equal(done->err->code, PQR_OK);
    *(int *)arg = strcmp(pqr_text(done->res, 0, 0), "on") == 0;
    pqr_result_free(done->res);
}

static bool rides_on_loop(pqr_loop *l, pqr_session *s)
{
    int on = -1;
    OK(pqr_submit_read(l, s,
                       PQR_QUERY(.sql = "select current_setting('default_transaction_read_only')"),
                       note_ride, &on, NULL, &live_error));
    while (on < 0) {
        struct pollfd p = {.fd = pqr_loop_fd(l), .events = POLLIN};
        assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
        assert_true(pqr_loop_dispatch(l, 0) >= 0);
    }
    return on == 1;
}

/* There is room for one. */
static void a_lane_that_is_not_used_goes_to_a_group_that_has_none(void **state)
{
    (void)state;
    pqr_loop *loop;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=4", "DB_IDLE_TIMEOUT=0");
    pqr_session *s = live_session(db, "acme"), *on_loop = live_session(db, "acme");
    OK(pqr_loop_open(db, &loop, &live_error));
    assert_true(rides(s));
    assert_false(rides_on_loop(loop, on_loop));
    EVENTUALLY(PATIENCE_MS, rides_on_loop(loop, on_loop));
    assert_false(rides(s));
    EVENTUALLY(PATIENCE_MS, (pqr_loop_dispatch(loop, 0), rides(s))); /* and back again */
    pqr_session_close(on_loop);
    pqr_loop_close(loop);
    pqr_session_close(s);
    pqr_close(db, 1000);
}

/* ---- Leaders ------------------------------------------------------------------------------------ */

/* A proxy before the primary; its setting for a router. It ends when `to` is closed. */
static const char *begin_proxy(FILE **to)
{
    static char url[512];
    char command[512], name[] = "/tmp/pqrouter-proxy-XXXXXX";
    const char *given = getenv("DATABASE_PRIMARY_URL");
    const char *colon = strrchr(given, ':'), *slash = strrchr(given, '/');
    int fd = mkstemp(name), listens = 0;
    assert_true(fd >= 0);
    FILE *port = fdopen(fd, "r");
    snprintf(command, sizeof command, "exec python3 %s %.*s > %s", getenv("PROXY"),
             (int)(slash - colon - 1), colon + 1, name);
    *to = popen(command, "w");
    EVENTUALLY(PATIENCE_MS, (rewind(port), fscanf(port, "%d", &listens)) == 1);
    fclose(port);
    unlink(name);
    snprintf(url, sizeof url, "DATABASE_PRIMARY_URL=%.*s:%d%s", (int)(colon - given), given,
             listens, slash);
    return url;
}

/* Notices, faster than they can be read, and no answer. */
static void a_call_ends_by_its_deadline_though_bytes_keep_coming(void **state)
{
    (void)state;
    FILE *proxy;
    pqr *db = READY_ROUTER(begin_proxy(&proxy), "DB_CONNECTION_LIMIT=20");
    pqr_session *s = live_session(db, "acme");
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error)); /* a lane is open */
    FAILS(PQR_E_DEADLINE, pqr_read(s, PQR_QUERY(.sql = "select 'drown me'", .deadline_ms = 500),
                                   NULL, &live_error));
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1", .deadline_ms = PATIENCE_MS), NULL, &live_error));
    pqr_session_close(s);
    pqr_close(db, 1000);
    pclose(proxy);
}

/* How callers wait here: whoever `stalls` does not go on before it is let. */
static _Thread_local bool stalls;
static struct {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    _Atomic int stalled;
    bool released;
} stall = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false};

static void wait_or_stall(void *arg, int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    (void)arg;
    if (!stalls) {
        poll(&p, 1, ms);
        return;
    }
    pthread_mutex_lock(&stall.lock);
    atomic_fetch_add(&stall.stalled, 1);
    while (!stall.released)
        pthread_cond_wait(&stall.cond, &stall.lock);
    pthread_mutex_unlock(&stall.lock);
}

static void *read_and_stall(void *arg)
{
    pqr_session *s = arg;
    stalls = true;
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1", .deadline_ms = PATIENCE_MS), NULL, &live_error));
    return NULL;
}

static void an_answer_is_taken_though_who_leads_does_not_go_on(void **state)
{
    (void)state;
    pthread_t thread;
    pqr_tx *tx;
    pqr *db = ROUTER("DB_CONNECTION_LIMIT=3", "DB_LANES=1");
    OK(pqr_set_wait(db, wait_or_stall, NULL, &live_error));
    live_ready(db);
    pqr_session *holder = live_session(db, "holder"), *s = live_session(db, "acme");
    pqr_session *led = live_session(db, "leader");
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    OK(pqr_begin(holder, NULL, &tx, &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = "select 1"), NULL, &live_error)); /* the last connection */
    assert_int_equal(pthread_create(&thread, NULL, read_and_stall, led), 0);
    EVENTUALLY(PATIENCE_MS, atomic_load(&stall.stalled) > 0);
    for (int i = 0; i < 50; i++)
        OK(pqr_read(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 5000), NULL, &live_error));
    pthread_mutex_lock(&stall.lock);
    stall.released = true;
    pthread_cond_broadcast(&stall.cond);
    pthread_mutex_unlock(&stall.lock);
    pthread_join(thread, NULL);
    pqr_rollback(tx);
    pqr_session_close(holder);
    pqr_session_close(led);
    pqr_session_close(s);
    pqr_close(db, 1000);
}

static int make_tables(void **state)
{
    (void)state;
    ask(P, "create table marks(id bigserial primary key, tenant text, n int default 0)");
    ask(P, "create function unpin() returns int language plpgsql as $$ begin"
           " perform set_config('default_transaction_read_only', 'off', false);"
           " return 1; end $$");
    ask(P, "grant all on all tables in schema public to app");
    ask(P, "grant all on all sequences in schema public to app");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_busy_lane_that_can_write_is_closed),
        cmocka_unit_test(a_busy_lane_ends_with_its_lifetime),
        cmocka_unit_test(reads_stay_on_a_lane_that_stands_still_where_nothing_else_is_to_be_had),
        cmocka_unit_test(a_read_behind_a_slow_one_gets_its_turn_for_a_connection),
        cmocka_unit_test(fast_reads_avoid_a_lane_that_does_not_move),
        cmocka_unit_test(a_lane_with_what_nobody_waits_for_is_closed_though_others_ride),
        cmocka_unit_test(a_lane_that_is_not_used_goes_to_a_group_that_has_none),
        cmocka_unit_test(a_call_ends_by_its_deadline_though_bytes_keep_coming),
        cmocka_unit_test(an_answer_is_taken_though_who_leads_does_not_go_on),
    };
    return cmocka_run_group_tests(tests, make_tables, NULL);
}
