/* Every call that may fail fails once, the n-th of its kind for each n: allocations, descriptors,
 * threads, connect, send, recv and poll. What must hold: nothing crashes, leaks or hangs; each call
 * ends once, and honestly: at most one fails, a write that may have happened is not called failed,
 * and the next of its kind succeeds.
 *
 * Each n is a pass: a process of its own that tells a story, in which the n-th call fails. By default
 * some of them are tried, drawn from a seed; NTH_ALL=1 tries all, NTH_ALL=1000 those from that one on.
 * NTH_SEED=n repeats a run's draw, and NTH_N=n tries that one. Fleet: one shard, one replica, which
 * does not replay until the failover. */
#include "nth.h"
#include "live.h"

#include <dirent.h>
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define P "shard0/primary"
#define R1 "shard0/replica1"
#define DEADLINE_MS 20000 /* of each call: nothing that fails once costs so much */
#define PASS_MS 90000     /* a pass that takes longer hangs */
#define AT_ONCE 4         /* passes */
#define NOTES 48

/* ---- A pass ----------------------------------------------------------------------------------- */

/* What a write left, by what its caller was told. */
struct note {
    char key[24];
    enum { NOT_THERE, THERE, MAYBE_THERE } row;
};

/* Shared between the parent and the process that the pass is. */
struct pass {
    const struct nth_fault *fault;
    long n;
    struct nth_seen seen;
    int number;
    pid_t pid;
    int64_t begun_ms;
    const char *step; /* a static text */
    bool over;        /* the story was told to its end */
    bool failover;
    int told, go; /* descriptors: it waits for the failover; it goes on */
    _Atomic int calls, failed, unknown;
    int nnotes;
    struct note notes[NOTES];
    char said[1200];
};

static struct pass *self; /* in its process */
static pthread_mutex_t notes_lock = PTHREAD_MUTEX_INITIALIZER;

#define STEP(text) (self->step = (text))

__attribute__((noreturn, format(printf, 1, 2))) static void complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(self->said, sizeof self->said, format, args);
    va_end(args);
    _exit(1);
}

#define DEMAND(condition, ...)     \
    do {                           \
        if (!(condition))          \
            complain(__VA_ARGS__); \
    } while (0)

/* ---- What a call may answer --------------------------------------------------------------------- */

enum kind { OPENS, READS, WRITES };

static bool may_answer(enum kind kind, int code)
{
    switch (code) {
    case PQR_OK:
    case PQR_E_NOMEM:
        return true;
    case PQR_E_LOST:
    case PQR_E_CONNECT:
        return kind != OPENS;
    case PQR_E_UNKNOWN:
    case PQR_E_ROWS_LOST:
        return kind == WRITES;
    case PQR_E_NO_PRIMARY:
        return self->failover && kind != OPENS;
    default:
        return false;
    }
}

static int retry_of(int code)
{
    return code == PQR_E_UNKNOWN     ? PQR_RETRY_UNKNOWN
           : code == PQR_E_ROWS_LOST ? PQR_RETRY_NEVER
                                     : PQR_RETRY_SAFE;
}

/* Did it succeed? If not, that was honest, and the first that failed: whoever asks may do it again,
 * and then it succeeds. During a failover more may fail, for a server was killed besides. */
static bool good(enum kind kind, int code, const pqr_error *err)
{
    atomic_fetch_add(&self->calls, 1);
    DEMAND(code == err->code, "it returned %s, and its error says %s", pqr_code_name(code),
           pqr_code_name(err->code));
    DEMAND(may_answer(kind, code), "%s: %s", pqr_code_name(code), err->message);
    if (code == PQR_OK)
        return true;
    DEMAND(err->message[0], "%s says nothing", pqr_code_name(code));
    DEMAND(err->retry == retry_of(code), "%s says retry %d: %s", pqr_code_name(code), err->retry,
           err->message);
    DEMAND(self->failover || atomic_load(&self->seen.failed), "nothing was wrong, and yet: %s: %s",
           pqr_code_name(code), err->message);
    int before = atomic_fetch_add(&self->failed, 1);
    DEMAND(before < (self->failover ? 20 : 1), "one more failed: %s: %s", pqr_code_name(code),
           err->message);
    atomic_fetch_add(&self->unknown, code == PQR_E_UNKNOWN);
    return false;
}

/* ---- Rows ------------------------------------------------------------------------------------- */

/* A key that no other row has. */
static struct note *new_note(void)
{
    pthread_mutex_lock(&notes_lock);
    struct note *note = &self->notes[self->nnotes];
    snprintf(note->key, sizeof note->key, "%d.%d", self->number, self->nnotes);
    self->nnotes++;
    pthread_mutex_unlock(&notes_lock);
    DEMAND(self->nnotes < NOTES, "too many rows");
    return note;
}

static void take_note(struct note *note, int code)
{
    note->row = code == PQR_OK || code == PQR_E_ROWS_LOST ? THERE
                : code == PQR_E_UNKNOWN                   ? MAYBE_THERE
                                                          : NOT_THERE;
}

