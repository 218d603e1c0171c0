/* Parameters as bytes on the wire. */
#include "../../lib/plan/param.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define P(...) ((const pqr_param)__VA_ARGS__)
#define COUNT(a) (sizeof(a) / sizeof *(a))

static struct pqi_params *bind(const pqr_param *params, size_t n, bool copy)
{
    struct pqi_params *b = NULL;
    pqr_error err = {0};
    if (pqi_params_bind(&b, params, n, copy, &err) < 0)
        fail_msg("%s", err.message);
    return b;
}

/* One parameter becomes exactly this, copied or not. */
static void expect(pqr_param p, uint32_t oid, int format, const void *bytes, size_t len)
{
    for (int copy = 0; copy <= 1; copy++) {
        struct pqi_params *b = bind(&p, 1, copy);
        assert_int_equal(b->n, 1);
        assert_int_equal(b->types[0], oid);
        assert_int_equal(b->formats[0], format);
        assert_non_null(b->values[0]);
        assert_int_equal(b->lengths[0], len);
        assert_memory_equal(b->values[0], bytes, len);
        if (format == 0)
            assert_int_equal(b->values[0][len], '\0');
        pqi_params_free(b);
    }
}

#define EXPECT_BINARY(param, oid, literal) expect(P(param), oid, 1, literal, sizeof(literal) - 1)
#define EXPECT_TEXT(param, literal) expect(P(param), 0, 0, literal, sizeof(literal) - 1)

static void expect_null(pqr_param p, uint32_t oid)
{
    struct pqi_params *b = bind(&p, 1, true);
    assert_null(b->values[0]);
    assert_int_equal(b->types[0], oid);
    assert_int_equal(b->lengths[0], 0);
    pqi_params_free(b);
}

static void expect_refused(pqr_param p, const char *says)
{
    /* As the third of three, to see its number. */
    pqr_param params[] = {PQR_NULL, PQR_INT32(1), p};
    for (int copy = 0; copy <= 1; copy++) {
        struct pqi_params *b = NULL;
        pqr_error err = {0};
        assert_int_equal(pqi_params_bind(&b, params, 3, copy, &err), PQR_E_USAGE);
        assert_null(b);
        assert_int_equal(err.code, PQR_E_USAGE);
        if (strncmp(err.message, "$3: ", 4) != 0 || !strstr(err.message, says))
            fail_msg("expected \"$3: … %s\", not \"%s\"", says, err.message);
    }
}

/* ---- Scalars --------------------------------------------------------------------------------- */

static void no_parameters_are_no_struct(void **state)
{
    (void)state;
    struct pqi_params *b = (void *)state;
    assert_int_equal(pqi_params_bind(&b, NULL, 0, true, NULL), PQR_OK);
    assert_null(b);
    pqi_params_free(b);
}

static void scalars_are_binary_in_network_order(void **state)
{
    (void)state;
    EXPECT_BINARY(PQR_BOOL(true), 16, "\1");
    EXPECT_BINARY(PQR_BOOL(false), 16, "\0");
    EXPECT_BINARY(PQR_INT32(1), 23, "\0\0\0\1");
    EXPECT_BINARY(PQR_INT32(-2), 23, "\xff\xff\xff\xfe");
    EXPECT_BINARY(PQR_INT32(INT32_MAX), 23, "\x7f\xff\xff\xff");
    EXPECT_BINARY(PQR_INT32(INT32_MIN), 23, "\x80\0\0\0");
    EXPECT_BINARY(PQR_INT64(0x0102030405060708), 20, "\1\2\3\4\5\6\7\x08");
    EXPECT_BINARY(PQR_INT64(INT64_MIN), 20, "\x80\0\0\0\0\0\0\0");
    EXPECT_BINARY(PQR_INT64(INT64_MAX), 20, "\x7f\xff\xff\xff\xff\xff\xff\xff");
    EXPECT_BINARY(PQR_FLOAT8(1.0), 701, "\x3f\xf0\0\0\0\0\0\0");
    EXPECT_BINARY(PQR_FLOAT8(-0.0), 701, "\x80\0\0\0\0\0\0\0");
    EXPECT_BINARY(PQR_FLOAT8(INFINITY), 701, "\x7f\xf0\0\0\0\0\0\0");
    EXPECT_BINARY(PQR_UUID("0123456789abcdef"), 2950, "0123456789abcdef");
    EXPECT_BINARY(PQR_BYTES("a\0b", 3), 17, "a\0b");
    EXPECT_BINARY(PQR_BYTES("", 0), 17, "");
}

