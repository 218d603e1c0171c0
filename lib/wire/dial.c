/* The connection keywords of one server. */
#include "dial.h"

#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a keyword is when the URL does not say: the value that an environment variable, or a
 * default that depends on the user's home folder, must not change. Keywords unknown to the libpq
 * that runs are left out. */
static const struct fixed {
    const char *key, *value;
} fixed[] = {
    {"client_encoding", "UTF8"},     {"gssencmode", "disable"},
    {"target_session_attrs", "any"}, {"load_balance_hosts", "disable"},
    {"channel_binding", "prefer"},   {"ssl_min_protocol_version", "TLSv1.2"},
    {"sslcompression", "0"},         {"sslsni", "1"},
    {"krbsrvname", "postgres"},      {"keepalives", "1"},
    {"keepalives_idle", "10"},       {"keepalives_interval", "5"},
    {"keepalives_count", "3"},       {"sslnegotiation", "postgres"},
    {"gssdelegation", "0"},
};

/* What has no neutral value unless its variable is set: then this one is as if it were not. */
static const struct shield {
    const char *variable, *key, *value;
} shields[] = {
    {"PGOPTIONS", "options", " "},
    {"PGSSLROOTCERT", "sslrootcert", "/dev/null/none"},
    {"PGSSLCERT", "sslcert", "/dev/null/none"},
    {"PGSSLKEY", "sslkey", "/dev/null/none"},
    {"PGSSLCRL", "sslcrl", "/dev/null/none"},
    {"PGSSLCRLDIR", "sslcrldir", "/dev/null/none"},
    {"PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version", "TLSv1.3"},
    {"PGSSLCERTMODE", "sslcertmode", "allow"},
    {"PGREQUIREAUTH", "require_auth", "password,md5,gss,sspi,scram-sha-256,none"},
};

static bool has(const struct pqi_dial *d, const char *key)
{
    for (int i = 0; i < d->n; i++)
        if (strcmp(d->keys[i], key) == 0)
            return true;
    return false;
}

static void add(struct pqi_dial *d, const char *key, const char *value)
{
    if (!value || !*value || has(d, key) || d->n >= PQI_DIAL_MAX - 1)
        return;
    d->keys[d->n] = key;
    d->values[d->n++] = value;
}

static bool known(const PQconninfoOption *options, const char *key)
{
    for (const PQconninfoOption *o = options; o && o->keyword; o++)
        if (strcmp(o->keyword, key) == 0)
            return true;
    return false;
}

/* The user's own certificate authorities, as libpq would take them: PGSSLROOTCERT must not stand in
 * their place. */
static const char *own_root_certificates(struct pqi_dial *d)
{
    const char *home = getenv("HOME");
    int len = snprintf(d->root_certificate, sizeof d->root_certificate, "%s/.postgresql/root.crt",
                       home ? home : "");
    bool found = home && (size_t)len < sizeof d->root_certificate &&
                 access(d->root_certificate, R_OK) == 0;
    return found ? d->root_certificate : NULL;
}

/* The system's, where libpq 15 would only look into ~/.postgresql. */
static const char *root_certificates(void)
{
    static const char *const bundles[] = {"/etc/ssl/certs/ca-certificates.crt",
                                          "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};
    for (size_t i = 0; i < sizeof bundles / sizeof *bundles; i++)
        if (access(bundles[i], R_OK) == 0)
            return bundles[i];
    return NULL;
}

static bool add_defaults(struct pqi_dial *d)
{
    PQconninfoOption *options = PQconndefaults();
    if (!options)
        return false;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (known(options, fixed[i].key))
            add(d, fixed[i].key, fixed[i].value);
    for (size_t i = 0; i < sizeof shields / sizeof *shields; i++) {
        const char *set = getenv(shields[i].variable);
        if (set && *set && known(options, shields[i].key))
            add(d, shields[i].key, shields[i].value);
    }
    PQconninfoFree(options);
    return true;
}

/* The kernel gives up on bytes that nobody acknowledged after this; keepalives cover the silence
 * of a connection with nothing in flight. Each does what the other does not. */
static void add_user_timeout(struct pqi_dial *d, int64_t socket_timeout_ms)
{
    int64_t ms = socket_timeout_ms < 30000 ? socket_timeout_ms : 30000;
    snprintf(d->tcp_user_timeout, sizeof d->tcp_user_timeout, "%" PRId64, ms);
    add(d, "tcp_user_timeout", d->tcp_user_timeout);
}

bool pqi_dial_init(struct pqi_dial *d, const struct pqi_target *target,
                   const struct pqi_options *options)
{
    memset(d, 0, sizeof *d);
    d->target = target;
    add(d, "host", target->host);
    d->hostaddr = d->n;
    add(d, "hostaddr", target->hostaddr ? target->hostaddr : "0.0.0.0");
    add(d, "port", target->port);
    add(d, "dbname", target->dbname);
    add(d, "user", target->user);
    add(d, "password", target->password);
    add(d, "sslmode", target->sslmode);
    for (int i = 0; i < target->nextra; i++)
        add(d, target->extra[i].key, target->extra[i].value);
    add(d, "application_name", options->application_name);
    add(d, "sslrootcert", own_root_certificates(d));
    if (strncmp(target->sslmode, "verify", 6) == 0)
        add(d, "sslrootcert", root_certificates());
    add_user_timeout(d, options->socket_timeout_ms);
    return add_defaults(d);
}
