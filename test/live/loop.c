/* Event loops: every call submitted, answered, cancelled and cut off, beside blocking threads and
 * on servers that fail. Fleet: one shard, two replicas. */
#include "live.h"

#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#define P "shard0/primary"
#define R1 "shard0/replica1"
#define R2 "shard0/replica2"
#define PATIENCE_MS 60000 /* more than anything takes: beyond it something hangs */

/* ---- Words ----------------------------------------------------------------------------------- */

/* What became of a call. Zero: its callback has not run. */
struct end {
    int times;
    pqr_error err;
    pqr_result *res;
    pqr_result *batch[8];
    size_t n;
    pqr_tx *tx;
    struct pg_conn *conn;
};

static _Thread_local bool dispatching; /* callbacks are due now, and only now */
static _Thread_local int strays;       /* callbacks that ran at another time */

static void note(void *arg, const pqr_done *done)
{
    struct end *e = arg;
    strays += !dispatching;
    e->times++;
    e->err = *done->err;
    e->res = done->res;
    e->n = done->n;
    for (size_t i = 0; i < done->n && i < 8; i++)
        e->batch[i] = done->batch[i];
    e->tx = done->tx;
    e->conn = done->conn;
}

static void note_and_free(void *arg, const pqr_done *done)
{
    note(arg, done);
    pqr_result_free(done->res);
}

static int dispatch(pqr_loop *loop, int max)
{
    dispatching = true;
    int n = pqr_loop_dispatch(loop, max);
    dispatching = false;
    return n;
}

static void close_loop(pqr_loop *loop)
{
    dispatching = true;
    pqr_loop_close(loop);
    dispatching = false;
}

static bool readable(pqr_loop *loop, int ms)
{
    struct pollfd p = {.fd = pqr_loop_fd(loop), .events = POLLIN};
    return poll(&p, 1, ms) == 1;
}

static void turn(pqr_loop *loop)
{
    if (!readable(loop, PATIENCE_MS))
        fail_msg("the loop has not become readable in %d ms", PATIENCE_MS);
    assert_true(dispatch(loop, 0) >= 0);
}

/* Until the call has ended; what it ended with. */
static int ended(pqr_loop *loop, struct end *e)
{
    int64_t until = live_now_ms() + PATIENCE_MS;
    while (e->times == 0 && live_now_ms() < until)
        turn(loop);
    if (e->times != 1)
        fail_msg("its callback ran %d times", e->times);
    return e->err.code;
}

#define ENDS(loop, wanted, e)                                                              \
    do {                                                                                   \
        int code_ = ended((loop), (e));                                                    \
        if (code_ != (wanted))                                                             \
            fail_msg("wanted %s, got %s: %s", pqr_code_name(wanted), pqr_code_name(code_), \
                     (e)->err.message);                                                    \
    } while (0)