static void a_time_counts_from_2000(void **state)
{
    (void)state;
    EXPECT_BINARY(PQR_TIMESTAMPTZ(946684800000000), 1184, "\0\0\0\0\0\0\0\0");
    EXPECT_BINARY(PQR_TIMESTAMPTZ(946684800000001), 1184, "\0\0\0\0\0\0\0\1");
    EXPECT_BINARY(PQR_TIMESTAMPTZ(0), 1184, "\xff\xfc\xa2\xfe\xc4\xc8\x20\x00");
    EXPECT_BINARY(PQR_TIMESTAMPTZ(INT64_MAX), 1184, "\x7f\xfc\xa2\xfe\xc4\xc8\x1f\xff");
    EXPECT_BINARY(PQR_TIMESTAMPTZ(-210866803200000000), 1184, "\xfd\x0f\x7c\xc1\x41\x1f\xa0\x00");
}

static void a_time_before_postgresqls_first_is_refused(void **state)
{
    (void)state;
    expect_refused(P(PQR_TIMESTAMPTZ(-210866803200000001)), "a time before 4714 BC");
    expect_refused(P(PQR_TIMESTAMPTZ(INT64_MIN)), "a time before 4714 BC");
    int64_t times[] = {0, INT64_MIN};
    expect_refused(P(PQR_TIMESTAMPTZ_ARRAY(times, 2)), "a time before 4714 BC");
}

static void a_hand_made_bool_may_be_any_number(void **state)
{
    (void)state;
    expect((pqr_param){.type = PQR_TYPE_BOOL, .v = {.i64 = INT64_C(1) << 40}}, 16, 1, "\1", 1);
}

static void an_int32_that_is_too_large_is_refused(void **state)
{
    (void)state;
    pqr_param p = {.type = PQR_TYPE_INT32, .v = {.i64 = INT64_C(1) + INT32_MAX}};
    expect_refused(p, "a value that 32 bits do not hold: send it as PQR_INT64");
    p.v.i64 = INT64_C(-1) + INT32_MIN;
    expect_refused(p, "a value that 32 bits do not hold");
}

static void text_is_untyped_and_ends_with_nul(void **state)
{
    (void)state;
    EXPECT_TEXT(PQR_TEXT("acme"), "acme");
    EXPECT_TEXT(PQR_TEXT(""), "");
    EXPECT_TEXT(PQR_TEXT_N("acme corp", 4), "acme");
    EXPECT_TEXT(PQR_TEXT_N("", 0), "");
    EXPECT_TEXT(PQR_TEXT("\xe6\x9d\xb1\xe4\xba\xac"), "\xe6\x9d\xb1\xe4\xba\xac");
    char unended[4] = {'a', 'c', 'm', 'e'};
    EXPECT_TEXT(PQR_TEXT_N(unended, 4), "acme");
}

static void a_null_pointer_is_null(void **state)
{
    (void)state;
    expect_null(P(PQR_NULL), 0);
    expect_null(P(PQR_TEXT(NULL)), 0);
    expect_null(P(PQR_TEXT_N(NULL, 5)), 0);
    expect_null(P(PQR_BYTES(NULL, 0)), 17);
    expect_null(P(PQR_BYTES(NULL, 5)), 17);
    expect_null(P(PQR_UUID(NULL)), 2950);
}

