/* One attempt at a call: what is sent, and what its answer or its loss means. */
#include "../base/err.h"
#include "../plan/fate.h"
#include "../plan/pooler.h"
#include "call.h"
#include "conn.h"
#include "session.h"
#include "steps.h"
#include "vitals.h"

#include <stdio.h>
#include <string.h>

/* The statement that failed first, or -1. */
static int failed_statement(struct pqi_call *c)
{
    for (int i = 0; i < c->n - c->tail; i++) {
        const struct pqi_answer *a = pqi_call_answer(c, i);
        if (a && a->state == PQI_ANSWER_ERROR)
            return i;
    }
    return -1;
}

static bool acknowledged(struct pqi_call *c)
{
    for (int i = 0; i < c->n - c->tail; i++) {
        const struct pqi_answer *a = pqi_call_answer(c, i); /* NULL: there was no memory for it */
        if (!(a && a->acknowledged))
            return false;
    }
    return true;
}

static const struct pqi_trouble *trouble_of(const struct pqi_call *c)
{
    return c->rode ? &c->rider.trouble : &c->conn->trouble;
}

static const char *label(const struct pqi_call *c, char *buf, size_t size)
{
    if (!c->name)
        return "";
    snprintf(buf, size, "statement %.60s: ", c->name);
    return buf;
}

/* What stands ahead has failed. */
static const char *untold(const struct pqi_call *c)
{
    return c->db->wall.setting ? "its tenant could not be told: "
                               : "its settings could not be made: ";
}

static void describe(struct pqi_call *c, const struct pqi_failure *f, const struct pqi_fate *fate,
                     int statement)
{
    char name[80];
    int code = pqi_call_aborted(c) && f->timed_out && !(c->effects && f->given)
                   ? pqi_call_abort_code(c)
                   : pqi_fate_code(f, fate, c->effects);
    pqi_err(&c->err, code, "%s: %s", c->node->target->name, label(c, name, sizeof name));
    c->err.retry = (int32_t)(code == PQR_E_READ_ONLY ? PQR_RETRY_NEVER
                                                     : pqi_fate_retry(fate, c->effects));
    if (f->moved) {
        pqi_err_add(&c->err,
                    "another server than was known is behind its pooler: nothing happened");
        return;
    }
    if (c->led && statement == c->lead)
        pqi_err_add(&c->err, "%s", untold(c));
    if (statement >= 0)
        pqi_answer_tell(pqi_call_answer(c, statement), &c->err);
    else if (f->timed_out)
        pqi_err_add(
            &c->err, pqi_call_aborted(c) ? "%s before an answer came" : "no answer%s in %lld ms",
            pqi_call_aborted(c) ? pqi_call_abort_text(c) : "", (long long)pqi_call_spent_ms(c));
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
                            .pooler = c->db->options->pgbouncer,
                            .waited = trouble->severity == PQI_SEV_FATAL &&
                                      pqi_pooler_waited(trouble->text),
                            .moved = statement >= 0 && c->led && statement == c->lead &&
                                     pqi_ask_moved(pqi_call_answer(c, statement)),
                            .early = c->early,
                            .partial = c->partial,
                            .stale = !c->rode && !timed_out && c->conn->own.stale,
                            .timed_out = timed_out};
    if (statement >= 0) {
        f.sqlstate = pqi_answer_sqlstate(pqi_call_answer(c, statement));
        f.severity = PQI_SEV_ERROR;
        f.inside = pqi_answer_inside(pqi_call_answer(c, statement));
    }
    return f;
}

void pqi_call_run_failed(struct pqi_call *c, int statement, bool timed_out)
{
    if (c->once && pqi_once_failed(c, statement))
        return;
    struct pqi_failure f = failure_of(c, statement, timed_out);
    struct pqi_fate fate = pqi_fate(&f);
    describe(c, &f, &fate, statement);
    if (c->once)
        pqi_once_explain(c, statement);
    bool dead = c->rode ? c->rider.outcome == PQI_OUT_LOST : c->conn->state == PQI_DEAD;
    if (c->conn)
        c->conn->tainted |= !fate.keep;
    if (dead && !timed_out) {
        if (c->conn)
            pqi_count(c->db, connections_lost);
        pqi_shard_troubled(c->node, trouble_of(c));
    }
    if (f.moved || (c->write && strcmp(f.sqlstate, "25006") == 0))
        pqi_shard_not_primary(c->node);
    else if (dead)
        pqi_shard_look_again(c->shard);
    if (c->err.code == PQR_E_UNKNOWN && (c->once ? pqi_once_doubt(c) : pqi_call_doubt(c)))
        return;
    if (c->err.code == PQR_E_UNKNOWN)
        c->session->in_doubt = true; /* it reads where that can be seen */
    enum pqi_again again = c->effects ? fate.write : fate.read;
    if (again == PQI_RETURN || !pqi_call_may_rerun(c)) {
        pqi_call_end_with_error(c);
        return;
    }
    /* A write goes to the primary again: not before there was time to find out who that is. */
    if (c->write && again == PQI_ELSEWHERE && !f.stale)
        again = PQI_BACKOFF;
    c->tried[c->node->index] = dead;
    if (c->conn)
        pqi_conn_back(c->node, c->conn);
    c->conn = NULL;
    pqi_call_rerun(c, again);
}

