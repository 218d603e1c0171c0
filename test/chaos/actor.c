/* One who works: sessions one after another, some operations in each, a pause between them. Here
 * also the operations themselves for those who have a thread of their own. */
#include "driver.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* splitmix64: the same seed, the same choices. */
uint64_t actor_chance(struct actor *a, uint64_t below)
{
    uint64_t z = a->chance += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (z ^ z >> 31) % below;
}

void actor_init(struct actor *a, struct driver *d, int number)
{
    *a = (struct actor){.d = d, .number = number};
    a->chance = d->set.seed * 1000003 + (uint64_t)number;
}

/* A session's token (when there are any) goes from here to the next session of the same tenant. */
bool actor_session(struct actor *a)
{
    if (a->s && a->left-- > 0)
        return true;
    actor_end(a);
    a->tenant = (int)actor_chance(a, (uint64_t)a->d->set.tenants);
    a->left = 5 + (int)actor_chance(a, 40);
    for (int i = 0; i < KEYS_MAX; i++)
        a->seen[i] = -1;
    char tenant[24];
    snprintf(tenant, sizeof tenant, "%s_tn%03dx", a->d->set.run, a->tenant);
    snprintf(a->session, sizeof a->session, "%d.%d", a->number, a->sessions++);
    return pqr_session_open(a->d->db,
                            PQR_SESSION(.tenant = tenant, .deadline_ms = a->d->set.deadline_ms),
                            &a->s, NULL) == PQR_OK;
}

void actor_end(struct actor *a)
{
    pqr_session_close(a->s);
    a->s = NULL;
}

/* So long that all together reach the rate, on average. */
int64_t actor_pause_ns(struct actor *a)
{
    const struct settings *set = &a->d->set;
    int64_t mean_us = (set->threads + set->actors) * 1000000 / set->rate;
    return (int64_t)actor_chance(a, (uint64_t)mean_us * 2 + 1) * 1000;
}

/* ---- In a thread ---------------------------------------------------------------------------- */

static int move_all(pqr_tx *tx, void *arg, pqr_error *err)
{
    const struct op *op = arg;
    int code = PQR_OK;
    for (int i = 0; i < op->steps && code == PQR_OK; i++)
        code = pqr_exec(tx, &op->q[i], NULL, err);
    return code;
}

/* The mistake: what must happen together does not, if something comes in between. */
static int move_apart(struct actor *a, pqr_error *err)
{
    int code = PQR_OK;
    for (int i = 0; i < a->op.steps && code == PQR_OK; i++)
        code = i > 0 && actor_chance(a, 10) == 0 ? PQR_E_LOST
                                                 : pqr_write(a->s, &a->op.q[i], NULL, err);
    return code;
}

static int transfer(struct actor *a, pqr_error *err)
{
    if (a->d->set.mutant == MUTANT_SPLIT_TRANSFER)
        return move_apart(a, err);
    const pqr_tx_options *how = PQR_TX(.isolation = a->op.isolation,
                                       .deadline_ms = a->op.deadline_ms,
                                       .idempotency_key = a->op.once);
    return pqr_transact(a->s, how, move_all, &a->op, err);
}

/* Each call of a transaction has a deadline of its own; the operation has one for all of them. */
static void shorten(struct actor *a, int step)
{
    int64_t left = a->op.deadline_ms - (now_ns() - a->op.called_ns) / 1000000;
    a->op.q[step].deadline_ms = left > 1 ? left : 1;
}

/* Commits whatever the statements said; rolls back if it is that kind. */
static int step_by_step(struct actor *a, pqr_error *err)
{
    pqr_tx *tx = NULL;
    int code = pqr_begin(a->s, PQR_TX(.deadline_ms = a->op.deadline_ms), &tx, err);
    if (code != PQR_OK)
        return code;
    for (int i = 0; i < a->op.steps; i++) {
        shorten(a, i);
        pqr_exec(tx, &a->op.q[i], NULL, err);
    }
    if (a->op.kind != TX_ROLLBACK)
        return pqr_commit(tx, err);
    pqr_rollback(tx);
    *err = (pqr_error){.code = PQR_E_ROLLED_BACK};
    return PQR_E_ROLLED_BACK;
}

static int call(struct actor *a, pqr_result **res, int *n, pqr_error *err)
{
    struct op *op = &a->op;
    if (op->kind == TRANSFER)
        return transfer(a, err);
    if (op_is_transaction(op->kind))
        return step_by_step(a, err);
    if (op->kind == READ_BATCH) {
        const pqr_query *const queries[BATCH] = {&op->q[0], &op->q[1], &op->q[2]};
        int code = pqr_read_batch(a->s, queries, BATCH, res, err);
        *n = code == PQR_OK ? BATCH : 0;
        return code;
    }
    int code = op_is_write(op->kind) ? pqr_write(a->s, op->q, res, err)
                                     : pqr_read(a->s, op->q, res, err);
    *n = code == PQR_OK;
    return code;
}

static void pause_for(int64_t ns)
{
    nanosleep(&(struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000}, NULL);
}

/* From its first line in the history to its last. Returns how the call ended. */
static int run(struct actor *a)
{
    pqr_result *res[BATCH] = {NULL};
    pqr_error err = {.code = PQR_OK};
    int n = 0;
    enum mutant mutant = a->d->set.mutant;
    history_call(a->d, &a->op);
    int code = call(a, res, &n, &err);
    if (code == PQR_E_UNKNOWN && mutant == MUTANT_RETRY_UNKNOWN)
        code = call(a, res, &n, &err);
    if (mutant == MUTANT_LATE && actor_chance(a, 30) == 0)
        pause_for((a->op.deadline_ms + 400) * 1000000);
    op_done(a, code, &err, res, n);
    for (int i = 0; i < BATCH; i++)
        pqr_result_free(res[i]);
    return code;
}

static void one(struct actor *a)
{
    op_choose(a);
    int code = run(a);
    if (op_again(a, code))
        run(a);
}

void *actor_thread(void *actor)
{
    struct actor *a = actor;
    while (!a->d->stop) {
        if (actor_session(a))
            one(a);
        pause_for(actor_pause_ns(a));
    }
    actor_end(a);
    return NULL;
}
