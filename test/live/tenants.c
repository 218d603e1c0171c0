/* Two tenants, and somebody without one, in one table and on one lane, with failures, deadlines,
 * cancelled calls and transactions between them: no statement names its tenant, and each must see
 * its own rows only. TENANTS_STATEMENTS says how many statements. Fleet: one shard, no replica. */
#include "live.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define P "shard0/primary"
#define ROWS 5
#define THREADS 8
#define WINDOW 48 /* calls of the loop that are under way */

static const char *const tenants[] = {"ann", "bob", NULL};

static struct {
    pqr *db;
    long goal;
    _Atomic long statements, rows, wrong, unexpected, failed_as_meant, late, cancelled, in_tx;
    pthread_mutex_t updates[2]; /* one at a time for each tenant: they would only deadlock */
} all;

static const char *name_of(int who)
{
    return tenants[who] ? tenants[who] : "nobody";
}

static int dice(unsigned *seed, int sides)
{
    *seed = *seed * 1103515245u + 12345u;
    return (int)(*seed >> 16) % sides;
}

/* ---- What an answer must be ------------------------------------------------------------------- */

static void must_be_own(int who, const pqr_result *res, long rows)
{
    const char *tenant = tenants[who] ? tenants[who] : "";
    long wanted = tenants[who] ? rows : 0, wrong = (long)pqr_rows(res) != wanted;
    for (size_t i = 0; i < pqr_rows(res); i++)
        wrong += strcmp(pqr_text(res, i, 0), tenant) != 0;
    atomic_fetch_add(&all.rows, (long)pqr_rows(res));
    if (wrong && atomic_fetch_add(&all.wrong, 1) < 10)
        print_error("%s got %zu rows, the first of %s\n", name_of(who), pqr_rows(res),
                    pqr_text(res, 0, 0));
}

static void unexpected(int who, const char *what, const pqr_error *err)
{
    if (atomic_fetch_add(&all.unexpected, 1) < 10)
        print_error("%s: %s: %s: %s [%s]\n", name_of(who), what, pqr_code_name(err->code),
                    err->message, err->sqlstate);
}

static void counts(int n)
{
    atomic_fetch_add(&all.statements, n);
}

/* ---- Kinds of calls --------------------------------------------------------------------------- */

static const char own[] = "select tenant from item";

/* Fail in different phases, and some would change whose rows are seen. */
static const struct {
    const char *sql, *sqlstate; /* "": it succeeds, and shows nothing */
} odd[] = {
    {"select 1 / (count(*) - count(*)) from item", "22012"},
    {"select no_such_column from item", "42703"},
    {"selekt", "USAGE"},
    {"select tenant from item where raise_it(tenant)", ""},
    {"select rename('ann')", ""},
    {"select rename('bob')", ""},
    {"select rename_for_good('bob')", ""},
};
enum { ODD = sizeof odd / sizeof *odd };

static void judge_odd(int who, int i, int code, const pqr_error *err)
{
    bool meant = odd[i].sqlstate[0] == '\0' ? code == PQR_OK || strcmp(err->sqlstate, "P0001") == 0
                 : strcmp(odd[i].sqlstate, "USAGE") == 0
                     ? code == PQR_E_USAGE
                     : code == PQR_E_SQL && strcmp(err->sqlstate, odd[i].sqlstate) == 0;
    if (meant)
        atomic_fetch_add(&all.failed_as_meant, 1);
    else
        unexpected(who, odd[i].sql, err);
}

static void read_own(pqr_session *s, int who)
{
    pqr_result *res;
    counts(1);
    if (pqr_read(s, PQR_QUERY(.sql = own), &res, &live_error) != PQR_OK) {
        unexpected(who, "read", &live_error);
        return;
    }
    must_be_own(who, res, ROWS);
    pqr_result_free(res);
}

static void read_batch(pqr_session *s, int who)
{
    const pqr_query *const both[] = {
        PQR_QUERY(.sql = own), PQR_QUERY(.sql = "select max(tenant) from item having count(*) > 0"),
        PQR_QUERY(.sql = "select tenant from item order by n limit 2")};
    static const long rows[] = {ROWS, 1, 2};
    pqr_result *res[3];
    counts(3);
    if (pqr_read_batch(s, both, 3, res, &live_error) != PQR_OK) {
        unexpected(who, "batch", &live_error);
        return;
    }
    for (int i = 0; i < 3; i++) {
        must_be_own(who, res[i], rows[i]);
        pqr_result_free(res[i]);
    }
}

static void read_late(pqr_session *s, int who)
{
    pqr_result *res;
    counts(1);
    int code = pqr_read(
        s, PQR_QUERY(.sql = "select tenant from item, pg_sleep(0.003)", .deadline_ms = 2), &res,
        &live_error);
    if (code == PQR_OK) {
        must_be_own(who, res, ROWS);
        pqr_result_free(res);
    } else if (code == PQR_E_DEADLINE) {
        atomic_fetch_add(&all.late, 1);
    } else {
        unexpected(who, "late read", &live_error);
    }
}

static void lock_updates(int who)
{
    if (tenants[who])
        pthread_mutex_lock(&all.updates[who]);
}

