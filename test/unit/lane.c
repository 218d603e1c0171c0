/* The queue of one pipelined connection: in every order of events that libpq can produce, each
 * answer goes to its call, and each call ends once. */
#include "../../lib/plan/lane.h"
#include "../../lib/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- The allocator --------------------------------------------------------------------------- */

static int fails_in; /* this many allocations from now one fails; -1: none does */
static int living;   /* blocks not freed yet */

void *pqi_mem_array(size_t count, size_t size)
{
    if (fails_in >= 0 && fails_in-- == 0)
        return NULL;
    living++;
    void *memory = calloc(count, size);
    assert_non_null(memory);
    return memory;
}

void pqi_mem_free(void *memory)
{
    living -= memory != NULL;
    free(memory);
}

/* ---- Words: what is sent --------------------------------------------------------------------- */

#define R PQI_EVENT_RESULT
#define E PQI_EVENT_ERROR

/* Who waits for answers. Its place in memory is all that the queue knows of it, and its number. */
struct call {
    uint64_t id;
};

static struct pqi_queue q;
static struct call a, b, c, d;
static uint64_t ids;

static int begin(void **state)
{
    (void)state;
    fails_in = -1;
    living = 0;
    ids = 0;
    a = b = c = d = (struct call){0};
    memset(&q, 0, sizeof q);
    return 0;
}

static int nothing_is_left(void **state)
{
    (void)state;
    pqi_queue_free(&q);
    return living;
}

static void push(struct pqi_mark mark)
{
    mark.id = mark.call ? ((struct call *)mark.call)->id : 0;
    assert_true(pqi_queue_reserve(&q, 1));
    pqi_queue_push(&q, &mark);
}

static void run(struct call *call, int index, bool is_shared, bool last)
{
    push((struct pqi_mark){
        .kind = PQI_MARK_RUN, .shared = is_shared, .last = last, .index = index, .call = call});
}

static void parse(struct call *call, int index, bool is_shared)
{
    push((struct pqi_mark){
        .kind = PQI_MARK_PARSE, .shared = is_shared, .index = index, .name = 7, .call = call});
}

/* Drops a prepared statement that made room for another. */
static void close_one(void)
{
    push((struct pqi_mark){.kind = PQI_MARK_CLOSE, .name = 3});
}

/* Clears the session of what its last user left there. */
static void clean_one(void)
{
    push((struct pqi_mark){.kind = PQI_MARK_CLEAN, .name = 5});
}

/* A call of `n` statements behind those of others, and with no Sync yet. */
static void shared(struct call *call, int n)
{
    call->id = ++ids;
    for (int i = 0; i < n; i++)
        run(call, i, true, i == n - 1);
}

/* The same with one statement, which is prepared first. */
static void shared_prepared(struct call *call)
{
    call->id = ++ids;
    parse(call, 0, true);
    run(call, 0, true, true);
}

static void shared_sync(void)
{
    push((struct pqi_mark){.kind = PQI_MARK_SYNC, .shared = true});
}

static void own_sync(struct call *call, int index, bool last)
{
    push((struct pqi_mark){.kind = PQI_MARK_SYNC, .last = last, .index = index, .call = call});
}

/* A call alone on its connection: so many segments, of `n` statements each. */
static void alone(struct call *call, int segments, int n)
{
    call->id = ++ids;
    for (int s = 0; s < segments; s++) {
        for (int i = 0; i < n; i++)
            run(call, s * n + i, false, false);
        own_sync(call, s * n + n - 1, s == segments - 1);
    }
}

static void abandon(struct call *call)
{
    pqi_queue_abandon(&q, call);
    assert_false(pqi_queue_holds(&q, call));
}

/* ---- Words: what comes back ------------------------------------------------------------------ */

static struct pqi_turn take(enum pqi_event event)
{
    struct pqi_turn t = pqi_queue_take(&q, event);
    if (t.broken)
        fail_msg("broken: %s", t.broken);
    return t;
}

static void is_about(const struct pqi_turn *t, const struct call *call, int index)
{
    assert_ptr_equal(t->mark.call, call);
    assert_int_equal(t->mark.index, index);
    assert_int_equal(t->mark.id, call->id);
}

/* This event is the answer of that statement, and its call goes on. */
static void answers(enum pqi_event event, struct call *call, int index)
{
    struct pqi_turn t = take(event);
    assert_int_equal(t.take, PQI_TAKE_ANSWER);
    assert_int_equal(t.end, PQI_END_NONE);
    assert_false(t.synced);
    is_about(&t, call, index);
}

/* This event tells that the statement did not run. */
static void passes_over(enum pqi_event event, struct call *call, int index)
{
    struct pqi_turn t = take(event);
    assert_int_equal(t.take, PQI_TAKE_SKIPPED);
    assert_int_equal(t.end, PQI_END_NONE);
    assert_false(t.synced);
    is_about(&t, call, index);
}

/* Nobody is told. */
static void is_quiet(enum pqi_event event)
{
    struct pqi_turn t = take(event);
    assert_int_equal(t.take, PQI_TAKE_NOTHING);
    assert_int_equal(t.end, PQI_END_NONE);
    assert_false(t.synced);
}

/* The statement's results end, and with them its call. */
static void ends(struct call *call, enum pqi_end end)
{
    struct pqi_turn t = take(PQI_EVENT_NULL);
    assert_int_equal(t.take, PQI_TAKE_NOTHING);
    assert_int_equal(t.end, end);
    assert_false(t.synced);
    assert_ptr_equal(t.mark.call, call);
    assert_int_equal(t.mark.id, call->id);
    assert_false(pqi_queue_holds(&q, call));
}

/* A statement of a call that goes on. */
static void answers_whole(enum pqi_event event, struct call *call, int index)
{
    answers(event, call, index);
    is_quiet(PQI_EVENT_NULL);
}

