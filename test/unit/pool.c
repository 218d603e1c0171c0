/* A node's connections: who gets one, in which order, and never too many; story by story. A connection
 * is only a number here: the pool looks at no more of it than its age. */
#include "../lib/pools.h"

/* Nothing is left in it. */
static void full_pool(int limit)
{
    open_pool(limit, PLENTY, false);
    take_all(limit);
}

/* ---- Taking and putting ---------------------------------------------------------------------- */

static void slots_are_handed_out_up_to_the_limit(void **state)
{
    (void)state;
    full_pool(3);
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

/* Ready ones, then those that clean up, which are done by now; rather a new one than one that was
 * still at it when somebody had waited for it. */
static void the_readiest_is_taken_first(void **state)
{
    (void)state;
    open_pool(4, PLENTY, false);
    take_all(3);
    conn[0].cleans = conn[2].cleans = conn[2].slow = true;
    for (int i = 0; i < 3; i++)
        assert_true(put(i));
    assert_int_equal(take(0), PQI_TAKE_CONN);
    assert_ptr_equal(caller[0].conn, &conn[1]);
    assert_int_equal(take(1), PQI_TAKE_CONN);
    assert_ptr_equal(caller[1].conn, &conn[0]);
    assert_int_equal(take(2), PQI_TAKE_SLOT);
    assert_int_equal(take(3), PQI_TAKE_CONN);
    assert_ptr_equal(caller[3].conn, &conn[2]);
    wait_for(4);
    counts(4, 0, 1);
}

static enum pqi_taken take_other(int i)
{
    caller[i].conn = NULL;
    return pqi_pool_take_other(&pool, &caller[i].ticket, &caller[i].conn);
}

/* Who has a slow one and waits for another is given no slow one, and stands in the queue at most. */
static void instead_of_a_slow_one_any_other_will_do(void **state)
{
    (void)state;
    open_pool(4, 1, false);
    take_all(3);
    conn[0].cleans = conn[1].cleans = conn[1].slow = true;
    assert_true(put(0));
    assert_true(put(1));
    assert_int_equal(take_other(0), PQI_TAKE_CONN);
    assert_ptr_equal(caller[0].conn, &conn[0]);
    assert_int_equal(take_other(1), PQI_TAKE_SLOT);
    assert_int_equal(take_other(2), PQI_TAKE_WAIT);
    counts(4, 1, 1);
    assert_int_equal(take_other(3), PQI_TAKE_FULL); /* as is the queue */
    counts(4, 1, 1);
    assert_true(put(2));
    has_got(2, &conn[2]);
    counts(4, 1, 0);
    pqi_pool_close(&pool);
    assert_int_equal(take_other(3), PQI_TAKE_FULL);
}

static enum pqi_taken take_made(int i)
{
    caller[i].conn = NULL;
    return pqi_pool_take_made(&pool, &caller[i].ticket, &caller[i].conn);
}

static void who_has_one_made_takes_one_that_is_there(void **state)
{
    (void)state;
    open_pool(4, PLENTY, false);
    take_all(3);
    conn[1].cleans = conn[1].slow = true;
    assert_false(pqi_pool_has_made(&pool));
    assert_true(put(0));
    assert_true(put(1));
    assert_true(pqi_pool_has_made(&pool));
    assert_int_equal(take_made(2), PQI_TAKE_CONN);
    assert_ptr_equal(caller[2].conn, &conn[0]);
    assert_int_equal(take_made(2), PQI_TAKE_WAIT); /* the other one is slow */
    counts(3, 1, 0);
    assert_false(pqi_pool_leave(&pool, &caller[2].ticket));
    assert_int_equal(pqi_pool_take_made(&pool, NULL, &caller[2].conn), PQI_TAKE_FULL);
}

/* It had its slot before those that wait for want of one; and a slot is nothing for it. */
static void who_has_one_made_gets_what_comes_back_before_the_queue_and_no_slot(void **state)
{
    (void)state;
    full_pool(4);
    conn[2].cleans = conn[2].slow = true;
    assert_int_equal(take_made(0), PQI_TAKE_WAIT);
    assert_int_equal(take_made(1), PQI_TAKE_WAIT);
    wait_for(2);
    wait_for(3);
    counts(4, 0, 2);
    pqi_pool_release(&pool);
    has_got(2, NULL);
    assert_false(woken(0));
    assert_true(put(2)); /* nor is a slow one */
    has_got(3, &conn[2]);
    assert_true(put(0));
    has_got(0, &conn[0]);
    assert_false(pqi_pool_leave(&pool, &caller[1].ticket)); /* its own came */
    assert_true(put(1));
    counts(4, 1, 0);
}

static void who_has_one_made_is_woken_at_the_end(void **state)
{
    (void)state;
    full_pool(2);
    assert_int_equal(take_made(0), PQI_TAKE_WAIT);
    pqi_pool_close(&pool);
    assert_true(woken(0));
    assert_false(pqi_pool_leave(&pool, &caller[0].ticket));
    assert_int_equal(take_made(1), PQI_TAKE_FULL);
}

static void a_connection_that_comes_back_knows_since_when_it_is_idle(void **state)
{
    (void)state;
    full_pool(1);
    assert_true(pqi_pool_put(&pool, &conn[0], 12345));
    assert_int_equal(conn[0].idle_since_ns, 12345);
}

/* ---- New connections in a second ------------------------------------------------------------- */

static void beyond_the_rate_who_would_connect_waits_until_there_is_one_again(void **state)
{
    (void)state;
    open_pool(10, PLENTY, false);
    pqi_pool_bound(&pool, 2);
    take_all(2);
    wait_for(2);
    assert_true(monitor_was_called());
    wait_for(3);
    counts(2, 0, 2);
    int64_t now = pqi_now_ns(), next = pqi_pool_refill(&pool, now);
    assert_in_range(next, now, now + 500 * PQI_MS);
    still_waits(2);
    /* The pool takes by its own clock: so time is made to pass in the bucket. */
    pool.rate.full_ns -= 500 * PQI_MS;
    next = pqi_pool_refill(&pool, next);
    has_got(2, NULL);
    still_waits(3);
    assert_true(next != PQI_FOREVER);
    pool.rate.full_ns -= 500 * PQI_MS;
    assert_true(pqi_pool_refill(&pool, next) == PQI_FOREVER);
    has_got(3, NULL);
    assert_true(pqi_pool_refill(&pool, INT64_MAX) == PQI_FOREVER);
    counts(4, 0, 0);
}

static void beyond_the_rate_a_connection_that_comes_back_serves_and_a_slot_does_not(void **state)
{
    (void)state;
    open_pool(10, PLENTY, false);
    pqi_pool_bound(&pool, 2);
    take_all(2);
    wait_for(2);
    wait_for(3);
    assert_true(put(0));
    has_got(2, &conn[0]);
    pqi_pool_release(&pool); /* one is gone: a new one in its place would be too many */
    still_waits(3);
    counts(1, 0, 1);
}

static void the_monitor_is_counted_and_not_bounded(void **state)
{
    (void)state;
    struct pqi_conn *c;
    open_pool(10, PLENTY, false);
    pqi_pool_bound(&pool, 1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(pqi_pool_take_for_monitor(&pool, &c), PQI_TAKE_SLOT);
    assert_int_equal(pool.made.all, 5);
    assert_int_equal(take(0), PQI_TAKE_SLOT);
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
    full_pool(2);
    pqi_pool_ready(&pool, true);
    assert_int_equal(pqi_pool_full_ms(&pool), 0); /* the other one is on its way */
    pqi_pool_ready(&pool, true);
    assert_true(pool.full_since_ns > LONG_AGO);
    pool.full_since_ns = LONG_AGO;
    wait_for(0);
    assert_false(pqi_pool_leave(&pool, &caller[0].ticket));
    wait_for(0); /* who waits changes nothing */
    assert_int_equal(pool.full_since_ns, LONG_AGO);
    assert_true(pqi_pool_full_ms(&pool) > 0);
    assert_true(put(3)); /* it goes to who waits; but something moves there */
    has_got(0, &conn[3]);
    assert_true(pool.full_since_ns > LONG_AGO);
    assert_true(put(3));
    assert_int_equal(pqi_pool_full_ms(&pool), 0);
    assert_int_equal(take(0), PQI_TAKE_CONN);
    assert_true(pool.full_since_ns > 0);
    pqi_pool_ready(&pool, false); /* it parts: then there is room for another */
    assert_int_equal(pqi_pool_full_ms(&pool), 0);
    pqi_pool_release(&pool);
}

static void who_has_another_place_to_wait_takes_what_is_there_and_queues_for_nothing(void **state)
{
    struct pqi_conn *c = NULL;
    (void)state;
    open_pool(2, PLENTY, false);
    assert_int_equal(pqi_pool_try(&pool, &c), PQI_TAKE_SLOT);
    assert_true(put(1));
    assert_int_equal(pqi_pool_try(&pool, &c), PQI_TAKE_CONN);
    assert_ptr_equal(c, &conn[1]);
    assert_int_equal(pqi_pool_try(&pool, &c), PQI_TAKE_SLOT);
    assert_int_equal(pqi_pool_try(&pool, &c), PQI_TAKE_WAIT);
    counts(2, 0, 0);
    wait_for(0);
    assert_true(put(1));
    has_got(0, &conn[1]);
    pqi_pool_close(&pool);
    assert_int_equal(pqi_pool_try(&pool, &c), PQI_TAKE_WAIT);
}

/* Until the monitor has come. */
static void nor_does_it_take_what_is_kept_for_the_monitor(void **state)
{
    struct pqi_conn *c = NULL;
    (void)state;
    full_pool(1);
    assert_int_equal(pqi_pool_take_for_monitor(&pool, &c), PQI_TAKE_WAIT);
    pqi_pool_release(&pool);
    assert_true(monitor_was_called());
    assert_int_equal(pqi_pool_try(&pool, &c), PQI_TAKE_WAIT);
    assert_int_equal(pqi_pool_take_for_monitor(&pool, &c), PQI_TAKE_SLOT);
}

/* ---- Waiting --------------------------------------------------------------------------------- */

static void who_came_first_is_served_first_with_what_comes_first(void **state)
{
    (void)state;
    full_pool(2);
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

static void tenants_take_turns(void **state)
{
    (void)state;
    full_pool(1);
    for (int i = 0; i < 4; i++) {
        caller[i].ticket.turn.tenant = i < 3 ? 1 : 2;
        wait_for(i);
    }
    const int order[] = {0, 3, 1, 2};
    for (int i = 0; i < 4; i++) {
        assert_true(put(5));
        has_got(order[i], &conn[5]);
    }
}

static void a_full_queue_refuses_the_last_of_the_tenant_that_has_most_in_it(void **state)
{
    (void)state;
    open_pool(1, 3, false);
    take_all(1);
    for (int i = 0; i < 5; i++)
        caller[i].ticket.turn.tenant = i < 3 ? 1 : 2;
    for (int i = 0; i < 4; i++)
        wait_for(i);
    assert_true(woken(2));
    assert_int_equal(pqi_pool_queued(&pool, &caller[2].ticket), PQI_TICKET_REFUSED);
    assert_false(pqi_pool_leave(&pool, &caller[2].ticket));
    counts(1, 0, 3);
    assert_int_equal(take(4), PQI_TAKE_FULL); /* its tenant would have as many as the other */
    counts(1, 0, 3);
    assert_true(put(5));
    has_got(0, &conn[5]);
    counts(1, 0, 2);
}

static void who_leaves_the_queue_is_passed_over(void **state)
{
    (void)state;
    full_pool(1);
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
    full_pool(1);
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
    full_pool(1);
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
    full_pool(1);
    wait_for(0);
    wait_for(1);
    assert_false(pqi_pool_stirred(&pool, &caller[0].ticket));
    pqi_pool_stir(&pool);
    for (int i = 0; i < 2; i++) {
        assert_true(woken(i));
        assert_true(pqi_pool_stirred(&pool, &caller[i].ticket));
        assert_int_equal(pqi_pool_queued(&pool, &caller[i].ticket), PQI_TICKET_WAITS);
    }
    counts(1, 0, 2);
    assert_true(put(5));
    has_got(0, &conn[5]);
    still_waits(1);
    wait_for(0); /* anew */
    assert_false(pqi_pool_stirred(&pool, &caller[0].ticket));
}

/* What was closed here and is not gone at the server is no room. */
static void a_pool_whose_connections_all_part_has_been_full_since(void **state)
{
    (void)state;
    full_pool(2);
    pqi_pool_ready(&pool, true);
    assert_int_equal(atomic_load(&pool.full_since_ns), 0); /* the other one is on its way */
    pqi_pool_parts(&pool);
    assert_int_not_equal(atomic_load(&pool.full_since_ns), 0);
    pqi_pool_ready(&pool, false);
    pqi_pool_parts(&pool);
    assert_int_not_equal(atomic_load(&pool.full_since_ns), 0);
    counts(2, 0, 0);
    int64_t before = pqi_now_ns();
    pqi_pool_parted(&pool);
    assert_int_equal(atomic_load(&pool.full_since_ns), 0);
    assert_true(atomic_load(&pool.came_ns) >= before);
    counts(1, 0, 0);
    pqi_pool_parted(&pool);
    counts(0, 0, 0);
}

/* ---- The monitor ----------------------------------------------------------------------------- */

/* It gets this connection, or (NULL) a slot. */
static void monitor_gets(const struct pqi_conn *wanted)
{
    struct pqi_conn *c = NULL;
    assert_int_equal(pqi_pool_take_for_monitor(&pool, &c), wanted ? PQI_TAKE_CONN : PQI_TAKE_SLOT);
    assert_ptr_equal(c, wanted);
}

static void monitor_gets_nothing(enum pqi_taken taken)
{
    struct pqi_conn *c = NULL;
    assert_int_equal(pqi_pool_take_for_monitor(&pool, &c), taken);
    assert_null(c);
}

static void monitor_waits(void)
{
    monitor_gets_nothing(PQI_TAKE_WAIT);
}

static void the_monitor_takes_what_is_free(void **state)
{
    (void)state;
    open_pool(2, PLENTY, false);
    take_all(1);
    assert_true(put(4));
    monitor_gets(&conn[4]);
    monitor_gets(NULL);
    counts(2, 0, 0);
    monitor_waits();
    counts(2, 0, 0);
    assert_false(monitor_was_called());
}

static void the_monitor_comes_before_all_who_wait(void **state)
{
    (void)state;
    full_pool(1);
    wait_for(0);
    monitor_waits();
    assert_true(put(4));
    assert_true(monitor_was_called());
    still_waits(0);
    wait_for(1); /* what is free is kept */
    counts(1, 1, 2);
    monitor_gets(&conn[4]);
    assert_true(put(4));
    has_got(0, &conn[4]);
    assert_false(monitor_was_called());
    assert_true(put(4));
    has_got(1, &conn[4]);
}

static void a_slot_is_kept_for_the_monitor_like_a_connection(void **state)
{
    (void)state;
    full_pool(1);
    wait_for(0);
    monitor_waits();
    pqi_pool_release(&pool);
    assert_true(monitor_was_called());
    still_waits(0);
    wait_for(1);
    counts(0, 0, 2);
    monitor_gets(NULL);
    counts(1, 0, 2);
    pqi_pool_release(&pool);
    has_got(0, NULL);
}

static void what_comes_beside_the_monitor_s_goes_to_who_waits(void **state)
{
    (void)state;
    full_pool(2);
    wait_for(0);
    monitor_waits();
    assert_true(put(4));
    assert_true(put(5));
    has_got(0, &conn[5]);
    monitor_gets(&conn[4]);
    counts(2, 0, 0);
}

static void after_the_monitor_s_turn_everybody_takes_again(void **state)
{
    (void)state;
    full_pool(1);
    monitor_waits();
    assert_true(put(4));
    monitor_gets(&conn[4]);
    assert_true(put(4));
    assert_int_equal(take(0), PQI_TAKE_CONN);
    assert_true(put(4));
    counts(1, 1, 0);
}

/* Two came free while the monitor was being called; it needs one. */
static void what_the_monitor_leaves_goes_to_those_who_waited_meanwhile(void **state)
{
    (void)state;
    full_pool(2);
    monitor_waits();
    assert_true(put(4));
    assert_true(put(5));
    wait_for(0);
    wait_for(1);
    monitor_gets(&conn[5]);
    has_got(0, &conn[4]);
    still_waits(1);
    counts(2, 0, 1);
}

/* ---- Generations, ages ----------------------------------------------------------------------- */

static void a_connection_of_an_older_generation_does_not_come_back(void **state)
{
    (void)state;
    full_pool(2);
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
    full_pool(1);
    monitor_waits();
    atomic_fetch_add(&pool.generation, 1);
    assert_false(put(0));
    assert_false(monitor_was_called());
    pqi_pool_release(&pool);
    assert_true(monitor_was_called());
    monitor_gets(NULL);
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
    open_pool(3, PLENTY, false);
    take_all(2);
    assert_true(put(0));
    pqi_pool_close(&pool);
    assert_int_equal(take(0), PQI_TAKE_FULL);
    assert_null(caller[0].conn);
    monitor_gets_nothing(PQI_TAKE_FULL);
    assert_false(put(1));
    counts(2, 1, 0);
}

static void who_waits_when_it_closes_is_woken_with_nothing(void **state)
{
    (void)state;
    full_pool(1);
    for (int i = 0; i < 3; i++)
        wait_for(i);
    pqi_pool_close(&pool);
    for (int i = 0; i < 3; i++) {
        assert_true(woken(i));
        assert_int_equal(pqi_pool_queued(&pool, &caller[i].ticket), PQI_TICKET_WAITS);
    }
    pqi_pool_release(&pool);
    monitor_gets_nothing(PQI_TAKE_FULL);
    counts(0, 0, 3);
    for (int i = 0; i < 3; i++)
        assert_false(pqi_pool_leave(&pool, &caller[i].ticket));
    counts(0, 0, 0);
}

static void a_grant_before_it_closed_stands(void **state)
{
    (void)state;
    full_pool(1);
    wait_for(0);
    assert_true(put(4));
    pqi_pool_close(&pool);
    assert_true(pqi_pool_leave(&pool, &caller[0].ticket));
    assert_ptr_equal(caller[0].ticket.conn, &conn[4]);
}

static void a_monitor_that_waits_is_not_called_to_a_closed_pool(void **state)
{
    (void)state;
    full_pool(1);
    monitor_waits();
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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(slots_are_handed_out_up_to_the_limit),
        TEST(one_slot_is_the_monitor_s_from_the_start),
        TEST(the_connection_used_last_is_used_first),
        TEST(the_readiest_is_taken_first),
        TEST(instead_of_a_slow_one_any_other_will_do),
        TEST(who_has_one_made_takes_one_that_is_there),
        TEST(who_has_one_made_gets_what_comes_back_before_the_queue_and_no_slot),
        TEST(who_has_one_made_is_woken_at_the_end),
        TEST(a_connection_that_comes_back_knows_since_when_it_is_idle),
        TEST(beyond_the_rate_who_would_connect_waits_until_there_is_one_again),
        TEST(beyond_the_rate_a_connection_that_comes_back_serves_and_a_slot_does_not),
        TEST(the_monitor_is_counted_and_not_bounded),
        TEST(a_slot_that_is_released_can_be_taken_again),
        TEST(it_is_full_from_when_the_last_one_came_back),
        TEST(who_has_another_place_to_wait_takes_what_is_there_and_queues_for_nothing),
        TEST(nor_does_it_take_what_is_kept_for_the_monitor),
        TEST(who_came_first_is_served_first_with_what_comes_first),
        TEST(tenants_take_turns),
        TEST(a_full_queue_refuses_the_last_of_the_tenant_that_has_most_in_it),
        TEST(who_leaves_the_queue_is_passed_over),
        TEST(who_leaves_too_late_has_got_it),
        TEST(a_ticket_is_good_for_waiting_again),
        TEST(the_queue_is_no_longer_than_its_limit),
        TEST(a_queue_without_places_lets_nobody_wait),
        TEST(who_waits_is_stirred_with_nothing_and_keeps_its_place),
        TEST(a_pool_whose_connections_all_part_has_been_full_since),
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
