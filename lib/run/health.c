/* Is it ready, and how is each server? For people and their monitoring. */
#include "health.h"

#include "../base/bytes.h"
#include "../base/err.h"
#include "monitor.h"
#include "shard.h"
#include "vitals.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define REFUSAL_MS 300

/* ---- Ready ---------------------------------------------------------------------------------- */

static enum pqi_placing ready(struct pqi_shard *s, pqr_error *err)
{
    const struct pqi_errand write = {.write = true};
    struct pqi_node *node;
    return pqi_shard_place(s, &write, &node, err);
}

/* Waits for one shard. */
static enum pqi_placing wait_ready(struct pqi_shard *s, int64_t until_ns, pqr_error *err)
{
    struct pqi_waiter waiter;
    struct pqi_hope hope = {.waiter = &waiter};
    pqi_waiter_init(&waiter);
    pqi_shard_hope(s, &hope);
    enum pqi_placing placing = ready(s, err);
    /* A refusal may rest on what was seen before it was mended: so it is looked at again first. */
    int64_t refusal_until = pqi_after_ms(pqi_now_ns(), REFUSAL_MS);
    if (placing == PQI_PLACE_REFUSED)
        pqi_shard_look_again(s);
    while (placing != PQI_PLACE_GO && !atomic_load(&s->db->aborting)) {
        int64_t now = pqi_now_ns(), end = placing == PQI_PLACE_REFUSED ? refusal_until : until_ns;
        if (now >= end || now >= until_ns)
            break;
        int64_t look = pqi_shard_next_look(s);
        end = end < until_ns ? end : until_ns;
        pqi_waiter_wait(&waiter, &s->db->wait, look < end ? look : end);
        placing = ready(s, err);
    }
    pqi_shard_unhope(s, &hope);
    pqi_waiter_free(&waiter);
    return placing;
}

int pqi_router_ready(struct pqr *db, int64_t timeout_ms, pqr_error *err)
{
    int64_t until = pqi_after_ms(pqi_now_ns(), timeout_ms);
    for (int i = 0; i < db->ngroups; i++) {
        int code = pqi_monitor_use(db->monitor, &db->shards[i], err);
        if (code != PQR_OK)
            return code;
    }
    pqr_error first, now;
    pqi_err_none(&first);
    for (int i = 0; i < db->ngroups; i++) {
        if (wait_ready(&db->shards[i], until, &now) == PQI_PLACE_GO)
            continue;
        if (first.code == PQR_OK)
            first = now;
        else
            pqi_err_add(&first, " | %s", now.message);
    }
    if (err)
        *err = first;
    return first.code;
}

/* ---- Health --------------------------------------------------------------------------------- */

static int64_t since_ms(int64_t then_ns)
{
    return then_ns > 0 ? (pqi_now_ns() - then_ns) / PQI_MS : -1;
}

static void tell_knowledge(struct pqi_shard *s, int i, pqr_node_health *h)
{
    struct pqi_candidate c[PQI_NODES_MAX];
    struct pqi_need need;
    char text[120];
    pthread_mutex_lock(&s->lock);
    const struct pqi_known k = s->nodes[i].known;
    h->condition = (int32_t)pqi_node_condition(s, &k);
    pqi_shard_candidates(s, c, NULL);
    pthread_mutex_unlock(&s->lock);
    pqi_shard_need(s, PQR_LEVEL_ANY, &need);
    enum pqi_why why = pqi_judge(&c[i], &need);
    h->state = (int32_t)k.report.state;
    h->role = (int32_t)k.report.role;
    h->timeline = k.report.timeline;
    h->latency_us = k.latency_us;
    h->lag_bytes = k.lag.bytes;
    h->lag_ms = k.lag.ms;
    h->seen_ms = since_ms(k.seen_ns);
    h->serves_reads = why == PQI_WHY_OK;
    h->silent_ms = pqi_node_silent_ms(&s->nodes[i]);
    const char *reason = pqi_why_text(why, &c[i], &need, text, sizeof text);
    const char *wrong = pqi_health_text((enum pqr_node_condition)h->condition);
    bool told = *reason && (why != PQI_WHY_ROLE || !*wrong);
    pqi_copy_text(h->why, sizeof h->why,
                  k.trouble.text[0] ? k.trouble.text
                  : told            ? reason
                                    : wrong);
}

static void tell_pool(struct pqi_node *node, pqr_node_health *h)
{
    struct pqi_pool *p = &node->pool;
    pthread_mutex_lock(&p->lock);
    h->conns_idle = p->nidle;
    h->conns_used = p->slots - p->nidle;
    h->conns_waiting = p->nwaiting;
    h->conns_limit = p->limit;
    h->connects = p->made.all;
    h->connects_most = p->made.most;
    pthread_mutex_unlock(&p->lock);
    h->calls = atomic_load(&node->calls);
}

int pqi_router_health(struct pqr *db, pqr_node_health *out, size_t cap, size_t each)
{
    size_t n = 0;
    for (int i = 0; i < db->ngroups; i++)
        for (int j = 0; j < db->shards[i].n; j++, n++) {
            if (n >= cap || !out)
                continue;
            struct pqi_node *node = &db->shards[i].nodes[j];
            pqr_node_health h = {.shard = db->shards[i].number};
            pqi_copy_text(h.node, sizeof h.node, node->target->name);
            snprintf(h.address, sizeof h.address, "%s:%s/%s", node->target->host,
                     node->target->port, node->target->dbname ? node->target->dbname : "");
            tell_knowledge(&db->shards[i], j, &h);
            tell_pool(node, &h);
            memcpy((char *)out + n * each, &h, each < sizeof h ? each : sizeof h);
        }
    return (int)n;
}

struct pqi_node *pqi_router_node(struct pqr *db, const char *name)
{
    for (int i = 0; i < db->ngroups; i++)
        for (int j = 0; j < db->shards[i].n; j++)
            if (strcmp(db->shards[i].nodes[j].target->name, name) == 0)
                return &db->shards[i].nodes[j];
    return NULL;
}