static void skips_whole(struct call *call, int index)
{
    passes_over(PQI_EVENT_SKIPPED, call, index);
    is_quiet(PQI_EVENT_NULL);
}

static void syncs(struct call *call, int index, bool clean, enum pqi_end end)
{
    struct pqi_turn t = take(PQI_EVENT_SYNC);
    assert_int_equal(t.take, PQI_TAKE_NOTHING);
    assert_int_equal(t.end, end);
    assert_true(t.synced);
    assert_int_equal(t.clean, clean);
    if (call)
        is_about(&t, call, index);
    else
        assert_null(t.mark.call);
}

static void nobody_s_sync(bool clean)
{
    syncs(NULL, 0, clean, PQI_END_NONE);
}

static void all_is_answered(void)
{
    assert_true(pqi_queue_empty(&q));
    assert_null(pqi_queue_head(&q));
    assert_null(pqi_queue_lost(&q));
}

/* The count is off, and nothing is handed out. */
static void is_broken(enum pqi_event event)
{
    struct pqi_turn t = pqi_queue_take(&q, event);
    assert_non_null(t.broken);
    assert_int_equal(t.take, PQI_TAKE_NOTHING);
    assert_int_equal(t.end, PQI_END_NONE);
    assert_false(t.synced);
    assert_null(t.mark.call);
}

/* The connection is lost: exactly these come out, in this order. The last is NULL. */
static void loses(struct call *first, ...)
{
    va_list calls;
    va_start(calls, first);
    for (struct call *call = first; call; call = va_arg(calls, struct call *))
        assert_ptr_equal(pqi_queue_lost(&q), call);
    va_end(calls);
    assert_null(pqi_queue_lost(&q));
    assert_null(pqi_queue_lost(&q));
    assert_true(pqi_queue_empty(&q));
}

/* ---- An empty queue -------------------------------------------------------------------------- */

static void an_empty_queue_owns_nothing_and_holds_nobody(void **state)
{
    (void)state;
    all_is_answered();
    assert_false(pqi_queue_holds(&q, &a));
    abandon(&a);
    assert_int_equal(living, 0);
}

static void nulls_on_an_empty_queue_mean_nothing(void **state)
{
    (void)state;
    is_quiet(PQI_EVENT_NULL);
    shared(&a, 1);
    shared_sync();
    answers(R, &a, 0);
    ends(&a, PQI_END_DONE);
    nobody_s_sync(true);
    is_quiet(PQI_EVENT_NULL);
    is_quiet(PQI_EVENT_NULL);
    all_is_answered();
}

/* ---- A call alone ---------------------------------------------------------------------------- */

static void a_call_alone_ends_with_its_sync_and_not_before(void **state)
{
    (void)state;
    alone(&a, 1, 1);
    answers_whole(R, &a, 0);
    assert_true(pqi_queue_holds(&q, &a));
    syncs(&a, 0, true, PQI_END_DONE);
    all_is_answered();
}

static void after_an_error_the_rest_of_the_segment_is_skipped(void **state)
{
    (void)state;
    alone(&a, 1, 3);
    answers_whole(R, &a, 0);
    answers_whole(E, &a, 1);
    skips_whole(&a, 2);
    syncs(&a, 2, false, PQI_END_DONE);
    all_is_answered();
}

static void several_segments_end_their_call_once_with_the_last(void **state)
{
    (void)state;
    alone(&a, 3, 2);
    for (int s = 0; s < 3; s++) {
        answers_whole(R, &a, s * 2);
        answers_whole(R, &a, s * 2 + 1);
        syncs(&a, s * 2 + 1, true, s == 2 ? PQI_END_DONE : PQI_END_NONE);
    }
    all_is_answered();
}

static void each_segment_is_clean_or_not_by_itself(void **state)
{
    (void)state;
    alone(&a, 3, 2);
    answers_whole(R, &a, 0);
    answers_whole(R, &a, 1);
    syncs(&a, 1, true, PQI_END_NONE);
    answers_whole(E, &a, 2);
    skips_whole(&a, 3);
    syncs(&a, 3, false, PQI_END_NONE);
    answers_whole(R, &a, 4);
    answers_whole(R, &a, 5);
    syncs(&a, 5, true, PQI_END_DONE);
    all_is_answered();
}

static void an_error_before_the_sync_is_told_by_the_segment_s_last_statement(void **state)
{
    (void)state;
    alone(&a, 1, 2);
    answers_whole(R, &a, 0);
    answers_whole(R, &a, 1);
    answers_whole(E, &a, 1);
    syncs(&a, 1, false, PQI_END_DONE);
    all_is_answered();
}

static void such_an_error_stays_in_its_own_segment(void **state)
{
    (void)state;
    alone(&a, 3, 1);
    answers_whole(R, &a, 0);
    syncs(&a, 0, true, PQI_END_NONE);
    answers_whole(R, &a, 1);
    answers(E, &a, 1);
    syncs(&a, 1, false, PQI_END_NONE);
    answers_whole(R, &a, 2);
    syncs(&a, 2, true, PQI_END_DONE);
    all_is_answered();
}

static void a_null_before_the_sync_means_nothing(void **state)
{
    (void)state;
    alone(&a, 1, 1);
    answers_whole(R, &a, 0);
    is_quiet(PQI_EVENT_NULL);
    is_quiet(PQI_EVENT_NULL);
    syncs(&a, 0, true, PQI_END_DONE);
}

static void a_late_error_in_a_segment_without_statements_is_nobody_s(void **state)
{
    (void)state;
    alone(&a, 1, 1);
    b.id = ++ids;
    own_sync(&b, 0, true);
    answers_whole(R, &a, 0);
    syncs(&a, 0, true, PQI_END_DONE);
    is_quiet(E);
    syncs(&b, 0, false, PQI_END_DONE);
    all_is_answered();
}

