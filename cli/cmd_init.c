/* pqrouter init: stamps every shard, or prints the SQL that does. */
#include "json.h"
#include "look.h"
#include "say.h"

#include <stdio.h>

#define TIMEOUT_MS 30000

static void print_step(void *arg, const char *text)
{
    if (arg) {
        json_text(arg, NULL, text);
        return;
    }
    printf("%s\n", text);
    fflush(stdout);
}

static void print_sql(void *arg, const char *text)
{
    if (arg)
        json_text(arg, NULL, text);
    else
        fputs(text, stdout);
}

static int stamp(const struct cli *cli, pqr *db, struct json *j, pqr_error *err)
{
    int64_t timeout_ms = cli->args.timeout_ms > 0 ? cli->args.timeout_ms : TIMEOUT_MS;
    if (cli->args.sql)
        return pqr_init_sql(db, print_sql, j, err);
    return pqr_init(db, timeout_ms, print_step, j, err);
}

/* The steps that were done stand in the JSON also when a later one failed. */
static int run(struct cli *cli)
{
    struct json json = {stdout, false}, *j = cli->args.json ? &json : NULL;
    pqr *db;
    pqr_error err;
    int status = open_router(cli, &db);
    if (status != CLI_OK)
        return status;
    if (j) {
        json_object(j, NULL);
        json_list(j, cli->args.sql ? "sql" : "steps");
    }
    int code = stamp(cli, db, j, &err);
    if (j) {
        json_end_list(j);
        if (code != PQR_OK)
            json_error(j, "error", &err);
        json_end_object(j);
        json_done(j);
    }
    if (code != PQR_OK)
        status = say_error_text(&err);
    pqr_close(db, 0);
    return status;
}

const struct command cmd_init = {
    .name = "init",
    .takes = "",
    .purpose = "stamp every shard, so that none can be mistaken for another",
    .about = "Creates the schema pqrouter in each shard (and the control database) and writes\n"
             "its stamp there: the fleet's id, the shard's number, the shard map. What is\n"
             "stamped already is checked and left alone; if a stamp is of another shard or\n"
             "fleet, nothing is written anywhere. After a failure, run it again: it goes on.\n"
             "The role needs the right to create a schema; with --sql, which needs\n"
             "DATABASE_FLEET_ID, the SQL is printed for somebody who has it. Waits at most\n"
             "30 s.\n",
    .example = "  pqrouter init\n  DATABASE_FLEET_ID=shop pqrouter init --sql > stamp.sql\n",
    .flags = "sql timeout",
    .run = run,
};
