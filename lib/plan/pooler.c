/* What a transaction pooler in between says of itself. */
#include "pooler.h"

#include <string.h>

static const char no_login[] = "server login has been failing";

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

bool pqi_pooler_without_server(const char *text)
{
    return begins(text, no_login);
}

/* PgBouncer's, which no language changes. Each is said only to a client that waits for a server, or
 * sits idle: what was sent on for a client ends with other words ("server conn crashed?"), or with none.
 * Not among them: "query_timeout" and "pooler is shut down", which are said to both. */
bool pqi_pooler_waited(const char *text)
{
    return begins(text, no_login) || begins(text, "query_wait_timeout") ||
           begins(text, "client_idle_timeout");
}
