/* A shard: what is known of its servers, and where a call goes. */
#include "shard.h"

#include "../base/bytes.h"
#include "../base/err.h"
#include "vitals.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define OFFERS 4

static const char *const state_names[] = {"unknown", "up", "suspect", "down"};
static const char *const role_names[] = {"of unknown role", "a primary", "a replica"};

/* Log records wait here until the lock is released. */
struct news {
    int n;
    struct {
        int level;
        const char *event;
        char text[640];
    } item[4];
};

static void __attribute__((format(printf, 4, 5)))
tell(struct news *news, int level, const char *event, const char *format, ...)
{
    if (news->n == sizeof news->item / sizeof *news->item)
        return;
    news->item[news->n].level = level;
    news->item[news->n].event = event;
    va_list args;
    va_start(args, format);
    vsnprintf(news->item[news->n].text, sizeof news->item[0].text, format, args);
    va_end(args);
    news->n++;
}

static void publish(struct pqr *db, const struct news *news)
{
    for (int i = 0; i < news->n; i++)
        pqi_log(&db->log, news->item[i].level, news->item[i].event, "%s", news->item[i].text);
}

const char *pqi_shard_called(const struct pqi_shard *s)
{
    return s->number == PQI_STAMP_CONTROL ? "the control database" : s->name;
}

/* ---- Waiting for news ----------------------------------------------------------------------- */

void pqi_shard_hope(struct pqi_shard *s, struct pqi_hope *h)
{
    pthread_mutex_lock(&s->lock);
    pqi_list_append(&s->waiting, &h->link);
    pthread_mutex_unlock(&s->lock);
}

static bool share_is_free(const struct pqi_shard *s)
{
    const struct pqi_options *o = s->db->options;
    return pqi_share_allows(s->fallbacks, (int)o->connection_limit, (int)o->fallback_percent);
}

/* A few of those that may wait for it: not each of them can use it. */
static void offer_share(struct pqi_shard *s)
{
    int left = share_is_free(s) ? OFFERS : 0;
    for (struct pqi_link *l = s->waiting.next; l != &s->waiting && left > 0; l = l->next) {
        struct pqi_hope *h = pqi_container(l, struct pqi_hope, link);
        left -= h->for_share;
        if (h->for_share)
            pqi_waiter_wake(h->waiter);
    }
}

/* Who leaves may have been offered what is left to the others. */
void pqi_shard_unhope(struct pqi_shard *s, struct pqi_hope *h)
{
    pthread_mutex_lock(&s->lock);
    pqi_list_remove(&h->link);
    if (h->for_share)
        offer_share(s);
    pthread_mutex_unlock(&s->lock);
}

void pqi_shard_share_back(struct pqi_shard *s)
{
    pthread_mutex_lock(&s->lock);
    s->fallbacks--;
    offer_share(s);
    pthread_mutex_unlock(&s->lock);
}

static void wake_all(struct pqi_shard *s)
{
    for (struct pqi_link *l = s->waiting.next; l != &s->waiting; l = l->next)
        pqi_waiter_wake(pqi_container(l, struct pqi_hope, link)->waiter);
}

void pqi_shard_wake_all(struct pqi_shard *s)
{
    pthread_mutex_lock(&s->lock);
    wake_all(s);
    pthread_mutex_unlock(&s->lock);
}

int64_t pqi_shard_next_look(struct pqi_shard *s)
{
    pthread_mutex_lock(&s->lock);
    int64_t at = s->settled || s->grace_until_ns <= pqi_now_ns() ? PQI_FOREVER : s->grace_until_ns;
    pthread_mutex_unlock(&s->lock);
    return at;
}

/* ---- What was seen -------------------------------------------------------------------------- */

static void set_state(struct pqi_node *node, enum pqi_sign seen, struct news *news)
{
    enum pqr_node_state before = node->known.report.state;
    enum pqr_node_state after = pqi_health_next(before, seen);
    node->known.report.state = after;
    if (after == before)
        return;
    if (after == PQR_NODE_UP)
        tell(news, PQR_LOG_INFO, "node_up", "%s is up", node->target->name);
    else
        tell(news, PQR_LOG_WARN, after == PQR_NODE_DOWN ? "node_down" : "node_suspect",
             "%s is %s: %s", node->target->name, state_names[after], node->known.trouble.text);
}

