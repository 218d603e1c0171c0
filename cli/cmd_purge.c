/* pqrouter purge: deletes idempotency keys that nobody will ask for again. */
#include "json.h"
#include "look.h"
#include "say.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 60000
#define OLDER_THAN "7d"

static void print_step(void *arg, const char *text)
{
    if (arg) {
        json_text(arg, NULL, text);
        return;
    }
    printf("%s\n", text);
    fflush(stdout);
}

/* "36h", "90m", "7d", "3600" or "3600s"; at most a century. */
static bool read_age(const char *text, int64_t *ms)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"", 1e3}, {"s", 1e3}, {"m", 60e3}, {"h", 3600e3}, {"d", 86400e3}};
    char *end;
    double number = strtod(text, &end);
    size_t digits = strspn(text, "0123456789.");
    if (digits == 0 || text + digits != end)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(end, units[i].unit) == 0 && number * units[i].ms <= 36525 * 86400e3) {
            *ms = (int64_t)(number * units[i].ms);
            return true;
        }
    return false;
}

static int purge(const struct cli *cli, pqr *db, int64_t older_ms)
{
    struct json json = {stdout, false}, *j = cli->args.json ? &json : NULL;
    int64_t timeout_ms = cli->args.timeout_ms > 0 ? cli->args.timeout_ms : TIMEOUT_MS;
    int64_t deleted = 0;
    pqr_error err;
    if (j) {
        json_object(j, NULL);
        json_list(j, "steps");
    }
    int code = pqr_purge(db, older_ms, timeout_ms, print_step, j, &deleted, &err);
    if (j) {
        json_end_list(j);
        json_int(j, "deleted", deleted);
        if (code != PQR_OK)
            json_error(j, "error", &err);
        json_end_object(j);
        json_done(j);
    }
    return code == PQR_OK ? CLI_OK : say_error_text(&err);
}

static int run(struct cli *cli)
{
    const char *text = cli->args.older_than ? cli->args.older_than : OLDER_THAN;
    int64_t older_ms;
    pqr *db;
    if (!read_age(text, &older_ms))
        return say_usage(cli->command,
                         "--older-than takes a number with s, m, h or d, such as 36h, not \"%s\"",
                         text);
    int status = open_router(cli, &db);
    if (status != CLI_OK)
        return status;
    status = purge(cli, db, older_ms);
    pqr_close(db, 0);
    return status;
}

const struct command cmd_purge = {
    .name = "purge",
    .takes = "",
    .purpose = "delete idempotency keys that nobody will ask for again",
    .about = "Deletes the keys of writes and transactions that were done longer ago than\n"
             "--older-than (usually 7d), in every shard, 2000 at a time. A request that comes\n"
             "again after its key is gone is done again: keep keys for longer than anybody\n"
             "repeats a request. Run it as the role that ran pqrouter init, or one that may\n"
             "delete from pqrouter.outcome. A batch waits at most 60 s. After a failure, run\n"
             "it again: it goes on.\n",
    .example = "  pqrouter purge --older-than 36h\n",
    .flags = "older-than timeout",
    .run = run,
};
