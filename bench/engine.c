/* One node, many callers: a point read and a small write, beside libpq with a connection a caller.
 *
 *     test/fleet.py up --replicas 0 --no-redis [--durable] -- build/bench/engine [read] [write]
 *
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

static bool compare(const char *what, const struct bench_way *libpq,
                    const struct bench_way *threads, const struct bench_way *loop, pqr *db)
{
    static const int callers[] = {1, 4, 16, 64};
    int rounds = bench_number("ROUNDS", 5), ms = bench_number("MS", 1000);
    int only = bench_number("CALLERS", 0);
    bool good = true;
    for (int i = 0; i < 4 && good; i++) {
        struct bench_way ways[] = {*libpq, *threads, *loop};
        ways[1].shared = ways[2].shared = db;
        if (only == 0 || only == callers[i])
            good = bench_compare(what, ways, 3, callers[i], rounds, ms);
    }
    return good;
}

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
        good = compare("read", &libpq_read, &pqrouter_read, &loop_read, db);
    if (good && wanted(argc, argv, "write"))
        good = compare("write", &libpq_write, &pqrouter_write, &loop_write, db);
    pqr_close(db, 1000);
    return good ? 0 : 1;
}
