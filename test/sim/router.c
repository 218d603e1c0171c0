/* The router in the fleet. */
#include "router.h"

#include "check.h"
#include "cluster.h"
#include "turns.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRAIN_MS 500

void sim_set(struct sim_variables *v, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(v->text[v->n], sizeof v->text[0], format, args);
    va_end(args);
    v->env[v->n] = v->text[v->n];
    sim_say("option: %s", v->text[v->n]);
    v->n++;
}

static void set_url(struct sim_variables *v, const char *variable, int shard, int node, bool names)
{
    char host[32];
    snprintf(host, sizeof host, names ? "n%d-%d.sim" : "10.0.%d.%d", shard, node);
    sim_set(v, "%s=postgres://u@%s/app?sslmode=disable", variable, host);
}

void sim_set_urls(struct sim_variables *v, bool names)
{
    char name[64];
    if (sim_fleet.n > 1)
        sim_set(v, "DATABASE_SHARD_COUNT=%d", sim_fleet.n);
    for (int i = 0; i < sim_fleet.n; i++)
        for (int j = 0; j < sim_fleet.shard[i].n; j++) {
            snprintf(name, sizeof name, "DATABASE_");
            if (sim_fleet.n > 1)
                snprintf(name + strlen(name), sizeof name - strlen(name), "SHARD_%d_", i);
            else if (j == 0)
                snprintf(name + strlen(name), sizeof name - strlen(name), "PRIMARY_");
            if (j > 0)
                snprintf(name + strlen(name), sizeof name - strlen(name), "REPLICA_%d_", j);
            strcat(name, "URL");
            set_url(v, name, i, j, names);
        }
}

/* Whom the router follows when the known primary is silent, by accident or not, has the history that
 * counts: there is no way back. */
static void followed(const char *text, uint32_t timeline)
{
    char role[16] = "";
    int shard = 0, number = 0;
    const char *node = strstr(text, ": ");
    sscanf(text, "shard%d", &shard);
    if (!node || sscanf(node, ": %*[^/]/%15[a-z]%d", role, &number) < 1)
        return;
    struct sim_server *s = sim_server_at(shard, strcmp(role, "primary") == 0 ? 0 : number);
    s->shard->followed = timeline;
    if (s->primary && s->timeline > s->shard->primary->timeline)
        sim_counts(s);
}

static void on_log(void *arg, int level, const char *event, const char *text)
{
    const char *timeline = strstr(text, "is primary, timeline ");
    (void)arg, (void)level;
    sim_say("log: %s: %s", event, text);
    if (strcmp(event, "primary_is") == 0 && timeline)
        followed(text, (uint32_t)strtoul(timeline + strlen("is primary, timeline "), NULL, 10));
}

static void expect_empty(void)
{
    for (int i = 0; i < sim_fleet.n; i++)
        for (int j = 0; j < sim_fleet.shard[i].n; j++)
            if (sim_fleet.shard[i].server[j].nbackends > 0)
                sim_violated("the router is closed, and %d of its connections to %s are not",
                             sim_fleet.shard[i].server[j].nbackends,
                             sim_fleet.shard[i].server[j].name);
}

pqr *sim_open(struct sim_variables *v)
{
    pqr *db = NULL;
    pqr_error err;
    if (pqr_open(&db, PQR_OPTIONS(.env = v->env, .log = on_log), &err) != PQR_OK)
        sim_violated("the router does not open: %s", err.message);
    return db;
}

void sim_close(pqr *db)
{
    int64_t begun = sim_now();
    pqr_close(db, DRAIN_MS);
    sim_check_time("pqr_close", begun, DRAIN_MS, &(pqr_error){0});
    sim_sleep(1 * SECOND);
    expect_empty();
}
