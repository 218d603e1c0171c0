/* What a connection URL or keyword string says. First the text is taken apart into parameters,
 * each of which the table below gives its meaning; then its parts become a target a host.
 * Passwords stand in these texts, also in pieces where one is malformed: so reasons are fixed
 * texts, and a parameter's name is shown only where it cannot be a piece of a password. */
#include "url.h"

#include "../base/bytes.h"
#include "../base/mem.h"
#include "env.h"

#include <arpa/inet.h>
#include <pqrouter/pqrouter.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *at;
    size_t len;
};

struct reader {
    struct pqi_url *url;
    struct pqi_url_fault *fault;
    bool given[PQI_PARTS]; /* by a parameter: a second one would contradict it */
    bool after_password;   /* the parameter before this one was a password */
};

/* ---- What the parameters mean ------------------------------------------------------------- */

enum meaning {
    IS_PART,   /* a part of the target */
    IS_PASSED, /* handed to libpq as it is */
    IS_NUMBER, /* likewise, a whole number */
    IS_WISH,   /* an option of ours */
    IS_ONLY,   /* accepted where it asks for what holds anyway, refused otherwise */
    IS_DROPPED /* what a framework keeps for itself in its URL */
};

static const struct key {
    const char *name;
    enum meaning meaning;
    enum pqi_part part;
    const char *says;   /* the values to choose from; of a WISH: the option */
    const char *reason; /* why any other value is refused */
} keys[] = {
#define PART(name, part) name, IS_PART, part, NULL, NULL
#define PART_OF(name, part, says) name, IS_PART, part, says, "not one of " says
#define PASS(name) name, IS_PASSED, PQI_PARTS, NULL, NULL
#define PASS_OF(name, says) name, IS_PASSED, PQI_PARTS, says, "not one of " says
#define NUMBER(name) name, IS_NUMBER, PQI_PARTS, NULL, NULL
#define WISH(name, option) name, IS_WISH, PQI_PARTS, option, NULL
#define ONLY(name, says, reason) name, IS_ONLY, PQI_PARTS, says, reason
#define DROP(name) name, IS_DROPPED, PQI_PARTS, NULL, NULL
    {PART("host", PQI_HOST)},
    {PART("socket", PQI_HOST)},
    {PART("hostaddr", PQI_HOSTADDR)},
    {PART("port", PQI_PORT)},
    {PART("dbname", PQI_DBNAME)},
    {PART("user", PQI_USER)},
    {PART("password", PQI_PASSWORD)},
    {PART("passfile", PQI_PASSFILE)},
    {PART("service", PQI_SERVICE)},
    {PART_OF("sslmode", PQI_SSLMODE, "disable, allow, prefer, require, verify-ca, verify-full")},
    {PART_OF("ssl", PQI_SSL, "true, false, 1, 0, yes, no, on, off")},
    {PART_OF("sslaccept", PQI_SSLACCEPT, "strict, accept_invalid_certs")},
    {PART("options", PQI_OPTIONS)},
    {PART("schema", PQI_SCHEMA)},
    {PART("search_path", PQI_SEARCH_PATH)},
    {PART("currentSchema", PQI_SEARCH_PATH)},
    {PART("schema_search_path", PQI_SEARCH_PATH)},

    {PASS_OF("channel_binding", "disable, prefer, require")},
    {PASS_OF("gssencmode", "disable, prefer, require")},
    {PASS("gsslib")},
    {NUMBER("gssdelegation")},
    {PASS("krbsrvname")},
    {PASS("require_auth")},
    {PASS("requirepeer")},
    {PASS("sslcert")},
    {PASS("sslkey")},
    {PASS("sslpassword")},
    {PASS_OF("sslcertmode", "disable, allow, require")},
    {PASS("sslrootcert")},
    {PASS("sslcrl")},
    {PASS("sslcrldir")},
    {NUMBER("sslsni")},
    {NUMBER("sslcompression")},
    {PASS_OF("sslnegotiation", "postgres, direct")},
    {PASS_OF("ssl_min_protocol_version", "TLSv1, TLSv1.1, TLSv1.2, TLSv1.3")},
    {PASS_OF("ssl_max_protocol_version", "TLSv1, TLSv1.1, TLSv1.2, TLSv1.3")},
    {NUMBER("keepalives")},
    {NUMBER("keepalives_idle")},
    {NUMBER("keepalives_interval")},
    {NUMBER("keepalives_count")},
    {NUMBER("tcp_user_timeout")},

    {WISH("application_name", "DB_APPLICATION_NAME")},
    {WISH("ApplicationName", "DB_APPLICATION_NAME")},
    {WISH("connection_limit", "DB_CONNECTION_LIMIT")},
    {WISH("pool_timeout", "DB_POOL_TIMEOUT")},
    {WISH("connect_timeout", "DB_CONNECT_TIMEOUT")},
    {WISH("connectTimeout", "DB_CONNECT_TIMEOUT")},
    {WISH("socket_timeout", "DB_SOCKET_TIMEOUT")},
    {WISH("socketTimeout", "DB_SOCKET_TIMEOUT")},

    {ONLY("client_encoding", "utf8, utf-8, unicode", "only UTF8 is spoken")},
    {ONLY("encoding", "utf8, utf-8, unicode", "only UTF8 is spoken")},
    {ONLY("charset", "utf8, utf-8, unicode", "only UTF8 is spoken")},
    {ONLY("target_session_attrs", "any", "roles are found by asking the servers")},
    {ONLY("targetServerType", "any", "roles are found by asking the servers")},
    {ONLY("load_balance_hosts", "disable", "reads are balanced by the router")},
    {ONLY("loadBalanceHosts", "false", "reads are balanced by the router")},
    {ONLY("replication", "false, no, off, 0", "a walsender runs no statements")},
    {ONLY("pgbouncer", "false, no, off, 0", "not supported by this version")},

    {DROP("adapter")},
    {DROP("advisory_locks")},
    {DROP("atomic_requests")},
    {DROP("binaryTransfer")},
    {DROP("checkout_timeout")},
    {DROP("conn_health_checks")},
    {DROP("conn_max_age")},
    {DROP("default_query_exec_mode")},
    {DROP("defaultRowFetchSize")},
    {DROP("disable_server_side_cursors")},
    {DROP("fallback_application_name")},
    {DROP("idle_timeout")},
    {DROP("max_connection_lifetime")},
    {DROP("max_idle_connection_lifetime")},
    {DROP("max_overflow")},
    {DROP("pool")},
    {DROP("pool_max_conn_idle_time")},
    {DROP("pool_max_conn_lifetime")},
    {DROP("pool_max_conns")},
    {DROP("pool_min_conns")},
    {DROP("pool_pre_ping")},
    {DROP("pool_recycle")},
    {DROP("pool_size")},
    {DROP("prepareThreshold")},
    {DROP("prepared_statement_cache_size")},
    {DROP("prepared_statements")},
    {DROP("reaping_frequency")},
    {DROP("reWriteBatchedInserts")},
    {DROP("serverVersion")},
    {DROP("statement-cache-capacity")},
    {DROP("statement_cache_capacity")},
    {DROP("statement_cache_size")},
    {DROP("statement_limit")},
    {DROP("stringtype")},
    {DROP("tcpKeepAlive")},
    {DROP("uselibpqcompat")},
#undef PART
#undef PART_OF
#undef PASS
#undef PASS_OF
#undef NUMBER
#undef WISH
#undef ONLY
#undef DROP
};

