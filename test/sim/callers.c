/* Callers. */
#include "callers.h"

#include "check.h"
#include "turns.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALLERS_MAX 12
#define LOOPS_MAX 2
#define KEYS 3
#define TENANTS 4
#define CALM_CALLS 3
#define CALM_MS 3000

struct loop {
    pqr_loop *loop;
    bool over;
    struct sim_thread *thread;
};

struct caller {
    char name[24];
    pqr *db;
    pqr_loop *loop; /* NULL: it blocks */
    pqr_session *session;
    int tenant, unit;
    bool must; /* succeed */
    int64_t deadline_ms;
    struct sim_view view[KEYS];
    struct sim_thread *thread;
};

static struct {
    struct caller caller[CALLERS_MAX];
    struct loop loop[LOOPS_MAX];
    int n, nloops, units;
    bool rests, calm;
} all;

/* ---- One call, either way ------------------------------------------------------------------- */

struct answer {
    bool done;
    pqr_error err;
    pqr_result *res;
    pqr_tx *tx;
};

static void on_done(void *arg, const pqr_done *done)
{
    struct answer *a = arg;
    if (a->done)
        sim_violated("a call ends twice");
    a->err = *done->err;
    a->res = done->res;
    a->tx = done->tx;
    a->done = true;
}

static void wait_for(struct answer *a, int code)
{
    if (code == PQR_OK)
        sim_wait(NULL, 0, &a->done, NEVER);
}

static void call_read(struct caller *me, const pqr_query *q, struct answer *a)
{
    if (me->loop)
        wait_for(a, pqr_submit_read(me->loop, me->session, q, on_done, a, NULL, &a->err));
    else
        pqr_read(me->session, q, &a->res, &a->err);
}

static void call_write(struct caller *me, const pqr_query *q, struct answer *a, bool cancels)
{
    pqr_call *call;
    int code;
    if (!me->loop) {
        pqr_write(me->session, q, &a->res, &a->err);
        return;
    }
    code = pqr_submit_write(me->loop, me->session, q, on_done, a, &call, &a->err);
    if (code == PQR_OK && cancels) {
        sim_wait(NULL, 0, &a->done, sim_now() + sim_between(SIM_CALLERS, 0, 4 * MS));
        if (!a->done)
            pqr_cancel(call);
    }
    wait_for(a, code);
}

static void call_begin(struct caller *me, const pqr_tx_options *o, struct answer *a)
{
    if (me->loop)
        wait_for(a, pqr_submit_begin(me->loop, me->session, o, on_done, a, NULL, &a->err));
    else
        pqr_begin(me->session, o, &a->tx, &a->err);
}

static void call_exec(struct caller *me, pqr_tx *tx, const pqr_query *q, struct answer *a)
{
    if (me->loop)
        wait_for(a, pqr_submit_exec(me->loop, tx, q, on_done, a, NULL, &a->err));
    else
        pqr_exec(tx, q, &a->res, &a->err);
}

static void call_commit(struct caller *me, pqr_tx *tx, struct answer *a)
{
    if (me->loop)
        wait_for(a, pqr_submit_commit(me->loop, tx, on_done, a, NULL, &a->err));
    else
        pqr_commit(tx, &a->err);
}

static void call_rollback(struct caller *me, pqr_tx *tx, struct answer *a)
{
    if (me->loop)
        wait_for(a, pqr_submit_rollback(me->loop, tx, on_done, a, NULL, &a->err));
    else
        pqr_rollback(tx);
}

/* ---- Statements ----------------------------------------------------------------------------- */

struct texts {
    char tenant[12], key[12], uid[12], unit[12];
};

static void fill(struct texts *t, const struct caller *me, int key, int uid)
{
    snprintf(t->tenant, sizeof t->tenant, "%d", me->tenant);
    snprintf(t->key, sizeof t->key, "%d", key);
    snprintf(t->uid, sizeof t->uid, "%d", uid);
    snprintf(t->unit, sizeof t->unit, "%d", me->unit);
}

static const char *const read_sql[] = {
    "select tenant, key, uids, hidden from log where tenant = $1 and key = $2 -- $3",
    "select tenant, key, uids, hidden from slow_log where tenant = $1 and key = $2 -- $3",
};

