/* pqrouter pin: this tenant lives on that shard, whatever owns its slot. */
#include "json.h"
#include "look.h"
#include "say.h"
#include "text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 30000

static void print(const struct cli *cli, const pqr_route *was, const pqr_route *now)
{
    const char *tenant = cli->args.rest[0];
    bool stays = was->shard == now->shard;
    if (cli->args.json) {
        struct json j = {stdout, false};
        json_object(&j, NULL);
        json_text(&j, "tenant", tenant);
        json_int(&j, "shard", now->shard);
        json_int(&j, "shard_before", was->shard);
        json_bool(&j, "rows_moved", false);
        json_end_object(&j);
        json_done(&j);
        return;
    }
    text_print(stdout, tenant);
    printf(" is pinned to shard %d (before: shard %d, %s).\n", now->shard, was->shard,
           was->pinned ? "by a pin" : "by its slot");
    if (stays)
        puts("It was there already: nothing changes for its rows.");
    else
        printf(
            "No rows were moved: what it has on shard %d stays there, and is not seen any more.\n",
            was->shard);
}

static bool read_shard(const char *text, int *shard)
{
    char *end;
    long number = strtol(text, &end, 10);
    *shard = (int)number;
    return strspn(text, "0123456789") == strlen(text) && *text && *end == '\0' && number <= 100000;
}

static int pin(const struct cli *cli, pqr *db, int shard)
{
    const char *tenant = cli->args.rest[0];
    int64_t timeout_ms = cli->args.timeout_ms > 0 ? cli->args.timeout_ms : TIMEOUT_MS;
    pqr_route was;
    pqr_error err;
    int code = pqr_route_tenant(db, tenant, strlen(tenant), timeout_ms, &was, sizeof was, &err);
    if (code == PQR_OK)
        code = pqr_pin(db, tenant, strlen(tenant), shard, timeout_ms, &err);
    if (code != PQR_OK)
        return say_error(cli, &err);
    print(cli, &was, &(pqr_route){.shard = shard});
    return CLI_OK;
}

static int run(struct cli *cli)
{
    pqr *db;
    int shard;
    if (!read_shard(cli->args.rest[1], &shard))
        return say_usage(cli->command, "SHARD is a number from 0, not \"%s\"", cli->args.rest[1]);
    int status = open_router(cli, &db);
    if (status != CLI_OK)
        return status;
    status = pin(cli, db, shard);
    pqr_close(db, 0);
    return status;
}

const struct command cmd_pin = {
    .name = "pin",
    .takes = "TENANT SHARD",
    .purpose = "let a tenant live on a shard, whatever its slot says",
    .about = "Writes the pin into every shard's map, under a new version of it; running\n"
             "processes follow within DB_HEALTH_INTERVAL. A pin that is there already changes\n"
             "nothing. Moves no rows: pin a tenant before it has any. Waits at most 30 s.\n",
    .example = "  pqrouter pin acme 1\n",
    .flags = "timeout",
    .least = 2,
    .most = 2,
    .run = run,
};
