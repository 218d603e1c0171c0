/* The words of tests about one pool: its connections are only numbers, and who takes waits by a
 * ticket. One pool at a time; each test begins with `begin` and ends with `end`. */
#ifndef TEST_POOLS_H
#define TEST_POOLS_H

#include "../../lib/run/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { PLENTY = 1000 };

/* One who takes, and waits if need be. */
struct caller {
    struct pqi_ticket ticket;
    struct pqi_waiter waiter;
    struct pqi_conn *conn; /* what it got at once */
};

extern struct pqi_pool pool;
extern struct pqi_conn conn[16];
extern struct caller caller[16];
extern int flag; /* the monitor's */

int begin(void **state);
int end(void **state);
void open_pool(int limit, int64_t queue_limit, bool monitor_slot);

enum pqi_taken take(int i);
bool put(int i);
/* Takes so many times; the pool has slots to give. */
void take_all(int n);
void wait_for(int i);
bool woken(int i);
/* It was woken, and has got this (NULL: a slot). */
void has_got(int i, const struct pqi_conn *c);
void still_waits(int i);
bool monitor_was_called(void);
/* What the pool says of itself. */
void counts(int slots, int idle, int waiting);

#endif
