/* Lending a connection, exclusively, to the application. */
#ifndef PQI_LEND_H
#define PQI_LEND_H

#include "op.h"
#include "session.h"

struct pg_conn;

/* Can a connection be lent, in this mode? Else why not. */
int pqi_lend_check(const struct pqr *db, int mode, pqr_error *err);
int pqi_lend_start(struct pqi_op *op, struct pqr_session *s, int mode, const struct pqi_how *how);
int pqi_lend_end(struct pqi_op *op, struct pg_conn **out, pqr_error *err);
int pqi_lend(struct pqr_session *s, int mode, struct pg_conn **out, pqr_error *err);

/* Closes a lent connection; NULL: all of the session's. */
void pqi_lend_back(struct pqr_session *s, struct pg_conn *pg);

#endif
