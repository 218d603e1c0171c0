/* What is wrong with a fleet. One function a question; each looks at a node, or at a group: the
 * servers of a shard, or of the control database, which stand side by side. */
#include "judge.h"

#include "memory.h"
#include "say.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct group {
    const struct fleet *fleet;
    int first, end; /* its nodes */
    int number;     /* -1: the control database */
    char name[32];
    int voice; /* who speaks for it: its primary, else the first that answered; -1: nobody */
};

static const pqr_node_health *health(const struct fleet *f, int node)
{
    return &f->look.nodes[node];
}

static bool answered(const struct fleet *f, int node)
{
    return f->facts[node].err.code == PQR_OK;
}

static bool same_cluster(const struct fleet *f, int a, int b)
{
    return answered(f, a) && answered(f, b) && strcmp(f->facts[a].system, f->facts[b].system) == 0;
}

static bool takes_writes(const struct fleet *f, int node)
{
    return answered(f, node) && health(f, node)->role == PQR_ROLE_PRIMARY;
}

/* A group is the cluster that most of its servers are of; the others got into it by mistake. */
static int find_voice(const struct group *g)
{
    const struct fleet *f = g->fleet;
    int voice = -1, most = 0;
    for (int i = g->first; i < g->end; i++) {
        int alike = 0;
        for (int k = g->first; k < g->end; k++)
            alike += same_cluster(f, i, k);
        bool better = alike > most || (alike == most && alike > 0 && same_cluster(f, i, voice) &&
                                       takes_writes(f, i) && !takes_writes(f, voice));
        if (better) {
            voice = i;
            most = alike;
        }
    }
    return voice;
}

/* The group that begins with this node. */
static struct group group_at(const struct fleet *f, int first)
{
    struct group g = {.fleet = f, .first = first, .number = health(f, first)->shard};
    for (g.end = first; g.end < f->look.n && health(f, g.end)->shard == g.number;)
        g.end++;
    g.voice = find_voice(&g);
    if (g.number < 0)
        snprintf(g.name, sizeof g.name, "control");
    else
        snprintf(g.name, sizeof g.name, "shard%d", g.number);
    return g;
}

static struct group group_of(const struct fleet *f, int node)
{
    while (node > 0 && health(f, node - 1)->shard == health(f, node)->shard)
        node--;
    return group_at(f, node);
}

/* It answered, and is of another cluster than its group. */
static bool foreign(const struct group *g, int node)
{
    return answered(g->fleet, node) && !same_cluster(g->fleet, node, g->voice);
}

static const struct facts *voice_of(const struct group *g)
{
    return g->voice >= 0 ? &g->fleet->facts[g->voice] : NULL;
}

/* ---- Who answers, who is primary ------------------------------------------------------------ */

static void judge_reach(const struct fleet *f, int node, struct findings *out)
{
    static const char reach[] = "check address, port and firewall, and that the server runs";
    const pqr_node_health *h = health(f, node);
    const pqr_error *err = &f->facts[node].err;
    bool late = err->code == PQR_E_DEADLINE && h->why[0] != '\0'; /* the router has seen more */
    bool login = err->code == PQR_E_AUTH || (late && h->condition == PQR_NODE_NO_LOGIN);
    static const pqr_error no_room = {.code = PQR_E_CONNECT, .sqlstate = "53300"};
    bool full = strcmp(err->sqlstate, "53300") == 0 || (late && h->condition == PQR_NODE_FULL);
    const char *advice = pqr_code_advice(err->code);
    if (full)
        advice = advice_for(&no_room);
    else if (late || err->code == PQR_E_CONNECT)
        advice = reach;
    if (err->code == PQR_OK)
        return;
    if (late)
        finding(out, IS_ERROR, login ? "login" : "unreachable", h->node, advice, "%s (%s)", h->why,
                h->address);
    else
        finding(out, IS_ERROR, login ? "login" : "unreachable", h->node, advice, "%s%s%s",
                err->message, err->sqlstate[0] ? ", SQLSTATE " : "", err->sqlstate);
}

/* The same server, named twice, is one. */
static bool rivals(const struct group *g, int node)
{
    const struct fleet *f = g->fleet;
    return takes_writes(f, node) && !foreign(g, node) &&
           !facts_same_server(&f->facts[node], voice_of(g));
}

