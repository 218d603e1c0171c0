/* One call, from submit to answer: its states, its place, its ends. How it gets a connection says
 * reach.c, or a lane board.c; what it does there, attempt.c. */
#include "call.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "conn.h"
#include "monitor.h"
#include "session.h"
#include "steps.h"
#include "token.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#define MONITOR_BORROWS_MS 50
#define LOOK_MS 100     /* as long as a token lets a read wait for a look at the replicas … */
#define ANSWER_MS 1000  /* … and for the primary, who alone can tell whether it may be true */
#define REFUSAL_MS 1000 /* as long as pqr_ready waits for a refusal to be looked at again */

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
    c->ticket.turn.tenant = c->rider.turn.tenant = s->place;
    pqi_list_init(&c->ticket.link);
    pqi_list_init(&c->hope.link);
}

/* ---- Answers -------------------------------------------------------------------------------- */

/* On a lane only the caller's own statements travel, and what tells whose they are. */
struct pqi_answer *pqi_call_answer(struct pqi_call *c, int i)
{
    if (!c->rode)
        return c->conn && i < c->conn->n ? &c->conn->answers[i] : NULL;
    int at = i - c->first + c->led;
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

/* Most calls have met no error before: the struct is large. */
void pqi_call_none_happened(struct pqi_call *c)
{
    if (c->err.code != PQR_OK)
        pqi_err_none(&c->err);
}

/* ---- Ends ----------------------------------------------------------------------------------- */

void pqi_call_share_back(struct pqi_call *c)
{
    if (c->falls_back)
        pqi_shard_share_back(c->shard);
    c->falls_back = false;
}

static void stop_hoping(struct pqi_call *c)
{
    if (c->hoping)
        pqi_shard_unhope(c->shard, &c->hope);
    c->hoping = false;
}

void pqi_call_leave_queue(struct pqi_call *c)
{
    bool queued = c->state == PQI_CALL_QUEUE || c->queued_too;
    c->queued_too = false;
    if (!queued || !pqi_pool_leave(&c->node->pool, &c->ticket))
        return;
    if (c->ticket.conn)
        pqi_conn_back(c->node, c->ticket.conn);
    else
        pqi_pool_release(&c->node->pool);
}

/* Every way to DONE leads through here: the queue and the hopes are left, and a connection that
 * nobody will use any more is given back. `err` is written already. */
void pqi_call_done(struct pqi_call *c)
{
    stop_hoping(c);
    pqi_call_leave_queue(c);
    if (c->doubt)
        pqi_call_doubt_ends(c);
    else if (c->once)
        pqi_once_ends(c);
    if (!(c->keep && c->err.code == PQR_OK)) /* else with the connection */
        pqi_call_share_back(c);
    c->state = PQI_CALL_DONE;
}

static void tell_place(struct pqi_call *c)
{
    c->err.shard = c->shard ? c->shard->number : -1;
    if (c->node)
        snprintf(c->err.node, sizeof c->err.node, "%s", c->node->target->name);
}

static void tell_where(struct pqi_call *c)
{
    if (c->err.code != PQR_OK && c->err.node[0] == '\0')
        tell_place(c);
}

void pqi_call_end_with_error(struct pqi_call *c)
{
    tell_where(c);
    pqi_call_done(c);
}

/* Is it to end now, by its caller's wish or the router's? */
bool pqi_call_aborted(const struct pqi_call *c)
{
    return c->cancelled || atomic_load_explicit(&c->db->aborting, memory_order_relaxed);
}

int pqi_call_abort_code(const struct pqi_call *c)
{
    return c->cancelled ? PQR_E_CANCELLED : PQR_E_CLOSED;
}

const char *pqi_call_abort_text(const struct pqi_call *c)
{
    return c->cancelled ? "the call was cancelled" : "the router was closed";
}

int64_t pqi_call_spent_ms(const struct pqi_call *c)
{
    return (pqi_now_ns() - c->begun_ns) / PQI_MS;
}

/* Before anything was sent: the deadline has passed, or the router is closing. */
void pqi_call_end_unsent(struct pqi_call *c, const char *doing)
{
    if (pqi_call_aborted(c)) {
        pqi_err(&c->err, pqi_call_abort_code(c), "%s while it was %s: nothing was sent",
                pqi_call_abort_text(c), doing);
    } else {
        char after[40] = "";
        if (pqi_call_spent_ms(c) > 0) /* else it is that of the transaction */
            snprintf(after, sizeof after, " after %lld ms", (long long)pqi_call_spent_ms(c));
        pqi_count(c->db, deadlines);
        pqi_err(&c->err, PQR_E_DEADLINE, "the deadline passed%s, while %s: nothing was sent", after,
                doing);
    }
    pqi_call_end_with_error(c);
}

bool pqi_call_may_send(struct pqi_call *c, const char *doing)
{
    bool late = pqi_call_aborted(c) || pqi_now_ns() >= c->until_ns;
    if (late)
        pqi_call_end_unsent(c, doing);
    return !late;
}

/* ---- Running again -------------------------------------------------------------------------- */

static bool within_budget(struct pqi_call *c)
{
    struct pqr *db = c->db;
    uint64_t calls = atomic_load(&db->counters.reads) + atomic_load(&db->counters.writes) +
                     atomic_load(&db->counters.batches) + atomic_load(&db->counters.transactions);
    pthread_mutex_lock(&db->budget_lock);
    bool may = pqi_budget_take(&db->budget, db->options->retry_budget_percent, calls, pqi_now_ns());
    pthread_mutex_unlock(&db->budget_lock);
    if (!may)
        pqi_err_add(&c->err, "; not run again: DB_RETRY_BUDGET_PERCENT is used up");
    return may;
}

bool pqi_call_may_rerun(struct pqi_call *c)
{
    if (pqi_call_aborted(c) || pqi_now_ns() >= c->until_ns)
        return false;
    if (c->doubt || pqi_once_waits(c))
        return true;
    return c->unit && c->attempts <= c->db->options->retry_max && within_budget(c);
}

void pqi_call_rerun(struct pqi_call *c, enum pqi_again how)
{
    pqi_count(c->db, retries);
    c->state = PQI_CALL_PLACE;
    if (how == PQI_ELSEWHERE)
        return;
    int64_t most = PQI_PAUSE_MS * PQI_MS << (c->attempts < 6 ? c->attempts : 6);
    c->pause_until_ns = pqi_now_ns() + (int64_t)(pqi_random() % (uint64_t)most);
    c->state = PQI_CALL_PAUSE;
}

/* The connection is dead, or may not be used again. */
void pqi_call_drop_conn(struct pqi_call *c)
{
    pqi_conn_give_up(c->node, c->conn);
    c->conn = NULL;
}

void pqi_call_moved(struct pqi_call *c)
{
    pqi_err(&c->err, PQR_E_LOST,
            "%s: another server than was known is behind its pooler: nothing happened",
            c->node->target->name);
    pqi_shard_not_primary(c->node);
    pqi_call_drop_conn(c);
}

/* ---- Placing -------------------------------------------------------------------------------- */

/* A token that came with the session may be news here: then a look at the servers, soon, says more
 * than sending everybody to the primary would. */
static void heed_token(struct pqi_call *c, struct pqi_errand *e)
{
    struct pqr_session *s = c->session;
    int64_t now = pqi_now_ns();
    if (s->claimed) {
        enum pqi_token_verdict verdict = pqi_session_bind(s, c->shard, &e->need.seen);
        int64_t left = pqi_after_ms(c->begun_ns, 0) < c->until_ns ? c->until_ns - c->begun_ns : 0;
        int64_t most = (verdict == PQI_TOKEN_OPEN ? ANSWER_MS : LOOK_MS) * PQI_MS;
        int64_t since = verdict == PQI_TOKEN_OPEN ? c->begun_ns : now;
        c->look_until_ns = since + (left / 2 < most ? left / 2 : most);
        c->catching_up = verdict == PQI_TOKEN_OPEN || verdict == PQI_TOKEN_UNSURE;
    }
    e->looked_ns = now < c->look_until_ns ? s->claimed_ns : 0;
    e->catching_up = c->catching_up;
}

static enum pqi_placing ask_for_place(struct pqi_call *c, pqr_error *err)
{
    pqi_call_share_back(c);
    struct pqi_errand e = {.write = c->write,
                           .stamping = c->session->stamping,
                           .tried = c->tried,
                           .generation = &c->generation,
                           .deal_session = true};
    if (!c->write) {
        pqi_shard_need(c->shard, c->level, &e.need);
        e.need.stay = c->session->stay;
        e.read_ns = c->session->read_ns;
        e.stay_generation = c->session->stay_generation;
        e.deal_session = c->level == PQR_LEVEL_SESSION;
        e.falls_back = c->looks ? NULL : &c->falls_back;
        e.need.shown = c->session->shown;
        e.need.bound_ms = c->max_lag_ms;
        if (c->level == PQR_LEVEL_SESSION && !pqi_session_sure(c->session, c->shard))
            e.need.level = PQR_LEVEL_PRIMARY;
        else if (c->level == PQR_LEVEL_SESSION)
            heed_token(c, &e);
    }
    pqi_seen_raise(&e.need.seen, c->session->seen.timeline, c->session->seen.lsn);
    if (c->session->fixed_node) {
        c->node = c->session->fixed_node;
        c->generation = atomic_load(&c->node->pool.generation);
        return PQI_PLACE_GO;
    }
    return pqi_shard_place(c->shard, &e, &c->node, err);
}

/* Its own error is not only its own while it rides: an outcome may come just now. */
bool pqi_call_find_place(struct pqi_call *c)
{
    pqr_error unheard;
    return ask_for_place(c, &unheard) == PQI_PLACE_GO;
}

/* The shard is decided anew each time: the map may have changed while the call waited. */
static bool find_shard(struct pqi_call *c)
{
    if (c->doubt)
        return true; /* where it ran */
    struct pqi_shard *s = pqi_session_shard(c->session, &c->map_version, &c->err);
    if (s != c->shard) {
        stop_hoping(c);
        pqi_call_share_back(c);
    }
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
    pqi_call_none_happened(c);
    pqi_call_done(c);
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
        pqi_call_end_with_error(c);
        return;
    }
    enum pqi_placing placing = ask_for_place(c, &c->err);
    if (placing == PQI_PLACE_WAIT && !c->hoping) {
        /* News may have come between the question and the hope: so ask once more. */
        c->hope.for_share = !c->write;
        pqi_shard_hope(c->shard, &c->hope);
        c->hoping = true;
        forget_tries(c);
        placing = ask_for_place(c, &c->err);
    }
    switch (placing) {
    case PQI_PLACE_GO:
        stop_hoping(c);
        c->attempts++;
        if (c->looks) {
            look_done(c);
        } else {
            pqi_call_watch(c);
            pqi_call_acquire(c);
        }
        break;
    case PQI_PLACE_WAIT:
        if (c->looks)
            c->hope_until_ns = c->until_ns;
        c->state = PQI_CALL_HOPE;
        break;
    case PQI_PLACE_REFUSED:
        if (refused_for_good(c))
            pqi_call_end_with_error(c);
        else
            c->state = PQI_CALL_HOPE;
        break;
    }
}