/* "0/3000148", or that it is not known. */
static const char *position_text(uint64_t lsn, char *buf, size_t size)
{
    if (lsn == 0)
        return "not known";
    snprintf(buf, size, "%" PRIX32 "/%" PRIX32, (uint32_t)(lsn >> 32), (uint32_t)lsn);
    return buf;
}

/* A failover: everything that was on the old line up to the last safe position is on the new one.
 * What the old primary acknowledged beyond it, without waiting for a standby, is lost. */
static void tell_failover(struct pqi_shard *s, const struct pqi_node *next, struct news *news)
{
    char safe[24], seen[24];
    uint64_t last = s->history.n > 0 ? s->history.sample[s->history.n - 1].lsn : 0;
    const struct pqi_known *k = &next->known;
    pqi_count(s->db, failovers);
    tell(news, PQR_LOG_WARN, "failover",
         "%s: %s is primary on timeline %" PRIu32 "; before it was %s, on timeline %" PRIu32
         ". Last safe position of the old line: %s; its primary was seen last at %s",
         s->name, next->target->name, k->report.timeline, s->nodes[s->primary].target->name,
         s->timeline, position_text(k->safe, safe, sizeof safe),
         position_text(last, seen, sizeof seen));
}

static void tell_primary(struct pqi_shard *s, const struct pqi_node *next, struct news *news)
{
    if (s->primary >= 0 && next->known.report.timeline > s->timeline)
        tell_failover(s, next, news);
    else
        tell(news, PQR_LOG_INFO, "primary_is",
             "%s: %s is primary, timeline %" PRIu32 " (before: %s)", s->name, next->target->name,
             next->known.report.timeline,
             s->primary >= 0 ? s->nodes[s->primary].target->name : "none");
}

/* Since when writes wait; the monitor hurries from then on. */
static void note_missing(struct pqi_shard *s)
{
    if (s->follow.verdict == PQI_PRIMARY_IS) {
        s->missing_ns = 0;
    } else if (s->missing_ns == 0) {
        s->missing_ns = pqi_now_ns();
        s->round_due_ns = 0;
    }
}

static bool lingers(const struct pqi_node *node)
{
    const struct pqi_known *k = &node->known;
    int64_t heard = atomic_load(&node->heard_ns);
    heard = heard > k->seen_ns ? heard : k->seen_ns;
    return k->report.state == PQR_NODE_DOWN && k->trouble.kind == PQI_TROUBLE_TIMEOUT &&
           heard > 0 && pqi_now_ns() < pqi_after_ms(heard, PQI_LINGER_MS);
}

/* What the primary tells from `at_ns` on is all that is left of what was before. */
static void found_anew(struct pqi_shard *s, int64_t at_ns)
{
    s->based_ns = at_ns;
}

/* Who is primary, after anything has changed. A node that was not heard of in the time of the first look
 * counts as silent. */
static void follow(struct pqi_shard *s, struct news *news)
{
    struct pqi_report reports[PQI_NODES_MAX];
    bool over = s->primary < 0 && pqi_now_ns() >= s->grace_until_ns;
    for (int i = 0; i < s->n; i++) {
        reports[i] = s->nodes[i].known.report;
        reports[i].lingers = lingers(&s->nodes[i]);
        if (over && reports[i].state == PQR_NODE_UNKNOWN)
            reports[i].state = PQR_NODE_SUSPECT;
    }
    struct pqi_follow was = s->follow;
    s->follow = pqi_follow(reports, s->n, s->primary, s->timeline, s->system_id);
    note_missing(s);
    if (s->follow.verdict == PQI_PRIMARY_DOUBT && was.verdict != PQI_PRIMARY_DOUBT)
        tell(news, PQR_LOG_ERROR, "primary_doubt",
             "%s: writes are refused: %s claims to be primary%s%s", s->name,
             s->nodes[s->follow.node].target->name,
             s->follow.rival >= 0 ? " beside " : " on an older timeline than was seen before",
             s->follow.rival >= 0 ? s->nodes[s->follow.rival].target->name : "");
    if (s->follow.verdict != PQI_PRIMARY_IS)
        return;
    const struct pqi_known *k = &s->nodes[s->follow.node].known;
    if (s->follow.node != s->primary || k->report.timeline != s->timeline) {
        tell_primary(s, &s->nodes[s->follow.node], news);
        s->history.n = s->horizon.n = 0; /* positions of another timeline are no measure */
        s->reached = 0;
        found_anew(s, 1);
    }
    if (s->first_timeline == 0)
        s->first_timeline = k->report.timeline;
    s->primary = s->follow.node;
    atomic_store(&s->measured, true);
    s->timeline = k->report.timeline;
    s->system_id = k->report.system_id;
}