/* Where nobody answers it has been said of each server why. */
static void judge_primary(const struct group *g, struct findings *out)
{
    if (g->voice >= 0 && !takes_writes(g->fleet, g->voice))
        finding(out, IS_ERROR, "no_primary", g->name,
                "wait for the failover to end, or correct its URLs",
                "no server answers as its primary: it takes no writes");
    for (int i = g->first; i < g->end; i++)
        if (rivals(g, i))
            finding(out, IS_ERROR, "several_primaries", health(g->fleet, i)->node,
                    "make one of them a replica, or take it out of the configuration",
                    "it takes writes, and so does %s", health(g->fleet, g->voice)->node);
}

/* ---- Whose server it is --------------------------------------------------------------------- */

/* The group, but `but`, whose cluster this is; its name "": none. */
static struct group group_of_system(const struct fleet *f, const char *system, int but)
{
    for (int i = 0; i < f->look.n;) {
        struct group g = group_at(f, i);
        if (g.number != but && g.voice >= 0 && strcmp(voice_of(&g)->system, system) == 0)
            return g;
        i = g.end;
    }
    return (struct group){.voice = -1};
}

static void judge_system(const struct group *g, struct findings *out)
{
    const struct fleet *f = g->fleet;
    for (int i = g->first; i < g->end; i++) {
        if (!foreign(g, i))
            continue;
        struct group other = group_of_system(f, f->facts[i].system, g->number);
        finding(out, IS_ERROR, "other_cluster", health(f, i)->node, "correct its URL",
                "it belongs to %s%s, not to that of %s: its system identifier is %s, not %s",
                other.name[0] ? "the cluster of " : "another cluster", other.name,
                health(f, g->voice)->node, f->facts[i].system, voice_of(g)->system);
    }
}

/* Two groups that are one cluster. Said once, of the later one; what judge_same_server tells is
 * not told twice. */
static void judge_twin(const struct group *g, struct findings *out)
{
    const struct fleet *f = g->fleet;
    struct group other = {.voice = -1};
    if (g->voice >= 0)
        other = group_of_system(f, voice_of(g)->system, g->number);
    if (other.voice < 0 || other.first > g->first ||
        facts_same_server(voice_of(g), voice_of(&other)))
        return;
    if (takes_writes(f, g->voice))
        finding(out, IS_WARNING, "copied_cluster", g->name,
                "make sure that its URLs lead where they should",
                "it has the system identifier of %s: one was made as a copy of the other",
                other.name);
    else
        finding(out, IS_ERROR, "other_cluster", health(f, g->voice)->node, "correct its URL",
                "it is a replica of %s", other.name);
}

static void judge_same_server(const struct group *g, int node, struct findings *out)
{
    const struct fleet *f = g->fleet;
    const struct facts *facts = f->facts;
    const pqr_node_health *h = health(f, node);
    int first = 0;
    while (first < node && !facts_same_server(&facts[first], &facts[node]))
        first++;
    if (first == node || foreign(g, node))
        return;
    struct group other = group_of(f, first);
    const char *name = health(f, first)->node;
    if (strcmp(facts[first].database, facts[node].database) != 0)
        finding(out, IS_WARNING, "same_server", h->node,
                "give it a server of its own if load matters",
                "it is on the same server as %s: they share its connections", name);
    else if (other.first == g->first)
        finding(out, IS_WARNING, "same_server", h->node, "name each server once",
                "it is the same server as %s: reads and connections count it twice", name);
    else if (!foreign(&other, first))
        finding(out, IS_ERROR, "same_database", h->node, "correct its URL",
                "it is the same database as %s", name);
}

/* ---- Stamps --------------------------------------------------------------------------------- */

static const char init_advice[] = "run pqrouter init, or apply the SQL of pqrouter init --sql";

static void judge_unstamped(const struct group *g, struct findings *out)
{
    const struct measure *m = &g->fleet->measure;
    if (m->fleet[0])
        finding(
            out, IS_ERROR, "unstamped", g->name, init_advice,
            "it has no stamp, and DATABASE_FLEET_ID expects fleet \"%s\": every call is refused",
            m->fleet);
    else if (m->shards >= 2 && g->number >= 0)
        finding(out, IS_ERROR, "unstamped", g->name, init_advice,
                "it has no stamp: it takes no writes");
    else if (m->sharded)
        finding(out, IS_WARNING, "unstamped", g->name, init_advice,
                "it has no stamp: nothing would tell it from another database");
}

static void called(const struct stamp *s, char *buf, size_t size)
{
    if (s->shard < 0)
        snprintf(buf, size, "the control database");
    else
        snprintf(buf, size, "shard %d", s->shard);
}

/* The fleet that its neighbours are stamped as. */
static const char *expected_fleet(const struct fleet *f)
{
    if (f->measure.fleet[0])
        return f->measure.fleet;
    for (int i = 0; i < f->look.n;) {
        struct group g = group_at(f, i);
        if (g.voice >= 0 && voice_of(&g)->stamp.state == STAMP_READ)
            return voice_of(&g)->stamp.fleet;
        i = g.end;
    }
    return "";
}

