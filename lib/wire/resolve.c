/* Names to addresses, on a detached thread: it may hang for as long as the resolver likes, so
 * nobody ever joins it, and it holds nothing but its look-up. */
#include "resolve.h"

#include "../base/mem.h"
#include "world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define ADDRESSES_MAX 16

struct pqi_lookup {
    _Atomic int refs;
    _Atomic bool done;
    int flag;
    char *host;
    int n;
    char address[ADDRESSES_MAX][NI_MAXHOST];
    const char *error; /* gai_strerror's static text */
    bool lacking;
};

bool pqi_is_address(const char *host)
{
    unsigned char bytes[sizeof(struct in6_addr)];
    return host[0] == '/' || host[0] == '@' || inet_pton(AF_INET, host, bytes) == 1 ||
           inet_pton(AF_INET6, host, bytes) == 1;
}

void pqi_lookup_unref(struct pqi_lookup *l)
{
    if (!l || atomic_fetch_sub(&l->refs, 1) != 1)
        return;
    pqi_flag_close(l->flag);
    pqi_mem_free(l->host);
    pqi_mem_free(l);
}

static void keep_addresses(struct pqi_lookup *l, const struct addrinfo *list)
{
    for (const struct addrinfo *a = list; a && l->n < ADDRESSES_MAX; a = a->ai_next)
        if (getnameinfo(a->ai_addr, a->ai_addrlen, l->address[l->n], NI_MAXHOST, NULL, 0,
                        NI_NUMERICHOST) == 0)
            l->n++;
    if (l->n == 0)
        l->error = "the name has no address";
}

static void note_error(struct pqi_lookup *l, int status, int error)
{
    l->error = gai_strerror(status);
    l->lacking = status == EAI_MEMORY ||
                 (status == EAI_SYSTEM && (error == ENOMEM || error == EMFILE || error == ENFILE));
}

static void *look_up(void *arg)
{
    struct pqi_lookup *l = arg;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int status = getaddrinfo(l->host, NULL, &hints, &list);
    if (status == 0)
        keep_addresses(l, list);
    else
        note_error(l, status, errno);
    if (list)
        freeaddrinfo(list);
    atomic_store(&l->done, true);
    pqi_flag_set(l->flag);
    pqi_lookup_unref(l);
    return NULL;
}

static struct pqi_lookup *start(const char *host)
{
    struct pqi_lookup *l = pqi_mem_new(sizeof *l);
    if (!l)
        return NULL;
    l->flag = pqi_flag_new();
    l->host = pqi_mem_text(host);
    atomic_store(&l->refs, 2); /* the thread's and the caller's */
    if (l->flag >= 0 && l->host && pqi_thread_start(NULL, look_up, l, true))
        return l;
    atomic_store(&l->refs, 1);
    pqi_lookup_unref(l);
    return NULL;
}

void pqi_resolver_init(struct pqi_resolver *r)
{
    pthread_mutex_init(&r->lock, NULL);
    r->flying = NULL;
}

void pqi_resolver_free(struct pqi_resolver *r)
{
    pqi_lookup_unref(r->flying);
    pthread_mutex_destroy(&r->lock);
}

struct pqi_lookup *pqi_resolver_join(struct pqi_resolver *r, const char *host)
{
    pthread_mutex_lock(&r->lock);
    if (!r->flying || pqi_lookup_done(r->flying)) {
        pqi_lookup_unref(r->flying);
        r->flying = start(host);
    }
    struct pqi_lookup *l = r->flying;
    if (l)
        atomic_fetch_add(&l->refs, 1);
    pthread_mutex_unlock(&r->lock);
    return l;
}

int pqi_lookup_fd(const struct pqi_lookup *l)
{
    return l->flag;
}

bool pqi_lookup_done(const struct pqi_lookup *l)
{
    return atomic_load(&l->done);
}

int pqi_lookup_count(const struct pqi_lookup *l)
{
    return l->n;
}

const char *pqi_lookup_address(const struct pqi_lookup *l, int i)
{
    return l->address[i % l->n];
}

const char *pqi_lookup_error(const struct pqi_lookup *l)
{
    return l->error;
}

bool pqi_lookup_lacking(const struct pqi_lookup *l)
{
    return l->lacking;
}

void pqi_resolver_worked(struct pqi_resolver *r, const char *address)
{
    pthread_mutex_lock(&r->lock);
    snprintf(r->worked, sizeof r->worked, "%s", address ? address : "");
    pthread_mutex_unlock(&r->lock);
}

int pqi_resolver_first(struct pqi_resolver *r, const struct pqi_lookup *l)
{
    int first = l->n - 1;
    pthread_mutex_lock(&r->lock);
    while (first > 0 && strcmp(l->address[first], r->worked) != 0)
        first--;
    pthread_mutex_unlock(&r->lock);
    return first;
}
