/* One call, from submit to answer. */
#include "call.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "../plan/fate.h"
#include "conn.h"
#include "monitor.h"
#include "session.h"

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define ATTEMPTS_MAX 4 /* the first, and three more */
#define PAUSE_MS 10    /* before the second; doubles, with full jitter */
#define MONITOR_BORROWS_MS 50
#define STUCK_LOOK_MS 100 /* on a lane: the longest time between two looks whether it is stuck */
#define REFUSAL_MS 1000   /* as long as pqr_ready waits for a refusal to be looked at again */

/* DB_POOL_TIMEOUT bounds the wait for a connection, and for a server to have one with. `nowait` is
 * about full pools: a server must still be found, and where the monitor has no connection of its
 * own the moment that it borrows one is no full pool. */
static void set_patience(struct pqi_call *c, const struct pqi_options *o)
{
    int64_t borrowed_ms = o->connection_limit <= 2 ? MONITOR_BORROWS_MS : 0;
    int64_t queue_ms = o->pool_timeout_ms > borrowed_ms ? o->pool_timeout_ms : borrowed_ms;
    int64_t hope_ms = o->pool_timeout_ms > 0 ? o->pool_timeout_ms : o->connect_timeout_ms;
    c->queue_until_ns = pqi_after_ms(c->begun_ns, queue_ms);
    c->hope_until_ns = pqi_after_ms(c->begun_ns, hope_ms);
}

void pqi_call_init(struct pqi_call *c, struct pqr_session *s, int64_t deadline_ms)
{
    memset(c, 0, sizeof *c);
    c->err.shard = c->err.index = -1; /* the rest of it says that nothing happened, as all zero */
    c->db = s->db;
    c->session = s;
    c->unit = true;
    c->begun_ns = pqi_now_ns();
    c->until_ns = pqi_after_ms(c->begun_ns, deadline_ms > 0 ? deadline_ms : s->deadline_ms);
    set_patience(c, s->db->options);
    c->waiter = (struct pqi_waiter){0};
    pqi_waiter_init(&c->waiter);
    c->ticket.waiter = c->hope.waiter = &c->waiter;
    pqi_list_init(&c->ticket.link);
    pqi_list_init(&c->hope.link);
}

/* ---- Answers -------------------------------------------------------------------------------- */

/* On a lane only the caller's own statements travel. */
struct pqi_answer *pqi_call_answer(struct pqi_call *c, int i)
{
    if (!c->rode)
        return c->conn && i < c->conn->n ? &c->conn->answers[i] : NULL;
    int at = i - c->first;
    return c->rider.job.answers && at >= 0 && at < c->rider.job.n ? &c->rider.job.answers[at]
                                                                  : NULL;
}

struct pg_result *pqi_call_take(struct pqi_call *c, int i)
{
    struct pqi_answer *a = pqi_call_answer(c, i);
    struct pg_result *res = a->pg;
    a->pg = NULL;
    return res;
}

/* The statement that failed first, or -1. */
static int failed_statement(struct pqi_call *c)
{
    for (int i = 0; i < c->n; i++) {
        const struct pqi_answer *a = pqi_call_answer(c, i);
        if (a && a->state == PQI_ANSWER_ERROR)
            return i;
    }
    return -1;
}

static bool acknowledged(struct pqi_call *c)
{
    for (int i = 0; i < c->n; i++) {
        const struct pqi_answer *a = pqi_call_answer(c, i); /* NULL: there was no memory for it */
        if (!(a && a->acknowledged))
            return false;
    }
    return true;
}

/* Most calls have met no error before: the struct is large. */
static void none_happened(struct pqi_call *c)
{
    if (c->err.code != PQR_OK)
        pqi_err_none(&c->err);
}

static const struct pqi_trouble *trouble_of(const struct pqi_call *c)
{
    return c->rode ? &c->rider.trouble : &c->conn->trouble;
}

/* ---- Ends ----------------------------------------------------------------------------------- */

static void stop_hoping(struct pqi_call *c)
{
    if (c->hoping)
        pqi_shard_unhope(c->shard, &c->hope);
    c->hoping = false;
}

/* Every way to DONE leads through here: the queue and the hopes are left, and a connection that
 * nobody will use any more is given back. `err` is written already. */
static void done(struct pqi_call *c)
{
    stop_hoping(c);
    if (c->state == PQI_CALL_QUEUE && pqi_pool_leave(&c->node->pool, &c->ticket)) {
        if (c->ticket.conn)
            pqi_conn_back(c->node, c->ticket.conn);
        else
            pqi_pool_release(&c->node->pool);
    }
    c->state = PQI_CALL_DONE;
}

