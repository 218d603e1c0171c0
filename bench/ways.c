/* The same work by libpq and by pqrouter. */
#include "ways.h"

#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char read_sql[] = "select id, body from bench where id = $1";
static const char write_sql[] = "update bench set n = n + 1 where id = $1";

struct own {
    PGconn *conn;
    pqr_session *session;
    uint32_t key;
};

static int64_t next_key(struct own *o)
{
    o->key = o->key * 1664525u + 1013904223u;
    return o->key % ROWS;
}

static struct own *new_own(int number)
{
    struct own *o = calloc(1, sizeof *o);
    if (!o)
        exit(1);
    o->key = (uint32_t)number * 7919u + 1;
    return o;
}

/* ---- libpq: a connection a caller, statements prepared -------------------------------------- */

static void *libpq_open(void *shared, int number)
{
    (void)shared;
    struct own *o = new_own(number);
    o->conn = PQconnectdb(getenv("DATABASE_PRIMARY_URL"));
    PQclear(PQprepare(o->conn, "r", read_sql, 1, (const Oid[]){20}));
    PQclear(PQprepare(o->conn, "w", write_sql, 1, (const Oid[]){20}));
    return o;
}

static bool libpq_run(struct own *o, const char *name, ExecStatusType wanted)
{
    uint64_t key = __builtin_bswap64((uint64_t)next_key(o));
    const char *values[] = {(const char *)&key};
    PGresult *res = PQexecPrepared(o->conn, name, 1, values, (const int[]){8}, (const int[]){1}, 0);
    bool good = PQresultStatus(res) == wanted;
    if (!good)
        fprintf(stderr, "libpq: %s\n", PQerrorMessage(o->conn));
    PQclear(res);
    return good;
}

static bool libpq_read_one(void *own)
{
    return libpq_run(own, "r", PGRES_TUPLES_OK);
}

static bool libpq_write_one(void *own)
{
    return libpq_run(own, "w", PGRES_COMMAND_OK);
}

static void libpq_close(void *own)
{
    struct own *o = own;
    PQfinish(o->conn);
    free(o);
}

const struct bench_way libpq_read = {
    .name = "libpq", .open = libpq_open, .call = libpq_read_one, .close = libpq_close};
const struct bench_way libpq_write = {
    .name = "libpq", .open = libpq_open, .call = libpq_write_one, .close = libpq_close};

/* ---- libpq by hand: with all that a write of pqrouter's has around it ------------------------- */

static void *by_hand_open(void *shared, int number)
{
    struct own *o = libpq_open(shared, number);
    PQclear(PQprepare(o->conn, "id", "select pg_current_xact_id()", 0, NULL));
    PQclear(PQprepare(o->conn, "position", "select pg_current_wal_insert_lsn()", 0, NULL));
    if (!PQenterPipelineMode(o->conn) || PQsetnonblocking(o->conn, 1) != 0)
        exit(1);
    return o;
}

static bool by_hand_ask(struct own *o, const char *name)
{
    return PQsendQueryPrepared(o->conn, name, 0, NULL, NULL, NULL, 1) == 1;
}

static bool by_hand_put(struct own *o)
{
    uint64_t key = __builtin_bswap64((uint64_t)next_key(o));
    const char *values[] = {(const char *)&key};
    return by_hand_ask(o, "id") && PQsendFlushRequest(o->conn) &&
           PQsendQueryPrepared(o->conn, "w", 1, values, (const int[]){8}, (const int[]){1}, 0) &&
           PQpipelineSync(o->conn) && by_hand_ask(o, "position") && PQpipelineSync(o->conn);
}

/* Takes what has come; false: it was an error. */
static bool by_hand_take(PGconn *conn, int *syncs)
{
    bool good = true;
    while (*syncs > 0 && good && !PQisBusy(conn)) {
        PGresult *res = PQgetResult(conn);
        ExecStatusType status = PQresultStatus(res);
        *syncs -= status == PGRES_PIPELINE_SYNC;
        good = !res || status == PGRES_PIPELINE_SYNC || status == PGRES_TUPLES_OK ||
               status == PGRES_COMMAND_OK;
        PQclear(res);
    }
    return good;
}

static bool by_hand_write_one(void *own)
{
    struct own *o = own;
    int syncs = 2;
    bool good = by_hand_put(o);
    while (good && syncs > 0) {
        struct pollfd fd = {.fd = PQsocket(o->conn), .events = POLLIN};
        good = poll(&fd, 1, -1) == 1 && PQconsumeInput(o->conn) && by_hand_take(o->conn, &syncs);
    }
    if (!good)
        fprintf(stderr, "libpq: %s\n", PQerrorMessage(o->conn));
    return good;
}

const struct bench_way by_hand_write = {.name = "libpq, same envelope",
                                        .open = by_hand_open,
                                        .call = by_hand_write_one,
                                        .close = libpq_close};

/* ---- pqrouter ------------------------------------------------------------------------------- */

static void *pqrouter_open(void *shared, int number)
{
    struct own *o = new_own(number);
    pqr_error err;
    if (pqr_session_open(shared, PQR_SESSION(.tenant = "acme"), &o->session, &err) == PQR_OK)
        return o;
    fprintf(stderr, "pqrouter: %s\n", err.message);
    return NULL;
}

static bool pqrouter_read_one(void *own)
{
    struct own *o = own;
    pqr_error err;
    pqr_result *res;
    int64_t key = next_key(o);
    int code = pqr_read(o->session, PQR_QUERY(.sql = read_sql, PQR_PARAMS(PQR_INT64(key))), &res,
                        &err);
    if (code == PQR_OK && pqr_int64(res, 0, 0) != key) {
        fprintf(stderr, "pqrouter: asked for %lld, got %lld\n", (long long)key,
                (long long)pqr_int64(res, 0, 0));
        exit(1);
    }
    if (code == PQR_OK)
        pqr_result_free(res);
    else
        fprintf(stderr, "pqrouter: %s\n", err.message);
    return code == PQR_OK;
}

