/* Bytes of a value -> C types. Every reader returns NULL, or why it cannot. */
#include "value.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    OID_BOOL = 16,
    OID_BYTEA = 17,
    OID_NAME = 19,
    OID_INT8 = 20,
    OID_INT2 = 21,
    OID_INT4 = 23,
    OID_TEXT = 25,
    OID_OID = 26,
    OID_JSON = 114,
    OID_FLOAT4 = 700,
    OID_FLOAT8 = 701,
    OID_UNKNOWN = 705,
    OID_BPCHAR = 1042,
    OID_VARCHAR = 1043,
    OID_TIMESTAMPTZ = 1184,
    OID_NUMERIC = 1700,
    OID_UUID = 2950
};

static const char IS_NULL[] = "it is NULL";
static const char NO_INTEGER[] = "not an integer";
static const char NO_NUMBER[] = "not a number";
static const char NO_BOOL[] = "not a boolean";
static const char NO_UUID[] = "not a uuid";
static const char NO_TIME[] = "not a timestamptz: its text must be ISO with an offset";
static const char NO_BYTEA[] = "not a bytea";
static const char INFINITE[] = "it is infinite";
static const char TOO_LARGE[] = "it does not fit the type asked for";

static int answer(const char *reason, const char **why)
{
    *why = reason;
    return reason ? -1 : 0;
}

static bool is_text(const struct pqi_value *v, const char *text)
{
    return (size_t)v->len == strlen(text) && memcmp(v->bytes, text, (size_t)v->len) == 0;
}

/* Is its form the text's? So is the binary form of texts. */
static bool reads_as_text(const struct pqi_value *v)
{
    switch (v->type) {
    case OID_TEXT:
    case OID_VARCHAR:
    case OID_BPCHAR:
    case OID_NAME:
    case OID_JSON:
    case OID_UNKNOWN:
        return true;
    default:
        return !v->binary;
    }
}

/* Is it a binary value of this type, with the bytes that such a one has? */
static bool is_binary(const struct pqi_value *v, uint32_t type, int len)
{
    return v->type == type && v->len == len;
}

/* Its bytes as a number; of more than eight the last ones. */
static uint64_t big_endian(const struct pqi_value *v)
{
    uint64_t bits = 0;
    for (int i = 0; i < v->len; i++)
        bits = bits << 8 | (unsigned char)v->bytes[i];
    return bits;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* ---- numeric, in binary ---------------------------------------------------------------------- */

/* Digits of base 10000; the first counts 10000 to the power of `weight`. See numeric_send. */
struct numeric {
    int ndigits;
    int weight;
    int sign;
    int scale; /* decimal digits behind the point */
    const char *digits;
};

enum { POSITIVE = 0, NEGATIVE = 0x4000, NO_NUMERIC = 0xC000, ABOVE = 0xD000, BELOW = 0xF000 };

static int u16_at(const char *p)
{
    return (unsigned char)p[0] << 8 | (unsigned char)p[1];
}

static bool read_numeric(const struct pqi_value *v, struct numeric *n)
{
    if (v->type != OID_NUMERIC || v->len < 8)
        return false;
    *n = (struct numeric){u16_at(v->bytes), (int16_t)u16_at(v->bytes + 2), u16_at(v->bytes + 4),
                          u16_at(v->bytes + 6), v->bytes + 8};
    return v->len == 8 + 2 * n->ndigits;
}

/* The digit that counts 10000 to the power of `weight` - i. */
static int digit_at(const struct numeric *n, int i)
{
    return i < n->ndigits ? u16_at(n->digits + 2 * i) : 0;
}

/* ---- Integers -------------------------------------------------------------------------------- */

/* Numbers are summed up below zero: the lowest has no positive counterpart. */
static const char *add_digit(int64_t *below, int base, int digit)
{
    if (__builtin_mul_overflow(*below, base, below) || __builtin_sub_overflow(*below, digit, below))
        return TOO_LARGE;
    return NULL;
}

static const char *with_sign(int64_t below, bool negative, int64_t *out)
{
    if (!negative && __builtin_sub_overflow(0, below, &below))
        return TOO_LARGE;
    *out = below;
    return NULL;
}

static const char *numeric_integer(const struct numeric *n, int64_t *out)
{
    if ((n->sign != POSITIVE && n->sign != NEGATIVE) || n->scale > 0)
        return NO_INTEGER;
    int64_t below = 0;
    const char *reason = NULL;
    for (int i = 0; i <= n->weight && !reason; i++)
        reason = add_digit(&below, 10000, digit_at(n, i));
    return reason ? reason : with_sign(below, n->sign == NEGATIVE, out);
}

static const char *binary_integer(const struct pqi_value *v, int64_t *out)
{
    struct numeric n;
    if (is_binary(v, OID_INT8, 8))
        *out = (int64_t)big_endian(v);
    else if (is_binary(v, OID_INT4, 4))
        *out = (int32_t)big_endian(v);
    else if (is_binary(v, OID_INT2, 2))
        *out = (int16_t)big_endian(v);
    else if (is_binary(v, OID_OID, 4))
        *out = (int64_t)big_endian(v);
    else
        return read_numeric(v, &n) ? numeric_integer(&n, out) : NO_INTEGER;
    return NULL;
}

static const char *text_integer(const struct pqi_value *v, int64_t *out)
{
    const char *p = v->bytes, *end = v->bytes + v->len;
    bool negative = p < end && *p == '-';
    p += negative;
    size_t digits = strspn(p, "0123456789");
    if (digits == 0 || p + digits != end)
        return NO_INTEGER;
    int64_t below = 0;
    const char *reason = NULL;
    for (; p < end && !reason; p++)
        reason = add_digit(&below, 10, *p - '0');
    return reason ? reason : with_sign(below, negative, out);
}

static const char *integer(const struct pqi_value *v, int64_t *out)
{
    if (v->null)
        return IS_NULL;
    return reads_as_text(v) ? text_integer(v, out) : binary_integer(v, out);
}

int pqi_value_int64(const struct pqi_value *v, int64_t *out, const char **why)
{
    return answer(integer(v, out), why);
}

int pqi_value_int32(const struct pqi_value *v, int32_t *out, const char **why)
{
    int64_t wide = 0;
    const char *reason = integer(v, &wide);
    if (!reason && (wide < INT32_MIN || wide > INT32_MAX))
        reason = TOO_LARGE;
    if (!reason)
        *out = (int32_t)wide;
    return answer(reason, why);
}

/* ---- Numbers --------------------------------------------------------------------------------- */

/* strtod with a decimal point, whatever the application's locale writes. */
static double decimal(const char *text)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    double number = strtod_l(text, NULL, c);
    freelocale(c);
    return number;
}

