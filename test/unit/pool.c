/* A node's connections: who gets one, in which order, and never too many. A connection is only a
 * number here: the pool looks at no more of it than its age. */
#include "../../lib/run/pool.h"

#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- Words ----------------------------------------------------------------------------------- */

enum { PLENTY = 1000 };

/* One who takes, and waits if need be. */
struct caller {
    struct pqi_ticket ticket;
    struct pqi_waiter waiter;
    struct pqi_conn *conn; /* what it got at once */
};

static struct pqi_pool pool;
static struct pqi_conn conn[16];
static struct caller caller[16];
static int flag;

static void open_pool(int limit, int64_t queue_limit, bool monitor_slot)
{
    memset(&pool, 0, sizeof pool);
    memset(conn, 0, sizeof conn);
    pqi_pool_init(&pool, limit, queue_limit, monitor_slot, &flag);
    for (size_t i = 0; i < 16; i++)
        pqi_list_init(&conn[i].link);
}

static int begin(void **state)
{
    (void)state;
    flag = pqi_flag_new();
    memset(caller, 0, sizeof caller);
    for (size_t i = 0; i < 16; i++) {
        pqi_waiter_init(&caller[i].waiter);
        pqi_list_init(&caller[i].ticket.link);
        caller[i].ticket.waiter = &caller[i].waiter;
    }
    return flag < 0;
}

static int end(void **state)
{
    (void)state;
    for (int i = 0; i < 16; i++)
        pqi_waiter_free(&caller[i].waiter);
    pqi_pool_free(&pool);
    pqi_flag_close(flag);
    return 0;
}

static enum pqi_taken take(int i)
{
    caller[i].conn = NULL;
    return pqi_pool_take(&pool, &caller[i].ticket, &caller[i].conn);
}

/* Takes until the pool has nothing more to give. */
static void take_all(int n)
{
    for (int i = 0; i < n; i++) {
        struct pqi_ticket ticket = {0};
        struct pqi_conn *c = NULL;
        assert_int_equal(pqi_pool_take(&pool, &ticket, &c), PQI_TAKE_SLOT);
        assert_null(c);
    }
}

static void wait_for(int i)
{
    assert_int_equal(take(i), PQI_TAKE_WAIT);
    assert_false(pqi_pool_granted(&pool, &caller[i].ticket));
}

static bool woken(int i)
{
    return pqi_waiter_wait(&caller[i].waiter, 0);
}

/* It was woken, and has got this (NULL: a slot). */
static void has_got(int i, const struct pqi_conn *c)
{
    assert_true(woken(i));
    assert_true(pqi_pool_granted(&pool, &caller[i].ticket));
    assert_ptr_equal(caller[i].ticket.conn, c);
}

static void still_waits(int i)
{
    assert_false(woken(i));
    assert_false(pqi_pool_granted(&pool, &caller[i].ticket));
}

static bool put(int i)
{
    return pqi_pool_put(&pool, &conn[i], 100);
}

static bool monitor_was_called(void)
{
    bool called = pqi_wait_fd(flag, POLLIN, -1, 0) != 0;
    pqi_flag_clear(flag);
    return called;
}

/* What the pool says of itself. */
static void counts(int slots, int idle, int waiting)
{
    int nidle = 0, nwaiting = 0;
    for (const struct pqi_link *l = pool.idle.next; l != &pool.idle; l = l->next)
        nidle++;
    for (const struct pqi_link *l = pool.waiting.next; l != &pool.waiting; l = l->next)
        nwaiting++;
    if (pool.slots != slots || pool.nidle != idle || pool.nwaiting != waiting)
        fail_msg("%d slots, %d idle, %d waiting; not %d, %d, %d", pool.slots, pool.nidle,
                 pool.nwaiting, slots, idle, waiting);
    assert_int_equal(nidle, idle);
    assert_int_equal(nwaiting, waiting);
    assert_int_equal(pool.full_since_ns > 0, idle == 0 && slots >= pool.limit);
}

/* ---- Taking and putting ---------------------------------------------------------------------- */

static void slots_are_handed_out_up_to_the_limit(void **state)
{
    (void)state;
    open_pool(3, PLENTY, false);
    take_all(3);
    wait_for(0);
    counts(3, 0, 1);
}

static void one_slot_is_the_monitor_s_from_the_start(void **state)
{
    (void)state;
    open_pool(3, PLENTY, true);
    counts(1, 0, 0);
    take_all(2);
    wait_for(0);
    counts(3, 0, 1);
}

