/* Connection URLs and keyword strings: the dialects of libpq and of the frameworks that stretched
 * it. Never calls libpq, does no I/O. */
#ifndef PQI_URL_H
#define PQI_URL_H

#include "parts.h"

/* Takes `text` apart. PQR_OK, PQR_E_CONFIG: *fault says why, or PQR_E_NOMEM. Free `url` in any
 * case. */
int pqi_url_read(struct pqi_url *url, const char *text, struct pqi_url_fault *fault);

#endif
