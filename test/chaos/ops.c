/* What is asked: the statements, their parameters, and the choice among them. Each answer carries
 * the operation's own id back, so that an answer that went to the wrong call is seen at once. */
#include "driver.h"

#include <stdio.h>
#include <string.h>

const char *const op_names[KINDS] = {
    [APPEND] = "append",
    [CAS] = "cas",
    [ADD] = "add",
    [TRANSFER] = "transfer",
    [LIST] = "list",
    [GET] = "get",
    [STAR] = "star",
    [COUNT] = "count",
    [TOTAL] = "total",
    [READ_BATCH] = "batch",
    [FAIL_READ] = "fail_read",
    [FAIL_WRITE] = "fail_write",
    [SLOW] = "slow",
    [DEFER] = "defer",
    [TX_FAIL] = "tx_fail",
    [TX_ROLLBACK] = "tx_rollback",
};

static const int weights[KINDS] = {
    [APPEND] = 200, [CAS] = 80,        [ADD] = 70,       [TRANSFER] = 80,
    [LIST] = 190,   [GET] = 80,        [STAR] = 40,      [COUNT] = 50,
    [TOTAL] = 50,   [READ_BATCH] = 40, [FAIL_READ] = 30, [FAIL_WRITE] = 20,
    [SLOW] = 15,    [DEFER] = 15,      [TX_FAIL] = 20,   [TX_ROLLBACK] = 20,
};

/* The head's row lock lasts until the commit, so the order of a list is the order of commits. */
#define APPENDED                                                                                 \
    "with head as (update chaos.list set n = n + 1 where tenant = $1 and key = $2 returning n)," \
    " entry as (insert into chaos.log(tenant, key, seq, uid, val)"                               \
    " select $1, $2, n, $3::text, $4 from head) "
#define LEDGER \
    "insert into chaos.ledger(tenant, uid, key, amount) values ($1, $2, $3, -$5), ($1, $2, $4, $5)"

/* Parameters by letter: t tenant, u uid, k key, o the other key, a amount, v value, r version. */
static const struct form {
    const char *sql, *params;
} forms[KINDS] = {
    [APPEND] = {APPENDED "select $3::text as echo, n from head", "tkuv"},
    [CAS] = {"with cell as (update chaos.reg set ver = ver + 1, val = $4"
             " where tenant = $1 and key = $2 and ver = $5 returning ver),"
             " past as (insert into chaos.reg_history(tenant, key, ver, uid)"
             " select $1, $2, ver, $3::text from cell)"
             " select $3::text as echo, (select ver from cell) as n",
             "tkuvr"},
    [ADD] = {"update chaos.counter set n = n + 1 where tenant = $1 returning $2::text as echo, n",
             "tu"},
    [LIST] = {"select $3::text as echo, count(*) as n,"
              " md5(coalesce(string_agg(uid, ',' order by seq), '')) as h,"
              " (select string_agg(val, ' ') from (select val from chaos.log"
              " where tenant = $1 and key = $2 order by seq desc limit 2) last) as v"
              " from chaos.log where tenant = $1 and key = $2",
              "tku"},
    [GET] = {"select $3::text as echo, ver as n, val as v from chaos.reg"
             " where tenant = $1 and key = $2",
             "tku"},
    [STAR] = {"select *, $3::text as echo from chaos.reg where tenant = $1 and key = $2", "tku"},
    [COUNT] = {"select $2::text as echo, n from chaos.counter where tenant = $1", "tu"},
    [TOTAL] = {"select $2::text as echo, sum(amount)::bigint as n, count(*) as c"
               " from chaos.account where tenant = $1",
               "tu"},
    [FAIL_READ] = {"select $2::text as echo, ($1 || '?')::integer as n", "tu"},
    [FAIL_WRITE] = {APPENDED "select $3::text as echo, n / (n - n) as n from head", "tkuv"},
    [SLOW] = {APPENDED "select $3::text as echo, n, pg_sleep(0.1) from head", "tkuv"},
    [DEFER] = {"insert into chaos.child(tenant, uid, parent) values ($1, $2, -1)"
               " returning $2::text as echo",
               "tu"},
};

static const struct form moves[STEPS] = {
    {"update chaos.account set amount = amount - $3 where tenant = $1 and key = $2", "tka"},
    {"update chaos.account set amount = amount + $3 where tenant = $1 and key = $2", "toa"},
    {LEDGER, "tukoa"},
};
static const struct form failing[STEPS] = {{LEDGER, "tukoa"}, {"select 1 / 0", ""}};
static const struct form given_up[STEPS] = {{LEDGER, "tukoa"}, {"select 1", ""}};

