/* Lanes: the reads of many callers on few connections. What one caller does must not be felt by
 * the next one, whatever it is: a failure, poison, slowness, an early end. */
#include "live.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define P "shard0/primary"
#define THREADS 64
#define TENANTS 50

static char tenant_names[TENANTS][24];

static int number_from(const char *variable, int plain, int slow_build)
{
    const char *text = getenv(variable);
    return text ? atoi(text) : live_slow_build() ? slow_build : plain;
}

/* Connections of ours to the primary, the monitor's included, as the server counts. */
static long connections(void)
{
    return ask_number(P, "select count(*) from pg_stat_activity where usename = 'app'"
                         " and backend_type = 'client backend' and pid <> pg_backend_pid()");
}

/* Those of them that were used within the last second. */
static long connections_in_use(void)
{
    return ask_number(
        P, "select count(*) from pg_stat_activity where usename = 'app'"
           " and backend_type = 'client backend' and pid <> pg_backend_pid()"
           " and (state <> 'idle' or state_change > clock_timestamp() - interval '1 s')");
}

/* ---- Many threads --------------------------------------------------------------------------- */

struct crowd {
    pqr *db;
    int calls; /* a thread */
    void (*call)(struct crowd *c, pqr_session *s, const char *tenant, unsigned *seed);
    _Atomic bool stop;
    _Atomic long done, wrong, unexpected, timeouts;
};

struct one {
    struct crowd *crowd;
    pthread_t thread;
    int id;
};

static unsigned next(unsigned *seed)
{
    *seed = *seed * 1103515245u + 12345u;
    return *seed >> 16;
}

static void *work(void *arg)
{
    struct one *o = arg;
    struct crowd *c = o->crowd;
    unsigned seed = (unsigned)o->id * 7919u + 1;
    for (int i = 0; i < c->calls && !atomic_load(&c->stop); i++) {
        const char *tenant = tenant_names[next(&seed) % TENANTS];
        pqr_session *s = live_session(c->db, tenant);
        c->call(c, s, tenant, &seed);
        pqr_session_close(s);
        atomic_fetch_add(&c->done, 1);
    }
    return NULL;
}

static struct one *start_crowd(struct crowd *c)
{
    struct one *list = calloc(THREADS, sizeof *list);
    for (int i = 0; i < THREADS; i++) {
        list[i] = (struct one){.crowd = c, .id = i};
        assert_int_equal(pthread_create(&list[i].thread, NULL, work, &list[i]), 0);
    }
    return list;
}

static void join_crowd(struct one *list)
{
    for (int i = 0; i < THREADS; i++)
        pthread_join(list[i].thread, NULL);
    free(list);
}

static void unexpected(struct crowd *c, const char *what, int code)
{
    if (atomic_fetch_add(&c->unexpected, 1) < 10)
        print_error("%s: %s: %s [%s]\n", what, pqr_code_name(code), live_error.message,
                    live_error.sqlstate);
}

static void must_be_of(struct crowd *c, pqr_result *res, const char *tenant)
{
    if (strcmp(pqr_text(res, 0, 0), tenant) != 0 && atomic_fetch_add(&c->wrong, 1) < 10)
        print_error("%s got the answer of %s\n", tenant, pqr_text(res, 0, 0));
    pqr_result_free(res);
}

/* ---- Failures among neighbours -------------------------------------------------------------- */

struct bad {
    const char *name, *sql, *sqlstate;
};

/* Each names its tenant, so that an error text can be held against its caller. */
static const struct bad bads[] = {
    {"division", "select 1 / (length($1) - length($1))", "22012"},
    {"syntax", "select $1 frm nothing at all", "42601"},
    {"no table", "select $1 from there_is_no_such_table", "42P01"},
    {"no column", "select $1, no_such_column from marks", "42703"},
    {"bad number", "select ('x' || $1)::int", "22P02"},
    {"cancelled", "select $1, pg_cancel_backend(pg_backend_pid()), pg_sleep(1)", "57014"},
    {"raised", "select raise_unique($1)", "23505"},
};
enum { BADS = sizeof bads / sizeof *bads };

