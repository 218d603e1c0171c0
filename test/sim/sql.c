/* The statements that model servers understand: the router's own, and a few of callers'. Whoever
 * teaches the router a new one adds a row here. */
#include "backend.h"
#include "check.h"
#include "net.h"
#include "turns.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The router's --------------------------------------------------------------------------- */

static void format_lsn(char out[24], uint64_t lsn)
{
    snprintf(out, 24, "%" PRIX64 "/%" PRIX64, lsn >> 32, lsn & 0xffffffff);
}

static void identity(struct sim_backend *b)
{
    const struct sim_server *s = b->server;
    char timeline[16], system[24], lsn[24], started[24], incarnation[24];
    bool only = !s->primary || b->reads_only;
    snprintf(timeline, sizeof timeline, "%u", s->timeline);
    snprintf(system, sizeof system, "%" PRIu64, s->shard->system_id);
    snprintf(started, sizeof started, "%" PRId64, s->started_us);
    snprintf(incarnation, sizeof incarnation, "%" PRId64, s->incarnation_us);
    format_lsn(lsn, sim_server_lsn(s));
    bool tells = s->primary || (s->streams && s->monitors);
    const char *values[] = {s->primary ? "f" : "t",
                            only ? "on" : "off",
                            tells ? timeline : NULL,
                            system,
                            lsn,
                            "16777216",
                            started,
                            s->primary ? lsn : NULL,
                            incarnation,
                            NULL}; /* where it was promoted: as if it was restarted since */
    sim_row(b, 10, values);
    sim_done(b, "SELECT 1");
    /* The first one is a handshake, and may be any caller's; the others are the monitor's. */
    b->told_primary = s->primary && b->identities++ > 0;
}

static void stamp(struct sim_backend *b)
{
    char shard[8], shards[8];
    snprintf(shard, sizeof shard, "%d", b->server->shard->number);
    snprintf(shards, sizeof shards, "%d", sim_fleet.n);
    const char *values[] = {"fleet", shard, shards, "1"};
    b->conn->tells = b->told_primary; /* with this answer the router knows */
    if (!b->server->shard->stamped) {
        sim_error(b, "42P01", "relation \"pqrouter.stamp\" does not exist");
        return;
    }
    sim_row(b, 4, values);
    sim_done(b, "SELECT 1");
}

static void login(struct sim_backend *b)
{
    const char *values[] = {"u", "f", "f", ""};
    sim_row(b, 4, values);
    sim_done(b, "SELECT 1");
}

static void map(struct sim_backend *b)
{
    char ranges[96] = "";
    for (int i = 0, n = sim_fleet.n; i < n; i++)
        snprintf(ranges + strlen(ranges), sizeof ranges - strlen(ranges), "%s%d-%d:%d",
                 i ? " " : "", (i * 16384 + n - 1) / n, ((i + 1) * 16384 + n - 1) / n - 1, i);
    const char *values[] = {"1", ranges, ""};
    sim_row(b, 3, values);
    sim_done(b, "SELECT 1");
}

static void set(struct sim_backend *b, const char *name, const char *value, bool local)
{
    bool on = strcmp(value, "on") == 0;
    if (strcmp(name, "default_transaction_read_only") == 0 && !local)
        b->reads_only = on;
    else if (strcmp(name, "transaction_read_only") == 0 && on)
        b->local_only = true;
    else if (strcmp(name, "client_connection_check_interval") == 0)
        b->checks_client = true;
}

/* Each "set_config('NAME', 'VALUE', LOCAL)" of a list; other values than texts are not looked at. */
static void set_config(struct sim_backend *b)
{
    const char *values[16];
    int n = 0;
    for (const char *at = b->portal->sql; (at = strstr(at, "set_config(")) && n < 16; n++) {
        char name[64] = "", value[64] = "", local[8] = "";
        int got = sscanf(at, "set_config('%63[^']', '%63[^']', %7[a-z])", name, value, local);
        if (got == 3)
            set(b, name, value, strcmp(local, "true") == 0);
        values[n] = "set";
        at++;
    }
    sim_row(b, n, values);
    sim_done(b, "SELECT 1");
}

/* What ask.c's look_sql asks for: anything that tells one state of a session from another. */
static void look(struct sim_backend *b)
{
    char text[32];
    snprintf(text, sizeof text, "%d", b->temporary * 1000 + b->listening);
    const char *values[] = {text};
    sim_row(b, 1, values);
    sim_done(b, "SELECT 1");
}