static void count_notes(int *there, int *maybe)
{
    *there = *maybe = 0;
    pthread_mutex_lock(&notes_lock);
    for (int i = 0; i < self->nnotes; i++) {
        *there += self->notes[i].row == THERE;
        *maybe += self->notes[i].row == MAYBE_THERE;
    }
    pthread_mutex_unlock(&notes_lock);
}

#define INSERT "insert into nth(pass, key) values ($1, $2)"
#define COUNT "select count(*) from nth where pass = $1"
#define LARGE "select g, repeat('x', 200) from generate_series(1, 300) g"
#define ROW(note) PQR_PARAMS(PQR_INT32(self->number), PQR_TEXT((note)->key))

/* What a session reads that has written all there is, or bears the token of who has. */
static void check_count(const pqr_result *res)
{
    int there, maybe;
    count_notes(&there, &maybe);
    int64_t n = pqr_int64(res, 0, 0);
    DEMAND(n >= there && n <= there + maybe, "%s showed %lld rows where %d are and %d may be",
           pqr_source(res), (long long)n, there, maybe);
}

static void check_large(const pqr_result *res)
{
    DEMAND(pqr_rows(res) == 300 && pqr_int32(res, 299, 0) == 300 && pqr_length(res, 299, 1) == 200,
           "a large result is not whole: %zu rows", pqr_rows(res));
}

/* ---- The steps of a blocking program ------------------------------------------------------------ */

static pqr *open_router(const char *const *env)
{
    pqr *db = NULL;
    pqr_error err;
    STEP("open");
    while (!good(OPENS, pqr_open(&db, PQR_OPTIONS(.env = env), &err), &err))
        DEMAND(!db, "it failed, and there is a router");
    return db;
}

static void get_ready(pqr *db)
{
    pqr_error err;
    STEP("ready");
    while (!good(READS, pqr_ready(db, DEADLINE_MS, &err), &err))
        ;
    DEMAND(pqr_health(db, NULL, 0, 0) == 2, "a server is missing");
}

static pqr_session *open_session(pqr *db, const char *token)
{
    pqr_session *s = NULL;
    pqr_error err;
    STEP("session");
    while (!good(OPENS,
                 pqr_session_open(
                     db, PQR_SESSION(.tenant = "acme", .token = token, .deadline_ms = DEADLINE_MS),
                     &s, &err),
                 &err))
        DEMAND(!s, "it failed, and there is a session");
    return s;
}

static pqr_result *read_with(pqr_session *s, const pqr_query *q)
{
    pqr_result *res = NULL;
    pqr_error err;
    while (!good(READS, pqr_read(s, q, &res, &err), &err))
        DEMAND(!res, "it failed, and there is a result");
    return res;
}

static void read_count(pqr_session *s, const char *step)
{
    STEP(step);
    pqr_result *res = read_with(
        s, PQR_QUERY(.name = "count", .sql = COUNT, PQR_PARAMS(PQR_INT32(self->number))));
    check_count(res);
    pqr_result_free(res);
}

static void read_much(pqr_session *s)
{
    STEP("read much");
    pqr_result *res = read_with(s, PQR_QUERY(.sql = LARGE));
    check_large(res);
    pqr_result_free(res);
}

static void read_batch(pqr_session *s)
{
    const pqr_query *q[] = {PQR_QUERY(.sql = COUNT, PQR_PARAMS(PQR_INT32(self->number))),
                            PQR_QUERY(.sql = "select $1::text", PQR_PARAMS(PQR_TEXT("one"))),
                            PQR_QUERY(.sql = LARGE), PQR_QUERY(.sql = "select 4")};
    pqr_result *res[4];
    pqr_error err;
    STEP("read_batch");
    while (!good(READS, pqr_read_batch(s, q, 4, res, &err), &err))
        DEMAND(!res[0] && !res[1] && !res[2] && !res[3], "it failed, and there is a result");
    check_count(res[0]);
    check_large(res[2]);
    DEMAND(strcmp(pqr_text(res[1], 0, 0), "one") == 0 && pqr_int32(res[3], 0, 0) == 4,
           "a batch's results were mixed up");
    for (int i = 0; i < 4; i++)
        pqr_result_free(res[i]);
}

/* With a key it is the same write when it is done again. */
static void write_row(pqr_session *s, bool keyed)
{
    pqr_error err;
    pqr_result *res = NULL;
    struct note *note = new_note();
    int code;
    STEP(keyed ? "write with a key" : "write");
    for (;;) {
        code = pqr_write(s,
                         PQR_QUERY(.name = "add", .sql = INSERT, ROW(note),
                                   .idempotency_key = keyed ? note->key : NULL),
                         &res, &err);
        take_note(note, code);
        if (good(WRITES, code, &err))
            break;
        DEMAND(!res, "it failed, and there is a result");
        if (!keyed)
            note = new_note();
    }
    DEMAND(pqr_affected(res) == 1 || pqr_known_by(res) == PQR_OUTCOME_RESOLVED,
           "it wrote %lld rows", (long long)pqr_affected(res));
    pqr_result_free(res);
}

