/* Tenants, slots, the shard map and its text. */
#include "../../lib/plan/slot.h"
#include "../../lib/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- Slots ----------------------------------------------------------------------------------- */

static size_t from_hex(const char *hex, unsigned char *out)
{
    size_t n = 0;
    if (strcmp(hex, "-") == 0)
        return 0;
    for (; hex[2 * n]; n++) {
        char byte[3] = {hex[2 * n], hex[2 * n + 1], '\0'};
        out[n] = (unsigned char)strtoul(byte, NULL, 16);
    }
    return n;
}

static void every_golden_vector_gives_its_slot(void **state)
{
    (void)state;
    const char *path = getenv("SLOT_VECTORS");
    FILE *file = fopen(path ? path : "test/unit/slot_vectors.txt", "r");
    assert_non_null(file);
    static char line[16384], hex[16384];
    static unsigned char tenant[8192];
    int vectors = 0;
    while (fgets(line, sizeof line, file)) {
        char hash[17];
        unsigned slot;
        if (line[0] == '#')
            continue;
        assert_int_equal(sscanf(line, "%16383s %16s %u", hex, hash, &slot), 3);
        assert_int_equal(strtoull(hash, NULL, 16) >> 50, slot);
        assert_int_equal(pqi_slot(tenant, from_hex(hex, tenant)), slot);
        vectors++;
    }
    fclose(file);
    assert_true(vectors >= 50);
}

static void an_empty_tenant_needs_no_bytes(void **state)
{
    (void)state;
    assert_int_equal(pqi_slot(NULL, 0), 2881);
}

static void a_nul_counts_like_any_byte(void **state)
{
    (void)state;
    assert_int_not_equal(pqi_slot("a", 1), pqi_slot("a\0", 2));
    assert_int_not_equal(pqi_slot("a\0b", 3), pqi_slot("a\0c", 3));
}

static void tenants_spread_over_all_slots(void **state)
{
    (void)state;
    static unsigned hits[PQI_SLOTS];
    for (int i = 0; i < 64 * PQI_SLOTS; i++) {
        char tenant[32];
        int len = snprintf(tenant, sizeof tenant, "tenant-%d", i);
        unsigned slot = pqi_slot(tenant, (size_t)len);
        assert_true(slot < PQI_SLOTS);
        hits[slot]++;
    }
    /* 64 are expected, with a deviation of 8. */
    for (int slot = 0; slot < PQI_SLOTS; slot++)
        assert_in_range(hits[slot], 16, 128);
}

/* ---- The map by formula ---------------------------------------------------------------------- */

static void the_first_map_gives_each_shard_its_even_share_in_order(void **state)
{
    (void)state;
    for (int shards = 1; shards <= PQI_SHARDS_MAX; shards++) {
        struct pqi_map *map = pqi_map_new(shards);
        assert_non_null(map);
        assert_int_equal(map->version, 0);
        assert_int_equal(map->shards, shards);
        int count[PQI_SHARDS_MAX] = {0};
        for (int slot = 0; slot < PQI_SLOTS; slot++) {
            assert_int_equal(map->owner[slot], slot * shards / PQI_SLOTS);
            assert_true(slot == 0 || map->owner[slot] >= map->owner[slot - 1]);
            count[map->owner[slot]]++;
        }
        for (int shard = 0; shard < shards; shard++)
            assert_in_range(count[shard], PQI_SLOTS / shards, PQI_SLOTS / shards + 1);
        pqi_map_free(map);
    }
}

static void a_map_has_1_to_1024_shards(void **state)
{
    (void)state;
    assert_null(pqi_map_new(0));
    assert_null(pqi_map_new(-1));
    assert_null(pqi_map_new(1025));
    pqi_map_free(NULL);
}

/* ---- Its text -------------------------------------------------------------------------------- */

static struct pqi_map *parse(const char *text)
{
    struct pqi_map *map = NULL;
    pqr_error err = {0};
    if (pqi_map_parse(&map, text, &err) < 0)
        fail_msg("%s", err.message);
    return map;
}

