/* What is wrong with a fleet. One function a question; each looks at a node, or at a group: the
 * servers of a shard, or of the control database, which stand side by side. */
#include "judge.h"

#include "memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct group {
    const struct fleet *fleet;
    int first, end; /* its nodes */
    int number;     /* -1: the control database */
    char name[32];
    int primaries;
    int primary; /* the first server that takes writes; -1: none */
    int voice;   /* who speaks for it: the primary, else the first that answered; -1: nobody */
};

static const pqr_node_health *health(const struct fleet *f, int node)
{
    return &f->look.nodes[node];
}

static bool answered(const struct fleet *f, int node)
{
    return f->facts[node].err.code == PQR_OK;
}

static bool takes_writes(const struct fleet *f, int node)
{
    return answered(f, node) && health(f, node)->role == PQR_ROLE_PRIMARY;
}

/* The next group from this node on. */
static struct group group_at(const struct fleet *f, int first)
{
    struct group g = {
        .fleet = f, .first = first, .number = health(f, first)->shard, .primary = -1, .voice = -1};
    for (g.end = first; g.end < f->look.n && health(f, g.end)->shard == g.number; g.end++) {
        bool primary = takes_writes(f, g.end);
        g.primaries += primary;
        if (primary && g.primary < 0)
            g.primary = g.end;
        if (answered(f, g.end) && g.voice < 0)
            g.voice = g.end;
    }
    if (g.primary >= 0)
        g.voice = g.primary;
    if (g.number < 0)
        snprintf(g.name, sizeof g.name, "control");
    else
        snprintf(g.name, sizeof g.name, "shard%d", g.number);
    return g;
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
    bool login = err->code == PQR_E_AUTH;
    const char *advice = late || err->code == PQR_E_CONNECT ? reach : pqr_code_advice(err->code);
    if (err->code == PQR_OK)
        return;
    if (late)
        finding(out, IS_ERROR, "unreachable", h->node, advice, "%s (%s)", h->why, h->address);
    else
        finding(out, IS_ERROR, login ? "login" : "unreachable", h->node, advice, "%s%s%s",
                err->message, err->sqlstate[0] ? ", SQLSTATE " : "", err->sqlstate);
}

static void judge_primary(const struct group *g, struct findings *out)
{
    if (g->primaries == 0)
        finding(out, IS_ERROR, "no_primary", g->name, pqr_code_advice(PQR_E_NO_PRIMARY),
                "no server answers as its primary: it takes no writes");
    if (g->primaries < 2)
        return;
    char *names = copy_text("");
    for (int i = g->first; i < g->end; i++)
        if (takes_writes(g->fleet, i)) {
            char *more = format_text("%s%s%s", names, *names ? ", " : "",
                                     health(g->fleet, i)->node);
            free(names);
            names = more;
        }
    finding(out, IS_ERROR, "several_primaries", g->name,
            "make all but one of them its replicas, or take them out of the configuration",
            "%d servers take writes: %s", g->primaries, names);
    free(names);
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
        if (!answered(f, i) || strcmp(f->facts[i].system, voice_of(g)->system) == 0)
            continue;
        struct group other = group_of_system(f, f->facts[i].system, g->number);
        finding(out, IS_ERROR, "other_cluster", health(f, i)->node, "correct its URL",
                "it belongs to %s%s, not to the cluster of %s: its system identifier is %s, not %s",
                other.name[0] ? "the cluster of " : "another cluster", other.name,
                health(f, g->voice)->node, f->facts[i].system, voice_of(g)->system);
    }
}

static void judge_twin(const struct group *g, struct findings *out)
{
    const struct fleet *f = g->fleet;
    struct group other = voice_of(g) ? group_of_system(f, voice_of(g)->system, g->number)
                                     : (struct group){.voice = -1};
    /* Said once, of the later one; same servers are told of below. */
    if (other.voice < 0 || other.first > g->first ||
        facts_same_server(voice_of(g), voice_of(&other)))
        return;
    if (g->primary < 0)
        finding(out, IS_ERROR, "other_cluster", health(f, g->voice)->node, "correct its URL",
                "it is a replica of %s", other.name);
    else
        finding(out, IS_WARNING, "copied_cluster", g->name,
                "make sure that its URLs lead where they should",
                "it has the system identifier of %s: one was made as a copy of the other",
                other.name);
}

