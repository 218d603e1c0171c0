/* Many threads, two shards, everything at once: reads, writes, transactions, errors, timeouts.
 * Each answer must be its own tenant's; the servers never see more connections than allowed. */
#include "live.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 64
#define TENANTS 50

static char tenant_names[TENANTS][24];

struct load {
    pqr *db;
    int calls; /* a thread */
    unsigned seed;
    _Atomic long done, wrong, unexpected, timeouts;
    _Atomic long per_kind[8];
};

struct worker {
    struct load *load;
    int id;
};

static unsigned next(unsigned *seed)
{
    *seed = *seed * 1103515245u + 12345u;
    return *seed >> 16;
}

static void note(struct load *l, int code, const char *what)
{
    if (code == PQR_OK)
        return;
    atomic_fetch_add(&l->unexpected, 1);
    print_error("%s: %s: %s\n", what, pqr_code_name(code), live_error.message);
}

static void check_tenant(struct load *l, const pqr_result *res, const char *tenant)
{
    if (strcmp(pqr_text(res, 0, 0), tenant) != 0) {
        atomic_fetch_add(&l->wrong, 1);
        print_error("%s got the answer of %s\n", tenant, pqr_text(res, 0, 0));
    }
}

static void a_read(struct load *l, pqr_session *s, const char *tenant)
{
    pqr_result *res;
    int code = pqr_read(
        s, PQR_QUERY(.sql = "select $1::text, pg_sleep(0)", PQR_PARAMS(PQR_TEXT(tenant))), &res,
        &live_error);
    note(l, code, "read");
    if (code == PQR_OK) {
        check_tenant(l, res, tenant);
        pqr_result_free(res);
    }
}

static void a_write(struct load *l, pqr_session *s, const char *tenant)
{
    pqr_result *res;
    int code = pqr_write(s,
                         PQR_QUERY(.sql = "insert into stress(tenant) values ($1) returning tenant",
                                   PQR_PARAMS(PQR_TEXT(tenant))),
                         &res, &live_error);
    note(l, code, "write");
    if (code == PQR_OK) {
        check_tenant(l, res, tenant);
        pqr_result_free(res);
    }
}

static void a_transaction(struct load *l, pqr_session *s, const char *tenant, bool commit)
{
    pqr_tx *tx;
    pqr_result *res;
    int code = pqr_begin(s, NULL, &tx, &live_error);
    note(l, code, "begin");
    if (code != PQR_OK)
        return;
    code = pqr_exec(tx,
                    PQR_QUERY(.sql = "insert into stress(tenant) values ($1) returning tenant",
                              PQR_PARAMS(PQR_TEXT(tenant))),
                    &res, &live_error);
    note(l, code, "exec");
    if (code == PQR_OK) {
        check_tenant(l, res, tenant);
        pqr_result_free(res);
    }
    if (commit)
        note(l, pqr_commit(tx, &live_error), "commit");
    else
        pqr_rollback(tx);
}

static void an_error(struct load *l, pqr_session *s, const char *tenant)
{
    int code = pqr_read(s,
                        PQR_QUERY(.sql = "select 1/0 where $1 <> ''", PQR_PARAMS(PQR_TEXT(tenant))),
                        NULL, &live_error);
    if (code != PQR_E_SQL || strcmp(live_error.sqlstate, "22012") != 0)
        note(l, code ? code : -999, "division by zero");
}

static void a_timeout(struct load *l, pqr_session *s, bool write)
{
    const pqr_query *q = PQR_QUERY(.sql = "select pg_sleep(5)", .deadline_ms = 30);
    int code = write ? pqr_write(s, q, NULL, &live_error) : pqr_read(s, q, NULL, &live_error);
    if (code == PQR_E_UNKNOWN || code == PQR_E_DEADLINE)
        atomic_fetch_add(&l->timeouts, 1);
    else
        note(l, code ? code : -999, "timeout");
}

static void a_batch(struct load *l, pqr_session *s, const char *tenant)
{
    pqr_result *res[3];
    const pqr_query *q[3] = {
        PQR_QUERY(.sql = "select $1::text", PQR_PARAMS(PQR_TEXT(tenant))),
        PQR_QUERY(.sql = "select $1::text, 2", PQR_PARAMS(PQR_TEXT(tenant))),
        PQR_QUERY(.sql = "select $1::text, 3", PQR_PARAMS(PQR_TEXT(tenant))),
    };
    int code = pqr_read_batch(s, q, 3, res, &live_error);
    note(l, code, "batch");
    for (int i = 0; code == PQR_OK && i < 3; i++) {
        check_tenant(l, res[i], tenant);
        pqr_result_free(res[i]);
    }
}

