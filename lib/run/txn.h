/* Transactions: one connection, exclusively, from BEGIN to its end. */
#ifndef PQI_TXN_H
#define PQI_TXN_H

#include "op.h"
#include "session.h"

struct pqr_tx {
    struct pqi_link of_session, of_db;
    struct pqr_session *session;
    struct pqi_node *node;
    struct pqi_conn *conn; /* NULL: lost, or taken by pqr_close; guarded by db->gate_lock */
    bool read_only;
    bool falls_back; /* it has a place in the primary's share of reads */
    int32_t level;
    int32_t isolation;
    int64_t deadline_ms;   /* of each statement */
    int64_t until_ns;      /* of the whole; PQI_FOREVER: none */
    bool doubt;            /* its COMMIT may have happened, or may happen yet */
    bool busy;             /* a call of it is in flight */
    struct pqr_call *call; /* that call, if it was submitted to a loop */
    bool ending;           /* it was rolled back meanwhile: to be dropped when that call ends */
    struct pqi_work *work; /* whose run it is; NULL: nobody's */
    uint64_t id;           /* 0: it has none yet, or that is not known */
    bool lost;             /* the connection went away: nothing of it happened */
    bool stale;            /* a prepared statement was gone, or fitted its tables no more */
    char sqlstate[8];      /* of its first failure; "": none */
};

int pqi_tx_begin_start(struct pqi_op *op, struct pqr_session *s, const pqr_tx_options *o,
                       const struct pqi_how *how, pqr_error *err);
int pqi_tx_begin_end(struct pqi_op *op, struct pqr_tx **out, pqr_error *err);
int pqi_tx_exec_start(struct pqi_op *op, struct pqr_tx *tx, const pqr_query *q,
                      const struct pqi_how *how, pqr_error *err);
int pqi_tx_exec_end(struct pqi_op *op, pqr_result **res, pqr_error *err);
/* USAGE (a call is in flight): the transaction stands. Any other failure to start has freed it. */
int pqi_tx_commit_start(struct pqi_op *op, struct pqr_tx *tx, const struct pqi_how *how,
                        pqr_error *err);
int pqi_tx_commit_end(struct pqi_op *op, pqr_error *err);
/* false: there was nothing left to roll back, and it is freed. */
bool pqi_tx_rollback_start(struct pqi_op *op, struct pqr_tx *tx, const struct pqi_how *how);
void pqi_tx_rollback_end(struct pqi_op *op);

/* The same, in this thread. */
int pqi_tx_begin(struct pqr_session *s, const pqr_tx_options *o, struct pqr_tx **out,
                 pqr_error *err);
int pqi_tx_exec(struct pqr_tx *tx, const pqr_query *q, pqr_result **res, pqr_error *err);
int pqi_tx_commit(struct pqr_tx *tx, pqr_error *err);
void pqi_tx_rollback(struct pqr_tx *tx);
int pqi_tx_transact(struct pqr_session *s, const pqr_tx_options *o, pqr_work_fn *work, void *arg,
                    pqr_error *err);

/* Runs of a transaction with a key, one after the other: a COMMIT in doubt stays so until the key could
 * be claimed again, or is found taken. */
struct pqi_tx_runs {
    bool key, doubt;
    pqr_error lost; /* `doubt`: what the transaction ends with if nothing settles it */
};
/* A run has ended with `err`; `begun`: its key was claimed. `err` becomes that of the transaction. */
void pqi_tx_run_ended(struct pqi_tx_runs *r, bool begun, pqr_error *err);

/* When a transaction that ended with `e` may be run again as a whole, after so many times before;
 * 0: it may not. */
int64_t pqi_tx_pause_until(const pqr_error *e, bool key, int64_t most_often, int again,
                           int64_t until_ns);

/* A transaction that runs as a whole could not begin: with a key that was used before, that is all
 * right. Returns err's code, which stays the same or becomes OK; the message says why. */
int pqi_tx_not_begun(int code, pqr_error *err);

/* Ends one without a word: its connection is closed, and the server rolls back. No call of it is
 * in flight. */
void pqi_tx_drop(struct pqr_tx *tx);

/* Drops what a session has left open: its connections are closed, and the server rolls back. */
void pqi_tx_drop_all(struct pqr_session *s);

/* After pqr_close: takes away the connections of transactions that the application left open. */
void pqi_tx_cut_all(struct pqr *db);

#endif
