/* What became of a write whose answer was lost; and what a session knows of one whose answer came.
 * Fleet: one shard, one replica. */
#include "live.h"
#include "proxies.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define P "shard0/primary"
#define R1 "shard0/replica1"

static long notes(const char *body)
{
    return ask_number(P, "select count(*) from note where body = '%s'", body);
}

/* ---- Round trips ----------------------------------------------------------------------------- */

static int trips_since_zero(struct proxy *p)
{
    proxy_tell(p, "count");
    return proxy_number(p);
}

static void zero_trips(struct proxy *p)
{
    proxy_tell(p, "zero");
    assert_int_equal(proxy_number(p), 0);
}

/* One whose token will be asked for. */
static pqr_session *session_with_token(pqr *db)
{
    pqr_session *s = NULL;
    OK(pqr_session_open(db, PQR_SESSION(.tenant = "acme", .token = ""), &s, &live_error));
    return s;
}

static void a_write_and_its_position_are_one_round_trip(void **state)
{
    (void)state;
    struct proxy p = proxy_begin("PROXY");
    pqr *db = READY_ROUTER(p.url, "DATABASE_REPLICA_1_URL", "DB_HEALTH_INTERVAL=5m");
    pqr_session *s = session_with_token(db);
    live_sleep_ms(300); /* the monitor's first, quick rounds are over */
    const pqr_query *q = PQR_QUERY(.sql = "insert into note(body) values ('trip')");
    OK(pqr_write(s, q, NULL, &live_error)); /* this one connects */
    for (int i = 1; i <= 20; i++) {
        zero_trips(&p);
        OK(pqr_write(s, q, NULL, &live_error));
        assert_int_equal(trips_since_zero(&p), 1);
    }
    pqr_tx *tx;
    OK(pqr_begin(s, NULL, &tx, &live_error));
    zero_trips(&p);
    OK(pqr_exec(tx, q, NULL, &live_error));
    OK(pqr_exec(tx, q, NULL, &live_error));
    assert_int_equal(trips_since_zero(&p), 2);
    OK(pqr_commit(tx, &live_error));
    int trips = trips_since_zero(&p); /* the session may be being cleaned, behind the answer */
    assert_in_range(trips, 3, 4);
    pqr_session_close(s);
    pqr_close(db, 0);
    proxy_end(&p);
}

/* Two segments, or one: the server answers each with a message of its own. */
static long segments_of_a_write(pqr_session *s, bool transaction)
{
    const pqr_query *q = PQR_QUERY(.sql = "insert into note(body) values ('where')");
    static const char last[] =
        "select count(*) from pg_stat_activity where usename = 'app' and query"
        " like '%pg_current_wal_insert_lsn()' and pid <> pg_backend_pid()";
    pqr_tx *tx;
    if (!transaction) {
        OK(pqr_write(s, q, NULL, &live_error));
    } else {
        OK(pqr_begin(s, NULL, &tx, &live_error));
        OK(pqr_exec(tx, q, NULL, &live_error));
        OK(pqr_commit(tx, &live_error));
    }
    return ask_number(P, "%s", last);
}

static void where_nobody_needs_its_position_a_write_does_not_ask_for_it(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DATABASE_REPLICA_1_URL", "DB_HEALTH_INTERVAL=5m");
    pqr_session *without = live_session(db, "acme"), *with = session_with_token(db);
    if (!live_pooled()) { /* there others may have asked it last, in sessions that live on */
        assert_int_equal(segments_of_a_write(without, false), 0);
        assert_int_equal(segments_of_a_write(without, true), 0);
        assert_int_equal(segments_of_a_write(with, false), 1);
    }

    /* Its token has who reads next ask the primary. */
    char token[PQR_TOKEN_MAX];
    assert_int_equal(pqr_session_token(without, token, sizeof token), PQR_OK);
    pqr *other = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    pqr_session *next = NULL;
    OK(pqr_session_open(other, PQR_SESSION(.tenant = "acme", .token = token), &next, &live_error));
    OK(pqr_write(without, PQR_QUERY(.sql = "delete from note where body = 'where'"), NULL,
                 &live_error));
    assert_int_equal(pqr_session_token(without, token, sizeof token), PQR_OK);
    pqr_session_close(next);
    OK(pqr_session_open(other, PQR_SESSION(.tenant = "acme", .token = token), &next, &live_error));
    pqr_result *res;
    OK(pqr_read(next, PQR_QUERY(.sql = "select count(*) from note where body = 'where'"), &res,
                &live_error));
    assert_int_equal(pqr_int64(res, 0, 0), 0);
    pqr_result_free(res);
    pqr_session_close(next);
    pqr_session_close(without);
    pqr_session_close(with);
    pqr_close(other, 0);
    pqr_close(db, 0);
}

