/* Every wait ends by its deadline, whatever is swallowed, and in every phase of a call: name, connect, TLS, login,
 * queue, run. A table of phases, and what waits in each: blocking and on a loop, reads, writes, transactions.
 * Fleet: one shard, no replica, TLS.
 *
 * How late is late? The machine may be busy: so somebody sleeps beside the calls, in short steps, with a
 * millisecond's work between them, and as late as he is they may be, too; and 120 ms more at most. Where that is
 * not so the phase is gone through again, twice at most: what the machine did once it does not do thrice. */
#include "live.h"
#include "names.h"
#include "proxies.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define P "shard0/primary"
#define LATE_MS 120
#define TIME_MS 200     /* of each call */
#define ENOUGH_MS 60000 /* of those that must not end by themselves */

/* ---- Time, and who sleeps beside ---------------------------------------------------------------- */

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static struct {
    pthread_t thread;
    _Atomic bool stop;
    _Atomic int late_us; /* the most since it was set to 0 */
} sleeper;

static int64_t worked_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void *sleep_on(void *arg)
{
    while (!atomic_load(&sleeper.stop)) {
        int64_t until = now_us() + 9000;
        struct timespec t = {until / 1000000, until % 1000000 * 1000};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
            ;
        until += 1000;
        for (int64_t begun = worked_us(); worked_us() - begun < 1000;)
            ;
        int late = (int)(now_us() - until), most = atomic_load(&sleeper.late_us);
        if (late > most)
            atomic_store(&sleeper.late_us, late);
    }
    return arg;
}

