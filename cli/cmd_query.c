/* pqrouter query: one statement of a tenant's, by the way that the application's take. */
#include "json.h"
#include "look.h"
#include "memory.h"
#include "say.h"
#include "table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct statement {
    const char *tenant; /* NULL: none; PQR_CONTROL */
    pqr_query query;
    bool write;
};

/* ---- Printing ------------------------------------------------------------------------------- */

static void print_rows(const pqr_result *res)
{
    size_t columns = pqr_columns(res);
    if (columns == 0) {
        printf("(%zu row%s)\n", pqr_rows(res), pqr_rows(res) == 1 ? "" : "s");
        return;
    }
    const char **titles = get_memory(columns, sizeof *titles);
    for (size_t i = 0; i < columns; i++)
        titles[i] = pqr_column_name(res, i);
    struct table *t = table_new(columns, titles);
    for (size_t row = 0; row < pqr_rows(res); row++)
        for (size_t i = 0; i < columns; i++)
            if (pqr_is_null(res, row, i))
                table_null(t);
            else
                table_cell(t, pqr_text(res, row, i));
    table_print(t, stdout, true);
    table_free(t);
    free(titles);
}

/* What came back, and from where. A statement without rows tells how many it has touched. */
static void print_answer(const pqr_result *res, bool write)
{
    int64_t touched = pqr_affected(res);
    if (pqr_columns(res) > 0 || !write)
        print_rows(res);
    if (write && (touched > 0 || pqr_columns(res) == 0))
        printf("%" PRId64 " row%s affected\n", touched, touched == 1 ? "" : "s");
    printf("from %s\n", pqr_source(res));
}

static bool among(char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* The columns' names, each once: "n", "n_2", … */
static char **names_of(const pqr_result *res)
{
    size_t n = pqr_columns(res);
    char **names = get_memory(n, sizeof *names);
    for (size_t i = 0; i < n; i++) {
        const char *name = pqr_column_name(res, i);
        names[i] = copy_text(name);
        for (int k = 2; among(names, i, names[i]); k++) {
            free(names[i]);
            names[i] = format_text("%s_%d", name, k);
        }
    }
    return names;
}

static void print_json(const pqr_result *res)
{
    struct json j = {stdout, false};
    char **names = names_of(res);
    size_t columns = pqr_columns(res);
    json_object(&j, NULL);
    json_text(&j, "source", pqr_source(res));
    json_int(&j, "affected", pqr_affected(res));
    json_list(&j, "columns");
    for (size_t i = 0; i < columns; i++)
        json_text(&j, NULL, names[i]);
    json_end_list(&j);
    json_list(&j, "rows");
    for (size_t row = 0; row < pqr_rows(res); row++) {
        json_object(&j, NULL);
        for (size_t i = 0; i < columns; i++)
            json_text(&j, names[i], pqr_is_null(res, row, i) ? NULL : pqr_text(res, row, i));
        json_end_object(&j);
    }
    json_end_list(&j);
    json_end_object(&j);
    json_done(&j);
    for (size_t i = 0; i < columns; i++)
        free(names[i]);
    free(names);
}

/* ---- Running -------------------------------------------------------------------------------- */

static const char writes[] = "run it with --write, if it may change something";
static const char unknown[] =
    "mend it, if it is a slip; run it with --write, if it may change something";
static const char needs_psql[] =
    "query runs one statement, on a connection that others share: for this use psql";

/* The library names its functions as the way out; here the way is another. Cuts what it says after
 * "use …", and returns that way; NULL: it says nothing of the kind. */
static const char *advice_here(const struct statement *s, pqr_error *err)
{
    char *name = NULL, *tail = NULL;
    if (err->code != PQR_E_USAGE && err->code != PQR_E_READ_ONLY)
        return NULL;
    for (char *at = err->message; (at = strstr(at, "pqr_")); at++)
        name = at;
    for (char *at = err->message; name && (at = strstr(at, ": ")) && at < name; at++)
        tail = at;
    if (!tail)
        return NULL;
    bool write = !s->write && strncmp(name, "pqr_write", strlen("pqr_write")) == 0;
    *tail = '\0';
    if (write)
        return err->code == PQR_E_READ_ONLY ? writes : unknown;
    return needs_psql;
}

static int run_statement(const struct cli *cli, pqr *db, const struct statement *s)
{
    pqr_session *session = NULL;
    pqr_result *res = NULL;
    pqr_error err;
    int status = CLI_OK;
    int code = pqr_session_open(db, PQR_SESSION(.tenant = s->tenant), &session, &err);
    if (code == PQR_OK)
        code = (s->write ? pqr_write : pqr_read)(session, &s->query, &res, &err);
    if (code != PQR_OK) {
        const char *advice = advice_here(s, &err);
        status = say_error_and(cli, &err, advice ? advice : advice_for(&err));
    } else if (cli->args.json)
        print_json(res);
    else
        print_answer(res, s->write);
    pqr_result_free(res);
    pqr_session_close(session);
    return status;
}

/* -1: no such level. */
static int read_level(const char *text)
{
    static const char *const names[] = {"session", "any", "primary"};
    for (int i = 0; text && i < 3; i++)
        if (strcmp(names[i], text) == 0)
            return i;
    return text ? -1 : PQR_LEVEL_SESSION;
}

static int read_statement(const struct cli *cli, struct statement *s)
{
    const struct args *a = &cli->args;
    int wanted = a->control ? 1 : 2, level = read_level(a->level);
    if (a->nrest != wanted)
        return say_usage(cli->command, a->control
                                           ? "with --control there is no TENANT, only the SQL"
                                           : "query takes TENANT SQL: the SQL is missing");
    if (level < 0)
        return say_usage(cli->command, "--level is session, any or primary, not \"%s\"", a->level);
    if (a->level && a->write)
        return say_usage(cli->command, "--level is for reads: a write goes to the primary");
    s->tenant = a->control ? PQR_CONTROL : strcmp(a->rest[0], "-") == 0 ? NULL : a->rest[0];
    s->write = a->write;
    s->query = (pqr_query){.size = sizeof s->query,
                           .sql = a->rest[wanted - 1],
                           .level = level,
                           .deadline_ms = a->deadline_ms};
    return CLI_OK;
}

static int run(struct cli *cli)
{
    struct statement s = {0};
    pqr *db;
    int status = read_statement(cli, &s);
    if (status == CLI_OK)
        status = open_router(cli, &db);
    if (status != CLI_OK)
        return status;
    size_t n = cli->args.nparams;
    pqr_param *params = get_memory(n, sizeof *params);
    for (size_t i = 0; i < n; i++)
        params[i] = (pqr_param)PQR_TEXT(cli->args.params[i]);
    s.query.params = params;
    s.query.nparams = n;
    status = run_statement(cli, db, &s);
    free(params);
    pqr_close(db, 0);
    return status;
}

const struct command cmd_query = {
    .name = "query",
    .takes = "TENANT SQL",
    .purpose = "run a statement where the application's would run, and tell where",
    .about = "Runs one statement for a tenant and prints its rows and the server that\n"
             "answered. It is a read, which may not change anything, unless --write is given.\n"
             "Parameters are texts: cast where the server cannot tell their types ($1::int).\n"
             "NULL is shown as [null]. Without shards, TENANT may be -. Put -- before what\n"
             "begins with a dash.\n",
    .example = "  pqrouter query acme 'select id, body from note where id = $1' --param 42\n"
               "  pqrouter query acme --write 'delete from note'\n",
    .flags = "write control param level deadline",
    .least = 1,
    .most = 2,
    .run = run,
};
