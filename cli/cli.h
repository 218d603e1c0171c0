/* What the commands share: what a command is, and what it is given.
 *
 * A command prints its answer to stdout, as a table or as one JSON value, and its errors to
 * stderr. It returns an exit status. */
#ifndef CLI_H
#define CLI_H

#include <pqrouter/admin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit statuses. */
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_CONFIG = 3 };

/* The command line, read. Strings are the command line's own. */
struct args {
    bool help, version;
    bool json;
    const char *env_file; /* NULL: none */
    int64_t timeout_ms;   /* 0: not given, as with all times */
    int64_t watch_ms;
    int64_t deadline_ms;
    bool sql, write, control;
    const char *shard;
    const char *older_than; /* NULL: not given */
    const char *level;      /* NULL: not given */
    const char **params;
    size_t nparams;
    char **rest; /* what is no option, and its count */
    int nrest;
};

struct cli {
    const struct command *command;
    struct args args;
    const struct environment *env;
};

struct command {
    const char *name;
    const char *takes;   /* its arguments, as the help shows them */
    const char *purpose; /* half a sentence, for the list of commands */
    const char *about;   /* lines for its own help */
    const char *example;
    const char *flags; /* the names of its options, a blank between them */
    int least, most;   /* how many arguments */
    int (*run)(struct cli *cli);
};

extern const struct command cmd_check, cmd_env, cmd_init, cmd_pin, cmd_purge, cmd_topology,
    cmd_route, cmd_slot, cmd_query, cmd_docs;

#endif
