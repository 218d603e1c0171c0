/* The driver of `./dev chaos`: many sessions of many tenants do small work of all kinds, and each
 * operation is written down before and after it. What it may not know: which faults are injected,
 * and what is right: test/chaos/checker.py decides that. It sees the public headers only. */
#ifndef CHAOS_DRIVER_H
#define CHAOS_DRIVER_H

#include <pqrouter/pqrouter.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { KEYS_MAX = 64, STEPS = 3, PARAMS_MAX = 6, BATCH = 3 };

/* Mistakes on purpose, of a router or of who uses it: the checker must find each. */
enum mutant {
    MUTANT_NONE,
    MUTANT_RETRY_UNKNOWN,     /* a write whose answer was lost is sent again */
    MUTANT_UNKNOWN_AS_FAILED, /* …is called failed */
    MUTANT_UNKNOWN_AS_OK,     /* …is called done */
    MUTANT_OTHER_KEY,         /* asks again with another key */
    MUTANT_SESSION_ANY,       /* reads of level session take any replica */
    MUTANT_ROLLBACK_AS_OK,    /* a COMMIT that answers ROLLBACK is called done */
    MUTANT_WRONG_TENANT,      /* some reads ask for the next tenant's rows */
    MUTANT_SPLIT_TRANSFER,    /* a transfer is three writes, not a transaction */
    MUTANT_LATE,              /* some calls end long after their deadline */
    MUTANT_FORGET_END,        /* some calls never end */
    MUTANTS
};

struct settings {
    const char *history; /* file */
    const char *run; /* names tenants and operations, so that runs do not meet in one database */
    uint64_t seed;
    int64_t seconds, threads, actors, tenants, keys, rate, deadline_ms;
    enum mutant mutant;
};

enum label { LABEL_OK, LABEL_FAILED, LABEL_UNKNOWN, LABELS };

struct driver {
    struct settings set;
    pqr *db;
    int fd; /* the history */
    atomic_bool stop;
    _Atomic uint64_t counts[LABELS];
};

enum kind {
    APPEND,     /* one more entry of a list */
    CAS,        /* a register's next version, if it is still the one that was seen */
    ADD,        /* one more on a counter: it shows when it is done twice */
    TRANSFER,   /* a transaction: two accounts and two entries of the ledger */
    LIST,       /* read: a list's length, digest and last values */
    GET,        /* read: a register */
    STAR,       /* the same by select *, whose columns change under prepared statements */
    COUNT,      /* read: a counter */
    TOTAL,      /* read: the sum of all accounts of a tenant, which never changes */
    READ_BATCH, /* LIST, GET and COUNT in one round trip */
    FAIL_READ,  /* a read that the server refuses, quoting the tenant's name */
    FAIL_WRITE, /* an append that the server rolls back */
    SLOW,       /* an append that takes longer than its deadline, perhaps */
    DEFER,      /* an insert that fails when it is committed */
    TX_FAIL,    /* a transaction with a statement that fails, committed all the same */
    TX_ROLLBACK,
    KINDS
};

/* One operation, from its choice to its last line in the history. */
struct op {
    enum kind kind;
    const char *session;
    /* asked: whose rows; not `tenant` in a mutant. row: the id in what it writes; not `uid` when it
     * asks again for what another operation was to do. */
    char uid[40], row[40], tenant[24], asked[24], val[120];
    const char *once; /* its idempotency key, which is `row`; NULL: it has none */
    int64_t key, to, amount, ver, deadline_ms;
    int32_t level, isolation;
    pqr_param params[STEPS][PARAMS_MAX];
    pqr_query q[STEPS];
    int steps;      /* statements: of a batch or a transaction several */
    bool cancelled; /* by us, before its end */
    int64_t called_ns,
        kept_ns; /* kept: how long its thread had waited for a processor until then */
};

/* One who works: a thread of its own, or one of many on a loop. One call at a time. */
struct actor {
    struct driver *d;
    int number, tenant, sessions, left; /* left: operations until the session ends */
    uint64_t chance, ops;
    pqr_session *s;
    char session[24];
    int64_t seen[KEYS_MAX]; /* versions of the tenant's registers in this session; -1: none yet */
    struct op op;

    int64_t due_ns; /* of an actor on a loop: when to go on */
    bool busy, cancel;
    pqr_call *call;
    int step;
};

/* ops.c: what is asked. */
extern const char *const op_names[KINDS];
bool op_is_write(enum kind kind);
bool op_is_transaction(enum kind kind);
void op_choose(struct actor *a);
/* The same operation becomes another one that asks again with the same key; false: it has none, or
 * there is no reason to. */
bool op_again(struct actor *a, int code);
/* Its end: written down, and what it showed is remembered. */
void op_done(struct actor *a, int code, const pqr_error *err, pqr_result *const *res, int n);

/* history.c: one line each, whole, in one write. */
int64_t now_ns(void);
int64_t kept_waiting_ns(void); /* how long this thread was ready to run and was not let, so far */
void history_head(struct driver *d);
void history_call(struct driver *d, struct op *op);
void history_end(struct driver *d, const struct op *op, enum label label, int code,
                 const pqr_error *err, pqr_result *const *res, int n);
void history_stall(struct driver *d, int64_t from_ns, int64_t until_ns);

/* actor.c: sessions and pauses, and operations in a thread of their own. */
uint64_t actor_chance(struct actor *a, uint64_t below);
void actor_init(struct actor *a, struct driver *d, int number);
bool actor_session(struct actor *a); /* there is one now; false: it could not be opened */
int64_t actor_pause_ns(struct actor *a);
void actor_end(struct actor *a);
void *actor_thread(void *actor);

/* loop.c: the same from one event loop, for d->set.actors of them; numbers from `first` on. */
struct crowd {
    struct driver *d;
    int first;
};
void *crowd_thread(void *crowd);

#endif
