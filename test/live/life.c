/* A router's life: opening with servers down, being ready, fork, closing; and the settings that
 * bound its connections. Fleet: one shard, one replica. */
#include "live.h"
#include "names.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define P "shard0/primary"
#define R1 "shard0/replica1"

static long connections_of(const char *name)
{
    return ask_number(P, "select count(*) from pg_stat_activity where application_name = '%s'",
                      name);
}

/* ---- Opening and being ready ----------------------------------------------------------------- */

static int threads_now(void)
{
    char line[128];
    int n = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, f))
        sscanf(line, "Threads: %d", &n);
    fclose(f);
    return n;
}

static void opening_starts_no_thread_and_connects_nowhere(void **state)
{
    (void)state;
    int before = threads_now();
    pqr *db = ROUTER("DB_APPLICATION_NAME=just-open");
    live_sleep_ms(100);
    assert_int_equal(threads_now(), before);
    assert_int_equal(connections_of("just-open"), 0);
    pqr_close(db, 0);
}

static void with_every_server_down_opening_works_and_ready_says_what_is_missing(void **state)
{
    (void)state;
    fleet("kill " P);
    fleet("kill " R1);
    pqr *db = ROUTER("DB_HEALTH_INTERVAL=100ms");
    int64_t begun = live_now_ms();
    FAILS(PQR_E_NO_PRIMARY, pqr_ready(db, 400, &live_error));
    assert_in_range(live_now_ms() - begun, 300, 600);
    says(P);
    says(R1);
    says("Connection refused");
    pqr_session *s = live_session(db, "acme");
    FAILS(PQR_E_CONNECT,
          pqr_read(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 200), NULL, &live_error));
    fleet("start " P);
    OK(pqr_ready(db, 10000, &live_error));
    OK(pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    fleet("start " R1);
    EVENTUALLY(10000, serves_reads(db, R1));
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_frozen_server_does_not_hold_up_the_ones_that_work(void **state)
{
    (void)state;
    fleet("stop " R1);
    pqr *db = ROUTER("DB_HEALTH_INTERVAL=100ms");
    int64_t begun = live_now_ms();
    assert_string_equal(served_by(db, "acme", PQR_LEVEL_SESSION), P);
    assert_in_range(live_now_ms() - begun, 0, 2500);
    fleet("cont " R1);
    pqr_close(db, 0);
}

static void a_name_that_does_not_resolve_is_told(void **state)
{
    (void)state;
    pqr *db = ROUTER(
        "DATABASE_PRIMARY_URL=postgresql://app@no-such-host.invalid/app?sslmode=disable",
        "DATABASE_REPLICA_1_URL");
    FAILS(PQR_E_NO_PRIMARY, pqr_ready(db, 3000, &live_error));
    says("cannot be resolved");
    pqr_close(db, 0);
}

/* The setting of the primary's URL with another host in it. Static. */
static const char *primary_at(const char *name)
{
    static char setting[512];
    const char *given = getenv("DATABASE_PRIMARY_URL");
    const char *host = strstr(given, "@127.0.0.1:");
    assert_non_null(host);
    snprintf(setting, sizeof setting, "DATABASE_PRIMARY_URL=%.*s@%s:%s?sslmode=disable",
             (int)(host - given), given, name, host + strlen("@127.0.0.1:"));
    return setting;
}

static void a_name_is_resolved_and_connected(void **state)
{
    (void)state;
    /* Also where localhost has an IPv6 address that nobody listens at. */
    pqr *db = READY_ROUTER(primary_at("localhost"));
    run_write(db, "acme", "select 1");
    pqr_close(db, 0);
}

static int port_of_primary(void)
{
    return atoi(strstr(primary_at(SEVERAL), SEVERAL ":") + strlen(SEVERAL ":"));
}

static void an_address_that_swallows_what_it_is_sent_does_not_hide_the_next(void **state)
{
    (void)state;
    int port = port_of_primary();
    struct hole hole = hole_at("127.0.0.2", &port);
    assert_true(hole.listener >= 0);
    RESOLVES_TO("127.0.0.2", "127.0.0.1");
    pqr *db = READY_ROUTER(primary_at(SEVERAL)); /* the monitor goes on to the second */
    run_write(db, "acme", "select 1");
    pqr_close(db, 0);
    hole_close(&hole);
}

/* The server has one address more, by a proxy: so the one that worked before can be withdrawn. */
static bool listens(const char *address, int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, address, &at.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool connects = connect(fd, (struct sockaddr *)&at, sizeof at) == 0;
    close(fd);
    return connects;
}

static void a_call_goes_on_to_the_next_address_too_within_its_deadline(void **state)
{
    (void)state;
    char command[512];
    int port = port_of_primary();
    struct hole hole = hole_at("127.0.0.2", &port);
    snprintf(command, sizeof command, "exec python3 %s %d 127.0.0.3 >/dev/null", getenv("PROXY"),
             port);
    FILE *proxy = popen(command, "w");
    EVENTUALLY(10000, listens("127.0.0.3", port));
    RESOLVES_TO("127.0.0.3");
    pqr *db = READY_ROUTER(primary_at(SEVERAL), "DB_HEALTH_INTERVAL=5m");
    pqr_session *s = live_session(db, "acme");
    RESOLVES_TO("127.0.0.2", "127.0.0.1");
    OK(pqr_write(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 4000), NULL, &live_error));
    pqr_session_close(s);
    pqr_close(db, 0);
    pclose(proxy);
    hole_close(&hole);
}

