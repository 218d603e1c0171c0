/* Planted faults, which the simulator must find. */
#ifndef SIM_MUTANTS_H
#define SIM_MUTANTS_H

#include <stdbool.h>

/* Switches one on; false: there is none of that name. */
bool sim_mutate(const char *name);

#endif
