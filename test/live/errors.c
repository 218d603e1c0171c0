/* Errors a person can act on, and outcomes that are never guessed. Fleet: one shard, one replica. */
#include "live.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define P "shard0/primary"
#define R1 "shard0/replica1"

/* ---- What the server refuses ----------------------------------------------------------------- */

static void a_unique_violation_names_constraint_and_table(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    const pqr_query *q = PQR_QUERY(.name = "add_person",
                                   .sql = "insert into person(email) values ('a@b')");
    OK(pqr_write(s, q, NULL, &live_error));
    FAILS(PQR_E_SQL, pqr_write(s, q, NULL, &live_error));
    assert_string_equal(live_error.sqlstate, "23505");
    assert_string_equal(live_error.constraint, "person_email_key");
    assert_string_equal(live_error.table, "person");
    assert_string_equal(live_error.schema, "public");
    assert_string_equal(live_error.node, P);
    assert_int_equal(live_error.shard, 0);
    assert_int_equal(live_error.index, -1);
    assert_int_equal(live_error.retry, PQR_RETRY_NEVER);
    says("add_person");
    pqr_session_close(s);
}

static void a_missing_value_names_its_column(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    FAILS(PQR_E_SQL, pqr_write(s, PQR_QUERY(.sql = "insert into person(email) values (null)"), NULL,
                               &live_error));
    assert_string_equal(live_error.sqlstate, "23502");
    assert_string_equal(live_error.column, "email");
    pqr_session_close(s);
}

static void a_deferred_constraint_fails_the_write_that_broke_it(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    FAILS(PQR_E_SQL, pqr_write(s, PQR_QUERY(.sql = "insert into child(parent) values (12345)"),
                               NULL, &live_error));
    assert_string_equal(live_error.sqlstate, "23503");
    assert_int_equal(ask_number(P, "select count(*) from child"), 0);
    pqr_session_close(s);
}

static void an_error_leaves_the_next_call_unharmed(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    for (int i = 0; i < 50; i++) {
        pqr_result *res;
        FAILS(PQR_E_SQL, pqr_read(s, PQR_QUERY(.sql = "select 1/0"), NULL, &live_error));
        OK(pqr_read(s, PQR_QUERY(.sql = "select 7"), &res, &live_error));
        assert_int_equal(pqr_int64(res, 0, 0), 7);
        pqr_result_free(res);
    }
    pqr_session_close(s);
}

/* ---- What the caller does wrong -------------------------------------------------------------- */

