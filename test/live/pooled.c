/* Behind a transaction pooler (DB_PGBOUNCER): what holds there, what is refused, and what is told when
 * the pooler, or the server behind it, goes. Fleet: one shard, one replica, a PgBouncer before each,
 * with four sessions at its server for all callers. */
#include "live.h"
#include "proxies.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define P "shard0/primary"
#define R1 "shard0/replica1"
#define POOLER "shard0/pooler"
#define YES "DB_PGBOUNCER=yes"

static long notes(const char *body)
{
    return ask_number(P, "select count(*) from note where body = '%s'", body);
}

static long number(pqr_session *s, int level, const char *sql)
{
    pqr_result *res;
    OK(pqr_read(s, PQR_QUERY(.sql = sql, .level = level), &res, &live_error));
    long n = (long)pqr_int64(res, 0, 0);
    pqr_result_free(res);
    return n;
}

/* ---- What holds ------------------------------------------------------------------------------ */

static void calls_pass_a_pooler(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(YES);
    pqr_session *s = live_session(db, "acme");
    pqr_result *res, *both[2];
    EVENTUALLY(10000, strcmp(served_by(db, "acme", PQR_LEVEL_ANY), R1) == 0);
    OK(pqr_write(s,
                 PQR_QUERY(.sql = "insert into note(body) values ($1) returning id, body",
                           PQR_PARAMS(PQR_TEXT("passed"))),
                 &res, &live_error));
    assert_string_equal(pqr_text(res, 0, 1), "passed");
    pqr_result_free(res);
    assert_int_equal(
        number(s, PQR_LEVEL_SESSION, "select count(*) from note where body = 'passed'"), 1);
    const pqr_query *const batch[] = {PQR_QUERY(.sql = "select 1::bigint"),
                                      PQR_QUERY(.sql = "select now()")};
    OK(pqr_read_batch(s, batch, 2, both, &live_error));
    assert_int_equal(pqr_int64(both[0], 0, 0), 1);
    pqr_result_free(both[0]);
    pqr_result_free(both[1]);
    OK(pqr_write(s, PQR_QUERY(.sql = "vacuum note", .alone = 1), NULL, &live_error));
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_session_reads_what_it_wrote(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(YES, "DB_HEALTH_INTERVAL=100ms");
    pqr_session *s = live_session(db, "acme");
    ask(P, "update tally set n = 0");
    for (int i = 1; i <= 100; i++) {
        OK(pqr_write(s, PQR_QUERY(.sql = "update tally set n = n + 1"), NULL, &live_error));
        assert_int_equal(number(s, PQR_LEVEL_SESSION, "select n from tally"), i);
    }
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_read_that_writes_fails_with_its_reason(void **state)
{
    static const char *const writes[] = {
        "insert into note(body) values ('no')",
        "select nextval('note_id_seq')",
        "select set_config('transaction_read_only', 'off', true), nextval('note_id_seq')",
        "with gone as (delete from note returning 1) select count(*) from gone",
    };
    static const int levels[] = {PQR_LEVEL_ANY, PQR_LEVEL_PRIMARY};
    (void)state;
    pqr *db = READY_ROUTER(YES);
    pqr_session *s = live_session(db, "acme");
    for (size_t i = 0; i < sizeof writes / sizeof *writes; i++)
        for (int l = 0; l < 2; l++) {
            int code = pqr_read(s, PQR_QUERY(.sql = writes[i], .level = levels[l]), NULL,
                                &live_error);
            if (i == 2) { /* the setting itself is refused first, which is as good */
                assert_true(code == PQR_E_READ_ONLY || code == PQR_E_SQL);
                continue;
            }
            FAILS(PQR_E_READ_ONLY, code);
            assert_string_equal(live_error.sqlstate, "25006");
            says("pqr_write");
        }
    assert_int_equal(notes("no"), 0);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* The same port of the server itself: past its pooler. */
static const char *direct_url(void)
{
    static char url[512];
    const char *pooled = getenv("DATABASE_PRIMARY_URL"), *colon = strrchr(pooled, ':');
    snprintf(url, sizeof url, "DATABASE_PRIMARY_URL=%.*s:%d/app", (int)(colon - pooled), pooled,
             live_port(P));
    return url;
}

static long prepared_there(pqr *db)
{
    pqr_session *s = live_session(db, "acme");
    for (int i = 0; i < 20; i++)
        OK(pqr_write(s, PQR_QUERY(.sql = "update tally set n = n + 1"), NULL, &live_error));
    pqr_result *res;
    OK(pqr_write(s, PQR_QUERY(.sql = "select count(*) from pg_prepared_statements"), &res,
                 &live_error));
    long n = (long)pqr_int64(res, 0, 0);
    pqr_result_free(res);
    pqr_session_close(s);
    return n;
}

/* Two values of the option, at the same server. */
static void with_the_option_no_statement_has_a_name_and_nothing_is_lent(void **state)
{
    (void)state;
    struct pg_conn *conn;
    for (int pooled = 0; pooled < 2; pooled++) {
        pqr *db = READY_ROUTER(direct_url(), "DATABASE_REPLICA_1_URL",
                               pooled ? YES : "DB_PGBOUNCER=no");
        pqr_session *s = live_session(db, "acme");
        if (pooled) {
            assert_int_equal(prepared_there(db), 0);
            FAILS(PQR_E_USAGE, pqr_lend(s, PQR_LEND_READ, &conn, &live_error));
            says("DB_PGBOUNCER");
        } else {
            assert_true(prepared_there(db) > 0);
            OK(pqr_lend(s, PQR_LEND_READ, &conn, &live_error));
        }
        pqr_session_close(s);
        pqr_close(db, 0);
    }
}

static void a_url_may_ask_for_it_too(void **state)
{
    (void)state;
    char url[512];
    struct pg_conn *conn;
    snprintf(url, sizeof url, "DATABASE_PRIMARY_URL=%s?pgbouncer=true",
             getenv("DATABASE_PRIMARY_URL"));
    pqr *db = READY_ROUTER("DB_PGBOUNCER", "DATABASE_REPLICA_1_URL", url);
    pqr_session *s = live_session(db, "acme");
    FAILS(PQR_E_USAGE, pqr_lend(s, PQR_LEND_WRITE, &conn, &live_error));
    assert_int_equal(number(s, PQR_LEVEL_ANY, "select 7::bigint"), 7);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* ---- Sessions that many share ------------------------------------------------------------------ */

static bool shows(pqr_session *s, const char *setting, const char *value)
{
    char sql[128];
    pqr_result *res;
    snprintf(sql, sizeof sql, "select current_setting('%s', true)", setting);
    OK(pqr_write(s, PQR_QUERY(.sql = sql), &res, &live_error));
    const char *text = pqr_text(res, 0, 0);
    bool is = strcmp(text ? text : "", value) == 0;
    pqr_result_free(res);
    return is;
}

/* What one router sets is not there for another, in the same sessions of the server. */
static void settings_end_with_their_transaction(void **state)
{
    (void)state;
    pqr *strict = READY_ROUTER(YES, "DB_STATEMENT_TIMEOUT=1s", "DB_TENANT_SETTING=app.tenant_id");
    pqr *loose = READY_ROUTER(YES);
    pqr_session *a = live_session(strict, "ann"), *b = live_session(loose, "bob");
    for (int i = 0; i < 20; i++) {
        assert_true(shows(a, "statement_timeout", "1s"));
        assert_true(shows(a, "app.tenant_id", "ann"));
        assert_true(shows(b, "statement_timeout", "0"));
        assert_true(shows(b, "app.tenant_id", ""));
        assert_true(shows(b, "transaction_read_only", "off"));
        assert_int_equal(number(a, PQR_LEVEL_PRIMARY, "select 1::bigint"), 1);
    }
    assert_in_range(ask_number(P, "select count(*) from pg_stat_activity where usename = 'app'"
                                  " and backend_type = 'client backend'"
                                  " and pid <> pg_backend_pid()"),
                    1, 4);
    FAILS(PQR_E_SQL, pqr_read(a, PQR_QUERY(.sql = "select pg_sleep(20)"), NULL, &live_error));
    assert_string_equal(live_error.sqlstate, "57014");
    pqr_session_close(a);
    pqr_session_close(b);
    pqr_close(strict, 0);
    pqr_close(loose, 0);
}

static void what_a_function_leaves_behind_meets_nobody(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(YES);
    pqr_session *s = live_session(db, "acme");
    pqr_tx *tx;
    ask(P, "create function leave() returns int language plpgsql as"
           " $$begin create temp table if not exists left_behind(x int); return 1; end$$");
    for (int i = 0; i < 20; i++) {
        if (i % 2) {
            OK(pqr_write(s, PQR_QUERY(.sql = "select leave()"), NULL, &live_error));
        } else {
            OK(pqr_begin(s, NULL, &tx, &live_error));
            OK(pqr_exec(tx, PQR_QUERY(.sql = "select leave()"), NULL, &live_error));
            OK(pqr_commit(tx, &live_error));
        }
        assert_int_equal(
            ask_number(P, "select count(*) from pg_class where relname = 'left_behind'"), 0);
        FAILS(PQR_E_SQL,
              pqr_write(s, PQR_QUERY(.sql = "select * from left_behind"), NULL, &live_error));
        assert_string_equal(live_error.sqlstate, "42P01");
        OK(pqr_begin(s, NULL, &tx, &live_error));
        FAILS(PQR_E_SQL,
              pqr_exec(tx, PQR_QUERY(.sql = "select * from left_behind"), NULL, &live_error));
        pqr_rollback(tx);
    }
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void what_needs_a_session_is_refused_with_its_reason(void **state)
{
    static const char *const writes[] = {
        "do $$begin perform 1; end$$",
        "select pg_advisory_lock(1)",
        "select set_config('work_mem', '1MB', false)",
    };
    static const char *const in_tx[] = {
        "set work_mem = '1MB'",
        "listen news",
        "create temp table t(x int)",
        "prepare p as select 1",
    };
    (void)state;
    pqr *db = READY_ROUTER(YES);
    pqr *walled = READY_ROUTER(YES, "DB_TENANT_SETTING=app.tenant_id");
    pqr_session *s = live_session(db, "acme"), *w = live_session(walled, "acme");
    pqr_tx *tx;
    for (size_t i = 0; i < sizeof writes / sizeof *writes; i++) {
        FAILS(PQR_E_USAGE, pqr_write(s, PQR_QUERY(.sql = writes[i]), NULL, &live_error));
        says("DB_PGBOUNCER");
    }
    OK(pqr_begin(s, NULL, &tx, &live_error));
    for (size_t i = 0; i < sizeof in_tx / sizeof *in_tx; i++) {
        FAILS(PQR_E_USAGE, pqr_exec(tx, PQR_QUERY(.sql = in_tx[i]), NULL, &live_error));
        says("DB_PGBOUNCER");
    }
    OK(pqr_exec(tx, PQR_QUERY(.sql = "set local work_mem = '1MB'"), NULL, &live_error));
    OK(pqr_commit(tx, &live_error));
    FAILS(PQR_E_USAGE,
          pqr_write(w, PQR_QUERY(.sql = "vacuum note", .alone = 1), NULL, &live_error));
    says("app.tenant_id");
    pqr_session_close(s);
    pqr_session_close(w);
    pqr_close(db, 0);
    pqr_close(walled, 0);
}

static void a_search_path_in_a_url_is_refused_at_once(void **state)
{
    (void)state;
    char url[512];
    pqr *db = NULL;
    snprintf(url, sizeof url, "DATABASE_PRIMARY_URL=%s?schema=app", getenv("DATABASE_PRIMARY_URL"));
    const char *const settings[] = {YES, url, NULL};
    FAILS(PQR_E_CONFIG, pqr_open(&db, PQR_OPTIONS(.env = live_env(settings)), &live_error));
    says("ALTER ROLE");
}

/* ---- Transactions and neighbours --------------------------------------------------------------- */

static int transfer(pqr_tx *tx, void *arg, pqr_error *err)
{
    pqr_result *res;
    int32_t *pid = arg;
    for (int i = 0; i < 3; i++) {
        int code = pqr_exec(
            tx, PQR_QUERY(.sql = "update tally set n = n + 1 returning pg_backend_pid()"), &res,
            err);
        if (code != PQR_OK)
            return code;
        if (i > 0 && pqr_int32(res, 0, 0) != *pid)
            fail_msg("a transaction was moved to another session");
        *pid = pqr_int32(res, 0, 0);
        pqr_result_free(res);
    }
    return PQR_OK;
}

struct crowd {
    pqr *db;
    _Atomic int done, failed_as_meant, wrong;
};

static void *reads_on(void *arg)
{
    struct crowd *c = arg;
    pqr_session *s = live_session(c->db, "acme");
    for (int i = 0; i < 200; i++) {
        pqr_result *res = NULL;
        pqr_error err;
        bool fails = i % 4 == 3;
        int code = pqr_read(s, PQR_QUERY(.sql = fails ? "select 1 / 0" : "select 42::bigint"), &res,
                            &err);
        bool good = fails ? code == PQR_E_SQL && strcmp(err.sqlstate, "22012") == 0
                          : code == PQR_OK && pqr_int64(res, 0, 0) == 42;
        atomic_fetch_add(good ? (fails ? &c->failed_as_meant : &c->done) : &c->wrong, 1);
        pqr_result_free(res);
    }
    pqr_session_close(s);
    return NULL;
}

static void *transfers(void *arg)
{
    struct crowd *c = arg;
    pqr_session *s = live_session(c->db, "acme");
    for (int i = 0; i < 30; i++) {
        int32_t pid;
        pqr_error err;
        int code = pqr_transact(s, NULL, transfer, &pid, &err);
        atomic_fetch_add(code == PQR_OK ? &c->done : &c->wrong, 1);
    }
    pqr_session_close(s);
    return NULL;
}

/* The caller's own 22012 is his, also where the router uses that code itself. */
static void transactions_hold_and_an_error_costs_neighbours_nothing(void **state)
{
    (void)state;
    struct crowd c = {.db = READY_ROUTER(YES)};
    pthread_t t[8];
    ask(P, "update tally set n = 0");
    for (int i = 0; i < 8; i++)
        pthread_create(&t[i], NULL, i < 4 ? reads_on : transfers, &c);
    for (int i = 0; i < 8; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(c.wrong, 0);
    assert_int_equal(c.failed_as_meant, 4 * 50);
    assert_int_equal(c.done, 4 * 150 + 4 * 30);
    assert_int_equal(ask_number(P, "select n from tally"), 4 * 30 * 3);
    pqr_close(c.db, 0);
}

/* ---- The pooler or its server goes ------------------------------------------------------------- */

#define IDS 20000

struct writers {
    pqr *db;
    _Atomic bool stop;
    _Atomic int next, ok;
    int code[IDS]; /* of each write */
};

static int insert_id(pqr_tx *tx, void *arg, pqr_error *err)
{
    return pqr_exec(
        tx, PQR_QUERY(.sql = "insert into ledger values ($1)", PQR_PARAMS(PQR_INT64(*(int *)arg))),
        NULL, err);
}

static void *write_ids(void *arg)
{
    struct writers *w = arg;
    for (int id; !atomic_load(&w->stop) && (id = atomic_fetch_add(&w->next, 1)) < IDS;) {
        pqr_session *s = live_session(w->db, "acme");
        const pqr_query *q = PQR_QUERY(.sql = "insert into ledger values ($1)",
                                       PQR_PARAMS(PQR_INT64(id)), .deadline_ms = 3000);
        w->code[id] = id % 3 ? pqr_write(s, q, NULL, &live_error)
                             : pqr_transact(s, PQR_TX(.deadline_ms = 3000), insert_id, &id,
                                            &live_error);
        pqr_session_close(s);
        atomic_fetch_add(&w->ok, w->code[id] == PQR_OK);
    }
    return NULL;
}

enum told { DONE, NOT_DONE, UNKNOWN };

static enum told told(int code)
{
    return code == PQR_OK ? DONE : code == PQR_E_UNKNOWN ? UNKNOWN : NOT_DONE;
}

/* All writes of which this was told: as many rows as there must be, and none twice. */
static int check(const struct writers *w, int n, enum told what)
{
    char list[900];
    int all = 0;
    for (int id = 0; id < n;) {
        int some = 0;
        size_t len = 0;
        for (; id < n && len < sizeof list - 12; id++)
            if (told(w->code[id]) == what)
                some++, len += (size_t)snprintf(list + len, sizeof list - len, "%s%d",
                                                len ? "," : "", id);
        all += some;
        if (some == 0)
            continue;
        long rows = ask_number(P, "select count(*) from ledger where id in (%s)", list);
        long ids = ask_number(P, "select count(distinct id) from ledger where id in (%s)", list);
        if (rows != ids || (what == DONE && ids != some) || (what == NOT_DONE && ids != 0))
            fail_msg("told %d of %d writes: %ld rows, %ld of them different", what, some, rows,
                     ids);
    }
    return all;
}

static void honest_while(void (*harm)(void), int times)
{
    static struct writers w;
    w = (struct writers){.db = READY_ROUTER(YES, "DATABASE_REPLICA_1_URL")};
    pthread_t t[3];
    ask(P, "truncate ledger");
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, write_ids, &w);
    for (int i = 0; i < times; i++) {
        int before = atomic_load(&w.ok);
        harm();
        EVENTUALLY(15000, atomic_load(&w.ok) > before + 5);
    }
    atomic_store(&w.stop, true);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    int n = w.next < IDS ? w.next : IDS;
    print_message("%d writes: %d done", n, check(&w, n, DONE));
    print_message(", %d not done", check(&w, n, NOT_DONE));
    print_message(", %d unknown\n", check(&w, n, UNKNOWN));
    pqr_close(w.db, 0);
}

static void kill_pooler(void)
{
    fleet("kill %s", POOLER);
    fleet("start %s", POOLER);
}

static void when_a_pooler_is_killed_no_write_is_called_what_it_is_not(void **state)
{
    (void)state;
    honest_while(kill_pooler, 5);
}

static void end_sessions(void)
{
    ask(P, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'"
           " and backend_type = 'client backend' and pid <> pg_backend_pid()");
}

static void when_its_sessions_are_ended_no_write_is_called_what_it_is_not(void **state)
{
    (void)state;
    honest_while(end_sessions, 40);
}

/* The callers' connections live on: the first transaction on each finds out. */
static void restart_server(void)
{
    fleet("restart %s --mode immediate", P);
}

static void when_the_server_crashes_behind_it_no_write_is_called_what_it_is_not(void **state)
{
    (void)state;
    honest_while(restart_server, 2);
}

static void a_committed_write_whose_answer_is_stolen_is_ok(void **state)
{
    (void)state;
    struct proxy thief = proxy_begin("THIEF");
    pqr *db = READY_ROUTER(YES, thief.url, "DATABASE_REPLICA_1_URL");
    pqr_session *s = live_session(db, "acme");
    pqr_result *res = NULL;
    proxy_tell(&thief, "cut stolen INSERT before");
    OK(pqr_write(s, PQR_QUERY(.sql = "insert into note(body) values ('stolen')"), &res,
                 &live_error));
    proxy_hears(&thief, "cut");
    assert_int_equal(pqr_known_by(res), PQR_OUTCOME_RESOLVED);
    pqr_result_free(res);
    assert_int_equal(notes("stolen"), 1);
    pqr_session_close(s);
    pqr_close(db, 0);
    proxy_end(&thief);
}

static void a_keyed_write_whose_answer_is_stolen_happened_once(void **state)
{
    (void)state;
    struct proxy thief = proxy_begin("THIEF");
    pqr *db = READY_ROUTER(YES, thief.url, "DATABASE_REPLICA_1_URL");
    pqr_session *s = live_session(db, "acme");
    proxy_tell(&thief, "cut keyed INSERT sync");
    OK(pqr_write(
        s, PQR_QUERY(.sql = "insert into note(body) values ('keyed')", .idempotency_key = "keyed"),
        NULL, &live_error));
    OK(pqr_write(
        s, PQR_QUERY(.sql = "insert into note(body) values ('keyed')", .idempotency_key = "keyed"),
        NULL, &live_error));
    assert_int_equal(notes("keyed"), 1);
    pqr_session_close(s);
    pqr_close(db, 0);
    proxy_end(&thief);
}

struct late_write {
    pqr_session *s;
    pqr_error err;
    int code;
};

static void *write_asleep(void *arg)
{
    struct late_write *w = arg;
    w->code = pqr_write(w->s,
                        PQR_QUERY(.sql = "insert into note(body) select 'asleep' from pg_sleep(20)",
                                  .deadline_ms = 15000),
                        NULL, &w->err);
    return NULL;
}

/* It says "server conn crashed?", of which nothing follows; and the server's ids are given again. */
static void a_write_whose_server_crashes_behind_it_is_unknown(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(YES, "DATABASE_REPLICA_1_URL");
    struct late_write w = {.s = live_session(db, "acme")};
    pthread_t t;
    pid_t pid = 0;
    pthread_create(&t, NULL, write_asleep, &w);
    EVENTUALLY(10000, (pid = (pid_t)ask_number(P, "select pid from pg_stat_activity where"
                                                  " wait_event = 'PgSleep'")) > 0);
    kill(pid, SIGKILL);
    pthread_join(t, NULL);
    live_error = w.err;
    FAILS(PQR_E_UNKNOWN, w.code);
    says("crash");
    assert_int_equal(live_error.retry, PQR_RETRY_UNKNOWN);
    pqr_session_close(w.s);
    pqr_close(db, 0);
    fleet("start %s", P);
}

/* ---- Another server behind it ------------------------------------------------------------------ */

static int pid_of(const char *node)
{
    char command[512], line[256];
    int pid = 0;
    snprintf(command, sizeof command, "%s status", getenv("FLEET"));
    FILE *f = popen(command, "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line + 1, node, strlen(node)) == 0 && line[1 + strlen(node)] == ' ')
            sscanf(strchr(line, '|') + 1, "%*d | %d", &pid);
    if (f)
        pclose(f);
    assert_true(pid > 0);
    return pid;
}

/* As somebody does who moves a database, or by mistake. */
static void lead_to(const char *node)
{
    char path[512], text[2048];
    snprintf(path, sizeof path, "%s/data/shard0-pooler/pgbouncer.ini", getenv("PQR_FLEET"));
    FILE *f = fopen(path, "r");
    size_t len = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[len] = '\0';
    char *port = strstr(text, "port=");
    assert_non_null(port);
    fclose(f);
    f = fopen(path, "w");
    fprintf(f, "%.*sport=%d%s", (int)(port - text), text, live_port(node),
            port + strcspn(port, " "));
    fclose(f);
    kill(pid_of(POOLER), SIGHUP);
}

/* On the connections that are open, and known to lead to the primary: the monitor looks in five
 * minutes only. */
static void nothing_runs_on_another_server_than_is_known(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(YES, "DATABASE_REPLICA_1_URL", "DB_HEALTH_INTERVAL=5m");
    pqr_session *s = live_session(db, "acme");
    const pqr_query *who = PQR_QUERY(.sql = "select current_setting('cluster_name')",
                                     .level = PQR_LEVEL_PRIMARY, .deadline_ms = 1000);
    pqr_result *res;
    OK(pqr_read(s, who, NULL, &live_error));
    lead_to(R1);
    int refused = 0;
    for (int64_t until = live_now_ms() + 10000; refused < 3 && live_now_ms() < until;) {
        int code = pqr_read(s, who, &res, &live_error);
        refused += code != PQR_OK;
        if (code == PQR_OK) {
            assert_string_equal(pqr_text(res, 0, 0), P);
            pqr_result_free(res);
        }
    }
    assert_int_equal(refused, 3);
    lead_to(P);
    EVENTUALLY(10000, pqr_read(s, who, NULL, &live_error) == PQR_OK);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* ---- Failover ---------------------------------------------------------------------------------- */

static bool writes_on(pqr_session *s, const char *node)
{
    pqr_result *res = NULL;
    int code = pqr_write(
        s, PQR_QUERY(.sql = "insert into note(body) values ('after')", .deadline_ms = 1000), &res,
        &live_error);
    bool is = code == PQR_OK && strcmp(pqr_source(res), node) == 0;
    pqr_result_free(res);
    return is;
}

/* The pooler lets the first one wait for the server; it is not left to that. Nobody else asks. */
static void a_read_goes_elsewhere_when_its_server_dies_behind_the_pooler(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(YES, "DB_HEALTH_INTERVAL=5m");
    pqr_session *s = live_session(db, "acme");
    pqr_result *res;
    const pqr_query *q = PQR_QUERY(.sql = "select 1", .deadline_ms = 10000);
    OK(pqr_read(s, q, &res, &live_error));
    assert_string_equal(pqr_source(res), R1);
    pqr_result_free(res);
    fleet("kill %s", R1);
    OK(pqr_read(s, q, &res, &live_error));
    assert_string_equal(pqr_source(res), P);
    pqr_result_free(res);
    pqr_session_close(s);
    pqr_close(db, 0);
    fleet("start %s", R1);
}

static void writes_follow_a_failover(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(YES);
    pqr_session *s = live_session(db, "acme");
    assert_true(writes_on(s, P));
    fleet("kill %s", P);
    fleet("promote %s", R1);
    EVENTUALLY(20000, writes_on(s, R1));
    assert_int_equal(
        number(s, PQR_LEVEL_SESSION, "select count(*) from note where body = 'after'") >= 2, 1);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static int make_tables(void **state)
{
    (void)state;
    ask(P, "create table note(id bigserial, body text)");
    ask(P, "create table tally(n bigint)");
    ask(P, "insert into tally values (0)");
    ask(P, "create table ledger(id bigint)");
    signal(SIGPIPE, SIG_IGN);
    pqr *db = READY_ROUTER(YES);
    int code = pqr_init(db, 20000, NULL, NULL, &live_error);
    if (code != PQR_OK)
        print_error("%s\n", live_error.message);
    pqr_close(db, 0);
    return code;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_pass_a_pooler),
        cmocka_unit_test(a_session_reads_what_it_wrote),
        cmocka_unit_test(a_read_that_writes_fails_with_its_reason),
        cmocka_unit_test(with_the_option_no_statement_has_a_name_and_nothing_is_lent),
        cmocka_unit_test(a_url_may_ask_for_it_too),
        cmocka_unit_test(settings_end_with_their_transaction),
        cmocka_unit_test(what_a_function_leaves_behind_meets_nobody),
        cmocka_unit_test(what_needs_a_session_is_refused_with_its_reason),
        cmocka_unit_test(a_search_path_in_a_url_is_refused_at_once),
        cmocka_unit_test(transactions_hold_and_an_error_costs_neighbours_nothing),
        cmocka_unit_test(a_committed_write_whose_answer_is_stolen_is_ok),
        cmocka_unit_test(a_keyed_write_whose_answer_is_stolen_happened_once),
        cmocka_unit_test(when_a_pooler_is_killed_no_write_is_called_what_it_is_not),
        cmocka_unit_test(when_its_sessions_are_ended_no_write_is_called_what_it_is_not),
        cmocka_unit_test(a_write_whose_server_crashes_behind_it_is_unknown),
        cmocka_unit_test(when_the_server_crashes_behind_it_no_write_is_called_what_it_is_not),
        cmocka_unit_test(nothing_runs_on_another_server_than_is_known),
        cmocka_unit_test(a_read_goes_elsewhere_when_its_server_dies_behind_the_pooler),
        cmocka_unit_test(writes_follow_a_failover),
    };
    return cmocka_run_group_tests_name("pooled", tests, make_tables, NULL);
}
