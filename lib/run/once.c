/* Writes and transactions with a key.
 *
 *     claim the key · the statement · (held: its tag is known) · record the tag · Sync
 *        │
 *        └─ 23505: it was done before ─▶ read what was told of it ─▶ done, and nothing was run
 *
 * All of it is one transaction. If its answer is lost, doing it again is what finds out: the claim waits
 * for the lost one's end, and then fails if that has committed, also on a server promoted since. */
#include "once.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "../wire/once.h"
#include "conn.h"
#include "session.h"
#include "steps.h"

#include <string.h>

struct pqi_once {
    struct pqi_params *claim, *record, *read;
    char tag[64]; /* of the statement; read: of the one before */
    struct pqi_stmt question;
    bool reads;     /* it was done before: what was told of it is on its way */
    bool done;      /* it was … */
    bool before;    /* … and not by a lost attempt of this call, for all that is known */
    bool doubt;     /* an attempt's answer was lost: `lost` says how */
    pqr_error lost; /* … and what the call ends with if nothing settles it */
};

int pqi_key_check(const char *key, pqr_error *err)
{
    size_t len = strlen(key);
    if (len > 0 && len <= PQI_KEY_BYTES_MAX)
        return PQR_OK;
    return pqi_err(err, PQR_E_USAGE, "an idempotency key of %zu bytes: it has 1 to %d", len,
                   PQI_KEY_BYTES_MAX);
}

/* A wait that ends before the call does, so that it can say what it waited for. */
static int64_t claim_wait_ms(const struct pqi_call *c)
{
    int64_t ms = c->until_ns == PQI_FOREVER ? INT32_MAX
                                            : (c->until_ns - c->begun_ns) / PQI_MS * 3 / 4;
    return ms < 1 ? 1 : ms > INT32_MAX ? INT32_MAX : ms;
}

static int bind_all(struct pqi_op *op, const char *key, const char *tag, pqr_error *err)
{
    struct pqi_call *c = &op->call;
    struct pqi_once *o = c->once = pqi_mem_new(sizeof *o);
    const struct pqr_session *s = c->session;
    const pqr_param params[] = {PQR_BYTES(s->tenant ? s->tenant : "", s->tenant_len), PQR_TEXT(key),
                                PQR_INT64(claim_wait_ms(c)), PQR_TEXT(tag)};
    const pqr_param record[] = {params[0], params[1], PQR_TEXT("")};
    if (!o)
        return pqi_err(err, PQR_E_NOMEM, "no memory for a key");
    int code = pqi_params_bind(&o->claim, params, tag ? 4 : 3, op->copies, err);
    if (code == PQR_OK && !tag)
        code = pqi_params_bind(&o->record, record, 3, op->copies, err);
    if (code == PQR_OK)
        code = pqi_params_bind(&o->read, params, 2, op->copies, err);
    return code;
}

static struct pqi_stmt own(const char *sql, struct pqi_params *params)
{
    return (struct pqi_stmt){.sql = sql,
                             .params = params,
                             .own = true,
                             .prepare = true,
                             .hash = pqi_prepared_hash(sql, params->types, params->n)};
}

int pqi_once_write(struct pqi_op *op, const char *key, pqr_error *err)
{
    struct pqi_stmt *s = op->stmts;
    int code = bind_all(op, key, NULL, err);
    if (code != PQR_OK)
        return code;
    s[op->call.led] = own(pqi_once_claim_sql, op->call.once->claim);
    s[0].joins = true;
    s[op->call.first].hold = true;
    s[op->call.first + 1] = own(pqi_once_record_sql, op->call.once->record);
    s[op->call.first + 1].sync = true;
    return PQR_OK;
}

int pqi_once_begin(struct pqi_op *op, const char *key, pqr_error *err)
{
    int code = bind_all(op, key, "COMMIT", err);
    if (code != PQR_OK)
        return code;
    op->stmts[1 + op->call.led] = own(pqi_once_claim_tagged_sql, op->call.once->claim);
    return PQR_OK;
}

void pqi_once_free(struct pqi_once *o)
{
    if (!o)
        return;
    pqi_params_free(o->claim);
    pqi_params_free(o->record);
    pqi_params_free(o->read);
    pqi_mem_free(o);
}

const char *pqi_once_done(const struct pqi_call *c, int *outcome)
{
    if (!c->once || !c->once->done)
        return NULL;
    *outcome = c->once->before ? PQR_OUTCOME_REPEATED : PQR_OUTCOME_RESOLVED;
    return c->once->tag;
}

/* ---- On the way ------------------------------------------------------------------------------ */

static int claim_at(const struct pqi_call *c)
{
    return (c->keep ? 1 : 0) + c->led; /* in a transaction BEGIN stands ahead */
}

void pqi_once_go_on(struct pqi_call *c)
{
    struct pqi_once *o = c->once;
    struct pqi_answer *a = pqi_call_answer(c, c->first);
    pqi_copy_text(o->tag, sizeof o->tag, a && a->state == PQI_ANSWER_OK ? pqi_answer_tag(a) : "");
    o->record->values[2] = o->tag;
    o->record->lengths[2] = (int)strlen(o->tag);
    pqi_conn_go_on(c->conn);
}