static void judge_stamp_read(const struct group *g, const struct stamp *s, struct findings *out)
{
    const struct measure *m = &g->fleet->measure;
    const char *fleet = expected_fleet(g->fleet), *where = health(g->fleet, g->voice)->node;
    char name[32];
    called(s, name, sizeof name);
    if (strcmp(s->fleet, fleet) != 0)
        finding(out, IS_ERROR, "wrong_stamp", where, "correct its URL, or DATABASE_FLEET_ID",
                "it is stamped as %s of fleet \"%s\", not of fleet \"%s\"", name, s->fleet, fleet);
    else if (s->shard != g->number)
        finding(out, IS_ERROR, "wrong_stamp", where, "correct its URL",
                "it is configured as %s, and stamped as %s of fleet \"%s\"", g->name, name,
                s->fleet);
    else if (s->shards > m->shards && g->number >= 0 && !(m->shards == 0 && s->shards == 1))
        finding(out, IS_ERROR, "map", where, "configure every shard that the map knows",
                "its shard map has %d shards, and DATABASE_SHARD_COUNT is %" PRId64, s->shards,
                m->shards);
}

static void judge_stamp(const struct group *g, struct findings *out)
{
    const struct facts *voice = voice_of(g);
    if (!voice)
        return;
    if (voice->stamp.state == STAMP_NONE)
        judge_unstamped(g, out);
    else if (voice->stamp.state == STAMP_DENIED)
        finding(out, IS_ERROR, "stamp_denied", health(g->fleet, g->voice)->node,
                "grant usage on schema pqrouter and select on all tables in it to the role",
                "role %s may not read its stamp", voice->role);
    else if (voice->stamp.state == STAMP_READ)
        judge_stamp_read(g, &voice->stamp, out);
}

/* A pin that was written to some shards only. */
static void judge_map_versions(const struct fleet *f, struct findings *out)
{
    struct group newest = {.voice = -1}, oldest = {.voice = -1};
    for (int i = 0; i < f->look.n;) {
        struct group g = group_at(f, i);
        i = g.end;
        if (g.number < 0 || g.voice < 0 || voice_of(&g)->stamp.state != STAMP_READ)
            continue;
        int64_t version = voice_of(&g)->stamp.map_version;
        if (newest.voice < 0 || version > voice_of(&newest)->stamp.map_version)
            newest = g;
        if (oldest.voice < 0 || version < voice_of(&oldest)->stamp.map_version)
            oldest = g;
    }
    if (newest.voice < 0 ||
        voice_of(&newest)->stamp.map_version == voice_of(&oldest)->stamp.map_version)
        return;
    finding(out, IS_WARNING, "map_versions", oldest.name,
            "run the last pqrouter pin again: it may have failed half-way",
            "its shard map is version %" PRId64 ", that of %s is %" PRId64,
            voice_of(&oldest)->stamp.map_version, newest.name,
            voice_of(&newest)->stamp.map_version);
}

/* ---- Rights and rooms ----------------------------------------------------------------------- */

static void judge_role(const struct group *g, struct findings *out)
{
    const struct facts *voice = voice_of(g);
    if (!voice)
        return;
    if (voice->superuser)
        finding(out, IS_WARNING, "superuser", g->name, "give the application a role of its own",
                "role %s is a superuser: no right and no limit holds for it", voice->role);
    for (int i = g->first; i < g->end; i++) {
        const struct facts *f = &g->fleet->facts[i];
        if (!answered(g->fleet, i) || foreign(g, i) || takes_writes(g->fleet, i) || f->monitor)
            continue;
        char *advice = format_text("on its primary: grant pg_monitor to %s", f->role);
        finding(out, IS_WARNING, "no_pg_monitor", health(g->fleet, i)->node, advice,
                "role %s is no member of pg_monitor: which timeline this replica follows cannot be "
                "proven, so sessions that have seen a write do not read from it",
                f->role);
        free(advice);
        return; /* its neighbours have the same roles */
    }
}

int64_t judge_need(const struct fleet *f, int node)
{
    int64_t urls = 0;
    for (int i = 0; i < f->look.n; i++)
        urls += facts_same_server(&f->facts[i], &f->facts[node]);
    return f->measure.connection_limit * urls;
}

