/* When a server is looked at again. Pure: chance is passed in. */
#ifndef PQI_PROBE_H
#define PQI_PROBE_H

#include <stdint.h>

/* Until the next look at servers that answer: the interval, give or take a tenth. While the shard has
 * had no primary beyond doubt for `missing_ms` (-1: it has one) sooner, since writes wait: every
 * 50 to 75 ms at first, more seldom when it lasts (a fortieth of it), 750 ms at the most. */
int64_t pqi_probe_in_ms(int64_t interval_ms, int64_t missing_ms, uint64_t chance);

/* Until the next try at one that has failed `failures` times in a row: 50 ms at first, doubling up to
 * one and a half intervals, give or take a quarter. A short restart is over at once, and the return
 * of one that was away for long is seen within two intervals. */
int64_t pqi_probe_again_ms(int64_t interval_ms, int failures, int64_t missing_ms, uint64_t chance);

#endif
