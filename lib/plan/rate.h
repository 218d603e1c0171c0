/* How many a second: a bound, and a count. Pure: moments are passed in. */
#ifndef PQI_RATE_H
#define PQI_RATE_H

#include <stdbool.h>
#include <stdint.h>

/* A bucket that holds one second's worth, full at first. All zero: no bound. */
struct pqi_rate {
    int64_t per_s;
    int64_t full_ns; /* when it is full again: a second from now when it is empty */
};

/* Takes one. false: *next_ns is when there is one again. */
bool pqi_rate_take(struct pqi_rate *r, int64_t now_ns, int64_t *next_ns);

/* All of them, and the most in one second (by the clock's seconds). All zero at first. */
struct pqi_meter {
    uint64_t all;
    int64_t second;
    int in_second, most;
};

void pqi_meter_add(struct pqi_meter *m, int64_t now_ns);

#endif
