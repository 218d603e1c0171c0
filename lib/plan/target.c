/* One server as configured: its memory, what may be shown of it, and its secrets scrubbed. How it
 * is made from a URL, servers.c knows. */
#include "target.h"

#include "../base/bytes.h"
#include "../base/mem.h"
#include "host.h"

#include <pqrouter/pqrouter.h>
#include <string.h>

/* ---- Memory ------------------------------------------------------------------------------- */

int pqi_keyword_add(struct pqi_keyword **list, int *n, const char *key, const char *value)
{
    struct pqi_keyword *more = pqi_mem_resize(*list, (size_t)*n + 1, sizeof *more);
    if (!more)
        return PQR_E_NOMEM;
    *list = more;
    more[*n] = (struct pqi_keyword){pqi_mem_text(key), pqi_mem_text(value)};
    ++*n; /* counted even if half made: whoever frees takes both halves */
    return more[*n - 1].key && more[*n - 1].value ? PQR_OK : PQR_E_NOMEM;
}

void pqi_keywords_free(struct pqi_keyword *list, int n)
{
    for (int i = 0; i < n; i++) {
        pqi_mem_free(list[i].key);
        pqi_mem_wipe(list[i].value); /* sslpassword is among them */
    }
    pqi_mem_free(list);
}

static void free_target(struct pqi_target *t)
{
    pqi_mem_free(t->host);
    pqi_mem_free(t->hostaddr);
    pqi_mem_free(t->port);
    pqi_mem_free(t->dbname);
    pqi_mem_free(t->user);
    pqi_mem_wipe(t->password);
    pqi_mem_wipe(t->password_raw);
    pqi_mem_free(t->sslmode);
    pqi_keywords_free(t->extra, t->nextra);
    pqi_mem_free(t->shown);
}

void pqi_shard_conf_free(struct pqi_shard_conf *conf)
{
    for (int i = 0; i < conf->n; i++)
        free_target(&conf->targets[i]);
    pqi_mem_free(conf->targets);
    *conf = (struct pqi_shard_conf){0};
}

/* ---- What is shown ------------------------------------------------------------------------ */

/* Percent-encodes all but letters, digits and what is in `plain`. */
static void encode(struct pqi_buf *to, const char *text, const char *plain)
{
    static const char alphanumeric[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    for (; text && *text; text++)
        if ((unsigned char)*text >= 0x80 || strchr(alphanumeric, *text) || strchr(plain, *text))
            pqi_buf_add(to, text, 1);
        else
            pqi_buf_format(to, "%%%02X", (unsigned)*text);
}

char *pqi_target_show(const struct pqi_target *t, const char *service)
{
    struct pqi_buf shown = {0};
    bool ipv6 = !pqi_host_is_socket(t->host) && strchr(t->host, ':');
    pqi_buf_text(&shown, "postgresql://");
    encode(&shown, t->user, "-._~");
    pqi_buf_text(&shown, t->user ? "@" : "");
    pqi_buf_text(&shown, ipv6 ? "[" : "");
    encode(&shown, t->host, ipv6 ? ":." : "-._~");
    pqi_buf_format(&shown, "%s:%s/", ipv6 ? "]" : "", t->port);
    encode(&shown, t->dbname, "-._~");
    pqi_buf_text(&shown, service ? "?service=" : "");
    encode(&shown, service, "-._~");
    return pqi_buf_take(&shown);
}

/* ---- Scrubbing ---------------------------------------------------------------------------- */

static size_t starts_with(const char *text, const char *secret)
{
    size_t len = secret ? strlen(secret) : 0;
    return len > 0 && strncmp(text, secret, len) == 0 ? len : 0;
}

/* The longest secret that stands here. */
static size_t secret_at(const char *text, const struct pqi_target *t)
{
    size_t plain = starts_with(text, t->password), raw = starts_with(text, t->password_raw);
    size_t most = plain > raw ? plain : raw;
    for (int i = 0; i < t->nextra; i++)
        if (strcmp(t->extra[i].key, "sslpassword") == 0) {
            size_t len = starts_with(text, t->extra[i].value);
            most = len > most ? len : most;
        }
    return most;
}

void pqi_scrub(char *text, const struct pqi_target *target)
{
    char *to = text;
    while (*text) {
        size_t len = secret_at(text, target);
        if (len == 0) {
            *to++ = *text++;
            continue;
        }
        text += len;
        for (size_t i = 0; i < (len < 3 ? len : 3); i++) /* never longer than what it replaces */
            *to++ = '*';
    }
    *to = '\0';
}
