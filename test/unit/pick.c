/* Which node serves a read: every candidate judged for every need, and small shards dealt out. */
#include "../../lib/plan/pick.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

#define UP PQR_NODE_UP
#define SUSPECT PQR_NODE_SUSPECT
#define SESSION PQR_LEVEL_SESSION
#define ANY PQR_LEVEL_ANY

/* ---- The rule, reason by reason -------------------------------------------------------------- */

static bool for_primary_only(const struct pqi_need *need)
{
    return need->level == PQR_LEVEL_PRIMARY || need->preference == PQI_PREFER_PRIMARY;
}

static bool for_replicas_only(const struct pqi_need *need)
{
    return need->level != PQR_LEVEL_PRIMARY && need->preference == PQI_PREFER_REPLICA;
}

/* Is this a true reason why the node does not serve the read? */
static bool holds(enum pqi_why why, const struct pqi_candidate *c, const struct pqi_need *need)
{
    bool bytes = need->max_lag_bytes > 0, ms = need->max_lag_ms > 0;
    bool older = c->timeline < need->seen.timeline; /* not proven counts as oldest */
    switch (why) {
    case PQI_WHY_OK:
        return false;
    case PQI_WHY_UNKNOWN:
        return c->state == PQR_NODE_UNKNOWN;
    case PQI_WHY_DOWN:
        return c->state == PQR_NODE_DOWN;
    case PQI_WHY_SUSPECT:
        return c->is_replica && c->state == SUSPECT;
    case PQI_WHY_ROLE:
        return !c->is_primary && !c->is_replica;
    case PQI_WHY_STAMP:
        return !c->stamp_ok;
    case PQI_WHY_LAG_UNKNOWN:
        return c->is_replica && ((bytes && c->lag.bytes < 0) || (ms && c->lag.ms < 0));
    case PQI_WHY_LAG_BYTES:
        return c->is_replica && bytes && c->lag.bytes > need->max_lag_bytes;
    case PQI_WHY_LAG_MS:
        return c->is_replica && ms && c->lag.ms > need->max_lag_ms;
    case PQI_WHY_BOUND: /* perhaps it is: what is not known counts */
        return c->is_replica && need->bound_ms > 0 &&
               (need->bound_ms < need->look_every_ms || c->lag.ms < 0 || c->lag_age_ms < 0 ||
                c->lag.ms + c->lag_age_ms > need->bound_ms);
    case PQI_WHY_NOT_SEEN:
        return c->is_replica && need->level == SESSION && (older || c->replayed < need->seen.lsn);
    case PQI_WHY_TRIED:
        return c->tried;
    case PQI_WHY_NOT_ASKED:
        return c->is_replica ? for_primary_only(need) : c->is_primary && for_replicas_only(need);
    }
    return false;
}

/* May it serve the read at all? */
static bool may(const struct pqi_candidate *c, const struct pqi_need *need)
{
    for (int why = PQI_WHY_OK; why <= PQI_WHY_NOT_ASKED; why++)
        if (holds((enum pqi_why)why, c, need))
            return false;
    return true;
}

/* ---- Judging --------------------------------------------------------------------------------- */

/* Counts through a mixed-radix number: the next digit, 0 to n - 1. */
static int digit(long *rest, int n)
{
    int d = (int)(*rest % n);
    *rest /= n;
    return d;
}

static const int64_t lags[] = {-1, 0, 100, 101};

enum { CANDIDATES = 4 * 3 * 2 * 2 * 4 * 4 * 4 * 3 * 3 };

static struct pqi_candidate candidate(long i)
{
    struct pqi_candidate c = {.state = (enum pqr_node_state)digit(&i, 4)};
    int role = digit(&i, 3);
    c.is_primary = role == 1;
    c.is_replica = role == 2;
    c.stamp_ok = digit(&i, 2);
    c.tried = digit(&i, 2);
    c.lag.bytes = lags[digit(&i, 4)];
    c.lag.ms = lags[digit(&i, 4)];
    c.timeline = (uint32_t)digit(&i, 4);
    c.replayed = 49 + (uint64_t)digit(&i, 3);
    c.lag_age_ms = digit(&i, 3) - 1;
    c.full_ms = 250 * (c.timeline % 2); /* no reason: it is judged all the same */
    return c;
}