static void unlock_updates(int who)
{
    if (tenants[who])
        pthread_mutex_unlock(&all.updates[who]);
}

static void write_own(pqr_session *s, int who)
{
    pqr_result *res;
    counts(1);
    lock_updates(who);
    int code = pqr_write(s, PQR_QUERY(.sql = "update item set n = n + 1 returning tenant"), &res,
                         &live_error);
    unlock_updates(who);
    if (code != PQR_OK) {
        unexpected(who, "write", &live_error);
        return;
    }
    must_be_own(who, res, ROWS);
    pqr_result_free(res);
}

static void write_late(pqr_session *s, int who)
{
    counts(1);
    int code = pqr_write(s,
                         PQR_QUERY(.sql = "insert into jot select tenant, 1 from item,"
                                          " pg_sleep(0.003)",
                                   .deadline_ms = 2),
                         NULL, &live_error);
    if (code == PQR_E_DEADLINE || code == PQR_E_UNKNOWN)
        atomic_fetch_add(&all.late, 1);
    else if (code != PQR_OK)
        unexpected(who, "late write", &live_error);
}

/* A row of the other's cannot be made, however it is sent. */
static void write_foreign(pqr_session *s, int who)
{
    counts(1);
    int code = pqr_write(s,
                         PQR_QUERY(.sql = "insert into item(tenant) values ($1)",
                                   PQR_PARAMS(PQR_TEXT(who == 0 ? "bob" : "ann"))),
                         NULL, &live_error);
    if (code == PQR_E_SQL && strcmp(live_error.sqlstate, "42501") == 0)
        atomic_fetch_add(&all.failed_as_meant, 1);
    else
        unexpected(who, "foreign write", &live_error);
}

static bool exec_own(pqr_tx *tx, int who, const char *sql)
{
    pqr_result *res;
    counts(1);
    atomic_fetch_add(&all.in_tx, 1);
    if (pqr_exec(tx, PQR_QUERY(.sql = sql), &res, &live_error) != PQR_OK) {
        unexpected(who, "exec", &live_error);
        return false;
    }
    must_be_own(who, res, ROWS);
    pqr_result_free(res);
    return true;
}

static void transaction(pqr_session *s, int who, unsigned *seed)
{
    pqr_tx *tx;
    bool read_only = dice(seed, 2), fails = dice(seed, 3) == 0, good;
    if (!read_only)
        lock_updates(who);
    if (pqr_begin(s, PQR_TX(.read_only = read_only, .isolation = dice(seed, 2)), &tx,
                  &live_error) != PQR_OK) {
        unexpected(who, "begin", &live_error);
        if (!read_only)
            unlock_updates(who);
        return;
    }
    good = exec_own(tx, who, own) &&
           exec_own(tx, who, read_only ? own : "update item set n = n - 1 returning tenant");
    if (good && fails) {
        counts(1);
        pqr_exec(tx, PQR_QUERY(.sql = "select 1 / 0"), NULL, &live_error);
        atomic_fetch_add(&all.failed_as_meant, 1);
    }
    if (!good || fails || dice(seed, 2))
        pqr_rollback(tx);
    else if (pqr_commit(tx, &live_error) != PQR_OK && strcmp(live_error.sqlstate, "40001") != 0)
        unexpected(who, "commit", &live_error);
    if (!read_only)
        unlock_updates(who);
}

static void any_call(pqr_session *s, int who, unsigned *seed)
{
    int d = dice(seed, 1000);
    if (d < 600) {
        read_own(s, who);
    } else if (d < 720) {
        int i = dice(seed, ODD);
        counts(1);
        judge_odd(who, i, pqr_read(s, PQR_QUERY(.sql = odd[i].sql), NULL, &live_error),
                  &live_error);
    } else if (d < 800) {
        read_batch(s, who);
    } else if (d < 820) {
        read_late(s, who);
    } else if (d < 880) {
        write_own(s, who);
    } else if (d < 884) {
        write_late(s, who);
    } else if (d < 920) {
        write_foreign(s, who);
    } else if (d < 996) {
        transaction(s, who, seed);
    } else { /* costs its connection; behind a pooler, where that would help nobody, it is refused */
        counts(1);
        if (pqr_write(
                s,
                PQR_QUERY(.sql = "do $$begin insert into jot select tenant, 2 from item;"
                                 " commit; insert into jot select tenant, 3 from item; end$$"),
                NULL, &live_error) != (live_pooled() ? PQR_E_USAGE : PQR_OK))
            unexpected(who, "do", &live_error);
    }
}

static void *blocking(void *arg)
{
    unsigned seed = 7919u * (unsigned)(intptr_t)arg + 1;
    while (atomic_load(&all.statements) < all.goal) {
        int who = dice(&seed, 3);
        pqr_session *s = live_session(all.db, tenants[who]);
        for (int i = dice(&seed, 4); i >= 0; i--)
            any_call(s, who, &seed);
        pqr_session_close(s);
    }
    return NULL;
}

/* ---- On a loop: dozens at a time share a Sync -------------------------------------------------- */