static void begin(struct sim_backend *b)
{
    const char *sql = b->portal->sql;
    if (strstr(sql, "read only"))
        b->local_only = true;
    b->serializable = strstr(sql, "serializable") != NULL;
    b->block = 'T';
    sim_done(b, "BEGIN");
}

static void commit(struct sim_backend *b)
{
    if (b->block == 'T') {
        sim_commit_block(b);
        return;
    }
    sim_abort_block(b);
    b->block = 'I';
    sim_done(b, "ROLLBACK");
}

static void rollback(struct sim_backend *b)
{
    sim_abort_block(b);
    b->block = 'I';
    sim_done(b, "ROLLBACK");
}

static void discard_temp(struct sim_backend *b)
{
    b->temporary = 0;
    sim_done(b, "DISCARD TEMP");
}

static void unlisten(struct sim_backend *b)
{
    b->unlistens_at_commit = true;
    b->listens_at_commit = 0;
    sim_done(b, "UNLISTEN");
}

static void deallocate(struct sim_backend *b)
{
    sim_done(b, "DEALLOCATE");
    sim_deallocate(b, b->portal->sql + strlen("deallocate "));
}

/* An id is given once; but after a crash, and to a promoted standby, what is in the log is all that
 * is known of those that were given. */
static void give_id(struct sim_backend *b)
{
    char id[24];
    const char *values[] = {id};
    if (!b->server->primary) {
        sim_error(b, "25006", "cannot execute pg_current_xact_id() during recovery");
        return;
    }
    if (b->xid == 0)
        b->xid = b->server->next_xid++;
    snprintf(id, sizeof id, "%" PRIu64, b->xid);
    sim_row(b, 1, values);
    sim_done(b, "SELECT 1");
}

static void tell_id(struct sim_backend *b)
{
    char id[24];
    if (b->xid == 0 && b->n > 0)
        b->xid = b->server->next_xid++;
    snprintf(id, sizeof id, "%" PRIu64, b->xid);
    const char *values[] = {b->xid ? id : NULL};
    sim_row(b, 1, values);
    sim_done(b, "SELECT 1");
}

static void tell_position(struct sim_backend *b)
{
    char lsn[24];
    const char *values[] = {lsn};
    format_lsn(lsn, sim_server_lsn(b->server));
    if (!b->server->primary) {
        sim_error(b, "55000", "recovery is in progress");
        return;
    }
    sim_row(b, 1, values);
    sim_done(b, "SELECT 1");
}

static void tell_fate(struct sim_backend *b)
{
    const struct sim_server *s = b->server;
    const char *at = strchr(b->portal->sql, '\''), *fate = "aborted";
    uint64_t xid = at ? strtoull(at + 1, NULL, 10) : 0;
    if (xid >= s->next_xid) {
        sim_error(b, "22023", "transaction ID is in the future");
        return;
    }
    for (const struct sim_backend *other = s->backends; other; other = other->next)
        if (other->xid == xid)
            fate = "in progress";
    for (int i = 0; i < sim_server_shown(s) && strcmp(fate, "aborted") == 0; i++)
        if (s->log[i]->xid == xid)
            fate = "committed";
    sim_row(b, 1, &fate);
    sim_done(b, "SELECT 1");
}

/* ---- Callers' ------------------------------------------------------------------------------- */

/* Whose unit of work this is: nothing of another one's may be left in the session. */
static bool alone_here(struct sim_backend *b, const char *unit)
{
    int number = atoi(unit);
    if (b->temporary && b->temporary != number)
        sim_violated("%s: unit %d finds a temporary table of unit %d's", b->server->name, number,
                     b->temporary);
    else if (b->listening && b->listening != number)
        sim_violated("%s: unit %d finds a channel that unit %d listens to", b->server->name, number,
                     b->listening);
    else
        return true;
    return false;
}

/* insert into log…(tenant, key, uid, unit) */
static bool insert(struct sim_backend *b)
{
    if (!alone_here(b, b->param[3]) || !sim_may_write(b))
        return false;
    if (b->n == SIM_APPENDS_MAX) {
        sim_error(b, "54000", "too many for one transaction");
        return false;
    }
    b->append[b->n++] = (struct sim_append){atoi(b->param[0]), atoi(b->param[1]),
                                            atoi(b->param[2])};
    sim_check_ran(b->server, atoi(b->param[2]));
    return true;
}

static void append(struct sim_backend *b)
{
    if (insert(b))
        sim_done(b, "INSERT 0 1");
}