enum { NEEDS = 3 * 4 * 2 * 2 * 3 * 4 };

static struct pqi_need need_of(long i)
{
    static const struct pqi_seen seen[] = {{0, 0}, {2, 50}, {0, 51}};
    struct pqi_need need = {.stay = -1};
    need.level = (enum pqr_level)digit(&i, 3);
    need.preference = (enum pqi_preference)digit(&i, 4);
    need.max_lag_bytes = 100 * digit(&i, 2);
    need.max_lag_ms = 100 * digit(&i, 2);
    need.seen = seen[digit(&i, 3)];
    need.look_every_ms = 100;
    need.bound_ms = (const int64_t[]){0, 99, 100, 101}[digit(&i, 4)];
    return need;
}

static void every_candidate_is_judged_for_a_true_reason(void **state)
{
    (void)state;
    long eligible = 0;
    for (long i = 0; i < CANDIDATES; i++)
        for (long j = 0; j < NEEDS; j++) {
            struct pqi_candidate c = candidate(i);
            struct pqi_need need = need_of(j);
            enum pqi_why why = pqi_judge(&c, &need);
            if (why == PQI_WHY_OK ? !may(&c, &need) : !holds(why, &c, &need))
                fail_msg("candidate %ld is judged wrongly for need %ld: %d", i, j, why);
            eligible += why == PQI_WHY_OK;
        }
    assert_true(eligible > 10000);
}

/* ---- Dealing --------------------------------------------------------------------------------- */

/* The nodes that shards are made of; a session has seen {2, 50}, limits are 100. */
/* clang-format off */
static const struct pqi_candidate kinds[] = {
    {UP, false, true, true, false, {0, 0}, 2, 50, 0, false, 0},            /* a replica in order */
    {UP, false, true, true, false, {100, 100}, 2, 60, 249, false, 0},      /* at the limits */
    {UP, false, true, true, false, {101, 0}, 2, 50, 0, false, 0},          /* too many bytes behind */
    {UP, false, true, true, false, {0, 101}, 2, 50, 0, false, 0},          /* too long behind */
    {UP, false, true, true, false, {50, -1}, 2, 50, 0, false, 0},          /* its age is not known */
    {UP, false, true, true, false, {10, 10}, 2, 49, 0, false, 0},          /* behind the session */
    {UP, false, true, true, false, {0, 0}, 1, 90, 0, false, 0},            /* on a timeline of before */
    {SUSPECT, false, true, true, false, {0, 0}, 2, 50, 0, false, 0},       /* silent */
    {UP, false, true, true, true, {0, 0}, 2, 50, 0, false, 0},             /* tried */
    {UP, false, true, false, false, {0, 0}, 2, 50, 0, false, 0},           /* of another shard */
    {PQR_NODE_DOWN, false, true, true, false, {0, 0}, 2, 50, 0, false, 0}, /* down */
    {PQR_NODE_UNKNOWN, false, false, false, false, {-1, -1}, 0, 0, 0, false, 0},
    {UP, false, false, true, false, {0, 0}, 2, 50, 0, false, 0},      /* claims to be primary */
    {UP, true, false, true, false, {0, 0}, 2, 50, 0, false, 0},       /* the primary */
    {SUSPECT, true, false, true, false, {-1, -1}, 2, 0, 0, false, 0}, /* it, silent and not measured */
    {UP, true, false, true, true, {0, 0}, 2, 50, 0, false, 0},        /* it, tried */
    {PQR_NODE_DOWN, true, false, true, false, {0, 0}, 2, 50, 0, false, 0},
    {UP, false, true, true, false, {0, 0}, 0, 90, 0, false, 0},       /* a replica of unproven timeline */
    {UP, false, true, true, false, {0, 0}, 2, 50, 250, false, 0},     /* in order, and full */
    {UP, false, true, true, false, {100, 100}, 2, 60, 250, false, 0}, /* at the limits, and full */
    {UP, false, true, true, false, {10, 10}, 2, 49, 250, false, 0},   /* behind the session, and full */
    {UP, true, false, true, false, {0, 0}, 2, 50, 250, false, 0},     /* the primary, full */
};
/* clang-format on */
enum { KINDS = (int)COUNT(kinds), MOST = 3 };