static void write_returning(pqr_session *s)
{
    pqr_error err;
    pqr_result *res = NULL;
    struct note *note;
    int code;
    STEP("write returning");
    do {
        note = new_note();
        code = pqr_write(s, PQR_QUERY(.sql = INSERT " returning key", ROW(note)), &res, &err);
        take_note(note, code);
    } while (!good(WRITES, code, &err));
    DEMAND(strcmp(pqr_text(res, 0, 0), note->key) == 0, "it returned another row");
    pqr_result_free(res);
}

static int insert(pqr_tx *tx, const struct note *note, pqr_error *err)
{
    pqr_result *res = NULL;
    int code = pqr_exec(tx, PQR_QUERY(.sql = INSERT " returning key", ROW(note)), &res, err);
    DEMAND((code == PQR_OK) == (res != NULL), "a statement failed, and there is a result");
    pqr_result_free(res);
    return code;
}

static int work(pqr_tx *tx, void *arg, pqr_error *err)
{
    int code = insert(tx, arg, err);
    return code == PQR_OK ? pqr_exec(tx, PQR_QUERY(.sql = "select 1"), NULL, err) : code;
}

/* Somebody who does not look commits also what failed: none of that may be there. Returns whether it
 * was committed. */
static bool commit(pqr_tx *tx, struct note *note, bool inserted, bool failed)
{
    pqr_error err;
    int code = pqr_commit(tx, &err);
    if (inserted)
        take_note(note, code);
    if (failed && code == PQR_E_ROLLED_BACK)
        return false;
    return good(WRITES, code, &err) && !failed;
}

/* false: it failed. */
static bool try_transaction(pqr_session *s, struct note *note, bool commits)
{
    pqr_error err;
    pqr_tx *tx = NULL;
    if (!good(READS, pqr_begin(s, NULL, &tx, &err), &err)) {
        DEMAND(!tx, "it failed, and there is a transaction");
        return false;
    }
    bool inserted = good(READS, insert(tx, note, &err), &err);
    bool well = inserted &&
                good(READS, pqr_exec(tx, PQR_QUERY(.sql = "select 1"), NULL, &err), &err);
    if (commits)
        return commit(tx, note, inserted, !well);
    pqr_rollback(tx);
    return well;
}

static void run_transaction(pqr_session *s, bool commits)
{
    STEP(commits ? "transaction" : "rollback");
    while (!try_transaction(s, new_note(), commits))
        ;
}

static void transact(pqr_session *s)
{
    pqr_error err;
    struct note *note;
    int code;
    STEP("transact");
    do {
        note = new_note();
        code = pqr_transact(s, PQR_TX(.idempotency_key = note->key), work, note, &err);
        take_note(note, code);
    } while (!good(WRITES, code, &err));
}

/* What the application does with it is its own. */
static void use_lent(PGconn *pg, struct note *note)
{
    char sql[160];
    nth_own(true);
    snprintf(sql, sizeof sql, "insert into nth(pass, key) values (%d, '%s')", self->number,
             note ? note->key : "");
    PGresult *res = PQexec(pg, note ? sql : "select 1");
    DEMAND(PQresultStatus(res) == (note ? PGRES_COMMAND_OK : PGRES_TUPLES_OK),
           "what was lent is of no use: %s", PQerrorMessage(pg));
    PQclear(res);
    nth_own(false);
    if (note)
        note->row = THERE;
}

static void lend(pqr_session *s, int mode)
{
    PGconn *pg = NULL;
    pqr_error err;
    STEP(mode == PQR_LEND_READ ? "lend to read" : "lend to write");
    while (!good(READS, pqr_lend(s, mode, &pg, &err), &err))
        DEMAND(!pg, "it failed, and there is a connection");
    use_lent(pg, mode == PQR_LEND_WRITE ? new_note() : NULL);
    pqr_give_back(s, pg);
}

/* Another process's session reads what this one has written. */
static void hand_over(pqr *db, pqr_session *s)
{
    char token[PQR_TOKEN_MAX];
    STEP("token");
    int code = pqr_session_token(s, token, sizeof token);
    if (code == PQR_E_NOMEM && atomic_load(&self->seen.failed))
        code = pqr_session_token(s, token, sizeof token);
    DEMAND(code == PQR_OK && token[0], "no token: %s", pqr_code_name(code));
    pqr_session *other = open_session(db, token);
    read_count(other, "read with a token");
    pqr_session_close(other);
    pqr_stats stats;
    DEMAND(pqr_stats_get(db, &stats, sizeof stats) == PQR_OK && stats.tokens_ignored == 0,
           "its token was ignored");
}

/* ---- Several threads -------------------------------------------------------------------------- */

static void *be_one_of_many(void *db)
{
    pqr_session *s = open_session(db, NULL);
    for (int i = 0; i < 4; i++)
        read_much(s);
    write_row(s, false);
    pqr_session_close(s);
    return NULL;
}

static void crowd(pqr *db)
{
    pthread_t thread[3];
    nth_own(true);
    for (int i = 0; i < 3; i++)
        DEMAND(pthread_create(&thread[i], NULL, be_one_of_many, db) == 0, "no thread");
    nth_own(false);
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
}

