/* Values of results -> C types. */
#include "../../lib/plan/value.h"

#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

enum {
    BOOL = 16,
    BYTEA = 17,
    INT8 = 20,
    INT2 = 21,
    INT4 = 23,
    TEXT = 25,
    OID = 26,
    FLOAT4 = 700,
    FLOAT8 = 701,
    TIMESTAMP = 1114,
    TIMESTAMPTZ = 1184,
    NUMERIC = 1700,
    UUID = 2950
};

static struct pqi_value text_of(uint32_t type, const char *text)
{
    return (struct pqi_value){.bytes = text, .len = (int)strlen(text), .type = type};
}

static struct pqi_value text(const char *s)
{
    return text_of(TEXT, s);
}

static struct pqi_value binary(uint32_t type, const char *bytes, size_t len)
{
    return (struct pqi_value){.bytes = bytes, .len = (int)len, .type = type, .binary = true};
}

#define BINARY(type, literal) binary(type, literal, sizeof(literal) - 1)

static const struct pqi_value null_value = {.bytes = "", .type = INT8, .null = true};

/* ---- Integers -------------------------------------------------------------------------------- */

static void expect_int64(struct pqi_value v, int64_t expected)
{
    int64_t out = 77;
    const char *why = "unset";
    if (pqi_value_int64(&v, &out, &why) < 0)
        fail_msg("\"%s\": %s", v.bytes, why);
    assert_null(why);
    assert_true(out == expected);
    int32_t narrow = 77;
    if (expected < INT32_MIN || expected > INT32_MAX) {
        assert_int_equal(pqi_value_int32(&v, &narrow, &why), -1);
        assert_string_equal(why, "it does not fit the type asked for");
        assert_int_equal(narrow, 77);
    } else {
        assert_int_equal(pqi_value_int32(&v, &narrow, &why), 0);
        assert_int_equal(narrow, expected);
    }
}

static void expect_no_integer(struct pqi_value v, const char *says)
{
    int64_t wide = 77;
    int32_t narrow = 77;
    const char *why = NULL;
    if (pqi_value_int64(&v, &wide, &why) == 0)
        fail_msg("\"%s\" was read as %lld", v.bytes, (long long)wide);
    assert_string_equal(why, says);
    assert_int_equal(pqi_value_int32(&v, &narrow, &why), -1);
    assert_true(wide == 77 && narrow == 77);
}

static void every_small_integer_is_read_in_both_formats(void **state)
{
    (void)state;
    for (int i = INT16_MIN; i <= INT16_MAX; i++) {
        char digits[16];
        snprintf(digits, sizeof digits, "%d", i);
        expect_int64(text_of(INT2, digits), i);
        char bytes[] = {(char)(i >> 8), (char)i};
        expect_int64(binary(INT2, bytes, 2), i);
    }
}

static void integers_are_read_to_their_limits(void **state)
{
    (void)state;
    expect_int64(text("0"), 0);
    expect_int64(text("-0"), 0);
    expect_int64(text("007"), 7);
    expect_int64(text("2147483647"), INT32_MAX);
    expect_int64(text("2147483648"), INT64_C(2147483648));
    expect_int64(text("-2147483648"), INT32_MIN);
    expect_int64(text("-2147483649"), INT64_C(-2147483649));
    expect_int64(text("9223372036854775807"), INT64_MAX);
    expect_int64(text("-9223372036854775808"), INT64_MIN);
    expect_int64(text_of(NUMERIC, "12"), 12);
    expect_int64(BINARY(INT4, "\xff\xff\xff\xfe"), -2);
    expect_int64(BINARY(INT4, "\x80\0\0\0"), INT32_MIN);
    expect_int64(BINARY(INT8, "\x80\0\0\0\0\0\0\0"), INT64_MIN);
    expect_int64(BINARY(INT8, "\x7f\xff\xff\xff\xff\xff\xff\xff"), INT64_MAX);
    expect_int64(BINARY(OID, "\xff\xff\xff\xff"), UINT32_MAX);
    expect_no_integer(text("9223372036854775808"), "it does not fit the type asked for");
    expect_no_integer(text("-9223372036854775809"), "it does not fit the type asked for");
    expect_no_integer(text("99999999999999999999999"), "it does not fit the type asked for");
}

