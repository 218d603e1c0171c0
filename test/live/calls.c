/* What calls are made of: parameters and results, batches, transactions, lent connections.
 * Fleet: one shard, one replica. */
#include "live.h"

#include <libpq-fe.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define P "shard0/primary"
#define R1 "shard0/replica1"

/* ---- Parameters and results ------------------------------------------------------------------ */

static pqr_result *echo(pqr *db, const char *sql, const pqr_param *params, size_t n, int binary)
{
    pqr_session *s = live_session(db, "acme");
    pqr_result *res = NULL;
    pqr_query q = {
        .size = sizeof q, .sql = sql, .params = params, .nparams = n, .binary_result = binary};
    OK(pqr_read(s, &q, &res, &live_error));
    pqr_session_close(s);
    return res;
}

static void every_type_goes_there_and_back(void **state)
{
    static const uint8_t uuid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255};
    const pqr_param params[] = {
        PQR_NULL,       PQR_TEXT("grüße"),    PQR_TEXT_N("cut here", 3), PQR_BYTES("\0\1\xff", 3),
        PQR_BOOL(true), PQR_INT32(INT32_MIN), PQR_INT64(INT64_MIN),      PQR_FLOAT8(0.1),
        PQR_UUID(uuid), PQR_TIMESTAMPTZ(-1),
    };
    for (int binary = 0; binary < 2; binary++) {
        pqr_result *r = echo(*state,
                             "select $1::text, $2::text, $3::text, $4, $5, $6, $7, $8, $9, $10",
                             params, 10, binary);
        int32_t i32;
        int64_t i64;
        double d;
        bool b;
        uint8_t u[16];
        char bytes[8];
        size_t len;
        assert_true(pqr_is_null(r, 0, 0));
        assert_string_equal(pqr_text(r, 0, 1), "grüße");
        assert_string_equal(pqr_text(r, 0, 2), "cut");
        OK(pqr_get_bytes(r, 0, 3, bytes, sizeof bytes, &len, &live_error));
        assert_int_equal(len, 3);
        assert_memory_equal(bytes, "\0\1\xff", 3);
        OK(pqr_get_bool(r, 0, 4, &b, &live_error));
        assert_true(b);
        OK(pqr_get_int32(r, 0, 5, &i32, &live_error));
        assert_int_equal(i32, INT32_MIN);
        OK(pqr_get_int64(r, 0, 6, &i64, &live_error));
        assert_true(i64 == INT64_MIN);
        OK(pqr_get_float8(r, 0, 7, &d, &live_error));
        assert_true(fabs(d - 0.1) < 1e-18);
        OK(pqr_get_uuid(r, 0, 8, u, &live_error));
        assert_memory_equal(u, uuid, 16);
        OK(pqr_get_timestamptz(r, 0, 9, &i64, &live_error));
        assert_int_equal(i64, -1);
        FAILS(PQR_E_TYPE, pqr_get_int64(r, 0, 1, &i64, &live_error));
        FAILS(PQR_E_TYPE, pqr_get_int64(r, 1, 0, &i64, &live_error));
        pqr_result_free(r);
    }
}

static void arrays_go_there_whole(void **state)
{
    static const char *const texts[] = {"a", NULL, "\"q\", {\\}", ""};
    static const int64_t numbers[] = {1, 2, 3};
    static const uint8_t nulls[] = {0, 1, 0};
    pqr_param with_null = PQR_INT64_ARRAY(numbers, 3);
    with_null.nulls = nulls;
    const pqr_param params[] = {PQR_TEXT_ARRAY(texts, 4), PQR_INT64_ARRAY(numbers, 3), with_null,
                                PQR_INT64_ARRAY(NULL, 0)};
    pqr_result *r = echo(
        *state,
        "select array_length($1::text[], 1), ($1::text[])[3], ($1::text[])[2] is null, $2::text, $3::text,"
        " cardinality($4)",
        params, 4, 0);
    assert_int_equal(pqr_int32(r, 0, 0), 4);
    assert_string_equal(pqr_text(r, 0, 1), texts[2]);
    assert_true(pqr_bool(r, 0, 2));
    assert_string_equal(pqr_text(r, 0, 3), "{1,2,3}");
    assert_string_equal(pqr_text(r, 0, 4), "{1,NULL,3}");
    assert_int_equal(pqr_int32(r, 0, 5), 0);
    pqr_result_free(r);
}

static void untyped_text_fits_every_type(void **state)
{
    const pqr_param params[] = {PQR_TEXT("{\"a\": 1}"), PQR_TEXT("12.50"), PQR_TEXT("2026-01-31"),
                                PQR_TEXT("2c5ea4c0-4067-11e9-8bad-9b1deb4d3b7d")};
    pqr_result *r = echo(
        *state, "select ($1::jsonb)->>'a', $2::numeric * 2, $3::date + 1, $4::uuid", params, 4, 0);
    assert_string_equal(pqr_text(r, 0, 0), "1");
    assert_string_equal(pqr_text(r, 0, 1), "25.00");
    assert_string_equal(pqr_text(r, 0, 2), "2026-02-01");
    pqr_result_free(r);
}