static void a_text_with_a_nul_inside_is_refused(void **state)
{
    (void)state;
    expect_refused(P(PQR_TEXT_N("a\0b", 3)), "a text with a NUL inside");
    expect_refused(P(PQR_TEXT_N("a", 2)), "send it as PQR_BYTES");
}

static void an_unknown_type_is_refused(void **state)
{
    (void)state;
    uint32_t unknown[] = {9, 10, 63, 64, 73, 74, 128, 129, UINT32_MAX};
    for (size_t i = 0; i < COUNT(unknown); i++)
        expect_refused((pqr_param){.type = unknown[i]}, "not a type that exists");
}

/* ---- Copies ---------------------------------------------------------------------------------- */

static void what_can_be_sent_in_place_is_not_copied(void **state)
{
    (void)state;
    char text[] = "text", bytes[] = "bytes";
    pqr_param params[] = {PQR_TEXT(text), PQR_BYTES(bytes, 5), PQR_TEXT_N(text, 4)};
    struct pqi_params *b = bind(params, 3, false);
    assert_ptr_equal(b->values[0], text);
    assert_ptr_equal(b->values[1], bytes);
    assert_ptr_not_equal(b->values[2], text);
    pqi_params_free(b);
}

static void a_copy_refers_to_nothing_of_the_callers(void **state)
{
    (void)state;
    char text[] = "text", bytes[] = "bytes", uuid[17] = "0123456789abcdef";
    const char *texts[] = {text};
    pqr_param params[] = {PQR_TEXT(text), PQR_BYTES(bytes, 5), PQR_TEXT_N(text, 2), PQR_UUID(uuid),
                          PQR_TEXT_ARRAY(texts, 1)};
    struct pqi_params *b = bind(params, 5, true);
    memset(text, 'x', 4);
    memset(bytes, 'x', 5);
    memset(uuid, 'x', 16);
    texts[0] = NULL;
    memset(params, 0xff, sizeof params);
    assert_string_equal(b->values[0], "text");
    assert_string_equal(b->values[1], "bytes");
    assert_string_equal(b->values[2], "te");
    assert_string_equal(b->values[3], "0123456789abcdef");
    assert_string_equal(b->values[4], "{\"text\"}");
    pqi_params_free(b);
}

static void many_parameters_keep_apart(void **state)
{
    (void)state;
    static pqr_param params[PQI_PARAMS_MAX];
    for (int i = 0; i < PQI_PARAMS_MAX; i++)
        switch (i % 4) {
        case 0:
            params[i] = P(PQR_INT32(i));
            break;
        case 1:
            params[i] = P(PQR_TEXT("one"));
            break;
        case 2:
            params[i] = P(PQR_NULL);
            break;
        default:
            params[i] = P(PQR_TEXT_N("three", (size_t)(i % 6)));
            break;
        }
    struct pqi_params *b = bind(params, PQI_PARAMS_MAX, true);
    for (int i = 0; i < PQI_PARAMS_MAX; i++) {
        const unsigned char *v = (const unsigned char *)b->values[i];
        if (i % 4 == 0)
            assert_int_equal(v[0] << 24 | v[1] << 16 | v[2] << 8 | v[3], i);
        else if (i % 4 == 1)
            assert_string_equal(b->values[i], "one");
        else if (i % 4 == 2)
            assert_null(v);
        else
            assert_memory_equal(v, "three", (size_t)b->lengths[i]);
    }
    pqi_params_free(b);
}

/* ---- Arrays ---------------------------------------------------------------------------------- */

static void a_text_array_is_a_quoted_literal(void **state)
{
    (void)state;
    const char *plain[] = {"a", "b"};
    EXPECT_TEXT(PQR_TEXT_ARRAY(plain, 2), "{\"a\",\"b\"}");
    const char *odd[] = {"",   "NULL", NULL,      "a,b",     "{}", " ",
                         "\"", "\\",   "\\\"x\"", "{\"a\"}", "\n"};
    EXPECT_TEXT(PQR_TEXT_ARRAY(odd, 11),
                "{\"\",\"NULL\",NULL,\"a,b\",\"{}\",\" \",\"\\\"\",\"\\\\\",\"\\\\\\\"x\\\"\","
                "\"{\\\"a\\\"}\",\"\n\"}");
    EXPECT_TEXT(PQR_TEXT_ARRAY(plain, 0), "{}");
    EXPECT_TEXT(PQR_TEXT_ARRAY(NULL, 0), "{}");
}

