/* The SQL of writes that happen once. */
#include "once.h"

#include "../base/bytes.h"
#include "../base/err.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

/* The wait for another one's transaction is bounded by lock_timeout, and only that: what it was before
 * is put back before the statement ends, and what stands behind runs as ever. The source is one row, so
 * all is evaluated once and in this order: set, insert (where it waits), put back. */
#define CLAIM(columns, values)                                                             \
    "insert into pqrouter.outcome (tenant, key" columns ") select $1, $2" values           \
    " from (select pg_catalog.set_config('pqrouter.lock_timeout',"                         \
    " pg_catalog.current_setting('lock_timeout'), true) a,"                                \
    " pg_catalog.set_config('lock_timeout', $3::pg_catalog.int8::pg_catalog.text, true) b" \
    " offset 0) s where s.b is not null"                                                   \
    " returning pg_catalog.set_config('lock_timeout',"                                     \
    " pg_catalog.current_setting('pqrouter.lock_timeout'), true)"
const char pqi_once_claim_sql[] = CLAIM("", "");
const char pqi_once_claim_tagged_sql[] = CLAIM(", tag", ", $4::pg_catalog.text");

const char pqi_once_record_sql[] = "update pqrouter.outcome set tag = $3"
                                   " where tenant operator(pg_catalog.=) $1"
                                   " and key operator(pg_catalog.=) $2";
const char pqi_once_read_sql[] = "select tag from pqrouter.outcome"
                                 " where tenant operator(pg_catalog.=) $1"
                                 " and key operator(pg_catalog.=) $2";

static bool names(const PGresult *r, int field, const char *what)
{
    const char *name = PQresultErrorField(r, field);
    return name && strcmp(name, what) == 0;
}

bool pqi_once_taken(const struct pqi_answer *claim)
{
    return claim->state == PQI_ANSWER_ERROR && strcmp(pqi_answer_sqlstate(claim), "23505") == 0 &&
           names(claim->pg, PG_DIAG_SCHEMA_NAME, "pqrouter") &&
           names(claim->pg, PG_DIAG_TABLE_NAME, "outcome");
}

const char *pqi_once_unusable(const struct pqi_answer *claim)
{
    const char *state = claim->state == PQI_ANSWER_ERROR ? pqi_answer_sqlstate(claim) : "";
    if (strcmp(state, "42P01") == 0 || strcmp(state, "3F000") == 0)
        return "; a key is kept in pqrouter.outcome: run pqrouter init, which makes it";
    if (strcmp(state, "42501") == 0)
        return "; grant select, insert, update on pqrouter.outcome to the application's role";
    return NULL;
}

bool pqi_once_read(const struct pqi_answer *a, char *tag, size_t size)
{
    if (a->state != PQI_ANSWER_OK || PQntuples(a->pg) != 1 || PQnfields(a->pg) != 1)
        return false;
    pqi_copy_text(tag, size, PQgetvalue(a->pg, 0, 0));
    return true;
}
