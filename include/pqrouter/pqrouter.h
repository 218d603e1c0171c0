/* pqrouter: a tenant's statements to the right PostgreSQL server.
 *
 * What lives here: everything an application calls, in the order of use. The operator's calls
 * (counters, the shard map, pins) are in <pqrouter/admin.h>.
 *
 * Everywhere:
 *  - A function that can fail returns PQR_OK (0) or a negative PQR_E_… code, the same that it
 *    writes to `err`. `err` may be NULL; otherwise it is written whole on every return.
 *    On failure nothing is written to the other out-parameters, unless said.
 *  - Times are milliseconds, sizes are bytes, strings are UTF-8 and end with NUL.
 *  - …_close and …_free accept NULL.
 *  - Structs that the caller fills begin with `size`; the macros PQR_QUERY(…), PQR_SESSION(…), …
 *    stamp it. Fields are only ever appended; a field left out is zero and means the default.
 *    C++ has no compound literals: declare the struct, set .size = sizeof it, fill it by hand.
 *  - The library installs no signal handler, prints nothing unless asked (PQR_LOG), never exits.
 *  - After fork() a child may use a handle that was opened but never used before; any other
 *    handle answers PQR_E_FORKED there, and the parent's connections are left alone.
 */
#ifndef PQROUTER_H
#define PQROUTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define PQR_API
#else
#define PQR_API __attribute__((visibility("default")))
#endif

#define PQR_VERSION_MAJOR 0
#define PQR_VERSION_MINOR 1
#define PQR_VERSION_PATCH 0

/* The version of the library that is running, such as "0.1.0". Static text. Since 0.1. */
PQR_API const char *pqr_version(void);

/* ---- Errors ------------------------------------------------------------------------------- */

/* What went wrong. Numbers are for ever; docs/errors.md says for each what to do. */
typedef enum pqr_code {
    PQR_OK = 0,
    PQR_E_USAGE = -1,    /* the call itself is wrong: a NULL, a wrong size, a refused statement */
    PQR_E_CONFIG = -2,   /* the configuration is wrong: all faults are in the message */
    PQR_E_NOMEM = -3,    /* out of memory, descriptors or ports */
    PQR_E_FORKED = -4,   /* the handle was used before fork(): open one of your own */
    PQR_E_CLOSED = -5,   /* the router is closing or closed */
    PQR_E_DEADLINE = -6, /* the call's deadline passed; a write: before it was sent */
    PQR_E_POOL_TIMEOUT = -7, /* no connection came free in DB_POOL_TIMEOUT */
    PQR_E_POOL_FULL = -8,    /* more than DB_POOL_QUEUE_LIMIT calls wait for a connection */
    PQR_E_CONNECT = -9,      /* the server cannot be reached */
    PQR_E_AUTH = -10,        /* the server refused user, password, database, or TLS failed */
    PQR_E_NO_PRIMARY = -11,  /* the shard has no (undoubted) primary now */
    PQR_E_NO_REPLICA = -12,  /* DB_READ_PREFERENCE=replica, and no replica is eligible */
    PQR_E_WRONG_SHARD = -13, /* the database is stamped as another shard or fleet */
    PQR_E_UNSTAMPED = -14,   /* the shard has no stamp: run pqrouter init */
    PQR_E_READ_ONLY = -15,   /* a statement sent as a read, or in a read-only transaction, writes */
    PQR_E_SQL = -16,         /* the server refused the statement: see .sqlstate */
    PQR_E_LOST = -17,        /* the connection was lost; what was asked provably did not happen */
    PQR_E_UNKNOWN = -18,     /* a write was sent and no answer came: it may have happened */
    PQR_E_ROLLED_BACK = -19, /* the transaction failed before, or COMMIT rolled it back */
    PQR_E_TYPE = -20,        /* a getter: no such row or column, or not of that type */
    PQR_E_MAP = -21,         /* the shard map in the database and the environment do not agree */
    PQR_E_BUG = -22,         /* the library caught itself in a contradiction: please report */
    PQR_E_CANCELLED = -23,   /* pqr_cancel came first; a write: before it was sent */
    PQR_E_ROWS_LOST = -24, /* the write is done; the rows it returned are not to be had any more */
    PQR_E_DONE_BEFORE = -25, /* pqr_begin: a transaction with this key is committed already */
    PQR_E_FALLBACK = -26     /* no replica, and reads have their share of the primary */
} pqr_code;

/* May the call be made again? */
typedef enum pqr_retry {
    PQR_RETRY_NEVER = 0,  /* it would fail again */
    PQR_RETRY_SAFE = 1,   /* it provably did not happen: doing it again cannot double it */
    PQR_RETRY_UNKNOWN = 2 /* it may have happened: look before you do it again */
} pqr_retry;

/* An error, whole. Its size is part of the ABI and never changes; unused bytes are zero.
 * Texts are cut to fit and always end with NUL. No text ever holds a password of the
 * configuration's. The server's own sentence may quote a value, such as the parameter of
 * `invalid input syntax for type integer: "x"`; its DETAIL, which quotes rows, is never passed on. */
