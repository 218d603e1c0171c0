/* The command pqrouter: finds the command, reads its options, prints its help. */
#include "args.h"
#include "environment.h"
#include "json.h"
#include "say.h"

#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const struct command *const commands[] = {
    &cmd_check,    &cmd_env,   &cmd_init, &cmd_pin,   &cmd_purge,
    &cmd_topology, &cmd_route, &cmd_slot, &cmd_query, &cmd_docs,
};

enum { COMMANDS = sizeof commands / sizeof *commands };

/* ---- Help ----------------------------------------------------------------------------------- */

static void print_help(FILE *out)
{
    fputs("Usage: pqrouter [option …] COMMAND …\n\n"
          "Routes tenants' statements over a PostgreSQL fleet: this command looks at the\n"
          "fleet and sets it up. The fleet is told by environment variables, which\n"
          "`pqrouter docs options` lists.\n\n"
          "Commands:\n",
          out);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->purpose);
    fputs("\nOptions, before or after the command:\n", out);
    args_help(out, NULL);
    fputs(
        "\n`pqrouter COMMAND --help` tells more of each.\n"
        "Exit status: 0 done; 1 failed, stderr says why; 2 usage; 3 the configuration is wrong.\n",
        out);
}

static void print_command_help(FILE *out, const struct command *c)
{
    fprintf(out, "Usage: pqrouter %s [option …]%s%s\n\n%s\nOptions:\n", c->name,
            *c->takes ? " " : "", c->takes, c->about);
    args_help(out, c);
    fprintf(out, "\nExample:\n%s", c->example);
}

static int print_version(const struct args *args)
{
    struct json j = {stdout, false};
    if (!args->json) {
        printf("pqrouter %s\n", pqr_version());
        return CLI_OK;
    }
    json_object(&j, NULL);
    json_text(&j, "version", pqr_version());
    json_end_object(&j);
    json_done(&j);
    return CLI_OK;
}

/* ---- Running -------------------------------------------------------------------------------- */

static const struct command *find(const char *name)
{
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static int check_count(const struct cli *cli)
{
    const struct command *c = cli->command;
    int n = cli->args.nrest;
    if (n >= c->least && n <= c->most)
        return CLI_OK;
    if (c->most == 0)
        return say_usage(c, "%s takes no argument", c->name);
    return say_usage(c, "%s takes %s: an argument is %s", c->name, c->takes,
                     n < c->least ? "missing" : "too much");
}

static int run_command(struct cli *cli)
{
    if (cli->args.help) {
        print_command_help(stdout, cli->command);
        return CLI_OK;
    }
    int status = check_count(cli);
    if (status != CLI_OK)
        return status;
    char *wrong;
    struct environment *env = environment_read(cli->args.env_file, &wrong);
    if (!env) {
        say("%s", wrong);
        free(wrong);
        return CLI_CONFIG;
    }
    cli->env = env;
    status = cli->command->run(cli);
    environment_free(env);
    return status;
}

/* `pqrouter help [COMMAND]` is understood too. */
static int run_help(const char *name)
{
    const struct command *c = name ? find(name) : NULL;
    if (name && !c)
        return say_usage(NULL, "there is no command %s", name);
    if (c)
        print_command_help(stdout, c);
    else
        print_help(stdout);
    return CLI_OK;
}

static int run(struct cli *cli, int argc, char **argv)
{
    int status = args_read(&cli->args, NULL, argc, argv);
    if (status != CLI_OK)
        return status;
    if (cli->args.version)
        return print_version(&cli->args);
    if (cli->args.help)
        return run_help(NULL);
    if (cli->args.nrest == 0) {
        print_help(stderr);
        return CLI_USAGE;
    }
    argc = cli->args.nrest;
    argv = cli->args.rest;
    if (strcmp(argv[0], "help") == 0)
        return run_help(argc > 1 ? argv[1] : NULL);
    cli->command = find(argv[0]);
    if (!cli->command)
        return say_usage(NULL, "there is no command %s", argv[0]);
    status = args_read(&cli->args, cli->command, argc, argv);
    return status == CLI_OK ? run_command(cli) : status;
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    setlocale(LC_CTYPE, "C.UTF-8"); /* for how wide characters are, whatever the user's is */
    signal(SIGPIPE, SIG_DFL);       /* `| head` ends it, also where the parent ignores the signal */
    int status = run(&cli, argc, argv);
    args_free(&cli.args);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == CLI_OK) {
        say("the answer cannot be written to standard output");
        status = CLI_FAILED;
    }
    return status;
}
