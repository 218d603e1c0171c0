/* What a call leaves in its connection: who cleans it away, who waits for that and for how long, and
 * what it means when it cannot be done. Fleet: one shard, no replica. */
#include "live.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define P "shard0/primary"

static PGconn *holder;

static void let_catalog_go(void)
{
    PQfinish(holder);
    holder = NULL;
}

/* While somebody holds this, no temporary table can be dropped, nor one be made. */
static void hold_catalog(void)
{
    let_catalog_go();
    const char *url = getenv("DATABASE_PRIMARY_URL");
    holder = PQconnectdb(url ? url : getenv("DATABASE_SHARD_0_URL"));
    PGresult *res = PQexec(holder, "begin; select hold_catalog()");
    if (PQresultStatus(res) != PGRES_TUPLES_OK)
        fail_msg("the catalog cannot be held: %s", PQerrorMessage(holder));
    PQclear(res);
}

/* ---- Procedures that commit ------------------------------------------------------------------- */

/* 26000 is what the server says of a prepared statement that is gone; a procedure may say it, too. */
static void a_procedure_that_has_committed_is_never_run_again_whatever_it_raises(void **state)
{
    static const char *const states[] = {"26000", "0A000"};
    pqr_session *s = live_session(*state, "acme");
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        for (int alone = 0; alone < 2; alone++) {
            char sql[64];
            ask(P, "truncate step");
            snprintf(sql, sizeof sql, "call step_and_raise('%s')", states[i]);
            FAILS(PQR_E_UNKNOWN,
                  pqr_write(s, PQR_QUERY(.sql = sql, .alone = alone), NULL, &live_error));
            assert_string_equal(live_error.sqlstate, states[i]);
            assert_int_equal(live_error.retry, PQR_RETRY_UNKNOWN);
            assert_int_equal(ask_number(P, "select count(*) from step"), 1);
        }
    pqr_session_close(s);
}

/* Sequences count also what was rolled back. */
static void a_write_that_raises_such_a_code_runs_once(void **state)
{
    static const char *const states[] = {"26000", "0A000"};
    pqr_session *s = live_session(*state, "acme");
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        char sql[64];
        ask(P, "select setval('turns', 1)");
        snprintf(sql, sizeof sql, "select turn_and_raise('%s')", states[i]);
        FAILS(PQR_E_SQL, pqr_write(s, PQR_QUERY(.sql = sql), NULL, &live_error));
        assert_string_equal(live_error.sqlstate, states[i]);
        assert_int_equal(live_error.retry, PQR_RETRY_NEVER);
        assert_int_equal(ask_number(P, "select last_value from turns"), 2);
    }
    pqr_session_close(s);
}