static void a_result_outlives_its_session_and_router(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    pqr_result *r = echo(db, "select 5 as five", NULL, 0, 0);
    pqr_result *again = pqr_result_ref(r);
    pqr_close(db, 0);
    pqr_result_free(r);
    assert_int_equal(pqr_int64(again, 0, 0), 5);
    assert_int_equal(pqr_column(again, "five"), 0);
    assert_int_equal(PQntuples(pqr_result_pg(again)), 1);
    pqr_result_free(again);
}

static void a_write_tells_the_rows_it_touched(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    pqr_result *r;
    OK(pqr_write(s,
                 PQR_QUERY(.sql = "insert into note(body) select 'x' from generate_series(1, 7)"),
                 &r, &live_error));
    assert_int_equal(pqr_affected(r), 7);
    assert_string_equal(pqr_source(r), P);
    pqr_result_free(r);
    pqr_session_close(s);
}

static void a_large_result_comes_whole(void **state)
{
    pqr_result *r = echo(*state, "select g, repeat('x', 1000) from generate_series(1, 20000) g",
                         NULL, 0, 0);
    assert_int_equal(pqr_rows(r), 20000);
    assert_int_equal(pqr_int64(r, 19999, 0), 20000);
    assert_int_equal(pqr_length(r, 19999, 1), 1000);
    pqr_result_free(r);
}

static void a_large_parameter_goes_whole(void **state)
{
    size_t len = 20 << 20;
    char *big = malloc(len + 1);
    memset(big, 'y', len);
    big[len] = '\0';
    const pqr_param params[] = {PQR_TEXT(big)};
    pqr_result *r = echo(*state, "select length($1::text)", params, 1, 0);
    assert_int_equal(pqr_int64(r, 0, 0), (int64_t)len);
    pqr_result_free(r);
    free(big);
}

/* ---- Batches --------------------------------------------------------------------------------- */

static void a_batch_gives_each_statement_its_result(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    pqr_result *res[20];
    pqr_query own[20];
    const pqr_query *list[20];
    pqr_param params[20];
    for (int i = 0; i < 20; i++) {
        params[i] = (pqr_param)PQR_INT64(i);
        own[i] = (pqr_query){
            .size = sizeof own[i], .sql = "select $1", .params = &params[i], .nparams = 1};
        list[i] = &own[i];
    }
    OK(pqr_read_batch(s, list, 20, res, &live_error));
    for (int i = 0; i < 20; i++) {
        assert_int_equal(pqr_int64(res[i], 0, 0), i);
        assert_string_equal(pqr_source(res[i]), pqr_source(res[0]));
    }
    for (int i = 0; i < 20; i++)
        pqr_result_free(res[i]);
    pqr_session_close(s);
}

static void a_batch_fails_whole_and_tells_which_statement(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    pqr_result *res[3] = {(pqr_result *)-1, (pqr_result *)-1, (pqr_result *)-1};
    const pqr_query *list[] = {PQR_QUERY(.sql = "select 1"), PQR_QUERY(.sql = "select 1/0"),
                               PQR_QUERY(.sql = "select 3")};
    FAILS(PQR_E_SQL, pqr_read_batch(s, list, 3, res, &live_error));
    assert_int_equal(live_error.index, 1);
    for (int i = 0; i < 3; i++)
        assert_null(res[i]);
    const pqr_query *refused[] = {PQR_QUERY(.sql = "select 1"), PQR_QUERY(.sql = "commit")};
    FAILS(PQR_E_USAGE, pqr_read_batch(s, refused, 2, res, &live_error));
    assert_int_equal(live_error.index, 1);
    pqr_session_close(s);
}

static int ask_proxy(FILE *to, FILE *from, const char *verb)
{
    int n = -1;
    fprintf(to, "%s\n", verb);
    fflush(to);
    assert_int_equal(fscanf(from, "%d", &n), 1);
    return n;
}

static void a_batch_is_one_round_trip(void **state)
{
    (void)state;
    char url[512], command[512], port[8] = "";
    const char *given = getenv("DATABASE_PRIMARY_URL");
    const char *colon = strrchr(given, ':'), *slash = strrchr(given, '/');
    snprintf(port, sizeof port, "%.*s", (int)(slash - colon - 1), colon + 1);
    int in[2], out[2];
    assert_int_equal(pipe(in) | pipe(out), 0);
    snprintf(command, sizeof command, "python3 %s %s",
             getenv("PROXY") ? getenv("PROXY") : "test/lib/proxy.py", port);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(in[1]);
        close(out[0]);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    FILE *to = fdopen(in[1], "w"), *from = fdopen(out[0], "r");
    int listens = 0;
    assert_int_equal(fscanf(from, "%d", &listens), 1);
    snprintf(url, sizeof url, "DATABASE_PRIMARY_URL=%.*s:%d%s", (int)(colon - given), given,
             listens, slash);
    pqr *db = READY_ROUTER(url, "DATABASE_REPLICA_1_URL", "DB_HEALTH_INTERVAL=5m");
    pqr_session *s = live_session(db, "acme");
    const pqr_query *list[10];
    pqr_result *res[10];
    const pqr_query *one = PQR_QUERY(.sql = "select 1");
    for (int i = 0; i < 10; i++)
        list[i] = one;
    live_sleep_ms(300); /* the monitor's first, quick rounds are over */
    OK(pqr_read_batch(s, list, 10, res, &live_error)); /* this one connects */
    for (int i = 0; i < 10; i++)
        pqr_result_free(res[i]);
    ask_proxy(to, from, "zero");
    OK(pqr_read_batch(s, list, 10, res, &live_error));
    assert_int_equal(ask_proxy(to, from, "count"), 1);
    for (int i = 0; i < 10; i++)
        pqr_result_free(res[i]);
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    assert_int_equal(ask_proxy(to, from, "count"), 2);
    pqr_session_close(s);
    pqr_close(db, 0);
    fclose(to);
    fclose(from);
}

