/* Fibers: every call that would block a thread waits by the application's function, and the others
 * go on. Fleet: one shard, one replica. */
#include "fibers.h"
#include "live.h"

#include <dirent.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define P "shard0/primary"
#define R1 "shard0/replica1"
#define MANY 64
#define NOWHERE "DATABASE_PRIMARY_URL=postgresql://u@127.0.0.1:1/d" /* nobody listens there */

/* ---- Words ----------------------------------------------------------------------------------- */

/* What most tests begin and end with: a router whose calls wait in fibers. */
struct stage {
    struct fibers f;
    pqr *db;
};

#define STAGE(t, ...) set(t, ROUTER(__VA_ARGS__))
static void set(struct stage *t, pqr *db)
{
    fibers_init(&t->f);
    t->db = db;
    OK(pqr_set_wait(db, fibers_wait, &t->f, &live_error));
}

static void leave(struct stage *t)
{
    pqr_close(t->db, 0);
    fibers_free(&t->f);
}

static pqr_session *session(struct stage *t, const char *tenant, int64_t deadline_ms)
{
    pqr_session *s = NULL;
    pqr_error err;
    FIBER_OK(&t->f,
             pqr_session_open(t->db, PQR_SESSION(.tenant = tenant, .deadline_ms = deadline_ms), &s,
                              &err),
             &err);
    return s;
}

/* One fiber's work, and what became of it. */
struct one {
    struct stage *t;
    int number;
    const char *sql;
    int64_t deadline_ms;
    int code;
    pqr_error err;
    int64_t took_ms, ended_ms;
    long count;
    _Atomic bool *stop;
    struct one *after; /* waits for this one */
};

static struct one *work_of(struct stage *t, int n, void (*run)(void *arg), int rounds)
{
    struct one *list = calloc((size_t)n, sizeof *list);
    for (int i = 0; i < n; i++) {
        list[i] = (struct one){.t = t, .number = i, .count = rounds};
        fibers_start(&t->f, run, &list[i]);
    }
    return list;
}

/* Counts how often it could go on, until it is told to stop. */
static void tick(void *arg)
{
    struct one *o = arg;
    while (!atomic_load(o->stop)) {
        fiber_sleep(&o->t->f, 10);
        o->count++;
    }
}

static long open_descriptors(void)
{
    long n = 0;
    DIR *all = opendir("/proc/self/fd");
    while (readdir(all))
        n++;
    closedir(all);
    return n;
}

static long connections(void)
{
    return ask_number(P, "select count(*) from pg_stat_activity where usename = 'app'"
                         " and backend_type = 'client backend' and pid <> pg_backend_pid()");
}

/* ---- Everything at once ---------------------------------------------------------------------- */

static void read_one(struct one *o, pqr_session *s, int round)
{
    pqr_result *res = NULL;
    int64_t mine = o->number * 1000 + round;
    FIBER_OK(&o->t->f,
             pqr_read(s,
                      PQR_QUERY(.name = "mine", .sql = "select $1::int8, $1::text",
                                PQR_PARAMS(PQR_INT64(mine)), .level = PQR_LEVEL_ANY),
                      &res, &o->err),
             &o->err);
    HOLDS(&o->t->f, !res || pqr_int64(res, 0, 0) == mine);
    pqr_result_free(res);
}

static void read_batch(struct one *o, pqr_session *s, int round)
{
    pqr_result *res[2] = {NULL, NULL};
    int64_t mine = o->number * 1000 + round;
    const pqr_query *both[2] = {
        PQR_QUERY(.sql = "select $1::int8", PQR_PARAMS(PQR_INT64(mine))),
        PQR_QUERY(.sql = "select $1::int8 + 1", PQR_PARAMS(PQR_INT64(mine)))};
    FIBER_OK(&o->t->f, pqr_read_batch(s, both, 2, res, &o->err), &o->err);
    HOLDS(&o->t->f, !res[0] || pqr_int64(res[0], 0, 0) == mine);
    HOLDS(&o->t->f, !res[1] || pqr_int64(res[1], 0, 0) == mine + 1);
    pqr_result_free(res[0]);
    pqr_result_free(res[1]);
}