static void a_late_error_is_the_statement_s_before_the_close_that_stands_last(void **state)
{
    (void)state;
    a.id = ++ids;
    run(&a, 0, false, false);
    close_one();
    own_sync(&a, 0, true);
    answers_whole(R, &a, 0);
    is_quiet(R);
    is_quiet(PQI_EVENT_NULL);
    answers(E, &a, 0);
    syncs(&a, 0, false, PQI_END_DONE);
    all_is_answered();
}

static void calls_alone_follow_one_another(void **state)
{
    (void)state;
    alone(&a, 1, 1);
    alone(&b, 2, 1);
    alone(&c, 1, 1);
    answers_whole(E, &a, 0);
    syncs(&a, 0, false, PQI_END_DONE);
    answers_whole(R, &b, 0);
    syncs(&b, 0, true, PQI_END_NONE);
    answers_whole(E, &b, 1);
    syncs(&b, 1, false, PQI_END_DONE);
    answers_whole(R, &c, 0);
    syncs(&c, 0, true, PQI_END_DONE);
    all_is_answered();
}

/* ---- Calls that share a Sync ----------------------------------------------------------------- */

static void shared_calls_end_with_their_last_result_before_the_sync(void **state)
{
    (void)state;
    shared(&a, 2);
    shared(&b, 1);
    shared_sync();
    answers_whole(R, &a, 0);
    answers(R, &a, 1);
    ends(&a, PQI_END_DONE);
    answers(R, &b, 0);
    ends(&b, PQI_END_DONE);
    nobody_s_sync(true);
    all_is_answered();
}

static void who_failed_is_done_and_who_stood_behind_goes_again(void **state)
{
    (void)state;
    shared(&a, 1);
    shared(&b, 1);
    shared(&c, 2);
    shared(&d, 1);
    shared_sync();
    answers(R, &a, 0);
    ends(&a, PQI_END_DONE);
    answers(E, &b, 0);
    ends(&b, PQI_END_DONE);
    skips_whole(&c, 0);
    passes_over(PQI_EVENT_SKIPPED, &c, 1);
    ends(&c, PQI_END_AGAIN);
    passes_over(PQI_EVENT_SKIPPED, &d, 0);
    ends(&d, PQI_END_AGAIN);
    nobody_s_sync(false);
    all_is_answered();
}

static void a_call_that_failed_itself_does_not_go_again_for_what_was_skipped_of_it(void **state)
{
    (void)state;
    shared(&a, 3);
    shared(&b, 1);
    shared_sync();
    answers_whole(R, &a, 0);
    answers_whole(E, &a, 1);
    passes_over(PQI_EVENT_SKIPPED, &a, 2);
    ends(&a, PQI_END_DONE);
    passes_over(PQI_EVENT_SKIPPED, &b, 0);
    ends(&b, PQI_END_AGAIN);
    nobody_s_sync(false);
    all_is_answered();
}

static void the_next_segment_knows_nothing_of_the_failure(void **state)
{
    (void)state;
    shared(&a, 1);
    shared(&b, 1);
    shared_sync();
    shared(&c, 1);
    shared(&d, 1);
    shared_sync();
    answers(E, &a, 0);
    ends(&a, PQI_END_DONE);
    passes_over(PQI_EVENT_SKIPPED, &b, 0);
    ends(&b, PQI_END_AGAIN);
    nobody_s_sync(false);
    answers(R, &c, 0);
    ends(&c, PQI_END_DONE);
    answers(R, &d, 0);
    ends(&d, PQI_END_DONE);
    nobody_s_sync(true);
    all_is_answered();
}

static void a_late_error_of_shared_calls_is_told_to_none_of_them(void **state)
{
    (void)state;
    shared(&a, 1);
    shared(&b, 1);
    shared_sync();
    answers(R, &a, 0);
    ends(&a, PQI_END_DONE);
    answers(R, &b, 0);
    ends(&b, PQI_END_DONE);
    is_quiet(E);
    is_quiet(PQI_EVENT_NULL);
    nobody_s_sync(false);
    all_is_answered();
}

static void nor_to_a_call_that_has_its_memory_now(void **state)
{
    (void)state;
    shared(&a, 1);
    shared_sync();
    answers(R, &a, 0);
    ends(&a, PQI_END_DONE);
    shared(&a, 1);
    shared_sync();
    is_quiet(E);
    nobody_s_sync(false);
    answers(R, &a, 0);
    ends(&a, PQI_END_DONE);
    nobody_s_sync(true);
    all_is_answered();
}

static void answers_that_came_before_the_sync_was_sent_are_told_at_once(void **state)
{
    (void)state;
    shared(&a, 1);
    answers(R, &a, 0);
    ends(&a, PQI_END_DONE);
    all_is_answered();
    shared(&b, 1);
    answers(E, &b, 0);
    ends(&b, PQI_END_DONE);
    shared(&c, 1);
    shared_sync();
    passes_over(PQI_EVENT_SKIPPED, &c, 0);
    ends(&c, PQI_END_AGAIN);
    nobody_s_sync(false);
    all_is_answered();
}

/* ---- Prepared statements --------------------------------------------------------------------- */

static void what_parse_and_close_answer_is_nobody_s(void **state)
{
    (void)state;
    close_one();
    shared_prepared(&a);
    shared_sync();
    is_quiet(R);
    is_quiet(PQI_EVENT_NULL);
    is_quiet(R);
    is_quiet(PQI_EVENT_NULL);
    answers(R, &a, 0);
    ends(&a, PQI_END_DONE);
    nobody_s_sync(true);
    all_is_answered();
}

static void a_failed_parse_is_its_statement_s_error_and_its_call_is_done(void **state)
{
    (void)state;
    shared_prepared(&a);
    shared(&b, 1);
    shared_sync();
    answers_whole(E, &a, 0);
    passes_over(PQI_EVENT_SKIPPED, &a, 0);
    ends(&a, PQI_END_DONE);
    passes_over(PQI_EVENT_SKIPPED, &b, 0);
    ends(&b, PQI_END_AGAIN);
    nobody_s_sync(false);
    all_is_answered();
}