/* ---- On a loop -------------------------------------------------------------------------------- */

struct answer {
    int calls;
    pqr_error err;
    pqr_result *res;
    pqr_result *batch[2];
    pqr_tx *tx;
    PGconn *pg;
};

static void on_done(void *arg, const pqr_done *done)
{
    struct answer *a = arg;
    a->calls++;
    a->err = *done->err;
    a->res = done->res;
    for (size_t i = 0; done->batch && i < done->n && i < 2; i++)
        a->batch[i] = done->batch[i];
    a->tx = done->tx;
    a->pg = done->conn;
}

/* Waits for what was submitted, if it was. */
static bool ended(pqr_loop *loop, enum kind kind, int code, const pqr_error *err, struct answer *a)
{
    int64_t until = live_now_ms() + 2 * DEADLINE_MS;
    if (code != PQR_OK) {
        DEMAND(a->calls == 0, "it was refused, and called back");
        return good(kind, code, err);
    }
    while (a->calls == 0) {
        struct pollfd p = {.fd = pqr_loop_fd(loop), .events = POLLIN};
        DEMAND(live_now_ms() < until, "it was not called back");
        nth_own(true);
        poll(&p, 1, 1000);
        nth_own(false);
        DEMAND(pqr_loop_dispatch(loop, 0) >= 0, "dispatch failed");
    }
    DEMAND(a->calls == 1, "it was called back %d times", a->calls);
    return good(kind, a->err.code, &a->err);
}

static pqr_loop *open_loop(pqr *db)
{
    pqr_loop *loop = NULL;
    pqr_error err;
    STEP("loop");
    while (!good(OPENS, pqr_loop_open(db, &loop, &err), &err))
        DEMAND(!loop, "it failed, and there is a loop");
    return loop;
}

static void loop_ready(pqr_loop *loop)
{
    pqr_error err;
    struct answer a;
    STEP("submit_ready");
    do
        a = (struct answer){0};
    while (!ended(loop, READS, pqr_submit_ready(loop, DEADLINE_MS, on_done, &a, &err), &err, &a));
}

static void loop_read(pqr_loop *loop, pqr_session *s)
{
    pqr_error err;
    struct answer a;
    STEP("submit_read");
    do
        a = (struct answer){0};
    while (!ended(loop, READS,
                  pqr_submit_read(loop, s,
                                  PQR_QUERY(.sql = COUNT, PQR_PARAMS(PQR_INT32(self->number))),
                                  on_done, &a, NULL, &err),
                  &err, &a));
    check_count(a.res);
    pqr_result_free(a.res);
}

static void loop_batch(pqr_loop *loop, pqr_session *s)
{
    const pqr_query *q[] = {PQR_QUERY(.sql = COUNT, PQR_PARAMS(PQR_INT32(self->number))),
                            PQR_QUERY(.sql = LARGE)};
    pqr_error err;
    struct answer a;
    STEP("submit_read_batch");
    do
        a = (struct answer){0};
    while (!ended(loop, READS, pqr_submit_read_batch(loop, s, q, 2, on_done, &a, NULL, &err), &err,
                  &a));
    check_count(a.batch[0]);
    check_large(a.batch[1]);
    pqr_result_free(a.batch[0]);
    pqr_result_free(a.batch[1]);
}

static void loop_write(pqr_loop *loop, pqr_session *s, bool keyed)
{
    pqr_error err;
    struct answer a;
    struct note *note = new_note();
    STEP(keyed ? "submit_write with a key" : "submit_write");
    for (;;) {
        a = (struct answer){0};
        int code = pqr_submit_write(loop, s,
                                    PQR_QUERY(.sql = INSERT " returning key", ROW(note),
                                              .idempotency_key = keyed ? note->key : NULL),
                                    on_done, &a, NULL, &err);
        bool well = ended(loop, WRITES, code, &err, &a);
        take_note(note, a.calls ? a.err.code : code);
        if (well)
            break;
        if (a.err.code == PQR_E_ROWS_LOST)
            return;
        if (!keyed)
            note = new_note();
    }
    DEMAND(strcmp(pqr_text(a.res, 0, 0), note->key) == 0, "it returned another row");
    pqr_result_free(a.res);
}

static bool try_on_loop(pqr_loop *loop, pqr_session *s, struct note *note)
{
    pqr_error err;
    struct answer a = {0};
    if (!ended(loop, READS, pqr_submit_begin(loop, s, NULL, on_done, &a, NULL, &err), &err, &a))
        return false;
    pqr_tx *tx = a.tx;
    a = (struct answer){0};
    bool well = ended(
        loop, READS,
        pqr_submit_exec(loop, tx, PQR_QUERY(.sql = INSERT, ROW(note)), on_done, &a, NULL, &err),
        &err, &a);
    pqr_result_free(a.res);
    a = (struct answer){0};
    if (!well) {
        pqr_rollback(tx);
        return false;
    }
    int code = pqr_submit_commit(loop, tx, on_done, &a, NULL, &err);
    well = ended(loop, WRITES, code, &err, &a);
    take_note(note, a.calls ? a.err.code : code);
    return well;
}