static void every_first_map_survives_being_written_and_read(void **state)
{
    (void)state;
    for (int shards = 1; shards <= PQI_SHARDS_MAX; shards++) {
        struct pqi_map *map = pqi_map_new(shards);
        char *text = pqi_map_format(map);
        struct pqi_map *again = parse(text);
        assert_memory_equal(map->owner, again->owner, sizeof map->owner);
        assert_int_equal(again->shards, shards);
        assert_int_equal(again->version, 0);
        pqi_mem_free(text);
        pqi_map_free(map);
        pqi_map_free(again);
    }
}

static void a_map_of_single_slots_survives_too(void **state)
{
    (void)state;
    struct pqi_map *map = pqi_map_new(1);
    for (int slot = 0; slot < PQI_SLOTS; slot++)
        map->owner[slot] = (uint16_t)(slot * 7 % PQI_SHARDS_MAX);
    char *text = pqi_map_format(map);
    struct pqi_map *again = parse(text);
    assert_memory_equal(map->owner, again->owner, sizeof map->owner);
    assert_int_equal(again->shards, PQI_SHARDS_MAX);
    pqi_mem_free(text);
    pqi_map_free(map);
    pqi_map_free(again);
}

static void a_map_is_written_in_the_fewest_ranges(void **state)
{
    (void)state;
    struct pqi_map *map = parse("0-9:0 10-99:0 100-100:5\n101-16383:0");
    char *text = pqi_map_format(map);
    assert_string_equal(text, "0-99:0 100-100:5 101-16383:0");
    assert_int_equal(map->shards, 6);
    pqi_mem_free(text);
    pqi_map_free(map);
}

static void blanks_around_ranges_do_not_matter(void **state)
{
    (void)state;
    pqi_map_free(parse("  0-8191:0 \t\r\n 8192-16383:1  \n"));
}

static void what_is_wrong_with_a_map_is_said(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "gives slots 0-16383 to no shard"},
        {"0-16382:0", "gives slots 16383-16383 to no shard"},
        {"1-16383:0", "gives slots 0-0 to no shard"},
        {"0-99:0 200-16383:0", "gives slots 100-199 to no shard"},
        {"0-99:0 99-16383:0", "has slot 99 twice"},
        {"0-16383:0 0-16383:0", "has slot 0 twice"},
        {"8192-16383:1 0-8191:0", "gives slots 0-8191 to no shard"},
        {"0-16384:0", "has 0-16384: slots go from 0 up to 16383"},
        {"0-99999:0", "has 0-99999: slots"},
        {"9-5:0", "has 9-5: slots go from 0 up"},
        {"0-16383:1024", "to shard 1024: the last is 1023"},
        {"0-16383", "at its character 1"},
        {"0-16383:", "at its character 1"},
        {"0-16383:-1", "at its character 1"},
        {"0-16383:+1", "at its character 1"},
        {"0-16383: 1", "at its character 1"},
        {"0 -16383:1", "at its character 1"},
        {"-16383:0", "at its character 1"},
        {"0-16383:0,", "at its character 1"},
        {"0-16383:0x", "at its character 1"},
        {"0-8191:0 8192-16383", "at its character 10"},
        {"0-8191:0 x", "at its character 10"},
        {"7:0", "at its character 1"},
        {"0-000016383:0", "at its character 1"},
        {"0-16383:4294967296", "at its character 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pqi_map *map = NULL;
        pqr_error err = {0};
        assert_int_equal(pqi_map_parse(&map, cases[i].text, &err), PQR_E_MAP);
        assert_null(map);
        if (!strstr(err.message, cases[i].says))
            fail_msg("\"%s\": %s", cases[i].text, err.message);
    }
    struct pqi_map *map = NULL;
    assert_int_equal(pqi_map_parse(&map, "no map", NULL), PQR_E_MAP);
}

/* ---- Pins ------------------------------------------------------------------------------------ */

