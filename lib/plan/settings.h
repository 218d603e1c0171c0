/* The settings in force, as texts, and where each came from. */
#ifndef PQI_SETTINGS_H
#define PQI_SETTINGS_H

#include "config.h"

/* A value in force and where it came from, for `pqrouter env`: one an option that this version
 * knows, in the order of option.def; the URLs' follow, one a server. */
struct pqi_setting {
    char *name;   /* "DB_CONNECTION_LIMIT", "DATABASE_SHARD_0_URL" */
    char *value;  /* never a secret: URLs as `shown`, a password as "(set)"; "": none */
    char *source; /* "environment", "default", "unused", or the other variable it came from */
};

/* The settings in force. 0 entries and NULL when out of memory. Free with pqi_settings_free. */
size_t pqi_options_settings(const struct pqi_options *o, struct pqi_setting **out);
void pqi_settings_free(struct pqi_setting *s, size_t n);

#endif