static void loop_lend(pqr_loop *loop, pqr_session *s)
{
    pqr_error err;
    struct answer a;
    STEP("submit_lend");
    do
        a = (struct answer){0};
    while (!ended(loop, READS, pqr_submit_lend(loop, s, PQR_LEND_READ, on_done, &a, NULL, &err),
                  &err, &a));
    use_lent(a.pg, NULL);
    pqr_give_back(s, a.pg);
}

/* ---- Stories ---------------------------------------------------------------------------------- */

static void tell_blocking(const char *const *env)
{
    pqr *db = open_router(env);
    get_ready(db);
    pqr_session *s = open_session(db, "");
    read_count(s, "read");
    read_much(s);
    write_row(s, false);
    write_row(s, true);
    write_returning(s);
    read_count(s, "read");
    read_batch(s);
    run_transaction(s, true);
    run_transaction(s, false);
    transact(s);
    lend(s, PQR_LEND_READ);
    lend(s, PQR_LEND_WRITE);
    hand_over(db, s);
    crowd(db);
    read_count(s, "read");
    STEP("close");
    pqr_session_close(s);
    pqr_close(db, 1000);
}

static void tell_on_a_loop(const char *const *env)
{
    pqr *db = open_router(env);
    pqr_loop *loop = open_loop(db);
    loop_ready(loop);
    pqr_session *s = open_session(db, "");
    loop_read(loop, s);
    loop_write(loop, s, false);
    loop_write(loop, s, true);
    loop_read(loop, s);
    loop_batch(loop, s);
    STEP("submit_begin");
    while (!try_on_loop(loop, s, new_note()))
        ;
    loop_lend(loop, s);
    hand_over(db, s);
    loop_read(loop, s);
    STEP("close");
    pqr_session_close(s);
    pqr_loop_close(loop);
    pqr_close(db, 1000);
}

static void wait_for_the_failover(void)
{
    char c;
    nth_own(true);
    ssize_t n = write(self->told, "x", 1);
    DEMAND(n == 1 && read(self->go, &c, 1) == 1, "nobody makes a failover");
    nth_own(false);
}

static void tell_of_a_failover(const char *const *env)
{
    pqr *db = open_router(env);
    get_ready(db);
    pqr_session *s = open_session(db, "");
    write_row(s, false);
    read_count(s, "read");
    nth_order(self->fault, self->n, &self->seen);
    wait_for_the_failover();
    write_row(s, false);
    read_count(s, "read");
    write_row(s, true);
    run_transaction(s, true);
    hand_over(db, s);
    STEP("close");
    pqr_session_close(s);
    pqr_close(db, 1000);
}

/* ---- In the process of a pass ------------------------------------------------------------------- */

static int count_entries(const char *folder)
{
    int n = 0;
    nth_own(true);
    DIR *d = opendir(folder);
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    nth_own(false);
    return n;
}

/* Threads end a moment after they were joined, those that look names up when the resolver likes. */
static void wait_for_threads(void)
{
    int64_t until = live_now_ms() + DEADLINE_MS;
    STEP("after the end");
    while (count_entries("/proc/self/task") > 3) {
        DEMAND(live_now_ms() < until, "threads are left");
        live_sleep_ms(1);
    }
}

typedef void story_fn(const char *const *env);

static void be_a_pass(struct pass *p, story_fn *story, const char *const *env)
{
    char left[800];
    self = p;
    int fds = count_entries("/proc/self/fd");
    nth_watch();
    if (!p->failover)
        nth_order(p->fault, p->n, &p->seen);
    story(env);
    wait_for_threads();
    int more = count_entries("/proc/self/fd") - fds;
    DEMAND(more == 0, "%d descriptors are left", more);
    int blocks = nth_left(left, sizeof left);
    DEMAND(blocks == 0, "%d blocks are left, such as %s", blocks, left);
    nth_stop();
    self->over = true;
    exit(0);
}

/* ---- The parent ------------------------------------------------------------------------------- */

static struct pass *passes; /* shared with those that are under way */
static const char *primary = P, *replica = R1;
static int npasses, wrong;
static unsigned seed;

static const char *const *environment(void)
{
    static char named[600];
    const char *url = getenv("DATABASE_REPLICA_1_URL"),
               *host = url ? strstr(url, "127.0.0.1") : NULL;
    assert_non_null(host);
    snprintf(named, sizeof named, "DATABASE_REPLICA_1_URL=%.*slocalhost%s", (int)(host - url), url,
             host + strlen("127.0.0.1"));
    return live_env((const char *const[]) {
        named,
#if PQI_OPENSSL
            "DB_TOKEN_KEY=0123456789abcdef0123456789abcdef",
#endif
            "DB_HEALTH_INTERVAL=200ms", "DB_MAX_REPLICA_LAG=0", "DB_MAX_REPLICA_LAG_BYTES=0",
            "DB_CONNECTION_LIMIT=8", NULL
    });
}

