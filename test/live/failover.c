/* Who is primary, when that changes: a primary that dies and a replica that is promoted, an old
 * primary that comes back, one promoted by accident. Fleet: one shard, two replicas. */
#include "live.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define P "shard0/primary"
#define R1 "shard0/replica1"
#define R2 "shard0/replica2"
#define QUICK "DB_HEALTH_INTERVAL=100ms"

/* ---- A load of writes ------------------------------------------------------------------------ */

#define WRITERS 4
#define MOST 200000

/* Each write inserts a number of its own; what its caller was told is noted beside it. */
enum told { NOTHING, OK_, FAILED, MAYBE };

struct load {
    pqr *db;
    pthread_t thread[WRITERS];
    _Atomic bool stop;
    _Atomic int next;
    _Atomic int told[MOST];
    _Atomic int64_t acked_ms;           /* when a write was acknowledged last … */
    _Atomic int64_t acked_by_second_ms; /* … and first, by the server that is not `first` */
    const char *first;
    _Atomic int unclear; /* errors that are none of those that a failover may bring */
};

static bool honest(int code)
{
    return code == PQR_E_NO_PRIMARY || code == PQR_E_CONNECT || code == PQR_E_LOST ||
           code == PQR_E_DEADLINE || code == PQR_E_UNKNOWN || code == PQR_E_POOL_TIMEOUT;
}

static void note_ack(struct load *l, const pqr_result *res)
{
    int64_t now = live_now_ms(), none = 0;
    atomic_store(&l->acked_ms, now);
    if (strcmp(pqr_source(res), l->first) != 0)
        atomic_compare_exchange_strong(&l->acked_by_second_ms, &none, now);
}

static void *write_on(void *arg)
{
    struct load *l = arg;
    for (int i; !atomic_load(&l->stop) && (i = atomic_fetch_add(&l->next, 1)) < MOST;) {
        pqr_session *s = live_session(l->db, "acme");
        pqr_result *res = NULL;
        int code = pqr_write(s,
                             PQR_QUERY(.sql = "insert into entry values ($1)",
                                       PQR_PARAMS(PQR_INT64(i)), .deadline_ms = 4000),
                             &res, &live_error);
        if (code == PQR_OK)
            note_ack(l, res);
        else if (!honest(code))
            print_error("%s: %s\n", pqr_code_name(code), live_error.message);
        atomic_fetch_add(&l->unclear, code != PQR_OK && !honest(code));
        atomic_store(&l->told[i], code == PQR_OK ? OK_ : code == PQR_E_UNKNOWN ? MAYBE : FAILED);
        pqr_result_free(res);
        pqr_session_close(s);
        live_sleep_ms(1);
    }
    return NULL;
}

static struct load *begin_load(pqr *db, const char *primary)
{
    struct load *l = calloc(1, sizeof *l);
    l->db = db;
    l->first = primary;
    ask(primary, "truncate entry");
    for (int i = 0; i < WRITERS; i++)
        pthread_create(&l->thread[i], NULL, write_on, l);
    EVENTUALLY(10000, atomic_load(&l->acked_ms) > 0);
    return l;
}

static void stop_load(struct load *l)
{
    atomic_store(&l->stop, true);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(l->thread[i], NULL);
}

static void count_rows(struct load *l, const char *primary, int8_t *rows, int n)
{
    pqr_session *s = live_session(l->db, "acme");
    pqr_result *res;
    OK(pqr_read(s,
                PQR_QUERY(.sql = "select id from entry where id >= 0", .level = PQR_LEVEL_PRIMARY),
                &res, &live_error));
    assert_string_equal(pqr_source(res), primary);
    for (size_t i = 0; i < pqr_rows(res); i++) {
        int64_t id = pqr_int64(res, i, 0);
        assert_in_range(id, 0, n - 1);
        rows[id]++;
    }
    pqr_result_free(res);
    pqr_session_close(s);
}

