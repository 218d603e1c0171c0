/* Stamps and pins. Reads every shard's stamp first, so that nothing is written anywhere when one
 * of them is of another fleet; then writes shard by shard, each in one transaction. */
#include "init.h"

#include "../base/bytes.h"
#include "../base/err.h"
#include "../base/mem.h"
#include "../plan/slot.h"
#include "../run/health.h"
#include "../run/router.h"
#include "../run/shard.h"
#include "../run/statement.h"
#include "../run/txn.h"
#include "../wire/result.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const schema_sql[] = {
    "create schema if not exists pqrouter",
    "create table if not exists pqrouter.stamp (\n"
    "  only_row boolean primary key default true check (only_row),\n"
    "  fleet text not null,\n"
    "  shard integer not null,           -- -1: the control database\n"
    "  shards integer not null,          -- how many the map knows\n"
    "  map_version bigint not null,\n"
    "  map text not null,                -- ranges of slots and their shard\n"
    "  stamped_at timestamptz not null default pg_catalog.now())",
    "create table if not exists pqrouter.pin (\n"
    "  tenant bytea primary key,\n"
    "  shard integer not null)",
    "create table if not exists pqrouter.outcome (\n"
    "  tenant bytea not null,\n"
    "  key text not null,                -- the idempotency key of a write or transaction that is done\n"
    "  tag text,                         -- what it answered\n"
    "  at timestamptz not null default pg_catalog.now(),\n"
    "  primary key (tenant, key))",
    "create index if not exists outcome_at on pqrouter.outcome (at)",
    "grant usage on schema pqrouter to public",
    "grant select on pqrouter.stamp, pqrouter.pin to public",
    "grant select, insert, update on pqrouter.outcome to public",
};

/* What the fleet's stamps say, or will. */
struct fleet {
    char id[64];
    int64_t version; /* 0: no shard is stamped yet */
    int shards;
    char *map;
    bool *stamped; /* one a group */
    bool *whole;   /* likewise: stamped, and all tables are there */
};

static void free_fleet(struct fleet *f)
{
    pqi_mem_free(f->map);
    pqi_mem_free(f->stamped);
    pqi_mem_free(f->whole);
}

static int one_statement(struct pqi_shard *s, int64_t deadline_ms, bool write, const pqr_query *q,
                         pqr_result **res, pqr_error *err)
{
    const pqr_session_options o = {.size = sizeof o, .deadline_ms = deadline_ms};
    struct pqr_session *session;
    int code = pqi_session_open(s->db, &o, &session, err);
    if (code != PQR_OK)
        return code;
    session->fixed = s;
    session->stamping = true;
    code = write ? pqi_write(session, q, res, err) : pqi_read(session, &q, 1, res, err);
    pqi_session_close(session);
    return code;
}

static const char *value(const pqr_result *res, size_t column)
{
    struct pqi_value v;
    return pqi_result_value(res, 0, column, &v) && !v.null ? v.bytes : "";
}

/* ---- What is there already ------------------------------------------------------------------ */

/* Takes the newest map of all; every stamped shard must be of one fleet and of its own number. */
static int take_stamp(struct fleet *f, struct pqi_shard *s, int group, const pqr_result *res,
                      pqr_error *err)
{
    const char *fleet = value(res, 0);
    int shard = atoi(value(res, 1));
    int64_t version = strtoll(value(res, 3), NULL, 10);
    bool other_fleet = f->id[0] != '\0' && strcmp(f->id, fleet) != 0;
    if (other_fleet || shard != s->number) {
        int code = pqi_err(
            err, PQR_E_WRONG_SHARD,
            "%s is stamped as shard %d of fleet \"%s\", not as shard %d of fleet \"%s\": "
            "nothing was written; correct its URL, or DATABASE_FLEET_ID",
            s->name, shard, fleet, s->number, other_fleet ? f->id : fleet);
        if (err)
            err->shard = s->number;
        return code;
    }
    snprintf(f->id, sizeof f->id, "%s", fleet);
    f->stamped[group] = true;
    f->whole[group] = strcmp(value(res, 5), "t") == 0;
    if (version <= f->version)
        return PQR_OK;
    pqi_mem_free(f->map);
    f->map = pqi_mem_text(value(res, 4));
    f->version = version;
    f->shards = atoi(value(res, 2));
    return f->map ? PQR_OK : pqi_err(err, PQR_E_NOMEM, "no memory for the shard map");
}

