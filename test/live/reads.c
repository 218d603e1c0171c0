/* Where reads go: who is eligible, how they are dealt, what a session is promised. The server
 * itself says who served (its cluster_name); pqr_source must agree. Fleet: one shard, two replicas. */
#include "live.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define P "shard0/primary"
#define R1 "shard0/replica1"
#define R2 "shard0/replica2"
#define QUICK "DB_HEALTH_INTERVAL=100ms"

/* ---- Dealing -------------------------------------------------------------------------------- */

struct tally {
    pqr *db;
    int sessions;
    _Atomic int at[3], failed; /* primary, replica1, replica2 */
};

static int index_of(const char *node)
{
    return strcmp(node, P) == 0 ? 0 : strcmp(node, R1) == 0 ? 1 : 2;
}

static void *open_sessions(void *arg)
{
    struct tally *t = arg;
    for (int i = 0; i < t->sessions; i++)
        atomic_fetch_add(&t->at[index_of(served_by(t->db, "acme", PQR_LEVEL_SESSION))], 1);
    return NULL;
}

static void deal(struct tally *t, int threads)
{
    pthread_t thread[64];
    for (int i = 0; i < threads; i++)
        pthread_create(&thread[i], NULL, open_sessions, t);
    for (int i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    print_message("%d on the primary, %d and %d on the replicas\n", t->at[0], t->at[1], t->at[2]);
}

static void a_thousand_sessions_are_dealt_evenly_over_the_replicas(void **state)
{
    struct tally t = {.db = *state, .sessions = 1024 / 64};
    deal(&t, 64);
    assert_int_equal(t.at[0], 0);
    assert_in_range(t.at[1], 460, 564);
    assert_in_range(t.at[2], 460, 564);
}

/* Workers that are forked after opening, at the same moment, and live for a read each: 20 that all
 * begin at the same replica are no coincidence. One after the other, so that none falls back. */
static void processes_forked_from_an_opened_router_are_dealt_too(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* it cannot follow threads that are started in a child */
#endif
    pqr_close(READY_ROUTER(QUICK), 0); /* chance has begun in the parent */
    pqr *db = ROUTER(QUICK);
    int at[3] = {0}, turn[2];
    char byte = 0;
    assert_int_equal(pipe(turn), 0);
    for (int i = 0; i < 20; i++)
        if (fork() == 0)
            _exit(read(turn[0], &byte, 1) == 1 ? index_of(served_by(db, "acme", 0)) : 9);
    for (int i = 0; i < 20; i++) {
        int status;
        assert_int_equal(write(turn[1], &byte, 1), 1);
        assert_true(wait(&status) > 0);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 3);
        at[WEXITSTATUS(status)]++;
    }
    print_message("%d on the primary, %d and %d on the replicas\n", at[0], at[1], at[2]);
    assert_true(at[1] > 0);
    assert_true(at[2] > 0);
    pqr_close(db, 0);
    close(turn[0]);
    close(turn[1]);
}

static void a_session_stays_on_its_replica(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    char first[32] = "";
    for (int i = 0; i < 20; i++) {
        pqr_result *res;
        OK(pqr_read(s, PQR_QUERY(.sql = "select current_setting('cluster_name')"), &res,
                    &live_error));
        if (i == 0)
            snprintf(first, sizeof first, "%s", pqr_text(res, 0, 0));
        assert_string_equal(pqr_text(res, 0, 0), first);
        pqr_result_free(res);
    }
    assert_string_not_equal(first, P);
    pqr_session_close(s);
}

static void reads_of_level_any_alternate_call_by_call(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    char last[32] = "";
    for (int i = 0; i < 20; i++) {
        pqr_result *res;
        OK(pqr_read(
            s, PQR_QUERY(.sql = "select current_setting('cluster_name')", .level = PQR_LEVEL_ANY),
            &res, &live_error));
        assert_string_not_equal(pqr_source(res), last);
        assert_string_equal(pqr_source(res), pqr_text(res, 0, 0));
        snprintf(last, sizeof last, "%s", pqr_source(res));
        pqr_result_free(res);
    }
    pqr_session_close(s);
}

static void reads_of_level_primary_go_to_the_primary(void **state)
{
    for (int i = 0; i < 4; i++)
        assert_string_equal(served_by(*state, "acme", PQR_LEVEL_PRIMARY), P);
}