static const char *const write_sql[] = {
    "insert into log(tenant, key, uid, unit) values ($1, $2, $3, $4)",
    "insert into untidy_log(tenant, key, uid, unit) values ($1, $2, $3, $4)",
    "insert into unique_log(tenant, key, uid, unit) values ($1, $2, $3, $4)",
    "insert into deferred_log(tenant, key, uid, unit) values ($1, $2, $3, $4)",
    "insert into slow_log(tenant, key, uid, unit) values ($1, $2, $3, $4)",
};

static const char *draw_write(bool must)
{
    if (must || sim_odds(SIM_CALLERS, 75))
        return write_sql[0];
    return write_sql[sim_below(SIM_CALLERS, 5)];
}

static void must_succeed(const struct caller *me, const char *what, const pqr_error *err)
{
    if (!me->must || err->code == PQR_OK)
        return;
    pqr_node_health h[8];
    int n = pqr_health(me->db, h, 8, sizeof h[0]);
    for (int i = 0; i < n; i++)
        sim_say(
            "health: %s: state %d, role %d, timeline %u, lag %d ms: %d used, %d idle, %d wait: %s",
            h[i].node, h[i].state, h[i].role, h[i].timeline, (int)h[i].lag_ms, h[i].conns_used,
            h[i].conns_idle, h[i].conns_waiting, h[i].why);
    sim_violated("all is calm, and %s of %s fails: %s: %s", what, me->name,
                 pqr_code_name(err->code), err->message);
}

static void read_one(struct caller *me)
{
    int key = (int)sim_below(SIM_CALLERS, KEYS);
    int level = (int)sim_below(SIM_CALLERS, 5); /* session more often than the others */
    struct answer a = {0};
    struct texts t;
    int64_t begun = sim_now();
    bool slow = !me->must && sim_odds(SIM_CALLERS, 8);
    level = level > 2 ? PQR_LEVEL_SESSION : level;
    fill(&t, me, key, 0);
    call_read(me,
              PQR_QUERY(.name = "read", .sql = read_sql[slow], .level = level,
                        PQR_PARAMS(PQR_TEXT(t.tenant), PQR_TEXT(t.key), PQR_TEXT(t.unit))),
              &a);
    sim_say("caller: read of level %d from %s: %s %s", level, pqr_source(a.res),
            a.err.code == PQR_OK ? pqr_text(a.res, 0, 2) : pqr_code_name(a.err.code),
            a.err.code == PQR_OK ? "" : a.err.message);
    sim_check_time("a read", begun, me->deadline_ms, &a.err);
    must_succeed(me, "a read", &a.err);
    if (a.err.code == PQR_OK)
        sim_check_read(me->tenant, key, a.res, level == PQR_LEVEL_ANY ? NULL : &me->view[key],
                       level == PQR_LEVEL_PRIMARY ? begun : 0);
    else
        sim_count.unserved++;
    pqr_result_free(a.res);
}

static void write_one(struct caller *me)
{
    int key = (int)sim_below(SIM_CALLERS, KEYS);
    int64_t begun = sim_now();
    int uid = sim_check_write(me->tenant, key, begun);
    struct answer a = {0};
    struct texts t;
    fill(&t, me, key, uid);
    call_write(me,
               PQR_QUERY(.name = "write", .sql = draw_write(me->must),
                         PQR_PARAMS(PQR_TEXT(t.tenant), PQR_TEXT(t.key), PQR_TEXT(t.uid),
                                    PQR_TEXT(t.unit))),
               &a, !me->must && sim_odds(SIM_CALLERS, 3));
    sim_check_time("a write", begun, me->deadline_ms, &a.err);
    sim_check_wrote(uid, sim_outcome_of(&a.err), &a.err, &me->view[key]);
    must_succeed(me, "a write", &a.err);
    pqr_result_free(a.res);
}

/* A read that writes is refused, on every server. */
static void write_as_read(struct caller *me)
{
    struct answer a = {0};
    call_read(me, PQR_QUERY(.sql = "select append($1)", PQR_PARAMS(PQR_TEXT("1"))), &a);
    if (a.err.code == PQR_OK)
        sim_violated("a read has written, on %s", pqr_source(a.res));
    pqr_result_free(a.res);
}

