/* Checks that all public functions share: the caller's structs, and handles that must be there. */
#ifndef PQI_CHECK_H
#define PQI_CHECK_H

#include "../run/gate.h"

#include <pqrouter/pqrouter.h>

/* What most public functions are made of: checks and the gate, each of which may end the function
 * with its error, and then the work, left by `return pqi_leave(db, work(…))`. */
#define PQI_TRY(check)       \
    do {                     \
        int code_ = (check); \
        if (code_ != PQR_OK) \
            return code_;    \
    } while (0)

static inline int pqi_leave(struct pqr *db, int code)
{
    pqi_gate_out(db);
    return code;
}

/* Copies a caller's struct of `size` bytes (its first field) into ours of `own` bytes, so that old
 * and new headers work with this library. USAGE: size 0, or a newer header's field is set that
 * this library does not know. NULL counts as all defaults. */
int pqi_take_struct(void *out, size_t own, const void *given, const char *macro, pqr_error *err);

/* USAGE "…: NAME is NULL" unless `pointer` is one. */
int pqi_need(const void *pointer, const char *name, pqr_error *err);

/* Copies and checks a query; several (free the list with pqi_mem_free); a transaction's options. */
int pqi_take_query(pqr_query *own, const pqr_query *q, pqr_error *err);
int pqi_take_queries(const pqr_query ***out, const pqr_query *const *queries, size_t n,
                     pqr_error *err);
int pqi_check_deadline(int64_t deadline_ms, pqr_error *err);
int pqi_take_tx_options(pqr_tx_options *own, const pqr_tx_options *o, pqr_error *err);

#endif
