/* What the benchmarks share: callers in threads, rounds in turn, medians and ratios. A figure by
 * itself says nothing on a machine that does other things too: only ratios of one run are quoted. */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stdint.h>

enum { BENCH_ROUNDS_MAX = 25 };

/* One way of doing the work. Each caller is a thread that calls `call` until time is up. */
struct bench_way {
    const char *name;
    void *(*open)(void *shared, int number); /* a caller's own state */
    bool (*call)(void *own);                 /* one call; false: it failed, the run ends */
    void (*close)(void *own);
    void *shared;
    /* Instead of the three: does the work with `callers` calls in flight by itself, and for `ms` from
     * the moment that each was done once. Calls a second; negative: one failed. */
    double (*run)(void *shared, int callers, int ms);
};

/* Runs the ways in turn, `rounds` times, with so many callers, `ms` each; prints calls a second
 * (medians) and each way's ratio to the first one's, round by round (median, least, most).
 * false: a call failed. */
bool bench_compare(const char *what, const struct bench_way *ways, int n, int callers, int rounds,
                   int ms);

int64_t bench_now_ns(void);

/* A number from the environment, such as ROUNDS, or what is given. */
int bench_number(const char *name, int otherwise);

#endif