static int read_stamp(struct fleet *f, struct pqi_shard *s, int group, int64_t deadline_ms,
                      pqr_error *err)
{
    const pqr_query q = {
        .size = sizeof q,
        .level = PQR_LEVEL_PRIMARY,
        .name = "read stamp",
        .sql = "select fleet, shard, shards, map_version, map,"
               " pg_catalog.to_regclass('pqrouter.outcome') is not null from pqrouter.stamp"};
    pqr_error own;
    pqr_result *res = NULL;
    int code = one_statement(s, deadline_ms, false, &q, &res, &own);
    if (code == PQR_E_SQL && strcmp(own.sqlstate, "42P01") == 0)
        return PQR_OK; /* not stamped */
    if (code != PQR_OK && err)
        *err = own;
    struct pqi_value v;
    if (code == PQR_OK && pqi_result_value(res, 0, 0, &v))
        code = take_stamp(f, s, group, res, err);
    pqi_result_unref(res);
    return code;
}

static int read_fleet(struct fleet *f, struct pqr *db, int64_t deadline_ms, pqr_error *err)
{
    *f = (struct fleet){.stamped = pqi_mem_array((size_t)db->ngroups, sizeof *f->stamped),
                        .whole = pqi_mem_array((size_t)db->ngroups, sizeof *f->whole)};
    if (!f->stamped || !f->whole)
        return pqi_err(err, PQR_E_NOMEM, "no memory for %d shards", db->ngroups);
    if (db->options->fleet_id)
        snprintf(f->id, sizeof f->id, "%s", db->options->fleet_id);
    int code = PQR_OK;
    for (int i = 0; i < db->ngroups && code == PQR_OK; i++)
        code = read_stamp(f, &db->shards[i], i, deadline_ms, err);
    return code;
}

/* ---- Stamping ------------------------------------------------------------------------------- */

static int first_map(struct fleet *f, const struct pqr *db, pqr_error *err)
{
    struct pqi_map *map = pqi_map_new(db->nshards);
    f->map = map ? pqi_map_format(map) : NULL;
    pqi_map_free(map);
    f->version = 1;
    f->shards = db->nshards;
    if (f->id[0] == '\0')
        snprintf(f->id, sizeof f->id, "fleet-%016" PRIx64, pqi_random());
    return f->map ? PQR_OK : pqi_err(err, PQR_E_NOMEM, "no memory for the shard map");
}

static int create_schema(struct pqr_tx *tx, pqr_error *err)
{
    int code = PQR_OK;
    for (size_t i = 0; i < sizeof schema_sql / sizeof *schema_sql && code == PQR_OK; i++) {
        const pqr_query q = {
            .size = sizeof q, .name = "create schema pqrouter", .sql = schema_sql[i]};
        code = pqi_tx_exec(tx, &q, NULL, err);
    }
    return code;
}

static int insert_stamp(struct pqr_tx *tx, const struct fleet *f, int number, pqr_error *err)
{
    const pqr_param params[] = {PQR_TEXT(f->id), PQR_INT32(number), PQR_INT32(f->shards),
                                PQR_INT64(f->version), PQR_TEXT(f->map)};
    const pqr_query q = {
        .size = sizeof q,
        .name = "write stamp",
        .sql = "insert into pqrouter.stamp (fleet, shard, shards, map_version, map)"
               " values ($1, $2, $3, $4, $5)",
        .params = params,
        .nparams = 5};
    return pqi_tx_exec(tx, &q, NULL, err);
}

