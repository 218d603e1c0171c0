/* Which node serves this read. */
#include "pick.h"

#include <inttypes.h>
#include <stdio.h>

#define FULL_MS 250

static bool wants_primary_only(const struct pqi_need *need)
{
    return need->level == PQR_LEVEL_PRIMARY || need->preference == PQI_PREFER_PRIMARY;
}

static bool within_bound(const struct pqi_candidate *c, const struct pqi_need *need)
{
    return need->bound_ms >= need->look_every_ms && c->lag.ms >= 0 && c->lag_age_ms >= 0 &&
           c->lag_age_ms <= need->bound_ms && c->lag.ms <= need->bound_ms - c->lag_age_ms;
}

static enum pqi_why judge_lag(const struct pqi_candidate *c, const struct pqi_need *need)
{
    bool excused = need->unmeasured && c->lag.bytes < 0;
    bool by_bytes = need->max_lag_bytes > 0 && !excused, by_ms = need->max_lag_ms > 0 && !excused;
    if (by_bytes && c->lag.bytes < 0)
        return PQI_WHY_LAG_UNKNOWN;
    if (by_bytes && c->lag.bytes > need->max_lag_bytes)
        return PQI_WHY_LAG_BYTES;
    if (by_ms && c->lag.ms < 0)
        return PQI_WHY_LAG_UNKNOWN;
    if (by_ms && c->lag.ms > need->max_lag_ms)
        return PQI_WHY_LAG_MS;
    if (need->bound_ms > 0 && !within_bound(c, need))
        return PQI_WHY_BOUND;
    return PQI_WHY_OK;
}

/* What a session was shown by one replica, another one may not have yet. */
static bool shows_what_was_seen(const struct pqi_candidate *c, const struct pqi_need *need)
{
    if (need->read && !c->stays &&
        !(need->elsewhere_known && pqi_seen_fresh(&need->elsewhere, c->timeline, c->replayed)))
        return false;
    if (!c->stays && !pqi_seen_fresh(&need->shown, c->timeline, c->replayed))
        return false;
    return pqi_seen_fresh(&need->seen, c->timeline, c->replayed);
}

static enum pqi_why judge_replica(const struct pqi_candidate *c, const struct pqi_need *need)
{
    if (wants_primary_only(need))
        return PQI_WHY_NOT_ASKED;
    enum pqi_why why = judge_lag(c, need);
    if (why != PQI_WHY_OK)
        return why;
    if (need->level == PQR_LEVEL_SESSION && !shows_what_was_seen(c, need))
        return PQI_WHY_NOT_SEEN;
    return PQI_WHY_OK;
}

enum pqi_why pqi_judge(const struct pqi_candidate *c, const struct pqi_need *need)
{
    if (c->state == PQR_NODE_UNKNOWN)
        return PQI_WHY_UNKNOWN;
    if (c->state == PQR_NODE_DOWN)
        return PQI_WHY_DOWN;
    if (!c->is_primary && !c->is_replica)
        return PQI_WHY_ROLE;
    if (!c->stamp_ok)
        return PQI_WHY_STAMP;
    if (c->tried)
        return PQI_WHY_TRIED;
    /* A silent primary is still the best there is; a silent replica has peers. */
    if (c->is_replica && c->state == PQR_NODE_SUSPECT)
        return PQI_WHY_SUSPECT;
    if (c->is_replica)
        return judge_replica(c, need);
    bool replicas_only = need->preference == PQI_PREFER_REPLICA && need->level != PQR_LEVEL_PRIMARY;
    return replicas_only ? PQI_WHY_NOT_ASKED : PQI_WHY_OK;
}

static int eligible(const struct pqi_candidate *nodes, int n, const struct pqi_need *need)
{
    int found = 0;
    for (int i = 0; i < n; i++)
        found += nodes[i].is_replica && pqi_judge(&nodes[i], need) == PQI_WHY_OK;
    return found;
}

static bool deals(const struct pqi_candidate *c, const struct pqi_need *need, bool full_too)
{
    bool full = c->full_ms >= FULL_MS;
    return c->is_replica && (full_too || !full) && pqi_judge(c, need) == PQI_WHY_OK;
}

/* The turn-th of the eligible replicas; -1: there is none. */
static int deal(const struct pqi_candidate *nodes, int n, const struct pqi_need *need,
                uint64_t turn, bool full_too)
{
    int eligible = 0;
    for (int i = 0; i < n; i++)
        eligible += deals(&nodes[i], need, full_too);
    if (eligible == 0)
        return -1;
    int skip = (int)(turn % (uint64_t)eligible);
    for (int i = 0; i < n; i++)
        if (deals(&nodes[i], need, full_too) && skip-- == 0)
            return i;
    return -1;
}

/* One that has room; if none has, the call waits for whose turn it is. */
static int deal_replica(const struct pqi_candidate *nodes, int n, const struct pqi_need *need,
                        uint64_t turn)
{
    int i = deal(nodes, n, need, turn, false);
    return i >= 0 ? i : deal(nodes, n, need, turn, true);
}

