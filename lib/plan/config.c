/* The configuration: its memory. */
#include "config.h"

#include "../base/mem.h"

struct pqi_options *pqi_options_new(size_t sources)
{
    struct pqi_options *o = pqi_mem_new(sizeof *o);
    if (o)
        o->sources = pqi_mem_array(sources, sizeof *o->sources);
    if (o && !o->sources) {
        pqi_mem_free(o);
        return NULL;
    }
    return o;
}

void pqi_options_free(struct pqi_options *o)
{
    if (!o)
        return;
    for (int i = 0; i < o->nshards; i++)
        pqi_shard_conf_free(&o->shards[i]);
    pqi_mem_free(o->shards);
    pqi_shard_conf_free(&o->control);
    for (int k = 0; k < o->nwarnings; k++)
        pqi_mem_free(o->warnings[k]);
    pqi_mem_free(o->warnings);
    pqi_mem_free(o->fleet_id);
    pqi_mem_wipe(o->token_key);
    pqi_mem_free(o->application_name);
    pqi_mem_free(o->tenant_setting);
    pqi_mem_free(o->sources);
    pqi_mem_free(o);
}
