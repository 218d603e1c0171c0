/* The settings in force: what `pqrouter env` shows. */
#include "settings.h"

#include "../base/bytes.h"
#include "../base/mem.h"
#include "field.h"

#include <string.h>

/* A part of the one database; nothing, where URLs are used. */
static void add_part(struct pqi_buf *to, const struct pqi_options *o,
                     const struct pqi_option *option)
{
    const struct pqi_target *t = o->shards[0].targets;
    if (strcmp(pqi_source_of(o, option), "unused") == 0)
        return;
    const char *text = option->part == PQI_HOST     ? t->host
                       : option->part == PQI_PORT   ? t->port
                       : option->part == PQI_DBNAME ? t->dbname
                       : option->part == PQI_USER   ? t->user
                       : t->password                ? "(set)"
                                                    : NULL;
    pqi_buf_text(to, text ? text : "");
}

static char *value_of(const struct pqi_options *o, const struct pqi_option *option)
{
    struct pqi_buf text = {0};
    if (option->kind == PQI_IS_PART)
        add_part(&text, o, option);
    else
        pqi_field_show(&text, o, option);
    return pqi_buf_take(&text);
}

struct list {
    struct pqi_setting *settings;
    size_t n;
    bool nomem;
};

/* Takes `value` over. */
static void add_setting(struct list *list, const char *name, char *value, const char *source)
{
    struct pqi_setting *more = pqi_mem_resize(list->settings, list->n + 1, sizeof *more);
    if (!more) {
        pqi_mem_free(value);
        list->nomem = true;
        return;
    }
    list->settings = more;
    struct pqi_setting *s = &more[list->n++];
    *s = (struct pqi_setting){pqi_mem_text(name), value, pqi_mem_text(source)};
    list->nomem |= !s->name || !s->value || !s->source;
}

static void add_targets(struct list *list, const struct pqi_shard_conf *conf)
{
    for (int k = 0; k < conf->n; k++) {
        const struct pqi_target *t = &conf->targets[k];
        if (strstr(t->variable, "_URL")) /* not the database whose parts have been told */
            add_setting(list, t->variable, pqi_mem_text(t->shown), "environment");
    }
}

size_t pqi_options_settings(const struct pqi_options *o, struct pqi_setting **out)
{
    struct list list = {0};
    /* Another name of DB_CONNECTION_LIMIT, which is told. */
    const struct pqi_option *twin = pqi_option_named("DATABASE_POOL_SIZE");
    for (const struct pqi_option *option = NULL; (option = pqi_option_next(option));)
        if ((pqi_option_has_field(option) && option != twin) || option->kind == PQI_IS_PART)
            add_setting(&list, option->name, value_of(o, option), pqi_source_of(o, option));
    add_targets(&list, &o->control);
    for (int i = 0; i < o->nshards; i++)
        add_targets(&list, &o->shards[i]);
    if (list.nomem) {
        pqi_settings_free(list.settings, list.n);
        list = (struct list){0};
    }
    *out = list.settings;
    return list.n;
}

void pqi_settings_free(struct pqi_setting *s, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        pqi_mem_free(s[k].name);
        pqi_mem_free(s[k].value);
        pqi_mem_free(s[k].source);
    }
    pqi_mem_free(s);
}
