/* The variables of ours that an environment sets: found by their names, trimmed, read from their
 * files. What their texts mean, others know. */
#ifndef PQI_VARIABLES_H
#define PQI_VARIABLES_H

#include "notes.h"
#include "option.h"

enum { PQI_URL_BYTES = 8192, PQI_REPLICAS_MAX = 32 };

struct pqi_var {
    const struct pqi_option *option;
    int i, n;     /* the numbers in its name, where it has any */
    bool file;    /* it is NAME_FILE */
    int position; /* in the environment */
    char name[PQI_NAME_BYTES];
    char *text; /* what it says, trimmed; what its file holds; NULL: refused; of a URL also "":
                   its file is at fault */
    struct pqi_shard_conf conf; /* of a URL, once that is read: its servers */
};

/* By option, shard and replica. Zero-initialised is empty. */
struct pqi_vars {
    struct pqi_var *list;
    int n;
};

/* Planned options are refused, ignored ones and misspelt ones warned of. */
void pqi_vars_read(struct pqi_vars *vars, const char *const *env, struct pqi_notes *notes);
void pqi_vars_free(struct pqi_vars *vars);

/* The variable of an option, with the numbers in its name; NULL: it is not set, or refused. */
struct pqi_var *pqi_vars_find(const struct pqi_vars *vars, const struct pqi_option *option, int i,
                              int n);
struct pqi_var *pqi_vars_find_named(const struct pqi_vars *vars, const char *name);

/* The first variable of an option whose name has numbers; NULL: none. */
struct pqi_var *pqi_vars_find_any(const struct pqi_vars *vars, const struct pqi_option *option);

#endif
