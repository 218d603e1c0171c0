/* Model PostgreSQL servers. */
#include "cluster.h"

#include "turns.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_XID 700
#define FIRST_LSN UINT64_C(0x3000060)
#define RETRY (50 * MS) /* a receiver tries again so often */

struct sim_fleet sim_fleet;
static const struct sim_sessions *sessions;

static void set_state(struct sim_server *s, enum sim_state state)
{
    s->state = state;
    s->host.listens = state != SIM_DOWN;
}

/* ---- The log -------------------------------------------------------------------------------- */

static void keep(struct sim_server *s, struct sim_rec *rec)
{
    if (s->received == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 64;
        s->log = realloc(s->log, (size_t)s->cap * sizeof *s->log);
        if (!s->log)
            abort();
    }
    s->log[s->received++] = rec;
}

static struct sim_rec *make(struct sim_server *s, uint64_t xid, const struct sim_append *appends,
                            int n)
{
    struct sim_shard *shard = s->shard;
    struct sim_rec *rec = calloc(1, sizeof *rec);
    if (shard->nall == shard->cap) {
        shard->cap = shard->cap ? shard->cap * 2 : 64;
        shard->all = realloc(shard->all, (size_t)shard->cap * sizeof *shard->all);
    }
    if (!rec || !shard->all)
        abort();
    uint64_t last = s->received > 0 ? s->log[s->received - 1]->lsn : FIRST_LSN;
    *rec = (struct sim_rec){.lsn = last + 8 * sim_below(SIM_SERVERS, 40) + 56,
                            .timeline = s->timeline,
                            .xid = xid ? xid : s->next_xid++,
                            .n = n,
                            .lost = s != shard->primary};
    if (n > 0)
        memcpy(rec->append, appends, (size_t)n * sizeof *appends);
    shard->all[shard->nall++] = rec;
    keep(s, rec);
    s->replayed = s->received;
    return rec;
}

uint64_t sim_server_lsn(const struct sim_server *s)
{
    return s->replayed > 0 ? s->log[s->replayed - 1]->lsn : FIRST_LSN;
}

int sim_server_shown(const struct sim_server *s)
{
    return s->replayed;
}

void sim_counts(struct sim_server *s)
{
    struct sim_shard *shard = s->shard;
    shard->primary = s;
    for (int i = 0; i < shard->nall; i++)
        shard->all[i]->lost = true;
    for (int i = 0; i < s->received; i++)
        s->log[i]->lost = false;
}

/* ---- Replication ---------------------------------------------------------------------------- */

static void replay(void *arg, uint64_t life);
static void ship(void *arg, uint64_t life);

static void expect_replay(struct sim_server *s)
{
    if (s->replaying || s->primary || s->paused || s->replayed == s->received)
        return;
    s->replaying = true;
    sim_at(sim_now() + sim_between(SIM_SERVERS, s->replay_delay / 4, s->replay_delay), replay, s,
           s->life);
}

static void replay(void *arg, uint64_t life)
{
    struct sim_server *s = arg;
    if (life != s->life)
        return;
    s->replaying = false;
    if (s->state != SIM_UP || s->primary || s->paused)
        return;
    if (!s->stopped && !s->host.down)
        s->replayed += (int)sim_between(SIM_SERVERS, 1, s->received - s->replayed);
    expect_replay(s);
}

static bool reaches(const struct sim_server *a, const struct sim_server *b)
{
    return a->state == SIM_UP && b->state == SIM_UP && !a->host.down && !b->host.down &&
           !a->stopped && !b->stopped && !(a->host.cut[0] && a->host.cut[1]) &&
           !(b->host.cut[0] && b->host.cut[1]);
}

bool sim_leads_to(const struct sim_server *s, const struct sim_server *up)
{
    int n = s->received;
    return n <= up->received && (n == 0 || s->log[n - 1] == up->log[n - 1]);
}

static void expect_ship(struct sim_server *s, int64_t in)
{
    if (s->shipping || !s->upstream || s->state != SIM_UP)
        return;
    s->shipping = true;
    sim_at(sim_now() + in, ship, s, s->life);
}

static void kick(struct sim_server *primary)
{
    struct sim_shard *shard = primary->shard;
    for (int i = 0; i < shard->n; i++)
        if (shard->server[i].upstream == primary)
            expect_ship(&shard->server[i], sim_net_latency(&shard->server[i].host));
}

/* The primary hears how far a standby is. */
static void hear(void *arg, uint64_t tag)
{
    struct sim_server *s = arg, *up = s->upstream;
    (void)tag;
    if (!up || !up->primary || !reaches(s, up) || !s->streams)
        return;
    for (int i = 0; i < s->received && i < up->received; i++)
        if (up->log[i]->hidden_on == up)
            up->log[i]->hidden_on = NULL;
    sessions->look(up);
}

