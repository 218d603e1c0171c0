/* Reads, writes and batches of a session: what is sent around the caller's statements. */
#ifndef PQI_STATEMENT_H
#define PQI_STATEMENT_H

#include "session.h"

int pqi_read(struct pqr_session *s, const pqr_query *const *q, size_t n, pqr_result **res,
             pqr_error *err);
int pqi_write(struct pqr_session *s, const pqr_query *q, pqr_result **res, pqr_error *err);

#endif