bool pqi_once_waits(const struct pqi_call *c)
{
    return c->once && c->once->doubt;
}

/* It was done before: the outcome is read. */
static void want_outcome(struct pqi_once *o)
{
    o->reads = true;
    o->question = own(pqi_once_read_sql, o->read);
    o->question.sync = true;
    o->question.proves = " and ";
}

static void read_elsewhere(struct pqi_call *c)
{
    want_outcome(c->once);
    pqi_call_drop_conn(c);
    c->attempts--;
    c->state = PQI_CALL_PLACE;
}

/* In a failed block nothing can be read: that connection is not of use. */
static void read_outcome(struct pqi_call *c)
{
    if (c->keep) {
        read_elsewhere(c);
        return;
    }
    want_outcome(c->once);
    pqi_once_read_attempt(c);
}

bool pqi_once_reads(const struct pqi_call *c)
{
    return c->once && c->once->reads;
}

void pqi_once_read_attempt(struct pqi_call *c)
{
    if (!pqi_call_may_send(c, "about to read the outcome of its key"))
        return;
    pqi_conn_send(c->conn, &c->once->question, 1);
    pqi_once_read_step(c, 0);
}

/* A key that is gone again was purged, between the claim and this: all begins anew. */
static void again(struct pqi_call *c)
{
    c->once->reads = false;
    if (pqi_call_may_rerun(c))
        pqi_call_rerun(c, PQI_BACKOFF);
    else
        pqi_call_end_with_error(c);
}

void pqi_once_read_step(struct pqi_call *c, short revents)
{
    struct pqi_once *o = c->once;
    pqi_conn_step(c->conn, revents);
    if (c->conn->state == PQI_DEAD) {
        pqi_err(&c->err, PQR_E_LOST, "the connection was lost: %s", c->conn->trouble.text);
        pqi_shard_troubled(c->node, &c->conn->trouble);
        pqi_shard_look_again(c->shard);
        pqi_call_drop_conn(c);
        again(c);
    } else if (c->conn->state == PQI_IDLE && pqi_ask_moved(&c->conn->answers[0])) {
        pqi_call_moved(c);
        again(c);
    } else if (c->conn->state == PQI_IDLE) {
        o->done = pqi_once_read(&c->conn->answers[0], o->tag, sizeof o->tag);
        pqi_conn_back(c->node, c->conn);
        c->conn = NULL;
        if (!o->done) {
            pqi_err(&c->err, PQR_E_LOST,
                    "%s: its key was taken, and is gone again: nothing happened",
                    c->node->target->name);
            again(c);
            return;
        }
        o->before = !o->doubt;
        o->doubt = false;
        pqi_session_wrote_on(c->session, c->node);
        pqi_err_none(&c->err);
        pqi_call_done(c);
    }
}

/* ---- What failed ----------------------------------------------------------------------------- */

/* The claim answered, so no earlier attempt has happened: what fails now is what the call ends with. */
static void look_at_claim(struct pqi_call *c, int statement)
{
    const struct pqi_answer *a = pqi_call_answer(c, claim_at(c));
    if (statement > claim_at(c) && a && a->state == PQI_ANSWER_OK)
        c->once->doubt = false;
}

bool pqi_once_failed(struct pqi_call *c, int statement)
{
    look_at_claim(c, statement);
    const struct pqi_answer *a = pqi_call_answer(c, claim_at(c));
    if (statement != claim_at(c) || !a || !pqi_once_taken(a))
        return false;
    if (c->conn->state == PQI_IDLE) {
        read_outcome(c);
        return true;
    }
    /* Lost behind that answer: it is read on another connection. */
    read_elsewhere(c);
    return true;
}

void pqi_once_explain(struct pqi_call *c, int statement)
{
    const struct pqi_answer *a = statement >= 0 ? pqi_call_answer(c, statement) : NULL;
    if (!a || statement == c->first || (c->led && statement == c->lead))
        return;
    const char *unusable = pqi_once_unusable(a);
    if (unusable)
        pqi_err_add(&c->err, "%s", unusable);
    if (strcmp(c->err.sqlstate, "55P03") == 0) {
        pqi_err_add(&c->err, "; another call with its key is at work");
        c->err.retry = PQR_RETRY_SAFE;
    }
}

bool pqi_once_doubt(struct pqi_call *c)
{
    struct pqi_once *o = c->once;
    if (!o->doubt)
        o->lost = c->err;
    o->doubt = true;
    if (!pqi_call_may_rerun(c))
        return false;
    pqi_conn_back(c->node, c->conn);
    c->conn = NULL;
    c->hope_until_ns = c->queue_until_ns = c->until_ns;
    pqi_call_rerun(c, PQI_BACKOFF);
    return true;
}

void pqi_once_ends(struct pqi_call *c)
{
    struct pqi_once *o = c->once;
    if (!o->doubt || c->err.code == PQR_OK)
        return;
    char last[400];
    pqi_copy_text(last, sizeof last, c->err.message);
    c->err = o->lost;
    if (c->err.code == PQR_E_UNKNOWN && strcmp(last, o->lost.message) != 0)
        pqi_err_add(&c->err, "; its key could not be looked up: %s", last);
    c->session->in_doubt = true;
}