static void the_connection_used_last_is_used_first(void **state)
{
    (void)state;
    open_pool(4, PLENTY, false);
    take_all(3);
    for (int i = 0; i < 3; i++)
        assert_true(put(i));
    counts(3, 3, 0);
    for (int i = 2; i >= 0; i--) {
        assert_int_equal(take(i), PQI_TAKE_CONN);
        assert_ptr_equal(caller[i].conn, &conn[i]);
    }
    assert_int_equal(take(3), PQI_TAKE_SLOT);
    counts(4, 0, 0);
}

static void a_connection_that_comes_back_knows_since_when_it_is_idle(void **state)
{
    (void)state;
    open_pool(1, PLENTY, false);
    take_all(1);
    assert_true(pqi_pool_put(&pool, &conn[0], 12345));
    assert_int_equal(conn[0].idle_since_ns, 12345);
}

static void a_slot_that_is_released_can_be_taken_again(void **state)
{
    (void)state;
    open_pool(1, PLENTY, false);
    for (int i = 0; i < 5; i++) {
        take_all(1);
        counts(1, 0, 0);
        pqi_pool_release(&pool);
        counts(0, 0, 0);
    }
}

/* Since when there is nothing to have. */
static void it_is_full_from_when_the_last_one_came_back(void **state)
{
    (void)state;
    enum { LONG_AGO = 1 };
    open_pool(2, PLENTY, false);
    assert_int_equal(pqi_pool_full_ms(&pool), 0);
    take_all(2);
    assert_true(pool.full_since_ns > LONG_AGO);
    pool.full_since_ns = LONG_AGO;
    wait_for(0);
    assert_int_equal(pqi_pool_leave(&pool, &caller[0].ticket), false);
    wait_for(0); /* who waits changes nothing */
    assert_int_equal(pool.full_since_ns, LONG_AGO);
    assert_true(pqi_pool_full_ms(&pool) > 0);
    assert_true(put(3)); /* it goes to who waits; but something moves there */
    has_got(0, &conn[3]);
    assert_true(pool.full_since_ns > LONG_AGO);
    pool.full_since_ns = LONG_AGO;
    wait_for(1);
    pqi_pool_release(&pool);
    has_got(1, NULL);
    assert_true(pool.full_since_ns > LONG_AGO);
    pqi_pool_release(&pool);
    assert_int_equal(pool.full_since_ns, 0);
    assert_int_equal(take(0), PQI_TAKE_SLOT);
    assert_true(pool.full_since_ns > 0);
    assert_true(put(3));
    assert_int_equal(pqi_pool_full_ms(&pool), 0);
}

/* ---- Waiting --------------------------------------------------------------------------------- */

static void who_came_first_is_served_first_with_what_comes_first(void **state)
{
    (void)state;
    open_pool(2, PLENTY, false);
    take_all(2);
    for (int i = 0; i < 4; i++)
        wait_for(i);
    counts(2, 0, 4);
    assert_true(put(7));
    has_got(0, &conn[7]);
    pqi_pool_release(&pool);
    has_got(1, NULL);
    still_waits(2);
    still_waits(3);
    counts(2, 0, 2);
    pqi_pool_release(&pool);
    has_got(2, NULL);
    assert_true(put(7));
    has_got(3, &conn[7]);
    counts(2, 0, 0);
    assert_true(put(7));
    counts(2, 1, 0);
}

static void who_leaves_the_queue_is_passed_over(void **state)
{
    (void)state;
    open_pool(1, PLENTY, false);
    take_all(1);
    for (int i = 0; i < 3; i++)
        wait_for(i);
    assert_false(pqi_pool_leave(&pool, &caller[1].ticket));
    counts(1, 0, 2);
    assert_true(put(5));
    has_got(0, &conn[5]);
    assert_true(put(5));
    has_got(2, &conn[5]);
    assert_false(woken(1));
    counts(1, 0, 0);
}

static void who_leaves_too_late_has_got_it(void **state)
{
    (void)state;
    open_pool(1, PLENTY, false);
    take_all(1);
    wait_for(0);
    assert_true(put(5));
    assert_true(pqi_pool_leave(&pool, &caller[0].ticket));
    assert_ptr_equal(caller[0].ticket.conn, &conn[5]);
    counts(1, 0, 0);
    wait_for(1);
    pqi_pool_release(&pool);
    assert_true(pqi_pool_leave(&pool, &caller[1].ticket));
    assert_null(caller[1].ticket.conn);
    counts(1, 0, 0);
}