static void so_it_is_for_a_call_alone(void **state)
{
    (void)state;
    a.id = ++ids;
    run(&a, 0, false, false);
    parse(&a, 1, false);
    run(&a, 1, false, false);
    own_sync(&a, 1, true);
    answers_whole(R, &a, 0);
    answers_whole(E, &a, 1);
    skips_whole(&a, 1);
    syncs(&a, 1, false, PQI_END_DONE);
    all_is_answered();
}

static void a_skipped_parse_lets_its_call_go_again(void **state)
{
    (void)state;
    shared(&a, 1);
    shared_prepared(&b);
    shared_sync();
    answers(E, &a, 0);
    ends(&a, PQI_END_DONE);
    skips_whole(&b, 0);
    passes_over(PQI_EVENT_SKIPPED, &b, 0);
    ends(&b, PQI_END_AGAIN);
    nobody_s_sync(false);
    all_is_answered();
}

static void a_skipped_close_is_nobody_s(void **state)
{
    (void)state;
    shared(&a, 1);
    close_one();
    shared_prepared(&b);
    shared_sync();
    answers(E, &a, 0);
    ends(&a, PQI_END_DONE);
    is_quiet(PQI_EVENT_SKIPPED);
    is_quiet(PQI_EVENT_NULL);
    skips_whole(&b, 0);
    passes_over(PQI_EVENT_SKIPPED, &b, 0);
    ends(&b, PQI_END_AGAIN);
    nobody_s_sync(false);
    all_is_answered();
}

static void what_cleans_the_session_answers_nobody(void **state)
{
    (void)state;
    a.id = ++ids;
    clean_one();
    run(&a, 0, false, false);
    clean_one();
    own_sync(&a, 0, true);
    is_quiet(R);
    is_quiet(PQI_EVENT_NULL);
    answers(R, &a, 0);
    is_quiet(PQI_EVENT_NULL);
    is_quiet(R);
    is_quiet(PQI_EVENT_NULL);
    syncs(&a, 0, true, PQI_END_DONE);
    all_is_answered();
}

static void where_the_session_is_not_cleaned_the_statement_behind_does_not_run(void **state)
{
    (void)state;
    a.id = ++ids;
    clean_one();
    run(&a, 0, false, false);
    own_sync(&a, 0, true);
    is_quiet(E);
    is_quiet(PQI_EVENT_NULL);
    passes_over(PQI_EVENT_SKIPPED, &a, 0);
    is_quiet(PQI_EVENT_NULL);
    syncs(&a, 0, false, PQI_END_DONE);
    all_is_answered();
}

static void a_failed_close_is_nobody_s_fault_and_who_stands_behind_it_goes_again(void **state)
{
    (void)state;
    shared(&a, 1);
    close_one();
    shared_prepared(&b);
    shared_sync();
    answers(R, &a, 0);
    ends(&a, PQI_END_DONE);
    is_quiet(E);
    is_quiet(PQI_EVENT_NULL);
    skips_whole(&b, 0);
    passes_over(PQI_EVENT_SKIPPED, &b, 0);
    ends(&b, PQI_END_AGAIN);
    nobody_s_sync(false);
    all_is_answered();
}

static void who_finds_its_prepared_statement_stale_goes_again_with_all_behind_it(void **state)
{
    (void)state;
    shared(&a, 1);
    shared(&b, 1);
    shared(&c, 1);
    shared_sync();
    shared(&d, 1);
    shared_sync();
    answers(R, &a, 0);
    ends(&a, PQI_END_DONE);
    passes_over(PQI_EVENT_STALE, &b, 0);
    ends(&b, PQI_END_AGAIN);
    passes_over(PQI_EVENT_SKIPPED, &c, 0);
    ends(&c, PQI_END_AGAIN);
    nobody_s_sync(false);
    answers(R, &d, 0);
    ends(&d, PQI_END_DONE);
    nobody_s_sync(true);
    all_is_answered();
}

static void of_several_statements_a_stale_one_sends_all_again(void **state)
{
    (void)state;
    shared(&a, 3);
    shared_sync();
    answers_whole(R, &a, 0);
    passes_over(PQI_EVENT_STALE, &a, 1);
    is_quiet(PQI_EVENT_NULL);
    passes_over(PQI_EVENT_SKIPPED, &a, 2);
    ends(&a, PQI_END_AGAIN);
    nobody_s_sync(false);
    all_is_answered();
}

static void a_stale_statement_once_repaired_answers_like_any_other(void **state)
{
    (void)state;
    shared(&a, 1);
    shared_sync();
    passes_over(PQI_EVENT_STALE, &a, 0);
    ends(&a, PQI_END_AGAIN);
    shared_prepared(&a);
    shared_sync();
    nobody_s_sync(false);
    is_quiet(R);
    is_quiet(PQI_EVENT_NULL);
    answers(R, &a, 0);
    ends(&a, PQI_END_DONE);
    nobody_s_sync(true);
    all_is_answered();
}

/* ---- Abandoned ------------------------------------------------------------------------------- */

static void what_comes_for_an_abandoned_call_is_dropped(void **state)
{
    (void)state;
    shared(&a, 1);
    shared(&b, 2);
    shared(&c, 1);
    shared_sync();
    answers(R, &a, 0);
    abandon(&b);
    ends(&a, PQI_END_DONE);
    for (int i = 0; i < 2; i++) {
        is_quiet(R);
        is_quiet(PQI_EVENT_NULL);
    }
    answers(R, &c, 0);
    ends(&c, PQI_END_DONE);
    nobody_s_sync(true);
    all_is_answered();
}