static void begin(struct pass *p, const struct nth_fault *fault, long n, story_fn *story,
                  const int *told, const int *go)
{
    const char *const *env = environment();
    memset(p, 0, sizeof *p);
    p->fault = fault;
    p->n = n;
    p->number = ++npasses;
    p->step = "before it began";
    p->begun_ms = live_now_ms();
    p->failover = told != NULL;
    p->told = told ? told[1] : -1;
    p->go = go ? go[0] : -1;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (go)
            close(go[1]);
        be_a_pass(p, story, env);
    }
    p->pid = pid;
}

/* How many rows of this key stand in "key:n key:n …". */
static int rows_of(const char *list, const char *key)
{
    size_t len = strlen(key);
    for (const char *at = list; at && *at; at = strchr(at, ' '), at += at ? 1 : 0)
        if (strncmp(at, key, len) == 0 && at[len] == ':')
            return atoi(at + len + 1);
    return 0;
}

static const char *check_rows(struct pass *p)
{
    static char text[200];
    const char *list = ask(primary,
                           "select coalesce(string_agg(key || ':' || n, ' '), '') from"
                           " (select key, count(*) n from nth where pass = %d group by key) k",
                           p->number);
    static const char *const told[] = {"to have failed", "to be done", "to be unknown"};
    for (int i = 0; i < p->nnotes; i++) {
        struct note *note = &p->notes[i];
        int n = rows_of(list, note->key);
        bool right = note->row == MAYBE_THERE ? n <= 1 : n == (note->row == THERE);
        snprintf(text, sizeof text, "write %s was said %s, and its row is there %d times",
                 note->key, told[note->row], n);
        if (!right)
            return text;
    }
    return NULL;
}

static void blame(struct pass *p, const char *what)
{
    char stack[1600];
    nth_tell(p->seen.stack, p->seen.depth, stack, sizeof stack);
    print_error("%s %ld, at \"%s\": %s\n  it failed at %s\n", p->fault->name, p->n, p->step, what,
                atomic_load(&p->seen.failed) ? stack : "no place");
    wrong++;
}

static void judge(struct pass *p, int status)
{
    char text[1400];
    const char *rows = check_rows(p);
    if (WIFSIGNALED(status))
        snprintf(text, sizeof text, "signal %d, after %lld ms", WTERMSIG(status),
                 (long long)(live_now_ms() - p->begun_ms));
    else
        snprintf(text, sizeof text, "exit status %d: %s", WEXITSTATUS(status), p->said);
    if (status != 0 || !p->over)
        blame(p, text);
    else if (rows)
        blame(p, rows);
}

/* What came of several. */
struct sum {
    long tried, hit;
    int failed, unknown, slowest_ms;
    long slowest;
};

static void add(struct sum *s, struct pass *p)
{
    int ms = (int)(live_now_ms() - p->begun_ms);
    s->tried++;
    s->hit += atomic_load(&p->seen.failed);
    s->failed += atomic_load(&p->failed) > 0;
    s->unknown += atomic_load(&p->unknown);
    if (ms > s->slowest_ms) {
        s->slowest_ms = ms;
        s->slowest = p->n;
    }
}

/* Is it over? Then it is judged. */
static bool look(struct pass *p, struct sum *s)
{
    int status;
    if (p->pid > 0 && live_now_ms() - p->begun_ms > PASS_MS)
        kill(p->pid, SIGABRT);
    if (p->pid <= 0 || waitpid(p->pid, &status, WNOHANG) != p->pid)
        return false;
    p->pid = 0;
    judge(p, status);
    add(s, p);
    return true;
}

/* The first that is free, or becomes so. */
static struct pass *wait_for_one(struct sum *s, int n)
{
    for (;; live_sleep_ms(1))
        for (int i = 0; i < n; i++)
            if (look(&passes[i], s) || passes[i].pid <= 0)
                return &passes[i];
}

static void wait_for_all(struct sum *s, int n)
{
    for (int i = 0; i < n; i++)
        while (passes[i].pid > 0 && !look(&passes[i], s))
            live_sleep_ms(1);
}

/* ---- Chapters --------------------------------------------------------------------------------- */

static const struct nth_fault allocation = {"allocation", NTH_ALLOCATION, ENOMEM, false};
static const struct nth_fault descriptor = {"descriptor", NTH_DESCRIPTOR, EMFILE, false};
static const struct nth_fault thread = {"thread", NTH_THREAD, EAGAIN, false};
static const struct nth_fault refused = {"connect, refused,", NTH_CONNECT, ECONNREFUSED, false};
static const struct nth_fault no_port = {"connect, no port,", NTH_CONNECT, EADDRNOTAVAIL, false};
static const struct nth_fault unsent = {"send, in vain,", NTH_SEND, ECONNRESET, false};
static const struct nth_fault sent = {"send, then reset,", NTH_SEND, ECONNRESET, true};
static const struct nth_fault reset = {"recv, reset,", NTH_RECV, ECONNRESET, false};
static const struct nth_fault end = {"recv, end,", NTH_RECV, 0, false};
static const struct nth_fault no_poll = {"poll, no memory,", NTH_POLL, ENOMEM, false};
static const struct nth_fault signalled = {"poll, a signal,", NTH_POLL, EINTR, false};