static void good_or_bad(struct crowd *c, pqr_session *s, const char *tenant, unsigned *seed)
{
    pqr_result *res;
    unsigned dice = next(seed) % 100;
    if (dice < 15) {
        const struct bad *b = &bads[next(seed) % (BADS * 4) % BADS];
        if (strcmp(b->name, "cancelled") == 0 && next(seed) % 8 != 0)
            b = &bads[0];
        int code = pqr_read(s,
                            PQR_QUERY(.name = b->name, .sql = b->sql, PQR_PARAMS(PQR_TEXT(tenant))),
                            NULL, &live_error);
        if (code != PQR_E_SQL || strcmp(live_error.sqlstate, b->sqlstate) != 0 ||
            !strstr(live_error.message, b->name))
            unexpected(c, b->name, code);
        if (strcmp(b->name, "bad number") == 0 && !strstr(live_error.message, tenant))
            atomic_fetch_add(&c->wrong, 1);
        return;
    }
    if (dice < 18) {
        int code = pqr_write(s,
                             PQR_QUERY(.sql = "insert into marks(tenant, n) values ($1, 0)"
                                              " returning tenant",
                                       PQR_PARAMS(PQR_TEXT(tenant))),
                             &res, &live_error);
        if (code == PQR_OK)
            must_be_of(c, res, tenant);
        else
            unexpected(c, "write", code);
        return;
    }
    /* Several texts, so that statements are prepared and evicted all the time. */
    char sql[96];
    snprintf(sql, sizeof sql, "select $1::text, %u, tenant from marks where tenant = $1 limit 1",
             next(seed) % 8);
    int code = pqr_read(s, PQR_QUERY(.sql = sql, PQR_PARAMS(PQR_TEXT(tenant))), &res, &live_error);
    if (code != PQR_OK) {
        unexpected(c, "read", code);
    } else {
        if (strcmp(pqr_text(res, 0, 2), tenant) != 0)
            atomic_fetch_add(&c->wrong, 1);
        must_be_of(c, res, tenant);
    }
}

static pqr_stats stats_of(pqr *db)
{
    pqr_stats stats;
    assert_int_equal(pqr_stats_get(db, &stats, sizeof stats), PQR_OK);
    return stats;
}

static void failing_statements_cost_their_neighbours_nothing(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_PREPARED_STATEMENTS=6");
    struct crowd c = {.db = db, .call = good_or_bad};
    c.calls = number_from("LANES_CALLS", 60000, 12000) / THREADS;
    join_crowd(start_crowd(&c));
    print_message("%ld calls: %ld wrong, %ld unexpected\n", c.done, c.wrong, c.unexpected);
    assert_int_equal(c.wrong, 0);
    assert_int_equal(c.unexpected, 0);
    assert_int_equal(stats_of(db).connections_lost, 0);
    pqr_close(db, 1000);
}

static void lanes_that_are_terminated_cost_nobody_an_answer(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_PREPARED_STATEMENTS=6", "DB_POOL_TIMEOUT=60",
                           "DB_CONNECT_TIMEOUT=60", "DB_SOCKET_TIMEOUT=60");
    struct crowd c = {.db = db, .call = good_or_bad, .calls = 1 << 30};
    struct one *list = start_crowd(&c);
    int kills = number_from("LANES_KILLS", 60, 20), killed = 0;
    for (int64_t until = live_now_ms() + 120000; killed < kills && live_now_ms() < until;) {
        long done = atomic_load(&c.done);
        killed += (int)ask_number(
            P, "select count(pg_terminate_backend(pid)) from (select pid from pg_stat_activity"
               " where usename = 'app' and query like 'select $1::text%%'"
               " order by random() limit 1) victim");
        /* All others of that server are opened anew as well, which takes long under a sanitizer. */
        EVENTUALLY(60000, atomic_load(&c.done) >= done + 500);
    }
    atomic_store(&c.stop, true);
    join_crowd(list);
    print_message("%d lanes killed under %ld calls: %ld wrong, %ld unexpected\n", killed, c.done,
                  c.wrong, c.unexpected);
    assert_int_equal(killed, kills);
    assert_int_equal(c.wrong, 0);
    assert_int_equal(c.unexpected, 0);
    pqr_close(db, 1000);
}

/* ---- Poison --------------------------------------------------------------------------------- */

static const char *const poisons[] = {
    "begin",
    "start transaction",
    "commit",
    "rollback",
    "abort",
    "end",
    "savepoint x",
    "release x",
    "set search_path = nowhere",
    "/* x */ set local default_transaction_read_only = off",
    "reset all",
    "copy marks to stdout",
    "listen x",
    "unlisten *",
    "notify x",
    "prepare x as select 1",
    "execute x",
    "deallocate all",
    "declare x cursor for select 1",
    "fetch x",
    "move x",
    "close x",
    "discard all",
    "lock table marks",
    "load 'x'",
};