static void an_abandoned_call_that_fails_still_skips_its_neighbours(void **state)
{
    (void)state;
    shared(&a, 2);
    shared(&b, 1);
    shared_sync();
    abandon(&a);
    is_quiet(E);
    is_quiet(PQI_EVENT_NULL);
    is_quiet(PQI_EVENT_SKIPPED);
    is_quiet(PQI_EVENT_NULL);
    passes_over(PQI_EVENT_SKIPPED, &b, 0);
    ends(&b, PQI_END_AGAIN);
    nobody_s_sync(false);
    all_is_answered();
}

static void its_failure_is_not_the_next_one_s(void **state)
{
    (void)state;
    shared(&a, 1);
    shared_sync();
    shared(&b, 1);
    shared(&c, 1);
    shared_sync();
    answers(E, &a, 0);
    abandon(&a);
    is_quiet(PQI_EVENT_NULL);
    nobody_s_sync(false);
    passes_over(PQI_EVENT_STALE, &b, 0);
    ends(&b, PQI_END_AGAIN);
    passes_over(PQI_EVENT_SKIPPED, &c, 0);
    ends(&c, PQI_END_AGAIN);
    nobody_s_sync(false);
    all_is_answered();
}

static void a_call_alone_can_be_abandoned_between_its_segments(void **state)
{
    (void)state;
    alone(&a, 2, 1);
    alone(&b, 1, 1);
    answers_whole(R, &a, 0);
    syncs(&a, 0, true, PQI_END_NONE);
    abandon(&a);
    is_quiet(R);
    is_quiet(PQI_EVENT_NULL);
    syncs(NULL, 1, true, PQI_END_NONE);
    answers_whole(R, &b, 0);
    syncs(&b, 0, true, PQI_END_DONE);
    all_is_answered();
}

static void a_late_error_after_the_abandonment_is_nobody_s(void **state)
{
    (void)state;
    alone(&a, 1, 1);
    answers_whole(R, &a, 0);
    abandon(&a);
    is_quiet(E);
    is_quiet(PQI_EVENT_NULL);
    syncs(NULL, 0, false, PQI_END_NONE);
    all_is_answered();
}

static void memory_used_again_does_not_get_the_answers_of_the_abandoned_call(void **state)
{
    (void)state;
    shared(&a, 2);
    shared_sync();
    answers_whole(R, &a, 0);
    abandon(&a);
    shared(&a, 2);
    shared_sync();
    is_quiet(R);
    is_quiet(PQI_EVENT_NULL);
    nobody_s_sync(true);
    answers_whole(R, &a, 0);
    answers(R, &a, 1);
    ends(&a, PQI_END_DONE);
    nobody_s_sync(true);
    all_is_answered();
}

static void nor_its_late_error(void **state)
{
    (void)state;
    alone(&a, 1, 2);
    answers_whole(R, &a, 0);
    answers_whole(R, &a, 1);
    abandon(&a);
    alone(&a, 1, 1);
    is_quiet(E);
    syncs(NULL, 1, false, PQI_END_NONE);
    answers_whole(R, &a, 0);
    syncs(&a, 0, true, PQI_END_DONE);
    all_is_answered();
}

static void nor_its_failure(void **state)
{
    (void)state;
    shared(&a, 2);
    answers_whole(E, &a, 0);
    abandon(&a);
    shared(&a, 1);
    shared_sync();
    is_quiet(PQI_EVENT_SKIPPED);
    is_quiet(PQI_EVENT_NULL);
    passes_over(PQI_EVENT_SKIPPED, &a, 0);
    ends(&a, PQI_END_AGAIN);
    nobody_s_sync(false);
    all_is_answered();
}

static void memory_of_an_abandoned_call_is_lost_once_for_the_new_one_alone(void **state)
{
    (void)state;
    shared(&a, 1);
    shared(&b, 1);
    shared_sync();
    abandon(&a);
    shared(&a, 1);
    loses(&b, &a, NULL);
}

/* ---- Lost ------------------------------------------------------------------------------------ */

static void a_lost_connection_gives_back_each_call_that_was_not_answered(void **state)
{
    (void)state;
    shared(&a, 1);
    close_one();
    shared_prepared(&b);
    shared(&c, 3);
    shared_sync();
    shared(&d, 1);
    answers(R, &a, 0);
    ends(&a, PQI_END_DONE);
    loses(&b, &c, &d, NULL);
}

static void who_has_a_result_but_not_its_end_is_lost(void **state)
{
    (void)state;
    shared(&a, 1);
    answers(R, &a, 0);
    loses(&a, NULL);
}

static void a_call_alone_is_lost_until_its_last_sync(void **state)
{
    (void)state;
    alone(&a, 2, 1);
    answers_whole(R, &a, 0);
    syncs(&a, 0, true, PQI_END_NONE);
    answers_whole(R, &a, 1);
    loses(&a, NULL);
}

static void what_was_abandoned_is_not_lost(void **state)
{
    (void)state;
    shared(&a, 1);
    shared(&b, 1);
    shared_sync();
    abandon(&a);
    loses(&b, NULL);
}

static void after_a_loss_no_answer_is_believed(void **state)
{
    (void)state;
    shared(&a, 1);
    shared_sync();
    loses(&a, NULL);
    is_quiet(PQI_EVENT_NULL);
    is_broken(R);
    is_broken(PQI_EVENT_SYNC);
    shared(&b, 1);
    shared_sync();
    answers(R, &b, 0);
    ends(&b, PQI_END_DONE);
    is_broken(PQI_EVENT_SYNC);
}

/* ---- At every point -------------------------------------------------------------------------- */

/* What was sent, and all that comes back for it: a letter an event. */
struct story {
    void (*send)(void);
    const char *events; /* r result, e error, s stale, x skipped, . NULL, S Sync */
};

