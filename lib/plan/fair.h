/* Whose turn it is where many tenants wait for one thing: they take turns, however many requests
 * each has waiting. A tenant's own are served first come, first served. So who comes to a crowd
 * stands behind one request of each other tenant, not behind all of them; and where one gives up,
 * the next of the same tenant has its turn. */
#ifndef PQI_FAIR_H
#define PQI_FAIR_H

#include "../base/list.h"

#include <stdbool.h>
#include <stdint.h>

/* A request that waits. Its owner sets `tenant` before it joins; the rest is fair.c's. */
struct pqi_fair_turn {
    uint32_t tenant;
    uint64_t round;         /* how many turns its tenant will have had, about */
    int waiting;            /* a tenant's first: how many that has, itself included */
    struct pqi_link link;   /* a tenant's first: among the firsts, by their turns. Else behind it */
    struct pqi_link behind; /* a tenant's first: its others, as they came */
    struct pqi_fair_turn *next; /* a tenant's first: another one's of the same bucket */
};

#define PQI_FAIR_BUCKETS 32

struct pqi_fair {
    struct pqi_link firsts; /* one a tenant; the first of them is served next */
    uint64_t round;         /* of the one served last */
    struct pqi_fair_turn *bucket[PQI_FAIR_BUCKETS];
};

void pqi_fair_init(struct pqi_fair *f);

/* A request comes in. */
void pqi_fair_join(struct pqi_fair *f, struct pqi_fair_turn *t);

/* Who is served next; NULL: nobody waits. */
struct pqi_fair_turn *pqi_fair_next(const struct pqi_fair *f);

/* It waits no more. `served`: its tenant has had its turn; else the tenant's next steps in. */
void pqi_fair_leave(struct pqi_fair *f, struct pqi_fair_turn *t, bool served);

/* Who has to go where one too many waits: the last of the tenant that has the most; of two such
 * tenants that of `came`, which has joined last. */
struct pqi_fair_turn *pqi_fair_most(const struct pqi_fair *f, struct pqi_fair_turn *came);

/* How many tenants have a request inside, be it waiting or being served. Zero-initialised is none.
 * Numbers that are equal modulo PQI_PRESENT_PLACES count as one tenant. */
#define PQI_PRESENT_PLACES 64
struct pqi_present {
    int tenants;
    uint32_t inside[PQI_PRESENT_PLACES];
};

void pqi_present_enter(struct pqi_present *p, uint32_t tenant);
void pqi_present_leave(struct pqi_present *p, uint32_t tenant);

/* How many requests of one tenant may be served together, where `most` can be: all, if it is alone;
 * else its share, and PQI_SHARE_LEAST at the least. */
#define PQI_SHARE_LEAST 4
uint32_t pqi_present_share(const struct pqi_present *p, uint32_t most);

#endif