/* Written out in decimal for strtod to round. A double and its neighbour are told apart by less
 * than 800 digits; that there are more is told by one that is not 0. */
static double numeric_decimal(const struct numeric *n)
{
    enum { MOST = 200 };
    char text[4 * MOST + 32], *p = text;
    int used = n->ndigits < MOST ? n->ndigits : MOST;
    if (n->sign == NEGATIVE)
        *p++ = '-';
    for (int i = 0; i < used; i++)
        for (int digit = digit_at(n, i), unit = 1000; unit > 0; unit /= 10)
            *p++ = (char)('0' + digit / unit % 10);
    snprintf(p, 32, "%de%d", used < n->ndigits, 4 * (n->weight + 1 - used) - 1);
    return decimal(text);
}

static const char *numeric_number(const struct numeric *n, double *out)
{
    double number;
    switch (n->sign) {
    case POSITIVE:
    case NEGATIVE:
        number = numeric_decimal(n);
        if (isinf(number))
            return TOO_LARGE;
        break;
    case ABOVE:
        number = INFINITY;
        break;
    case BELOW:
        number = -INFINITY;
        break;
    case NO_NUMERIC:
        number = NAN;
        break;
    default:
        return NO_NUMBER;
    }
    *out = number;
    return NULL;
}

static const char *binary_number(const struct pqi_value *v, double *out)
{
    uint64_t bits = big_endian(v);
    uint32_t narrow_bits = (uint32_t)bits;
    struct numeric n;
    float narrow;
    int64_t whole;
    if (read_numeric(v, &n))
        return numeric_number(&n, out);
    if (is_binary(v, OID_FLOAT8, 8)) {
        memcpy(out, &bits, sizeof *out);
    } else if (is_binary(v, OID_FLOAT4, 4)) {
        memcpy(&narrow, &narrow_bits, sizeof narrow);
        *out = (double)narrow;
    } else if (!binary_integer(v, &whole)) {
        *out = (double)whole;
    } else {
        return NO_NUMBER;
    }
    return NULL;
}

static bool skip_digits(const char **p)
{
    const char *from = *p;
    while (is_digit(**p))
        (*p)++;
    return *p > from;
}

/* -12, 0.5, 1e-07: what PostgreSQL prints; strtod alone takes much more. */
static bool is_decimal(const char *p, const char *end)
{
    p += *p == '-';
    if (!skip_digits(&p))
        return false;
    if (*p == '.' && (p++, !skip_digits(&p)))
        return false;
    if (*p == 'e' || *p == 'E') {
        p++;
        p += *p == '+' || *p == '-';
        if (!skip_digits(&p))
            return false;
    }
    return p == end;
}