static int shard_of(const struct pqi_map *map, const char *tenant, size_t len, bool expect_pin)
{
    bool pinned = !expect_pin;
    int shard = pqi_map_shard(map, tenant, len, &pinned);
    assert_int_equal(pinned, expect_pin);
    assert_int_equal(pqi_map_shard(map, tenant, len, NULL), shard);
    return shard;
}

static void a_tenant_lives_where_its_slot_does(void **state)
{
    (void)state;
    struct pqi_map *map = pqi_map_new(4);
    assert_int_equal(shard_of(map, "acme", 4, false), 4395 * 4 / PQI_SLOTS);
    map->owner[4395] = 3;
    assert_int_equal(shard_of(map, "acme", 4, false), 3);
    pqi_map_free(map);
}

static void a_pin_goes_before_the_slot(void **state)
{
    (void)state;
    struct pqi_map *map = pqi_map_new(4);
    struct pqi_pin pins[] = {
        {"zeta", 4, 3}, {"acme", 4, 2}, {"a\0b", 3, 1}, {"a\0c", 3, 0}, {"", 0, 3}};
    assert_int_equal(pqi_map_set_pins(map, pins, 5, NULL), PQR_OK);
    assert_int_equal(shard_of(map, "acme", 4, true), 2);
    assert_int_equal(shard_of(map, "zeta", 4, true), 3);
    assert_int_equal(shard_of(map, "a\0b", 3, true), 1);
    assert_int_equal(shard_of(map, "a\0c", 3, true), 0);
    assert_int_equal(shard_of(map, NULL, 0, true), 3);
    shard_of(map, "acm", 3, false);
    shard_of(map, "acme ", 5, false);
    shard_of(map, "ACME", 4, false);
    shard_of(map, "a", 1, false);
    pqi_map_free(map);
}

static void pins_are_copied_and_replaced_as_a_whole(void **state)
{
    (void)state;
    struct pqi_map *map = pqi_map_new(2);
    char name[] = "acme";
    struct pqi_pin pin = {name, 4, 1};
    assert_int_equal(pqi_map_set_pins(map, &pin, 1, NULL), PQR_OK);
    memcpy(name, "xxxx", 4);
    pin.shard = 0;
    assert_int_equal(shard_of(map, "acme", 4, true), 1);
    struct pqi_pin other = {"other", 5, 1};
    assert_int_equal(pqi_map_set_pins(map, &other, 1, NULL), PQR_OK);
    shard_of(map, "acme", 4, false);
    assert_int_equal(pqi_map_set_pins(map, NULL, 0, NULL), PQR_OK);
    shard_of(map, "other", 5, false);
    pqi_map_free(map);
}

static void a_wrong_pin_changes_nothing(void **state)
{
    (void)state;
    struct pqi_map *map = pqi_map_new(2);
    struct pqi_pin good = {"acme", 4, 1};
    pqr_error err;
    assert_int_equal(pqi_map_set_pins(map, &good, 1, NULL), PQR_OK);
    struct pqi_pin twice[] = {{"b", 1, 0}, {"acme", 4, 0}, {"b", 1, 0}};
    assert_int_equal(pqi_map_set_pins(map, twice, 3, &err), PQR_E_MAP);
    assert_non_null(strstr(err.message, "tenant \"b\" is pinned twice"));
    struct pqi_pin beyond[] = {{"b", 1, 0}, {"c", 1, 1024}};
    assert_int_equal(pqi_map_set_pins(map, beyond, 2, &err), PQR_E_MAP);
    assert_non_null(strstr(err.message, "tenant \"c\" is pinned to shard 1024"));
    struct pqi_pin below = {"c", 1, -1};
    assert_int_equal(pqi_map_set_pins(map, &below, 1, &err), PQR_E_MAP);
    assert_int_equal(shard_of(map, "acme", 4, true), 1);
    assert_int_equal(map->shards, 2);
    pqi_map_free(map);
}

