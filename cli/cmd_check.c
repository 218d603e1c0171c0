/* pqrouter check: is the configuration right, and every server as it should be? */
#include "judge.h"
#include "memory.h"
#include "say.h"
#include "table.h"
#include "warnings.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 5000
#define ASK_MS 2000

/* ---- The configuration ---------------------------------------------------------------------- */

static void take_fault(void *arg, const char *text)
{
    finding(arg, IS_ERROR, "fault", "configuration", NULL, "%s", text);
}

static void check_configuration(const struct cli *cli, struct findings *out)
{
    struct warnings w;
    pqr_config_faults(environment_list(cli->env), take_fault, out);
    warnings_read(&w, cli->env);
    for (int i = 0; i < w.n; i++)
        finding(out, IS_WARNING, "configuration", "configuration", NULL, "%s", w.texts[i]);
    if (out->errors == 0 && w.n == 0)
        finding(out, IS_OK, "ok", "configuration", NULL, "no fault");
    warnings_free(&w);
}

static void take_setting(void *arg, const char *name, const char *value, const char *source)
{
    struct measure *m = arg;
    (void)source;
    if (strcmp(name, "DATABASE_SHARD_COUNT") == 0)
        m->shards = strtoll(value, NULL, 10);
    else if (strcmp(name, "DATABASE_FLEET_ID") == 0)
        snprintf(m->fleet, sizeof m->fleet, "%s", value);
    else if (strcmp(name, "DB_CONNECTION_LIMIT") == 0)
        m->connection_limit = strtoll(value, NULL, 10);
    else if (strcmp(name, "DB_MAX_CONNECTIONS") == 0)
        m->max_connections = strtoll(value, NULL, 10);
    else if (strcmp(name, "DB_READ_PREFERENCE") == 0)
        m->primary_only = strcmp(value, "primary") == 0;
    m->sharded = m->shards > 0;
}

/* ---- Printing ------------------------------------------------------------------------------- */

static void stamp_cell(struct table *t, const struct stamp *s)
{
    if (s->state == STAMP_READ && s->shard >= 0)
        table_cellf(t, "%s, shard %d", s->fleet, s->shard);
    else if (s->state == STAMP_READ)
        table_cellf(t, "%s, control", s->fleet);
    else
        table_cell(t, s->state == STAMP_NONE ? "none" : s->state == STAMP_DENIED ? "denied" : "");
}

static void print_nodes(const struct fleet *f)
{
    static const char *const titles[] = {"node",   "address", "role",    "state", "timeline",
                                         "lag ms", "latency", "version", "stamp", "connections"};
    struct table *t = table_new(sizeof titles / sizeof *titles, titles);
    for (int i = 0; i < f->look.n; i++) {
        const pqr_node_health *h = &f->look.nodes[i];
        const struct facts *s = &f->facts[i];
        table_cell(t, h->node);
        table_cell(t, h->address);
        table_cell(t, role_name(h->role));
        table_cell(t, state_name(h->state));
        table_known(t, timeline_of(h));
        table_known(t, h->lag_ms);
        table_cellf(t, h->latency_us >= 0 ? "%.1f ms" : "", (double)h->latency_us / 1000);
        table_cell(t, s->version);
        stamp_cell(t, &s->stamp);
        if (s->err.code == PQR_OK)
            table_cellf(t, "%" PRId64 " of %" PRId64, judge_need(f, i), facts_room(s));
        else
            table_cell(t, "");
    }
    table_print(t, stdout, true);
    table_free(t);
    putchar('\n');
}

static void json_stamp(struct json *j, const struct stamp *s)
{
    static const char *const states[] = {NULL, "none", "denied", "read"};
    bool read = s->state == STAMP_READ;
    json_text(j, "stamp", states[s->state]);
    json_text(j, "fleet", read ? s->fleet : NULL);
    json_known(j, "stamped_shard", read && s->shard >= 0 ? s->shard : -1);
    json_known(j, "map_shards", read ? s->shards : -1);
    json_known(j, "map_version", read ? s->map_version : -1);
}

