/* What the router asks a server. Every name is qualified, operators too: the caller's search_path is
 * not ours. So there is no NULLIF here, nor IN: they look for an = by that path. */
#include "ask.h"

#include "../base/err.h"

#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How often a server at work looks whether its client is still there. Without it, a statement
 * whose caller gave up runs to its end. Servers before 14 do not know it: its own segment. */
static const char watch_client_sql[] =
    "select pg_catalog.set_config('client_connection_check_interval', '250ms', false)";

#define STARTED                                                                                  \
    "(extract(epoch from pg_catalog.pg_postmaster_start_time()) operator(pg_catalog.*) 1000000)" \
    "::pg_catalog.int8"
/* Statistics that a server keeps over a clean restart begin anew after a crash, also where the
 * postmaster lived on. Servers before 14 do not tell. */
#define INCARNATION                                                                               \
    "(select (extract(epoch from w.stats_reset) operator(pg_catalog.*) 1000000)::pg_catalog.int8" \
    " from pg_catalog.pg_stat_get_wal() w)"
#define IDENTITY(incarnation)                                                                         \
    "select r, pg_catalog.current_setting('transaction_read_only'),"                                  \
    " case when r then (select w.received_tli from pg_catalog.pg_stat_get_wal_receiver() w)"          \
    "  else ('x' operator(pg_catalog.||) pg_catalog.substr(pg_catalog.pg_walfile_name("               \
    "pg_catalog.pg_current_wal_lsn()), 1, 8))::pg_catalog.bit(32)::pg_catalog.int4 end,"              \
    " (select c.system_identifier from pg_catalog.pg_control_system() c),"                            \
    " case when r then pg_catalog.pg_last_wal_replay_lsn() else pg_catalog.pg_current_wal_lsn() end," \
    " pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')),"                      \
    " " STARTED ","                                                                                   \
    " case when r then null else pg_catalog.pg_current_wal_insert_lsn() end," incarnation             \
    ", case when r then null else pg_catalog.pg_last_wal_replay_lsn() end"                            \
    " from pg_catalog.pg_is_in_recovery() r"
static const char identity_sql[] = IDENTITY(INCARNATION);
static const char identity_13_sql[] = IDENTITY("0");

/* Any two servers, and any two lives of one, differ in one of these; true or false, but never NULL.
 * Of what stands in WHERE without a table the server makes sure before it computes anything else. */
#define PROOF(incarnation)                                          \
    "1 operator(pg_catalog.=) (1 operator(pg_catalog./) (" STARTED  \
    " operator(pg_catalog.=) %" PRId64 " and coalesce(" incarnation \
    ", 0) operator(pg_catalog.=) %" PRId64 ")::pg_catalog.int4)"
static const char proof_format[] = PROOF(INCARNATION);
static const char proof_13_format[] = PROOF("0");

static const char stamp_sql[] = "select fleet, shard, shards, map_version from pqrouter.stamp";

static const char map_sql[] = "select s.map_version, s.map, coalesce((select pg_catalog.string_agg("
                              "pg_catalog.encode(p.tenant, 'hex') operator(pg_catalog.||) ':'"
                              " operator(pg_catalog.||) p.shard, ' ') from pqrouter.pin p), '')"
                              " from pqrouter.stamp s";

const char pqi_ask_read_only_sql[] =
    "select pg_catalog.set_config('transaction_read_only', 'on', true)";

/* Ids count only where a crash can be told (TELLS_VERSION): from then on the servers know these
 * functions, too. https://www.postgresql.org/docs/15/functions-info.html */
#define TELLS_VERSION 140000
static const char id_sql[] = "select pg_catalog.pg_current_xact_id()";
static const char id_so_far_sql[] = "select pg_catalog.pg_current_xact_id_if_assigned()";
static const char position_sql[] = "select pg_catalog.pg_current_wal_insert_lsn()";
/* In this order: what a replica has received is at least what it had replayed before. No function in
 * FROM, no text: this stands behind reads, and must cost less than they do. */