static void what_is_no_integer_is_not_read_as_one(void **state)
{
    (void)state;
    static const char *const texts[] = {"",    "-",   "+1", " 1", "1 ",  "1.0", "1.", "1e3",
                                        "0x1", "--1", "1-", "t",  "NaN", "1\n", "1_0"};
    for (size_t i = 0; i < COUNT(texts); i++)
        expect_no_integer(text(texts[i]), "not an integer");
    expect_no_integer(binary(TEXT, "x", 1), "not an integer");
    expect_no_integer(binary(BYTEA, "1", 1), "not an integer");
    expect_no_integer(BINARY(INT4, "\0\0\0"), "not an integer");
    expect_no_integer(BINARY(INT8, "\0\0\0\1"), "not an integer");
    expect_no_integer(BINARY(INT4, ""), "not an integer");
    expect_no_integer(BINARY(FLOAT8, "\0\0\0\0\0\0\0\0"), "not an integer");
    expect_no_integer(null_value, "it is NULL");
    struct pqi_value nul_inside = text("1\0002");
    nul_inside.len = 3;
    expect_no_integer(nul_inside, "not an integer");
}

/* Digits of base 10000, weight, sign, scale as numeric_send writes them. */
static struct pqi_value numeric(char *bytes, int weight, int sign, int scale, const int *digits,
                                int n)
{
    const int fields[] = {n, weight, sign, scale};
    for (int i = 0; i < 4 + n; i++) {
        int field = i < 4 ? fields[i] : digits[i - 4];
        bytes[2 * i] = (char)(field >> 8);
        bytes[2 * i + 1] = (char)field;
    }
    return binary(NUMERIC, bytes, (size_t)(8 + 2 * n));
}

#define DIGITS(...) (const int[]){__VA_ARGS__}, sizeof((const int[]){__VA_ARGS__}) / sizeof(int)
#define NEGATIVE 0x4000

static void a_whole_numeric_is_an_integer(void **state)
{
    (void)state;
    char b[64];
    expect_int64(numeric(b, 0, 0, 0, NULL, 0), 0);
    expect_int64(numeric(b, 0, 0, 0, DIGITS(7)), 7);
    expect_int64(numeric(b, 0, NEGATIVE, 0, DIGITS(7)), -7);
    expect_int64(numeric(b, 1, 0, 0, DIGITS(12, 345)), 120345);
    expect_int64(numeric(b, 2, 0, 0, DIGITS(5)), 500000000);
    expect_int64(numeric(b, 4, 0, 0, DIGITS(922, 3372, 368, 5477, 5807)), INT64_MAX);
    expect_int64(numeric(b, 4, NEGATIVE, 0, DIGITS(922, 3372, 368, 5477, 5808)), INT64_MIN);
    expect_no_integer(numeric(b, 4, 0, 0, DIGITS(922, 3372, 368, 5477, 5808)),
                      "it does not fit the type asked for");
    expect_no_integer(numeric(b, 4, NEGATIVE, 0, DIGITS(922, 3372, 368, 5477, 5809)),
                      "it does not fit the type asked for");
    expect_no_integer(numeric(b, 32767, 0, 0, DIGITS(1)), "it does not fit the type asked for");
    expect_no_integer(numeric(b, 0, 0, 1, DIGITS(1, 5000)), "not an integer");
    expect_no_integer(numeric(b, 0, 0, 2, DIGITS(12)), "not an integer"); /* 12.00, as in text */
    expect_no_integer(numeric(b, 0, 0xC000, 0, NULL, 0), "not an integer");
    expect_no_integer(numeric(b, 0, 0xD000, 0, NULL, 0), "not an integer");
    struct pqi_value cut = numeric(b, 0, 0, 0, DIGITS(7));
    cut.len--;
    expect_no_integer(cut, "not an integer");
    cut.len = 7;
    expect_no_integer(cut, "not an integer");
}