static void tell_where(struct pqi_call *c)
{
    if (c->err.code == PQR_OK || c->err.node[0] != '\0')
        return;
    c->err.shard = c->shard ? c->shard->number : -1;
    if (c->node)
        snprintf(c->err.node, sizeof c->err.node, "%s", c->node->target->name);
}

static void end_with_error(struct pqi_call *c)
{
    tell_where(c);
    done(c);
}

/* Is it to end now, by its caller's wish or the router's? */
static bool aborted(const struct pqi_call *c)
{
    return c->cancelled || atomic_load_explicit(&c->db->aborting, memory_order_relaxed);
}

static int abort_code(const struct pqi_call *c)
{
    return c->cancelled ? PQR_E_CANCELLED : PQR_E_CLOSED;
}

static const char *abort_text(const struct pqi_call *c)
{
    return c->cancelled ? "the call was cancelled" : "the router was closed";
}

static int64_t spent_ms(const struct pqi_call *c)
{
    return (pqi_now_ns() - c->begun_ns) / PQI_MS;
}

/* Before anything was sent: the deadline has passed, or the router is closing. */
static void end_unsent(struct pqi_call *c, const char *doing)
{
    if (aborted(c)) {
        pqi_err(&c->err, abort_code(c), "%s while it was %s: nothing was sent", abort_text(c),
                doing);
    } else {
        char after[40] = "";
        if (spent_ms(c) > 0) /* else it is that of the transaction */
            snprintf(after, sizeof after, " after %lld ms", (long long)spent_ms(c));
        pqi_count(c->db, deadlines);
        pqi_err(&c->err, PQR_E_DEADLINE, "the deadline passed%s, while %s: nothing was sent", after,
                doing);
    }
    end_with_error(c);
}

bool pqi_call_may_send(struct pqi_call *c, const char *doing)
{
    bool late = aborted(c) || pqi_now_ns() >= c->until_ns;
    if (late)
        end_unsent(c, doing);
    return !late;
}

/* ---- Running again -------------------------------------------------------------------------- */

static bool may_rerun(const struct pqi_call *c)
{
    return c->unit && c->attempts < ATTEMPTS_MAX && !aborted(c) && pqi_now_ns() < c->until_ns;
}

static void rerun(struct pqi_call *c, enum pqi_again how)
{
    pqi_count(c->db, retries);
    c->state = PQI_CALL_PLACE;
    if (how == PQI_ELSEWHERE)
        return;
    int64_t most = PAUSE_MS * PQI_MS << c->attempts;
    c->pause_until_ns = pqi_now_ns() + (int64_t)(pqi_random() % (uint64_t)most);
    c->state = PQI_CALL_PAUSE;
}

/* The connection is dead, or may not be used again. */
static void drop_conn(struct pqi_call *c)
{
    pqi_conn_give_up(c->node, c->conn);
    c->conn = NULL;
}

/* ---- Connecting ----------------------------------------------------------------------------- */

static int trouble_code(enum pqi_trouble_kind kind)
{
    switch (kind) {
    case PQI_TROUBLE_LOGIN:
    case PQI_TROUBLE_TLS:
        return PQR_E_AUTH;
    case PQI_TROUBLE_NOMEM:
        return PQR_E_NOMEM;
    default:
        return PQR_E_CONNECT;
    }
}

/* No connection could be made: nothing was sent. The next node, or the same after a pause. */
static void connect_failed(struct pqi_call *c)
{
    struct pqi_trouble t = c->conn->trouble;
    drop_conn(c);
    pqi_count(c->db, connects_failed);
    pqi_shard_troubled(c->node, &t);
    pqi_err(&c->err, trouble_code(t.kind), "%s (%s): %s", c->node->target->name,
            c->node->target->shown, t.text);
    pqi_copy_text(c->err.sqlstate, sizeof c->err.sqlstate, t.sqlstate);
    if (c->err.code == PQR_E_NOMEM) { /* its servers are as they were */
        end_with_error(c);
        return;
    }
    pqi_shard_look_again(c->shard);
    c->tried[c->node->index] = true;
    if (may_rerun(c))
        rerun(c, c->write ? PQI_BACKOFF : PQI_ELSEWHERE);
    else
        end_with_error(c);
}

static void run(struct pqi_call *c);