static const char how_far_sql[] =
    "select pg_catalog.pg_is_in_recovery(),"
    " case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()"
    "  else pg_catalog.pg_current_wal_insert_lsn() end,"
    " case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_receive_lsn() end,"
    " (select w.received_tli from pg_catalog.pg_stat_get_wal_receiver() w)";

/* The router's own: prepared once on each connection. */
static struct pqi_stmt own(const char *sql)
{
    return (struct pqi_stmt){
        .sql = sql, .own = true, .prepare = true, .hash = pqi_prepared_hash(sql, NULL, 0)};
}

struct pqi_stmt pqi_ask_id(void)
{
    struct pqi_stmt s = own(id_sql);
    s.flush = true;
    s.since = TELLS_VERSION;
    return s;
}

struct pqi_stmt pqi_ask_id_so_far(void)
{
    struct pqi_stmt s = own(id_so_far_sql);
    s.since = TELLS_VERSION;
    return s;
}

struct pqi_stmt pqi_ask_position(void)
{
    struct pqi_stmt s = own(position_sql);
    s.sync = true;
    s.proves = " where ";
    return s;
}

struct pqi_stmt pqi_ask_how_far(void)
{
    return own(how_far_sql);
}

/* Behind a pooler the stamp stands in the same transaction: else it may be another server's. If it
 * cannot be read, the identity has been told by then. */
static struct pqi_stmt identity_stmt(const struct pqi_conn *c)
{
    bool tells = pqi_conn_server_version(c) >= TELLS_VERSION;
    return (struct pqi_stmt){.sql = tells ? identity_sql : identity_13_sql, .sync = !c->pooled};
}

/* Names are looked up in the temporary schema last, not first: a temporary table that something has
 * left in a session does not stand before the real one of that name. */
#define PINS(local)                                                                   \
    "select pg_catalog.set_config('DateStyle', 'ISO', " local "),"                    \
    " pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ',"                \
    " case when pg_catalog.current_setting('search_path') operator(pg_catalog.<>) ''" \
    "  then pg_catalog.current_setting('search_path') end, 'pg_temp'), " local ")"
static const char pins_sql[] = PINS("false");
/* A server's client is the pooler then, which leaves when its own client does. */
static const char local_pins_sql[] = PINS(
    "true") ", case when pg_catalog.current_setting('client_connection_check_interval', true)"
            " is not null then pg_catalog.set_config('client_connection_check_interval',"
            " '250ms', true) end";

/* Who has logged in, and may since have become somebody else. Only where policies count: a table
 * of theirs whose policies do not hold for its owner. Rights may come by being a member, too. */
#define LOGIN(table)                                                                                  \
    "select current_user, pg_catalog.bool_or(r.rolsuper), pg_catalog.bool_or(r.rolbypassrls), " table \
    " from pg_catalog.pg_roles r where r.rolname operator(pg_catalog.=) current_user"                 \
    " or r.rolname operator(pg_catalog.=) session_user"
static const char login_sql[] = LOGIN("''");
static const char login_and_tables_sql[] = LOGIN(
    "(select pg_catalog.format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_class c"
    " join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace"
    " where c.relrowsecurity and not c.relforcerowsecurity"
    " and (pg_catalog.pg_has_role(c.relowner, 'USAGE')"
    "  or pg_catalog.pg_has_role(session_user, c.relowner, 'USAGE')) limit 1)");

static size_t write_timeout(char *to, size_t size, const struct pqi_options *o, const char *local)
{
    if (o->statement_timeout_ms == 0)
        return 0;
    return (size_t)snprintf(to, size,
                            ", pg_catalog.set_config('statement_timeout', '%" PRId64 "ms', %s)",
                            o->statement_timeout_ms, local);
}

void pqi_ask_write_pins(char *to, size_t size, const struct pqi_options *o)
{
    size_t len = (size_t)snprintf(to, size, "%s", local_pins_sql);
    write_timeout(to + len, size - len, o, "true");
}