static void send_neighbours(void)
{
    shared(&a, 2);
    shared_prepared(&b);
    shared_sync();
    close_one();
    shared(&c, 1);
    shared(&d, 2);
    shared_sync();
}

static void send_alone(void)
{
    alone(&a, 2, 2);
    alone(&b, 1, 1);
    c.id = ++ids;
    parse(&c, 0, false);
    run(&c, 0, false, false);
    own_sync(&c, 0, true);
    alone(&d, 2, 1);
}

static const struct story stories[] = {
    {send_neighbours, "r.r. r.r. S r. r. r.r. S"},
    {send_neighbours, "r.e. x.x. S r. s. x.x. S"},
    {send_neighbours, "r.s. x.x. S e. x. x.x. S"},
    {send_neighbours, "r.r. e.x. S r. r. r.e. S"},
    {send_neighbours, "r.r. r.r. e.S r. r. e.x. S"},
    {send_neighbours, "e.x. x.x. S r. r. r.r. eS"},
    {send_alone, "r.r.S r.r.S r.S r.r.S r.S r.S"},
    {send_alone, "r.r.e.S e.x.S r.eS r.e.S e.S r.S"},
    {send_alone, "e.x.S r.r.S e.S e.x.S r.e.S r.e.S"},
    {send_alone, "r.e.S r.r..S r.S r.r.eS r.S r..S"},
};

#define EACH_STORY(s) \
    for (const struct story *s = stories; s < stories + sizeof stories / sizeof *stories; s++)

static struct call *const all[] = {&a, &b, &c, &d};
static int ended[4], answered[4][4];

static int number_of(const struct call *call)
{
    int i = 0;
    while (all[i] != call)
        i++;
    return i;
}

static void start(const struct story *s)
{
    pqi_queue_free(&q);
    memset(ended, 0, sizeof ended);
    memset(answered, 0, sizeof answered);
    s->send();
}

/* Lets all events from the from-th up to the to-th come, and keeps the books of what is told. */
static void play(const struct story *s, int from, int to)
{
    static const char letters[] = "resx.S";
    int n = 0;
    for (const char *e = s->events; *e && n < to; e++) {
        if (*e == ' ' || n++ < from)
            continue;
        struct pqi_turn t = take((enum pqi_event)(strchr(letters, *e) - letters));
        if (t.take != PQI_TAKE_NOTHING)
            answered[number_of(t.mark.call)][t.mark.index]++;
        if (t.end != PQI_END_NONE)
            ended[number_of(t.mark.call)]++;
    }
}

static int length_of(const struct story *s)
{
    int n = 0;
    for (const char *e = s->events; *e; e++)
        n += *e != ' ';
    return n;
}

static void whatever_comes_back_each_call_ends_once(void **state)
{
    (void)state;
    EACH_STORY(s)
    {
        start(s);
        play(s, 0, length_of(s));
        for (int i = 0; i < 4; i++)
            assert_int_equal(ended[i], 1);
        all_is_answered();
    }
}

static void wherever_the_connection_is_lost_each_call_ends_or_comes_out_once(void **state)
{
    (void)state;
    EACH_STORY(s)
    {
        for (int cut = 0; cut <= length_of(s); cut++) {
            start(s);
            play(s, 0, cut);
            for (struct call *call = pqi_queue_lost(&q); call; call = pqi_queue_lost(&q))
                ended[number_of(call)]++;
            for (int i = 0; i < 4; i++)
                assert_int_equal(ended[i], 1);
            assert_null(pqi_queue_lost(&q));
        }
    }
}

static void wherever_a_call_is_abandoned_it_is_told_nothing_more_and_the_others_all(void **state)
{
    (void)state;
    EACH_STORY(s)
    {
        int whole[4][4];
        start(s);
        play(s, 0, length_of(s));
        memcpy(whole, answered, sizeof whole);
        for (int cut = 0; cut <= length_of(s); cut++) {
            for (int gone = 0; gone < 4; gone++) {
                start(s);
                play(s, 0, cut);
                const int ended_before = ended[gone];
                int told[4][4];
                memcpy(told, whole, sizeof told);
                memcpy(told[gone], answered[gone], sizeof told[gone]);
                abandon(all[gone]);
                play(s, cut, length_of(s));
                for (int i = 0; i < 4; i++)
                    assert_int_equal(ended[i], i == gone ? ended_before : 1);
                assert_memory_equal(answered, told, sizeof told);
                all_is_answered();
            }
        }
    }
}

static void wherever_memory_is_used_again_only_the_new_call_s_answers_arrive(void **state)
{
    (void)state;
    EACH_STORY(s)
    {
        for (int cut = 0; cut <= length_of(s); cut++) {
            for (int gone = 0; gone < 4; gone++) {
                start(s);
                play(s, 0, cut);
                abandon(all[gone]);
                ended[gone] = 0;
                shared(all[gone], 2);
                shared_sync();
                play(s, cut, length_of(s));
                assert_int_equal(ended[gone], 0);
                answers_whole(R, all[gone], 0);
                answers(R, all[gone], 1);
                ends(all[gone], PQI_END_DONE);
                nobody_s_sync(true);
                all_is_answered();
            }
        }
    }
}

/* May this event follow the first `cut` of the story? `sync`: a Sync is due. */
static bool can_come(const struct story *s, int cut, bool sync, enum pqi_event event)
{
    char before = 'S';
    bool failed = false;
    for (const char *e = s->events; cut > 0; e++) {
        if (*e == ' ')
            continue;
        before = *e;
        failed = *e != 'S' && (failed || strchr("esx", *e));
        cut--;
    }
    if (sync)
        return event == PQI_EVENT_NULL || event == PQI_EVENT_SYNC ||
               (!failed && (event == E || event == PQI_EVENT_STALE));
    if (strchr("resx", before))
        return event == PQI_EVENT_NULL;
    if (failed)
        return event == PQI_EVENT_SKIPPED;
    return event == R || event == E || event == PQI_EVENT_STALE;
}