static void ship(void *arg, uint64_t life)
{
    struct sim_server *s = arg, *up = s->upstream;
    if (life != s->life)
        return;
    s->shipping = false;
    if (!up || s->state != SIM_UP)
        return;
    s->streams = reaches(s, up) && up->primary && sim_leads_to(s, up);
    if (!s->streams) {
        expect_ship(s, RETRY);
        return;
    }
    s->timeline = up->timeline;
    while (s->received < up->received)
        keep(s, up->log[s->received]);
    sim_at(sim_now() + sim_net_latency(&s->host), hear, s, 0);
    expect_replay(s);
}

void sim_follow(struct sim_server *s, struct sim_server *upstream)
{
    s->upstream = upstream;
    s->streams = false;
    expect_ship(s, sim_net_latency(&s->host));
}

void sim_pause(struct sim_server *s, bool pause)
{
    s->paused = pause;
    expect_replay(s);
}

struct sim_rec *sim_commit(struct sim_server *s, uint64_t xid, const struct sim_append *appends,
                           int n)
{
    struct sim_rec *rec = make(s, xid, appends, n);
    if (s->shard->sync)
        rec->hidden_on = s;
    sessions->committed(s, rec);
    kick(s);
    return rec;
}

/* ---- Life and death ------------------------------------------------------------------------- */

static int64_t server_clock_us(const struct sim_server *s)
{
    return INT64_C(1700000000000000) + sim_now() / US + s->clock_us;
}

/* The log is all that is known of ids: those that were given and are not in it are given again. */
static void forget_ids(struct sim_server *s)
{
    s->next_xid = FIRST_XID;
    for (int i = 0; i < s->received; i++)
        if (s->log[i]->xid >= s->next_xid)
            s->next_xid = s->log[i]->xid + 1;
}

/* After a crash it replays again from its last restart point. */
static void fall_back(struct sim_server *s)
{
    if (!s->clean)
        forget_ids(s);
    s->clean = false;
    if (!s->primary)
        s->replayed -= (int)sim_below(SIM_SERVERS,
                                      (uint64_t)(s->replayed < 8 ? s->replayed : 8) + 1);
    for (int i = 0; s->primary && i < s->received; i++)
        if (s->log[i]->hidden_on == s)
            s->log[i]->hidden_on = NULL;
}

static void new_life(struct sim_server *s)
{
    s->life++;
    s->shipping = s->replaying = s->streams = s->promoting = false;
}

static void up(void *arg, uint64_t life)
{
    struct sim_server *s = arg;
    if (life != s->life || s->state != SIM_STARTING)
        return;
    set_state(s, SIM_UP);
    sim_say("server: %s is up as %s, timeline %u", s->name, s->primary ? "primary" : "standby",
            s->timeline);
    expect_ship(s, 1 * MS);
    expect_replay(s);
    kick(s);
}

void sim_start(struct sim_server *s)
{
    s->host.down = s->stopped = false;
    if (s->state != SIM_DOWN)
        return;
    new_life(s);
    set_state(s, SIM_STARTING);
    s->started_us = server_clock_us(s);
    if (!s->clean) /* else its statistics are kept */
        s->incarnation_us = s->started_us;
    fall_back(s);
    sim_say("server: %s starts", s->name);
    sim_at(sim_now() + sim_between(SIM_SERVERS, 20 * MS, 400 * MS), up, s, s->life);
}

void sim_crash(struct sim_server *s, bool machine)
{
    if (s->state == SIM_DOWN)
        return;
    sim_say("server: %s %s", s->name, machine ? "is gone, with its machine" : "is killed");
    new_life(s);
    set_state(s, SIM_DOWN);
    s->host.down = machine;
    sessions->end(s, machine ? SIM_END_VANISH : SIM_END_KILLED);
}

void sim_shut_down(struct sim_server *s)
{
    if (s->state == SIM_DOWN)
        return;
    sim_say("server: %s shuts down", s->name);
    sessions->end(s, SIM_END_TERMINATED);
    /* It waits for its standbys to have all. */
    for (int i = 0; s->primary && i < s->shard->n; i++) {
        struct sim_server *standby = &s->shard->server[i];
        if (standby->upstream == s && reaches(standby, s) && sim_leads_to(standby, s)) {
            while (standby->received < s->received)
                keep(standby, s->log[standby->received]);
            expect_replay(standby);
        }
    }
    new_life(s);
    s->clean = true;
    set_state(s, SIM_DOWN);
}

void sim_crash_backends(struct sim_server *s)
{
    if (s->state != SIM_UP || s->stopped || s->promoting)
        return;
    sim_say("server: %s: a backend was killed, all end", s->name);
    sessions->end(s, SIM_END_CRASH);
    new_life(s);
    set_state(s, SIM_STARTING);
    s->incarnation_us = server_clock_us(s);
    fall_back(s);
    sim_at(sim_now() + sim_between(SIM_SERVERS, 20 * MS, 200 * MS), up, s, s->life);
}

