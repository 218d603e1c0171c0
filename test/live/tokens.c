/* Tokens: what one process has seen, the next one sees. Two routers stand for two processes: they
 * share nothing. The servers themselves say what they have. Fleet: one shard, two replicas. */
#include "live.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define P "shard0/primary"
#define R1 "shard0/replica1"
#define R2 "shard0/replica2"
#define QUICK "DB_HEALTH_INTERVAL=100ms"
#define LENIENT "DB_MAX_REPLICA_LAG=0", "DB_MAX_REPLICA_LAG_BYTES=0"
#define KEY "DB_TOKEN_KEY=0123456789abcdef0123456789abcdef"

/* ---- Words ----------------------------------------------------------------------------------- */

/* Two processes, and what travels between them. */
struct pair {
    pqr *db[2];
    char token[PQR_TOKEN_MAX];
};

static pqr_session *session_with(pqr *db, const char *token)
{
    pqr_session *s = NULL;
    OK(pqr_session_open(db, PQR_SESSION(.tenant = "acme", .token = token), &s, &live_error));
    return s;
}

static const char *token_of(pqr_session *s)
{
    static _Thread_local char token[PQR_TOKEN_MAX];
    assert_int_equal(pqr_session_token(s, token, sizeof token), PQR_OK);
    return token;
}

static void keep_token(struct pair *p, pqr_session *s)
{
    snprintf(p->token, sizeof p->token, "%s", token_of(s));
    pqr_session_close(s);
}

/* The number in the row, as this session is shown it. */
static int64_t look(pqr_session *s, char source[64])
{
    pqr_result *res;
    OK(pqr_read(s, PQR_QUERY(.sql = "select n from counter"), &res, &live_error));
    int64_t n = pqr_int64(res, 0, 0);
    if (source)
        snprintf(source, 64, "%s", pqr_source(res));
    pqr_result_free(res);
    return n;
}

static void set_number(pqr_session *s, int64_t n)
{
    OK(pqr_write(s, PQR_QUERY(.sql = "update counter set n = $1", PQR_PARAMS(PQR_INT64(n))), NULL,
                 &live_error));
}

static pqr_stats stats_of(pqr *db)
{
    pqr_stats stats;
    assert_int_equal(pqr_stats_get(db, &stats, sizeof stats), PQR_OK);
    return stats;
}

static void everybody_has(int64_t n)
{
    EVENTUALLY(20000, ask_number(R1, "select n from counter") == n &&
                          ask_number(R2, "select n from counter") == n);
}

static void close_pair(struct pair *p)
{
    pqr_close(p->db[0], 1000);
    pqr_close(p->db[1], 1000);
}

static int prepare(void **state)
{
    (void)state;
    ask(P, "create table counter(n bigint)");
    ask(P, "insert into counter values (0)");
    ask(P, "grant all on counter to app");
    everybody_has(0);
    return 0;
}

/* ---- Text ------------------------------------------------------------------------------------ */

