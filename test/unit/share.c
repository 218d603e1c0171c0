/* Lanes of many groups at one server: never more than its share, whoever asks at once. Nothing connects
 * here: who wants a lane is only noted. */
#include "../../lib/run/lane.h"
#include "../../lib/run/state.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { GROUPS = 8 };

static struct pqi_options options;
static struct pqr db;
static struct pqi_shard shard;
static struct pqi_target target;
static struct pqi_node node;
static struct pqi_group groups[GROUPS];

static int begin(void **state)
{
    (void)state;
    memset(&db, 0, sizeof db);
    memset(&node, 0, sizeof node);
    memset(groups, 0, sizeof groups);
    options = (struct pqi_options){.connection_limit = 3, .lanes = 3};
    db.options = &options;
    db.nnodes = 1;
    pqi_wanted_init(&db.wanted);
    shard.db = &db;
    node.shard = &shard;
    node.target = &target;
    for (int i = 0; i < GROUPS; i++)
        assert_true(pqi_group_init(&groups[i], &db));
    return 0;
}

/* None could be opened. */
static int fail_all(void)
{
    int n = 0;
    for (struct pqi_lane *lane; (lane = pqi_wanted_next(&db.wanted)); n++)
        pqi_lane_fail(lane, PQI_OUT_TROUBLE, NULL, NULL);
    assert_int_equal(atomic_load(&node.lanes), 0);
    return n;
}

static int end(void **state)
{
    (void)state;
    fail_all();
    for (int i = 0; i < GROUPS; i++)
        pqi_group_free(&groups[i], false);
    pqi_wanted_free(&db.wanted);
    return 0;
}

static void half_of_the_connections_are_for_lanes(void **state)
{
    (void)state;
    options.connection_limit = 20; /* one is the monitor's */
    int n = 0;
    for (int i = 0; i < GROUPS; i++)
        for (int j = 0; j < 3; j++) {
            struct pqi_lane *lane = pqi_lane_choose(&groups[i], &node, false);
            if (lane)
                atomic_store(&lane->load, 1); /* busy: the next one wants another */
        }
    n = atomic_load(&node.lanes);
    assert_int_equal(n, 9);
    assert_int_equal(fail_all(), 9);
}

enum { ROUNDS = 5000 };

static _Atomic int go, came; /* the round that has begun; how many are through with it */

static void await(_Atomic int *what, int at_least)
{
    for (int i = 0; atomic_load(what) < at_least; i++)
        if (i % 1000 == 999)
            sched_yield();
}

static void *want_one(void *arg)
{
    for (int i = 1; i <= ROUNDS; i++) {
        await(&go, i);
        pqi_lane_choose(arg, &node, false);
        atomic_fetch_add(&came, 1);
    }
    return NULL;
}

static void groups_that_ask_at_once_get_no_more_than_there_is(void **state)
{
    (void)state;
    enum { TWO = 2 };
    pthread_t thread[TWO];
    int most = 0;
    for (int i = 0; i < TWO; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, want_one, &groups[i]), 0);
    for (int i = 1; i <= ROUNDS; i++) {
        atomic_store(&go, i);
        await(&came, i * TWO);
        int n = atomic_load(&node.lanes);
        most = n > most ? n : most;
        assert_int_equal(fail_all(), n);
    }
    for (int i = 0; i < TWO; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(most,
                     1); /* of three connections: the monitor's, a lane's, and one for writes */
}

/* It was open when it was chosen. */
static void one_that_was_closed_meanwhile_is_not_boarded_if_another_group_has_its_room(void **state)
{
    (void)state;
    struct pqi_waiter waiter;
    struct pqi_rider rider = {.waiter = &waiter};
    pqi_waiter_init(&waiter);
    struct pqi_lane *lane = pqi_lane_choose(&groups[0], &node, false);
    assert_non_null(lane);
    fail_all();
    assert_non_null(pqi_lane_choose(&groups[1], &node, false));
    assert_null(pqi_lane_choose(&groups[0], &node, false));
    assert_false(pqi_lane_board(lane, &rider));
    assert_int_equal(atomic_load(&lane->load), 0);
    assert_int_equal(atomic_load(&node.lanes), 1);
    fail_all();
    assert_true(pqi_lane_board(lane, &rider));
    assert_int_equal(atomic_load(&node.lanes), 1);
    fail_all();
    assert_true(pqi_waiter_finished(&waiter));
    assert_int_equal(rider.outcome, PQI_OUT_TROUBLE);
    pqi_waiter_free(&waiter);
}

/* It has waited for the connection while its server became another one. */
static void one_that_was_placed_in_another_time_is_not_sent(void **state)
{
    (void)state;
    pqr_error err;
    struct pqi_waiter waiter;
    struct pqi_rider rider = {.waiter = &waiter, .generation = 1, .err = &err};
    struct pqi_answer answer = {0};
    struct pqi_conn conn = {
        .state = PQI_IDLE, .generation = 2, .answers = &answer, .n = 1}; /* nothing is sent on it */
    rider.until_ns = PQI_FOREVER;
    pqi_waiter_init(&waiter);
    struct pqi_lane *lane = pqi_lane_choose(&groups[0], &node, false);
    assert_true(pqi_lane_board(lane, &rider));
    assert_ptr_equal(pqi_wanted_next(&db.wanted), lane);
    atomic_store(&node.pool.generation, 2);
    pqi_lane_install(lane, &conn);
    assert_true(pqi_waiter_finished(&waiter));
    assert_int_equal(rider.outcome, PQI_OUT_ANEW);
    assert_int_equal(err.code, PQR_E_CONNECT);
    assert_int_equal(atomic_load(&lane->load), 0);
    lane->conn = NULL;
    lane->state = PQI_LANE_CLOSED;
    atomic_store(&node.lanes, 0);
    pqi_waiter_free(&waiter);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(half_of_the_connections_are_for_lanes),
        TEST(groups_that_ask_at_once_get_no_more_than_there_is),
        TEST(one_that_was_closed_meanwhile_is_not_boarded_if_another_group_has_its_room),
        TEST(one_that_was_placed_in_another_time_is_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
