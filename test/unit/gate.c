/* The gate: who is inside when the router closes, and what the last one out touches. */
#include "../../lib/run/gate.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { CALLERS = 4, ROUNDS = 300 };

/* Nobody listens there, and nobody is asked: opening does no I/O. */
static pqr *open_router(void)
{
    static const char *const env[] = {"DATABASE_URL=postgresql://u@127.0.0.1:1/d", NULL};
    pqr *db = NULL;
    assert_int_equal(pqr_open(&db, PQR_OPTIONS(.env = env), NULL), PQR_OK);
    return db;
}

struct round {
    pqr *db;
    pthread_barrier_t begun;
    bool looks;
};

static void *go_in_and_out(void *arg)
{
    struct round *r = arg;
    int code = r->looks ? pqi_gate_look(r->db, false, NULL) : pqi_gate_in(r->db, false, NULL);
    pthread_barrier_wait(&r->begun);
    if (code == PQR_OK)
        pqi_gate_out(r->db);
    return (void *)(intptr_t)code;
}

/* The router is freed when the last one is out: whoever touches it later, a sanitizer tells. */
static void closing_waits_for_all_who_are_inside_and_nobody_looks_back(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        struct round r = {.db = open_router(), .looks = i % 2};
        pthread_t t[CALLERS];
        pthread_barrier_init(&r.begun, NULL, CALLERS + 1);
        for (int c = 0; c < CALLERS; c++)
            pthread_create(&t[c], NULL, go_in_and_out, &r);
        pthread_barrier_wait(&r.begun);
        pqr_close(r.db, 0);
        for (int c = 0; c < CALLERS; c++) {
            void *code;
            pthread_join(t[c], &code);
            assert_int_equal((intptr_t)code, PQR_OK);
        }
        pthread_barrier_destroy(&r.begun);
    }
}

/* An open session keeps what is closed from being freed. */
static void a_closed_router_lets_nobody_in(void **state)
{
    (void)state;
    pqr *db = open_router();
    pqr_session *s;
    pqr_error err;
    pqr_stats stats;
    assert_int_equal(pqr_session_open(db, NULL, &s, &err), PQR_OK);
    pqr_close(db, 0);
    assert_int_equal(pqi_gate_in(db, false, &err), PQR_E_CLOSED);
    assert_int_equal(pqi_gate_look(db, false, &err), PQR_E_CLOSED);
    assert_int_equal(pqr_health(db, NULL, 0, 0), PQR_E_CLOSED);
    assert_int_equal(pqr_stats_get(db, &stats, sizeof stats), PQR_E_CLOSED);
    assert_int_equal(pqr_session_open(db, NULL, &(pqr_session *){NULL}, &err), PQR_E_CLOSED);
    pqr_session_close(s);
}

static void count_setting(void *arg, const char *name, const char *value, const char *source)
{
    (void)name, (void)value, (void)source;
    ++*(int *)arg;
}

/* So that a program may print its settings, and fork then. */
static void looking_is_no_use(void **state)
{
    (void)state;
    pqr *db = open_router();
    pqr_session *s;
    pqr_stats stats;
    int settings = 0;
    assert_int_equal(pqr_session_open(db, NULL, &s, NULL), PQR_OK);
    assert_int_equal(pqr_settings(db, count_setting, &settings, NULL), PQR_OK);
    assert_true(settings > 10);
    assert_int_equal(pqr_health(db, NULL, 0, 0), 1);
    assert_int_equal(pqr_stats_get(db, &stats, sizeof stats), PQR_OK);
    assert_int_equal(db->pid, 0);
    assert_int_equal(pqi_gate_in(db, true, NULL), PQR_OK);
    assert_int_not_equal(db->pid, 0);
    pqi_gate_out(db);
    pqr_session_close(s);
    pqr_close(db, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closing_waits_for_all_who_are_inside_and_nobody_looks_back),
        cmocka_unit_test(a_closed_router_lets_nobody_in),
        cmocka_unit_test(looking_is_no_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