static void a_session_that_has_seen_nothing_has_no_token(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(QUICK);
    pqr_session *s = session_with(db, NULL);
    char small[20];
    assert_string_equal(token_of(s), "");
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1", .level = PQR_LEVEL_ANY), NULL, &live_error));
    assert_string_equal(token_of(s), ""); /* a read that promises nothing */
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1"), NULL, &live_error));
    assert_true(strlen(token_of(s)) > 20);
    assert_int_equal(pqr_session_token(s, small, sizeof small), PQR_E_USAGE);
    assert_int_equal(pqr_session_token(s, NULL, 100), PQR_E_USAGE);
    assert_int_equal(pqr_session_token(NULL, small, sizeof small), PQR_E_USAGE);
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void a_session_that_does_nothing_hands_its_token_on(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(QUICK);
    struct pair p = {.token = ""};
    pqr_session *s = session_with(db, "");
    look(s, NULL);
    keep_token(&p, s);
    s = session_with(db, p.token);
    assert_string_equal(token_of(s), p.token);
    pqr_session_close(s);
    pqr_close(db, 0);
}

/* ---- What is promised ------------------------------------------------------------------------ */

static void the_next_process_reads_what_the_last_one_wrote(void **state)
{
    (void)state;
    struct pair p = {{READY_ROUTER(QUICK, LENIENT), READY_ROUTER(QUICK, LENIENT)}, ""};
    char source[64];
    fleet("pause-replay " R2);
    for (int64_t n = 1; n <= 60; n++) {
        pqr_session *s = session_with(p.db[n % 2], p.token);
        assert_int_equal(look(s, source), n - 1);
        if (n > 1) /* before, any would do */
            assert_string_not_equal(source, R2);
        set_number(s, n);
        keep_token(&p, s);
    }
    fleet("resume-replay " R2);
    everybody_has(60);
    ask(P, "update counter set n = 0");
    close_pair(&p);
}

/* Beside it those who have no token see what was before, which shows that the test shows something. */
static void the_next_process_does_not_go_back_behind_what_was_read(void **state)
{
    (void)state;
    struct pair p = {{READY_ROUTER(QUICK, LENIENT), READY_ROUTER(QUICK, LENIENT)}, ""};
    int without = 0, with = 0;
    everybody_has(0);
    fleet("pause-replay " R2);
    ask(P, "update counter set n = 1");
    EVENTUALLY(5000, ask_number(R1, "select n from counter") == 1);
    for (int i = 0; i < 200; i++) {
        pqr_session *one = session_with(p.db[i % 2], ""), *next;
        int64_t seen = look(one, NULL);
        char token[PQR_TOKEN_MAX];
        snprintf(token, sizeof token, "%s", token_of(one));
        pqr_session_close(one);
        for (int j = 0; j < 4; j++) {
            next = session_with(p.db[(i + j) % 2], j % 2 ? token : NULL);
            (j % 2 ? &with : &without)[0] += look(next, NULL) < seen;
            pqr_session_close(next);
        }
    }
    fleet("resume-replay " R2);
    everybody_has(1);
    ask(P, "update counter set n = 0");
    print_message("went back: %d times without a token, %d with one\n", without, with);
    assert_true(without > 0);
    assert_int_equal(with, 0);
    close_pair(&p);
}

static void of_two_tokens_both_count(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(QUICK, LENIENT);
    char both[2 * PQR_TOKEN_MAX], old[PQR_TOKEN_MAX];
    pqr_session *s = session_with(db, "");
    everybody_has(0);
    look(s, NULL);
    snprintf(old, sizeof old, "%s", token_of(s));
    pqr_session_close(s);
    fleet("pause-replay " R2);
    s = session_with(db, "");
    set_number(s, 5);
    snprintf(both, sizeof both, "%s.%s", token_of(s), old);
    pqr_session_close(s);
    for (int i = 0; i < 20; i++) {
        s = session_with(db, both);
        assert_int_equal(look(s, NULL), 5);
        pqr_session_close(s);
    }
    fleet("resume-replay " R2);
    everybody_has(5);
    ask(P, "update counter set n = 0");
    pqr_close(db, 0);
}

/* A write that nobody asks the position of is in doubt: also then. */
static void a_token_taken_inside_a_transaction_covers_it(void **state)
{
    (void)state;
    struct pair p = {{READY_ROUTER(QUICK, LENIENT), READY_ROUTER(QUICK, LENIENT)}, ""};
    everybody_has(0);
    fleet("pause-replay " R2);
    for (int64_t n = 1; n <= 20; n++) {
        pqr_session *s = session_with(p.db[0], "");
        pqr_tx *tx;
        OK(pqr_begin(s, NULL, &tx, &live_error));
        OK(pqr_exec(tx, PQR_QUERY(.sql = "update counter set n = n + 1"), NULL, &live_error));
        char token[PQR_TOKEN_MAX];
        snprintf(token, sizeof token, "%s", token_of(s));
        OK(pqr_commit(tx, &live_error));
        pqr_session_close(s);
        s = session_with(p.db[1], token); /* opened after it was committed */
        assert_int_equal(look(s, NULL), n);
        pqr_session_close(s);
    }
    fleet("resume-replay " R2);
    everybody_has(20);
    ask(P, "update counter set n = 0");
    close_pair(&p);
}

static void what_a_read_only_transaction_showed_is_in_its_token(void **state)
{
    (void)state;
    struct pair p = {{READY_ROUTER(QUICK, LENIENT), READY_ROUTER(QUICK, LENIENT)}, ""};
    everybody_has(0);
    fleet("pause-replay " R2);
    ask(P, "update counter set n = 1");
    EVENTUALLY(5000, ask_number(R1, "select n from counter") == 1);
    for (int i = 0; i < 40; i++) {
        pqr_session *s = session_with(p.db[0], "");
        pqr_tx *tx;
        pqr_result *res;
        OK(pqr_begin(s, PQR_TX(.read_only = 1), &tx, &live_error));
        OK(pqr_exec(tx, PQR_QUERY(.sql = "select n from counter"), &res, &live_error));
        int64_t seen = pqr_int64(res, 0, 0);
        pqr_result_free(res);
        OK(pqr_commit(tx, &live_error));
        keep_token(&p, s);
        s = session_with(p.db[1], p.token);
        assert_true(look(s, NULL) >= seen);
        pqr_session_close(s);
    }
    fleet("resume-replay " R2);
    everybody_has(1);
    ask(P, "update counter set n = 0");
    close_pair(&p);
}

/* Tokens rise with what is read; where there is much to read, replicas serve it all the same. */
static void reads_with_tokens_stay_on_the_replicas(void **state)
{
    (void)state;
    struct pair p = {{READY_ROUTER("DB_HEALTH_INTERVAL=1"), READY_ROUTER("DB_HEALTH_INTERVAL=1")},
                     ""};
    everybody_has(0);
    int reads = 0, primary = 0;
    char source[64];
    for (int round = 0; round < 40; round++) {
        ask(P, "update counter set n = n + 1");
        for (int i = 0; i < 10; i++, reads++) {
            pqr_session *s = session_with(p.db[i % 2], p.token);
            look(s, source);
            primary += strcmp(source, P) == 0;
            keep_token(&p, s);
        }
    }
    print_message("%d of %d reads on the primary\n", primary, reads);
    assert_true(primary * 10 <= reads);
    everybody_has(40);
    ask(P, "update counter set n = 0");
    close_pair(&p);
}

/* ---- Who made it ----------------------------------------------------------------------------- */

static void expect_ignored(pqr *db, const char *tenant, const char *token, uint64_t n)
{
    uint64_t before = stats_of(db).tokens_ignored;
    pqr_session *s = NULL;
    OK(pqr_session_open(db, PQR_SESSION(.tenant = tenant, .token = token), &s, &live_error));
    assert_int_equal(stats_of(db).tokens_ignored - before, n);
    assert_string_equal(token_of(s), n ? "" : token);
    look(s, NULL);
    pqr_session_close(s);
}

static void a_token_of_another_tenant_or_a_damaged_one_is_ignored(void **state)
{
    (void)state;
    struct pair p = {{READY_ROUTER(QUICK), NULL}, ""};
    pqr_session *s = session_with(p.db[0], "");
    look(s, NULL);
    keep_token(&p, s);
    expect_ignored(p.db[0], "acme", p.token, 0);
    expect_ignored(p.db[0], "acmf", p.token, 1);
    expect_ignored(p.db[0], NULL, p.token, 1);
    p.token[10] ^= 1;
    expect_ignored(p.db[0], "acme", p.token, 1);
    p.token[30] = '\0';
    expect_ignored(p.db[0], "acme", p.token, 1);
    expect_ignored(p.db[0], "acme", "; drop table note --", 1);
    pqr_close(p.db[0], 0);
}

static void with_a_key_only_tokens_made_with_it_count(void **state)
{
    (void)state;
    struct pair p = {{READY_ROUTER(QUICK, KEY, LENIENT), READY_ROUTER(QUICK, KEY, LENIENT)}, ""};
    pqr *other = READY_ROUTER(QUICK, "DB_TOKEN_KEY=fedcba9876543210"), *plain = READY_ROUTER(QUICK);
    everybody_has(0);
    fleet("pause-replay " R2);
    pqr_session *s = session_with(p.db[0], "");
    set_number(s, 3);
    keep_token(&p, s);
    for (int i = 0; i < 10; i++) {
        s = session_with(p.db[1], p.token);
        assert_int_equal(look(s, NULL), 3);
        pqr_session_close(s);
    }
    fleet("resume-replay " R2);
    everybody_has(3);
    expect_ignored(p.db[1], "acme", p.token, 0);
    expect_ignored(p.db[1], "acmf", p.token, 1);
    expect_ignored(other, "acme", p.token, 1);
    expect_ignored(plain, "acme", p.token, 1);
    s = session_with(plain, "");
    look(s, NULL);
    struct pair unsigned_one = {.token = ""};
    keep_token(&unsigned_one, s);
    expect_ignored(plain, "acme", unsigned_one.token, 0);
    expect_ignored(p.db[0], "acme", unsigned_one.token, 1);
    ask(P, "update counter set n = 0");
    everybody_has(0);
    pqr_close(other, 0);
    pqr_close(plain, 0);
    close_pair(&p);
}

/* ---- Made up --------------------------------------------------------------------------------- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void put(unsigned char **to, uint64_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--)
        *(*to)++ = (unsigned char)(value >> (8 * i));
}

/* As somebody makes one who has read the library's source. */
static void forge(char *text, unsigned flags, unsigned shard, uint32_t timeline, uint64_t system_id,
                  uint64_t lsn)
{
    unsigned char bytes[33] = {0}, *to = bytes;
    put(&to, flags, 1);
    put(&to, shard, 2);
    put(&to, timeline, 4);
    put(&to, system_id, 8);
    put(&to, lsn, 8);
    put(&to, XXH3_64bits_withSeed("acme", 4, 1) & 0xFFFFFFFFu, 4);
    put(&to, XXH3_64bits_withSeed(bytes, 27, 'p') & 0xFFFFFFFFu, 4);
    *text++ = 'p';
    for (int i = 0; i < 42; i++) { /* six bits each */
        int bit = i * 6, at = bit / 8;
        unsigned pair = (unsigned)bytes[at] << 8 | bytes[at + 1];
        *text++ = alphabet[pair >> (10 - bit % 8) & 63];
    }
    *text = '\0';
}

static uint64_t chance(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return *seed >> 16;
}

static void forge_any(char *text, uint64_t system_id, uint64_t near, uint64_t *seed)
{
    switch (chance(seed) % 5) {
    case 0: /* far ahead */
        forge(text, 0, 0, 1, system_id, chance(seed) << 16 | UINT64_C(1) << 62);
        break;
    case 1: /* a little */
        forge(text, 0, 0, 1, system_id, near + chance(seed) % 1000000000);
        break;
    case 2: /* of a timeline to come */
        forge(text, 0, 0, 2 + (uint32_t)(chance(seed) % 1000), system_id, near);
        break;
    case 3: /* of other servers, or another shard */
        forge(text, 0, (unsigned)(chance(seed) % 1024), 1, system_id + chance(seed) % 2, near);
        break;
    default: /* no token at all */
        snprintf(text, PQR_TOKEN_MAX, "p%016llx", (unsigned long long)chance(seed));
    }
}

struct flood {
    pqr *db;
    pqr_loop *loop;
    uint64_t system_id, near, seed;
    bool unsure; /* all of them say that they do not know how far */
    int left, flying, primary, failed;
    int control, control_primary; /* every tenth read comes without a token */
};

struct flooder {
    struct flood *flood;
    pqr_session *s;
    bool control;
};

static void submit_forged(struct flood *f);

static void forged_read_done(void *arg, const pqr_done *done)
{
    struct flooder *one = arg;
    struct flood *f = one->flood;
    if (done->err->code != PQR_OK && f->failed++ == 0)
        print_error("%s: %s\n", pqr_code_name(done->err->code), done->err->message);
    bool primary = done->res && strcmp(pqr_source(done->res), P) == 0;
    f->primary += primary && !one->control;
    f->control_primary += primary && one->control;
    pqr_result_free(done->res);
    pqr_session_close(one->s);
    free(one);
    f->flying--;
}

static void submit_forged(struct flood *f)
{
    char token[PQR_TOKEN_MAX];
    struct flooder *one = malloc(sizeof *one);
    if (f->unsure)
        forge(token, 1, 0, 1, f->system_id, f->near);
    else
        forge_any(token, f->system_id, f->near, &f->seed);
    one->flood = f;
    one->control = f->left % 10 == 0;
    f->control += one->control;
    one->s = session_with(f->db, one->control ? "" : token);
    OK(pqr_submit_read(f->loop, one->s, PQR_QUERY(.sql = "select 1"), forged_read_done, one, NULL,
                       &live_error));
    f->left--;
    f->flying++;
}

static void run_flood(struct flood *f, int n, int together)
{
    f->left = n;
    OK(pqr_loop_open(f->db, &f->loop, &live_error));
    while (f->left > 0 || f->flying > 0) {
        while (f->left > 0 && f->flying < together)
            submit_forged(f);
        poll(&(struct pollfd){.fd = pqr_loop_fd(f->loop), .events = POLLIN}, 1, 1000);
        pqr_loop_dispatch(f->loop, 0);
    }
    pqr_loop_close(f->loop);
}

/* The log grows meanwhile, so that what the primary has is always news to the replicas. */
static void *write_on(void *arg)
{
    pqr *db = READY_ROUTER("DB_HEALTH_INTERVAL=1");
    while (!atomic_load((_Atomic bool *)arg)) {
        run_write(db, "acme", "update counter set n = n + 1");
        live_sleep_ms(5);
    }
    pqr_close(db, 1000);
    return NULL;
}

static long transactions_of(const char *node)
{
    return ask_number(node, "select sum(xact_commit) from pg_stat_database where datname = 'app'");
}

/* At most so many reads on the primary as moved there without a token at the same time, for want of
 * replicas, and one in a thousand. */
static bool moved_no_read(const struct flood *f, int n)
{
    return f->primary <= 2 * 9 * f->control_primary + n / 1000;
}

static void tokens_that_are_made_up_do_not_move_reads_to_the_primary(void **state)
{
    (void)state;
    int n = live_slow_build() ? 10000 : 100000, together = n / 50;
    pqr *db = READY_ROUTER("DB_POOL_QUEUE_LIMIT=100000", "DB_POOL_TIMEOUT=60",
                           "DB_SOCKET_TIMEOUT=2m");
    EVENTUALLY(20000, serves_reads(db, R1) && serves_reads(db, R2));
    struct flood forged = {
        .db = db,
        .seed = 2,
        .system_id = strtoull(ask(P, "select system_identifier from pg_control_system()"), NULL,
                              10),
        .near = strtoull(ask(P, "select pg_current_wal_lsn() - '0/0'"), NULL, 10)};
    struct flood unsure = forged;
    unsure.unsure = true;
    _Atomic bool end = false;
    pthread_t writer;
    pthread_create(&writer, NULL, write_on, &end);
    long before = transactions_of(P);
    int64_t began = live_now_ms();
    run_flood(&forged, n, together);
    int64_t ms = live_now_ms() - began;
    long work = transactions_of(P) - before;
    atomic_store(&end, true);
    pthread_join(writer, NULL);
    pqr_stats stats = stats_of(db);
    everybody_has(ask_number(P, "select n from counter"));
    run_flood(&unsure, n / 10, together);
    print_message(
        "%d reads, nine in ten with a made-up token, in %d ms: %llu ignored, %llu clamped; "
        "on the primary %d, without one %d; of %d unsure ones %d, without one %d; and %ld "
        "transactions of all kinds\n",
        n, (int)ms, (unsigned long long)stats.tokens_ignored,
        (unsigned long long)stats.tokens_clamped, forged.primary, forged.control_primary, n / 10,
        unsure.primary, unsure.control_primary, work);
    assert_int_equal(forged.failed, 0);
    assert_int_equal(unsure.failed, 0);
    assert_int_equal(forged.control, n / 10);
    assert_true(stats.tokens_ignored > (uint64_t)n / 10);
    assert_true(stats.tokens_clamped > (uint64_t)n / 4);
    assert_true(moved_no_read(&forged, n));
    assert_true(moved_no_read(&unsure, n / 10));
    /* Rounds of the monitor, and the writer's: no token lets the primary be asked. */
    assert_true(work < forged.primary + forged.control_primary + n / 10 + ms / 2);
    pqr_close(db, 1000);
    ask(P, "update counter set n = 0");
}

/* ---- Levels ---------------------------------------------------------------------------------- */

static const char *source_within(pqr *db, int level, int64_t max_lag_ms)
{
    static char source[64];
    pqr_session *s = session_with(db, NULL);
    pqr_result *res;
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1", .level = level, .max_lag_ms = max_lag_ms), &res,
                &live_error));
    snprintf(source, sizeof source, "%s", pqr_source(res));
    pqr_result_free(res);
    pqr_session_close(s);
    return source;
}