struct shard {
    struct pqi_candidate node[MOST + 1];
    int n;
    int serves[MOST + 1], nserves; /* the replicas that may serve, in order */
    int ndealt;                    /* how many of them have room; all, if none has */
    int primary;                   /* the primary if it may */
};

static bool is_full(const struct pqi_candidate *c)
{
    return c->full_ms >= 250;
}

static void know(struct shard *s, const struct pqi_need *need)
{
    s->nserves = s->ndealt = 0;
    s->primary = -1;
    for (int i = 0; i < s->n; i++) {
        if (!may(&s->node[i], need))
            continue;
        if (s->node[i].is_replica)
            s->serves[s->nserves++] = i;
        else
            s->primary = i;
        s->ndealt += s->node[i].is_replica && !is_full(&s->node[i]);
    }
    if (s->ndealt == 0)
        s->ndealt = s->nserves;
}

static bool serves(const struct shard *s, int node)
{
    for (int i = 0; i < s->nserves; i++)
        if (s->serves[i] == node)
            return true;
    return false;
}

static void complain(const struct shard *s, const struct pqi_need *need, int picked,
                     const char *what)
{
    char nodes[64] = "";
    for (int i = 0, at = 0; i < s->n; i++)
        for (int kind = 0; kind < KINDS; kind++)
            if (memcmp(&s->node[i], &kinds[kind], sizeof kinds[kind]) == 0)
                at += snprintf(nodes + at, sizeof nodes - (size_t)at, " %d", kind);
    fail_msg("nodes%s, level %d, preference %d, stay %d: %d is picked: %s", nodes, need->level,
             need->preference, need->stay, picked, what);
}

static bool is_dealt(const struct shard *s, const struct pqi_need *need, int picked)
{
    return picked >= 0 && picked != s->primary &&
           !(need->level == SESSION && serves(s, need->stay));
}

/* What must hold of each pick. */
static void check_pick(const struct shard *s, const struct pqi_need *need, int picked)
{
    if (picked < 0 && (s->nserves > 0 || s->primary >= 0))
        complain(s, need, picked, "somebody may serve");
    if (picked >= 0 && picked != s->primary && !serves(s, picked))
        complain(s, need, picked, "it may not serve");
    bool primary_first = need->preference == PQI_PREFER_PRIMARY_PREFERRED && s->primary >= 0;
    if (primary_first && picked != s->primary)
        complain(s, need, picked, "the primary is preferred");
    if (!primary_first && s->nserves > 0 && picked == s->primary)
        complain(s, need, picked, "a replica may serve");
    if (!primary_first && need->level == SESSION && serves(s, need->stay) && picked != need->stay)
        complain(s, need, picked, "the session stays");
    if (is_dealt(s, need, picked) && is_full(&s->node[picked]) && s->ndealt < s->nserves)
        complain(s, need, picked, "another one has room");
}

