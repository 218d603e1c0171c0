/* Row-level security: who may stand before the wall. */
#include "wall.h"

#include <stdio.h>
#include <string.h>

static const char *power_of(const struct pqi_login *login)
{
    return login->superuser ? "is a superuser" : login->bypasses ? "has BYPASSRLS" : NULL;
}

bool pqi_wall_holds(const struct pqi_login *login, const char *setting, char *why, size_t size)
{
    const char *power = power_of(login);
    if (!login->told)
        snprintf(why, size,
                 "it does not tell whether row-level security holds for this role, which "
                 "DB_TENANT_SETTING needs");
    else if (power)
        snprintf(why, size,
                 "role %s %s, so row-level security by %s (DB_TENANT_SETTING) would not hold: "
                 "connect as a role with NOSUPERUSER NOBYPASSRLS",
                 login->role, power, setting);
    else if (login->table[0] != '\0')
        snprintf(why, size,
                 "role %s owns %s, whose policies (DB_TENANT_SETTING) do not hold for its owner: "
                 "ALTER TABLE %s FORCE ROW LEVEL SECURITY, or connect as another role",
                 login->role, login->table, login->table);
    else
        return true;
    return false;
}

bool pqi_wall_would_not_hold(const struct pqi_login *login, char *why, size_t size)
{
    const char *power = power_of(login);
    if (!power)
        return false;
    snprintf(
        why, size,
        "role %s %s: no row-level security holds for it, and a mistake in a statement meets no "
        "wall: connect as a role with NOSUPERUSER NOBYPASSRLS",
        login->role, power);
    return true;
}
