/* The prepared statements of one connection. */
#include "prepared.h"

#include "../base/mem.h"

#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define NONE (-1)

struct pqi_prepared_one {
    uint32_t name; /* 0: free */
    bool kept;     /* not among those by use */
    uint64_t hash;
    char *sql;
    uint32_t *types;
    int ntypes;
    int chain;        /* the next of its bucket */
    int newer, older; /* by use */
};

uint64_t pqi_prepared_hash(const char *sql, const uint32_t *types, int ntypes)
{
    uint64_t hash = XXH3_64bits(sql, strlen(sql));
    return ntypes > 0 ? XXH3_64bits_withSeed(types, (size_t)ntypes * sizeof *types, hash) : hash;
}

/* ---- By hash -------------------------------------------------------------------------------- */

static int *bucket_of(struct pqi_prepared *p, uint64_t hash)
{
    return &p->buckets[hash & (uint64_t)(p->nbuckets - 1)];
}

static bool is(const struct pqi_prepared_one *one, uint64_t hash, const char *sql,
               const uint32_t *types, int ntypes)
{
    return one->hash == hash && one->ntypes == ntypes && strcmp(one->sql, sql) == 0 &&
           (ntypes == 0 || memcmp(one->types, types, (size_t)ntypes * sizeof *types) == 0);
}

static int find(struct pqi_prepared *p, uint64_t hash, const char *sql, const uint32_t *types,
                int ntypes)
{
    int i = p->nbuckets > 0 ? *bucket_of(p, hash) : NONE;
    while (i != NONE && !is(&p->ones[i], hash, sql, types, ntypes))
        i = p->ones[i].chain;
    return i;
}

static void unchain(struct pqi_prepared *p, int i)
{
    int *at = bucket_of(p, p->ones[i].hash);
    while (*at != i)
        at = &p->ones[*at].chain;
    *at = p->ones[i].chain;
}

/* ---- By use --------------------------------------------------------------------------------- */

static void unlink_use(struct pqi_prepared *p, int i)
{
    struct pqi_prepared_one *one = &p->ones[i];
    *(one->newer == NONE ? &p->newest : &p->ones[one->newer].older) = one->older;
    *(one->older == NONE ? &p->oldest : &p->ones[one->older].newer) = one->newer;
}

static void make_newest(struct pqi_prepared *p, int i)
{
    p->ones[i].newer = NONE;
    p->ones[i].older = p->newest;
    *(p->newest == NONE ? &p->oldest : &p->ones[p->newest].newer) = i;
    p->newest = i;
}

/* ---- Room ----------------------------------------------------------------------------------- */

static bool make_buckets(struct pqi_prepared *p)
{
    int n = 16;
    while (n < p->limit)
        n *= 2;
    p->buckets = pqi_mem_array((size_t)n, sizeof *p->buckets);
    if (!p->buckets)
        return false;
    for (int i = 0; i < n; i++)
        p->buckets[i] = NONE;
    p->nbuckets = n;
    p->newest = p->oldest = NONE;
    return true;
}

static bool grow(struct pqi_prepared *p)
{
    int cap = p->cap ? p->cap * 2 : 16;
    if (cap > p->limit + p->nkept + 1)
        cap = p->limit + p->nkept + 1;
    struct pqi_prepared_one *ones = pqi_mem_resize(p->ones, (size_t)cap, sizeof *ones);
    if (!ones)
        return false;
    memset(ones + p->cap, 0, (size_t)(cap - p->cap) * sizeof *ones);
    p->ones = ones;
    p->cap = cap;
    return true;
}

static void empty(struct pqi_prepared *p, int i)
{
    unchain(p, i);
    if (!p->ones[i].kept)
        unlink_use(p, i);
    p->nkept -= p->ones[i].kept;
    pqi_mem_free(p->ones[i].sql);
    pqi_mem_free(p->ones[i].types);
    p->ones[i] = (struct pqi_prepared_one){0};
    p->n--;
}

/* A free place; NONE: no memory, or no number left. The oldest goes if there is none, but for one
 * that is to be kept. */
static int place(struct pqi_prepared *p, bool kept, uint32_t *evicted)
{
    if (p->names == UINT32_MAX)
        return NONE;
    if (p->nbuckets == 0 && !make_buckets(p))
        return NONE;
    if (!kept && p->n - p->nkept == p->limit) {
        int i = p->oldest;
        *evicted = p->ones[i].name;
        empty(p, i);
        return i;
    }
    if (p->n == p->cap && !grow(p))
        return NONE;
    int i = 0;
    while (p->ones[i].name != 0)
        i++;
    return i;
}

/* ---- Use ------------------------------------------------------------------------------------ */

static bool fill(struct pqi_prepared_one *one, uint64_t hash, const char *sql,
                 const uint32_t *types, int ntypes)
{
    *one = (struct pqi_prepared_one){.hash = hash, .ntypes = ntypes, .sql = pqi_mem_text(sql)};
    if (ntypes > 0)
        one->types = (uint32_t *)(void *)pqi_mem_bytes(types, (size_t)ntypes * sizeof *types);
    if (one->sql && (ntypes == 0 || one->types))
        return true;
    pqi_mem_free(one->sql);
    pqi_mem_free(one->types);
    *one = (struct pqi_prepared_one){0};
    return false;
}

static struct pqi_prepared_use look_up(struct pqi_prepared *p, bool kept, uint64_t hash,
                                       const char *sql, const uint32_t *types, int ntypes)
{
    struct pqi_prepared_use use = {0};
    if (p->limit <= 0)
        return use;
    int i = find(p, hash, sql, types, ntypes);
    if (i != NONE) {
        if (!p->ones[i].kept) {
            unlink_use(p, i);
            make_newest(p, i);
        }
        use.name = p->ones[i].name;
        return use;
    }
    i = place(p, kept, &use.evicted);
    if (i == NONE || !fill(&p->ones[i], hash, sql, types, ntypes))
        return use;
    p->ones[i].name = use.name = ++p->names;
    p->ones[i].chain = *bucket_of(p, hash);
    *bucket_of(p, hash) = i;
    p->ones[i].kept = kept;
    if (kept)
        p->nkept++;
    else
        make_newest(p, i);
    p->n++;
    use.parse = true;
    return use;
}

struct pqi_prepared_use pqi_prepared_use(struct pqi_prepared *p, uint64_t hash, const char *sql,
                                         const uint32_t *types, int ntypes)
{
    return look_up(p, false, hash, sql, types, ntypes);
}

struct pqi_prepared_use pqi_prepared_keep(struct pqi_prepared *p, uint64_t hash, const char *sql,
                                          const uint32_t *types, int ntypes)
{
    return look_up(p, true, hash, sql, types, ntypes);
}

void pqi_prepared_forget(struct pqi_prepared *p, uint32_t name)
{
    for (int i = 0; name != 0 && i < p->cap; i++)
        if (p->ones[i].name == name)
            empty(p, i);
}

void pqi_prepared_free(struct pqi_prepared *p)
{
    for (int i = 0; i < p->cap; i++) {
        pqi_mem_free(p->ones[i].sql);
        pqi_mem_free(p->ones[i].types);
    }
    pqi_mem_free(p->ones);
    pqi_mem_free(p->buckets);
    *p = (struct pqi_prepared){.limit = p->limit};
}
