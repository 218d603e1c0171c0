/* Users who go from process to process with their tokens, while replicas stop to replay, and the
 * primary dies, twice. None may be shown less than he wrote or saw. Fleet: one shard, two replicas,
 * and a commit waits for one of them, so that no acknowledged write is lost with a primary.
 *
 * TOKENS_SECONDS: how long (20). It prints what it did; the last line is the result. */
#include "live.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 4, USERS = 64, NODES = 3 };

static const char *const nodes[NODES] = {"shard0/primary", "shard0/replica1", "shard0/replica2"};

/* What a user's browser knows. Only who holds him changes it. */
struct user {
    atomic_flag held;
    char token[PQR_TOKEN_MAX];
    int64_t wrote, shown, next;
    bool doubt; /* a write of his may have happened, or happen still */
    int by;     /* the process that served him last */
};

struct world {
    _Atomic bool end;
    _Atomic long reads, writes, unknown, failed, moves, on_primary;
    _Atomic long older_than_written, back_in_time, forks;
    struct user user[USERS];
};

static struct world *world;

static uint64_t chance(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return *seed >> 33;
}

/* ---- Users ----------------------------------------------------------------------------------- */

/* Between a primary and its synchronous standby the order in which a commit is seen is not one: that
 * may show it before the primary does, and before anybody knows whether it stays. */
static void judge(struct user *u, int64_t n, const char *source)
{
    bool older = n < u->wrote, back = n < u->shown;
    if ((older || back) && u->doubt)
        world->forks++;
    else if (older || back)
        printf("user %d was shown %lld by %s, after %lld was written and %lld seen; token %s\n",
               (int)(u - world->user), (long long)n, source, (long long)u->wrote,
               (long long)u->shown, u->token);
    world->older_than_written += older && !u->doubt;
    world->back_in_time += back && !u->doubt;
    if (n > u->shown || u->doubt)
        u->shown = n;
}

static void look(struct user *u, pqr_session *s)
{
    pqr_result *res = NULL;
    int code = pqr_read(s,
                        PQR_QUERY(.sql = "select n, pg_is_in_recovery() from step where id = $1",
                                  PQR_PARAMS(PQR_INT32((int32_t)(u - world->user)))),
                        &res, &live_error);
    world->failed += code != PQR_OK;
    if (code == PQR_OK) {
        world->reads++;
        world->on_primary += !pqr_bool(res, 0, 1);
        judge(u, pqr_int64(res, 0, 0), pqr_source(res));
    }
    pqr_result_free(res);
}

static void step(struct user *u, pqr_session *s)
{
    int64_t n = ++u->next;
    int code = pqr_write(s,
                         PQR_QUERY(.sql = "update step set n = $2 where id = $1",
                                   PQR_PARAMS(PQR_INT32((int32_t)(u - world->user)), PQR_INT64(n))),
                         NULL, &live_error);
    world->writes += code == PQR_OK;
    world->unknown += code == PQR_E_UNKNOWN;
    world->failed += code != PQR_OK && code != PQR_E_UNKNOWN;
    u->doubt |= code == PQR_E_UNKNOWN;
    if (code == PQR_OK)
        u->wrote = n;
}

static void visit(struct user *u, pqr *db, int process, uint64_t *seed)
{
    pqr_session *s = NULL;
    OK(pqr_session_open(db, PQR_SESSION(.tenant = "acme", .deadline_ms = 3000, .token = u->token),
                        &s, &live_error));
    world->moves += u->by != process;
    u->by = process;
    for (uint64_t i = chance(seed) % 4 + 1; i > 0; i--)
        look(u, s);
    if (chance(seed) % 8 == 0 && !u->doubt)
        step(u, s);
    if (chance(seed) % 4 == 0)
        look(u, s);
    assert_int_equal(pqr_session_token(s, u->token, sizeof u->token), PQR_OK);
    pqr_session_close(s);
}

static void serve(int process)
{
    uint64_t seed = (uint64_t)process * 7919 + 1;
    pqr *db = ROUTER("DB_HEALTH_INTERVAL=200ms", "DB_MAX_REPLICA_LAG=0",
                     "DB_MAX_REPLICA_LAG_BYTES=0");
    EVENTUALLY(60000, pqr_ready(db, 10000, NULL) == PQR_OK);
    while (!world->end) {
        struct user *u = &world->user[chance(&seed) % USERS];
        if (atomic_flag_test_and_set(&u->held))
            continue;
        visit(u, db, process, &seed);
        atomic_flag_clear(&u->held);
    }
    pqr_close(db, 3000);
}

/* Thread sanitizer cannot follow threads that are started in a child: there they are threads, which
 * share no more than processes would, since each has a router of its own. */
