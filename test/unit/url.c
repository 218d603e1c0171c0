/* Connection URLs and keyword strings: what they say, what is refused, and that no password and no
 * piece of one ever gets into a text. */
#include "../../lib/plan/url.h"
#include "../../lib/base/mem.h"
#include "../../lib/plan/servers.h"

#include <pqrouter/pqrouter.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- Words ----------------------------------------------------------------------------------- */

/* A text, read as pqi_options_load would. */
struct reading {
    int rc;
    struct pqi_url url;
    struct pqi_shard_conf conf;
    struct pqi_url_fault fault;
};

static struct reading read_text(const char *text)
{
    struct reading r = {.rc = PQR_OK};
    r.rc = pqi_url_read(&r.url, text, &r.fault);
    if (r.rc == PQR_OK)
        r.rc = pqi_servers_make(&r.conf, &r.url, &r.fault);
    return r;
}

static void forget(struct reading *r)
{
    pqi_url_free(&r->url);
    pqi_shard_conf_free(&r->conf);
}

static struct reading read_good(const char *text)
{
    struct reading r = read_text(text);
    if (r.rc != PQR_OK)
        print_error("%s: %s\n", text, r.fault.reason);
    assert_int_equal(r.rc, PQR_OK);
    assert_true(r.conf.n > 0);
    return r;
}

static void assert_same(const char *is, const char *should)
{
    if (should)
        assert_non_null(is);
    if (should)
        assert_string_equal(is, should);
    else
        assert_null(is);
}

static const char *extra(const struct pqi_target *t, const char *key)
{
    for (int i = 0; i < t->nextra; i++)
        if (strcmp(t->extra[i].key, key) == 0)
            return t->extra[i].value;
    return NULL;
}

static void assert_shown(const char *text, const char *shown)
{
    struct reading r = read_good(text);
    assert_string_equal(r.conf.targets[0].shown, shown);
    forget(&r);
}

static void assert_extra(const char *text, const char *key, const char *value)
{
    struct reading r = read_good(text);
    assert_same(extra(&r.conf.targets[0], key), value);
    forget(&r);
}

static void assert_refused(const char *text, const char *reason, const char *parameter)
{
    struct reading r = read_text(text);
    if (r.rc != PQR_E_CONFIG || strcmp(r.fault.reason, reason) != 0)
        print_error("%s: %s\n", text, r.rc == PQR_OK ? "accepted" : r.fault.reason);
    assert_int_equal(r.rc, PQR_E_CONFIG);
    assert_string_equal(r.fault.reason, reason);
    assert_string_equal(r.fault.parameter, parameter);
    forget(&r);
}

/* ---- What they say --------------------------------------------------------------------------- */