typedef struct pqr_error {
    int32_t code;        /* a pqr_code; PQR_OK after success */
    int32_t retry;       /* a pqr_retry */
    int32_t shard;       /* which shard; -1: none, or the control database */
    int32_t index;       /* which statement of a batch, from 0; -1: not a batch */
    char sqlstate[8];    /* the server's SQLSTATE, such as "23505"; "": it said none. After PQR_OK:
                            "01000" of a write or COMMIT whose synchronous standby is not known to
                            have it, since the wait for that was cancelled */
    char node[32];       /* which server, such as "shard1/replica2"; "": none */
    char constraint[64]; /* names, when the server gave them */
    char schema[64];
    char table[64];
    char column[64];
    char message[1024]; /* one sentence: what happened and what to do; after PQR_OK mostly "" */
    uint8_t reserved[200];
} pqr_error;

/* The name of a code, such as "POOL_FULL", and what to do about it: static texts, never NULL.
 * Since 0.1. */
PQR_API const char *pqr_code_name(int code);
PQR_API const char *pqr_code_advice(int code);

/* ---- Opening ------------------------------------------------------------------------------ */

/* The router: one a process. Thread-safe. */
typedef struct pqr pqr;

/* Levels of the log, as in PQR_LOG. */
typedef enum pqr_log_level {
    PQR_LOG_OFF = 0,
    PQR_LOG_ERROR = 1, /* an operator must act */
    PQR_LOG_WARN = 2,  /* an operator should look */
    PQR_LOG_INFO = 3,  /* what changed: roles, nodes, the map */
    PQR_LOG_DEBUG = 4, /* each connection */
    PQR_LOG_TRACE = 5  /* each call */
} pqr_log_level;

/* One log record. Called on any thread, never under a lock of the library; the texts live until
 * it returns. It must not call the library. */
typedef void pqr_log_fn(void *arg, int level, const char *event, const char *text);

typedef struct pqr_options {
    size_t size;
    const char *const *env; /* "NAME=value" strings, ended by NULL; NULL: the environment */
    pqr_log_fn *log;        /* where records go; NULL: to stderr, if PQR_LOG asks for any */
    void *log_arg;
} pqr_options;
#define PQR_OPTIONS(...) (&(const pqr_options){.size = sizeof(pqr_options), __VA_ARGS__})

/* Reads the configuration (docs/options.md) and makes a router. No I/O, no thread: both begin
 * with the first use, so opening before fork() is safe. Options may be NULL. The environment is
 * read here and never again. Errors: CONFIG (every fault, each naming its variable), NOMEM,
 * USAGE. Free with pqr_close. Since 0.1. */
PQR_API int pqr_open(pqr **out, const pqr_options *options, pqr_error *err);

/* Waits for the application's fibers: returns when `fd` is readable or `timeout_ms` (1 to 60000)
 * have passed; before that it is harmless too, if it is not all the time. fd -1 (the process has no
 * descriptor left): only the time counts. */
typedef void pqr_wait_fn(void *arg, int fd, int timeout_ms);

/* For programs that run many fibers (coroutines, green threads) on a thread: wherever a call would
 * block its thread to wait, pqr_ready and pqr_close too, it calls `wait` instead, on the stack of
 * the fiber that made it. `wait` lets other fibers run and comes back. They may call the library
 * meanwhile, also on this router; no lock is held, so a fiber may go on in another thread than the
 * one it waited in.
 *  - The descriptor is the library's own, made for this wait: poll or epoll it, and nothing else. It
 *    is closed when `wait` has returned: forget it before.
 *  - `wait` must return: a fiber is not destroyed, nor left by a jump or an exception, inside it. To
 *    end calls early there are deadlines.
 *  - It is called in whatever thread makes a call, also outside of every fiber: there it may poll(2).
 *  - A session, and a transaction, belong to one fiber at a time. A fiber that computes for long
 *    holds up the others of its thread, and may those of others whose reads travel with these.
 *  - A fiber needs a stack of 64 KB at least: connecting and logging in run on it.
 * What the application does with a lent connection blocks its thread as ever. A pqr_loop never waits,
 * so it never calls `wait`.
 * `wait` NULL: calls wait in the system (the default). Set it between pqr_open and the first use,
 * before other threads know of the router; in a child of fork() that came between, too.
 * Errors: USAGE (also: the router is used already), FORKED, CLOSED. Since 0.1. */
PQR_API int pqr_set_wait(pqr *db, pqr_wait_fn *wait, void *arg, pqr_error *err);

/* Waits until every shard (and the control database, if there is one) has a primary that takes
 * calls, at most `timeout_ms` (0: only looks). Errors: the first shard's, with every shard that
 * is not ready named in the message; FORKED, CLOSED. Since 0.1. */
PQR_API int pqr_ready(pqr *db, int64_t timeout_ms, pqr_error *err);

