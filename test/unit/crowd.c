/* A node's connections in the hands of many: random days beside a plain model, and threads. */
#include "../lib/pools.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

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
    while (pqi_pool_queued(&pool, &who->ticket) != PQI_TICKET_GRANTED)
        if (!pqi_waiter_wait(&who->waiter, NULL, until) || atomic_load(&crowd.closing))
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
            pqi_wait_fd(NULL, flag, POLLIN, -1, pqi_after_ms(pqi_now_ns(), 100));
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
        TEST(random_days_go_as_the_model_says),
        TEST(of_many_threads_no_more_than_the_limit_have_a_connection),
        TEST(a_pool_that_closes_lets_everybody_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