static bool on_primary(pqr *db, int level, int64_t max_lag_ms)
{
    return strcmp(source_within(db, level, max_lag_ms), P) == 0;
}

static void a_read_with_a_bound_is_not_served_by_who_may_be_further_behind(void **state)
{
    (void)state;
    pqr *db = READY_ROUTER(QUICK, LENIENT);
    EVENTUALLY(20000, !on_primary(db, PQR_LEVEL_ANY, 2000) && !on_primary(db, 0, 2000));
    assert_true(on_primary(db, PQR_LEVEL_ANY, 99)); /* below the interval: nobody could know */
    fleet("pause-replay " R1);
    fleet("pause-replay " R2);
    ask(P, "update counter set n = 1");
    EVENTUALLY(20000, on_primary(db, PQR_LEVEL_ANY, 2000));
    assert_true(on_primary(db, PQR_LEVEL_ANY, 2000)); /* it gets no better by itself */
    assert_true(on_primary(db, 0, 2000));
    assert_false(on_primary(db, PQR_LEVEL_ANY, 0));
    assert_false(on_primary(db, PQR_LEVEL_ANY, 3600000));
    fleet("resume-replay " R1);
    fleet("resume-replay " R2);
    EVENTUALLY(20000, !on_primary(db, PQR_LEVEL_ANY, 2000));
    everybody_has(1);
    ask(P, "update counter set n = 0");
    pqr_session *s = session_with(db, NULL);
    FAILS(PQR_E_USAGE,
          pqr_read(s, PQR_QUERY(.sql = "select 1", .max_lag_ms = -1), NULL, &live_error));
    pqr_session_close(s);
    pqr_close(db, 0);
}