static void texts_are_read_alike_in_both_formats(void **state)
{
    (void)state;
    static const uint32_t types[] = {TEXT, 19, 114, 705, 1042, 1043};
    for (size_t i = 0; i < COUNT(types); i++)
        expect_int64(binary(types[i], "-42", 3), -42);
}

/* ---- Numbers --------------------------------------------------------------------------------- */

static double number(struct pqi_value v)
{
    double out = 77;
    const char *why;
    if (pqi_value_float8(&v, &out, &why) < 0)
        fail_msg("\"%s\": %s", v.bytes, why);
    return out;
}

static bool same(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static void expect_no_number(struct pqi_value v, const char *says)
{
    double out = 77;
    const char *why;
    if (pqi_value_float8(&v, &out, &why) == 0)
        fail_msg("\"%s\" was read as %g", v.bytes, out);
    assert_string_equal(why, says);
    assert_true(same(out, 77));
}

static void numbers_are_read_as_postgresql_prints_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } cases[] = {
        {"0", 0.0},
        {"-0", -0.0},
        {"1", 1.0},
        {"0.1", 0.1},
        {"-0.5", -0.5},
        {"1e-07", 1e-07},
        {"1e+20", 1e20},
        {"1.7976931348623157e+308", 1.7976931348623157e308},
        {"5e-324", 5e-324},
        {"2.2250738585072014e-308", 2.2250738585072014e-308},
        {"123456789012345678901234567890", 123456789012345678901234567890.0},
        {"0.000000000000000000000000000000000000000001", 1e-42},
        {"Infinity", INFINITY},
        {"-Infinity", -INFINITY},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        if (!same(number(text_of(FLOAT8, cases[i].text)), cases[i].value))
            fail_msg("\"%s\" became %.17g", cases[i].text, number(text(cases[i].text)));
    assert_true(isnan(number(text("NaN"))));
}

static void numbers_are_read_from_binary(void **state)
{
    (void)state;
    assert_true(same(number(BINARY(FLOAT8, "\x3f\xb9\x99\x99\x99\x99\x99\x9a")), 0.1));
    assert_true(same(number(BINARY(FLOAT8, "\xff\xf0\0\0\0\0\0\0")), -INFINITY));
    assert_true(same(number(BINARY(FLOAT8, "\x80\0\0\0\0\0\0\0")), -0.0));
    assert_true(same(number(BINARY(FLOAT4, "\x3d\xcc\xcc\xcd")), (double)0.1f));
    assert_true(same(number(BINARY(FLOAT4, "\x7f\x80\0\0")), INFINITY));
    assert_true(isnan(number(BINARY(FLOAT8, "\x7f\xf8\0\0\0\0\0\0"))));
    assert_true(same(number(BINARY(INT2, "\xff\xff")), -1));
    assert_true(same(number(BINARY(INT4, "\0\0\0\7")), 7));
    assert_true(same(number(BINARY(INT8, "\0\0\0\0\0\0\0\7")), 7));
}