/* Refuses new calls (CLOSED), lets the calls and transactions in flight end for at most
 * `drain_ms`, then cuts off the rest (they end honestly: LOST or UNKNOWN) and closes every
 * connection. Returns when no call runs any more. Sessions, results and lent connections may be
 * closed after it. Call it once. Since 0.1. */
PQR_API void pqr_close(pqr *db, int64_t drain_ms);

/* What is known of one server. */
typedef struct pqr_node_health {
    char node[32];        /* "shard1/replica2": by its variable, whatever its role is now */
    char address[128];    /* host:port/database */
    int32_t shard;        /* -1: the control database */
    int32_t state;        /* a pqr_node_state */
    int32_t role;         /* a pqr_role */
    uint32_t timeline;    /* 0: not known */
    int64_t latency_us;   /* of the last probe; -1: none answered yet */
    int64_t lag_bytes;    /* behind the primary; 0 for a primary; -1: not known */
    int64_t lag_ms;       /* how long ago the primary was where this replica is; -1: not known */
    int64_t seen_ms;      /* how long ago it answered last; -1: never */
    int32_t serves_reads; /* 1: a read may go there now */
    int32_t conns_used;   /* connections: in a call or transaction, opening or closing */
    int32_t conns_idle;
    int32_t conns_waiting; /* calls that wait for one */
    int32_t conns_limit;   /* DB_CONNECTION_LIMIT */
    int32_t condition;     /* a pqr_node_condition: what is wrong with it */
    uint64_t calls;        /* segments answered by this server since the router opened */
    char why[160];         /* why it serves no reads, or what its last failure was; "": fine */
    int64_t silent_ms;     /* for how long it has left calls unanswered; 0: it answers */
    uint64_t connects;     /* connections begun since the router opened */
    int32_t connects_most; /* of these, the most in one second */
    int32_t reserved1;
} pqr_node_health;

typedef enum pqr_node_state {
    PQR_NODE_UNKNOWN = 0, /* not looked at yet: its shard was not used */
    PQR_NODE_UP = 1,
    PQR_NODE_SUSPECT = 2, /* it did not answer once: no replica serves reads so */
    PQR_NODE_DOWN = 3
} pqr_node_state;

/* What is wrong with a server: what happened when it was asked last or, where it answers, what it
 * said. */
typedef enum pqr_node_condition {
    PQR_NODE_FINE = 0,
    PQR_NODE_REFUSED = 1,   /* nobody listens there, or its name is not known */
    PQR_NODE_SILENT = 2,    /* it accepts what it is sent, or nothing at all, and does not answer */
    PQR_NODE_SLOW = 3,      /* it took 250 ms or longer for a question that takes none */
    PQR_NODE_READ_ONLY = 4, /* a primary that takes no writes */
    PQR_NODE_STARTING = 5,  /* it is starting up, recovering, or shutting down */
    PQR_NODE_STRANGER = 6,  /* it belongs to another cluster: its system identifier differs */
    PQR_NODE_FENCED = 7,    /* it claims to be primary on an older timeline than was seen */
    PQR_NODE_FULL = 8,      /* max_connections, or the role's limit, is reached */
    PQR_NODE_NO_LOGIN = 9,  /* password, role, database, pg_hba.conf or TLS */
    PQR_NODE_BROKEN = 10    /* its connections are lost, or it answers what cannot be */
} pqr_node_condition;

typedef enum pqr_role { PQR_ROLE_UNKNOWN = 0, PQR_ROLE_PRIMARY = 1, PQR_ROLE_REPLICA = 2 } pqr_role;

/* Tells of every server, without asking any: writes up to `cap` entries of `each` bytes
 * (sizeof(pqr_node_health)) and returns how many servers there are, or USAGE, FORKED,
 * CLOSED.
 * `out` may be NULL with cap 0. Since 0.1. */
PQR_API int pqr_health(pqr *db, pqr_node_health *out, size_t cap, size_t each);

/* ---- Sessions ----------------------------------------------------------------------------- */

/* One unit of application work for one tenant, such as an HTTP request: its reads see its own
 * writes and never go back in time. Used by one thread at a time; costs nothing worth pooling. */
typedef struct pqr_session pqr_session;

/* As .tenant: the control database, for tables that belong to no tenant. */
PQR_API extern const char pqr_control_tenant[];
#define PQR_CONTROL pqr_control_tenant

typedef struct pqr_session_options {
    size_t size;
    const char *tenant;  /* whose; NULL only where there are no shards; or PQR_CONTROL */
    size_t tenant_len;   /* its bytes; 0: up to its NUL */
    int64_t deadline_ms; /* each call's default; 0: DB_SOCKET_TIMEOUT; below: USAGE */
    /* What was seen before, elsewhere: a token of pqr_session_token, or several with '.' between
     * them; "": nothing yet, but a token will be asked for; NULL: none will. What is damaged, or of
     * another tenant, fleet or key, is ignored, and counted (pqr_stats.tokens_ignored). */
    const char *token;
} pqr_session_options;
#define PQR_SESSION(...) \
    (&(const pqr_session_options){.size = sizeof(pqr_session_options), __VA_ARGS__})