/* A black hole: it accepts, and never says a word. */
static void connecting_ends_by_the_connect_timeout(void **state)
{
    (void)state;
    fleet("stop " P);
    fleet("stop " R1);
    pqr *db = ROUTER("DB_CONNECT_TIMEOUT=300ms", "DB_HEALTH_INTERVAL=100ms");
    pqr_session *s = live_session(db, "acme");
    int64_t begun = live_now_ms();
    int code = pqr_read(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 1500), NULL, &live_error);
    assert_true(code == PQR_E_CONNECT || code == PQR_E_DEADLINE || code == PQR_E_NO_PRIMARY);
    assert_in_range(live_now_ms() - begun, 0, 1700);
    fleet("cont " P);
    fleet("cont " R1);
    EVENTUALLY(10000, pqr_write(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 1000), NULL,
                                &live_error) == PQR_OK);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* ---- What this process lacks ------------------------------------------------------------------ */

static bool is_up(pqr *db, const char *node)
{
    return health_of(db, node).state == PQR_NODE_UP;
}

static void a_process_without_descriptors_does_not_take_its_servers_for_dead(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    EVENTUALLY(10000, serves_reads(db, R1));
    pqr_session *s = live_session(db, "acme");
    pqr_tx *tx;
    OK(pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    OK(pqr_begin(s, NULL, &tx, &live_error)); /* holds the connection */
    starved();
    int read = pqr_read(s, PQR_QUERY(.sql = "select 1", .level = PQR_LEVEL_ANY), NULL, NULL);
    bool replica = is_up(db, R1);
    int write = pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error);
    bool primary = is_up(db, P);
    pqr_rollback(tx);
    int again = pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, NULL);
    fed();
    assert_int_equal(read, PQR_E_NOMEM);
    FAILS(PQR_E_NOMEM, write);
    assert_int_equal(live_error.retry, PQR_RETRY_SAFE);
    says("Too many open files");
    assert_true(replica && primary);
    assert_int_equal(again, PQR_OK);
    assert_string_equal(served_by(db, "acme", PQR_LEVEL_ANY), R1);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* ---- Fork ------------------------------------------------------------------------------------ */

static int in_child(int (*work)(pqr *db), pqr *db)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(work(db));
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int read_once(pqr *db)
{
    pqr_error err;
    pqr_session *s;
    int code = pqr_session_open(db, PQR_SESSION(.tenant = "acme"), &s, &err);
    if (code == PQR_OK) {
        code = pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &err);
        pqr_session_close(s);
    }
    return -code;
}

static int read_and_close(pqr *db)
{
    int code = read_once(db);
    pqr_close(db, 100);
    return code;
}

static void after_a_fork_an_unused_router_works_in_parent_and_child(void **state)
{
    (void)state;
    pqr *db = ROUTER("DB_HEALTH_INTERVAL=100ms");
    assert_int_equal(in_child(read_and_close, db), 0);
    assert_int_equal(read_once(db), 0);
    pqr_close(db, 0);
}

