/* The words of tests about one pool. */
#include "pools.h"

#include <poll.h>
#include <string.h>

struct pqi_pool pool;
struct pqi_conn conn[16];
struct caller caller[16];
int flag;

void open_pool(int limit, int64_t queue_limit, bool monitor_slot)
{
    memset(&pool, 0, sizeof pool);
    memset(conn, 0, sizeof conn);
    pqi_pool_init(&pool, limit, queue_limit, monitor_slot, &flag);
    for (size_t i = 0; i < 16; i++)
        pqi_list_init(&conn[i].link);
}

int begin(void **state)
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

int end(void **state)
{
    (void)state;
    for (int i = 0; i < 16; i++)
        pqi_waiter_free(&caller[i].waiter);
    pqi_pool_free(&pool);
    pqi_flag_close(flag);
    return 0;
}

enum pqi_taken take(int i)
{
    caller[i].conn = NULL;
    return pqi_pool_take(&pool, &caller[i].ticket, &caller[i].conn);
}

void take_all(int n)
{
    for (int i = 0; i < n; i++) {
        struct pqi_ticket ticket = {0};
        struct pqi_conn *c = NULL;
        assert_int_equal(pqi_pool_take(&pool, &ticket, &c), PQI_TAKE_SLOT);
        assert_null(c);
    }
}

void wait_for(int i)
{
    assert_int_equal(take(i), PQI_TAKE_WAIT);
    assert_int_equal(pqi_pool_queued(&pool, &caller[i].ticket), PQI_TICKET_WAITS);
}

bool woken(int i)
{
    return pqi_waiter_wait(&caller[i].waiter, NULL, 0);
}

void has_got(int i, const struct pqi_conn *c)
{
    assert_true(woken(i));
    assert_int_equal(pqi_pool_queued(&pool, &caller[i].ticket), PQI_TICKET_GRANTED);
    assert_ptr_equal(caller[i].ticket.conn, c);
}

void still_waits(int i)
{
    assert_false(woken(i));
    assert_int_equal(pqi_pool_queued(&pool, &caller[i].ticket), PQI_TICKET_WAITS);
}

bool put(int i)
{
    return pqi_pool_put(&pool, &conn[i], 100);
}

bool monitor_was_called(void)
{
    bool called = pqi_wait_fd(NULL, flag, POLLIN, -1, 0) != 0;
    pqi_flag_clear(flag);
    return called;
}

void counts(int slots, int idle, int waiting)
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
    assert_int_equal(pool.full_since_ns > 0,
                     idle == 0 && pool.nready >= pool.limit - pool.nparting);
}
