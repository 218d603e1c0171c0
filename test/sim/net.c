/* The network. connect() and getsockopt() stand before the C library's own, also for libpq. */
#include "net.h"

#include "turns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AGAIN (20 * MS)         /* what cannot get through is tried again so often */
#define KEEPALIVE (25 * SECOND) /* then a vanished peer is noticed */

#define SHARDS_MAX 4
#define HOSTS_MAX 8

static struct {
    const struct sim_service *service;
    struct sim_host *host[SHARDS_MAX][HOSTS_MAX];
    struct sim_conn *all;
    int count, epoll;
} net = {.epoll = -1};

void sim_net_place(int shard, int number, struct sim_host *host)
{
    net.host[shard][number] = host;
}

int64_t sim_net_latency(const struct sim_host *h)
{
    return sim_between(SIM_NETWORK, h->latency_least, h->latency_most);
}

struct sim_conn *sim_net_all(void)
{
    return net.all;
}

/* ---- Bytes under way ------------------------------------------------------------------------ */

static void close_server_end(struct sim_conn *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    sim_stir();
}

static void write_out(struct sim_conn *c, const char *bytes, size_t n)
{
    sim_stir();
    if (c->fd >= 0 && send(c->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n &&
        errno == EAGAIN)
        abort();
}

/* The client's end becomes writable. */
static void drain_junk(struct sim_conn *c)
{
    char waste[8192];
    int room = 1 << 20;
    while (c->junk > 0) {
        ssize_t got = recv(c->fd, waste, c->junk < sizeof waste ? c->junk : sizeof waste, 0);
        if (got <= 0)
            abort();
        c->junk -= (size_t)got;
    }
    setsockopt(c->client_fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
}

static void arrive_connect(struct sim_conn *c)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    if (c->fd < 0)
        return;
    drain_junk(c);
    sim_stir();
    if (!c->host->listens) {
        sim_say("net: connection %d to %s refused", c->number, c->host->name);
        c->refused = ECONNREFUSED;
        close_server_end(c);
        return;
    }
    epoll_ctl(net.epoll, EPOLL_CTL_ADD, c->fd, &ev);
    sim_say("net: connection %d to %s", c->number, c->host->name);
    net.service->begin(c);
}

static void deliver_to_server(struct sim_conn *c, struct sim_chunk *k)
{
    if (k->kind == CHUNK_CONNECT) {
        arrive_connect(c);
        return;
    }
    c->client_gone |= k->kind == CHUNK_END;
    if (c->backend && k->kind == CHUNK_BYTES)
        net.service->input(c->backend, k->bytes, k->n);
    else if (c->backend)
        net.service->eof(c->backend);
    else
        close_server_end(c); /* nobody is there: the answer is a reset */
}

static void cut_off(struct sim_conn *c)
{
    if (c->fd < 0)
        return;
    sim_say("net: connection %d is cut", c->number);
    c->is_cut = true;
    if (c->backend && !c->client_gone)
        net.service->eof(c->backend);
    c->client_gone = true;
    close_server_end(c);
}

static void deliver_to_client(struct sim_conn *c, struct sim_chunk *k)
{
    if (k->kind == CHUNK_END) {
        sim_say("net: connection %d has ended", c->number);
        close_server_end(c);
        return;
    }
    if (c->swallows)
        return;
    size_t n = k->n;
    if (c->cut_after >= 0 && (int64_t)n >= c->cut_after)
        n = (size_t)c->cut_after;
    write_out(c, k->bytes, n);
    if (k->tells && n == k->n && c->host->visible_since == 0)
        c->host->visible_since = sim_now();
    if (c->cut_after < 0)
        return;
    c->cut_after -= (int64_t)n;
    if (c->cut_after > 0)
        return;
    cut_off(c);
}

static void pump(void *arg, uint64_t way);

static void expect(struct sim_conn *c, uint64_t way, int64_t at)
{
    c->way[way].pumping = true;
    sim_at(at, pump, c, way);
}

static void pump(void *arg, uint64_t way)
{
    struct sim_conn *c = arg;
    struct sim_chunk *k = c->way[way].first;
    c->way[way].pumping = false;
    if (!k)
        return;
    if (c->host->down || c->host->cut[way]) {
        expect(c, way, sim_now() + AGAIN);
        return;
    }
    if (k->due > sim_now()) {
        expect(c, way, k->due);
        return;
    }
    c->way[way].first = k->next;
    if (!k->next)
        c->way[way].last = &c->way[way].first;
    if (way == TO_SERVER)
        deliver_to_server(c, k);
    else
        deliver_to_client(c, k);
    free(k);
    if (c->way[way].first && !c->way[way].pumping)
        expect(c, way, c->way[way].first->due);
}

static void put(struct sim_conn *c, int way, enum sim_chunk_kind kind, const void *bytes, size_t n)
{
    struct sim_chunk *k = malloc(sizeof *k + n);
    if (!k)
        abort();
    int64_t due = sim_now() + sim_net_latency(c->host);
    if (due <= c->way[way].last_due)
        due = c->way[way].last_due + 1;
    c->way[way].last_due = due;
    *k = (struct sim_chunk){
        .due = due, .kind = kind, .tells = way == TO_CLIENT && c->tells, .n = n};
    c->tells &= way != TO_CLIENT;
    if (n > 0)
        memcpy(k->bytes, bytes, n);
    *c->way[way].last = k;
    c->way[way].last = &k->next;
    if (!c->way[way].pumping)
        expect(c, (uint64_t)way, due);
}

void sim_net_send(struct sim_conn *c, const void *bytes, size_t n)
{
    if (n > 0)
        put(c, TO_CLIENT, CHUNK_BYTES, bytes, n);
}

void sim_net_end(struct sim_conn *c)
{
    c->backend = NULL;
    put(c, TO_CLIENT, CHUNK_END, NULL, 0);
}

static void notice_silence(void *arg, uint64_t tag)
{
    (void)tag;
    close_server_end(arg);
}

void sim_net_vanish(struct sim_conn *c)
{
    c->backend = NULL;
    c->vanished = true;
    sim_at(sim_now() + KEEPALIVE, notice_silence, c, 0);
}

void sim_net_mend(void)
{
    for (struct sim_conn *c = net.all; c; c = c->next) {
        c->cut_after = -1;
        if (c->vanished || c->swallows)
            cut_off(c);
    }
}

/* What the client has sent, or that it is gone. */
static void collect(struct sim_conn *c)
{
    char bytes[65536];
    for (;;) {
        ssize_t got = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            epoll_ctl(net.epoll, EPOLL_CTL_DEL, c->fd, NULL);
            sim_say("net: connection %d is closed by the router", c->number);
            put(c, TO_SERVER, CHUNK_END, NULL, 0);
            return;
        }
        sim_mix((uint64_t)c->number);
        sim_mix_bytes(bytes, (uint64_t)got);
        put(c, TO_SERVER, CHUNK_BYTES, bytes, (size_t)got);
    }
}