bool op_is_write(enum kind kind)
{
    return kind <= TRANSFER || kind >= FAIL_WRITE;
}

bool op_is_transaction(enum kind kind)
{
    return kind == TRANSFER || kind == TX_FAIL || kind == TX_ROLLBACK;
}

/* The parameter of a letter. What it points at lives in the operation. */
static pqr_param param(const struct op *op, char letter)
{
    switch (letter) {
    case 't':
        return (pqr_param)PQR_TEXT(op->asked);
    case 'u':
        return (pqr_param)PQR_TEXT(op->row);
    case 'v':
        return (pqr_param)PQR_TEXT(op->val);
    case 'k':
        return (pqr_param)PQR_INT64(op->key);
    case 'o':
        return (pqr_param)PQR_INT64(op->to);
    case 'a':
        return (pqr_param)PQR_INT64(op->amount);
    default:
        return (pqr_param)PQR_INT64(op->ver);
    }
}

static void add_step(struct op *op, const struct form *form, const char *name, int32_t level)
{
    int step = op->steps++;
    bool single = !op_is_transaction(op->kind); /* else the transaction has the key */
    size_t n = strlen(form->params);
    for (size_t i = 0; i < n; i++)
        op->params[step][i] = param(op, form->params[i]);
    op->q[step] = (pqr_query){.size = sizeof(pqr_query),
                              .name = name,
                              .sql = form->sql,
                              .params = op->params[step],
                              .nparams = n,
                              .level = level,
                              .deadline_ms = op->deadline_ms,
                              .idempotency_key = single ? op->once : NULL};
}

static void add_steps(struct op *op, const struct form *steps)
{
    for (int i = 0; i < STEPS && steps[i].sql; i++)
        add_step(op, &steps[i], op_names[op->kind], 0);
}

static void make_statements(struct op *op, enum mutant mutant)
{
    int32_t level = op->level;
    if (mutant == MUTANT_SESSION_ANY && level == PQR_LEVEL_SESSION)
        level = PQR_LEVEL_ANY;
    op->steps = 0;
    switch (op->kind) {
    case READ_BATCH:
        add_step(op, &forms[LIST], "batch", level);
        add_step(op, &forms[GET], "batch", level);
        add_step(op, &forms[COUNT], "batch", level);
        break;
    case TRANSFER:
        add_steps(op, moves);
        break;
    case TX_FAIL:
        add_steps(op, failing);
        break;
    case TX_ROLLBACK:
        add_steps(op, given_up);
        break;
    default:
        add_step(op, &forms[op->kind], op_names[op->kind], level);
    }
}

static enum kind choose_kind(struct actor *a)
{
    int sum = 0, kind = 0;
    for (int i = 0; i < KINDS; i++)
        sum += weights[i];
    int at = (int)actor_chance(a, (uint64_t)sum);
    while (at >= weights[kind])
        at -= weights[kind++];
    return (enum kind)kind;
}

static int32_t choose_level(struct actor *a)
{
    uint64_t at = actor_chance(a, 100);
    return at < 60 ? PQR_LEVEL_SESSION : at < 82 ? PQR_LEVEL_ANY : PQR_LEVEL_PRIMARY;
}

static int64_t choose_deadline(struct actor *a)
{
    uint64_t at = actor_chance(a, 100);
    int64_t whole = a->d->set.deadline_ms;
    return at < 75 ? whole : at < 95 ? whole / 3 : whole / 12;
}