/* What was written is at or before the position told behind it. Where that was not told, the
 * session reads on the primary until the primary has told a later one. */
static void tell_of_write(struct pqi_call *c)
{
    struct pqi_seen at = {.timeline = c->conn->origin.timeline};
    const struct pqi_answer *a = c->tail > 0 ? pqi_call_answer(c, c->n - 1) : NULL;
    if (at.timeline != 0 && pqi_ask_read_position(c->conn, a, &at.lsn))
        pqi_session_wrote_at(c->session, c->node, &at, c->begun_ns);
    else
        pqi_session_wrote_on(c->session, c->node);
}

static void tell_of_read(struct pqi_call *c)
{
    struct pqi_position p;
    if (c->tail > 0 && pqi_ask_read_how_far(pqi_call_answer(c, c->n - 1), &p))
        pqi_session_read_to(c->session, c->node, c->generation, c->begun_ns, &p);
    else
        pqi_session_read_on(c->session, c->node, c->generation);
}

/* A read of level any promises nothing to the session, and takes nothing from it. */
static void tell_session(struct pqi_call *c)
{
    if (c->write && c->effects)
        tell_of_write(c);
    else if (c->unit && !c->write && c->level != PQR_LEVEL_ANY)
        tell_of_read(c);
}

/* A lane does this for its riders. */
static void note_pace(struct pqi_call *c)
{
    atomic_fetch_add_explicit(&c->node->calls, 1, memory_order_relaxed);
    if (c->hash != 0)
        pqi_pace_note(&c->db->pace, c->hash, (pqi_now_ns() - c->sent_ns) / 1000);
}

/* The server passed over what was sent, for no fault of the caller's: what the router itself had
 * sent ahead of it failed. */
static void run_skipped(struct pqi_call *c)
{
    c->conn->tainted = true;
    pqi_err(&c->err, PQR_E_LOST, "%s: the server has passed over it: nothing happened",
            c->node->target->name);
    if (!pqi_call_may_rerun(c)) {
        pqi_call_end_with_error(c);
        return;
    }
    pqi_conn_back(c->node, c->conn);
    c->conn = NULL;
    pqi_call_rerun(c, PQI_BACKOFF);
}

void pqi_call_run_done(struct pqi_call *c)
{
    if (!c->rode)
        note_pace(c);
    c->local = c->effects && c->conn && c->conn->alone;
    int statement = failed_statement(c);
    if (statement >= 0) {
        pqi_call_run_failed(c, statement, false);
        return;
    }
    if (!c->rode && c->conn->state == PQI_IDLE && !acknowledged(c)) {
        run_skipped(c);
        return;
    }
    tell_session(c);
    pqi_call_none_happened(c);
    pqi_call_done(c);
}

/* Its statements have run: if the session could not be cleaned, then that was behind them. */
static bool undone(struct pqi_call *c)
{
    bool ran = c->stmts[0].joins;
    for (int i = c->first; i < c->first + c->count && ran; i++)
        ran = pqi_call_answer(c, i)->state == PQI_ANSWER_OK;
    return ran;
}

/* What it left in its session could not be removed, and that undid it: once for the session's sake,
 * twice by its own doing. */
static void run_undone(struct pqi_call *c)
{
    char name[80];
    if (c->undone++ == 0) {
        pqi_call_uncleaned(c);
        return;
    }
    pqi_err(&c->err, PQR_E_SQL, "%s: %s", c->node->target->name, label(c, name, sizeof name));
    c->err.retry = (int32_t)pqi_undone_retry(c->conn->unclean_sqlstate);
    pqi_err_add(&c->err,
                "it was rolled back, since what it left in its session cannot be removed: %s; what "
                "has such triggers pending or cursors open is to be run in a transaction",
                c->conn->unclean);
    pqi_copy_text(c->err.sqlstate, sizeof c->err.sqlstate, c->conn->unclean_sqlstate);
    pqi_call_end_with_error(c);
}