/* What placed the call is outdated: the monitor looks again, and then the call is placed again. */
static void place_anew(struct pqi_call *c, const char *why)
{
    int64_t now = pqi_now_ns();
    pqi_shard_look_again(c->shard);
    pqi_conn_back(c->node, c->conn);
    c->conn = NULL;
    if (now >= c->hope_until_ns) {
        pqi_err(&c->err, c->write ? PQR_E_NO_PRIMARY : PQR_E_CONNECT, "%s: %s",
                c->node->target->name, why);
        end_with_error(c);
        return;
    }
    none_happened(c);
    c->attempts--; /* nothing has failed */
    c->pause_until_ns = pqi_after_ms(now, PAUSE_MS);
    c->state = PQI_CALL_PAUSE;
}

/* The handshake is in: may this connection be used, and is the map that placed the call still the
 * newest? A newer one is the monitor's to load; the call is then placed again. */
static void handshake_done(struct pqi_call *c)
{
    struct pqi_sighting seen;
    char why[256];
    if (!pqi_ask_read(c->conn, &seen, why, sizeof why)) {
        pqi_conn_fail(c->conn, PQI_TROUBLE_PROTOCOL, why);
        connect_failed(c);
        return;
    }
    pqi_conn_made(c->node, c->conn);
    c->conn->tainted |= c->session->stamping; /* whose it is was not looked at */
    if (!c->session->stamping && pqi_shard_admit(c->node, &seen, c->write, &c->err) != PQR_OK) {
        c->conn->tainted = true;
        pqi_conn_back(c->node, c->conn);
        c->conn = NULL;
        pqi_shard_look_again(c->shard);
        end_with_error(c);
        return;
    }
    const char *outdated = NULL;
    if (seen.stamp.map_version > c->map_version)
        outdated = "its stamp names a newer shard map than could be loaded";
    else if (!pqi_shard_recognises(c->node, &seen))
        outdated = "another server than was known answers there";
    else if (c->write && seen.role != PQR_ROLE_PRIMARY)
        outdated = "the server known as its primary is a replica";
    if (outdated)
        place_anew(c, outdated);
    else
        run(c);
}

static void connect_step(struct pqi_call *c, short revents)
{
    pqi_conn_step(c->conn, revents);
    if (c->conn->state == PQI_DEAD) {
        connect_failed(c);
    } else if (c->conn->state == PQI_IDLE && c->state == PQI_CALL_CONNECT) {
        pqi_ask_handshake(c->conn, c->db->options->statement_timeout_ms);
        c->state = PQI_CALL_HANDSHAKE;
    } else if (c->conn->state == PQI_IDLE) {
        handshake_done(c);
    }
}

static void begin_connect(struct pqi_call *c)
{
    c->conn = pqi_conn_open(c->node, c->until_ns);
    if (!c->conn) {
        pqi_err(&c->err, PQR_E_NOMEM, "no memory for a connection");
        end_with_error(c);
        return;
    }
    c->state = PQI_CALL_CONNECT;
    connect_step(c, 0); /* it may have failed at once */
}

/* ---- Getting a connection ------------------------------------------------------------------- */

static void acquire(struct pqi_call *c);
static bool board(struct pqi_call *c);

/* An idle connection may have been ended by the server, or be of a time before a failover: then
 * it never was, for the call. */
static void discard(struct pqi_call *c)
{
    pqi_count(c->db, discarded);
    drop_conn(c);
    acquire(c);
}

/* The session could not be cleaned, so nothing of the call has run. */
static void uncleaned(struct pqi_call *c)
{
    if (++c->attempts < ATTEMPTS_MAX) {
        discard(c);
        return;
    }
    pqi_err(&c->err, PQR_E_CONNECT, "%s: its sessions cannot be cleaned between callers: %s",
            c->node->target->name, c->conn->trouble.text);
    pqi_copy_text(c->err.sqlstate, sizeof c->err.sqlstate, c->conn->trouble.sqlstate);
    end_with_error(c);
}

static void clean_step(struct pqi_call *c, short revents)
{
    pqi_conn_step(c->conn, revents);
    if (c->conn->state == PQI_DEAD)
        discard(c);
    else if (c->conn->uncleaned)
        uncleaned(c);
    else if (c->conn->state == PQI_IDLE)
        run(c);
}

/* What is to be lent, or takes effect without waiting for its Sync, cannot be taken back when what
 * was sent to clean the session turns out to have failed: that is waited for. */
static bool cleans_first(const struct pqi_call *c)
{
    return c->conn->left != PQI_LEFT_NOTHING && (c->n == 0 || c->partial);
}

static void use_pooled(struct pqi_call *c)
{
    if (pqi_conn_outdated(c->node, c->conn) || pqi_conn_stale(c->conn)) {
        discard(c);
    } else if (cleans_first(c)) {
        c->state = PQI_CALL_CLEAN;
        pqi_conn_clear(c->conn);
        clean_step(c, 0);
    } else {
        run(c);
    }
}