static void a_pin_to_a_new_shard_counts_it(void **state)
{
    (void)state;
    struct pqi_map *map = pqi_map_new(2);
    struct pqi_pin pin = {"acme", 4, 5};
    assert_int_equal(pqi_map_set_pins(map, &pin, 1, NULL), PQR_OK);
    assert_int_equal(map->shards, 6);
    pqi_map_free(map);
}

static void thousands_of_pins_are_all_found(void **state)
{
    (void)state;
    enum { N = 5000 };
    static char names[N][16];
    static struct pqi_pin pins[N];
    for (int i = 0; i < N; i++) {
        int len = snprintf(names[i], sizeof names[i], "t%d", (i * 7919) % N);
        pins[i] = (struct pqi_pin){names[i], (size_t)len, (i * 7919) % N % 1024};
    }
    struct pqi_map *map = pqi_map_new(1024);
    assert_int_equal(pqi_map_set_pins(map, pins, N, NULL), PQR_OK);
    for (int i = 0; i < N; i++) {
        char name[16];
        int len = snprintf(name, sizeof name, "t%d", i);
        assert_int_equal(shard_of(map, name, (size_t)len, true), i % 1024);
        len = snprintf(name, sizeof name, "u%d", i);
        shard_of(map, name, (size_t)len, false);
    }
    pqi_map_free(map);
}

static void pins_are_read_from_hexadecimal(void **state)
{
    (void)state;
    struct pqi_map *map = pqi_map_new(2);
    assert_int_equal(pqi_map_read_pins(map, "61636d65:1 00ff:0 :7", NULL), PQR_OK);
    assert_int_equal(shard_of(map, "acme", 4, true), 1);
    assert_int_equal(shard_of(map, "\0\xff", 2, true), 0);
    assert_int_equal(shard_of(map, "", 0, true), 7);
    assert_int_equal(map->shards, 8);
    assert_int_equal(pqi_map_read_pins(map, "", NULL), PQR_OK);
    shard_of(map, "acme", 4, false);
    pqi_map_free(map);
}

static void pins_that_are_none_change_nothing(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "61",   "61:",  "6:1",   "61:x",  "61:1x",  "61:1 ",     "61:1  62:1", " 61:1",  "6g:1",
        "6G:1", "AB:1", "61:-1", "61: 1", "61:1:2", "61:1,62:1", "61:100000",  "61:1024"};
    struct pqi_map *map = pqi_map_new(2);
    struct pqi_pin good = {"acme", 4, 1};
    pqr_error err;
    assert_int_equal(pqi_map_set_pins(map, &good, 1, NULL), PQR_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(pqi_map_read_pins(map, bad[i], &err), PQR_E_MAP);
        assert_true(err.message[0]);
        assert_int_equal(shard_of(map, "acme", 4, true), 1);
    }
    pqi_map_free(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_golden_vector_gives_its_slot),
        cmocka_unit_test(an_empty_tenant_needs_no_bytes),
        cmocka_unit_test(a_nul_counts_like_any_byte),
        cmocka_unit_test(tenants_spread_over_all_slots),
        cmocka_unit_test(the_first_map_gives_each_shard_its_even_share_in_order),
        cmocka_unit_test(a_map_has_1_to_1024_shards),
        cmocka_unit_test(every_first_map_survives_being_written_and_read),
        cmocka_unit_test(a_map_of_single_slots_survives_too),
        cmocka_unit_test(a_map_is_written_in_the_fewest_ranges),
        cmocka_unit_test(blanks_around_ranges_do_not_matter),
        cmocka_unit_test(what_is_wrong_with_a_map_is_said),
        cmocka_unit_test(a_tenant_lives_where_its_slot_does),
        cmocka_unit_test(a_pin_goes_before_the_slot),
        cmocka_unit_test(pins_are_copied_and_replaced_as_a_whole),
        cmocka_unit_test(a_wrong_pin_changes_nothing),
        cmocka_unit_test(a_pin_to_a_new_shard_counts_it),
        cmocka_unit_test(thousands_of_pins_are_all_found),
        cmocka_unit_test(pins_are_read_from_hexadecimal),
        cmocka_unit_test(pins_that_are_none_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
