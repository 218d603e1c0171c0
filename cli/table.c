/* Tables as psql prints them. */
#include "table.h"

#include "memory.h"
#include "text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum kind { IS_TEXT, IS_NUMBER, IS_NULL };

struct cell {
    char *text;
    size_t width;
    enum kind kind;
};

struct table {
    size_t columns;
    size_t n, cap; /* cells; the first row is the titles */
    struct cell *cells;
};

/* ---- Filling -------------------------------------------------------------------------------- */

static bool is_number(const char *text)
{
    char *end;
    if (!*text || strspn(text, "+-0123456789.e") < strlen(text)) /* strtod knows more than these */
        return false;
    strtod(text, &end);
    return *end == '\0';
}

struct table *table_new(size_t columns, const char *const *titles)
{
    struct table *t = get_memory(1, sizeof *t);
    t->columns = columns;
    for (size_t i = 0; i < columns; i++)
        table_cell(t, titles[i]);
    return t;
}

void table_free(struct table *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n; i++)
        free(t->cells[i].text);
    free(t->cells);
    free(t);
}

static void add(struct table *t, const char *text, enum kind kind)
{
    if (t->n == t->cap) {
        t->cap = t->cap > 0 ? 2 * t->cap : 64;
        t->cells = more_memory(t->cells, t->cap, sizeof *t->cells);
    }
    char *shown = text_shown(text);
    t->cells[t->n++] = (struct cell){shown, text_width(shown), kind};
}

void table_cell(struct table *t, const char *text)
{
    add(t, text, is_number(text) ? IS_NUMBER : IS_TEXT);
}

void table_null(struct table *t)
{
    add(t, "[null]", IS_NULL);
}

void table_cellf(struct table *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = format_textv(format, args);
    va_end(args);
    table_cell(t, text);
    free(text);
}

void table_known(struct table *t, int64_t number)
{
    if (number >= 0)
        table_cellf(t, "%" PRId64, number);
    else
        table_cell(t, "");
}

/* ---- Printing ------------------------------------------------------------------------------- */

static size_t rows(const struct table *t)
{
    return t->columns > 0 ? t->n / t->columns - 1 : 0;
}

static const struct cell *cell(const struct table *t, size_t row, size_t column)
{
    return &t->cells[row * t->columns + column];
}

static size_t width_of(const struct table *t, size_t column)
{
    size_t most = 0;
    for (size_t i = 0; i <= rows(t); i++)
        if (cell(t, i, column)->width > most)
            most = cell(t, i, column)->width;
    return most;
}

/* Nothing but numbers, NULLs and empty cells, and at least one number. */
static bool numeric(const struct table *t, size_t column)
{
    bool some = false;
    for (size_t i = 1; i <= rows(t); i++) {
        const struct cell *c = cell(t, i, column);
        if (c->kind == IS_TEXT && c->width > 0)
            return false;
        some |= c->kind == IS_NUMBER;
    }
    return some;
}

static void blanks(FILE *out, size_t n)
{
    while (n-- > 0)
        putc(' ', out);
}

/* `before` of the blanks that are missing to its width stand before it. */
static void print_cell(FILE *out, const struct table *t, const struct cell *c, size_t column,
                       size_t width, size_t before)
{
    bool last = column + 1 == t->columns;
    blanks(out, 1 + before);
    fputs(c->text, out);
    blanks(out, last ? 0 : width - c->width - before + 1);
    fputs(last ? "\n" : "|", out);
}

static void print_titles(FILE *out, const struct table *t, const size_t *widths)
{
    for (size_t i = 0; i < t->columns; i++) {
        const struct cell *c = cell(t, 0, i);
        print_cell(out, t, c, i, widths[i], (widths[i] - c->width) / 2);
    }
    for (size_t i = 0; i < t->columns; i++) {
        for (size_t k = 0; k < widths[i] + 2; k++)
            putc('-', out);
        fputs(i + 1 == t->columns ? "\n" : "+", out);
    }
}

void table_print(const struct table *t, FILE *out, bool count)
{
    size_t *widths = get_memory(t->columns, sizeof *widths);
    bool *right = get_memory(t->columns, sizeof *right);
    for (size_t i = 0; i < t->columns; i++) {
        widths[i] = width_of(t, i);
        right[i] = numeric(t, i);
    }
    if (t->columns > 0)
        print_titles(out, t, widths);
    for (size_t row = 1; row <= rows(t); row++)
        for (size_t i = 0; i < t->columns; i++) {
            const struct cell *c = cell(t, row, i);
            print_cell(out, t, c, i, widths[i], right[i] ? widths[i] - c->width : 0);
        }
    if (count)
        fprintf(out, "(%zu row%s)\n", rows(t), rows(t) == 1 ? "" : "s");
    free(widths);
    free(right);
}

void table_print_pairs(const struct table *t, FILE *out)
{
    size_t width = width_of(t, 0);
    for (size_t row = 1; row <= rows(t); row++)
        for (size_t i = 0; i < 2; i++)
            print_cell(out, t, cell(t, row, i), i, width, 0);
}
