/* docs/options.md, printed. */
#include "page.h"

#include "../base/bytes.h"
#include "env.h"
#include "option.h"

#include <inttypes.h>
#include <string.h>

static void add_range(struct pqi_buf *to, const struct pqi_option *o)
{
    const char *zero = o->zero != PQI_NO_ZERO && o->min > 0 ? ", or 0" : "";
    if (o->kind == PQI_IS_WHOLE || o->max == 65535)
        pqi_buf_format(to, "%" PRId64 " to %" PRId64, o->min, o->max);
    else if (o->kind == PQI_IS_DURATION)
        pqi_buf_format(to, "%s to %s%s%s%s", pqi_show_duration(o->min).text,
                       pqi_show_duration(o->max).text, zero, o->word ? ", or " : "",
                       o->word ? o->word : "");
    else if (o->kind == PQI_IS_CHOICE)
        pqi_buf_text(to, o->choices);
    else if (o->kind == PQI_IS_YES_NO)
        pqi_buf_text(to, "yes, no");
    else if (o->dotted)
        pqi_buf_text(to, "name.name");
    else if (o->kind == PQI_IS_SECRET)
        pqi_buf_format(to, "%" PRId64 " to %" PRId64 " bytes", o->min, o->max);
    else if (o->kind == PQI_IS_TEXT)
        pqi_buf_format(to, "%" PRId64 " bytes", o->max);
    else
        pqi_buf_text(to, o->kind == PQI_IS_URL ? "a URL" : "a text");
}

static void add_row(struct pqi_buf *to, const struct pqi_option *o)
{
    pqi_buf_format(to, "| `%s`%s | ", o->name, o->secret ? " (`_FILE`)" : "");
    add_range(to, o);
    pqi_buf_format(to, " | %s | %s |\n", o->fallback ? o->fallback : "", o->help);
}

/* Of one kind, and of those that are ignored the ones for the same reason. */
static void add_names(struct pqi_buf *to, enum pqi_kind kind, const char *lacking)
{
    const char *before = "";
    for (const struct pqi_option *o = NULL; (o = pqi_option_next(o));)
        if (o->kind == kind && (!lacking || strcmp(o->lacking, lacking) == 0)) {
            pqi_buf_format(to, "%s`%s`", before, o->name);
            before = ", ";
        }
    pqi_buf_text(to, ".\n");
}

/* A paragraph a reason; the rows of one reason stand together. */
static void add_ignored(struct pqi_buf *to)
{
    const char *last = "";
    for (const struct pqi_option *o = NULL; (o = pqi_option_next(o));)
        if (o->kind == PQI_IS_IGNORED && strcmp(o->lacking, last) != 0) {
            last = o->lacking;
            pqi_buf_format(to, "\nIgnored with a warning, since this version has no %s: ", last);
            add_names(to, PQI_IS_IGNORED, last);
        }
}

static const char beginning[] =
    "# Options\n\n"
    "All are environment variables, read once when the router is opened. This page is printed from\n"
    "`lib/plan/option.def` by `pqrouter docs options`.\n\n"
    "An empty value is none; blanks around one are ignored, with a warning. A duration is a number\n"
    "of seconds (`5`, `0.5`) or has a unit: `250ms`, `10s`, `2m`, `1h`. What is marked `_FILE` may\n"
    "also stand in a file: then `NAME_FILE` is the file's name, and `NAME` is not set. All faults\n"
    "are told together; no text ever shows a URL's password. `{i}` is a shard, from 0; `{n}` is a\n"
    "replica, from 1.\n";

static const char about_urls[] =
    "\n## URLs\n\n"
    "`postgresql://user:password@host:port/database?parameter=value&…`, as libpq has it: several\n"
    "hosts with commas between them are several servers, an IPv6 address stands in brackets, a\n"
    "socket's folder as `%2Fvar%2Frun%2Fpostgresql` or as the parameter `host`. `postgres://`,\n"
    "`pgsql://`, `jdbc:postgresql://` and a driver, as in `postgresql+psycopg2://`, are accepted\n"
    "too, and so is a keyword string: `host=… port=… dbname=… user=… password='…'`.\n\n"
    "- Of a URL with several hosts the second server is called `shard0/primary.2` where the first is\n"
    "  `shard0/primary`, the third `shard0/primary.3`; which is primary is found by asking.\n"
    "- In users, passwords, hosts and databases write `@` as `%40`, `/` as `%2F`, `?` as `%3F`, a\n"
    "  blank as `%20`, `%` as `%25`; libpq guesses where it finds them bare, pqrouter refuses. A\n"
    "  `+` in a parameter of a `jdbc:` URL is refused: Java reads it as a blank, libpq does not.\n"
    "- A host that is not named is `localhost`; a port 5432; a database has its user's name.\n"
    "- `sslmode` is `verify-full` unless the URL says otherwise, and `prefer` for a socket,\n"
    "  `localhost`, `127.0.0.0/8` and `::1`; beside a `hostaddr` of these a name is checked in full:\n"
    "  it may be a tunnel. `ssl=true` asks for TLS on those too, `ssl=false` for none;\n"
    "  `sslaccept=strict` is `verify-full`.\n"
    "- `schema`, `search_path`, `currentSchema` and `schema_search_path` set the search path;\n"
    "  `socket` is `host`.\n"
    "- `connection_limit`, `pool_timeout`, `connect_timeout`, `socket_timeout`, `pgbouncer` and\n"
    "  `application_name` set the option of that name where its variable is not set, for all\n"
    "  servers. Of several URLs the first that has one counts.\n"
    "- `target_session_attrs` (but `any`), `load_balance_hosts` and `replication` are refused, and\n"
    "  so is an encoding that is not UTF8; behind a pooler also what sets the search path, and\n"
    "  `options`.\n"
    "- The other keywords of libpq 15 to 17 are handed on to it. With `service` the host must be\n"
    "  named nevertheless, and port and `sslmode` are the URL's. `PGSERVICE`, which libpq would\n"
    "  apply to every server, is a fault unless each URL names a service.\n"
    "- What frameworks keep in a URL for themselves, such as `pool` or `conn_max_age`, is ignored\n"
    "  with a warning; a parameter that nobody knows is a fault.\n";

char *pqi_options_markdown(void)
{
    struct pqi_buf text = {0};
    pqi_buf_text(&text, beginning);
    for (const struct pqi_option *o = NULL; (o = pqi_option_next(o));)
        if (o->kind == PQI_IS_SECTION)
            pqi_buf_format(&text,
                           "\n## %s\n\n| name | range | default | meaning |\n|---|---|---|---|\n",
                           o->name);
        else if (o->kind < PQI_IS_PLANNED)
            add_row(&text, o);
    pqi_buf_text(&text, about_urls);
    pqi_buf_text(&text, "\n## Not yet\n\nRefused by this version: ");
    add_names(&text, PQI_IS_PLANNED, NULL);
    add_ignored(&text);
    return pqi_buf_take(&text);
}
