/* What variables say of databases: URLs and parts read into servers. */
#include "databases.h"

#include "../base/bytes.h"
#include "../base/mem.h"
#include "env.h"
#include "field.h"
#include "precedence.h"
#include "servers.h"
#include "url.h"

enum { PART_BYTES = 1024 };

/* ---- Either ------------------------------------------------------------------------------- */

static void refuse(struct pqi_draft *d, const char *name, const struct pqi_url_fault *why)
{
    if (why->parameter[0])
        pqi_note_fault(&d->notes, "%s: not a usable PostgreSQL URL: %s, parameter \"%s\"", name,
                       why->reason, why->parameter);
    else
        pqi_note_fault(&d->notes, "%s: not a usable PostgreSQL URL: %s", name, why->reason);
}

static void set_part(struct pqi_draft *d, struct pqi_url *url, enum pqi_part part, const char *text)
{
    if (url->part[part])
        return;
    url->part[part] = pqi_mem_text(text);
    d->notes.nomem |= text && !url->part[part];
}

/* libpq's own variables for what is missing. A service, where one is named, comes first. */
static void fill_gaps(struct pqi_draft *d, struct pqi_url *url)
{
    if (url->part[PQI_SERVICE])
        return;
    for (int k = 0; k < d->vars.n; k++) {
        const struct pqi_var *v = &d->vars.list[k];
        bool host = v->option->part == PQI_HOST;
        if (v->option->kind == PQI_IS_LIBPQ && v->text && !(host && url->part[PQI_HOSTADDR]))
            set_part(d, url, v->option->part, v->text);
    }
}

/* The servers of a URL whose missing parts are filled in; none where it is at fault. */
static bool make_servers(struct pqi_draft *d, const char *name, const struct pqi_url *url,
                         struct pqi_shard_conf *out)
{
    struct pqi_url_fault why;
    int rc = d->notes.nomem ? PQR_E_NOMEM : pqi_servers_make(out, url, &why);
    if (rc == PQR_E_CONFIG)
        refuse(d, name, &why);
    if (rc != PQR_OK)
        pqi_shard_conf_free(out);
    d->notes.nomem |= rc == PQR_E_NOMEM;
    return rc == PQR_OK;
}

/* ---- URLs --------------------------------------------------------------------------------- */

static void read_url(struct pqi_draft *d, struct pqi_var *v)
{
    struct pqi_url url = {0};
    struct pqi_url_fault why;
    if (!pqi_clean(v->text, PQI_URL_BYTES)) {
        pqi_note_bad_text(&d->notes, v->name, PQI_URL_BYTES);
        return;
    }
    int rc = pqi_url_read(&url, v->text, &why);
    if (rc == PQR_OK) {
        fill_gaps(d, &url);
        if (make_servers(d, v->name, &url, &v->conf))
            pqi_take_wishes(d, v, &url);
    } else if (rc == PQR_E_CONFIG) {
        refuse(d, v->name, &why);
    } else {
        d->notes.nomem = true;
    }
    pqi_url_free(&url);
}

/* The parts and libpq's variables must at least be texts; what is not, counts as not set. */
static void check_part(struct pqi_draft *d, struct pqi_var *v)
{
    const struct pqi_option *o = v->option;
    int64_t number;
    bool clean = pqi_clean(v->text, PART_BYTES);
    if (clean && (o->max == 0 || pqi_read_whole(v->text, o->min, o->max, &number)))
        return;
    if (o->max > 0)
        pqi_refuse_value(d, v);
    else
        pqi_note_bad_text(&d->notes, v->name, PART_BYTES);
    pqi_mem_wipe(v->text);
    v->text = NULL;
}

void pqi_databases_read(struct pqi_draft *d)
{
    bool primary = pqi_vars_find_named(&d->vars, "DATABASE_PRIMARY_URL");
    const struct pqi_option *second = pqi_option_named("DATABASE_URL");
    for (int k = 0; k < d->vars.n; k++) {
        enum pqi_kind kind = d->vars.list[k].option->kind;
        if (kind == PQI_IS_PART || kind == PQI_IS_LIBPQ)
            check_part(d, &d->vars.list[k]);
    }
    /* DATABASE_URL may stand there for somebody else, once DATABASE_PRIMARY_URL is set. */
    for (int k = 0; k < d->vars.n; k++) {
        struct pqi_var *v = &d->vars.list[k];
        if (v->option->kind == PQI_IS_URL && *v->text && !(primary && v->option == second))
            read_url(d, v);
    }
}

/* ---- Parts -------------------------------------------------------------------------------- */

const struct pqi_var *pqi_database_part(const struct pqi_draft *d)
{
    for (int k = 0; k < d->vars.n; k++)
        if (d->vars.list[k].option->kind == PQI_IS_PART && d->vars.list[k].text)
            return &d->vars.list[k];
    return NULL;
}

static const struct pqi_var *find_libpq(const struct pqi_draft *d, enum pqi_part part)
{
    for (int k = 0; k < d->vars.n; k++) {
        const struct pqi_var *v = &d->vars.list[k];
        if (v->option->kind == PQI_IS_LIBPQ && v->option->part == part)
            return v->text ? v : NULL;
    }
    return NULL;
}

void pqi_database_of_parts(struct pqi_draft *d, const char *first, struct pqi_shard_conf *out)
{
    struct pqi_url url = {0};
    for (const struct pqi_option *o = NULL; (o = pqi_option_next(o));) {
        if (o->kind != PQI_IS_PART)
            continue;
        const struct pqi_var *own = pqi_vars_find(&d->vars, o, 0, 0);
        const struct pqi_var *v = own ? own : find_libpq(d, o->part);
        set_part(d, &url, o->part, v ? v->text : o->fallback);
        if (v)
            pqi_source_set(d->o, o, own ? "environment" : v->name);
    }
    fill_gaps(d, &url); /* the pass file */
    if (url.part[PQI_DBNAME])
        make_servers(d, first, &url, out);
    else
        pqi_note_missing(&d->notes, "DATABASE_NAME", first);
    pqi_url_free(&url);
}

void pqi_database_parts_unused(struct pqi_draft *d)
{
    struct pqi_buf names = {0};
    for (int k = 0; k < d->vars.n; k++)
        if (d->vars.list[k].option->kind == PQI_IS_PART)
            pqi_buf_format(&names, "%s%s", names.len > 0 ? ", " : "", d->vars.list[k].name);
    if (names.len > 0)
        pqi_note_warning(&d->notes, "not used, since a URL is set: %s", pqi_buf_str(&names));
    d->notes.nomem |= names.failed;
    pqi_buf_free(&names);
    for (const struct pqi_option *o = NULL; (o = pqi_option_next(o));)
        if (o->kind == PQI_IS_PART)
            pqi_source_set(d->o, o, "unused");
}
