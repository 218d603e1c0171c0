/* Stories. */
#include "stories.h"

#include "backend.h"
#include "check.h"
#include "cluster.h"
#include "net.h"
#include "router.h"
#include "turns.h"

#include <string.h>

#define THAT(is)                                                           \
    do {                                                                   \
        if (!(is))                                                         \
            sim_violated("stories.c:%d: it is not so: %s", __LINE__, #is); \
    } while (0)
#define MINUTE_MS 60000

/* ---- Words ---------------------------------------------------------------------------------- */

/* A router that knows all its servers, `options` ended by NULL. */
static pqr *router_by(bool names, const char *const *options)
{
    struct sim_variables v = {0};
    pqr_error err;
    sim_fleet.connection_limit = 20;
    sim_set_urls(&v, names);
    for (; *options; options++)
        sim_set(&v, "%s", *options);
    pqr *db = sim_open(&v);
    if (db && pqr_ready(db, 5000, &err) != PQR_OK)
        sim_violated("the router is not ready: %s", err.message);
    sim_sleep(100 * MS);
    return db;
}
#define ROUTER(...) router_by(false, (const char *const[]){__VA_ARGS__, NULL})
#define ROUTER_BY_NAMES(...) router_by(true, (const char *const[]){__VA_ARGS__, NULL})

static struct sim_server *primary(void)
{
    return sim_fleet.shard[0].primary;
}

static struct sim_server *standby(int i)
{
    return &sim_fleet.shard[0].server[i];
}

static pqr_session *session(pqr *db, int64_t deadline_ms)
{
    pqr_session *s = NULL;
    pqr_session_open(db, PQR_SESSION(.tenant = "tenant1", .deadline_ms = deadline_ms), &s, NULL);
    return s;
}

static const pqr_param whose[] = {PQR_TEXT("1"), PQR_TEXT("1"), PQR_TEXT("1")};
static const pqr_query read_query = {
    .size = sizeof read_query,
    .sql = "select tenant, key, uids, hidden from log where tenant = $1 and key = $2 -- $3",
    .params = whose,
    .nparams = 3,
};

static int read_by(pqr_session *s)
{
    return pqr_read(s, &read_query, NULL, NULL);
}

static const pqr_param append_1[] = {PQR_TEXT("1"), PQR_TEXT("1"), PQR_TEXT("1"), PQR_TEXT("1")};
static const pqr_query write_query = {
    .size = sizeof write_query,
    .sql = "insert into log(tenant, key, uid, unit) values ($1, $2, $3, $4)",
    .params = append_1,
    .nparams = 4,
};

static int state_of(pqr *db, const struct sim_server *s)
{
    pqr_node_health h[SIM_NODES_MAX];
    pqr_health(db, h, SIM_NODES_MAX, sizeof h[0]);
    return h[s->index].state;
}

/* ---- Failing over --------------------------------------------------------------------------- */

static void promote_later(void *arg)
{
    sim_sleep(800 * MS);
    sim_promote(arg, true);
}

static void a_write_survives_the_death_of_the_primary(void)
{
    pqr *db = ROUTER("DB_HEALTH_INTERVAL=200ms");
    pqr_session *s = session(db, 5000);
    sim_check_write(1, 1, sim_now());
    sim_crash(primary(), false);
    sim_spawn("operator", promote_later, standby(1));
    THAT(pqr_write(s, &write_query, NULL, NULL) == PQR_OK);
    THAT(primary() == standby(1) && primary()->received == 2); /* its promotion, the write */
    pqr_session_close(s);
    sim_close(db);
}

/* Else a server that was killed long ago could be followed, for all that was known of it. */
static void a_server_that_ends_is_known_to_be_down_before_it_is_asked_again(void)
{
    pqr *db = ROUTER("DB_HEALTH_INTERVAL=5m");
    THAT(state_of(db, standby(1)) == PQR_NODE_UP);
    sim_sleep(10 * SECOND);
    sim_crash(standby(1), false);
    sim_sleep(200 * MS);
    THAT(state_of(db, standby(1)) == PQR_NODE_DOWN);
    sim_close(db);
}

static int answer;

static void read_primary(void *arg)
{
    pqr_query q = read_query;
    q.level = PQR_LEVEL_PRIMARY;
    pqr_result *res = NULL;
    answer = pqr_read(arg, &q, &res, NULL);
    if (answer == PQR_OK)
        sim_check_read(1, 1, res, NULL, sim_now()); /* it shows the write */
    pqr_result_free(res);
}

/* Whoever knows of it first: the monitor, by a connection of its own, or the call. */
static void a_read_of_the_primary_does_not_run_where_that_has_become_a_standby(void)
{
    for (int i = 0; i < 20; i++) {
        struct sim_server *old = primary(), *next = standby(1 - old->index);
        pqr *db = ROUTER("DB_HEALTH_INTERVAL=1", i % 2 ? "DB_LANES=0" : "DB_LANES=1");
        pqr_session *s = session(db, 5000);
        sim_cut(old, true, true);
        struct sim_thread *reader = sim_spawn("reader", read_primary, s);
        sim_sleep(100 * MS);
        sim_promote(next, true);
        sim_sleep(500 * MS);
        int uid = sim_check_write(1, 1, sim_now());
        sim_commit(next, 0, &(struct sim_append){1, 1, uid}, 1);
        sim_check_wrote(uid, SIM_OK, &(pqr_error){0}, NULL);
        sim_rejoin(old, next);
        old->received -= 1; /* it has not heard of the write yet, and will not */
        old->replayed = old->received;
        old->upstream = NULL;
        sim_sleep(500 * MS + i * 50 * US);
        sim_cut(old, false, false);
        sim_join(reader);
        THAT(answer == PQR_OK);
        pqr_session_close(s);
        sim_close(db);
        sim_rejoin(old, next);
        sim_sleep(1 * SECOND);
    }
}

/* ---- Connecting ----------------------------------------------------------------------------- */

static int ended;

static void on_end(void *arg, const pqr_done *done)
{
    (void)arg;
    ended += done->err->code == PQR_OK;
    pqr_result_free(done->res);
}

static void calls_of_a_loop_that_connect_to_one_name_do_not_wait_for_their_deadlines(void)
{
    pqr *db = ROUTER_BY_NAMES("DB_LANES=0");
    pqr_session *s = session(db, MINUTE_MS);
    pqr_loop *loop;
    ended = 0;
    THAT(pqr_loop_open(db, &loop, NULL) == PQR_OK);
    for (int i = 0; i < 3; i++)
        pqr_submit_read(loop, s, &read_query, on_end, NULL, NULL, NULL);
    int64_t until = sim_now() + 500 * MS;
    while (sim_now() < until && ended < 3) {
        struct pollfd one = {.fd = pqr_loop_fd(loop), .events = POLLIN};
        sim_wait(&one, 1, NULL, until);
        pqr_loop_dispatch(loop, 0);
    }
    THAT(ended == 3);
    pqr_loop_close(loop);
    pqr_session_close(s);
    sim_close(db);
}

/* The next connection to a server gets no answer, ever. */
static void deafen(void *arg)
{
    const struct sim_server *s = arg;
    int before = s->nbackends;
    while (s->nbackends <= before)
        sim_sleep(10 * US);
    s->backends->conn->swallows = true;
}

static void reads_do_not_wait_for_a_lane_whose_server_is_silent(void)
{
    pqr *db = ROUTER("DB_CONNECT_TIMEOUT=10");
    pqr_session *s = session(db, 5000);
    sim_spawn("deafener", deafen, primary());
    THAT(read_by(s) == PQR_OK);
    int64_t begun = sim_now();
    THAT(read_by(s) == PQR_OK);
    THAT(sim_now() - begun < 200 * MS); /* it is known by now that this takes long */
    pqr_session_close(s);
    sim_close(db);
}

const struct sim_story sim_stories[] = {
#define STORY(name, standbys) \
    {                         \
#name, standbys, name \
    }
    STORY(a_write_survives_the_death_of_the_primary, 2),
    STORY(a_server_that_ends_is_known_to_be_down_before_it_is_asked_again, 1),
    STORY(a_read_of_the_primary_does_not_run_where_that_has_become_a_standby, 1),
    STORY(calls_of_a_loop_that_connect_to_one_name_do_not_wait_for_their_deadlines, 0),
    STORY(reads_do_not_wait_for_a_lane_whose_server_is_silent, 0),
    {NULL, 0, NULL},
};
