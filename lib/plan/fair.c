/* Turns: a ring of tenants, in the shape of the request of each that came first. */
#include "fair.h"

#include <stddef.h>

static struct pqi_fair_turn *of_link(struct pqi_link *link)
{
    return pqi_container(link, struct pqi_fair_turn, link);
}

/* Where the tenant's first is, or would be. */
static struct pqi_fair_turn **find(struct pqi_fair *f, uint32_t tenant)
{
    struct pqi_fair_turn **at = &f->bucket[tenant % PQI_FAIR_BUCKETS];
    while (*at && (*at)->tenant != tenant)
        at = &(*at)->next;
    return at;
}

void pqi_fair_init(struct pqi_fair *f)
{
    *f = (struct pqi_fair){.round = 0};
    pqi_list_init(&f->firsts);
}

void pqi_fair_join(struct pqi_fair *f, struct pqi_fair_turn *t)
{
    struct pqi_fair_turn **at = find(f, t->tenant), *first = *at;
    if (first) {
        pqi_list_append(&first->behind, &t->link);
        first->waiting++;
        return;
    }
    t->round = f->round;
    t->waiting = 1;
    t->next = NULL;
    pqi_list_init(&t->behind);
    pqi_list_append(&f->firsts, &t->link);
    *at = t;
}

struct pqi_fair_turn *pqi_fair_next(const struct pqi_fair *f)
{
    return pqi_list_empty(&f->firsts) ? NULL : of_link(f->firsts.next);
}

/* The one behind the first steps into its place, or, when the tenant has had its turn, behind the
 * other tenants. */
static void succeed(struct pqi_fair *f, struct pqi_fair_turn *first, struct pqi_fair_turn *heir,
                    bool served)
{
    pqi_list_remove(&heir->link);
    pqi_list_insert(served ? f->firsts.prev : &first->link, &heir->link);
    pqi_list_init(&heir->behind);
    if (!pqi_list_empty(&first->behind)) {
        heir->behind = first->behind;
        heir->behind.next->prev = heir->behind.prev->next = &heir->behind;
    }
    heir->waiting = first->waiting - 1;
    heir->round = first->round + served;
    heir->next = first->next;
}

void pqi_fair_leave(struct pqi_fair *f, struct pqi_fair_turn *t, bool served)
{
    struct pqi_fair_turn **at = find(f, t->tenant), *first = *at;
    if (served && first->round > f->round)
        f->round = first->round;
    if (t != first) {
        first->waiting--;
    } else if (pqi_list_empty(&t->behind)) {
        *at = t->next;
    } else {
        *at = of_link(t->behind.next);
        succeed(f, t, *at, served);
    }
    pqi_list_remove(&t->link);
}

struct pqi_fair_turn *pqi_fair_most(const struct pqi_fair *f, struct pqi_fair_turn *came)
{
    struct pqi_fair_turn *most = came;
    int waiting = 0;
    for (struct pqi_link *l = f->firsts.next; l != &f->firsts; l = l->next) {
        struct pqi_fair_turn *first = of_link(l);
        if (first->waiting > waiting ||
            (first->waiting == waiting && first->tenant == came->tenant))
            most = pqi_list_empty(&first->behind) ? first : of_link(first->behind.prev);
        waiting = first->waiting > waiting ? first->waiting : waiting;
    }
    return most;
}

/* ---- Who is present --------------------------------------------------------------------------- */

void pqi_present_enter(struct pqi_present *p, uint32_t tenant)
{
    p->tenants += p->inside[tenant % PQI_PRESENT_PLACES]++ == 0;
}

void pqi_present_leave(struct pqi_present *p, uint32_t tenant)
{
    p->tenants -= --p->inside[tenant % PQI_PRESENT_PLACES] == 0;
}

uint32_t pqi_present_share(const struct pqi_present *p, uint32_t most)
{
    if (p->tenants <= 1)
        return most;
    uint32_t share = most / (uint32_t)p->tenants;
    return share > PQI_SHARE_LEAST ? share : PQI_SHARE_LEAST;
}