static void a_ticket_is_good_for_waiting_again(void **state)
{
    (void)state;
    open_pool(1, PLENTY, false);
    take_all(1);
    for (int i = 0; i < 3; i++) {
        wait_for(0);
        assert_true(put(5));
        has_got(0, &conn[5]);
    }
}

static void the_queue_is_no_longer_than_its_limit(void **state)
{
    (void)state;
    open_pool(1, 2, false);
    take_all(1);
    wait_for(0);
    wait_for(1);
    assert_int_equal(take(2), PQI_TAKE_FULL);
    counts(1, 0, 2);
    assert_false(pqi_pool_leave(&pool, &caller[0].ticket));
    wait_for(3);
    assert_int_equal(take(2), PQI_TAKE_FULL);
    assert_true(put(0));
    has_got(1, &conn[0]);
    wait_for(2);
    counts(1, 0, 2);
}

static void a_queue_without_places_lets_nobody_wait(void **state)
{
    (void)state;
    open_pool(1, 0, false);
    take_all(1);
    assert_int_equal(take(0), PQI_TAKE_FULL);
    assert_true(put(0));
    assert_int_equal(take(0), PQI_TAKE_CONN);
}

static void who_waits_is_stirred_with_nothing_and_keeps_its_place(void **state)
{
    (void)state;
    open_pool(1, PLENTY, false);
    take_all(1);
    wait_for(0);
    wait_for(1);
    pqi_pool_stir(&pool);
    for (int i = 0; i < 2; i++) {
        assert_true(woken(i));
        assert_false(pqi_pool_granted(&pool, &caller[i].ticket));
    }
    counts(1, 0, 2);
    assert_true(put(5));
    has_got(0, &conn[5]);
    still_waits(1);
}

/* ---- The monitor ----------------------------------------------------------------------------- */

static enum pqi_taken monitor_takes(struct pqi_conn **c)
{
    *c = NULL;
    return pqi_pool_take_for_monitor(&pool, c);
}

static void the_monitor_takes_what_is_free(void **state)
{
    (void)state;
    struct pqi_conn *c;
    open_pool(2, PLENTY, false);
    take_all(1);
    assert_true(put(4));
    assert_int_equal(monitor_takes(&c), PQI_TAKE_CONN);
    assert_ptr_equal(c, &conn[4]);
    assert_int_equal(monitor_takes(&c), PQI_TAKE_SLOT);
    counts(2, 0, 0);
    assert_int_equal(monitor_takes(&c), PQI_TAKE_WAIT);
    counts(2, 0, 0);
    assert_false(monitor_was_called());
}

static void the_monitor_comes_before_all_who_wait(void **state)
{
    (void)state;
    struct pqi_conn *c;
    open_pool(1, PLENTY, false);
    take_all(1);
    wait_for(0);
    assert_int_equal(monitor_takes(&c), PQI_TAKE_WAIT);
    assert_true(put(4));
    assert_true(monitor_was_called());
    still_waits(0);
    wait_for(1); /* what is free is kept */
    counts(1, 1, 2);
    assert_int_equal(monitor_takes(&c), PQI_TAKE_CONN);
    assert_ptr_equal(c, &conn[4]);
    assert_true(put(4));
    has_got(0, &conn[4]);
    assert_false(monitor_was_called());
    assert_true(put(4));
    has_got(1, &conn[4]);
}

static void a_slot_is_kept_for_the_monitor_like_a_connection(void **state)
{
    (void)state;
    struct pqi_conn *c;
    open_pool(1, PLENTY, false);
    take_all(1);
    wait_for(0);
    assert_int_equal(monitor_takes(&c), PQI_TAKE_WAIT);
    pqi_pool_release(&pool);
    assert_true(monitor_was_called());
    still_waits(0);
    wait_for(1);
    counts(0, 0, 2);
    assert_int_equal(monitor_takes(&c), PQI_TAKE_SLOT);
    counts(1, 0, 2);
    pqi_pool_release(&pool);
    has_got(0, NULL);
}