/* The server itself, at Bind, says so of a statement that did not begin. */
static void a_read_whose_prepared_statement_is_gone_is_run_again(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_LANES=1");
    pqr_session *s = live_session(db, "acme");
    for (int i = 0; i < 3; i++) {
        OK(pqr_read(s, PQR_QUERY(.sql = "select count(*) from step"), NULL, &live_error));
        OK(pqr_read(s, PQR_QUERY(.sql = "select forget_statements()"), NULL, &live_error));
    }
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* ---- What a deferred trigger makes ------------------------------------------------------------- */

/* It runs at the Sync, behind all that stands in the write's own segment. */
static void write_with_trigger(pqr_session *s, int32_t *backend)
{
    pqr_result *r;
    OK(pqr_write(s,
                 PQR_QUERY(.sql = "insert into noted values ('acme') returning pg_backend_pid()"),
                 &r, &live_error));
    *backend = pqr_int32(r, 0, 0);
    pqr_result_free(r);
}

/* On the same connection: no temporary table, no channel. */
static const char left_sql[] =
    "select pg_backend_pid(), (select count(*) from pg_class where relnamespace = pg_my_temp_schema()"
    " and relname = 'scratch'), (select count(*) from pg_listening_channels())";

static void is_as_new(pqr_result *r, int32_t backend)
{
    assert_int_equal(pqr_int32(r, 0, 0), backend);
    assert_int_equal(pqr_int64(r, 0, 1), 0);
    assert_int_equal(pqr_int64(r, 0, 2), 0);
    pqr_result_free(r);
}

static void a_transaction_meets_nothing_of_a_trigger_at_another_s_commit(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=1");
    pqr_session *a = live_session(db, "acme"), *b = live_session(db, "bolt");
    for (int read_only = 0; read_only < 2; read_only++) {
        int32_t backend;
        pqr_tx *tx;
        pqr_result *r;
        write_with_trigger(a, &backend);
        OK(pqr_begin(b, PQR_TX(.read_only = read_only, .level = PQR_LEVEL_PRIMARY), &tx,
                     &live_error));
        OK(pqr_exec(tx, PQR_QUERY(.sql = left_sql), &r, &live_error));
        is_as_new(r, backend);
        OK(pqr_commit(tx, &live_error));
    }
    pqr_session_close(a);
    pqr_session_close(b);
    pqr_close(db, 0);
}

static void a_statement_alone_meets_nothing_of_a_trigger_at_another_s_commit(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=1");
    pqr_session *a = live_session(db, "acme"), *b = live_session(db, "bolt");
    int32_t backend;
    pqr_result *r;
    write_with_trigger(a, &backend);
    OK(pqr_write(b, PQR_QUERY(.sql = left_sql, .alone = true), &r, &live_error));
    is_as_new(r, backend);
    write_with_trigger(a, &backend);
    OK(pqr_write(b, PQR_QUERY(.sql = "call look_for_scratch()"), NULL, &live_error));
    pqr_session_close(a);
    pqr_session_close(b);
    pqr_close(db, 0);
}

static void a_lane_meets_nothing_of_a_trigger_at_another_s_commit(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=3");
    pqr_session *a = live_session(db, "acme"), *b = live_session(db, "bolt");
    int32_t backend;
    pqr_result *r;
    pqr_tx *tx; /* with it and the monitor's there is but one connection left */
    OK(pqr_begin(a, NULL, &tx, &live_error));
    write_with_trigger(a, &backend);
    OK(pqr_read(b, PQR_QUERY(.sql = left_sql), &r, &live_error));
    is_as_new(r, backend);
    pqr_rollback(tx);
    pqr_session_close(a);
    pqr_session_close(b);
    pqr_close(db, 0);
}

/* BEGIN travels with what clears the session: it counts for nothing if that failed. */
static void a_transaction_does_not_begin_where_the_session_cannot_be_cleared(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=4", "DB_STATEMENT_TIMEOUT=200ms");
    pqr_session *a = live_session(db, "acme"), *b = live_session(db, "bolt");
    int32_t backend;
    pqr_tx *tx;
    pqr_result *r;
    write_with_trigger(a, &backend);
    hold_catalog();
    OK(pqr_begin(b, NULL, &tx, &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = "select pg_backend_pid()"), &r, &live_error));
    assert_int_not_equal(pqr_int32(r, 0, 0), backend);
    pqr_result_free(r);
    OK(pqr_commit(tx, &live_error));
    let_catalog_go();
    pqr_session_close(a);
    pqr_session_close(b);
    pqr_close(db, 0);
}

/* ---- Who waits for what is being cleaned ------------------------------------------------------- */

/* One that cleans, and cannot end that while the catalog is held; where there is no other connection,
 * the server has not been seen for so long by then. */
static void leave_a_table(pqr *db, pqr_session *s, int64_t unseen_ms, int32_t *backend)
{
    pqr_tx *tx;
    pqr_result *r;
    let_catalog_go();
    OK(pqr_begin(s, NULL, &tx, &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = "select leave_table(), pg_backend_pid()"), &r, &live_error));
    *backend = pqr_int32(r, 0, 1);
    pqr_result_free(r);
    EVENTUALLY(10000, health_of(db, P).seen_ms >= unseen_ms);
    hold_catalog();
    OK(pqr_commit(tx, &live_error));
}