/* Opens a session. No I/O. The tenant is copied. Where DB_TENANT_SETTING is set, servers are told it
 * ahead of each call. Errors: USAGE (also a tenant that is not plain UTF-8 text then), NOMEM,
 * FORKED, CLOSED. Since 0.1. */
PQR_API int pqr_session_open(pqr *db, const pqr_session_options *options, pqr_session **out,
                             pqr_error *err);

/* Bytes that a token needs at most, with its NUL. */
#define PQR_TOKEN_MAX 64

/* Writes what the session has seen and written as a short text of letters, digits, '-' and '_', for
 * a cookie, a header or a job. A session that is opened with it, in whatever process over the same
 * servers, reads nothing older; also after a failover. "": it has seen nothing yet. No I/O.
 * Where tokens are wanted open sessions with .token (""): then each call asks how far its server
 * is. Without, the next session may have to ask the primary once.
 * The session belongs to the caller's thread; with calls in flight, or a transaction open, the token
 * covers what they did too. Errors: USAGE (NULL, or `size` is too small: PQR_TOKEN_MAX fits),
 * NOMEM, FORKED. Since 0.1. */
PQR_API int pqr_session_token(pqr_session *s, char *buf, size_t size);

/* Ends a session; a transaction still open in it is rolled back, a connection still lent is
 * closed. Since 0.1. */
PQR_API void pqr_session_close(pqr_session *s);

/* ---- Statements --------------------------------------------------------------------------- */

/* Types of parameters, named by width. An array type is its element's + PQR_ARRAY. */
enum {
    PQR_TYPE_NULL = 0,
    PQR_TYPE_TEXT = 1,        /* untyped: the server decides, so jsonb, numeric, enums … work */
    PQR_TYPE_BYTES = 2,       /* bytea */
    PQR_TYPE_BOOL = 3,        /* boolean */
    PQR_TYPE_INT32 = 4,       /* integer */
    PQR_TYPE_INT64 = 5,       /* bigint */
    PQR_TYPE_FLOAT8 = 6,      /* double precision */
    PQR_TYPE_UUID = 7,        /* uuid */
    PQR_TYPE_TIMESTAMPTZ = 8, /* timestamptz, as microseconds since 1970-01-01 UTC */
    PQR_ARRAY = 64
};

/* Bytes with their length: an element of an array of bytea. ptr NULL: a NULL element. */
typedef struct pqr_bytes {
    const void *ptr;
    size_t len;
} pqr_bytes;

/* One parameter. What it points at must live until the call returns. A typed parameter carries
 * its type to the server: `where int4col = $1` given PQR_INT64 compares as bigint; cast in SQL
 * ($1::int) where the server finds no operator. */
typedef struct pqr_param {
    uint32_t type; /* PQR_TYPE_… [+ PQR_ARRAY] */
    uint32_t reserved;
    size_t len;           /* bytes of TEXT (with NUL not counted) and BYTES; elements of an array */
    const uint8_t *nulls; /* arrays of fixed width: 1 = this element is NULL; NULL: none is */
    union {
        const void *ptr; /* TEXT, BYTES, UUID (16 bytes), arrays (of the C type below) */
        int64_t i64;     /* BOOL, INT32, INT64, TIMESTAMPTZ */
        double f64;
    } v;
} pqr_param;

/* TEXT with len PQR_ZSTR ends at its NUL. A NULL pointer is SQL NULL, also for BYTES and UUID. */
#define PQR_ZSTR ((size_t)-1)
/* clang-format off */
#define PQR_NULL {.type = PQR_TYPE_NULL}
#define PQR_TEXT(s) {.type = PQR_TYPE_TEXT, .len = PQR_ZSTR, .v = {.ptr = (s)}}
#define PQR_TEXT_N(s, n) {.type = PQR_TYPE_TEXT, .len = (n), .v = {.ptr = (s)}}
#define PQR_BYTES(p, n) {.type = PQR_TYPE_BYTES, .len = (n), .v = {.ptr = (p)}}
#define PQR_BOOL(b) {.type = PQR_TYPE_BOOL, .v = {.i64 = (b) ? 1 : 0}}
#define PQR_INT32(i) {.type = PQR_TYPE_INT32, .v = {.i64 = (int32_t)(i)}}
#define PQR_INT64(i) {.type = PQR_TYPE_INT64, .v = {.i64 = (i)}}
#define PQR_FLOAT8(d) {.type = PQR_TYPE_FLOAT8, .v = {.f64 = (d)}}
#define PQR_UUID(p16) {.type = PQR_TYPE_UUID, .v = {.ptr = (p16)}}
#define PQR_TIMESTAMPTZ(us) {.type = PQR_TYPE_TIMESTAMPTZ, .v = {.i64 = (us)}}

/* Arrays of n elements: const char *const[] (untyped; a NULL pointer is a NULL element),
 * pqr_bytes[], bool[], int32_t[], int64_t[], double[], uint8_t[][16], int64_t[]. */