/* Woken by news, or out of patience: `err` says what nobody could serve. */
static void hope_step(struct pqi_call *c, int64_t now)
{
    if (pqi_call_aborted(c))
        pqi_call_end_unsent(c, "waiting for a server");
    else if (now >= c->until_ns && !c->looks && pqi_shard_next_look(c->shard) != PQI_FOREVER)
        pqi_call_end_unsent(c, "waiting for the first look at its servers");
    else if (now >= c->until_ns || now >= c->hope_until_ns)
        pqi_call_end_with_error(c);
    else
        place(c);
}

/* ---- Driving -------------------------------------------------------------------------------- */

static void conn_late(struct pqi_call *c, int64_t now)
{
    bool deadline = now >= c->until_ns || pqi_call_aborted(c);
    if (c->state == PQI_CALL_RUN) {
        pqi_call_run_late(c);
    } else if (deadline && c->state == PQI_CALL_CLEAN) {
        pqi_call_end_unsent(c, "waiting for a connection"); /* which goes back as it is */
    } else if (c->state == PQI_CALL_CLEAN) {
        pqi_call_clean_late(c, now);
    } else if (deadline) {
        if (c->state == PQI_CALL_AHEAD)
            pqi_call_drop_conn(c);
        else
            pqi_call_pass_on(c);
        pqi_call_end_unsent(c, c->state == PQI_CALL_AHEAD ? "telling the server its tenant"
                                                          : "connecting");
    } else {
        pqi_conn_late(c->conn);
        pqi_call_connect_step(c, 0); /* its name's next address, or it failed */
    }
}