static void the_monitor_waits_for_a_connection_that_is_being_cleaned(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=1", "DB_HEALTH_INTERVAL=100ms");
    pqr_session *s = live_session(db, "acme");
    int32_t before;
    leave_a_table(db, s, 1100, &before);                /* longer than the monitor waits */
    EVENTUALLY(5000, health_of(db, P).conns_idle == 0); /* it has it */
    let_catalog_go();
    assert_int_equal(backend(s), before);
    assert_int_equal(health_of(db, P).state, PQR_NODE_UP);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_server_is_not_called_silent_while_it_only_cleans(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=1", "DB_HEALTH_INTERVAL=100ms");
    pqr_session *s = live_session(db, "acme");
    int32_t before;
    leave_a_table(db, s, 0, &before);
    while (health_of(db, P).seen_ms < 1500) /* longer than the monitor waits */
        assert_int_equal(health_of(db, P).state, PQR_NODE_UP);
    assert_int_equal(health_of(db, P).state, PQR_NODE_UP);
    assert_string_equal(health_of(db, P).why, "");
    let_catalog_go();
    OK(pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* Is it among the first two connections to be had? */
static bool is_taken_gladly(pqr_session *a, pqr_session *b, int32_t pid)
{
    pqr_tx *tx;
    pqr_result *r;
    OK(pqr_begin(a, NULL, &tx, &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = "select pg_backend_pid()"), &r, &live_error));
    int32_t one = pqr_int32(r, 0, 0), two = backend(b);
    pqr_result_free(r);
    pqr_rollback(tx);
    return one == pid || two == pid;
}

/* There is room for another one: for a call, and for a lane. */
static void nobody_waits_for_a_clean_up_that_takes_its_time(void **state)
{
    (void)state;
    const pqr_query *q = PQR_QUERY(.sql = "select pg_backend_pid()");
    for (int lane = 0; lane < 2; lane++) {
        pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=4");
        pqr_session *a = live_session(db, "acme"), *b = live_session(db, "bolt");
        int32_t slow;
        pqr_result *r;
        leave_a_table(db, a, 0, &slow);
        OK(lane ? pqr_read(b, q, &r, &live_error) : pqr_write(b, q, &r, &live_error));
        assert_int_not_equal(pqr_int32(r, 0, 0), slow);
        pqr_result_free(r);
        let_catalog_go();
        EVENTUALLY(10000, is_taken_gladly(a, b, slow)); /* it is as good as any now */
        pqr_session_close(a);
        pqr_session_close(b);
        pqr_close(db, 0);
    }
}

/* One connection is being cleaned and one in a transaction; the third is the monitor's. */
struct full {
    pqr *db;
    pqr_session *a, *b;
    pqr_tx *tx;
    int32_t slow, other; /* backends */
};

static struct full full_but_for_one_that_cleans(pqr *db)
{
    struct full f = {.db = db, .a = live_session(db, "acme"), .b = live_session(db, "bolt")};
    pqr_result *r;
    OK(pqr_begin(f.a, NULL, &f.tx, &live_error));
    OK(pqr_exec(f.tx, PQR_QUERY(.sql = "select pg_backend_pid()"), &r, &live_error));
    f.other = pqr_int32(r, 0, 0);
    pqr_result_free(r);
    leave_a_table(db, f.a, 0, &f.slow);
    return f;
}

static void end_full(struct full *f)
{
    let_catalog_go();
    pqr_session_close(f->a);
    pqr_session_close(f->b);
    pqr_close(f->db, 0);
}

static void the_pool_timeout_bounds_the_wait_for_a_clean_up_too(void **state)
{
    (void)state;
    static const char *const timeouts[] = {"DB_POOL_TIMEOUT=200ms", "DB_POOL_TIMEOUT=nowait"};
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
        struct full f = full_but_for_one_that_cleans(
            READY_ROUTER("DB_CONNECTION_LIMIT=3", timeouts[i]));
        FAILS(PQR_E_POOL_TIMEOUT,
              pqr_write(f.b, PQR_QUERY(.sql = "select 1", .deadline_ms = 5000), NULL, &live_error));
        pqr_rollback(f.tx);
        end_full(&f);
    }
}

struct asking {
    pqr_session *session;
    const char *sql;
    int code;
    int32_t backend;
};

static void *ask_backend(void *arg)
{
    struct asking *w = arg;
    pqr_result *r;
    w->code = pqr_write(w->session, PQR_QUERY(.sql = w->sql), &r, NULL);
    if (w->code == PQR_OK) {
        w->backend = pqr_int32(r, 0, 0);
        pqr_result_free(r);
    }
    return NULL;
}

static void who_waits_for_a_clean_up_gets_what_comes_free_before(void **state)
{
    (void)state;
    struct full f = full_but_for_one_that_cleans(READY_ROUTER("DB_CONNECTION_LIMIT=3"));
    struct asking w = {.session = f.b, .sql = "select pg_backend_pid()"};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, ask_backend, &w), 0);
    EVENTUALLY(10000, health_of(f.db, P).conns_waiting == 1);
    pqr_rollback(f.tx);
    pthread_join(thread, NULL);
    assert_int_equal(w.code, PQR_OK);
    assert_int_equal(w.backend, f.other);
    end_full(&f);
}