static void a_text_says_host_port_user_password_and_database(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host, *port, *user, *password, *dbname;
    } cases[] = {
        {"postgresql://ann:pw@db.example:6000/app", "db.example", "6000", "ann", "pw", "app"},
        {"postgres://ann:pw@db.example:6000/app", "db.example", "6000", "ann", "pw", "app"},
        {"pgsql://ann:pw@db.example:6000/app", "db.example", "6000", "ann", "pw", "app"},
        {"postgresql+psycopg2://ann:pw@h:6/app", "h", "6", "ann", "pw", "app"},
        {"postgres+asyncpg://ann:pw@h:6/app", "h", "6", "ann", "pw", "app"},
        {"jdbc:postgresql://h:6/app?user=ann&password=pw", "h", "6", "ann", "pw", "app"},
        {"host=h port=6 user=ann password=pw dbname=app", "h", "6", "ann", "pw", "app"},

        {"postgresql://", "localhost", "5432", NULL, NULL, NULL},
        {"postgresql:///", "localhost", "5432", NULL, NULL, NULL},
        {"postgresql://h", "h", "5432", NULL, NULL, NULL},
        {"postgresql://h?", "h", "5432", NULL, NULL, NULL},
        {"postgresql:///app", "localhost", "5432", NULL, NULL, "app"},
        {"postgresql://ann@h", "h", "5432", "ann", NULL, "ann"},
        {"postgresql://ann:@h", "h", "5432", "ann", NULL, "ann"},
        {"postgresql://:pw@h", "h", "5432", NULL, "pw", NULL},
        {"postgresql://h:/d", "h", "5432", NULL, NULL, "d"},
        {"postgresql://h/d?user=ann", "h", "5432", "ann", NULL, "d"},
        {"postgresql://h/d?user=ann&", "h", "5432", "ann", NULL, "d"},
        {"postgresql://h/d?port=7", "h", "7", NULL, NULL, "d"},
        {"postgresql://h/d?host=", "h", "5432", NULL, NULL, "d"},

        {"postgresql://a%40b:p%40%2F%25%3A%27%5C%20w@h/d%2Fe", "h", "5432", "a@b", "p@/%:'\\ w",
         "d/e"},
        {"postgresql://ann:p:w@h/d", "h", "5432", "ann", "p:w", "d"},
        {"postgresql://ann:p%c3%a4ss@h/d", "h", "5432", "ann", "p\xc3\xa4ss", "d"},
        {"postgresql://ann:%0Anewline@h/d", "h", "5432", "ann", "\nnewline", "d"},
        {"postgresql://ann:p#w@h/d", "h", "5432", "ann", "p#w", "d"},
        {"postgresql://[::1]:6/d", "::1", "6", NULL, NULL, "d"},
        {"postgresql://[2001:db8::1]/d", "2001:db8::1", "5432", NULL, NULL, "d"},
        {"postgresql://[fe80::1%25eth0]/d", "fe80::1%eth0", "5432", NULL, NULL, "d"},
        {"postgresql://%2Fvar%2Frun/d", "/var/run", "5432", NULL, NULL, "d"},
        {"postgresql:///d?host=/tmp&port=6", "/tmp", "6", NULL, NULL, "d"},
        {"postgresql:///d?socket=/tmp", "/tmp", "5432", NULL, NULL, "d"},

        {"host = h port\x20=6 dbname =  'd'", "h", "6", NULL, NULL, "d"},
        {"host='h' password='it\\'s \\\\ w' dbname=d", "h", "5432", NULL, "it's \\ w", "d"},
        {"host=h password=a\\ b\\\\c dbname=d", "h", "5432", NULL, "a b\\c", "d"},
        {"host=h password='' dbname=d", "h", "5432", NULL, NULL, "d"},
        {"host='h'port=6", "h", "6", NULL, NULL, NULL},
        {"host=h dbname=d\\", "h", "5432", NULL, NULL, "d"},
        {"  host=/tmp  ", "/tmp", "5432", NULL, NULL, NULL},
        {"host=@abstract", "@abstract", "5432", NULL, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reading r = read_good(cases[i].text);
        const struct pqi_target *t = r.conf.targets;
        assert_int_equal(r.conf.n, 1);
        assert_same(t->host, cases[i].host);
        assert_same(t->port, cases[i].port);
        assert_same(t->user, cases[i].user);
        assert_same(t->password, cases[i].password);
        assert_same(t->dbname, cases[i].dbname);
        forget(&r);
    }
}

static void several_hosts_are_several_servers(void **state)
{
    (void)state;
    struct reading r = read_good("postgresql://u:p@a:1,b,[::1]:3/d");
    assert_int_equal(r.conf.n, 3);
    assert_string_equal(r.conf.targets[0].shown, "postgresql://u@a:1/d");
    assert_string_equal(r.conf.targets[1].shown, "postgresql://u@b:5432/d");
    assert_string_equal(r.conf.targets[2].shown, "postgresql://u@[::1]:3/d");
    assert_string_equal(r.conf.targets[1].sslmode, "verify-full");
    assert_string_equal(r.conf.targets[2].sslmode, "prefer");
    forget(&r);
    r = read_good("host=a,b port=7 hostaddr=10.0.0.1,10.0.0.2");
    assert_int_equal(r.conf.n, 2);
    assert_string_equal(r.conf.targets[1].host, "b");
    assert_string_equal(r.conf.targets[1].port, "7");
    assert_string_equal(r.conf.targets[1].hostaddr, "10.0.0.2");
    forget(&r);
    r = read_good("hostaddr=10.0.0.1,10.0.0.2 port=1,2");
    assert_int_equal(r.conf.n, 2);
    assert_string_equal(r.conf.targets[1].host, "10.0.0.2");
    forget(&r);
}

