/* Shards, their primaries and their replicas, out of the variables that name them. */
#include "shards.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "databases.h"
#include "field.h"
#include "name.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Moves the servers of a variable to their shard, as "shard1/replica2", "shard1/replica2.2", … */
static void place(struct pqi_draft *d, struct pqi_shard_conf *into, struct pqi_shard_conf *from,
                  const char *variable, const char *name)
{
    if (from->n == 0)
        return;
    size_t all = (size_t)(into->n + from->n);
    struct pqi_target *targets = pqi_mem_resize(into->targets, all, sizeof *targets);
    if (!targets) {
        d->notes.nomem = true;
        return;
    }
    for (int k = 0; k < from->n; k++) {
        struct pqi_target *t = &targets[into->n + k];
        *t = from->targets[k];
        pqi_copy_text(t->variable, sizeof t->variable, variable);
        if (k == 0)
            snprintf(t->name, sizeof t->name, "%s", name);
        else
            snprintf(t->name, sizeof t->name, "%s.%d", name, k + 1);
    }
    pqi_mem_free(from->targets);
    *into = (struct pqi_shard_conf){targets, into->n + from->n};
    *from = (struct pqi_shard_conf){0};
}

static void place_primary(struct pqi_draft *d, struct pqi_shard_conf *into, const char *group,
                          struct pqi_var *v)
{
    char name[40];
    snprintf(name, sizeof name, "%s/primary", group);
    place(d, into, &v->conf, v->name, name);
}

static void place_replicas(struct pqi_draft *d, struct pqi_shard_conf *into, const char *group,
                           const struct pqi_option *option, int i)
{
    char name[40], gap[PQI_NAME_BYTES];
    int missing = 0;
    for (int n = 1; n <= PQI_REPLICAS_MAX; n++) {
        struct pqi_var *v = pqi_vars_find(&d->vars, option, i, n);
        if (!v) {
            missing = missing ? missing : n;
        } else if (missing) {
            pqi_name_write(gap, option, i, missing);
            pqi_note_fault(&d->notes, "%s is set but %s is not", v->name, gap);
            return;
        } else {
            snprintf(name, sizeof name, "%s/replica%d", group, n);
            place(d, into, &v->conf, v->name, name);
        }
    }
}

static void place_parts(struct pqi_draft *d, struct pqi_shard_conf *into, const char *first)
{
    struct pqi_shard_conf conf = {0};
    pqi_database_of_parts(d, first, &conf);
    place(d, into, &conf, first, "shard0/primary");
    pqi_shard_conf_free(&conf);
}

/* DATABASE_PRIMARY_URL and its replicas: the one shard, or the control database beside shards. */
static void build_main(struct pqi_draft *d)
{
    struct pqi_options *o = d->o;
    struct pqi_shard_conf *into = o->sharded ? &o->control : &o->shards[0];
    const char *group = o->sharded ? "control" : "shard0";
    const struct pqi_option *replicas = pqi_option_named("DATABASE_REPLICA_{n}_URL");
    struct pqi_var *primary = pqi_vars_find_named(&d->vars, "DATABASE_PRIMARY_URL");
    const struct pqi_var *replica = pqi_vars_find_any(&d->vars, replicas);
    const struct pqi_var *part = o->sharded ? NULL : pqi_database_part(d);
    if (!primary)
        primary = pqi_vars_find_named(&d->vars, "DATABASE_URL");
    if (primary)
        place_primary(d, into, group, primary);
    else if (part)
        place_parts(d, into, part->name);
    else if (replica)
        pqi_note_missing(&d->notes, "DATABASE_PRIMARY_URL", replica->name);
    else if (!o->sharded &&
             !pqi_vars_find_any(&d->vars, pqi_option_named("DATABASE_SHARD_{i}_URL")))
        pqi_note_fault(
            &d->notes,
            "no database configured: set DATABASE_PRIMARY_URL, or DATABASE_SHARD_COUNT with "
            "DATABASE_SHARD_0_URL");
    if (primary || !part)
        pqi_database_parts_unused(d);
    place_replicas(d, into, group, replicas, 0);
}

