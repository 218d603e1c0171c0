/* A session: whose it is, and what it has seen. */
#include "session.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "map.h"
#include "shard.h"

#include <string.h>

static int take_tenant(struct pqr_session *s, const pqr_session_options *o, pqr_error *err)
{
    if (!o->tenant || s->control)
        return PQR_OK;
    s->tenant_len = o->tenant_len > 0 ? o->tenant_len : strlen(o->tenant);
    s->tenant = pqi_mem_bytes(o->tenant, s->tenant_len);
    if (!s->tenant)
        return pqi_err(err, PQR_E_NOMEM, "no memory for a session");
    s->place = pqi_slot(s->tenant, s->tenant_len);
    return PQR_OK;
}

int pqi_session_open(struct pqr *db, const pqr_session_options *o, struct pqr_session **out,
                     pqr_error *err)
{
    struct pqr_session *s = pqi_mem_new(sizeof *s);
    if (!s)
        return pqi_err(err, PQR_E_NOMEM, "no memory for a session");
    s->control = o->tenant == pqr_control_tenant;
    s->stay = -1;
    s->deadline_ms = o->deadline_ms > 0 ? o->deadline_ms : db->options->socket_timeout_ms;
    pqi_list_init(&s->txs);
    pqi_list_init(&s->loans);
    s->db = db;
    int code = take_tenant(s, o, err);
    if (code == PQR_OK)
        code = pqi_wall_name(&db->wall, s->tenant, s->tenant_len, &s->name, err);
    if (code != PQR_OK) {
        pqi_session_free(s);
        return code;
    }
    atomic_fetch_add(&db->refs, 1);
    *out = s;
    return PQR_OK;
}

void pqi_session_free(struct pqr_session *s)
{
    pqi_mem_free(s->tenant);
    pqi_params_free(s->name);
    pqi_mem_free(s);
}

struct pqi_shard *pqi_session_shard(struct pqr_session *s, int64_t *map_version, pqr_error *err)
{
    struct pqi_shard *shard;
    *map_version = INT64_MAX; /* no map decides, so none can be too old */
    if (s->fixed)
        shard = s->fixed;
    else if (s->control)
        shard = pqi_map_control(s->db);
    else
        shard = pqi_map_place(s->db, s->tenant ? s->tenant : "", s->tenant_len, map_version, NULL);
    if (!shard) {
        pqi_err(
            err, PQR_E_MAP,
            "the tenant's shard is not configured: DATABASE_SHARD_COUNT is below the shard map's");
        return NULL;
    }
    if (shard != s->shard) {
        s->shard = shard;
        s->seen = (struct pqi_seen){0};
        s->unsure_ns = 0;
        s->in_doubt = false;
        s->stay = -1;
        s->read_ns = 0;
        s->shown = (struct pqi_seen){0};
    }
    return shard;
}

void pqi_session_read_on(struct pqr_session *s, const struct pqi_node *node, uint64_t generation)
{
    s->stay = node->index;
    s->stay_generation = generation;
    s->read_ns = pqi_now_ns();
}

void pqi_session_read_to(struct pqr_session *s, struct pqi_node *node, uint64_t generation,
                         int64_t begun_ns, const struct pqi_position *p)
{
    struct pqi_seen shown;
    if (!pqi_shard_told(node, generation, p, &shown)) {
        pqi_session_read_on(s, node, generation);
        return;
    }
    /* Reads under way together may end on several servers: then none of them may lack what another
     * one has shown. */
    if (s->stay != node->index || s->stay_generation != generation)
        pqi_seen_raise(&s->seen, s->shown.timeline, s->shown.lsn);
    pqi_seen_raise(&s->shown, shown.timeline, shown.lsn);
    if (s->read_ns <= begun_ns) /* it was placed where all that was seen before is */
        s->read_ns = 0;
    s->stay = node->index;
    s->stay_generation = generation;
}

void pqi_session_read_beside(struct pqr_session *s, const struct pqi_node *node,
                             const struct pqi_conn *conn)
{
    if (node->shard == s->shard)
        pqi_session_read_on(s, node, conn->generation);
}

bool pqi_session_wants_position(const struct pqr_session *s)
{
    return s->tells || s->db->nnodes > s->db->ngroups;
}

void pqi_session_wrote_on(struct pqr_session *s, const struct pqi_node *node)
{
    if (node->shard ==
        s->shard) /* else its tenant has moved meanwhile: that says nothing of there */
        s->unsure_ns = pqi_now_ns();
}

void pqi_session_wrote_at(struct pqr_session *s, const struct pqi_node *node,
                          const struct pqi_seen *at, int64_t asked_ns)
{
    if (node->shard != s->shard)
        return;
    pqi_seen_raise(&s->seen, at->timeline, at->lsn);
    int64_t shown_ns = s->unsure_ns == PQI_FOREVER ? s->shown_ns : s->unsure_ns;
    if (shown_ns <= asked_ns) /* then it covers that, too */
        s->unsure_ns = 0;
    else
        s->unsure_ns = pqi_now_ns();
}

void pqi_session_goes_on(struct pqr_session *s)
{
    s->unsure_ns = PQI_FOREVER;
    s->shown_ns = pqi_now_ns();
}

bool pqi_session_sure(struct pqr_session *s, struct pqi_shard *shard)
{
    struct pqi_seen covered;
    if (s->in_doubt || s->write_loans > 0 || s->unsure_ns == PQI_FOREVER)
        return false;
    if (s->unsure_ns > 0 && !pqi_shard_covers(shard, s->unsure_ns, &covered))
        return false;
    if (s->unsure_ns > 0)
        pqi_seen_raise(&s->seen, covered.timeline, covered.lsn);
    s->unsure_ns = 0;
    return true;
}
