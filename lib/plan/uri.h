/* The grammar of URLs, behind their scheme: user:password@host:port,…/database?parameter=value&…,
 * with all that is special written as %XX. */
#ifndef PQI_URI_H
#define PQI_URI_H

#include "dialect.h"

/* `at` stands behind "postgresql://". PQR_OK, PQR_E_CONFIG with the fault filled, or
 * PQR_E_NOMEM. */
int pqi_uri_read(struct pqi_reader *r, const char *at);

#endif
