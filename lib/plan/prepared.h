/* The prepared statements of one connection: which text with which parameter types has which
 * number there, and which goes when there are too many (the one used longest ago). Pure: what is
 * parsed and closed at the server is the caller's work.
 *
 * Types are part of the key: a float8 bound to a statement that was prepared for an int8 gives a
 * wrong number and no error. */
#ifndef PQI_PREPARED_H
#define PQI_PREPARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pqi_prepared_one;

/* All zero with `limit` set is an empty one. */
struct pqi_prepared {
    int limit; /* statements at most, beside those that are kept; 0: none is ever prepared */
    struct pqi_prepared_one *ones;
    int n, cap;
    int nkept;    /* of them: never evicted, and not counted */
    int *buckets; /* heads of chains, by hash; -1: empty */
    int nbuckets; /* a power of two */
    int newest, oldest;
    uint32_t names; /* given so far: a number is never given twice */
};

/* What a statement's text and types are found by. Equal ones have equal hashes. */
uint64_t pqi_prepared_hash(const char *sql, const uint32_t *types, int ntypes);

struct pqi_prepared_use {
    uint32_t name;    /* its number; 0: do not prepare it (none allowed, no memory, or no number) */
    uint32_t evicted; /* to be closed at the server; 0: none */
    bool parse;       /* it is new: to be parsed first */
};
struct pqi_prepared_use pqi_prepared_use(struct pqi_prepared *p, uint64_t hash, const char *sql,
                                         const uint32_t *types, int ntypes);

/* The router's own ones, a few: they stay, and take no place of the callers'. */
struct pqi_prepared_use pqi_prepared_keep(struct pqi_prepared *p, uint64_t hash, const char *sql,
                                          const uint32_t *types, int ntypes);

/* It is not (any more) at the server: its next use parses it anew, under a new number. */
void pqi_prepared_forget(struct pqi_prepared *p, uint32_t name);

void pqi_prepared_free(struct pqi_prepared *p);

#endif
