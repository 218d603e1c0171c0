/* A reference counted PGresult. libpq prints a notice for an index that is out of range, so every
 * index is checked here first. */
#include "result.h"

#include "../base/err.h"
#include "../base/mem.h"

#include <libpq-fe.h>
#include <stdatomic.h>
#include <string.h>

pqr_result *pqi_result_new(PGresult *pg, const char *source)
{
    pqr_result *res = pqi_mem_new(sizeof *res);
    if (!res) {
        PQclear(pg);
        return NULL;
    }
    atomic_init(&res->refs, 1);
    res->pg = pg;
    pqi_copy_text(res->source, sizeof res->source, source);
    return res;
}

pqr_result *pqi_result_known_by(int outcome, int64_t affected, const char *source)
{
    PGresult *pg = PQmakeEmptyPGresult(NULL, PGRES_COMMAND_OK);
    pqr_result *res = pg ? pqi_result_new(pg, source) : NULL;
    if (res) {
        res->outcome = outcome;
        res->affected = affected;
    }
    return res;
}

pqr_result *pqi_result_ref(pqr_result *res)
{
    if (res)
        atomic_fetch_add_explicit(&res->refs, 1, memory_order_relaxed);
    return res;
}

void pqi_result_unref(pqr_result *res)
{
    if (!res || atomic_fetch_sub_explicit(&res->refs, 1, memory_order_acq_rel) != 1)
        return;
    PQclear(res->pg);
    pqi_mem_free(res);
}

const char *pqi_result_tag(const pqr_result *res)
{
    const char *tag = res && res->pg ? PQcmdStatus(res->pg) : NULL;
    return tag ? tag : "";
}

/* PQcmdTuples tells of SELECT, FETCH and COPY as well. */
int64_t pqi_tag_affected(const char *tag)
{
    static const char *const changing[] = {"INSERT ", "UPDATE ", "DELETE ", "MERGE "};
    for (size_t i = 0; i < sizeof changing / sizeof *changing; i++) {
        if (strncmp(tag, changing[i], strlen(changing[i])) != 0)
            continue;
        const char *count = strrchr(tag, ' ') + 1, *why;
        int64_t rows = 0;
        pqi_value_int64(&(struct pqi_value){.bytes = count, .len = (int)strlen(count)}, &rows,
                        &why);
        return rows;
    }
    return 0;
}

int64_t pqi_result_affected(const pqr_result *res)
{
    if (res && res->outcome != PQR_OUTCOME_ANSWERED)
        return res->affected;
    return pqi_tag_affected(pqi_result_tag(res));
}

size_t pqi_result_rows(const pqr_result *res)
{
    return res ? (size_t)PQntuples(res->pg) : 0;
}

size_t pqi_result_columns(const pqr_result *res)
{
    return res ? (size_t)PQnfields(res->pg) : 0;
}

const char *pqi_result_column_name(const pqr_result *res, size_t column)
{
    return column < pqi_result_columns(res) ? PQfname(res->pg, (int)column) : NULL;
}

bool pqi_result_value(const pqr_result *res, size_t row, size_t column, struct pqi_value *out)
{
    if (row >= pqi_result_rows(res) || column >= pqi_result_columns(res))
        return false;
    const PGresult *pg = res->pg;
    int r = (int)row, c = (int)column;
    *out = (struct pqi_value){.bytes = PQgetvalue(pg, r, c),
                              .len = PQgetlength(pg, r, c),
                              .type = PQftype(pg, c),
                              .binary = PQfformat(pg, c) == 1,
                              .null = PQgetisnull(pg, r, c) == 1};
    return true;
}
