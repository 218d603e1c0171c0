/* The grammar of URLs: user, password, hosts and database in front, parameters behind. */
#include "uri.h"

#include "../base/bytes.h"
#include "../base/mem.h"
#include "env.h"

#include <pqrouter/pqrouter.h>
#include <stdint.h>
#include <string.h>

static int hex_digit(char c)
{
    const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *found = c ? strchr(digits, c) : NULL;
    return found ? (int)(found - digits) % 16 : -1;
}

/* The text with its %XX resolved. */
static int decode(struct pqi_reader *r, struct pqi_slice s, char **out)
{
    char *text = pqi_mem_new(s.len + 1), *to = text;
    if (!text)
        return PQR_E_NOMEM;
    const char *reason = NULL;
    for (size_t i = 0; i < s.len && !reason; i++) {
        if (s.at[i] != '%') {
            *to++ = s.at[i];
            continue;
        }
        int high = i + 1 < s.len ? hex_digit(s.at[i + 1]) : -1;
        int low = i + 2 < s.len ? hex_digit(s.at[i + 2]) : -1;
        if (high < 0 || low < 0)
            reason = "a % without two hexadecimal digits (a % itself is written %25)";
        else if (high + low == 0)
            reason = "a %00";
        *to++ = (char)(high * 16 + low);
        i += 2;
    }
    if (reason) {
        pqi_mem_wipe(text);
        return pqi_url_refuse(r->fault, reason, NULL);
    }
    *out = text;
    return PQR_OK;
}

/* A part that stands before the parameters; an empty one counts as not said. */
static int read_part(struct pqi_reader *r, enum pqi_part part, struct pqi_slice s)
{
    char *text = NULL;
    int rc = s.len > 0 ? decode(r, s, &text) : PQR_OK;
    if (text && part != PQI_PASSWORD && !pqi_clean(text, SIZE_MAX)) {
        pqi_mem_wipe(text);
        return pqi_url_refuse(r->fault, "host, user or database are not plain UTF-8 text", NULL);
    }
    if (text)
        pqi_url_take(r->url, part, &text);
    return rc;
}

static int read_user(struct pqi_reader *r, struct pqi_slice s)
{
    const char *colon = memchr(s.at, ':', s.len);
    struct pqi_slice user = {s.at, colon ? (size_t)(colon - s.at) : s.len};
    int rc = read_part(r, PQI_USER, user);
    if (rc != PQR_OK || !colon)
        return rc;
    struct pqi_slice password = {colon + 1, s.len - user.len - 1};
    rc = read_part(r, PQI_PASSWORD, password);
    if (rc != PQR_OK || password.len == 0)
        return rc;
    return pqi_url_keep_raw(r->url, password);
}

/* One host[:port] of a list; moves *s behind it. */
static const char *split_host(struct pqi_slice *s, struct pqi_slice *host, struct pqi_slice *port)
{
    const char *end = s->at + s->len, *at = s->at;
    *host = *port = (struct pqi_slice){at, 0};
    if (at < end && *at == '[') {
        const char *close = memchr(at, ']', s->len);
        if (!close || close == at + 1)
            return "[ without an address and ]";
        *host = (struct pqi_slice){at + 1, (size_t)(close - at - 1)};
        at = close + 1;
    } else {
        while (at < end && *at != ':' && *at != ',')
            at++;
        host->len = (size_t)(at - s->at);
    }
    if (at < end && *at == ':') {
        port->at = ++at;
        while (at < end && *at != ',')
            at++;
        port->len = (size_t)(at - port->at);
    }
    if (at < end && *at != ',')
        return "no port behind ]";
    *s = (struct pqi_slice){at, (size_t)(end - at)};
    return NULL;
}