static void what_is_shown_is_a_url_again_without_the_password(void **state)
{
    (void)state;
    assert_shown("postgres://ann:secret@h:1/d?sslmode=require", "postgresql://ann@h:1/d");
    assert_shown("postgresql://a%40b:p@h/d%20e", "postgresql://a%40b@h:5432/d%20e");
    assert_shown("postgresql://%2Ftmp/d", "postgresql://%2Ftmp:5432/d");
    assert_shown("host=/tmp", "postgresql://%2Ftmp:5432/");
    assert_shown("postgresql://[fe80::1%25eth0]/d", "postgresql://[fe80::1%25eth0]:5432/d");
    assert_shown("host=h service=s dbname=d", "postgresql://h:5432/d?service=s");
    assert_shown("host=h user=\xc3\xa4", "postgresql://\xc3\xa4@h:5432/\xc3\xa4");
}

static void proof_of_identity_is_asked_of_every_host_that_is_not_local(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sslmode;
        bool local;
    } cases[] = {
        {"host=db.example", "verify-full", false},
        {"host=10.0.0.1", "verify-full", false},
        {"host=localhost", "prefer", true},
        {"host=LocalHost", "prefer", true},
        {"host=127.0.0.1", "prefer", true},
        {"host=127.9.8.7", "prefer", true},
        {"host=::1", "prefer", true},
        {"host=0:0:0:0:0:0:0:1", "prefer", true},
        {"host=/tmp", "prefer", true},
        {"host=@x", "prefer", true},
        {"hostaddr=127.0.0.1", "prefer", true},
        {"hostaddr=10.0.0.1", "verify-full", false},
        {"host=localhost hostaddr=10.0.0.1", "verify-full", false},
        {"host=localhost hostaddr=127.0.0.1", "prefer", true},
        {"host=db.example hostaddr=127.0.0.1", "verify-full", false},
        /* What only looks local. */
        {"host=127.0.0.1.example.com", "verify-full", false},
        {"host=127.1", "verify-full", false},
        {"host=127.0.0.256", "verify-full", false},
        {"host=localhost.example.com", "verify-full", false},
        {"host=localhos", "verify-full", false},
        {"host=::2", "verify-full", false},
        {"host=::ffff:127.0.0.1", "verify-full", false},
        /* What the URL asks for. */
        {"host=h sslmode=disable", "disable", false},
        {"host=h sslmode=verify-ca", "verify-ca", false},
        {"host=/tmp sslmode=require", "require", true},
        {"postgresql://h?ssl=true", "verify-full", false},
        {"postgresql://localhost?ssl=true", "require", true},
        {"postgresql://h?ssl=false", "disable", false},
        {"postgresql://h?ssl=true&sslmode=require", "require", false},
        {"postgresql://h?sslmode=require&sslaccept=strict", "verify-full", false},
        {"postgresql://localhost?sslaccept=strict", "verify-full", true},
        {"postgresql://h?sslmode=disable&sslaccept=strict", "disable", false},
        {"postgresql://h?sslaccept=accept_invalid_certs", "require", false},
        {"postgresql://h?sslmode=verify-ca&sslaccept=accept_invalid_certs", "verify-ca", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reading r = read_good(cases[i].text);
        if (strcmp(r.conf.targets[0].sslmode, cases[i].sslmode) != 0)
            print_error("%s: %s\n", cases[i].text, r.conf.targets[0].sslmode);
        assert_string_equal(r.conf.targets[0].sslmode, cases[i].sslmode);
        assert_int_equal(r.conf.targets[0].local, cases[i].local);
        forget(&r);
    }
}

static void the_search_path_of_other_dialects_becomes_an_option(void **state)
{
    (void)state;
    assert_extra("postgresql://h?schema=app", "options", "-c search_path=\"app\"");
    assert_extra("postgresql://h?schema=My%20%22App%5C", "options",
                 "-c search_path=\"My\\ \"\"App\\\\\"");
    assert_extra("postgresql://h?schema=a%20-c%20b%3Dc", "options",
                 "-c search_path=\"a\\ -c\\ b=c\"");
    assert_extra("postgresql://h?search_path=a,b", "options", "-c search_path=a,b");
    assert_extra("postgresql://h?currentSchema=a,%20b", "options", "-c search_path=a,\\ b");
    assert_extra("postgresql://h?schema_search_path=a", "options", "-c search_path=a");
    assert_extra("postgresql://h?options=-c%20geqo%3Doff%5C&schema=a", "options",
                 "-c search_path=\"a\" -c geqo=off\\");
    assert_extra("host=h options='-c geqo=off'", "options", "-c geqo=off");
    assert_extra("postgresql://h?schema=", "options", NULL);
}

