/* A node's connections: how many there may be, who has one, who waits for one. Opens and closes
 * none itself: it hands out connections and the right to open one ("a slot"). */
#ifndef PQI_POOL_H
#define PQI_POOL_H

#include "../base/list.h"
#include "../plan/fair.h"
#include "../plan/rate.h"
#include "../wire/pg.h"
#include "../wire/world.h"

#include <stdatomic.h>

/* A place in the queue. Belongs to the call that waits. */
struct pqi_ticket {
    struct pqi_link link;
    struct pqi_waiter *waiter;
    struct pqi_fair_turn turn; /* its tenant is set before it is taken */
    enum pqi_ticket_state {
        PQI_TICKET_WAITS,
        PQI_TICKET_GRANTED,
        PQI_TICKET_REFUSED /* the queue was full, and another tenant's came that has fewer there */
    } state;
    struct pqi_conn *conn; /* granted: this connection; NULL: a slot */
    bool stirred;          /* its node may not be the one to wait for any more */
    bool makes; /* its owner is having a connection made: it waits for another one besides */
};

struct pqi_pool {
    pthread_mutex_t lock;
    int limit; /* connections at most, the monitor's included */
    int64_t queue_limit;
    int slots;  /* taken: opening, in use, idle, parting, or kept for the monitor */
    int nready; /* connections that are made: idle, in use or lent, and the monitor's own */
    int nidle;
    int nparting; /* closed here, and still counted by the server */
    int nwaiting;
    struct pqi_link idle;          /* the one used last comes last, and is used first */
    struct pqi_link waiting;       /* tickets, as they came */
    struct pqi_link makers;        /* those of who are having a connection made, likewise */
    struct pqi_fair fair;          /* the same, by turns */
    bool monitor_waits;            /* only where the monitor has no connection of its own */
    bool monitor_turn;             /* what is free now is kept for it */
    const int *monitor_flag;       /* how to wake it */
    struct pqi_rate rate;          /* of new connections */
    struct pqi_meter made;         /* those that were begun */
    _Atomic int64_t refill_ns;     /* who waits only for the rate may go on then; 0: nobody does */
    _Atomic uint64_t generation;   /* connections born before are not used again */
    _Atomic int64_t full_since_ns; /* all are in use, and none came back since; 0: not so */
    _Atomic int64_t came_ns;       /* when a connection or a slot came back last; 0: never */
    bool closed;
};

/* With `monitor_slot` one slot of the limit is kept for the monitor from the start. The flag need
 * not exist before the pool is used. */
void pqi_pool_init(struct pqi_pool *p, int limit, int64_t queue_limit, bool monitor_slot,
                   const int *monitor_flag);
void pqi_pool_free(struct pqi_pool *p);

/* Bounds the slots for new connections that are handed out in a second; 0: no bound. The monitor's own are
 * counted, and not bounded: it has its own measure. */
void pqi_pool_bound(struct pqi_pool *p, int64_t per_s);

/* Serves those that waited for the rate. Returns when to call again; PQI_FOREVER: nobody waits for it. */
int64_t pqi_pool_refill(struct pqi_pool *p, int64_t now_ns);

enum pqi_taken { PQI_TAKE_CONN, PQI_TAKE_SLOT, PQI_TAKE_WAIT, PQI_TAKE_FULL };

/* An idle connection into *conn, or a slot, or a place in the queue: then ticket->waiter is woken
 * when it is granted, or refused. Where the queue is full, that is the last of a tenant that has more
 * in it than the one that comes, or else the one that comes. */
enum pqi_taken pqi_pool_take(struct pqi_pool *p, struct pqi_ticket *ticket, struct pqi_conn **conn);

/* For one who has a connection that is slow to be cleaned: another one, a slot, or (as long as that one
 * may last) a place in the queue besides. Never one that is slow itself. FULL: none of these. */
enum pqi_taken pqi_pool_take_other(struct pqi_pool *p, struct pqi_ticket *ticket,
                                   struct pqi_conn **conn);

/* For one who is having a connection made, on a slot of its own: one that is there already, or (WAIT) the
 * place of its ticket among those who take what comes back; never a slot. FULL: with no ticket, there
 * is none. */
enum pqi_taken pqi_pool_take_made(struct pqi_pool *p, struct pqi_ticket *ticket,
                                  struct pqi_conn **conn);

/* Is a connection there that nobody uses and nobody waits for? */
bool pqi_pool_has_made(struct pqi_pool *p);

/* The same for one that has another place to wait in: CONN, SLOT, or WAIT, and then it is in no queue.
 * Nothing is taken before those who are in it. */
enum pqi_taken pqi_pool_try(struct pqi_pool *p, struct pqi_conn **conn);

/* Leaves the queue, if it is still there; true: it was granted meanwhile, and is yours. */
bool pqi_pool_leave(struct pqi_pool *p, struct pqi_ticket *ticket);

/* What has become of it? (After the waiter was woken.) */
enum pqi_ticket_state pqi_pool_queued(struct pqi_pool *p, struct pqi_ticket *ticket);

/* The monitor's: an idle connection or a slot, before all who wait; else it is woken by
 * monitor_flag when there is one. */
enum pqi_taken pqi_pool_take_for_monitor(struct pqi_pool *p, struct pqi_conn **conn);

/* A clean connection comes back: to the first who waits, or to the idle ones. false: the pool is
 * closed or the connection too old; it stays the caller's, to part with. */
bool pqi_pool_put(struct pqi_pool *p, struct pqi_conn *c, int64_t now_ns);

/* A connection is gone at the server, or was never made: its slot goes to the first who waits. */
void pqi_pool_release(struct pqi_pool *p);

/* One that was closed here keeps its slot until it is gone at the server, too; then, as above. */
void pqi_pool_parts(struct pqi_pool *p);
void pqi_pool_parted(struct pqi_pool *p);

/* A connection that stands on a slot is made, or parts. */
void pqi_pool_ready(struct pqi_pool *p, bool made);

/* How long all its connections have been in use with none coming back; 0: there is one to be had, or
 * on its way. Takes no lock. */
int64_t pqi_pool_full_ms(const struct pqi_pool *p);

/* Takes out one idle connection that has been idle since before `idle_ns`, or was born before
 * `born_ns` or in an older generation; NULL: none. */
struct pqi_conn *pqi_pool_expire(struct pqi_pool *p, int64_t idle_ns, int64_t born_ns);

/* Takes out one that is slow and has been heard of: it may be cleaned by now. NULL: none. */
struct pqi_conn *pqi_pool_heard(struct pqi_pool *p);

/* Wakes all who wait, with nothing granted: their node may not be the one to wait for any more. */
void pqi_pool_stir(struct pqi_pool *p);
/* Was it, since it was lined up? Else who wakes for another reason keeps its place. */
bool pqi_pool_stirred(struct pqi_pool *p, struct pqi_ticket *ticket);

/* Nobody gets anything from now on; all who wait are woken. Idle connections stay, for expire. */
void pqi_pool_close(struct pqi_pool *p);

#endif