static void acquire(struct pqi_call *c)
{
    c->generation = atomic_load(&c->node->pool.generation);
    if (board(c))
        return;
    switch (pqi_pool_take(&c->node->pool, &c->ticket, &c->conn)) {
    case PQI_TAKE_CONN:
        use_pooled(c);
        return;
    case PQI_TAKE_SLOT:
        begin_connect(c);
        return;
    case PQI_TAKE_WAIT:
        c->state = PQI_CALL_QUEUE;
        return;
    case PQI_TAKE_FULL:
        break;
    }
    if (aborted(c)) {
        end_unsent(c, "waiting for a connection");
        return;
    }
    pqi_count(c->db, pool_full);
    pqi_err(&c->err, PQR_E_POOL_FULL,
            "%s: %lld calls wait for its %lld connections already: shed load, or raise "
            "DB_CONNECTION_LIMIT or DB_POOL_QUEUE_LIMIT",
            c->node->target->name, (long long)c->db->options->pool_queue_limit,
            (long long)c->db->options->connection_limit);
    end_with_error(c);
}

static void pool_timed_out(struct pqi_call *c)
{
    pqi_count(c->db, pool_timeouts);
    pqi_err(&c->err, PQR_E_POOL_TIMEOUT,
            "%s: none of its %lld connections came free in %lld ms (DB_POOL_TIMEOUT): raise "
            "DB_CONNECTION_LIMIT if the server has room, or hold connections for less time",
            c->node->target->name, (long long)c->db->options->connection_limit,
            (long long)spent_ms(c));
    end_with_error(c);
}

static void use_grant(struct pqi_call *c)
{
    c->conn = c->ticket.conn;
    if (c->conn)
        use_pooled(c);
    else
        begin_connect(c);
}

static void queue_step(struct pqi_call *c, int64_t now)
{
    if (aborted(c) || now >= c->until_ns) {
        end_unsent(c, "waiting for a connection"); /* also if it was granted one just now */
    } else if (pqi_pool_granted(&c->node->pool, &c->ticket)) {
        use_grant(c);
    } else if (now >= c->queue_until_ns) {
        pool_timed_out(c);
    } else if (pqi_pool_leave(&c->node->pool, &c->ticket)) {
        use_grant(c);
    } else { /* stirred: the node has left, perhaps another one can serve the call */
        c->attempts--;
        c->state = PQI_CALL_PLACE;
    }
}

/* ---- Placing -------------------------------------------------------------------------------- */

static enum pqi_placing ask_for_place(struct pqi_call *c)
{
    struct pqi_errand e = {.write = c->write,
                           .stamping = c->session->stamping,
                           .tried = c->tried,
                           .deal_session = true};
    if (!c->write) {
        pqi_shard_need(c->shard, c->level, &e.need);
        e.need.stay = c->session->stay;
        e.read_ns = c->session->read_ns;
        e.stay_generation = c->session->stay_generation;
        e.deal_session = c->level == PQR_LEVEL_SESSION;
        if (c->level == PQR_LEVEL_SESSION && !pqi_session_sure(c->session, c->shard))
            e.need.level = PQR_LEVEL_PRIMARY;
    }
    e.need.seen = c->session->seen;
    if (c->session->fixed_node) {
        c->node = c->session->fixed_node;
        return PQI_PLACE_GO;
    }
    return pqi_shard_place(c->shard, &e, &c->node, &c->err);
}

/* The shard is decided anew each time: the map may have changed while the call waited. */
static bool find_shard(struct pqi_call *c)
{
    struct pqi_shard *s = pqi_session_shard(c->session, &c->map_version, &c->err);
    if (s != c->shard)
        stop_hoping(c);
    c->shard = s;
    return s && pqi_monitor_use(c->db->monitor, s, &c->err) == PQR_OK;
}

static void forget_tries(struct pqi_call *c)
{
    memset(c->tried, 0, sizeof c->tried);
}

/* There is a node to serve it, and that was the question. */
static void look_done(struct pqi_call *c)
{
    none_happened(c);
    done(c);
}

/* A refusal may rest on what was seen before it was mended: who only looks lets it be looked at
 * again first. */
static bool refused_for_good(struct pqi_call *c)
{
    int64_t until = pqi_after_ms(c->begun_ns, REFUSAL_MS);
    if (!c->looks || pqi_now_ns() >= until)
        return true;
    if (!c->hoping) {
        pqi_shard_hope(c->shard, &c->hope);
        pqi_shard_look_again(c->shard);
    }
    c->hoping = true;
    c->hope_until_ns = until < c->until_ns ? until : c->until_ns;
    return false;
}

