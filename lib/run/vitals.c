/* What is to be said of a node's health. */
#include "vitals.h"

static const struct {
    enum pqr_node_condition condition;
    bool tells; /* of the server, not only of that link */
    enum pqi_sign sign;
} kinds[] = {
    [PQI_TROUBLE_NONE] = {PQR_NODE_FINE, false, PQI_SILENT},
    [PQI_TROUBLE_NAME] = {PQR_NODE_REFUSED, true, PQI_REFUSED},
    [PQI_TROUBLE_REFUSED] = {PQR_NODE_REFUSED, true, PQI_REFUSED},
    [PQI_TROUBLE_TIMEOUT] = {PQR_NODE_SILENT, true, PQI_SILENT},
    [PQI_TROUBLE_LOGIN] = {PQR_NODE_NO_LOGIN, true, PQI_REFUSED},
    [PQI_TROUBLE_TLS] = {PQR_NODE_NO_LOGIN, true, PQI_REFUSED},
    [PQI_TROUBLE_FULL] = {PQR_NODE_FULL, true, PQI_FULL},
    [PQI_TROUBLE_NOT_NOW] = {PQR_NODE_STARTING, true, PQI_REFUSED},
    [PQI_TROUBLE_LOST] = {PQR_NODE_BROKEN, false, PQI_SILENT},
    [PQI_TROUBLE_PROTOCOL] = {PQR_NODE_BROKEN, false, PQI_SILENT},
    [PQI_TROUBLE_NOMEM] = {PQR_NODE_FINE, false, PQI_SILENT},
};

bool pqi_sign_of(enum pqi_trouble_kind kind, enum pqi_sign *sign)
{
    *sign = kinds[kind].sign;
    return kinds[kind].tells;
}

enum pqr_node_condition pqi_node_condition(const struct pqi_shard *s, const struct pqi_known *k)
{
    bool primary = k->report.role == PQR_ROLE_PRIMARY;
    const struct pqi_vitals v = {.state = k->report.state,
                                 .last = kinds[k->trouble.kind].condition,
                                 .role = k->report.role,
                                 .read_only = k->report.read_only,
                                 .stranger = k->sightings > 0 && s->system_id != 0 &&
                                             k->report.system_id != s->system_id,
                                 .fenced = primary && k->report.timeline < s->timeline,
                                 .latency_us = k->latency_us};
    return pqi_health_condition(&v);
}

void pqi_node_doubt(struct pqi_node *node, int64_t since_ns)
{
    int64_t none = 0;
    if (atomic_compare_exchange_strong(&node->doubted_ns, &none, since_ns) ||
        atomic_load(&node->asked_ns) == 0)
        pqi_flag_set(node->shard->db->monitor_flag);
}

void pqi_node_heard(struct pqi_node *node, int64_t now_ns)
{
    atomic_store_explicit(&node->heard_ns, now_ns, memory_order_relaxed);
}

int64_t pqi_node_silent_ms(const struct pqi_node *node)
{
    int64_t since = atomic_load(&node->doubted_ns), now = pqi_now_ns();
    bool in_vain = since > 0 && atomic_load(&node->heard_ns) <= since;
    return in_vain && now > since ? (now - since) / PQI_MS : 0;
}
