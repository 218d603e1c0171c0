/* A node's connections. */
#include "pool.h"

void pqi_pool_init(struct pqi_pool *p, int limit, int64_t queue_limit, bool monitor_slot,
                   const int *monitor_flag)
{
    pthread_mutex_init(&p->lock, NULL);
    p->limit = limit;
    p->queue_limit = queue_limit;
    p->slots = monitor_slot ? 1 : 0;
    p->monitor_flag = monitor_flag;
    pqi_list_init(&p->idle);
    pqi_list_init(&p->waiting);
    pqi_list_init(&p->makers);
    pqi_fair_init(&p->fair);
}

void pqi_pool_bound(struct pqi_pool *p, int64_t per_s)
{
    p->rate.per_s = per_s;
}

void pqi_pool_free(struct pqi_pool *p)
{
    pthread_mutex_destroy(&p->lock);
}

static bool outdated(const struct pqi_pool *p, const struct pqi_conn *c)
{
    return c->generation != atomic_load(&p->generation);
}

/* Ready; busy cleaning up behind its last user, unless it is done by now, as almost always; or still at
 * that when somebody had waited for it. */
enum rank { READY, CLEANING, SLOW };

static enum rank rank(const struct pqi_conn *c)
{
    bool cleans = c->cleans && c->state != PQI_IDLE;
    return !cleans ? READY : c->slow ? SLOW : CLEANING;
}

/* The one used last, so that those that are not needed grow old; the readiest first. */
static struct pqi_conn *take_idle(struct pqi_pool *p, enum rank least)
{
    struct pqi_conn *found = NULL;
    for (struct pqi_link *l = p->idle.prev; l != &p->idle && !(found && rank(found) == READY);
         l = l->prev) {
        struct pqi_conn *c = pqi_container(l, struct pqi_conn, link);
        if (rank(c) <= least && (!found || rank(c) < rank(found)))
            found = c;
    }
    if (found) {
        pqi_list_remove(&found->link);
        p->nidle--;
    }
    return found;
}

/* After a change: tells those who look without the lock since when there is nothing to have. `came`:
 * a connection or a slot came back, be it for one who waits. */
static void done(struct pqi_pool *p, bool came)
{
    int64_t since = atomic_load_explicit(&p->full_since_ns, memory_order_relaxed);
    if (p->nidle > 0 || p->nready < p->limit - p->nparting)
        since = 0;
    else if (came || since == 0)
        since = pqi_now_ns();
    atomic_store_explicit(&p->full_since_ns, since, memory_order_relaxed);
    pthread_mutex_unlock(&p->lock);
}

void pqi_pool_ready(struct pqi_pool *p, bool made)
{
    pthread_mutex_lock(&p->lock);
    p->nready += made ? 1 : -1;
    done(p, false);
}

int64_t pqi_pool_full_ms(const struct pqi_pool *p)
{
    int64_t since = atomic_load_explicit(&p->full_since_ns, memory_order_relaxed);
    return since > 0 ? (pqi_now_ns() - since) / PQI_MS : 0;
}

/* May a new connection be begun now? Otherwise the monitor serves who waits for that. */
static bool within_rate(struct pqi_pool *p, int64_t now_ns)
{
    int64_t next;
    if (!pqi_rate_take(&p->rate, now_ns, &next)) {
        if (atomic_exchange(&p->refill_ns, next) == 0)
            pqi_flag_set(*p->monitor_flag);
        return false;
    }
    pqi_meter_add(&p->made, now_ns);
    return true;
}

/* An idle connection or a slot, if there is either. One that is slow comes last. */
static enum pqi_taken take_now(struct pqi_pool *p, bool monitor, enum rank least,
                               struct pqi_conn **conn)
{
    *conn = take_idle(p, CLEANING);
    if (!*conn && p->slots < p->limit && (monitor || within_rate(p, pqi_now_ns()))) {
        if (monitor)
            pqi_meter_add(&p->made, pqi_now_ns());
        p->slots++;
        return PQI_TAKE_SLOT;
    }
    if (!*conn)
        *conn = take_idle(p, least);
    return *conn ? PQI_TAKE_CONN : PQI_TAKE_WAIT;
}

static struct pqi_ticket *of_turn(struct pqi_fair_turn *turn)
{
    return pqi_container(turn, struct pqi_ticket, turn);
}

static void line_up(struct pqi_pool *p, struct pqi_ticket *t)
{
    t->state = PQI_TICKET_WAITS;
    t->conn = NULL;
    t->makes = t->stirred = false;
    pqi_list_append(&p->waiting, &t->link);
    pqi_fair_join(&p->fair, &t->turn);
    p->nwaiting++;
}

static void take_out(struct pqi_pool *p, struct pqi_ticket *t, bool served)
{
    pqi_list_remove(&t->link);
    pqi_fair_leave(&p->fair, &t->turn, served);
    p->nwaiting--;
}

/* Woken under the lock: the ticket is gone as soon as its owner has seen what became of it. */
static void end_wait(struct pqi_pool *p, struct pqi_ticket *t, enum pqi_ticket_state how)
{
    take_out(p, t, how == PQI_TICKET_GRANTED);
    t->state = how;
    pqi_waiter_wake(t->waiter);
}