#ifdef __SANITIZE_THREAD__
static pthread_t server[PROCESSES];

static void *serve_here(void *arg)
{
    serve((int)((struct user *)arg - world->user));
    return NULL;
}

static void begin_serving(void)
{
    for (int i = 0; i < PROCESSES; i++)
        pthread_create(&server[i], NULL, serve_here, &world->user[i]);
}

static void end_serving(void)
{
    world->end = true;
    for (int i = 0; i < PROCESSES; i++)
        pthread_join(server[i], NULL);
}
#else
static pid_t server[PROCESSES];

static void begin_serving(void)
{
    fflush(stdout);
    for (int i = 0; i < PROCESSES; i++)
        if ((server[i] = fork()) == 0) {
            serve(i);
            fflush(stdout);
            _exit(0);
        }
}

static void end_serving(void)
{
    world->end = true;
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        assert_int_equal(waitpid(server[i], &status, 0), server[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}
#endif

/* ---- Faults ---------------------------------------------------------------------------------- */

static int primary; /* of `nodes` */

static void change_replay(const char *verb, int node)
{
    if (node != primary)
        fleet("%s %s", verb, nodes[node]);
}

/* A standby that is made while commits wait for one does not show these, though it has replayed them,
 * until it has replayed a later one (the snapshot that it begins with has them running): so none
 * wait meanwhile, as with an operator who makes a standby anew. */
static void wait_for_standbys(int node, bool yes)
{
    fleet("sql %s \"alter system %s\"", nodes[node],
          yes ? "reset synchronous_standby_names" : "set synchronous_standby_names = ''");
    fleet("sql %s \"select pg_reload_conf()\"", nodes[node]);
}

static void fail_over(void)
{
    int best = -1, other = -1;
    char at[64] = "";
    for (int i = 0; i < NODES; i++)
        change_replay("resume-replay", i);
    fleet("kill %s", nodes[primary]);
    for (int i = 0; i < NODES;
         i++) { /* the one that has received most: all that was acknowledged */
        if (i == primary)
            continue;
        if (best < 0 ||
            ask_number(nodes[i], "select (pg_last_wal_receive_lsn() > '%s')::int", at)) {
            other = best;
            best = i;
            snprintf(at, sizeof at, "%s", ask(nodes[i], "select pg_last_wal_receive_lsn()"));
        } else {
            other = i;
        }
    }
    int gone = primary;
    wait_for_standbys(best, false);
    fleet("promote %s", nodes[best]);
    primary = best;
    fleet("rejoin %s", nodes[other]);
    fleet("rejoin %s", nodes[gone]);
    for (int i = 0; i < NODES; i++)
        wait_for_standbys(i, true);
}

static void disturb(int64_t ms, uint64_t *seed)
{
    int64_t until = live_now_ms() + ms;
    while (live_now_ms() < until) {
        int node = (int)(chance(seed) % NODES);
        change_replay("pause-replay", node);
        live_sleep_ms((int)(chance(seed) % 600));
        change_replay("resume-replay", node);
        live_sleep_ms((int)(chance(seed) % 300));
    }
}

static void nobody_is_shown_less_than_he_wrote_or_saw(void **state)
{
    (void)state;
    const char *seconds = getenv("TOKENS_SECONDS");
    int64_t ms = (seconds ? strtol(seconds, NULL, 10) : 20) * 1000;
    uint64_t seed = 42;
    ask(nodes[0], "create table step(id int primary key, n bigint not null)");
    ask(nodes[0], "grant all on step to app");
    ask(nodes[0], "insert into step select i, 0 from generate_series(0, %d) i", USERS - 1);
    begin_serving();
    disturb(ms / 3, &seed);
    fail_over();
    disturb(ms / 3, &seed);
    fail_over();
    disturb(ms / 3, &seed);
    end_serving();
    print_message(
        "%ld reads with tokens by %d processes (%ld changes of process), %ld on a primary; "
        "%ld writes, %ld unknown; %ld calls failed, 2 failovers\n"
        "%ld older than what was written, %ld back in time (%ld apart: in doubt)\n",
        world->reads, PROCESSES, world->moves, world->on_primary, world->writes, world->unknown,
        world->failed, world->older_than_written, world->back_in_time, world->forks);
    assert_true(world->reads > 1000 && world->moves > 100 && world->writes > 100);
    assert_true(world->reads - world->on_primary > 100);
    assert_int_equal(world->older_than_written, 0);
    assert_int_equal(world->back_in_time, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_shown_less_than_he_wrote_or_saw),
    };
    world = mmap(NULL, sizeof *world, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (world == MAP_FAILED)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
