/* How the process is, and the servers behind it. */
#ifndef NOTES_HEALTH_H
#define NOTES_HEALTH_H

#include "request.h"

/* GET /health → {"status": "ok" | "stopping", "ready", "servers": […]}. 503 only while stopping: a
 * shard that is down must not take every process out of service. Asks no server. */
handler_fn api_health;

#endif
