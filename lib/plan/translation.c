/* What the dialects of frameworks say, in libpq's words. */
#include "translation.h"

#include "../base/bytes.h"
#include "env.h"

#include <string.h>

static bool is(const char *text, const char *word)
{
    return text && strcmp(text, word) == 0;
}

const char *pqi_translate_sslmode(const struct pqi_url *url, bool local)
{
    const char *mode = url->part[PQI_SSLMODE], *accept = url->part[PQI_SSLACCEPT];
    bool ssl = true, said = url->part[PQI_SSL] && pqi_read_yes_no(url->part[PQI_SSL], &ssl);
    if (is(accept, "strict") && !is(mode, "disable"))
        return "verify-full";
    if (mode)
        return mode;
    if (accept)
        return "require";
    if (!ssl)
        return "disable";
    return !local ? "verify-full" : said ? "require" : "prefer";
}

static void escape(struct pqi_buf *to, const char *text)
{
    for (; *text; text++) {
        if (*text == ' ' || *text == '\\')
            pqi_buf_text(to, "\\");
        pqi_buf_add(to, text, 1);
    }
}

/* `options` as the server splits it: at blanks, a \ before a character takes its meaning away. The
 * URL's own options come last, so nothing at their end can swallow ours, and they win. */
char *pqi_translate_options(const struct pqi_url *url)
{
    struct pqi_buf all = {0};
    const char *schema = url->part[PQI_SCHEMA], *path = url->part[PQI_SEARCH_PATH];
    if (schema || path)
        pqi_buf_text(&all, "-c search_path=");
    if (path) {
        escape(&all, path);
    } else if (schema) {
        pqi_buf_text(&all, "\"");
        for (; *schema; schema++)
            escape(&all, *schema == '"' ? "\"\"" : (const char[]){*schema, '\0'});
        pqi_buf_text(&all, "\"");
    }
    if (url->part[PQI_OPTIONS])
        pqi_buf_format(&all, "%s%s", all.len > 0 ? " " : "", url->part[PQI_OPTIONS]);
    return pqi_buf_take(&all);
}