/* Gives a connection, or (NULL) a slot, to whose turn it is. false: nobody waits. */
static bool grant(struct pqi_pool *p, struct pqi_conn *c)
{
    struct pqi_fair_turn *turn = pqi_fair_next(&p->fair);
    if (!turn)
        return false;
    of_turn(turn)->conn = c;
    end_wait(p, of_turn(turn), PQI_TICKET_GRANTED);
    return true;
}

/* To who has had a connection made for longest: it came before those who wait for want of a slot. */
static bool grant_maker(struct pqi_pool *p, struct pqi_conn *c)
{
    if (pqi_list_empty(&p->makers) || rank(c) == SLOW)
        return false;
    struct pqi_ticket *t = pqi_container(p->makers.next, struct pqi_ticket, link);
    pqi_list_remove(&t->link);
    t->conn = c;
    t->state = PQI_TICKET_GRANTED;
    pqi_waiter_wake(t->waiter);
    return true;
}

/* One too many waits. false: it is this one that has to go. */
static bool shed(struct pqi_pool *p, struct pqi_ticket *came)
{
    struct pqi_ticket *most = of_turn(pqi_fair_most(&p->fair, &came->turn));
    if (most == came)
        take_out(p, came, false);
    else
        end_wait(p, most, PQI_TICKET_REFUSED);
    return most != came;
}

enum pqi_taken pqi_pool_take(struct pqi_pool *p, struct pqi_ticket *ticket, struct pqi_conn **conn)
{
    pthread_mutex_lock(&p->lock);
    enum pqi_taken taken = PQI_TAKE_WAIT;
    if (p->closed)
        taken = PQI_TAKE_FULL;
    else if (!p->monitor_turn)
        taken = take_now(p, false, SLOW, conn);
    if (taken == PQI_TAKE_WAIT)
        line_up(p, ticket);
    if (taken == PQI_TAKE_WAIT && p->nwaiting > p->queue_limit && !shed(p, ticket))
        taken = PQI_TAKE_FULL;
    done(p, false);
    return taken;
}

enum pqi_taken pqi_pool_take_other(struct pqi_pool *p, struct pqi_ticket *ticket,
                                   struct pqi_conn **conn)
{
    pthread_mutex_lock(&p->lock);
    enum pqi_taken taken = PQI_TAKE_FULL;
    if (!p->closed && !p->monitor_turn)
        taken = take_now(p, false, CLEANING, conn);
    if (taken == PQI_TAKE_WAIT && p->nwaiting < p->queue_limit)
        line_up(p, ticket);
    else if (taken == PQI_TAKE_WAIT)
        taken = PQI_TAKE_FULL;
    done(p, false);
    return taken;
}

enum pqi_taken pqi_pool_take_made(struct pqi_pool *p, struct pqi_ticket *ticket,
                                  struct pqi_conn **conn)
{
    pthread_mutex_lock(&p->lock);
    bool may = !p->closed && !p->monitor_turn;
    *conn = may ? take_idle(p, CLEANING) : NULL;
    bool waits = !*conn && ticket && !p->closed;
    if (waits) {
        ticket->state = PQI_TICKET_WAITS;
        ticket->conn = NULL;
        ticket->makes = true;
        pqi_list_append(&p->makers, &ticket->link);
    }
    done(p, false);
    return *conn ? PQI_TAKE_CONN : waits ? PQI_TAKE_WAIT : PQI_TAKE_FULL;
}

bool pqi_pool_has_made(struct pqi_pool *p)
{
    pthread_mutex_lock(&p->lock);
    bool has = p->nidle > 0 && !p->closed && !p->monitor_turn;
    pthread_mutex_unlock(&p->lock);
    return has;
}

enum pqi_taken pqi_pool_try(struct pqi_pool *p, struct pqi_conn **conn)
{
    pthread_mutex_lock(&p->lock);
    bool may = !p->closed && !p->monitor_turn && pqi_list_empty(&p->waiting);
    enum pqi_taken taken = may ? take_now(p, false, CLEANING, conn) : PQI_TAKE_WAIT;
    done(p, false);
    return taken;
}

/* Who came while the monitor had its turn was queued, though there was enough for both. */
static void serve_waiting(struct pqi_pool *p)
{
    struct pqi_conn *c;
    while (!p->closed && !pqi_list_empty(&p->waiting) &&
           take_now(p, false, SLOW, &c) != PQI_TAKE_WAIT)
        grant(p, c);
}

enum pqi_taken pqi_pool_take_for_monitor(struct pqi_pool *p, struct pqi_conn **conn)
{
    pthread_mutex_lock(&p->lock);
    enum pqi_taken taken = p->closed ? PQI_TAKE_FULL : take_now(p, true, SLOW, conn);
    p->monitor_turn = false;
    p->monitor_waits = taken == PQI_TAKE_WAIT;
    serve_waiting(p);
    done(p, false);
    return taken;
}