static bool is_primary(const struct pqi_shard *s, int i)
{
    return s->follow.verdict == PQI_PRIMARY_IS && s->follow.node == i;
}

/* Has enough been heard of this node to decide without it being guesswork? */
static bool node_settled(const struct pqi_shard *s, const struct pqi_node *node)
{
    const struct pqi_known *k = &node->known;
    if (k->report.state != PQR_NODE_UP)
        return k->report.state != PQR_NODE_UNKNOWN;
    if (s->follow.verdict != PQI_PRIMARY_IS) /* then no lag can be told, however long one waits */
        return true;
    return is_primary(s, node->index) || k->report.role == PQR_ROLE_PRIMARY || k->lag.ms >= 0 ||
           k->measured >= 4;
}

static void settle(struct pqi_shard *s)
{
    for (int i = 0; i < s->n; i++)
        if (!node_settled(s, &s->nodes[i]))
            return;
    s->settled = true;
}

/* Is it the server that is known, and has it gone on without a break? After one it may be behind
 * what it had shown. */
static bool is_same(const struct pqi_known *k, const struct pqi_sighting *seen)
{
    return k->report.started_us == 0 ||
           (k->report.started_us == seen->started_us && k->incarnation_us == seen->incarnation_us);
}

static void take_sighting(struct pqi_node *node, const struct pqi_sighting *seen, int64_t sent_ns,
                          int64_t now_ns, struct news *news)
{
    struct pqi_known *k = &node->known;
    bool restarted = !is_same(k, seen);
    bool changed = k->sightings > 0 && k->report.role != seen->role;
    if (restarted || changed) {
        atomic_fetch_add(&node->pool.generation, 1);
        tell(news, PQR_LOG_INFO, "node_changed", "%s %s", node->target->name,
             changed ? "has changed its role" : "was restarted");
    }
    bool promoted = changed && !restarted && seen->role == PQR_ROLE_PRIMARY;
    if (restarted || changed)
        k->safe = promoted ? seen->recovered : 0;
    k->report.follows = seen->role == PQR_ROLE_REPLICA ? seen->timeline : 0;
    k->report.role = seen->role;
    k->report.read_only = seen->read_only;
    /* A replica whose receiver is gone cannot tell; its line is at least the one it told before. */
    if (seen->timeline != 0 || restarted || changed)
        k->report.timeline = seen->timeline;
    k->report.system_id = seen->system_id;
    k->report.started_us = seen->started_us;
    k->incarnation_us = seen->incarnation_us;
    k->stamp = seen->stamp;
    k->lsn = seen->lsn;
    k->seen_ns = now_ns;
    k->latency_us = (now_ns - sent_ns) / 1000;
    k->sightings++;
    k->trouble = (struct pqi_trouble){0};
}

static uint32_t proven_timeline(const struct pqi_shard *s, const struct pqi_known *k);

static void reach(struct pqi_shard *s, uint32_t timeline, uint64_t lsn)
{
    if (timeline == s->timeline && lsn > s->reached)
        s->reached = lsn;
}