static void place(struct pqi_call *c)
{
    if (!find_shard(c)) {
        end_with_error(c);
        return;
    }
    enum pqi_placing placing = ask_for_place(c);
    if (placing == PQI_PLACE_WAIT && !c->hoping) {
        /* News may have come between the question and the hope: so ask once more. */
        pqi_shard_hope(c->shard, &c->hope);
        c->hoping = true;
        forget_tries(c);
        placing = ask_for_place(c);
    }
    switch (placing) {
    case PQI_PLACE_GO:
        stop_hoping(c);
        c->attempts++;
        if (c->looks)
            look_done(c);
        else
            acquire(c);
        break;
    case PQI_PLACE_WAIT:
        if (c->looks)
            c->hope_until_ns = c->until_ns;
        c->state = PQI_CALL_HOPE;
        break;
    case PQI_PLACE_REFUSED:
        if (refused_for_good(c))
            end_with_error(c);
        else
            c->state = PQI_CALL_HOPE;
        break;
    }
}

/* Woken by news, or out of patience: `err` says what nobody could serve. */
static void hope_step(struct pqi_call *c, int64_t now)
{
    if (aborted(c))
        end_unsent(c, "waiting for a server");
    else if (now >= c->until_ns && !c->looks && pqi_shard_next_look(c->shard) != PQI_FOREVER)
        end_unsent(c, "waiting for the first look at its servers");
    else if (now >= c->until_ns || now >= c->hope_until_ns)
        end_with_error(c);
    else
        place(c);
}

/* ---- Running -------------------------------------------------------------------------------- */

static const char *label(const struct pqi_call *c, char *buf, size_t size)
{
    if (!c->name)
        return "";
    snprintf(buf, size, "statement %.60s: ", c->name);
    return buf;
}

static void describe(struct pqi_call *c, const struct pqi_failure *f, const struct pqi_fate *fate,
                     int statement)
{
    char name[80];
    int code = aborted(c) && f->timed_out && !(c->effects && f->given)
                   ? abort_code(c)
                   : pqi_fate_code(f, fate, c->effects);
    pqi_err(&c->err, code, "%s: %s", c->node->target->name, label(c, name, sizeof name));
    c->err.retry = (int32_t)(code == PQR_E_READ_ONLY ? PQR_RETRY_NEVER
                                                     : pqi_fate_retry(fate, c->effects));
    if (statement >= 0)
        pqi_answer_tell(pqi_call_answer(c, statement), &c->err);
    else if (f->timed_out)
        pqi_err_add(&c->err, aborted(c) ? "%s before an answer came" : "no answer%s in %lld ms",
                    aborted(c) ? abort_text(c) : "", (long long)spent_ms(c));
    else
        pqi_err_add(&c->err, "the connection was lost: %s", trouble_of(c)->text);
    if (code == PQR_E_UNKNOWN)
        pqi_err_add(&c->err,
                    "; the write was sent and may have happened: look before doing it again");
    if (strcmp(f->sqlstate, "25001") == 0 && c->write && c->unit && !c->partial)
        pqi_err_add(&c->err, "; to have nothing around it, send it with .alone = true");
    if (code == PQR_E_READ_ONLY)
        pqi_err_add(&c->err, c->unit ? "; it was sent as a read: send it with pqr_write"
                                     : "; the transaction is read only");
    if (statement < 0)
        pqi_copy_text(c->err.sqlstate, sizeof c->err.sqlstate, f->sqlstate);
    if (c->count > 1 && statement >= c->first)
        c->err.index = statement - c->first;
}

static struct pqi_failure failure_of(struct pqi_call *c, int statement, bool timed_out)
{
    const struct pqi_trouble *trouble = trouble_of(c);
    struct pqi_failure f = {.sqlstate = trouble->sqlstate,
                            .severity = trouble->severity,
                            .given = c->rode ? c->rider.job.given : c->conn->own.given,
                            .warned = !c->rode && c->conn->warned,
                            .early = c->early,
                            .partial = c->partial,
                            .stale = !c->rode && !timed_out && c->conn->own.stale,
                            .timed_out = timed_out};
    if (statement >= 0) {
        f.sqlstate = pqi_answer_sqlstate(pqi_call_answer(c, statement));
        f.severity = PQI_SEV_ERROR;
    }
    return f;
}

