/* Reads, writes and batches of a session: what is sent around the caller's statements. */
#ifndef PQI_STATEMENT_H
#define PQI_STATEMENT_H

#include "op.h"
#include "session.h"

int pqi_read_start(struct pqi_op *op, struct pqr_session *s, const pqr_query *const *q, size_t n,
                   const struct pqi_how *how, pqr_error *err);
int pqi_write_start(struct pqi_op *op, struct pqr_session *s, const pqr_query *q,
                    const struct pqi_how *how, pqr_error *err);

/* Of either: res (may be NULL) gets as many results as there were queries. `err` is written if it
 * fails. */
int pqi_statement_end(struct pqi_op *op, pqr_result **res, pqr_error *err);

/* In this thread. */
int pqi_read(struct pqr_session *s, const pqr_query *const *q, size_t n, pqr_result **res,
             pqr_error *err);
int pqi_write(struct pqr_session *s, const pqr_query *q, pqr_result **res, pqr_error *err);

#endif