void pqi_shard_sighted(struct pqi_node *node, const struct pqi_sighting *seen, int64_t sent_ns,
                       int64_t now_ns)
{
    struct pqi_shard *s = node->shard;
    struct news news = {0};
    pthread_mutex_lock(&s->lock);
    bool restarted = !is_same(&node->known, seen);
    take_sighting(node, seen, sent_ns, now_ns, &news);
    set_state(node, PQI_ANSWERED, &news);
    follow(s, &news);
    /* A replica's lag is told against the primary's sample before its own: against a later one
     * it would seem to lag by what was written between the two probes. */
    if (is_primary(s, node->index)) {
        if (restarted || seen->end < s->base)
            found_anew(s, 1);
        if (s->based_ns != 0 && sent_ns >= s->based_ns) {
            s->base = pqi_lsn_floor(seen->end, seen->segment_bytes);
            s->based_ns = 0;
        }
        pqi_history_add(&s->history, sent_ns, seen->lsn);
        pqi_horizon_add(&s->horizon, sent_ns, pqi_lsn_floor(seen->end, seen->segment_bytes));
        s->segment_bytes = seen->segment_bytes;
        node->known.lag = (struct pqi_lag){0, 0};
        reach(s, s->timeline, seen->end);
    } else {
        node->known.lag = pqi_lag_of(&s->history, seen->lsn);
        node->known.measured += s->history.n > 0;
        node->known.lag_at_ns = s->history.n > 0 ? s->history.sample[s->history.n - 1].at_ns : 0;
        if (seen->role == PQR_ROLE_REPLICA)
            reach(s, proven_timeline(s, &node->known), seen->lsn);
    }
    settle(s);
    wake_all(s);
    pthread_mutex_unlock(&s->lock);
    publish(s->db, &news);
}

static void troubled(struct pqi_node *node, const struct pqi_trouble *trouble, bool tells,
                     enum pqi_sign sign)
{
    struct pqi_shard *s = node->shard;
    struct news news = {0};
    pthread_mutex_lock(&s->lock);
    bool was_up = node->known.report.state == PQR_NODE_UP;
    node->known.trouble = *trouble;
    if (tells)
        set_state(node, sign, &news);
    if (pqi_health_outdates(trouble->sqlstate))
        atomic_fetch_add(&node->pool.generation, 1);
    follow(s, &news);
    settle(s);
    wake_all(s);
    bool hurry = s->round_due_ns == 0, leaves = was_up && node->known.report.state != PQR_NODE_UP;
    pthread_mutex_unlock(&s->lock);
    publish(s->db, &news);
    if (hurry)
        pqi_flag_set(s->db->monitor_flag);
    if (leaves)
        pqi_pool_stir(&node->pool); /* who waits for its connections may be served elsewhere */
}

void pqi_shard_troubled(struct pqi_node *node, const struct pqi_trouble *trouble)
{
    enum pqi_sign sign;
    bool tells = pqi_sign_of(trouble->kind, &sign);
    troubled(node, trouble, tells, sign);
}

void pqi_shard_quiet(struct pqi_node *node, int64_t ms)
{
    struct pqi_trouble trouble = {.kind = PQI_TROUBLE_TIMEOUT};
    snprintf(trouble.text, sizeof trouble.text,
             "it accepts what it is sent and answers nothing, for %" PRId64 " ms", ms);
    troubled(node, &trouble, true, PQI_QUIET);
}

bool pqi_shard_gone(struct pqi_node *node)
{
    struct pqi_shard *s = node->shard;
    if (!s->db->options->pgbouncer)
        return false;
    pthread_mutex_lock(&s->lock);
    const struct pqi_known *k = &node->known;
    bool gone = k->report.state == PQR_NODE_DOWN && k->trouble.kind == PQI_TROUBLE_REFUSED;
    pthread_mutex_unlock(&s->lock);
    return gone;
}

void pqi_shard_look_again(struct pqi_shard *s)
{
    pthread_mutex_lock(&s->lock);
    s->round_due_ns = 0;
    pthread_mutex_unlock(&s->lock);
    pqi_flag_set(s->db->monitor_flag);
}

void pqi_shard_not_primary(struct pqi_node *node)
{
    atomic_fetch_add(&node->pool.generation, 1);
    pqi_shard_look_again(node->shard);
}

/* The line that a node is proven to be on. Without the right to tell (pg_monitor) a replica counts
 * as on the shard's while this process has seen no promotion. 0: not proven. */
static uint32_t proven_timeline(const struct pqi_shard *s, const struct pqi_known *k)
{
    if (k->report.timeline != 0 || s->timeline != s->first_timeline)
        return k->report.timeline;
    return s->timeline;
}

bool pqi_shard_covers(struct pqi_shard *s, int64_t at_ns, struct pqi_seen *out)
{
    pthread_mutex_lock(&s->lock);
    bool told = pqi_horizon_after(&s->horizon, at_ns, &out->lsn);
    out->timeline = s->timeline;
    pthread_mutex_unlock(&s->lock);
    return told;
}

