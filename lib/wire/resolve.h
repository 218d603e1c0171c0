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
    char worked[64]; /* the address that was connected to last; "": none yet */
};

void pqi_resolver_init(struct pqi_resolver *r);
void pqi_resolver_free(struct pqi_resolver *r);

/* Joins the look-up under way, or starts one on a detached thread. NULL: no memory or thread.
 * Give up interest with pqi_lookup_unref. */
struct pqi_lookup *pqi_resolver_join(struct pqi_resolver *r, const char *host);

/* Readable when it has ended; never read it. */
int pqi_lookup_fd(const struct pqi_lookup *l);
bool pqi_lookup_done(const struct pqi_lookup *l);

/* After it ended: the addresses as text in the resolver's order of preference (and round and round),
 * `error` NULL; or no address and the reason. Both live as long as the look-up. */
int pqi_lookup_count(const struct pqi_lookup *l);
const char *pqi_lookup_address(const struct pqi_lookup *l, int i);
const char *pqi_lookup_error(const struct pqi_lookup *l);
/* After an error: was it memory or descriptors that this process lacks? */
bool pqi_lookup_lacking(const struct pqi_lookup *l);

/* An address was connected to: from now on it comes first. */
void pqi_resolver_worked(struct pqi_resolver *r, const char *address);

/* Where to begin: at the one that worked last, if the name still has it, else at 0. */
int pqi_resolver_first(struct pqi_resolver *r, const struct pqi_lookup *l);

void pqi_lookup_unref(struct pqi_lookup *l);

/* Is it an address already, or a folder of a unix socket? */
bool pqi_is_address(const char *host);

#endif