static void run_failed(struct pqi_call *c, int statement, bool timed_out)
{
    struct pqi_failure f = failure_of(c, statement, timed_out);
    struct pqi_fate fate = pqi_fate(&f);
    describe(c, &f, &fate, statement);
    if (c->err.code == PQR_E_UNKNOWN)
        c->session->unsure_ns = PQI_FOREVER; /* it reads where that can be seen */
    bool dead = c->rode ? c->rider.outcome == PQI_OUT_LOST : c->conn->state == PQI_DEAD;
    if (c->conn)
        c->conn->tainted |= !fate.keep;
    if (dead && !timed_out) {
        if (c->conn)
            pqi_count(c->db, connections_lost);
        pqi_shard_troubled(c->node, trouble_of(c));
    }
    if (dead || strcmp(f.sqlstate, "25006") == 0)
        pqi_shard_look_again(c->shard);
    enum pqi_again again = c->effects ? fate.write : fate.read;
    if (again == PQI_RETURN || !may_rerun(c)) {
        end_with_error(c);
        return;
    }
    /* A write goes to the primary again: not before there was time to find out who that is. */
    if (c->write && again == PQI_ELSEWHERE && !f.stale)
        again = PQI_BACKOFF;
    c->tried[c->node->index] = dead;
    if (c->conn)
        pqi_conn_back(c->node, c->conn);
    c->conn = NULL;
    rerun(c, again);
}

/* A read of level any promises nothing to the session, and takes nothing from it. */
static void tell_session(struct pqi_call *c)
{
    if (c->write && c->effects)
        pqi_session_wrote_on(c->session, c->node);
    else if (c->unit && !c->write && c->level != PQR_LEVEL_ANY)
        pqi_session_read_on(c->session, c->node, c->generation);
}

/* A lane does this for its riders. */
static void note_pace(struct pqi_call *c)
{
    atomic_fetch_add_explicit(&c->node->calls, 1, memory_order_relaxed);
    if (c->hash != 0)
        pqi_pace_note(&c->db->pace, c->hash, (pqi_now_ns() - c->sent_ns) / 1000);
}

static void run_done(struct pqi_call *c)
{
    if (!c->rode)
        note_pace(c);
    int statement = failed_statement(c);
    if (statement >= 0) {
        run_failed(c, statement, false);
        return;
    }
    tell_session(c);
    none_happened(c);
    done(c);
}

static void run_step(struct pqi_call *c, short revents)
{
    pqi_conn_step(c->conn, revents);
    if (c->conn->state == PQI_IDLE && c->conn->uncleaned)
        uncleaned(c);
    else if (c->conn->state == PQI_IDLE)
        run_done(c);
    else if (c->conn->state != PQI_DEAD)
        return;
    else if (acknowledged(c))
        run_done(c); /* lost after its Sync: what was asked is done */
    else
        run_failed(c, failed_statement(c), false);
}

/* Out of time: the connection has an answer under way that nobody will read, so it is closed; the
 * server sees that and stops. */
static void run_late(struct pqi_call *c)
{
    pqi_conn_fail(c->conn, PQI_TROUBLE_TIMEOUT, "no answer before the deadline");
    pqi_count(c->db, deadlines);
    run_failed(c, -1, true);
}

static void run(struct pqi_call *c)
{
    c->state = PQI_CALL_RUN;
    if (c->n == 0) { /* only the connection is wanted */
        none_happened(c);
        done(c);
        return;
    }
    if (!pqi_call_may_send(c, "getting a connection"))
        return;
    c->sent_ns = c->begun_ns;
    if (c->hash != 0)
        c->sent_ns = pqi_now_ns();
    pqi_conn_send(c->conn, c->stmts, c->n);
    run_step(c, 0);
}

/* ---- Riding --------------------------------------------------------------------------------- */

static void acquire(struct pqi_call *c);

static bool make_answers(struct pqi_call *c)
{
    struct pqi_job *job = &c->rider.job;
    if (!job->answers) {
        job->answers = c->few;
        if (c->count > (int)(sizeof c->few / sizeof *c->few))
            job->answers = pqi_mem_array((size_t)c->count, sizeof *job->answers);
    }
    job->n = c->count;
    return job->answers != NULL;
}

/* Boards a lane of its node, if there is one to be had for such a statement. */
static bool board(struct pqi_call *c)
{
    if (!c->group || c->off_lanes)
        return false;
    int64_t cost_us;
    enum pqi_pace_class class_ = pqi_pace_of(&c->db->pace, c->hash, &cost_us);
    struct pqi_lane *lane = class_ == PQI_PACE_SLOW ? NULL : pqi_lane_choose(c->group, c->node);
    if (!lane || !make_answers(c))
        return false;
    c->rider.job.stmts = c->stmts + c->first;
    c->rider.waiter = &c->waiter;
    c->rider.err = &c->err;
    c->rider.hash = c->hash;
    c->rider.class_ = class_;
    c->rider.cost_us = cost_us;
    c->rider.until_ns = c->until_ns;
    c->stuck_ms = PQI_STUCK_MS;
    c->stuck_ns = pqi_after_ms(pqi_now_ns(), c->stuck_ms);
    c->state = PQI_CALL_RIDE;
    pqi_lane_board(lane, &c->rider);
    return true;
}

