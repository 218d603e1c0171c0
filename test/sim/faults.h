/* What goes wrong. */
#ifndef SIM_FAULTS_H
#define SIM_FAULTS_H

#include <stdint.h>

/* Lets things go wrong until the moment; `most` at once. Everything is mended when it returns: each
 * shard has one primary, which all its standbys follow. Only on a thread. */
void sim_faults(int64_t until, int most);

#endif
