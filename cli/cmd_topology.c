/* pqrouter topology: every server, its role, its lag, and whether it serves reads. */
#include "json.h"
#include "look.h"
#include "say.h"
#include "table.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_MS 5000

/* ---- One picture ---------------------------------------------------------------------------- */

static void add_row(struct table *t, const pqr_node_health *h)
{
    char shard[16];
    table_cell(t, shard_name(h->shard, shard, sizeof shard));
    table_cell(t, h->node);
    table_cell(t, h->address);
    table_cell(t, role_name(h->role));
    table_cellf(t, h->condition != PQR_NODE_FINE ? "%s, %s" : "%s", state_name(h->state),
                condition_name(h->condition));
    table_known(t, timeline_of(h));
    table_known(t, h->lag_ms);
    table_known(t, h->lag_bytes);
    table_cellf(t, "%d/%d/%d", h->conns_used, h->conns_idle, h->conns_limit);
    table_cellf(t, h->latency_us >= 0 ? "%.1f ms" : "", (double)h->latency_us / 1000);
    table_cell(t, h->serves_reads ? "yes" : "no");
    table_cell(t, h->why);
}

static void print_table(const struct look *look)
{
    static const char *const titles[] = {"shard",           "node",     "address", "role",
                                         "state",           "timeline", "lag ms",  "lag bytes",
                                         "used/idle/limit", "latency",  "reads",   "why"};
    struct table *t = table_new(sizeof titles / sizeof *titles, titles);
    for (int i = 0; i < look->n; i++)
        add_row(t, &look->nodes[i]);
    table_print(t, stdout, true);
    table_free(t);
}

static void print_json(const struct look *look)
{
    struct json j = {stdout, false};
    json_object(&j, NULL);
    json_list(&j, "nodes");
    for (int i = 0; i < look->n; i++) {
        json_object(&j, NULL);
        json_health(&j, &look->nodes[i]);
        json_end_object(&j);
    }
    json_end_list(&j);
    json_end_object(&j);
    json_done(&j);
}

/* ---- Again and again ------------------------------------------------------------------------ */

static volatile sig_atomic_t interrupted;

static void interrupt(int signal)
{
    (void)signal;
    interrupted = 1;
}

static void catch_interrupts(void)
{
    /* Writing goes on after it, so that what is printed is whole; sleeping does not. */
    const struct sigaction action = {.sa_handler = interrupt, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void print_time(void)
{
    char text[64] = "";
    time_t now = time(NULL);
    struct tm parts;
    if (localtime_r(&now, &parts))
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
    printf("%s\n", text);
}

/* Until interrupted, or nobody reads any more. */
static void watch(const struct cli *cli, pqr *db, struct look *look)
{
    bool terminal = isatty(STDOUT_FILENO);
    catch_interrupts();
    while (!interrupted && !ferror(stdout)) {
        if (cli->args.json) {
            print_json(look);
        } else {
            fputs(terminal ? "\033[H\033[J" : "", stdout);
            print_time();
            print_table(look);
            fputs(terminal ? "" : "\n", stdout);
        }
        fflush(stdout);
        for (int64_t until = now_ms() + cli->args.watch_ms, left;
             !interrupted && (left = until - now_ms()) > 0;)
            sleep_ms(left);
        look_again(db, look);
    }
}

static int run(struct cli *cli)
{
    pqr *db;
    struct look look = {0};
    int status = open_router(cli, &db);
    if (status != CLI_OK)
        return status;
    status = look_at_all(cli, db, cli->args.timeout_ms > 0 ? cli->args.timeout_ms : TIMEOUT_MS,
                         &look);
    if (status == CLI_OK && cli->args.watch_ms > 0)
        watch(cli, db, &look);
    else if (status == CLI_OK && cli->args.json)
        print_json(&look);
    else if (status == CLI_OK)
        print_table(&look);
    look_free(&look);
    pqr_close(db, 0);
    return status;
}

const struct command cmd_topology = {
    .name = "topology",
    .takes = "",
    .purpose = "show every server: role, state, lag, who serves reads and why not",
    .about = "Shows every server of every shard and of the control database, as this process\n"
             "sees them: connections are its own. Waits at most 5 s for servers that do not\n"
             "answer. Exit status 0 also when some are down: pqrouter check judges.\n",
    .example = "  pqrouter topology --watch 2\n",
    .flags = "watch timeout",
    .run = run,
};
