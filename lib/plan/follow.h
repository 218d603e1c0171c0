/* Who is a shard's primary: all nodes' reports in, an answer or the reason for doubt out. */
#ifndef PQI_FOLLOW_H
#define PQI_FOLLOW_H

#include <pqrouter/pqrouter.h>
#include <stdbool.h>
#include <stdint.h>

/* What a node said of itself when it answered last. */
struct pqi_report {
    enum pqr_node_state state;
    enum pqr_role role;
    bool read_only;     /* default_transaction_read_only is on: yields to one that takes writes */
    uint32_t timeline;  /* 0: it has no right to tell */
    uint64_t system_id; /* pg_control_system(): the same on all servers of one shard */
    int64_t started_us; /* when its postmaster did, by its own clock; 0: not known. With the system
                           identifier it tells whether two addresses are one server. */
    uint32_t follows;   /* a standby: the timeline that it receives at this moment; 0: none, or it
                           has no right to tell */
    bool lingers; /* it is down for being silent, and was heard of not long ago: it may live */
};

enum pqi_verdict_of_follow {
    PQI_PRIMARY_IS,   /* `node` */
    PQI_PRIMARY_NONE, /* no server that answers is out of recovery, or not all were looked at */
    PQI_PRIMARY_DOUBT /* several claim it, or an outdated one does: writes wait */
};

struct pqi_follow {
    enum pqi_verdict_of_follow verdict;
    int node;
    int rival; /* DOUBT: the other claimant, -1: `node`'s timeline is older than one seen before */
};

/* Do most of the shard's standbys receive the line of `claimant`? A standby that does has left every
 * older line for good. One that still receives an older line proves nothing for that: it may be
 * about to switch. Standbys that are down, or cannot tell, count as not following. */
bool pqi_follow_majority(const struct pqi_report *nodes, int n, int claimant, uint64_t system_id);

/* The system identifier that all nodes have that have told one; 0: they differ, or none has. */
uint64_t pqi_follow_system(const struct pqi_report *nodes, int n);

/* How long a primary that is merely silent stands beside one that was promoted. One that refuses is
 * gone at once. */
#define PQI_LINGER_MS 5000

/* `known` is the primary so far (-1: none yet), `timeline` the highest seen of one, `system_id`
 * the shard's (0: not known yet). The known primary stays while it answers and no other node of
 * its timeline or a higher one claims to be one. A claimant on an older timeline than was seen is not
 * followed, unless the server that was primary on the newer one has become its standby (an accidental
 * promotion that was followed, and undone), and most of the others are its standbys too. A rival on the highest timeline is followed though the known primary answers, once
 * most of the standbys follow it; and where the known primary does not answer or none is known, unless
 * most of them follow the other. Who knows none decides only when every node was looked at: the first
 * to answer may be the one promoted by accident. Beside a
 * claimant that takes writes, read-only ones do not count; and one server under two addresses is
 * one claimant, by the first of them. */
struct pqi_follow pqi_follow(const struct pqi_report *nodes, int n, int known, uint32_t timeline,
                             uint64_t system_id);

#endif