static const char *text_number(const struct pqi_value *v, double *out)
{
    if (is_text(v, "NaN")) {
        *out = NAN;
    } else if (is_text(v, "Infinity")) {
        *out = INFINITY;
    } else if (is_text(v, "-Infinity")) {
        *out = -INFINITY;
    } else {
        double number = is_decimal(v->bytes, v->bytes + v->len) ? decimal(v->bytes) : NAN;
        if (isnan(number))
            return NO_NUMBER;
        if (isinf(number))
            return TOO_LARGE;
        *out = number;
    }
    return NULL;
}

int pqi_value_float8(const struct pqi_value *v, double *out, const char **why)
{
    if (v->null)
        return answer(IS_NULL, why);
    return answer(reads_as_text(v) ? text_number(v, out) : binary_number(v, out), why);
}

/* ---- Booleans, uuids ------------------------------------------------------------------------- */

int pqi_value_bool(const struct pqi_value *v, bool *out, const char **why)
{
    if (v->null)
        return answer(IS_NULL, why);
    bool yes = reads_as_text(v) ? is_text(v, "t") || is_text(v, "true")
                                : is_binary(v, OID_BOOL, 1) && v->bytes[0] == 1;
    bool no = reads_as_text(v) ? is_text(v, "f") || is_text(v, "false")
                               : is_binary(v, OID_BOOL, 1) && v->bytes[0] == 0;
    if (!yes && !no)
        return answer(NO_BOOL, why);
    *out = yes;
    return answer(NULL, why);
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* A byte of two hexadecimal digits; -1: they are none. */
static int hex_byte(const char *p)
{
    int high = hex_digit(p[0]), low = hex_digit(p[1]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static const char *text_uuid(const struct pqi_value *v, uint8_t bytes[16])
{
    const char *p = v->bytes;
    if (v->len != 36)
        return NO_UUID;
    for (int i = 0; i < 16; i++, p += 2) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && *p++ != '-')
            return NO_UUID;
        int byte = hex_byte(p);
        if (byte < 0)
            return NO_UUID;
        bytes[i] = (uint8_t)byte;
    }
    return NULL;
}

int pqi_value_uuid(const struct pqi_value *v, uint8_t out[16], const char **why)
{
    uint8_t bytes[16];
    const char *reason = NULL;
    if (v->null)
        reason = IS_NULL;
    else if (reads_as_text(v))
        reason = text_uuid(v, bytes);
    else if (is_binary(v, OID_UUID, 16))
        memcpy(bytes, v->bytes, sizeof bytes);
    else
        reason = NO_UUID;
    if (!reason)
        memcpy(out, bytes, sizeof bytes);
    return answer(reason, why);
}

/* ---- Times ----------------------------------------------------------------------------------- */

#define SECOND_US INT64_C(1000000)
#define EPOCH_SHIFT_US INT64_C(946684800000000) /* from 1970-01-01 to 2000-01-01 */

static const char *binary_time(const struct pqi_value *v, int64_t *out)
{
    if (!is_binary(v, OID_TIMESTAMPTZ, 8))
        return NO_TIME;
    int64_t us = (int64_t)big_endian(v);
    if (us == INT64_MAX || us == INT64_MIN)
        return INFINITE;
    return __builtin_add_overflow(us, EPOCH_SHIFT_US, out) ? TOO_LARGE : NULL;
}

static bool is_leap(int year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && is_leap(year));
}

/* Days from 1970-01-01 to a date of the Gregorian calendar, extended backwards; year 0 is 1 BC.
 * Counted in years from March, so that the leap day is the last, and eras of 400 years. */
static int64_t days_since_1970(int year, int month, int day)
{
    year -= month <= 2;
    int era = (year >= 0 ? year : year - 399) / 400;
    int year_of_era = year - era * 400;
    int month_from_march = (month + 9) % 12;
    int day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return (int64_t)era * 146097 + day_of_era - 719468;
}

/* Between `min` and `max` digits as a number. */
static bool take_number(const char **p, int min, int max, int *out)
{
    int n = 0, digits = 0;
    for (; digits < max && is_digit(**p); digits++)
        n = n * 10 + (*(*p)++ - '0');
    *out = n;
    return digits >= min;
}

static bool take(const char **p, char c)
{
    bool there = **p == c;
    *p += there;
    return there;
}

static bool take_two(const char **p, int below, int *out)
{
    return take_number(p, 2, 2, out) && *out < below;
}

/* ".5" is 500000 microseconds; no point: 0. */
static bool take_fraction(const char **p, int *us)
{
    *us = 0;
    if (!take(p, '.'))
        return true;
    const char *from = *p;
    if (!take_number(p, 1, 6, us))
        return false;
    for (long digits = *p - from; digits < 6; digits++)
        *us *= 10;
    return true;
}

