/* The parameters that stand in URLs and keyword strings: libpq's, and those of the frameworks that
 * stretched it. One table says what each means. How parameters are told apart, the grammars know:
 * uri.h, conninfo.h. */
#ifndef PQI_DIALECT_H
#define PQI_DIALECT_H

#include "parts.h"

/* A text being read into `url`; zero-initialised but for its first two fields. */
struct pqi_reader {
    struct pqi_url *url;
    struct pqi_url_fault *fault;
    bool given[PQI_PARTS]; /* by a parameter: a second one would contradict it */
    bool after_password;   /* the parameter before this one was a password */
};

/* One parameter, decoded; *value is kept, then it is NULL, or left to the caller; `raw` is how it
 * stood in the text. PQR_OK, PQR_E_CONFIG with the fault filled, or PQR_E_NOMEM. */
int pqi_dialect_take(struct pqi_reader *r, const char *name, char **value, struct pqi_slice raw);

#endif