static void numerics_are_rounded_to_the_nearest(void **state)
{
    (void)state;
    char b[1024];
    assert_true(same(number(numeric(b, 0, 0, 0, NULL, 0)), 0.0));
    assert_true(same(number(numeric(b, 0, NEGATIVE, 1, DIGITS(1, 5000))), -1.5));
    assert_true(same(number(numeric(b, -1, 0, 1, DIGITS(1000))), 0.1));
    assert_true(same(number(numeric(b, 5, 0, 0, DIGITS(1))), 1e20));
    assert_true(same(number(numeric(b, -3, 0, 12, DIGITS(1))), 1e-12));
    assert_true(isnan(number(numeric(b, 0, 0xC000, 0, NULL, 0))));
    assert_true(same(number(numeric(b, 0, 0xD000, 0, NULL, 0)), INFINITY));
    assert_true(same(number(numeric(b, 0, 0xF000, 0, NULL, 0)), -INFINITY));
    expect_no_number(numeric(b, 0, 0x1000, 0, NULL, 0), "not a number");
    expect_no_number(numeric(b, 77, 0, 0, DIGITS(10)), "it does not fit the type asked for");
    assert_true(same(number(numeric(b, -200, 0, 800, DIGITS(1))), 0.0));
    /* Halfway between 2^53 and the next double, and a little more, 400 digits later. */
    int digits[400] = {9007, 1992, 5474, 993};
    assert_true(same(number(numeric(b, 3, 0, 0, digits, 4)), 9007199254740992.0));
    digits[399] = 1;
    assert_true(same(number(numeric(b, 3, 0, 1584, digits, 400)), 9007199254740994.0));
}

static void every_number_survives_being_printed(void **state)
{
    (void)state;
    uint64_t bits = 1;
    for (int i = 0; i < 20000; i++) {
        double value;
        char digits[64];
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        snprintf(digits, sizeof digits, "%.17g", value);
        assert_true(same(number(text(digits)), value));
    }
}

static void what_is_no_number_is_not_read_as_one(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",         "-",   ".5",   "5.",   "+1",  "1e", "1e+",      "0x1p3", "inf",
        "infinity", "nan", "-NaN", "1,5",  " 1",  "1 ", "1..2",     "1f",    "INF",
        "1e5.",     "$1",  "1e5x", "NaN ", "--1", "e5", "+Infinity"};
    for (size_t i = 0; i < COUNT(texts); i++)
        expect_no_number(text(texts[i]), "not a number");
    expect_no_number(text("1e309"), "it does not fit the type asked for");
    expect_no_number(text("-1e309"), "it does not fit the type asked for");
    expect_no_number(BINARY(FLOAT8, "\0\0\0\0"), "not a number");
    expect_no_number(BINARY(FLOAT4, "\0\0\0\0\0\0\0\0"), "not a number");
    expect_no_number(BINARY(BYTEA, "1"), "not a number");
    expect_no_number(null_value, "it is NULL");
}

static void the_locale_does_not_matter(void **state)
{
    (void)state;
    static const char *const with_comma[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8",
                                             "fr_FR.utf8"};
    size_t i = 0;
    while (i < COUNT(with_comma) && !setlocale(LC_ALL, with_comma[i]))
        i++;
    if (i == COUNT(with_comma))
        skip();
    assert_true(same(number(text("0.5")), 0.5));
    expect_no_number(text("0,5"), "not a number");
    setlocale(LC_ALL, "C");
}

/* ---- Booleans, uuids ------------------------------------------------------------------------- */

static void booleans_are_true_or_false_and_nothing_else(void **state)
{
    (void)state;
    bool out;
    const char *why;
    const struct pqi_value yes[] = {text("t"), text("true"), BINARY(BOOL, "\1")};
    const struct pqi_value no[] = {text("f"), text("false"), BINARY(BOOL, "\0")};
    for (size_t i = 0; i < COUNT(yes); i++) {
        assert_int_equal(pqi_value_bool(&yes[i], &out, &why), 0);
        assert_true(out);
        assert_int_equal(pqi_value_bool(&no[i], &out, &why), 0);
        assert_false(out);
    }
    const struct pqi_value neither[] = {text(""),
                                        text("T"),
                                        text("1"),
                                        text("yes"),
                                        text("tr"),
                                        text("t "),
                                        BINARY(BOOL, "\2"),
                                        BINARY(BOOL, ""),
                                        BINARY(BOOL, "\1\1"),
                                        BINARY(INT4, "\0\0\0\1"),
                                        BINARY(BYTEA, "t")};
    for (size_t i = 0; i < COUNT(neither); i++) {
        assert_int_equal(pqi_value_bool(&neither[i], &out, &why), -1);
        assert_string_equal(why, "not a boolean");
    }
    assert_int_equal(pqi_value_bool(&null_value, &out, &why), -1);
    assert_string_equal(why, "it is NULL");
}

