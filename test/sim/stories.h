/* Stories: a fleet in which one thing happens, told step by step. Where the seeds have found a fault
 * of the library's, it has its story here. */
#ifndef SIM_STORIES_H
#define SIM_STORIES_H

#include <stdbool.h>

/* A sentence; how many standbys there are; what happens (on a thread, with the fleet up). */
struct sim_story {
    const char *name;
    int standbys;
    void (*tell)(void);
};

/* Ended by one without a name. */
extern const struct sim_story sim_stories[];

#endif
