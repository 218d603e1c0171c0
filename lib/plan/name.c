/* The names of variables: read, written, and guessed where they are misspelt. */
#include "name.h"

#include "env.h"

#include <stdio.h>
#include <string.h>

static const char DIGITS[] = "0123456789";

/* ---- Reading and writing ------------------------------------------------------------------ */

/* A number of at most five digits without leading zeros; NULL: none. */
static const char *read_number(const char *name, int *number)
{
    size_t len = strspn(name, DIGITS);
    if (len == 0 || len > 5 || (*name == '0' && len > 1))
        return NULL;
    *number = 0;
    for (size_t k = 0; k < len; k++)
        *number = *number * 10 + (name[k] - '0');
    return name + len;
}

/* Is the name, up to its '=', this option's, or its NAME_FILE? Fills numbers and .file. */
static bool fits(struct pqi_name *out, const char *name)
{
    for (const char *p = out->option->name; *p; p++) {
        if (*p != '{') {
            if (*name++ != *p)
                return false;
            continue;
        }
        name = read_number(name, p[1] == 'i' ? &out->i : &out->n);
        if (!name)
            return false;
        p += 2;
    }
    out->file = out->option->secret && strncmp(name, "_FILE=", 6) == 0;
    return *name == '=' || out->file;
}

bool pqi_name_read(struct pqi_name *out, const char *entry)
{
    for (const struct pqi_option *o = NULL; (o = pqi_option_next(o));) {
        struct pqi_name name = {.option = o};
        if (o->kind != PQI_IS_SECTION && fits(&name, entry)) {
            *out = name;
            return true;
        }
    }
    return false;
}

void pqi_name_write(char name[PQI_NAME_BYTES], const struct pqi_option *option, int i, int n)
{
    size_t len = 0;
    for (const char *p = option->name; *p && len + 8 < PQI_NAME_BYTES; p++) {
        if (*p != '{') {
            name[len++] = *p;
            continue;
        }
        len += (size_t)snprintf(name + len, 8, "%d", p[1] == 'i' ? i : n);
        p += 2;
    }
    name[len] = '\0';
}

/* ---- Did you mean ------------------------------------------------------------------------- */

static bool is_ours(const char *name)
{
    static const char *const prefixes[] = {"DATABASE_", "DB_", "REDIS_", "PQR_"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

/* For comparing: every number, and every place for one, is a #. */
static void write_shape(char shape[PQI_NAME_BYTES], const char *name, size_t len)
{
    size_t to = 0;
    for (size_t at = 0; at < len && to + 1 < PQI_NAME_BYTES;) {
        size_t digits = strspn(name + at, DIGITS);
        if (digits > len - at)
            digits = len - at;
        bool number = digits > 0 || name[at] == '{';
        shape[to++] = number ? '#' : name[at];
        at += digits > 0 ? digits : number ? 3 : 1;
    }
    shape[to] = '\0';
}

/* The option whose name, or NAME_FILE, is nearest to a shape; NULL: none is near. */
static const struct pqi_option *find_nearest(const char *shape, bool *file)
{
    char other[PQI_NAME_BYTES];
    const struct pqi_option *nearest = NULL;
    int least = 3;
    for (const struct pqi_option *o = NULL; (o = pqi_option_next(o));)
        for (int k = 0; k < (o->secret ? 2 : 1) && o->kind != PQI_IS_SECTION; k++) {
            write_shape(other, o->name, strlen(o->name));
            strcat(other, k == 1 ? "_FILE" : "");
            int distance = pqi_distance(shape, other);
            if (distance < least) {
                least = distance;
                nearest = o;
                *file = k == 1;
            }
        }
    return nearest;
}

/* The numbers of an unknown name, where they can be meant, in the name that was meant. */
static void write_meant(char meant[PQI_NAME_BYTES], const struct pqi_option *option,
                        const char *name)
{
    int numbers[2] = {-1, -1};
    for (int k = 0; k < 2 && *name != '='; k++) {
        name += strcspn(name, "0123456789=");
        name += strspn(name, "0");
        if (!read_number(name, &numbers[k]) && name[-1] == '0')
            numbers[k] = 0;
        name += strspn(name, DIGITS);
    }
    bool shard = strstr(option->name, "{i}");
    int i = numbers[0], n = shard ? numbers[1] : numbers[0];
    pqi_name_write(meant, option, i < 0 ? 0 : i, n < 0 ? 1 : n);
}

bool pqi_name_guess(char meant[PQI_NAME_BYTES], const char *entry, size_t len)
{
    char shape[PQI_NAME_BYTES];
    bool file = false;
    if (!is_ours(entry) || len >= PQI_NAME_BYTES - 5)
        return false;
    write_shape(shape, entry, len);
    const struct pqi_option *nearest = find_nearest(shape, &file);
    if (!nearest)
        return false;
    write_meant(meant, nearest, entry);
    strcat(meant, file ? "_FILE" : "");
    return true;
}