static void ride_trouble(struct pqi_call *c)
{
    const struct pqi_trouble *t = &c->rider.trouble;
    pqi_err(&c->err, trouble_code(t->kind), "%s (%s): %s", c->node->target->name,
            c->node->target->shown, t->text);
    pqi_copy_text(c->err.sqlstate, sizeof c->err.sqlstate, t->sqlstate);
    /* Where no lane can be opened here, an idle connection may still serve it. */
    if (c->err.code == PQR_E_NOMEM)
        c->off_lanes = true;
    else
        c->tried[c->node->index] = true;
    if (may_rerun(c))
        rerun(c, PQI_ELSEWHERE);
    else
        end_with_error(c);
}

static void ride_anew(struct pqi_call *c)
{
    int64_t now = pqi_now_ns();
    if (now >= c->hope_until_ns) {
        end_with_error(c);
        return;
    }
    none_happened(c);
    c->attempts--;
    c->pause_until_ns = pqi_after_ms(now, PAUSE_MS);
    c->state = PQI_CALL_PAUSE;
}

static void ride_over(struct pqi_call *c)
{
    c->rode = true;
    switch (c->rider.outcome) {
    case PQI_OUT_ANSWERED:
        run_done(c);
        break;
    case PQI_OUT_LOST:
        run_failed(c, -1, false);
        break;
    case PQI_OUT_TROUBLE:
        ride_trouble(c);
        break;
    case PQI_OUT_REFUSED:
        end_with_error(c);
        break;
    case PQI_OUT_ANEW:
        ride_anew(c);
        break;
    }
    if (c->state != PQI_CALL_DONE)
        c->rode = false;
}

/* Out of time or patience: the answer, if it comes, is dropped. */
static void ride_ended(struct pqi_call *c, bool sent, bool for_a_lane)
{
    c->rider.trouble = (struct pqi_trouble){0};
    if (for_a_lane) {
        pool_timed_out(c);
    } else if (!sent) {
        end_unsent(c, "waiting for a connection");
    } else {
        pqi_count(c->db, deadlines);
        c->rode = true;
        c->rider.job.given = true;
        c->rider.outcome = PQI_OUT_ANSWERED;
        run_failed(c, -1, true);
    }
}

static void ride_step(struct pqi_call *c, int64_t now)
{
    struct pqi_lane *lane = c->rider.lane;
    bool sent = false, late = aborted(c) || now >= c->until_ns;
    bool waits = !late && now >= c->queue_until_ns && pqi_lane_opening(lane);
    bool stuck = !late && !waits && now >= c->stuck_ns && pqi_lane_stuck(lane, &c->rider, now);
    if (now >= c->stuck_ns) {
        c->stuck_ms = c->stuck_ms < STUCK_LOOK_MS ? c->stuck_ms * 2 : STUCK_LOOK_MS;
        c->stuck_ns = pqi_after_ms(now, c->stuck_ms);
    }
    bool leaves = late || waits || stuck;
    if (!pqi_waiter_finished(&c->waiter)) {
        if (!leaves)
            return;
        if (pqi_lane_leave(lane, &c->rider, &sent)) {
            if (!stuck) {
                ride_ended(c, sent, waits);
                return;
            }
            c->off_lanes =
                true; /* a connection of its own, if need be: it must not wait for others */
            acquire(c);
            return;
        }
        while (!pqi_waiter_finished(&c->waiter)) /* somebody is about to tell */
            sched_yield();
    }
    ride_over(c);
}

/* ---- Driving -------------------------------------------------------------------------------- */

static void conn_late(struct pqi_call *c, int64_t now)
{
    bool deadline = now >= c->until_ns || aborted(c);
    if (c->state == PQI_CALL_RUN) {
        run_late(c);
    } else if (deadline) {
        drop_conn(c);
        end_unsent(c, c->state == PQI_CALL_CLEAN ? "waiting for a connection" : "connecting");
    } else {
        pqi_conn_late(c->conn);
        connect_step(c, 0); /* its name's next address, or it failed */
    }
}

/* `err` is what made it pause; nothing when that was a newer map or a change of roles. */
static void pause_late(struct pqi_call *c)
{
    if (c->err.code == PQR_OK || aborted(c))
        end_unsent(c, "waiting for a server");
    else
        end_with_error(c);
}