static void keywords_of_libpq_are_passed_on(void **state)
{
    (void)state;
    static const char *const plain[] = {
        "gsslib", "krbsrvname", "passfile", "require_auth", "requirepeer", "service", "sslcert",
        "sslcrl", "sslcrldir",  "sslkey",   "sslpassword",  "sslrootcert", "options"};
    static const char *const numbers[] = {
        "gssdelegation",       "keepalives",     "keepalives_count", "keepalives_idle",
        "keepalives_interval", "sslcompression", "sslsni",           "tcp_user_timeout"};
    char text[100];
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        snprintf(text, sizeof text, "host=h %s='some value'", plain[i]);
        assert_extra(text, plain[i], "some value");
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        snprintf(text, sizeof text, "postgresql://h?%s=1", numbers[i]);
        assert_extra(text, numbers[i], "1");
        snprintf(text, sizeof text, "postgresql://h?%s=1x", numbers[i]);
        assert_refused(text, "not a whole number", numbers[i]);
    }
    assert_extra("host=h channel_binding=require", "channel_binding", "require");
    assert_extra("host=h gssencmode=disable", "gssencmode", "disable");
    assert_extra("host=h sslcertmode=allow", "sslcertmode", "allow");
    assert_extra("host=h sslnegotiation=direct", "sslnegotiation", "direct");
    assert_extra("host=h ssl_min_protocol_version=tlsv1.3", "ssl_min_protocol_version", "TLSv1.3");
    assert_extra("host=h client_encoding=utf-8", "client_encoding", NULL);
    assert_extra("host=h target_session_attrs=any", "target_session_attrs", NULL);
}

static void options_of_ours_are_found_under_their_names_elsewhere(void **state)
{
    (void)state;
    struct reading r = read_good("postgresql://h/d?connection_limit=5&pool_timeout=2&"
                                 "connect_timeout=3&socket_timeout=4&application_name=me&"
                                 "pgbouncer=true");
    static const char *const options[] = {"DB_CONNECTION_LIMIT", "DB_POOL_TIMEOUT",
                                          "DB_CONNECT_TIMEOUT",  "DB_SOCKET_TIMEOUT",
                                          "DB_APPLICATION_NAME", "DB_PGBOUNCER"};
    static const char *const values[] = {"5", "2", "3", "4", "me", "true"};
    assert_int_equal(r.url.nwishes, 6);
    for (int i = 0; i < 6; i++) {
        assert_string_equal(r.url.wish[i].option, options[i]);
        assert_string_equal(r.url.wish[i].value, values[i]);
    }
    assert_int_equal(r.conf.targets[0].nextra, 0);
    forget(&r);
}

static void what_frameworks_keep_in_a_url_is_dropped_and_told(void **state)
{
    (void)state;
    struct reading r = read_good("postgresql://h/d?pool=5&conn_max_age=60");
    assert_string_equal(r.url.dropped, "pool, conn_max_age");
    assert_int_equal(r.conf.targets[0].nextra, 0);
    forget(&r);
}

/* ---- What is refused ------------------------------------------------------------------------- */