/* By a function that leaves a temporary table and listens. */
static void append_untidily(struct sim_backend *b)
{
    if (!insert(b))
        return;
    b->temporary = b->listens_at_commit = atoi(b->param[3]);
    sim_done(b, "INSERT 0 1");
}

static void append_in_vain(struct sim_backend *b)
{
    if (insert(b))
        sim_error(b, "23505", "duplicate key value violates unique constraint");
}

static void append_wrongly(struct sim_backend *b)
{
    if (!insert(b))
        return;
    b->deferred_fault = true;
    sim_done(b, "INSERT 0 1");
}

static void list_uids(char *out, size_t size, const struct sim_append *appends, int n, int tenant,
                      int key)
{
    for (int i = 0; i < n; i++)
        if (appends[i].tenant == tenant && appends[i].key == key)
            snprintf(out + strlen(out), size - strlen(out), "%s%d", *out ? "," : "",
                     appends[i].uid);
}

/* The uids of a key, in their order; and beside them those that a standby may show, and this primary
 * not yet (the long fork). */
static void read_key(struct sim_backend *b)
{
    struct sim_server *s = b->server;
    int tenant = atoi(b->param[0]), key = atoi(b->param[1]);
    char uids[4096] = "", hidden[1024] = "";
    if (!alone_here(b, b->param[2]))
        return;
    for (int i = 0; i < sim_server_shown(s); i++) {
        const struct sim_rec *rec = s->log[i];
        bool hides = rec->hidden_on == s;
        list_uids(hides ? hidden : uids, hides ? sizeof hidden : sizeof uids, rec->append, rec->n,
                  tenant, key);
    }
    list_uids(uids, sizeof uids, b->append, b->n, tenant, key);
    const char *values[] = {b->param[0], b->param[1], uids, hidden};
    sim_row(b, 4, values);
    sim_done(b, "SELECT 1");
}

/* ---- The table ------------------------------------------------------------------------------ */

/* clang-format off */
static const struct sim_statement statements[] = {
    {"select r, pg_catalog.current_setting(", NULL, "r,o,t,i,l,b,s,e,n,p", identity, 20, 200, false},
    {"select fleet, shard, shards, map_version from pqrouter.stamp", NULL, "f,s,n,v", stamp, 10, 100, false},
    {"select current_user, pg_catalog.bool_or(", NULL, "u,s,b,t", login, 5, 20, false},
    {"select s.map_version, s.map,", NULL, "v,m,p", map, 10, 100, false},
    {"select pg_catalog.hashtextextended(", NULL, "h", look, 10, 50, false},
    {"select pg_catalog.set_config(", NULL, "*", set_config, 5, 20, false},
    {"select pg_catalog.pg_current_xact_id()", NULL, "x", give_id, 5, 20, false},
    {"select pg_catalog.pg_current_xact_id_if_assigned()", NULL, "x", tell_id, 5, 20, false},
    {"select pg_catalog.pg_current_wal_insert_lsn()", NULL, "l", tell_position, 5, 20, false},
    {"select pg_catalog.pg_xact_status('", NULL, "s", tell_fate, 5, 20, false},
    {"begin isolation level ", NULL, NULL, begin, 5, 20, false},
    {"commit", NULL, NULL, commit, 5, 20, true},
    {"rollback", NULL, NULL, rollback, 5, 20, true},
    {"discard temp", NULL, NULL, discard_temp, 5, 20, false},
    {"unlisten *", NULL, NULL, unlisten, 5, 20, false},
    {"deallocate ", NULL, NULL, deallocate, 5, 20, false},

    {"insert into log(", NULL, NULL, append, 30, 1000, false},
    {"insert into untidy_log(", NULL, NULL, append_untidily, 30, 1000, false},
    {"insert into unique_log(", NULL, NULL, append_in_vain, 30, 300, false},
    {"insert into deferred_log(", NULL, NULL, append_wrongly, 30, 300, false},
    {"insert into slow_log(", NULL, NULL, append, 1000, 300000, false},
    {"select tenant, key, uids, hidden from log ", NULL, "t,k,u,h", read_key, 20, 500, false},
    {"select tenant, key, uids, hidden from slow_log ", NULL, "t,k,u,h", read_key, 1000, 300000, false},
    {"select append(", NULL, "t", append, 30, 300, false},
};
/* clang-format on */

const struct sim_statement *sim_statement_of(const char *sql)
{
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        const struct sim_statement *s = &statements[i];
        if (strncmp(sql, s->text, strlen(s->text)) == 0 && (!s->has || strstr(sql, s->has)))
            return s;
    }
    return NULL;
}