/* `err` is what made it pause; nothing when that was a newer map or a change of roles. */
static void pause_late(struct pqi_call *c)
{
    if (c->err.code == PQR_OK || pqi_call_aborted(c))
        pqi_call_end_unsent(c, "waiting for a server");
    else
        pqi_call_end_with_error(c);
}

static bool on_conn(const struct pqi_call *c)
{
    return c->state == PQI_CALL_CONNECT || c->state == PQI_CALL_HANDSHAKE ||
           c->state == PQI_CALL_CLEAN || c->state == PQI_CALL_AHEAD || c->state == PQI_CALL_RUN;
}

static int64_t soonest(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Does it wait for its node? */
static bool at_node(const struct pqi_call *c)
{
    return on_conn(c) || c->state == PQI_CALL_QUEUE || c->state == PQI_CALL_RIDE;
}

static int64_t waits_in_state_until(const struct pqi_call *c)
{
    switch (c->state) {
    case PQI_CALL_PAUSE:
        return soonest(c->pause_until_ns, c->until_ns);
    case PQI_CALL_HOPE:
        /* Also when the shard's first look ends by its time, which is no news. */
        return soonest(
            soonest(soonest(c->hope_until_ns, c->until_ns), pqi_shard_next_look(c->shard)),
            c->look_until_ns > pqi_now_ns() ? c->look_until_ns : PQI_FOREVER);
    case PQI_CALL_QUEUE:
        return soonest(c->queue_until_ns, c->until_ns);
    case PQI_CALL_RIDE:
        return soonest(c->stuck_ns, c->until_ns);
    case PQI_CALL_CLEAN:
        return soonest(c->clean_ns, c->until_ns);
    case PQI_CALL_CONNECT:
    case PQI_CALL_HANDSHAKE:
        return soonest(c->conn->connect_until_ns, c->until_ns);
    default:
        return c->until_ns;
    }
}

static int64_t waits_until(const struct pqi_call *c)
{
    int64_t until = waits_in_state_until(c);
    if (pqi_call_makes(c))
        until = soonest(until, c->detour_ns);
    return c->look_ns > 0 && at_node(c) ? soonest(until, c->look_ns) : until;
}

struct pqi_want pqi_call_step(struct pqi_call *c, short revents)
{
    int64_t now = pqi_now_ns();
    if (c->state == PQI_CALL_RIDE)
        pqi_call_ride_step(c, now);
    else if (c->state == PQI_CALL_RUN)
        pqi_call_run_step(c, revents);
    else if (c->state == PQI_CALL_CLEAN)
        pqi_call_clean_step(c, revents);
    else if (c->state == PQI_CALL_AHEAD)
        pqi_call_ahead_step(c, revents);
    else if (on_conn(c) && !pqi_call_aborted(c) && now < c->until_ns)
        pqi_call_connect_step(c, revents); /* else nothing is sent any more: it ends below */
    else if (c->state == PQI_CALL_QUEUE)
        pqi_call_queue_step(c, now);
    else if (c->state == PQI_CALL_HOPE)
        hope_step(c, now);
    else if (c->state == PQI_CALL_PAUSE && (pqi_call_aborted(c) || now >= c->until_ns))
        pause_late(c);
    else if (c->state == PQI_CALL_PAUSE && now >= c->pause_until_ns)
        place(c);
    while (c->state == PQI_CALL_PLACE) /* at first, and for each rerun that need not wait */
        place(c);
    if (c->look_ns > 0 && now >= c->look_ns && at_node(c) && !pqi_call_aborted(c))
        pqi_call_look(c, now);
    if (now >= c->detour_ns && pqi_call_makes(c) && !pqi_call_aborted(c) && now < c->until_ns)
        pqi_call_detour(c, now);
    if (on_conn(c) && (pqi_call_aborted(c) || pqi_now_ns() >= waits_in_state_until(c)))
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
    if (ms > 0 && pqi_call_spent_ms(c) >= ms)
        pqi_log(&c->db->log, PQR_LOG_WARN, "slow", "%s: %s took %lld ms (%s)",
                c->node ? c->node->target->name : pqi_shard_called(c->shard),
                c->name ? c->name : "an unnamed statement", (long long)pqi_call_spent_ms(c),
                pqr_code_name(c->err.code));
}

/* No failure, but worth knowing: it stands in the error that says OK. */
static void tell_local(struct pqi_call *c)
{
    pqi_err(
        &c->err, PQR_OK,
        "%s: committed there, but the wait for its synchronous standby was cancelled: a failover "
        "may lose it",
        c->node->target->name);
    memcpy(c->err.sqlstate, "01000", 6);
    tell_place(c);
    pqi_log(&c->db->log, PQR_LOG_WARN, "committed_alone", "%s", c->err.message);
}

void pqi_call_ended(struct pqi_call *c)
{
    if (c->err.code != PQR_OK)
        pqi_count(c->db, errors);
    else if (c->local)
        tell_local(c);
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
            revents = pqi_wait_or_abort(&c->db->wait, want.fd, want.events, c->db->abort_flag,
                                        want.until_ns);
        else
            pqi_waiter_wait(&c->waiter, &c->db->wait, want.until_ns);
    }
    pqi_call_ended(c);
    return c->err.code;
}

void pqi_call_end(struct pqi_call *c)
{
    if (c->conn && !(c->keep && c->err.code == PQR_OK))
        pqi_conn_back(c->node, c->conn);
    c->conn = NULL;
    pqi_answer_clear(&c->kept);
    pqi_once_free(c->once);
    pqi_call_share_back(c);
    if (c->rider.job.answers)
        pqi_job_reset(&c->rider.job);
    if (c->rider.job.answers != c->few)
        pqi_mem_free(c->rider.job.answers);
    pqi_waiter_free(&c->waiter);
}
