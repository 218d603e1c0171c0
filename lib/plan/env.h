/* What the text of a variable says: numbers, durations and choices, strictly, and back. Knows no
 * option and no locale, allocates nothing. */
#ifndef PQI_ENV_H
#define PQI_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The readers return false (-1), and leave *out alone, unless the whole text is such a value. */

/* Digits only: no sign, no blanks, no hexadecimal. */
bool pqi_read_whole(const char *text, int64_t min, int64_t max, int64_t *out);

/* "5" and "5s" are seconds; "0.5", "250ms", "2m", "1h". Rounded up to whole milliseconds, so that
 * nothing small becomes a 0, which means something else. */
bool pqi_read_duration(const char *text, int64_t *ms);

/* 1/0, yes/no, true/false, on/off, in any case. */
bool pqi_read_yes_no(const char *text, bool *out);

/* Which of "a, b, c" it is, from 0, in any case. */
int pqi_read_choice(const char *text, const char *choices);

/* The choice of that number, which there must be; its bytes in *len. */
const char *pqi_choice(const char *choices, int number, size_t *len);

/* How one would write it: "250ms", "10s", "2m", "1h"; 0 is "0". */
struct pqi_duration {
    char text[24];
};
struct pqi_duration pqi_show_duration(int64_t ms);

/* Text to be quoted in a message: its first 32 characters, what is not printable as '?'. */
struct pqi_quote {
    char text[32 * 4 + 1];
};
struct pqi_quote pqi_quote(const char *text);

/* At most `max` bytes of UTF-8 without control characters? */
bool pqi_clean(const char *text, size_t max);

/* A setting's name of two words, "app.tenant_id": letters, digits and _, 63 of them at most in each,
 * and no word begins with a digit. */
bool pqi_is_setting(const char *text);

/* How many letters must be changed, added or left out to come from `a` to `b`; anything above 2,
 * and anything about texts of 64 bytes and more, is 3. */
int pqi_distance(const char *a, const char *b);

#endif