static const struct key *find_key(const char *name)
{
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

#define ALPHANUMERIC "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

static bool is_identifier(const char *name)
{
    size_t len = strspn(name, ALPHANUMERIC "_");
    return len > 0 && len <= 32 && name[len] == '\0' && !(*name >= '0' && *name <= '9');
}

static int refuse(struct pqi_url_fault *fault, const char *reason, const char *parameter)
{
    *fault = (struct pqi_url_fault){.reason = reason};
    if (parameter && (is_identifier(parameter) || find_key(parameter)))
        memcpy(fault->parameter, parameter, strlen(parameter));
    return PQR_E_CONFIG;
}

/* ---- Keeping what was said ---------------------------------------------------------------- */

static void move(char **to, char **from)
{
    pqi_mem_wipe(*to);
    *to = *from;
    *from = NULL;
}

static int add_keyword(struct pqi_keyword **list, int *n, const char *key, const char *value)
{
    struct pqi_keyword *more = pqi_mem_resize(*list, (size_t)*n + 1, sizeof *more);
    if (!more)
        return PQR_E_NOMEM;
    *list = more;
    more[*n] = (struct pqi_keyword){pqi_mem_text(key), pqi_mem_text(value)};
    ++*n; /* counted even if half made: whoever frees takes both halves */
    return more[*n - 1].key && more[*n - 1].value ? PQR_OK : PQR_E_NOMEM;
}

static void free_keywords(struct pqi_keyword *list, int n)
{
    for (int i = 0; i < n; i++) {
        pqi_mem_free(list[i].key);
        pqi_mem_wipe(list[i].value); /* sslpassword is among them */
    }
    pqi_mem_free(list);
}

static bool has_keyword(const struct pqi_url *url, const char *key)
{
    for (int i = 0; i < url->nextra; i++)
        if (strcmp(url->extra[i].key, key) == 0)
            return true;
    return false;
}

static const char twice[] = "given twice";

static int keep_part(struct reader *r, const struct key *key, char **value, struct slice raw)
{
    if (r->given[key->part])
        return refuse(r->fault, twice, key->name);
    r->given[key->part] = true;
    move(&r->url->part[key->part], value);
    if (key->part != PQI_PASSWORD)
        return PQR_OK;
    char *copy = pqi_mem_bytes(raw.at, raw.len);
    move(&r->url->part[PQI_PASSWORD_RAW], &copy);
    return r->url->part[PQI_PASSWORD_RAW] ? PQR_OK : PQR_E_NOMEM;
}

static int keep_extra(struct reader *r, const struct key *key, char **value)
{
    if (has_keyword(r->url, key->name))
        return refuse(r->fault, twice, key->name);
    return add_keyword(&r->url->extra, &r->url->nextra, key->name, *value);
}

static int keep_number(struct reader *r, const struct key *key, char **value)
{
    int64_t ignored;
    if (!pqi_read_whole(*value, 0, INT32_MAX, &ignored))
        return refuse(r->fault, "not a whole number", key->name);
    return keep_extra(r, key, value);
}

static int keep_wish(struct reader *r, const struct key *key, char **value)
{
    struct pqi_url *url = r->url;
    for (int i = 0; i < url->nwishes; i++)
        if (strcmp(url->wish[i].option, key->says) == 0)
            return refuse(r->fault, twice, key->name);
    url->wish[url->nwishes++] = (struct pqi_wish){key->name, key->says, *value};
    *value = NULL;
    return PQR_OK;
}

static int note_dropped(struct pqi_url *url, const char *name)
{
    struct pqi_buf list = {0};
    pqi_buf_format(&list, "%s%s%s", url->dropped ? url->dropped : "", url->dropped ? ", " : "",
                   name);
    char *text = pqi_buf_take(&list);
    if (!text)
        return PQR_E_NOMEM;
    move(&url->dropped, &text);
    return PQR_OK;
}

/* One of a few words must stand there; it is kept in the spelling that libpq knows. */
static int choose(struct reader *r, const struct key *key, char **value)
{
    int choice = pqi_read_choice(*value, key->says);
    if (choice < 0)
        return refuse(r->fault, key->reason, key->name);
    size_t len;
    const char *word = pqi_choice(key->says, choice, &len);
    memcpy(*value, word, len);
    return PQR_OK;
}

/* One parameter. *value is kept or left to the caller; `raw` is how it stood in the text. */
static int take(struct reader *r, const char *name, char **value, struct slice raw)
{
    const struct key *key = find_key(name);
    bool after_password = r->after_password;
    bool secret = key && (strcmp(name, "password") == 0 || strcmp(name, "sslpassword") == 0);
    r->after_password = secret;
    if (!key && after_password) /* its name may be a piece of the password */
        return refuse(r->fault, "no parameter behind the password (write & as %26, or use quotes)",
                      NULL);
    if (!key)
        return refuse(r->fault, "unknown", name);
    if (!**value)
        return PQR_OK;
    if (!secret && !pqi_clean(*value, SIZE_MAX))
        return refuse(r->fault, "not plain UTF-8 text", name);
    int rc = key->says && key->meaning != IS_WISH ? choose(r, key, value) : PQR_OK;
    if (rc != PQR_OK)
        return rc;
    switch (key->meaning) {
    case IS_PART:
        return keep_part(r, key, value, raw);
    case IS_PASSED:
        return keep_extra(r, key, value);
    case IS_NUMBER:
        return keep_number(r, key, value);
    case IS_WISH:
        return keep_wish(r, key, value);
    case IS_ONLY:
        return PQR_OK;
    case IS_DROPPED:
        break;
    }
    return note_dropped(r->url, name);
}

/* ---- URLs --------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *found = c ? strchr(digits, c) : NULL;
    return found ? (int)(found - digits) % 16 : -1;
}

/* The text with its %XX resolved. */
static int decode(struct reader *r, struct slice s, char **out)
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
        return refuse(r->fault, reason, NULL);
    }
    *out = text;
    return PQR_OK;
}

