/* pqrouter slot: the slots of tenants, which need no server. */
#include "cli.h"
#include "json.h"
#include "table.h"

#include <stdio.h>
#include <string.h>

static void print_json(char *const *tenants, int n)
{
    struct json j = {stdout, false};
    json_list(&j, NULL);
    for (int i = 0; i < n; i++) {
        json_object(&j, NULL);
        json_text(&j, "tenant", tenants[i]);
        json_int(&j, "slot", pqr_slot(tenants[i], strlen(tenants[i])));
        json_end_object(&j);
    }
    json_end_list(&j);
    json_done(&j);
}

static int run(struct cli *cli)
{
    if (cli->args.json) {
        print_json(cli->args.rest, cli->args.nrest);
        return CLI_OK;
    }
    struct table *t = table_new(2, (const char *const[]){"tenant", "slot"});
    for (int i = 0; i < cli->args.nrest; i++) {
        const char *tenant = cli->args.rest[i];
        table_cell(t, tenant);
        table_cellf(t, "%u", pqr_slot(tenant, strlen(tenant)));
    }
    table_print(t, stdout, true);
    table_free(t);
    return CLI_OK;
}

const struct command cmd_slot = {
    .name = "slot",
    .takes = "TENANT…",
    .purpose = "print the slots of tenants",
    .about = "Prints the slot of each tenant, 0 to 16383. It depends on the tenant's bytes\n"
             "alone: no server is asked and nothing needs to be configured.\n",
    .example = "  pqrouter slot acme\n",
    .flags = "",
    .least = 1,
    .most = 1 << 20,
    .run = run,
};
