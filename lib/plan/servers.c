/* The servers that a URL means: each of its hosts, with all that the URL says and a default for
 * what it leaves out. */
#include "servers.h"

#include "../base/mem.h"
#include "env.h"
#include "host.h"
#include "translation.h"

#include <pqrouter/pqrouter.h>
#include <stdint.h>
#include <string.h>

enum { HOSTS_MAX = 32 };

/* How many items a list with commas has; none if there is no list. */
static int count(const char *list)
{
    int n = list != NULL;
    for (; list && *list; list++)
        n += *list == ',';
    return n;
}

/* The i-th item; of a list with one item that one, whichever is asked for. */
static struct pqi_slice item(const char *list, int i)
{
    if (!list)
        return (struct pqi_slice){"", 0};
    for (int skip = count(list) > 1 ? i : 0; skip > 0; skip--)
        list = strchr(list, ',') + 1;
    return (struct pqi_slice){list, strcspn(list, ",")};
}

static int add_extra(struct pqi_target *t, const char *key, const char *value)
{
    return value && *value ? pqi_keyword_add(&t->extra, &t->nextra, key, value) : PQR_OK;
}

static int copy_extras(struct pqi_target *t, const struct pqi_url *url)
{
    char *options = pqi_translate_options(url);
    int rc = options ? add_extra(t, "options", options) : PQR_E_NOMEM;
    pqi_mem_free(options);
    if (rc == PQR_OK)
        rc = add_extra(t, "passfile", url->part[PQI_PASSFILE]);
    if (rc == PQR_OK)
        rc = add_extra(t, "service", url->part[PQI_SERVICE]);
    for (int i = 0; i < url->nextra && rc == PQR_OK; i++)
        rc = add_extra(t, url->extra[i].key, url->extra[i].value);
    return rc;
}

/* Item i of the list; of an empty one `otherwise`, which may be NULL. */
static int copy_item(char **out, const char *list, int i, const char *otherwise)
{
    struct pqi_slice s = item(list, i);
    *out = s.len > 0 ? pqi_mem_bytes(s.at, s.len) : pqi_mem_text(otherwise);
    return *out || (s.len == 0 && !otherwise) ? PQR_OK : PQR_E_NOMEM;
}

static int copy_text(char **out, const char *text)
{
    *out = pqi_mem_text(text);
    return *out || !text ? PQR_OK : PQR_E_NOMEM;
}

static int fill_place(struct pqi_target *t, const struct pqi_url *url, int i,
                      struct pqi_url_fault *fault)
{
    if (copy_item(&t->hostaddr, url->part[PQI_HOSTADDR], i, NULL) ||
        copy_item(&t->host, url->part[PQI_HOST], i, t->hostaddr ? t->hostaddr : "localhost") ||
        copy_item(&t->port, url->part[PQI_PORT], i, "5432"))
        return PQR_E_NOMEM;
    int64_t port;
    const char *reason = pqi_host_fault(t->host);
    if (reason)
        return pqi_url_refuse(fault, reason, "host");
    if (t->hostaddr && !pqi_host_is_address(t->hostaddr))
        return pqi_url_refuse(fault, "not a numeric address", "hostaddr");
    if (!pqi_read_whole(t->port, 1, 65535, &port))
        return pqi_url_refuse(fault, "not a port from 1 to 65535", "port");
    /* A name with an address of this machine is a tunnel: who stands at its end is not local. */
    t->local = pqi_host_is_local(t->host) && (!t->hostaddr || pqi_host_is_local(t->hostaddr));
    return PQR_OK;
}

static int fill_target(struct pqi_target *t, const struct pqi_url *url, int i,
                       struct pqi_url_fault *fault)
{
    char *const *part = url->part;
    const char *dbname = part[PQI_DBNAME] || part[PQI_SERVICE] ? part[PQI_DBNAME] : part[PQI_USER];
    int rc = fill_place(t, url, i, fault);
    if (rc != PQR_OK)
        return rc;
    if (dbname && (strchr(dbname, '=') || strstr(dbname, "://"))) /* libpq might take it apart */
        return pqi_url_refuse(fault, "itself a connection string", "dbname");
    if (copy_text(&t->user, part[PQI_USER]) || copy_text(&t->dbname, dbname) ||
        copy_text(&t->password, part[PQI_PASSWORD]) ||
        copy_text(&t->password_raw, part[PQI_PASSWORD_RAW]) ||
        copy_text(&t->sslmode, pqi_translate_sslmode(url, t->local)) || copy_extras(t, url))
        return PQR_E_NOMEM;
    t->shown = pqi_target_show(t, part[PQI_SERVICE]);
    return t->shown ? PQR_OK : PQR_E_NOMEM;
}

/* NULL: the lists of hosts, addresses and ports fit together. */
static const char *bad_lists(const struct pqi_url *url, int n)
{
    int hosts = count(url->part[PQI_HOST]), addresses = count(url->part[PQI_HOSTADDR]);
    int ports = count(url->part[PQI_PORT]);
    if (hosts + addresses == 0 && url->part[PQI_SERVICE])
        return "beside a service the host must be named";
    if (n > HOSTS_MAX)
        return "more than 32 hosts";
    if ((hosts > 0 && addresses > 0 && hosts != addresses) || (ports > 1 && ports != n))
        return "not as many hosts as addresses or ports";
    for (int i = 0; i < n && n > 1; i++)
        if (item(url->part[hosts > 0 ? PQI_HOST : PQI_HOSTADDR], i).len == 0)
            return "an empty one among several hosts";
    return NULL;
}

int pqi_servers_make(struct pqi_shard_conf *out, const struct pqi_url *url,
                     struct pqi_url_fault *fault)
{
    int rc = PQR_OK, n = count(url->part[url->part[PQI_HOST] ? PQI_HOST : PQI_HOSTADDR]);
    n = n > 0 ? n : 1;
    const char *reason = bad_lists(url, n);
    if (reason)
        return pqi_url_refuse(fault, reason, "host");
    out->targets = pqi_mem_array((size_t)n, sizeof *out->targets);
    if (!out->targets)
        return PQR_E_NOMEM;
    for (out->n = 0; out->n < n && rc == PQR_OK; out->n++)
        rc = fill_target(&out->targets[out->n], url, out->n, fault);
    return rc;
}