#define PQR_ARRAY_OF_(t, p, n) {.type = PQR_ARRAY + (t), .len = (n), .v = {.ptr = (p)}}
/* clang-format on */
#define PQR_TEXT_ARRAY(p, n) PQR_ARRAY_OF_(PQR_TYPE_TEXT, p, n)
#define PQR_BYTES_ARRAY(p, n) PQR_ARRAY_OF_(PQR_TYPE_BYTES, p, n)
#define PQR_BOOL_ARRAY(p, n) PQR_ARRAY_OF_(PQR_TYPE_BOOL, p, n)
#define PQR_INT32_ARRAY(p, n) PQR_ARRAY_OF_(PQR_TYPE_INT32, p, n)
#define PQR_INT64_ARRAY(p, n) PQR_ARRAY_OF_(PQR_TYPE_INT64, p, n)
#define PQR_FLOAT8_ARRAY(p, n) PQR_ARRAY_OF_(PQR_TYPE_FLOAT8, p, n)
#define PQR_UUID_ARRAY(p, n) PQR_ARRAY_OF_(PQR_TYPE_UUID, p, n)
#define PQR_TIMESTAMPTZ_ARRAY(p, n) PQR_ARRAY_OF_(PQR_TYPE_TIMESTAMPTZ, p, n)

/* Inside PQR_QUERY(…): the parameters $1, $2, … */
#define PQR_PARAMS(...)                         \
    .params = (const pqr_param[]){__VA_ARGS__}, \
    .nparams = sizeof((const pqr_param[]){__VA_ARGS__}) / sizeof(pqr_param)

/* How fresh a read must be. */
typedef enum pqr_level {
    PQR_LEVEL_SESSION = 0, /* not older than what the session wrote or saw */
    PQR_LEVEL_ANY = 1,     /* any replica within the lag limits, dealt round robin call by call; one
                              beyond them where too few are within (DB_MIN_REPLICAS), or where none is
                              and the primary has its share of reads (DB_FALLBACK_PERCENT) */
    PQR_LEVEL_PRIMARY = 2  /* the primary */
} pqr_level;

typedef struct pqr_query {
    size_t size;
    const char *name; /* labels the statement in logs and errors; NULL: none */
    const char *sql;  /* one statement, parameters as $1, $2, … */
    const pqr_param *params;
    size_t nparams;
    int32_t level;         /* pqr_read, read-only transactions: a pqr_level */
    int32_t binary_result; /* 1: values come in PostgreSQL's binary form */
    int32_t alone;         /* pqr_write: 1 = it commits by itself, in parts or early (VACUUM, CREATE
                              INDEX CONCURRENTLY): unless refused, a failure is UNKNOWN, and it is
                              never run again. CALL and DO are taken so by themselves */
    int32_t no_id;       /* pqr_write: 1 = its transaction's id is not asked for. A lost connection
                              then leaves it UNKNOWN where the id would have told (docs/outcomes.md) */
    int64_t deadline_ms; /* 0: the session's; below: USAGE */
    const char *idempotency_key; /* pqr_write: of all writes of its tenant with this key (1 to 200
                                    bytes) one happens, and the others are told its outcome: see
                                    pqr_outcome. NULL: none */
    int64_t max_lag_ms; /* pqr_read, of level any or session: not from a replica that may be further
                            behind than that; one below DB_HEALTH_INTERVAL goes to the primary. No
                            primary answers, so nobody knows: NO_PRIMARY. 0: no bound of its own;
                            below: USAGE */
} pqr_query;
#define PQR_QUERY(...) (&(const pqr_query){.size = sizeof(pqr_query), __VA_ARGS__})

/* The answer to a statement: immutable, reference counted, independent of session and router. */
typedef struct pqr_result pqr_result;

/* Runs a statement that only reads, on a replica that is healthy and fresh enough, else on the
 * primary; it runs read-only there, so a statement that writes fails with READ_ONLY on every
 * server. A read whose connection is lost is run again elsewhere, inside its deadline.
 * `res` may be NULL. Free the result with pqr_result_free.
 * Errors: USAGE, DEADLINE, POOL_TIMEOUT, POOL_FULL, CONNECT, AUTH, NO_PRIMARY, NO_REPLICA,
 * FALLBACK, WRONG_SHARD, READ_ONLY, SQL, LOST, NOMEM, FORKED, CLOSED. Since 0.1. */
PQR_API int pqr_read(pqr_session *s, const pqr_query *q, pqr_result **res, pqr_error *err);

/* Runs a statement on the shard's primary, in a transaction of its own, and returns when it is
 * committed. It is run again only while it provably has not run. If its connection is lost, the
 * server is asked what became of it; where it is committed, that is OK (see pqr_outcome).
 * Errors: as pqr_read, also UNSTAMPED; UNKNOWN: it was sent, no answer came, and nobody could tell
 * what became of it; ROWS_LOST: it is done, but the rows that it returned, and `res` wants, are lost.
 * With a key it needs the table that `pqrouter init` makes, and takes one round trip more.
 * Since 0.1. */
PQR_API int pqr_write(pqr_session *s, const pqr_query *q, pqr_result **res, pqr_error *err);