static void without_a_primary_a_read_with_a_bound_is_refused_and_others_are_served(pqr *db)
{
    EVENTUALLY(20000, health_of(db, P).state == PQR_NODE_DOWN);
    pqr_session *s = session_with(db, NULL);
    const pqr_query *bounded = PQR_QUERY(.sql = "select 1", .level = PQR_LEVEL_ANY,
                                         .max_lag_ms = 200, .deadline_ms = 1000);
    live_sleep_ms(300); /* what was seen before is older than that now */
    FAILS(PQR_E_NO_PRIMARY, pqr_read(s, bounded, NULL, &live_error));
    says("the read allows 200 ms");
    assert_false(on_primary(db, PQR_LEVEL_ANY, 0));
    pqr_session_close(s);
}

/* ---- After a failover ------------------------------------------------------------------------ */

/* The second process hears of the new primary by the token alone: its own next look is far away. */
static void tokens_hold_across_a_failover(void **state)
{
    (void)state;
    struct pair p = {{READY_ROUTER(QUICK, LENIENT), READY_ROUTER("DB_HEALTH_INTERVAL=60", LENIENT)},
                     ""};
    everybody_has(0);
    pqr_session *s = session_with(p.db[0], "");
    set_number(s, 1);
    char before[PQR_TOKEN_MAX];
    snprintf(before, sizeof before, "%s", token_of(s));
    pqr_session_close(s);
    everybody_has(1);
    fleet("pause-replay " R2); /* on the old line it stays */
    fleet("kill " P);
    without_a_primary_a_read_with_a_bound_is_refused_and_others_are_served(p.db[0]);
    fleet("promote " R1);
    s = session_with(p.db[0], before);
    assert_int_equal(look(s, NULL), 1);
    set_number(s, 2);
    keep_token(&p, s);
    for (int i = 0; i < 20; i++) {
        s = session_with(p.db[1], i % 2 ? p.token : before);
        assert_true(look(s, NULL) >= 1 + i % 2);
        pqr_session_close(s);
    }
    fleet("rejoin " R2);
    fleet("rejoin " P);
    EVENTUALLY(20000, serves_reads(p.db[0], R2) && serves_reads(p.db[0], P));
    char source[64] = R1;
    for (int64_t until = live_now_ms() + 20000; strcmp(source, R1) == 0 && live_now_ms() < until;) {
        s = session_with(p.db[0], p.token);
        assert_int_equal(look(s, source), 2);
        pqr_session_close(s);
    }
    assert_string_not_equal(source, R1); /* replicas of the new line serve those of the old one */
    close_pair(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_that_has_seen_nothing_has_no_token),
        cmocka_unit_test(a_session_that_does_nothing_hands_its_token_on),
        cmocka_unit_test(the_next_process_reads_what_the_last_one_wrote),
        cmocka_unit_test(the_next_process_does_not_go_back_behind_what_was_read),
        cmocka_unit_test(of_two_tokens_both_count),
        cmocka_unit_test(a_token_taken_inside_a_transaction_covers_it),
        cmocka_unit_test(what_a_read_only_transaction_showed_is_in_its_token),
        cmocka_unit_test(reads_with_tokens_stay_on_the_replicas),
        cmocka_unit_test(a_token_of_another_tenant_or_a_damaged_one_is_ignored),
        cmocka_unit_test(with_a_key_only_tokens_made_with_it_count),
        cmocka_unit_test(tokens_that_are_made_up_do_not_move_reads_to_the_primary),
        cmocka_unit_test(a_read_with_a_bound_is_not_served_by_who_may_be_further_behind),
        cmocka_unit_test(tokens_hold_across_a_failover),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
