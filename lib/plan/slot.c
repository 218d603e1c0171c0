/* tenant -> slot -> shard. */
#include "slot.h"

#include "../base/bytes.h"
#include "../base/err.h"
#include "../base/mem.h"

#include <stdlib.h>
#include <string.h>

/* All of XXH3 inside this file: no symbol of another library leaves ours, and none is needed. */
#define XXH_INLINE_ALL
#include <xxhash.h>

unsigned pqi_slot(const void *tenant, size_t len)
{
    return (unsigned)(XXH3_64bits(tenant, len) >> 50);
}

/* ---- The map --------------------------------------------------------------------------------- */

struct pqi_map *pqi_map_new(int shards)
{
    if (shards < 1 || shards > PQI_SHARDS_MAX)
        return NULL;
    struct pqi_map *map = pqi_mem_new(sizeof *map);
    if (!map)
        return NULL;
    map->shards = shards;
    for (int slot = 0; slot < PQI_SLOTS; slot++)
        map->owner[slot] = (uint16_t)(slot * shards / PQI_SLOTS);
    return map;
}

void pqi_map_free(struct pqi_map *map)
{
    if (!map)
        return;
    pqi_mem_free(map->pins);
    pqi_mem_free(map);
}

static void count_shard(struct pqi_map *map, int shard)
{
    if (map->shards <= shard)
        map->shards = shard + 1;
}

/* ---- Its text -------------------------------------------------------------------------------- */

struct range {
    int first, last, shard;
};

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

/* A number of at most five digits, then `end`; NULL: it is something else. */
static const char *read_number(const char *p, const char *ends, int *out)
{
    size_t digits = strspn(p, "0123456789");
    if (digits < 1 || digits > 5 || !strchr(ends, p[digits]))
        return NULL;
    *out = atoi(p);
    return p + digits;
}

/* "first-last:shard"; NULL: it is something else. */
static const char *read_range(const char *p, struct range *r)
{
    p = read_number(p, "-", &r->first);
    p = p && *p ? read_number(p + 1, ":", &r->last) : NULL;
    return p && *p ? read_number(p + 1, " \t\r\n", &r->shard) : NULL;
}

static int nobody(pqr_error *err, int first, int last)
{
    return pqi_err(err, PQR_E_MAP, "the shard map gives slots %d-%d to no shard", first, last);
}

/* Is this the range to come after the slots below `next`? */
static int check_range(const struct range *r, int next, pqr_error *err)
{
    if (r->last >= PQI_SLOTS || r->last < r->first)
        return pqi_err(err, PQR_E_MAP, "the shard map has %d-%d: slots go from 0 up to %d",
                       r->first, r->last, PQI_SLOTS - 1);
    if (r->shard >= PQI_SHARDS_MAX)
        return pqi_err(err, PQR_E_MAP,
                       "the shard map gives slots %d-%d to shard %d: the last is %d", r->first,
                       r->last, r->shard, PQI_SHARDS_MAX - 1);
    if (r->first < next)
        return pqi_err(err, PQR_E_MAP, "the shard map has slot %d twice, or not in ascending order",
                       r->first);
    return r->first > next ? nobody(err, next, r->first - 1) : PQR_OK;
}

static int read_owners(struct pqi_map *map, const char *text, pqr_error *err)
{
    int next = 0;
    for (const char *p = skip_blanks(text); *p; p = skip_blanks(p)) {
        struct range r;
        const char *end = read_range(p, &r);
        if (!end)
            return pqi_err(err, PQR_E_MAP,
                           "the shard map has no range such as 0-8191:0 at its character %zu",
                           (size_t)(p - text) + 1);
        if (check_range(&r, next, err) < 0)
            return PQR_E_MAP;
        for (; next <= r.last; next++)
            map->owner[next] = (uint16_t)r.shard;
        count_shard(map, r.shard);
        p = end;
    }
    return next < PQI_SLOTS ? nobody(err, next, PQI_SLOTS - 1) : PQR_OK;
}

int pqi_map_parse(struct pqi_map **out, const char *text, pqr_error *err)
{
    struct pqi_map *map = pqi_map_new(1);
    if (!map)
        return pqi_err(err, PQR_E_NOMEM, "no memory for the shard map");
    int code = read_owners(map, text, err);
    if (code < 0) {
        pqi_map_free(map);
        return code;
    }
    *out = map;
    return PQR_OK;
}

char *pqi_map_format(const struct pqi_map *map)
{
    struct pqi_buf text = {0};
    for (int first = 0, last; first < PQI_SLOTS; first = last + 1) {
        last = first;
        while (last + 1 < PQI_SLOTS && map->owner[last + 1] == map->owner[first])
            last++;
        pqi_buf_format(&text, "%s%d-%d:%d", first ? " " : "", first, last, map->owner[first]);
    }
    return pqi_buf_take(&text);
}