/* Have all that answer done so since? */
static bool all_told(const struct pqi_shard *s, int64_t at_ns)
{
    for (int i = 0; i < s->n; i++) {
        const struct pqi_known *k = &s->nodes[i].known;
        if (k->report.state != PQR_NODE_DOWN && k->seen_ns < at_ns)
            return false;
    }
    return true;
}

void pqi_shard_map_changed(struct pqi_shard *s)
{
    pthread_mutex_lock(&s->lock);
    found_anew(s, pqi_now_ns());
    pthread_mutex_unlock(&s->lock);
}

void pqi_shard_reached(struct pqi_shard *s, int64_t at_ns, struct pqi_token_known *out)
{
    pthread_mutex_lock(&s->lock);
    *out = (struct pqi_token_known){.shard = s->number,
                                    .system_id = s->system_id,
                                    .timeline = s->timeline,
                                    .lsn = s->reached,
                                    .covers = {.timeline = s->timeline},
                                    .all_told = all_told(s, at_ns),
                                    .based = s->timeline != 0 && s->based_ns == 0,
                                    .base = {s->timeline, s->base}};
    out->told = pqi_horizon_after(&s->horizon, at_ns, &out->covers.lsn);
    pthread_mutex_unlock(&s->lock);
}

bool pqi_shard_told(struct pqi_node *node, uint64_t generation, const struct pqi_position *p,
                    struct pqi_seen *out)
{
    struct pqi_shard *s = node->shard;
    pthread_mutex_lock(&s->lock);
    struct pqi_known *k = &node->known;
    bool same = atomic_load(&node->pool.generation) == generation;
    out->timeline = p->timeline ? p->timeline : same ? proven_timeline(s, k) : 0;
    out->lsn = p->replica ? p->lsn : pqi_lsn_floor(p->lsn, s->segment_bytes);
    /* What each read tells anyway: how far the replica is now, not at the last probe. */
    if (same && p->replica && k->report.role == PQR_ROLE_REPLICA && p->replayed > k->lsn)
        k->lsn = p->replayed;
    if (same)
        reach(s, out->timeline, p->lsn);
    pthread_mutex_unlock(&s->lock);
    return out->timeline != 0;
}

/* What a replica of an older or unproven line has replayed is no measure against this one's. */
static struct pqi_lag measured_lag(const struct pqi_shard *s, const struct pqi_known *k)
{
    return proven_timeline(s, k) < s->timeline ? (struct pqi_lag){-1, -1} : k->lag;
}

/* ---- Where a call goes ---------------------------------------------------------------------- */

void pqi_shard_need(const struct pqi_shard *s, enum pqr_level level, struct pqi_need *need)
{
    const struct pqi_options *o = s->db->options;
    *need = (struct pqi_need){.level = level,
                              .stay = -1,
                              .preference = o->read_preference,
                              .max_lag_ms = o->max_replica_lag_ms,
                              .look_every_ms = o->health_interval_ms,
                              .max_lag_bytes = o->max_replica_lag_bytes,
                              .min_replicas = (int)o->min_replicas,
                              .unmeasured = !atomic_load(&s->measured)};
}

/* What marks the shard's servers; 0 until that is clear. */
static uint64_t system_of(const struct pqi_shard *s)
{
    struct pqi_report reports[PQI_NODES_MAX];
    if (s->system_id != 0)
        return s->system_id;
    for (int i = 0; i < s->n; i++)
        reports[i] = s->nodes[i].known.report;
    return pqi_follow_system(reports, s->n);
}

void pqi_shard_candidates(struct pqi_shard *s, struct pqi_candidate *out, const bool *tried)
{
    uint64_t system = system_of(s);
    int64_t now = pqi_now_ns();
    for (int i = 0; i < s->n; i++) {
        const struct pqi_known *k = &s->nodes[i].known;
        out[i] = (struct pqi_candidate){
            .state = k->report.state,
            .is_primary = is_primary(s, i),
            .is_replica = k->report.role == PQR_ROLE_REPLICA && k->report.system_id == system,
            .stamp_ok = k->sightings > 0 &&
                        pqi_stamp_check(&k->stamp, &s->expected, false, NULL) == PQR_OK,
            .tried = tried && tried[i],
            .lag = measured_lag(s, k),
            .lag_age_ms = k->lag_at_ns > 0 ? (now - k->lag_at_ns + PQI_MS - 1) / PQI_MS : -1,
            .timeline = proven_timeline(s, k),
            .replayed = k->lsn,
            .full_ms = pqi_pool_full_ms(&s->nodes[i].pool),
        };
    }
}

