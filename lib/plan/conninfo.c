/* The grammar of keyword strings: words, = and values, quoted or not. */
#include "conninfo.h"

#include "../base/mem.h"

#include <pqrouter/pqrouter.h>
#include <string.h>

/* One value, quoted or not, as libpq reads it; moves *at behind it. False: its quote has no end. */
static bool unquote(const char **at, char *to)
{
    char end = **at == '\'' ? '\'' : ' ';
    const char *s = *at + (end == '\'');
    while (*s && *s != end) {
        s += *s == '\\';
        if (*s)
            *to++ = *s++;
    }
    *to = '\0';
    *at = s + (*s == '\'');
    return *s || end == ' ';
}

static int read_pair(struct pqi_reader *r, const char **at, char *name, char *value)
{
    size_t len = strcspn(*at, "= ");
    memcpy(name, *at, len);
    name[len] = '\0';
    *at += len;
    *at += strspn(*at, " ");
    if (**at != '=')
        return pqi_url_refuse(r->fault, "a word without = (values with blanks need quotes)", NULL);
    ++*at;
    *at += strspn(*at, " ");
    bool quoted = **at == '\'';
    struct pqi_slice raw = {*at + quoted, 0};
    if (!unquote(at, value))
        return pqi_url_refuse(r->fault, "a quote without an end", NULL);
    raw.len = (size_t)(*at - raw.at) - quoted;
    char *copy = pqi_mem_text(value);
    int rc = copy ? pqi_dialect_take(r, name, &copy, raw) : PQR_E_NOMEM;
    pqi_mem_wipe(copy);
    return rc;
}

int pqi_conninfo_read(struct pqi_reader *r, const char *at)
{
    size_t room = strlen(at) + 1;
    char *name = pqi_mem_new(room), *value = pqi_mem_new(room);
    int rc = name && value ? PQR_OK : PQR_E_NOMEM;
    while (rc == PQR_OK) {
        at += strspn(at, " ");
        if (!*at)
            break;
        rc = read_pair(r, &at, name, value);
        explicit_bzero(value, room);
    }
    pqi_mem_wipe(name);
    pqi_mem_free(value);
    return rc;
}
