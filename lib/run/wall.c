/* The wall between tenants that servers keep. */
#include "wall.h"

#include "../base/bytes.h"
#include "../base/err.h"
#include "../base/mem.h"
#include "../plan/env.h"
#include "../wire/ask.h"

#include <string.h>

static char *sql_of(const char *setting, const char *local)
{
    struct pqi_buf b = {0};
    pqi_buf_format(&b, "select pg_catalog.set_config('%s', $1, %s)", setting, local);
    return pqi_buf_take(&b);
}

static char *pooled_sql(const struct pqi_options *o)
{
    char pins[1024];
    struct pqi_buf b = {0};
    pqi_ask_write_pins(pins, sizeof pins, o);
    pqi_buf_text(&b, pins);
    if (o->tenant_setting)
        pqi_buf_format(&b, ", pg_catalog.set_config('%s', $1, true)", o->tenant_setting);
    return pqi_buf_take(&b);
}

int pqi_wall_init(struct pqi_wall *w, const struct pqi_options *o, pqr_error *err)
{
    const char *setting = o->tenant_setting;
    const uint32_t type = 0;
    if (!setting && !o->pgbouncer)
        return PQR_OK;
    w->setting = setting;
    w->sql = o->pgbouncer ? pooled_sql(o) : sql_of(setting, "true");
    if (setting)
        w->lasting_sql = sql_of(setting, "false");
    if (!w->sql || (setting && !w->lasting_sql))
        return pqi_err(err, PQR_E_NOMEM, "no memory for a router");
    w->hash = pqi_prepared_hash(w->sql, &type, setting != NULL);
    return PQR_OK;
}

void pqi_wall_free(struct pqi_wall *w)
{
    pqi_mem_free(w->sql);
    pqi_mem_free(w->lasting_sql);
}

/* What a setting cannot hold must not be cut down to what it can: that may be another tenant. */
static bool can_hold(const char *tenant, size_t len)
{
    return strlen(tenant) == len && pqi_clean(tenant, len);
}

int pqi_wall_name(const struct pqi_wall *w, const char *tenant, size_t len, struct pqi_params **out,
                  pqr_error *err)
{
    if (!w->setting)
        return PQR_OK;
    if (tenant && !can_hold(tenant, len))
        return pqi_err(err, PQR_E_USAGE,
                       "the tenant is not plain UTF-8 text: %s (DB_TENANT_SETTING) cannot hold it",
                       w->setting);
    const pqr_param name = PQR_TEXT(tenant ? tenant : "");
    return pqi_params_bind(out, &name, 1, true, err);
}

bool pqi_wall_lead(const struct pqi_wall *w, struct pqi_params *name, struct pqi_stmt *stmt)
{
    if (w->sql)
        *stmt = (struct pqi_stmt){.sql = w->sql,
                                  .params = name,
                                  .own = true,
                                  .prepare = true,
                                  .proves = " where ",
                                  .hash = w->hash};
    return w->sql != NULL;
}

bool pqi_wall_lead_lasting(const struct pqi_wall *w, struct pqi_params *name, struct pqi_stmt *stmt)
{
    if (w->setting)
        *stmt = (struct pqi_stmt){
            .sql = w->lasting_sql, .params = name, .sync = true, .taints = true};
    return w->setting != NULL;
}
