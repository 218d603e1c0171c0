/* The configuration read: the steps from an environment to the struct, in their order. */
#include "options.h"

#include "../base/err.h"
#include "../base/mac.h"
#include "databases.h"
#include "draft.h"
#include "env.h"
#include "option.h"
#include "precedence.h"
#include "shards.h"

#include <stdlib.h>
#include <string.h>

/* Values that are good alone and odd together. */
static void check_values(struct pqi_draft *d)
{
    const struct pqi_options *o = d->o;
    if (o->pool_timeout_ms == INT64_MAX)
        pqi_note_warning(
            &d->notes,
            "DB_POOL_TIMEOUT is 0, so calls wait for a connection without end (to fail at "
            "once, write nowait)");
    if (o->statement_timeout_ms > o->socket_timeout_ms)
        pqi_note_warning(
            &d->notes,
            "DB_STATEMENT_TIMEOUT (%s) is above DB_SOCKET_TIMEOUT (%s), which ends calls first",
            pqi_show_duration(o->statement_timeout_ms).text,
            pqi_show_duration(o->socket_timeout_ms).text);
}

/* A key that nobody checks by would be worse than none. */
static void check_key(struct pqi_draft *d)
{
    if (d->o->token_key && !pqi_mac_built_in())
        pqi_note_fault(&d->notes,
                       "DB_TOKEN_KEY needs a build with OpenSSL: unset it, or build with "
                       "libcrypto 3 there");
}

static bool names_service(const struct pqi_target *t)
{
    for (int i = 0; i < t->nextra; i++)
        if (strcmp(t->extra[i].key, "service") == 0)
            return true;
    return false;
}

static bool all_name_service(const struct pqi_shard_conf *conf)
{
    for (int i = 0; i < conf->n; i++)
        if (!names_service(&conf->targets[i]))
            return false;
    return true;
}

/* libpq takes PGSERVICE from the process, whatever it is given and also when it is empty, unless
 * a service is named; and then no connection succeeds, or with settings that nobody asked for. */
static void check_service(struct pqi_draft *d)
{
    const struct pqi_options *o = d->o;
    bool all = all_name_service(&o->control);
    for (int i = 0; i < o->nshards; i++)
        all &= all_name_service(&o->shards[i]);
    if (!all && getenv("PGSERVICE"))
        pqi_note_fault(&d->notes, "PGSERVICE is set, and libpq would apply it to every server: "
                                  "unset it; a URL may name a service as its parameter");
}

static bool has_options(const struct pqi_target *t)
{
    for (int i = 0; i < t->nextra; i++)
        if (strcmp(t->extra[i].key, "options") == 0)
            return true;
    return false;
}

/* A pooler refuses them at the login, or drops them without a word. */
static void check_pooled(struct pqi_draft *d, const struct pqi_shard_conf *conf)
{
    for (int i = 0; i < conf->n; i++)
        if (has_options(&conf->targets[i])) {
            pqi_note_fault(&d->notes,
                           "%s: schema, search_path and options do not pass a transaction pooler "
                           "(DB_PGBOUNCER): set them for the role, by ALTER ROLE … SET",
                           conf->targets[i].variable);
            return;
        }
}

static void check_pooler(struct pqi_draft *d)
{
    const struct pqi_options *o = d->o;
    if (!o->pgbouncer)
        return;
    check_pooled(d, &o->control);
    for (int i = 0; i < o->nshards; i++)
        check_pooled(d, &o->shards[i]);
}

static void read_all(struct pqi_draft *d, const char *const *env)
{
    pqi_vars_read(&d->vars, env, &d->notes);
    pqi_take_defaults(d);
    pqi_take_pool_size(d);
    pqi_databases_read(d); /* with what their URLs set */
    pqi_take_variables(d);
    check_values(d);
    check_key(d);
    pqi_shards_build(d);
    check_service(d);
    check_pooler(d);
    if (d->o->strict_env)
        pqi_notes_be_strict(&d->notes);
}

/* The warnings now belong to the configuration. */
static void hand_over(struct pqi_options *o, struct pqi_texts *warnings)
{
    o->warnings = warnings->list;
    o->nwarnings = warnings->n;
    *warnings = (struct pqi_texts){0};
}

int pqi_options_load(struct pqi_options **out, const char *const *env, char **faults,
                     pqr_error *err)
{
    struct pqi_draft d = {.o = pqi_options_new(pqi_option_count())};
    if (faults)
        *faults = NULL;
    if (!d.o)
        return pqi_err(err, PQR_E_NOMEM, "no memory for the configuration");
    read_all(&d, env);
    int rc = pqi_notes_conclude(&d.notes, faults, err);
    hand_over(d.o, &d.notes.warnings);
    pqi_notes_free(&d.notes);
    pqi_vars_free(&d.vars);
    if (rc == PQR_OK)
        *out = d.o;
    else
        pqi_options_free(d.o);
    return rc;
}