/* `why` it does not serve a read; "": that is not the question. */
static void describe_node(const struct pqi_shard *s, const struct pqi_node *node, const char *why,
                          struct pqi_buf *b)
{
    const struct pqi_known *k = &node->known;
    const char *wrong = pqi_health_text(pqi_node_condition(s, k));
    pqi_buf_format(b, "%s%s ", b->len ? "; " : "", node->target->name);
    if (k->trouble.kind != PQI_TROUBLE_NONE)
        pqi_buf_format(b, "(%s): %s", node->target->shown, k->trouble.text);
    else if (k->report.state == PQR_NODE_UNKNOWN)
        pqi_buf_text(b, "was not reached yet");
    else if (k->report.role == PQR_ROLE_PRIMARY && !is_primary(s, node->index))
        pqi_buf_text(b, "claims to be primary");
    else
        pqi_buf_format(b, "is %s%s%s", role_names[k->report.role], *why ? ": " : "", why);
    if (k->trouble.kind == PQI_TROUBLE_NONE && *wrong)
        pqi_buf_format(b, " (%s)", wrong);
}

static void put_where(pqr_error *err, const struct pqi_shard *s, const struct pqi_node *node)
{
    if (!err)
        return;
    err->shard = s->number;
    if (node)
        snprintf(err->node, sizeof err->node, "%s", node->target->name);
}

/* What all nodes that are in trouble were told; "": not the same. */
static const char *common_sqlstate(const struct pqi_shard *s)
{
    const char *found = NULL;
    for (int i = 0; i < s->n; i++) {
        const struct pqi_trouble *t = &s->nodes[i].known.trouble;
        if (t->kind != PQI_TROUBLE_NONE && strcmp(found ? found : t->sqlstate, t->sqlstate) != 0)
            return "";
        if (t->kind != PQI_TROUBLE_NONE)
            found = t->sqlstate;
    }
    return found ? found : "";
}

/* Says why nobody serves the errand, node by node. */
static int nobody(struct pqi_shard *s, const struct pqi_errand *e, pqr_error *err)
{
    struct pqi_buf b = {0};
    struct pqi_candidate c[PQI_NODES_MAX];
    bool all_down = true, read = !e->write && e->need.level != PQR_LEVEL_PRIMARY;
    pqi_shard_candidates(s, c, e->tried);
    for (int i = 0; i < s->n; i++) {
        char text[120];
        enum pqi_why why = read ? pqi_judge(&c[i], &e->need) : PQI_WHY_OK;
        describe_node(s, &s->nodes[i], pqi_why_text(why, &c[i], &e->need, text, sizeof text), &b);
        all_down &= s->nodes[i].known.report.state != PQR_NODE_UP;
    }
    bool doubt = s->follow.verdict == PQI_PRIMARY_DOUBT;
    if (e->write || e->need.level == PQR_LEVEL_PRIMARY)
        pqi_err(err, PQR_E_NO_PRIMARY, "%s: %s: %s", pqi_shard_called(s),
                doubt ? "several servers, or an outdated one, claim to be the primary; writes wait "
                        "until one is read-only or gone, or most of the standbys follow one"
                      : "no server answers as its primary",
                pqi_buf_str(&b));
    else if (e->need.preference == PQI_PREFER_REPLICA)
        pqi_err(err, PQR_E_NO_REPLICA, "%s: no replica may serve this read: %s",
                pqi_shard_called(s), pqi_buf_str(&b));
    else if (e->falls_back && s->follow.verdict == PQI_PRIMARY_IS && !share_is_free(s))
        pqi_err(
            err, PQR_E_FALLBACK,
            "%s: no replica may serve this read, and %d that fell back to the primary already have "
            "their share of its connections (DB_FALLBACK_PERCENT): %s",
            pqi_shard_called(s), s->fallbacks, pqi_buf_str(&b));
    else
        pqi_err(err, all_down ? PQR_E_CONNECT : PQR_E_NO_PRIMARY,
                "%s: no server may serve this read: %s", pqi_shard_called(s), pqi_buf_str(&b));
    put_where(err, s, NULL);
    if (err)
        snprintf(err->sqlstate, sizeof err->sqlstate, "%s", common_sqlstate(s));
    pqi_buf_free(&b);
    return err ? err->code : PQR_E_NO_PRIMARY;
}