/* ---- Transactions --------------------------------------------------------------------------- */

static bool exec_read(struct caller *me, pqr_tx *tx, int key)
{
    struct answer a = {0};
    struct texts t;
    int64_t begun = sim_now();
    fill(&t, me, key, 0);
    call_exec(me, tx,
              PQR_QUERY(.sql = read_sql[0],
                        PQR_PARAMS(PQR_TEXT(t.tenant), PQR_TEXT(t.key), PQR_TEXT(t.unit))),
              &a);
    sim_check_time("a read in a transaction", begun, me->deadline_ms, &a.err);
    if (a.err.code == PQR_OK)
        sim_check_read(me->tenant, key, a.res, &me->view[key], 0);
    pqr_result_free(a.res);
    return a.err.code == PQR_OK;
}

static bool exec_write(struct caller *me, pqr_tx *tx, int key, int uid)
{
    struct answer a = {0};
    struct texts t;
    int64_t begun = sim_now();
    fill(&t, me, key, uid);
    call_exec(me, tx,
              PQR_QUERY(.sql = draw_write(me->must), PQR_PARAMS(PQR_TEXT(t.tenant), PQR_TEXT(t.key),
                                                                PQR_TEXT(t.uid), PQR_TEXT(t.unit))),
              &a);
    sim_check_time("a write in a transaction", begun, me->deadline_ms, &a.err);
    pqr_result_free(a.res);
    return a.err.code == PQR_OK;
}

static void roll_back(struct caller *me, pqr_tx *tx)
{
    struct answer a = {0};
    int64_t begun = sim_now();
    call_rollback(me, tx, &a);
    a.err.code = PQR_OK;
    sim_check_time("a rollback", begun, 100, &a.err);
}

static void write_in_tx(struct caller *me)
{
    int64_t begun = sim_now();
    struct answer a = {0};
    int uids[3], keys[3], n = 0;
    bool good = true;
    call_begin(
        me, PQR_TX(.isolation = sim_odds(SIM_CALLERS, 30) ? PQR_SERIALIZABLE : PQR_READ_COMMITTED),
        &a);
    sim_check_time("a begin", begun, me->deadline_ms, &a.err);
    if (a.err.code != PQR_OK)
        return;
    for (int i = (int)sim_below(SIM_CALLERS, 3); i >= 0 && good; i--) {
        keys[n] = (int)sim_below(SIM_CALLERS, KEYS);
        uids[n] = sim_check_write(me->tenant, keys[n], begun);
        good = exec_write(me, a.tx, keys[n], uids[n]);
        n++;
        if (good && sim_odds(SIM_CALLERS, 40))
            good = exec_read(me, a.tx, keys[n - 1]);
        if (sim_odds(SIM_CALLERS, 30))
            sim_sleep(sim_between(SIM_CALLERS, 0, 30 * MS));
    }
    struct answer end = {.err.retry = PQR_RETRY_SAFE, .err.code = PQR_E_ROLLED_BACK};
    begun = sim_now();
    if (good ? sim_odds(SIM_CALLERS, 85) : sim_odds(SIM_CALLERS, 20)) {
        end.err.code = PQR_OK;
        call_commit(me, a.tx, &end);
        sim_check_time("a commit", begun, me->deadline_ms, &end.err);
    } else {
        roll_back(me, a.tx);
    }
    for (int i = 0; i < n; i++) {
        enum sim_outcome outcome = sim_outcome_of(&end.err);
        if (outcome != SIM_OK)
            sim_view_forget(&me->view[keys[i]], uids[i]); /* it was shown inside */
        sim_check_wrote(uids[i], outcome, &end.err, &me->view[keys[i]]);
    }
}

static void read_in_tx(struct caller *me)
{
    int64_t begun = sim_now();
    struct answer a = {0}, end = {0};
    bool good = true;
    call_begin(me, PQR_TX(.read_only = 1), &a);
    sim_check_time("a begin", begun, me->deadline_ms, &a.err);
    if (a.err.code != PQR_OK)
        return;
    for (int i = 0; i < 2 && good; i++)
        good = exec_read(me, a.tx, (int)sim_below(SIM_CALLERS, KEYS));
    begun = sim_now();
    if (sim_odds(SIM_CALLERS, 50)) {
        call_commit(me, a.tx, &end);
        sim_check_time("a commit", begun, me->deadline_ms, &end.err);
    } else {
        roll_back(me, a.tx);
    }
}