/* And then waits for no other any more: its statement waits for the transaction to end. */
static void who_waits_for_a_clean_up_gets_the_connection_when_it_is_done(void **state)
{
    (void)state;
    struct full f = full_but_for_one_that_cleans(READY_ROUTER("DB_CONNECTION_LIMIT=3"));
    struct asking w = {.session = f.b,
                       .sql = "select pg_backend_pid() from pg_advisory_xact_lock(7)"};
    pthread_t thread;
    OK(pqr_exec(f.tx, PQR_QUERY(.sql = "select pg_advisory_xact_lock(7)"), NULL, &live_error));
    assert_int_equal(pthread_create(&thread, NULL, ask_backend, &w), 0);
    EVENTUALLY(10000, health_of(f.db, P).conns_waiting == 1);
    let_catalog_go();
    EVENTUALLY(5000, health_of(f.db, P).conns_waiting == 0);
    pqr_rollback(f.tx);
    pthread_join(thread, NULL);
    assert_int_equal(w.code, PQR_OK);
    assert_int_equal(w.backend, f.slow);
    end_full(&f);
}

static void *read_one(void *arg)
{
    struct asking *w = arg;
    pqr_error err;
    w->code = pqr_read(w->session, PQR_QUERY(.sql = "select 1"), NULL, &err);
    if (w->code != PQR_OK)
        print_error("%s\n", err.message);
    return NULL;
}

static void no_clean_up_makes_a_server_suspect_to_who_opens_a_lane(void **state)
{
    (void)state;
    struct full f = full_but_for_one_that_cleans(
        READY_ROUTER("DB_CONNECTION_LIMIT=3", "DB_CONNECT_TIMEOUT=1s"));
    struct asking w = {.session = f.b};
    pthread_t thread;
    int64_t begun = live_now_ms();
    assert_int_equal(pthread_create(&thread, NULL, read_one, &w), 0);
    while (live_now_ms() - begun < 2200) /* twice as long as it may connect */
        assert_int_equal(health_of(f.db, P).state, PQR_NODE_UP);
    let_catalog_go();
    pthread_join(thread, NULL);
    assert_int_equal(w.code, PQR_OK);
    assert_string_equal(health_of(f.db, P).why, "");
    pqr_rollback(f.tx);
    end_full(&f);
}

/* ---- What cannot be removed -------------------------------------------------------------------- */

/* The server cannot drop the table that such a function made before its transaction has ended, and
 * what cleans the session stands before that. */
static void a_write_whose_leavings_cannot_be_removed_is_told_so(void **state)
{
    static const char *const statements[] = {"select leave_pending()", "select leave_cursor()"};
    pqr_session *s = live_session(*state, "acme");
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        ask(P, "truncate step");
        ask(P, "select setval('turns', 1)");
        FAILS(PQR_E_SQL, pqr_write(s, PQR_QUERY(.sql = statements[i]), NULL, &live_error));
        assert_string_equal(live_error.sqlstate, "55006");
        assert_int_equal(live_error.retry, PQR_RETRY_NEVER);
        says("in a transaction");
        assert_in_range(ask_number(P, "select last_value from turns"), 2, 3); /* twice at most */
        assert_int_equal(ask_number(P, "select count(*) from step"), 0);
        pqr_tx *tx; /* as it says */
        OK(pqr_begin(s, NULL, &tx, &live_error));
        OK(pqr_exec(tx, PQR_QUERY(.sql = statements[i]), NULL, &live_error));
        OK(pqr_commit(tx, &live_error));
        assert_int_equal(ask_number(P, "select count(*) from step"), 1);
    }
    pqr_session_close(s);
}

/* ---- nowait ------------------------------------------------------------------------------------ */

static void new_connections_take(int seconds)
{
    fleet("sql " P " 'alter system set pre_auth_delay = %d' 'select pg_reload_conf()'", seconds);
    EVENTUALLY(10000,
               ask_number(P, "select setting from pg_settings where name = 'pre_auth_delay'") ==
                   seconds);
}

static void nowait_waits_for_a_lane_that_is_being_opened(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_POOL_TIMEOUT=nowait");
    pqr_session *s = live_session(db, "acme");
    new_connections_take(1);
    int code = pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error);
    new_connections_take(0);
    OK(code);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* All but the monitor's are in use. */
