/* Who is a shard's primary. */
#include "follow.h"

static bool claims(const struct pqi_report *node, uint64_t system_id)
{
    return (node->state == PQR_NODE_UP || node->state == PQR_NODE_SUSPECT) &&
           node->role == PQR_ROLE_PRIMARY && (system_id == 0 || node->system_id == system_id);
}

struct pqi_follow pqi_follow(const struct pqi_report *nodes, int n, int known, uint32_t timeline,
                             uint64_t system_id)
{
    int best = -1, second = -1;
    for (int i = 0; i < n; i++) {
        if (!claims(&nodes[i], system_id))
            continue;
        if (best < 0 || nodes[i].timeline > nodes[best].timeline) {
            second = best;
            best = i;
        } else if (second < 0) {
            second = i;
        }
    }
    if (best < 0)
        return (struct pqi_follow){PQI_PRIMARY_NONE, -1, -1};
    if (nodes[best].timeline < timeline)
        return (struct pqi_follow){PQI_PRIMARY_DOUBT, best, -1};
    if (second < 0)
        return (struct pqi_follow){PQI_PRIMARY_IS, best, -1};
    /* Two servers take writes. The known primary still answers: an accidental promotion, or a
     * clone from a backup, beside it. Otherwise two strangers claim the shard, and the higher
     * timeline was promoted later; equal ones cannot be told apart. */
    bool known_claims = known >= 0 && claims(&nodes[known], system_id);
    if (known_claims || nodes[second].timeline == nodes[best].timeline)
        return (struct pqi_follow){PQI_PRIMARY_DOUBT, best, known_claims && known != best ? known : second};
    return (struct pqi_follow){PQI_PRIMARY_IS, best, -1};
}