/* Runs `n` reads in one round trip on one server. All or nothing: on failure every res[i] is
 * NULL and err.index tells the first statement that failed. Level, bound and deadline are the first
 * query's. Errors: as pqr_read. Since 0.1. */
PQR_API int pqr_read_batch(pqr_session *s, const pqr_query *const *queries, size_t n,
                           pqr_result **res, pqr_error *err);

/* ---- Transactions ------------------------------------------------------------------------- */

/* A transaction: one connection, exclusively. Used by one thread at a time. */
typedef struct pqr_tx pqr_tx;

typedef enum pqr_isolation {
    PQR_READ_COMMITTED = 0,
    PQR_REPEATABLE_READ = 1,
    PQR_SERIALIZABLE = 2
} pqr_isolation;

typedef struct pqr_tx_options {
    size_t size;
    int32_t isolation;   /* a pqr_isolation */
    int32_t read_only;   /* 1: read only to its end, placed like a read of `level` */
    int32_t level;       /* a pqr_level */
    int32_t deferrable;  /* 1: serializable read-only transactions wait for a safe snapshot */
    int64_t deadline_ms; /* of pqr_begin, and each statement's default; 0: the session's */
    const char
        *idempotency_key; /* of all transactions of its tenant with this key one is committed;
                                    the others do not begin (DONE_BEFORE). NULL: none */
} pqr_tx_options;
#define PQR_TX(...) (&(const pqr_tx_options){.size = sizeof(pqr_tx_options), __VA_ARGS__})

/* Begins a transaction; options may be NULL. Ends with pqr_commit or pqr_rollback, exactly once.
 * Errors: as pqr_write; DONE_BEFORE: with its key, one is committed already. Since 0.1. */
PQR_API int pqr_begin(pqr_session *s, const pqr_tx_options *options, pqr_tx **out, pqr_error *err);

/* Runs a statement in the transaction. After a failure the transaction can only be rolled back;
 * further statements answer ROLLED_BACK. LOST: the connection went away, nothing of the
 * transaction happened. Since 0.1. */
PQR_API int pqr_exec(pqr_tx *tx, const pqr_query *q, pqr_result **res, pqr_error *err);

/* Commits and frees the transaction, whatever comes back. OK: committed. ROLLED_BACK and SQL
 * (a deferred constraint, a serialization failure): nothing of it happened. LOST: so the server says
 * after its answer was lost. UNKNOWN: that could not be found out, it may have happened. Since 0.1. */
PQR_API int pqr_commit(pqr_tx *tx, pqr_error *err);

/* Rolls back and frees the transaction. NULL is accepted. Cannot fail: a connection that does not
 * confirm is closed, and the server rolls back. Since 0.1. */
PQR_API void pqr_rollback(pqr_tx *tx);

/* Work of pqr_transact: returns PQR_OK to commit, anything else to roll back. It may be run
 * several times: it must leave nothing behind but what it does through `tx`. `err` is never NULL:
 * pass it to pqr_exec. Not to be ended inside. */
typedef int pqr_work_fn(pqr_tx *tx, void *arg, pqr_error *err);

/* Begins, runs `work`, commits; runs the whole again (DB_RETRY_MAX times, with backoff, inside the
 * deadline) when it failed with a serialization failure or deadlock (40001, 40P01), or was lost
 * before COMMIT; with a key also when COMMIT's answer was lost. The deadline is of the whole. Returns
 * what `work` or the commit returned; OK without having run `work`, if a transaction with its key is
 * committed already: then err->message says so. Since 0.1. */
PQR_API int pqr_transact(pqr_session *s, const pqr_tx_options *options, pqr_work_fn *work,
                         void *arg, pqr_error *err);

/* ---- A connection of one's own ------------------------------------------------------------ */

struct pg_conn;   /* libpq's PGconn */
struct pg_result; /* libpq's PGresult */

typedef enum pqr_lend_mode { PQR_LEND_READ = 0, PQR_LEND_WRITE = 1 } pqr_lend_mode;

/* Lends a connection on the right server for what the router does not do: COPY, LISTEN, cursors,
 * huge results. Blocking mode, idle, exclusive, counted in DB_CONNECTION_LIMIT; for READ its
 * sessions are read-only by default. Give it back; do not PQfinish it. Errors: as pqr_write; USAGE
 * behind a transaction pooler (DB_PGBOUNCER). Since 0.1. */
PQR_API int pqr_lend(pqr_session *s, int mode, struct pg_conn **out, pqr_error *err);

/* Takes a lent connection back and closes it: it is never pooled. NULL is accepted. Since 0.1. */
PQR_API void pqr_give_back(pqr_session *s, struct pg_conn *conn);

/* ---- Event loops -------------------------------------------------------------------------- */

/* The same calls for programs built around an event loop: submitted here, they end in a callback.
 * One pqr_loop per event-loop thread; it, its calls, and the sessions and transactions used with
 * it belong to that thread. Several loops and blocking threads may use one router at once.
 *
 *     wait for pqr_loop_fd(loop) to become readable, then pqr_loop_dispatch(loop, 0)
 *
 * <pqrouter/adapters/libuv.h>, …/libevent.h and …/glib.h do that on a loop that is there already. */