/* From any turn on, each of the k replicas that are dealt gets every k-th. */
static void check_turns(const struct shard *s, const struct pqi_need *need, uint64_t first)
{
    int got[3 * (MOST + 1)], turns = 3 * (s->ndealt > 0 ? s->ndealt : 1);
    for (int t = 0; t < turns; t++) {
        got[t] = pqi_pick(s->node, s->n, need, first + (uint64_t)t);
        check_pick(s, need, got[t]);
        if (!is_dealt(s, need, got[t])) {
            if (got[t] != got[0])
                complain(s, need, got[t], "it depends on the turn");
            continue;
        }
        if (t >= s->ndealt && got[t] != got[t - s->ndealt])
            complain(s, need, got[t], "another one got this turn before");
        for (int before = t - 1; before >= 0 && before > t - s->ndealt; before--)
            if (got[before] == got[t])
                complain(s, need, got[t], "it had its turn");
    }
}

static void check_shard(struct shard *s)
{
    static const uint64_t firsts[] = {0, 7, UINT64_C(1) << 31, UINT64_C(1) << 63};
    for (int level = 0; level < 3; level++)
        for (int preference = 0; preference < 4; preference++)
            for (int stay = -1; stay <= s->n; stay++) {
                struct pqi_need need = {.level = (enum pqr_level)level,
                                        .seen = {2, 50},
                                        .stay = stay,
                                        .preference = (enum pqi_preference)preference,
                                        .max_lag_ms = 100,
                                        .max_lag_bytes = 100};
                know(s, &need);
                for (size_t i = 0; i < COUNT(firsts); i++)
                    check_turns(s, &need, firsts[i]);
            }
}

static bool one_primary_at_most(const struct shard *s)
{
    int primaries = 0;
    for (int i = 0; i < s->n; i++)
        primaries += s->node[i].is_primary;
    return primaries <= 1;
}

static void every_small_shard_is_dealt_by_the_rule(void **state)
{
    (void)state;
    struct shard s = {0};
    for (int i = 0; i <= MOST; i++)
        s.node[i] = kinds[0]; /* behind the last one: must not be seen */
    check_shard(&s);
    long shards = 1;
    for (int n = 1; n <= MOST; n++) {
        long all = 1;
        for (int i = 0; i < n; i++)
            all *= KINDS;
        for (long i = 0; i < all; i++) {
            long rest = i;
            s.n = n;
            for (int node = 0; node < n; node++)
                s.node[node] = kinds[digit(&rest, KINDS)];
            if (!one_primary_at_most(&s))
                continue;
            check_shard(&s);
            shards++;
        }
    }
    assert_true(shards > 4000);
}

/* ---- Stories --------------------------------------------------------------------------------- */

static const struct pqi_need any = {
    .level = ANY, .stay = -1, .preference = PQI_PREFER_REPLICA_PREFERRED};

static void five_replicas_are_dealt_in_order_past_one_that_is_down(void **state)
{
    (void)state;
    struct pqi_candidate node[6];
    for (int i = 0; i < 6; i++)
        node[i] = kinds[0];
    node[2] = kinds[10];
    static const int order[] = {0, 1, 3, 4, 5};
    for (uint64_t turn = 0; turn < 50; turn++)
        assert_int_equal(pqi_pick(node, 6, &any, turn), order[turn % 5]);
}

static void without_limits_even_an_unknown_lag_will_do(void **state)
{
    (void)state;
    struct pqi_candidate node = kinds[0];
    node.lag = (struct pqi_lag){-1, -1};
    assert_int_equal(pqi_pick(&node, 1, &any, 0), 0);
    node.lag = (struct pqi_lag){INT64_MAX, INT64_MAX};
    assert_int_equal(pqi_pick(&node, 1, &any, 0), 0);
}

static void each_limit_holds_alone(void **state)
{
    (void)state;
    struct pqi_candidate node = kinds[0];
    struct pqi_need need = any;
    need.max_lag_ms = 1000;
    node.lag = (struct pqi_lag){INT64_MAX, 1000};
    assert_int_equal(pqi_judge(&node, &need), PQI_WHY_OK);
    node.lag.ms = 1001;
    assert_int_equal(pqi_judge(&node, &need), PQI_WHY_LAG_MS);
    need.max_lag_ms = 0;
    need.max_lag_bytes = 1000;
    node.lag = (struct pqi_lag){1000, INT64_MAX};
    assert_int_equal(pqi_judge(&node, &need), PQI_WHY_OK);
    node.lag.bytes = 1001;
    assert_int_equal(pqi_judge(&node, &need), PQI_WHY_LAG_BYTES);
}