static void what_is_wrong_with_a_text_is_said(void **state)
{
    (void)state;
    static const char at[] = "an @ / or ? in a part (write @ as %40, / as %2F, ? as %3F)";
    static const char percent[] = "a % without two hexadecimal digits (a % itself is written %25)";
    static const char scheme[] = "it begins with neither postgresql:// nor postgres://";
    static const char port[] = "not a port from 1 to 65535";
    static const char host[] = "not a host's name, address or socket folder";
    static const char roles[] = "roles are found by asking the servers";
    static const char lists[] = "not as many hosts as addresses or ports";
    static const struct {
        const char *text, *reason, *parameter;
    } cases[] = {
        {"mysql://h/d", scheme, ""},
        {"redis://h", scheme, ""},
        {"postgresqlx://h", scheme, ""},
        {"POSTGRESQL://h", scheme, ""},
        {"jdbc:mysql://h/d", scheme, ""},
        {"jdbc:postgresql:d", scheme, ""},
        {"postgresql+://h?a=b//", "unknown", "a"},
        {"mysql://h/d?a=b", scheme, ""},
        {"postgresql:/h/d", "it is neither postgresql://… nor keyword=value", ""},
        {"just words", "it is neither postgresql://… nor keyword=value", ""},
        {"jdbc:postgresql://h/d?password=a+b", "a + behind a jdbc: URL's ? (write it %20 or %2B)",
         ""},

        {"postgresql://u:p@w@h/d", at, ""},
        {"postgresql://u:p/w@h/d", at, ""},
        {"postgresql://u:1/w@h/d", at, ""},
        {"postgresql://u:p?w@h/d", at, ""},
        {"postgresql://h/d?user=a@b", at, ""},
        {"postgresql://u:p w@h/d", "a blank in it (write it %20)", ""},
        {"postgresql://u:%@h/d", percent, ""},
        {"postgresql://u:%4@h/d", percent, ""},
        {"postgresql://u:%4g@h/d", percent, ""},
        {"postgresql://u@h/%", percent, ""},
        {"postgresql://u@h/d?host=%x1", percent, ""},
        {"postgresql://u:%00@h/d", "a %00", ""},
        {"postgresql://h/d?host=a%00b", "a %00", ""},
        {"postgresql://h/d/e", "a / in the database's name (write it %2F)", ""},
        {"postgresql://h/%0A", "host, user or database are not plain UTF-8 text", ""},
        {"postgresql://%ff@h/d", "host, user or database are not plain UTF-8 text", ""},
        {"postgresql://h/d?options=%01", "not plain UTF-8 text", "options"},

        {"postgresql://[::1/d", "[ without an address and ]", ""},
        {"postgresql://[]/d", "[ without an address and ]", ""},
        {"postgresql://[::1]x/d", "no port behind ]", ""},
        {"postgresql://::1/d", port, "port"},
        {"postgresql://h:0/d", port, "port"},
        {"postgresql://h:65536/d", port, "port"},
        {"postgresql://h:99999999999999999999/d", port, "port"},
        {"postgresql://h:-1/d", port, "port"},
        {"postgresql://h:+1/d", port, "port"},
        {"postgresql://h:0x10/d", port, "port"},
        {"postgresql://h:1a/d", port, "port"},
        {"postgresql://h:5432:1/d", port, "port"},
        {"host=h port=' 1'", port, "port"},
        {"host=a:1", "a : in a host (ports have a parameter of their own)", "host"},
        {"host='a b'", host, "host"},
        {"host=a@b", host, "host"},
        {"postgresql://h%23/d", host, "host"},
        {"hostaddr=db.example", "not a numeric address", "hostaddr"},
        {"hostaddr=127.1", "not a numeric address", "hostaddr"},
        {"host=a,b port=1,2,3", lists, "host"},
        {"host=a,b hostaddr=10.0.0.1", lists, "host"},
        {"host=a,b,", "an empty one among several hosts", "host"},
        {"postgresql://a,,b/d", "an empty one among several hosts", "host"},
        {"host=a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a",
         "more than 32 hosts", "host"},
        {"service=s", "beside a service the host must be named", "host"},
        {"host=h dbname='host=x user=y'", "itself a connection string", "dbname"},
        {"host=h dbname=postgresql://x", "itself a connection string", "dbname"},

        {"postgresql://h?user", "a parameter without = in it", ""},
        {"postgresql://h?&user=a", "a parameter without = in it", ""},
        {"postgresql://h?user=a=b", "a second = in a parameter (write it %3D)", ""},
        {"postgresql://h?user=a&user=b", "given twice", "user"},
        {"postgresql://h?sslcert=a&sslcert=b", "given twice", "sslcert"},
        {"postgresql://h?connect_timeout=1&connectTimeout=2", "given twice", "connectTimeout"},
        {"postgresql://h?sslmod=require", "unknown", "sslmod"},
        {"postgresql://h?Host=a", "unknown", "Host"},
        {"postgresql://h?a-b=c", "unknown", ""},
        {"postgresql://h?a_name_of_more_than_thirty_two_bytes=c", "unknown", ""},
        {"postgresql://h?=c", "unknown", ""},
        {"host", "it is neither postgresql://… nor keyword=value", ""},
        {"host=h port", "a word without = (values with blanks need quotes)", ""},
        {"host=h dbname='d", "a quote without an end", ""},
        {"host=h dbname='d\\'", "a quote without an end", ""},
        {"=h", "unknown", ""},

        {"host=h sslmode=on", "not one of disable, allow, prefer, require, verify-ca, verify-full",
         "sslmode"},
        {"host=h ssl=maybe", "not one of true, false, 1, 0, yes, no, on, off", "ssl"},
        {"host=h sslaccept=lax", "not one of strict, accept_invalid_certs", "sslaccept"},
        {"host=h gssencmode=x", "not one of disable, prefer, require", "gssencmode"},
        {"host=h target_session_attrs=read-write", roles, "target_session_attrs"},
        {"host=h targetServerType=primary", roles, "targetServerType"},
        {"host=h load_balance_hosts=random", "reads are balanced by the router",
         "load_balance_hosts"},
        {"host=h client_encoding=latin1", "only UTF8 is spoken", "client_encoding"},
        {"host=h client_encoding=auto", "only UTF8 is spoken", "client_encoding"},
        {"host=h replication=database", "a walsender runs no statements", "replication"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i].text, cases[i].reason, cases[i].parameter);
}

