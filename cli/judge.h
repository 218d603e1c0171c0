/* What is wrong with a fleet: all facts in, findings out. Asks nobody. */
#ifndef CLI_JUDGE_H
#define CLI_JUDGE_H

#include "facts.h"
#include "findings.h"
#include "look.h"

/* Settings that a fleet is measured by. */
struct measure {
    bool sharded;
    char fleet[64]; /* DATABASE_FLEET_ID; "": not checked */
    int64_t shards; /* 0: one database */
    int64_t connection_limit;
    int64_t max_connections; /* DB_MAX_CONNECTIONS; 0: not set */
    bool primary_only;       /* no read goes to a replica */
};

struct fleet {
    struct look look;
    struct facts *facts; /* one a node */
    struct measure measure;
};

/* How many connections this process may open on the node's server, all its URLs together. */
int64_t judge_need(const struct fleet *f, int node);

void judge(const struct fleet *f, struct findings *out);

#endif