static void after_a_fork_a_used_router_is_refused_in_the_child_and_lives_in_the_parent(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_APPLICATION_NAME=forker");
    pqr_session *s = live_session(db, "acme");
    int32_t before = backend(s);
    assert_int_equal(in_child(read_once, db), -PQR_E_FORKED);
    assert_int_equal(in_child(read_and_close, db), -PQR_E_FORKED);
    assert_int_equal(backend(s), before); /* the very same connection */
    pqr_session_close(s);
    pqr_close(db, 0);
}

static int open_own(pqr *db)
{
    pqr_close(db, 0);
    pqr *own = NULL;
    pqr_error err;
    if (pqr_open(&own, NULL, &err) != PQR_OK)
        return 100;
    return read_and_close(own);
}

/* Not under thread sanitizer: it takes the child's threads for the parent's ("dup thread"). */
static void a_child_may_open_a_router_of_its_own(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip();
#endif
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    run_write(db, "acme", "select 1");
    assert_int_equal(in_child(open_own, db), 0);
    run_write(db, "acme", "select 1");
    pqr_close(db, 0);
}

static pqr_tx *tx_of_parent;

static int touch_transaction(pqr *db)
{
    (void)db;
    pqr_error err;
    int code = pqr_exec(tx_of_parent, PQR_QUERY(.sql = "select 1"), NULL, &err);
    pqr_rollback(tx_of_parent);
    return -code;
}

static void a_child_cannot_end_its_parents_transaction(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    pqr_session *s = live_session(db, "acme");
    OK(pqr_begin(s, NULL, &tx_of_parent, &live_error));
    OK(pqr_exec(tx_of_parent, PQR_QUERY(.sql = "insert into life values ('parent')"), NULL,
                &live_error));
    assert_int_equal(in_child(touch_transaction, db), -PQR_E_FORKED);
    OK(pqr_commit(tx_of_parent, &live_error));
    assert_int_equal(ask_number(P, "select count(*) from life where body = 'parent'"), 1);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static int descriptors_now(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void opening_takes_no_descriptor_that_children_would_share(void **state)
{
    (void)state;
    int before = descriptors_now();
    pqr *db = ROUTER("DB_HEALTH_INTERVAL=100ms");
    assert_int_equal(descriptors_now(), before);
    OK(pqr_ready(db, 10000, &live_error));
    assert_true(descriptors_now() > before);
    pqr_close(db, 0);
    EVENTUALLY(5000, descriptors_now() == before);
}

/* Two processes that take turns by a byte. */
struct turns {
    int to_first[2], to_second[2];
};

static void give_turn(const int pipe[2])
{
    assert_int_equal(write(pipe[1], "x", 1), 1);
}

static void wait_turn(const int pipe[2])
{
    char byte;
    assert_int_equal(read(pipe[0], &byte, 1), 1);
}

/* Uses the router, and closes it while the other one has a call under way. */
static int first_child(pqr *db, const struct turns *t)
{
    int code = read_once(db);
    give_turn(t->to_second);
    wait_turn(t->to_first);
    pqr_close(db, 0);
    give_turn(t->to_second);
    return code;
}

static void *close_first(void *arg)
{
    const struct turns *t = arg;
    live_sleep_ms(100); /* the slow call is under way */
    give_turn(t->to_first);
    wait_turn(t->to_second); /* closed there */
    return NULL;
}

static int second_child(pqr *db, const struct turns *t)
{
    pqr_error err;
    pqr_session *s;
    pthread_t closer;
    wait_turn(t->to_second);
    int code = pqr_session_open(db, PQR_SESSION(.tenant = "acme"), &s, &err);
    pthread_create(&closer, NULL, close_first, (void *)(uintptr_t)t);
    if (code == PQR_OK)
        code = pqr_write(s, PQR_QUERY(.sql = "select pg_sleep(0.5)"), NULL, &err);
    pthread_join(closer, NULL);
    for (int i = 0; i < 20 && code == PQR_OK; i++)
        code = i % 2 ? pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &err)
                     : pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &err);
    if (code == PQR_OK)
        code = pqr_ready(db, 5000, &err);
    pqr_session_close(s);
    pqr_close(db, 0);
    return -code;
}