static void what_comes_beside_the_monitor_s_goes_to_who_waits(void **state)
{
    (void)state;
    struct pqi_conn *c;
    open_pool(2, PLENTY, false);
    take_all(2);
    wait_for(0);
    assert_int_equal(monitor_takes(&c), PQI_TAKE_WAIT);
    assert_true(put(4));
    assert_true(put(5));
    has_got(0, &conn[5]);
    assert_int_equal(monitor_takes(&c), PQI_TAKE_CONN);
    assert_ptr_equal(c, &conn[4]);
    counts(2, 0, 0);
}

static void after_the_monitor_s_turn_everybody_takes_again(void **state)
{
    (void)state;
    struct pqi_conn *c;
    open_pool(1, PLENTY, false);
    take_all(1);
    assert_int_equal(monitor_takes(&c), PQI_TAKE_WAIT);
    assert_true(put(4));
    assert_int_equal(monitor_takes(&c), PQI_TAKE_CONN);
    assert_true(put(4));
    assert_int_equal(take(0), PQI_TAKE_CONN);
    assert_true(put(4));
    counts(1, 1, 0);
}

/* Two came free while the monitor was being called; it needs one. */
static void what_the_monitor_leaves_goes_to_those_who_waited_meanwhile(void **state)
{
    (void)state;
    struct pqi_conn *c;
    open_pool(2, PLENTY, false);
    take_all(2);
    assert_int_equal(monitor_takes(&c), PQI_TAKE_WAIT);
    assert_true(put(4));
    assert_true(put(5));
    wait_for(0);
    wait_for(1);
    assert_int_equal(monitor_takes(&c), PQI_TAKE_CONN);
    assert_ptr_equal(c, &conn[5]);
    has_got(0, &conn[4]);
    still_waits(1);
    counts(2, 0, 1);
}

/* ---- Generations, ages ----------------------------------------------------------------------- */

static void a_connection_of_an_older_generation_does_not_come_back(void **state)
{
    (void)state;
    open_pool(2, PLENTY, false);
    take_all(2);
    wait_for(0);
    atomic_fetch_add(&pool.generation, 1);
    assert_false(put(0));
    still_waits(0);
    counts(2, 0, 1);
    pqi_pool_release(&pool); /* it has parted */
    has_got(0, NULL);
    conn[1].generation = 1;
    assert_true(put(1));
    atomic_fetch_add(&pool.generation, 1);
    assert_false(put(1));
}

static void the_monitor_does_not_get_one_of_an_older_generation_either(void **state)
{
    (void)state;
    struct pqi_conn *c;
    open_pool(1, PLENTY, false);
    take_all(1);
    assert_int_equal(monitor_takes(&c), PQI_TAKE_WAIT);
    atomic_fetch_add(&pool.generation, 1);
    assert_false(put(0));
    assert_false(monitor_was_called());
    pqi_pool_release(&pool);
    assert_true(monitor_was_called());
    assert_int_equal(monitor_takes(&c), PQI_TAKE_SLOT);
}

/* Connection i comes back at the moment idle[i], and was born at born[i]. */
static void put_aged(int n, const int64_t *idle, const int64_t *born)
{
    take_all(n);
    for (int i = 0; i < n; i++) {
        conn[i].born_ns = born[i];
        assert_true(pqi_pool_put(&pool, &conn[i], idle[i]));
    }
}

static void what_has_been_idle_too_long_expires_oldest_first(void **state)
{
    (void)state;
    open_pool(4, PLENTY, false);
    put_aged(4, (const int64_t[]){10, 20, 30, 40}, (const int64_t[]){1, 1, 1, 1});
    assert_ptr_equal(pqi_pool_expire(&pool, 30, 0), &conn[0]);
    assert_ptr_equal(pqi_pool_expire(&pool, 30, 0), &conn[1]);
    assert_null(pqi_pool_expire(&pool, 30, 0));
    counts(4, 2, 0); /* their slots go when they have parted */
    assert_int_equal(take(0), PQI_TAKE_CONN);
    assert_ptr_equal(caller[0].conn, &conn[3]);
}

static void what_was_born_too_long_ago_expires(void **state)
{
    (void)state;
    open_pool(4, PLENTY, false);
    put_aged(4, (const int64_t[]){50, 50, 50, 50}, (const int64_t[]){9, 5, 7, 6});
    assert_ptr_equal(pqi_pool_expire(&pool, 0, 7), &conn[1]);
    assert_ptr_equal(pqi_pool_expire(&pool, 0, 7), &conn[3]);
    assert_null(pqi_pool_expire(&pool, 0, 7));
    counts(4, 2, 0);
}

