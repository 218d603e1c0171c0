/* The public functions of <pqrouter/admin.h>. */
#include "../base/bytes.h"
#include "../base/err.h"
#include "../base/mem.h"
#include "../ops/init.h"
#include "../ops/purge.h"
#include "../run/explain.h"
#include "../run/gate.h"
#include "../run/health.h"
#include "../run/router.h"
#include "../run/statement.h"
#include "check.h"

#include <pqrouter/admin.h>
#include <string.h>

extern char **environ;

int pqr_stats_get(pqr *db, pqr_stats *out, size_t each)
{
    if (!db || !out || each == 0)
        return PQR_E_USAGE;
    PQI_TRY(pqi_gate_look(db, false, NULL));
    pqr_stats now = {0};
#define X(name) now.name = atomic_load_explicit(&db->counters.name, memory_order_relaxed);
    PQI_COUNTERS(X)
#undef X
    memcpy(out, &now, each < sizeof now ? each : sizeof now);
    return pqi_leave(db, PQR_OK);
}

unsigned pqr_slot(const void *tenant, size_t len)
{
    return pqi_slot(tenant, len);
}

static size_t tenant_bytes(const char *tenant, size_t len)
{
    return len > 0 ? len : strlen(tenant);
}

int pqr_route_tenant(pqr *db, const char *tenant, size_t tenant_len, int64_t timeout_ms,
                     pqr_route *out, size_t each, pqr_error *err)
{
    pqi_err_none(err);
    PQI_TRY(pqi_need(db, "db", err));
    PQI_TRY(pqi_need(tenant, "the tenant", err));
    PQI_TRY(pqi_need(out, "out", err));
    PQI_TRY(pqi_gate_in(db, true, err));
    pqr_route route;
    int code = pqi_explain(db, tenant, tenant_bytes(tenant, tenant_len), timeout_ms, &route, err);
    if (code == PQR_OK)
        memcpy(out, &route, each < sizeof route ? each : sizeof route);
    return pqi_leave(db, code);
}

static int node_read(pqr *db, const char *name, const pqr_query *q, pqr_result **res,
                     pqr_error *err)
{
    struct pqi_node *node = pqi_router_node(db, name);
    if (!node)
        return pqi_err(err, PQR_E_USAGE,
                       "no server is called \"%.40s\": pqrouter topology lists them", name);
    const pqr_session_options o = {.size = sizeof o};
    pqr_session *s;
    PQI_TRY(pqi_session_open(db, &o, &s, err));
    s->fixed = node->shard;
    s->fixed_node = node;
    s->stamping = true;
    int code = pqi_read(s, &q, 1, res, err);
    pqi_session_close(s);
    return code;
}

int pqr_node_read(pqr *db, const char *node, const pqr_query *q, pqr_result **res, pqr_error *err)
{
    pqr_query own;
    pqi_err_none(err);
    PQI_TRY(pqi_need(db, "db", err));
    PQI_TRY(pqi_need(node, "the node", err));
    PQI_TRY(pqi_need(q, "the query", err));
    PQI_TRY(pqi_take_struct(&own, sizeof own, q, "PQR_QUERY", err));
    PQI_TRY(pqi_gate_in(db, true, err));
    own.level = PQR_LEVEL_ANY;
    return pqi_leave(db, node_read(db, node, &own, res, err));
}

int pqr_init(pqr *db, int64_t timeout_ms, pqr_progress_fn *progress, void *arg, pqr_error *err)
{
    pqi_err_none(err);
    PQI_TRY(pqi_need(db, "db", err));
    PQI_TRY(pqi_gate_in(db, true, err));
    return pqi_leave(db, pqi_init(db, timeout_ms, progress, arg, err));
}

int pqr_init_sql(pqr *db, pqr_progress_fn *text, void *arg, pqr_error *err)
{
    pqi_err_none(err);
    PQI_TRY(pqi_need(db, "db", err));
    if (!text)
        return pqi_err(err, PQR_E_USAGE, "text is NULL");
    PQI_TRY(pqi_gate_look(db, true, err));
    return pqi_leave(db, pqi_init_sql(db, text, arg, err));
}

