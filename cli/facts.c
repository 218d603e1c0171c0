/* What a server says of itself. */
#include "facts.h"

#include <stdio.h>
#include <string.h>

/* reserved_connections is there from PostgreSQL 16 on. */
static const char facts_sql[] =
    "select pg_catalog.current_setting('server_version'), r.rolname, r.rolsuper,"
    " pg_catalog.pg_has_role(current_user, 'pg_monitor', 'member'), d.datname,"
    " (select c.system_identifier from pg_catalog.pg_control_system() c),"
    " pg_catalog.pg_postmaster_start_time(), pg_catalog.current_setting('port'),"
    " pg_catalog.current_setting('max_connections'),"
    " pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int4"
    "  + coalesce(pg_catalog.current_setting('reserved_connections', true), '0')::pg_catalog.int4,"
    " case when r.rolsuper then -1 else r.rolconnlimit end,"
    " case when r.rolsuper then -1 else d.datconnlimit end"
    " from pg_catalog.pg_roles r, pg_catalog.pg_database d"
    " where r.rolname = current_user and d.datname = pg_catalog.current_database()";

static const char stamp_sql[] = "select fleet, shard, shards, map_version from pqrouter.stamp";

static void copy(char *to, size_t size, const pqr_result *res, size_t column)
{
    snprintf(to, size, "%s", pqr_text(res, 0, column));
}

static void take_facts(const pqr_result *res, struct facts *out)
{
    copy(out->version, sizeof out->version, res, 0);
    out->version[strcspn(out->version, " ")] = '\0'; /* "15.8 (Debian 15.8-0+deb12u1)" */
    copy(out->role, sizeof out->role, res, 1);
    out->superuser = pqr_bool(res, 0, 2);
    out->monitor = pqr_bool(res, 0, 3);
    copy(out->database, sizeof out->database, res, 4);
    copy(out->system, sizeof out->system, res, 5);
    copy(out->started, sizeof out->started, res, 6);
    copy(out->port, sizeof out->port, res, 7);
    out->max_connections = pqr_int64(res, 0, 8);
    out->reserved = pqr_int64(res, 0, 9);
    out->role_connections = pqr_int64(res, 0, 10);
    out->db_connections = pqr_int64(res, 0, 11);
}

static void ask_stamp(pqr *db, const char *node, int64_t deadline_ms, struct stamp *out)
{
    pqr_result *res = NULL;
    pqr_error err;
    pqr_node_read(db, node, PQR_QUERY(.sql = stamp_sql, .deadline_ms = deadline_ms), &res, &err);
    bool read = err.code == PQR_OK && pqr_rows(res) > 0;
    if (read || err.code == PQR_OK || strcmp(err.sqlstate, "42P01") == 0)
        out->state = read ? STAMP_READ : STAMP_NONE;
    else if (strcmp(err.sqlstate, "42501") == 0)
        out->state = STAMP_DENIED;
    if (read) {
        copy(out->fleet, sizeof out->fleet, res, 0);
        out->shard = pqr_int32(res, 0, 1);
        out->shards = pqr_int32(res, 0, 2);
        out->map_version = pqr_int64(res, 0, 3);
    }
    pqr_result_free(res);
}

void facts_ask(pqr *db, const char *node, int64_t deadline_ms, struct facts *out)
{
    pqr_result *res = NULL;
    *out = (struct facts){0};
    pqr_node_read(db, node, PQR_QUERY(.sql = facts_sql, .deadline_ms = deadline_ms), &res,
                  &out->err);
    if (out->err.code == PQR_OK) {
        take_facts(res, out);
        ask_stamp(db, node, deadline_ms, &out->stamp);
    }
    pqr_result_free(res);
}

bool facts_same_server(const struct facts *a, const struct facts *b)
{
    return a->err.code == PQR_OK && b->err.code == PQR_OK && strcmp(a->system, b->system) == 0 &&
           strcmp(a->started, b->started) == 0 && strcmp(a->port, b->port) == 0;
}

int64_t facts_room(const struct facts *f)
{
    int64_t room = f->max_connections - f->reserved;
    if (f->role_connections >= 0 && f->role_connections < room)
        room = f->role_connections;
    if (f->db_connections >= 0 && f->db_connections < room)
        room = f->db_connections;
    return room;
}
