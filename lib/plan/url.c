/* A connection URL or keyword string: which of the two a text is. */
#include "url.h"

#include "conninfo.h"
#include "uri.h"

#include <pqrouter/pqrouter.h>
#include <string.h>

/* Behind the scheme if it is one of PostgreSQL's, with its +driver; else NULL. */
static const char *behind_scheme(const char *text)
{
    static const char *const schemes[] = {"postgresql", "postgres", "pgsql"};
    size_t len = strcspn(text, ":+");
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (strlen(schemes[i]) == len && memcmp(text, schemes[i], len) == 0) {
            text += len + (text[len] == '+' ? strcspn(text + len, ":/?@= ") : 0);
            return strncmp(text, "://", 3) == 0 ? text + 3 : NULL;
        }
    return NULL;
}

/* Java's drivers read a + in a parameter as a blank, all others as a +. */
static bool has_javas_plus(const char *url)
{
    const char *parameters = strchr(url, '?');
    return parameters && strchr(parameters, '+');
}

static int read_text(struct pqi_reader *r, const char *text)
{
    bool java = strncmp(text, "jdbc:", 5) == 0;
    const char *url = behind_scheme(java ? text + 5 : text);
    if (java && url && has_javas_plus(url))
        return pqi_url_refuse(r->fault, "a + behind a jdbc: URL's ? (write it %20 or %2B)", NULL);
    if (url)
        return pqi_uri_read(r, url);
    const char *scheme = strstr(text, "://"), *equals = strchr(text, '=');
    if (java || (scheme && (!equals || scheme < equals)))
        return pqi_url_refuse(r->fault, "it begins with neither postgresql:// nor postgres://",
                              NULL);
    if (!equals)
        return pqi_url_refuse(r->fault, "it is neither postgresql://… nor keyword=value", NULL);
    return pqi_conninfo_read(r, text);
}

int pqi_url_read(struct pqi_url *url, const char *text, struct pqi_url_fault *fault)
{
    struct pqi_reader r = {.url = url, .fault = fault};
    return read_text(&r, text);
}