/* The tenant's setting begins as nobody's, whatever the role or the URL have set it to. */
static void write_pins(char *to, size_t size, const struct pqi_options *o)
{
    size_t len = (size_t)snprintf(to, size, "%s", pins_sql);
    len += write_timeout(to + len, size - len, o, "false");
    if (o->tenant_setting)
        snprintf(to + len, size - len, ", pg_catalog.set_config('%s', '', false)",
                 o->tenant_setting);
}

/* Of the answers the last two are the identity and the stamp; before them stands the login. */
enum { PROBE = 2, HANDSHAKE = 5 };

void pqi_ask_handshake(struct pqi_conn *c, const struct pqi_options *o)
{
    char pins[768];
    const struct pqi_stmt login = {.sql = o->tenant_setting ? login_and_tables_sql : login_sql,
                                   .sync = true};
    const struct pqi_stmt pooled[] = {login, identity_stmt(c), {.sql = stamp_sql, .sync = true}};
    if (c->pooled) {
        pqi_conn_send(c, pooled, PROBE + 1);
        return;
    }
    write_pins(pins, sizeof pins, o);
    const struct pqi_stmt stmts[HANDSHAKE] = {
        {.sql = pins, .sync = true},
        {.sql = watch_client_sql, .sync = true},
        login,
        identity_stmt(c),
        {.sql = stamp_sql, .sync = true},
    };
    pqi_conn_send(c, stmts, HANDSHAKE);
}

void pqi_ask_probe(struct pqi_conn *c)
{
    const struct pqi_stmt stmts[] = {
        identity_stmt(c),
        {.sql = stamp_sql, .sync = true},
    };
    pqi_conn_send(c, stmts, PROBE);
}

static const char look_sql[] =
    "select pg_catalog.hashtextextended(pg_catalog.concat_ws(' ',"
    " (select pg_catalog.string_agg(pg_catalog.concat(s.name, '=', s.setting), ' ' order by s.name)"
    "  from pg_catalog.pg_settings s where s.source operator(pg_catalog.=) 'session'),"
    " (select pg_catalog.count(*) from pg_catalog.pg_locks l where l.locktype operator(pg_catalog.=)"
    "  'advisory' and l.pid operator(pg_catalog.=) pg_catalog.pg_backend_pid()),"
    " pg_catalog.pg_my_temp_schema(),"
    " (select pg_catalog.count(*) from pg_catalog.pg_listening_channels()),"
    " (select pg_catalog.count(*) from pg_catalog.pg_prepared_statements p"
    "  where p.name operator(pg_catalog.!~~) 'pqr%')), 0)";

void pqi_ask_pin_reads(struct pqi_conn *c)
{
    const struct pqi_stmt stmts[] = {
        {.sql = "select pg_catalog.set_config('default_transaction_read_only', 'on', false),"
                " pg_catalog.set_config('default_transaction_isolation', 'read committed', false)",
         .sync = true},
        {.sql = look_sql, .sync = true},
    };
    pqi_conn_send(c, stmts, PQI_LOOK_AT_SESSIONS ? 2 : 1);
}

void pqi_ask_look(struct pqi_conn *c)
{
    const struct pqi_stmt stmt = {.sql = look_sql, .sync = true};
    pqi_conn_send(c, &stmt, 1);
}

static const char *text(const PGresult *r, int column)
{
    return PQgetvalue(r, 0, column);
}

static bool read_identity(const struct pqi_answer *a, struct pqi_sighting *out)
{
    const PGresult *r = a->pg;
    if (a->state != PQI_ANSWER_OK || PQntuples(r) != 1 || PQnfields(r) != 10)
        return false;
    out->role = text(r, 0)[0] == 't' ? PQR_ROLE_REPLICA : PQR_ROLE_PRIMARY;
    out->read_only = strcmp(text(r, 1), "on") == 0;
    out->timeline = (uint32_t)strtoul(text(r, 2), NULL, 10);
    out->system_id = strtoull(text(r, 3), NULL, 10);
    out->segment_bytes = strtoull(text(r, 5), NULL, 10);
    out->started_us = strtoll(text(r, 6), NULL, 10);
    out->incarnation_us = strtoll(text(r, 8), NULL, 10);
    if (!PQgetisnull(r, 0, 7) && !pqi_lsn_parse(text(r, 7), &out->end))
        return false;
    if (!PQgetisnull(r, 0, 9) && !pqi_lsn_parse(text(r, 9), &out->recovered))
        return false;
    /* A replica that has replayed nothing yet has no position: it is behind everything. */
    if (PQgetisnull(r, 0, 4)) {
        out->lsn = 0;
        return true;
    }
    return pqi_lsn_parse(text(r, 4), &out->lsn);
}