/* ---- Transactions ---------------------------------------------------------------------------- */

static long notes(const char *body)
{
    return ask_number(P, "select count(*) from note where body = '%s'", body);
}

static pqr_tx *begin(pqr_session *s, const pqr_tx_options *o)
{
    pqr_tx *tx = NULL;
    OK(pqr_begin(s, o, &tx, &live_error));
    return tx;
}

static void a_commit_keeps_and_a_rollback_drops(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    pqr_tx *tx = begin(s, NULL);
    OK(pqr_exec(tx, PQR_QUERY(.sql = "insert into note(body) values ('kept')"), NULL, &live_error));
    assert_int_equal(notes("kept"), 0);
    OK(pqr_commit(tx, &live_error));
    assert_int_equal(notes("kept"), 1);
    tx = begin(s, NULL);
    OK(pqr_exec(tx, PQR_QUERY(.sql = "insert into note(body) values ('dropped')"), NULL,
                &live_error));
    pqr_rollback(tx);
    tx = begin(s, NULL);
    OK(pqr_exec(tx, PQR_QUERY(.sql = "insert into note(body) values ('dropped')"), NULL,
                &live_error));
    pqr_session_close(s); /* rolls back what is left open */
    assert_int_equal(notes("dropped"), 0);
}

static void a_failed_transaction_is_rolled_back_never_committed(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    pqr_tx *tx = begin(s, NULL);
    OK(pqr_exec(tx, PQR_QUERY(.sql = "insert into note(body) values ('half')"), NULL, &live_error));
    FAILS(PQR_E_SQL, pqr_exec(tx, PQR_QUERY(.sql = "select 1/0"), NULL, &live_error));
    FAILS(PQR_E_ROLLED_BACK, pqr_exec(tx, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    assert_int_equal(live_error.retry, PQR_RETRY_NEVER);
    FAILS(PQR_E_ROLLED_BACK, pqr_commit(tx, &live_error));
    assert_string_equal(live_error.sqlstate, "22012");
    assert_int_equal(notes("half"), 0);
    pqr_session_close(s);
}

static void a_savepoint_rescues_a_transaction(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    pqr_tx *tx = begin(s, NULL);
    OK(pqr_exec(tx, PQR_QUERY(.sql = "insert into note(body) values ('rescued')"), NULL,
                &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = "savepoint a"), NULL, &live_error));
    FAILS(PQR_E_SQL, pqr_exec(tx, PQR_QUERY(.sql = "select 1/0"), NULL, &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = "rollback to savepoint a"), NULL, &live_error));
    OK(pqr_commit(tx, &live_error));
    assert_int_equal(notes("rescued"), 1);
    pqr_session_close(s);
}

static void a_deferred_constraint_fails_the_commit(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    pqr_tx *tx = begin(s, NULL);
    OK(pqr_exec(tx, PQR_QUERY(.sql = "insert into child(parent) values (1)"), NULL, &live_error));
    FAILS(PQR_E_SQL, pqr_commit(tx, &live_error));
    assert_string_equal(live_error.sqlstate, "23503");
    assert_int_equal(ask_number(P, "select count(*) from child"), 0);
    pqr_session_close(s);
}

static void a_transaction_may_not_be_ended_by_sql(void **state)
{
    static const char *const statements[] = {
        "commit",           "rollback", "begin", "end", "abort", "prepare transaction 'x'",
        "start transaction"};
    pqr_session *s = live_session(*state, "acme");
    pqr_tx *tx = begin(s, NULL);
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        FAILS(PQR_E_USAGE, pqr_exec(tx, PQR_QUERY(.sql = statements[i]), NULL, &live_error));
    OK(pqr_commit(tx, &live_error));
    pqr_session_close(s);
}

/* ---- What is left behind --------------------------------------------------------------------- */

/* The next call on the pool: is it in a session as new, and is no lock held by an old one? `seeded`
 * is the first random number of a session after setseed(0.5). */
