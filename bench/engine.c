/* One node, many callers: a point read and a small write, beside libpq with a connection a caller.
 *
 *     test/fleet.py up --replicas 0 --no-redis [--durable] -- build/bench/engine [read] [write]
 *
 * A write of pqrouter's is more than the statement: libpq with the same around it is there as well.
 * ROUNDS, MS: how many rounds and how long each; CALLERS: only so many. */
#include "ways.h"

#include <stdio.h>
#include <string.h>

static bool wanted(int argc, char **argv, const char *what)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], what) == 0)
            return true;
    return argc == 1;
}

/* The first is what the others are measured by. */
static bool compare(const char *what, const struct bench_way *const *ways, int n, pqr *db)
{
    static const int callers[] = {1, 4, 16, 64};
    int rounds = bench_number("ROUNDS", 5), ms = bench_number("MS", 1000);
    int only = bench_number("CALLERS", 0);
    bool good = true;
    for (int i = 0; i < 4 && good; i++) {
        struct bench_way turns[8];
        for (int j = 0; j < n; j++) {
            turns[j] = *ways[j];
            turns[j].shared = db;
        }
        if (only == 0 || only == callers[i])
            good = bench_compare(what, turns, n, callers[i], rounds, ms);
    }
    return good;
}

static const struct bench_way *const reads[] = {&libpq_read, &pqrouter_read, &loop_read};
static const struct bench_way *const writes[] = {&libpq_write, &by_hand_write, &pqrouter_write,
                                                 &loop_write, &pqrouter_write_no_id};
#define COUNT(list) ((int)(sizeof(list) / sizeof *(list)))

int main(int argc, char **argv)
{
    pqr *db;
    pqr_error err;
    if (pqr_open(&db, NULL, &err) != PQR_OK || pqr_ready(db, 10000, &err) != PQR_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    bool good = ways_prepare(db);
    if (good && wanted(argc, argv, "read"))
        good = compare("read", reads, COUNT(reads), db);
    if (good && wanted(argc, argv, "write"))
        good = compare("write", writes, COUNT(writes), db);
    pqr_close(db, 1000);
    return good ? 0 : 1;
}