#define HEAD(nulls, oid, n) "\0\0\0\1\0\0\0" nulls "\0\0" oid "\0\0\0" n "\0\0\0\1"

static void arrays_are_binary(void **state)
{
    (void)state;
    bool b[] = {true, false};
    EXPECT_BINARY(PQR_BOOL_ARRAY(b, 2), 1000, HEAD("\0", "\0\x10", "\2") "\0\0\0\1\1\0\0\0\1\0");
    int32_t i4[] = {1, INT32_MIN};
    EXPECT_BINARY(PQR_INT32_ARRAY(i4, 2), 1007,
                  HEAD("\0", "\0\x17", "\2") "\0\0\0\4\0\0\0\1\0\0\0\4\x80\0\0\0");
    int64_t i8[] = {-1};
    EXPECT_BINARY(PQR_INT64_ARRAY(i8, 1), 1016,
                  HEAD("\0", "\0\x14", "\1") "\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xff");
    double f8[] = {1.0};
    EXPECT_BINARY(PQR_FLOAT8_ARRAY(f8, 1), 1022,
                  HEAD("\0", "\x02\xbd", "\1") "\0\0\0\x08\x3f\xf0\0\0\0\0\0\0");
    int64_t ts[] = {946684800000007};
    EXPECT_BINARY(PQR_TIMESTAMPTZ_ARRAY(ts, 1), 1185,
                  HEAD("\0", "\x04\xa0", "\1") "\0\0\0\x08\0\0\0\0\0\0\0\7");
    EXPECT_BINARY(PQR_UUID_ARRAY("0123456789abcdefFEDCBA9876543210", 2), 2951,
                  HEAD("\0", "\x0b\x86", "\2") "\0\0\0\x10"
                                               "0123456789abcdef"
                                               "\0\0\0\x10"
                                               "FEDCBA9876543210");
    pqr_bytes by[] = {{"a\0b", 3}, {"", 0}};
    EXPECT_BINARY(PQR_BYTES_ARRAY(by, 2), 1001,
                  HEAD("\0", "\0\x11", "\2") "\0\0\0\3"
                                             "a\0b"
                                             "\0\0\0\0");
}

static void an_empty_array_has_no_dimension(void **state)
{
    (void)state;
    EXPECT_BINARY(PQR_INT64_ARRAY(NULL, 0), 1016, "\0\0\0\0\0\0\0\0\0\0\0\x14");
    EXPECT_BINARY(PQR_BYTES_ARRAY(NULL, 0), 1001, "\0\0\0\0\0\0\0\0\0\0\0\x11");
}

static void elements_may_be_null(void **state)
{
    (void)state;
    static const uint8_t nulls[] = {1, 0, 1};
    int32_t i4[] = {1, 2, 3};
    pqr_param p = PQR_INT32_ARRAY(i4, 3);
    p.nulls = nulls;
    const char some[] = HEAD("\1", "\0\x17",
                             "\3") "\xff\xff\xff\xff\0\0\0\4\0\0\0\2\xff\xff\xff\xff";
    expect(p, 1007, 1, some, sizeof some - 1);

    pqr_bytes by[] = {{NULL, 9}, {"x", 1}, {"y", 1}};
    p = P(PQR_BYTES_ARRAY(by, 3));
    p.nulls = nulls;
    const char bytes[] = HEAD("\1", "\0\x11", "\3") "\xff\xff\xff\xff\0\0\0\1x\xff\xff\xff\xff";
    expect(p, 1001, 1, bytes, sizeof bytes - 1);

    const char *texts[] = {"a", "b", NULL};
    p = P(PQR_TEXT_ARRAY(texts, 3));
    p.nulls = nulls;
    expect(p, 0, 0, "{NULL,\"b\",NULL}", 15);

    /* What a NULL element holds is not looked at. */
    int64_t ts[] = {INT64_MIN};
    p = P(PQR_TIMESTAMPTZ_ARRAY(ts, 1));
    p.nulls = nulls;
    const char time[] = HEAD("\1", "\x04\xa0", "\1") "\xff\xff\xff\xff";
    expect(p, 1185, 1, time, sizeof time - 1);
}