static void a_uuid_is_sixteen_bytes(void **state)
{
    (void)state;
    static const uint8_t expected[] = {0x01, 0x8f, 0x4e, 0x2a, 0x7c, 0x3b, 0x7b, 0x52,
                                       0x9d, 0x0e, 0x5f, 0x2c, 0x3a, 0x1b, 0x4d, 0xff};
    const struct pqi_value good[] = {text("018f4e2a-7c3b-7b52-9d0e-5f2c3a1b4dff"),
                                     text("018F4E2A-7C3B-7B52-9D0E-5F2C3A1B4DFF"),
                                     binary(UUID, (const char *)expected, 16)};
    const char *why;
    for (size_t i = 0; i < COUNT(good); i++) {
        uint8_t out[16] = {0};
        assert_int_equal(pqi_value_uuid(&good[i], out, &why), 0);
        assert_memory_equal(out, expected, 16);
    }
    const struct pqi_value bad[] = {text(""),
                                    text("018f4e2a7c3b7b529d0e5f2c3a1b4dff"),
                                    text("018f4e2a-7c3b-7b52-9d0e-5f2c3a1b4df"),
                                    text("018f4e2a-7c3b-7b52-9d0e-5f2c3a1b4dff0"),
                                    text("018f4e2a-7c3b-7b52-9d0e5-f2c3a1b4dff"),
                                    text("{18f4e2a-7c3b-7b52-9d0e-5f2c3a1b4dff"),
                                    text("018f4e2a-7c3b-7b52-9d0e-5f2c3a1b4dfg"),
                                    text("018f4e2a-7c3b-7b52-9d0e-5f2c3a1b4d f"),
                                    binary(UUID, (const char *)expected, 15),
                                    binary(BYTEA, (const char *)expected, 16)};
    for (size_t i = 0; i < COUNT(bad); i++) {
        uint8_t out[16] = {7};
        assert_int_equal(pqi_value_uuid(&bad[i], out, &why), -1);
        assert_string_equal(why, "not a uuid");
        assert_int_equal(out[0], 7);
    }
    uint8_t out[16];
    assert_int_equal(pqi_value_uuid(&null_value, out, &why), -1);
    assert_string_equal(why, "it is NULL");
}

/* ---- Times ----------------------------------------------------------------------------------- */

static void expect_time(const char *s, int64_t us)
{
    struct pqi_value v = text_of(TIMESTAMPTZ, s);
    int64_t out = 77;
    const char *why;
    if (pqi_value_timestamptz(&v, &out, &why) < 0)
        fail_msg("\"%s\": %s", s, why);
    if (out != us)
        fail_msg("\"%s\" became %lld, not %lld", s, (long long)out, (long long)us);
}

static void expect_no_time(struct pqi_value v, const char *says)
{
    int64_t out = 77;
    const char *why;
    if (pqi_value_timestamptz(&v, &out, &why) == 0)
        fail_msg("\"%s\" was read as %lld", v.bytes, (long long)out);
    if (!strstr(why, says))
        fail_msg("\"%s\": %s", v.bytes, why);
    assert_true(out == 77);
}