static void what_is_of_an_older_generation_expires(void **state)
{
    (void)state;
    open_pool(4, PLENTY, false);
    conn[1].generation = 1;
    atomic_store(&pool.generation, 1);
    take_all(3);
    assert_true(put(1));
    atomic_store(&pool.generation, 0);
    assert_true(put(0));
    assert_ptr_equal(pqi_pool_expire(&pool, INT64_MIN, INT64_MIN), &conn[1]);
    assert_null(pqi_pool_expire(&pool, INT64_MIN, INT64_MIN));
    counts(3, 1, 0);
}

static void from_an_empty_pool_nothing_expires(void **state)
{
    (void)state;
    open_pool(4, PLENTY, false);
    assert_null(pqi_pool_expire(&pool, INT64_MAX, INT64_MAX));
}

/* ---- Closing --------------------------------------------------------------------------------- */

static void a_closed_pool_gives_nothing_to_anybody(void **state)
{
    (void)state;
    struct pqi_conn *c;
    open_pool(3, PLENTY, false);
    take_all(2);
    assert_true(put(0));
    pqi_pool_close(&pool);
    assert_int_equal(take(0), PQI_TAKE_FULL);
    assert_null(caller[0].conn);
    assert_int_equal(monitor_takes(&c), PQI_TAKE_FULL);
    assert_null(c);
    assert_false(put(1));
    counts(2, 1, 0);
}

static void who_waits_when_it_closes_is_woken_with_nothing(void **state)
{
    (void)state;
    open_pool(1, PLENTY, false);
    take_all(1);
    for (int i = 0; i < 3; i++)
        wait_for(i);
    pqi_pool_close(&pool);
    for (int i = 0; i < 3; i++) {
        assert_true(woken(i));
        assert_false(pqi_pool_granted(&pool, &caller[i].ticket));
    }
    pqi_pool_release(&pool);
    struct pqi_conn *c;
    assert_int_equal(monitor_takes(&c), PQI_TAKE_FULL);
    counts(0, 0, 3);
    for (int i = 0; i < 3; i++)
        assert_false(pqi_pool_leave(&pool, &caller[i].ticket));
    counts(0, 0, 0);
}

static void a_grant_before_it_closed_stands(void **state)
{
    (void)state;
    open_pool(1, PLENTY, false);
    take_all(1);
    wait_for(0);
    assert_true(put(4));
    pqi_pool_close(&pool);
    assert_true(pqi_pool_leave(&pool, &caller[0].ticket));
    assert_ptr_equal(caller[0].ticket.conn, &conn[4]);
}

static void a_monitor_that_waits_is_not_called_to_a_closed_pool(void **state)
{
    (void)state;
    struct pqi_conn *c;
    open_pool(1, PLENTY, false);
    take_all(1);
    assert_int_equal(monitor_takes(&c), PQI_TAKE_WAIT);
    pqi_pool_close(&pool);
    assert_false(put(0));
    pqi_pool_release(&pool);
    assert_false(monitor_was_called());
    counts(0, 0, 0);
}

static void idle_connections_of_a_closed_pool_all_expire(void **state)
{
    (void)state;
    open_pool(3, PLENTY, false);
    put_aged(3, (const int64_t[]){50, 50, 50}, (const int64_t[]){9, 9, 9});
    assert_null(pqi_pool_expire(&pool, 0, 0));
    pqi_pool_close(&pool);
    for (int left = 3; left > 0; left--) {
        assert_non_null(pqi_pool_expire(&pool, 0, 0));
        pqi_pool_release(&pool);
        counts(left - 1, left - 1, 0);
    }
    assert_null(pqi_pool_expire(&pool, 0, 0));
}

/* ---- Random days, beside a plain model ------------------------------------------------------- */

enum { CONNS = 16 };

/* What the pool ought to hold, as arrays. */
static struct {
    int limit, queue_limit, slots;
    int idle[CONNS], nidle;       /* the one used last comes last */
    int waiting[CONNS], nwaiting; /* callers; first come, first served */
    bool out[CONNS];              /* connections in somebody's hands */
    int nout;                     /* of them, and slots not yet connected, there are so many */
} model;

static unsigned seed;

static int random_below(int n)
{
    return (int)((unsigned)rand_r(&seed) % (unsigned)n);
}

