/* The command line's options: each once, and which command takes which. */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include "cli.h"

#include <stdio.h>

/* Reads argv[1] on into `args`. Without a command: up to the first argument that is no option.
 * CLI_USAGE: said on stderr already. */
int args_read(struct args *args, const struct command *command, int argc, char **argv);

void args_free(struct args *args);

/* A line for each option that the command takes; NULL: for those before a command. */
void args_help(FILE *out, const struct command *command);

#endif
