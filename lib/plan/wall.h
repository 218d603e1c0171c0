/* The wall between tenants that servers keep: row-level security, by a setting that holds the
 * tenant (DB_TENANT_SETTING). Who may stand before it. */
#ifndef PQI_WALL_H
#define PQI_WALL_H

#include <pqrouter/pqrouter.h>
#include <stdbool.h>
#include <stddef.h>

/* What a server says of the role that a connection has. */
struct pqi_login {
    bool told;
    bool superuser, bypasses; /* also if only the role that logged in is so */
    char role[64];
    char table[136]; /* one with policies that do not hold for this role, its owner; "": none */
};

/* May such a role be used where `setting` holds the tenant? false: `why` says what to do. */
bool pqi_wall_holds(const struct pqi_login *login, const char *setting, char *why, size_t size);

/* Would the wall, if there were one, stand open for this role? `why` says so, for a warning. */
bool pqi_wall_would_not_hold(const struct pqi_login *login, char *why, size_t size);

#endif