static void a_session_leaves_a_replica_that_falls_behind_and_settles_on_the_next(void **state)
{
    (void)state;
    struct pqi_candidate node[] = {kinds[0], kinds[0], kinds[13]};
    struct pqi_need need = {.level = SESSION,
                            .seen = {2, 50},
                            .stay = 1,
                            .preference = PQI_PREFER_REPLICA_PREFERRED,
                            .max_lag_ms = 100,
                            .max_lag_bytes = 100};
    for (uint64_t turn = 0; turn < 10; turn++)
        assert_int_equal(pqi_pick(node, 3, &need, turn), 1);
    need.seen.lsn = 51;
    node[0].replayed = 51;
    need.stay = pqi_pick(node, 3, &need, 7);
    assert_int_equal(need.stay, 0);
    need.seen.lsn = 52; /* its own write: no replica has it yet */
    assert_int_equal(pqi_pick(node, 3, &need, 8), 2);
}

static void what_one_replica_has_shown_the_others_must_have(void **state)
{
    (void)state;
    struct pqi_candidate node[] = {kinds[0], kinds[0], kinds[13]};
    struct pqi_need need = {
        .level = SESSION, .stay = 1, .preference = PQI_PREFER_REPLICA_PREFERRED, .shown = {2, 51}};
    node[1].stays = true; /* where it was shown that: it has only gone on since */
    for (uint64_t turn = 0; turn < 4; turn++)
        assert_int_equal(pqi_pick(node, 3, &need, turn), 1);
    node[1].state = PQR_NODE_DOWN;
    assert_int_equal(pqi_judge(&node[0], &need), PQI_WHY_NOT_SEEN);
    assert_int_equal(pqi_pick(node, 3, &need, 0), 2);
    node[0].replayed = 51;
    assert_int_equal(pqi_pick(node, 3, &need, 0), 0);
    node[0].timeline = 1;
    assert_int_equal(pqi_pick(node, 3, &need, 0), 2);
    node[1].state = PQR_NODE_UP;
    node[1].stays = false; /* it was restarted: it may be behind what it had shown */
    assert_int_equal(pqi_pick(node, 3, &need, 0), 2);
}

static void a_bound_counts_from_now_and_not_from_the_last_look(void **state)
{
    (void)state;
    char buf[100];
    struct pqi_candidate node[] = {kinds[0], kinds[13]};
    struct pqi_need need = any;
    need.look_every_ms = 1000;
    need.bound_ms = 2000;
    node[0].lag.ms = 500;
    node[0].lag_age_ms = 1500;
    assert_int_equal(pqi_pick(node, 2, &need, 0), 0);
    node[0].lag_age_ms = 1501; /* also while no primary answers: then it only grows */
    assert_int_equal(pqi_pick(node, 2, &need, 0), 1);
    assert_int_equal(pqi_pick(node, 1, &need, 0), -1);
    assert_string_equal(pqi_why_text(PQI_WHY_BOUND, &node[0], &need, buf, sizeof buf),
                        "was 500 ms behind 1501 ms ago, and the read allows 2000 ms");
    node[0].lag_age_ms = INT64_MAX;
    assert_int_equal(pqi_pick(node, 2, &need, 0), 1);
    need.bound_ms = 999;
    node[0].lag_age_ms = node[0].lag.ms = 0;
    assert_int_equal(pqi_pick(node, 2, &need, 0), 1);
    assert_string_equal(pqi_why_text(PQI_WHY_BOUND, &node[0], &need, buf, sizeof buf),
                        "the read allows 999 ms, less than DB_HEALTH_INTERVAL");
}