static void poison_is_refused_on_both_kinds_of_connection(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=20");
    pqr_session *s = live_session(db, "acme");
    for (size_t i = 0; i < sizeof poisons / sizeof *poisons; i++) {
        FAILS(PQR_E_USAGE, pqr_read(s, PQR_QUERY(.sql = poisons[i]), NULL, &live_error));
        if (strncmp(poisons[i], "notify", 6) != 0 && strncmp(poisons[i], "lock", 4) != 0)
            FAILS(PQR_E_USAGE, pqr_write(s, PQR_QUERY(.sql = poisons[i]), NULL, &live_error));
    }
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* What read-only does not forbid and no first word shows: contained, since its connection is not
 * used by the next caller. */
static void what_a_function_of_a_read_leaves_meets_nobody(void **state)
{
    static const char *const statements[] = {
        "select set_config('app.left', 'behind', false)",
        "select set_config('default_transaction_read_only', 'off', false)",
        "select set_config('search_path', 'nowhere', false)",
        "select pg_advisory_lock(4711)",
    };
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=20");
    pqr_session *s = live_session(db, "acme");
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        OK(pqr_read(s, PQR_QUERY(.sql = statements[i]), NULL, &live_error));
        for (int n = 0; n < 20; n++) {
            pqr_result *res;
            OK(pqr_read(s,
                        PQR_QUERY(.sql = "select current_setting('app.left', true) = 'behind',"
                                         " current_setting('default_transaction_read_only'),"
                                         " current_setting('search_path') = 'nowhere'"),
                        &res, &live_error));
            assert_false(pqr_bool(res, 0, 0));
            assert_false(pqr_bool(res, 0, 2));
            pqr_result_free(res);
        }
        FAILS(PQR_E_READ_ONLY,
              pqr_read(s, PQR_QUERY(.sql = "delete from marks"), NULL, &live_error));
        EVENTUALLY(5000, ask_number(P, "select count(*) from pg_locks where locktype = 'advisory'"
                                       " and objid = 4711") == 0);
    }
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* Hidden in a function the library cannot see it coming, but a lane tells when it is no longer read
 * only, and is closed. */
static void a_lane_that_can_write_is_closed(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=20");
    pqr_session *s = live_session(db, "acme");
    OK(pqr_read(s, PQR_QUERY(.sql = "select unpin()"), NULL, &live_error));
    for (int n = 0; n < 20; n++)
        FAILS(PQR_E_READ_ONLY,
              pqr_read(s, PQR_QUERY(.sql = "insert into marks(tenant) values ('x')"), NULL,
                       &live_error));
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void count_sessions(void *arg, int level, const char *event, const char *text)
{
    (void)level;
    (void)text;
    if (strcmp(event, "session") == 0)
        atomic_fetch_add((_Atomic int *)arg, 1);
}

/* Builds for development look: these tests are run in no other. */
static void what_a_function_leaves_on_a_lane_is_found_and_told(void **state)
{
    (void)state;
    static const char *const leaves[] = {
        "select relax()",        /* a setting */
        "select hold()",         /* an advisory lock */
        "select plan_by_hand()", /* a prepared statement */
    };
    for (size_t i = 0; i < sizeof leaves / sizeof *leaves; i++) {
        _Atomic int told = 0;
        pqr *db;
        OK(pqr_open(&db,
                    PQR_OPTIONS(.env = live_env((const char *const[]){"PQR_LOG=error", NULL}),
                                .log = count_sessions, .log_arg = &told),
                    &live_error));
        OK(pqr_ready(db, 10000, &live_error));
        pqr_session *s = live_session(db, "acme");
        OK(pqr_read(s, PQR_QUERY(.sql = "select count(*) from marks"), NULL, &live_error));
        live_sleep_ms(700); /* nothing is found where nothing is */
        assert_int_equal(atomic_load(&told), 0);
        OK(pqr_read(s, PQR_QUERY(.sql = leaves[i]), NULL, &live_error));
        EVENTUALLY(5000, atomic_load(&told) == 1);
        OK(pqr_read(s, PQR_QUERY(.sql = "select count(*) from marks"), NULL, &live_error));
        pqr_session_close(s);
        pqr_close(db, 0);
    }
}

/* ---- Prepared statements -------------------------------------------------------------------- */

static int64_t read_number(pqr_session *s, const pqr_query *q)
{
    pqr_result *res;
    OK(pqr_read(s, q, &res, &live_error));
    int64_t value = pqr_int64(res, 0, 0);
    pqr_result_free(res);
    return value;
}

static void one_text_with_other_types_is_another_statement(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=20");
    pqr_session *s = live_session(db, "acme");
    for (int i = 0; i < 5; i++) {
        assert_int_equal(
            read_number(s, PQR_QUERY(.sql = "select $1 * 2", PQR_PARAMS(PQR_INT64(21)))), 42);
        assert_int_equal(
            read_number(s, PQR_QUERY(.sql = "select $1 * 2", PQR_PARAMS(PQR_FLOAT8(21.0)))), 42);
        assert_int_equal(
            read_number(s, PQR_QUERY(.sql = "select $1 * 2", PQR_PARAMS(PQR_INT32(21)))), 42);
    }
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_table_that_changes_under_a_prepared_statement_is_no_error(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=20");
    pqr_session *s = live_session(db, "acme");
    const pqr_query *all = PQR_QUERY(.sql = "select * from shifting");
    ask(P, "create table shifting(a int)");
    ask(P, "insert into shifting values (1)");
    ask(P, "grant all on shifting to app");
    for (int i = 0; i < 6; i++) {
        assert_int_equal(read_number(s, all), 1);
        OK(pqr_write(s,
                     PQR_QUERY(.sql = "insert into shifting(a) select 1 where false returning *"),
                     NULL, &live_error));
        ask(P, "alter table shifting add column c%d int", i);
    }
    ask(P, "drop table shifting");
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void prepared_statements_are_bounded_and_closed_at_the_server(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_PREPARED_STATEMENTS=3", "DB_LANES=1");
    pqr_session *s = live_session(db, "acme");
    for (int i = 0; i < 30; i++) {
        char sql[64];
        snprintf(sql, sizeof sql, "select %d", i);
        assert_int_equal(read_number(s, PQR_QUERY(.sql = sql)), i);
    }
    /* This very statement is one of them. */
    assert_true(read_number(s, PQR_QUERY(.sql = "select count(*) from pg_prepared_statements")) <=
                3);
    pqr_session_close(s);
    pqr_close(db, 0);
    db = READY_ROUTER("DB_PREPARED_STATEMENTS=0");
    s = live_session(db, "acme");
    for (int i = 0; i < 5; i++)
        assert_int_equal(
            read_number(s, PQR_QUERY(.sql = "select count(*) from pg_prepared_statements")), 0);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* ---- Few connections, and no waiting for others --------------------------------------------- */

static void point_read(struct crowd *c, pqr_session *s, const char *tenant, unsigned *seed)
{
    pqr_result *res;
    (void)seed;
    int code = pqr_read(
        s,
        PQR_QUERY(.sql = "select tenant from marks where id = $1",
                  PQR_PARAMS(PQR_INT64(1 + (tenant[6] - '0') * 10 + (tenant[7] - '0')))),
        &res, &live_error);
    if (code == PQR_OK)
        must_be_of(c, res, tenant);
    else
        unexpected(c, "point read", code);
}

static void sixty_four_readers_use_at_most_four_connections(void **state)
{
    (void)state;
    EVENTUALLY(10000, connections() == 0); /* those of the tests before */
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=20");
    struct crowd c = {.db = db, .call = point_read, .calls = 1 << 30};
    struct one *list = start_crowd(&c);
    /* Where a server leaves a statement unanswered for a tenth of a second, another connection is tried;
     * on a busy machine any may. So for two seconds on end, which will come. */
    long most = 0, in_a_row = 0;
    int64_t until = live_now_ms() + 60000;
    while (in_a_row < 20 && live_now_ms() < until) {
        long now = connections_in_use();
        most = in_a_row == 0 || now > most ? now : most;
        in_a_row = now <= 4 ? in_a_row + 1 : 0;
        live_sleep_ms(100);
    }
    atomic_store(&c.stop, true);
    join_crowd(list);
    print_message("%ld reads, in the end over at most %ld connections\n", c.done, most);
    assert_int_equal(c.wrong, 0);
    assert_int_equal(c.unexpected, 0);
    assert_in_range(most, 1, 4);
    assert_int_equal(in_a_row, 20);
    pqr_close(db, 0);
}

static void hurried(struct crowd *c, pqr_session *s, const char *tenant, unsigned *seed)
{
    pqr_result *res;
    int code = pqr_read(s,
                        PQR_QUERY(.sql = "select $1::text, pg_sleep(0.002)",
                                  PQR_PARAMS(PQR_TEXT(tenant)), .deadline_ms = 1 + next(seed) % 5),
                        &res, &live_error);
    if (code == PQR_OK)
        must_be_of(c, res, tenant);
    else if (code == PQR_E_DEADLINE && live_error.sqlstate[0] == '\0')
        atomic_fetch_add(&c->timeouts, 1);
    else
        unexpected(c, "hurried", code);
}

static int threads_of_this_process(void)
{
    int n = 0;
    char line[128];
    FILE *f = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "Threads: %d", &n) == 1)
            break;
    fclose(f);
    return n;
}

static void short_deadlines_hit_nobody_else(void **state)
{
    (void)state;
    EVENTUALLY(10000, connections() == 0);
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=20");
    pqr_session *s = live_session(db, "acme");
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    int threads = threads_of_this_process();
    struct crowd c = {.db = db, .call = hurried, .calls = 1 << 30};
    struct one *list = start_crowd(&c);
    int64_t until = live_now_ms() + number_from("LANES_MS", 4000, 4000);
    while (live_now_ms() < until) {
        assert_true(connections() <= 20);
        live_sleep_ms(200);
    }
    atomic_store(&c.stop, true);
    join_crowd(list);
    print_message("%ld calls, %ld too late: %ld wrong, %ld unexpected\n", c.done, c.timeouts,
                  c.wrong, c.unexpected);
    assert_int_equal(c.wrong, 0);
    assert_int_equal(c.unexpected, 0);
    assert_int_equal(threads_of_this_process(), threads);
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    pqr_session_close(s);
    pqr_close(db, 1000);
}

#define SLEEPERS "state = 'active' and query like 'select pg_sleep(100)%%'"

static long sleepers_at_the_server(void)
{
    return ask_number(P, "select count(*) from pg_stat_activity where " SLEEPERS);
}

static void sleep_for(pqr *db, int ms)
{
    pqr_session *s = live_session(db, "sleeper");
    pqr_read(s, PQR_QUERY(.sql = "select pg_sleep(100)", .deadline_ms = ms), NULL, NULL);
    pqr_session_close(s);
}

static void *sleep_soundly(void *arg)
{
    sleep_for(arg, 60000);
    return NULL;
}

static void *sleep_a_little(void *arg)
{
    sleep_for(arg, 6000);
    return NULL;
}

static bool rides(pqr_session *s)
{
    pqr_result *r;
    OK(pqr_read(s, PQR_QUERY(.sql = "select current_setting('default_transaction_read_only')"), &r,
                &live_error));
    bool on = strcmp(pqr_text(r, 0, 0), "on") == 0; /* as it is on lanes only */
    pqr_result_free(r);
    return on;
}

/* Behind it they would all be stuck, and each take a connection of its own. */
static void fast_statements_go_together_but_not_behind_one_that_may_be_slow(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=20");
    pqr_session *s = live_session(db, "acme");
    pthread_t sleeper;
    for (int i = 0; i < 100; i++) /* until it is known to be fast */
        rides(s);
    assert_int_equal(pthread_create(&sleeper, NULL, sleep_a_little, db), 0);
    EVENTUALLY(5000, sleepers_at_the_server() == 1);
    int riding = 0;
    for (int i = 0; i < 100; i++)
        riding += rides(s);
    assert_in_range(riding, 80, 100); /* but for the first, until another lane is open */
    pthread_join(sleeper, NULL);
    EVENTUALLY(5000, sleepers_at_the_server() == 0);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* As many sleepers as there are lanes, and more: the quick ones are answered while they sleep. */
static void no_one_waits_behind_a_slow_statement(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=20");
    pqr_session *s = live_session(db, "acme");
    pthread_t sleepers[6];
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    for (int i = 0; i < 6; i++)
        pthread_create(&sleepers[i], NULL, sleep_soundly, db);
    EVENTUALLY(30000, sleepers_at_the_server() == 6);
    for (int i = 0; i < 50; i++)
        OK(pqr_read(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 1000), NULL, &live_error));
    assert_int_equal(sleepers_at_the_server(), 6);
    ask_number(P, "select count(pg_cancel_backend(pid)) from pg_stat_activity where " SLEEPERS);
    for (int i = 0; i < 6; i++)
        pthread_join(sleepers[i], NULL);
    EVENTUALLY(5000, sleepers_at_the_server() == 0);
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 1000), NULL, &live_error));
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* ---- No dead-lock of our making ------------------------------------------------------------- */

static void *wait_for_row(void *arg)
{
    pqr_session *y = live_session(arg, "y");
    OK(pqr_write(y, PQR_QUERY(.sql = "update marks set n = n + 1 where id = 1"), NULL,
                 &live_error));
    pqr_session_close(y);
    return NULL;
}

static void a_write_that_waits_for_a_row_holds_up_no_other_write(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=20");
    pqr_session *x = live_session(db, "x");
    pqr_tx *tx;
    OK(pqr_begin(x, NULL, &tx, &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = "update marks set n = 7 where id = 1"), NULL, &live_error));
    pthread_t thread;
    pthread_create(&thread, NULL, wait_for_row, db);
    EVENTUALLY(5000, ask_number(P, "select count(*) from pg_stat_activity"
                                   " where wait_event_type = 'Lock'") == 1);
    /* X goes on outside its transaction, while Y waits for what X holds. */
    OK(pqr_write(x, PQR_QUERY(.sql = "insert into marks(tenant, n) values ('x', 1)"), NULL,
                 &live_error));
    OK(pqr_commit(tx, &live_error));
    pthread_join(thread, NULL);
    assert_int_equal(ask_number(P, "select n from marks where id = 1"), 8);
    pqr_session_close(x);
    pqr_close(db, 0);
}

