/* What stands in a stamp: its row, the shard map and the pins, read or refused; what was read is
 * written and read again as the same. Positions in the log, likewise. */
#include "../../lib/base/bytes.h"
#include "../../lib/base/mem.h"
#include "../../lib/plan/lsn.h"
#include "../../lib/plan/slot.h"
#include "../../lib/plan/stamp.h"

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

/* Written in hexadecimal; every pin decides where its tenant is. */
static char *write_pins(const struct pqi_map *map)
{
    struct pqi_buf text = {0};
    for (size_t i = 0; i < map->npins; i++) {
        const struct pqi_pin *pin = &map->pins[i];
        bool pinned = false;
        expect(pqi_map_shard(map, pin->tenant, pin->len, &pinned) == pin->shard && pinned,
               "a pinned tenant is elsewhere");
        expect(pin->shard < map->shards, "a pin's shard is out of range");
        pqi_buf_text(&text, i > 0 ? " " : "");
        for (size_t k = 0; k < pin->len; k++)
            pqi_buf_format(&text, "%02x", (unsigned char)pin->tenant[k]);
        pqi_buf_format(&text, ":%d", pin->shard);
    }
    return pqi_buf_take(&text);
}

static void read_pins(const char *text)
{
    struct pqi_map *map = pqi_map_new(1), *again = pqi_map_new(1);
    pqr_error err;
    int code = map && again ? pqi_map_read_pins(map, text, &err) : PQR_E_NOMEM;
    expect(code != PQR_E_MAP || map->npins == 0, "pins that were refused are there");
    if (code == PQR_OK) {
        char *written = write_pins(map), *twice = NULL;
        expect(written && strlen(written) <= strlen(text), "a pin came out of nothing");
        expect(pqi_map_read_pins(again, written, NULL) == PQR_OK, "pins are not read again");
        expect((twice = write_pins(again)) && strcmp(written, twice) == 0, "they are other pins");
        pqi_mem_free(written);
        pqi_mem_free(twice);
    }
    pqi_map_free(map);
    pqi_map_free(again);
}

static bool same(const struct pqi_stamp *a, const struct pqi_stamp *b)
{
    return a->state == b->state && strcmp(a->fleet, b->fleet) == 0 && a->shard == b->shard &&
           a->shards == b->shards && a->map_version == b->map_version;
}

/* It admits who expects it, and nobody who expects another fleet or shard. */
static void check_stamp(const struct pqi_stamp *s)
{
    struct pqi_stamp_expected e = {s->fleet, s->shard, s->shards};
    expect(pqi_stamp_check(s, &e, true, NULL) == PQR_OK, "it does not admit its own");
    e.shard++;
    expect(pqi_stamp_check(s, &e, false, NULL) == PQR_E_WRONG_SHARD, "another shard is admitted");
    e = (struct pqi_stamp_expected){"another", s->shard, s->shards};
    expect(strcmp(s->fleet, "another") == 0 ||
               pqi_stamp_check(s, &e, false, NULL) == PQR_E_WRONG_SHARD,
           "another fleet is admitted");
}

/* A row's fields stand in lines. */
static void read_row(const char *text)
{
    struct pqi_stamp s = {.shard = 77}, again;
    char copy[160], shard[16], shards[16], version[24];
    const char *row[4] = {"", "", "", ""};
    if (strlen(text) >= sizeof copy)
        return;
    strcpy(copy, text);
    char *at = copy;
    for (int i = 0; i < 4 && at; i++)
        row[i] = strsep(&at, "\n");
    if (!pqi_stamp_read(row, &s)) {
        expect(s.shard == 77, "what was refused was written");
        return;
    }
    snprintf(shard, sizeof shard, "%d", s.shard);
    snprintf(shards, sizeof shards, "%d", s.shards);
    snprintf(version, sizeof version, "%" PRId64, s.map_version);
    expect(strcmp(s.fleet, row[0]) == 0, "it is another fleet");
    const char *const written[4] = {s.fleet, shard, shards, version};
    expect(pqi_stamp_read(written, &again) && same(&s, &again), "it is another stamp");
    check_stamp(&s);
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
    read_pins(text);
    read_row(text);
    read_lsn(text);
    free(text);
    return 0;
}