typedef struct pqr_loop pqr_loop;

/* Opens a loop on a router. Errors: USAGE, NOMEM (also: no descriptors), FORKED, CLOSED.
 * Since 0.1. */
PQR_API int pqr_loop_open(pqr *db, pqr_loop **out, pqr_error *err);

/* The descriptor to wait for: it is readable when there is something to dispatch, also when a
 * deadline has come. Good for poll, and for epoll level and edge triggered. It stays the same.
 * Since 0.1. */
PQR_API int pqr_loop_fd(const pqr_loop *loop);

/* Goes on with everything that can go on, and runs the callbacks that are due: at most `max` of
 * them (0: all); never waits. Returns how many ran, or USAGE (NULL, or called in a callback),
 * FORKED. What is left makes the descriptor readable again. Since 0.1. */
PQR_API int pqr_loop_dispatch(pqr_loop *loop, int max);

/* Cancels every call in flight (their callbacks run, in here; what they submit is CLOSED) and frees
 * the loop. Close loops before their router: pqr_close waits until they have dispatched what is in
 * flight. Not in a callback: there it does nothing. Since 0.1. */
PQR_API void pqr_loop_close(pqr_loop *loop);

/* A submitted call; gone when its callback begins. */
typedef struct pqr_call pqr_call;

/* How it ended. */
typedef struct pqr_done {
    size_t size;
    const pqr_error *err;     /* never NULL; err->code is PQR_OK after success */
    pqr_result *res;          /* read, write, exec: yours, to be freed; NULL after a failure */
    pqr_result *const *batch; /* read_batch: n results, each yours; NULL after a failure */
    size_t n;
    pqr_tx *tx;           /* begin: yours to end; NULL after a failure */
    struct pg_conn *conn; /* lend: yours to give back; NULL after a failure */
} pqr_done;

/* Called once for each call that was submitted, in pqr_loop_dispatch (or pqr_loop_close). It may
 * submit, cancel, open and close sessions; not close the loop or the router. */
typedef void pqr_done_fn(void *arg, const pqr_done *done);

/* Each submits a call and returns. What the arguments point at is copied. `call` may be NULL. On
 * failure (the same errors as the blocking form's that need no server: USAGE, NOMEM, FORKED, CLOSED)
 * no callback runs. Calls that are submitted together travel together.
 * A session that is closed with calls in flight ends with the last of them; what they would have
 * got of it, a transaction or a lent connection, comes as CANCELLED instead. Since 0.1. */
PQR_API int pqr_submit_read(pqr_loop *loop, pqr_session *s, const pqr_query *q, pqr_done_fn *done,
                            void *arg, pqr_call **call, pqr_error *err);
PQR_API int pqr_submit_write(pqr_loop *loop, pqr_session *s, const pqr_query *q, pqr_done_fn *done,
                             void *arg, pqr_call **call, pqr_error *err);
PQR_API int pqr_submit_read_batch(pqr_loop *loop, pqr_session *s, const pqr_query *const *queries,
                                  size_t n, pqr_done_fn *done, void *arg, pqr_call **call,
                                  pqr_error *err);

/* Transactions: one call at a time on each (else USAGE), but for a rollback: it cancels the one in
 * flight. Commit and rollback end it: it must not be used after they were submitted, unless that
 * failed with USAGE. */
PQR_API int pqr_submit_begin(pqr_loop *loop, pqr_session *s, const pqr_tx_options *options,
                             pqr_done_fn *done, void *arg, pqr_call **call, pqr_error *err);
PQR_API int pqr_submit_exec(pqr_loop *loop, pqr_tx *tx, const pqr_query *q, pqr_done_fn *done,
                            void *arg, pqr_call **call, pqr_error *err);
PQR_API int pqr_submit_commit(pqr_loop *loop, pqr_tx *tx, pqr_done_fn *done, void *arg,
                              pqr_call **call, pqr_error *err);
PQR_API int pqr_submit_rollback(pqr_loop *loop, pqr_tx *tx, pqr_done_fn *done, void *arg,
                                pqr_call **call, pqr_error *err);

/* Work of pqr_submit_transact: begins to do it, by calls submitted on `tx`, and returns; when it
 * is done, pqr_work_done(tx, …) commits or rolls back. Runs again as in pqr_transact. `done` comes
 * once, at the very end; CANCELLED: the loop was closed first. */
typedef void pqr_loop_work_fn(pqr_tx *tx, void *arg);
PQR_API int pqr_submit_transact(pqr_loop *loop, pqr_session *s, const pqr_tx_options *options,
                                pqr_loop_work_fn *work, pqr_done_fn *done, void *arg,
                                pqr_error *err);

/* The work on this transaction is done: `err` NULL or with code PQR_OK commits; anything else (the
 * error of a call that failed, say) rolls back and is what the transaction ends with, unless it is
 * run again. Exactly once for each run of the work. Since 0.1. */