static int make_tables(void **state)
{
    (void)state;
    for (int i = 0; i < TENANTS; i++)
        snprintf(tenant_names[i], sizeof tenant_names[i], "tenant%02d", i);
    ask(P, "create table marks(id bigserial primary key, tenant text, n int default 0)");
    ask(P, "insert into marks(tenant) select 'tenant' || to_char(i, 'FM00') from"
           " generate_series(0, 49) i");
    ask(P, "create index on marks(tenant)");
    ask(P, "create function raise_unique(text) returns int language plpgsql as"
           " $$ begin raise unique_violation using message = 'raised'; end $$");
    ask(P, "create function unpin() returns int language plpgsql as $$ begin"
           " perform set_config('default_transaction_read_only', 'off', false);"
           " return 1; end $$");
    ask(P, "create function relax() returns int language plpgsql as $$ begin"
           " perform set_config('timezone', 'Asia/Tokyo', false); return 1; end $$");
    ask(P, "create function hold() returns int language plpgsql as $$ begin"
           " execute 'select pg_advisory' || '_lock(42)'; return 1; end $$");
    ask(P, "create function plan_by_hand() returns int language plpgsql as $$ begin"
           " execute 'prepare by_hand as select 1'; return 1; end $$");
    ask(P, "grant all on all tables in schema public to app");
    ask(P, "grant all on all sequences in schema public to app");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failing_statements_cost_their_neighbours_nothing),
        cmocka_unit_test(lanes_that_are_terminated_cost_nobody_an_answer),
        cmocka_unit_test(poison_is_refused_on_both_kinds_of_connection),
        cmocka_unit_test(what_a_function_of_a_read_leaves_meets_nobody),
        cmocka_unit_test(a_lane_that_can_write_is_closed),
        cmocka_unit_test(what_a_function_leaves_on_a_lane_is_found_and_told),
        cmocka_unit_test(one_text_with_other_types_is_another_statement),
        cmocka_unit_test(a_table_that_changes_under_a_prepared_statement_is_no_error),
        cmocka_unit_test(prepared_statements_are_bounded_and_closed_at_the_server),
        cmocka_unit_test(sixty_four_readers_use_at_most_four_connections),
        cmocka_unit_test(short_deadlines_hit_nobody_else),
        cmocka_unit_test(fast_statements_go_together_but_not_behind_one_that_may_be_slow),
        cmocka_unit_test(no_one_waits_behind_a_slow_statement),
        cmocka_unit_test(a_write_that_waits_for_a_row_holds_up_no_other_write),
    };
    return cmocka_run_group_tests(tests, make_tables, NULL);
}
