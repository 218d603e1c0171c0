/* pqrouter init: stamps every shard, or prints the SQL that does. */
#include "json.h"
#include "look.h"
#include "memory.h"
#include "say.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- The SQL -------------------------------------------------------------------------------- */

/* One text a database. Run on another than its own it would stamp that: so they are printed one at
 * a time, and together only as a list. */
struct sql {
    struct json *json;  /* NULL: as it is */
    const char *prefix; /* how the text begins that is wanted; NULL: all are */
    bool counting;
    int n;
};

static void take_sql(void *arg, const char *text)
{
    struct sql *sql = arg;
    if (sql->prefix && strncmp(text, sql->prefix, strlen(sql->prefix)) != 0)
        return;
    sql->n++;
    if (sql->counting)
        return;
    if (sql->json)
        json_text(sql->json, NULL, text);
    else
        fputs(text, stdout);
}

static char *prefix_of(const struct args *a)
{
    if (a->control)
        return copy_text("-- control: ");
    return a->shard ? format_text("-- shard%s: ", a->shard) : NULL;
}

/* CLI_OK: there is something to print, and no choice to make. */
static int check_choice(const struct cli *cli, pqr *db, struct sql sql)
{
    pqr_error err;
    sql.counting = true;
    if (pqr_init_sql(db, take_sql, &sql, &err) != PQR_OK)
        return say_error(cli, &err);
    if (sql.n == 0)
        return say_usage(cli->command, "there is no such database in the configuration");
    if (sql.n > 1 && !cli->args.json)
        return say_usage(cli->command, "the SQL of each database is its own: choose one by "
                                       "--shard N or --control");
    return CLI_OK;
}

static int print_sql(const struct cli *cli, pqr *db)
{
    struct json json = {stdout, false};
    char *prefix = prefix_of(&cli->args);
    struct sql sql = {.json = cli->args.json ? &json : NULL, .prefix = prefix};
    int status = check_choice(cli, db, sql);
    if (status == CLI_OK) {
        if (sql.json) {
            json_object(&json, NULL);
            json_list(&json, "sql");
        }
        pqr_init_sql(db, take_sql, &sql, NULL);
        if (sql.json) {
            json_end_list(&json);
            json_end_object(&json);
            json_done(&json);
        }
    }
    free(prefix);
    return status;
}

/* ---- The stamps ----------------------------------------------------------------------------- */

/* The steps that were done stand in the JSON also when a later one failed. */
static int stamp(const struct cli *cli, pqr *db)
{
    struct json json = {stdout, false}, *j = cli->args.json ? &json : NULL;
    int64_t timeout_ms = cli->args.timeout_ms > 0 ? cli->args.timeout_ms : TIMEOUT_MS;
    pqr_error err;
    if (j) {
        json_object(j, NULL);
        json_list(j, "steps");
    }
    int code = pqr_init(db, timeout_ms, print_step, j, &err);
    if (j) {
        json_end_list(j);
        if (code != PQR_OK)
            json_error(j, "error", &err);
        json_end_object(j);
        json_done(j);
    }
    return code == PQR_OK ? CLI_OK : say_error_text(&err);
}

static int run(struct cli *cli)
{
    const struct args *a = &cli->args;
    pqr *db;
    if ((a->shard || a->control) && !a->sql)
        return say_usage(cli->command, "--shard and --control go with --sql");
    if (a->shard && a->control)
        return say_usage(cli->command, "--shard and --control are two databases: choose one");
    if (a->shard && (!*a->shard || a->shard[strspn(a->shard, "0123456789")]))
        return say_usage(cli->command, "--shard is a number from 0, not \"%s\"", a->shard);
    int status = open_router(cli, &db);
    if (status != CLI_OK)
        return status;
    status = a->sql ? print_sql(cli, db) : stamp(cli, db);
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
             "DATABASE_FLEET_ID, the SQL of one database (--shard, --control) is printed for\n"
             "somebody who has it. A wrong stamp is removed, on that database's primary, by\n"
             "drop schema pqrouter cascade. Waits at most 30 s.\n",
    .example = "  pqrouter init\n"
               "  pqrouter init --sql --shard 0 | psql -v ON_ERROR_STOP=1 -d URL_OF_SHARD_0\n",
    .flags = "sql shard control timeout",
    .run = run,
};
