/* Health, from what the router knows already. Its own words (why, address) stay inside: they are
 * for operators, who have `pqrouter topology`. */
#include "health.h"

#include <stdlib.h>

static json_t *server(const pqr_node_health *h)
{
    static const char *const states[] = {"unknown", "up", "suspect", "down"};
    static const char *const roles[] = {"unknown", "primary", "replica"};
    json_t *connections = json_pack("{s:i, s:i, s:i, s:i}", "used", h->conns_used, "idle",
                                    h->conns_idle, "waiting", h->conns_waiting, "limit",
                                    h->conns_limit);
    return json_pack("{s:s, s:s, s:s, s:I, s:b, s:o}", "node", h->node, "state", states[h->state],
                     "role", roles[h->role], "lag_ms", (json_int_t)h->lag_ms, "serves_reads",
                     h->serves_reads, "connections", connections);
}

static json_t *servers(pqr *db)
{
    json_t *array = json_array();
    int n = pqr_health(db, NULL, 0, sizeof(pqr_node_health));
    pqr_node_health *nodes = n > 0 ? calloc((size_t)n, sizeof *nodes) : NULL;
    if (nodes && pqr_health(db, nodes, (size_t)n, sizeof *nodes) == n)
        for (int i = 0; i < n; i++)
            json_array_append_new(array, server(&nodes[i]));
    free(nodes);
    return array;
}

int api_health(struct request *r, struct reply *reply)
{
    bool stopping = atomic_load(&r->app->stopping);
    bool ready = pqr_ready(r->app->db, 0, NULL) == PQR_OK;
    json_t *body = json_pack("{s:s, s:b, s:o}", "status", stopping ? "stopping" : "ok", "ready",
                             ready, "servers", servers(r->app->db));
    return reply_with(reply, stopping ? 503 : 200, body, NULL);
}
