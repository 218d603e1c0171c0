/* pqrouter route: where a tenant's calls would go now, and why. */
#include "json.h"
#include "look.h"
#include "memory.h"
#include "say.h"
#include "table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 5000

struct answer {
    const char *tenant;
    pqr_route route;
    struct look look; /* the servers of all shards */
};

static const char *decided_by(const pqr_route *r)
{
    return r->pinned ? "pin" : r->map_version > 0 ? "map" : "formula";
}

/* "a: x; b: y": the part that is this server's, as a new string; NULL: it has none. Reasons may
 * hold "; " too: so a part ends where the next server's name begins. */
static char *reason_of(const struct look *look, int node, const char *reasons)
{
    char *name = format_text("%s: ", look->nodes[node].node);
    const char *at = strstr(reasons, name);
    while (at && at != reasons && at[-1] != ' ')
        at = strstr(at + 1, name);
    size_t lead = strlen(name);
    free(name);
    if (!at)
        return NULL;
    char *reason = copy_text(at + lead);
    if (node + 1 < look->n) {
        char *next = format_text("; %s: ", look->nodes[node + 1].node);
        char *end = strstr(reason, next);
        if (end)
            *end = '\0';
        free(next);
    }
    return reason;
}

/* ---- Printing ------------------------------------------------------------------------------- */

static void print_facts(const struct answer *a)
{
    static const char *const decided[] = {"a pin", "the shard map, version ",
                                          "the formula: no stamped shard was seen"};
    const pqr_route *r = &a->route;
    struct table *t = table_new(2, (const char *const[]){"", ""});
    table_cell(t, "tenant");
    table_cell(t, a->tenant);
    table_cell(t, "slot");
    table_cellf(t, "%d", r->slot);
    table_cell(t, "shard");
    table_cellf(t, "%d", r->shard);
    table_cell(t, "decided by");
    if (r->pinned)
        table_cellf(t, "%s, in map version %" PRId64, decided[0], r->map_version);
    else if (r->map_version > 0)
        table_cellf(t, "%s%" PRId64, decided[1], r->map_version);
    else
        table_cell(t, decided[2]);
    table_cell(t, "a write goes to");
    table_cellf(t, "%s%s", r->write_node[0] ? r->write_node : "nobody: ", r->write_why);
    table_cell(t, "a read goes to");
    table_cell(t, r->read_node[0] ? r->read_node : "nobody");
    table_print_pairs(t, stdout);
    table_free(t);
}

static void print_reads(const struct answer *a)
{
    struct table *t = table_new(4, (const char *const[]){"node", "role", "state", "a read here?"});
    for (int i = 0; i < a->look.n; i++) {
        const pqr_node_health *h = &a->look.nodes[i];
        if (h->shard != a->route.shard)
            continue;
        char *reason = reason_of(&a->look, i, a->route.read_why);
        table_cell(t, h->node);
        table_cell(t, role_name(h->role));
        table_cell(t, state_name(h->state));
        table_cell(t, reason ? reason : h->why);
        free(reason);
    }
    putchar('\n');
    table_print(t, stdout, true);
    table_free(t);
}

static void print_json(const struct answer *a)
{
    const pqr_route *r = &a->route;
    struct json j = {stdout, false};
    json_object(&j, NULL);
    json_text(&j, "tenant", a->tenant);
    json_int(&j, "slot", r->slot);
    json_int(&j, "shard", r->shard);
    json_bool(&j, "pinned", r->pinned);
    json_int(&j, "map_version", r->map_version);
    json_text(&j, "decided_by", decided_by(r));
    json_text(&j, "write_node", r->write_node[0] ? r->write_node : NULL);
    json_text(&j, "write_why", r->write_why);
    json_text(&j, "read_node", r->read_node[0] ? r->read_node : NULL);
    json_list(&j, "nodes");
    for (int i = 0; i < a->look.n; i++) {
        const pqr_node_health *h = &a->look.nodes[i];
        if (h->shard != r->shard)
            continue;
        char *reason = reason_of(&a->look, i, r->read_why);
        json_object(&j, NULL);
        json_text(&j, "node", h->node);
        json_text(&j, "role", role_name(h->role));
        json_text(&j, "state", state_name(h->state));
        json_text(&j, "read_why", reason ? reason : h->why);
        json_end_object(&j);
        free(reason);
    }
    json_end_list(&j);
    json_end_object(&j);
    json_done(&j);
}

static int run(struct cli *cli)
{
    pqr *db;
    pqr_error err;
    struct answer a = {.tenant = cli->args.rest[0]};
    int status = open_router(cli, &db);
    if (status != CLI_OK)
        return status;
    int64_t timeout_ms = cli->args.timeout_ms > 0 ? cli->args.timeout_ms : TIMEOUT_MS;
    if (pqr_route_tenant(db, a.tenant, strlen(a.tenant), timeout_ms, &a.route, sizeof a.route,
                         &err) != PQR_OK) {
        status = say_error(cli, &err);
    } else {
        look_again(db, &a.look);
        if (cli->args.json) {
            print_json(&a);
        } else {
            print_facts(&a);
            print_reads(&a);
        }
    }
    look_free(&a.look);
    pqr_close(db, 0);
    return status;
}

const struct command cmd_route = {
    .name = "route",
    .takes = "TENANT",
    .purpose = "tell where a tenant's calls go now, and why",
    .about = "Tells the tenant's slot and shard and what decided it (the shard map, a pin, or\n"
             "the formula while no shard is stamped), which server would take a write, which\n"
             "one a new session's read, and for each server why. Touches no table of the\n"
             "tenant's. Waits at most 5 s for servers that do not answer.\n",
    .example = "  pqrouter route acme\n",
    .flags = "timeout",
    .least = 1,
    .most = 1,
    .run = run,
};
