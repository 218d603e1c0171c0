/* What became of a write whose answer was lost with its connection: the primary is asked for its
 * transaction's id, by another connection, inside the call's deadline. The call goes its way to a
 * connection once more, with another errand; what the answer means, plan/settle decides. */
#include "../plan/settle.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "../wire/ask.h"
#include "call.h"
#include "conn.h"
#include "session.h"
#include "steps.h"

#include <inttypes.h>
#include <stdio.h>

#define ASK_AGAIN_MS 4 /* doubles, with jitter */
#define ASK_AGAIN_DOUBLES 6

struct pqi_doubt {
    pqr_error err; /* what it ends with if nothing settles it */
    uint64_t id;
    struct pqi_origin origin; /* whose that is */
    int attempts;             /* that the write itself has had */
    int asked;
    const char *why; /* the last answer settled nothing; NULL: none came */
    char sql[80];
    struct pqi_stmt question;
};

static uint64_t id_of(struct pqi_call *c)
{
    if (c->tells_id)
        pqi_ask_read_id(pqi_call_answer(c, c->led), &c->id);
    return c->id;
}

/* Why there is nothing to ask; NULL: there is something. */
static const char *nothing_to_ask(struct pqi_call *c)
{
    if (!c->write || c->partial || !c->conn)
        return "";
    if (id_of(c) == 0)
        return c->tells_id ? "; the id of its transaction had not come yet"
                           : "; the id of its transaction was not asked for";
    return pqi_origin_proven(&c->conn->origin) ? NULL : "; its server does not tell crashes apart";
}

/* The caller's own answer, if that had come: only what acknowledges it is missing. */
static void keep_answer(struct pqi_call *c)
{
    struct pqi_answer *a = pqi_call_answer(c, c->first);
    if (c->count != 1 || !a || a->state != PQI_ANSWER_OK)
        return;
    c->kept = *a;
    a->pg = NULL;
}

bool pqi_call_doubt(struct pqi_call *c)
{
    const char *nothing = nothing_to_ask(c);
    if (nothing)
        pqi_err_add(&c->err, "%s", nothing);
    if (nothing || pqi_call_aborted(c) || pqi_now_ns() >= c->until_ns)
        return false;
    struct pqi_doubt *d = pqi_mem_new(sizeof *d);
    if (!d)
        return false;
    d->err = c->err;
    d->id = c->id;
    d->origin = c->conn->origin;
    d->attempts = c->attempts;
    pqi_ask_fate(&d->question, d->sql, sizeof d->sql, d->id);
    c->local = c->conn->alone;
    keep_answer(c);
    pqi_conn_back(c->node, c->conn);
    c->conn = NULL;
    c->doubt = d;
    c->hope_until_ns = c->queue_until_ns = c->until_ns;
    c->map_version = INT64_MAX; /* it was placed: where it ran is where to ask */
    c->state = PQI_CALL_PLACE;
    return true;
}

void pqi_call_doubt_ends(struct pqi_call *c)
{
    struct pqi_doubt *d = c->doubt;
    char last[200];
    pqi_copy_text(last, sizeof last, c->err.message);
    c->err = d->err;
    pqi_err_add(&c->err, "; its transaction is %" PRIu64 ": %s", d->id, d->why ? d->why : last);
    c->session->in_doubt = true;
    c->doubt = NULL;
    pqi_mem_free(d);
}

void pqi_call_doubt_attempt(struct pqi_call *c)
{
    if (!pqi_call_may_send(c, "about to ask what became of it"))
        return;
    c->doubt->asked++;
    pqi_conn_send(c->conn, &c->doubt->question, 1);
    pqi_call_doubt_step(c, 0);
}

static void ask_again(struct pqi_call *c)
{
    if (!pqi_call_may_rerun(c)) {
        pqi_call_end_with_error(c);
        return;
    }
    int doubles = c->doubt->asked < ASK_AGAIN_DOUBLES ? c->doubt->asked : ASK_AGAIN_DOUBLES;
    int64_t least = ASK_AGAIN_MS * PQI_MS << doubles >> 1;
    c->pause_until_ns = pqi_now_ns() + least + (int64_t)(pqi_random() % (uint64_t)least);
    c->state = PQI_CALL_PAUSE;
}

static void forget_doubt(struct pqi_call *c)
{
    c->attempts = c->doubt->attempts;
    pqi_mem_free(c->doubt);
    c->doubt = NULL;
}

/* Where it is in the log nobody has told: the session reads on the primary until a later position. */
static void it_committed(struct pqi_call *c)
{
    forget_doubt(c);
    c->resolved = true;
    pqi_session_wrote_on(c->session, c->node);
    pqi_err_none(&c->err);
    pqi_call_done(c);
}

static void it_is_absent(struct pqi_call *c)
{
    pqi_err(&c->err, PQR_E_LOST,
            "%s: the connection was lost, and the server has rolled back transaction %" PRIu64
            ": nothing happened",
            c->node->target->name, c->doubt->id);
    forget_doubt(c);
    pqi_answer_clear(&c->kept);
    c->id = 0;
    c->local = false;
    if (pqi_call_may_rerun(c))
        pqi_call_rerun(c, PQI_BACKOFF);
    else
        pqi_call_end_with_error(c);
}

static void asked(struct pqi_call *c)
{
    enum pqi_xact xact = pqi_ask_read_fate(&c->conn->answers[0]);
    struct pqi_settled s = pqi_settle(&c->doubt->origin, &c->conn->origin, xact);
    c->doubt->why = s.why;
    pqi_conn_back(c->node, c->conn);
    c->conn = NULL;
    switch (s.how) {
    case PQI_SETTLED_COMMITTED:
        it_committed(c);
        break;
    case PQI_SETTLED_ABSENT:
        it_is_absent(c);
        break;
    case PQI_SETTLED_NOT_YET:
        ask_again(c);
        break;
    case PQI_SETTLED_NEVER:
        pqi_call_end_with_error(c);
        break;
    }
}

void pqi_call_doubt_step(struct pqi_call *c, short revents)
{
    pqi_conn_step(c->conn, revents);
    if (c->conn->state == PQI_IDLE && pqi_ask_moved(&c->conn->answers[0])) {
        pqi_call_moved(c);
        ask_again(c);
    } else if (c->conn->state == PQI_IDLE) {
        asked(c);
    } else if (c->conn->state == PQI_DEAD) {
        pqi_err(&c->err, PQR_E_LOST, "the connection that asked was lost: %s",
                c->conn->trouble.text);
        pqi_shard_troubled(c->node, &c->conn->trouble);
        pqi_shard_look_again(c->shard);
        pqi_call_drop_conn(c);
        ask_again(c);
    }
}

void pqi_call_doubt_late(struct pqi_call *c)
{
    pqi_conn_fail(c->conn, PQI_TROUBLE_TIMEOUT, "no answer before the deadline");
    pqi_err(&c->err, PQR_E_DEADLINE, "the deadline passed before the server had told");
    pqi_call_end_with_error(c);
}
