/* Writes and transactions with a key: however often they are asked for, they happen once. */
#ifndef PQI_RUN_ONCE_H
#define PQI_RUN_ONCE_H

#include "op.h"

#define PQI_KEY_BYTES_MAX 200

/* USAGE unless it can be one. */
int pqi_key_check(const char *key, pqr_error *err);

/* Around a write's statement, which stands at stmts[first]: the claim of its key at stmts[0], and
 * behind it what is told of it, which is held back until that is known. */
int pqi_once_write(struct pqi_op *op, const char *key, pqr_error *err);

/* Behind BEGIN, at stmts[1]: the claim of its key, told of as committed: it is so if anything is. */
int pqi_once_begin(struct pqi_op *op, const char *key, pqr_error *err);

/* Has it been found done? What was told of it ("INSERT 0 1"), and a pqr_outcome; NULL: it has not. */
const char *pqi_once_done(const struct pqi_call *c, int *outcome);

#endif