static void children_of_an_unused_router_do_not_disturb_each_other(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* it cannot follow threads that are started in a child */
#endif
    pqr *db = ROUTER("DB_HEALTH_INTERVAL=100ms");
    struct turns t;
    int status[2];
    assert_int_equal(pipe(t.to_first) | pipe(t.to_second), 0);
    pid_t first = fork();
    if (first == 0)
        _exit(first_child(db, &t));
    pid_t second = fork();
    if (second == 0)
        _exit(second_child(db, &t));
    assert_int_equal(waitpid(first, &status[0], 0), first);
    assert_int_equal(waitpid(second, &status[1], 0), second);
    assert_int_equal(status[0], 0);
    assert_int_equal(status[1], 0);
    assert_int_equal(read_once(db), 0); /* and the parent, which had not used it either */
    pqr_close(db, 0);
    for (int i = 0; i < 2; i++) {
        close(t.to_first[i]);
        close(t.to_second[i]);
    }
}

/* ---- Closing --------------------------------------------------------------------------------- */

struct slow_call {
    pqr *db;
    const char *sql;
    bool write;
    int code;
    _Atomic bool begun;
};

static void *run_slow(void *arg)
{
    struct slow_call *c = arg;
    pqr_session *s = live_session(c->db, "acme");
    const pqr_query *q = PQR_QUERY(.sql = c->sql);
    atomic_store(&c->begun, true);
    c->code = c->write ? pqr_write(s, q, NULL, &live_error) : pqr_read(s, q, NULL, &live_error);
    pqr_session_close(s);
    return NULL;
}

static pthread_t start_slow(struct slow_call *c)
{
    pthread_t t;
    pthread_create(&t, NULL, run_slow, c);
    EVENTUALLY(
        5000,
        ask_number(P, "select count(*) from pg_stat_activity where query = '%s'", c->sql) +
                ask_number(R1, "select count(*) from pg_stat_activity where query = '%s'", c->sql) >
            0);
    return t;
}

static void closing_lets_calls_in_flight_end(void **state)
{
    (void)state;
    struct slow_call c = {.db = READY_ROUTER("DB_APPLICATION_NAME=closer"),
                          .sql = "select pg_sleep(0.7)",
                          .write = true};
    pthread_t t = start_slow(&c);
    pqr_close(c.db, 5000);
    pthread_join(t, NULL);
    assert_int_equal(c.code, PQR_OK);
    EVENTUALLY(2000, connections_of("closer") == 0);
}

static void closing_cuts_off_what_takes_too_long_honestly(void **state)
{
    (void)state;
    struct slow_call w = {.db = READY_ROUTER("DB_APPLICATION_NAME=closer"),
                          .sql = "select pg_sleep(21)",
                          .write = true};
    struct slow_call r = {.db = w.db, .sql = "select pg_sleep(22)"};
    pthread_t tw = start_slow(&w), tr = start_slow(&r);
    int64_t begun = live_now_ms();
    pqr_close(w.db, 200);
    assert_in_range(live_now_ms() - begun, 150, 1000);
    pthread_join(tw, NULL);
    pthread_join(tr, NULL);
    assert_int_equal(w.code, PQR_E_UNKNOWN);
    assert_int_equal(r.code, PQR_E_CLOSED);
    EVENTUALLY(3000, connections_of("closer") == 0);
}