static bool write_one(struct own *o, bool no_id)
{
    pqr_error err;
    int code = pqr_write(
        o->session, PQR_QUERY(.sql = write_sql, PQR_PARAMS(PQR_INT64(next_key(o))), .no_id = no_id),
        NULL, &err);
    if (code != PQR_OK)
        fprintf(stderr, "pqrouter: %s\n", err.message);
    return code == PQR_OK;
}

static bool pqrouter_write_one(void *own)
{
    return write_one(own, false);
}

static bool pqrouter_write_no_id_one(void *own)
{
    return write_one(own, true);
}

static void pqrouter_close(void *own)
{
    struct own *o = own;
    pqr_session_close(o->session);
    free(o);
}

const struct bench_way pqrouter_read = {
    .name = "pqrouter", .open = pqrouter_open, .call = pqrouter_read_one, .close = pqrouter_close};
const struct bench_way pqrouter_write = {
    .name = "pqrouter", .open = pqrouter_open, .call = pqrouter_write_one, .close = pqrouter_close};
const struct bench_way pqrouter_write_no_id = {.name = "pqrouter, .no_id",
                                               .open = pqrouter_open,
                                               .call = pqrouter_write_no_id_one,
                                               .close = pqrouter_close};

/* ---- One event loop ------------------------------------------------------------------------- */

struct flight {
    struct own own;
    struct crowd *crowd;
};

struct crowd {
    pqr_loop *loop;
    int in_flight;
    int64_t done;
    bool stop, failed;
    int (*submit)(struct flight *f, pqr_error *err);
};

static void on_done(void *arg, const pqr_done *done);

static int submit_read(struct flight *f, pqr_error *err)
{
    return pqr_submit_read(f->crowd->loop, f->own.session,
                           PQR_QUERY(.sql = read_sql, PQR_PARAMS(PQR_INT64(next_key(&f->own)))),
                           on_done, f, NULL, err);
}

static int submit_write(struct flight *f, pqr_error *err)
{
    return pqr_submit_write(f->crowd->loop, f->own.session,
                            PQR_QUERY(.sql = write_sql, PQR_PARAMS(PQR_INT64(next_key(&f->own)))),
                            on_done, f, NULL, err);
}

static void on_done(void *arg, const pqr_done *done)
{
    struct flight *f = arg;
    pqr_error err;
    f->crowd->done++;
    f->crowd->in_flight--;
    if (done->err->code != PQR_OK) {
        fprintf(stderr, "loop: %s\n", done->err->message);
        f->crowd->stop = f->crowd->failed = true;
    }
    pqr_result_free(done->res);
    if (!f->crowd->stop && f->crowd->submit(f, &err) == PQR_OK)
        f->crowd->in_flight++;
}

static double run_loop(pqr *db, int callers, int ms, int (*submit)(struct flight *, pqr_error *))
{
    struct crowd crowd = {.submit = submit};
    struct flight *list = calloc((size_t)callers, sizeof *list);
    pqr_error err;
    if (!list || pqr_loop_open(db, &crowd.loop, &err) != PQR_OK)
        exit(1);
    for (int i = 0; i < callers; i++) {
        list[i].crowd = &crowd;
        list[i].own.key = (uint32_t)i * 7919u + 1;
        if (pqr_session_open(db, PQR_SESSION(.tenant = "acme"), &list[i].own.session, &err) ||
            submit(&list[i], &err))
            exit(1);
        crowd.in_flight++;
    }
    int64_t begin = 0, spent = 0, before = 0, calls = 0;
    while (crowd.in_flight > 0) {
        struct pollfd fd = {.fd = pqr_loop_fd(crowd.loop), .events = POLLIN};
        poll(&fd, 1, -1);
        pqr_loop_dispatch(crowd.loop, 0);
        int64_t now = bench_now_ns();
        if (begin == 0 && crowd.done >= callers) {
            begin = now;
            before = crowd.done;
        }
        if (begin != 0 && !crowd.stop && now - begin >= (int64_t)ms * 1000000) {
            spent = now - begin;
            calls = crowd.done - before;
            crowd.stop = true;
        }
    }
    for (int i = 0; i < callers; i++)
        pqr_session_close(list[i].own.session);
    pqr_loop_close(crowd.loop);
    free(list);
    return crowd.failed ? -1 : (double)calls * 1e9 / (double)spent;
}

static double loop_read_run(void *shared, int callers, int ms)
{
    return run_loop(shared, callers, ms, submit_read);
}

static double loop_write_run(void *shared, int callers, int ms)
{
    return run_loop(shared, callers, ms, submit_write);
}

const struct bench_way loop_read = {.name = "pqrouter, one loop", .run = loop_read_run};
const struct bench_way loop_write = {.name = "pqrouter, one loop", .run = loop_write_run};

bool ways_prepare(pqr *db)
{
    static const char *const sql[] = {
        "drop table if exists bench",
        "create table bench(id bigint primary key, body text, n int default 0)",
        "insert into bench select i, 'body ' || i from generate_series(0, 9999) i",
    };
    pqr_session *s = NULL;
    pqr_error err;
    int code = pqr_session_open(db, PQR_SESSION(.tenant = "acme"), &s, &err);
    for (size_t i = 0; code == PQR_OK && i < sizeof sql / sizeof *sql; i++)
        code = pqr_write(s, PQR_QUERY(.sql = sql[i]), NULL, &err);
    pqr_session_close(s);
    if (code != PQR_OK)
        fprintf(stderr, "%s\n", err.message);
    return code == PQR_OK;
}