/* CRC-32 as in zlib, bit by bit: short texts only. */
static uint32_t checksum(const char *text)
{
    uint32_t crc = ~0u;
    for (; *text; text++) {
        crc ^= (uint8_t)*text;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

/* Names its owner, its writer and its place, so that no value can pass for another one. */
static void make_value(struct op *op)
{
    char body[100];
    snprintf(body, sizeof body, "%s|%d|%s|%d", op->tenant, (int)op->key, op->uid,
             op->kind == CAS ? (int)op->ver + 1 : 0);
    snprintf(op->val, sizeof op->val, "%s|%08x", body, checksum(body));
}

void op_choose(struct actor *a)
{
    struct op *op = &a->op;
    const struct settings *set = &a->d->set;
    *op = (struct op){.kind = choose_kind(a), .session = a->session};
    op->key = (int64_t)actor_chance(a, (uint64_t)set->keys);
    op->to = (op->key + 1 + (int64_t)actor_chance(a, (uint64_t)set->keys - 1)) % set->keys;
    op->amount = 1 + (int64_t)actor_chance(a, 50);
    op->isolation = actor_chance(a, 3) == 0 ? PQR_SERIALIZABLE : PQR_READ_COMMITTED;
    op->level = choose_level(a);
    op->deadline_ms = op->kind == SLOW ? 40 + (int64_t)actor_chance(a, 160) : choose_deadline(a);
    if (op->kind == CAS && a->seen[op->key] < 0)
        op->kind = GET; /* what nobody has looked at cannot be compared */
    op->ver = op->kind == CAS ? a->seen[op->key] : 0;
    snprintf(op->uid, sizeof op->uid, "%s-%d-%llu", set->run, a->number,
             (unsigned long long)a->ops++);
    snprintf(op->tenant, sizeof op->tenant, "%s_tn%03dx", set->run, a->tenant);
    bool strays = set->mutant == MUTANT_WRONG_TENANT && !op_is_write(op->kind) &&
                  actor_chance(a, 20) == 0;
    snprintf(op->asked, sizeof op->asked, "%s_tn%03dx", set->run,
             strays ? (a->tenant + 1) % (int)set->tenants : a->tenant);
    snprintf(op->row, sizeof op->row, "%s", op->uid);
    bool may = op_is_write(op->kind) && op->kind != TX_FAIL && op->kind != TX_ROLLBACK &&
               set->mutant != MUTANT_RETRY_UNKNOWN; /* whose mistake a key would undo */
    op->once = may && actor_chance(a, 2) == 0 ? op->row : NULL;
    make_value(op);
    make_statements(op, set->mutant);
}

bool op_again(struct actor *a, int code)
{
    struct op *op = &a->op;
    bool doubted = code == PQR_E_UNKNOWN, once_more = code == PQR_OK && actor_chance(a, 20) == 0;
    if (!op->once || strcmp(op->uid, op->row) != 0 || !(doubted || once_more))
        return false;
    snprintf(op->uid, sizeof op->uid, "%s-%d-%llu", a->d->set.run, a->number,
             (unsigned long long)a->ops++);
    op->cancelled = false;
    if (a->d->set.mutant == MUTANT_OTHER_KEY) {
        op->once = op->uid;
        if (op->q[0].idempotency_key)
            op->q[0].idempotency_key = op->uid;
    }
    return true;
}

static enum label label_of(const struct op *op, int code, enum mutant mutant)
{
    if (code == PQR_OK || code == PQR_E_ROWS_LOST ||
        (mutant == MUTANT_ROLLBACK_AS_OK && code == PQR_E_ROLLED_BACK))
        return LABEL_OK;
    if (code != PQR_E_UNKNOWN)
        return LABEL_FAILED;
    if (op_is_write(op->kind) && mutant == MUTANT_UNKNOWN_AS_FAILED)
        return LABEL_FAILED;
    return mutant == MUTANT_UNKNOWN_AS_OK ? LABEL_OK : LABEL_UNKNOWN;
}

/* The version that a register was seen at, if the answer has one. */
static void remember(struct actor *a, int code, const pqr_result *res)
{
    const struct op *op = &a->op;
    if (op->kind == CAS)
        a->seen[op->key] = -1;
    int column = code != PQR_OK || !res ? -1 : pqr_column(res, op->kind == STAR ? "ver" : "n");
    bool registers = op->kind == CAS || op->kind == GET || op->kind == STAR;
    if (registers && column >= 0 && pqr_rows(res) == 1 && !pqr_is_null(res, 0, (size_t)column))
        a->seen[op->key] = pqr_int64(res, 0, (size_t)column);
}

void op_done(struct actor *a, int code, const pqr_error *err, pqr_result *const *res, int n)
{
    struct driver *d = a->d;
    enum label label = label_of(&a->op, code, d->set.mutant);
    if (d->set.mutant != MUTANT_FORGET_END || actor_chance(a, 50) != 0)
        history_end(d, &a->op, label, code, err, res, n);
    atomic_fetch_add(&d->counts[label], 1);
    remember(a, code, n > 0 ? res[0] : NULL);
}