static void nothing_is_left(pqr_session *s, const char *seeded, const char *after)
{
    static const char *const left[] = {
        "a setting", "a seed",   "a temporary table", "a prepared statement",
        "a channel", "a cursor", "an advisory lock",
    };
    pqr_result *r;
    OK(pqr_write(
        s,
        PQR_QUERY(.sql = "select current_setting('left.behind', true) is not null"
                         " or current_setting('timezone') = 'Asia/Tokyo', random()::text = $1,"
                         " (select count(*) > 0 from pg_class where relname = 'left_behind'),"
                         " (select count(*) > 0 from pg_prepared_statements where name !~ '^pqr'),"
                         " (select count(*) > 0 from pg_listening_channels()),"
                         " (select count(*) > 0 from pg_cursors where is_holdable),"
                         " (select count(*) > 0 from pg_locks where locktype = 'advisory')",
                  PQR_PARAMS(PQR_TEXT(seeded))),
        &r, &live_error));
    for (size_t i = 0; i < pqr_columns(r); i++)
        if (pqr_bool(r, 0, i))
            fail_msg("%s is left of: %s", left[i], after);
    pqr_result_free(r);
}

static const char *seeded_number(void)
{
    static char number[64];
    snprintf(number, sizeof number, "%s", ask(P, "select setseed(0.5); select random()::text"));
    return number;
}

static void what_a_transaction_leaves_behind_meets_nobody(void **state)
{
    static const char *const statements[] = {
        "set timezone = 'Asia/Tokyo'",
        "set session \"left\".behind = 1",
        "create temp table left_behind(x int)",
        "select 1 as x into temporary left_behind",
        "prepare left_behind as select 1",
        "listen left_behind",
        "declare left_behind cursor with hold for select 1",
        "select set_config('left.behind', 'x', false)",
        "select pg_advisory_lock(4711)",
        "select setseed(0.5)",
        "do $$ begin execute 'create temp table left_behind(x int)'; end $$",
        "call leave_behind()",
        "select leave_table()",
        "select leave_channel()",
    };
    (void)state;
    const char *seeded = seeded_number();
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=1");
    pqr_session *s = live_session(db, "acme");
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        pqr_tx *tx = begin(s, NULL);
        OK(pqr_exec(tx, PQR_QUERY(.sql = statements[i]), NULL, &live_error));
        OK(pqr_commit(tx, &live_error));
        nothing_is_left(s, seeded, statements[i]);
    }
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void what_a_write_or_a_read_leaves_behind_meets_nobody(void **state)
{
    static const struct {
        const char *sql;
        int read, fails;
    } statements[] = {
        {.sql = "select set_config('left.behind', 'x', false)", .read = 1},
        {.sql = "select pg_advisory_lock(4711)", .read = 1},
        {.sql = "select PG_TRY_ADVISORY_LOCK_SHARED(4711)", .read = 1},
        {.sql = "select pg_advisory_lock(4711), 1 / (random() * 0)::int", .read = 1, .fails = 1},
        {.sql = "select setseed(0.5)", .read = 1},
        {.sql = "select query_to_xml('select setseed(0.5)', true, true, '')", .read = 1},
        {.sql = "do $$ begin perform set_config('left.behind', 'x', false); end $$"},
        {.sql = "do $$ begin perform pg_advisory_lock(4711); end $$"},
        {.sql = "do $$ begin create temp table left_behind(x int); end $$"},
        {.sql = "do $$ begin listen left_behind; end $$"},
        {.sql = "do $$ begin set timezone = 'Asia/Tokyo'; end $$"},
        {.sql = "call leave_behind()"},
    };
    (void)state;
    const char *seeded = seeded_number();
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=1");
    pqr_session *s = live_session(db, "acme");
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        for (int way = 0; way < 2 + statements[i].read; way++) {
            const pqr_query *q = PQR_QUERY(.sql = statements[i].sql, .alone = way == 1,
                                           .level = PQR_LEVEL_PRIMARY);
            int code = way < 2 ? pqr_write(s, q, NULL, &live_error)
                               : pqr_read(s, q, NULL, &live_error);
            assert_int_equal(code, statements[i].fails ? PQR_E_SQL : PQR_OK);
            nothing_is_left(s, seeded, statements[i].sql);
        }
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* What functions do is not seen in the statement. Also where there is no replica that could be
 * behind. */
static void what_a_function_leaves_behind_meets_nobody(void **state)
{
    static const char *const statements[] = {"select leave_table()", "select leave_channel()",
                                             "insert into note(body) select leave_table()::text"};
    (void)state;
    const char *seeded = seeded_number();
    for (int alone = 0; alone < 2; alone++) {
        pqr *db = alone ? READY_ROUTER("DB_CONNECTION_LIMIT=1", "DATABASE_REPLICA_1_URL")
                        : READY_ROUTER("DB_CONNECTION_LIMIT=1");
        pqr_session *s = live_session(db, "acme");
        for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
            OK(pqr_write(s, PQR_QUERY(.sql = statements[i]), NULL, &live_error));
            nothing_is_left(s, seeded, statements[i]);
        }
        pqr_session_close(s);
        pqr_close(db, 0);
    }
}

