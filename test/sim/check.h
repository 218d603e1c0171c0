/* What must hold, looked at whenever something happens that could break it. */
#ifndef SIM_CHECK_H
#define SIM_CHECK_H

#include "cluster.h"

#include <pqrouter/pqrouter.h>
#include <stdbool.h>
#include <stdint.h>

enum sim_outcome { SIM_PENDING, SIM_OK, SIM_FAILED, SIM_UNKNOWN };

/* What one session has seen: uids, in no order. */
struct sim_view {
    int *uids;
    int n, cap;
};

struct sim_counts {
    uint64_t reads, writes, ok, failed, unknown, unserved;
    uint64_t lost;      /* acknowledged, and gone with an asynchronous failover */
    uint64_t long_fork; /* a standby showed what the primary hid */
    uint64_t happened;  /* unknown ones that did */
    uint64_t failovers, accidents, faults;
};
extern struct sim_counts sim_count;

void sim_check_begin(void);
void sim_check_over(void);
/* When all is calm and nothing is under way. */
void sim_check_finally(void);

/* A write begins that appends to a key: its number. `begun` is when its unit of work did. */
int sim_check_write(int tenant, int key, int64_t begun);
/* It runs at a server; it is in the log. */
void sim_check_ran(struct sim_server *s, int uid);
void sim_check_commit(struct sim_server *s, struct sim_rec *rec);
/* It ended: what the caller was told. The outcome of an error: */
enum sim_outcome sim_outcome_of(const pqr_error *err);
void sim_check_wrote(int uid, enum sim_outcome outcome, const pqr_error *err,
                     struct sim_view *view);

/* The session is not owed this one: it was rolled back. */
void sim_view_forget(struct sim_view *view, int uid);

/* A read's row: whose it is, what it shows; `view` is what the session is owed (NULL: nothing), and
 * gets what was shown. `begun`: at the primary, all that was acknowledged before must be there (0:
 * not at the primary). */
void sim_check_read(int tenant, int key, const pqr_result *res, struct sim_view *view,
                    int64_t begun);

/* A call ended: in time? */
void sim_check_time(const char *what, int64_t begun, int64_t deadline_ms, const pqr_error *err);

#endif
