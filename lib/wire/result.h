/* A result as callers hold it: a reference counted PGresult and where it came from. Immutable, so
 * any thread may read it. Getters for callers are in api/result.c. */
#ifndef PQI_RESULT_H
#define PQI_RESULT_H

#include "../plan/value.h"

#include <pqrouter/pqrouter.h>

struct pg_result;

struct pqr_result {
    _Atomic unsigned refs;
    struct pg_result *pg; /* without an answer: an empty one */
    int outcome;          /* a pqr_outcome */
    int64_t affected;     /* where it is not in `pg`; -1: not known */
    char source[32];
};

/* Takes `pg` over; the source ("shard1/primary") is copied. One reference, the caller's. NULL:
 * out of memory, and then `pg` is cleared. */
pqr_result *pqi_result_new(struct pg_result *pg, const char *source);

/* One without an answer. NULL: out of memory. */
pqr_result *pqi_result_known_by(int outcome, int64_t affected, const char *source);

/* The rows that INSERT, UPDATE, DELETE or MERGE touched, by its command tag; of another one 0. */
int64_t pqi_tag_affected(const char *tag);

/* One reference more, one less. NULL is accepted. */
pqr_result *pqi_result_ref(pqr_result *res);
void pqi_result_unref(pqr_result *res);

/* The command tag, such as "INSERT 0 1"; "" if there is none. Lives as long as the result. */
const char *pqi_result_tag(const pqr_result *res);

/* Rows touched by INSERT, UPDATE, DELETE or MERGE; 0 for everything else; -1: not known. */
int64_t pqi_result_affected(const pqr_result *res);

size_t pqi_result_rows(const pqr_result *res);
size_t pqi_result_columns(const pqr_result *res);

/* NULL: there is no such column. */
const char *pqi_result_column_name(const pqr_result *res, size_t column);

/* The value at a place. False: there is no such place (or no result). */
bool pqi_result_value(const pqr_result *res, size_t row, size_t column, struct pqi_value *out);

#endif