void sim_stop(struct sim_server *s, bool stop)
{
    sim_say("server: %s %s", s->name, stop ? "hangs" : "goes on");
    s->stopped = stop;
    if (!stop) {
        sessions->look(s);
        expect_ship(s, 1 * MS);
    }
}

void sim_cut(struct sim_server *s, bool to_server, bool to_client)
{
    sim_say("net: %s: %s", s->name,
            to_server && to_client ? "cut off"
            : to_server            ? "hears nothing"
            : to_client            ? "is not heard"
                                   : "is connected");
    s->host.cut[TO_SERVER] = to_server;
    s->host.cut[TO_CLIENT] = to_client;
}

static void promoted(void *arg, uint64_t life)
{
    struct sim_server *s = arg;
    if (life != s->life || s->state != SIM_UP)
        return;
    s->promoting = false;
    s->paused = false;
    s->replayed = s->received;
    s->primary = true;
    forget_ids(s);
    s->timeline = ++s->shard->last_timeline;
    make(s, 0, NULL, 0);
    sim_say("server: %s is promoted, timeline %u%s", s->name, s->timeline,
            s->shard->primary == s ? "" : ", by accident");
    kick(s);
}

void sim_promote(struct sim_server *s, bool counts)
{
    if (s->state != SIM_UP || s->primary || s->promoting)
        return;
    sim_say("server: %s is to be promoted%s", s->name, counts ? "" : ", by accident");
    s->upstream = NULL;
    s->streams = false;
    s->promoting = true;
    if (counts)
        sim_counts(s);
    sim_at(sim_now() + sim_between(SIM_SERVERS, 10 * MS, 300 * MS), promoted, s, s->life);
}

void sim_rejoin(struct sim_server *s, struct sim_server *upstream)
{
    if (s->state != SIM_DOWN)
        sim_crash(s, false);
    sim_say("server: %s rejoins as a standby of %s", s->name, upstream->name);
    s->clean = s->primary = false;
    s->paused = false;
    s->host.visible_since = 0;
    s->received = 0;
    while (s->received < upstream->received)
        keep(s, upstream->log[s->received]);
    s->replayed = s->received;
    s->timeline = upstream->timeline;
    s->upstream = upstream;
    sim_start(s);
}

/* ---- Questions ------------------------------------------------------------------------------ */

struct sim_server *sim_server_at(int shard, int index)
{
    return &sim_fleet.shard[shard].server[index];
}

/* ---- Beginning and end ---------------------------------------------------------------------- */

static void begin_server(struct sim_shard *shard, int i)
{
    struct sim_server *s = &shard->server[i];
    snprintf(s->name, sizeof s->name, "s%d/n%d", shard->number, i);
    s->shard = shard;
    s->index = i;
    s->host.name = s->name;
    set_state(s, SIM_UP);
    sim_net_place(shard->number, i, &s->host);
    s->host.latency_least = 50 * US;
    s->host.latency_most = s->host.latency_least + sim_between(SIM_SERVERS, 10 * US, 1 * MS);
    s->replay_delay = sim_odds(SIM_SERVERS, 25) ? sim_between(SIM_SERVERS, 20 * MS, 400 * MS)
                                                : sim_between(SIM_SERVERS, 100 * US, 10 * MS);
    s->primary = i == 0;
    s->timeline = 1;
    s->next_xid = FIRST_XID;
    s->clock_us = sim_between(SIM_SERVERS, -3600, 3600) * 1000000;
    s->started_us = s->incarnation_us = server_clock_us(s) - sim_between(SIM_SERVERS, 1, 99999999);
    s->max_connections = 100;
    s->monitors = true;
    if (i > 0) {
        s->upstream = &shard->server[0];
        s->streams = true;
    }
}

void sim_fleet_begin(int shards, int replicas, const struct sim_sessions *theirs)
{
    sessions = theirs;
    sim_fleet = (struct sim_fleet){.n = shards};
    for (int i = 0; i < shards; i++) {
        struct sim_shard *shard = &sim_fleet.shard[i];
        shard->number = i;
        shard->n = 1 + replicas;
        shard->system_id = UINT64_C(7000000000000000000) + (uint64_t)i;
        shard->last_timeline = 1;
        shard->stamped = shards > 1 || sim_odds(SIM_SERVERS, 50);
        for (int j = 0; j < shard->n; j++)
            begin_server(shard, j);
        shard->primary = &shard->server[0];
    }
}

void sim_fleet_over(void)
{
    for (int i = 0; i < sim_fleet.n; i++) {
        struct sim_shard *shard = &sim_fleet.shard[i];
        for (int j = 0; j < shard->nall; j++)
            free(shard->all[j]);
        free(shard->all);
        for (int j = 0; j < shard->n; j++)
            free(shard->server[j].log);
    }
}