/* A slot becomes a connection at once: one that nobody has and that is not idle. */
static void connect_one(void)
{
    for (int i = 0; i < CONNS; i++) {
        bool used = model.out[i];
        for (int j = 0; j < model.nidle; j++)
            used |= model.idle[j] == i;
        if (used)
            continue;
        model.out[i] = true;
        conn[i].generation = atomic_load(&pool.generation);
        return;
    }
    fail();
}

static void remove_at(int *array, int *n, int at)
{
    memmove(array + at, array + at + 1, (size_t)(*n - at - 1) * sizeof *array);
    --*n;
}

static bool is_waiting(int who)
{
    for (int i = 0; i < model.nwaiting; i++)
        if (model.waiting[i] == who)
            return true;
    return false;
}

static void random_take(int who)
{
    if (is_waiting(who))
        return;
    enum pqi_taken taken = take(who);
    if (model.nidle > 0) {
        assert_int_equal(taken, PQI_TAKE_CONN);
        int top = model.idle[--model.nidle];
        assert_ptr_equal(caller[who].conn, &conn[top]);
        model.out[top] = true;
        model.nout++;
    } else if (model.slots < model.limit) {
        assert_int_equal(taken, PQI_TAKE_SLOT);
        model.slots++;
        model.nout++;
        connect_one();
    } else if (model.nwaiting < model.queue_limit) {
        assert_int_equal(taken, PQI_TAKE_WAIT);
        model.waiting[model.nwaiting++] = who;
    } else {
        assert_int_equal(taken, PQI_TAKE_FULL);
    }
}

/* The first who waits has got connection c, or (-1) a slot. */
static void first_has_got(int c)
{
    has_got(model.waiting[0], c >= 0 ? &conn[c] : NULL);
    remove_at(model.waiting, &model.nwaiting, 0);
    if (c >= 0)
        model.out[c] = true;
    else
        connect_one();
}

static int random_out(void)
{
    int c = random_below(CONNS);
    while (!model.out[c])
        c = (c + 1) % CONNS;
    return c;
}

static void random_part(int c)
{
    pqi_pool_release(&pool);
    model.out[c] = false;
    if (model.nwaiting > 0) {
        first_has_got(-1);
    } else {
        model.slots--;
        model.nout--;
    }
}

static void random_give_back(void)
{
    if (model.nout == 0)
        return;
    int c = random_out();
    bool fresh = conn[c].generation == atomic_load(&pool.generation);
    if (random_below(4) == 0) {
        random_part(c);
        return;
    }
    assert_int_equal(put(c), fresh);
    if (!fresh) {
        random_part(c);
        return;
    }
    model.out[c] = false;
    if (model.nwaiting > 0) {
        first_has_got(c);
    } else {
        model.idle[model.nidle++] = c;
        model.nout--;
    }
}

static void random_leave(void)
{
    if (model.nwaiting == 0)
        return;
    int at = random_below(model.nwaiting);
    assert_false(pqi_pool_leave(&pool, &caller[model.waiting[at]].ticket));
    remove_at(model.waiting, &model.nwaiting, at);
}

static void random_expire(void)
{
    int expected = -1;
    for (int i = 0; i < model.nidle && expected < 0; i++)
        if (conn[model.idle[i]].generation != atomic_load(&pool.generation))
            expected = i;
    struct pqi_conn *c = pqi_pool_expire(&pool, INT64_MIN, INT64_MIN);
    if (expected < 0) {
        assert_null(c);
        return;
    }
    assert_ptr_equal(c, &conn[model.idle[expected]]);
    remove_at(model.idle, &model.nidle, expected);
    pqi_pool_release(&pool);
    model.slots--;
}

static void random_day(unsigned day)
{
    seed = day;
    memset(&model, 0, sizeof model);
    model.limit = 1 + random_below(6);
    model.queue_limit = random_below(6);
    open_pool(model.limit, model.queue_limit, false);
    for (int step = 0; step < 2000; step++) {
        switch (random_below(12)) {
        case 0:
            random_leave();
            break;
        case 1:
            random_expire();
            break;
        case 2:
            if (random_below(10) == 0)
                atomic_fetch_add(&pool.generation, 1);
            break;
        case 3:
        case 4:
        case 5:
        case 6:
        case 7:
            random_take(random_below(CONNS));
            break;
        default:
            random_give_back();
            break;
        }
        counts(model.slots, model.nidle, model.nwaiting);
        assert_in_range(model.slots, 0, model.limit);
        assert_int_equal(model.slots, model.nidle + model.nout);
        if (model.nwaiting > 0)
            assert_int_equal(model.nout, model.limit);
    }
    pqi_pool_free(&pool);
}

