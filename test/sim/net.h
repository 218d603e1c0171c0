/* The network: libpq's sockets, whose other ends are here. Bytes take their time, in order, and may be
 * held up, lost or cut off. A host's address is 10.0.SHARD.NUMBER. */
#ifndef SIM_NET_H
#define SIM_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_backend;

enum { TO_SERVER, TO_CLIENT };

/* A machine. */
struct sim_host {
    const char *name;
    bool listens;
    bool down;   /* gone, without a word */
    bool cut[2]; /* nothing gets through this way (TO_SERVER, TO_CLIENT); both: nor to hosts */
    int64_t latency_least, latency_most;
    int64_t visible_since; /* as a primary, for the router: an answer of its was delivered; 0: no */
};

enum sim_chunk_kind { CHUNK_CONNECT, CHUNK_BYTES, CHUNK_END };

struct sim_chunk {
    struct sim_chunk *next;
    int64_t due;
    enum sim_chunk_kind kind;
    bool tells;
    size_t n;
    char bytes[];
};

struct sim_conn {
    struct sim_conn *next; /* of all */
    int number;
    struct sim_host *host;
    struct sim_backend *backend; /* NULL: none yet, or none any more */
    int fd;                      /* the server's end; -1: closed */
    int client_fd;
    int refused; /* an errno for the client to find */
    size_t junk; /* bytes that keep the client's end from being writable */
    bool client_gone;
    bool is_cut; /* the client knows it, its server perhaps not yet */
    bool vanished;
    bool swallows;     /* what the server says is lost */
    bool tells;        /* what is sent next tells that the server is a primary */
    int64_t cut_after; /* bytes to the client; -1: not */
    struct {
        struct sim_chunk *first, **last;
        int64_t last_due;
        bool pumping;
    } way[2];
};

/* What is done with what arrives. */
struct sim_service {
    void (*begin)(struct sim_conn *c); /* somebody has connected: sets c->backend */
    void (*input)(struct sim_backend *b, const void *bytes, size_t n);
    void (*eof)(struct sim_backend *b);
};

void sim_net_begin(const struct sim_service *service);
/* Here is that host. */
void sim_net_place(int shard, int number, struct sim_host *host);
int64_t sim_net_latency(const struct sim_host *h);
void sim_net_over(void);

/* Fetches what clients have sent. */
void sim_net_collect(void);

/* From a server to its client. */
void sim_net_send(struct sim_conn *c, const void *bytes, size_t n);
/* The server's process is gone: its socket is closed, behind what was sent. */
void sim_net_end(struct sim_conn *c);
/* The machine is gone, with no word: whoever asks later is told so, or learns it by a time-out. */
void sim_net_vanish(struct sim_conn *c);
/* Connections that have no other end, or are not heard, are cut off now. */
void sim_net_mend(void);

/* All connections, newest first. */
struct sim_conn *sim_net_all(void);

#endif
