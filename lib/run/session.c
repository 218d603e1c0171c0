/* A session: whose it is, and what it has seen. */
#include "session.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "map.h"

#include <string.h>

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
    if (o->tenant && !s->control) {
        s->tenant_len = o->tenant_len > 0 ? o->tenant_len : strlen(o->tenant);
        s->tenant = pqi_mem_bytes(o->tenant, s->tenant_len);
        if (!s->tenant) {
            pqi_mem_free(s);
            return pqi_err(err, PQR_E_NOMEM, "no memory for a session");
        }
    }
    s->db = db;
    atomic_fetch_add(&db->refs, 1);
    *out = s;
    return PQR_OK;
}

void pqi_session_free(struct pqr_session *s)
{
    pqi_mem_free(s->tenant);
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
        s->unsure = false;
        s->stay = -1;
        s->read_ns = 0;
    }
    return shard;
}

static uint64_t segment_bytes_of(struct pqi_shard *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t bytes = s->segment_bytes;
    pthread_mutex_unlock(&s->lock);
    return bytes;
}

void pqi_session_read_on(struct pqr_session *s, const struct pqi_node *node, uint64_t generation)
{
    s->stay = node->index;
    s->stay_generation = generation;
    s->read_ns = pqi_now_ns();
}

void pqi_session_read_beside(struct pqr_session *s, const struct pqi_node *node,
                             const struct pqi_conn *conn)
{
    if (node->shard == s->shard)
        pqi_session_read_on(s, node, conn->generation);
}

void pqi_session_saw(struct pqr_session *s, const struct pqi_node *node, bool write,
                     const struct pqi_position *at)
{
    if (node->shard != s->shard) /* its tenant has moved meanwhile: this says nothing of there */
        return;
    if (!at) {
        s->unsure |= write;
        return;
    }
    uint64_t lsn = at->lsn;
    if (at->role == PQR_ROLE_PRIMARY)
        lsn = pqi_lsn_floor(lsn, segment_bytes_of(node->shard));
    /* What it was unsure of is at or before what the primary shows now. */
    s->unsure &= at->role != PQR_ROLE_PRIMARY;
    if (at->role == PQR_ROLE_PRIMARY)
        s->read_ns = 0; /* so is whatever it has read */
    pqi_seen_raise(&s->seen, at->timeline, lsn);
}
