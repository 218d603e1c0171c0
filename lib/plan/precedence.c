/* Which source gives an option its value, and who is told where two of them differ. */
#include "precedence.h"

#include "../base/bytes.h"
#include "../base/err.h"
#include "../base/mem.h"
#include "env.h"
#include "field.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *program_name(void)
{
#if defined(__linux__)
    const char *name = program_invocation_short_name;
#else
    const char *name = getprogname();
#endif
    return name && *name ? name : "pqrouter";
}

void pqi_take_defaults(struct pqi_draft *d)
{
    for (const struct pqi_option *o = NULL; (o = pqi_option_next(o));) {
        if (pqi_option_has_field(o) && o->fallback &&
            pqi_field_set(d->o, o, o->fallback) == PQR_E_NOMEM)
            d->notes.nomem = true;
        pqi_source_set(d->o, o, "default");
    }
    char name[64];
    pqi_copy_text(name, sizeof name, program_name());
    d->o->application_name = pqi_mem_text(pqi_clean(name, sizeof name) ? name : "pqrouter");
    d->notes.nomem |= !d->o->application_name;
}

void pqi_refuse_value(struct pqi_draft *d, const struct pqi_var *v)
{
    struct pqi_buf expected = {0};
    pqi_field_expect(&expected, v->option);
    if (v->option->kind == PQI_IS_TEXT && !v->option->dotted)
        pqi_note_bad_text(&d->notes, v->name, v->option->max);
    else if (v->option->kind == PQI_IS_SECRET)
        pqi_note_fault(&d->notes, "%s: its value is not %s", v->name, pqi_buf_str(&expected));
    else
        pqi_note_fault(&d->notes, "%s: \"%s\" is not %s", v->name, pqi_quote(v->text).text,
                       pqi_buf_str(&expected));
    d->notes.nomem |= expected.failed;
    pqi_buf_free(&expected);
}

/* The variable's text becomes the option's value; else it is a fault. */
static void set_or_fault(struct pqi_draft *d, const struct pqi_var *v)
{
    int rc = pqi_field_set(d->o, v->option, v->text);
    d->notes.nomem |= rc == PQR_E_NOMEM;
    if (rc == PQR_E_CONFIG)
        pqi_refuse_value(d, v);
    else
        pqi_source_set(d->o, v->option, "environment");
}

void pqi_take_pool_size(struct pqi_draft *d)
{
    const struct pqi_var *size = pqi_vars_find_named(&d->vars, "DATABASE_POOL_SIZE");
    const struct pqi_var *limit = pqi_vars_find_named(&d->vars, "DB_CONNECTION_LIMIT");
    if (!size)
        return;
    set_or_fault(d, size);
    pqi_source_set(d->o, pqi_option_named("DB_CONNECTION_LIMIT"), size->name);
    int64_t number;
    if (limit && pqi_read_whole(limit->text, 0, INT64_MAX, &number) &&
        number != d->o->connection_limit)
        pqi_note_warning(&d->notes,
                         "DB_CONNECTION_LIMIT and DATABASE_POOL_SIZE differ: the first one holds");
}

/* An option that a URL sets. The first URL that does wins, and any variable of ours over it. */
static void take_wish(struct pqi_draft *d, const struct pqi_var *v, const struct pqi_wish *wish)
{
    const struct pqi_option *option = pqi_option_named(wish->option);
    const char *source = pqi_source_of(d->o, option);
    bool first = strcmp(source, "default") == 0 || strcmp(source, "DATABASE_POOL_SIZE") == 0;
    struct pqi_options said = {0};
    struct pqi_buf expected = {0};
    int rc = pqi_field_set(&said, option, wish->value);
    pqi_field_expect(&expected, option);
    if (rc == PQR_E_CONFIG)
        pqi_note_fault(&d->notes, "%s: not a usable PostgreSQL URL: not %s, parameter \"%s\"",
                       v->name, pqi_buf_str(&expected), wish->parameter);
    else if (rc == PQR_OK && first) {
        rc = pqi_field_set(d->o, option, wish->value);
        pqi_source_set(d->o, option, v->name);
    } else if (rc == PQR_OK && !pqi_field_same(option, &said, d->o))
        pqi_note_warning(&d->notes, "%s in %s is not followed: %s says otherwise", wish->parameter,
                         v->name, source);
    d->notes.nomem |= rc == PQR_E_NOMEM || expected.failed;
    pqi_buf_free(&expected);
    pqi_mem_free(said.application_name);
}

void pqi_take_wishes(struct pqi_draft *d, const struct pqi_var *v, const struct pqi_url *url)
{
    for (int k = 0; k < url->nwishes; k++)
        take_wish(d, v, &url->wish[k]);
    if (url->dropped)
        pqi_note_warning(&d->notes, "%s: parameters of other programs are ignored: %s", v->name,
                         url->dropped);
}

void pqi_take_variables(struct pqi_draft *d)
{
    const struct pqi_option *size = pqi_option_named("DATABASE_POOL_SIZE");
    for (int k = 0; k < d->vars.n; k++) {
        const struct pqi_var *v = &d->vars.list[k];
        if (pqi_option_has_field(v->option) && v->option != size)
            set_or_fault(d, v);
    }
}
