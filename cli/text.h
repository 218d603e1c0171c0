/* Texts from outside, made fit for a terminal. UTF-8; what is no UTF-8 is shown as bytes. */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The first character of a text that does not end here: its bytes, and its number; -1: the first
 * byte begins no character. */
size_t text_next(const char *text, int32_t *number);

/* Prints it with control characters, what turns the direction of writing, and broken bytes
 * escaped: \n, \t, \x1b, \u202e. */
void text_print(FILE *out, const char *text);

/* The same as a new string (free). */
char *text_shown(const char *text);

/* How many columns of a terminal a text without control characters takes. */
size_t text_width(const char *text);

#endif
