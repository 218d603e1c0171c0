/* sim: the router in a fleet of model servers, in virtual time, from a seed.
 *
 *   sim SEED                 replays a seed, telling what happens
 *   sim --seeds FROM COUNT   tries so many; the first that breaks an invariant is printed
 *   sim --twice FROM COUNT   each twice: the second time must be the same history
 *   sim --stories            tells the stories (stories.c)
 *   sim --story NAME         one of them, with a trace
 *   … --mutant NAME          with a planted fault, which must be found */
#include "backend.h"
#include "callers.h"
#include "check.h"
#include "cluster.h"
#include "faults.h"
#include "mutants.h"
#include "net.h"
#include "router.h"
#include "stories.h"
#include "turns.h"

#include <inttypes.h>
#include <pqrouter/pqrouter.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CALM (5 * SECOND) /* so long after the last fault all must be well again */

/* ---- One history ---------------------------------------------------------------------------- */

static int64_t one_of(const int64_t *choices, size_t n)
{
    return choices[sim_below(SIM_SERVERS, n)];
}
#define ONE_OF(...) \
    one_of((const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

static void set_options(struct sim_variables *v)
{
    sim_fleet.connection_limit = (int)ONE_OF(2, 3, 4, 6, 10, 20);
    sim_set_urls(v, sim_odds(SIM_SERVERS, 20));
    sim_set(v, "DB_CONNECTION_LIMIT=%d", sim_fleet.connection_limit);
    sim_set(v, "DB_LANES=%d", (int)ONE_OF(0, 1, 3, 3));
    sim_set(v, "DB_PREPARED_STATEMENTS=%d", (int)ONE_OF(0, 2, 100));
    sim_set(v, "DB_HEALTH_INTERVAL=%dms", (int)ONE_OF(200, 500, 1000));
    sim_set(v, "DB_CONNECT_TIMEOUT=%dms", (int)ONE_OF(300, 1000, 10000));
    sim_set(v, "DB_MAX_REPLICA_LAG=%dms", (int)ONE_OF(0, 500, 5000));
    sim_set(v, "PQR_LOG=info");
    sim_set(v, "DB_IDLE_TIMEOUT=%d", (int)ONE_OF(1, 30));
}

static void drawn_story(void *arg)
{
    struct sim_variables v = {0};
    pqr *db;
    (void)arg;
    set_options(&v);
    if (!(db = sim_open(&v)))
        return;
    sim_callers_start(db, (int)sim_between(SIM_CALLERS, 2, 6), (int)sim_below(SIM_CALLERS, 3));
    int most = (int)ONE_OF(0, 1, 1, 2, 2, 3);
    int64_t until = sim_now() + sim_between(SIM_FAULTS, 1 * SECOND, 4 * SECOND);
    if (most > 0)
        sim_faults(until, most);
    else
        sim_sleep(until - sim_now());
    sim_say("all is calm");
    sim_net_mend();
    sim_callers_rest();
    sim_sleep(CALM);
    sim_callers_calm();
    sim_close(db);
    sim_check_finally();
}

/* false: it has broken something. */
static bool run(void (*first)(void *arg), void *arg)
{
    sim_check_begin();
    sim_net_begin(&sim_backend_service);
    sim_spawn("story", first, arg);
    sim_run(sim_net_collect);
    if (sim_violation())
        return false; /* threads stand where they stood: nothing can be cleared away */
    sim_net_over();
    sim_backends_over();
    sim_fleet_over();
    sim_check_over();
    sim_over();
    return true;
}

static int usage(void)
{
    fprintf(stderr,
            "usage: sim SEED | sim --seeds|--twice FROM COUNT | sim --stories | sim --story NAME;"
            " --mutant NAME behind it\n");
    return 2;
}

static bool run_seed(uint64_t seed, bool trace, uint64_t *fingerprint)
{
    sim_begin(seed, trace);
    int shards = (int)ONE_OF(1, 1, 1, 2);
    sim_fleet_begin(shards, (int)ONE_OF(1, 2, 2, 3), &sim_backend_sessions);
    for (int i = 0; i < shards; i++)
        sim_fleet.shard[i].sync = sim_odds(SIM_SERVERS, 40);
    bool good = run(drawn_story, NULL);
    *fingerprint = sim_fingerprint();
    return good;
}

/* ---- Stories -------------------------------------------------------------------------------- */

static void tell(void *arg)
{
    const struct sim_story *s = arg;
    s->tell();
}

static bool run_story(const struct sim_story *s, bool trace)
{
    struct sim_story copy = *s;
    sim_begin(1, trace);
    sim_fleet_begin(1, s->standbys, &sim_backend_sessions);
    bool good = run(tell, &copy);
    printf("%s %s%s%s\n", good ? "ok    " : "not ok", s->name, good ? "" : ": ",
           good ? "" : sim_violation());
    return good;
}

/* One, with a trace, or (NULL) all. One that fails is the last. */
static int run_stories(const char *name)
{
    int told = 0;
    for (const struct sim_story *s = sim_stories; s->name; s++) {
        if (name && strcmp(name, s->name) != 0)
            continue;
        told++;
        if (!run_story(s, name != NULL))
            return 1;
    }
    return told > 0 ? 0 : usage();
}

/* ---- Many ----------------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int found(uint64_t seed, const char *mutant, uint64_t tried)
{
    if (mutant) {
        printf("%s: found by seed %" PRIu64 ", the %" PRIu64 "th: %s\n", mutant, seed, tried,
               sim_violation());
        return 0;
    }
    printf("seed %" PRIu64 ": %s\nReplay it: test/sim/sim %" PRIu64 "\n", seed, sim_violation(),
           seed);
    return 1;
}

static int run_seeds(uint64_t from, uint64_t count, bool twice, const char *mutant)
{
    double begun = seconds();
    uint64_t first, second;
    for (uint64_t seed = from; seed < from + count; seed++) {
        if (!run_seed(seed, false, &first))
            return found(seed, mutant, seed - from + 1);
        if (twice && (!run_seed(seed, false, &second) || first != second)) {
            printf("seed %" PRIu64 ": the second time it is another history\n", seed);
            return 1;
        }
    }
    const struct sim_counts *n = &sim_count;
    printf("%" PRIu64 " seeds, %.1f ms each: %" PRIu64 " reads (%" PRIu64 " unserved), %" PRIu64
           " writes: %" PRIu64 " done, %" PRIu64 " did not happen, %" PRIu64 " unknown (%" PRIu64
           " did happen); %" PRIu64 " lost by %" PRIu64 " failovers and %" PRIu64
           " accidents; %" PRIu64 " long forks; %" PRIu64 " faults\n",
           count, (seconds() - begun) * 1e3 / (double)count, n->reads, n->unserved, n->writes,
           n->ok, n->failed, n->unknown, n->happened, n->lost, n->failovers, n->accidents,
           n->long_fork, n->faults);
    if (mutant)
        printf("%s: not found\n", mutant);
    return mutant ? 1 : 0;
}

int main(int argc, char **argv)
{
    const char *mutant = NULL;
    uint64_t fingerprint;
    if (argc > 2 && strcmp(argv[argc - 2], "--mutant") == 0) {
        mutant = argv[argc - 1];
        argc -= 2;
        if (!sim_mutate(mutant))
            return usage();
    }
    if (argc == 2 && strcmp(argv[1], "--stories") == 0)
        return run_stories(NULL);
    if (argc == 3 && strcmp(argv[1], "--story") == 0)
        return run_stories(argv[2]);
    if (argc == 2) {
        uint64_t seed = strtoull(argv[1], NULL, 10);
        bool good = run_seed(seed, true, &fingerprint);
        printf("seed %" PRIu64 ": %s (fingerprint %016" PRIx64 ", %" PRIu64 " turns)\n", seed,
               good ? "all held" : sim_violation(), fingerprint, sim_turns());
        return good ? 0 : 1;
    }
    if (argc != 4 || (strcmp(argv[1], "--seeds") != 0 && strcmp(argv[1], "--twice") != 0))
        return usage();
    return run_seeds(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10),
                     strcmp(argv[1], "--twice") == 0, mutant);
}
