/* What stands in a stamp: the shard map, read or refused; what was read is written and read again as
 * the same. Positions in the log, likewise. */
#include "../../lib/base/mem.h"
#include "../../lib/plan/lsn.h"
#include "../../lib/plan/slot.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz-map: %s\n", what);
    abort();
}

static void read_map(const char *text)
{
    struct pqi_map *map = NULL, *again = NULL;
    pqr_error err;
    int code = pqi_map_parse(&map, text, &err);
    expect(code == PQR_OK || code == PQR_E_MAP, "neither good nor bad");
    expect((code == PQR_OK) == (map != NULL), "a bad map was returned");
    if (!map)
        return;
    char *written = pqi_map_format(map);
    expect(written && pqi_map_parse(&again, written, NULL) == PQR_OK, "it is not read again");
    expect(memcmp(map->owner, again->owner, sizeof map->owner) == 0, "it is another map");
    expect(map->shards == again->shards, "it has another number of shards");
    for (int i = 0; i < PQI_SLOTS; i++)
        expect(map->owner[i] < map->shards, "a slot's shard is out of range");
    pqi_mem_free(written);
    pqi_map_free(map);
    pqi_map_free(again);
}

static void read_lsn(const char *text)
{
    uint64_t lsn = 0, again = 0;
    char written[40];
    if (!pqi_lsn_parse(text, &lsn))
        return;
    snprintf(written, sizeof written, "%" PRIX64 "/%" PRIX64, lsn >> 32, lsn & UINT32_MAX);
    expect(pqi_lsn_parse(written, &again) && again == lsn, "a position is read as another one");
    expect(pqi_lsn_floor(lsn, 16 << 20) <= lsn, "a page begins behind its header");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = size <= 65536 ? malloc(size + 1) : NULL;
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    read_map(text);
    read_lsn(text);
    free(text);
    return 0;
}