static void one_call(struct load *l, unsigned *seed)
{
    const char *tenant = tenant_names[next(seed) % TENANTS];
    pqr_session *s;
    if (pqr_session_open(l->db, PQR_SESSION(.tenant = tenant, .deadline_ms = 60000), &s,
                         &live_error)) {
        note(l, -1, "session");
        return;
    }
    unsigned kind = next(seed) % 100;
    if (kind < 55)
        a_read(l, s, tenant);
    else if (kind < 75)
        a_write(l, s, tenant);
    else if (kind < 85)
        a_transaction(l, s, tenant, next(seed) % 4 > 0);
    else if (kind < 94)
        an_error(l, s, tenant);
    else if (kind < 99)
        a_batch(l, s, tenant);
    else
        a_timeout(l, s, next(seed) % 2);
    pqr_session_close(s);
    atomic_fetch_add(&l->done, 1);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    unsigned seed = w->load->seed + (unsigned)w->id * 7919u;
    for (int i = 0; i < w->load->calls; i++)
        one_call(w->load, &seed);
    return NULL;
}

/* Watches the servers' own count of one router's connections until told to stop. Each has its
 * name: those of the router before may still be on their way out. */
struct eyes {
    const char *name;
    _Atomic bool stop;
    long most;
};

static void *watch(void *arg)
{
    static const char *const nodes[] = {"shard0/primary", "shard0/replica1", "shard1/primary",
                                        "shard1/replica1"};
    struct eyes *e = arg;
    while (!atomic_load(&e->stop)) {
        for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
            long n = ask_number(
                nodes[i],
                "select count(*) from pg_stat_activity"
                " where application_name = '%s' and backend_type = 'client backend'",
                e->name);
            e->most = n > e->most ? n : e->most;
        }
        live_sleep_ms(10);
    }
    return NULL;
}

static void load_fleet(const char *limit_setting, int limit, int calls)
{
    struct load l = {.calls = calls, .seed = 42};
    char name[64];
    snprintf(name, sizeof name, "DB_APPLICATION_NAME=stress with %d", limit);
    struct eyes e = {.name = strchr(name, '=') + 1};
    /* Where a machine is so busy that replicas seem to hang, the primary may serve all. */
    l.db = READY_ROUTER(limit_setting, name, "DB_POOL_TIMEOUT=60", "DB_FALLBACK_PERCENT=100");
    for (int i = 0; i < TENANTS; i++)
        snprintf(tenant_names[i], sizeof tenant_names[i], "tenant-%d", i);
    pthread_t threads[THREADS], eyes;
    struct worker workers[THREADS];
    pthread_create(&eyes, NULL, watch, &e);
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){&l, i};
        pthread_create(&threads[i], NULL, work, &workers[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&e.stop, true);
    pthread_join(eyes, NULL);
    print_message("%ld calls, %ld timeouts, at most %ld connections of %d to a server\n", l.done,
                  l.timeouts, e.most, limit);
    assert_int_equal(l.done, (long)THREADS * calls);
    assert_int_equal(l.wrong, 0);
    assert_int_equal(l.unexpected, 0);
    assert_true(l.timeouts > 0);
    assert_in_range(e.most, 1, limit);
    pqr_close(l.db, 1000);
}

static void a_hundred_thousand_mixed_calls_get_their_own_answers(void **state)
{
    (void)state;
    load_fleet("DB_CONNECTION_LIMIT=20", 20, 100000 / THREADS + 1);
}

static void the_same_with_one_connection_a_server(void **state)
{
    (void)state;
    load_fleet("DB_CONNECTION_LIMIT=1", 1, 60);
}

static void the_same_with_two_connections_a_server(void **state)
{
    (void)state;
    load_fleet("DB_CONNECTION_LIMIT=2", 2, 60);
}

static int stamp_and_create(void **state)
{
    (void)state;
    pqr *db = ROUTER("DATABASE_FLEET_ID=stress");
    OK(pqr_init(db, 10000, NULL, NULL, &live_error));
    pqr_close(db, 0);
    const char *const shards[] = {"shard0/primary", "shard1/primary"};
    for (int i = 0; i < 2; i++)
        ask(shards[i], "create table stress(id bigserial primary key, tenant text not null)");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hundred_thousand_mixed_calls_get_their_own_answers),
        cmocka_unit_test(the_same_with_one_connection_a_server),
        cmocka_unit_test(the_same_with_two_connections_a_server),
    };
    return cmocka_run_group_tests(tests, stamp_and_create, NULL);
}