/* Every write is once in the table of the server that is primary now, or not at all if its caller was
 * told so. What was acknowledged and is missing was acknowledged without waiting for a standby:
 * it is counted. */
static void check_load(struct load *l, const char *primary, const char *what)
{
    int n = atomic_load(&l->next), count[4] = {0}, missing = 0;
    int8_t *rows = calloc((size_t)n, 1);
    count_rows(l, primary, rows, n);
    for (int i = 0; i < n; i++) {
        int told = atomic_load(&l->told[i]), there = rows[i];
        count[told]++;
        assert_in_range(there, 0, 1);
        if (told == FAILED)
            assert_int_equal(there, 0);
        missing += told == OK_ && there == 0;
    }
    free(rows);
    print_message("%s: %d writes acknowledged (%d of them before the failover, and lost with the "
                  "old primary), %d failed, %d unknown\n",
                  what, count[OK_], missing, count[FAILED], count[MAYBE]);
    assert_int_equal(atomic_load(&l->unclear), 0);
}

static void free_load(struct load *l)
{
    free(l);
}

/* ---- Words ----------------------------------------------------------------------------------- */

/* Returns when the server takes writes. */
static void promote(const char *node)
{
    assert_int_equal(ask_number(node, "select pg_promote(true)::int"), 1);
}

static const char *writes_go_to(pqr *db)
{
    static char source[64];
    pqr_session *s = live_session(db, "acme");
    pqr_result *res = NULL;
    source[0] = '\0';
    if (pqr_write(s, PQR_QUERY(.sql = "select 1", .deadline_ms = 300), &res, &live_error) == PQR_OK)
        snprintf(source, sizeof source, "%s", pqr_source(res));
    pqr_result_free(res);
    pqr_session_close(s);
    return source;
}

static void writes_are_refused(pqr *db)
{
    pqr_session *s = live_session(db, "acme");
    FAILS(PQR_E_NO_PRIMARY,
          pqr_write(s, PQR_QUERY(.sql = "insert into entry values (-1)", .deadline_ms = 200), NULL,
                    &live_error));
    assert_int_equal(live_error.retry, PQR_RETRY_SAFE);
    pqr_session_close(s);
}

/* As the fleet was at first. */
static void restore(void)
{
    fleet("rejoin " P " --from " R1);
    fleet("kill " R1);
    promote(P);
    fleet("rejoin " R1);
    fleet("rejoin " R2);
}

struct events {
    _Atomic int failovers, doubts;
    char text[640];
};

static void note_event(void *arg, int level, const char *event, const char *text)
{
    struct events *e = arg;
    (void)level;
    if (strcmp(event, "failover") == 0 && atomic_load(&e->failovers) == 0)
        snprintf(e->text, sizeof e->text, "%s", text);
    atomic_fetch_add(&e->failovers, strcmp(event, "failover") == 0);
    atomic_fetch_add(&e->doubts, strcmp(event, "primary_doubt") == 0);
}

static pqr *router_that_tells(struct events *e, const char *interval)
{
    pqr *db = NULL;
    const char *const settings[] = {interval, "PQR_LOG=info", "DB_POOL_TIMEOUT=5", NULL};
    OK(pqr_open(&db, PQR_OPTIONS(.env = live_env(settings), .log = note_event, .log_arg = e),
                &live_error));
    return live_ready(db);
}

/* ---- A primary dies -------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static int runs(void)
{
    const char *text = getenv("FAILOVER_RUNS");
    return text ? atoi(text) : 2;
}

/* How long after the promotion's end the first write was acknowledged, with the interval that nobody has
 * tuned. */
