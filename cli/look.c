/* A look at every server. */
#include "look.h"

#include "environment.h"
#include "memory.h"
#include "say.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A replica's lag is known a few rounds after its primary, on a busy machine a little later;
 * without a primary it never is. */
#define LAGS_MS 4000
#define LAGS_ALONE_MS 1500
#define ROUND_MS 10

int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void sleep_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

int open_router(const struct cli *cli, pqr **db)
{
    pqr_error err;
    if (pqr_open(db, PQR_OPTIONS(.env = environment_list(cli->env)), &err) == PQR_OK)
        return CLI_OK;
    return say_error(cli, &err);
}

/* ---- Looking -------------------------------------------------------------------------------- */

void look_again(pqr *db, struct look *look)
{
    int n = pqr_health(db, NULL, 0, sizeof *look->nodes);
    if (n < 0)
        return;
    look->nodes = more_memory(look->nodes, (size_t)n, sizeof *look->nodes);
    look->n = n;
    pqr_health(db, look->nodes, (size_t)n, sizeof *look->nodes);
}

void look_free(struct look *look)
{
    free(look->nodes);
    *look = (struct look){0};
}

static bool looked_at(const pqr_node_health *h, bool with_lag)
{
    if (h->state == PQR_NODE_UNKNOWN || h->state == PQR_NODE_SUSPECT)
        return false;
    return h->state == PQR_NODE_DOWN || h->role == PQR_ROLE_PRIMARY || h->lag_ms >= 0 || !with_lag;
}

static bool has_primary(const struct look *look)
{
    bool has = false;
    for (int i = 0; i < look->n; i++)
        has |= look->nodes[i].state == PQR_NODE_UP && look->nodes[i].role == PQR_ROLE_PRIMARY;
    return has;
}

int look_at_all(const struct cli *cli, pqr *db, int64_t timeout_ms, struct look *out)
{
    int64_t begun = now_ms();
    pqr_error err;
    int code = pqr_ready(db, 0, &err); /* begins to look at every shard */
    if (code == PQR_E_NOMEM || code == PQR_E_BUG)
        return say_error(cli, &err);
    for (bool all = false; !all;) {
        int64_t passed = now_ms() - begun;
        look_again(db, out);
        all = true;
        int64_t lags = has_primary(out) ? LAGS_MS : LAGS_ALONE_MS;
        for (int i = 0; i < out->n; i++)
            all &= looked_at(&out->nodes[i], passed < lags);
        if (!all && passed >= timeout_ms)
            break;
        if (!all)
            sleep_ms(ROUND_MS);
    }
    return CLI_OK;
}

/* ---- Names ---------------------------------------------------------------------------------- */

const char *state_name(int state)
{
    static const char *const names[] = {"unknown", "up", "suspect", "down"};
    return state >= 0 && state < 4 ? names[state] : "unknown";
}

const char *condition_name(int condition)
{
    static const char *const names[] = {"fine",      "refused",  "silent",   "slow",
                                        "read-only", "starting", "stranger", "fenced",
                                        "full",      "no login", "broken"};
    int n = (int)(sizeof names / sizeof *names);
    return condition >= 0 && condition < n ? names[condition] : "unknown";
}

const char *role_name(int role)
{
    static const char *const names[] = {"unknown", "primary", "replica"};
    return role >= 0 && role < 3 ? names[role] : "unknown";
}

int64_t timeline_of(const pqr_node_health *h)
{
    return h->timeline > 0 ? (int64_t)h->timeline : -1;
}

const char *shard_name(int shard, char *buf, size_t size)
{
    if (shard < 0)
        return "control";
    snprintf(buf, size, "%d", shard);
    return buf;
}

void json_health(struct json *j, const pqr_node_health *h)
{
    char shard[16];
    json_text(j, "shard", shard_name(h->shard, shard, sizeof shard));
    json_text(j, "node", h->node);
    json_text(j, "address", h->address);
    json_text(j, "role", role_name(h->role));
    json_text(j, "state", state_name(h->state));
    json_text(j, "condition", condition_name(h->condition));
    json_known(j, "timeline", timeline_of(h));
    json_known(j, "lag_ms", h->lag_ms);
    json_known(j, "lag_bytes", h->lag_bytes);
    json_int(j, "connections_used", h->conns_used);
    json_int(j, "connections_idle", h->conns_idle);
    json_int(j, "connections_waiting", h->conns_waiting);
    json_int(j, "connections_limit", h->conns_limit);
    json_int(j, "connects", (int64_t)h->connects);
    json_int(j, "connects_most_in_a_second", h->connects_most);
    json_known(j, "latency_us", h->latency_us);
    json_known(j, "seen_ms", h->seen_ms);
    json_int(j, "silent_ms", h->silent_ms);
    json_bool(j, "serves_reads", h->serves_reads);
    json_text(j, "why", h->why);
}
