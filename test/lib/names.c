/* Names and addresses as a test wants them. */
#include "names.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static struct addrinfo entries[8];
static struct sockaddr_in places[8];

void names_are(const char *const *addresses)
{
    for (int i = 0; addresses[i] && i < 8; i++) {
        places[i] = (struct sockaddr_in){.sin_family = AF_INET};
        inet_pton(AF_INET, addresses[i], &places[i].sin_addr);
        entries[i] = (struct addrinfo){.ai_family = AF_INET,
                                       .ai_socktype = SOCK_STREAM,
                                       .ai_addr = (struct sockaddr *)&places[i],
                                       .ai_addrlen = sizeof places[i],
                                       .ai_next = addresses[i + 1] ? &entries[i + 1] : NULL};
    }
}

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;

void names_hold(void)
{
    pthread_mutex_lock(&held);
}

void names_go_on(void)
{
    pthread_mutex_unlock(&held);
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (!name || strcmp(name, SEVERAL) != 0) {
        *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
        return real(name, service, hints, out);
    }
    pthread_mutex_lock(&held);
    *out = entries;
    pthread_mutex_unlock(&held);
    return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
    void (*real)(struct addrinfo *);
    if (list == entries)
        return;
    *(void **)&real = dlsym(RTLD_NEXT, "freeaddrinfo");
    real(list);
}

static struct sockaddr_in place(const char *address, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, address, &a.sin_addr);
    return a;
}

int listen_at(const char *address, int *port, int backlog)
{
    struct sockaddr_in a = place(address, *port);
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, len) != 0 || listen(fd, backlog) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &len) != 0) {
        close(fd);
        return -1;
    }
    *port = ntohs(a.sin_port);
    return fd;
}

/* More connections than a backlog of 0 has room for. */
struct hole hole_at(const char *address, int *port)
{
    struct hole h = {.listener = listen_at(address, port, 0)};
    struct sockaddr_in a = place(address, *port);
    for (int i = 0; i < 8; i++) {
        h.fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        connect(h.fillers[i], (struct sockaddr *)&a, sizeof a);
    }
    return h;
}

void hole_close(struct hole *h)
{
    for (int i = 0; i < 8; i++)
        close(h->fillers[i]);
    close(h->listener);
}

static struct rlimit before;
static int eaten[4096], neaten;

void starved(void)
{
    getrlimit(RLIMIT_NOFILE, &before);
    struct rlimit few = {256, before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &few);
    while (neaten < 4096 && (eaten[neaten] = dup(2)) >= 0)
        neaten++;
}

void fed(void)
{
    while (neaten > 0)
        close(eaten[--neaten]);
    setrlimit(RLIMIT_NOFILE, &before);
}