static void random_days_go_as_the_model_says(void **state)
{
    (void)state;
    for (unsigned day = 1; day <= 100; day++)
        random_day(day);
    open_pool(1, 0, false);
}

/* ---- Threads --------------------------------------------------------------------------------- */

enum { THREADS = 6, ROUNDS = 1500 };

static struct {
    _Atomic int out, most, faults, waits, left, monitored;
    _Atomic bool done, closing;
    int limit;
} crowd;

/* What a thread has: nobody else has it, and no more than the limit is out. */
static void use(struct pqi_conn *c, int me)
{
    int out = atomic_fetch_add(&crowd.out, 1) + 1;
    if (out > crowd.limit)
        atomic_fetch_add(&crowd.faults, 1);
    int most = atomic_load(&crowd.most);
    while (out > most && !atomic_compare_exchange_weak(&crowd.most, &most, out))
        ;
    c->n = me;
    sched_yield();
    if (c->n != me)
        atomic_fetch_add(&crowd.faults, 1);
    atomic_fetch_sub(&crowd.out, 1);
}

static struct pqi_conn *new_conn(void)
{
    struct pqi_conn *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    pqi_list_init(&c->link);
    c->generation = atomic_load(&pool.generation);
    return c;
}

/* Back into the pool, or gone. */
static void give_back(struct pqi_conn *c, bool keep)
{
    if (keep && pqi_pool_put(&pool, c, pqi_now_ns()))
        return;
    free(c);
    pqi_pool_release(&pool);
}

/* Waits for a while; false: it has left with nothing. */
static bool wait_a_while(struct caller *who, int64_t ms)
{
    atomic_fetch_add(&crowd.waits, 1);
    int64_t until = pqi_after_ms(pqi_now_ns(), ms);
    while (!pqi_pool_granted(&pool, &who->ticket))
        if (!pqi_waiter_wait(&who->waiter, until) || atomic_load(&crowd.closing))
            return pqi_pool_leave(&pool, &who->ticket);
    return true;
}

static void one_round(struct caller *who, int me, int round)
{
    struct pqi_conn *c = NULL;
    enum pqi_taken taken = pqi_pool_take(&pool, &who->ticket, &c);
    if (taken == PQI_TAKE_WAIT) {
        if (!wait_a_while(who, round % 7 == 0 ? 0 : 10000)) {
            atomic_fetch_add(&crowd.left, 1);
            return;
        }
        c = who->ticket.conn;
    } else if (taken == PQI_TAKE_FULL) {
        atomic_fetch_add(&crowd.faults, !atomic_load(&crowd.closing));
        return;
    }
    if (!c)
        c = new_conn();
    use(c, me);
    give_back(c, round % 11 != 0);
    if (round % 97 == 0)
        atomic_fetch_add(&pool.generation, 1);
}

static void *work(void *arg)
{
    struct caller *who = arg;
    int me = (int)(who - caller);
    for (int round = 1; round <= ROUNDS; round++)
        one_round(who, me, round);
    return NULL;
}

/* The monitor of a pool that keeps no slot for it: looks, gives back, looks again; sweeps. */
static void *monitor(void *arg)
{
    (void)arg;
    while (!atomic_load(&crowd.done)) {
        struct pqi_conn *c = NULL;
        switch (pqi_pool_take_for_monitor(&pool, &c)) {
        case PQI_TAKE_WAIT:
            pqi_wait_fd(flag, POLLIN, -1, pqi_after_ms(pqi_now_ns(), 100));
            pqi_flag_clear(flag);
            continue;
        case PQI_TAKE_FULL:
            atomic_fetch_add(&crowd.faults, 1);
            return NULL;
        default:
            break;
        }
        atomic_fetch_add(&crowd.monitored, 1);
        c = c ? c : new_conn();
        use(c, THREADS);
        give_back(c, true);
        while ((c = pqi_pool_expire(&pool, INT64_MIN, INT64_MIN)))
            give_back(c, false);
        sched_yield();
    }
    return NULL;
}