/* "+05", "+05:30", "-00:01:15": seconds to the east. */
static bool take_offset(const char **p, int *seconds)
{
    int h = 0, m = 0, s = 0;
    bool west = **p == '-';
    if (!take(p, '+') && !take(p, '-'))
        return false;
    if (!take_two(p, 16, &h) || (take(p, ':') && !take_two(p, 60, &m)) ||
        (take(p, ':') && !take_two(p, 60, &s)))
        return false;
    *seconds = (h * 3600 + m * 60 + s) * (west ? -1 : 1);
    return true;
}

/* What PostgreSQL prints under DateStyle ISO: "0044-03-15 12:00:00.5+00:50 BC". */
static const char *text_time(const struct pqi_value *v, int64_t *out)
{
    int year, month, day, h, m, s, us, offset;
    const char *p = v->bytes, *end = v->bytes + v->len;
    if (is_text(v, "infinity") || is_text(v, "-infinity"))
        return INFINITE;
    if (!take_number(&p, 4, 6, &year) || !take(&p, '-') || !take_two(&p, 13, &month) ||
        !take(&p, '-') || !take_two(&p, 32, &day) || !take(&p, ' ') || !take_two(&p, 24, &h) ||
        !take(&p, ':') || !take_two(&p, 60, &m) || !take(&p, ':') || !take_two(&p, 60, &s) ||
        !take_fraction(&p, &us) || !take_offset(&p, &offset))
        return NO_TIME;
    bool bc = end - p == 3 && memcmp(p, " BC", 3) == 0;
    if (p + (bc ? 3 : 0) != end || year == 0)
        return NO_TIME;
    year = bc ? 1 - year : year;
    if (month == 0 || day == 0 || day > days_in_month(year, month))
        return NO_TIME;
    int64_t seconds = days_since_1970(year, month, day) * 86400 + h * 3600 + m * 60 + s - offset;
    int64_t whole;
    if (__builtin_mul_overflow(seconds, SECOND_US, &whole) ||
        __builtin_add_overflow(whole, us, &whole))
        return TOO_LARGE;
    *out = whole;
    return NULL;
}

int pqi_value_timestamptz(const struct pqi_value *v, int64_t *out, const char **why)
{
    int64_t us = 0;
    const char *reason = IS_NULL;
    if (!v->null)
        reason = reads_as_text(v) ? text_time(v, &us) : binary_time(v, &us);
    if (!reason)
        *out = us;
    return answer(reason, why);
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

/* Where decoded bytes go; those beyond `cap` are only counted. */
struct sink {
    uint8_t *out;
    size_t cap;
    size_t len;
};

static void put(struct sink *s, int byte)
{
    if (s->len < s->cap)
        s->out[s->len] = (uint8_t)byte;
    s->len++;
}

static const char *decode_hex(const char *p, const char *end, struct sink *s)
{
    if ((end - p) % 2 != 0)
        return NO_BYTEA;
    for (; p < end; p += 2) {
        int byte = hex_byte(p);
        if (byte < 0)
            return NO_BYTEA;
        put(s, byte);
    }
    return NULL;
}

/* Three octal digits up to 377; -1: they are none. */
static int octal_byte(const char *p)
{
    for (int i = 0; i < 3; i++)
        if (p[i] < '0' || p[i] > (i == 0 ? '3' : '7'))
            return -1;
    return (p[0] - '0') << 6 | (p[1] - '0') << 3 | (p[2] - '0');
}

/* The old bytea_output = escape: \\ and \ooo. */
static const char *decode_escape(const char *p, const char *end, struct sink *s)
{
    while (p < end) {
        if (*p != '\\') {
            put(s, (unsigned char)*p++);
        } else if (end - p >= 2 && p[1] == '\\') {
            put(s, '\\');
            p += 2;
        } else {
            int byte = end - p >= 4 ? octal_byte(p + 1) : -1;
            if (byte < 0)
                return NO_BYTEA;
            put(s, byte);
            p += 4;
        }
    }
    return NULL;
}

static const char *decode_bytes(const struct pqi_value *v, struct sink *s)
{
    const char *p = v->bytes, *end = v->bytes + v->len;
    if (!v->binary && v->type == OID_BYTEA)
        return v->len >= 2 && p[0] == '\\' && p[1] == 'x' ? decode_hex(p + 2, end, s)
                                                          : decode_escape(p, end, s);
    s->len = (size_t)v->len;
    if (s->cap > 0)
        memcpy(s->out, p, s->len < s->cap ? s->len : s->cap);
    return NULL;
}

int pqi_value_bytes(const struct pqi_value *v, void *buf, size_t cap, size_t *len, const char **why)
{
    if (v->null)
        return answer(IS_NULL, why);
    struct sink count = {0};
    const char *reason = decode_bytes(v, &count); /* nothing is written before all is well */
    if (reason)
        return answer(reason, why);
    struct sink sink = {.out = buf, .cap = cap};
    decode_bytes(v, &sink);
    *len = sink.len;
    return answer(NULL, why);
}
