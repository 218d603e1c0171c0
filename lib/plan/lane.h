/* The queue of one pipelined connection: what was sent and is not answered yet, and whose each
 * answer is. Pure: the adapter to libpq (wire/pg.c) tells it what it sends and what comes back, in
 * order; it tells what to do with that. What could hand one tenant's rows to another is decided
 * here, and nowhere else.
 *
 * What libpq gives back, in pipeline mode, for each statement: one result, then NULL; for each
 * Sync: one result. After a failure, "skipped" for each statement up to the next Sync. Between the
 * last statement's NULL and the Sync one more error may come (a deferred constraint).
 * https://www.postgresql.org/docs/15/libpq-pipeline-mode.html */
#ifndef PQI_LANE_H
#define PQI_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One thing sent. The marks of a call stand together, its statements in order:
 *
 *   alone:   RUN RUN SYNC · RUN SYNC(last)      ends with its last Sync
 *   joined:  CLEAN RUN CLEAN CLEAN SYNC(last)   likewise; what cleans the session is nobody's
 *   shared:  RUN RUN(last) · RUN(last) · … SYNC  ends with its last result; the Sync is nobody's */
struct pqi_mark {
    enum pqi_mark_kind {
        PQI_MARK_PARSE, /* makes a prepared statement, for the RUN behind it */
        PQI_MARK_RUN,   /* a statement of the call */
        PQI_MARK_CLOSE, /* drops a prepared statement: nobody's */
        PQI_MARK_CLEAN, /* clears the session of what its last user left in it: nobody's */
        PQI_MARK_SYNC
    } kind;
    bool shared;
    bool last;       /* the call ends with this mark */
    int index;       /* which of the call's statements; of a SYNC: the last one before it */
    uint32_t name;   /* PARSE, RUN, CLOSE: the prepared statement's number; 0: none */
    void *call;      /* whose; NULL: nobody's, or nobody's any more */
    uint64_t id;     /* the call's number, which its owner compares */
    int64_t sent_ns; /* when, for who asks how long it has been running */
};

/* All zero is an empty queue. */
struct pqi_queue {
    struct pqi_mark *ring;
    uint32_t cap, head, count; /* cap is a power of two, or 0 */

    bool answered;       /* the head statement's result has come; its NULL is due */
    bool failed;         /* a statement of the head's call has failed */
    bool skipped;        /* one was skipped, or could not run for want of its Parse */
    bool segment_failed; /* the server skips up to the next Sync */
    bool has_before;
    struct pqi_mark before; /* the RUN before the head, in the same segment */

    uint64_t syncs_sent, syncs_received;
};

/* Makes room for `n` more marks, so that pushing them cannot fail. false: no memory. */
bool pqi_queue_reserve(struct pqi_queue *q, uint32_t n);
void pqi_queue_free(struct pqi_queue *q);

/* It was given to libpq. The room must have been reserved. */
void pqi_queue_push(struct pqi_queue *q, const struct pqi_mark *mark);

/* What came back. */
enum pqi_event {
    PQI_EVENT_RESULT,  /* rows, or "done" */
    PQI_EVENT_ERROR,   /* the server refuses the statement */
    PQI_EVENT_STALE,   /* it refuses our prepared statement: gone (26000), or its plan is (0A000) */
    PQI_EVENT_SKIPPED, /* an earlier statement of the segment had failed */
    PQI_EVENT_NULL,    /* the statement's results have ended */
    PQI_EVENT_SYNC
};

/* What to do about it. */
struct pqi_turn {
    const char *broken; /* not NULL: the count is off. Close the connection, hand out nothing */
    enum pqi_take {
        PQI_TAKE_NOTHING,
        PQI_TAKE_ANSWER, /* the result is the answer of mark.call's statement mark.index */
        PQI_TAKE_SKIPPED /* that statement did not run */
    } take;
    enum pqi_end {
        PQI_END_NONE,
        PQI_END_DONE, /* mark.call is answered, whole */
        PQI_END_AGAIN /* a statement of mark.call did not run, through no fault of the call's:
                         those before it count for nothing. Send all of it again. Only where the
                         Sync is shared */
    } end;
    bool synced; /* a segment has ended; `clean`: no statement of it failed */
    bool clean;
    struct pqi_mark mark; /* whom it is about; mark.call NULL: nobody wants it any more */
};

/* Takes the next event. Never more than one completion for a call, never one for another. */
struct pqi_turn pqi_queue_take(struct pqi_queue *q, enum pqi_event event);

/* Nobody waits for `call` any more: what comes for it is dropped. */
void pqi_queue_abandon(struct pqi_queue *q, const void *call);

/* The connection is lost: the next call that was not answered, each once; NULL: that was all. */
void *pqi_queue_lost(struct pqi_queue *q);

static inline bool pqi_queue_empty(const struct pqi_queue *q)
{
    return q->count == 0;
}

/* The mark whose answer is due; NULL: none. */
const struct pqi_mark *pqi_queue_head(const struct pqi_queue *q);

/* Is anything of this call still in the queue? */
bool pqi_queue_holds(const struct pqi_queue *q, const void *call);

#endif
