/* What is noticed in a configuration and is no fault. */
#ifndef CLI_WARNINGS_H
#define CLI_WARNINGS_H

#include "environment.h"

struct warnings {
    char **texts;
    int n;
};

/* Of a configuration without faults; of another there are none. */
void warnings_read(struct warnings *w, const struct environment *env);
void warnings_free(struct warnings *w);

#endif