static void every_other_event_at_every_point_is_broken(void **state)
{
    (void)state;
    EACH_STORY(s)
    {
        for (int cut = 0; cut < length_of(s); cut++) {
            for (int event = PQI_EVENT_RESULT; event <= PQI_EVENT_SYNC; event++) {
                start(s);
                play(s, 0, cut);
                bool sync = pqi_queue_head(&q)->kind == PQI_MARK_SYNC;
                if (can_come(s, cut, sync, (enum pqi_event)event))
                    take((enum pqi_event)event);
                else
                    is_broken((enum pqi_event)event);
            }
        }
    }
}

/* ---- Contradictions -------------------------------------------------------------------------- */

static void an_answer_to_nothing_is_broken(void **state)
{
    (void)state;
    is_broken(R);
    is_broken(E);
    is_broken(PQI_EVENT_STALE);
    is_broken(PQI_EVENT_SKIPPED);
    is_broken(PQI_EVENT_SYNC);
}

static void two_results_for_one_statement_are_broken(void **state)
{
    (void)state;
    shared(&a, 1);
    shared(&b, 1);
    answers(R, &a, 0);
    is_broken(R);
    is_broken(E);
    loses(&a, &b, NULL);
}

static void a_statement_that_ends_without_a_result_is_broken(void **state)
{
    (void)state;
    shared(&a, 1);
    is_broken(PQI_EVENT_NULL);
    loses(&a, NULL);
}

static void a_sync_before_all_was_answered_is_broken(void **state)
{
    (void)state;
    alone(&a, 1, 1);
    is_broken(PQI_EVENT_SYNC);
    answers(R, &a, 0);
    is_broken(PQI_EVENT_SYNC);
    loses(&a, NULL);
}

static void a_statement_skipped_for_no_failure_is_broken(void **state)
{
    (void)state;
    shared(&a, 1);
    shared(&b, 1);
    is_broken(PQI_EVENT_SKIPPED);
    answers(R, &a, 0);
    ends(&a, PQI_END_DONE);
    is_broken(PQI_EVENT_SKIPPED);
    loses(&b, NULL);
}

static void a_failure_before_the_last_sync_skips_nothing_behind_it(void **state)
{
    (void)state;
    shared(&a, 1);
    shared_sync();
    shared(&b, 1);
    answers(E, &a, 0);
    ends(&a, PQI_END_DONE);
    nobody_s_sync(false);
    is_broken(PQI_EVENT_SKIPPED);
    loses(&b, NULL);
}

static void an_answer_behind_a_failure_is_broken(void **state)
{
    (void)state;
    shared(&a, 1);
    shared(&b, 1);
    answers(E, &a, 0);
    ends(&a, PQI_END_DONE);
    is_broken(R);
    is_broken(E);
    is_broken(PQI_EVENT_STALE);
    loses(&b, NULL);
}

static void a_result_where_the_sync_was_due_is_broken(void **state)
{
    (void)state;
    alone(&a, 1, 1);
    answers_whole(R, &a, 0);
    is_broken(R);
    is_broken(PQI_EVENT_SKIPPED);
    loses(&a, NULL);
}

static void two_errors_in_one_segment_are_broken(void **state)
{
    (void)state;
    alone(&a, 2, 1);
    answers_whole(R, &a, 0);
    answers_whole(E, &a, 0);
    is_broken(E);
    syncs(&a, 0, false, PQI_END_NONE);
    answers_whole(E, &a, 1);
    is_broken(E);
    loses(&a, NULL);
}

static void syncs_that_do_not_add_up_are_broken(void **state)
{
    (void)state;
    alone(&a, 1, 1);
    q.syncs_sent++;
    answers_whole(R, &a, 0);
    is_broken(PQI_EVENT_SYNC);
}

/* ---- Room ------------------------------------------------------------------------------------ */

static void the_queue_grows_around_its_end_and_keeps_its_order(void **state)
{
    (void)state;
    static struct call calls[300];
    for (int head = 0; head < 16; head++) {
        pqi_queue_free(&q);
        assert_true(pqi_queue_reserve(&q, 1));
        const uint32_t first_cap = q.cap;
        for (int i = 0; i < head; i++) {
            shared(&calls[i], 1);
            answers(R, &calls[i], 0);
            ends(&calls[i], PQI_END_DONE);
        }
        assert_int_equal(q.cap, first_cap);
        for (int i = 0; i < 300; i++)
            shared(&calls[i], 1);
        shared_sync();
        assert_true(q.cap > first_cap);
        for (int i = 0; i < 300; i++) {
            answers(R, &calls[i], 0);
            ends(&calls[i], PQI_END_DONE);
        }
        nobody_s_sync(true);
        all_is_answered();
    }
    assert_int_equal(living, 1);
}

static void half_a_statement_survives_the_growth(void **state)
{
    (void)state;
    shared(&a, 1);
    answers(R, &a, 0);
    assert_true(pqi_queue_reserve(&q, 100));
    ends(&a, PQI_END_DONE);
    all_is_answered();
}

static void a_queue_in_steady_use_does_not_grow(void **state)
{
    (void)state;
    for (int i = 0; i < 10000; i++) {
        shared(&a, 3);
        shared_sync();
        answers_whole(R, &a, 0);
        answers_whole(R, &a, 1);
        answers(R, &a, 2);
        ends(&a, PQI_END_DONE);
        nobody_s_sync(true);
    }
    assert_int_equal(q.cap, 16);
}

static void room_once_reserved_is_there_without_memory(void **state)
{
    (void)state;
    static struct call calls[100];
    assert_true(pqi_queue_reserve(&q, 100));
    fails_in = 0;
    for (int i = 0; i < 100; i++)
        shared(&calls[i], 1);
    for (int i = 0; i < 100; i++) {
        answers(R, &calls[i], 0);
        ends(&calls[i], PQI_END_DONE);
    }
    all_is_answered();
}