/* ---- A caller's life ------------------------------------------------------------------------ */

static void forget_views(struct caller *me)
{
    for (int i = 0; i < KEYS; i++) {
        free(me->view[i].uids);
        me->view[i] = (struct sim_view){0};
    }
}

static void new_session(struct caller *me)
{
    static const int64_t deadlines[] = {60, 200, 500, 1000, 3000};
    char tenant[16];
    pqr_error err;
    pqr_session_close(me->session);
    forget_views(me);
    me->tenant = (int)sim_below(SIM_CALLERS, TENANTS);
    me->deadline_ms = all.calm ? CALM_MS : deadlines[sim_below(SIM_CALLERS, 5)];
    snprintf(tenant, sizeof tenant, "tenant%d", me->tenant);
    if (pqr_session_open(me->db, PQR_SESSION(.tenant = tenant, .deadline_ms = me->deadline_ms),
                         &me->session, &err) != PQR_OK)
        sim_violated("a session is refused: %s", err.message);
}

static void one_unit(struct caller *me)
{
    uint64_t what = sim_below(SIM_CALLERS, 100);
    me->unit = ++all.units;
    if (what < 50)
        read_one(me);
    else if (what < 80)
        write_one(me);
    else if (what < 90)
        write_in_tx(me);
    else if (what < 96)
        read_in_tx(me);
    else
        write_as_read(me);
}

static void live(void *arg)
{
    struct caller *me = arg;
    new_session(me);
    while (!all.calm && !sim_violation()) {
        sim_wait(NULL, 0, &all.calm,
                 sim_now() + sim_between(SIM_CALLERS, 1 * MS, all.rests ? 900 * MS : 90 * MS));
        if (all.calm)
            break;
        one_unit(me);
        if (sim_odds(SIM_CALLERS, 8))
            new_session(me);
    }
    if (sim_odds(SIM_CALLERS, 50)) /* the old one must be served as well, in its own time */
        new_session(me);
    me->must = true;
    for (int i = 0; i < CALM_CALLS && !sim_violation() && me->deadline_ms >= 500; i++) {
        me->unit = ++all.units;
        write_one(me);
        read_one(me);
    }
    pqr_session_close(me->session);
    forget_views(me);
}

static void drive(void *arg)
{
    struct loop *l = arg;
    while (!l->over) {
        struct pollfd one = {.fd = pqr_loop_fd(l->loop), .events = POLLIN};
        sim_wait(&one, 1, &l->over, NEVER);
        pqr_loop_dispatch(l->loop, 0);
    }
    pqr_loop_close(l->loop);
}

void sim_callers_start(pqr *db, int n, int loops)
{
    static const char *const names[] = {"loop0", "loop1"};
    pqr_error err;
    memset(&all, 0, sizeof all);
    all.n = n;
    all.nloops = loops;
    for (int i = 0; i < loops; i++) {
        if (pqr_loop_open(db, &all.loop[i].loop, &err) != PQR_OK)
            sim_violated("a loop is refused: %s", err.message);
        all.loop[i].thread = sim_spawn(names[i], drive, &all.loop[i]);
    }
    for (int i = 0; i < n; i++) {
        struct caller *c = &all.caller[i];
        snprintf(c->name, sizeof c->name, "caller%d", i);
        c->db = db;
        uint64_t where = sim_below(SIM_CALLERS, (uint64_t)loops + 1);
        c->loop = where > 0 ? all.loop[where - 1].loop : NULL;
        c->thread = sim_spawn(c->name, live, c);
    }
}

void sim_callers_rest(void)
{
    all.rests = true;
}

void sim_callers_calm(void)
{
    all.calm = true;
    for (int i = 0; i < all.n; i++)
        sim_join(all.caller[i].thread);
    for (int i = 0; i < all.nloops; i++) {
        all.loop[i].over = true;
        sim_join(all.loop[i].thread);
    }
}