static void nowait_does_not_wait_for_a_lane_where_the_pool_is_full(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=3", "DB_POOL_TIMEOUT=nowait");
    pqr_session *a = live_session(db, "acme"), *b = live_session(db, "bolt");
    pqr_tx *one, *two;
    OK(pqr_begin(a, NULL, &one, &live_error));
    OK(pqr_begin(a, NULL, &two, &live_error));
    FAILS(PQR_E_POOL_TIMEOUT, pqr_read(b, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    says("DB_CONNECTION_LIMIT");
    pqr_rollback(one);
    OK(pqr_read(b, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    pqr_rollback(two);
    pqr_session_close(a);
    pqr_session_close(b);
    pqr_close(db, 0);
}

static int prepare(void **state)
{
    ask(P, "create function leave_pending() returns int language plpgsql as $$ begin"
           " perform nextval('turns'); insert into step values (1);"
           " create temp table parent(id int primary key);"
           " create temp table child(id int references parent deferrable initially deferred);"
           " insert into parent values (1); insert into child values (1); return 1; end $$");
    ask(P, "create function leave_cursor() returns refcursor language plpgsql as $$"
           " declare rows refcursor; begin"
           " perform nextval('turns'); insert into step values (1);"
           " create temp table shown(x int); open rows for select * from shown;"
           " return rows; end $$");
    ask(P, "create function leave_table() returns int language plpgsql as $$ begin"
           " create temp table left_behind(x int); return 1; end $$");
    fleet("sql " P " 'create function hold_catalog() returns void security definer language plpgsql"
          " as $f$ begin lock table pg_depend in share mode; end $f$'");
    ask(P, "create table noted(tenant text)");
    ask(P, "create function scratch() returns trigger language plpgsql as $$ begin"
           " create temp table if not exists scratch(tenant text);"
           " insert into scratch values (new.tenant); listen scratch; return null; end $$");
    ask(P, "create constraint trigger scratch after insert on noted deferrable initially deferred"
           " for each row execute function scratch()");
    ask(P, "create procedure look_for_scratch() language plpgsql as $$ begin"
           " if to_regclass('pg_temp.scratch') is not null then raise 'another''s'; end if;"
           " end $$");
    ask(P, "create function forget_statements() returns int language plpgsql as $$ begin"
           " deallocate all; return 1; end $$");
    ask(P, "create sequence turns");
    ask(P, "create function turn_and_raise(state text) returns int language plpgsql as $$ begin"
           " perform nextval('turns'); raise exception 'no' using errcode = state; end $$");
    ask(P, "create table step(n int)");
    ask(P, "create procedure step_and_raise(state text) language plpgsql as $$ begin"
           " insert into step values (1); commit;"
           " raise exception 'after the commit' using errcode = state; end $$");
    setenv("DB_SOCKET_TIMEOUT", "10s", 1); /* the default deadline */
    *state = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_procedure_that_has_committed_is_never_run_again_whatever_it_raises),
        cmocka_unit_test(a_write_that_raises_such_a_code_runs_once),
        cmocka_unit_test(a_read_whose_prepared_statement_is_gone_is_run_again),
        cmocka_unit_test(a_transaction_meets_nothing_of_a_trigger_at_another_s_commit),
        cmocka_unit_test(a_statement_alone_meets_nothing_of_a_trigger_at_another_s_commit),
        cmocka_unit_test(a_transaction_does_not_begin_where_the_session_cannot_be_cleared),
        cmocka_unit_test(a_lane_meets_nothing_of_a_trigger_at_another_s_commit),
        cmocka_unit_test(the_monitor_waits_for_a_connection_that_is_being_cleaned),
        cmocka_unit_test(a_server_is_not_called_silent_while_it_only_cleans),
        cmocka_unit_test(nobody_waits_for_a_clean_up_that_takes_its_time),
        cmocka_unit_test(the_pool_timeout_bounds_the_wait_for_a_clean_up_too),
        cmocka_unit_test(who_waits_for_a_clean_up_gets_what_comes_free_before),
        cmocka_unit_test(who_waits_for_a_clean_up_gets_the_connection_when_it_is_done),
        cmocka_unit_test(no_clean_up_makes_a_server_suspect_to_who_opens_a_lane),
        cmocka_unit_test(a_write_whose_leavings_cannot_be_removed_is_told_so),
        cmocka_unit_test(nowait_waits_for_a_lane_that_is_being_opened),
        cmocka_unit_test(nowait_does_not_wait_for_a_lane_where_the_pool_is_full),
    };
    return cmocka_run_group_tests(tests, prepare, close_router);
}
