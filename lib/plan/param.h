/* Parameters as libpq wants them: pqr_param[] in, the arrays of PQsendQueryParams out. What a
 * statement and its parameters may be at most is checked here, before libpq sees them. */
#ifndef PQI_PARAM_H
#define PQI_PARAM_H

#include <pqrouter/pqrouter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PQI_SQL_MAX (16 << 20)    /* bytes of a statement */
#define PQI_PARAM_MAX (256 << 20) /* bytes of a parameter, encoded */
#define PQI_PARAMS_MAX 65535      /* parameters of a statement: the protocol counts in 16 bits */

/* The arguments of PQsendQueryParams, in one allocation. values[i] NULL is SQL NULL; formats[i] is
 * 0 for text (ended by NUL), 1 for binary; lengths[i] counts without the NUL. */
struct pqi_params {
    int n;
    uint32_t *types; /* an OID; 0: the server decides */
    const char **values;
    int *lengths;
    int *formats;
};

/* Encodes `n` parameters; 0 of them give *out = NULL. `copy`: the result refers to nothing of the
 * caller's; otherwise TEXT and BYTES that can be sent as they are stay where they are.
 * An array without elements is an empty array, whatever its pointer; SQL NULL is PQR_NULL.
 * A TEXT array suits every array type but box[], whose literals are separated by ";".
 * Errors: USAGE ("$3: what is wrong and what to do"), NOMEM. Free with pqi_params_free. */
int pqi_params_bind(struct pqi_params **out, const pqr_param *params, size_t n, bool copy,
                    pqr_error *err);

/* How many bytes they are, about; NULL: 0. */
size_t pqi_params_bytes(const struct pqi_params *p);

/* NULL is accepted. */
void pqi_params_free(struct pqi_params *p);

/* USAGE for a statement that is NULL, blank or too long; PQR_OK otherwise. */
int pqi_sql_check(const char *sql, pqr_error *err);

#endif