/* What it is that allows no more. */
static char *bound_by(const struct facts *s)
{
    int64_t room = facts_room(s);
    if (room == s->role_connections)
        return format_text("the connection limit of role %s", s->role);
    if (room == s->db_connections)
        return format_text("the connection limit of database %s", s->database);
    return format_text("max_connections %" PRId64 " less %" PRId64 " reserved", s->max_connections,
                       s->reserved);
}

/* Servers of one group are mostly alike: then it is said of the first. */
static bool alike_before(const struct group *g, int node)
{
    const struct facts *facts = g->fleet->facts;
    for (int i = g->first; i < node; i++)
        if (answered(g->fleet, i) && facts_room(&facts[i]) == facts_room(&facts[node]) &&
            facts[i].max_connections == facts[node].max_connections &&
            judge_need(g->fleet, i) == judge_need(g->fleet, node))
            return true;
    return false;
}

static void judge_room(const struct group *g, int node, struct findings *out)
{
    const struct fleet *f = g->fleet;
    const struct facts *s = &f->facts[node];
    const char *where = health(f, node)->node;
    if (!answered(f, node) || alike_before(g, node))
        return;
    int64_t need = judge_need(f, node), most = f->measure.max_connections;
    char *bound = bound_by(s);
    if (need > facts_room(s))
        finding(
            out, IS_WARNING, "connections", where, "lower DB_CONNECTION_LIMIT, or raise that limit",
            "one process may open %" PRId64 " connections there, and %" PRId64 " are allowed: %s",
            need, facts_room(s), bound);
    if (most > 0 && need > most)
        finding(out, IS_WARNING, "connections", where, "lower DB_CONNECTION_LIMIT",
                "one process may open %" PRId64
                " connections there, and DB_MAX_CONNECTIONS is %" PRId64,
                need, most);
    if (most > s->max_connections)
        finding(out, IS_WARNING, "max_connections", where,
                "correct DB_MAX_CONNECTIONS, or leave it out",
                "DB_MAX_CONNECTIONS is %" PRId64 ", and the server's max_connections %" PRId64,
                most, s->max_connections);
    free(bound);
}

/* ---- Reads ---------------------------------------------------------------------------------- */

static void judge_reads(const struct group *g, struct findings *out)
{
    const struct fleet *f = g->fleet;
    if (g->voice < 0 || !takes_writes(f, g->voice) || f->measure.primary_only)
        return; /* without a primary nobody knows how far they are behind */
    for (int i = g->first; i < g->end; i++) {
        const pqr_node_health *h = health(f, i);
        if (answered(f, i) && !foreign(g, i) && h->role == PQR_ROLE_REPLICA && !h->serves_reads)
            finding(out, IS_WARNING, "no_reads", h->node,
                    "see how its replication goes: pqrouter topology --watch 1",
                    "it serves no reads: %s", h->why);
    }
}

/* ---- All ------------------------------------------------------------------------------------ */

static void praise(const struct group *g, struct findings *out)
{
    const struct fleet *f = g->fleet;
    const struct stamp *s = &voice_of(g)->stamp;
    int replicas = 0, serving = 0;
    for (int i = g->first; i < g->end; i++) {
        bool replica = health(f, i)->role == PQR_ROLE_REPLICA;
        replicas += replica;
        serving += replica && health(f, i)->serves_reads;
    }
    char *stamp = s->state == STAMP_READ ? format_text("stamped for fleet %s, map version %" PRId64,
                                                       s->fleet, s->map_version)
                                         : copy_text("not stamped");
    char *reads = replicas > 0 ? format_text("%d of %d replicas serve reads", serving, replicas)
                               : copy_text("it has no replicas");
    finding(out, IS_OK, "ok", g->name, NULL, "%s takes writes; %s; %s", health(f, g->voice)->node,
            reads, stamp);
    free(stamp);
    free(reads);
}

static void judge_group(const struct group *g, struct findings *out)
{
    int errors = out->errors;
    for (int i = g->first; i < g->end; i++)
        judge_reach(g->fleet, i, out);
    judge_primary(g, out);
    judge_system(g, out);
    judge_twin(g, out);
    for (int i = g->first; i < g->end; i++)
        judge_same_server(g, i, out);
    judge_role(g, out);
    for (int i = g->first; i < g->end; i++)
        judge_room(g, i, out);
    int before = out->errors;
    judge_stamp(g, out);
    if (out->errors == before) /* else nobody reads there at all */
        judge_reads(g, out);
    if (out->errors == errors)
        praise(g, out);
}

void judge(const struct fleet *f, struct findings *out)
{
    for (int i = 0; i < f->look.n;) {
        struct group g = group_at(f, i);
        judge_group(&g, out);
        i = g.end;
    }
    judge_map_versions(f, out);
}