static void crowd_at(int limit, bool monitor_slot)
{
    pthread_t threads[THREADS], watcher;
    open_pool(limit + monitor_slot, PLENTY, monitor_slot);
    memset(&crowd, 0, sizeof crowd);
    crowd.limit = limit;
    if (!monitor_slot)
        assert_int_equal(pthread_create(&watcher, NULL, monitor, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &caller[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&crowd.done, true);
    if (!monitor_slot)
        pthread_join(watcher, NULL);
    assert_int_equal(crowd.faults, 0);
    assert_int_equal(crowd.out, 0);
    assert_int_equal(crowd.most, limit);
    assert_true(crowd.waits > 0);
    assert_true(monitor_slot || crowd.monitored > 0);
    counts(pool.nidle + monitor_slot, pool.nidle, 0);
    assert_in_range(pool.nidle, 0, limit);
    pqi_pool_close(&pool);
    for (struct pqi_conn *c; (c = pqi_pool_expire(&pool, 0, 0));)
        give_back(c, false);
    counts(monitor_slot, 0, 0);
}

static void of_many_threads_no_more_than_the_limit_have_a_connection(void **state)
{
    (void)state;
    for (int limit = 1; limit <= 3; limit++) {
        crowd_at(limit, true);
        pqi_pool_free(&pool);
        crowd_at(limit, false);
        if (limit < 3)
            pqi_pool_free(&pool);
    }
}

/* Sooner or later in their work: those who wait are let go at once, nothing is lost. */
static void a_pool_that_closes_lets_everybody_go(void **state)
{
    (void)state;
    for (int again = 0; again < 50; again++) {
        pthread_t threads[THREADS];
        open_pool(2, PLENTY, false);
        memset(&crowd, 0, sizeof crowd);
        crowd.limit = 2;
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, work, &caller[i]), 0);
        for (int i = 0; i < 20 * again; i++)
            sched_yield();
        atomic_store(&crowd.closing, true);
        pqi_pool_close(&pool);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        assert_int_equal(crowd.faults, 0);
        counts(pool.nidle, pool.nidle, 0);
        for (struct pqi_conn *c; (c = pqi_pool_expire(&pool, 0, 0));)
            give_back(c, false);
        counts(0, 0, 0);
        if (again < 49)
            pqi_pool_free(&pool);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(slots_are_handed_out_up_to_the_limit),
        TEST(one_slot_is_the_monitor_s_from_the_start),
        TEST(the_connection_used_last_is_used_first),
        TEST(a_connection_that_comes_back_knows_since_when_it_is_idle),
        TEST(a_slot_that_is_released_can_be_taken_again),
        TEST(it_is_full_from_when_the_last_one_came_back),
        TEST(who_came_first_is_served_first_with_what_comes_first),
        TEST(who_leaves_the_queue_is_passed_over),
        TEST(who_leaves_too_late_has_got_it),
        TEST(a_ticket_is_good_for_waiting_again),
        TEST(the_queue_is_no_longer_than_its_limit),
        TEST(a_queue_without_places_lets_nobody_wait),
        TEST(who_waits_is_stirred_with_nothing_and_keeps_its_place),
        TEST(the_monitor_takes_what_is_free),
        TEST(the_monitor_comes_before_all_who_wait),
        TEST(a_slot_is_kept_for_the_monitor_like_a_connection),
        TEST(what_comes_beside_the_monitor_s_goes_to_who_waits),
        TEST(after_the_monitor_s_turn_everybody_takes_again),
        TEST(what_the_monitor_leaves_goes_to_those_who_waited_meanwhile),
        TEST(a_connection_of_an_older_generation_does_not_come_back),
        TEST(the_monitor_does_not_get_one_of_an_older_generation_either),
        TEST(what_has_been_idle_too_long_expires_oldest_first),
        TEST(what_was_born_too_long_ago_expires),
        TEST(what_is_of_an_older_generation_expires),
        TEST(from_an_empty_pool_nothing_expires),
        TEST(a_closed_pool_gives_nothing_to_anybody),
        TEST(who_waits_when_it_closes_is_woken_with_nothing),
        TEST(a_grant_before_it_closed_stands),
        TEST(a_monitor_that_waits_is_not_called_to_a_closed_pool),
        TEST(idle_connections_of_a_closed_pool_all_expire),
        TEST(random_days_go_as_the_model_says),
        TEST(of_many_threads_no_more_than_the_limit_have_a_connection),
        TEST(a_pool_that_closes_lets_everybody_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
