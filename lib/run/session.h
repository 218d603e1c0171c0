/* Sessions and transactions: what one unit of application work has seen, and holds. */
#ifndef PQI_SESSION_H
#define PQI_SESSION_H

#include "call.h"

struct pqr_session {
    struct pqr *db;
    char *tenant; /* NULL: none */
    size_t tenant_len;
    bool control;
    int64_t deadline_ms; /* INT64_MAX: none */
    struct pqi_shard *fixed;     /* this shard, whatever the map says; NULL: the tenant's */
    struct pqi_node *fixed_node; /* this server, whatever its role; NULL: as placed */
    bool stamping;               /* the stamp is what it is about: not checked */

    struct pqi_shard *shard; /* where `seen` and `stay` hold; NULL: nowhere yet */
    struct pqi_seen seen;
    bool unsure; /* a write's position is not known: only the primary is surely not older */
    int stay;    /* the replica it reads from; -1: none */

    struct pqi_link txs;   /* open transactions (pqr_tx.of_session) */
    struct pqi_link loans; /* struct loan */
};

struct pqr_tx {
    struct pqi_link of_session, of_db;
    struct pqr_session *session;
    struct pqi_node *node;
    struct pqi_conn *conn; /* NULL: lost, or taken by pqr_close; guarded by db->gate_lock */
    bool read_only;
    int32_t isolation;
    int64_t deadline_ms;
    bool lost;             /* the connection went away: nothing of it happened */
    char sqlstate[8];      /* of its first failure; "": none */
};

int pqi_session_open(struct pqr *db, const pqr_session_options *o, struct pqr_session **out,
                     pqr_error *err);
void pqi_session_close(struct pqr_session *s);

/* The shard of the session now. What was seen holds for one shard only. NULL: err says why. */
struct pqi_shard *pqi_session_shard(struct pqr_session *s, int64_t *map_version, pqr_error *err);

int pqi_session_read(struct pqr_session *s, const pqr_query *const *q, size_t n, pqr_result **res,
                     pqr_error *err);
int pqi_session_write(struct pqr_session *s, const pqr_query *q, pqr_result **res, pqr_error *err);

/* Raises what the session has seen by a call's position, and where it stays. */
void pqi_session_saw(struct pqr_session *s, const struct pqi_call *c);

int pqi_tx_begin(struct pqr_session *s, const pqr_tx_options *o, struct pqr_tx **out, pqr_error *err);
int pqi_tx_exec(struct pqr_tx *tx, const pqr_query *q, pqr_result **res, pqr_error *err);
int pqi_tx_commit(struct pqr_tx *tx, pqr_error *err);
void pqi_tx_rollback(struct pqr_tx *tx);
int pqi_tx_transact(struct pqr_session *s, const pqr_tx_options *o, pqr_work_fn *work, void *arg,
                    pqr_error *err);

struct pg_conn;
int pqi_session_lend(struct pqr_session *s, int mode, struct pg_conn **out, pqr_error *err);
void pqi_session_give_back(struct pqr_session *s, struct pg_conn *pg);

/* After pqr_close: takes away the connections of transactions that the application left open. */
void pqi_tx_cut_all(struct pqr *db);

#endif