void pqi_call_run_step(struct pqi_call *c, short revents)
{
    if (c->doubt) {
        pqi_call_doubt_step(c, revents);
        return;
    }
    if (pqi_once_reads(c)) {
        pqi_once_read_step(c, revents);
        return;
    }
    int64_t before = c->conn->moved_ns;
    pqi_conn_step(c->conn, revents);
    if (c->conn->moved_ns != before)
        pqi_node_heard(c->node, c->conn->moved_ns);
    if (c->conn->state == PQI_IDLE && c->conn->held && !c->conn->uncleaned)
        pqi_once_go_on(c);
    if (c->conn->state == PQI_IDLE && c->conn->uncleaned && undone(c))
        run_undone(c);
    else if (c->conn->state == PQI_IDLE && c->conn->uncleaned)
        pqi_call_uncleaned(c);
    else if (c->conn->state == PQI_IDLE)
        pqi_call_run_done(c);
    else if (c->conn->state != PQI_DEAD)
        return;
    else if (acknowledged(c))
        pqi_call_run_done(c); /* lost after its Sync: what was asked is done */
    else
        pqi_call_run_failed(c, failed_statement(c), false);
}

/* Out of time: the connection has an answer under way that nobody will read, so it is closed; the
 * server sees that and stops. */
void pqi_call_run_late(struct pqi_call *c)
{
    if (c->doubt) {
        pqi_call_doubt_late(c);
        return;
    }
    pqi_conn_fail(c->conn, PQI_TROUBLE_TIMEOUT, "no answer before the deadline");
    if (acknowledged(c)) { /* only what the router asks behind it is missing */
        pqi_call_run_done(c);
        return;
    }
    pqi_count(c->db, deadlines);
    pqi_call_run_failed(c, -1, true);
}

static void send_all(struct pqi_call *c)
{
    c->state = PQI_CALL_RUN;
    if (c->n == 0) { /* only the connection is wanted */
        pqi_call_none_happened(c);
        pqi_call_done(c);
        return;
    }
    if (c->doubt) {
        pqi_call_doubt_attempt(c);
        return;
    }
    if (pqi_once_reads(c)) {
        pqi_once_read_attempt(c);
        return;
    }
    if (!pqi_call_may_send(c, "getting a connection"))
        return;
    c->sent_ns = c->begun_ns;
    if (c->hash != 0)
        c->sent_ns = pqi_now_ns();
    pqi_conn_send(c->conn, c->stmts, c->n);
    pqi_call_run_step(c, 0);
}

/* ---- What runs ahead of a statement that must stand alone ------------------------------------- */

/* Nothing of the call was sent yet. */
static void ahead_failed(struct pqi_call *c)
{
    const struct pqi_answer *a = &c->conn->answers[0];
    c->conn->tainted = true;
    bool dead = c->conn->state == PQI_DEAD;
    if (!dead && c->db->options->pgbouncer && pqi_ask_moved(a)) {
        pqi_call_moved(c);
        if (pqi_call_may_rerun(c))
            pqi_call_rerun(c, PQI_BACKOFF);
        else
            pqi_call_end_with_error(c);
        return;
    }
    pqi_err(&c->err, dead ? PQR_E_LOST : PQR_E_SQL, "%s: %s", c->node->target->name, untold(c));
    if (!dead && a->state == PQI_ANSWER_ERROR)
        pqi_answer_tell(a, &c->err);
    else
        pqi_err_add(&c->err, "the connection was lost: %s", c->conn->trouble.text);
    if (!dead || !pqi_call_may_rerun(c)) {
        pqi_call_end_with_error(c);
        return;
    }
    pqi_call_drop_conn(c);
    pqi_call_rerun(c, c->write ? PQI_BACKOFF : PQI_ELSEWHERE);
}

void pqi_call_ahead_step(struct pqi_call *c, short revents)
{
    pqi_conn_step(c->conn, revents);
    if (c->conn->state == PQI_IDLE && c->conn->answers[0].acknowledged)
        send_all(c);
    else if (c->conn->state == PQI_IDLE || c->conn->state == PQI_DEAD)
        ahead_failed(c);
}

void pqi_call_attempt(struct pqi_call *c)
{
    if (!c->ahead) {
        send_all(c);
        return;
    }
    c->state = PQI_CALL_AHEAD;
    if (!pqi_call_may_send(c, "getting a connection"))
        return;
    pqi_conn_send(c->conn, c->ahead, 1);
    pqi_call_ahead_step(c, 0);
}