static int read_hosts(struct pqi_reader *r, struct pqi_slice s)
{
    struct pqi_buf hosts = {0}, ports = {0};
    struct pqi_slice host, port;
    int rc = PQR_OK;
    for (bool more = true; more && rc == PQR_OK;) {
        const char *reason = split_host(&s, &host, &port);
        if (reason)
            rc = pqi_url_refuse(r->fault, reason, NULL);
        more = !reason && s.len > 0;
        pqi_buf_add(&hosts, host.at, host.len);
        pqi_buf_add(&ports, port.at, port.len);
        if (more) { /* a comma, then one more */
            s = (struct pqi_slice){s.at + 1, s.len - 1};
            pqi_buf_text(&hosts, ",");
            pqi_buf_text(&ports, ",");
        }
    }
    if (hosts.failed || ports.failed)
        rc = PQR_E_NOMEM;
    if (rc == PQR_OK)
        rc = read_part(r, PQI_HOST, (struct pqi_slice){pqi_buf_str(&hosts), hosts.len});
    if (rc == PQR_OK && strspn(pqi_buf_str(&ports), ",") < ports.len)
        rc = read_part(r, PQI_PORT, (struct pqi_slice){pqi_buf_str(&ports), ports.len});
    pqi_buf_free(&hosts);
    pqi_buf_free(&ports);
    return rc;
}

static int read_parameter(struct pqi_reader *r, struct pqi_slice s)
{
    const char *equals = memchr(s.at, '=', s.len);
    if (!equals)
        return pqi_url_refuse(r->fault, "a parameter without = in it", NULL);
    struct pqi_slice key = {s.at, (size_t)(equals - s.at)};
    struct pqi_slice raw = {equals + 1, s.len - key.len - 1};
    if (memchr(raw.at, '=', raw.len))
        return pqi_url_refuse(r->fault, "a second = in a parameter (write it %3D)", NULL);
    char *name = NULL, *value = NULL;
    int rc = decode(r, key, &name);
    if (rc == PQR_OK)
        rc = decode(r, raw, &value);
    if (rc == PQR_OK)
        rc = pqi_dialect_take(r, name, &value, raw);
    pqi_mem_wipe(name); /* a piece of a password, if that held an & */
    pqi_mem_wipe(value);
    return rc;
}

static int read_parameters(struct pqi_reader *r, const char *at)
{
    int rc = PQR_OK;
    while (*at && rc == PQR_OK) {
        size_t len = strcspn(at, "&");
        rc = read_parameter(r, (struct pqi_slice){at, len});
        at += len + (at[len] == '&');
    }
    return rc;
}

/* Behind "postgresql://". Users, hosts and databases that hold @ / ? as they are would leave it
 * open where a password ends, and put pieces of it into texts that are shown: so they are refused
 * where libpq would guess. */
int pqi_uri_read(struct pqi_reader *r, const char *at)
{
    struct pqi_slice authority = {at, strcspn(at, "/?")};
    const char *sign = strchr(at, '@');
    if (sign && (sign >= at + authority.len || strchr(sign + 1, '@')))
        return pqi_url_refuse(r->fault,
                              "an @ / or ? in a part (write @ as %40, / as %2F, ? as %3F)", NULL);
    if (strchr(at, ' '))
        return pqi_url_refuse(r->fault, "a blank in it (write it %20)", NULL);
    int rc = PQR_OK;
    if (sign) {
        rc = read_user(r, (struct pqi_slice){at, (size_t)(sign - at)});
        authority = (struct pqi_slice){sign + 1, authority.len - (size_t)(sign + 1 - at)};
    }
    if (rc == PQR_OK)
        rc = read_hosts(r, authority);
    at = authority.at + authority.len;
    if (rc == PQR_OK && *at == '/') {
        struct pqi_slice dbname = {at + 1, strcspn(at + 1, "?")};
        if (memchr(dbname.at, '/', dbname.len))
            return pqi_url_refuse(r->fault, "a / in the database's name (write it %2F)", NULL);
        rc = read_part(r, PQI_DBNAME, dbname);
        at = dbname.at + dbname.len;
    }
    return rc == PQR_OK && *at == '?' ? read_parameters(r, at + 1) : rc;
}