/* A part that stands before the parameters; an empty one counts as not said. */
static int read_part(struct reader *r, enum pqi_part part, struct slice s)
{
    char *text = NULL;
    int rc = s.len > 0 ? decode(r, s, &text) : PQR_OK;
    if (text && part != PQI_PASSWORD && !pqi_clean(text, SIZE_MAX)) {
        pqi_mem_wipe(text);
        return refuse(r->fault, "host, user or database are not plain UTF-8 text", NULL);
    }
    if (text)
        move(&r->url->part[part], &text);
    return rc;
}

static int read_user(struct reader *r, struct slice s)
{
    const char *colon = memchr(s.at, ':', s.len);
    struct slice user = {s.at, colon ? (size_t)(colon - s.at) : s.len};
    int rc = read_part(r, PQI_USER, user);
    if (rc != PQR_OK || !colon)
        return rc;
    struct slice password = {colon + 1, s.len - user.len - 1};
    rc = read_part(r, PQI_PASSWORD, password);
    if (rc != PQR_OK || password.len == 0)
        return rc;
    r->url->part[PQI_PASSWORD_RAW] = pqi_mem_bytes(password.at, password.len);
    return r->url->part[PQI_PASSWORD_RAW] ? PQR_OK : PQR_E_NOMEM;
}