static bool read_stamp(const struct pqi_answer *a, struct pqi_stamp *out)
{
    const PGresult *r = a->pg;
    const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
    if (a->state == PQI_ANSWER_ERROR && state && strcmp(state, "42P01") == 0) {
        out->state = PQI_STAMP_NONE;
        return true;
    }
    if (a->state == PQI_ANSWER_ERROR && state && strcmp(state, "42501") == 0) {
        out->state = PQI_STAMP_DENIED;
        return true;
    }
    if (a->state != PQI_ANSWER_OK || PQnfields(r) != 4)
        return false;
    if (PQntuples(r) == 0) {
        out->state = PQI_STAMP_NONE;
        return true;
    }
    return pqi_stamp_read((const char *const[]){text(r, 0), text(r, 1), text(r, 2), text(r, 3)},
                          out);
}

static void read_login(const struct pqi_answer *a, struct pqi_login *out)
{
    const PGresult *r = a->pg;
    if (a->state != PQI_ANSWER_OK || PQntuples(r) != 1 || PQnfields(r) != 4)
        return;
    out->told = !PQgetisnull(r, 0, 1);
    out->superuser = text(r, 1)[0] == 't';
    out->bypasses = text(r, 2)[0] == 't';
    pqi_copy_text(out->role, sizeof out->role, text(r, 0));
    pqi_copy_text(out->table, sizeof out->table, text(r, 3));
}

bool pqi_ask_read_how_far(const struct pqi_answer *a, struct pqi_position *out)
{
    const PGresult *r = a ? a->pg : NULL;
    uint64_t end, received = 0;
    if (!r || a->state != PQI_ANSWER_OK || PQntuples(r) != 1 || PQnfields(r) != 4 ||
        !pqi_lsn_parse(text(r, 1), &end) ||
        (!PQgetisnull(r, 0, 2) && !pqi_lsn_parse(text(r, 2), &received)))
        return false;
    out->replica = text(r, 0)[0] == 't';
    out->timeline = (uint32_t)strtoul(text(r, 3), NULL, 10);
    out->replayed = end;
    out->lsn = out->replica ? pqi_lsn_shown(end, received) : end;
    return true;
}