static void a_read_of_level_any_does_not_stay(void **state)
{
    (void)state;
    struct pqi_candidate node[] = {kinds[0], kinds[0]};
    struct pqi_need need = any;
    need.stay = 1;
    assert_int_equal(pqi_pick(node, 2, &need, 0), 0);
}

static void a_read_of_level_any_asks_not_what_the_session_has_seen(void **state)
{
    (void)state;
    struct pqi_candidate node = kinds[0];
    struct pqi_need need = any;
    need.seen = (struct pqi_seen){9, 900};
    assert_int_equal(pqi_pick(&node, 1, &need, 0), 0);
}

static void a_shard_without_nodes_serves_nobody(void **state)
{
    (void)state;
    assert_int_equal(pqi_pick(NULL, 0, &any, 3), -1);
}

/* ---- Two tiers, and the primary's share ------------------------------------------------------- */

static struct pqi_candidate lagging(int64_t bytes, int64_t ms)
{
    struct pqi_candidate c = kinds[0];
    c.lag = (struct pqi_lag){bytes, ms};
    return c;
}

static struct pqi_need within_100(enum pqr_level level, int min_replicas)
{
    return (struct pqi_need){.level = level,
                             .stay = -1,
                             .preference = PQI_PREFER_REPLICA_PREFERRED,
                             .max_lag_ms = 100,
                             .max_lag_bytes = 100,
                             .min_replicas = min_replicas};
}

/* Every level, minimum and lag of two replicas beside a primary. */
static void the_second_tier_serves_reads_of_level_any_where_the_first_has_too_few(void **state)
{
    (void)state;
    static const int64_t some[] = {0, 100, 101, 1000, 1001, -1};
    for (int level = 0; level < 3; level++)
        for (int min = 0; min <= 3; min++)
            for (size_t a = 0; a < COUNT(some); a++)
                for (size_t b = 0; b < COUNT(some); b++) {
                    struct pqi_candidate node[] = {lagging(some[a], 0), lagging(0, some[b]),
                                                   kinds[13]};
                    struct pqi_need need = within_100((enum pqr_level)level, min);
                    bool first[] = {some[a] >= 0 && some[a] <= 100, some[b] >= 0 && some[b] <= 100};
                    bool second[] = {some[a] >= 0 && some[a] <= 1000,
                                     some[b] >= 0 && some[b] <= 1000};
                    bool few = level == ANY && first[0] + first[1] < min;
                    const bool *serve = few ? second : first;
                    int seen[3] = {0};
                    for (uint64_t turn = 0; turn < 6; turn++)
                        seen[pqi_pick(node, 3, &need, turn)]++;
                    if (level == PQR_LEVEL_PRIMARY || (!serve[0] && !serve[1]))
                        assert_int_equal(seen[2], 6);
                    else if (serve[0] && serve[1])
                        assert_true(seen[0] == 3 && seen[1] == 3);
                    else
                        assert_int_equal(seen[serve[1]], 6);
                }
}

static void a_read_falls_back_only_for_want_of_every_replica(void **state)
{
    (void)state;
    struct pqi_need need = within_100(SESSION, 0);
    struct pqi_candidate node[] = {kinds[10], lagging(0, 101), kinds[13]};
    assert_true(pqi_falls_back(node, 3, &need, 2));
    assert_false(pqi_falls_back(node, 3, &need, 1));  /* that is a replica */
    assert_false(pqi_falls_back(node, 3, &need, -1)); /* nobody */
    need.level = PQR_LEVEL_PRIMARY;
    assert_false(pqi_falls_back(node, 3, &need, 2));
    need.level = SESSION;
    need.preference = PQI_PREFER_PRIMARY_PREFERRED;
    assert_false(pqi_falls_back(node, 3, &need, 2));
    need.preference = PQI_PREFER_REPLICA_PREFERRED;
    node[1].lag.ms = 100; /* well, and only behind what this session has seen */
    need.seen = (struct pqi_seen){2, 51};
    assert_int_equal(pqi_pick(node, 3, &need, 0), 2);
    assert_false(pqi_falls_back(node, 3, &need, 2));
    assert_false(pqi_falls_back(&node[2], 1, &need, 0)); /* there are no replicas to want */
}