static void after_closing_everything_answers_closed(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    pqr_session *s = live_session(db, "acme");
    pqr_tx *tx, *tx2;
    OK(pqr_begin(s, NULL, &tx, &live_error));
    OK(pqr_begin(s, NULL, &tx2, &live_error));
    OK(pqr_exec(tx, PQR_QUERY(.sql = "insert into life values ('cut')"), NULL, &live_error));
    struct pg_conn *lent;
    OK(pqr_lend(s, PQR_LEND_WRITE, &lent, &live_error));
    pqr_close(db, 50);
    FAILS(PQR_E_CLOSED, pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    FAILS(PQR_E_CLOSED, pqr_write(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    FAILS(PQR_E_CLOSED, pqr_exec(tx, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    FAILS(PQR_E_CLOSED, pqr_commit(tx, &live_error));
    pqr_rollback(tx2);
    pqr_give_back(s, lent);
    pqr_session_close(s);
    assert_int_equal(ask_number(P, "select count(*) from life where body = 'cut'"), 0);
}

static void *commit_soon(void *arg)
{
    pqr_tx *tx = arg;
    live_sleep_ms(200);
    OK(pqr_exec(tx, PQR_QUERY(.sql = "insert into life values ('drained')"), NULL, &live_error));
    OK(pqr_commit(tx, &live_error));
    return NULL;
}

static void closing_waits_for_open_transactions(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    pqr_session *s = live_session(db, "acme");
    pqr_tx *tx;
    pthread_t t;
    OK(pqr_begin(s, NULL, &tx, &live_error));
    pthread_create(&t, NULL, commit_soon, tx);
    int64_t begun = live_now_ms();
    pqr_close(db, 5000);
    assert_in_range(live_now_ms() - begun, 150, 2000);
    pthread_join(t, NULL);
    pqr_session_close(s);
    assert_int_equal(ask_number(P, "select count(*) from life where body = 'drained'"), 1);
}

static void no_setting(void *arg, const char *name, const char *value, const char *source)
{
    (void)arg, (void)name, (void)value, (void)source;
}

/* Looks until there is nothing to see any more. NULL: something else came than OK and CLOSED. */
static void *look_on(void *arg)
{
    pqr *db = arg;
    for (;;) {
        pqr_node_health h[2];
        pqr_stats stats;
        int ready = pqr_ready(db, 1000, &live_error);
        int settings = pqr_settings(db, no_setting, NULL, &live_error);
        int counted = pqr_stats_get(db, &stats, sizeof stats);
        int nodes = pqr_health(db, h, 2, sizeof *h);
        if (nodes == PQR_E_CLOSED)
            return arg;
        if (nodes != 2 || (ready && ready != PQR_E_CLOSED) ||
            (settings && settings != PQR_E_CLOSED) || (counted && counted != PQR_E_CLOSED))
            return NULL;
    }
}

static void who_looks_while_it_closes_is_told_that_it_is_closed(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
        pqr_session *s = live_session(db, "acme"); /* the handle lives as long */
        pthread_t t[4];
        for (int j = 0; j < 4; j++)
            pthread_create(&t[j], NULL, look_on, db);
        live_sleep_ms(20);
        pqr_close(db, 1000);
        for (int j = 0; j < 4; j++) {
            void *right;
            pthread_join(t[j], &right);
            assert_non_null(right);
        }
        pqr_session_close(s);
    }
}

/* ---- Settings -------------------------------------------------------------------------------- */

static void idle_connections_are_closed_after_their_time(void **state)
{
    (void)state;
    pqr *quick = READY_ROUTER("DB_IDLE_TIMEOUT=1s", "DB_APPLICATION_NAME=quick");
    pqr *patient = READY_ROUTER("DB_IDLE_TIMEOUT=60s", "DB_APPLICATION_NAME=patient");
    run_write(quick, "acme", "select 1");
    run_write(patient, "acme", "select 1");
    assert_int_equal(connections_of("quick"), 2); /* with the monitor's */
    EVENTUALLY(4000, connections_of("quick") == 1);
    assert_int_equal(connections_of("patient"), 2);
    pqr_close(quick, 0);
    pqr_close(patient, 0);
}

static int32_t backend_of(pqr *db)
{
    pqr_session *s = live_session(db, "acme");
    int32_t pid = backend(s);
    pqr_session_close(s);
    return pid;
}

static void connections_are_retired_by_age(void **state)
{
    (void)state;
    pqr *young = READY_ROUTER("DB_MAX_LIFETIME=1s"), *old = READY_ROUTER("DB_MAX_LIFETIME=60s");
    int32_t first_young = backend_of(young), first_old = backend_of(old);
    EVENTUALLY(5000, backend_of(young) != first_young);
    assert_int_equal(backend_of(old), first_old);
    pqr_close(young, 0);
    pqr_close(old, 0);
}

struct records {
    _Atomic int n, slow;
};

static void count_record(void *arg, int level, const char *event, const char *text)
{
    struct records *r = arg;
    (void)level;
    (void)text;
    atomic_fetch_add(&r->n, 1);
    if (strcmp(event, "slow") == 0)
        atomic_fetch_add(&r->slow, 1);
}

static int slow_records(const char *setting)
{
    struct records r = {0};
    pqr *db = NULL;
    const char *const settings[] = {setting, "PQR_LOG=warn", NULL};
    OK(pqr_open(&db, PQR_OPTIONS(.env = live_env(settings), .log = count_record, .log_arg = &r),
                &live_error));
    run_write(live_ready(db), "acme", "select pg_sleep(0.1)");
    pqr_close(db, 0);
    return r.slow;
}

static void slow_statements_are_told(void **state)
{
    (void)state;
    assert_int_equal(slow_records("DB_SLOW_QUERY=50ms"), 1);
    assert_int_equal(slow_records("DB_SLOW_QUERY=10s"), 0);
    assert_int_equal(slow_records("DB_SLOW_QUERY=0"), 0);
}

static int records_at(const char *level)
{
    struct records r = {0};
    char setting[32];
    snprintf(setting, sizeof setting, "PQR_LOG=%s", level);
    pqr *db = NULL;
    const char *const settings[] = {setting, NULL};
    OK(pqr_open(&db, PQR_OPTIONS(.env = live_env(settings), .log = count_record, .log_arg = &r),
                &live_error));
    run_write(live_ready(db), "acme", "select 1");
    pqr_close(db, 0);
    return r.n;
}

static void the_log_level_decides_what_is_told(void **state)
{
    (void)state;
    assert_int_equal(records_at("off"), 0);
    assert_int_equal(records_at("error"), 0);
    assert_true(records_at("info") > 0);
}

/* A log that takes its time: what tells of R1 holds the monitor's thread up. */
struct slow_log {
    _Atomic int holds, held, primary_down;
};

static void hold_up(void *arg, int level, const char *event, const char *text)
{
    struct slow_log *log = arg;
    (void)level;
    if (strcmp(event, "node_down") != 0)
        return;
    if (strstr(text, P)) {
        atomic_fetch_add(&log->primary_down, 1);
    } else if (strstr(text, R1) && atomic_fetch_add(&log->holds, 1) == 0) {
        live_sleep_ms(7000);
        atomic_fetch_add(&log->held, 1);
    }
}

static pid_t only_backend(const char *node, const char *name)
{
    assert_int_equal(ask_number(node,
                                "select count(*) from pg_stat_activity where"
                                " application_name = '%s'",
                                name),
                     1);
    return (pid_t)ask_number(node, "select pid from pg_stat_activity where application_name = '%s'",
                             name);
}

/* Its patience is 5 s here. The question that the primary leaves unanswered is answered while the
 * monitor's thread is held up for longer than that. */
static void a_server_whose_answer_was_not_read_yet_is_not_down(void **state)
{
    (void)state;
    struct slow_log log = {0};
    const char *const settings[] = {"DB_HEALTH_INTERVAL=5s", "DB_APPLICATION_NAME=held",
                                    "PQR_LOG=warn", NULL};
    pqr *db = NULL;
    OK(pqr_open(&db, PQR_OPTIONS(.env = live_env(settings), .log = hold_up, .log_arg = &log),
                &live_error));
    live_ready(db);
    EVENTUALLY(10000, serves_reads(db, R1));
    pid_t primary = only_backend(P, "held");
    kill(primary, SIGSTOP);
    pqr_session *s = live_session(db, "acme");
    FAILS(PQR_E_DEADLINE, /* so the monitor asks now */
          pqr_read(s,
                   PQR_QUERY(.sql = "select pg_sleep(5)", .level = PQR_LEVEL_PRIMARY,
                             .deadline_ms = 200),
                   NULL, &live_error));
    fleet("kill " R1);
    EVENTUALLY(10000, atomic_load(&log.holds) > 0);
    kill(primary, SIGCONT);
    EVENTUALLY(20000, atomic_load(&log.held) > 0);
    fleet("start " R1);
    EVENTUALLY(20000, serves_reads(db, R1));
    assert_int_equal(atomic_load(&log.primary_down), 0);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_connection_carries_the_application_name(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_APPLICATION_NAME=billing");
    run_write(db, "acme", "select 1");
    assert_int_equal(connections_of("billing"), 2);
    pqr_close(db, 0);
}

static void the_environment_of_libpq_does_not_change_sessions(void **state)
{
    (void)state;
    static const char *const variables[][2] = {
        {"PGOPTIONS", "-c default_transaction_read_only=on"},
        {"PGTARGETSESSIONATTRS", "standby"},
        {"PGSSLMODE", "verify-full"},
        {"PGSSLROOTCERT", "/no/such/file"},
        {"PGSSLCERT", "/no/such/file"},
        {"PGSSLKEY", "/no/such/file"},
        {"PGSSLCRL", "/no/such/file"},
        {"PGSSLMINPROTOCOLVERSION", "TLSv1.3"},
        {"PGSSLNEGOTIATION", "direct"},
        {"PGGSSENCMODE", "require"},
        {"PGCHANNELBINDING", "require"},
        {"PGREQUIREAUTH", "none"},
        {"PGREQUIREPEER", "nobody"},
        {"PGCLIENTENCODING", "LATIN1"},
        {"PGAPPNAME", "other"},
        {"PGHOSTADDR", "192.0.2.1"},
        {"PGSERVICEFILE", "/no/such/file"},
    };
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        setenv(variables[i][0], variables[i][1], 1);
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    run_write(db, "acme", "insert into life values ('env')");
    pqr_close(db, 0);
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i][0]);
}

/* ---- A failover ------------------------------------------------------------------------------- */

static void writes_go_on_when_the_old_primary_comes_back_beside_the_new_one(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms");
    pqr_session *s = live_session(db, "acme");
    fleet("kill " P);
    fleet("promote " R1);
    OK(pqr_write(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 15000), NULL, &live_error));
    fleet("start " P);
    EVENTUALLY(10000, health_of(db, P).state == PQR_NODE_UP);
    pqr_result *r = NULL;
    OK(pqr_write(s, PQR_QUERY(.sql = "select 1"), &r, &live_error));
    assert_string_equal(pqr_source(r), R1);
    pqr_result_free(r);
    pqr_session_close(s);
    pqr_close(db, 0);
    fleet("rejoin " P);
    fleet("kill " R1);
    fleet("promote " P);
    fleet("rejoin " R1);
}

static int prepare(void **state)
{
    (void)state;
    ask(P, "create table life(body text)");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_starts_no_thread_and_connects_nowhere),
        cmocka_unit_test(with_every_server_down_opening_works_and_ready_says_what_is_missing),
        cmocka_unit_test(a_frozen_server_does_not_hold_up_the_ones_that_work),
        cmocka_unit_test(a_name_that_does_not_resolve_is_told),
        cmocka_unit_test(a_name_is_resolved_and_connected),
        cmocka_unit_test(an_address_that_swallows_what_it_is_sent_does_not_hide_the_next),
        cmocka_unit_test(a_call_goes_on_to_the_next_address_too_within_its_deadline),
        cmocka_unit_test(connecting_ends_by_the_connect_timeout),
        cmocka_unit_test(a_process_without_descriptors_does_not_take_its_servers_for_dead),
        cmocka_unit_test(after_a_fork_an_unused_router_works_in_parent_and_child),
        cmocka_unit_test(
            after_a_fork_a_used_router_is_refused_in_the_child_and_lives_in_the_parent),
        cmocka_unit_test(a_child_may_open_a_router_of_its_own),
        cmocka_unit_test(a_child_cannot_end_its_parents_transaction),
        cmocka_unit_test(opening_takes_no_descriptor_that_children_would_share),
        cmocka_unit_test(children_of_an_unused_router_do_not_disturb_each_other),
        cmocka_unit_test(closing_lets_calls_in_flight_end),
        cmocka_unit_test(closing_cuts_off_what_takes_too_long_honestly),
        cmocka_unit_test(after_closing_everything_answers_closed),
        cmocka_unit_test(closing_waits_for_open_transactions),
        cmocka_unit_test(who_looks_while_it_closes_is_told_that_it_is_closed),
        cmocka_unit_test(idle_connections_are_closed_after_their_time),
        cmocka_unit_test(connections_are_retired_by_age),
        cmocka_unit_test(slow_statements_are_told),
        cmocka_unit_test(the_log_level_decides_what_is_told),
        cmocka_unit_test(a_server_whose_answer_was_not_read_yet_is_not_down),
        cmocka_unit_test(a_connection_carries_the_application_name),
        cmocka_unit_test(the_environment_of_libpq_does_not_change_sessions),
        cmocka_unit_test(writes_go_on_when_the_old_primary_comes_back_beside_the_new_one),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
