/* pqrouter docs: the reference pages, from the lists that the library is made of. */
#include "json.h"
#include "say.h"

#include <stdio.h>

static void print(void *arg, const char *text)
{
    const struct cli *cli = arg;
    struct json j = {stdout, false};
    if (!cli->args.json) {
        fputs(text, stdout);
        return;
    }
    json_object(&j, NULL);
    json_text(&j, "page", cli->args.rest[0]);
    json_text(&j, "text", text);
    json_end_object(&j);
    json_done(&j);
}

static int run(struct cli *cli)
{
    pqr_error err;
    if (pqr_docs(cli->args.rest[0], print, cli, &err) == PQR_OK)
        return CLI_OK;
    return say_error(cli, &err);
}

const struct command cmd_docs = {
    .name = "docs",
    .takes = "PAGE",
    .purpose = "print a reference page: options, errors",
    .about = "Prints a reference page as Markdown: options (every environment variable), or\n"
             "errors (every error code and what to do).\n",
    .example = "  pqrouter docs options | less\n",
    .flags = "",
    .least = 1,
    .most = 1,
    .run = run,
};