struct rider {
    struct looper *looper;
    pqr_session *s;
    int who, odd; /* -1: none */
    bool cancels;
};

struct looper {
    pqr_loop *loop;
    unsigned seed;
    int under_way;
    struct rider riders[WINDOW];
};

static void submit(struct rider *r);

static void on_done(void *arg, const pqr_done *done)
{
    struct rider *r = arg;
    r->looper->under_way--;
    if (done->err->code == PQR_E_CANCELLED && r->cancels)
        atomic_fetch_add(&all.cancelled, 1);
    else if (r->odd >= 0)
        judge_odd(r->who, r->odd, done->err->code, done->err);
    else if (done->err->code != PQR_OK)
        unexpected(r->who, "submitted read", done->err);
    else
        must_be_own(r->who, done->res, ROWS);
    pqr_result_free(done->res);
    pqr_session_close(r->s);
    if (atomic_load(&all.statements) < all.goal)
        submit(r);
}

static void submit(struct rider *r)
{
    unsigned *seed = &r->looper->seed;
    r->who = dice(seed, 3);
    r->odd = dice(seed, 8) == 0 ? dice(seed, ODD) : -1;
    if (r->odd >= 0 && strcmp(odd[r->odd].sqlstate, "USAGE") == 0)
        r->odd = -1;
    r->cancels = dice(seed, 16) == 0;
    r->s = live_session(all.db, tenants[r->who]);
    pqr_call *call;
    counts(1);
    OK(pqr_submit_read(r->looper->loop, r->s, PQR_QUERY(.sql = r->odd >= 0 ? odd[r->odd].sql : own),
                       on_done, r, &call, &live_error));
    r->looper->under_way++;
    if (r->cancels)
        pqr_cancel(call);
}

static void *looping(void *arg)
{
    struct looper l = {.seed = 4711};
    (void)arg;
    OK(pqr_loop_open(all.db, &l.loop, &live_error));
    for (int i = 0; i < WINDOW; i++) {
        l.riders[i].looper = &l;
        submit(&l.riders[i]);
    }
    while (l.under_way > 0) {
        struct pollfd p = {.fd = pqr_loop_fd(l.loop), .events = POLLIN};
        poll(&p, 1, 1000);
        pqr_loop_dispatch(l.loop, 0);
    }
    pqr_loop_close(l.loop);
    return NULL;
}

/* ---- The test ---------------------------------------------------------------------------------- */

static int make_tables(void **state)
{
    (void)state;
    static const char *const tables[] = {"item", "jot"};
    ask(P, "create table item(tenant text not null, n int not null default 0)");
    ask(P, "create table jot(tenant text not null, n int)");
    ask(P,
        "insert into item(tenant) select t from unnest('{ann,bob}'::text[]) t,"
        " generate_series(1, %d)",
        ROWS);
    for (int i = 0; i < 2; i++) {
        ask(P, "alter table %s enable row level security", tables[i]);
        ask(P, "alter table %s force row level security", tables[i]);
        ask(P,
            "create policy own on %s using (tenant = nullif(current_setting('app.tenant_id',"
            " true), ''))",
            tables[i]);
    }
    ask(P, "create function rename(name text) returns text language sql as"
           " $$select set_config('app.tenant_id', name, true)$$");
    ask(P, "create function rename_for_good(name text) returns text language sql as"
           " $$select set_config('app.tenant_id', name, false)$$");
    ask(P, "create function raise_it(name text) returns bool language plpgsql as"
           " $$begin raise exception 'no, %%', name; end$$");
    return 0;
}

static void every_statement_sees_its_own_tenants_rows_only(void **state)
{
    (void)state;
    const char *n = getenv("TENANTS_STATEMENTS");
    pthread_t threads[THREADS], loop;
    all.goal = n ? atol(n) : live_slow_build() ? 5000 : 20000;
    all.db = READY_ROUTER("DB_TENANT_SETTING=app.tenant_id", "DB_LANES=1",
                          "DB_PREPARED_STATEMENTS=8");
    pthread_mutex_init(&all.updates[0], NULL);
    pthread_mutex_init(&all.updates[1], NULL);
    for (intptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, blocking, (void *)i), 0);
    assert_int_equal(pthread_create(&loop, NULL, looping, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_join(loop, NULL);
    pqr_close(all.db, 1000);
    print_message("%ld statements, %ld in transactions: %ld rows, %ld failed as meant, %ld late,"
                  " %ld cancelled; %ld saw other rows, %ld unexpected\n",
                  all.statements, all.in_tx, all.rows, all.failed_as_meant, all.late, all.cancelled,
                  all.wrong, all.unexpected);
    assert_int_equal(all.wrong, 0);
    assert_int_equal(all.unexpected, 0);
    assert_true(all.late > 0 && all.cancelled > 0 && all.failed_as_meant > 0 && all.in_tx > 0);
    assert_int_equal(ask_number(P, "select count(*) from item"), 0); /* nobody's eyes */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_statement_sees_its_own_tenants_rows_only),
    };
    return cmocka_run_group_tests_name("tenants", tests, make_tables, NULL);
}