/* A fault that waiting does not mend: a wrong login, TLS, a wrong stamp. */
static bool node_hopeless(const struct pqi_shard *s, const struct pqi_node *node, bool write,
                          pqr_error *err)
{
    const struct pqi_known *k = &node->known;
    if (k->trouble.kind == PQI_TROUBLE_TLS || k->trouble.kind == PQI_TROUBLE_LOGIN) {
        pqi_err(err, PQR_E_AUTH, "%s (%s): %s", node->target->name, node->target->shown,
                k->trouble.text);
        if (err)
            snprintf(err->sqlstate, sizeof err->sqlstate, "%s", k->trouble.sqlstate);
    } else if (k->sightings == 0 ||
               pqi_stamp_check(&k->stamp, &s->expected, write, err) == PQR_OK) {
        return false;
    }
    put_where(err, s, node);
    return true;
}

/* Would nothing but a person's hand help? Then some node has such a fault, and none is merely
 * out of reach. `err` tells of the first. */
static bool hopeless(const struct pqi_shard *s, bool write, pqr_error *err)
{
    const struct pqi_node *worst = NULL;
    for (int i = s->n - 1; i >= 0; i--) {
        const struct pqi_node *node = &s->nodes[i];
        if (node_hopeless(s, node, write, NULL))
            worst = node;
        else if (node->known.report.state != PQR_NODE_UP)
            return false;
    }
    return worst && node_hopeless(s, worst, write, err);
}

/* A session that reads on may do so where it is, since that server only goes forward; elsewhere
 * it must find what it may have been shown: all that the primary had by then. */
static void need_after_reading(const struct pqi_shard *s, const struct pqi_errand *e,
                               struct pqi_candidate *c, struct pqi_need *need)
{
    bool stays = need->stay >= 0 && need->level == PQR_LEVEL_SESSION;
    if (stays)
        c[need->stay].stays = atomic_load(&s->nodes[need->stay].pool.generation) ==
                              e->stay_generation;
    need->read = stays && e->read_ns > 0;
    if (!need->read)
        return;
    need->elsewhere.timeline = s->timeline;
    need->elsewhere_known = pqi_horizon_after(&s->horizon, e->read_ns, &need->elsewhere.lsn);
}

/* Only the primary would do, since no replica is known to have what the session has seen: may that be
 * for want of a look at them? */
static bool needs_look(const struct pqi_shard *s, const struct pqi_errand *e,
                       const struct pqi_candidate *c, const struct pqi_need *need)
{
    bool replicas = need->preference == PQI_PREFER_REPLICA ||
                    need->preference == PQI_PREFER_REPLICA_PREFERRED;
    for (int i = 0; i < s->n && e->looked_ns > 0 && replicas; i++)
        if (pqi_judge(&c[i], need) == PQI_WHY_NOT_SEEN &&
            (e->catching_up || s->nodes[i].known.seen_ns < e->looked_ns))
            return true;
    return false;
}

static struct pqi_node *choose(struct pqi_shard *s, const struct pqi_errand *e, bool *look)
{
    if (e->write)
        return s->follow.verdict == PQI_PRIMARY_IS ? &s->nodes[s->follow.node] : NULL;
    struct pqi_candidate c[PQI_NODES_MAX];
    pqi_shard_candidates(s, c, e->tried);
    for (int i = 0; i < s->n; i++)
        c[i].stamp_ok |= e->stamping;
    struct pqi_need need = e->need;
    need_after_reading(s, e, c, &need);
    bool stays = need.level == PQR_LEVEL_SESSION && need.stay >= 0 &&
                 pqi_judge(&c[need.stay], &need) == PQI_WHY_OK && c[need.stay].is_replica;
    uint64_t turn = 0;
    if (!stays)
        turn = atomic_fetch_add_explicit(e->deal_session ? &s->session_turn : &s->call_turn, 1,
                                         memory_order_relaxed);
    need.primary_full = e->falls_back && !share_is_free(s);
    int i = pqi_pick(c, s->n, &need, turn);
    *look = (i < 0 || c[i].is_primary) && needs_look(s, e, c, &need);
    if (*look)
        return NULL;
    if (e->falls_back && pqi_falls_back(c, s->n, &need, i)) {
        *e->falls_back = true;
        s->fallbacks++;
    }
    if (i >= 0 && c[i].is_primary && s->n > 1 && need.level != PQR_LEVEL_PRIMARY)
        pqi_count(s->db, fallback_reads);
    return i >= 0 ? &s->nodes[i] : NULL;
}