static int threads(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* ---- What waits ----------------------------------------------------------------------------------- */

enum kind { READ, OWN_READ, BATCH, WRITE, BEGIN, LEND, READY, EXEC, COMMIT, ROLLBACK, KINDS };
static const char *const kind_names[KINDS] = {
    "read", "read on its own", "batch", "write",  "begin",
    "lend", "ready",           "exec",  "commit", "rollback"};

struct wait {
    pqr *db;
    enum kind kind;
    bool on_loop;
    pqr_session *s;
    pqr_tx *tx; /* begun before; BEGIN: if it was, after all */
    struct pg_conn *conn;
    int64_t time_ms, begun_us;
    int late_us, times, code;
    char text[300];
    pqr_call *call;
};

#define SLOW_SQL "select pg_sleep(0.06)" /* known to be slow: it takes a connection of its own */

static void over(struct wait *w, const pqr_error *err)
{
    w->late_us = (int)(now_us() - w->begun_us - w->time_ms * 1000);
    w->times++;
    w->code = err->code;
    snprintf(w->text, sizeof w->text, "%.290s", err->message);
}

static void *block(void *arg)
{
    struct wait *w = arg;
    pqr_error err = {0};
    pqr_result *res[2] = {0};
    const pqr_query *both[] = {PQR_QUERY(.sql = "select 1"), PQR_QUERY(.sql = "select 2")};
    w->begun_us = now_us();
    switch (w->kind) {
    case READ:
        pqr_read(w->s, PQR_QUERY(.sql = "select 1"), NULL, &err);
        break;
    case OWN_READ:
        pqr_read(w->s, PQR_QUERY(.sql = SLOW_SQL), NULL, &err);
        break;
    case BATCH:
        pqr_read_batch(w->s, both, 2, res, &err);
        break;
    case WRITE:
        pqr_write(w->s, PQR_QUERY(.sql = "select 1"), NULL, &err);
        break;
    case BEGIN:
        pqr_begin(w->s, NULL, &w->tx, &err);
        break;
    case LEND:
        pqr_lend(w->s, PQR_LEND_READ, &w->conn, &err);
        break;
    case READY:
        pqr_ready(w->db, w->time_ms, &err);
        break;
    case EXEC:
        pqr_exec(w->tx, PQR_QUERY(.sql = "select 1", .deadline_ms = w->time_ms), NULL, &err);
        break;
    case COMMIT:
        pqr_commit(w->tx, &err);
        w->tx = NULL;
        break;
    default:
        pqr_rollback(w->tx);
        w->tx = NULL;
        break;
    }
    over(w, &err);
    pqr_result_free(res[0]);
    pqr_result_free(res[1]);
    return NULL;
}

static void on_done(void *arg, const pqr_done *done)
{
    struct wait *w = arg;
    over(w, done->err);
    pqr_result_free(done->res);
    for (size_t i = 0; done->batch && i < done->n; i++)
        pqr_result_free(done->batch[i]);
    w->tx = done->tx ? done->tx : w->tx;
    w->conn = done->conn;
}

static void submit(pqr_loop *l, struct wait *w)
{
    const pqr_query *both[] = {PQR_QUERY(.sql = "select 1"), PQR_QUERY(.sql = "select 2")};
    const pqr_query *q = PQR_QUERY(.sql = w->kind == OWN_READ ? SLOW_SQL : "select 1",
                                   .deadline_ms = w->time_ms);
    w->begun_us = now_us();
    switch (w->kind) {
    case READ:
    case OWN_READ:
        OK(pqr_submit_read(l, w->s, q, on_done, w, &w->call, &live_error));
        break;
    case BATCH:
        OK(pqr_submit_read_batch(l, w->s, both, 2, on_done, w, &w->call, &live_error));
        break;
    case WRITE:
        OK(pqr_submit_write(l, w->s, q, on_done, w, &w->call, &live_error));
        break;
    case BEGIN:
        OK(pqr_submit_begin(l, w->s, NULL, on_done, w, &w->call, &live_error));
        break;
    case LEND:
        OK(pqr_submit_lend(l, w->s, PQR_LEND_READ, on_done, w, &w->call, &live_error));
        break;
    case READY:
        OK(pqr_submit_ready(l, w->time_ms, on_done, w, &live_error));
        break;
    case EXEC:
        OK(pqr_submit_exec(l, w->tx, q, on_done, w, &w->call, &live_error));
        break;
    case COMMIT:
        OK(pqr_submit_commit(l, w->tx, on_done, w, NULL, &live_error));
        w->tx = NULL;
        break;
    default:
        OK(pqr_submit_rollback(l, w->tx, on_done, w, NULL, &live_error));
        w->tx = NULL;
        break;
    }
}

/* Until none waits, or for so long. */
static void dispatch(pqr_loop *l, struct wait *w, int n, int64_t us)
{
    int64_t until = now_us() + us;
    for (int left = 1; left > 0 && now_us() < until;) {
        struct pollfd p = {.fd = pqr_loop_fd(l), .events = POLLIN};
        poll(&p, 1, (int)((until - now_us()) / 1000) + 1);
        pqr_loop_dispatch(l, 0);
        left = 0;
        for (int i = 0; i < n; i++)
            left += w[i].on_loop && w[i].times == 0;
    }
}

/* ---- What must hold ---------------------------------------------------------------------------------- */

/* How far a call may have come. */
enum far { NOT_SENT, SENT, ANSWERED };

/* What the call may end with. Without a connection nothing was sent: then a write did not happen. */
static bool is_right(const struct wait *w, enum far far)
{
    if (far == ANSWERED && w->code == PQR_OK)
        return true;
    switch (w->kind) {
    case READY:
        return w->code == PQR_E_NO_PRIMARY || w->code == PQR_E_CONNECT || w->code == PQR_E_DEADLINE;
    case WRITE:
    case COMMIT:
        return w->code == PQR_E_DEADLINE || (far != NOT_SENT && w->code == PQR_E_UNKNOWN);
    case EXEC:
        return w->code == PQR_E_DEADLINE || w->code == PQR_E_LOST;
    case ROLLBACK:
        return w->code == PQR_OK;
    default:
        return w->code == PQR_E_DEADLINE;
    }
}

/* Fails unless each has ended as it should. false: one was late. */
static bool judge(const char *phase, const struct wait *w, int n, enum far far)
{
    int worst = INT32_MIN, slept = atomic_load(&sleeper.late_us), bad = 0, lates = 0;
    char codes[200] = "";
    for (int i = 0; i < n; i++) {
        const char *code = pqr_code_name(w[i].code);
        worst = w[i].late_us > worst ? w[i].late_us : worst;
        if (!strstr(codes, code) && strlen(codes) < 150)
            sprintf(codes + strlen(codes), " %s", code);
        bool wrong = w[i].times != 1 || !is_right(&w[i], far), early = w[i].late_us < 0;
        bool late = w[i].late_us > slept + LATE_MS * 1000;
        early &= w[i].code == PQR_E_DEADLINE;
        bad += wrong || early;
        lates += late;
        if (wrong || late || early)
            print_error("%s, %s%s: ended %d times, with %s, %.1f ms behind its time: %s\n", phase,
                        kind_names[w[i].kind], w[i].on_loop ? " on a loop" : "", w[i].times, code,
                        w[i].late_us / 1000.0, w[i].text);
    }
    print_message(
        "%-36s %2d waits, at most %5.1f ms behind their time (who slept beside: %5.1f);%s\n", phase,
        n, worst / 1000.0, slept / 1000.0, codes);
    assert_int_equal(bad, 0);
    return lates == 0;
}

/* All at once: those that block have a thread each. */
static bool wait_all(const char *phase, struct wait *w, int n, enum far far)
{
    pthread_t thread[32];
    pqr_loop *loop;
    OK(pqr_loop_open(w[0].db, &loop, &live_error));
    atomic_store(&sleeper.late_us, 0);
    for (int i = 0; i < n; i++)
        if (w[i].on_loop)
            submit(loop, &w[i]);
        else
            assert_int_equal(pthread_create(&thread[i], NULL, block, &w[i]), 0);
    dispatch(loop, w, n, ENOUGH_MS * 1000);
    for (int i = 0; i < n; i++)
        if (!w[i].on_loop)
            pthread_join(thread[i], NULL);
    pqr_loop_dispatch(loop, 0); /* none ends twice */
    bool in_time = judge(phase, w, n, far);
    pqr_loop_close(loop);
    return in_time;
}

#define IN_TIME(phase)                   \
    do {                                 \
        int tries_ = 3;                  \
        while (!(phase) && --tries_ > 0) \
            ;                            \
        assert_true(tries_ > 0);         \
    } while (0)

static pqr_session *session(pqr *db, int64_t time_ms)
{
    pqr_session *s;
    OK(pqr_session_open(db, PQR_SESSION(.tenant = "acme", .deadline_ms = time_ms), &s,
                        &live_error));
    return s;
}

static struct wait wait_for(pqr *db, enum kind kind, bool on_loop)
{
    int64_t time_ms = kind == ROLLBACK ? 100 : TIME_MS;
    return (struct wait){
        .db = db, .kind = kind, .on_loop = on_loop, .time_ms = time_ms, .s = session(db, TIME_MS)};
}

/* Each of these kinds, blocking and on a loop. */
static int all_of(pqr *db, struct wait *w, enum kind first, enum kind last)
{
    int n = 0;
    for (int kind = (int)first; kind <= (int)last; kind++)
        for (int on_loop = 0; on_loop < 2; on_loop++)
            w[n++] = wait_for(db, (enum kind)kind, on_loop);
    return n;
}

static void done_with(struct wait *w, int n)
{
    for (int i = 0; i < n; i++) {
        pqr_rollback(w[i].tx);
        pqr_give_back(w[i].s, w[i].conn);
        pqr_session_close(w[i].s);
    }
}

/* ---- The phases --------------------------------------------------------------------------------------- */

static struct proxy proxy;

static void tell(const char *order)
{
    proxy_tell(&proxy, "%s", order);
    proxy_number(&proxy);
}

/* Of a router that was not used before: each call needs a new one. */
static bool needs_a_connection(const char *phase, const char *lanes, const char *order,
                               enum far far)
{
    struct wait w[16];
    char name[64];
    pqr *db = READY_ROUTER(proxy.url, lanes, "DB_HEALTH_INTERVAL=60");
    int n = all_of(db, w, READ, live_slow_build() ? READ : LEND);
    if (live_slow_build()) /* there a login takes all of a processor for long */
        n += all_of(db, w + n, WRITE, WRITE);
    snprintf(name, sizeof name, "%s, %s", phase, lanes);
    tell(order);
    bool in_time = wait_all(name, w, n, far);
    tell("heal");
    done_with(w, n);
    pqr_close(db, 0);
    return in_time;
}

static void on_lanes_and_without(const char *phase, const char *order, enum far far)
{
    IN_TIME(needs_a_connection(phase, "DB_LANES=3", order, far));
    IN_TIME(needs_a_connection(phase, "DB_LANES=0", order, far));
}

static void none_waits_longer_whatever_of_connecting_is_swallowed(void **state)
{
    (void)state;
    on_lanes_and_without("connect", "deaf", NOT_SENT);
    for (int i = 1; i <= 8; i++) { /* TLS, login, who it is, settings, the statement */
        char phase[40], order[16];
        snprintf(phase, sizeof phase, "message %d of a connection", i);
        snprintf(order, sizeof order, "hole %d", i);
        on_lanes_and_without(phase, order, i < 6 ? NOT_SENT : ANSWERED);
    }
}

/* Its look-up ends when the resolver lets it. */
static bool name(void)
{
    char url[600];
    const char *at = strchr(proxy.url, '@') + 1, *port = strchr(at, ':');
    snprintf(url, sizeof url, "%.*s" SEVERAL "%.*s/app?sslmode=disable", (int)(at - proxy.url),
             proxy.url, (int)strcspn(port, "/"), port);
    RESOLVES_TO("127.0.0.1");
    pqr *db = READY_ROUTER(url, "DB_HEALTH_INTERVAL=60");
    struct wait w[16];
    int n = all_of(db, w, READ, LEND);
    names_hold();
    bool in_time = wait_all("name", w, n, NOT_SENT);
    names_go_on();
    done_with(w, n);
    pqr_close(db, 0);
    return in_time;
}

static void none_waits_longer_for_a_name(void **state)
{
    (void)state;
    IN_TIME(name());
}

static bool first_look(void)
{
    struct wait w[16];
    tell("hole 0");
    pqr *db = ROUTER(proxy.url);
    int n = all_of(db, w, READ, READY);
    bool in_time = wait_all("first look", w, n, NOT_SENT);
    tell("heal");
    done_with(w, n);
    pqr_close(db, 0);
    return in_time;
}

static void none_waits_longer_for_what_is_known_of_the_servers(void **state)
{
    (void)state;
    IN_TIME(first_look());
}

/* Its statements have the session's deadline. */
static pqr_tx *begin(pqr_session *s)
{
    pqr_tx *tx = NULL;
    int64_t until = live_now_ms() + ENOUGH_MS;
    while (pqr_begin(s, NULL, &tx, &live_error) != PQR_OK && live_now_ms() < until)
        ;
    assert_non_null(tx);
    OK(pqr_exec(tx, PQR_QUERY(.sql = "select 1", .deadline_ms = ENOUGH_MS), NULL, &live_error));
    return tx;
}

static bool queue(void)
{
    struct wait w[16];
    pqr *db = READY_ROUTER(proxy.url, "DB_CONNECTION_LIMIT=3", "DB_LANES=0");
    pqr_session *s = session(db, ENOUGH_MS);
    pqr_tx *tx[] = {begin(s), begin(s)};
    int n = all_of(db, w, READ, LEND);
    bool in_time = wait_all("queue", w, n, NOT_SENT);
    pqr_rollback(tx[0]);
    pqr_rollback(tx[1]);
    pqr_session_close(s);
    done_with(w, n);
    pqr_close(db, 0);
    return in_time;
}

static void none_waits_longer_in_a_queue(void **state)
{
    (void)state;
    IN_TIME(queue());
}

/* Everything is connected, and has been used: what comes goes out at once. */
static pqr *warm(const char *lanes, struct wait *w, int *n)
{
    pqr *db = READY_ROUTER(proxy.url, lanes, "DB_CONNECTION_LIMIT=30", "DB_HEALTH_INTERVAL=60");
    pqr_session *s = session(db, ENOUGH_MS);
    pqr_tx *tx[10];
    for (int i = 0; i < 10; i++)
        tx[i] = begin(s);
    for (int i = 0; i < 10; i++)
        OK(pqr_commit(tx[i], &live_error));
    for (int i = 0; i < 20; i++)
        OK(pqr_read(s, PQR_QUERY(.sql = i > 1 ? "select 1" : SLOW_SQL), NULL, &live_error));
    *n = all_of(db, w, READ, LEND);
    *n += all_of(db, w + *n, EXEC, ROLLBACK);
    for (int i = 0; i < *n; i++)
        if (w[i].kind >= EXEC)
            w[i].tx = begin(w[i].s);
    pqr_session_close(s);
    return db;
}

static bool answer(const char *lanes)
{
    struct wait w[32];
    char phase[40];
    int n;
    pqr *db = warm(lanes, w, &n);
    snprintf(phase, sizeof phase, "run, %s", lanes);
    tell("hole 0");
    bool in_time = wait_all(phase, w, n, SENT);
    tell("heal");
    done_with(w, n);
    pqr_close(db, 0);
    return in_time;
}

static void none_waits_longer_for_an_answer(void **state)
{
    (void)state;
    IN_TIME(answer("DB_LANES=3"));
    IN_TIME(answer("DB_LANES=0"));
}

/* ---- Ends that others make ------------------------------------------------------------------------------ */

static void judge_end(const char *phase, struct wait *w, int n, int64_t from_us, int code)
{
    for (int i = 0; i < n; i++) {
        w[i].late_us += (int)(w[i].begun_us + w[i].time_ms * 1000 - from_us);
        bool sent = w[i].kind == WRITE && w[i].code == PQR_E_UNKNOWN;
        w[i].code = w[i].code == code || sent ? PQR_E_DEADLINE : w[i].code;
    }
    assert_true(judge(phase, w, n, SENT));
}

static void what_is_cancelled_ends_at_once(void **state)
{
    (void)state;
    struct wait w[32];
    int n, on_loop = 0;
    pqr_loop *loop;
    pqr *db = warm("DB_LANES=3", w, &n);
    OK(pqr_loop_open(db, &loop, &live_error));
    tell("hole 0");
    for (int i = 0; i < n; i++)
        if (w[i].on_loop && w[i].kind <= WRITE) {
            pqr_session_close(w[i].s);
            w[i].s = session(db, ENOUGH_MS);
            w[i].time_ms = ENOUGH_MS;
            submit(loop, &w[i]);
        }
    dispatch(loop, w, n, 50000);
    atomic_store(&sleeper.late_us, 0);
    int64_t from = now_us();
    struct wait cancelled[8];
    for (int i = 0; i < n; i++)
        if (w[i].on_loop && w[i].kind <= WRITE) {
            assert_int_equal(w[i].times, 0);
            pqr_cancel(w[i].call);
            dispatch(loop, &w[i], 1, ENOUGH_MS * 1000);
            cancelled[on_loop++] = w[i];
        }
    pqr_loop_dispatch(loop, 0);
    judge_end("cancel", cancelled, on_loop, from, PQR_E_CANCELLED);
    tell("heal");
    pqr_loop_close(loop);
    done_with(w, n);
    pqr_close(db, 0);
}

/* What is in flight ends with it, and it ends by its own time. */
static void closing_ends_by_its_time_whatever_is_in_flight(void **state)
{
    (void)state;
    enum { DRAIN_MS = 100 };
    struct wait w[32];
    int n, flying = 0;
    pthread_t thread[32];
    pqr *db = warm("DB_LANES=3", w, &n);
    for (int i = 0; i < n; i++) {
        pqr_rollback(w[i].tx);
        w[i].tx = NULL;
    }
    tell("hole 0");
    struct wait flight[8];
    for (int i = 0; i < n; i++)
        if (!w[i].on_loop && w[i].kind <= WRITE) {
            flight[flying] = w[i];
            flight[flying].s = session(db, ENOUGH_MS);
            flight[flying].time_ms = ENOUGH_MS;
            pthread_create(&thread[flying], NULL, block, &flight[flying]);
            flying++;
        }
    live_sleep_ms(50);
    done_with(w, n);
    atomic_store(&sleeper.late_us, 0);
    int64_t from = now_us();
    pqr_close(db, DRAIN_MS);
    int late = (int)(now_us() - from) - DRAIN_MS * 1000;
    for (int i = 0; i < flying; i++)
        pthread_join(thread[i], NULL);
    judge_end("close", flight, flying, from + DRAIN_MS * 1000, PQR_E_CLOSED);
    print_message("pqr_close itself: %.1f ms behind its time\n", late / 1000.0);
    assert_true(late <= atomic_load(&sleeper.late_us) + LATE_MS * 1000);
    for (int i = 0; i < flying; i++)
        pqr_session_close(flight[i].s);
    tell("heal");
}

/* ---- Threads --------------------------------------------------------------------------------------------- */

static int threads_before;

static void no_thread_is_left_behind(void **state)
{
    (void)state;
    print_message("threads: %d before, %d now\n", threads_before, threads());
    EVENTUALLY(10000, threads() == threads_before);
}

static int prepare(void **state)
{
    (void)state;
    proxy = proxy_begin("PROXY");
    pthread_create(&sleeper.thread, NULL, sleep_on, NULL);
    threads_before = threads();
    return 0;
}

static int finish(void **state)
{
    (void)state;
    atomic_store(&sleeper.stop, true);
    pthread_join(sleeper.thread, NULL);
    proxy_end(&proxy);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(none_waits_longer_whatever_of_connecting_is_swallowed),
        cmocka_unit_test(none_waits_longer_for_a_name),
        cmocka_unit_test(none_waits_longer_for_what_is_known_of_the_servers),
        cmocka_unit_test(none_waits_longer_in_a_queue),
        cmocka_unit_test(none_waits_longer_for_an_answer),
        cmocka_unit_test(what_is_cancelled_ends_at_once),
        cmocka_unit_test(closing_ends_by_its_time_whatever_is_in_flight),
        cmocka_unit_test(no_thread_is_left_behind),
    };
    return cmocka_run_group_tests(tests, prepare, finish);
}
