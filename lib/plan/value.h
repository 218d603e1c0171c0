/* One value of a result, as bytes of PostgreSQL's text or binary format -> C types. Strict: the
 * whole value, nothing behind it, in range. Independent of the locale. */
#ifndef PQI_VALUE_H
#define PQI_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pqi_value {
    const char *bytes; /* bytes[len] is NUL, as in a PGresult */
    int len;
    uint32_t type; /* OID; text values are judged by what they say, not by it (but bytea) */
    bool binary;
    bool null;
};

/* Each returns 0, or -1 with *why a static text ("not an integer") and nothing written to `out`.
 * Both formats give the same (but a float4: its text has fewer digits).
 * Integers: int2, int4, int8, oid; numeric and text without a fraction. */
int pqi_value_int32(const struct pqi_value *v, int32_t *out, const char **why);
int pqi_value_int64(const struct pqi_value *v, int64_t *out, const char **why);

/* float4, float8, numeric, integers; text of any number, NaN, Infinity, -Infinity. */
int pqi_value_float8(const struct pqi_value *v, double *out, const char **why);

int pqi_value_bool(const struct pqi_value *v, bool *out, const char **why);
int pqi_value_uuid(const struct pqi_value *v, uint8_t out[16], const char **why);

/* Microseconds since 1970-01-01 UTC. Text: ISO with an offset. */
int pqi_value_timestamptz(const struct pqi_value *v, int64_t *out, const char **why);

/* Up to `cap` bytes to `buf`, and the whole length to *len. bytea in text is decoded (hex and
 * escape); everything else is given as it is. */
int pqi_value_bytes(const struct pqi_value *v, void *buf, size_t cap, size_t *len,
                    const char **why);

#endif