static void elements_without_an_array_are_refused(void **state)
{
    (void)state;
    expect_refused(P(PQR_INT64_ARRAY(NULL, 1)), "its pointer is NULL: for SQL NULL use PQR_NULL");
    expect_refused(P(PQR_TEXT_ARRAY(NULL, 1)), "its pointer is NULL");
}

/* ---- Limits ---------------------------------------------------------------------------------- */

static void a_parameter_has_at_most_256_mb(void **state)
{
    (void)state;
    /* What is refused by its size is not read: one byte stands for all. */
    expect_refused(P(PQR_BYTES("x", 300000000)),
                   "300000000 bytes, more than the 268435456 a parameter may have");
    expect_refused(P(PQR_TEXT_N("x", 300000000)), "300000000 bytes, more than the 268435456");
    expect_refused(P(PQR_BYTES("x", 268435457)), "268435457 bytes");
    expect_refused(P(PQR_BYTES("x", SIZE_MAX)), "18446744073709551615 bytes");
    expect_refused(P(PQR_TEXT_N("x", SIZE_MAX - 1)), "18446744073709551614 bytes");

    pqr_param p = PQR_BYTES("x", 268435456);
    struct pqi_params *b = bind(&p, 1, false);
    assert_int_equal(b->lengths[0], 268435456);
    pqi_params_free(b);
}

static void an_array_has_at_most_256_mb(void **state)
{
    (void)state;
    int64_t one = 1;
    expect_refused(P(PQR_INT64_ARRAY(&one, SIZE_MAX)), "more elements than fit a parameter");
    expect_refused(P(PQR_TEXT_ARRAY(&one, SIZE_MAX / 2)), "more elements than fit a parameter");
    pqr_bytes by[] = {{"x", 200000000}, {"x", 100000000}};
    expect_refused(P(PQR_BYTES_ARRAY(by, 2)), "300000028 bytes, more than the 268435456");
    pqr_bytes wraps[] = {{"x", SIZE_MAX}, {"x", SIZE_MAX}};
    expect_refused(P(PQR_BYTES_ARRAY(wraps, 2)), "18446744073709551615 bytes");
}

static void a_long_text_is_measured_to_its_nul(void **state)
{
    (void)state;
    size_t len = PQI_PARAM_MAX;
    char *text = malloc(len + 2);
    memset(text, 'x', len + 1);
    text[len + 1] = '\0';
    expect_refused(P(PQR_TEXT(text)), "268435457 bytes");
    text[len] = '\0';
    pqr_param p = PQR_TEXT(text);
    struct pqi_params *b = bind(&p, 1, true);
    assert_int_equal(b->lengths[0], len);
    assert_memory_equal(b->values[0], text, len + 1);
    pqi_params_free(b);
    free(text);
}

static void all_parameters_have_at_most_1000_mb(void **state)
{
    (void)state;
    pqr_param params[] = {PQR_BYTES("x", 268435456), PQR_BYTES("x", 268435456),
                          PQR_BYTES("x", 268435456), PQR_BYTES("x", 243269632), PQR_BOOL(true)};
    struct pqi_params *b = bind(params, 4, false);
    pqi_params_free(b);
    pqr_error err;
    assert_int_equal(pqi_params_bind(&b, params, 5, false, &err), PQR_E_USAGE);
    assert_non_null(strstr(err.message, "$1 to $5: 1048576001 bytes, more than the 1048576000"));
}

