/* What goes wrong: each fault is a thread that breaks something, waits, and mends it. */
#include "faults.h"

#include "backend.h"
#include "check.h"
#include "cluster.h"
#include "net.h"
#include "turns.h"

#include <string.h>

#define AT_ONCE_MAX 4

struct fault {
    const char *name;
    int weight;
    bool roles; /* changes who is primary: one at a time in a shard */
    bool silences;
    void (*run)(struct sim_server *s);
};

struct running {
    const struct fault *fault;
    struct sim_server *server;
    struct sim_thread *thread;
    bool over;
};

static struct running running[AT_ONCE_MAX];
static bool roles_change[SIM_SHARDS_MAX];
static bool
    disputed[SIM_SHARDS_MAX]; /* two are primary, with a synchronous standby: no silence now */

static void wait_between(int64_t least_ms, int64_t most_ms)
{
    sim_sleep(sim_between(SIM_FAULTS, least_ms * MS, most_ms * MS));
}

/* ---- Small ones ----------------------------------------------------------------------------- */

static void crash(struct sim_server *s)
{
    sim_crash(s, sim_odds(SIM_FAULTS, 30));
    wait_between(5, 900);
    sim_start(s);
}

static void restart(struct sim_server *s)
{
    sim_shut_down(s);
    wait_between(5, 500);
    sim_start(s);
}

static void crash_backends(struct sim_server *s)
{
    sim_crash_backends(s);
}

static void hang(struct sim_server *s)
{
    sim_stop(s, true);
    wait_between(20, 2500);
    sim_stop(s, false);
}

static void cut(struct sim_server *s)
{
    int way = (int)sim_below(SIM_FAULTS, 4);
    sim_cut(s, way != 1, way != 2);
    wait_between(20, 2500);
    sim_cut(s, false, false);
}

static void slow(struct sim_server *s)
{
    s->slow = sim_between(SIM_FAULTS, 1 * MS, 400 * MS);
    sim_say("server: %s is slow: %d ms more", s->name, (int)(s->slow / MS));
    wait_between(100, 2000);
    s->slow = 0;
}

static void far_away(struct sim_server *s)
{
    int64_t least = s->host.latency_least, most = s->host.latency_most;
    if (most >= 5 * MS)
        return; /* it is already */
    s->host.latency_least = 5 * MS;
    s->host.latency_most = 80 * MS;
    wait_between(100, 2000);
    s->host.latency_least = least;
    s->host.latency_most = most;
}

static void pause_replay(struct sim_server *s)
{
    sim_pause(s, true);
    wait_between(50, 3000);
    sim_pause(s, false);
}

static void terminate(struct sim_server *s)
{
    struct sim_backend *b = s->backends;
    for (uint64_t n = s->nbackends > 0 ? sim_below(SIM_FAULTS, (uint64_t)s->nbackends) : 0; n > 0;
         n--)
        b = b->next;
    if (b && s->state == SIM_UP && !s->stopped)
        sim_backend_terminate(b);
}

static struct sim_conn *draw_conn(const struct sim_server *s)
{
    struct sim_backend *b = s->backends;
    for (uint64_t n = s->nbackends > 0 ? sim_below(SIM_FAULTS, (uint64_t)s->nbackends) : 0; n > 0;
         n--)
        b = b->next;
    return b ? b->conn : NULL;
}

/* At any byte. */
static void cut_connection(struct sim_server *s)
{
    struct sim_conn *c = draw_conn(s);
    if (c)
        c->cut_after = sim_between(SIM_FAULTS, 1, 300);
}

/* Its answers are lost, and nobody says so. */
static void swallow(struct sim_server *s)
{
    struct sim_conn *c = draw_conn(s);
    if (c)
        sim_say("net: what is said on connection %d is lost", c->number);
    if (c)
        c->swallows = true;
}

static void fill_up(struct sim_server *s)
{
    s->hogs = s->max_connections;
    wait_between(50, 1500);
    s->hogs = 0;
}

static void jump_clock(struct sim_server *s)
{
    s->clock_us += sim_between(SIM_FAULTS, -86400, 86400) * 1000000;
}