static void without_memory_the_queue_stays_as_it_was(void **state)
{
    (void)state;
    fails_in = 0;
    assert_false(pqi_queue_reserve(&q, 1));
    all_is_answered();
    fails_in = -1;
    shared(&a, 1);
    shared(&b, 1);
    answers(R, &a, 0);
    fails_in = 0;
    assert_false(pqi_queue_reserve(&q, 1000));
    fails_in = -1;
    ends(&a, PQI_END_DONE);
    shared_sync();
    answers(R, &b, 0);
    ends(&b, PQI_END_DONE);
    nobody_s_sync(true);
    all_is_answered();
}

static void more_room_than_can_be_counted_is_refused(void **state)
{
    (void)state;
    shared(&a, 1);
    assert_false(pqi_queue_reserve(&q, UINT32_MAX));
    assert_false(pqi_queue_reserve(&q, UINT32_MAX / 2));
    assert_false(pqi_queue_reserve(&q, UINT32_MAX / 4));
    assert_int_equal(living, 1);
    answers(R, &a, 0);
    ends(&a, PQI_END_DONE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, nothing_is_left)
    const struct CMUnitTest tests[] = {
        TEST(an_empty_queue_owns_nothing_and_holds_nobody),
        TEST(nulls_on_an_empty_queue_mean_nothing),
        TEST(a_call_alone_ends_with_its_sync_and_not_before),
        TEST(after_an_error_the_rest_of_the_segment_is_skipped),
        TEST(several_segments_end_their_call_once_with_the_last),
        TEST(each_segment_is_clean_or_not_by_itself),
        TEST(an_error_before_the_sync_is_told_by_the_segment_s_last_statement),
        TEST(such_an_error_stays_in_its_own_segment),
        TEST(a_null_before_the_sync_means_nothing),
        TEST(a_late_error_in_a_segment_without_statements_is_nobody_s),
        TEST(a_late_error_is_the_statement_s_before_the_close_that_stands_last),
        TEST(calls_alone_follow_one_another),
        TEST(shared_calls_end_with_their_last_result_before_the_sync),
        TEST(who_failed_is_done_and_who_stood_behind_goes_again),
        TEST(a_call_that_failed_itself_does_not_go_again_for_what_was_skipped_of_it),
        TEST(the_next_segment_knows_nothing_of_the_failure),
        TEST(a_late_error_of_shared_calls_is_told_to_none_of_them),
        TEST(nor_to_a_call_that_has_its_memory_now),
        TEST(answers_that_came_before_the_sync_was_sent_are_told_at_once),
        TEST(what_parse_and_close_answer_is_nobody_s),
        TEST(a_failed_parse_is_its_statement_s_error_and_its_call_is_done),
        TEST(so_it_is_for_a_call_alone),
        TEST(a_skipped_parse_lets_its_call_go_again),
        TEST(a_skipped_close_is_nobody_s),
        TEST(what_cleans_the_session_answers_nobody),
        TEST(where_the_session_is_not_cleaned_the_statement_behind_does_not_run),
        TEST(a_failed_close_is_nobody_s_fault_and_who_stands_behind_it_goes_again),
        TEST(who_finds_its_prepared_statement_stale_goes_again_with_all_behind_it),
        TEST(of_several_statements_a_stale_one_sends_all_again),
        TEST(a_stale_statement_once_repaired_answers_like_any_other),
        TEST(what_comes_for_an_abandoned_call_is_dropped),
        TEST(an_abandoned_call_that_fails_still_skips_its_neighbours),
        TEST(its_failure_is_not_the_next_one_s),
        TEST(a_call_alone_can_be_abandoned_between_its_segments),
        TEST(a_late_error_after_the_abandonment_is_nobody_s),
        TEST(memory_used_again_does_not_get_the_answers_of_the_abandoned_call),
        TEST(nor_its_late_error),
        TEST(nor_its_failure),
        TEST(memory_of_an_abandoned_call_is_lost_once_for_the_new_one_alone),
        TEST(a_lost_connection_gives_back_each_call_that_was_not_answered),
        TEST(who_has_a_result_but_not_its_end_is_lost),
        TEST(a_call_alone_is_lost_until_its_last_sync),
        TEST(what_was_abandoned_is_not_lost),
        TEST(after_a_loss_no_answer_is_believed),
        TEST(whatever_comes_back_each_call_ends_once),
        TEST(wherever_the_connection_is_lost_each_call_ends_or_comes_out_once),
        TEST(wherever_a_call_is_abandoned_it_is_told_nothing_more_and_the_others_all),
        TEST(wherever_memory_is_used_again_only_the_new_call_s_answers_arrive),
        TEST(every_other_event_at_every_point_is_broken),
        TEST(an_answer_to_nothing_is_broken),
        TEST(two_results_for_one_statement_are_broken),
        TEST(a_statement_that_ends_without_a_result_is_broken),
        TEST(a_sync_before_all_was_answered_is_broken),
        TEST(a_statement_skipped_for_no_failure_is_broken),
        TEST(a_failure_before_the_last_sync_skips_nothing_behind_it),
        TEST(an_answer_behind_a_failure_is_broken),
        TEST(a_result_where_the_sync_was_due_is_broken),
        TEST(two_errors_in_one_segment_are_broken),
        TEST(syncs_that_do_not_add_up_are_broken),
        TEST(the_queue_grows_around_its_end_and_keeps_its_order),
        TEST(half_a_statement_survives_the_growth),
        TEST(a_queue_in_steady_use_does_not_grow),
        TEST(room_once_reserved_is_there_without_memory),
        TEST(without_memory_the_queue_stays_as_it_was),
        TEST(more_room_than_can_be_counted_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
