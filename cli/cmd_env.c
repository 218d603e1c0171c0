/* pqrouter env: the settings in force, and where each comes from. Asks no server. */
#include "environment.h"
#include "json.h"
#include "look.h"
#include "say.h"
#include "table.h"
#include "warnings.h"

#include <stdio.h>
#include <string.h>

struct printer {
    const struct environment *env;
    struct table *table; /* NULL: as JSON */
    struct json json;
};

static void take(void *arg, const char *name, const char *value, const char *source)
{
    struct printer *p = arg;
    if (strcmp(source, "environment") == 0 && environment_in_file(p->env, name))
        source = "file";
    if (p->table) {
        table_cell(p->table, name);
        table_cell(p->table, value);
        table_cell(p->table, source);
        return;
    }
    json_object(&p->json, NULL);
    json_text(&p->json, "name", name);
    json_text(&p->json, "value", value);
    json_text(&p->json, "source", source);
    json_end_object(&p->json);
}

static int print_table(const struct cli *cli, pqr *db, const struct warnings *w, pqr_error *err)
{
    struct printer p = {.env = cli->env,
                        .table = table_new(3, (const char *const[]){"name", "value", "source"})};
    int code = pqr_settings(db, take, &p, err);
    if (code == PQR_OK)
        table_print(p.table, stdout, true);
    table_free(p.table);
    for (int i = 0; i < w->n; i++)
        say("warning: %s", w->texts[i]);
    return code;
}

static int print_json(const struct cli *cli, pqr *db, const struct warnings *w, pqr_error *err)
{
    struct printer p = {.env = cli->env, .json = {stdout, false}};
    json_object(&p.json, NULL);
    json_list(&p.json, "settings");
    int code = pqr_settings(db, take, &p, err);
    json_end_list(&p.json);
    json_list(&p.json, "warnings");
    for (int i = 0; i < w->n; i++)
        json_text(&p.json, NULL, w->texts[i]);
    json_end_list(&p.json);
    json_end_object(&p.json);
    json_done(&p.json);
    return code;
}

static int run(struct cli *cli)
{
    pqr *db;
    pqr_error err;
    int status = open_router(cli, &db);
    if (status != CLI_OK)
        return status;
    struct warnings w;
    warnings_read(&w, cli->env);
    if ((cli->args.json ? print_json : print_table)(cli, db, &w, &err) != PQR_OK)
        status = say_error(cli, &err);
    warnings_free(&w);
    pqr_close(db, 0);
    return status;
}

const struct command cmd_env = {
    .name = "env",
    .takes = "",
    .purpose = "print the settings in force and where each comes from",
    .about = "Prints every setting: its value, never a secret, and its source: default,\n"
             "environment, file (of --env-file), or the name of another variable. Faults are\n"
             "all told, with exit status 3. Asks no server.\n",
    .example = "  pqrouter env --env-file /etc/myapp.env\n",
    .flags = "",
    .run = run,
};
