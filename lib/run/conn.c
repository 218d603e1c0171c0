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
    pqi_count(db, connects);
    return c;
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
    if (!pqi_conn_clean(c) || !pqi_pool_put(&node->pool, c, pqi_now_ns()))
        pqi_conn_give_up(node, c);
}
