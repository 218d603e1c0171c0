/* Values of results: any bytes in either format are read as each type, or refused, and nothing is
 * written where they are refused. The first byte of the input chooses format and type. */
#include "../../lib/plan/value.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz-value: %s\n", what);
    abort();
}

/* bool, bytea, int8, int2, int4, text, oid, json, float4, float8, varchar, timestamptz, numeric, uuid */
static const uint32_t types[] = {16,  17,  20,   21,   23,   25,   26, 114,
                                 700, 701, 1043, 1184, 1700, 2950, 0,  UINT32_MAX};

static void read_numbers(const struct pqi_value *v)
{
    const char *why;
    int32_t small = 77;
    int64_t large = 77, moment = 77;
    double real = 77;
    bool yes = true;
    int is_small = pqi_value_int32(v, &small, &why);
    int is_large = pqi_value_int64(v, &large, &why);
    expect(is_small != 0 || (is_large == 0 && small == large), "it is small and not large");
    expect(is_small == 0 || small == 77, "what was refused was written");
    expect(is_large == 0 || large == 77, "what was refused was written");
    expect(pqi_value_float8(v, &real, &why) == 0 || (real == 77 && why), "as above, a float8");
    expect(pqi_value_bool(v, &yes, &why) == 0 || (yes && why), "as above, a bool");
    expect(pqi_value_timestamptz(v, &moment, &why) == 0 || (moment == 77 && why),
           "as above, a moment");
}

static void read_bytes(const struct pqi_value *v)
{
    const char *why;
    uint8_t uuid[16];
    size_t len = 0, again = 0;
    pqi_value_uuid(v, uuid, &why);
    if (pqi_value_bytes(v, NULL, 0, &len, &why) != 0)
        return;
    char *buf = malloc(len + 1);
    if (!buf)
        return;
    buf[len] = 77;
    expect(pqi_value_bytes(v, buf, len, &again, &why) == 0 && again == len, "it has two lengths");
    expect(buf[len] == 77, "too much was written");
    free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 65536)
        return 0;
    char *bytes = malloc(size);
    if (!bytes)
        return 0;
    memcpy(bytes, data + 1, size - 1);
    bytes[size - 1] = '\0';
    struct pqi_value v = {.bytes = bytes,
                          .len = (int)size - 1,
                          .type = types[data[0] & 15],
                          .binary = data[0] & 16,
                          .null = (data[0] & 224) == 224};
    read_numbers(&v);
    read_bytes(&v);
    free(bytes);
    return 0;
}