static void write_one(struct one *o, pqr_session *s, int round)
{
    pqr_result *res = NULL;
    FIBER_OK(
        &o->t->f,
        pqr_write(s,
                  PQR_QUERY(.sql = "insert into fibered values ($1, $2) returning fiber * 1000 + "
                                   "round",
                            PQR_PARAMS(PQR_INT32(o->number), PQR_INT32(round))),
                  &res, &o->err),
        &o->err);
    HOLDS(&o->t->f, !res || pqr_int64(res, 0, 0) == o->number * 1000 + round);
    pqr_result_free(res);
}

static int count_up(pqr_tx *tx, void *arg, pqr_error *err)
{
    (void)arg;
    return pqr_exec(tx, PQR_QUERY(.sql = "update counter set n = n + 1"), NULL, err);
}

static void lend_one(struct one *o, pqr_session *s)
{
    struct pg_conn *pg = NULL;
    FIBER_OK(&o->t->f, pqr_lend(s, PQR_LEND_READ, &pg, &o->err), &o->err);
    HOLDS(&o->t->f, !pg || PQstatus(pg) == CONNECTION_OK);
    pqr_give_back(s, pg);
}

/* As a program would, with no thought of fibers. */
static void do_everything(void *arg)
{
    struct one *o = arg;
    char tenant[24];
    snprintf(tenant, sizeof tenant, "tenant%d", o->number);
    pqr_session *s = session(o->t, tenant, 60000);
    for (int round = 0; s && round < o->count; round++) {
        read_one(o, s, round);
        write_one(o, s, round);
        read_batch(o, s, round);
        FIBER_OK(&o->t->f, pqr_transact(s, NULL, count_up, NULL, &o->err), &o->err);
        if (o->number % 8 == 0 && round == 0)
            lend_one(o, s);
    }
    pqr_session_close(s);
}

static int rounds(void)
{
    return live_slow_build() ? 3 : 10;
}

/* Runs the fibers and looks whether all of their work is there, once. */
static void everything_is_done(struct stage *t, int threads)
{
    ask(P, "truncate fibered");
    ask(P, "update counter set n = 0");
    struct one *list = work_of(t, MANY, do_everything, rounds());
    fibers_run(&t->f, threads);
    free(list);
    assert_int_equal(ask_number(P, "select count(distinct (fiber, round)) from fibered"),
                     MANY * rounds());
    assert_int_equal(ask_number(P, "select count(*) from fibered"), MANY * rounds());
    assert_int_equal(ask_number(P, "select n from counter"), MANY * rounds());
    assert_int_equal(t->f.waiting, 0);
}

static void many_fibers_of_a_thread_share_few_connections_and_get_their_own_answers(void **state)
{
    (void)state;
    struct stage t;
    STAGE(&t, "DB_CONNECTION_LIMIT=5", "DB_POOL_TIMEOUT=60", "DB_POOL_QUEUE_LIMIT=1000");
    everything_is_done(&t, 1);
    assert_true(t.f.most_waiting > MANY / 2); /* at once, not one after the other */
    assert_true(connections() <= 5);
    /* Who leads waits for it, and those before who did not go on and were relieved; the others do not. */
    assert_in_range(t.f.doubled, 0, MANY / 2);
    assert_int_equal(t.f.outside, 0);
    if (!live_slow_build() && t.f.deepest >= 64 * 1024)
        fail_msg("a stack of %zu bytes: the header says that 64 KB do", t.f.deepest);
    leave(&t);
}

static void fibers_may_go_on_in_another_thread(void **state)
{
    (void)state;
    struct stage t;
    STAGE(&t, "DB_POOL_TIMEOUT=60", "DB_POOL_QUEUE_LIMIT=1000");
    everything_is_done(&t, 3);
    assert_true(t.f.moves > 0);
    leave(&t);
}

static void coming_back_too_early_harms_nothing(void **state)
{
    (void)state;
    struct stage t;
    STAGE(&t, "DB_CONNECTION_LIMIT=5", "DB_POOL_TIMEOUT=60", "DB_POOL_QUEUE_LIMIT=1000");
    t.f.early = 2;
    everything_is_done(&t, 1);
    leave(&t);
}

static void do_not_wait(void *arg, int fd, int timeout_ms)
{
    (void)fd, (void)timeout_ms;
    ++*(long *)arg;
}

