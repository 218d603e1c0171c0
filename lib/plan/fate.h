/* What a failure means: did the statement happen, may the connection live, may we run it again?
 * Implements docs/outcomes.md row by row. */
#ifndef PQI_FATE_H
#define PQI_FATE_H

#include <pqrouter/pqrouter.h>
#include <stdbool.h>

enum pqi_severity { PQI_SEV_NONE, PQI_SEV_ERROR, PQI_SEV_FATAL, PQI_SEV_PANIC };

/* How a segment failed. */
struct pqi_failure {
    const char *sqlstate;       /* "": none came (end of file, reset, silence) */
    enum pqi_severity severity; /* of that error */
    bool given;  /* its Sync (for a statement alone: its first byte) was given to libpq */
    bool warned; /* a WARNING 57P01 or 57P02 came before: the server's state is in doubt */
    bool pooler; /* one is in between, which may say of itself what looks like the server's word */
    bool waited; /* … and it said that no server had been given to this yet */
    bool moved;  /* another server than was known is behind it, and what was sent ahead has seen to
                    it that nothing ran there */
    bool inside; /* the error arose in a function or procedure that was at work */
    bool timed_out; /* our own deadline passed while we waited */
    bool early; /* COMMIT: it takes effect before its Sync, so the server's end proves nothing */
    bool stale; /* our prepared statement was gone or outdated: the connection will parse it anew */
    bool partial; /* a statement alone: parts of it may stay also when it failed */
};

enum pqi_class {
    PQI_NOT_RUN,  /* not executed, or rolled back */
    PQI_MAYBE,    /* unknown */
    PQI_PERMANENT /* refused: the same statement would fail again */
};

enum pqi_again {
    PQI_RETURN,    /* tell the caller */
    PQI_ELSEWHERE, /* run again now, on another node or connection */
    PQI_BACKOFF    /* run again after a pause */
};

struct pqi_fate {
    enum pqi_class class_;
    bool keep;            /* the connection may live (once it is idle) */
    enum pqi_again read;  /* a unit that only reads */
    enum pqi_again write; /* a write without an idempotency key */
};

struct pqi_fate pqi_fate(const struct pqi_failure *f);

/* The public words for it. */
int pqi_fate_code(const struct pqi_failure *f, const struct pqi_fate *fate, bool write);
pqr_retry pqi_fate_retry(const struct pqi_fate *fate, bool write);

/* Of a statement that was undone because what cleans its session, behind it in its segment, failed with
 * this SQLSTATE, and did so again in another session. */
pqr_retry pqi_undone_retry(const char *sqlstate);

#endif