/* With `f` it gets its stamp; NULL: it has one, of a version that had fewer tables. */
static int stamp(struct pqi_shard *s, const struct fleet *f, int64_t deadline_ms, pqr_error *err)
{
    const pqr_session_options o = {.size = sizeof o, .deadline_ms = deadline_ms};
    const pqr_tx_options t = {.size = sizeof t};
    struct pqr_session *session;
    struct pqr_tx *tx;
    int code = pqi_session_open(s->db, &o, &session, err);
    if (code != PQR_OK)
        return code;
    session->fixed = s;
    session->stamping = true;
    code = pqi_tx_begin(session, &t, &tx, err);
    if (code == PQR_OK) {
        code = create_schema(tx, err);
        if (code == PQR_OK && f)
            code = insert_stamp(tx, f, s->number, err);
        if (code == PQR_OK)
            code = pqi_tx_commit(tx, err);
        else
            pqi_tx_rollback(tx);
    }
    pqi_session_close(session);
    return code;
}

static void say(pqr_progress_fn *progress, void *arg, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void say(pqr_progress_fn *progress, void *arg, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (progress)
        progress(arg, text);
}

static bool owns_slots(const char *text, int shard)
{
    struct pqi_map *map;
    bool owns = true; /* a map that cannot be read is not what this is about */
    if (pqi_map_parse(&map, text, NULL) != PQR_OK)
        return owns;
    owns = false;
    for (int slot = 0; slot < PQI_SLOTS && !owns; slot++)
        owns = map->owner[slot] == shard;
    pqi_map_free(map);
    return owns;
}

static int stamp_all(struct pqr *db, struct fleet *f, int64_t deadline_ms,
                     pqr_progress_fn *progress, void *arg, pqr_error *err)
{
    int code = f->version == 0 ? first_map(f, db, err) : PQR_OK;
    for (int i = 0; i < db->ngroups && code == PQR_OK; i++) {
        struct pqi_shard *s = &db->shards[i];
        if (f->stamped[i]) {
            code = f->whole[i] ? PQR_OK : stamp(s, NULL, deadline_ms, err);
            if (code == PQR_OK)
                say(progress, arg, "%s is stamped already: fleet %s, map version %" PRId64 "%s",
                    s->name, f->id, f->version,
                    f->whole[i] ? "" : "; the tables that it lacked are made");
            continue;
        }
        code = stamp(s, f, deadline_ms, err);
        if (code == PQR_OK)
            say(progress, arg, "%s is stamped: fleet %s, map version %" PRId64 "%s", s->name, f->id,
                f->version,
                i >= db->nshards || owns_slots(f->map, s->number)
                    ? ""
                    : "; it owns no slots until some are moved to it");
        pqi_shard_look_again(s);
    }
    return code;
}

int pqi_init(struct pqr *db, int64_t timeout_ms, pqr_progress_fn *progress, void *arg,
             pqr_error *err)
{
    struct fleet f;
    int code = read_fleet(&f, db, timeout_ms, err);
    if (code == PQR_OK)
        code = stamp_all(db, &f, timeout_ms, progress, arg, err);
    if (code == PQR_OK)
        pqi_router_ready(db, timeout_ms, NULL); /* until this process has seen its own work */
    free_fleet(&f);
    return code;
}

/* ---- The same as SQL ------------------------------------------------------------------------ */

static void add_literal(struct pqi_buf *b, const char *text)
{
    pqi_buf_text(b, "'");
    for (; *text; text++)
        pqi_buf_add(b, *text == '\'' ? "''" : text, *text == '\'' ? 2 : 1);
    pqi_buf_text(b, "'");
}

static char *sql_of(const struct pqi_shard *s, const struct fleet *f)
{
    struct pqi_buf b = {0};
    const struct pqi_target *t = s->nodes[0].target;
    pqi_buf_format(&b, "-- %s: run this once on its primary, %s\nbegin;\n", s->name, t->shown);
    for (size_t i = 0; i < sizeof schema_sql / sizeof *schema_sql; i++)
        pqi_buf_format(&b, "%s;\n", schema_sql[i]);
    pqi_buf_text(&b,
                 "insert into pqrouter.stamp (fleet, shard, shards, map_version, map) values (");
    add_literal(&b, f->id);
    pqi_buf_format(&b, ", %d, %d, %" PRId64 ", ", s->number, f->shards, f->version);
    add_literal(&b, f->map);
    pqi_buf_text(&b, ");\ncommit;\n"
                     "-- So that replicas can prove which timeline they follow:\n"
                     "-- grant pg_monitor to the application's role;\n");
    return pqi_buf_take(&b);
}

int pqi_init_sql(struct pqr *db, pqr_progress_fn *text, void *arg, pqr_error *err)
{
    struct fleet f = {0};
    if (!db->options->fleet_id)
        return pqi_err(err, PQR_E_CONFIG,
                       "set DATABASE_FLEET_ID: the stamps of one fleet must carry the same id");
    snprintf(f.id, sizeof f.id, "%s", db->options->fleet_id);
    int code = first_map(&f, db, err);
    for (int i = 0; i < db->ngroups && code == PQR_OK; i++) {
        char *sql = sql_of(&db->shards[i], &f);
        if (sql)
            text(arg, sql);
        else
            code = pqi_err(err, PQR_E_NOMEM, "no memory for SQL");
        pqi_mem_free(sql);
    }
    free_fleet(&f);
    return code;
}

/* ---- Pins ----------------------------------------------------------------------------------- */

static int pin_in(struct pqi_shard *s, const void *tenant, size_t len, int shard, int64_t version,
                  int64_t deadline_ms, pqr_error *err)
{
    const pqr_param params[] = {PQR_BYTES(tenant, len), PQR_INT32(shard), PQR_INT64(version)};
    const pqr_query q = {
        .size = sizeof q,
        .name = "pin tenant",
        .sql =
            "with pinned as (insert into pqrouter.pin (tenant, shard) values ($1, $2)"
            " on conflict (tenant) do update set shard = excluded.shard)"
            " update pqrouter.stamp set map_version = greatest(map_version operator(pg_catalog.+) 1, $3),"
            " shards = greatest(shards, $2 + 1)",
        .params = params,
        .nparams = 3};
    return one_statement(s, deadline_ms, true, &q, NULL, err);
}

/* Has the shard this pin already, under that version of the map? */
static int look_for_pin(struct pqi_shard *s, const void *tenant, size_t len, int shard,
                        int64_t version, int64_t deadline_ms, bool *there, pqr_error *err)
{
    const pqr_param params[] = {PQR_BYTES(tenant, len), PQR_INT32(shard), PQR_INT64(version)};
    const pqr_query q = {.size = sizeof q,
                         .level = PQR_LEVEL_PRIMARY,
                         .name = "read pin",
                         .sql = "select 1 from pqrouter.pin p, pqrouter.stamp s"
                                " where p.tenant = $1 and p.shard = $2 and s.map_version = $3",
                         .params = params,
                         .nparams = 3};
    pqr_result *res = NULL;
    struct pqi_value v;
    int code = one_statement(s, deadline_ms, false, &q, &res, err);
    *there = code == PQR_OK && pqi_result_value(res, 0, 0, &v);
    pqi_result_unref(res);
    return code;
}

int pqi_pin(struct pqr *db, const void *tenant, size_t len, int shard, int64_t timeout_ms,
            pqr_error *err)
{
    struct fleet f;
    if (shard < 0 || shard >= db->nshards)
        return pqi_err(err, PQR_E_USAGE, "shard %d is not configured: there are %d, from 0", shard,
                       db->nshards);
    int code = read_fleet(&f, db, timeout_ms, err);
    for (int i = 0; i < db->nshards && code == PQR_OK; i++)
        if (!f.stamped[i])
            code = pqi_err(err, PQR_E_UNSTAMPED, "%s is not stamped: run pqrouter init first",
                           db->shards[i].name);
    bool there = true; /* in all of them: then no new version is needed */
    for (int i = 0; i < db->nshards && code == PQR_OK && there; i++)
        code = look_for_pin(&db->shards[i], tenant, len, shard, f.version, timeout_ms, &there, err);
    for (int i = 0; i < db->nshards && code == PQR_OK && !there; i++) {
        code = pin_in(&db->shards[i], tenant, len, shard, f.version + 1, timeout_ms, err);
        pqi_shard_look_again(&db->shards[i]);
    }
    free_fleet(&f);
    return code;
}
