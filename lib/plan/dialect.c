/* The parameters that stand in URLs and keyword strings, and what each means.
 * Passwords stand in these texts, also in pieces where one is malformed: so reasons are fixed
 * texts, and a parameter's name is shown only where it cannot be a piece of a password. */
#include "dialect.h"

#include "../base/bytes.h"
#include "../base/mem.h"
#include "env.h"

#include <pqrouter/pqrouter.h>
#include <stdint.h>
#include <string.h>

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
    {WISH("pgbouncer", "DB_PGBOUNCER")},

    {ONLY("client_encoding", "utf8, utf-8, unicode", "only UTF8 is spoken")},
    {ONLY("encoding", "utf8, utf-8, unicode", "only UTF8 is spoken")},
    {ONLY("charset", "utf8, utf-8, unicode", "only UTF8 is spoken")},
    {ONLY("target_session_attrs", "any", "roles are found by asking the servers")},
    {ONLY("targetServerType", "any", "roles are found by asking the servers")},
    {ONLY("load_balance_hosts", "disable", "reads are balanced by the router")},
    {ONLY("loadBalanceHosts", "false", "reads are balanced by the router")},
    {ONLY("replication", "false, no, off, 0", "a walsender runs no statements")},

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

static bool is_identifier(const char *name)
{
    static const char characters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    size_t len = strspn(name, characters);
    return len > 0 && len <= 32 && name[len] == '\0' && !(*name >= '0' && *name <= '9');
}

/* ---- Keeping what was said ---------------------------------------------------------------- */

static bool has_keyword(const struct pqi_url *url, const char *key)
{
    for (int i = 0; i < url->nextra; i++)
        if (strcmp(url->extra[i].key, key) == 0)
            return true;
    return false;
}

static const char twice[] = "given twice";

static int keep_part(struct pqi_reader *r, const struct key *key, char **value,
                     struct pqi_slice raw)
{
    if (r->given[key->part])
        return pqi_url_refuse(r->fault, twice, key->name);
    r->given[key->part] = true;
    pqi_url_take(r->url, key->part, value);
    return key->part == PQI_PASSWORD ? pqi_url_keep_raw(r->url, raw) : PQR_OK;
}

static int keep_extra(struct pqi_reader *r, const struct key *key, char **value)
{
    if (has_keyword(r->url, key->name))
        return pqi_url_refuse(r->fault, twice, key->name);
    return pqi_keyword_add(&r->url->extra, &r->url->nextra, key->name, *value);
}

static int keep_number(struct pqi_reader *r, const struct key *key, char **value)
{
    int64_t ignored;
    if (!pqi_read_whole(*value, 0, INT32_MAX, &ignored))
        return pqi_url_refuse(r->fault, "not a whole number", key->name);
    return keep_extra(r, key, value);
}

static int keep_wish(struct pqi_reader *r, const struct key *key, char **value)
{
    struct pqi_url *url = r->url;
    for (int i = 0; i < url->nwishes; i++)
        if (strcmp(url->wish[i].option, key->says) == 0)
            return pqi_url_refuse(r->fault, twice, key->name);
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
    pqi_mem_free(url->dropped);
    url->dropped = text;
    return PQR_OK;
}

/* One of a few words must stand there; it is kept in the spelling that libpq knows. */
static int choose(struct pqi_reader *r, const struct key *key, char **value)
{
    int choice = pqi_read_choice(*value, key->says);
    if (choice < 0)
        return pqi_url_refuse(r->fault, key->reason, key->name);
    size_t len;
    const char *word = pqi_choice(key->says, choice, &len);
    memcpy(*value, word, len);
    return PQR_OK;
}

int pqi_dialect_take(struct pqi_reader *r, const char *name, char **value, struct pqi_slice raw)
{
    const struct key *key = find_key(name);
    bool after_password = r->after_password;
    bool secret = key && (strcmp(name, "password") == 0 || strcmp(name, "sslpassword") == 0);
    r->after_password = secret;
    if (!key && after_password) /* its name may be a piece of the password */
        return pqi_url_refuse(
            r->fault, "no parameter behind the password (write & as %26, or use quotes)", NULL);
    if (!key)
        return pqi_url_refuse(r->fault, "unknown", is_identifier(name) ? name : NULL);
    if (!**value)
        return PQR_OK;
    if (!secret && !pqi_clean(*value, SIZE_MAX))
        return pqi_url_refuse(r->fault, "not plain UTF-8 text", name);
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
