/* What the dialects of frameworks say, in libpq's words: sslmode, also where ssl or sslaccept stands;
 * options, also where a schema or a search path stands. */
#ifndef PQI_TRANSLATION_H
#define PQI_TRANSLATION_H

#include "parts.h"

/* Never NULL, and not to be freed. Where the URL says nothing: proof of who the server is, unless
 * it is local, so that no network is in between. */
const char *pqi_translate_sslmode(const struct pqi_url *url, bool local);

/* "": the URL asks for none. pqi_mem_free; NULL: no memory. */
char *pqi_translate_options(const struct pqi_url *url);

#endif