static void times_are_read_as_postgresql_prints_them(void **state)
{
    (void)state;
    expect_time("1970-01-01 00:00:00+00", 0);
    expect_time("1970-01-01 00:00:00.000001+00", 1);
    expect_time("1969-12-31 23:59:59.999999+00", -1);
    expect_time("1970-01-01 00:00:00.5+00", 500000);
    expect_time("1970-01-01 00:00:00.05+00", 50000);
    expect_time("2000-01-01 00:00:00+00", 946684800000000);
    expect_time("2024-02-29 12:34:56.789+00", 1709210096789000);
    expect_time("1970-01-01 05:30:00+05:30", 0);
    expect_time("1969-12-31 16:00:00-08", 0);
    expect_time("1970-01-01 00:19:32.123456+00:19:32", 123456);
    expect_time("1969-12-31 23:58:45-00:01:15", 0);
    expect_time("1969-12-31 08:00:00.25-15:59:59", -750000);
    expect_time("0001-01-01 00:00:00+00", -62135596800000000);
    expect_time("0001-12-31 23:59:59+00 BC", -62135596801000000);
    expect_time("0001-02-29 00:00:00+00 BC", -62162121600000000);
    expect_time("4714-11-24 00:00:00+00 BC", -210866803200000000);
    expect_time("10000-01-01 00:00:00+00", 253402300800000000);
    expect_time("294247-01-10 04:00:54.775807+00", INT64_MAX);
}

/* Counts days month by month, instead of by arithmetic. */
static void the_first_of_every_month_is_found(void **state)
{
    (void)state;
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    /* 4714-11-24 BC, 327 days into its year, is 2440588 days before 1970. */
    int64_t days = -2440588 - 327;
    for (int year = -4713; year <= 12000; year++) {
        bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        for (int month = 1; month <= 12; month++) {
            char s[64];
            snprintf(s, sizeof s, "%04d-%02d-01 00:00:00+00%s", year > 0 ? year : 1 - year, month,
                     year > 0 ? "" : " BC");
            expect_time(s, days * INT64_C(86400000000));
            days += lengths[month - 1] + (month == 2 && leap);
        }
    }
}

static void every_second_of_a_day_is_found(void **state)
{
    (void)state;
    for (int second = 0; second < 86400; second++) {
        char s[64];
        snprintf(s, sizeof s, "1970-01-02 %02d:%02d:%02d+00", second / 3600, second / 60 % 60,
                 second % 60);
        expect_time(s, (INT64_C(86400) + second) * 1000000);
    }
}

static void days_that_are_not_in_the_calendar_are_refused(void **state)
{
    (void)state;
    static const char *const days[] = {"1970-00-01", "1970-13-01", "1970-01-00", "1970-01-32",
                                       "1970-02-29", "1900-02-29", "2100-02-29", "1970-04-31",
                                       "2000-02-30", "0000-01-01"};
    for (size_t i = 0; i < COUNT(days); i++) {
        char s[64];
        snprintf(s, sizeof s, "%s 00:00:00+00", days[i]);
        expect_no_time(text(s), "not a timestamptz");
    }
    expect_time("2000-02-29 00:00:00+00", 951782400000000);
}

static void what_is_no_time_is_not_read_as_one(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "1970-01-01",
        "1970-01-01 00:00:00",
        "1970-01-01T00:00:00+00",
        "1970-01-01 00:00+00",
        "1970-01-01 00:00:00Z",
        "1970-01-01 00:00:00 UTC",
        "1970-01-01 00:00:00+0",
        "1970-01-01 00:00:00+000",
        "1970-01-01 00:00:00+00:",
        "1970-01-01 00:00:00+00:0",
        "1970-01-01 00:00:00+00:60",
        "1970-01-01 00:00:00+16",
        "1970-01-01 00:00:00.+00",
        "1970-01-01 00:00:00.1234567+00",
        "1970-01-01 24:00:00+00",
        "1970-01-01 00:60:00+00",
        "1970-01-01 00:00:60+00",
        "1970-1-01 00:00:00+00",
        "70-01-01 00:00:00+00",
        "-1970-01-01 00:00:00+00",
        "1234567-01-01 00:00:00+00",
        "1970-01-01 00:00:00+00 AD",
        "1970-01-01 00:00:00+00 BC ",
        "1970-01-01 00:00:00+00BC",
        " 1970-01-01 00:00:00+00",
        "1970-01-01 00:00:00+00 ",
        "01/02/1970 00:00:00+00",
        "now",
    };
    for (size_t i = 0; i < COUNT(texts); i++)
        expect_no_time(text(texts[i]), "not a timestamptz: its text must be ISO with an offset");
    expect_no_time(text("infinity"), "it is infinite");
    expect_no_time(text("-infinity"), "it is infinite");
    expect_no_time(text("294247-01-10 04:00:54.775808+00"), "it does not fit");
    expect_no_time(text("294276-12-31 23:59:59.999999+00"), "it does not fit");
    expect_no_time(text("999999-12-31 23:59:59.999999+00"), "it does not fit");
    expect_no_time(null_value, "it is NULL");
}

