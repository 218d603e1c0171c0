/* Connections of a node. */
#include "conn.h"

#include "parting.h"

struct pqi_conn *pqi_conn_open(struct pqi_node *node, int64_t give_up_ns)
{
    struct pqr *db = node->shard->db;
    int64_t timeout_ms = db->options->connect_timeout_ms;
    struct pqi_conn *c = pqi_conn_new(&node->dial, &node->resolver, timeout_ms, give_up_ns);
    if (!c) {
        pqi_pool_release(&node->pool);
        return NULL;
    }
    c->born_ns = pqi_now_ns();
    c->generation = atomic_load(&node->pool.generation);
    c->pooled = db->options->pgbouncer;
    c->prepared.limit = c->pooled ? 0 : (int)db->options->prepared_statements;
    pqi_count(db, connects);
    return c;
}

/* Said once, and not of each connection. */
static void warn_of_role(struct pqr *db, const struct pqi_node *node, const struct pqi_login *login)
{
    char why[256];
    if (!pqi_wall_would_not_hold(login, why, sizeof why) || atomic_exchange(&db->warned_role, true))
        return;
    pqi_log(&db->log, PQR_LOG_WARN, "role", "%s: %s", node->target->name, why);
}

bool pqi_conn_heard(struct pqi_node *node, struct pqi_conn *c, bool anyone,
                    struct pqi_sighting *seen)
{
    struct pqr *db = node->shard->db;
    const char *setting = db->options->tenant_setting;
    char why[320];
    if (!pqi_ask_read(c, seen, why, sizeof why)) {
        pqi_conn_fail(c, PQI_TROUBLE_PROTOCOL, why);
        return false;
    }
    if (anyone || c->ready) /* ready: it was looked at before */
        return true;
    if (setting && !pqi_wall_holds(&seen->login, setting, why, sizeof why)) {
        pqi_conn_fail(c, PQI_TROUBLE_LOGIN, why);
        return false;
    }
    if (!setting)
        warn_of_role(db, node, &seen->login);
    return true;
}

bool pqi_conn_outdated(const struct pqi_node *node, const struct pqi_conn *c)
{
    return c->generation != atomic_load(&node->pool.generation);
}

void pqi_conn_made(struct pqi_node *node, struct pqi_conn *c)
{
    c->ready = true;
    pqi_pool_ready(&node->pool, true);
}

void pqi_conn_give_up(struct pqi_node *node, struct pqi_conn *c)
{
    if (c->ready)
        pqi_pool_ready(&node->pool, false);
    pqi_part(node->shard->db->partings, &node->pool, pqi_conn_part(c));
}

void pqi_conn_back(struct pqi_node *node, struct pqi_conn *c)
{
    if (c->leaves && pqi_conn_clean(c))
        pqi_conn_clear(c);
    bool cleans = c->state == PQI_BUSY && c->cleans && !c->tainted;
    if ((!cleans && !pqi_conn_clean(c)) || !pqi_pool_put(&node->pool, c, pqi_now_ns()))
        pqi_conn_give_up(node, c);
}

/* Lifetimes are spread by a tenth, so that connections opened together do not end together. */
void pqi_conn_limits(const struct pqi_options *o, int64_t now_ns, int64_t *idle_ns,
                     int64_t *born_ns)
{
    uint64_t spread = (uint64_t)o->max_lifetime_ms / 10 + 1;
    int64_t life = o->max_lifetime_ms - (int64_t)(pqi_random() % spread);
    *idle_ns = o->idle_timeout_ms > 0 ? now_ns - o->idle_timeout_ms * PQI_MS : INT64_MIN;
    *born_ns = o->max_lifetime_ms > 0 ? now_ns - life * PQI_MS : INT64_MIN;
}
