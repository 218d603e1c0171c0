/* The adapters to other people's event loops: attached, detached, attached again, and at rest.
 * Built once for each library that is there. Fleet: one shard, one replica. */
#include "live.h"

#include <stdio.h>

/* Counts what the adapter does. */
static int dispatches;
static int counted_dispatch(pqr_loop *loop, int max)
{
    dispatches++;
    return pqr_loop_dispatch(loop, max);
}
#define pqr_loop_dispatch counted_dispatch

#if defined(ADAPTER_UV)
#include <pqrouter/adapters/libuv.h>
typedef uv_loop_t base;
typedef uv_poll_t attachment;
#elif defined(ADAPTER_EVENT)
#include <pqrouter/adapters/libevent.h>
typedef struct event_base base;
typedef struct event attachment;
#else
#include <pqrouter/adapters/glib.h>
typedef GMainContext base;
typedef GSource attachment;
#endif

/* ---- The libraries, each in the same words --------------------------------------------------- */

#if defined(ADAPTER_UV)
#define attach pqr_uv_attach
#define detach pqr_uv_detach

static base *new_base(void)
{
    base *b = malloc(sizeof *b);
    assert_int_equal(uv_loop_init(b), 0);
    return b;
}

static void stop(uv_timer_t *timer)
{
    uv_stop(timer->loop);
    uv_close((uv_handle_t *)timer, NULL);
}

static void run(base *b, int ms)
{
    static uv_timer_t timer;
    uv_timer_init(b, &timer);
    uv_timer_start(&timer, stop, (uint64_t)ms, 0);
    uv_run(b, UV_RUN_DEFAULT);
    uv_run(b, UV_RUN_NOWAIT); /* what is closing ends */
}

static void free_base(base *b)
{
    assert_int_equal(uv_loop_close(b), 0); /* nothing is left on it */
    free(b);
}

#elif defined(ADAPTER_EVENT)
#define attach pqr_libevent_attach
#define detach pqr_libevent_detach

static base *new_base(void)
{
    return event_base_new();
}

static void run(base *b, int ms)
{
    const struct timeval t = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    event_base_loopexit(b, &t);
    event_base_dispatch(b);
}

static void free_base(base *b)
{
    event_base_free(b);
}

#else
#define attach pqr_glib_attach
#define detach pqr_glib_detach

static base *new_base(void)
{
    return g_main_context_new();
}

static gboolean stop(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

static void run(base *b, int ms)
{
    GMainLoop *loop = g_main_loop_new(b, FALSE);
    GSource *timer = g_timeout_source_new((guint)ms);
    g_source_set_callback(timer, stop, loop, NULL);
    g_source_attach(timer, b);
    g_main_loop_run(loop);
    g_source_unref(timer);
    g_main_loop_unref(loop);
}

static void free_base(base *b)
{
    g_main_context_unref(b);
}
#endif

/* ---- The tests ------------------------------------------------------------------------------- */

struct end {
    int times, code;
    attachment **detaches; /* in its callback */
};

static void note(void *arg, const pqr_done *done)
{
    struct end *e = arg;
    e->times++;
    e->code = done->err->code;
    pqr_result_free(done->res);
    if (e->detaches) {
        detach(*e->detaches);
        *e->detaches = NULL;
    }
}

struct stage {
    base *b;
    pqr *db;
    pqr_loop *loop;
    pqr_session *s;
    attachment *at;
};

static struct stage set_up(void)
{
    struct stage t = {.b = new_base(), .db = READY_ROUTER("DB_HEALTH_INTERVAL=100ms")};
    OK(pqr_loop_open(t.db, &t.loop, &live_error));
    t.s = live_session(t.db, "acme");
    t.at = attach(t.b, t.loop);
    assert_non_null(t.at);
    return t;
}

static void leave(struct stage *t)
{
    detach(t->at);
    run(t->b, 1);
    pqr_session_close(t->s);
    pqr_loop_close(t->loop);
    pqr_close(t->db, 0);
    free_base(t->b);
}

static void submit(struct stage *t, const char *sql, int64_t deadline_ms, struct end *e)
{
    OK(pqr_submit_read(t->loop, t->s, PQR_QUERY(.sql = sql, .deadline_ms = deadline_ms), note, e,
                       NULL, &live_error));
}

static void runs_to(struct stage *t, struct end *e, int code)
{
    for (int64_t until = live_now_ms() + 60000; e->times == 0 && live_now_ms() < until;)
        run(t->b, 5);
    assert_int_equal(e->times, 1);
    assert_int_equal(e->code, code);
}

static void calls_are_answered_and_deadlines_come(void **state)
{
    (void)state;
    struct stage t = set_up();
    struct end e[20] = {{0}}, late = {0};
    submit(&t, "select pg_sleep(600)", 200, &late);
    for (int i = 0; i < 20; i++)
        submit(&t, "select 1", 0, &e[i]);
    for (int i = 0; i < 20; i++)
        runs_to(&t, &e[i], PQR_OK);
    runs_to(&t, &late, PQR_E_DEADLINE);
    leave(&t);
}

static void what_is_detached_is_not_dispatched_until_it_is_attached_again(void **state)
{
    (void)state;
    struct stage t = set_up();
    for (int i = 0; i < 3; i++) {
        struct end e = {0};
        submit(&t, "select 1", 0, &e);
        detach(t.at);
        run(t.b, 1);
        int before = dispatches;
        run(t.b, 100);
        assert_int_equal(dispatches, before);
        assert_int_equal(e.times, 0);
        t.at = attach(t.b, t.loop);
        runs_to(&t, &e, PQR_OK);
    }
    leave(&t);
}

static void it_may_be_detached_in_a_callback(void **state)
{
    (void)state;
    struct stage t = set_up();
    struct end e = {.detaches = &t.at};
    submit(&t, "select 1", 0, &e);
    runs_to(&t, &e, PQR_OK);
    assert_null(t.at);
    leave(&t);
}

static void two_loops_share_a_base(void **state)
{
    (void)state;
    struct stage t = set_up(), other = t;
    struct end e = {0}, f = {0};
    OK(pqr_loop_open(t.db, &other.loop, &live_error));
    other.s = live_session(t.db, "acme");
    other.at = attach(t.b, other.loop);
    submit(&t, "select 1", 0, &e);
    submit(&other, "select 1", 0, &f);
    runs_to(&t, &e, PQR_OK);
    runs_to(&other, &f, PQR_OK);
    detach(other.at);
    pqr_session_close(other.s);
    pqr_loop_close(other.loop);
    leave(&t);
}

static void nothing_spins_while_there_is_nothing_to_do(void **state)
{
    (void)state;
    struct stage t = set_up();
    struct end e = {0};
    submit(&t, "select 1", 0, &e);
    runs_to(&t, &e, PQR_OK);
    int before = dispatches;
    run(t.b, 2000);
    assert_in_range(dispatches - before, 0, 12);
    leave(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_answered_and_deadlines_come),
        cmocka_unit_test(what_is_detached_is_not_dispatched_until_it_is_attached_again),
        cmocka_unit_test(it_may_be_detached_in_a_callback),
        cmocka_unit_test(two_loops_share_a_base),
        cmocka_unit_test(nothing_spins_while_there_is_nothing_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
