/* Which node serves this read, and for each node why or why not. */
#ifndef PQI_PICK_H
#define PQI_PICK_H

#include "lag.h"
#include "lsn.h"
#include "options.h"

#include <pqrouter/pqrouter.h>
#include <stdbool.h>

/* A node as the decision sees it. */
struct pqi_candidate {
    enum pqr_node_state state;
    bool is_primary; /* the shard's primary, not merely out of recovery */
    bool is_replica; /* in recovery, of this shard's system identifier */
    bool stamp_ok;
    bool tried; /* this call already failed there */
    struct pqi_lag lag;
    uint32_t timeline;
    uint64_t replayed;
    int64_t
        full_ms; /* so long all its connections have been in use, and none came back; 0: not so */
    bool stays;  /* the session's last read was on this very server, which has only gone on since */
    int64_t lag_age_ms; /* how old what `lag` is measured from is; -1: not known */
};

/* What the read asks for. */
struct pqi_need {
    enum pqr_level level;
    struct pqi_seen seen; /* LEVEL_SESSION: what the session has seen */
    int stay;             /* the node that the session is on; -1: none */
    enum pqi_preference preference;
    int64_t max_lag_ms;    /* 0: no limit in time */
    int64_t max_lag_bytes; /* 0: no limit in bytes */
    int64_t bound_ms;      /* the read's own limit in time, counted until now; 0: none */
    int64_t look_every_ms; /* so often servers are looked at: a smaller bound is never held */
    bool read; /* the session has read: a server but `stay` must have replayed `elsewhere` */
    bool elsewhere_known;
    struct pqi_seen elsewhere;
    int min_replicas; /* with fewer than these within the limits, reads of level any take others, too */
    bool unmeasured;       /* this process has seen no primary yet: an unknown lag is no fault */
    bool primary_full;     /* reads that fall back to the primary have their share of it */
    struct pqi_seen shown; /* likewise, and how far it read is known */
};

/* Beyond the limits, but not more than so many times: the second tier. */
#define PQI_SECOND_TIER 10

enum pqi_why {
    PQI_WHY_OK,
    PQI_WHY_UNKNOWN, /* not looked at yet */
    PQI_WHY_DOWN,
    PQI_WHY_SUSPECT,
    PQI_WHY_ROLE, /* claims to be a primary, but is not the shard's, or another system */
    PQI_WHY_STAMP,
    PQI_WHY_LAG_UNKNOWN,
    PQI_WHY_LAG_BYTES,
    PQI_WHY_LAG_MS,
    PQI_WHY_BOUND,    /* perhaps further behind than the read allows */
    PQI_WHY_NOT_SEEN, /* behind what the session has seen */
    PQI_WHY_TRIED,
    PQI_WHY_NOT_ASKED /* the level or the preference asks for the other role */
};

/* Why this node does or does not serve the read, its role's turn apart. */
enum pqi_why pqi_judge(const struct pqi_candidate *c, const struct pqi_need *need);

/* The node that serves the read, -1: none. A session stays where it is while that node may serve
 * it. Replicas are dealt by `turn`: the caller counts it up once a deal, so that over k eligible
 * replicas each gets every k-th. One whose connections are all held,
 * so that a call would wait there for who knows how long, is passed over, unless all are so. Being
 * busy does not count: where connections come back all the time, each still gets its share.
 *
 * Reads of level any promise nothing about their age. Where fewer than min_replicas are within the
 * limits they take those of the second tier, too; and where the primary has its share of them, any
 * replica that lives. Others wait then. */
int pqi_pick(const struct pqi_candidate *nodes, int n, const struct pqi_need *need, uint64_t turn);

/* Does a read that goes to node `i` only go there for want of replicas, so that it counts in the
 * share of such reads? Not one that asks for the primary, nor one for whose session the replicas,
 * well as they are, have not replayed enough. */
bool pqi_falls_back(const struct pqi_candidate *nodes, int n, const struct pqi_need *need, int i);

/* May one more read fall back, with `now` of them under way, of `limit` connections? */
bool pqi_share_allows(int now, int limit, int percent);

/* One sentence part: "lags 4210 ms, more than 1000 ms". Static or in `buf`. */
const char *pqi_why_text(enum pqi_why why, const struct pqi_candidate *c,
                         const struct pqi_need *need, char *buf, size_t size);

#endif
