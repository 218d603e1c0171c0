/* The variables that configure the library, and the reading of a file of them. No value is ever
 * told: it may be a secret. */
#include "environment.h"

#include "memory.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct environment {
    const char **list; /* the file's, the process's, NULL */
    char **own;        /* the file's */
    size_t n;
};

void environment_free(struct environment *e)
{
    if (!e)
        return;
    for (size_t i = 0; i < e->n; i++)
        free(e->own[i]);
    free(e->own);
    free(e->list);
    free(e);
}

const char *const *environment_list(const struct environment *e)
{
    return e->list;
}

/* Where the file has this variable; its count: nowhere. `name` ends with NUL or '='. */
static size_t find(const struct environment *e, const char *name)
{
    size_t len = strcspn(name, "="), i = 0;
    while (i < e->n && (strncmp(e->own[i], name, len) != 0 || e->own[i][len] != '='))
        i++;
    return i;
}

bool environment_in_file(const struct environment *e, const char *name)
{
    return find(e, name) < e->n;
}

/* ---- Lines ---------------------------------------------------------------------------------- */

static char *skip_blanks(char *at)
{
    return at + strspn(at, " \t");
}

/* 'a'"b"c, as a shell reads a word, over `value` itself. NULL: fine; else what is wrong. */
static const char *unquote(char *value)
{
    char quote = '\0', *to = value, *at = value;
    for (; *at && (quote || (*at != ' ' && *at != '\t')); at++) {
        if (*at == quote)
            quote = '\0';
        else if (!quote && (*at == '\'' || *at == '"'))
            quote = *at;
        else if (*at == '\\' && at[1] && (!quote || (quote == '"' && strchr("\"\\$`", at[1]))))
            *to++ = *++at;
        else
            *to++ = *at;
    }
    bool more = *skip_blanks(at) != '\0';
    *to = '\0';
    return quote ? "a quote is not closed" : more ? "there is more after the value" : NULL;
}

/* Without quotes a value is the rest of the line, as it is. */
static void cut_end(char *value)
{
    size_t len = strlen(value);
    while (len > 0 && strchr(" \t\r", value[len - 1]))
        len--;
    value[len] = '\0';
}

/* 0: it is none. */
static size_t length_of_name(const char *at)
{
    size_t len = 0;
    while (isalnum((unsigned char)at[len]) || at[len] == '_')
        len++;
    return isdigit((unsigned char)*at) ? 0 : len;
}

/* Behind a word and blanks; NULL: `at` does not begin so. */
static char *skip_word(char *at, const char *word)
{
    size_t len = strlen(word);
    return strncmp(at, word, len) == 0 && isblank((unsigned char)at[len]) ? skip_blanks(at + len)
                                                                          : NULL;
}

/* Leaves "NAME=", which is as good as not set, at the line's begin. */
static const char *read_unset(char *line, const char *name)
{
    size_t len = length_of_name(name);
    if (len == 0 || name[len] != '\0')
        return "unset takes one name";
    memmove(line, name, len);
    memcpy(line + len, "=", 2);
    return NULL;
}

/* Leaves "NAME=value" at the line's begin; "" for a line without one. NULL: fine. */
static const char *read_line(char *line)
{
    char *name = skip_blanks(line);
    cut_end(name);
    char *unset = skip_word(name, "unset"), *export = skip_word(name, "export");
    if (unset)
        return read_unset(line, unset);
    if (export)
        name = export;
    if (*name == '\0' || *name == '#') {
        *line = '\0';
        return NULL;
    }
    size_t len = length_of_name(name);
    if (len == 0 || name[len] != '=')
        return "not of the form NAME=value";
    char *value = name + len + 1;
    const char *wrong = *value == '\'' || *value == '"' ? unquote(value) : NULL;
    memmove(line, name, strlen(name) + 1);
    return wrong;
}

/* ---- Reading -------------------------------------------------------------------------------- */

/* Of a variable that is there twice the last counts, as in a shell. */
static void keep(struct environment *e, const char *line)
{
    size_t i = find(e, line);
    if (i == e->n)
        e->own = more_memory(e->own, ++e->n, sizeof *e->own);
    else
        free(e->own[i]);
    e->own[i] = copy_text(line);
}

/* What is wrong with the file, as a new string; NULL: nothing. */
static char *read_lines(struct environment *e, FILE *in, const char *file)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    const char *wrong = NULL;
    int number = 0;
    while (!wrong && (len = getline(&line, &cap, in)) >= 0) {
        number++;
        if (len > 0 && line[len - 1] == '\n')
            line[--len] = '\0';
        wrong = strlen(line) < (size_t)len ? "it holds a NUL" : read_line(line);
        if (!wrong && *line)
            keep(e, line);
    }
    free(line);
    return wrong ? format_text("%s:%d: %s", file, number, wrong) : NULL;
}

static char *read_file(struct environment *e, const char *file)
{
    FILE *in = fopen(file, "re");
    char *wrong = in ? read_lines(e, in, file) : NULL;
    if (!in || ferror(in))
        wrong = format_text("%s cannot be read: %s", file, strerror(errno));
    if (in)
        fclose(in);
    return wrong;
}

static void make_list(struct environment *e)
{
    size_t theirs = 0, n = 0;
    while (environ[theirs])
        theirs++;
    e->list = get_memory(e->n + theirs + 1, sizeof *e->list);
    while (n < e->n) {
        e->list[n] = e->own[n];
        n++;
    }
    for (size_t i = 0; i < theirs; i++)
        if (!environment_in_file(e, environ[i]))
            e->list[n++] = environ[i];
}

struct environment *environment_read(const char *file, char **wrong)
{
    struct environment *e = get_memory(1, sizeof *e);
    *wrong = file ? read_file(e, file) : NULL;
    if (*wrong) {
        environment_free(e);
        return NULL;
    }
    make_list(e);
    return e;
}
