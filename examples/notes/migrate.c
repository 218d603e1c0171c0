/* The schema, on each shard. A shard is reached by way of a tenant that lives there: of the names
 * migrate-0, migrate-1, … the first that is routed to it; nothing is written for that tenant. A
 * script of many statements is nothing a router sends, so it runs on a connection of its own. */
#include "migrate.h"

#include <libpq-fe.h>
#include <pqrouter/admin.h>
#include <schema.h> /* schema.sql as an array of bytes: embed.py makes it in the build folder */
#include <stdio.h>
#include <stdlib.h>

enum { NAMES = 100000, NAME = 32 };

/* How many shards the configuration has. */
static int count_shards(pqr *db)
{
    int n = pqr_health(db, NULL, 0, sizeof(pqr_node_health)), shards = 0;
    pqr_node_health *nodes = n > 0 ? calloc((size_t)n, sizeof *nodes) : NULL;
    if (nodes && pqr_health(db, nodes, (size_t)n, sizeof *nodes) == n)
        for (int i = 0; i < n; i++)
            if (nodes[i].shard >= shards)
                shards = nodes[i].shard + 1;
    free(nodes);
    return shards;
}

/* The name of a tenant that lives on the shard. PQR_E_MAP: none does. */
static int find_tenant(pqr *db, int shard, int64_t timeout_ms, char name[NAME], pqr_error *err)
{
    for (int i = 0; i < NAMES; i++) {
        pqr_route route;
        snprintf(name, NAME, "migrate-%d", i);
        int code = pqr_route_tenant(db, name, 0, timeout_ms, &route, sizeof route, err);
        if (code != PQR_OK || route.shard == shard)
            return code;
    }
    err->code = PQR_E_MAP;
    snprintf(err->message, sizeof err->message,
             "no tenant lives on shard %d: pin one to it (pqrouter pin), then migrate again",
             shard);
    return PQR_E_MAP;
}

static int run_script(struct pg_conn *conn, pqr_error *err)
{
    PGresult *res = PQexec(conn, (const char *)schema_sql);
    int code = PQresultStatus(res) == PGRES_COMMAND_OK ? PQR_OK : PQR_E_SQL;
    if (code != PQR_OK)
        snprintf(err->message, sizeof err->message, "%s", PQerrorMessage(conn));
    PQclear(res);
    return code;
}

static int migrate_shard(pqr *db, int shard, int64_t timeout_ms, pqr_error *err)
{
    char tenant[NAME];
    pqr_session *s = NULL;
    struct pg_conn *conn = NULL;
    int code = find_tenant(db, shard, timeout_ms, tenant, err);
    if (code == PQR_OK)
        code = pqr_session_open(db, PQR_SESSION(.tenant = tenant, .deadline_ms = timeout_ms), &s,
                                err);
    if (code == PQR_OK)
        code = pqr_lend(s, PQR_LEND_WRITE, &conn, err);
    if (code == PQR_OK)
        code = run_script(conn, err);
    pqr_give_back(s, conn);
    pqr_session_close(s);
    return code;
}

int migrate(pqr *db, int64_t timeout_ms)
{
    int shards = count_shards(db);
    for (int shard = 0; shard < shards; shard++) {
        pqr_error err;
        int code = migrate_shard(db, shard, timeout_ms, &err);
        if (code != PQR_OK) {
            fprintf(stderr, "notes: shard %d: %s: %s\n", shard, pqr_code_name(code), err.message);
            return code;
        }
        printf("shard %d: migrated\n", shard);
    }
    return PQR_OK;
}