static void a_dead_primary_is_replaced_by_the_replica_that_was_promoted(void **state)
{
    (void)state;
    int n = runs(), took[100];
    assert_in_range(n, 1, 100);
    const char *primary = P, *next = R1;
    for (int run = 0; run < n; run++) {
        struct events e = {0};
        pqr *db = router_that_tells(&e, "DB_HEALTH_INTERVAL=1");
        struct load *l = begin_load(db, primary);
        fleet("kill %s", primary);
        live_sleep_ms(run * 37 % 200);
        promote(next);
        int64_t promoted = live_now_ms();
        EVENTUALLY(20000, atomic_load(&l->acked_by_second_ms) > 0);
        int64_t first = atomic_load(&l->acked_by_second_ms);
        took[run] = first > promoted ? (int)(first - promoted) : 0;
        stop_load(l);
        check_load(l, next, "a failover");
        print_message("the first write was acknowledged %d ms after the promotion's end\n",
                      took[run]);
        assert_int_equal(e.failovers, 1);
        print_message("%s\n", e.text);
        assert_non_null(strstr(e.text, "Last safe position of the old line: "));
        assert_null(strstr(e.text, "not known"));
        pqr_stats stats;
        OK(pqr_stats_get(db, &stats, sizeof stats));
        assert_int_equal(stats.failovers, 1);
        free_load(l);
        pqr_close(db, 0);
        fleet("rejoin %s", primary);
        const char *was = primary;
        primary = next;
        next = was;
    }
    qsort(took, (size_t)n, sizeof *took, by_size);
    print_message("%d runs: median %d ms, p99 %d ms\n", n, took[n / 2],
                  took[(n * 99 + 99) / 100 - 1]);
    if (strcmp(primary, P) != 0)
        restore();
    else
        fleet("rejoin " R2);
}

/* Up to there everything is on the new line: the server's own word is the measure. */
static void the_last_safe_position_is_where_the_new_line_leaves_the_old_one(void **state)
{
    (void)state;
    struct events e = {0};
    pqr *db = router_that_tells(&e, QUICK);
    run_write(db, "acme", "insert into entry values (-2)");
    fleet("kill " P);
    promote(R1);
    EVENTUALLY(10000, strcmp(writes_go_to(db), R1) == 0);
    char wanted[128];
    snprintf(wanted, sizeof wanted, "old line: %s;",
             ask(R1, "select (regexp_match(pg_read_file('pg_wal/' || left(pg_walfile_name("
                     "pg_current_wal_lsn()), 8) || '.history'),"
                     " '[0-9]+\\s+([0-9A-F]+/[0-9A-F]+)[^\\n]*\\n*$'))[1]"));
    if (!strstr(e.text, wanted))
        fail_msg("\"%s\" does not say \"%s\"", e.text, wanted);
    pqr_close(db, 0);
    restore();
}

static void an_old_primary_that_comes_back_gets_no_write(void **state)
{
    (void)state;
    struct events e = {0};
    pqr *db = router_that_tells(&e, QUICK);
    struct load *l = begin_load(db, P);
    fleet("kill " P);
    promote(R1);
    fleet("start " P); /* a fork: it knows nothing of what has happened */
    EVENTUALLY(10000, health_of(db, P).state == PQR_NODE_UP && health_of(db, R1).state == 1);
    EVENTUALLY(10000, strcmp(writes_go_to(db), R1) == 0);
    long before = ask_number(P, "select count(*) from entry");
    int begun = atomic_load(&l->next);
    EVENTUALLY(10000, atomic_load(&l->next) > begun + 200);
    assert_int_equal(ask_number(P, "select count(*) from entry"), before);
    stop_load(l);
    check_load(l, R1, "the old primary back as a fork");
    /* Also when it is the only one left. */
    fleet("kill " R1);
    EVENTUALLY(10000, health_of(db, R1).state == PQR_NODE_DOWN);
    for (int i = 0; i < 5; i++) {
        writes_are_refused(db);
        says("an outdated one, claim to be the primary");
    }
    assert_int_equal(ask_number(P, "select count(*) from entry"), before);
    fleet("start " R1);
    EVENTUALLY(10000, strcmp(writes_go_to(db), R1) == 0);
    free_load(l);
    pqr_close(db, 0);
    restore();
}