/* The limits times `times`; 0: none. */
static struct pqi_need with_limits(const struct pqi_need *need, int64_t times)
{
    struct pqi_need wide = *need;
    if (__builtin_mul_overflow(need->max_lag_ms, times, &wide.max_lag_ms))
        wide.max_lag_ms = INT64_MAX;
    if (__builtin_mul_overflow(need->max_lag_bytes, times, &wide.max_lag_bytes))
        wide.max_lag_bytes = INT64_MAX;
    return wide;
}

/* Of the first tier or, for who allows it and where too few are in that, of both. */
static int deal_tiers(const struct pqi_candidate *nodes, int n, const struct pqi_need *need,
                      uint64_t turn)
{
    const struct pqi_need wide = with_limits(need, PQI_SECOND_TIER);
    bool few = need->level == PQR_LEVEL_ANY && eligible(nodes, n, need) < need->min_replicas;
    return deal_replica(nodes, n, few ? &wide : need, turn);
}

bool pqi_falls_back(const struct pqi_candidate *nodes, int n, const struct pqi_need *need, int i)
{
    struct pqi_need plain = *need;
    plain.level = PQR_LEVEL_ANY;
    return i >= 0 && nodes[i].is_primary && need->level != PQR_LEVEL_PRIMARY && n > 1 &&
           need->preference == PQI_PREFER_REPLICA_PREFERRED && eligible(nodes, n, &plain) == 0;
}

bool pqi_share_allows(int now, int limit, int percent)
{
    return percent >= 100 || (int64_t)now * 100 < (int64_t)limit * percent;
}

static int find_primary(const struct pqi_candidate *nodes, int n, const struct pqi_need *need)
{
    for (int i = 0; i < n; i++)
        if (nodes[i].is_primary && pqi_judge(&nodes[i], need) == PQI_WHY_OK)
            return i;
    return -1;
}

int pqi_pick(const struct pqi_candidate *nodes, int n, const struct pqi_need *need, uint64_t turn)
{
    int primary = find_primary(nodes, n, need);
    if (primary >= 0 && need->preference == PQI_PREFER_PRIMARY_PREFERRED)
        return primary;
    if (need->level == PQR_LEVEL_SESSION && need->stay >= 0 && need->stay < n &&
        nodes[need->stay].is_replica && pqi_judge(&nodes[need->stay], need) == PQI_WHY_OK)
        return need->stay;
    int replica = deal_tiers(nodes, n, need, turn);
    if (replica >= 0 || !need->primary_full || !pqi_falls_back(nodes, n, need, primary))
        return replica >= 0 ? replica : primary;
    const struct pqi_need stale = with_limits(need, 0);
    return need->level == PQR_LEVEL_ANY ? deal_replica(nodes, n, &stale, turn) : -1;
}

const char *pqi_why_text(enum pqi_why why, const struct pqi_candidate *c,
                         const struct pqi_need *need, char *buf, size_t size)
{
    switch (why) {
    case PQI_WHY_OK:
        return "";
    case PQI_WHY_UNKNOWN:
        return "not looked at yet";
    case PQI_WHY_DOWN:
        return "down";
    case PQI_WHY_SUSPECT:
        return "did not answer its last probe";
    case PQI_WHY_ROLE:
        return "not of this shard: it takes writes and is not its primary, or is of another cluster";
    case PQI_WHY_STAMP:
        return "its stamp is of another shard or fleet, or missing";
    case PQI_WHY_LAG_UNKNOWN:
        if (c->lag.bytes < 0)
            return "its lag is unknown while no primary answers or its timeline is not proven";
        snprintf(buf, size, "%" PRId64 " bytes behind, for longer than is remembered",
                 c->lag.bytes);
        return buf;
    case PQI_WHY_LAG_BYTES:
        snprintf(buf, size, "lags %" PRId64 " bytes, more than %" PRId64, c->lag.bytes,
                 need->max_lag_bytes);
        return buf;
    case PQI_WHY_LAG_MS:
        snprintf(buf, size, "lags %" PRId64 " ms, more than %" PRId64 " ms", c->lag.ms,
                 need->max_lag_ms);
        return buf;
    case PQI_WHY_BOUND:
        if (need->bound_ms < need->look_every_ms)
            snprintf(buf, size, "the read allows %" PRId64 " ms, less than DB_HEALTH_INTERVAL",
                     need->bound_ms);
        else if (c->lag.ms < 0 || c->lag_age_ms < 0)
            snprintf(buf, size, "its lag is unknown, and the read allows only %" PRId64 " ms",
                     need->bound_ms);
        else
            snprintf(buf, size,
                     "was %" PRId64 " ms behind %" PRId64 " ms ago, and the read allows %" PRId64
                     " ms",
                     c->lag.ms, c->lag_age_ms, need->bound_ms);
        return buf;
    case PQI_WHY_NOT_SEEN:
        return "has not replayed what the session has seen";
    case PQI_WHY_TRIED:
        return "this call already failed there";
    case PQI_WHY_NOT_ASKED:
        return "the read asks for the other role";
    }
    return "";
}
