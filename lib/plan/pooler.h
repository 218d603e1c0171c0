/* What a transaction pooler in between says of itself. */
#ifndef PQI_POOLER_H
#define PQI_POOLER_H

#include <stdbool.h>

/* Its last words to a caller: do they mean that it had given him no server, so that nothing of what
 * he had sent has run? Only its texts tell: their SQLSTATE is the same for all. */
bool pqi_pooler_waited(const char *text);

/* … and do they mean that it cannot get to its server? */
bool pqi_pooler_without_server(const char *text);

#endif
