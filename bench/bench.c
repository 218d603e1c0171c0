/* Callers, rounds, ratios. */
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int64_t bench_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int bench_number(const char *name, int otherwise)
{
    const char *text = getenv(name);
    int number = text ? atoi(text) : 0;
    return number > 0 ? number : otherwise;
}

struct round {
    const struct bench_way *way;
    pthread_barrier_t start;
    _Atomic bool stop, failed;
    _Atomic int64_t calls;
};

struct caller {
    pthread_t thread;
    struct round *round;
    int number;
};

static void *call_on(void *arg)
{
    struct caller *c = arg;
    struct round *r = c->round;
    void *own = r->way->open(r->way->shared, c->number);
    bool good = own && r->way->call(own); /* connects, prepares */
    int64_t calls = 0;
    pthread_barrier_wait(&r->start);
    while (good && !atomic_load_explicit(&r->stop, memory_order_relaxed)) {
        good = r->way->call(own);
        calls++;
    }
    if (!good)
        atomic_store(&r->failed, true);
    atomic_fetch_add(&r->calls, calls);
    if (own)
        r->way->close(own);
    return NULL;
}

static void sleep_ms(int ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

/* Calls a second; negative: one failed. */
static double run_threads(const struct bench_way *way, int callers, int ms)
{
    struct caller *list = calloc((size_t)callers, sizeof *list);
    struct round round = {.way = way};
    if (!list || pthread_barrier_init(&round.start, NULL, (unsigned)callers + 1) != 0)
        exit(1);
    for (int i = 0; i < callers; i++) {
        list[i] = (struct caller){.round = &round, .number = i};
        if (pthread_create(&list[i].thread, NULL, call_on, &list[i]) != 0)
            exit(1);
    }
    pthread_barrier_wait(&round.start);
    int64_t begin = bench_now_ns();
    sleep_ms(ms);
    atomic_store(&round.stop, true);
    int64_t spent = bench_now_ns() - begin;
    for (int i = 0; i < callers; i++)
        pthread_join(list[i].thread, NULL);
    pthread_barrier_destroy(&round.start);
    free(list);
    return atomic_load(&round.failed) ? -1
                                      : (double)atomic_load(&round.calls) * 1e9 / (double)spent;
}

static double run(const struct bench_way *way, int callers, int ms)
{
    return way->run ? way->run(way->shared, callers, ms) : run_threads(way, callers, ms);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bool bench_compare(const char *what, const struct bench_way *ways, int n, int callers, int rounds,
                   int ms)
{
    double rate[8][BENCH_ROUNDS_MAX], ratio[8][BENCH_ROUNDS_MAX];
    rounds = rounds > BENCH_ROUNDS_MAX ? BENCH_ROUNDS_MAX : rounds;
    for (int r = 0; r < rounds; r++)
        for (int w = 0; w < n; w++) {
            rate[w][r] = run(&ways[w], callers, ms);
            if (rate[w][r] < 0) {
                fprintf(stderr, "%s: %s failed\n", what, ways[w].name);
                return false;
            }
            ratio[w][r] = rate[w][r] / rate[0][r];
        }
    for (int w = 0; w < n; w++) {
        qsort(rate[w], (size_t)rounds, sizeof(double), ascending);
        qsort(ratio[w], (size_t)rounds, sizeof(double), ascending);
        printf("%-8s %4d callers  %-22s %9.0f/s   %5.2f  (%.2f to %.2f)\n", what, callers,
               ways[w].name, rate[w][rounds / 2], ratio[w][rounds / 2], ratio[w][0],
               ratio[w][rounds - 1]);
    }
    fflush(stdout);
    return true;
}