/* Behind a pooler none is: its sessions change between two calls. */
static void one_prepared_statement_is_one_of_the_callers(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DATABASE_REPLICA_1_URL", "DB_PREPARED_STATEMENTS=1");
    pqr_session *s = live_session(db, "acme");
    const pqr_query *q = PQR_QUERY(.sql = "select coalesce(sum(generic_plans + custom_plans), -1) "
                                          "from pg_prepared_statements "
                                          "where statement like '%one of the callers%'");
    int64_t last = -1;
    for (int i = 0; i < 5; i++) {
        pqr_result *res;
        OK(pqr_write(s, q, &res, &live_error));
        if (live_pooled())
            assert_int_equal(pqr_int64(res, 0, 0), -1);
        else
            assert_true(pqr_int64(res, 0, 0) > last);
        last = pqr_int64(res, 0, 0);
        pqr_result_free(res);
    }
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* ---- Where a session's write is -------------------------------------------------------------- */

/* Writes nothing, so that the replica, which has all there is, has that too. */
static void write_nothing(pqr_session *s)
{
    OK(pqr_write(s, PQR_QUERY(.sql = "select 1", .no_id = 1), NULL, &live_error));
}

static void commit_nothing(pqr_session *s)
{
    pqr_tx *tx;
    OK(pqr_begin(s, NULL, &tx, &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    OK(pqr_commit(tx, &live_error));
}

static bool reads_on_the_replica(pqr_session *s)
{
    pqr_result *res;
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1"), &res, &live_error));
    bool is = strcmp(pqr_source(res), R1) == 0;
    pqr_result_free(res);
    return is;
}

/* Twenty follow each other faster than the servers are looked at (every 5 s, within a tenth): so only
 * the writes themselves can have told where they are. */
static bool most_reads_after(void (*write)(pqr_session *s), pqr *db)
{
    int n = 0;
    pqr_session *s = live_session(db, "acme");
    for (int i = 0; i < 20 && serves_reads(db, R1); i++) {
        write(s);
        n += reads_on_the_replica(s);
    }
    pqr_session_close(s);
    return n > 10;
}

static void after_a_write_a_replica_that_has_it_serves_at_once(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=5s");
    EVENTUALLY(60000, most_reads_after(write_nothing, db));
    EVENTUALLY(60000, most_reads_after(commit_nothing, db));
    pqr_close(db, 0);
}

static void a_session_reads_what_it_wrote_wherever_it_reads(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    pqr_session *s = live_session(db, "acme");
    int on_replica = 0;
    for (int i = 1; i <= 300 || (on_replica == 0 && i < 3000); i++) {
        pqr_result *res;
        if (i % 5 == 0) {
            OK(pqr_write(s, PQR_QUERY(.sql = "update tally set n = n + 1"), NULL, &live_error));
            if (i % 10 == 0)
                live_sleep_ms(1);
        }
        OK(pqr_read(s, PQR_QUERY(.sql = "select n from tally"), &res, &live_error));
        assert_int_equal(pqr_int64(res, 0, 0), i / 5);
        on_replica += strcmp(pqr_source(res), R1) == 0;
        pqr_result_free(res);
    }
    print_message("read on the replica: %d\n", on_replica);
    assert_true(on_replica > 0);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_write_whose_position_is_lost_is_ok_and_its_session_reads_on_the_primary(void **state)
{
    (void)state;
    struct proxy thief = proxy_begin("THIEF");
    pqr *db = READY_ROUTER(thief.url, "DB_HEALTH_INTERVAL=5m");
    pqr_session *s = live_session(db, "acme");
    pqr_result *res;
    fleet("pause-replay " R1);
    proxy_tell(&thief, "cut positionless INSERT sync");
    OK(pqr_write(s, PQR_QUERY(.sql = "insert into note(body) values ('positionless')"), &res,
                 &live_error));
    assert_int_equal(pqr_affected(res), 1);
    pqr_result_free(res);
    proxy_hears(&thief, "cut");
    assert_int_equal(notes("positionless"), 1);
    OK(pqr_read(s, PQR_QUERY(.sql = "select count(*) from note where body = 'positionless'"), &res,
                &live_error));
    assert_string_equal(pqr_text(res, 0, 0), "1");
    assert_string_equal(pqr_source(res), P);
    pqr_result_free(res);
    fleet("resume-replay " R1);
    pqr_session_close(s);
    pqr_close(db, 0);
    proxy_end(&thief);
}

/* ---- A lost answer --------------------------------------------------------------------------- */

/* A router behind a thief, and a session of it. */
struct robbed {
    struct proxy thief;
    pqr *db;
    pqr_session *s;
};

/* What the server answers to the question for the transaction's id. Behind a pooler another SELECT
 * stands ahead of it, which makes the settings. */
static const char *id_tag(void)
{
    return live_pooled() ? "SELECT+1" : "SELECT";
}

static struct robbed robbed_by(const char *setting)
{
    struct robbed r = {.thief = proxy_begin("THIEF")};
    r.db = READY_ROUTER(r.thief.url, setting);
    r.s = live_session(r.db, "acme");
    return r;
}

static void end_robbed(struct robbed *r)
{
    pqr_session_close(r->s);
    pqr_close(r->db, 0);
    proxy_end(&r->thief);
}

static void a_committed_write_whose_answer_is_stolen_is_ok(void **state)
{
    (void)state;
    struct robbed r = robbed_by("DATABASE_REPLICA_1_URL");
    pqr_result *res = NULL;
    proxy_tell(&r.thief, "cut stolen INSERT before");
    OK(pqr_write(r.s, PQR_QUERY(.sql = "insert into note(body) values ('stolen')"), &res,
                 &live_error));
    proxy_hears(&r.thief, "cut");
    assert_int_equal(pqr_known_by(res), PQR_OUTCOME_RESOLVED);
    assert_int_equal(pqr_affected(res), -1);
    assert_int_equal(pqr_rows(res), 0);
    assert_string_equal(pqr_source(res), P);
    assert_non_null(pqr_result_pg(res));
    pqr_result_free(res);
    assert_int_equal(notes("stolen"), 1);
    OK(pqr_read(r.s, PQR_QUERY(.sql = "select count(*) from note where body = 'stolen'"), &res,
                &live_error));
    assert_int_equal(pqr_int64(res, 0, 0), 1);
    pqr_result_free(res);
    end_robbed(&r);
}

static void rows_that_were_stolen_are_told_as_lost_and_the_write_as_done(void **state)
{
    (void)state;
    struct robbed r = robbed_by("DATABASE_REPLICA_1_URL");
    const pqr_query *q = PQR_QUERY(.sql = "insert into note(body) values ('rows') returning id");
    pqr_result *res = NULL;
    proxy_tell(&r.thief, "cut rows INSERT before");
    FAILS(PQR_E_ROWS_LOST, pqr_write(r.s, q, &res, &live_error));
    proxy_hears(&r.thief, "cut");
    assert_null(res);
    assert_int_equal(live_error.retry, PQR_RETRY_NEVER);
    says("done");
    assert_int_equal(notes("rows"), 1);
    proxy_tell(&r.thief, "cut rows INSERT before"); /* on a connection that has not prepared it */
    OK(pqr_write(r.s, q, NULL, &live_error));       /* who takes no rows has lost none */
    proxy_hears(&r.thief, "cut");
    assert_int_equal(notes("rows"), 2);
    end_robbed(&r);
}

static void an_answer_that_came_before_the_loss_is_handed_on_whole(void **state)
{
    (void)state;
    struct robbed r = robbed_by("DATABASE_REPLICA_1_URL");
    pqr_result *res = NULL;
    proxy_tell(&r.thief, "cut whole INSERT after");
    OK(pqr_write(r.s, PQR_QUERY(.sql = "insert into note(body) values ('whole') returning body"),
                 &res, &live_error));
    proxy_hears(&r.thief, "cut");
    assert_string_equal(pqr_text(res, 0, 0), "whole");
    assert_int_equal(pqr_affected(res), 1);
    pqr_result_free(res);
    assert_int_equal(notes("whole"), 1);
    end_robbed(&r);
}

struct late_write {
    pqr_session *s;
    const pqr_query *q;
    pqr_result *res;
    pqr_error err;
    int code;
};

static void *write_late(void *arg)
{
    struct late_write *w = arg;
    w->code = pqr_write(w->s, w->q, &w->res, &w->err);
    return NULL;
}

/* Frozen, its server process notices nothing, and neither goes on nor back. */
static void a_write_that_was_cut_off_is_unknown_while_the_server_is_at_it(void **state)
{
    (void)state;
    struct robbed r = robbed_by("DATABASE_REPLICA_1_URL");
    struct late_write w = {
        .s = r.s,
        .q = PQR_QUERY(.sql = "insert into note(body) select 'asleep' from pg_sleep(30)",
                       .deadline_ms = 3000)};
    pthread_t writer;
    pid_t pid = 0;
    proxy_tell(&r.thief, "cut asleep %s held", id_tag());
    pthread_create(&writer, NULL, write_late, &w);
    proxy_hears(&r.thief, "cut");
    EVENTUALLY(5000, (pid = (pid_t)ask_number(P, "select pid from pg_stat_activity where "
                                                 "wait_event = 'PgSleep' and query like "
                                                 "'%%asleep%%'")) > 0);
    kill(pid, SIGSTOP);
    proxy_tell(&r.thief, "go");
    pthread_join(writer, NULL);
    kill(pid, SIGCONT);
    live_error = w.err;
    FAILS(PQR_E_UNKNOWN, w.code);
    says("still at it");
    end_robbed(&r);
    EVENTUALLY(5000,
               ask_number(P, "select count(*) from pg_stat_activity where pid = %d", pid) == 0);
    assert_int_equal(notes("asleep"), 0);
}

static void a_write_that_was_rolled_back_is_run_again(void **state)
{
    (void)state;
    struct robbed r = robbed_by("DATABASE_REPLICA_1_URL");
    pqr_result *res = NULL;
    ask(P, "create sequence runs");
    proxy_tell(&r.thief, "cut twice %s after", id_tag());
    OK(pqr_write(r.s,
                 PQR_QUERY(.sql = "insert into note(body) select 'twice' from pg_sleep("
                                  "case nextval('runs') when 1 then 20 else 0 end)"),
                 &res, &live_error));
    proxy_hears(&r.thief, "cut");
    assert_int_equal(pqr_known_by(res), PQR_OUTCOME_ANSWERED);
    assert_int_equal(pqr_affected(res), 1);
    pqr_result_free(res);
    assert_int_equal(notes("twice"), 1);
    assert_int_equal(ask_number(P, "select last_value from runs"), 2);
    end_robbed(&r);
}

static void lost_by(const char *setting, const char *why)
{
    struct robbed r = robbed_by(setting);
    proxy_tell(&r.thief, "cut again %s after", id_tag());
    FAILS(PQR_E_LOST,
          pqr_write(r.s,
                    PQR_QUERY(.sql = "insert into note(body) select 'again' from pg_sleep(20)"),
                    NULL, &live_error));
    proxy_hears(&r.thief, "cut");
    assert_int_equal(live_error.retry, PQR_RETRY_SAFE);
    says("rolled back");
    says(why);
    end_robbed(&r);
    assert_int_equal(notes("again"), 0);
}

static void without_retries_a_write_that_was_rolled_back_is_lost_and_safe_to_repeat(void **state)
{
    (void)state;
    lost_by("DB_RETRY_MAX=0", "nothing happened");
    lost_by("DB_RETRY_BUDGET_PERCENT=0", "DB_RETRY_BUDGET_PERCENT is used up");
}

static void without_its_id_a_lost_write_is_unknown_and_says_why(void **state)
{
    (void)state;
    struct robbed r = robbed_by("DATABASE_REPLICA_1_URL");
    proxy_tell(&r.thief, "cut idless INSERT before");
    FAILS(PQR_E_UNKNOWN,
          pqr_write(r.s, PQR_QUERY(.sql = "insert into note(body) values ('idless')", .no_id = 1),
                    NULL, &live_error));
    proxy_hears(&r.thief, "cut");
    says("was not asked for");
    assert_int_equal(live_error.retry, PQR_RETRY_UNKNOWN);
    assert_int_equal(notes("idless"), 1);
    proxy_tell(&r.thief, "cut first %s before", id_tag()); /* the id itself is stolen */
    FAILS(PQR_E_UNKNOWN, pqr_write(r.s, PQR_QUERY(.sql = "insert into note(body) values ('first')"),
                                   NULL, &live_error));
    proxy_hears(&r.thief, "cut");
    says("had not come yet");
    assert_int_equal(notes("first"), 1);
    end_robbed(&r);
}

static void a_commit_whose_answer_is_stolen_is_ok(void **state)
{
    (void)state;
    struct robbed r = robbed_by("DATABASE_REPLICA_1_URL");
    pqr_tx *tx;
    OK(pqr_begin(r.s, NULL, &tx, &live_error));
    proxy_tell(&r.thief, "cut bound COMMIT before");
    OK(pqr_exec(tx, PQR_QUERY(.sql = "insert into note(body) values ('bound')"), NULL,
                &live_error));
    OK(pqr_commit(tx, &live_error));
    proxy_hears(&r.thief, "cut");
    assert_int_equal(notes("bound"), 1);
    end_robbed(&r);
}

static void a_commit_of_a_transaction_whose_id_was_not_asked_for_is_unknown(void **state)
{
    (void)state;
    struct robbed r = robbed_by("DATABASE_REPLICA_1_URL");
    pqr_tx *tx;
    OK(pqr_begin(r.s, NULL, &tx, &live_error));
    proxy_tell(&r.thief, "cut unbound COMMIT before");
    OK(pqr_exec(tx, PQR_QUERY(.sql = "insert into note(body) values ('unbound')", .no_id = 1), NULL,
                &live_error));
    FAILS(PQR_E_UNKNOWN, pqr_commit(tx, &live_error));
    proxy_hears(&r.thief, "cut");
    assert_int_equal(notes("unbound"), 1);
    end_robbed(&r);
}

/* ---- … and another life of the server, or another server, before it is asked ----------------- */

static bool answers(const char *url)
{
    return PQping(url) == PQPING_OK;
}

/* The server's own: behind a pooler there is another process at the end of a URL. */
static void crash_a_backend(void)
{
    char url[600];
    snprintf(url, sizeof url, "host=%s/socket port=%d user=postgres dbname=app",
             getenv("PQR_FLEET"), live_port(P));
    PGconn *pg = PQconnectdb(url);
    assert_int_equal(PQstatus(pg), CONNECTION_OK);
    assert_int_equal(kill(PQbackendPID(pg), SIGKILL), 0);
    EVENTUALLY(5000, !PQconsumeInput(pg));
    PQfinish(pg);
    EVENTUALLY(20000, answers(url));
}

static void after_a_crash_restart_an_id_proves_nothing(void **state)
{
    (void)state;
    struct robbed r = robbed_by("DATABASE_REPLICA_1_URL");
    struct late_write w = {
        .s = r.s,
        .q = PQR_QUERY(.sql = "insert into note(body) values ('crashed')", .deadline_ms = 20000)};
    pthread_t writer;
    proxy_tell(&r.thief, "cut crashed INSERT stay");
    pthread_create(&writer, NULL, write_late, &w);
    proxy_hears(&r.thief, "cut");
    EVENTUALLY(5000, notes("crashed") == 1);
    crash_a_backend();
    proxy_tell(&r.thief, "go");
    pthread_join(writer, NULL);
    live_error = w.err;
    FAILS(PQR_E_UNKNOWN, w.code);
    says("crash");
    assert_int_equal(notes("crashed"), 1);
    end_robbed(&r);
}

/* ---- With a key ------------------------------------------------------------------------------ */

static const pqr_query *keyed(const char *key, const char *sql)
{
    static _Thread_local pqr_query q;
    q = (pqr_query){.size = sizeof q, .sql = sql, .idempotency_key = key, .deadline_ms = 20000};
    return &q;
}

/* How it is known, and how many rows it touched. */
static void write_keyed(pqr_session *s, const char *key, const char *sql, int outcome, int affected)
{
    pqr_result *res = NULL;
    OK(pqr_write(s, keyed(key, sql), &res, &live_error));
    assert_int_equal(pqr_known_by(res), outcome);
    assert_int_equal(pqr_affected(res), affected);
    pqr_result_free(res);
}

static void a_repeated_write_runs_once_and_is_told_the_first_ones_outcome(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DATABASE_REPLICA_1_URL");
    pqr_session *s = live_session(db, "acme"), *other = live_session(db, "globex");
    const char *two = "insert into note(body) values ('once'), ('once')";
    write_keyed(s, "order 1", two, PQR_OUTCOME_ANSWERED, 2);
    for (int i = 0; i < 3; i++)
        write_keyed(s, "order 1", two, PQR_OUTCOME_REPEATED, 2);
    assert_int_equal(notes("once"), 2);
    write_keyed(s, "order 2", two, PQR_OUTCOME_ANSWERED, 2);
    write_keyed(other, "order 1", two, PQR_OUTCOME_ANSWERED, 2); /* another tenant's key */
    assert_int_equal(notes("once"), 6);
    write_keyed(s, "none", "update note set body = 'x' where body = 'no such'",
                PQR_OUTCOME_ANSWERED, 0);
    run_write(db, "acme", "insert into note(body) values ('no such')");
    write_keyed(s, "none", "update note set body = 'x' where body = 'no such'",
                PQR_OUTCOME_REPEATED, 0);
    assert_int_equal(notes("x"), 0);
    pqr_session_close(other);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_write_that_fails_leaves_its_key_free(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DATABASE_REPLICA_1_URL");
    pqr_session *s = live_session(db, "acme");
    FAILS(PQR_E_SQL,
          pqr_write(s, keyed("free", "insert into note(body) values (1/0)"), NULL, &live_error));
    assert_string_equal(live_error.sqlstate, "22012");
    int32_t pid = backend(s);
    FAILS(PQR_E_SQL,
          pqr_write(s, keyed("free", "insert into tally values ('text')"), NULL, &live_error));
    if (!live_pooled())                    /* there a connection is not one session */
        assert_int_equal(backend(s), pid); /* its connection lives on */
    write_keyed(s, "free", "insert into note(body) values ('freed')", PQR_OUTCOME_ANSWERED, 1);
    assert_int_equal(notes("freed"), 1);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_repeated_write_that_returned_rows_says_that_they_are_not_kept(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DATABASE_REPLICA_1_URL");
    pqr_session *s = live_session(db, "acme");
    pqr_result *res = NULL;
    const char *sql = "insert into note(body) values ('kept') returning body";
    OK(pqr_write(s, keyed("rows", sql), &res, &live_error));
    assert_string_equal(pqr_text(res, 0, 0), "kept");
    pqr_result_free(res);
    res = NULL;
    FAILS(PQR_E_ROWS_LOST, pqr_write(s, keyed("rows", sql), &res, &live_error));
    assert_null(res);
    OK(pqr_write(s, keyed("rows", sql), NULL, &live_error));
    assert_int_equal(notes("kept"), 1);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_key_is_refused_where_it_cannot_hold(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DATABASE_REPLICA_1_URL");
    pqr_session *s = live_session(db, "acme");
    pqr_tx *tx;
    char text[202];
    memset(text, 'k', 201);
    text[201] = '\0';
    FAILS(PQR_E_USAGE, pqr_write(s, keyed(text, "select 1"), NULL, &live_error));
    says("1 to 200");
    OK(pqr_write(s, keyed(text + 1, "select 1"), NULL, &live_error));
    FAILS(PQR_E_USAGE, pqr_write(s, keyed("", "select 1"), NULL, &live_error));
    FAILS(PQR_E_USAGE, pqr_read(s, keyed("a", "select 1"), NULL, &live_error));
    FAILS(PQR_E_USAGE, pqr_write(s, keyed("a", "call p()"), NULL, &live_error));
    FAILS(PQR_E_USAGE, pqr_write(s, PQR_QUERY(.sql = "vacuum", .alone = 1, .idempotency_key = "a"),
                                 NULL, &live_error));
    FAILS(PQR_E_USAGE,
          pqr_begin(s, PQR_TX(.read_only = 1, .idempotency_key = "a"), &tx, &live_error));
    FAILS(PQR_E_USAGE, pqr_begin(s, PQR_TX(.idempotency_key = ""), &tx, &live_error));
    OK(pqr_begin(s, NULL, &tx, &live_error));
    FAILS(PQR_E_USAGE, pqr_exec(tx, keyed("a", "select 1"), NULL, &live_error));
    says("PQR_TX");
    OK(pqr_exec(tx, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    OK(pqr_commit(tx, &live_error));
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_keyed_write_whose_answer_is_stolen_is_ok_and_happened_once(void **state)
{
    (void)state;
    struct robbed r = robbed_by("DATABASE_REPLICA_1_URL");
    proxy_tell(&r.thief, "cut stolen-keyed UPDATE before"); /* the record of its outcome */
    write_keyed(r.s, "stolen 1", "insert into note(body) values ('stolen-keyed'), ('other')",
                PQR_OUTCOME_RESOLVED, 2);
    proxy_hears(&r.thief, "cut");
    assert_int_equal(notes("stolen-keyed"), 1);
    proxy_tell(&r.thief, "cut early-keyed INSERT after"); /* behind the claim: nothing happened */
    write_keyed(r.s, "stolen 2", "update tally set n = n where 'early-keyed' <> ''",
                PQR_OUTCOME_ANSWERED, 1);
    end_robbed(&r);
}

static void a_claim_waits_for_its_twin_and_no_longer_than_its_deadline(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DATABASE_REPLICA_1_URL");
    pqr_session *s = live_session(db, "acme");
    struct late_write twin = {
        .s = live_session(db, "acme"),
        .q = PQR_QUERY(.sql = "insert into note(body) select 'twin' from pg_sleep(5)",
                       .idempotency_key = "twin", .deadline_ms = 30000)};
    pthread_t writer;
    pthread_create(&writer, NULL, write_late, &twin);
    EVENTUALLY(10000, ask_number(P, "select count(*) from pg_stat_activity where "
                                    "wait_event = 'PgSleep' and query like '%%twin%%'") == 1);
    FAILS(PQR_E_SQL, pqr_write(s,
                               PQR_QUERY(.sql = "insert into note(body) values ('twin')",
                                         .idempotency_key = "twin", .deadline_ms = 2000),
                               NULL, &live_error));
    assert_string_equal(live_error.sqlstate, "55P03");
    assert_int_equal(live_error.retry, PQR_RETRY_SAFE);
    says("is at work");
    write_keyed(s, "twin", "insert into note(body) values ('twin')", PQR_OUTCOME_REPEATED, 1);
    pthread_join(writer, NULL);
    live_error = twin.err;
    OK(twin.code);
    pqr_result_free(twin.res);
    assert_int_equal(notes("twin"), 1);
    pqr_session_close(twin.s);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void waiting_for_a_key_is_all_that_its_lock_timeout_bounds(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DATABASE_REPLICA_1_URL");
    pqr_session *s = live_session(db, "acme");
    pqr_result *res;
    OK(pqr_write(s, keyed("timeouts", "select current_setting('lock_timeout')"), &res,
                 &live_error));
    assert_string_equal(pqr_text(res, 0, 0), "0");
    pqr_result_free(res);
    OK(pqr_write(s, PQR_QUERY(.sql = "select current_setting('lock_timeout')"), &res, &live_error));
    assert_string_equal(pqr_text(res, 0, 0), "0");
    pqr_result_free(res);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void after_a_crash_restart_a_key_still_tells(void **state)
{
    (void)state;
    struct robbed r = robbed_by("DATABASE_REPLICA_1_URL");
    struct late_write w = {.s = r.s,
                           .q = PQR_QUERY(.sql = "insert into note(body) values ('crashed-keyed')",
                                          .idempotency_key = "crash", .deadline_ms = 30000)};
    pthread_t writer;
    proxy_tell(&r.thief, "cut crashed-keyed UPDATE stay");
    pthread_create(&writer, NULL, write_late, &w);
    proxy_hears(&r.thief, "cut");
    EVENTUALLY(5000, notes("crashed-keyed") == 1);
    crash_a_backend();
    proxy_tell(&r.thief, "go");
    pthread_join(writer, NULL);
    live_error = w.err;
    OK(w.code);
    assert_int_equal(pqr_known_by(w.res), PQR_OUTCOME_RESOLVED);
    assert_int_equal(pqr_affected(w.res), 1);
    pqr_result_free(w.res);
    assert_int_equal(notes("crashed-keyed"), 1);
    end_robbed(&r);
}

static int note_bound(pqr_tx *tx, void *runs, pqr_error *err)
{
    ++*(int *)runs;
    return pqr_exec(tx, PQR_QUERY(.sql = "insert into note(body) values ('tx-keyed')"), NULL, err);
}

static void a_transaction_with_a_key_is_committed_once(void **state)
{
    (void)state;
    struct robbed r = robbed_by("DATABASE_REPLICA_1_URL");
    const pqr_tx_options *o = PQR_TX(.idempotency_key = "transaction", .deadline_ms = 20000);
    int runs = 0;
    pqr_tx *tx = NULL;
    proxy_tell(&r.thief, "cut tx-keyed COMMIT before");
    OK(pqr_transact(r.s, o, note_bound, &runs, &live_error));
    proxy_hears(&r.thief, "cut");
    OK(pqr_transact(r.s, o, note_bound, &runs, &live_error));
    assert_non_null(strstr(live_error.message, "committed already"));
    assert_int_equal(runs, 1);
    assert_int_equal(notes("tx-keyed"), 1);
    FAILS(PQR_E_DONE_BEFORE, pqr_begin(r.s, o, &tx, &live_error));
    assert_null(tx);
    OK(pqr_begin(r.s, PQR_TX(.idempotency_key = "another"), &tx, &live_error));
    pqr_rollback(tx);
    OK(pqr_begin(r.s, PQR_TX(.idempotency_key = "another"), &tx, &live_error));
    OK(pqr_commit(tx, &live_error));
    end_robbed(&r);
}

/* The transaction's id is not asked for, so COMMIT alone cannot tell; its key does. */
static int note_unasked(pqr_tx *tx, void *runs, pqr_error *err)
{
    ++*(int *)runs;
    return pqr_exec(tx,
                    PQR_QUERY(.sql = "insert into note(body) values ('tx-unasked')", .no_id = 1),
                    NULL, err);
}

static void a_transaction_whose_commit_is_in_doubt_is_found_by_its_key(void **state)
{
    (void)state;
    struct robbed r = robbed_by("DATABASE_REPLICA_1_URL");
    int runs = 0;
    proxy_tell(&r.thief, "cut tx-unasked COMMIT before");
    OK(pqr_transact(r.s, PQR_TX(.idempotency_key = "unasked", .deadline_ms = 20000), note_unasked,
                    &runs, &live_error));
    proxy_hears(&r.thief, "cut");
    assert_int_equal(runs, 1);
    assert_int_equal(notes("tx-unasked"), 1);
    end_robbed(&r);
}

/* ---- A synchronous standby that is not there ------------------------------------------------- */

static void let_commits_wait(const char *standbys)
{
    fleet("sql " P " \"alter system set synchronous_standby_names = '%s'\"", standbys);
    fleet("sql " P " 'select pg_reload_conf()'");
    EVENTUALLY(5000, strcmp(ask(P, "show synchronous_standby_names"), standbys) == 0);
}

/* A write that waits for a standby which does not come, until its server process is told so. */
static struct late_write waiting_write(pqr_session *s, const char *sql, const char *verb)
{
    struct late_write w = {.s = s};
    const pqr_query *q = PQR_QUERY(.sql = sql, .deadline_ms = 30000);
    w.q = q;
    pthread_t writer;
    pthread_create(&writer, NULL, write_late, &w);
    EVENTUALLY(10000, ask_number(P, "select count(*) from pg_stat_activity where wait_event = "
                                    "'SyncRep'") == 1);
    ask(P, "select %s(pid) from pg_stat_activity where wait_event = 'SyncRep'", verb);
    pthread_join(writer, NULL);
    live_error = w.err;
    return w;
}

static void a_commit_that_no_standby_confirmed_says_so(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DATABASE_REPLICA_1_URL");
    pqr_session *s = live_session(db, "acme");
    const char *sql = "insert into note(body) values ('alone')";
    let_commits_wait("nobody");
    struct late_write w = waiting_write(s, sql, "pg_cancel_backend");
    OK(w.code);
    assert_string_equal(live_error.sqlstate, "01000");
    assert_string_equal(live_error.node, P);
    says("a failover may lose it");
    assert_int_equal(pqr_known_by(w.res), PQR_OUTCOME_ANSWERED);
    pqr_result_free(w.res);
    w = waiting_write(s, sql, "pg_terminate_backend");
    let_commits_wait("");
    OK(w.code);
    assert_string_equal(live_error.sqlstate, "01000");
    assert_int_equal(pqr_known_by(w.res), PQR_OUTCOME_ANSWERED); /* its result had come */
    pqr_result_free(w.res);
    assert_int_equal(notes("alone"), 2);
    OK(pqr_write(s, PQR_QUERY(.sql = sql), NULL, &live_error));
    assert_string_equal(live_error.sqlstate, "");
    assert_string_equal(live_error.message, "");
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* ---- Another primary, before it is asked: last, since the fleet is another one then ----------- */

/* The one write has a key, the other one has none; the promoted server has both. */
static void after_a_promotion_only_a_key_tells(void **state)
{
    (void)state;
    struct robbed r = robbed_by("DB_HEALTH_INTERVAL=200ms"),
                  k = robbed_by("DB_HEALTH_INTERVAL=200ms");
    struct late_write w = {.s = r.s,
                           .q = PQR_QUERY(.sql = "insert into note(body) values ('moved')",
                                          .deadline_ms = 60000)},
                      key = {.s = k.s,
                             .q = PQR_QUERY(.sql = "insert into note(body) values ('moved-key')",
                                            .idempotency_key = "moved", .deadline_ms = 60000)};
    pthread_t writer, keyed_writer;
    proxy_tell(&r.thief, "cut moved INSERT stay");
    proxy_tell(&k.thief, "cut moved-key UPDATE stay");
    pthread_create(&writer, NULL, write_late, &w);
    pthread_create(&keyed_writer, NULL, write_late, &key);
    proxy_hears(&r.thief, "cut");
    proxy_hears(&k.thief, "cut");
    EVENTUALLY(10000, ask_number(R1, "select count(*) from note where body like 'moved%%'") == 2);
    fleet("kill " P);
    fleet("promote " R1);
    proxy_tell(&r.thief, "go");
    proxy_tell(&k.thief, "go");
    pthread_join(writer, NULL);
    pthread_join(keyed_writer, NULL);
    live_error = w.err;
    FAILS(PQR_E_UNKNOWN, w.code);
    says("promoted since");
    live_error = key.err;
    OK(key.code);
    assert_int_equal(pqr_known_by(key.res), PQR_OUTCOME_RESOLVED);
    assert_int_equal(pqr_affected(key.res), 1);
    assert_string_equal(pqr_source(key.res), R1);
    pqr_result_free(key.res);
    assert_int_equal(ask_number(R1, "select count(*) from note where body like 'moved%%'"), 2);
    end_robbed(&r);
    end_robbed(&k);
}

static int make_tables(void **state)
{
    (void)state;
    ask(P, "create table note(id bigint generated always as identity, body text)");
    ask(P, "create table tally(n bigint)");
    ask(P, "insert into tally values (0)");
    signal(SIGPIPE, SIG_IGN);
    pqr *db = READY_ROUTER("DATABASE_REPLICA_1_URL");
    int code = pqr_init(db, 20000, NULL, NULL, &live_error);
    pqr_close(db, 0);
    return code;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_and_its_position_are_one_round_trip),
        cmocka_unit_test(where_nobody_needs_its_position_a_write_does_not_ask_for_it),
        cmocka_unit_test(one_prepared_statement_is_one_of_the_callers),
        cmocka_unit_test(after_a_write_a_replica_that_has_it_serves_at_once),
        cmocka_unit_test(a_session_reads_what_it_wrote_wherever_it_reads),
        cmocka_unit_test(a_write_whose_position_is_lost_is_ok_and_its_session_reads_on_the_primary),
        cmocka_unit_test(a_committed_write_whose_answer_is_stolen_is_ok),
        cmocka_unit_test(rows_that_were_stolen_are_told_as_lost_and_the_write_as_done),
        cmocka_unit_test(an_answer_that_came_before_the_loss_is_handed_on_whole),
        cmocka_unit_test(a_write_that_was_cut_off_is_unknown_while_the_server_is_at_it),
        cmocka_unit_test(a_write_that_was_rolled_back_is_run_again),
        cmocka_unit_test(without_retries_a_write_that_was_rolled_back_is_lost_and_safe_to_repeat),
        cmocka_unit_test(without_its_id_a_lost_write_is_unknown_and_says_why),
        cmocka_unit_test(a_commit_whose_answer_is_stolen_is_ok),
        cmocka_unit_test(a_commit_of_a_transaction_whose_id_was_not_asked_for_is_unknown),
        cmocka_unit_test(after_a_crash_restart_an_id_proves_nothing),
        cmocka_unit_test(a_repeated_write_runs_once_and_is_told_the_first_ones_outcome),
        cmocka_unit_test(a_write_that_fails_leaves_its_key_free),
        cmocka_unit_test(a_repeated_write_that_returned_rows_says_that_they_are_not_kept),
        cmocka_unit_test(a_key_is_refused_where_it_cannot_hold),
        cmocka_unit_test(a_keyed_write_whose_answer_is_stolen_is_ok_and_happened_once),
        cmocka_unit_test(a_claim_waits_for_its_twin_and_no_longer_than_its_deadline),
        cmocka_unit_test(waiting_for_a_key_is_all_that_its_lock_timeout_bounds),
        cmocka_unit_test(after_a_crash_restart_a_key_still_tells),
        cmocka_unit_test(a_transaction_with_a_key_is_committed_once),
        cmocka_unit_test(a_transaction_whose_commit_is_in_doubt_is_found_by_its_key),
        cmocka_unit_test(a_commit_that_no_standby_confirmed_says_so),
        cmocka_unit_test(after_a_promotion_only_a_key_tells),
    };
    return cmocka_run_group_tests(tests, make_tables, NULL);
}
