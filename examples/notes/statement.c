/* Statements that outlive the expression they were written in. */
#include "statement.h"

#include <assert.h>
#include <string.h>

const pqr_query *statement_keep(struct statement *st, const pqr_query *q)
{
    assert(q->nparams <= STATEMENT_PARAMS);
    st->query = *q;
    memcpy(st->params, q->params, q->nparams * sizeof *q->params);
    st->query.params = st->params;
    return &st->query;
}