/* ---- Who is primary ------------------------------------------------------------------------- */

/* Of those that follow the primary the one that has most; with a synchronous standby no other one
 * will do. NULL: it is not there. */
static struct sim_server *best_standby(struct sim_shard *shard)
{
    struct sim_server *best = NULL;
    for (int i = 0; i < shard->n; i++) {
        struct sim_server *s = &shard->server[i];
        if (s == shard->primary || s->primary || !sim_leads_to(s, shard->primary))
            continue;
        if (shard->sync ? !best || s->received > best->received
                        : s->state == SIM_UP && !s->stopped && (!best || sim_odds(SIM_FAULTS, 50)))
            best = s;
    }
    return best && best->state == SIM_UP && !best->stopped ? best : NULL;
}

/* One that has what the primary has not cannot: somebody makes it anew, or nobody as yet. */
static void follow(struct sim_server *s, struct sim_server *primary)
{
    if (sim_leads_to(s, primary) || sim_odds(SIM_FAULTS, 50))
        sim_follow(s, primary);
    else
        sim_rejoin(s, primary);
}

static void others_follow(struct sim_server *primary)
{
    struct sim_shard *shard = primary->shard;
    for (int i = 0; i < shard->n; i++)
        if (&shard->server[i] != primary && !shard->server[i].primary)
            follow(&shard->server[i], primary);
}

static void promote(struct sim_server *s, bool counts)
{
    sim_promote(s, counts);
    while (s->promoting && !sim_violation())
        sim_sleep(1 * MS);
}

/* The old primary is dead, gone, hung or cut off; one of its standbys takes over. Later it comes
 * back: as it was, on its old line (a fork), or as a standby. */
static void fail_over(struct sim_server *s)
{
    struct sim_server *old = s->shard->primary;
    uint64_t how = sim_below(SIM_FAULTS, 5);
    if (how == 0)
        sim_stop(old, true);
    else if (how == 1)
        sim_cut(old, true, true);
    else
        sim_crash(old, how == 2);
    wait_between(20, 700);
    struct sim_server *next = best_standby(s->shard);
    if (next) {
        sim_count.failovers++;
        if (s->shard->sync) /* or the old one could go on with them */
            others_follow(next);
        promote(next, true);
        wait_between(0, 200);
        others_follow(next);
        wait_between(5, 1500);
    }
    if (how == 0)
        sim_stop(old, false);
    else if (how == 1)
        sim_cut(old, false, false);
    else if (!next || sim_odds(SIM_FAULTS, 50))
        sim_start(old);
    if (next) {
        wait_between(1, 800);
        sim_rejoin(old, next);
    }
}

static void switch_over(struct sim_server *s)
{
    struct sim_server *old = s->shard->primary, *next = best_standby(s->shard);
    if (!next)
        return;
    sim_shut_down(old);
    wait_between(5, 100);
    next = best_standby(s->shard);
    if (!next) {
        sim_start(old);
        return;
    }
    promote(next, true);
    wait_between(0, 200);
    others_follow(next);
    sim_rejoin(old, next);
}

static bool unwell(const struct sim_shard *shard)
{
    bool is = false;
    for (int i = 0; i < shard->n; i++) {
        const struct sim_server *s = &shard->server[i];
        is |= s->state != SIM_UP || s->stopped || s->host.cut[0] || s->host.cut[1] || s->slow > 0 ||
              s->host.latency_most >= 5 * MS || s->hogs > 0;
    }
    return is;
}

