/* A session's token. */
#include "token.h"

#include "shard.h"

#include <string.h>

#define WARN_EVERY_MS 60000

static struct pqi_token_holder holder_of(const struct pqr_session *s)
{
    return (struct pqi_token_holder){.tenant = s->tenant,
                                     .tenant_len = s->tenant_len,
                                     .control = s->control,
                                     .fleet = s->db->options->fleet_id,
                                     .key = s->db->options->token_key};
}

/* Anybody may send them, as many as he likes: they are counted, and told of once in a while. */
static void warn(struct pqr *db, const char *event, const char *text)
{
    int64_t now = pqi_now_ns(), last = atomic_load(&db->token_warned_ns);
    if ((last == 0 || now >= pqi_after_ms(last, WARN_EVERY_MS)) &&
        atomic_compare_exchange_strong(&db->token_warned_ns, &last, now))
        pqi_log(&db->log, PQR_LOG_WARN, event, "%s (further ones are counted: pqr_stats_get)",
                text);
}

bool pqi_session_take_token(struct pqr_session *s, const char *text)
{
    struct pqi_token_holder holder = holder_of(s);
    int ignored = 0;
    s->tells = true;
    int counted = pqi_token_read(text, &holder, &s->claim, &ignored);
    s->claimed = counted > 0;
    s->claimed_ns = pqi_now_ns();
    if (counted < 0 || ignored == 0)
        return counted >= 0;
    atomic_fetch_add_explicit(&s->db->counters.tokens_ignored, (uint64_t)ignored,
                              memory_order_relaxed);
    warn(s->db, "token_ignored",
         "a token was ignored: it is damaged or made up, or of another version, tenant, fleet or "
         "DB_TOKEN_KEY");
    return true;
}

enum pqi_token_verdict pqi_session_bind(struct pqr_session *s, struct pqi_shard *shard,
                                        struct pqi_seen *seen)
{
    struct pqi_token_known known;
    struct pqi_seen binds;
    pqi_shard_reached(shard, s->claimed_ns, &known);
    enum pqi_token_verdict verdict = pqi_token_judge(&s->claim, &known, &binds);
    pqi_seen_raise(seen, binds.timeline, binds.lsn);
    s->claimed = verdict == PQI_TOKEN_OPEN;
    if (!s->claimed)
        pqi_seen_raise(&s->seen, binds.timeline, binds.lsn);
    if (verdict == PQI_TOKEN_CLAMPED) {
        pqi_count(s->db, tokens_clamped);
        warn(
            s->db, "token_clamped",
            "a token was ahead of its shard's primary, or of other servers: what it says does not count");
    }
    return verdict;
}

/* What it has seen in this process; false: nothing. */
static bool sum_up(struct pqr_session *s, struct pqi_token *t)
{
    struct pqi_shard *shard = s->shard;
    struct pqi_token_known known;
    struct pqi_seen covered;
    if (!shard)
        return false;
    t->unsure = !pqi_session_sure(s, shard);
    if (s->claimed)
        pqi_session_bind(s, shard, &(struct pqi_seen){0});
    if (s->read_ns > 0 && pqi_shard_covers(shard, s->read_ns, &covered))
        pqi_seen_raise(&t->seen, covered.timeline, covered.lsn);
    else if (s->read_ns > 0)
        t->unsure = true;
    pqi_seen_raise(&t->seen, s->seen.timeline, s->seen.lsn);
    pqi_seen_raise(&t->seen, s->shown.timeline, s->shown.lsn);
    pqi_shard_reached(shard, 0, &known);
    t->shard = known.shard;
    t->system_id = known.system_id;
    return t->unsure || t->seen.lsn > 0;
}

int pqi_session_token(struct pqr_session *s, char *buf, size_t size)
{
    struct pqi_token_holder holder = holder_of(s);
    struct pqi_token t = {0};
    char text[PQR_TOKEN_MAX] = "";
    bool seen = sum_up(s, &t);
    if (s->claimed && seen)
        pqi_token_merge(&t, &s->claim);
    else if (s->claimed)
        t = s->claim;
    if ((seen || s->claimed) && !pqi_token_write(&t, &holder, text))
        return PQR_E_NOMEM;
    size_t len = strlen(text);
    if (len >= size)
        return PQR_E_USAGE;
    memcpy(buf, text, len + 1);
    return PQR_OK;
}