static void what_a_sequence_gave_others_is_not_told(void **state)
{
    static const char *const statements[] = {"select lastval()", "select currval('note_id_seq')"};
    pqr_session *s = live_session(*state, "acme");
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        const pqr_query *q = PQR_QUERY(.sql = statements[i], .level = PQR_LEVEL_PRIMARY);
        OK(pqr_write(s, PQR_QUERY(.sql = "insert into note(body) values ('x')"), NULL,
                     &live_error));
        FAILS(PQR_E_USAGE, pqr_write(s, q, NULL, &live_error));
        assert_non_null(strstr(live_error.message, "RETURNING"));
        FAILS(PQR_E_USAGE, pqr_read(s, q, NULL, &live_error));
        pqr_tx *tx = begin(s, NULL);
        OK(pqr_exec(tx, PQR_QUERY(.sql = "insert into note(body) values ('x')"), NULL,
                    &live_error));
        OK(pqr_exec(tx, q, NULL, &live_error));
        pqr_rollback(tx);
    }
    pqr_session_close(s);
}

/* However often a statement has left nothing before. */
static void what_is_left_for_the_first_time_late_meets_nobody_either(void **state)
{
    (void)state;
    const char *seeded = seeded_number();
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=1");
    pqr_session *s = live_session(db, "acme");
    const char *sql = "select case when $1 then leave_table() else 0 end";
    for (int i = 0; i < 50; i++)
        OK(pqr_write(s, PQR_QUERY(.sql = sql, PQR_PARAMS(PQR_BOOL(false))), NULL, &live_error));
    for (int i = 0; i < 5; i++) {
        OK(pqr_write(s, PQR_QUERY(.sql = sql, PQR_PARAMS(PQR_BOOL(true))), NULL, &live_error));
        nothing_is_left(s, seeded, sql);
    }
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void *hold_catalog(void *arg)
{
    (void)arg;
    fleet("sql " P " 'begin; lock table pg_depend in share mode; select pg_sleep(2)'");
    return NULL;
}

static bool catalog_is_held(void)
{
    return ask_number(P, "select count(*) from pg_locks where granted and mode = 'ShareLock'"
                         " and relation = 'pg_depend'::regclass") == 1;
}

/* A temporary table cannot be dropped, as somebody holds what that would change. */
static void a_session_that_cannot_be_cleaned_serves_nobody(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=4", "DB_STATEMENT_TIMEOUT=200ms");
    pqr_session *s = live_session(db, "acme");
    pthread_t holder;
    pqr_tx *tx = begin(s, NULL);
    pqr_result *r;
    OK(pqr_exec(tx, PQR_QUERY(.sql = "select leave_table(), pg_backend_pid()"), &r, &live_error));
    int32_t before = pqr_int32(r, 0, 1);
    pqr_result_free(r);
    assert_int_equal(pthread_create(&holder, NULL, hold_catalog, NULL), 0);
    EVENTUALLY(5000, catalog_is_held());
    OK(pqr_commit(tx, &live_error));
    assert_int_not_equal(backend(s), before);
    OK(pqr_write(s, PQR_QUERY(.sql = "insert into note(body) values ('once')"), NULL, &live_error));
    pthread_join(holder, NULL);
    EVENTUALLY(10000,
               ask_number(P, "select count(*) from pg_class where relname = 'left_behind'") == 0);
    assert_int_equal(ask_number(P, "select count(*) from note where body = 'once'"), 1);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_read_s_channel_is_left_before_a_connection_is_lent(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=1");
    pqr_session *s = live_session(db, "acme");
    PGconn *pg;
    OK(pqr_read(s, PQR_QUERY(.sql = "select leave_channel()", .level = PQR_LEVEL_PRIMARY), NULL,
                &live_error));
    ask(P, "notify left_behind, 'of another tenant'");
    OK(pqr_lend(s, PQR_LEND_WRITE, &pg, &live_error));
    PQclear(PQexec(pg, "select 1"));
    PGnotify *n = PQnotifies(pg);
    assert_null(n);
    pqr_give_back(s, pg);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void what_a_write_leaves_is_dropped_in_its_own_time(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    OK(pqr_write(s, PQR_QUERY(.sql = "select leave_table()"), NULL, &live_error));
    assert_int_equal(ask_number(P, "select count(*) from pg_class where relname = 'left_behind'"),
                     0);
    pqr_session_close(s);
}

/* In a failed block no prepared statement makes room for another: that would fail, and what stands
 * behind it be passed over. */
static void a_savepoint_is_gone_back_to_also_with_all_prepared_statements_in_use(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_PREPARED_STATEMENTS=2");
    pqr_session *s = live_session(db, "acme");
    pqr_tx *tx = begin(s, NULL);
    OK(pqr_exec(tx, PQR_QUERY(.sql = "insert into note(id, body) values (9001, 'a')"), NULL,
                &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = "savepoint here"), NULL, &live_error));
    FAILS(PQR_E_SQL, pqr_exec(tx, PQR_QUERY(.sql = "insert into note(id, body) values (9001, 'b')"),
                              NULL, &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = "rollback to savepoint here"), NULL, &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = "insert into note(id, body) values (9002, 'c')"), NULL,
                &live_error));
    OK(pqr_commit(tx, &live_error));
    assert_int_equal(ask_number(P, "select count(*) from note where id in (9001, 9002)"), 2);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static int read_shaped(pqr_tx *tx, void *runs, pqr_error *err)
{
    ++*(int *)runs;
    return pqr_exec(tx, PQR_QUERY(.sql = "select * from shaped"), NULL, err);
}

static void a_transaction_runs_again_when_a_table_was_given_another_shape(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=1");
    pqr_session *s = live_session(db, "acme");
    int runs = 0;
    ask(P, "create table shaped(a int)");
    OK(pqr_transact(s, NULL, read_shaped, &runs, &live_error));
    ask(P, "alter table shaped add b int");
    runs = 0;
    OK(pqr_transact(s, NULL, read_shaped, &runs, &live_error));
    assert_int_equal(runs, 2);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* What it committed before it failed is there: the session must see it. */
static void of_a_procedure_that_fails_parts_may_have_happened(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    ask(P, "create procedure half() language plpgsql as $$ begin insert into note(body)"
           " values ('half'); commit; raise exception 'after the commit'; end $$");
    fleet("pause-replay shard0/replica1");
    FAILS(PQR_E_UNKNOWN, pqr_write(s, PQR_QUERY(.sql = "call half()"), NULL, &live_error));
    assert_int_equal(live_error.retry, PQR_RETRY_UNKNOWN);
    says("after the commit");
    OK(pqr_write(s, PQR_QUERY(.sql = "insert into note(body) values ('whole')"), NULL,
                 &live_error));
    pqr_result *r;
    OK(pqr_read(s, PQR_QUERY(.sql = "select count(*) from note where body = 'half'"), &r,
                &live_error));
    assert_int_equal(pqr_int64(r, 0, 0), 1);
    pqr_result_free(r);
    fleet("resume-replay shard0/replica1");
    FAILS(PQR_E_SQL, pqr_write(s, PQR_QUERY(.sql = "call no_such_thing()"), NULL, &live_error));
    pqr_session_close(s);
}

static void what_has_nothing_around_it_is_told_how_to_be_sent(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    FAILS(PQR_E_SQL, pqr_write(s, PQR_QUERY(.sql = "vacuum note"), NULL, &live_error));
    says(".alone = true");
    OK(pqr_write(s, PQR_QUERY(.sql = "vacuum note", .alone = true), NULL, &live_error));
    pqr_session_close(s);
}

static void what_ends_with_its_transaction_costs_no_connection(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_CONNECTION_LIMIT=1");
    pqr_session *s = live_session(db, "acme");
    int32_t before = backend(s);
    pqr_tx *tx = begin(s, NULL);
    OK(pqr_exec(tx,
                PQR_QUERY(.sql = "select set_config('left.behind', $1, true),"
                                 " pg_advisory_xact_lock(4711)",
                          PQR_PARAMS(PQR_TEXT("x"))),
                NULL, &live_error));
    OK(pqr_commit(tx, &live_error));
    assert_int_equal(backend(s), before);
    OK(pqr_write(s, PQR_QUERY(.sql = "select use_table()"), NULL, &live_error));
    assert_int_equal(backend(s), before);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* ---- Transactions that fail, wait and read --------------------------------------------------- */

static void a_read_only_transaction_reads_on_a_replica_and_cannot_write(void **state)
{
    pqr_session *s = live_session(*state, "globex");
    pqr_tx *tx = begin(s, PQR_TX(.read_only = 1, .isolation = PQR_REPEATABLE_READ));
    pqr_result *r;
    OK(pqr_exec(
        tx,
        PQR_QUERY(
                .sql =
                    "select current_setting('cluster_name'), current_setting('transaction_isolation')"),
        &r, &live_error));
    assert_string_equal(pqr_text(r, 0, 0), R1);
    assert_string_equal(pqr_source(r), R1);
    assert_string_equal(pqr_text(r, 0, 1), "repeatable read");
    pqr_result_free(r);
    FAILS(PQR_E_READ_ONLY,
          pqr_exec(tx, PQR_QUERY(.sql = "insert into note(body) values ('x')"), NULL, &live_error));
    pqr_rollback(tx);
    tx = begin(s, PQR_TX(.read_only = 1, .level = PQR_LEVEL_PRIMARY));
    FAILS(PQR_E_READ_ONLY,
          pqr_exec(tx, PQR_QUERY(.sql = "insert into note(body) values ('x')"), NULL, &live_error));
    pqr_rollback(tx);
    pqr_session_close(s);
}

/* Also not by what its function does: what it has committed then would count as not done. */
static void a_read_only_transaction_cannot_be_made_to_write(void **state)
{
    static const char *const statements[] = {
        "set transaction read write",
        "set local transaction_read_only = off",
        "select set_config('transaction_read_only', 'off', true)",
        "select set_read_write()",
    };
    static const int32_t levels[] = {PQR_READ_COMMITTED, PQR_REPEATABLE_READ, PQR_SERIALIZABLE};
    pqr_session *s = live_session(*state, "acme");
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        for (int level = 0; level < 3; level++) {
            pqr_tx *tx = begin(
                s, PQR_TX(.read_only = 1, .level = PQR_LEVEL_PRIMARY, .isolation = levels[level]));
            FAILS(PQR_E_SQL, pqr_exec(tx, PQR_QUERY(.sql = statements[i]), NULL, &live_error));
            assert_string_equal(live_error.sqlstate, "25001");
            FAILS(PQR_E_ROLLED_BACK, pqr_commit(tx, &live_error));
        }
    pqr_tx *tx = begin(s, PQR_TX(.read_only = 1, .isolation = PQR_SERIALIZABLE, .deferrable = 1,
                                 .level = PQR_LEVEL_PRIMARY));
    FAILS(PQR_E_SQL, pqr_exec(tx, PQR_QUERY(.sql = statements[0]), NULL, &live_error));
    pqr_rollback(tx);
    pqr_session_close(s);
}

/* It may have sent notifications. */
static void a_commit_whose_answer_is_lost_is_unknown_also_when_read_only(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    for (int read_only = 0; read_only < 2; read_only++) {
        pqr_tx *tx = begin(
            s, PQR_TX(.read_only = read_only, .level = PQR_LEVEL_PRIMARY, .deadline_ms = 1000));
        OK(pqr_exec(tx, PQR_QUERY(.sql = "select pg_notify('a', 'b')"), NULL, &live_error));
        fleet("stop " P);
        int code = pqr_commit(tx, &live_error);
        fleet("cont " P);
        FAILS(PQR_E_UNKNOWN, code);
        assert_int_equal(live_error.retry, PQR_RETRY_UNKNOWN);
    }
    pqr_session_close(s);
}

static void a_lost_connection_ends_a_transaction_that_did_not_happen(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    pqr_tx *tx = begin(s, NULL);
    OK(pqr_exec(tx, PQR_QUERY(.sql = "insert into note(body) values ('lost')"), NULL, &live_error));
    fleet(
        "sql " P
        " \"select pg_terminate_backend(pid) from pg_stat_activity where state = 'idle in transaction'\"");
    FAILS(PQR_E_LOST, pqr_exec(tx, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    assert_int_equal(live_error.retry, PQR_RETRY_SAFE);
    FAILS(PQR_E_ROLLED_BACK, pqr_commit(tx, &live_error));
    assert_int_equal(notes("lost"), 0);
    pqr_session_close(s);
}

static void a_begin_whose_answer_is_lost_has_done_nothing(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    OK(pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    fleet("stop " P);
    FAILS(PQR_E_DEADLINE, pqr_begin(s, PQR_TX(.deadline_ms = 300), &(pqr_tx *){NULL}, &live_error));
    assert_int_equal(live_error.retry, PQR_RETRY_SAFE);
    fleet("cont " P);
    pqr_session_close(s);
}

static int add_one(pqr_tx *tx, void *arg, pqr_error *err)
{
    pqr_result *r;
    atomic_fetch_add((_Atomic int *)arg, 1);
    int code = pqr_exec(tx, PQR_QUERY(.sql = "select n from counter"), &r, err);
    if (code != PQR_OK)
        return code;
    int64_t n = pqr_int64(r, 0, 0);
    pqr_result_free(r);
    return pqr_exec(tx, PQR_QUERY(.sql = "update counter set n = $1", PQR_PARAMS(PQR_INT64(n + 1))),
                    NULL, err);
}

struct adders {
    pqr *db;
    _Atomic int runs, ok;
};

static void *add_some(void *arg)
{
    struct adders *a = arg;
    for (int i = 0; i < 10; i++) {
        pqr_session *s = live_session(a->db, "acme");
        int code;
        do /* three reruns may not be enough for so many at one row */
            code = pqr_transact(s, PQR_TX(.isolation = PQR_SERIALIZABLE), add_one, &a->runs,
                                &live_error);
        while (code != PQR_OK && live_error.retry == PQR_RETRY_SAFE);
        live_ok(code, &live_error, "transact", __FILE__, __LINE__);
        atomic_fetch_add(&a->ok, code == PQR_OK);
        pqr_session_close(s);
    }
    return NULL;
}

static void serialization_failures_are_run_again_as_a_whole(void **state)
{
    struct adders a = {.db = *state};
    pthread_t t[4];
    ask(P, "update counter set n = 0");
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, add_some, &a);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(a.ok, 40);
    assert_int_equal(ask_number(P, "select n from counter"), 40);
    print_message("40 increments took %d runs\n", a.runs);
}

static int change_mind(pqr_tx *tx, void *arg, pqr_error *err)
{
    (void)arg;
    int code = pqr_exec(tx, PQR_QUERY(.sql = "insert into note(body) values ('regret')"), NULL,
                        err);
    return code == PQR_OK ? 42 : code;
}

static void work_that_changes_its_mind_is_rolled_back_and_its_answer_returned(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    assert_int_equal(pqr_transact(s, NULL, change_mind, NULL, &live_error), 42);
    assert_int_equal(notes("regret"), 0);
    pqr_session_close(s);
}

/* ---- Lent connections ------------------------------------------------------------------------ */

static void a_lent_connection_can_do_what_the_router_does_not(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    struct pg_conn *pg = NULL;
    OK(pqr_lend(s, PQR_LEND_WRITE, &pg, &live_error));
    PQclear(PQexec(pg, "copy note(body) from stdin"));
    assert_int_equal(PQputCopyData(pg, "copied\ncopied\n", 14), 1);
    assert_int_equal(PQputCopyEnd(pg, NULL), 1);
    PGresult *r = PQgetResult(pg);
    assert_int_equal(PQresultStatus(r), PGRES_COMMAND_OK);
    PQclear(r);
    pqr_give_back(s, pg);
    assert_int_equal(notes("copied"), 2);
    OK(pqr_lend(s, PQR_LEND_READ, &pg, &live_error));
    r = PQexec(pg, "insert into note(body) values ('no')");
    assert_string_equal(PQresultErrorField(r, PG_DIAG_SQLSTATE), "25006");
    PQclear(r);
    pqr_session_close(s); /* gives it back too */
}

static void statements_that_cannot_be_in_a_transaction_go_alone(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    OK(pqr_write(s, PQR_QUERY(.sql = "vacuum note", .alone = 1), NULL, &live_error));
    OK(pqr_write(s,
                 PQR_QUERY(.sql = "create index concurrently if not exists note_body on note(body)",
                           .alone = 1),
                 NULL, &live_error));
    pqr_session_close(s);
}

static int prepare(void **state)
{
    ask(P, "create table note(id bigserial primary key, body text)");
    ask(P, "create table counter(n bigint not null)");
    ask(P, "create procedure leave_behind() language plpgsql as $$ begin"
           " perform set_config('left.behind', 'x', false), pg_advisory_lock(4711); end $$");
    ask(P, "create function leave_table() returns int language plpgsql as $$ begin"
           " create temp table left_behind(x int); return 1; end $$");
    ask(P, "create function use_table() returns int language plpgsql as $$ begin"
           " create temp table used(x int) on commit drop; return 1; end $$");
    ask(P, "create function leave_channel() returns int language plpgsql as $$ begin"
           " listen left_behind; return 1; end $$");
    ask(P, "create function set_read_write() returns void language plpgsql as $$ begin"
           " set transaction read write; end $$");
    ask(P, "insert into counter values (0)");
    make_parent_and_child(P);
    *state = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_goes_there_and_back),
        cmocka_unit_test(arrays_go_there_whole),
        cmocka_unit_test(untyped_text_fits_every_type),
        cmocka_unit_test(a_result_outlives_its_session_and_router),
        cmocka_unit_test(a_write_tells_the_rows_it_touched),
        cmocka_unit_test(a_large_result_comes_whole),
        cmocka_unit_test(a_large_parameter_goes_whole),
        cmocka_unit_test(a_batch_gives_each_statement_its_result),
        cmocka_unit_test(a_batch_fails_whole_and_tells_which_statement),
        cmocka_unit_test(a_batch_is_one_round_trip),
        cmocka_unit_test(a_commit_keeps_and_a_rollback_drops),
        cmocka_unit_test(a_failed_transaction_is_rolled_back_never_committed),
        cmocka_unit_test(a_savepoint_rescues_a_transaction),
        cmocka_unit_test(a_deferred_constraint_fails_the_commit),
        cmocka_unit_test(a_transaction_may_not_be_ended_by_sql),
        cmocka_unit_test(what_a_transaction_leaves_behind_meets_nobody),
        cmocka_unit_test(what_a_write_or_a_read_leaves_behind_meets_nobody),
        cmocka_unit_test(what_a_function_leaves_behind_meets_nobody),
        cmocka_unit_test(what_a_sequence_gave_others_is_not_told),
        cmocka_unit_test(what_is_left_for_the_first_time_late_meets_nobody_either),
        cmocka_unit_test(a_session_that_cannot_be_cleaned_serves_nobody),
        cmocka_unit_test(a_read_s_channel_is_left_before_a_connection_is_lent),
        cmocka_unit_test(what_a_write_leaves_is_dropped_in_its_own_time),
        cmocka_unit_test(a_savepoint_is_gone_back_to_also_with_all_prepared_statements_in_use),
        cmocka_unit_test(a_transaction_runs_again_when_a_table_was_given_another_shape),
        cmocka_unit_test(of_a_procedure_that_fails_parts_may_have_happened),
        cmocka_unit_test(what_has_nothing_around_it_is_told_how_to_be_sent),
        cmocka_unit_test(what_ends_with_its_transaction_costs_no_connection),
        cmocka_unit_test(a_read_only_transaction_reads_on_a_replica_and_cannot_write),
        cmocka_unit_test(a_read_only_transaction_cannot_be_made_to_write),
        cmocka_unit_test(a_commit_whose_answer_is_lost_is_unknown_also_when_read_only),
        cmocka_unit_test(a_lost_connection_ends_a_transaction_that_did_not_happen),
        cmocka_unit_test(a_begin_whose_answer_is_lost_has_done_nothing),
        cmocka_unit_test(serialization_failures_are_run_again_as_a_whole),
        cmocka_unit_test(work_that_changes_its_mind_is_rolled_back_and_its_answer_returned),
        cmocka_unit_test(a_lent_connection_can_do_what_the_router_does_not),
        cmocka_unit_test(statements_that_cannot_be_in_a_transaction_go_alone),
    };
    return cmocka_run_group_tests(tests, prepare, close_router);
}