static void wrong_arguments_are_named(void **state)
{
    pqr *db = *state;
    pqr_session *s = live_session(db, "acme");
    FAILS(PQR_E_USAGE, pqr_read(NULL, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    says("session");
    FAILS(PQR_E_USAGE, pqr_read(s, NULL, NULL, &live_error));
    says("query");
    FAILS(PQR_E_USAGE, pqr_read(s, PQR_QUERY(.sql = NULL), NULL, &live_error));
    FAILS(PQR_E_USAGE, pqr_read(s, PQR_QUERY(.sql = "  "), NULL, &live_error));
    pqr_query unsized = {.sql = "select 1"};
    FAILS(PQR_E_USAGE, pqr_read(s, &unsized, NULL, &live_error));
    says(".size");
    FAILS(PQR_E_USAGE, pqr_read(s, PQR_QUERY(.sql = "select 1", .level = 9), NULL, &live_error));
    FAILS(PQR_E_USAGE, pqr_read_batch(s, NULL, 0, NULL, &live_error));
    FAILS(PQR_E_USAGE, pqr_begin(s, PQR_TX(.isolation = 7), &(pqr_tx *){NULL}, &live_error));
    FAILS(PQR_E_USAGE, pqr_session_open(db, PQR_SESSION(.tenant = "x"), NULL, &live_error));
    pqr_session_close(s);
}

static void statements_that_would_poison_a_connection_are_refused(void **state)
{
    static const char *const statements[] = {
        "begin",
        "commit",
        "rollback",
        "set search_path = x",
        "reset all",
        "copy note to stdout",
        "listen x",
        "prepare p as select 1",
        "execute p",
        "declare c cursor for select 1",
        "discard all",
        "deallocate all",
        "create temp table t (x int)",
        " /* hidden */ -- twice\n set timezone = 'UTC'",
    };
    pqr_session *s = live_session(*state, "acme");
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        FAILS(PQR_E_USAGE, pqr_read(s, PQR_QUERY(.sql = statements[i]), NULL, &live_error));
        FAILS(PQR_E_USAGE, pqr_write(s, PQR_QUERY(.sql = statements[i]), NULL, &live_error));
    }
    pqr_session_close(s);
}

static void several_statements_in_one_are_refused_by_the_server(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    FAILS(PQR_E_SQL,
          pqr_write(s, PQR_QUERY(.sql = "select 1; set timezone = 'UTC'"), NULL, &live_error));
    assert_string_equal(live_error.sqlstate, "42601");
    pqr_session_close(s);
}

/* ---- Time and room --------------------------------------------------------------------------- */

static void a_read_that_takes_too_long_ends_by_its_deadline(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    int64_t begun = live_now_ms();
    FAILS(PQR_E_DEADLINE, pqr_read(s, PQR_QUERY(.sql = "select pg_sleep(10)", .deadline_ms = 200),
                                   NULL, &live_error));
    assert_in_range(live_now_ms() - begun, 199, 400);
    assert_int_equal(live_error.retry, PQR_RETRY_SAFE);
    pqr_session_close(s);
}

static void a_write_that_was_sent_and_not_answered_is_unknown(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    FAILS(PQR_E_UNKNOWN, pqr_write(s, PQR_QUERY(.sql = "select pg_sleep(10)", .deadline_ms = 200),
                                   NULL, &live_error));
    assert_int_equal(live_error.retry, PQR_RETRY_UNKNOWN);
    says("may have happened");
    pqr_session_close(s);
}

static void the_server_stops_a_statement_that_nobody_waits_for(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    pqr_write(s, PQR_QUERY(.sql = "select pg_sleep(60)", .deadline_ms = 100), NULL, &live_error);
    EVENTUALLY(
        3000,
        ask_number(
            P, "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'") == 0);
    pqr_session_close(s);
}

static void the_statement_timeout_is_set_at_the_server(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_STATEMENT_TIMEOUT=100ms");
    pqr_session *s = live_session(db, "acme");
    FAILS(PQR_E_SQL, pqr_read(s, PQR_QUERY(.sql = "select pg_sleep(10)"), NULL, &live_error));
    assert_string_equal(live_error.sqlstate, "57014");
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void the_socket_timeout_is_the_default_deadline(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_SOCKET_TIMEOUT=300ms");
    pqr_session *s = live_session(db, "acme");
    int64_t begun = live_now_ms();
    FAILS(PQR_E_DEADLINE, pqr_read(s, PQR_QUERY(.sql = "select pg_sleep(10)"), NULL, &live_error));
    assert_in_range(live_now_ms() - begun, 299, 600);
    pqr_session_close(s);
    pqr_close(db, 0);
}

struct holder {
    pqr *db;
    pqr_session *session;
    pqr_tx *tx;
};

static struct holder hold_the_only_connection(const char *const *settings)
{
    struct holder h = {.db = live_ready(live_router(settings))};
    h.session = live_session(h.db, "acme");
    OK(pqr_begin(h.session, NULL, &h.tx, &live_error));
    return h;
}

static void let_go(struct holder *h)
{
    pqr_rollback(h->tx);
    pqr_session_close(h->session);
    pqr_close(h->db, 0);
}

static void a_wait_for_a_connection_ends_by_the_pool_timeout(void **state)
{
    (void)state;
    struct holder h = hold_the_only_connection(
        (const char *const[]){"DB_CONNECTION_LIMIT=1", "DB_POOL_TIMEOUT=200ms", NULL});
    pqr_session *s = live_session(h.db, "acme");
    int64_t begun = live_now_ms();
    FAILS(PQR_E_POOL_TIMEOUT, pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    assert_in_range(live_now_ms() - begun, 199, 400);
    says("DB_CONNECTION_LIMIT");
    assert_string_equal(live_error.node, P);
    assert_int_equal(live_error.retry, PQR_RETRY_SAFE);
    FAILS(PQR_E_DEADLINE,
          pqr_write(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 50), NULL, &live_error));
    says("waiting for a connection");
    pqr_session_close(s);
    let_go(&h);
}

static void nowait_fails_at_once(void **state)
{
    (void)state;
    struct holder h = hold_the_only_connection(
        (const char *const[]){"DB_CONNECTION_LIMIT=1", "DB_POOL_TIMEOUT=nowait", NULL});
    pqr_session *s = live_session(h.db, "acme");
    int64_t begun = live_now_ms();
    FAILS(PQR_E_POOL_TIMEOUT, pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    assert_in_range(live_now_ms() - begun, 0, 100);
    pqr_session_close(s);
    let_go(&h);
}

static void a_full_queue_is_told_apart_from_a_timeout(void **state)
{
    (void)state;
    struct holder h = hold_the_only_connection(
        (const char *const[]){"DB_CONNECTION_LIMIT=1", "DB_POOL_QUEUE_LIMIT=0", NULL});
    pqr_session *s = live_session(h.db, "acme");
    FAILS(PQR_E_POOL_FULL, pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    says("DB_POOL_QUEUE_LIMIT");
    pqr_session_close(s);
    let_go(&h);
}

/* ---- Servers that cannot be used ------------------------------------------------------------- */

static void a_wrong_password_is_told_and_never_shown(void **state)
{
    (void)state;
    pqr *db = ROUTER("DATABASE_PRIMARY_URL=postgresql://app:planted%40secret@127.0.0.1:1/app",
                     "DATABASE_REPLICA_1_URL");
    pqr_close(db, 0);
    char url[512];
    const char *at = strrchr(getenv("DATABASE_PRIMARY_URL"), '@');
    snprintf(url, sizeof url, "DATABASE_PRIMARY_URL=postgresql://app:planted%%40secret%s", at);
    db = ROUTER(url, "DATABASE_REPLICA_1_URL");
    pqr_session *s = live_session(db, "acme");
    FAILS(PQR_E_AUTH, pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    assert_string_equal(live_error.sqlstate, "28P01");
    says("wrong password");
    assert_null(strstr(live_error.message, "planted"));
    FAILS(PQR_E_AUTH, pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_missing_database_is_told(void **state)
{
    (void)state;
    char url[512];
    snprintf(url, sizeof url, "DATABASE_PRIMARY_URL=%s", getenv("DATABASE_PRIMARY_URL"));
    memcpy(strrchr(url, '/'), "/nix", 4);
    pqr *db = ROUTER(url, "DATABASE_REPLICA_1_URL");
    pqr_session *s = live_session(db, "acme");
    FAILS(PQR_E_AUTH, pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    assert_string_equal(live_error.sqlstate, "3D000");
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_shard_without_a_primary_says_so_and_reads_go_on(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    fleet("kill " P);
    pqr_session *s = live_session(db, "acme");
    int64_t begun = live_now_ms();
    FAILS(PQR_E_NO_PRIMARY,
          pqr_write(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 500), NULL, &live_error));
    assert_in_range(live_now_ms() - begun, 0, 700);
    says(P);
    says("Connection refused");
    assert_int_equal(live_error.retry, PQR_RETRY_SAFE);
    for (int i = 0; i < 5; i++)
        assert_string_equal(served_by(db, "acme", PQR_LEVEL_SESSION), R1);
    fleet("start " P);
    OK(pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_write_waits_for_the_primary_to_come_back(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    run_write(db, "acme", "select 1");
    fleet("restart " P " --mode fast");
    run_write(db, "acme", "select 1"); /* on a pool of dead connections */
    pqr_close(db, 0);
}

static void a_killed_backend_costs_a_read_nothing(void **state)
{
    pqr *db = *state;
    for (int i = 0; i < 20; i++) {
        pqr_session *s = live_session(db, "acme");
        OK(pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
        fleet(
            "sql " R1
            " \"select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'errors'\"");
        OK(pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
        pqr_session_close(s);
    }
}

static void *terminate_soon(void *arg)
{
    (void)arg;
    live_sleep_ms(100);
    fleet(
        "sql " R1
        " \"select pg_terminate_backend(pid) from pg_stat_activity where query like 'select pg_sleep%%'\"");
    fleet(
        "sql " P
        " \"select pg_terminate_backend(pid) from pg_stat_activity where query like 'select pg_sleep%%'\"");
    return NULL;
}

static void *terminate_call_soon(void *arg)
{
    (void)arg;
    live_sleep_ms(300);
    ask(P, "select pg_terminate_backend(pid) from pg_stat_activity where query like 'call %%'");
    return NULL;
}

static void a_read_whose_backend_is_killed_under_it_is_run_again(void **state)
{
    pthread_t killer;
    pqr_session *s = live_session(*state, "acme");
    pqr_result *res;
    pthread_create(&killer, NULL, terminate_soon, NULL);
    OK(pqr_read(s, PQR_QUERY(.sql = "select pg_sleep(1.5), 5"), &res, &live_error));
    assert_int_equal(pqr_int64(res, 0, 1), 5);
    pthread_join(killer, NULL);
    pqr_result_free(res);
    pqr_session_close(s);
}

/* Run once when it was terminated (it rolled back), once more, and never reported as failed. */
static void a_write_terminated_by_an_administrator_is_run_again_once_it_provably_rolled_back(
    void **state)
{
    pthread_t killer;
    pqr_session *s = live_session(*state, "acme");
    ask(P, "truncate person");
    pthread_create(&killer, NULL, terminate_soon, NULL);
    OK(pqr_write(s,
                 PQR_QUERY(.sql = "with slow as (select pg_sleep(1)) select pg_sleep(0) from slow"),
                 NULL, &live_error));
    pthread_join(killer, NULL);
    pqr_session_close(s);
}

/* A COMMIT takes effect before its Sync: a session that is terminated in between has committed. */
struct committers {
    pqr *db;
    _Atomic bool stop;
    _Atomic int next, lies;
};

static int insert_id(pqr_tx *tx, void *arg, pqr_error *err)
{
    return pqr_exec(
        tx, PQR_QUERY(.sql = "insert into ledger values ($1)", PQR_PARAMS(PQR_INT64(*(int *)arg))),
        NULL, err);
}

static void *commit_ids(void *arg)
{
    struct committers *c = arg;
    while (!atomic_load(&c->stop)) {
        int id = atomic_fetch_add(&c->next, 1);
        pqr_session *s = live_session(c->db, "acme");
        int code = pqr_transact(s, NULL, insert_id, &id, &live_error);
        pqr_session_close(s);
        long rows = ask_number(P, "select count(*) from ledger where id = %d", id);
        bool lie = rows > 1 || (code == PQR_OK && rows != 1) ||
                   (code != PQR_OK && code != PQR_E_UNKNOWN && rows != 0);
        if (lie)
            print_error("%d: %s, and %ld rows\n", id, pqr_code_name(code), rows);
        atomic_fetch_add(&c->lies, lie);
    }
    return NULL;
}

static void a_transaction_that_is_terminated_at_any_moment_is_told_truly(void **state)
{
    struct committers c = {.db = *state};
    pthread_t t[2];
    ask(P, "create table ledger(id bigint)");
    for (int i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, commit_ids, &c);
    for (int64_t until = live_now_ms() + 6000; live_now_ms() < until;)
        ask(P, "select pg_terminate_backend(pid) from pg_stat_activity"
               " where application_name = 'errors' and state <> 'idle'");
    atomic_store(&c.stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    print_message("%d transactions\n", c.next);
    assert_int_equal(c.lies, 0);
}

static void a_procedure_that_commits_inside_is_never_run_again(void **state)
{
    pthread_t killer;
    ask(P, "create table steps(n int)");
    ask(P, "create procedure two_steps() language plpgsql as $$ begin insert into steps values (1);"
           " commit; perform pg_sleep(1); insert into steps values (2); end $$");
    for (int alone = 0; alone < 2; alone++) {
        ask(P, "truncate steps");
        pqr_session *s = live_session(*state, "acme");
        pthread_create(&killer, NULL, terminate_call_soon, NULL);
        FAILS(PQR_E_UNKNOWN, pqr_write(s, PQR_QUERY(.sql = "call two_steps()", .alone = alone),
                                       NULL, &live_error));
        pthread_join(killer, NULL);
        assert_int_equal(ask_number(P, "select count(*) from steps"), 1);
        pqr_session_close(s);
    }
}

static void explain_of_what_makes_a_table_is_no_read(void **state)
{
    static const char *const statements[] = {
        "explain analyze create table made as select 1",
        "explain (analyze) select 1 as x into made",
        "explain analyze create materialized view made as select 1",
        "explain analyze select 1 as x into temp made",
    };
    pqr_session *s = live_session(*state, "acme");
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        FAILS(PQR_E_USAGE, pqr_read(s, PQR_QUERY(.sql = statements[i], .level = PQR_LEVEL_PRIMARY),
                                    NULL, &live_error));
    OK(pqr_read(s, PQR_QUERY(.sql = "explain analyze select 1"), NULL, &live_error));
    assert_int_equal(ask_number(P, "select count(*) from pg_class where relname = 'made'"), 0);
    pqr_session_close(s);
}

static int sleep_often(pqr_tx *tx, void *arg, pqr_error *err)
{
    (void)arg;
    int code = PQR_OK;
    for (int i = 0; i < 5 && code == PQR_OK; i++)
        code = pqr_exec(tx, PQR_QUERY(.sql = "select pg_sleep(0.3)"), NULL, err);
    return code;
}

#define TIME_MS 2000

/* arg: 1: to be committed after the time has passed; 2: one more statement after it. */
static int outlast_the_deadline(pqr_tx *tx, void *arg, pqr_error *err)
{
    int code = pqr_exec(tx, PQR_QUERY(.sql = "insert into late values (1)"), NULL, err);
    live_sleep_ms(TIME_MS + 100);
    if (code == PQR_OK && *(int *)arg == 2)
        code = pqr_exec(tx, PQR_QUERY(.sql = "insert into late values (2)"), NULL, err);
    return code;
}

static void nothing_is_sent_once_the_deadline_has_passed(void **state)
{
    ask(P, "create table late(n int)");
    pqr_session *s = live_session(*state, "acme");
    for (int way = 1; way <= 2; way++) {
        FAILS(PQR_E_DEADLINE, pqr_transact(s, PQR_TX(.deadline_ms = TIME_MS), outlast_the_deadline,
                                           &way, &live_error));
        assert_int_equal(live_error.retry, PQR_RETRY_SAFE);
        says(way == 1 ? "COMMIT" : "nothing was sent");
        assert_int_equal(ask_number(P, "select count(*) from late"), 0);
    }
    pqr_session_close(s);
}

static void the_deadline_of_a_transaction_is_of_the_whole(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    int64_t begun = live_now_ms();
    FAILS(PQR_E_DEADLINE,
          pqr_transact(s, PQR_TX(.deadline_ms = 500), sleep_often, NULL, &live_error));
    assert_in_range(live_now_ms() - begun, 450, 900);
    FAILS(PQR_E_USAGE,
          pqr_read(s, PQR_QUERY(.sql = "select 1", .deadline_ms = -1), NULL, &live_error));
    FAILS(PQR_E_USAGE, pqr_begin(s, PQR_TX(.deadline_ms = -1), &(pqr_tx *){NULL}, &live_error));
    FAILS(PQR_E_USAGE, pqr_session_open(*state, PQR_SESSION(.tenant = "acme", .deadline_ms = -1),
                                        &(pqr_session *){NULL}, &live_error));
    pqr_session_close(s);
}

static int prepare(void **state)
{
    ask(P, "create table person(id bigserial primary key, email text not null unique)");
    make_parent_and_child(P);
    *state = READY_ROUTER("DB_HEALTH_INTERVAL=100ms", "DB_APPLICATION_NAME=errors");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unique_violation_names_constraint_and_table),
        cmocka_unit_test(a_missing_value_names_its_column),
        cmocka_unit_test(a_deferred_constraint_fails_the_write_that_broke_it),
        cmocka_unit_test(an_error_leaves_the_next_call_unharmed),
        cmocka_unit_test(wrong_arguments_are_named),
        cmocka_unit_test(statements_that_would_poison_a_connection_are_refused),
        cmocka_unit_test(several_statements_in_one_are_refused_by_the_server),
        cmocka_unit_test(a_read_that_takes_too_long_ends_by_its_deadline),
        cmocka_unit_test(a_write_that_was_sent_and_not_answered_is_unknown),
        cmocka_unit_test(the_server_stops_a_statement_that_nobody_waits_for),
        cmocka_unit_test(the_statement_timeout_is_set_at_the_server),
        cmocka_unit_test(the_socket_timeout_is_the_default_deadline),
        cmocka_unit_test(a_wait_for_a_connection_ends_by_the_pool_timeout),
        cmocka_unit_test(nowait_fails_at_once),
        cmocka_unit_test(a_full_queue_is_told_apart_from_a_timeout),
        cmocka_unit_test(a_wrong_password_is_told_and_never_shown),
        cmocka_unit_test(a_missing_database_is_told),
        cmocka_unit_test(a_shard_without_a_primary_says_so_and_reads_go_on),
        cmocka_unit_test(a_write_waits_for_the_primary_to_come_back),
        cmocka_unit_test(a_killed_backend_costs_a_read_nothing),
        cmocka_unit_test(a_read_whose_backend_is_killed_under_it_is_run_again),
        cmocka_unit_test(
            a_write_terminated_by_an_administrator_is_run_again_once_it_provably_rolled_back),
        cmocka_unit_test(a_transaction_that_is_terminated_at_any_moment_is_told_truly),
        cmocka_unit_test(a_procedure_that_commits_inside_is_never_run_again),
        cmocka_unit_test(explain_of_what_makes_a_table_is_no_read),
        cmocka_unit_test(nothing_is_sent_once_the_deadline_has_passed),
        cmocka_unit_test(the_deadline_of_a_transaction_is_of_the_whole),
    };
    return cmocka_run_group_tests(tests, prepare, close_router);
}
