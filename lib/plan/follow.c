/* Who is a shard's primary. */
#include "follow.h"

static bool claims(const struct pqi_report *node, uint64_t system_id)
{
    return (node->state == PQR_NODE_UP || node->state == PQR_NODE_SUSPECT) &&
           node->role == PQR_ROLE_PRIMARY && (system_id == 0 || node->system_id == system_id);
}

/* A claimant that takes no writes does not dispute one that does. */
static bool some_take_writes(const struct pqi_report *nodes, int n, uint64_t system_id)
{
    for (int i = 0; i < n; i++)
        if (claims(&nodes[i], system_id) && !nodes[i].read_only)
            return true;
    return false;
}

static bool same_server(const struct pqi_report *a, const struct pqi_report *b)
{
    return a->started_us != 0 && a->started_us == b->started_us && a->system_id == b->system_id;
}

static bool counts(const struct pqi_report *node, uint64_t system_id, bool writable)
{
    return claims(node, system_id) && !(writable && node->read_only);
}

/* Is it a claimant that is counted already, under an address that stands before it? */
static bool counted(const struct pqi_report *nodes, int i, uint64_t system_id, bool writable)
{
    for (int j = 0; j < i; j++)
        if (counts(&nodes[j], system_id, writable) && same_server(&nodes[j], &nodes[i]))
            return true;
    return false;
}

/* A standby of this shard, by the first of its addresses; also one that is out of reach. */
static bool is_standby(const struct pqi_report *nodes, int i, uint64_t system_id)
{
    bool stranger = system_id != 0 && nodes[i].system_id != 0 && nodes[i].system_id != system_id;
    if (nodes[i].role == PQR_ROLE_PRIMARY || stranger)
        return false;
    for (int j = 0; j < i; j++)
        if (same_server(&nodes[j], &nodes[i]))
            return false;
    return true;
}

bool pqi_follow_majority(const struct pqi_report *nodes, int n, int claimant, uint64_t system_id)
{
    int standbys = 0, followers = 0;
    for (int i = 0; i < n; i++) {
        if (!is_standby(nodes, i, system_id))
            continue;
        standbys++;
        followers += nodes[i].state == PQR_NODE_UP && nodes[i].role == PQR_ROLE_REPLICA &&
                     nodes[i].follows != 0 && nodes[i].follows == nodes[claimant].timeline;
    }
    return followers * 2 > standbys;
}

uint64_t pqi_follow_system(const struct pqi_report *nodes, int n)
{
    uint64_t found = 0;
    for (int i = 0; i < n; i++) {
        if (nodes[i].system_id != 0 && found != 0 && nodes[i].system_id != found)
            return 0;
        found = nodes[i].system_id != 0 ? nodes[i].system_id : found;
    }
    return found;
}

static bool all_looked_at(const struct pqi_report *nodes, int n)
{
    for (int i = 0; i < n; i++)
        if (nodes[i].state == PQR_NODE_UNKNOWN)
            return false;
    return true;
}

/* Was the promotion undone that began the line of the known primary? That server receives the line of
 * `claimant` now, an older one, as it only can after pg_rewind or from a new copy; and so do most. */
static bool undone(const struct pqi_report *nodes, int n, int known, int claimant,
                   uint64_t system_id)
{
    return known >= 0 && nodes[known].state == PQR_NODE_UP &&
           nodes[known].role == PQR_ROLE_REPLICA && nodes[known].follows != 0 &&
           nodes[known].follows == nodes[claimant].timeline &&
           pqi_follow_majority(nodes, n, claimant, system_id);
}

struct pqi_follow pqi_follow(const struct pqi_report *nodes, int n, int known, uint32_t timeline,
                             uint64_t system_id)
{
    int best = -1, second = -1; /* by timeline */
    int incumbent = -1;         /* the known primary, if it claims; perhaps by another address */
    bool writable = some_take_writes(nodes, n, system_id);
    for (int i = 0; i < n; i++) {
        if (!counts(&nodes[i], system_id, writable) || counted(nodes, i, system_id, writable))
            continue;
        if (known >= 0 && (i == known || same_server(&nodes[i], &nodes[known])))
            incumbent = i;
        if (best < 0 || nodes[i].timeline > nodes[best].timeline) {
            second = best;
            best = i;
        } else if (second < 0 || nodes[i].timeline > nodes[second].timeline) {
            second = i;
        }
    }
    if (best < 0 || (known < 0 && !all_looked_at(nodes, n)))
        return (struct pqi_follow){PQI_PRIMARY_NONE, -1, -1};
    if (nodes[best].timeline < timeline && !undone(nodes, n, known, best, system_id))
        return (struct pqi_follow){PQI_PRIMARY_DOUBT, best, -1};
    bool lingers = known >= 0 && nodes[known].lingers && !same_server(&nodes[known], &nodes[best]);
    if (incumbent < 0 && lingers && known != best)
        incumbent = known;
    if (second < 0 && (incumbent < 0 || incumbent == best))
        return (struct pqi_follow){PQI_PRIMARY_IS, best, -1};
    /* Two servers take writes. Was one promoted, by accident perhaps, beside the known primary,
     * which still answers? Or are both of one line: a clone from a backup? Then nobody knows.
     * Otherwise the higher timeline was promoted later, and the other is merely outdated; also
     * beside the known primary, once the standbys have gone over to it. Who knows neither asks
     * whether they have stayed with the other. */
    bool beside = incumbent >= 0 && incumbent != best;
    bool twins = second >= 0 && nodes[second].timeline == nodes[best].timeline;
    bool left = pqi_follow_majority(nodes, n, best, system_id);
    bool stay = incumbent < 0 && pqi_follow_majority(nodes, n, second, system_id);
    if (twins || stay || (beside && !left))
        return (struct pqi_follow){PQI_PRIMARY_DOUBT, best, beside ? incumbent : second};
    return (struct pqi_follow){PQI_PRIMARY_IS, best, -1};
}