enum pqi_ticket_state pqi_pool_queued(struct pqi_pool *p, struct pqi_ticket *ticket)
{
    pthread_mutex_lock(&p->lock);
    enum pqi_ticket_state state = ticket->state;
    pthread_mutex_unlock(&p->lock);
    return state;
}

bool pqi_pool_leave(struct pqi_pool *p, struct pqi_ticket *ticket)
{
    pthread_mutex_lock(&p->lock);
    bool granted = ticket->state == PQI_TICKET_GRANTED;
    if (ticket->state == PQI_TICKET_WAITS && ticket->makes)
        pqi_list_remove(&ticket->link);
    else if (ticket->state == PQI_TICKET_WAITS)
        take_out(p, ticket, false);
    done(p, false);
    return granted;
}

/* The monitor comes before all who wait: what it learns serves them all. Until it has come, nobody
 * takes what is kept for it. */
static bool keep_for_monitor(struct pqi_pool *p)
{
    if (!p->monitor_waits)
        return false;
    p->monitor_waits = false;
    p->monitor_turn = true;
    pqi_flag_set(*p->monitor_flag);
    return true;
}

bool pqi_pool_put(struct pqi_pool *p, struct pqi_conn *c, int64_t now_ns)
{
    pthread_mutex_lock(&p->lock);
    bool usable = !p->closed && !outdated(p, c);
    if (usable && (keep_for_monitor(p) || !(grant_maker(p, c) || grant(p, c)))) {
        c->idle_since_ns = now_ns;
        pqi_list_append(&p->idle, &c->link);
        p->nidle++;
    }
    if (usable)
        atomic_store_explicit(&p->came_ns, now_ns, memory_order_relaxed);
    done(p, usable);
    return usable;
}

void pqi_pool_parts(struct pqi_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->nparting++;
    done(p, false);
}

static void release(struct pqi_pool *p)
{
    atomic_store_explicit(&p->came_ns, pqi_now_ns(), memory_order_relaxed);
    p->slots--;
    if (!p->closed && !keep_for_monitor(p))
        serve_waiting(p);
    done(p, true);
}

void pqi_pool_release(struct pqi_pool *p)
{
    pthread_mutex_lock(&p->lock);
    release(p);
}

void pqi_pool_parted(struct pqi_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->nparting--;
    release(p);
}

int64_t pqi_pool_refill(struct pqi_pool *p, int64_t now_ns)
{
    int64_t due = atomic_load(&p->refill_ns);
    if (due == 0 || due > now_ns)
        return due == 0 ? PQI_FOREVER : due;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->refill_ns, 0);
    if (!p->monitor_turn)
        serve_waiting(p);
    due = atomic_load(&p->refill_ns);
    done(p, false);
    return due == 0 ? PQI_FOREVER : due;
}

/* Under the lock, which it releases. NULL is accepted. */
static struct pqi_conn *take_out_of_idle(struct pqi_pool *p, struct pqi_conn *found)
{
    if (found) {
        pqi_list_remove(&found->link);
        p->nidle--;
    }
    done(p, false);
    return found;
}

struct pqi_conn *pqi_pool_expire(struct pqi_pool *p, int64_t idle_ns, int64_t born_ns)
{
    struct pqi_conn *found = NULL;
    pthread_mutex_lock(&p->lock);
    for (struct pqi_link *l = p->idle.next; l != &p->idle && !found; l = l->next) {
        struct pqi_conn *c = pqi_container(l, struct pqi_conn, link);
        if (p->closed || outdated(p, c) || c->idle_since_ns < idle_ns || c->born_ns < born_ns)
            found = c;
    }
    return take_out_of_idle(p, found);
}

struct pqi_conn *pqi_pool_heard(struct pqi_pool *p)
{
    struct pqi_conn *found = NULL;
    pthread_mutex_lock(&p->lock);
    for (struct pqi_link *l = p->idle.next; l != &p->idle && !found; l = l->next) {
        struct pqi_conn *c = pqi_container(l, struct pqi_conn, link);
        if (rank(c) == SLOW && pqi_conn_spoke(c))
            found = c;
    }
    return take_out_of_idle(p, found);
}

static void wake_waiting(struct pqi_pool *p)
{
    struct pqi_link *lists[] = {&p->waiting, &p->makers};
    for (int i = 0; i < 2; i++)
        for (struct pqi_link *l = lists[i]->next; l != lists[i]; l = l->next)
            pqi_waiter_wake(pqi_container(l, struct pqi_ticket, link)->waiter);
}

void pqi_pool_stir(struct pqi_pool *p)
{
    pthread_mutex_lock(&p->lock);
    for (struct pqi_link *l = p->waiting.next; l != &p->waiting; l = l->next)
        pqi_container(l, struct pqi_ticket, link)->stirred = true;
    wake_waiting(p);
    pthread_mutex_unlock(&p->lock);
}

bool pqi_pool_stirred(struct pqi_pool *p, struct pqi_ticket *ticket)
{
    pthread_mutex_lock(&p->lock);
    bool stirred = ticket->stirred;
    pthread_mutex_unlock(&p->lock);
    return stirred;
}

void pqi_pool_close(struct pqi_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->closed = true;
    wake_waiting(p);
    pthread_mutex_unlock(&p->lock);
}