/* ---- Secrets --------------------------------------------------------------------------------- */

/* The two halves of a password that holds everything that is special somewhere. */
static const char head[] = "sEcr3t", tail[] = "w0rd";

static void assert_silent(const char *what, const char *text)
{
    if (text && (strstr(text, head) || strstr(text, tail)))
        print_error("in %s: %s\n", what, text);
    assert_false(text && (strstr(text, head) || strstr(text, tail)));
}

static void no_text_holds_a_piece_of_a_password(void **state)
{
    (void)state;
    static const char *const special[] = {
        "@",   "/",  "%",   ":",   "'",   "\\", " ",   "?",     "#",   "&",    "=",
        ",",   "[",  "]",   "://", "@/",  "/@", "?a=", "&a=",   " a=", "' a=", "%00",
        "%zz", "\n", "%40", "%2F", "=&=", "//", "/?",  "@h/d?", "&x@", "1/2@"};
    static const char *const frames[] = {
        "postgresql://ann:%s@host:1/db",
        "postgresql://ann:1%s@host/db",
        "postgres://host/db?password=%s",
        "postgres://host/db?password=%s&x=1",
        "host=h password=%s dbname=d",
        "host=h password='%s' dbname=d",
        "password=%s",
        "jdbc:postgresql://h/d?password=%s",
        "mysql://ann:%s@host:1/db",
        "postgresql+psycopg2://ann:%s@h/d?nonsense=1",
        "postgresql:ann:%s@host/d",
        "postgresql://ann:%s@host:port/db",
        "postgresql://ann:%s@[host/db",
        "host=h password=%s port=x",
    };
    for (size_t s = 0; s < sizeof special / sizeof *special; s++)
        for (size_t f = 0; f < sizeof frames / sizeof *frames; f++) {
            char password[64], text[256];
            snprintf(password, sizeof password, "%s%s%s", head, special[s], tail);
            const char *hole = strstr(frames[f], "%s");
            snprintf(text, sizeof text, "%.*s%s%s", (int)(hole - frames[f]), frames[f], password,
                     hole + 2);
            struct reading r = read_text(text);
            if (r.rc != PQR_OK) {
                assert_silent("a reason", r.fault.reason);
                assert_silent("a parameter's name", r.fault.parameter);
            }
            assert_silent("what was dropped", r.url.dropped);
            for (int i = 0; r.rc == PQR_OK && i < r.conf.n; i++)
                assert_silent("what is shown", r.conf.targets[i].shown);
            forget(&r);
        }
}

static void assert_scrubbed(const char *url, const char *before, const char *after)
{
    struct reading r = read_good(url);
    char text[200];
    snprintf(text, sizeof text, "%s", before);
    pqi_scrub(text, r.conf.targets);
    assert_string_equal(text, after);
    forget(&r);
}