static void a_statement_has_at_most_65535_parameters(void **state)
{
    (void)state;
    static pqr_param params[PQI_PARAMS_MAX + 1];
    struct pqi_params *b = NULL;
    pqr_error err;
    assert_int_equal(pqi_params_bind(&b, params, COUNT(params), true, &err), PQR_E_USAGE);
    assert_non_null(strstr(err.message, "65536 parameters, more than the 65535"));
    assert_int_equal(pqi_params_bind(&b, params, SIZE_MAX, true, NULL), PQR_E_USAGE);
    assert_int_equal(pqi_params_bind(&b, NULL, 1, true, &err), PQR_E_USAGE);
    assert_non_null(strstr(err.message, "params is NULL, but nparams is 1"));
    assert_null(b);
}

static void a_statement_is_a_text_of_at_most_16_mb(void **state)
{
    (void)state;
    pqr_error err;
    assert_int_equal(pqi_sql_check("select 1", &err), PQR_OK);
    assert_int_equal(pqi_sql_check(NULL, &err), PQR_E_USAGE);
    assert_non_null(strstr(err.message, "sql is NULL"));
    assert_int_equal(pqi_sql_check("", &err), PQR_E_USAGE);
    assert_int_equal(pqi_sql_check(" \t\r\n\f\v", &err), PQR_E_USAGE);
    assert_non_null(strstr(err.message, "sql is empty"));
    char *sql = calloc(1, PQI_SQL_MAX + 2);
    memset(sql, 'x', PQI_SQL_MAX);
    assert_int_equal(pqi_sql_check(sql, NULL), PQR_OK);
    sql[PQI_SQL_MAX] = 'x';
    assert_int_equal(pqi_sql_check(sql, &err), PQR_E_USAGE);
    assert_non_null(strstr(err.message, "more than 16777216 bytes"));
    free(sql);
}

static void messages_hold_no_values(void **state)
{
    (void)state;
    pqr_param p = PQR_TEXT_N("secret\0", 7);
    struct pqi_params *b = NULL;
    pqr_error err;
    assert_int_equal(pqi_params_bind(&b, &p, 1, true, &err), PQR_E_USAGE);
    assert_null(strstr(err.message, "secret"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_parameters_are_no_struct),
        cmocka_unit_test(scalars_are_binary_in_network_order),
        cmocka_unit_test(a_time_counts_from_2000),
        cmocka_unit_test(a_time_before_postgresqls_first_is_refused),
        cmocka_unit_test(a_hand_made_bool_may_be_any_number),
        cmocka_unit_test(an_int32_that_is_too_large_is_refused),
        cmocka_unit_test(text_is_untyped_and_ends_with_nul),
        cmocka_unit_test(a_null_pointer_is_null),
        cmocka_unit_test(a_text_with_a_nul_inside_is_refused),
        cmocka_unit_test(an_unknown_type_is_refused),
        cmocka_unit_test(what_can_be_sent_in_place_is_not_copied),
        cmocka_unit_test(a_copy_refers_to_nothing_of_the_callers),
        cmocka_unit_test(many_parameters_keep_apart),
        cmocka_unit_test(a_text_array_is_a_quoted_literal),
        cmocka_unit_test(arrays_are_binary),
        cmocka_unit_test(an_empty_array_has_no_dimension),
        cmocka_unit_test(elements_may_be_null),
        cmocka_unit_test(elements_without_an_array_are_refused),
        cmocka_unit_test(a_parameter_has_at_most_256_mb),
        cmocka_unit_test(an_array_has_at_most_256_mb),
        cmocka_unit_test(a_long_text_is_measured_to_its_nul),
        cmocka_unit_test(all_parameters_have_at_most_1000_mb),
        cmocka_unit_test(a_statement_has_at_most_65535_parameters),
        cmocka_unit_test(a_statement_is_a_text_of_at_most_16_mb),
        cmocka_unit_test(messages_hold_no_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
