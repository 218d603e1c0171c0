/* One client's session on a model server: the protocol's messages, and what they do.
 * https://www.postgresql.org/docs/15/protocol-flow.html */
#ifndef SIM_BACKEND_H
#define SIM_BACKEND_H

#include "cluster.h"

#include <stddef.h>

#define SIM_PARAMS_MAX 8

struct sim_backend;

struct sim_text {
    char *bytes;
    size_t n, cap;
};

/* A statement that the servers understand: one row of the table in sql.c. */
struct sim_statement {
    const char *text;    /* how it begins */
    const char *has;     /* and what stands in it; NULL: anything */
    const char *columns; /* of its rows, divided by commas; NULL: none; "*": one a set_config */
    void (*run)(struct sim_backend *b);
    int least_us, most_us; /* it takes so long */
    bool ends_block;       /* runs also in a failed block */
};

struct sim_prepared {
    struct sim_prepared *next;
    char name[32];
    char *sql;
    const struct sim_statement *what;
};

struct sim_backend {
    struct sim_backend *next; /* of its server */
    struct sim_backend *all;  /* of all that ever were */
    struct sim_server *server;
    struct sim_conn *conn;
    struct sim_text in, out;
    bool begun;   /* logged in */
    bool eof;     /* its client is gone */
    bool gone;    /* it has ended; freed with the fleet */
    bool busy;    /* at work: what comes waits */
    uint64_t job; /* counts what it was at */

    /* The session. */
    struct sim_prepared *prepared;
    bool reads_only; /* default_transaction_read_only */
    bool reported;   /* as the client knows that */
    bool checks_client;
    int temporary, listening; /* what a caller's unit of work has left there: its number */
    int was_temporary;        /* before this transaction */
    int listens_at_commit;    /* 0: no */
    bool unlistens_at_commit; /* comes before what listens */

    /* The transaction. */
    char block;      /* 'I', 'T', 'E', as ReadyForQuery tells */
    bool skips;      /* failed: everything up to the next Sync */
    bool local_only; /* transaction_read_only */
    bool serializable, deferred_fault;
    struct sim_append append[SIM_APPENDS_MAX];
    int n;
    uint64_t xid;        /* 0: none was given yet */
    struct sim_rec *rec; /* waits for a standby to have it */
    uint64_t committing; /* the job that takes it into the log */
    bool for_sync;       /* it was not COMMIT that commits, but Sync */
    int identities;      /* so often it has said who it is */
    bool told_primary;   /* it has said that its server is one */
    bool to_end;         /* when that is done, by pg_terminate_backend */

    /* The portal. */
    const struct sim_prepared *portal;
    char param[SIM_PARAMS_MAX][128];
    int nparams;
};

const struct sim_statement *sim_statement_of(const char *sql);

/* What comes of the network, and of the servers. */
extern const struct sim_service sim_backend_service;
extern const struct sim_sessions sim_backend_sessions;

/* pg_terminate_backend */
void sim_backend_terminate(struct sim_backend *b);
void sim_backends_over(void);

/* ---- For the statements --------------------------------------------------------------------- */

void sim_row(struct sim_backend *b, int n, const char *const *values); /* NULL values are NULL */
void sim_done(struct sim_backend *b, const char *tag);
void sim_error(struct sim_backend *b, const char *sqlstate, const char *text);
/* Writes? No: the error is said. */
bool sim_may_write(struct sim_backend *b);
/* COMMIT: its tag comes when it is done. */
void sim_commit_block(struct sim_backend *b);
void sim_abort_block(struct sim_backend *b);
void sim_deallocate(struct sim_backend *b, const char *name);

#endif