static void a_function_that_never_waits_only_costs_time(void **state)
{
    (void)state;
    long called = 0;
    pqr *db = ROUTER("DB_HEALTH_INTERVAL=100ms");
    OK(pqr_set_wait(db, do_not_wait, &called, &live_error));
    live_ready(db);
    pqr_session *s = live_session(db, "acme");
    pqr_result *res = NULL;
    OK(pqr_read(s, PQR_QUERY(.sql = "select 'here'"), &res, &live_error));
    assert_string_equal(pqr_text(res, 0, 0), "here");
    pqr_result_free(res);
    int64_t begun = live_now_ms();
    FAILS(PQR_E_UNKNOWN, pqr_write(s, PQR_QUERY(.sql = "select pg_sleep(5)", .deadline_ms = 200),
                                   NULL, &live_error));
    int64_t took = live_now_ms() - begun;
    assert_in_range(took, 200, 2000);
    assert_true(called > 100);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* ---- Leading and following ------------------------------------------------------------------- */

static void read_often(void *arg)
{
    struct one *o = arg;
    pqr_session *s = session(o->t, "acme", 60000);
    for (int i = 0; s && i < 100; i++)
        read_one(o, s, i);
    pqr_session_close(s);
}

static void one_fiber_leads_a_lane_and_the_others_follow(void **state)
{
    (void)state;
    struct stage t;
    STAGE(&t, "DB_LANES=1");
    struct one *list = work_of(&t, 16, read_often, 0);
    fibers_run(&t.f, 1);
    free(list);
    assert_true(t.f.epolls > 0 && t.f.most_on_flags >= 8);
    assert_int_equal(t.f.no_fds, 0);
    leave(&t);
}

struct worker {
    struct one o;
    pthread_t thread;
};

static void *read_in_a_thread(void *arg)
{
    struct worker *w = arg;
    pqr_session *s = live_session(w->o.t->db, "acme");
    for (int i = 0; i < 100; i++) {
        pqr_result *res = NULL;
        int64_t mine = w->o.number * 1000 + i;
        w->o.code |= pqr_read(s, PQR_QUERY(.sql = "select $1::int8", PQR_PARAMS(PQR_INT64(mine))),
                              &res, &w->o.err);
        w->o.count += pqr_int64(res, 0, 0) == mine;
        pqr_result_free(res);
    }
    pqr_session_close(s);
    return NULL;
}

/* They lead and follow each other on one lane. */
static void threads_beside_the_fibers_wait_in_the_same_function(void **state)
{
    (void)state;
    struct stage t;
    struct worker w[4] = {0};
    STAGE(&t, "DB_LANES=1");
    struct one *list = work_of(&t, 16, read_often, 0);
    for (int i = 0; i < 4; i++) {
        w[i].o = (struct one){.t = &t, .number = 100 + i};
        pthread_create(&w[i].thread, NULL, read_in_a_thread, &w[i]);
    }
    fibers_run(&t.f, 1);
    for (int i = 0; i < 4; i++) {
        pthread_join(w[i].thread, NULL);
        assert_int_equal(w[i].o.code, PQR_OK);
        assert_int_equal(w[i].o.count, 100);
    }
    free(list);
    assert_true(t.f.outside > 0 && t.f.waits > 0);
    leave(&t);
}

/* ---- Time ------------------------------------------------------------------------------------ */

static void write_once(void *arg)
{
    struct one *o = arg;
    pqr_session *s = session(o->t, "acme", o->deadline_ms);
    int64_t begun = live_now_ms();
    o->code = pqr_write(s, PQR_QUERY(.sql = o->sql), NULL, &o->err);
    o->ended_ms = live_now_ms();
    o->took_ms = o->ended_ms - begun;
    if (o->stop)
        atomic_store(o->stop, true);
    pqr_session_close(s);
}

static void read_until_stopped(void *arg)
{
    struct one *o = arg;
    pqr_session *s = session(o->t, "acme", 60000);
    while (s && !atomic_load(o->stop)) {
        read_one(o, s, 0);
        o->count++;
    }
    pqr_session_close(s);
}

static void a_deadline_ends_a_call_on_a_frozen_server_and_the_others_go_on(void **state)
{
    (void)state;
    struct stage t;
    _Atomic bool stop = false;
    STAGE(&t, "DB_HEALTH_INTERVAL=1", "DB_READ_PREFERENCE=replica");
    struct one warm = {.t = &t, .sql = "select 1", .deadline_ms = 10000};
    fibers_start(&t.f, write_once, &warm);
    fibers_run(&t.f, 1);
    assert_int_equal(warm.code, PQR_OK);
    EVENTUALLY(10000, serves_reads(t.db, R1));

    fleet("stop " P);
    struct one stuck = {.t = &t, .sql = "select 1", .deadline_ms = 700, .stop = &stop};
    struct one other[4];
    fibers_start(&t.f, write_once, &stuck);
    for (int i = 0; i < 4; i++) {
        other[i] = (struct one){.t = &t, .stop = &stop};
        fibers_start(&t.f, read_until_stopped, &other[i]);
    }
    t.f.least_ms = INT32_MAX;
    fibers_run(&t.f, 1);
    fleet("cont " P);
    assert_int_equal(stuck.code, PQR_E_UNKNOWN);
    assert_in_range(stuck.took_ms, 700, 1500);
    for (int i = 0; i < 4; i++) /* one that waited for it would have one at most */
        assert_true(other[i].count > 2);
    leave(&t);
}

static void the_time_to_wait_is_always_some_and_never_for_ever(void **state)
{
    (void)state;
    struct stage t;
    STAGE(&t, NULL);
    struct one o = {.t = &t, .sql = "select pg_sleep(0.2)", .deadline_ms = INT64_MAX};
    fibers_start(&t.f, write_once, &o);
    fibers_run(&t.f, 1);
    assert_int_equal(o.code, PQR_OK);
    assert_true(t.f.least_ms >= 1);
    assert_true(t.f.most_ms <= 60000);
    leave(&t);
}

static void wait_for_ready(void *arg)
{
    struct one *o = arg;
    int64_t begun = live_now_ms();
    o->code = pqr_ready(o->t->db, 400, &o->err);
    o->took_ms = live_now_ms() - begun;
    atomic_store(o->stop, true);
}

static void explain(void *arg)
{
    struct one *o = arg;
    pqr_route route;
    o->code = pqr_route_tenant(o->t->db, "acme", 0, 400, &route, sizeof route, &o->err);
    atomic_store(o->stop, true);
}

/* Whatever waits: for it, others do not. */
static void while_it_waits_others_go_on(const char *url, void (*wait)(void *arg), int code)
{
    struct stage t;
    _Atomic bool stop = false;
    STAGE(&t, url);
    struct one o = {.t = &t, .stop = &stop, .sql = "select pg_sleep(0.4)", .deadline_ms = 10000};
    struct one ticks = {.t = &t, .stop = &stop};
    fibers_start(&t.f, wait, &o);
    fibers_start(&t.f, tick, &ticks);
    fibers_run(&t.f, 1);
    assert_int_equal(o.code, code);
    assert_true(ticks.count >= 5);
    leave(&t);
}

/* Somebody listens there, and never answers. Static. */
static const char *url_of_silence(int *fd)
{
    static char url[80];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof at;
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(*fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(*fd, 8), 0);
    assert_int_equal(getsockname(*fd, (struct sockaddr *)&at, &len), 0);
    snprintf(url, sizeof url, "DATABASE_PRIMARY_URL=postgresql://u@127.0.0.1:%d/d",
             (int)ntohs(at.sin_port));
    return url;
}

static void waiting_for_servers_lets_others_go_on(void **state)
{
    (void)state;
    while_it_waits_others_go_on(NOWHERE, wait_for_ready, PQR_E_NO_PRIMARY);
    int silent = -1;
    while_it_waits_others_go_on(url_of_silence(&silent), explain, PQR_OK);
    close(silent);
    while_it_waits_others_go_on("DB_HEALTH_INTERVAL=1", write_once, PQR_OK);
}

static int fail_to_serialize(pqr_tx *tx, void *arg, pqr_error *err)
{
    ++*(long *)arg;
    return pqr_exec(tx, PQR_QUERY(.sql = "do 'begin raise sqlstate ''40001''; end'"), NULL, err);
}

static void transact_in_vain(void *arg)
{
    struct one *o = arg;
    pqr_session *s = session(o->t, "acme", 10000);
    o->code = pqr_transact(s, NULL, fail_to_serialize, &o->count, &o->err);
    pqr_session_close(s);
}

static void between_two_runs_of_a_transaction_others_go_on(void **state)
{
    (void)state;
    struct stage t;
    STAGE(&t, NULL);
    struct one o = {.t = &t};
    fibers_start(&t.f, transact_in_vain, &o);
    fibers_run(&t.f, 1);
    assert_int_equal(o.code, PQR_E_SQL);
    assert_int_equal(o.count, 4);
    assert_true(t.f.empty > 0);
    assert_int_equal(t.f.no_fds, 0);
    leave(&t);
}

/* ---- Descriptors ----------------------------------------------------------------------------- */

/* Their connections are opened at once, and the look-up of their name is one for all. */
static void begin_and_commit(void *arg)
{
    struct one *o = arg;
    pqr_session *s = session(o->t, "acme", 30000);
    pqr_tx *tx = NULL;
    FIBER_OK(&o->t->f, pqr_begin(s, NULL, &tx, &o->err), &o->err);
    fiber_sleep(&o->t->f, 50); /* so that nobody gets another's connection */
    if (tx)
        FIBER_OK(&o->t->f, pqr_commit(tx, &o->err), &o->err);
    pqr_session_close(s);
}

static const char *by_name(void)
{
    static char setting[512];
    const char *url = getenv("DATABASE_PRIMARY_URL"), *host = strstr(url, "127.0.0.1");
    assert_non_null(host);
    snprintf(setting, sizeof setting, "DATABASE_PRIMARY_URL=%.*slocalhost%s", (int)(host - url),
             url, host + strlen("127.0.0.1"));
    return setting;
}

static void no_descriptor_is_waited_for_by_two_fibers(void **state)
{
    (void)state;
    struct stage t;
    STAGE(&t, by_name());
    struct one *list = work_of(&t, 8, begin_and_commit, 0);
    fibers_run(&t.f, 1); /* a fault, if it were so */
    free(list);
    assert_true(t.f.most_waiting == 8 || live_slow_build());
    leave(&t);
}

static void descriptors_are_given_back(void **state)
{
    (void)state;
    struct stage t;
    STAGE(&t, "DB_HEALTH_INTERVAL=60");
    struct one *list = work_of(&t, 16, read_often, 0);
    fibers_run(&t.f, 1);
    free(list);
    long before = open_descriptors();
    for (int i = 0; i < 3; i++) {
        list = work_of(&t, 16, read_often, 0);
        fibers_run(&t.f, 1);
        free(list);
    }
    assert_in_range(open_descriptors(), before - 4, before + 4); /* connections come and go */
    leave(&t);
}

/* Takes all descriptors that are left, of fewer than usual. */
struct none_left {
    struct rlimit before;
    int fd[256], n;
};

static void take_descriptors(struct none_left *l)
{
    getrlimit(RLIMIT_NOFILE, &l->before);
    struct rlimit few = {.rlim_cur = 256, .rlim_max = l->before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &few);
    for (int fd; (fd = dup(STDERR_FILENO)) >= 0;)
        l->fd[l->n++] = fd;
}

static void give_descriptors(struct none_left *l)
{
    setrlimit(RLIMIT_NOFILE, &l->before);
    while (l->n > 0)
        close(l->fd[--l->n]);
}

/* Has its connection before; the last one to begin takes the descriptors, the last to end gives them. */
struct poor {
    struct one o;
    struct none_left *left;
    int *begun, *ended;
};

static void exec_without_descriptors(void *arg)
{
    struct poor *p = arg;
    struct fibers *f = &p->o.t->f;
    pqr_session *s = session(p->o.t, "acme", 30000);
    pqr_tx *tx = NULL;
    FIBER_OK(f, pqr_begin(s, NULL, &tx, &p->o.err), &p->o.err);
    if (++*p->begun == 4)
        take_descriptors(p->left);
    while (*p->begun < 4)
        fiber_sleep(f, 1);
    for (int i = 0; tx && i < 10; i++)
        FIBER_OK(f, pqr_exec(tx, PQR_QUERY(.sql = "select 1"), NULL, &p->o.err), &p->o.err);
    if (++*p->ended == 4)
        give_descriptors(p->left);
    if (tx)
        FIBER_OK(f, pqr_commit(tx, &p->o.err), &p->o.err);
    pqr_session_close(s);
}

static void without_descriptors_left_calls_wait_all_the_same(void **state)
{
    (void)state;
    struct stage t;
    struct none_left left = {0};
    int begun = 0, ended = 0;
    struct poor poor[4];
    STAGE(&t, "DB_HEALTH_INTERVAL=60");
    for (int i = 0; i < 4; i++) {
        poor[i] = (struct poor){{.t = &t}, &left, &begun, &ended};
        fibers_start(&t.f, exec_without_descriptors, &poor[i]);
    }
    fibers_run(&t.f, 1);
    assert_true(t.f.no_fds > 0);
    leave(&t);
}

/* ---- Setting --------------------------------------------------------------------------------- */

static void without_a_function_threads_wait_as_ever(void **state)
{
    (void)state;
    struct fibers f;
    fibers_init(&f);
    pqr *with = ROUTER(NULL), *without = ROUTER(NULL), *no_more = ROUTER(NULL);
    OK(pqr_set_wait(with, fibers_wait, &f, &live_error));
    OK(pqr_set_wait(no_more, fibers_wait, &f, &live_error));
    OK(pqr_set_wait(no_more, NULL, NULL, &live_error));
    run_write(without, "acme", "select 1");
    run_write(no_more, "acme", "select 1");
    assert_int_equal(f.outside + f.waits, 0);
    run_write(with, "acme", "select 1");
    assert_true(f.outside > 0);
    pqr_close(with, 0);
    pqr_close(without, 0);
    pqr_close(no_more, 0);
    fibers_free(&f);
}

static void it_is_set_before_the_first_use_or_not_at_all(void **state)
{
    (void)state;
    FAILS(PQR_E_USAGE, pqr_set_wait(NULL, do_not_wait, NULL, &live_error));
    pqr *used = ROUTER(NULL), *opened = ROUTER(NULL);
    run_write(used, "acme", "select 1");
    FAILS(PQR_E_USAGE, pqr_set_wait(used, do_not_wait, NULL, &live_error));
    says("before the first use");
    pid_t pid = fork();
    if (pid == 0)
        _exit((pqr_set_wait(used, do_not_wait, NULL, NULL) != PQR_E_FORKED) +
              2 * (pqr_set_wait(opened, do_not_wait, NULL, NULL) != PQR_OK));
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    pqr_close(used, 0);
    pqr_close(opened, 0);
}

/* ---- Closing --------------------------------------------------------------------------------- */

static long sleepers(void)
{
    return ask_number(P, "select count(*) from pg_stat_activity where state = 'active'"
                         " and query like 'select pg_sleep(%%' and pid <> pg_backend_pid()");
}

/* Once the transaction has begun and so many statements run. */
static void close_then(void *arg)
{
    struct one *o = arg;
    while (o->after->count == 0 || sleepers() < o->count)
        fiber_sleep(&o->t->f, 20);
    atomic_store(o->stop, true);
    int64_t begun = live_now_ms();
    pqr_close(o->t->db, o->deadline_ms);
    o->ended_ms = live_now_ms();
    o->took_ms = o->ended_ms - begun;
}

static void exec_when_stopped(void *arg)
{
    struct one *o = arg;
    pqr_session *s = session(o->t, "acme", 30000);
    pqr_tx *tx = NULL;
    o->code = pqr_begin(s, NULL, &tx, &o->err);
    if (tx) {
        o->count = 1;
        while (!atomic_load(o->stop))
            fiber_sleep(&o->t->f, 20);
        o->code = pqr_exec(tx, PQR_QUERY(.sql = o->sql), NULL, &o->err);
        o->code |= pqr_commit(tx, &o->err);
    }
    o->ended_ms = live_now_ms();
    pqr_session_close(s);
}

static void read_once(void *arg)
{
    struct one *o = arg;
    pqr_session *s = session(o->t, "acme", 30000);
    o->code = pqr_read(s, PQR_QUERY(.sql = o->sql, .level = PQR_LEVEL_PRIMARY), NULL, &o->err);
    pqr_session_close(s);
}

static void a_router_closed_in_a_fiber_lets_the_others_end(void **state)
{
    (void)state;
    struct stage t;
    STAGE(&t, NULL);
    struct one slow = {.t = &t, .sql = "select pg_sleep(2)", .deadline_ms = 30000};
    _Atomic bool stop = false;
    struct one open = {.t = &t, .sql = "select 1", .stop = &stop};
    struct one closes = {
        .t = &t, .deadline_ms = INT64_MAX, .after = &open, .count = 1, .stop = &stop};
    fibers_start(&t.f, write_once, &slow);
    fibers_start(&t.f, exec_when_stopped, &open);
    fibers_start(&t.f, close_then, &closes);
    fibers_run(&t.f, 1);
    assert_int_equal(slow.code, PQR_OK);
    assert_int_equal(open.code, PQR_OK);
    assert_true(closes.ended_ms >= slow.ended_ms && closes.ended_ms >= open.ended_ms);
    assert_true(closes.took_ms < 5000);
    assert_int_equal(t.f.most_ms, 60000); /* for ever, bit by bit */
    fibers_free(&t.f);
}

/* One on a connection of its own, some on a lane, some for a connection, one between its calls. */
static void closing_ends_whatever_a_fiber_waits_for(void **state)
{
    (void)state;
    struct stage t;
    STAGE(&t, "DB_CONNECTION_LIMIT=4", "DB_LANES=1");
    struct one writes = {.t = &t, .sql = "select pg_sleep(30)", .deadline_ms = 30000};
    _Atomic bool stop = false;
    struct one holds = {.t = &t, .sql = "select 1", .stop = &stop};
    struct one queues = {.t = &t, .sql = "select 1", .deadline_ms = 30000};
    struct one closes = {.t = &t, .deadline_ms = 0, .after = &holds, .count = 2, .stop = &stop};
    struct one *reads = calloc(4, sizeof *reads);
    reads[0] = (struct one){.t = &t, .sql = "select 1"};
    fibers_start(&t.f, read_once, &reads[0]); /* now there is a lane */
    fibers_run(&t.f, 1);
    assert_int_equal(reads[0].code, PQR_OK);
    fibers_start(&t.f, write_once, &writes);
    fibers_start(&t.f, exec_when_stopped, &holds);
    fibers_start(&t.f, write_once, &queues);
    for (int i = 0; i < 4; i++) {
        reads[i] = (struct one){.t = &t, .sql = "select pg_sleep(30)"};
        fibers_start(&t.f, read_once, &reads[i]);
    }
    fibers_start(&t.f, close_then, &closes);
    fibers_run(&t.f, 1);
    assert_int_equal(writes.code, PQR_E_UNKNOWN);
    assert_int_equal(queues.code, PQR_E_CLOSED);
    assert_int_equal(holds.code, PQR_E_CLOSED);
    for (int i = 0; i < 4; i++)
        assert_int_equal(reads[i].code, PQR_E_CLOSED);
    assert_true(closes.took_ms < 3000);
    free(reads);
    fibers_free(&t.f);
}

static int create(void **state)
{
    (void)state;
    ask(P, "create table fibered(fiber int, round int)");
    ask(P, "create table counter as select 0 as n");
    ask(P, "grant all on fibered, counter to public");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_fibers_of_a_thread_share_few_connections_and_get_their_own_answers),
        cmocka_unit_test(fibers_may_go_on_in_another_thread),
        cmocka_unit_test(coming_back_too_early_harms_nothing),
        cmocka_unit_test(a_function_that_never_waits_only_costs_time),
        cmocka_unit_test(one_fiber_leads_a_lane_and_the_others_follow),
        cmocka_unit_test(threads_beside_the_fibers_wait_in_the_same_function),
        cmocka_unit_test(a_deadline_ends_a_call_on_a_frozen_server_and_the_others_go_on),
        cmocka_unit_test(the_time_to_wait_is_always_some_and_never_for_ever),
        cmocka_unit_test(waiting_for_servers_lets_others_go_on),
        cmocka_unit_test(between_two_runs_of_a_transaction_others_go_on),
        cmocka_unit_test(no_descriptor_is_waited_for_by_two_fibers),
        cmocka_unit_test(descriptors_are_given_back),
        cmocka_unit_test(without_descriptors_left_calls_wait_all_the_same),
        cmocka_unit_test(without_a_function_threads_wait_as_ever),
        cmocka_unit_test(it_is_set_before_the_first_use_or_not_at_all),
        cmocka_unit_test(a_router_closed_in_a_fiber_lets_the_others_end),
        cmocka_unit_test(closing_ends_whatever_a_fiber_waits_for),
    };
    return cmocka_run_group_tests(tests, create, NULL);
}