/* A standby is promoted beside the living primary; in the end one of the two has to go. */
static void promote_by_accident(struct sim_server *s)
{
    struct sim_server *old = s->shard->primary, *rival = best_standby(s->shard);
    if (!rival || (s->shard->sync && unwell(s->shard)))
        return;
    sim_count.accidents++;
    disputed[s->shard->number] = s->shard->sync;
    promote(rival, false);
    wait_between(100, 2500);
    /* If the router follows it by now, since the old one was silent for long, there is no way back:
     * a line is never left for an older one. */
    bool followed = s->shard->followed >= rival->timeline || (!s->shard->sync && unwell(s->shard));
    if (!followed && (s->shard->sync || sim_odds(SIM_FAULTS, 50))) { /* it was a mistake */
        disputed[s->shard->number] = true;
        sim_crash(rival, false);
        rival->host.visible_since = 0;
        wait_between(1, 300);
        sim_rejoin(rival, old);
        sim_sleep(200 * MS); /* nobody connects to it: so it is known to be gone */
    } else {
        sim_counts(rival);
        sim_crash(old, false);
        others_follow(rival);
        wait_between(1, 800);
        sim_rejoin(old, rival);
    }
}

/* ---- All of them ---------------------------------------------------------------------------- */

static const struct fault faults[] = {
    {"crash", 10, true, false, crash},
    {"restart", 6, true, false, restart},
    {"crash of backends", 6, true, false, crash_backends},
    {"hang", 10, false, true, hang},
    {"cut", 10, false, true, cut},
    {"slow", 6, false, true, slow},
    {"far away", 4, false, true, far_away},
    {"replay paused", 8, false, false, pause_replay},
    {"terminate", 12, false, false, terminate},
    {"connection cut", 12, false, false, cut_connection},
    {"answers swallowed", 6, false, false, swallow},
    {"full", 4, false, true, fill_up},
    {"clock", 3, false, false, jump_clock},
    {"failover", 14, true, false, fail_over},
    {"switchover", 5, true, false, switch_over},
    {"accidental promotion", 7, true, false, promote_by_accident},
};

static const struct fault *draw_fault(void)
{
    int sum = 0, n = sizeof faults / sizeof *faults, i = 0;
    for (i = 0; i < n; i++)
        sum += faults[i].weight;
    int at = (int)sim_below(SIM_FAULTS, (uint64_t)sum);
    for (i = 0; at >= faults[i].weight; i++)
        at -= faults[i].weight;
    return &faults[i];
}

static void run(void *arg)
{
    struct running *r = arg;
    r->fault->run(r->server);
    if (r->fault->roles)
        roles_change[r->server->shard->number] = disputed[r->server->shard->number] = false;
    r->over = true;
}

static void begin(struct running *r)
{
    const struct fault *f = draw_fault();
    struct sim_shard *shard = &sim_fleet.shard[sim_below(SIM_FAULTS, (uint64_t)sim_fleet.n)];
    struct sim_server *s = &shard->server[sim_below(SIM_FAULTS, (uint64_t)shard->n)];
    if (f->roles && roles_change[shard->number])
        return;
    if (!f->roles && (s->state == SIM_DOWN || (f->silences && disputed[shard->number])))
        return;
    if (f->roles)
        roles_change[shard->number] = true;
    sim_count.faults++;
    sim_say("fault: %s, %s", f->name, s->name);
    *r = (struct running){.fault = f, .server = s};
    r->thread = sim_spawn("fault", run, r);
}

void sim_faults(int64_t until, int most)
{
    memset(running, 0, sizeof running);
    memset(roles_change, 0, sizeof roles_change);
    memset(disputed, 0, sizeof disputed);
    while (sim_now() < until && !sim_violation()) {
        wait_between(10, 600);
        for (int i = 0; i < most; i++)
            if (!running[i].thread || running[i].over) {
                begin(&running[i]);
                break;
            }
    }
    for (int i = 0; i < most; i++)
        while (running[i].thread && !running[i].over && !sim_violation())
            sim_sleep(1 * MS);
    /* What a server cannot get over by itself: it has what the others have not. */
    for (int i = 0; i < sim_fleet.n; i++) {
        struct sim_shard *shard = &sim_fleet.shard[i];
        for (int j = 0; j < shard->n; j++) {
            struct sim_server *s = &shard->server[j];
            if (s->state == SIM_DOWN)
                sim_start(s);
            if (s != shard->primary && (s->primary || s->upstream != shard->primary || !s->streams))
                sim_rejoin(s, shard->primary);
        }
    }
}