/* ---- Pins ------------------------------------------------------------------------------------ */

static int compare_pins(const void *a, const void *b)
{
    const struct pqi_pin *p = a, *q = b;
    if (p->len != q->len)
        return p->len < q->len ? -1 : 1;
    return p->len ? memcmp(p->tenant, q->tenant, p->len) : 0;
}

static int shown(const struct pqi_pin *pin)
{
    return pin->len < 64 ? (int)pin->len : 64;
}

static int check_pins(const struct pqi_pin *sorted, size_t n, pqr_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const struct pqi_pin *pin = &sorted[i];
        if (pin->shard < 0 || pin->shard >= PQI_SHARDS_MAX)
            return pqi_err(err, PQR_E_MAP, "tenant \"%.*s\" is pinned to shard %d: the last is %d",
                           shown(pin), pin->tenant, pin->shard, PQI_SHARDS_MAX - 1);
        if (i > 0 && compare_pins(pin - 1, pin) == 0)
            return pqi_err(err, PQR_E_MAP, "tenant \"%.*s\" is pinned twice: to shards %d and %d",
                           shown(pin), pin->tenant, pin[-1].shard, pin->shard);
    }
    return PQR_OK;
}

/* Copies of the pins with their tenants' bytes behind them. */
static struct pqi_pin *copy_pins(const struct pqi_pin *pins, size_t n)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, sizeof *pins, &bytes))
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (__builtin_add_overflow(bytes, pins[i].len, &bytes))
            return NULL;
    struct pqi_pin *copy = pqi_mem_new(bytes);
    char *at = copy ? (char *)(copy + n) : NULL;
    for (size_t i = 0; copy && i < n; i++) {
        copy[i] = pins[i];
        copy[i].tenant = at;
        if (pins[i].len > 0)
            memcpy(at, pins[i].tenant, pins[i].len);
        at += pins[i].len;
    }
    return copy;
}

int pqi_map_set_pins(struct pqi_map *map, const struct pqi_pin *pins, size_t n, pqr_error *err)
{
    struct pqi_pin *copy = NULL;
    if (n > 0 && !(copy = copy_pins(pins, n)))
        return pqi_err(err, PQR_E_NOMEM, "no memory for %zu pins", n);
    if (n > 0)
        qsort(copy, n, sizeof *copy, compare_pins);
    if (check_pins(copy, n, err) < 0) {
        pqi_mem_free(copy);
        return PQR_E_MAP;
    }
    pqi_mem_free(map->pins);
    map->pins = copy;
    map->npins = n;
    for (size_t i = 0; i < n; i++)
        count_shard(map, copy[i].shard);
    return PQR_OK;
}

/* -1: it is none. */
static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* One pin, and the blank behind it; its bytes take the place of their digits. NULL: it is something
 * else. */
static char *read_pin(char *at, struct pqi_pin *pin)
{
    *pin = (struct pqi_pin){.tenant = at};
    for (char *to = at; *at != ':'; at += 2) {
        int high = hex_digit(at[0]), low = high < 0 ? -1 : hex_digit(at[1]);
        if (low < 0)
            return NULL;
        *to++ = (char)(high * 16 + low);
        pin->len++;
    }
    const char *end = read_number(at + 1, " ", &pin->shard);
    if (!end || (*end == ' ' && end[1] == '\0'))
        return NULL;
    return at + (end - at) + (*end == ' ');
}

int pqi_map_read_pins(struct pqi_map *map, const char *text, pqr_error *err)
{
    size_t n = 0, most = 0;
    for (const char *p = text; *p; p++)
        most += *p == ':';
    char *copy = pqi_mem_text(text), *at = copy;
    struct pqi_pin *pins = pqi_mem_array(most, sizeof *pins);
    int code = copy && pins ? PQR_OK : pqi_err(err, PQR_E_NOMEM, "no memory for pins");
    while (code == PQR_OK && *at) {
        at = n < most ? read_pin(at, &pins[n++]) : NULL;
        if (!at)
            code = pqi_err(err, PQR_E_MAP, "a pin is not of the form tenant:shard");
    }
    if (code == PQR_OK)
        code = pqi_map_set_pins(map, pins, n, err);
    pqi_mem_free(pins);
    pqi_mem_free(copy);
    return code;
}

int pqi_map_shard(const struct pqi_map *map, const void *tenant, size_t len, bool *pinned)
{
    struct pqi_pin key = {.tenant = tenant, .len = len};
    const struct pqi_pin *pin = NULL;
    if (map->npins > 0)
        pin = bsearch(&key, map->pins, map->npins, sizeof key, compare_pins);
    if (pinned)
        *pinned = pin != NULL;
    return pin ? pin->shard : map->owner[pqi_slot(tenant, len)];
}
