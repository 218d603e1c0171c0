/* The configuration read: environment variables in, one struct out. Knows no file but NAME_FILE
 * secrets, no socket, no clock. */
#ifndef PQI_OPTIONS_H
#define PQI_OPTIONS_H

#include "config.h"
#include "page.h"
#include "settings.h"

#include <pqrouter/pqrouter.h>

/* Reads `env` ("NAME=value" strings, ended by NULL). On success *out is the configuration
 * (pqi_options_free). Otherwise PQR_E_CONFIG with all faults, "; " between them (as many as fit,
 * then "… and N more"), or PQR_E_NOMEM. `faults`, if not NULL, gets all of them whole, one a line
 * (pqi_mem_free), or NULL when there is none. */
int pqi_options_load(struct pqi_options **out, const char *const *env, char **faults,
                     pqr_error *err);

#endif