static bool same_database(const struct facts *a, const struct facts *b)
{
    return strcmp(a->database, b->database) == 0;
}

static void judge_same_server(const struct fleet *f, int node, struct findings *out)
{
    const pqr_node_health *h = health(f, node), *other;
    int first = 0;
    while (first < node && !facts_same_server(&f->facts[first], &f->facts[node]))
        first++;
    if (first == node)
        return;
    other = health(f, first);
    if (!same_database(&f->facts[first], &f->facts[node]))
        finding(out, IS_WARNING, "same_server", h->node,
                "give it a server of its own if load matters",
                "it is on the same server as %s: they share its connections", other->node);
    else if (h->shard == other->shard)
        finding(out, IS_WARNING, "same_server", h->node, "name each server once",
                "it is the same server as %s: reads and connections count it twice", other->node);
    else
        finding(out, IS_ERROR, "same_database", h->node, "correct its URL",
                "it is the same database as %s", other->node);
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
        if (!answered(g->fleet, i) || takes_writes(g->fleet, i) || f->monitor)
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

static void judge_room(const struct fleet *f, int node, struct findings *out)
{
    const struct facts *s = &f->facts[node];
    const char *where = health(f, node)->node;
    int64_t need = answered(f, node) ? judge_need(f, node) : 0, most = f->measure.max_connections;
    if (!answered(f, node))
        return;
    if (need > facts_room(s))
        finding(out, IS_WARNING, "connections", where,
                "lower DB_CONNECTION_LIMIT, or raise the limit of the server, role or database",
                "this process may open %" PRId64 " connections there, and %" PRId64 " are allowed "
                "(max_connections %" PRId64 ", %" PRId64
                " of them reserved; the role's limit %" PRId64 ", the database's %" PRId64
                "; -1 is none)",
                need, facts_room(s), s->max_connections, s->reserved, s->role_connections,
                s->db_connections);
    if (most > 0 && need > most)
        finding(out, IS_WARNING, "connections", where, "lower DB_CONNECTION_LIMIT",
                "this process may open %" PRId64
                " connections there, and DB_MAX_CONNECTIONS is %" PRId64,
                need, most);
    if (most > s->max_connections)
        finding(out, IS_WARNING, "max_connections", where,
                "correct DB_MAX_CONNECTIONS, or leave it out",
                "DB_MAX_CONNECTIONS is %" PRId64 ", and the server's max_connections %" PRId64,
                most, s->max_connections);
}

/* ---- Reads ---------------------------------------------------------------------------------- */

static void judge_reads(const struct group *g, struct findings *out)
{
    const struct fleet *f = g->fleet;
    if (g->primaries != 1 || f->measure.primary_only)
        return; /* without a primary nobody knows how far they are behind */
    for (int i = g->first; i < g->end; i++) {
        const pqr_node_health *h = health(f, i);
        if (answered(f, i) && h->role == PQR_ROLE_REPLICA && !h->serves_reads)
            finding(out, IS_WARNING, "no_reads", h->node,
                    "see how its replication goes: pqrouter topology --watch 1",
                    "it serves no reads: %s", h->why);
    }
}

/* ---- All ------------------------------------------------------------------------------------ */

static void praise(const struct group *g, struct findings *out)
{
    const struct facts *voice = voice_of(g);
    int replicas = 0, serving = 0;
    for (int i = g->first; i < g->end; i++) {
        const pqr_node_health *h = health(g->fleet, i);
        replicas += h->role == PQR_ROLE_REPLICA;
        serving += h->role == PQR_ROLE_REPLICA && h->serves_reads;
    }
    char *stamp = voice->stamp.state != STAMP_READ
                      ? copy_text("not stamped")
                      : format_text("stamped for fleet %s, map version %" PRId64,
                                    voice->stamp.fleet, voice->stamp.map_version);
    finding(out, IS_OK, "ok", g->name, NULL, "%s takes writes, %d replica%s reads; %s",
            health(g->fleet, g->primary)->node, replicas, replicas == 1 ? " serves" : "s serve",
            stamp);
    free(stamp);
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
        judge_same_server(g->fleet, i, out);
    judge_stamp(g, out);
    judge_role(g, out);
    for (int i = g->first; i < g->end; i++)
        judge_room(g->fleet, i, out);
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