struct chapter {
    story_fn *story;
    const struct nth_fault *fault;
    int tries; /* where not all are tried */
};

/* From which on all are tried; 0: some are. */
static long all(void)
{
    const char *all = getenv("NTH_ALL");
    return all ? atol(all) : 0;
}

/* How many such calls there are when none fails, which harms nobody either. */
static long count_calls(const struct chapter *c)
{
    struct sum none = {0};
    begin(&passes[0], c->fault, 0, c->story, NULL, NULL);
    wait_for_all(&none, 1);
    assert_int_equal(wrong, 0);
    assert_int_equal(atomic_load(&passes[0].failed), 0);
    return atomic_load(&passes[0].seen.calls);
}

/* The i-th of so many: one in each part of equal length. */
static long draw(long i, long tries, long total)
{
    if (total <= tries)
        return i + 1;
    long from = i * total / tries, to = (i + 1) * total / tries;
    return from + 1 + rand_r(&seed) % (to - from);
}

/* Until whole passes have no failure: how many calls there are varies a little. */
static void try_all(const struct chapter *c, struct sum *s)
{
    for (long n = all(); s->tried - s->hit < 2 * AT_ONCE; n++)
        begin(wait_for_one(s, AT_ONCE), c->fault, n, c->story, NULL, NULL);
}

static void try_some(const struct chapter *c, long total, struct sum *s)
{
    long tries = total < c->tries ? total : c->tries;
    for (long i = 0; i < tries; i++)
        begin(wait_for_one(s, AT_ONCE), c->fault, draw(i, tries, total), c->story, NULL, NULL);
}

static void print_sum(const char *what, const struct sum *s, long total)
{
    print_message(
        "%s: %ld tried of about %ld, and %ld failed: %d made a call fail, %d left a write "
        "unknown; the slowest, %ld, took %d ms\n",
        what, s->tried, total, s->hit, s->failed, s->unknown, s->slowest, s->slowest_ms);
}

static void each_fails_once(void **state)
{
    const struct chapter *c = *state;
    const char *only = getenv("NTH_N");
    struct sum sum = {0};
    wrong = 0;
    long total = count_calls(c);
    if (only)
        begin(&passes[0], c->fault, atol(only), c->story, NULL, NULL);
    else if (all())
        try_all(c, &sum);
    else
        try_some(c, total, &sum);
    wait_for_all(&sum, AT_ONCE);
    print_sum(c->fault->name, &sum, total);
    assert_int_equal(wrong, 0);
}

/* ---- Failovers -------------------------------------------------------------------------------- */

/* Many live through the same one, each with a failure of its own. */
#define MOST 12

static void wait_until_told(int fd, int n)
{
    char c;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    for (int i = 0; i < n; i++) {
        assert_int_equal(poll(&p, 1, PASS_MS), 1);
        assert_int_equal(read(fd, &c, 1), 1);
    }
}

static void fail_over(void)
{
    const char *old = primary;
    fleet("kill %s", primary);
    primary = replica;
    replica = old;
}

static void caught_up(void)
{
    char there[32];
    snprintf(there, sizeof there, "%s", ask(primary, "select pg_current_wal_lsn()"));
    EVENTUALLY(DEADLINE_MS,
               ask_number(replica, "select (pg_last_wal_replay_lsn() >= '%s')::int", there) == 1);
}

static void live_through_one(const struct nth_fault *const *faults, const long *n, int count,
                             struct sum *s)
{
    int told[2], go[2];
    assert_int_equal(pipe(told), 0);
    assert_int_equal(pipe(go), 0);
    for (int i = 0; i < count; i++)
        begin(&passes[i], faults[i], n[i], tell_of_a_failover, told, go);
    wait_until_told(told[0], count);
    caught_up();
    fail_over();
    for (int i = 0; i < count; i++)
        assert_int_equal(write(go[1], "x", 1), 1);
    fleet("promote %s", primary);
    wait_for_all(s, count);
    for (int i = 0; i < 2; i++) {
        close(told[i]);
        close(go[i]);
    }
    fleet("rejoin %s", replica);
}

static const struct nth_fault *const faults[] = {&allocation, &descriptor, &thread,    &refused,
                                                 &no_port,    &unsent,     &sent,      &reset,
                                                 &end,        &no_poll,    &signalled, &allocation};

static void try_all_in_failovers(const struct nth_fault *fault)
{
    const struct nth_fault *same[MOST];
    long n[MOST];
    struct sum sum = {0};
    for (long from = 1; sum.tried - sum.hit < 2; from += MOST) {
        for (int i = 0; i < MOST; i++) {
            same[i] = fault;
            n[i] = from + i;
        }
        live_through_one(same, n, MOST, &sum);
    }
    print_sum(fault->name, &sum, sum.hit);
}

