/* The router in the fleet: its options, opening and closing. */
#ifndef SIM_ROUTER_H
#define SIM_ROUTER_H

#include <pqrouter/pqrouter.h>
#include <stdbool.h>

#define SIM_VARIABLES_MAX 40

/* Its environment. All zero is empty. */
struct sim_variables {
    char text[SIM_VARIABLES_MAX][120];
    const char *env[SIM_VARIABLES_MAX + 1];
    int n;
};

void sim_set(struct sim_variables *v, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Where the fleet's servers are: by name, or by address. */
void sim_set_urls(struct sim_variables *v, bool names);

/* NULL: it has not opened, and that is a violation. */
pqr *sim_open(struct sim_variables *v);
/* Also looks that it is closed in time and leaves no connection. */
void sim_close(pqr *db);

#endif