/* ---- A promotion by accident ----------------------------------------------------------------- */

/* Writes are refused as soon as both are seen, and none has gone to the accident. */
static void doubt_begins(pqr *db, struct events *e)
{
    promote(R1);
    EVENTUALLY(10000, writes_go_to(db)[0] == '\0' && e->doubts > 0);
    for (int i = 0; i < 5; i++)
        writes_are_refused(db);
    says("writes wait until one is read-only or gone, or most of the standbys follow one");
    says("claims to be primary");
    assert_int_equal(ask_number(R1, "select count(*) from entry where id = -1"), 0);
    assert_int_equal(ask_number(P, "select count(*) from entry where id = -1"), 0);
    assert_int_equal(e->failovers, 0);
    assert_string_equal(served_by(db, "acme", PQR_LEVEL_ANY), R2); /* reads go on */
}

static void a_promotion_beside_a_living_primary_is_doubt_until_that_is_gone(void **state)
{
    (void)state;
    struct events e = {0};
    pqr *db = router_that_tells(&e, QUICK);
    doubt_begins(db, &e);
    fleet("kill " P);
    EVENTUALLY(10000, strcmp(writes_go_to(db), R1) == 0);
    assert_int_equal(e.failovers, 1);
    pqr_close(db, 0);
    restore();
}

static void a_promotion_beside_a_living_primary_is_doubt_until_its_standbys_follow(void **state)
{
    (void)state;
    struct events e = {0};
    pqr *db = router_that_tells(&e, QUICK);
    doubt_begins(db, &e);
    fleet("rejoin " R2 " --from " R1);
    EVENTUALLY(10000, strcmp(writes_go_to(db), R1) == 0);
    assert_int_equal(e.failovers, 1);
    /* The old one lives, and takes writes: none of ours. */
    run_write(db, "acme", "insert into entry values (-3)");
    assert_int_equal(ask_number(P, "select count(*) from entry where id = -3"), 0);
    /* A process that starts now comes to the same end. */
    pqr *late = READY_ROUTER(QUICK);
    EVENTUALLY(10000, writes_go_to(late)[0] != '\0');
    assert_string_equal(writes_go_to(late), R1);
    pqr_close(late, 0);
    pqr_close(db, 0);
    restore();
}

static void a_promotion_by_accident_that_is_undone_leaves_everything_as_it_was(void **state)
{
    (void)state;
    struct events e = {0};
    pqr *db = router_that_tells(&e, QUICK);
    doubt_begins(db, &e);
    pqr *late = ROUTER(QUICK, "DB_POOL_TIMEOUT=5"); /* it does not know who was first */
    FAILS(PQR_E_NO_PRIMARY, pqr_ready(late, 2000, &live_error));
    writes_are_refused(late);
    fleet("rejoin " R1 " --from " P);
    EVENTUALLY(10000, strcmp(writes_go_to(db), P) == 0);
    EVENTUALLY(10000, strcmp(writes_go_to(late), P) == 0);
    assert_int_equal(e.failovers, 0);
    pqr_close(late, 0);
    pqr_close(db, 0);
}

static int prepare(void **state)
{
    (void)state;
    ask(P, "create table entry(id bigint)");
    fleet("sql " P " 'grant execute on function pg_promote, pg_read_file(text) to app'");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_promotion_by_accident_that_is_undone_leaves_everything_as_it_was),
        cmocka_unit_test(a_dead_primary_is_replaced_by_the_replica_that_was_promoted),
        cmocka_unit_test(the_last_safe_position_is_where_the_new_line_leaves_the_old_one),
        cmocka_unit_test(an_old_primary_that_comes_back_gets_no_write),
        cmocka_unit_test(a_promotion_beside_a_living_primary_is_doubt_until_that_is_gone),
        cmocka_unit_test(a_promotion_beside_a_living_primary_is_doubt_until_its_standbys_follow),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