/* One host[:port] of a list; moves *s behind it. */
static const char *split_host(struct slice *s, struct slice *host, struct slice *port)
{
    const char *end = s->at + s->len, *at = s->at;
    *host = *port = (struct slice){at, 0};
    if (at < end && *at == '[') {
        const char *close = memchr(at, ']', s->len);
        if (!close || close == at + 1)
            return "[ without an address and ]";
        *host = (struct slice){at + 1, (size_t)(close - at - 1)};
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
    *s = (struct slice){at, (size_t)(end - at)};
    return NULL;
}

static int read_hosts(struct reader *r, struct slice s)
{
    struct pqi_buf hosts = {0}, ports = {0};
    struct slice host, port;
    int rc = PQR_OK;
    for (bool more = true; more && rc == PQR_OK;) {
        const char *reason = split_host(&s, &host, &port);
        if (reason)
            rc = refuse(r->fault, reason, NULL);
        more = !reason && s.len > 0;
        pqi_buf_add(&hosts, host.at, host.len);
        pqi_buf_add(&ports, port.at, port.len);
        if (more) { /* a comma, then one more */
            s = (struct slice){s.at + 1, s.len - 1};
            pqi_buf_text(&hosts, ",");
            pqi_buf_text(&ports, ",");
        }
    }
    if (hosts.failed || ports.failed)
        rc = PQR_E_NOMEM;
    if (rc == PQR_OK)
        rc = read_part(r, PQI_HOST, (struct slice){pqi_buf_str(&hosts), hosts.len});
    if (rc == PQR_OK && strspn(pqi_buf_str(&ports), ",") < ports.len)
        rc = read_part(r, PQI_PORT, (struct slice){pqi_buf_str(&ports), ports.len});
    pqi_buf_free(&hosts);
    pqi_buf_free(&ports);
    return rc;
}

static int read_parameter(struct reader *r, struct slice s)
{
    const char *equals = memchr(s.at, '=', s.len);
    if (!equals)
        return refuse(r->fault, "a parameter without = in it", NULL);
    struct slice key = {s.at, (size_t)(equals - s.at)};
    struct slice raw = {equals + 1, s.len - key.len - 1};
    if (memchr(raw.at, '=', raw.len))
        return refuse(r->fault, "a second = in a parameter (write it %3D)", NULL);
    char *name = NULL, *value = NULL;
    int rc = decode(r, key, &name);
    if (rc == PQR_OK)
        rc = decode(r, raw, &value);
    if (rc == PQR_OK)
        rc = take(r, name, &value, raw);
    pqi_mem_wipe(name); /* a piece of a password, if that held an & */
    pqi_mem_wipe(value);
    return rc;
}

static int read_parameters(struct reader *r, const char *at)
{
    int rc = PQR_OK;
    while (*at && rc == PQR_OK) {
        size_t len = strcspn(at, "&");
        rc = read_parameter(r, (struct slice){at, len});
        at += len + (at[len] == '&');
    }
    return rc;
}

/* Behind "postgresql://". Users, hosts and databases that hold @ / ? as they are would leave it
 * open where a password ends, and put pieces of it into texts that are shown: so they are refused
 * where libpq would guess. */
static int read_url(struct reader *r, const char *at)
{
    struct slice authority = {at, strcspn(at, "/?")};
    const char *sign = strchr(at, '@');
    if (sign && (sign >= at + authority.len || strchr(sign + 1, '@')))
        return refuse(r->fault, "an @ / or ? in a part (write @ as %40, / as %2F, ? as %3F)", NULL);
    if (strchr(at, ' '))
        return refuse(r->fault, "a blank in it (write it %20)", NULL);
    int rc = PQR_OK;
    if (sign) {
        rc = read_user(r, (struct slice){at, (size_t)(sign - at)});
        authority = (struct slice){sign + 1, authority.len - (size_t)(sign + 1 - at)};
    }
    if (rc == PQR_OK)
        rc = read_hosts(r, authority);
    at = authority.at + authority.len;
    if (rc == PQR_OK && *at == '/') {
        struct slice dbname = {at + 1, strcspn(at + 1, "?")};
        if (memchr(dbname.at, '/', dbname.len))
            return refuse(r->fault, "a / in the database's name (write it %2F)", NULL);
        rc = read_part(r, PQI_DBNAME, dbname);
        at = dbname.at + dbname.len;
    }
    return rc == PQR_OK && *at == '?' ? read_parameters(r, at + 1) : rc;
}

/* ---- Keyword strings ---------------------------------------------------------------------- */

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

static int read_pair(struct reader *r, const char **at, char *name, char *value)
{
    size_t len = strcspn(*at, "= ");
    memcpy(name, *at, len);
    name[len] = '\0';
    *at += len;
    *at += strspn(*at, " ");
    if (**at != '=')
        return refuse(r->fault, "a word without = (values with blanks need quotes)", NULL);
    ++*at;
    *at += strspn(*at, " ");
    bool quoted = **at == '\'';
    struct slice raw = {*at + quoted, 0};
    if (!unquote(at, value))
        return refuse(r->fault, "a quote without an end", NULL);
    raw.len = (size_t)(*at - raw.at) - quoted;
    char *copy = pqi_mem_text(value);
    int rc = copy ? take(r, name, &copy, raw) : PQR_E_NOMEM;
    pqi_mem_wipe(copy);
    return rc;
}

static int read_pairs(struct reader *r, const char *at)
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

/* ---- Either ------------------------------------------------------------------------------- */

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

static int read_text(struct reader *r, const char *text)
{
    bool java = strncmp(text, "jdbc:", 5) == 0;
    const char *url = behind_scheme(java ? text + 5 : text);
    if (java && url && has_javas_plus(url))
        return refuse(r->fault, "a + behind a jdbc: URL's ? (write it %20 or %2B)", NULL);
    if (url)
        return read_url(r, url);
    const char *scheme = strstr(text, "://"), *equals = strchr(text, '=');
    if (java || (scheme && (!equals || scheme < equals)))
        return refuse(r->fault, "it begins with neither postgresql:// nor postgres://", NULL);
    if (!equals)
        return refuse(r->fault, "it is neither postgresql://… nor keyword=value", NULL);
    return read_pairs(r, text);
}

int pqi_url_read(struct pqi_url *url, const char *text, struct pqi_url_fault *fault)
{
    struct reader r = {.url = url, .fault = fault};
    return read_text(&r, text);
}

void pqi_url_free(struct pqi_url *url)
{
    for (int i = 0; i < PQI_PARTS; i++)
        pqi_mem_wipe(url->part[i]);
    for (int i = 0; i < url->nwishes; i++)
        pqi_mem_free(url->wish[i].value);
    free_keywords(url->extra, url->nextra);
    pqi_mem_free(url->dropped);
    *url = (struct pqi_url){0};
}

/* ---- Targets ------------------------------------------------------------------------------ */

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
static struct slice item(const char *list, int i)
{
    if (!list)
        return (struct slice){"", 0};
    for (int skip = count(list) > 1 ? i : 0; skip > 0; skip--)
        list = strchr(list, ',') + 1;
    return (struct slice){list, strcspn(list, ",")};
}

static bool is_ipv4(const char *text, struct in_addr *address)
{
    return inet_pton(AF_INET, text, address) == 1;
}

/* An address may name its interface behind a %. */
static bool is_ipv6(const char *text, struct in6_addr *address)
{
    char number[INET6_ADDRSTRLEN];
    size_t len = strcspn(text, "%");
    if (len >= sizeof number)
        return false;
    memcpy(number, text, len);
    number[len] = '\0';
    return inet_pton(AF_INET6, number, address) == 1;
}

static bool is_socket(const char *host)
{
    return *host == '/' || *host == '@';
}

/* Names that only look local, such as 127.0.0.1.example.com, are not. */
static bool is_local(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (is_socket(host) || pqi_read_choice(host, "localhost") == 0)
        return true;
    if (is_ipv4(host, &v4))
        return ntohl(v4.s_addr) >> 24 == 127;
    return is_ipv6(host, &v6) && memcmp(&v6, &in6addr_loopback, sizeof v6) == 0;
}

/* NULL: it can be a host. */
static const char *bad_host(const char *host)
{
    struct in6_addr v6;
    if (is_socket(host) || is_ipv6(host, &v6))
        return NULL;
    if (strlen(host) > 255 || strpbrk(host, " /@?#%\\'\"[]=&;"))
        return "not a host's name, address or socket folder";
    return strchr(host, ':') ? "a : in a host (ports have a parameter of their own)" : NULL;
}

static bool is_address(const char *text)
{
    struct in_addr v4;
    struct in6_addr v6;
    return is_ipv4(text, &v4) || is_ipv6(text, &v6);
}

static bool is(const char *text, const char *word)
{
    return text && strcmp(text, word) == 0;
}

/* Where nothing else is said: proof of who the server is, unless no network is in between. */
static const char *sslmode(const struct pqi_url *url, bool local)
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
static char *server_options(const struct pqi_url *url)
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

static int add_extra(struct pqi_target *t, const char *key, const char *value)
{
    return value && *value ? add_keyword(&t->extra, &t->nextra, key, value) : PQR_OK;
}

static int copy_extras(struct pqi_target *t, const struct pqi_url *url)
{
    char *options = server_options(url);
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

/* Percent-encodes all but letters, digits and what is in `plain`. */
static void encode(struct pqi_buf *to, const char *text, const char *plain)
{
    for (; text && *text; text++)
        if ((unsigned char)*text >= 0x80 || strchr(ALPHANUMERIC, *text) || strchr(plain, *text))
            pqi_buf_add(to, text, 1);
        else
            pqi_buf_format(to, "%%%02X", (unsigned)*text);
}

/* What may be printed of a target: a URL again, without its password. */
static char *show(const struct pqi_target *t, const char *service)
{
    struct pqi_buf shown = {0};
    bool ipv6 = !is_socket(t->host) && strchr(t->host, ':');
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

/* Item i of the list; of an empty one `otherwise`, which may be NULL. */
static int copy_item(char **out, const char *list, int i, const char *otherwise)
{
    struct slice s = item(list, i);
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
    const char *reason = bad_host(t->host);
    if (reason)
        return refuse(fault, reason, "host");
    if (t->hostaddr && !is_address(t->hostaddr))
        return refuse(fault, "not a numeric address", "hostaddr");
    if (!pqi_read_whole(t->port, 1, 65535, &port))
        return refuse(fault, "not a port from 1 to 65535", "port");
    t->local = is_local(t->hostaddr ? t->hostaddr : t->host);
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
        return refuse(fault, "itself a connection string", "dbname");
    if (copy_text(&t->user, part[PQI_USER]) || copy_text(&t->dbname, dbname) ||
        copy_text(&t->password, part[PQI_PASSWORD]) ||
        copy_text(&t->password_raw, part[PQI_PASSWORD_RAW]) ||
        copy_text(&t->sslmode, sslmode(url, t->local)) || copy_extras(t, url))
        return PQR_E_NOMEM;
    t->shown = show(t, part[PQI_SERVICE]);
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

int pqi_url_targets(const struct pqi_url *url, struct pqi_shard_conf *out,
                    struct pqi_url_fault *fault)
{
    int rc = PQR_OK, n = count(url->part[url->part[PQI_HOST] ? PQI_HOST : PQI_HOSTADDR]);
    n = n > 0 ? n : 1;
    const char *reason = bad_lists(url, n);
    if (reason)
        return refuse(fault, reason, "host");
    out->targets = pqi_mem_array((size_t)n, sizeof *out->targets);
    if (!out->targets)
        return PQR_E_NOMEM;
    for (out->n = 0; out->n < n && rc == PQR_OK; out->n++)
        rc = fill_target(&out->targets[out->n], url, out->n, fault);
    return rc;
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
    free_keywords(t->extra, t->nextra);
    pqi_mem_free(t->shown);
}

void pqi_shard_conf_free(struct pqi_shard_conf *conf)
{
    for (int i = 0; i < conf->n; i++)
        free_target(&conf->targets[i]);
    pqi_mem_free(conf->targets);
    *conf = (struct pqi_shard_conf){0};
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