static void the_read_preference_decides_which_role_serves(void **state)
{
    (void)state;
    pqr *primary = READY_ROUTER("DB_READ_PREFERENCE=primary");
    pqr *preferred = READY_ROUTER("DB_READ_PREFERENCE=primary_preferred");
    pqr *replica = READY_ROUTER("DB_READ_PREFERENCE=replica");
    for (int i = 0; i < 4; i++) {
        assert_string_equal(served_by(primary, "acme", PQR_LEVEL_SESSION), P);
        assert_string_equal(served_by(preferred, "acme", PQR_LEVEL_SESSION), P);
        assert_string_not_equal(served_by(replica, "acme", PQR_LEVEL_SESSION), P);
    }
    pqr_close(primary, 0);
    pqr_close(preferred, 0);
    pqr_close(replica, 0);
}

static void roles_come_from_the_servers_not_from_the_variables(void **state)
{
    (void)state;
    char as_primary[512], as_replica[512];
    snprintf(as_primary, sizeof as_primary, "DATABASE_PRIMARY_URL=%s",
             getenv("DATABASE_REPLICA_1_URL"));
    snprintf(as_replica, sizeof as_replica, "DATABASE_REPLICA_1_URL=%s",
             getenv("DATABASE_PRIMARY_URL"));
    pqr *db = READY_ROUTER(as_primary, as_replica);
    pqr_session *s = live_session(db, "acme");
    pqr_result *res;
    OK(pqr_write(s, PQR_QUERY(.sql = "select current_setting('cluster_name')"), &res, &live_error));
    assert_string_equal(pqr_text(res, 0, 0), P);
    assert_string_equal(pqr_source(res), "shard0/replica1"); /* its name is its variable's */
    pqr_result_free(res);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* A reader endpoint that leads to the writer, or a slip in a URL: one server, not two primaries. */
static void a_replica_url_that_leads_to_the_primary_is_no_second_primary(void **state)
{
    (void)state;
    char twice[512];
    snprintf(twice, sizeof twice, "DATABASE_REPLICA_1_URL=%s", getenv("DATABASE_PRIMARY_URL"));
    pqr *db = READY_ROUTER(twice, QUICK);
    for (int i = 0; i < 6; i++) {
        run_write(db, "acme", "select 1");
        assert_string_equal(served_by(db, "acme", PQR_LEVEL_SESSION), R2);
    }
    pqr_close(db, 0);
}

/* ---- What a session is promised -------------------------------------------------------------- */

static void a_session_reads_its_own_writes(void **state)
{
    for (int round = 0; round < 100; round++) {
        pqr_session *s = live_session(*state, "acme");
        pqr_result *res;
        OK(pqr_write(s,
                     PQR_QUERY(.sql = "insert into note(body) values ($1) returning id",
                               PQR_PARAMS(PQR_INT64(round))),
                     &res, &live_error));
        int64_t id = pqr_int64(res, 0, 0);
        pqr_result_free(res);
        OK(pqr_read(
            s,
            PQR_QUERY(.sql = "select count(*) from note where id = $1", PQR_PARAMS(PQR_INT64(id))),
            &res, &live_error));
        assert_int_equal(pqr_int64(res, 0, 0), 1);
        pqr_result_free(res);
        pqr_session_close(s);
    }
}

static void a_session_returns_to_a_replica_once_that_has_its_write(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    OK(pqr_write(s, PQR_QUERY(.sql = "insert into note(body) values (7000)"), NULL, &live_error));
    const char *source = P;
    pqr_result *res = NULL;
    for (int64_t until = live_now_ms() + 5000; strcmp(source, P) == 0 && live_now_ms() < until;
         live_sleep_ms(10)) {
        pqr_result_free(res);
        OK(pqr_read(s, PQR_QUERY(.sql = "select max(body) from note"), &res, &live_error));
        assert_int_equal(pqr_int64(res, 0, 0), 7000);
        source = pqr_source(res);
    }
    assert_string_not_equal(source, P);
    pqr_result_free(res);
    pqr_session_close(s);
}

static void a_session_does_not_go_back_in_time_when_its_replica_leaves(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(QUICK, "DB_MAX_REPLICA_LAG=60", "DB_MAX_REPLICA_LAG_BYTES=0");
    fleet("pause-replay " R2);
    ask(P, "insert into note(body) values (99000)");
    EVENTUALLY(5000, ask_number(R1, "select count(*) from note where body = 99000") == 1);
    pqr_session *s = NULL;
    pqr_result *res = NULL;
    /* A session on replica1 sees the row; replica2, which has not replayed it, is within limits. */
    for (bool there = false; !there;) {
        pqr_session_close(s);
        s = live_session(db, "acme");
        pqr_result_free(res);
        OK(pqr_read(s, PQR_QUERY(.sql = "select count(*) from note where body = 99000"), &res,
                    &live_error));
        there = strcmp(pqr_source(res), R1) == 0;
    }
    assert_int_equal(pqr_int64(res, 0, 0), 1);
    pqr_result_free(res);
    fleet("kill " R1);
    for (int i = 0; i < 10; i++) {
        OK(pqr_read(s, PQR_QUERY(.sql = "select count(*) from note where body = 99000"), &res,
                    &live_error));
        assert_int_equal(pqr_int64(res, 0, 0), 1);
        assert_string_equal(pqr_source(res), P);
        pqr_result_free(res);
    }
    pqr_session_close(s);
    fleet("start " R1);
    fleet("resume-replay " R2);
    EVENTUALLY(5000, serves_reads(db, R1) && serves_reads(db, R2));
    ask(P, "delete from note where body = 99000");
    pqr_close(db, 0);
}

static int64_t count_on(pqr_session *s, int level, char source[64])
{
    pqr_result *res;
    OK(pqr_read(s, PQR_QUERY(.sql = "select count(*) from note where body = 98000", .level = level),
                &res, &live_error));
    int64_t n = pqr_int64(res, 0, 0);
    snprintf(source, 64, "%s", pqr_source(res));
    pqr_result_free(res);
    return n;
}

static void sees_it_still(pqr_session *s)
{
    char source[64];
    if (count_on(s, PQR_LEVEL_SESSION, source) != 1) {
        fleet("resume-replay " R1);
        fleet("resume-replay " R2);
        fail_msg("%s shows what was before", source);
    }
}

/* Its postmaster lives on, and its backends start anew from its last restart point: what it had
 * shown after that it shows again only when it has replayed it. */
static void a_session_does_not_go_back_in_time_when_its_replica_crashes(void **state)
{
    (void)state;
    char source[64] = "";
    pqr *db = READY_ROUTER(QUICK, "DB_MAX_REPLICA_LAG=0", "DB_MAX_REPLICA_LAG_BYTES=0");
    fleet("sql " P " checkpoint");
    char at[64];
    snprintf(at, sizeof at, "%s", ask(P, "select pg_current_wal_lsn()"));
    EVENTUALLY(5000, ask_number(R1, "select (pg_last_wal_replay_lsn() >= '%s')::int", at) == 1);
    fleet("sql " R1 " checkpoint");
    fleet("sql " R1 " \"alter system set recovery_min_apply_delay = '1h'\"");
    ask(P, "insert into note(body) values (98000)");
    EVENTUALLY(5000, ask_number(R1, "select count(*) from note where body = 98000") == 1);
    pqr_session *s = NULL, *any = live_session(db, "acme");
    while (strcmp(source, R1) != 0) {
        pqr_session_close(s);
        s = live_session(db, "acme");
        count_on(s, PQR_LEVEL_SESSION, source);
    }
    fleet("sql " R1 " 'select pg_reload_conf()'");
    long pid = ask_number(R1, "select pid from pg_stat_activity where usename = current_user"
                              " and state = 'idle' limit 1");
    assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
    bool behind = false;
    for (int64_t until = live_now_ms() + 20000; !behind && live_now_ms() < until;)
        behind = count_on(any, PQR_LEVEL_ANY, source) == 0;
    assert_string_equal(source, R1);
    for (int i = 0; i < 20; i++)
        sees_it_still(s);
    pqr_session_close(s);
    pqr_session_close(any);
    fleet("sql " R1 " 'alter system reset recovery_min_apply_delay'");
    fleet("sql " R1 " 'select pg_reload_conf()'");
    EVENTUALLY(10000, ask_number(R1, "select count(*) from note where body = 98000") == 1);
    ask(P, "delete from note where body = 98000");
    pqr_close(db, 0);
}

static const char *source_of_next_read(pqr_session *s)
{
    static char source[64];
    pqr_result *res;
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1"), &res, &live_error));
    snprintf(source, sizeof source, "%s", pqr_source(res));
    pqr_result_free(res);
    return source;
}

/* Whoever looks whether a write happened must look where that can be seen. */
static void after_a_write_in_doubt_a_session_reads_from_the_primary(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    FAILS(PQR_E_UNKNOWN, pqr_write(s, PQR_QUERY(.sql = "select pg_sleep(5)", .deadline_ms = 100),
                                   NULL, &live_error));
    assert_string_equal(source_of_next_read(s), P);
    pqr_session_close(s);
}

static void beside_and_after_a_transaction_a_session_does_not_go_back(void **state)
{
    pqr_session *s = live_session(*state, "acme");
    pqr_tx *tx;
    OK(pqr_begin(s, NULL, &tx, &live_error));
    assert_string_equal(source_of_next_read(s), P);
    pqr_rollback(tx);
    pqr_session_close(s);
    s = live_session(*state, "acme");
    OK(pqr_begin(s, NULL, &tx, &live_error));
    pqr_rollback(tx);
    assert_string_equal(source_of_next_read(s), P);
    pqr_session_close(s);
    struct pg_conn *lent;
    s = live_session(*state, "acme");
    OK(pqr_lend(s, PQR_LEND_WRITE, &lent, &live_error));
    pqr_give_back(s, lent);
    assert_string_equal(source_of_next_read(s), P);
    pqr_session_close(s);
}

/* What is written on it, the session cannot know the position of, whatever else tells one. */
static void while_a_connection_is_lent_for_writing_and_after_a_session_does_not_go_back(
    void **state)
{
    struct pg_conn *lent[2];
    pqr_session *s = live_session(*state, "acme");
    for (int i = 0; i < 2; i++)
        OK(pqr_lend(s, PQR_LEND_WRITE, &lent[i], &live_error));
    OK(pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    assert_string_equal(source_of_next_read(s), P);
    pqr_give_back(s, lent[0]);
    OK(pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    assert_string_equal(source_of_next_read(s), P);
    pqr_give_back(s, lent[1]);
    assert_string_equal(source_of_next_read(s), P);
    OK(pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    EVENTUALLY(10000, strcmp(source_of_next_read(s), P) != 0);
    pqr_session_close(s);
}

/* A session on a replica; from now on the replicas stand still. */
static pqr_session *session_beside_paused_replicas(pqr_session *s)
{
    OK(pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    EVENTUALLY(10000, strcmp(source_of_next_read(s), P) != 0);
    fleet("pause-replay " R1);
    fleet("pause-replay " R2);
    ask(P, "insert into note(body) values (98000)");
    return s;
}

static void end_beside_paused_replicas(pqr_session *s)
{
    pqr_session_close(s);
    fleet("resume-replay " R1);
    fleet("resume-replay " R2);
    ask(P, "delete from note where body = 98000");
    EVENTUALLY(10000, ask_number(R1, "select count(*) from note where body = 98000") == 0 &&
                          ask_number(R2, "select count(*) from note where body = 98000") == 0);
}

#define COUNT PQR_QUERY(.sql = "select count(*) from note where body = 98000")

static void what_a_transaction_showed_a_session_sees_still(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(QUICK, "DB_MAX_REPLICA_LAG=0", "DB_MAX_REPLICA_LAG_BYTES=0");
    for (int read_only = 0; read_only < 2; read_only++)
        for (int end = 0; end < 3; end++) {
            pqr_tx *tx;
            pqr_result *res = NULL;
            pqr_session *s = live_session(db, "acme");
            OK(pqr_begin(s, PQR_TX(.read_only = read_only, .level = PQR_LEVEL_PRIMARY), &tx,
                         &live_error));
            session_beside_paused_replicas(s);
            OK(pqr_exec(tx, COUNT, &res, &live_error));
            assert_int_equal(pqr_int64(res, 0, 0), 1);
            pqr_result_free(res);
            if (end == 1)
                pqr_rollback(tx);
            else if (end == 2)
                OK(pqr_commit(tx, &live_error));
            sees_it_still(s);
            if (end == 0)
                pqr_rollback(tx);
            end_beside_paused_replicas(s);
        }
    pqr_close(db, 0);
}

static void what_a_lent_connection_showed_a_session_sees_still(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(QUICK, "DB_MAX_REPLICA_LAG=0", "DB_MAX_REPLICA_LAG_BYTES=0");
    pqr_session *s = live_session(db, "acme");
    pqr_tx *tx;
    struct pg_conn *lent;
    OK(pqr_begin(s, NULL, &tx, &live_error));
    OK(pqr_lend(s, PQR_LEND_READ, &lent, &live_error)); /* of the primary, by that */
    pqr_rollback(tx);
    session_beside_paused_replicas(s);
    PGresult *res = PQexec(lent, "select count(*) from note where body = 98000");
    assert_string_equal(PQgetvalue(res, 0, 0), "1");
    PQclear(res);
    pqr_give_back(s, lent);
    sees_it_still(s);
    end_beside_paused_replicas(s);
    pqr_close(db, 0);
}

static void *write_all_the_time(void *arg)
{
    _Atomic bool *stop = arg;
    while (!atomic_load(stop))
        ask(P, "insert into note(body) select 0 from generate_series(1, 20)");
    return NULL;
}

static void a_session_stays_on_its_replica_also_while_others_write(void **state)
{
    _Atomic bool stop = false;
    pthread_t writer;
    int elsewhere = 0;
    pthread_create(&writer, NULL, write_all_the_time, &stop);
    for (int i = 0; i < 20; i++) {
        pqr_session *s = live_session(*state, "acme");
        char first[64];
        snprintf(first, sizeof first, "%s", source_of_next_read(s));
        for (int j = 0; j < 10; j++)
            elsewhere += strcmp(source_of_next_read(s), first) != 0;
        pqr_session_close(s);
    }
    atomic_store(&stop, true);
    pthread_join(writer, NULL);
    assert_int_equal(elsewhere, 0);
}

static void a_read_that_writes_fails_on_every_node(void **state)
{
    static const char *const statements[] = {
        "insert into note(body) values (1)",
        "with gone as (delete from note returning 1) select count(*) from gone",
        "select nextval('note_id_seq')",
        "create table nope (x int)",
        "select id from note for update",
    };
    static const char *const preferences[] = {"DB_READ_PREFERENCE=primary",
                                              "DB_READ_PREFERENCE=replica"};
    (void)state;
    for (int p = 0; p < 2; p++) {
        pqr *db = READY_ROUTER(preferences[p]);
        for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
            for (int turn = 0; turn < 2; turn++) {
                pqr_session *s = live_session(db, "acme");
                FAILS(PQR_E_READ_ONLY,
                      pqr_read(s, PQR_QUERY(.sql = statements[i]), NULL, &live_error));
                assert_string_equal(live_error.sqlstate, "25006");
                assert_non_null(strstr(live_error.message, "pqr_write"));
                assert_int_equal(live_error.retry, PQR_RETRY_NEVER);
                pqr_session_close(s);
            }
        pqr_close(db, 0);
    }
}

/* ---- Full replicas --------------------------------------------------------------------------- */

/* A read-only transaction, which holds a connection; on which node. */
static pqr_tx *hold(pqr_session *s, int *node)
{
    pqr_tx *tx;
    pqr_result *r;
    OK(pqr_begin(s, PQR_TX(.read_only = 1, .level = PQR_LEVEL_ANY), &tx, &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = "select 1"), &r, &live_error));
    *node = index_of(pqr_source(r));
    pqr_result_free(r);
    return tx;
}

/* Two connections to each server, beside the monitor's. */
static void a_replica_without_a_free_connection_is_passed_over(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(QUICK, "DB_CONNECTION_LIMIT=3", "DB_LANES=0", "DB_POOL_TIMEOUT=500ms");
    EVENTUALLY(5000, serves_reads(db, R1) && serves_reads(db, R2));
    pqr_session *s = live_session(db, "acme"), *stays = live_session(db, "acme");
    const pqr_query *one = PQR_QUERY(.sql = "select 1");
    const pqr_query *any = PQR_QUERY(.sql = "select 1", .level = PQR_LEVEL_ANY);
    pqr_result *r;
    pqr_tx *tx[4];
    int node[4];
    OK(pqr_read(stays, one, &r, &live_error));
    int full = index_of(pqr_source(r)), other = 3 - full;
    pqr_result_free(r);
    for (int i = 0; i < 4; i++)
        tx[i] = hold(s, &node[i]);
    FAILS(PQR_E_POOL_TIMEOUT, pqr_read(s, any, NULL, &live_error)); /* all are held: it waits */
    for (int i = 0; i < 4; i++)
        if (node[i] == other)
            pqr_rollback(tx[i]);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(index_of(served_by(db, "acme", PQR_LEVEL_ANY)), other);
        assert_int_equal(index_of(served_by(db, "acme", PQR_LEVEL_SESSION)), other);
    }
    FAILS(PQR_E_POOL_TIMEOUT,
          pqr_read(stays, one, NULL, &live_error)); /* it does not go elsewhere so soon */
    for (int i = 0; i < 4; i++)
        if (node[i] == full)
            pqr_rollback(tx[i]);
    int at_full = 0;
    for (int i = 0; i < 6; i++)
        at_full += index_of(served_by(db, "acme", PQR_LEVEL_ANY)) == full;
    assert_int_equal(at_full, 3); /* the deal goes on */
    OK(pqr_read(stays, one, NULL, &live_error));
    pqr_session_close(stays);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* ---- Lag ------------------------------------------------------------------------------------ */

static void write_a_bit(void)
{
    ask(P, "insert into note(body) values (0)");
}

static void a_replica_with_replay_paused_is_left_out_and_comes_back(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(QUICK, "DB_MAX_REPLICA_LAG=1");
    fleet("pause-replay " R1);
    for (int64_t until = live_now_ms() + 8000; serves_reads(db, R1) && live_now_ms() < until;
         live_sleep_ms(50))
        write_a_bit();
    assert_false(serves_reads(db, R1));
    for (int i = 0; i < 20; i++) {
        assert_string_equal(served_by(db, "acme", PQR_LEVEL_SESSION), R2);
        assert_string_equal(served_by(db, "acme", PQR_LEVEL_ANY), R2);
    }
    assert_non_null(strstr(health_of(db, R1).why, "lags"));
    fleet("resume-replay " R1);
    EVENTUALLY(5000, serves_reads(db, R1));
    pqr_close(db, 0);
}

static void a_replica_that_lags_by_bytes_is_left_out(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(QUICK, "DB_MAX_REPLICA_LAG=0", "DB_MAX_REPLICA_LAG_BYTES=100000");
    fleet("pause-replay " R2);
    ask(P, "insert into note(body) select 0 from generate_series(1, 5000)");
    /* The other one, too, is behind for as long as it takes to replay that. */
    EVENTUALLY(5000, !serves_reads(db, R2) && serves_reads(db, R1));
    assert_true(health_of(db, R2).lag_bytes > 100000);
    assert_string_equal(served_by(db, "acme", PQR_LEVEL_ANY), R1);
    fleet("resume-replay " R2);
    EVENTUALLY(5000, serves_reads(db, R2));
    pqr_close(db, 0);
}

static void a_replica_whose_receiver_is_cut_ages_out_and_comes_back(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(QUICK, "DB_MAX_REPLICA_LAG=1");
    fleet("cut-receiver " R1);
    for (int64_t until = live_now_ms() + 8000; serves_reads(db, R1) && live_now_ms() < until;
         live_sleep_ms(50))
        write_a_bit();
    assert_false(serves_reads(db, R1));
    assert_string_equal(served_by(db, "acme", PQR_LEVEL_ANY), R2);
    fleet("join-receiver " R1);
    EVENTUALLY(10000, serves_reads(db, R1));
    pqr_close(db, 0);
}

static void an_idle_primary_leaves_no_replica_out_also_when_wal_is_switched(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(QUICK, "DB_MAX_REPLICA_LAG=1", "DB_MAX_REPLICA_LAG_BYTES=1000000");
    EVENTUALLY(5000, serves_reads(db, R1) && serves_reads(db, R2));
    for (int i = 0; i < 150; i++) {
        if (i % 40 == 20) {
            /* A switch moves the position by up to a segment: only while that is replayed, a moment,
             * may a replica seem behind. */
            fleet("sql " P " 'select pg_switch_wal()'");
            EVENTUALLY(2000, serves_reads(db, R1) && serves_reads(db, R2));
        }
        assert_true(serves_reads(db, R1));
        assert_true(serves_reads(db, R2));
        live_sleep_ms(100);
    }
    assert_int_equal(health_of(db, R1).lag_bytes, 0);
    assert_int_equal(health_of(db, R2).lag_ms, 0);
    pqr_close(db, 0);
}

static bool has_all(const char *replica)
{
    char now[64];
    snprintf(now, sizeof now, "%s", ask(P, "select pg_current_wal_lsn()"));
    return ask_number(replica, "select (pg_last_wal_replay_lsn() >= '%s'::pg_lsn)::int", now) == 1;
}

/* Before the first answer a router has seen nothing of the primary's past. */
static void a_replica_that_is_behind_at_process_start_is_not_read(void **state)
{
    (void)state;
    fleet("pause-replay " R1);
    write_a_bit();
    EVENTUALLY(5000, has_all(R2) && !has_all(R1));
    for (int i = 0; i < 3; i++) {
        pqr *db = READY_ROUTER(QUICK);
        for (int j = 0; j < 4; j++)
            assert_string_not_equal(served_by(db, "acme", PQR_LEVEL_ANY), R1);
        pqr_close(db, 0);
    }
    fleet("resume-replay " R1);
    EVENTUALLY(10000, has_all(R1));
}

static void the_first_read_of_a_process_goes_to_a_replica_already(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        EVENTUALLY(10000, has_all(R1) && has_all(R2));
        pqr *db = ROUTER(QUICK);
        assert_string_not_equal(served_by(db, "acme", PQR_LEVEL_SESSION), P);
        pqr_close(db, 0);
    }
}

/* ---- Servers that leave --------------------------------------------------------------------- */

static void with_both_replicas_gone_the_primary_answers_and_back_again(void **state)
{
    (void)state;
    EVENTUALLY(10000, has_all(R1) && has_all(R2));
    pqr *db = READY_ROUTER(QUICK);
    assert_string_not_equal(served_by(db, "acme", PQR_LEVEL_SESSION), P);
    fleet("kill " R1);
    for (int i = 0; i < 10; i++)
        assert_string_equal(served_by(db, "acme", PQR_LEVEL_SESSION), R2);
    fleet("kill " R2);
    for (int i = 0; i < 10; i++)
        assert_string_equal(served_by(db, "acme", PQR_LEVEL_SESSION), P);
    fleet("start " R1);
    EVENTUALLY(10000, serves_reads(db, R1));
    assert_string_equal(served_by(db, "acme", PQR_LEVEL_SESSION), R1);
    fleet("start " R2);
    EVENTUALLY(10000, serves_reads(db, R2));
    pqr_close(db, 0);
}

static void a_frozen_replica_is_left_out_and_comes_back(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(QUICK);
    fleet("stop " R1);
    EVENTUALLY(5000, !serves_reads(db, R1));
    for (int i = 0; i < 10; i++)
        assert_string_equal(served_by(db, "acme", PQR_LEVEL_SESSION), R2);
    fleet("cont " R1);
    EVENTUALLY(10000, serves_reads(db, R1));
    pqr_close(db, 0);
}

struct queue {
    pqr *db;
    _Atomic int quick, late;
};

static void *read_with_patience(void *arg)
{
    struct queue *q = arg;
    pqr_session *s = live_session(q->db, "acme");
    int64_t begun = live_now_ms();
    int code = pqr_read(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 8000), NULL, &live_error);
    bool quick = code == PQR_OK && live_now_ms() - begun < 6000;
    atomic_fetch_add(quick ? &q->quick : &q->late, 1);
    pqr_session_close(s);
    return NULL;
}

/* One connection beside the monitor's: one call is stuck in it, the others wait for it. */
static void calls_that_wait_for_a_frozen_replica_are_served_elsewhere(void **state)
{
    (void)state;
    struct queue q = {.db = READY_ROUTER(QUICK, "DB_CONNECTION_LIMIT=3")};
    pthread_t t[24];
    for (int i = 0; i < 4; i++)
        served_by(q.db, "acme", PQR_LEVEL_ANY); /* both replicas are connected */
    fleet("stop " R1);
    for (int i = 0; i < 24; i++)
        pthread_create(&t[i], NULL, read_with_patience, &q);
    for (int i = 0; i < 24; i++)
        pthread_join(t[i], NULL);
    fleet("cont " R1);
    print_message("%d were served, %d were stuck\n", q.quick, q.late);
    assert_in_range(q.late, 0, 2);
    EVENTUALLY(10000, serves_reads(q.db, R1));
    pqr_close(q.db, 0);
}

static void sessions_stay_evenly_dealt_while_a_replica_leaves_and_returns(void **state)
{
    (void)state;
    struct tally t = {.db = READY_ROUTER(QUICK, "DB_MAX_REPLICA_LAG=1"), .sessions = 20};
    fleet("kill " R2);
    deal(&t, 32);
    assert_int_equal(t.at[0], 0);
    assert_int_equal(t.at[1], 640);
    fleet("start " R2);
    EVENTUALLY(10000, serves_reads(t.db, R2));
    t.at[1] = 0;
    deal(&t, 32);
    assert_int_equal(t.at[0], 0);
    assert_in_range(t.at[1], 288, 352);
    assert_in_range(t.at[2], 288, 352);
    pqr_close(t.db, 0);
}

static int open_router(void **state)
{
    ask(P, "create table if not exists note(id bigserial primary key, body bigint)");
    pqr *db = READY_ROUTER(QUICK);
    EVENTUALLY(5000, serves_reads(db, R1) && serves_reads(db, R2));
    *state = db;
    return 0;
}

/* ---- Roles that change while calls wait ------------------------------------------------------ */

enum { SLEEPERS = 4, QUEUED = 6 };

static void *sleep_there(void *arg)
{
    pqr_session *s = live_session(arg, "sleeper");
    pqr_read(
        s, PQR_QUERY(.sql = "select pg_sleep(1000)", .level = PQR_LEVEL_ANY, .deadline_ms = 120000),
        NULL, NULL);
    pqr_session_close(s);
    return NULL;
}

static long sleepers_at(const char *node)
{
    return ask_number(node, "select count(*) from pg_stat_activity where state = 'active'"
                            " and query like '%%pg_sleep(1000)%%' and pid <> pg_backend_pid()");
}

static void wake_sleepers_at(const char *node)
{
    ask(node, "select pg_cancel_backend(pid) from pg_stat_activity where state = 'active'"
              " and query like '%%pg_sleep(1000)%%' and pid <> pg_backend_pid()");
}

static _Atomic int by_replicas;

static void *ask_for_role(void *arg)
{
    pqr_session *s = live_session(arg, "acme");
    pqr_result *res;
    OK(pqr_read(s,
                PQR_QUERY(.sql = "select pg_is_in_recovery()", .level = PQR_LEVEL_ANY,
                          .deadline_ms = 120000),
                &res, &live_error));
    atomic_fetch_add(&by_replicas, pqr_bool(res, 0, 0));
    pqr_result_free(res);
    pqr_session_close(s);
    return NULL;
}

/* The last test: replica1 stays a primary. */
static void who_waits_for_a_replica_that_is_promoted_is_placed_anew(void **state)
{
    (void)state;
    pthread_t sleeper[SLEEPERS], queued[QUEUED];
    pqr *db = READY_ROUTER(QUICK, "DB_CONNECTION_LIMIT=3", "DB_LANES=0", "DB_POOL_TIMEOUT=120",
                           "DB_READ_PREFERENCE=replica", "DB_MAX_REPLICA_LAG=0",
                           "DB_MAX_REPLICA_LAG_BYTES=0");
    for (int i = 0; i < SLEEPERS; i++)
        assert_int_equal(pthread_create(&sleeper[i], NULL, sleep_there, db), 0);
    EVENTUALLY(60000, sleepers_at(R1) == 2 && sleepers_at(R2) == 2);
    for (int i = 0; i < QUEUED; i++)
        assert_int_equal(pthread_create(&queued[i], NULL, ask_for_role, db), 0);
    EVENTUALLY(60000, health_of(db, R1).conns_waiting + health_of(db, R2).conns_waiting == QUEUED);
    assert_true(health_of(db, R1).conns_waiting > 0);
    fleet("promote " R1);
    EVENTUALLY(60000, health_of(db, R1).role == PQR_ROLE_PRIMARY);
    wake_sleepers_at(R1);
    EVENTUALLY(60000, health_of(db, R1).conns_waiting == 0);
    wake_sleepers_at(R2);
    for (int i = 0; i < SLEEPERS; i++)
        pthread_join(sleeper[i], NULL);
    for (int i = 0; i < QUEUED; i++)
        pthread_join(queued[i], NULL);
    assert_int_equal(atomic_load(&by_replicas), QUEUED);
    pqr_close(db, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_sessions_are_dealt_evenly_over_the_replicas),
        cmocka_unit_test(a_session_stays_on_its_replica),
        cmocka_unit_test(reads_of_level_any_alternate_call_by_call),
        cmocka_unit_test(reads_of_level_primary_go_to_the_primary),
        cmocka_unit_test(the_read_preference_decides_which_role_serves),
        cmocka_unit_test(roles_come_from_the_servers_not_from_the_variables),
        cmocka_unit_test(a_replica_url_that_leads_to_the_primary_is_no_second_primary),
        cmocka_unit_test(a_session_reads_its_own_writes),
        cmocka_unit_test(a_session_returns_to_a_replica_once_that_has_its_write),
        cmocka_unit_test(a_session_does_not_go_back_in_time_when_its_replica_leaves),
        cmocka_unit_test(a_session_does_not_go_back_in_time_when_its_replica_crashes),
        cmocka_unit_test(after_a_write_in_doubt_a_session_reads_from_the_primary),
        cmocka_unit_test(beside_and_after_a_transaction_a_session_does_not_go_back),
        cmocka_unit_test(
            while_a_connection_is_lent_for_writing_and_after_a_session_does_not_go_back),
        cmocka_unit_test(what_a_transaction_showed_a_session_sees_still),
        cmocka_unit_test(what_a_lent_connection_showed_a_session_sees_still),
        cmocka_unit_test(a_session_stays_on_its_replica_also_while_others_write),
        cmocka_unit_test(a_read_that_writes_fails_on_every_node),
        cmocka_unit_test(a_replica_without_a_free_connection_is_passed_over),
        cmocka_unit_test(a_replica_with_replay_paused_is_left_out_and_comes_back),
        cmocka_unit_test(a_replica_that_lags_by_bytes_is_left_out),
        cmocka_unit_test(a_replica_whose_receiver_is_cut_ages_out_and_comes_back),
        cmocka_unit_test(an_idle_primary_leaves_no_replica_out_also_when_wal_is_switched),
        cmocka_unit_test(a_replica_that_is_behind_at_process_start_is_not_read),
        cmocka_unit_test(the_first_read_of_a_process_goes_to_a_replica_already),
        cmocka_unit_test(with_both_replicas_gone_the_primary_answers_and_back_again),
        cmocka_unit_test(a_frozen_replica_is_left_out_and_comes_back),
        cmocka_unit_test(calls_that_wait_for_a_frozen_replica_are_served_elsewhere),
        cmocka_unit_test(sessions_stay_evenly_dealt_while_a_replica_leaves_and_returns),
        cmocka_unit_test(who_waits_for_a_replica_that_is_promoted_is_placed_anew),
    };
    /* First, since chance is one a process: routers of this one would draw between the forks. */
    const struct CMUnitTest forks[] = {
        cmocka_unit_test(processes_forked_from_an_opened_router_are_dealt_too),
    };
    return cmocka_run_group_tests(forks, NULL, NULL) |
           cmocka_run_group_tests(tests, open_router, close_router);
}