static const char *error_text(const struct pqi_answer *a)
{
    const char *message = a->pg ? PQresultErrorField(a->pg, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    return message ? message : "no usable answer";
}

static void keep(struct pqi_conn *c, const struct pqi_sighting *s)
{
    c->segment_bytes = s->segment_bytes;
    c->origin = (struct pqi_origin){0};
    if (s->role == PQR_ROLE_PRIMARY)
        c->origin = (struct pqi_origin){s->system_id, s->timeline, s->incarnation_us};
    bool tells = pqi_conn_server_version(c) >= TELLS_VERSION;
    if (c->pooled)
        snprintf(c->proof, sizeof c->proof, tells ? proof_format : proof_13_format, s->started_us,
                 s->incarnation_us);
}

bool pqi_ask_read(struct pqi_conn *c, struct pqi_sighting *out, char *why, size_t why_size)
{
    memset(out, 0, sizeof *out);
    const struct pqi_answer *identity = &c->answers[c->n - 2], *stamp = &c->answers[c->n - 1];
    if (c->n > PROBE)
        read_login(identity - 1, &out->login);
    if (c->n == HANDSHAKE && c->answers[0].state != PQI_ANSWER_OK)
        snprintf(why, why_size, "its settings cannot be pinned: %s", error_text(&c->answers[0]));
    else if (!read_identity(identity, out))
        snprintf(why, why_size, "it does not tell its role: %s", error_text(identity));
    else if (!read_stamp(stamp, &out->stamp))
        snprintf(why, why_size, "its stamp cannot be read: %s", error_text(stamp));
    else
        return keep(c, out), true;
    return false;
}

static const char *told(const struct pqi_answer *a)
{
    bool is = a && a->state == PQI_ANSWER_OK && PQntuples(a->pg) == 1 && PQnfields(a->pg) == 1;
    return is ? text(a->pg, 0) : "";
}

bool pqi_ask_read_id(const struct pqi_answer *a, uint64_t *id)
{
    *id = strtoull(told(a), NULL, 10);
    return *id != 0;
}

void pqi_ask_fate(struct pqi_stmt *out, char *sql, size_t size, uint64_t id)
{
    snprintf(sql, size, "select pg_catalog.pg_xact_status('%" PRIu64 "'::pg_catalog.xid8)", id);
    *out = (struct pqi_stmt){.sql = sql, .sync = true, .proves = " where "};
}

enum pqi_xact pqi_ask_read_fate(const struct pqi_answer *a)
{
    static const struct {
        const char *text;
        enum pqi_xact xact;
    } texts[] = {{"in progress", PQI_XACT_IN_PROGRESS},
                 {"committed", PQI_XACT_COMMITTED},
                 {"aborted", PQI_XACT_ABORTED},
                 {"", PQI_XACT_FORGOTTEN}};
    if (a->state == PQI_ANSWER_ERROR)
        return strcmp(pqi_answer_sqlstate(a), "22023") == 0 ? PQI_XACT_FUTURE : PQI_XACT_UNTOLD;
    if (a->state != PQI_ANSWER_OK || PQntuples(a->pg) != 1 || PQnfields(a->pg) != 1)
        return PQI_XACT_UNTOLD;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(text(a->pg, 0), texts[i].text) == 0)
            return texts[i].xact;
    return PQI_XACT_UNTOLD;
}

bool pqi_ask_moved(const struct pqi_answer *a)
{
    return a->state == PQI_ANSWER_ERROR && strcmp(pqi_answer_sqlstate(a), "22012") == 0;
}

bool pqi_ask_read_position(const struct pqi_conn *c, const struct pqi_answer *a, uint64_t *lsn)
{
    if (!pqi_lsn_parse(told(a), lsn))
        return false;
    *lsn = pqi_lsn_floor(*lsn, c->segment_bytes);
    return true;
}

bool pqi_ask_pinned(const struct pqi_conn *c, char *why, size_t why_size)
{
    if (c->answers[0].state != PQI_ANSWER_OK)
        snprintf(why, why_size, "it cannot be made read only: %s", error_text(&c->answers[0]));
    else if (!pqi_conn_reads_only(c))
        snprintf(why, why_size, "it does not stay read only: is a pooler in between?");
    else
        return true;
    return false;
}

const char *pqi_ask_looked(const struct pqi_conn *c)
{
    const struct pqi_answer *a = &c->answers[c->n - 1];
    return a->state == PQI_ANSWER_OK && PQntuples(a->pg) == 1 ? text(a->pg, 0) : "";
}

void pqi_ask_map(struct pqi_conn *c)
{
    const struct pqi_stmt stmt = {.sql = map_sql, .sync = true, .proves = " where "};
    pqi_conn_send(c, &stmt, 1);
}

int pqi_ask_read_map(struct pqi_conn *c, struct pqi_map **out, pqr_error *err)
{
    const PGresult *r = c->answers[0].pg;
    if (c->answers[0].state != PQI_ANSWER_OK || PQntuples(r) != 1)
        return pqi_err(err, PQR_E_MAP, "the shard map cannot be read: %s",
                       error_text(&c->answers[0]));
    struct pqi_map *map;
    int code = pqi_map_parse(&map, text(r, 1), err);
    if (code != PQR_OK)
        return code;
    map->version = strtoll(text(r, 0), NULL, 10);
    code = pqi_map_read_pins(map, text(r, 2), err);
    if (code == PQR_OK)
        *out = map;
    else
        pqi_map_free(map);
    return code;
}
