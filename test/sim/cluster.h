/* Model PostgreSQL servers: roles, timelines, a log of commits, replication, and how they live and
 * die. What a client's session does is in backend.c. */
#ifndef SIM_CLUSTER_H
#define SIM_CLUSTER_H

#include "net.h"

#include <stdbool.h>
#include <stdint.h>

#define SIM_SHARDS_MAX 3
#define SIM_NODES_MAX 4
#define SIM_APPENDS_MAX 4

/* What one statement appends: the caller's number of it, for a tenant, to a key. */
struct sim_append {
    int tenant, key, uid;
};

/* One commit. Servers that have it share it: whoever has it has all before it, too. */
struct sim_rec {
    uint64_t lsn; /* its end */
    uint32_t timeline;
    uint64_t xid;
    int n;
    struct sim_append append[SIM_APPENDS_MAX];
    struct sim_server *hidden_on; /* where it waits for a standby; NULL: seen everywhere */
    bool lost;                    /* not in the history that won */
};

enum sim_state { SIM_UP, SIM_STARTING, SIM_DOWN };

struct sim_server {
    char name[24];
    struct sim_shard *shard;
    int index;

    struct sim_host host;
    enum sim_state state;
    bool stopped;  /* all its processes are (SIGSTOP) */
    int64_t slow;  /* each statement takes so much longer */
    uint64_t life; /* counts its starts: what was to happen before one does not */

    bool clean; /* it was shut down in peace */
    bool primary, promoting;
    uint32_t timeline;
    struct sim_rec **log;
    int received, replayed, cap; /* a primary has replayed all */
    struct sim_server *upstream; /* NULL: follows nobody */
    bool streams, shipping, replaying;
    bool paused;
    int64_t replay_delay;
    uint64_t next_xid;
    int64_t started_us, incarnation_us, clock_us; /* by its own clock, and how far that is off */

    struct sim_backend *backends;
    int nbackends;
    int hogs; /* connections of others */
    int max_connections;
    bool monitors; /* the role may read the timeline of a receiver */
};

struct sim_shard {
    int number;
    struct sim_server server[SIM_NODES_MAX];
    int n;
    struct sim_server *primary; /* whose history counts */
    bool sync;                  /* commits wait for one standby */
    bool stamped;
    uint64_t system_id;
    uint32_t last_timeline;
    uint32_t followed;    /* the highest that the router says it follows */
    struct sim_rec **all; /* ever made */
    int nall, cap;
};

struct sim_fleet {
    struct sim_shard shard[SIM_SHARDS_MAX];
    int n;
    int connection_limit; /* the router's */
};

extern struct sim_fleet sim_fleet;

/* What their sessions do about it, and who looks on. */
enum sim_end { SIM_END_KILLED, SIM_END_VANISH, SIM_END_TERMINATED, SIM_END_CRASH };
struct sim_sessions {
    void (*look)(struct sim_server *s); /* those that waited for something go on */
    void (*end)(struct sim_server *s, enum sim_end how);
    void (*committed)(struct sim_server *s, struct sim_rec *rec);
};

void sim_fleet_begin(int shards, int replicas, const struct sim_sessions *sessions);
void sim_fleet_over(void);

struct sim_server *sim_server_at(int shard, int index);
uint64_t sim_server_lsn(const struct sim_server *s);
/* How much of its log it shows. */
int sim_server_shown(const struct sim_server *s);

/* Commits on a primary, by an id that was given (0: not yet). It may be hidden as yet (sync). */
struct sim_rec *sim_commit(struct sim_server *s, uint64_t xid, const struct sim_append *appends,
                           int n);

/* ---- What happens to them ------------------------------------------------------------------- */

void sim_crash(struct sim_server *s, bool machine); /* kill -9 of all; or the machine is gone */
void sim_start(struct sim_server *s);
void sim_shut_down(struct sim_server *s);      /* fast */
void sim_crash_backends(struct sim_server *s); /* one was killed: all end, the postmaster lives */
void sim_stop(struct sim_server *s, bool stop);
void sim_cut(struct sim_server *s, bool to_server, bool to_client);
void sim_pause(struct sim_server *s, bool pause);
/* A standby becomes a primary in a while. `counts`: its history is the one that counts now. */
void sim_promote(struct sim_server *s, bool counts);
void sim_follow(struct sim_server *s, struct sim_server *upstream);
/* Has `up` all that `s` has? */
bool sim_leads_to(const struct sim_server *s, const struct sim_server *up);
/* Becomes a standby of `upstream`, with that one's history (pg_rewind), and starts. */
void sim_rejoin(struct sim_server *s, struct sim_server *upstream);
/* This shard's history is this server's. */
void sim_counts(struct sim_server *s);

#endif
