/* The servers that a URL means, once it is taken apart. */
#ifndef PQI_SERVERS_H
#define PQI_SERVERS_H

#include "parts.h"

/* A target for each of the URL's hosts, without names and variables, in `out`, which is empty.
 * PQR_OK, PQR_E_CONFIG with the fault filled, or PQR_E_NOMEM. Free `out` in any case. */
int pqi_servers_make(struct pqi_shard_conf *out, const struct pqi_url *url,
                     struct pqi_url_fault *fault);

#endif
