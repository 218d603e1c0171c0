/* The SQL of writes that happen once: a row of pqrouter.outcome, written in the write's own
 * transaction, says that it has happened. https://www.postgresql.org/docs/15/index-unique-checks.html:
 * who inserts a key that another transaction is inserting waits for that one's end. */
#ifndef PQI_ONCE_H
#define PQI_ONCE_H

#include "pg.h"

/* Claims a key: (tenant bytea, key text, how long to wait for another one's transaction, in ms). It
 * fails with 23505 (pqi_once_taken) if it was claimed before, and committed. */
extern const char pqi_once_claim_sql[];
/* The same with what is told of it: (…, tag text). */
extern const char pqi_once_claim_tagged_sql[];
/* What is told of it: (tenant, key, tag). In the claim's own transaction. */
extern const char pqi_once_record_sql[];
/* Reads that: (tenant, key). */
extern const char pqi_once_read_sql[];

bool pqi_once_taken(const struct pqi_answer *claim);
/* Is the table missing, or not ours to write? NULL: neither; else what to do. */
const char *pqi_once_unusable(const struct pqi_answer *claim);
/* false: there is no such key. */
bool pqi_once_read(const struct pqi_answer *a, char *tag, size_t size);

#endif