static void where_the_primary_has_its_share_reads_of_level_any_take_what_is_old_and_others_wait(
    void **state)
{
    (void)state;
    struct pqi_candidate node[] = {kinds[10], lagging(-1, -1), kinds[13]};
    for (int full = 0; full < 2; full++) {
        struct pqi_need any_need = within_100(ANY, 1), session = within_100(SESSION, 1);
        struct pqi_need primary = within_100(PQR_LEVEL_PRIMARY, 1);
        any_need.primary_full = session.primary_full = primary.primary_full = full;
        assert_int_equal(pqi_pick(node, 3, &any_need, 0), full ? 1 : 2);
        assert_int_equal(pqi_pick(node, 3, &session, 0), full ? -1 : 2);
        assert_int_equal(pqi_pick(node, 3, &primary, 0), 2);
    }
    node[1].lag = (struct pqi_lag){
        0, 0}; /* a replica is well: behind what the session wrote, at most */
    struct pqi_need session = within_100(SESSION, 1);
    session.primary_full = true;
    session.seen = (struct pqi_seen){2, 1000};
    assert_int_equal(pqi_pick(node, 3, &session, 0), 2);
}

static void the_share_is_of_the_connections(void **state)
{
    (void)state;
    for (int limit = 1; limit <= 50; limit++)
        for (int percent = 0; percent <= 100; percent++) {
            int allowed = 0;
            while (allowed <= limit && pqi_share_allows(allowed, limit, percent))
                allowed++;
            if (percent == 100)
                assert_true(pqi_share_allows(1000000, limit, 100));
            else if (percent == 0)
                assert_int_equal(allowed, 0);
            else
                assert_int_equal(allowed, (limit * percent + 99) / 100);
        }
}

/* A process that starts while no primary answers. */
static void before_any_primary_was_seen_an_unknown_lag_is_no_fault_and_a_known_one_is(void **state)
{
    (void)state;
    struct pqi_need need = within_100(SESSION, 1);
    struct pqi_candidate node = lagging(-1, -1);
    assert_int_equal(pqi_judge(&node, &need), PQI_WHY_LAG_UNKNOWN);
    need.unmeasured = true;
    assert_int_equal(pqi_judge(&node, &need), PQI_WHY_OK);
    need.seen = (struct pqi_seen){2, 51}; /* what the session has seen counts all the same */
    assert_int_equal(pqi_judge(&node, &need), PQI_WHY_NOT_SEEN);
    need.seen = (struct pqi_seen){0, 0};
    node.lag = (struct pqi_lag){101, 0};
    assert_int_equal(pqi_judge(&node, &need), PQI_WHY_LAG_BYTES);
    node.lag = (struct pqi_lag){100, -1};
    assert_int_equal(pqi_judge(&node, &need), PQI_WHY_LAG_UNKNOWN);
}

/* ---- Words ----------------------------------------------------------------------------------- */