static void a_password_is_scrubbed_as_it_is_and_as_it_stood(void **state)
{
    (void)state;
    assert_scrubbed("postgresql://u:p%40ss@h", "p@ss, p%40ss and p@ss", "***, *** and ***");
    assert_scrubbed("postgresql://u:pass@h", "no word of it", "no word of it");
    assert_scrubbed("postgresql://u@h", "p@ss", "p@ss");
    assert_scrubbed("host=h password='it\\'s'", "it's, it\\'s", "***, ***");
    assert_scrubbed("postgresql://h?password=p%40ss", "p@ssp%40ss", "******");
    assert_scrubbed("postgresql://u:ab@h", "cabbage", "c**bage");
    assert_scrubbed("postgresql://u:%70@h", "a %70 p", "a *** *");
    assert_scrubbed("host=h password=pw sslpassword=key", "pw key", "** ***");
}

/* ---- Whatever comes -------------------------------------------------------------------------- */

static uint32_t chance(uint32_t *seed, uint32_t n)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % n;
}

/* One byte, word or gap somewhere. */
static void mutate(char text[256], uint32_t *seed)
{
    static const char *const words[] = {
        "@",        "/",     "%",   "%40",       ":",     "'",   "\\",       " ",
        "=",        "&",     "?",   ",",         "[",     "]",   "#",        "\xff",
        "\xc3\xa9", "host=", "%00", "password=", "port=", "://", "sslmode=", "&&"};
    size_t len = strlen(text), at = chance(seed, (uint32_t)len + 1);
    const char *word = words[chance(seed, sizeof words / sizeof *words)];
    size_t gap = chance(seed, 3) == 0 ? chance(seed, 6) : 0;
    size_t rest = at + gap > len ? len : at + gap;
    char copy[512];
    snprintf(copy, sizeof copy, "%.*s%s%s", (int)at, text, gap ? "" : word, text + rest);
    snprintf(text, 256, "%.255s", copy);
}

static void mutated_texts_do_no_harm_and_what_is_shown_can_be_read_again(void **state)
{
    (void)state;
    static const char *const seeds[] = {
        "postgresql://ann:s%40c@h1:5432,h2:6000/app?sslmode=require&application_name=x",
        "postgres://u@[::1]:1/d?schema=a&pool=1",
        "postgresql:///db?host=/tmp&port=5",
        "host=localhost port = 5432 user='a b' password='it\\'s' dbname=x",
        "host=a,b port=1,2 password=pa\\ ss options='-c a=b' sslpassword=y",
        "jdbc:postgresql://h/d?user=x&password=y&connectTimeout=3"};
    uint32_t seed = 1;
    int good = 0;
    for (int i = 0; i < 20000; i++) {
        char text[256];
        snprintf(text, sizeof text, "%s", seeds[chance(&seed, sizeof seeds / sizeof *seeds)]);
        for (uint32_t n = chance(&seed, 4); n > 0; n--)
            mutate(text, &seed);
        struct reading r = read_text(text);
        for (int k = 0; r.rc == PQR_OK && k < r.conf.n; k++, good++) {
            struct reading again = read_good(r.conf.targets[k].shown);
            assert_string_equal(again.conf.targets[0].shown, r.conf.targets[k].shown);
            forget(&again);
        }
        forget(&r);
    }
    assert_true(good > 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_says_host_port_user_password_and_database),
        cmocka_unit_test(several_hosts_are_several_servers),
        cmocka_unit_test(what_is_shown_is_a_url_again_without_the_password),
        cmocka_unit_test(proof_of_identity_is_asked_of_every_host_that_is_not_local),
        cmocka_unit_test(the_search_path_of_other_dialects_becomes_an_option),
        cmocka_unit_test(keywords_of_libpq_are_passed_on),
        cmocka_unit_test(options_of_ours_are_found_under_their_names_elsewhere),
        cmocka_unit_test(what_frameworks_keep_in_a_url_is_dropped_and_told),
        cmocka_unit_test(what_is_wrong_with_a_text_is_said),
        cmocka_unit_test(no_text_holds_a_piece_of_a_password),
        cmocka_unit_test(a_password_is_scrubbed_as_it_is_and_as_it_stood),
        cmocka_unit_test(mutated_texts_do_no_harm_and_what_is_shown_can_be_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