/* The most of a kind there may be: allocations are the many. */
static void a_failure_during_a_failover_harms_nobody(void **state)
{
    (void)state;
    long n[MOST];
    struct sum sum = {0};
    wrong = 0;
    fleet("resume-replay %s", replica);
    for (int i = 0; all() && i < MOST - 1; i++)
        try_all_in_failovers(faults[i]);
    for (int i = 0; i < MOST; i++)
        n[i] = 1 + rand_r(&seed) % (faults[i] == &allocation ? 1000
                                    : faults[i] == &thread   ? 2
                                                             : 20);
    if (!all())
        live_through_one(faults, n, MOST, &sum);
    print_sum("in failovers", &sum, sum.tried);
    assert_int_equal(wrong, 0);
}

/* ---- Words ------------------------------------------------------------------------------------ */

static void sign_a_token(pqr *db)
{
    char token[PQR_TOKEN_MAX];
    pqr_session *s;
    OK(pqr_session_open(db, PQR_SESSION(.tenant = "acme", .token = ""), &s, &live_error));
    OK(pqr_read(s, PQR_QUERY(.sql = "select 1", .level = PQR_LEVEL_SESSION), NULL, &live_error));
    assert_int_equal(pqr_session_token(s, token, sizeof token), PQR_OK);
    assert_true(token[0]);
    pqr_session_close(s);
}

static int set_up(void **state)
{
    (void)state;
    const char *given = getenv("NTH_SEED");
    seed = given ? (unsigned)atol(given) : (unsigned)live_now_ms() ^ (unsigned)getpid() << 8;
    print_message("NTH_SEED=%u\n", seed);
    passes = mmap(NULL, MOST * sizeof *passes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                  -1, 0);
    if (passes == MAP_FAILED)
        return -1;
    ask(P, "create table nth(pass int not null, key text not null)");
    ask(P, "grant all on nth to app");
    /* What is done for the first time here is done: glibc 2.36 keeps a lock for ever if the allocation fails
     * that its first look-up of a name makes (get_locked_global in resolv_conf.c), and libcrypto 3.0
     * does not find an algorithm any more that it had no memory to fetch at first. */
    pqr *db = NULL;
    OK(pqr_open(&db, PQR_OPTIONS(.env = environment()), &live_error));
    live_ready(db);
    EVENTUALLY(DEADLINE_MS, health_of(db, R1).state == PQR_NODE_UP);
    OK(pqr_init(db, 10000, NULL, NULL, &live_error));
    sign_a_token(db);
    pqr_close(db, 0);
    caught_up();
    fleet("pause-replay %s", R1);
    return 0;
}

#define CHAPTER(sentence, story, fault, tries)                   \
    {                                                            \
        sentence, each_fails_once, NULL, NULL, &(struct chapter) \
        {                                                        \
            story, &fault, tries                                 \
        }                                                        \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHAPTER("an_allocation_that_fails_harms_nobody", tell_blocking, allocation, 40),
        CHAPTER("a_descriptor_that_is_not_to_be_had_harms_nobody", tell_blocking, descriptor, 8),
        CHAPTER("a_thread_that_is_not_to_be_had_harms_nobody", tell_blocking, thread, 4),
        CHAPTER("a_connect_that_is_refused_harms_nobody", tell_blocking, refused, 4),
        CHAPTER("a_port_that_is_not_to_be_had_harms_nobody", tell_blocking, no_port, 4),
        CHAPTER("a_send_in_vain_harms_nobody", tell_blocking, unsent, 8),
        CHAPTER("a_link_that_is_reset_after_a_send_harms_nobody", tell_blocking, sent, 8),
        CHAPTER("a_link_that_is_reset_before_a_recv_harms_nobody", tell_blocking, reset, 8),
        CHAPTER("a_link_that_ends_harms_nobody", tell_blocking, end, 4),
        CHAPTER("a_poll_that_fails_harms_nobody", tell_blocking, no_poll, 4),
        CHAPTER("a_poll_that_a_signal_ends_harms_nobody", tell_blocking, signalled, 4),
        CHAPTER("on_a_loop_an_allocation_that_fails_harms_nobody", tell_on_a_loop, allocation, 30),
        CHAPTER("on_a_loop_a_descriptor_that_is_not_to_be_had_harms_nobody", tell_on_a_loop,
                descriptor, 6),
        CHAPTER("on_a_loop_a_connect_that_is_refused_harms_nobody", tell_on_a_loop, refused, 3),
        CHAPTER("on_a_loop_a_send_in_vain_harms_nobody", tell_on_a_loop, unsent, 6),
        CHAPTER("on_a_loop_a_link_that_is_reset_after_a_send_harms_nobody", tell_on_a_loop, sent,
                6),
        CHAPTER("on_a_loop_a_link_that_is_reset_before_a_recv_harms_nobody", tell_on_a_loop, reset,
                6),
        CHAPTER("on_a_loop_a_poll_that_fails_harms_nobody", tell_on_a_loop, no_poll, 4),
        cmocka_unit_test(a_failure_during_a_failover_harms_nobody),
    };
    return cmocka_run_group_tests_name("nth", tests, set_up, NULL);
}