static void every_reason_has_its_words(void **state)
{
    (void)state;
    char buf[80];
    struct pqi_candidate c = kinds[0];
    struct pqi_need need = any;
    c.lag = (struct pqi_lag){5000000000, 4210};
    need.max_lag_bytes = 4000000000;
    need.max_lag_ms = 1000;
    assert_string_equal(pqi_why_text(PQI_WHY_OK, &c, &need, buf, sizeof buf), "");
    assert_string_equal(pqi_why_text(PQI_WHY_LAG_MS, &c, &need, buf, sizeof buf),
                        "lags 4210 ms, more than 1000 ms");
    assert_string_equal(pqi_why_text(PQI_WHY_LAG_BYTES, &c, &need, buf, sizeof buf),
                        "lags 5000000000 bytes, more than 4000000000");
    const char *seen[PQI_WHY_NOT_ASKED + 1];
    for (int why = PQI_WHY_UNKNOWN; why <= PQI_WHY_NOT_ASKED; why++) {
        char own[80];
        seen[why] = pqi_why_text((enum pqi_why)why, &c, &need, own, sizeof own);
        assert_true(strlen(seen[why]) > 3);
        for (int before = PQI_WHY_UNKNOWN; before < why && seen[why] != own; before++)
            assert_true(seen[before] != seen[why]);
    }
    assert_string_equal(seen[PQI_WHY_DOWN], "down");
    assert_string_equal(seen[PQI_WHY_SUSPECT], "did not answer its last probe");
    assert_string_equal(seen[PQI_WHY_TRIED], "this call already failed there");
    assert_string_equal(seen[PQI_WHY_NOT_SEEN], "has not replayed what the session has seen");
    assert_string_equal(seen[PQI_WHY_NOT_ASKED], "the read asks for the other role");
    assert_string_equal(seen[PQI_WHY_UNKNOWN], "not looked at yet");
    c.lag = (struct pqi_lag){4560, -1};
    assert_string_equal(pqi_why_text(PQI_WHY_LAG_UNKNOWN, &c, &need, buf, sizeof buf),
                        "4560 bytes behind, for longer than is remembered");
    c.lag = (struct pqi_lag){-1, -1};
    assert_string_equal(
        pqi_why_text(PQI_WHY_LAG_UNKNOWN, &c, &need, buf, sizeof buf),
        "its lag is unknown while no primary answers or its timeline is not proven");
    assert_non_null(strstr(seen[PQI_WHY_STAMP], "its stamp is of another shard or fleet"));
    assert_non_null(strstr(seen[PQI_WHY_ROLE], "not of this shard"));
}

static void the_words_are_cut_to_fit(void **state)
{
    (void)state;
    char buf[16];
    memset(buf, 'x', sizeof buf);
    struct pqi_candidate c = {.lag = {INT64_MAX, INT64_MAX}};
    struct pqi_need need = {.max_lag_ms = 1};
    assert_string_equal(pqi_why_text(PQI_WHY_LAG_MS, &c, &need, buf, 10), "lags 9223");
    assert_int_equal(buf[10], 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_candidate_is_judged_for_a_true_reason),
        cmocka_unit_test(every_small_shard_is_dealt_by_the_rule),
        cmocka_unit_test(five_replicas_are_dealt_in_order_past_one_that_is_down),
        cmocka_unit_test(without_limits_even_an_unknown_lag_will_do),
        cmocka_unit_test(each_limit_holds_alone),
        cmocka_unit_test(a_session_leaves_a_replica_that_falls_behind_and_settles_on_the_next),
        cmocka_unit_test(what_one_replica_has_shown_the_others_must_have),
        cmocka_unit_test(a_bound_counts_from_now_and_not_from_the_last_look),
        cmocka_unit_test(a_read_of_level_any_does_not_stay),
        cmocka_unit_test(a_read_of_level_any_asks_not_what_the_session_has_seen),
        cmocka_unit_test(a_shard_without_nodes_serves_nobody),
        cmocka_unit_test(the_second_tier_serves_reads_of_level_any_where_the_first_has_too_few),
        cmocka_unit_test(a_read_falls_back_only_for_want_of_every_replica),
        cmocka_unit_test(
            where_the_primary_has_its_share_reads_of_level_any_take_what_is_old_and_others_wait),
        cmocka_unit_test(the_share_is_of_the_connections),
        cmocka_unit_test(before_any_primary_was_seen_an_unknown_lag_is_no_fault_and_a_known_one_is),
        cmocka_unit_test(every_reason_has_its_words),
        cmocka_unit_test(the_words_are_cut_to_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
