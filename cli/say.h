/* What is said when something does not work: on stderr, and with --json also as JSON. */
#ifndef CLI_SAY_H
#define CLI_SAY_H

#include "cli.h"
#include "json.h"

/* "pqrouter: …" */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The command line is wrong; command may be NULL. Returns CLI_USAGE. */
int say_usage(const struct command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* What the library said, with what to do about it where its message does not tell. Returns the
 * exit status. */
int say_error(const struct cli *cli, const pqr_error *err);

/* The same with an advice of one's own; NULL: none. */
int say_error_and(const struct cli *cli, const pqr_error *err, const char *advice);

/* The same on stderr alone. */
int say_error_text(const pqr_error *err);

/* Every fault of the configuration, a line each. Returns CLI_CONFIG. */
int say_faults(const struct cli *cli);

/* What to do about an error where its message does not tell; NULL: nothing to add. */
const char *advice_for(const pqr_error *err);

/* An error as an object. */
void json_error(struct json *j, const char *name, const pqr_error *err);

#endif
