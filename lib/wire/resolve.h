/* Names to addresses, off the caller's thread: getaddrinfo cannot be bounded in time. */
#ifndef PQI_RESOLVE_H
#define PQI_RESOLVE_H

#include <pthread.h>
#include <stdbool.h>

/* One look-up, shared by all who wait for the same name. */
struct pqi_lookup;

/* One name's look-ups: at most one is under way. Zero-initialised, but for the lock. */
struct pqi_resolver {
    pthread_mutex_t lock;
    struct pqi_lookup *flying;
};

void pqi_resolver_init(struct pqi_resolver *r);
void pqi_resolver_free(struct pqi_resolver *r);

/* Joins the look-up under way, or starts one on a detached thread. NULL: no memory or thread.
 * Give up interest with pqi_lookup_unref. */
struct pqi_lookup *pqi_resolver_join(struct pqi_resolver *r, const char *host);

/* Readable when it has ended; never read it. */
int pqi_lookup_fd(const struct pqi_lookup *l);
bool pqi_lookup_done(const struct pqi_lookup *l);

/* After it ended: the addresses as text in the resolver's order of preference, `error` NULL; or
 * no address and the reason. Both live as long as the look-up. */
int pqi_lookup_count(const struct pqi_lookup *l);
const char *pqi_lookup_address(const struct pqi_lookup *l, int i);
const char *pqi_lookup_error(const struct pqi_lookup *l);

void pqi_lookup_unref(struct pqi_lookup *l);

/* Is it an address already, or a folder of a unix socket? */
bool pqi_is_address(const char *host);

#endif
