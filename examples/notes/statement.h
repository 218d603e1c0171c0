/* A statement with its parameters, as the repositories write them: it is run by pqr_read or
 * pqr_write, or submitted to an event loop. */
#ifndef NOTES_STATEMENT_H
#define NOTES_STATEMENT_H

#include <pqrouter/pqrouter.h>

enum { STATEMENT_PARAMS = 6 };

/* What its parameters point at is the caller's, and must live until it was run or submitted. */
struct statement {
    pqr_query query;
    pqr_param params[STATEMENT_PARAMS];
};

/* Keeps a copy of `q` and its parameters (at most STATEMENT_PARAMS); returns the query in `st`. */
const pqr_query *statement_keep(struct statement *st, const pqr_query *q);

#endif