static void json_nodes(const struct fleet *f, struct json *j)
{
    json_list(j, "nodes");
    for (int i = 0; i < f->look.n; i++) {
        const struct facts *s = &f->facts[i];
        bool answered = s->err.code == PQR_OK;
        json_object(j, NULL);
        json_health(j, &f->look.nodes[i]);
        json_bool(j, "answered", answered);
        json_text(j, "version", answered ? s->version : NULL);
        json_text(j, "user", answered ? s->role : NULL);
        json_text(j, "system_identifier", answered ? s->system : NULL);
        json_known(j, "connections_needed", answered ? judge_need(f, i) : -1);
        json_known(j, "connections_allowed", answered ? facts_room(s) : -1);
        json_stamp(j, &s->stamp);
        json_end_object(j);
    }
    json_end_list(j);
}

static void print(const struct cli *cli, const struct fleet *f, const struct findings *found)
{
    if (!cli->args.json) {
        if (f->look.n > 0)
            print_nodes(f);
        findings_print(found, stdout);
        return;
    }
    struct json j = {stdout, false};
    json_object(&j, NULL);
    findings_json(found, &j);
    json_nodes(f, &j);
    json_end_object(&j);
    json_done(&j);
}

/* ---- Running -------------------------------------------------------------------------------- */

/* A server known as down is asked as well: its refusal tells what to do. */
static int ask_all(const struct cli *cli, pqr *db, struct fleet *f)
{
    int64_t timeout_ms = cli->args.timeout_ms > 0 ? cli->args.timeout_ms : TIMEOUT_MS;
    int status = look_at_all(cli, db, timeout_ms, &f->look);
    f->facts = get_memory((size_t)f->look.n, sizeof *f->facts);
    for (int i = 0; i < f->look.n && status == CLI_OK; i++)
        facts_ask(db, f->look.nodes[i].node,
                  f->look.nodes[i].state == PQR_NODE_UP ? ASK_MS : ASK_MS / 4, &f->facts[i]);
    return status;
}

static int check_fleet(const struct cli *cli, struct findings *found)
{
    struct fleet f = {0};
    pqr_error err;
    pqr *db;
    int status = open_router(cli, &db);
    if (status != CLI_OK)
        return status;
    if (pqr_settings(db, take_setting, &f.measure, &err) != PQR_OK)
        status = say_error(cli, &err);
    if (status == CLI_OK)
        status = ask_all(cli, db, &f);
    if (status == CLI_OK) {
        judge(&f, found);
        print(cli, &f, found);
        status = found->errors > 0 ? CLI_FAILED : CLI_OK;
    }
    look_free(&f.look);
    free(f.facts);
    pqr_close(db, 0);
    return status;
}

static int run(struct cli *cli)
{
    struct findings found = {0};
    int status = CLI_CONFIG;
    check_configuration(cli, &found);
    if (found.errors > 0)
        print(cli, &(struct fleet){0}, &found);
    else
        status = check_fleet(cli, &found);
    findings_free(&found);
    return status;
}

const struct command cmd_check = {
    .name = "check",
    .takes = "",
    .purpose = "check the configuration and every server; run it before you deploy",
    .about = "Tells every fault of the configuration (exit status 3). Then asks every server\n"
             "of every shard and of the control database, and tells what is wrong and what to\n"
             "do: servers that cannot be reached, shards without a primary, wrong or missing\n"
             "stamps, URLs that lead to the wrong server, missing rights, connection limits\n"
             "that do not fit. Exit status 0: no error, though perhaps warnings; 1: an error.\n"
             "Waits at most 5 s for servers that do not answer.\n",
    .example = "  pqrouter check --env-file /etc/myapp.env && systemctl restart myapp\n",
    .flags = "timeout",
    .run = run,
};