/* As EVENTUALLY, while the loop is dispatched. */
#define MEANWHILE(loop, condition)                                      \
    for (int64_t until_ = live_now_ms() + PATIENCE_MS; !(condition);) { \
        readable((loop), 20);                                           \
        dispatch((loop), 0);                                            \
        if (live_now_ms() > until_)                                     \
            fail_msg("not in time: %s", #condition);                    \
    }

static pqr_loop *open_loop(pqr *db)
{
    pqr_loop *loop = NULL;
    OK(pqr_loop_open(db, &loop, &live_error));
    return loop;
}

/* A router, a loop, a session: what most tests begin and end with. */
struct stage {
    pqr *db;
    pqr_loop *loop;
    pqr_session *s;
};

#define STAGE(...) stage_of(READY_ROUTER(__VA_ARGS__))
static struct stage stage_of(pqr *db)
{
    strays = 0;
    return (struct stage){db, open_loop(db), live_session(db, "acme")};
}

static void leave(struct stage *t)
{
    pqr_session_close(t->s);
    close_loop(t->loop);
    pqr_close(t->db, 0);
    assert_int_equal(strays, 0);
}

static void submit_read(pqr_loop *loop, pqr_session *s, const char *sql, struct end *e,
                        pqr_call **call)
{
    OK(pqr_submit_read(loop, s, PQR_QUERY(.sql = sql), note, e, call, &live_error));
}

static void submit_write(pqr_loop *loop, pqr_session *s, const char *sql, struct end *e,
                         pqr_call **call)
{
    OK(pqr_submit_write(loop, s, PQR_QUERY(.sql = sql), note, e, call, &live_error));
}

static void text_is(struct end *e, const char *text)
{
    assert_int_equal(e->err.code, PQR_OK);
    assert_string_equal(pqr_text(e->res, 0, 0), text);
    pqr_result_free(e->res);
    e->res = NULL;
}

static pqr_tx *begin(struct stage *t, const pqr_tx_options *o)
{
    struct end e = {0};
    OK(pqr_submit_begin(t->loop, t->s, o, note, &e, NULL, &live_error));
    ENDS(t->loop, PQR_OK, &e);
    assert_non_null(e.tx);
    return e.tx;
}

static int exec(struct stage *t, pqr_tx *tx, const char *sql)
{
    struct end e = {0};
    OK(pqr_submit_exec(t->loop, tx, PQR_QUERY(.sql = sql), note_and_free, &e, NULL, &live_error));
    return ended(t->loop, &e);
}

static long rows(const char *body)
{
    return ask_number(P, "select count(*) from looped where body = '%s'", body);
}

static long active(const char *like)
{
    return ask_number(P,
                      "select count(*) from pg_stat_activity where state = 'active' and "
                      "pid <> pg_backend_pid() and query like '%s'",
                      like);
}

/* ---- Every call ------------------------------------------------------------------------------ */

static void reads_and_writes_are_answered(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    struct end w = {0}, r = {0};
    submit_write(t.loop, t.s, "insert into looped values ('rw') returning body", &w, NULL);
    ENDS(t.loop, PQR_OK, &w);
    assert_string_equal(pqr_source(w.res), P);
    text_is(&w, "rw");
    submit_read(t.loop, t.s, "select body from looped where body = 'rw'", &r, NULL);
    ENDS(t.loop, PQR_OK, &r);
    text_is(&r, "rw"); /* it sees its own write, wherever it is read */
    leave(&t);
}

static void a_batch_is_answered_as_a_whole(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    const pqr_query *q[] = {PQR_QUERY(.sql = "select 'a'"), PQR_QUERY(.sql = "select 'b'"),
                            PQR_QUERY(.sql = "select 1/0")};
    for (size_t n = 1; n <= 2; n++) {
        struct end e = {0};
        OK(pqr_submit_read_batch(t.loop, t.s, q, n, note, &e, NULL, &live_error));
        ENDS(t.loop, PQR_OK, &e);
        assert_int_equal(e.n, n);
        for (size_t i = 0; i < n; i++) {
            assert_string_equal(pqr_text(e.batch[i], 0, 0), i == 0 ? "a" : "b");
            pqr_result_free(e.batch[i]);
        }
    }
    struct end e = {0};
    OK(pqr_submit_read_batch(t.loop, t.s, q, 3, note, &e, NULL, &live_error));
    ENDS(t.loop, PQR_E_SQL, &e);
    assert_int_equal(e.n, 0);
    assert_int_equal(e.err.index, 2);
    leave(&t);
}

static void an_error_comes_whole(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    struct end sql = {0}, writes = {0};
    OK(pqr_submit_read(t.loop, t.s, PQR_QUERY(.name = "halve", .sql = "select 1/0"), note, &sql,
                       NULL, &live_error));
    submit_read(t.loop, t.s, "insert into looped values ('read')", &writes, NULL);
    ENDS(t.loop, PQR_E_SQL, &sql);
    assert_string_equal(sql.err.sqlstate, "22012");
    assert_non_null(strstr(sql.err.message, "halve"));
    assert_null(sql.res);
    ENDS(t.loop, PQR_E_READ_ONLY, &writes);
    leave(&t);
}

static void a_transaction_is_committed_or_rolled_back(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    struct end c = {0}, r = {0};
    pqr_tx *tx = begin(&t, NULL);
    assert_int_equal(exec(&t, tx, "insert into looped values ('committed')"), PQR_OK);
    assert_int_equal(rows("committed"), 0);
    OK(pqr_submit_commit(t.loop, tx, note, &c, NULL, &live_error));
    ENDS(t.loop, PQR_OK, &c);
    assert_int_equal(rows("committed"), 1);

    tx = begin(&t, PQR_TX(.isolation = PQR_SERIALIZABLE));
    assert_int_equal(exec(&t, tx, "insert into looped values ('rolled back')"), PQR_OK);
    OK(pqr_submit_rollback(t.loop, tx, note, &r, NULL, &live_error));
    ENDS(t.loop, PQR_OK, &r);
    assert_int_equal(rows("rolled back"), 0);

    tx = begin(&t, PQR_TX(.read_only = 1));
    assert_int_equal(exec(&t, tx, "insert into looped values ('no')"), PQR_E_READ_ONLY);
    assert_int_equal(exec(&t, tx, "select 1"), PQR_E_ROLLED_BACK);
    struct end failed = {0};
    OK(pqr_submit_commit(t.loop, tx, note, &failed, NULL, &live_error));
    ENDS(t.loop, PQR_E_ROLLED_BACK, &failed);
    leave(&t);
}

static void a_connection_is_lent_and_given_back(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    for (int mode = PQR_LEND_READ; mode <= PQR_LEND_WRITE; mode++) {
        struct end e = {0};
        OK(pqr_submit_lend(t.loop, t.s, mode, note, &e, NULL, &live_error));
        ENDS(t.loop, PQR_OK, &e);
        PGresult *r = PQexec(e.conn, "show default_transaction_read_only");
        assert_string_equal(PQgetvalue(r, 0, 0), mode == PQR_LEND_READ ? "on" : "off");
        PQclear(r);
        pqr_give_back(t.s, e.conn);
    }
    leave(&t);
}

static void ready_tells_when_there_is_a_primary(void **state)
{
    (void)state;
    pqr *db = ROUTER("DB_HEALTH_INTERVAL=100ms");
    pqr_loop *loop = open_loop(db);
    struct end first = {0}, none = {0}, again = {0};
    OK(pqr_submit_ready(loop, 10000, note, &first, &live_error));
    ENDS(loop, PQR_OK, &first);
    OK(pqr_submit_ready(loop, 0, note, &again, &live_error)); /* only looks */
    ENDS(loop, PQR_OK, &again);
    close_loop(loop);
    pqr_close(db, 0);

    fleet("kill " P);
    db = ROUTER("DB_HEALTH_INTERVAL=100ms");
    loop = open_loop(db);
    OK(pqr_submit_ready(loop, 300, note, &none, &live_error));
    ENDS(loop, PQR_E_NO_PRIMARY, &none);
    assert_non_null(strstr(none.err.message, P));
    again = (struct end){0};
    OK(pqr_submit_ready(loop, PATIENCE_MS, note, &again, &live_error));
    fleet("start " P);
    ENDS(loop, PQR_OK, &again);
    close_loop(loop);
    pqr_close(db, 0);
}

/* ---- Arguments ------------------------------------------------------------------------------- */

static void what_the_arguments_point_at_may_go_at_once(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    struct end e[3] = {{0}};
    char *sql = strdup("select $1 || encode($2, 'escape') || ($3::text[])[2] || ($4::int[])[1]");
    char *text = strdup("text "), *bytes = strdup("bytes "), *element = strdup("element ");
    char *name = strdup("copied");
    const char **texts = calloc(2, sizeof *texts);
    int32_t *ints = malloc(sizeof *ints);
    pqr_param *params = calloc(4, sizeof *params);
    texts[1] = element;
    *ints = 42;
    params[0] = (pqr_param)PQR_TEXT(text);
    params[1] = (pqr_param)PQR_BYTES(bytes, 6);
    params[2] = (pqr_param)PQR_TEXT_ARRAY(texts, 2);
    params[3] = (pqr_param)PQR_INT32_ARRAY(ints, 1);
    pqr_query *q = malloc(sizeof *q);
    *q = *PQR_QUERY(.name = name, .sql = sql, .params = params, .nparams = 4);
    const pqr_query **list = malloc(sizeof *list);
    *list = q;
    OK(pqr_submit_read(t.loop, t.s, q, note, &e[0], NULL, &live_error));
    OK(pqr_submit_write(t.loop, t.s, q, note, &e[1], NULL, &live_error));
    OK(pqr_submit_read_batch(t.loop, t.s, list, 1, note, &e[2], NULL, &live_error));
    char *const all[] = {sql, text, bytes, element, name};
    for (int i = 0; i < 5; i++) {
        memset(all[i], 'x', strlen(all[i]));
        free(all[i]);
    }
    memset(params, 0xff, 4 * sizeof *params);
    *ints = -1;
    free(ints);
    free(texts);
    free(params);
    free(q);
    free(list);
    for (int i = 0; i < 3; i++)
        ENDS(t.loop, PQR_OK, &e[i]);
    text_is(&e[0], "text bytes element 42");
    text_is(&e[1], "text bytes element 42");
    assert_string_equal(pqr_text(e[2].batch[0], 0, 0), "text bytes element 42");
    pqr_result_free(e[2].batch[0]);
    leave(&t);
}

static int none_ran;

static void never(void *arg, const pqr_done *done)
{
    (void)arg;
    (void)done;
    none_ran++;
}

static void never_work(pqr_tx *tx, void *arg)
{
    (void)tx;
    (void)arg;
    none_ran++;
}

static void misuse_is_told_and_calls_nothing_back(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    pqr *other = ROUTER("DB_HEALTH_INTERVAL=100ms");
    pqr_session *strange = live_session(other, "acme");
    const pqr_query *q = PQR_QUERY(.sql = "select 1");
    const pqr_query *list[] = {q};
    pqr_loop *l = t.loop;
    pqr_error *e = &live_error;
    pqr_tx *tx = begin(&t, NULL);
    none_ran = 0;

    FAILS(PQR_E_USAGE, pqr_loop_open(NULL, &l, e));
    FAILS(PQR_E_USAGE, pqr_loop_open(t.db, NULL, e));
    assert_int_equal(pqr_loop_fd(NULL), PQR_E_USAGE);
    assert_int_equal(pqr_loop_dispatch(NULL, 0), PQR_E_USAGE);
    pqr_loop_close(NULL);
    pqr_cancel(NULL);
    pqr_work_done(NULL, NULL);
    pqr_work_done(tx, NULL); /* nobody's work */

    FAILS(PQR_E_USAGE, pqr_submit_read(NULL, t.s, q, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_read(l, NULL, q, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_read(l, t.s, NULL, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_read(l, t.s, q, NULL, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_read(l, strange, q, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_read(l, t.s, PQR_QUERY(.sql = NULL), never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_read(l, t.s, PQR_QUERY(.sql = "begin"), never, NULL, NULL, e));
    FAILS(PQR_E_USAGE,
          pqr_submit_read(l, t.s, PQR_QUERY(.sql = "select 1", .level = 9), never, NULL, NULL, e));
    FAILS(PQR_E_USAGE,
          pqr_submit_read(l, t.s, &(pqr_query){.sql = "select 1"}, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_write(NULL, t.s, q, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_write(l, NULL, q, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_write(l, t.s, q, NULL, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_write(l, t.s, PQR_QUERY(.sql = "commit"), never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_read_batch(l, NULL, list, 1, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_read_batch(l, t.s, NULL, 1, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_read_batch(l, t.s, list, 0, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_begin(l, NULL, NULL, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_begin(l, strange, NULL, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_begin(l, t.s, PQR_TX(.isolation = 7), never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_exec(l, NULL, q, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_exec(l, tx, NULL, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_exec(l, tx, PQR_QUERY(.sql = "commit"), never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_commit(l, NULL, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_commit(NULL, tx, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_commit(l, tx, NULL, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_rollback(l, NULL, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_rollback(l, tx, NULL, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_transact(l, t.s, NULL, NULL, never, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_transact(l, NULL, NULL, never_work, never, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_transact(l, t.s, NULL, never_work, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_lend(l, t.s, 7, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_lend(l, NULL, PQR_LEND_READ, never, NULL, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_ready(NULL, 0, never, NULL, e));
    FAILS(PQR_E_USAGE, pqr_submit_ready(l, 0, NULL, NULL, e));

    assert_int_equal(exec(&t, tx, "select 1"), PQR_OK); /* it stands after all that */
    struct end r = {0};
    OK(pqr_submit_rollback(l, tx, note, &r, NULL, e));
    ENDS(l, PQR_OK, &r);
    assert_int_equal(none_ran, 0);
    pqr_session_close(strange);
    pqr_close(other, 0);
    leave(&t);
}

/* ---- Callbacks ------------------------------------------------------------------------------- */

static void callbacks_run_in_dispatch_only_and_once_each(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    enum { N = 60 };
    struct end e[N] = {{0}};
    pqr_call *call[N];
    for (int i = 0; i < N; i++) {
        if (i % 3 == 0)
            submit_write(t.loop, t.s, "select 1", &e[i], &call[i]);
        else
            submit_read(t.loop, t.s, "select 1", &e[i], &call[i]);
        if (i % 5 == 0)
            pqr_cancel(call[i]);
        if (i % 10 == 0)
            pqr_cancel(call[i]); /* twice is once */
    }
    for (int i = 0; i < N; i++)
        assert_int_equal(e[i].times, 0);
    for (int i = 0; i < N; i++) {
        int code = ended(t.loop, &e[i]);
        assert_true(code == PQR_OK || code == PQR_E_CANCELLED || code == PQR_E_UNKNOWN);
        pqr_result_free(e[i].res);
    }
    live_sleep_ms(50);
    dispatch(t.loop, 0);
    for (int i = 0; i < N; i++)
        assert_int_equal(e[i].times, 1);
    leave(&t);
}

enum waiting { BY_POLL, BY_LEVEL, BY_EDGE };

static int epoll_on(pqr_loop *loop, enum waiting how)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN | (how == BY_EDGE ? EPOLLET : 0u)};
    assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, pqr_loop_fd(loop), &ev), 0);
    return epoll;
}

static void wait_by(pqr_loop *loop, enum waiting how, int epoll)
{
    struct epoll_event ev;
    if (how == BY_POLL ? !readable(loop, PATIENCE_MS) : epoll_wait(epoll, &ev, 1, PATIENCE_MS) != 1)
        fail_msg("way %d: nothing more is told, though there is more", how);
}

static void max_bounds_the_callbacks_and_the_rest_is_told(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    enum { N = 40 };
    for (int max = 0; max <= 3; max++)
        for (enum waiting how = BY_POLL; how <= BY_EDGE; how++) {
            struct end e[N] = {{0}};
            int epoll = epoll_on(t.loop, how), ran = 0;
            for (int i = 0; i < N; i++)
                submit_read(t.loop, t.s, "select 1", &e[i], NULL);
            while (ran < N) {
                wait_by(t.loop, how, epoll);
                int n = dispatch(t.loop, max);
                assert_in_range(n, 0, max > 0 ? max : N);
                ran += n;
            }
            for (int i = 0; i < N; i++) {
                assert_int_equal(e[i].times, 1);
                pqr_result_free(e[i].res);
            }
            close(epoll);
        }
    leave(&t);
}

/* With no lane open nothing else makes the descriptor readable: libpq takes a buffer at a time out of
 * its socket, and what it left there makes no new edge. */
static void large_answers_are_read_to_their_end_by_edges_too(void **state)
{
    (void)state;
    static const int sizes[] = {15000, 17000, 24000, 30000, 60000, 5000000};
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    for (enum waiting how = BY_POLL; how <= BY_EDGE; how++)
        for (int i = 0; i < 6; i++) {
            struct end e = {0};
            char sql[64];
            int epoll = epoll_on(t.loop, how);
            snprintf(sql, sizeof sql, "select repeat('x', %d)", sizes[i]);
            submit_write(t.loop, t.s, sql, &e, NULL);
            while (e.times == 0) {
                wait_by(t.loop, how, epoll);
                live_sleep_ms(20); /* so that all is there at once */
                dispatch(t.loop, 0);
            }
            assert_int_equal(e.err.code, PQR_OK);
            assert_int_equal(pqr_length(e.res, 0, 0), sizes[i]);
            pqr_result_free(e.res);
            close(epoll);
        }
    leave(&t);
}

/* Nothing will come from outside: what `max` has left over must be told by the dispatch itself. */
static void what_a_dispatch_leaves_over_it_tells_at_once(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    enum { N = 10 };
    for (enum waiting how = BY_POLL; how <= BY_EDGE; how++) {
        struct end e[N] = {{0}};
        int epoll = epoll_on(t.loop, how);
        for (int i = 0; i < N; i++) {
            pqr_call *call;
            submit_read(t.loop, t.s, "select 1", &e[i], &call);
            pqr_cancel(call);
        }
        for (int i = 0; i < N; i++) {
            struct epoll_event ev;
            assert_true(how == BY_POLL ? readable(t.loop, 0) : epoll_wait(epoll, &ev, 1, 0) == 1);
            assert_int_equal(dispatch(t.loop, 1), 1);
        }
        for (int i = 0; i < N; i++)
            assert_int_equal(e[i].err.code, PQR_E_CANCELLED);
        close(epoll);
    }
    leave(&t);
}

struct chain {
    struct stage *t;
    int left, ran, nested;
    bool close_session;
    pqr_session *s;
};

static void go_on(void *arg, const pqr_done *done)
{
    struct chain *c = arg;
    strays += !dispatching;
    pqr_result_free(done->res);
    c->ran += done->err->code == PQR_OK;
    c->nested += pqr_loop_dispatch(c->t->loop, 0) == PQR_E_USAGE;
    pqr_loop_close(c->t->loop); /* refused: it is in a callback */
    if (c->close_session) {
        pqr_session_close(c->s);
        c->s = c->left > 0 ? live_session(c->t->db, "acme") : NULL;
    }
    if (c->left-- > 0)
        pqr_submit_read(c->t->loop, c->s, PQR_QUERY(.sql = "select 1"), go_on, c, NULL, NULL);
}

static void callbacks_submit_and_close_sessions(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    for (int closes = 0; closes <= 1; closes++) {
        struct chain c = {.t = &t, .left = 20, .close_session = closes == 1};
        c.s = live_session(t.db, "acme");
        OK(pqr_submit_read(t.loop, c.s, PQR_QUERY(.sql = "select 1"), go_on, &c, NULL,
                           &live_error));
        while (c.left >= 0)
            turn(t.loop);
        assert_int_equal(c.ran, 21);
        assert_int_equal(c.nested, 21); /* dispatching in a callback is USAGE */
        pqr_session_close(c.s);
    }
    leave(&t);
}

/* Nothing comes from any server: only the deadline. */
static void a_deadline_makes_the_descriptor_readable_by_itself(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=5m");
    for (enum waiting how = BY_POLL; how <= BY_EDGE; how++) {
        struct end w = {0}, r = {0}, warm = {0};
        submit_write(t.loop, t.s, "select 1", &warm, NULL); /* so that the next is sent at once */
        ENDS(t.loop, PQR_OK, &warm);
        text_is(&warm, "1");
        int epoll = epoll_on(t.loop, how);
        int64_t begun = live_now_ms();
        OK(pqr_submit_write(t.loop, t.s,
                            PQR_QUERY(.sql = "select pg_sleep(600)", .deadline_ms = 300), note, &w,
                            NULL, &live_error));
        OK(pqr_submit_read(t.loop, t.s,
                           PQR_QUERY(.sql = "select pg_sleep(600)", .deadline_ms = 400), note, &r,
                           NULL, &live_error));
        while (w.times == 0 || r.times == 0) {
            wait_by(t.loop, how, epoll);
            dispatch(t.loop, 0);
        }
        assert_true(live_now_ms() - begun >= 399);
        assert_int_equal(w.err.code, PQR_E_UNKNOWN);
        assert_int_equal(r.err.code, PQR_E_DEADLINE);
        close(epoll);
    }
    leave(&t);
}

static void an_idle_loop_is_left_alone(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    assert_false(readable(t.loop, 1000)); /* before its first use nothing at all */
    struct end e = {0};
    submit_read(t.loop, t.s, "select 1", &e, NULL);
    ENDS(t.loop, PQR_OK, &e);
    text_is(&e, "1");
    int turns = 0;
    for (int64_t until = live_now_ms() + 2000; live_now_ms() < until;
         turns += readable(t.loop, 100))
        dispatch(t.loop, 0);
    assert_in_range(turns, 0, 12); /* its sweep comes twice a second */
    leave(&t);
}

/* ---- Cancelling ------------------------------------------------------------------------------ */

static void a_call_cancelled_before_it_was_sent_is_not_sent(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    struct end r = {0}, w = {0};
    pqr_call *call;
    submit_read(t.loop, t.s, "select 'cancelled read'", &r, &call);
    pqr_cancel(call);
    submit_write(t.loop, t.s, "insert into looped values ('unsent')", &w, &call);
    pqr_cancel(call); /* it has no connection yet */
    ENDS(t.loop, PQR_E_CANCELLED, &r);
    ENDS(t.loop, PQR_E_CANCELLED, &w);
    assert_int_equal(w.err.retry, PQR_RETRY_SAFE);
    live_sleep_ms(100);
    assert_int_equal(rows("unsent"), 0);
    leave(&t);
}

static void a_call_cancelled_in_the_queue_leaves_it_and_what_it_was_granted_comes_back(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_CONNECTION_LIMIT=1", "DB_HEALTH_INTERVAL=5m");
    for (int granted = 0; granted <= 1; granted++) {
        struct end w = {0}, after = {0};
        pqr_call *call;
        pqr_tx *tx = begin(&t, NULL);
        submit_write(t.loop, t.s, "insert into looped values ('queued')", &w, &call);
        dispatch(t.loop, 0);
        assert_int_equal(w.times, 0);
        if (granted == 0)
            pqr_cancel(call);
        pqr_rollback(tx); /* blocking: the connection is free when it returns */
        if (granted == 1)
            pqr_cancel(call);
        ENDS(t.loop, PQR_E_CANCELLED, &w);
        assert_int_equal(rows("queued"), 0);
        submit_write(t.loop, t.s, "select 'free'", &after, NULL);
        ENDS(t.loop, PQR_OK, &after);
        text_is(&after, "free");
    }
    leave(&t);
}

static void a_call_that_connects_to_a_black_hole_is_cancelled_at_once(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=5m", "DB_CONNECT_TIMEOUT=1m");
    struct end w = {0}, l = {0}, b = {0};
    pqr_call *write, *lend, *start;
    fleet("stop " P); /* accepts, and never says a word */
    submit_write(t.loop, t.s, "insert into looped values ('hole')", &w, &write);
    OK(pqr_submit_lend(t.loop, t.s, PQR_LEND_WRITE, note, &l, &lend, &live_error));
    OK(pqr_submit_begin(t.loop, t.s, NULL, note, &b, &start, &live_error));
    live_sleep_ms(100);
    dispatch(t.loop, 0);
    pqr_cancel(write);
    pqr_cancel(lend);
    pqr_cancel(start);
    dispatch(t.loop, 0);
    assert_int_equal(w.times + l.times + b.times, 3);
    assert_int_equal(w.err.code, PQR_E_CANCELLED);
    assert_int_equal(l.err.code, PQR_E_CANCELLED);
    assert_int_equal(b.err.code, PQR_E_CANCELLED);
    assert_null(l.conn);
    assert_null(b.tx);
    fleet("cont " P);
    assert_int_equal(rows("hole"), 0);
    leave(&t);
}

static void a_call_cancelled_while_it_runs_is_honest_about_it(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    struct end r = {0}, w = {0}, x = {0}, again = {0};
    pqr_call *read, *write, *in_tx;
    pqr_tx *tx = begin(&t, NULL);
    OK(pqr_submit_read(
        t.loop, t.s, PQR_QUERY(.sql = "select pg_sleep(600), 'run', 1", .level = PQR_LEVEL_PRIMARY),
        note, &r, &read, &live_error));
    submit_write(t.loop, t.s, "select pg_sleep(600), 'run', 2", &w, &write);
    OK(pqr_submit_exec(t.loop, tx, PQR_QUERY(.sql = "select pg_sleep(600), 'run', 3"), note, &x,
                       &in_tx, &live_error));
    MEANWHILE(t.loop, active("select pg_sleep(600), ''run''%%") == 3);
    pqr_cancel(read);
    pqr_cancel(write);
    pqr_cancel(in_tx);
    assert_int_equal(r.times + w.times + x.times, 0);
    dispatch(t.loop, 0);
    assert_int_equal(r.times + w.times + x.times, 3);
    assert_int_equal(r.err.code, PQR_E_CANCELLED);
    assert_int_equal(w.err.code, PQR_E_UNKNOWN);
    assert_int_equal(w.err.retry, PQR_RETRY_UNKNOWN);
    assert_int_equal(x.err.code, PQR_E_CANCELLED);
    MEANWHILE(t.loop, active("select pg_sleep(600), ''run''%%") == 0); /* the servers notice */
    FAILS(PQR_E_ROLLED_BACK, pqr_submit_exec(t.loop, tx, PQR_QUERY(.sql = "select 1"), never, NULL,
                                             NULL, &live_error));
    pqr_rollback(tx);
    submit_read(t.loop, t.s, "select 'on it goes'", &again, NULL);
    ENDS(t.loop, PQR_OK, &again);
    text_is(&again, "on it goes");
    leave(&t);
}

static void a_call_cancelled_after_its_answer_came_has_that_answer(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    struct end warm = {0};
    submit_write(t.loop, t.s, "select 1", &warm, NULL); /* so that there is a connection */
    ENDS(t.loop, PQR_OK, &warm);
    text_is(&warm, "1");
    live_sleep_ms(200); /* what the router asks behind it is answered too */
    for (int tries = 0;; tries++) {
        struct end w = {0};
        pqr_call *call;
        char sql[100];
        snprintf(sql, sizeof sql, "insert into looped values ('late %d') returning 'done'", tries);
        submit_write(t.loop, t.s, sql, &w, &call);
        EVENTUALLY(PATIENCE_MS,
                   ask_number(P, "select count(*) from looped where body = 'late %d'", tries) == 1);
        live_sleep_ms(50);
        pqr_cancel(call);
        dispatch(t.loop, 0);
        assert_int_equal(w.times, 1);
        if (w.err.code == PQR_OK) {
            text_is(&w, "done");
            break;
        }
        assert_int_equal(w.err.code, PQR_E_UNKNOWN); /* the answer was on its way still */
        assert_true(tries < 20);
        warm = (struct end){0};
        submit_write(t.loop, t.s, "select 1", &warm, NULL);
        ENDS(t.loop, PQR_OK, &warm);
        text_is(&warm, "1");
    }
    leave(&t);
}

static void closing_a_loop_ends_what_is_in_flight(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms", "DB_CONNECTION_LIMIT=4");
    struct end e[12] = {{0}}, ready = {0}, b = {0};
    pqr_tx *tx = begin(&t, NULL);
    for (int i = 0; i < 12; i++)
        if (i % 2)
            submit_read(t.loop, t.s, "select pg_sleep(600)", &e[i], NULL);
        else
            submit_write(t.loop, t.s, "select pg_sleep(600)", &e[i], NULL);
    OK(pqr_submit_exec(t.loop, tx, PQR_QUERY(.sql = "select pg_sleep(600)"), note, &b, NULL,
                       &live_error));
    OK(pqr_submit_ready(t.loop, 1000, note, &ready, &live_error));
    live_sleep_ms(100);
    dispatch(t.loop, 0);
    close_loop(t.loop);
    int unknown = 0;
    for (int i = 0; i < 12; i++) {
        assert_int_equal(e[i].times, 1);
        unknown += e[i].err.code == PQR_E_UNKNOWN;
        assert_true(e[i].err.code == PQR_E_CANCELLED ||
                    (i % 2 == 0 && e[i].err.code == PQR_E_UNKNOWN));
    }
    assert_in_range(unknown, 0, 3);
    assert_int_equal(b.times, 1);
    assert_int_equal(b.err.code, PQR_E_CANCELLED);
    assert_int_equal(ready.times, 1);
    t.loop = open_loop(t.db); /* the router lives on */
    pqr_rollback(tx);
    struct end again = {0};
    submit_read(t.loop, t.s, "select 'again'", &again, NULL);
    ENDS(t.loop, PQR_OK, &again);
    text_is(&again, "again");
    leave(&t);
}

struct last_wish {
    pqr_loop *loop;
    pqr_session *s;
    struct end e;
    int code;
};

static void submit_one_more(void *arg, const pqr_done *done)
{
    struct last_wish *w = arg;
    note(&w->e, done);
    w->code = pqr_submit_read(w->loop, w->s, PQR_QUERY(.sql = "select 1"), never, NULL, NULL, NULL);
}

static void a_loop_that_is_closing_takes_no_more_calls(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    struct last_wish w = {.loop = t.loop, .s = t.s};
    none_ran = 0;
    OK(pqr_submit_read(t.loop, t.s, PQR_QUERY(.sql = "select pg_sleep(600)"), submit_one_more, &w,
                       NULL, &live_error));
    close_loop(t.loop);
    assert_int_equal(w.e.err.code, PQR_E_CANCELLED);
    assert_int_equal(w.code, PQR_E_CLOSED);
    assert_int_equal(none_ran, 0);
    t.loop = NULL;
    leave(&t);
}

/* ---- Transactions ---------------------------------------------------------------------------- */

static void a_transaction_has_one_call_at_a_time(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    struct end first = {0}, c = {0};
    pqr_tx *tx = begin(&t, NULL);
    OK(pqr_submit_exec(t.loop, tx, PQR_QUERY(.sql = "insert into looped values ('one')"), note,
                       &first, NULL, &live_error));
    none_ran = 0;
    FAILS(PQR_E_USAGE, pqr_submit_exec(t.loop, tx, PQR_QUERY(.sql = "select 1"), never, NULL, NULL,
                                       &live_error));
    FAILS(PQR_E_USAGE, pqr_submit_commit(t.loop, tx, never, NULL, NULL, &live_error));
    FAILS(PQR_E_USAGE, pqr_exec(tx, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    ENDS(t.loop, PQR_OK, &first);
    pqr_result_free(first.res);
    OK(pqr_submit_commit(t.loop, tx, note, &c, NULL, &live_error));
    ENDS(t.loop, PQR_OK, &c);
    assert_int_equal(none_ran, 0);
    assert_int_equal(rows("one"), 1);
    leave(&t);
}

static void a_rollback_cuts_off_the_call_that_is_in_flight(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    struct end x = {0}, r = {0};
    pqr_tx *tx = begin(&t, NULL);
    assert_int_equal(exec(&t, tx, "insert into looped values ('cut off')"), PQR_OK);
    OK(pqr_submit_exec(t.loop, tx, PQR_QUERY(.sql = "select pg_sleep(600), 'cut'"), note, &x, NULL,
                       &live_error));
    OK(pqr_submit_rollback(t.loop, tx, note, &r, NULL, &live_error));
    assert_int_equal(x.times + r.times, 0);
    ENDS(t.loop, PQR_OK, &r);
    ENDS(t.loop, PQR_E_CANCELLED, &x);
    MEANWHILE(t.loop, active("select pg_sleep(600), ''cut''%%") == 0);
    assert_int_equal(rows("cut off"), 0);
    leave(&t);
}

static void a_session_closed_early_ends_with_its_last_call(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms", "DB_APPLICATION_NAME=early");
    struct end r = {0}, w = {0}, b = {0}, l = {0}, x = {0};
    pqr_tx *tx = begin(&t, NULL);
    OK(pqr_submit_exec(t.loop, tx, PQR_QUERY(.sql = "insert into looped values ('early tx')"), note,
                       &x, NULL, &live_error));
    submit_read(t.loop, t.s, "select 'r'", &r, NULL);
    submit_write(t.loop, t.s, "insert into looped values ('early') returning body", &w, NULL);
    OK(pqr_submit_begin(t.loop, t.s, NULL, note, &b, NULL, &live_error));
    OK(pqr_submit_lend(t.loop, t.s, PQR_LEND_WRITE, note, &l, NULL, &live_error));
    pqr_session_close(t.s);
    FAILS(PQR_E_USAGE, pqr_submit_read(t.loop, t.s, PQR_QUERY(.sql = "select 1"), never, NULL, NULL,
                                       &live_error));
    ENDS(t.loop, PQR_OK, &r);
    ENDS(t.loop, PQR_OK, &w);
    ENDS(t.loop, PQR_OK, &x);
    ENDS(t.loop, PQR_E_CANCELLED, &b); /* what it would have got is not to be had any more */
    ENDS(t.loop, PQR_E_CANCELLED, &l);
    assert_null(b.tx);
    assert_null(l.conn);
    text_is(&r, "r");
    text_is(&w, "early");
    pqr_result_free(x.res);
    EVENTUALLY(20000, ask_number(P, "select count(*) from pg_stat_activity where state like 'idle "
                                    "in%%' and application_name = 'early'") == 0);
    assert_int_equal(rows("early tx"), 0);
    t.s = NULL;
    leave(&t);
}

/* A transaction that reads a counter, lets somebody else count in between (so often), and counts. */
struct counting {
    struct end e; /* first: it is also what `note` gets */
    struct stage *t;
    int runs, disturb, fail;
    pqr_tx *tx;
    int64_t seen;
};

static void counted(void *arg, const pqr_done *done)
{
    struct counting *c = arg;
    pqr_error err;
    pqr_result_free(done->res);
    if (done->err->code == PQR_OK && c->fail) {
        memset(&err, 0, sizeof err);
        err.code = 77; /* the work's own */
        pqr_work_done(c->tx, &err);
    } else {
        pqr_work_done(c->tx, done->err);
    }
    c->runs += c->e.times * 1000; /* its end may not come in the middle of this */
}

static void count_on(void *arg, const pqr_done *done)
{
    struct counting *c = arg;
    if (done->err->code != PQR_OK) {
        pqr_work_done(c->tx, done->err);
        return;
    }
    c->seen = pqr_int64(done->res, 0, 0);
    pqr_result_free(done->res);
    if (c->disturb-- > 0)
        ask(P, "update counter set n = n + 100");
    pqr_error err;
    if (pqr_submit_exec(
            c->t->loop, c->tx,
            PQR_QUERY(.sql = "update counter set n = $1 + 1", PQR_PARAMS(PQR_INT64(c->seen))),
            counted, c, NULL, &err) != PQR_OK)
        pqr_work_done(c->tx, &err);
}

static void count(pqr_tx *tx, void *arg)
{
    struct counting *c = arg;
    pqr_error err;
    c->runs++;
    c->tx = tx;
    if (pqr_submit_exec(c->t->loop, tx, PQR_QUERY(.sql = "select n from counter"), count_on, c,
                        NULL, &err) != PQR_OK)
        pqr_work_done(tx, &err);
}

static void a_work_is_run_again_after_a_serialization_failure(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    for (int disturb = 0; disturb <= 4; disturb++) {
        struct counting c = {.t = &t, .disturb = disturb};
        bool succeeds = disturb <= 3; /* it is run again three times */
        ask(P, "update counter set n = 0");
        OK(pqr_submit_transact(t.loop, t.s, PQR_TX(.isolation = PQR_REPEATABLE_READ), count, note,
                               &c, &live_error));
        ENDS(t.loop, succeeds ? PQR_OK : PQR_E_SQL, &c.e);
        assert_int_equal(c.runs, succeeds ? disturb + 1 : 4);
        assert_int_equal(ask_number(P, "select n from counter"),
                         succeeds ? disturb * 100 + 1 : 400);
        if (!succeeds)
            assert_string_equal(c.e.err.sqlstate, "40001");
    }
    leave(&t);
}

static void a_work_that_fails_is_rolled_back_and_ends_with_its_error(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    struct counting c = {.t = &t, .fail = 1};
    ask(P, "update counter set n = 7");
    OK(pqr_submit_transact(t.loop, t.s, NULL, count, note, &c, &live_error));
    ENDS(t.loop, 77, &c.e);
    assert_int_equal(c.runs, 1);
    assert_int_equal(ask_number(P, "select n from counter"), 7);
    leave(&t);
}

/* Keeps its transaction until the test ends it. */
static void keep(pqr_tx *tx, void *arg)
{
    struct counting *c = arg;
    c->runs++;
    c->tx = tx;
}

static void kept_work(struct stage *t, struct counting *c)
{
    *c = (struct counting){.t = t};
    OK(pqr_submit_transact(t->loop, t->s, NULL, keep, note, c, &live_error));
    while (!c->tx)
        turn(t->loop);
}

static void a_work_may_be_done_outside_of_callbacks_and_is_ended_by_nothing_else(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    struct counting c;
    kept_work(&t, &c);
    FAILS(PQR_E_USAGE, pqr_submit_commit(t.loop, c.tx, never, NULL, NULL, &live_error));
    FAILS(PQR_E_USAGE, pqr_submit_rollback(t.loop, c.tx, never, NULL, NULL, &live_error));
    assert_int_equal(exec(&t, c.tx, "insert into looped values ('work')"), PQR_OK);
    pqr_session_close(t.s); /* it ends with the work */
    t.s = NULL;
    pqr_work_done(c.tx, NULL);
    assert_int_equal(c.e.times, 0);
    ENDS(t.loop, PQR_OK, &c.e);
    assert_int_equal(rows("work"), 1);
    leave(&t);
}

static void a_work_done_with_a_call_in_flight_is_rolled_back(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    struct counting c;
    struct end x = {0};
    kept_work(&t, &c);
    OK(pqr_submit_exec(t.loop, c.tx, PQR_QUERY(.sql = "select pg_sleep(600)"), note, &x, NULL,
                       &live_error));
    pqr_work_done(c.tx, NULL);
    assert_int_equal(c.e.times + x.times, 0);
    ENDS(t.loop, PQR_E_USAGE, &c.e);
    ENDS(t.loop, PQR_E_CANCELLED, &x);
    leave(&t);
}

static void a_work_that_is_in_hand_ends_with_its_loop(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms", "DB_APPLICATION_NAME=in-hand");
    struct counting c;
    kept_work(&t, &c);
    close_loop(t.loop);
    assert_int_equal(c.e.times, 1);
    assert_int_equal(c.e.err.code, PQR_E_CANCELLED);
    EVENTUALLY(20000, ask_number(P, "select count(*) from pg_stat_activity where state like 'idle "
                                    "in%%' and application_name = 'in-hand'") == 0);
    t.loop = NULL;
    leave(&t);
}

/* ---- Many at once ---------------------------------------------------------------------------- */

/* One unit of work on a loop or in a thread: a call of some kind, whose answer carries a marker. */
struct crowd {
    pqr *db;
    _Atomic long calls_left, done, wrong, failed;
    bool faults; /* errors are to be expected */
};

struct unit {
    struct crowd *crowd;
    pqr_loop *loop;
    pqr_session *s;
    char marker[64], tenant[16];
    int kind, *in_flight;
};

static void unit_begins(struct unit *u);

static void check_marker(struct crowd *c, const char *marker, int code, const pqr_error *err,
                         const pqr_result *res)
{
    if (code != PQR_OK) {
        atomic_fetch_add(&c->failed, 1);
        if (!c->faults)
            print_error("%s: %s: %s\n", marker, pqr_code_name(code), err->message);
    } else if (strcmp(pqr_text(res, 0, 0), marker) != 0) {
        atomic_fetch_add(&c->wrong, 1);
        print_error("%s got the answer of %s\n", marker, pqr_text(res, 0, 0));
    }
    atomic_fetch_add(&c->done, 1);
}

static void unit_ends(void *arg, const pqr_done *done)
{
    struct unit *u = arg;
    strays += !dispatching;
    check_marker(u->crowd, u->marker, done->err->code, done->err, done->res);
    pqr_result_free(done->res);
    pqr_session_close(u->s);
    --*u->in_flight;
    unit_begins(u);
}

static pqr_session *session_of(struct crowd *c, const char *tenant)
{
    pqr_session *s = NULL;
    pqr_session_open(c->db, PQR_SESSION(.tenant = tenant, .deadline_ms = c->faults ? 3000 : 120000),
                     &s, NULL);
    return s;
}

/* The next call of this unit, if there is one left. */
static void unit_begins(struct unit *u)
{
    static _Atomic long number;
    if (atomic_fetch_sub(&u->crowd->calls_left, 1) <= 0)
        return;
    long n = atomic_fetch_add(&number, 1);
    snprintf(u->tenant, sizeof u->tenant, "tenant%ld", n % 7);
    snprintf(u->marker, sizeof u->marker, "%s:%ld", u->tenant, n);
    u->s = session_of(u->crowd, u->tenant);
    const pqr_query *read = PQR_QUERY(.sql = "select $1::text", PQR_PARAMS(PQR_TEXT(u->marker)));
    const pqr_query *write = PQR_QUERY(.sql = "insert into looped values ($1) returning body",
                                       PQR_PARAMS(PQR_TEXT(u->marker)));
    ++*u->in_flight;
    int code = n % 4 == 0 ? pqr_submit_write(u->loop, u->s, write, unit_ends, u, NULL, NULL)
                          : pqr_submit_read(u->loop, u->s, read, unit_ends, u, NULL, NULL);
    if (code != PQR_OK) {
        --*u->in_flight;
        atomic_fetch_add(&u->crowd->wrong, 1);
        pqr_session_close(u->s);
    }
}

enum { UNITS = 32 };

static void *loop_thread(void *arg)
{
    struct crowd *c = arg;
    struct unit units[UNITS];
    int in_flight = 0;
    pqr_loop *loop = NULL;
    strays = 0;
    if (pqr_loop_open(c->db, &loop, NULL) != PQR_OK) {
        atomic_fetch_add(&c->wrong, 1);
        return NULL;
    }
    for (int i = 0; i < UNITS; i++) {
        units[i] = (struct unit){.crowd = c, .loop = loop, .in_flight = &in_flight};
        unit_begins(&units[i]);
    }
    while (in_flight > 0 && readable(loop, PATIENCE_MS))
        dispatch(loop, 0);
    atomic_fetch_add(&c->wrong, in_flight + strays);
    close_loop(loop);
    return NULL;
}

static void *blocking_thread(void *arg)
{
    struct crowd *c = arg;
    for (long n; (n = atomic_fetch_sub(&c->calls_left, 1)) > 0;) {
        char marker[64], tenant[16];
        pqr_error err;
        pqr_result *res = NULL;
        snprintf(tenant, sizeof tenant, "tenant%ld", n % 7);
        snprintf(marker, sizeof marker, "%s-%ld", tenant, n);
        pqr_session *s = session_of(c, tenant);
        const pqr_query *q = PQR_QUERY(.sql = "select $1::text", PQR_PARAMS(PQR_TEXT(marker)));
        int code = n % 4 == 0 ? pqr_write(s, q, &res, &err) : pqr_read(s, q, &res, &err);
        check_marker(c, marker, code, &err, res);
        pqr_result_free(res);
        pqr_session_close(s);
    }
    return NULL;
}

static void begin_crowd(struct crowd *c, pthread_t *threads, int loops, int blocking)
{
    for (int i = 0; i < loops + blocking; i++)
        pthread_create(&threads[i], NULL, i < loops ? loop_thread : blocking_thread, c);
}

static void end_crowd(struct crowd *c, pthread_t *threads, int n, long calls)
{
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(c->done, calls);
    assert_int_equal(c->wrong, 0);
}

static void loops_and_blocking_threads_share_a_router(void **state)
{
    (void)state;
    enum { LOOPS = 4, BLOCKING = 16 };
    pthread_t threads[LOOPS + BLOCKING];
    long calls = live_slow_build() ? 4000 : 20000;
    struct crowd c = {.db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms", "DB_POOL_TIMEOUT=60"),
                      .calls_left = calls};
    begin_crowd(&c, threads, LOOPS, BLOCKING);
    end_crowd(&c, threads, LOOPS + BLOCKING, calls);
    assert_int_equal(c.failed, 0);
    pqr_close(c.db, 0);
}

static long most_connections(const char *name)
{
    static const char *const nodes[] = {P, R1, R2};
    long most = 0;
    for (int i = 0; i < 3; i++) {
        long n = ask_number(nodes[i],
                            "select count(*) from pg_stat_activity where application_name = '%s' "
                            "and backend_type = 'client backend'",
                            name);
        most = n > most ? n : most;
    }
    return most;
}

static void loops_keep_to_few_connections(void **state)
{
    (void)state;
    for (int limit = 1; limit <= 3; limit++) {
        enum { LOOPS = 8 }; /* more than connections */
        pthread_t threads[LOOPS + 2];
        char setting[40];
        long calls = 1200, most = 0;
        snprintf(setting, sizeof setting, "DB_CONNECTION_LIMIT=%d", limit);
        struct crowd c = {
            .db = READY_ROUTER(setting, "DB_POOL_TIMEOUT=60", "DB_APPLICATION_NAME=few"),
            .calls_left = calls};
        begin_crowd(&c, threads, LOOPS, 2);
        while (c.done < calls / 2) {
            long n = most_connections("few");
            most = n > most ? n : most;
        }
        end_crowd(&c, threads, LOOPS + 2, calls);
        assert_int_equal(c.failed, 0);
        assert_in_range(most, 0, limit);
        pqr_close(c.db, 0);
        EVENTUALLY(20000, most_connections("few") == 0);
    }
}

static void loops_that_rest_do_not_keep_others_from_working(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_CONNECTION_LIMIT=3", "DB_HEALTH_INTERVAL=100ms");
    enum { LOOPS = 10 };
    pqr_loop *loops[LOOPS];
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < LOOPS; i++) {
            struct end r = {0}, w = {0};
            if (round == 0)
                loops[i] = open_loop(t.db);
            submit_read(loops[i], t.s, "select 'r'", &r, NULL);
            submit_write(loops[i], t.s, "select 'w'", &w, NULL);
            ENDS(loops[i], PQR_OK, &r);
            ENDS(loops[i], PQR_OK, &w);
            text_is(&r, "r");
            text_is(&w, "w");
        }
    for (int i = 0; i < LOOPS; i++)
        close_loop(loops[i]);
    leave(&t);
}

/* ---- Servers that fail ----------------------------------------------------------------------- */

static void crowd_goes_on(struct crowd *c, long more)
{
    long before = c->done;
    EVENTUALLY(PATIENCE_MS, c->done > before + more);
}

static void loops_outlive_their_servers(void **state)
{
    (void)state;
    enum { LOOPS = 2, BLOCKING = 4 };
    pthread_t threads[LOOPS + BLOCKING];
    struct crowd c = {
        .db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms"), .calls_left = INT32_MAX, .faults = true};
    begin_crowd(&c, threads, LOOPS, BLOCKING);
    crowd_goes_on(&c, 200);
    fleet("kill " R1);
    crowd_goes_on(&c, 200);
    fleet("start " R1);
    fleet("stop " R2); /* frozen: its calls end by their deadlines */
    crowd_goes_on(&c, 50);
    fleet("cont " R2);
    fleet("restart " P);
    crowd_goes_on(&c, 200);
    fleet("kill " P);
    live_sleep_ms(300);
    fleet("start " P);
    EVENTUALLY(PATIENCE_MS, serves_reads(c.db, R1) && serves_reads(c.db, R2));
    crowd_goes_on(&c, 200);
    atomic_store(&c.calls_left, 0);
    for (int i = 0; i < LOOPS + BLOCKING; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(c.wrong, 0);
    c.faults = false;
    c.failed = 0;
    long before = c.done;
    c.calls_left = 200;
    begin_crowd(&c, threads, LOOPS, BLOCKING);
    end_crowd(&c, threads, LOOPS + BLOCKING, before + 200);
    assert_int_equal(c.failed, 0); /* as if nothing had been */
    pqr_close(c.db, 0);
}

static void a_read_whose_server_dies_is_run_again_elsewhere(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    EVENTUALLY(10000, serves_reads(t.db, R1) && serves_reads(t.db, R2));
    enum { N = 10 };
    struct end e[N] = {{0}};
    pqr_session *s[N];
    for (int i = 0; i < N; i++) {
        s[i] = live_session(t.db, "acme");
        submit_read(t.loop, s[i], "select pg_sleep(1.5), 'survivor'", &e[i], NULL);
    }
    for (int64_t until = live_now_ms() + 700; live_now_ms() < until;) {
        readable(t.loop, 20);
        dispatch(t.loop, 0);
    }
    fleet("kill " R1);
    for (int i = 0; i < N; i++) {
        ENDS(t.loop, PQR_OK, &e[i]);
        assert_string_equal(pqr_text(e[i].res, 0, 1), "survivor");
        pqr_result_free(e[i].res);
        pqr_session_close(s[i]);
    }
    fleet("start " R1);
    EVENTUALLY(PATIENCE_MS, serves_reads(t.db, R1));
    leave(&t);
}

static void a_write_whose_server_dies_is_unknown_and_in_a_transaction_lost(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    struct end w = {0}, x = {0};
    pqr_tx *tx = begin(&t, NULL);
    submit_write(t.loop, t.s, "select pg_sleep(600), 'dies'", &w, NULL);
    OK(pqr_submit_exec(t.loop, tx, PQR_QUERY(.sql = "select pg_sleep(600), 'dies'"), note, &x, NULL,
                       &live_error));
    MEANWHILE(t.loop, active("select pg_sleep(600), ''dies''") == 2);
    fleet("kill " P);
    ENDS(t.loop, PQR_E_UNKNOWN, &w);
    ENDS(t.loop, PQR_E_LOST, &x);
    FAILS(PQR_E_ROLLED_BACK, pqr_submit_exec(t.loop, tx, PQR_QUERY(.sql = "select 1"), never, NULL,
                                             NULL, &live_error));
    struct end r = {0};
    OK(pqr_submit_rollback(t.loop, tx, note, &r, NULL, &live_error));
    ENDS(t.loop, PQR_OK, &r);
    fleet("start " P);
    OK(pqr_ready(t.db, PATIENCE_MS, &live_error));
    leave(&t);
}

/* ---- Fork and closing ------------------------------------------------------------------------ */

static int child_of(struct stage *t)
{
    pqr_error err;
    if (pqr_submit_read(t->loop, t->s, PQR_QUERY(.sql = "select 1"), never, NULL, NULL, &err) !=
        PQR_E_FORKED)
        return 1;
    if (pqr_loop_dispatch(t->loop, 0) != PQR_E_FORKED)
        return 2;
    pqr_loop *own = NULL;
    if (pqr_loop_open(t->db, &own, &err) != PQR_E_FORKED)
        return 3;
    pqr_session_close(t->s);
    pqr_loop_close(t->loop);
    pqr_close(t->db, 0);
    return none_ran > 0 ? 4 : 0;
}

static void a_child_of_fork_is_refused_and_may_close_what_it_inherited(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    /* One that has not written: it reads on the replica, and leaves the primary's connection alone. */
    pqr_session *reader = live_session(t.db, "reader");
    struct end warm = {0}, pid = {0}, slow = {0}, after = {0};
    submit_write(t.loop, t.s, "select pg_backend_pid()", &pid, NULL);
    submit_read(t.loop, reader, "select 1", &warm, NULL);
    ENDS(t.loop, PQR_OK, &pid);
    ENDS(t.loop, PQR_OK, &warm);
    text_is(&warm, "1");
    submit_read(t.loop, reader, "select pg_sleep(0.5), 'slow'", &slow, NULL);
    dispatch(t.loop, 0);
    none_ran = 0;
    pid_t child = fork();
    if (child == 0)
        _exit(child_of(&t));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    ENDS(t.loop, PQR_OK, &slow); /* what the parent had in flight is its own */
    pqr_result_free(slow.res);
    submit_write(t.loop, t.s, "select pg_backend_pid()", &after, NULL);
    ENDS(t.loop, PQR_OK, &after);
    assert_string_equal(pqr_text(after.res, 0, 0), pqr_text(pid.res, 0, 0));
    pqr_result_free(after.res);
    pqr_result_free(pid.res);
    pqr_session_close(reader);
    leave(&t);
}

/* How often the loop's descriptor is ready in that time. */
static int wakes_in(pqr_loop *loop, int ms)
{
    int wakes = 0;
    int64_t until = live_now_ms() + ms;
    struct pollfd p = {.fd = pqr_loop_fd(loop), .events = POLLIN};
    for (int64_t now; (now = live_now_ms()) < until; pqr_loop_dispatch(loop, 0))
        wakes += poll(&p, 1, (int)(until - now)) > 0;
    return wakes;
}

static bool sleeps_on(const char *node)
{
    return ask_number(node, "select count(*) from pg_stat_activity where state = 'active'"
                            " and query like '%%cut off%%' and pid <> pg_backend_pid()") == 1;
}

/* What the child holds open is closed here, and its end is seen once. */
static void a_child_that_lives_leaves_no_event_in_the_loop(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_LANES=1", "DB_READ_PREFERENCE=replica");
    struct end slow = {0}, after = {0};
    submit_read(t.loop, t.s, "select pg_sleep(60), 'cut off'", &slow, NULL);
    EVENTUALLY(10000, (dispatch(t.loop, 0), sleeps_on(R1) || sleeps_on(R2)));
    pid_t child = fork();
    if (child == 0) {
        sleep(60);
        _exit(0);
    }
    const char *node = sleeps_on(R1) ? R1 : R2;
    fleet("kill %s", node);
    fleet("start %s", node);
    EVENTUALLY(10000, (dispatch(t.loop, 0), serves_reads(t.db, node)));
    wakes_in(t.loop, 500);
    assert_in_range(wakes_in(t.loop, 500), 0, 50);
    submit_read(t.loop, t.s, "select 1", &after, NULL);
    ENDS(t.loop, PQR_OK, &after);
    pqr_result_free(after.res);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    leave(&t);
}

struct closing {
    pqr *db;
    _Atomic bool closed;
};

static void *close_elsewhere(void *arg)
{
    struct closing *c = arg;
    pqr_close(c->db, 200);
    atomic_store(&c->closed, true);
    return NULL;
}

static void closing_the_router_elsewhere_ends_the_calls_of_a_loop_that_dispatches(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms");
    struct end r = {0}, w = {0}, x = {0}, c = {0};
    struct closing closing = {.db = t.db};
    pthread_t thread;
    pqr_tx *tx = begin(&t, NULL);
    struct counting work;
    kept_work(&t, &work);
    submit_read(t.loop, t.s, "select pg_sleep(600)", &r, NULL);
    submit_write(t.loop, t.s, "select pg_sleep(600), 'closed'", &w, NULL);
    OK(pqr_submit_exec(t.loop, tx, PQR_QUERY(.sql = "select pg_sleep(600), 'closed'"), note, &x,
                       NULL, &live_error));
    MEANWHILE(t.loop, active("select pg_sleep(600), ''closed''") == 2);
    pthread_create(&thread, NULL, close_elsewhere, &closing);
    MEANWHILE(t.loop, closing.closed);
    pthread_join(thread, NULL);
    dispatch(t.loop, 0);
    assert_int_equal(r.times + w.times + x.times, 3);
    assert_int_equal(r.err.code, PQR_E_CLOSED);
    assert_int_equal(w.err.code, PQR_E_UNKNOWN);
    assert_true(x.err.code == PQR_E_CLOSED || x.err.code == PQR_E_LOST);
    none_ran = 0;
    FAILS(PQR_E_CLOSED, pqr_submit_read(t.loop, t.s, PQR_QUERY(.sql = "select 1"), never, NULL,
                                        NULL, &live_error));
    FAILS(PQR_E_CLOSED, pqr_submit_commit(t.loop, tx, note, &c, NULL, &live_error)); /* ends it */
    pqr_work_done(work.tx, NULL);
    assert_int_equal(work.e.times, 0);
    ENDS(t.loop, PQR_E_CLOSED, &work.e);
    assert_int_equal(c.times + none_ran, 0);
    pqr_session_close(t.s);
    close_loop(t.loop);
    assert_int_equal(strays, 0);
}

static void a_loop_may_be_closed_after_its_router(void **state)
{
    (void)state;
    struct stage t = STAGE("DB_HEALTH_INTERVAL=100ms", "DB_APPLICATION_NAME=outlives");
    struct end r = {0};
    submit_read(t.loop, t.s, "select 1", &r, NULL);
    ENDS(t.loop, PQR_OK, &r);
    text_is(&r, "1");
    pqr_close(t.db, 0);
    assert_int_equal(dispatch(t.loop, 0), 0);
    close_loop(t.loop);
    pqr_session_close(t.s);
    EVENTUALLY(20000, most_connections("outlives") == 0);
}

static int create(void **state)
{
    (void)state;
    ask(P, "create table looped(body text)");
    ask(P, "create table counter as select 0 as n");
    ask(P, "grant all on looped, counter to public");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_writes_are_answered),
        cmocka_unit_test(a_batch_is_answered_as_a_whole),
        cmocka_unit_test(an_error_comes_whole),
        cmocka_unit_test(a_transaction_is_committed_or_rolled_back),
        cmocka_unit_test(a_connection_is_lent_and_given_back),
        cmocka_unit_test(ready_tells_when_there_is_a_primary),
        cmocka_unit_test(what_the_arguments_point_at_may_go_at_once),
        cmocka_unit_test(misuse_is_told_and_calls_nothing_back),
        cmocka_unit_test(callbacks_run_in_dispatch_only_and_once_each),
        cmocka_unit_test(max_bounds_the_callbacks_and_the_rest_is_told),
        cmocka_unit_test(large_answers_are_read_to_their_end_by_edges_too),
        cmocka_unit_test(what_a_dispatch_leaves_over_it_tells_at_once),
        cmocka_unit_test(callbacks_submit_and_close_sessions),
        cmocka_unit_test(a_deadline_makes_the_descriptor_readable_by_itself),
        cmocka_unit_test(an_idle_loop_is_left_alone),
        cmocka_unit_test(a_call_cancelled_before_it_was_sent_is_not_sent),
        cmocka_unit_test(
            a_call_cancelled_in_the_queue_leaves_it_and_what_it_was_granted_comes_back),
        cmocka_unit_test(a_call_that_connects_to_a_black_hole_is_cancelled_at_once),
        cmocka_unit_test(a_call_cancelled_while_it_runs_is_honest_about_it),
        cmocka_unit_test(a_call_cancelled_after_its_answer_came_has_that_answer),
        cmocka_unit_test(closing_a_loop_ends_what_is_in_flight),
        cmocka_unit_test(a_loop_that_is_closing_takes_no_more_calls),
        cmocka_unit_test(a_transaction_has_one_call_at_a_time),
        cmocka_unit_test(a_rollback_cuts_off_the_call_that_is_in_flight),
        cmocka_unit_test(a_session_closed_early_ends_with_its_last_call),
        cmocka_unit_test(a_work_is_run_again_after_a_serialization_failure),
        cmocka_unit_test(a_work_that_fails_is_rolled_back_and_ends_with_its_error),
        cmocka_unit_test(a_work_may_be_done_outside_of_callbacks_and_is_ended_by_nothing_else),
        cmocka_unit_test(a_work_done_with_a_call_in_flight_is_rolled_back),
        cmocka_unit_test(a_work_that_is_in_hand_ends_with_its_loop),
        cmocka_unit_test(loops_and_blocking_threads_share_a_router),
        cmocka_unit_test(loops_keep_to_few_connections),
        cmocka_unit_test(loops_that_rest_do_not_keep_others_from_working),
        cmocka_unit_test(loops_outlive_their_servers),
        cmocka_unit_test(a_read_whose_server_dies_is_run_again_elsewhere),
        cmocka_unit_test(a_write_whose_server_dies_is_unknown_and_in_a_transaction_lost),
        cmocka_unit_test(a_child_that_lives_leaves_no_event_in_the_loop),
        cmocka_unit_test(a_child_of_fork_is_refused_and_may_close_what_it_inherited),
        cmocka_unit_test(closing_the_router_elsewhere_ends_the_calls_of_a_loop_that_dispatches),
        cmocka_unit_test(a_loop_may_be_closed_after_its_router),
    };
    return cmocka_run_group_tests(tests, create, NULL);
}
