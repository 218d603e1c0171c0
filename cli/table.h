/* Tables as psql prints them. Texts are copied, and escaped as text_print does. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct table;

/* With these titles of its columns, which may be none; table_free. */
struct table *table_new(size_t columns, const char *const *titles);
void table_free(struct table *t);

/* The next cell, row by row. */
void table_cell(struct table *t, const char *text);
void table_known(struct table *t, int64_t number); /* negative: not known, empty */
void table_null(struct table *t);                  /* SQL's NULL: shown as [null] */
void table_cellf(struct table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Columns that hold nothing but numbers stand to the right. Below is "(3 rows)", if `count`. */
void table_print(const struct table *t, FILE *out, bool count);

/* Two columns without titles: names and values. */
void table_print_pairs(const struct table *t, FILE *out);

#endif