int pqr_pin(pqr *db, const char *tenant, size_t tenant_len, int shard, int64_t timeout_ms,
            pqr_error *err)
{
    pqi_err_none(err);
    PQI_TRY(pqi_need(db, "db", err));
    PQI_TRY(pqi_need(tenant, "the tenant", err));
    PQI_TRY(pqi_gate_in(db, true, err));
    return pqi_leave(db,
                     pqi_pin(db, tenant, tenant_bytes(tenant, tenant_len), shard, timeout_ms, err));
}

int pqr_purge(pqr *db, int64_t older_ms, int64_t timeout_ms, pqr_progress_fn *progress, void *arg,
              int64_t *deleted, pqr_error *err)
{
    int64_t own;
    pqi_err_none(err);
    PQI_TRY(pqi_need(db, "db", err));
    if (older_ms < 0)
        return pqi_err(err, PQR_E_USAGE, "older_ms is below 0");
    PQI_TRY(pqi_gate_in(db, true, err));
    return pqi_leave(
        db, pqi_purge(db, older_ms, timeout_ms, progress, arg, deleted ? deleted : &own, err));
}

int pqr_settings(pqr *db, pqr_setting_fn *each, void *arg, pqr_error *err)
{
    pqi_err_none(err);
    PQI_TRY(pqi_need(db, "db", err));
    if (!each)
        return pqi_err(err, PQR_E_USAGE, "each is NULL");
    PQI_TRY(pqi_gate_look(db, false, err));
    struct pqi_setting *settings = NULL;
    size_t n = pqi_options_settings(db->options, &settings);
    for (size_t i = 0; i < n; i++)
        each(arg, settings[i].name, settings[i].value, settings[i].source);
    pqi_settings_free(settings, n);
    return pqi_leave(db, n > 0 ? PQR_OK : pqi_err(err, PQR_E_NOMEM, "no memory for the settings"));
}

int pqr_config_faults(const char *const *env, pqr_progress_fn *fault, void *arg)
{
    struct pqi_options *o = NULL;
    char *faults = NULL;
    pqr_error err;
    int n = 0;
    int code = pqi_options_load(&o, env ? env : (const char *const *)environ, &faults, &err);
    for (char *line = faults, *end; line && *line; line = end + (end[0] != '\0'), n++) {
        end = line + strcspn(line, "\n");
        char after = *end;
        *end = '\0';
        if (fault)
            fault(arg, line);
        end[0] = after;
    }
    pqi_mem_free(faults);
    pqi_options_free(o);
    return code == PQR_E_NOMEM ? code : n;
}

static char *errors_page(void)
{
    struct pqi_buf b = {0};
    pqi_buf_text(
        &b,
        "# Errors\n\nPrinted by `pqrouter docs errors` from `lib/base/errors.def`. The retry class "
        "is the code's usual one; `pqr_error.retry` tells the one of an error.\n\n"
        "| code | number | retry | what it means | what to do |\n|---|---|---|---|---|\n");
#define PQI_ERROR(name, number, retry, meaning, advice)                                            \
    pqi_buf_format(&b, "| `%s` | %d | %s | %s | %s |\n", (number) ? "PQR_E_" #name : "PQR_" #name, \
                   number, #retry, meaning, advice);
#include "../base/errors.def"
#undef PQI_ERROR
    return pqi_buf_take(&b);
}

int pqr_docs(const char *page, pqr_progress_fn *text, void *arg, pqr_error *err)
{
    pqi_err_none(err);
    if (!page || !text)
        return pqi_err(err, PQR_E_USAGE, "the page or its receiver is NULL");
    char *all;
    if (strcmp(page, "options") == 0)
        all = pqi_options_markdown();
    else if (strcmp(page, "errors") == 0)
        all = errors_page();
    else
        return pqi_err(err, PQR_E_USAGE, "no page \"%.20s\": there are options and errors", page);
    if (!all)
        return pqi_err(err, PQR_E_NOMEM, "no memory for the page");
    text(arg, all);
    pqi_mem_free(all);
    return PQR_OK;
}