PQR_API void pqr_work_done(pqr_tx *tx, const pqr_error *err);

PQR_API int pqr_submit_lend(pqr_loop *loop, pqr_session *s, int mode, pqr_done_fn *done, void *arg,
                            pqr_call **call, pqr_error *err);

/* As pqr_ready. */
PQR_API int pqr_submit_ready(pqr_loop *loop, int64_t timeout_ms, pqr_done_fn *done, void *arg,
                             pqr_error *err);

/* Ends a call early; its callback runs all the same, in a later dispatch: with CANCELLED, with
 * UNKNOWN if it is a write that was sent, or with its answer if that had come. A transaction whose
 * call is cancelled can only be rolled back. Since 0.1. */
PQR_API void pqr_cancel(pqr_call *call);

/* ---- Results ------------------------------------------------------------------------------ */

/* One more owner; returns `res`. Thread-safe. Since 0.1. */
PQR_API pqr_result *pqr_result_ref(pqr_result *res);

/* One owner less; the last one frees. Thread-safe. Since 0.1. */
PQR_API void pqr_result_free(pqr_result *res);

/* Where it came from: "shard1/replica2", "shard1/primary". Lives as long as the result. */
PQR_API const char *pqr_source(const pqr_result *res);

/* How a result is known. */
typedef enum pqr_outcome {
    PQR_OUTCOME_ANSWERED = 0, /* the server has answered */
    PQR_OUTCOME_RESOLVED = 1, /* a write's answer was lost, and the server says that its transaction
                                 is committed: pqr_affected is -1, with a key what it was */
    PQR_OUTCOME_REPEATED = 2 /* a write with this key was committed before, and nothing was run now:
                                 pqr_affected is that one's */
} pqr_outcome;

/* How it is known: a pqr_outcome. Since 0.1. */
PQR_API int pqr_known_by(const pqr_result *res);

/* Rows, columns, and rows that an INSERT, UPDATE, DELETE or MERGE touched (-1: not known, see
 * pqr_outcome). */
PQR_API size_t pqr_rows(const pqr_result *res);
PQR_API size_t pqr_columns(const pqr_result *res);
PQR_API int64_t pqr_affected(const pqr_result *res);

/* A column's name (NULL: no such column), and the first column of a name (-1: none). */
PQR_API const char *pqr_column_name(const pqr_result *res, size_t column);
PQR_API int pqr_column(const pqr_result *res, const char *name);

/* The plain getters. NULL, a wrong index, or a value that is not of the type give 0, 0.0, false,
 * "" (never a NULL pointer): pqr_is_null tells the first apart, the checked getters the rest.
 * pqr_text is the value as the server sent it, ended by NUL, pqr_length its bytes; both live as
 * long as the result. Results of .binary_result are read by all but pqr_text alike. */
PQR_API bool pqr_is_null(const pqr_result *res, size_t row, size_t column);
PQR_API const char *pqr_text(const pqr_result *res, size_t row, size_t column);
PQR_API size_t pqr_length(const pqr_result *res, size_t row, size_t column);
PQR_API int32_t pqr_int32(const pqr_result *res, size_t row, size_t column);
PQR_API int64_t pqr_int64(const pqr_result *res, size_t row, size_t column);
PQR_API double pqr_float8(const pqr_result *res, size_t row, size_t column);
PQR_API bool pqr_bool(const pqr_result *res, size_t row, size_t column);

/* The checked getters: TYPE for a wrong index, for NULL, and for a value that is not of the type
 * or does not fit. uuid: 16 bytes. timestamptz: microseconds since 1970-01-01 UTC (a text result
 * must carry its offset, as it does under DateStyle ISO; infinity is a TYPE error).
 * bytes: writes up to `cap` bytes, and the whole length to `len`. Since 0.1. */
PQR_API int pqr_get_int32(const pqr_result *res, size_t row, size_t column, int32_t *out,
                          pqr_error *err);
PQR_API int pqr_get_int64(const pqr_result *res, size_t row, size_t column, int64_t *out,
                          pqr_error *err);
PQR_API int pqr_get_float8(const pqr_result *res, size_t row, size_t column, double *out,
                           pqr_error *err);
PQR_API int pqr_get_bool(const pqr_result *res, size_t row, size_t column, bool *out,
                         pqr_error *err);
PQR_API int pqr_get_uuid(const pqr_result *res, size_t row, size_t column, uint8_t out[16],
                         pqr_error *err);
PQR_API int pqr_get_timestamptz(const pqr_result *res, size_t row, size_t column, int64_t *out,
                                pqr_error *err);
PQR_API int pqr_get_bytes(const pqr_result *res, size_t row, size_t column, void *buf, size_t cap,
                          size_t *len, pqr_error *err);

/* The libpq result underneath, for code that wants one. Owned by `res`; do not PQclear it. */
PQR_API const struct pg_result *pqr_result_pg(const pqr_result *res);

#ifdef __cplusplus
}
#endif

#endif