static void times_are_read_from_binary(void **state)
{
    (void)state;
    int64_t out;
    const char *why;
    struct pqi_value v = BINARY(TIMESTAMPTZ, "\0\0\0\0\0\0\0\1");
    assert_int_equal(pqi_value_timestamptz(&v, &out, &why), 0);
    assert_true(out == 946684800000001);
    v = BINARY(TIMESTAMPTZ, "\x7f\xfc\xa2\xfe\xc4\xc8\x1f\xff");
    assert_int_equal(pqi_value_timestamptz(&v, &out, &why), 0);
    assert_true(out == INT64_MAX);
    expect_no_time(BINARY(TIMESTAMPTZ, "\x7f\xfc\xa2\xfe\xc4\xc8\x20\x00"), "it does not fit");
    expect_no_time(BINARY(TIMESTAMPTZ, "\x7f\xff\xff\xff\xff\xff\xff\xff"), "it is infinite");
    expect_no_time(BINARY(TIMESTAMPTZ, "\x80\0\0\0\0\0\0\0"), "it is infinite");
    expect_no_time(BINARY(TIMESTAMP, "\0\0\0\0\0\0\0\1"), "not a timestamptz");
    expect_no_time(BINARY(TIMESTAMPTZ, "\0\0\0\1"), "not a timestamptz");
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

static void expect_bytes(struct pqi_value v, const char *expected, size_t len)
{
    /* With too little room, exactly enough, and more. */
    for (size_t cap = 0; cap <= len + 2; cap++) {
        char buf[64];
        size_t got = 77;
        const char *why;
        memset(buf, '#', sizeof buf);
        if (pqi_value_bytes(&v, cap ? buf : NULL, cap, &got, &why) < 0)
            fail_msg("\"%s\": %s", v.bytes, why);
        assert_int_equal(got, len);
        size_t written = cap < len ? cap : len;
        assert_memory_equal(buf, expected, written);
        assert_int_equal(buf[written], '#');
    }
}

#define EXPECT_BYTES(value, literal) expect_bytes(value, literal, sizeof(literal) - 1)

static void bytea_is_decoded_from_both_of_its_texts(void **state)
{
    (void)state;
    EXPECT_BYTES(text_of(BYTEA, "\\x"), "");
    EXPECT_BYTES(text_of(BYTEA, "\\x00ff10Ab"), "\0\xff\x10\xab");
    EXPECT_BYTES(text_of(BYTEA, ""), "");
    EXPECT_BYTES(text_of(BYTEA, "abc"), "abc");
    EXPECT_BYTES(text_of(BYTEA, "a\\000b\\377\\\\c"), "a\0b\xff\\c");
    EXPECT_BYTES(text_of(BYTEA, "\\\\x41"), "\\x41");
}

static void everything_else_is_given_as_it_is(void **state)
{
    (void)state;
    EXPECT_BYTES(text("\\x41"), "\\x41");
    EXPECT_BYTES(text_of(INT4, "42"), "42");
    EXPECT_BYTES(BINARY(BYTEA, "a\0b"), "a\0b");
    EXPECT_BYTES(BINARY(BYTEA, "\\x41"), "\\x41");
    EXPECT_BYTES(BINARY(INT4, "\0\0\0\1"), "\0\0\0\1");
}

static void a_broken_bytea_writes_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {"\\x4",    "\\x4g",  "\\x41 42", "ab\\",
                                        "ab\\1",   "ab\\12", "ab\\400",  "ab\\128",
                                        "ab\\x41", "\\x0x1", "\\"};
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct pqi_value v = text_of(BYTEA, texts[i]);
        char buf[8] = "#######";
        size_t len = 77;
        const char *why;
        if (pqi_value_bytes(&v, buf, sizeof buf, &len, &why) == 0)
            fail_msg("\"%s\" was read", texts[i]);
        assert_string_equal(why, "not a bytea");
        assert_string_equal(buf, "#######");
        assert_int_equal(len, 77);
    }
    char buf[8];
    size_t len;
    const char *why;
    assert_int_equal(pqi_value_bytes(&null_value, buf, sizeof buf, &len, &why), -1);
    assert_string_equal(why, "it is NULL");
}

