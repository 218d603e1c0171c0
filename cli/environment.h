/* The variables that configure the library: those of a file, then those of the process. */
#ifndef CLI_ENVIRONMENT_H
#define CLI_ENVIRONMENT_H

#include <stdbool.h>

struct environment;

/* Of the process, and of a file whose lines are NAME=value or export NAME='value' (NULL: none);
 * what the file has wins. NULL: the file cannot be read, or has other lines; `wrong` says which
 * (free). */
struct environment *environment_read(const char *file, char **wrong);
void environment_free(struct environment *e);

/* "NAME=value" strings, ended by NULL, as in pqr_options. */
const char *const *environment_list(const struct environment *e);

/* Is this variable the file's? */
bool environment_in_file(const struct environment *e, const char *name);

#endif
