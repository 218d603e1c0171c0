/* What the living router is made of, and who guards what. Structures only. */
#ifndef PQI_STATE_H
#define PQI_STATE_H

#include "../base/log.h"
#include "../plan/budget.h"
#include "../plan/follow.h"
#include "../plan/options.h"
#include "../plan/pick.h"
#include "../plan/slot.h"
#include "../wire/ask.h"
#include "pool.h"
#include "ride.h"
#include "wall.h"
#include "wanted.h"

#include <pqrouter/admin.h>
#include <stdatomic.h>
#include <sys/types.h>

#define PQI_NODES_MAX 64 /* servers of one shard */

/* What is known of a node: guarded by its shard's lock. */
struct pqi_known {
    struct pqi_report report;
    int64_t incarnation_us; /* as in struct pqi_sighting */
    struct pqi_stamp stamp;
    struct pqi_lag lag;
    int64_t lag_at_ns;  /* when the primary was seen where it is measured from; 0: never */
    uint64_t lsn;       /* written or replayed, when it answered last */
    int64_t seen_ns;    /* when that was; 0: never */
    int64_t latency_us; /* -1: not measured */
    int sightings;
    uint64_t
        safe;     /* a primary that was seen as a standby before: up to there it has all of the line
                      that it followed then; 0: not known */
    int measured; /* sightings that could be held against a sample of the primary */
    bool replaced; /* a new connection met another server there: the monitor must too */
    struct pqi_trouble trouble; /* why it is not UP */
};

struct pqi_node {
    struct pqi_shard *shard;
    int index;
    const struct pqi_target *target;
    struct pqi_dial dial;
    struct pqi_resolver resolver;
    struct pqi_pool pool;
    int number;           /* among all nodes of the router */
    _Atomic int lanes;    /* open or opening, of all groups */
    _Atomic bool starved; /* a group has none there, and found no room for one */
    struct pqi_known known;
    struct pqi_probe *probe;    /* the monitor's */
    _Atomic int64_t heard_ns;   /* when an answer of any kind came from it last; 0: never */
    _Atomic int64_t asked_ns;   /* the monitor's question under way: since when; 0: none is */
    _Atomic int64_t doubted_ns; /* since when calls wait for it in vain; 0: none does */
    _Atomic uint64_t calls;     /* segments answered */
};

struct pqi_shard {
    struct pqr *db;
    int number; /* PQI_STAMP_CONTROL: the control database */
    char name[32];
    struct pqi_node *nodes;
    int n;
    struct pqi_stamp_expected expected;

    pthread_mutex_t lock; /* guards all below and the nodes' `known` */
    bool in_use;          /* the monitor looks after it */
    bool settled;         /* every node was heard of once, or had its time */
    int64_t grace_until_ns;
    int64_t round_due_ns; /* when the monitor looks again */
    int64_t missing_ns;   /* since when it has no primary beyond doubt; 0: it has one */
    struct pqi_follow follow;
    int primary;             /* the last one beyond doubt; -1: none yet */
    uint32_t timeline;       /* the highest of a primary */
    uint32_t first_timeline; /* of the first primary seen */
    uint64_t system_id;      /* 0: not known yet */
    uint64_t segment_bytes;
    struct pqi_history history;
    struct pqi_horizon horizon;
    int fallbacks;    /* reads under way at the primary for want of a replica */
    uint64_t reached; /* the highest position known to be on `timeline` */
    uint64_t base;    /* the primary's end of log, told after it was found, or found changed: … */
    int64_t based_ns; /* … which was then; that is news not told yet: 0 when it is */
    struct pqi_link waiting; /* calls that wait for better knowledge (struct pqi_hope) */

    _Atomic bool measured; /* it has had a primary: lags can be told */
    _Atomic uint64_t session_turn, call_turn;
};

/* Counters since the router opened. */
/* clang-format off */
#define PQI_COUNTERS(X) \
    X(reads) X(writes) X(transactions) X(batches) \
    X(errors) X(retries) X(unknown) X(deadlines) X(pool_timeouts) X(pool_full) \
    X(connects) X(connects_failed) X(connections_lost) X(discarded) \
    X(fallback_reads) X(map_reloads) X(failovers) X(tokens_ignored) X(tokens_clamped)
/* clang-format on */
struct pqi_counters {
#define X(name) _Atomic uint64_t name;
    PQI_COUNTERS(X)
#undef X
};

struct pqr {
    _Atomic int refs;   /* the application's, and one a session */
    _Atomic pid_t pid;  /* of the process that used it first; 0: not used yet */
    _Atomic bool begun; /* it has its descriptors: one process's own, so taken at the first use */
    struct pqi_options *options;
    struct pqi_log log;
    struct pqi_shard *shards; /* nshards, and behind them the control database if there is one */
    int nshards;
    int ngroups; /* nshards, plus one with a control database */

    pthread_mutex_t map_lock;
    struct pqi_map *map; /* replaced whole; read under the lock */

    struct pqi_monitor *monitor;
    int monitor_flag; /* set: the monitor looks what is due */
    struct pqi_partings *partings;
    struct pqi_opener *opener;
    struct pqi_wanted wanted; /* the opener's work */
    int nnodes;
    struct pqi_group threads; /* the blocking callers' lanes */
    struct pqi_pace pace;
    struct pqi_wall wall;
    _Atomic bool warned_role;
    pthread_mutex_t budget_lock;
    struct pqi_budget budget; /* of what is run again */

    struct pqi_wait wait; /* how callers wait; set before the first use, never after */

    pthread_mutex_t gate_lock; /* guards `open_txs`, `loops` and the taking of descriptors */
    struct pqi_waiter emptied; /* finished: nobody is inside, and nobody comes in any more */
    _Atomic uint32_t inside;   /* the gate's: calls in flight, and whether it is closed */
    _Atomic bool draining;     /* nothing new begins; open transactions go on */
    _Atomic bool aborting;     /* every call ends now */
    int abort_flag;            /* readable when it is so */
    struct pqi_link open_txs;
    struct pqi_link loops; /* pqr_loop.of_db */

    struct pqi_counters counters;
    _Atomic int64_t token_warned_ns; /* when tokens were warned of last */
};

#define pqi_count(db, name) atomic_fetch_add_explicit(&(db)->counters.name, 1, memory_order_relaxed)

#endif