static int check_stamp_for_write(struct pqi_shard *s, struct pqi_node *node, pqr_error *err)
{
    int code = pqi_stamp_check(&node->known.stamp, &s->expected, true, err);
    if (code != PQR_OK)
        put_where(err, s, node);
    return code;
}

static enum pqi_placing place(struct pqi_shard *s, const struct pqi_errand *e,
                              struct pqi_node **node, struct news *news, pqr_error *err)
{
    bool may_wait = !s->settled && pqi_now_ns() < s->grace_until_ns;
    bool look = false;
    if (!may_wait && s->primary < 0)
        follow(s, news); /* the first look is over now, which is no news */
    struct pqi_node *found = may_wait ? NULL : choose(s, e, &look);
    if (look) {
        s->round_due_ns = 0;
        pqi_flag_set(s->db->monitor_flag);
        pqi_err(err, PQR_E_NO_REPLICA, "%s: no replica is known to have what the session has seen",
                pqi_shard_called(s));
        put_where(err, s, NULL);
        return PQI_PLACE_WAIT;
    }
    if (found && e->write && !e->stamping && check_stamp_for_write(s, found, err) != PQR_OK)
        return PQI_PLACE_REFUSED;
    if (found) {
        *node = found;
        if (e->generation)
            *e->generation = atomic_load(&found->pool.generation);
        return PQI_PLACE_GO;
    }
    if (!may_wait && hopeless(s, e->write && !e->stamping, err))
        return PQI_PLACE_REFUSED;
    nobody(s, e, err);
    return PQI_PLACE_WAIT;
}

enum pqi_placing pqi_shard_place(struct pqi_shard *s, const struct pqi_errand *e,
                                 struct pqi_node **node, pqr_error *err)
{
    struct news news = {0};
    pthread_mutex_lock(&s->lock);
    enum pqi_placing placing = place(s, e, node, &news, err);
    pthread_mutex_unlock(&s->lock);
    publish(s->db, &news);
    return placing;
}

bool pqi_shard_primary_is(struct pqi_node *node)
{
    pthread_mutex_lock(&node->shard->lock);
    bool is = is_primary(node->shard, node->index);
    pthread_mutex_unlock(&node->shard->lock);
    return is;
}

bool pqi_shard_recognises(struct pqi_node *node, const struct pqi_sighting *seen)
{
    struct pqi_shard *s = node->shard;
    pthread_mutex_lock(&s->lock);
    struct pqi_known *k = &node->known;
    bool same = is_same(k, seen);
    k->replaced |= !same;
    if (!same)
        k->lsn = seen->lsn;
    pthread_mutex_unlock(&s->lock);
    if (!same) {
        atomic_fetch_add(&node->pool.generation, 1);
        pqi_shard_look_again(s);
    }
    return same;
}

bool pqi_shard_replaced(struct pqi_node *node)
{
    pthread_mutex_lock(&node->shard->lock);
    bool replaced = node->known.replaced;
    node->known.replaced = false;
    pthread_mutex_unlock(&node->shard->lock);
    return replaced;
}

int pqi_shard_admit(struct pqi_node *node, const struct pqi_sighting *seen, bool write,
                    pqr_error *err)
{
    struct pqi_shard *s = node->shard;
    pthread_mutex_lock(&s->lock);
    uint64_t system_id = s->system_id;
    pthread_mutex_unlock(&s->lock);
    int code = pqi_stamp_check(&seen->stamp, &s->expected, write, err);
    if (code == PQR_OK && system_id != 0 && system_id != seen->system_id)
        code = pqi_err(err, PQR_E_WRONG_SHARD,
                       "%s (%s) belongs to another cluster than the primary of %s: its system "
                       "identifier differs",
                       node->target->name, node->target->shown, pqi_shard_called(s));
    if (code != PQR_OK)
        put_where(err, s, node);
    return code;
}