/* ---- Anything -------------------------------------------------------------------------------- */

/* Under the address sanitizer this finds reads beyond the value. */
static void no_value_leads_out_of_itself(void **state)
{
    (void)state;
    static const uint32_t types[] = {BOOL, BYTEA,  INT8,        INT2, INT4,
                                     TEXT, FLOAT8, TIMESTAMPTZ, UUID, NUMERIC};
    static const char letters[] = "0123456789012345678-+:. BCeE\\xaftNn\0\xff";
    unsigned random = 1;
    for (int i = 0; i < 300000; i++) {
        random = random * 1664525 + 1013904223;
        size_t len = (random >> 16) % 40;
        char *bytes = malloc(len + 1);
        for (size_t b = 0; b < len; b++) {
            random = random * 1664525 + 1013904223;
            bytes[b] = letters[(random >> 16) % sizeof letters];
        }
        bytes[len] = '\0';
        struct pqi_value v = {
            .bytes = bytes, .len = (int)len, .type = types[i % 10], .binary = i / 10 % 2 == 0};
        int64_t i8;
        int32_t i4;
        double f8;
        bool b;
        uint8_t uuid[16], buf[16];
        const char *why;
        pqi_value_int32(&v, &i4, &why);
        pqi_value_int64(&v, &i8, &why);
        pqi_value_float8(&v, &f8, &why);
        pqi_value_bool(&v, &b, &why);
        pqi_value_uuid(&v, uuid, &why);
        pqi_value_timestamptz(&v, &i8, &why);
        pqi_value_bytes(&v, buf, len % 17, &(size_t){0}, &why);
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_small_integer_is_read_in_both_formats),
        cmocka_unit_test(integers_are_read_to_their_limits),
        cmocka_unit_test(what_is_no_integer_is_not_read_as_one),
        cmocka_unit_test(a_whole_numeric_is_an_integer),
        cmocka_unit_test(texts_are_read_alike_in_both_formats),
        cmocka_unit_test(numbers_are_read_as_postgresql_prints_them),
        cmocka_unit_test(numbers_are_read_from_binary),
        cmocka_unit_test(numerics_are_rounded_to_the_nearest),
        cmocka_unit_test(every_number_survives_being_printed),
        cmocka_unit_test(what_is_no_number_is_not_read_as_one),
        cmocka_unit_test(the_locale_does_not_matter),
        cmocka_unit_test(booleans_are_true_or_false_and_nothing_else),
        cmocka_unit_test(a_uuid_is_sixteen_bytes),
        cmocka_unit_test(times_are_read_as_postgresql_prints_them),
        cmocka_unit_test(the_first_of_every_month_is_found),
        cmocka_unit_test(every_second_of_a_day_is_found),
        cmocka_unit_test(days_that_are_not_in_the_calendar_are_refused),
        cmocka_unit_test(what_is_no_time_is_not_read_as_one),
        cmocka_unit_test(times_are_read_from_binary),
        cmocka_unit_test(bytea_is_decoded_from_both_of_its_texts),
        cmocka_unit_test(everything_else_is_given_as_it_is),
        cmocka_unit_test(a_broken_bytea_writes_nothing),
        cmocka_unit_test(no_value_leads_out_of_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