static void build_shard(struct pqi_draft *d, int i)
{
    char group[24];
    struct pqi_var *v = pqi_vars_find(&d->vars, pqi_option_named("DATABASE_SHARD_{i}_URL"), i, 0);
    snprintf(group, sizeof group, "shard%d", i);
    if (v)
        place_primary(d, &d->o->shards[i], group, v);
    else
        pqi_note_fault(&d->notes, "DATABASE_SHARD_%d_URL is missing; DATABASE_SHARD_COUNT needs it",
                       i);
    place_replicas(d, &d->o->shards[i], group,
                   pqi_option_named("DATABASE_SHARD_{i}_REPLICA_{n}_URL"), i);
}

/* URLs of shards that DATABASE_SHARD_COUNT does not cover. */
static void check_beyond(struct pqi_draft *d)
{
    const struct pqi_option *shard = pqi_option_named("DATABASE_SHARD_{i}_URL");
    const struct pqi_option *replica = pqi_option_named("DATABASE_SHARD_{i}_REPLICA_{n}_URL");
    int64_t count = d->o->shard_count;
    for (int k = 0; k < d->vars.n; k++) {
        const struct pqi_var *v = &d->vars.list[k];
        if (v->i < count || (v->option != shard && v->option != replica))
            continue;
        if (v->option == shard && count > 0)
            pqi_note_fault(&d->notes,
                           "%s is set but DATABASE_SHARD_COUNT is %" PRId64 " (0..%" PRId64 ")",
                           v->name, count, count - 1);
        else if (v->option == shard)
            pqi_note_fault(&d->notes, "%s is set but DATABASE_SHARD_COUNT is 0 (no shards)",
                           v->name);
        else if (!pqi_vars_find(&d->vars, shard, v->i, 0))
            pqi_note_fault(&d->notes, "DATABASE_SHARD_%d_URL is missing; %s needs it", v->i,
                           v->name);
    }
}

static void build_shards(struct pqi_draft *d)
{
    const struct pqi_option *shard = pqi_option_named("DATABASE_SHARD_{i}_URL");
    const struct pqi_var *any = pqi_vars_find_any(&d->vars, shard);
    int count = (int)d->o->shard_count;
    if (any && !pqi_vars_find_named(&d->vars, "DATABASE_SHARD_COUNT")) {
        pqi_note_missing(&d->notes, "DATABASE_SHARD_COUNT", any->name);
        return;
    }
    /* Whoever counts from 1 has his tenants' data in other shards than he thinks: no guessing. */
    if (count > 0 && !pqi_vars_find(&d->vars, shard, 0, 0) &&
        pqi_vars_find(&d->vars, shard, count, 0)) {
        pqi_note_fault(&d->notes, "shards are numbered from 0: DATABASE_SHARD_0_URL is missing");
        return;
    }
    for (int i = 0; i < count; i++)
        build_shard(d, i);
    check_beyond(d);
}

void pqi_shards_build(struct pqi_draft *d)
{
    struct pqi_options *o = d->o;
    const struct pqi_option *count = pqi_option_named("DATABASE_SHARD_COUNT");
    if (pqi_vars_find(&d->vars, count, 0, 0) && strcmp(pqi_source_of(o, count), "environment") != 0)
        return; /* it is no number, so nothing can be said about the rest */
    o->sharded = o->shard_count > 0;
    o->nshards = o->sharded ? (int)o->shard_count : 1;
    o->shards = pqi_mem_array((size_t)o->nshards, sizeof *o->shards);
    if (!o->shards) {
        d->notes.nomem = true;
        o->nshards = 0;
        return;
    }
    build_main(d);
    build_shards(d);
}
