/* Tokens: what a session has seen, as text that travels in a cookie or a job. Between processes it
 * passes through hands that nobody knows, so what comes back is judged before it binds anybody. */
#ifndef PQI_TOKEN_H
#define PQI_TOKEN_H

#include "lsn.h"

#include <pqrouter/pqrouter.h>

/* What one says. */
struct pqi_token {
    int shard;          /* PQI_STAMP_CONTROL: the control database */
    uint64_t system_id; /* of its servers; 0: not known */
    struct pqi_seen seen;
    bool unsure; /* something was written or seen beyond `seen`, nobody knows where */
};

/* Whose it is, and what vouches for it. */
struct pqi_token_holder {
    const char *tenant; /* NULL with tenant_len 0: none */
    size_t tenant_len;
    bool control;
    const char *fleet; /* DATABASE_FLEET_ID; NULL: none */
    const char *key;   /* DB_TOKEN_KEY: tokens are authenticated; NULL: they bear a checksum */
};

/* Writes the text. false: no memory for its authentication. */
bool pqi_token_write(const struct pqi_token *t, const struct pqi_token_holder *h,
                     char out[PQR_TOKEN_MAX]);

/* Reads a text of one token, or of several with '.' between them: `out` is what has been seen by
 * any of them. Returns how many counted, and adds to `ignored` those that do not: damaged or made
 * up, of another version, tenant, fleet or key. What has no end is not read to its end. -1: no
 * memory to authenticate it. */
int pqi_token_read(const char *text, const struct pqi_token_holder *h, struct pqi_token *out,
                   int *ignored);

/* What has been seen by either: in `t`. Positions of different servers do not compare; then it is
 * unsure. */
void pqi_token_merge(struct pqi_token *t, const struct pqi_token *more);

/* What a shard is known to have reached. */
struct pqi_token_known {
    int shard;
    uint64_t system_id; /* 0: not known yet */
    uint32_t timeline;
    uint64_t lsn;           /* the highest position known there */
    bool told;              /* the primary has told a position since the token came: */
    struct pqi_seen covers; /* by then it was nowhere beyond */
    bool all_told;          /* so have all its servers that answer */
    /* Where the primary was found when it was seen first, or anew: on another timeline, restarted,
     * with another map. What came to an end before that, and is there still, is not beyond. */
    bool based;
    struct pqi_seen base;
};

enum pqi_token_verdict {
    PQI_TOKEN_TAKEN,  /* by its word */
    PQI_TOKEN_OPEN,   /* only what the primary tells next can say */
    PQI_TOKEN_UNSURE, /* it said so itself: as all that the primary had when it came */
    PQI_TOKEN_CLAMPED /* it cannot be true, or no more: as what is left of that */
};

/* What a token binds its session to, in `out` (OPEN: nothing known would do). One that is ahead of
 * its primary, of another shard or other servers, was true once, perhaps: of what a failover or a
 * crash has lost, of where the tenant was before, of a shard that was restored. */
enum pqi_token_verdict pqi_token_judge(const struct pqi_token *t, const struct pqi_token_known *k,
                                       struct pqi_seen *out);

#endif