static int by_number(const void *a, const void *b)
{
    const struct epoll_event *x = a, *y = b;
    return ((struct sim_conn *)x->data.ptr)->number - ((struct sim_conn *)y->data.ptr)->number;
}

void sim_net_collect(void)
{
    struct epoll_event events[128];
    int n = epoll_wait(net.epoll, events, 128, 0);
    if (n <= 0)
        return;
    qsort(events, (size_t)n, sizeof *events, by_number);
    for (int i = 0; i < n; i++)
        collect(events[i].data.ptr);
}

/* ---- The client's side ---------------------------------------------------------------------- */

/* So that it does not seem to be connected before it is. */
static size_t fill(int fd)
{
    static const char waste[4096];
    int least = 1;
    size_t n = 0;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
    for (ssize_t got; (got = send(fd, waste, sizeof waste, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0;)
        n += (size_t)got;
    return n;
}

static int dial(int fd, struct sim_host *host)
{
    int ends[2];
    struct sim_conn *c = calloc(1, sizeof *c);
    if (!c || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0)
        abort();
    if (dup3(ends[0], fd, O_CLOEXEC) < 0)
        abort();
    close(ends[0]);
    c->number = ++net.count;
    c->host = host;
    c->client_fd = fd;
    c->fd = ends[1];
    c->cut_after = -1;
    for (int i = 0; i < 2; i++)
        c->way[i].last = &c->way[i].first;
    c->junk = fill(fd);
    c->next = net.all;
    net.all = c;
    put(c, TO_SERVER, CHUNK_CONNECT, NULL, 0);
    errno = EINPROGRESS;
    return -1;
}

int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t len)
{
    const struct sockaddr_in *in = address.__sockaddr_in__;
    uint32_t ip = in->sin_family == AF_INET ? ntohl(in->sin_addr.s_addr) : 0;
    if (ip >> 16 != (10 << 8 | 0))
        return (int)syscall(SYS_connect, fd, in, len);
    return dial(fd, net.host[ip >> 8 & 0xff][ip & 0xff]);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    if (level == SOL_SOCKET && name == SO_ERROR)
        for (struct sim_conn *c = net.all; c; c = c->next)
            if (c->client_fd == fd) { /* the newest with this number */
                memcpy(value, &c->refused, sizeof c->refused);
                return 0;
            }
    return (int)syscall(SYS_getsockopt, fd, level, name, value, len);
}

/* ---- Names ---------------------------------------------------------------------------------- */

int __real_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **out);
int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **out);
/* On a resolver's coroutine. Each name "nSHARD-NODE.sim" has one address. */
int __wrap_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                       struct addrinfo **out)
{
    int shard, number;
    char address[32];
    if (sscanf(node, "n%d-%d.sim", &shard, &number) != 2)
        return EAI_NONAME;
    sim_sleep(sim_between(SIM_NETWORK, 100 * US, 5 * MS));
    snprintf(address, sizeof address, "10.0.%d.%d", shard, number);
    return __real_getaddrinfo(address, service, hints, out);
}

/* ---- Beginning and end ---------------------------------------------------------------------- */

void sim_net_begin(const struct sim_service *service)
{
    net.service = service;
    net.all = NULL;
    net.count = 0;
    net.epoll = epoll_create1(EPOLL_CLOEXEC);
}

void sim_net_over(void)
{
    for (struct sim_conn *c = net.all, *next; c; c = next) {
        next = c->next;
        close_server_end(c);
        for (int way = 0; way < 2; way++)
            for (struct sim_chunk *k = c->way[way].first, *after; k; k = after) {
                after = k->next;
                free(k);
            }
        free(c);
    }
    close(net.epoll);
}