static bool on_conn(const struct pqi_call *c)
{
    return c->state == PQI_CALL_CONNECT || c->state == PQI_CALL_HANDSHAKE ||
           c->state == PQI_CALL_CLEAN || c->state == PQI_CALL_RUN;
}

static int64_t soonest(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t waits_until(const struct pqi_call *c)
{
    switch (c->state) {
    case PQI_CALL_PAUSE:
        return soonest(c->pause_until_ns, c->until_ns);
    case PQI_CALL_HOPE:
        /* Also when the shard's first look ends by its time, which is no news. */
        return soonest(soonest(c->hope_until_ns, c->until_ns), pqi_shard_next_look(c->shard));
    case PQI_CALL_QUEUE:
        return soonest(c->queue_until_ns, c->until_ns);
    case PQI_CALL_RIDE:
        return soonest(c->stuck_ns, c->until_ns);
    case PQI_CALL_CONNECT:
    case PQI_CALL_HANDSHAKE:
        return soonest(c->conn->connect_until_ns, c->until_ns);
    default:
        return c->until_ns;
    }
}

struct pqi_want pqi_call_step(struct pqi_call *c, short revents)
{
    int64_t now = pqi_now_ns();
    if (c->state == PQI_CALL_RIDE)
        ride_step(c, now);
    else if (c->state == PQI_CALL_RUN)
        run_step(c, revents);
    else if (c->state == PQI_CALL_CLEAN)
        clean_step(c, revents);
    else if (on_conn(c) && !aborted(c) && now < c->until_ns)
        connect_step(c, revents); /* else nothing is sent any more: it ends below */
    else if (c->state == PQI_CALL_QUEUE)
        queue_step(c, now);
    else if (c->state == PQI_CALL_HOPE)
        hope_step(c, now);
    else if (c->state == PQI_CALL_PAUSE && (aborted(c) || now >= c->until_ns))
        pause_late(c);
    else if (c->state == PQI_CALL_PAUSE && now >= c->pause_until_ns)
        place(c);
    while (c->state == PQI_CALL_PLACE) /* at first, and for each rerun that need not wait */
        place(c);
    if (on_conn(c) && (aborted(c) || pqi_now_ns() >= waits_until(c)))
        conn_late(c, pqi_now_ns()); /* also while bytes keep coming */
    while (c->state == PQI_CALL_PLACE)
        place(c);
    bool fd = on_conn(c);
    return (struct pqi_want){.done = c->state == PQI_CALL_DONE,
                             .fd = fd ? pqi_conn_fd(c->conn) : -1,
                             .events = fd ? pqi_conn_events(c->conn) : 0,
                             .until_ns = c->state == PQI_CALL_DONE ? 0 : waits_until(c)};
}

static void log_slow(struct pqi_call *c)
{
    int64_t ms = c->db->options->slow_query_ms;
    if (ms > 0 && spent_ms(c) >= ms)
        pqi_log(&c->db->log, PQR_LOG_WARN, "slow", "%s: %s took %lld ms (%s)",
                c->node ? c->node->target->name : pqi_shard_called(c->shard),
                c->name ? c->name : "an unnamed statement", (long long)spent_ms(c),
                pqr_code_name(c->err.code));
}

void pqi_call_ended(struct pqi_call *c)
{
    if (c->err.code != PQR_OK)
        pqi_count(c->db, errors);
    if (c->err.code == PQR_E_UNKNOWN)
        pqi_count(c->db, unknown);
    if (c->shard)
        log_slow(c);
}

int pqi_call_run(struct pqi_call *c)
{
    short revents = 0;
    for (;;) {
        struct pqi_want want = pqi_call_step(c, revents);
        revents = 0;
        if (want.done)
            break;
        if (c->state == PQI_CALL_RIDE)
            pqi_lane_wait(c->rider.lane, &c->rider, want.until_ns);
        else if (want.fd >= 0)
            revents = pqi_wait_fd(want.fd, want.events, c->db->abort_flag, want.until_ns);
        else
            pqi_waiter_wait(&c->waiter, want.until_ns);
    }
    pqi_call_ended(c);
    return c->err.code;
}

void pqi_call_end(struct pqi_call *c)
{
    if (c->conn && !(c->keep && c->err.code == PQR_OK))
        pqi_conn_back(c->node, c->conn);
    c->conn = NULL;
    if (c->rider.job.answers)
        pqi_job_reset(&c->rider.job);
    if (c->rider.job.answers != c->few)
        pqi_mem_free(c->rider.job.answers);
    pqi_waiter_free(&c->waiter);
}
