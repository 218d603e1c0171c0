/* A session: whose it is, and what it has seen. */
#ifndef PQI_SESSION_H
#define PQI_SESSION_H

#include "../plan/token.h"
#include "state.h"

struct pqr_session {
    struct pqr *db;
    char *tenant; /* NULL: none */
    size_t tenant_len;
    uint32_t place;          /* among the tenants that wait for the same */
    struct pqi_params *name; /* the tenant, for the wall; NULL: there is none */
    bool control;
    int64_t deadline_ms;         /* INT64_MAX: none */
    struct pqi_shard *fixed;     /* this shard, whatever the map says; NULL: the tenant's */
    struct pqi_node *fixed_node; /* this server, whatever its role; NULL: as placed */
    bool stamping;               /* the stamp is what it is about: not checked */

    struct pqi_shard *shard; /* where `seen` and `stay` hold; NULL: nowhere yet */
    struct pqi_seen seen;
    /* It may have written or seen on the primary what no replica has: then it reads there. 0: it
     * has not. PQI_FOREVER: a write is not over. Otherwise the moment by which all of
     * it was there: a position that the primary told after that covers it. */
    int64_t unsure_ns;
    int64_t shown_ns; /* PQI_FOREVER: when that which is not over was last heard of */
    bool in_doubt;    /* a write may still happen, nobody knows when: reads stay on the primary */
    int write_loans;  /* lent connections that may write at any moment: as if unsure meanwhile */
    int stay;         /* the node that it read from last; -1: none */
    int64_t read_ns;  /* when it last read and was not told how far; 0: never */
    struct pqi_seen shown;    /* how far it read: what another server than `stay` must have */
    uint64_t stay_generation; /* that node's, then */

    bool tells;             /* its token will be asked for: calls ask how far their server is */
    bool claimed;           /* it came with a token, which has not bound it yet */
    struct pqi_token claim; /* that */
    int64_t claimed_ns;     /* when it came */

    int calls;    /* submitted ones in flight */
    bool closing; /* it was closed meanwhile: the last of them ends it */

    struct pqi_link txs;   /* open transactions (pqr_tx.of_session) */
    struct pqi_link loans; /* connections lent */
};

int pqi_session_open(struct pqr *db, const pqr_session_options *o, struct pqr_session **out,
                     pqr_error *err);

/* Frees the session itself; what it held is ended already. The router's reference stays. */
void pqi_session_free(struct pqr_session *s);

/* The shard of the session now. What was seen holds for one shard only. NULL: err says why. */
struct pqi_shard *pqi_session_shard(struct pqr_session *s, int64_t *map_version, pqr_error *err);

/* It has just read on `node`, as it was in that generation. */
void pqi_session_read_on(struct pqr_session *s, const struct pqi_node *node, uint64_t generation);

/* Likewise by a call that began then, and the server has told how far it was. */
void pqi_session_read_to(struct pqr_session *s, struct pqi_node *node, uint64_t generation,
                         int64_t begun_ns, const struct pqi_position *p);

/* It has been shown something on a connection that it holds there, beside its calls. */
void pqi_session_read_beside(struct pqr_session *s, const struct pqi_node *node,
                             const struct pqi_conn *conn);

/* What it has open may write, and has just shown something. */
void pqi_session_goes_on(struct pqr_session *s);

/* Is it worth to ask where what it writes is? Where all its reads go to the only server there is, only
 * its token would tell, which then has the next session ask the primary once. */
bool pqi_session_wants_position(const struct pqr_session *s);

/* It has written on `node`, or seen there what it did in a transaction. */
void pqi_session_wrote_on(struct pqr_session *s, const struct pqi_node *node);

/* The same, and all that it did there is at or before this position, which it asked for after
 * `asked_ns`. */
void pqi_session_wrote_at(struct pqr_session *s, const struct pqi_node *node,
                          const struct pqi_seen *at, int64_t asked_ns);

/* May it read from replicas? Only those at or past `seen`, which rises here to what covers its
 * writes, once the primary has told that. */
bool pqi_session_sure(struct pqr_session *s, struct pqi_shard *shard);

#endif
