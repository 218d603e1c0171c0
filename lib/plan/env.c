/* What the text of a variable says: numbers, durations and choices, strictly, and back. */
#include "env.h"

#include <stdio.h>
#include <string.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The digits at *at; false without any, or when they do not fit. */
static bool take_digits(const char **at, int64_t *out)
{
    int64_t value = 0;
    if (!is_digit(**at))
        return false;
    for (; is_digit(**at); ++*at)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, **at - '0', &value))
            return false;
    *out = value;
    return true;
}

bool pqi_read_whole(const char *text, int64_t min, int64_t max, int64_t *out)
{
    int64_t value;
    if (!take_digits(&text, &value) || *text || value < min || value > max)
        return false;
    *out = value;
    return true;
}

/* ---- Durations ---------------------------------------------------------------------------- */

static const struct unit {
    const char *name;
    int64_t ms;
} units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {"", 1000}};

static int64_t unit_ms(const char *name)
{
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(name, units[i].name) == 0)
            return units[i].ms;
    return 0;
}

/* The digits behind a point at *at, as billionths rounded up. */
static bool take_fraction(const char **at, int64_t *billionths)
{
    int64_t value = 0, place = 100000000;
    bool more = false;
    if (!is_digit(**at))
        return false;
    for (; is_digit(**at); ++*at, place /= 10) {
        value += (**at - '0') * place;
        more |= place == 0 && **at != '0';
    }
    *billionths = value + more;
    return true;
}

bool pqi_read_duration(const char *text, int64_t *ms)
{
    int64_t whole, part = 0, sum;
    if (!take_digits(&text, &whole))
        return false;
    if (*text == '.') {
        text++;
        if (!take_fraction(&text, &part))
            return false;
    }
    int64_t unit = unit_ms(text);
    if (unit == 0 || __builtin_mul_overflow(whole, unit, &sum) ||
        __builtin_add_overflow(sum, (part * unit + 999999999) / 1000000000, &sum))
        return false;
    *ms = sum;
    return true;
}

struct pqi_duration pqi_show_duration(int64_t ms)
{
    struct pqi_duration d = {"0"};
    for (const struct unit *u = units; ms > 0; u++)
        if (ms % u->ms == 0) { /* "ms" divides all */
            snprintf(d.text, sizeof d.text, "%lld%s", (long long)(ms / u->ms), u->name);
            break;
        }
    return d;
}

/* ---- Choices ------------------------------------------------------------------------------ */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool same_word(const char *text, const char *word, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (lower(text[i]) != lower(word[i]))
            return false;
    return text[len] == '\0';
}

const char *pqi_choice(const char *choices, int number, size_t *len)
{
    while (number-- > 0)
        choices += strcspn(choices, ",") + 2;
    *len = strcspn(choices, ",");
    return choices;
}

int pqi_read_choice(const char *text, const char *choices)
{
    for (int number = 0;; number++) {
        size_t len = strcspn(choices, ",");
        if (same_word(text, choices, len))
            return number;
        if (choices[len] == '\0')
            return -1;
        choices += len + 2;
    }
}

bool pqi_read_yes_no(const char *text, bool *out)
{
    int choice = pqi_read_choice(text, "0, 1, no, yes, false, true, off, on");
    if (choice >= 0)
        *out = choice % 2 == 1;
    return choice >= 0;
}

/* ---- Characters --------------------------------------------------------------------------- */

/* How many bytes the UTF-8 character that begins with `lead` has; 0: none begins so. */
static size_t bytes_of(unsigned char lead)
{
    if (lead < 0x80)
        return 1;
    if (lead < 0xC2)
        return 0;
    return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
}

/* The bytes of the UTF-8 character at `s`, and its number; 0: it is none. */
static size_t character(const unsigned char *s, uint32_t *number)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = bytes_of(s[0]);
    uint32_t c = len <= 1 ? s[0] : s[0] & (0x7Fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3Fu);
    }
    *number = c;
    return c < least[len] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000) ? 0 : len;
}

static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c < 0xA0);
}

bool pqi_clean(const char *text, size_t max)
{
    if (strlen(text) > max)
        return false;
    uint32_t c;
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        size_t len = character(s, &c);
        if (len == 0 || is_control(c))
            return false;
        s += len;
    }
    return true;
}

/* How long the word is that begins here; 0: none does. */
static size_t setting_word(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    size_t len = strspn(text, letters);
    return len > 63 || (*text >= '0' && *text <= '9') ? 0 : len;
}

bool pqi_is_setting(const char *text)
{
    size_t first = setting_word(text);
    if (first == 0 || text[first] != '.')
        return false;
    size_t second = setting_word(text + first + 1);
    return second > 0 && text[first + 1 + second] == '\0';
}

struct pqi_quote pqi_quote(const char *text)
{
    struct pqi_quote q = {""};
    char *to = q.text;
    const unsigned char *s = (const unsigned char *)text;
    for (int i = 0; i < 32 && *s; i++) {
        uint32_t c;
        size_t len = character(s, &c);
        if (len == 0 || is_control(c)) {
            *to++ = '?';
            s += len ? len : 1;
            continue;
        }
        memcpy(to, s, len);
        to += len;
        s += len;
    }
    return q;
}

/* ---- Likeness ----------------------------------------------------------------------------- */

static int least_of(int a, int b, int c)
{
    int least = a < b ? a : b;
    return least < c ? least : c;
}

/* Levenshtein's table, of which one row at a time is kept. */
int pqi_distance(const char *a, const char *b)
{
    enum { MOST = 64, FAR = 3 };
    size_t alen = strlen(a), blen = strlen(b);
    int row[MOST];
    if (alen >= MOST || blen >= MOST)
        return FAR;
    for (size_t j = 0; j <= blen; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= alen; i++) {
        int corner = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= blen; j++) {
            int above = row[j];
            row[j] = least_of(above + 1, row[j - 1] + 1, corner + (a[i - 1] != b[j - 1]));
            corner = above;
        }
    }
    return row[blen] < FAR ? row[blen] : FAR;
}
