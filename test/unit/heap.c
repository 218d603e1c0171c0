/* The heap of timers, beside a naive model: an array in which the first is searched for. */
#include "../../lib/base/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define TIMERS 200

static struct pqi_timer timers[TIMERS];
static struct pqi_heap heap;

/* The model: when each is due, if it is in. */
static int64_t due[TIMERS];
static bool is_in[TIMERS];

static unsigned seed;
static unsigned chance(unsigned below)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 16) % below;
}

static int empty(void **state)
{
    (void)state;
    pqi_heap_free(&heap);
    for (int i = 0; i < TIMERS; i++) {
        timers[i] = (struct pqi_timer){0};
        is_in[i] = false;
    }
    return 0;
}

static void set(int i, int64_t at_ns)
{
    pqi_heap_set(&heap, &timers[i], at_ns);
    due[i] = at_ns;
    is_in[i] = true;
}

static void take_out(int i)
{
    pqi_heap_remove(&heap, &timers[i]);
    is_in[i] = false;
}

/* What comes first is as early as the model's first, and both hold the same. */
static void agree(void)
{
    size_t n = 0;
    int first = -1;
    for (int i = 0; i < TIMERS; i++) {
        n += is_in[i];
        assert_int_equal(timers[i].place != 0, is_in[i]);
        if (is_in[i]) {
            assert_int_equal(timers[i].at_ns, due[i]);
            assert_ptr_equal(heap.timers[timers[i].place - 1], &timers[i]);
            first = first < 0 || due[i] < due[first] ? i : first;
        }
    }
    assert_int_equal(heap.n, n);
    const struct pqi_timer *t = pqi_heap_first(&heap);
    if (first < 0)
        assert_null(t);
    else
        assert_int_equal(t->at_ns, due[first]);
}

static void an_empty_heap_has_no_first(void **state)
{
    (void)state;
    agree();
    pqi_heap_remove(&heap, &timers[0]); /* it is in none */
    agree();
}

static void timers_come_out_by_their_time(void **state)
{
    (void)state;
    assert_true(pqi_heap_reserve(&heap, TIMERS));
    for (int i = 0; i < TIMERS; i++)
        set(i, (i * 7919) % 1009);
    int64_t before = INT64_MIN;
    for (struct pqi_timer *t; (t = pqi_heap_first(&heap));) {
        assert_true(t->at_ns >= before);
        before = t->at_ns;
        take_out((int)(t - timers));
        agree();
    }
    assert_int_equal(heap.n, 0);
}

static void a_timer_may_be_moved_both_ways_and_to_where_it_is(void **state)
{
    (void)state;
    assert_true(pqi_heap_reserve(&heap, 3));
    set(0, 10);
    set(1, 20);
    set(2, 30);
    set(2, 5);
    agree();
    set(2, INT64_MAX);
    agree();
    set(1, 20);
    agree();
    set(0, INT64_MIN);
    agree();
}

static void timers_of_one_moment_all_come(void **state)
{
    (void)state;
    assert_true(pqi_heap_reserve(&heap, TIMERS));
    for (int i = 0; i < TIMERS; i++)
        set(i, 42);
    agree();
    for (int n = TIMERS; n > 0; n--) {
        take_out((int)(pqi_heap_first(&heap) - timers));
        agree();
    }
}

static void room_that_was_reserved_holds_what_is_in_it(void **state)
{
    (void)state;
    for (int i = 0; i < TIMERS; i++) {
        assert_true(pqi_heap_reserve(&heap, (size_t)i + 1));
        assert_true(heap.cap >= (size_t)i + 1);
        set(i, TIMERS - i);
        agree();
    }
    assert_true(pqi_heap_reserve(&heap, 1)); /* never shrinks */
    agree();
}

static void more_than_memory_can_hold_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    assert_true(pqi_heap_reserve(&heap, 1));
    set(0, 1);
    assert_false(pqi_heap_reserve(&heap, SIZE_MAX));
    agree();
}

static void whatever_is_done_it_agrees_with_the_model(void **state)
{
    (void)state;
    assert_true(pqi_heap_reserve(&heap, TIMERS));
    for (seed = 1; seed < 20; seed++) {
        unsigned this_one = seed;
        int most = 1 + (int)chance(TIMERS);
        for (int step = 0; step < 2000; step++) {
            int i = (int)chance((unsigned)most);
            if (chance(3) > 0)
                set(i, (int64_t)chance(50));
            else
                take_out(i);
            if (step % 16 == 0)
                agree();
        }
        agree();
        empty(NULL);
        assert_true(pqi_heap_reserve(&heap, TIMERS));
        seed = this_one;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(an_empty_heap_has_no_first, empty),
        cmocka_unit_test_teardown(timers_come_out_by_their_time, empty),
        cmocka_unit_test_teardown(a_timer_may_be_moved_both_ways_and_to_where_it_is, empty),
        cmocka_unit_test_teardown(timers_of_one_moment_all_come, empty),
        cmocka_unit_test_teardown(room_that_was_reserved_holds_what_is_in_it, empty),
        cmocka_unit_test_teardown(more_than_memory_can_hold_is_refused_and_changes_nothing, empty),
        cmocka_unit_test_teardown(whatever_is_done_it_agrees_with_the_model, empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
