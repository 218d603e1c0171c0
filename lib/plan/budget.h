/* How many calls may be run again: a share of the recent ones, so that when much fails at once, trying
 * again does not double what is asked of servers that cannot keep up. Pure: calls and time come in. */
#ifndef PQI_BUDGET_H
#define PQI_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#define PQI_BUDGET_FLOOR 100    /* a quiet process has so many at hand … */
#define PQI_BUDGET_FLOOR_S 10   /* … and gets so many anew in a second, up to that */
#define PQI_BUDGET_RECENT 10000 /* calls whose share can be saved up */

/* All zero is a new one. */
struct pqi_budget {
    bool begun;
    double left;
    uint64_t calls; /* begun when it was asked last */
    int64_t asked_ns;
};

/* May one more be run again? `percent` of the calls, 0: none; `calls`: how many were begun so far. */
bool pqi_budget_take(struct pqi_budget *b, int64_t percent, uint64_t calls, int64_t now_ns);

#endif
