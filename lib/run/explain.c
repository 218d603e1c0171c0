/* Where a tenant's calls would go, and why. Asks the same decisions as a call does. */
#include "explain.h"

#include "../base/bytes.h"
#include "../base/err.h"
#include "map.h"
#include "monitor.h"
#include "shard.h"

#include <stdio.h>
#include <string.h>

static void explain_write(struct pqi_shard *s, pqr_route *out)
{
    const struct pqi_errand write = {.write = true};
    struct pqi_node *node;
    pqr_error err;
    if (pqi_shard_place(s, &write, &node, &err) == PQI_PLACE_GO)
        pqi_copy_text(out->write_node, sizeof out->write_node, node->target->name);
    else
        pqi_copy_text(out->write_why, sizeof out->write_why, err.message);
}

static void explain_read(struct pqi_shard *s, pqr_route *out)
{
    struct pqi_candidate c[PQI_NODES_MAX];
    struct pqi_need need;
    struct pqi_buf why = {0};
    pqi_shard_need(s, PQR_LEVEL_SESSION, &need);
    pthread_mutex_lock(&s->lock);
    pqi_shard_candidates(s, c, NULL);
    pthread_mutex_unlock(&s->lock);
    int chosen = pqi_pick(c, s->n, &need, atomic_load(&s->session_turn));
    for (int i = 0; i < s->n; i++) {
        char text[120];
        enum pqi_why w = pqi_judge(&c[i], &need);
        const char *reason = pqi_why_text(w, &c[i], &need, text, sizeof text);
        if (w == PQI_WHY_OK)
            reason = i == chosen
                         ? (c[i].is_primary ? "the primary, for want of a replica" : "its turn")
                     : c[i].is_primary ? "the primary: only for want of a replica"
                                       : "eligible, another's turn";
        pqi_buf_format(&why, "%s%s: %s", i ? "; " : "", s->nodes[i].target->name, reason);
    }
    if (chosen >= 0)
        pqi_copy_text(out->read_node, sizeof out->read_node, s->nodes[chosen].target->name);
    pqi_copy_text(out->read_why, sizeof out->read_why, pqi_buf_str(&why));
    pqi_buf_free(&why);
}

/* Until the first look at its servers is over. */
static void settle(struct pqi_shard *s, int64_t until_ns)
{
    struct pqi_waiter waiter;
    struct pqi_hope hope = {.waiter = &waiter};
    pqi_waiter_init(&waiter);
    pqi_shard_hope(s, &hope);
    for (int64_t look; (look = pqi_shard_next_look(s)) != PQI_FOREVER && pqi_now_ns() < until_ns;)
        pqi_waiter_wait(&waiter, &s->db->wait, look < until_ns ? look : until_ns);
    pqi_shard_unhope(s, &hope);
    pqi_waiter_free(&waiter);
}

int pqi_explain(struct pqr *db, const void *tenant, size_t len, int64_t timeout_ms, pqr_route *out,
                pqr_error *err)
{
    int64_t until = pqi_after_ms(pqi_now_ns(), timeout_ms);
    struct pqi_shard *s = NULL;
    bool pinned = false;
    memset(out, 0, sizeof *out);
    out->slot = (int32_t)pqi_slot(tenant, len);
    /* The map itself may be learned by the look at the shard that the formula names: so twice. */
    for (int look = 0; look < 2; look++) {
        s = pqi_map_place(db, tenant, len, &out->map_version, &pinned);
        if (!s)
            return pqi_err(err, PQR_E_MAP, "the shard map names a shard that is not configured");
        int code = pqi_monitor_use(db->monitor, s, err);
        if (code != PQR_OK)
            return code;
        settle(s, until);
    }
    out->shard = s->number;
    out->pinned = pinned;
    explain_write(s, out);
    explain_read(s, out);
    return PQR_OK;
}
