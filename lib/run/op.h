/* A public call on its way: its arguments as statements, the machine that gets them answered, and
 * what becomes of the answers. Each is started, driven to its end (by the thread that waits, or by
 * a loop), and ended: NAME_start, pqi_call_run or pqi_loop_submit, NAME_end. A start that fails
 * has cleaned up behind itself. */
#ifndef PQI_OP_H
#define PQI_OP_H

#include "../plan/guard.h"
#include "call.h"

/* How it is to be made. */
struct pqi_how {
    struct pqi_group *group; /* whose lanes it may share */
    bool copy;               /* keep nothing of the caller's: it will be gone when this is driven */
};

struct pqi_op {
    struct pqi_call call;
    enum pqi_place place;
    struct pqi_stmt few[6], *stmts;
    int first_bound, nbound; /* those with parameters, and perhaps texts, of their own */
    bool copies;
    char *name;

    struct pqr_tx *tx; /* exec, commit, rollback; begin: the one to be filled */
    pqr_tx_options tx_options;
    bool taints;
    int lend_mode;
};

/* Room for `n` statements; `name` labels them. false: no memory. */
bool pqi_op_init(struct pqi_op *op, struct pqr_session *s, int64_t deadline_ms, int n,
                 const char *name, const struct pqi_how *how);

/* Binds stmts[i] to a caller's query, after the guard has seen it. The bound ones stand together. */
int pqi_op_bind(struct pqi_op *op, int i, const pqr_query *q, enum pqi_place place, pqr_error *err);

/* Takes the result of stmts[i]. */
int pqi_op_result(struct pqi_op *op, int i, pqr_result **out, pqr_error *err);

/* There is no memory for a result. */
int pqi_op_no_result(struct pqi_op *op, pqr_error *err);

/* Gives back and frees all but the op itself. */
void pqi_op_free(struct pqi_op *op);

#endif
