/* The list of options, as option.def has it: every name that means something, and for each what
 * kind of value it takes. Knows no values. */
#ifndef PQI_OPTION_H
#define PQI_OPTION_H

#include "config.h"
#include "parts.h"

enum pqi_kind {
    PQI_IS_SECTION, /* a title for docs/options.md */
    PQI_IS_WHOLE,
    PQI_IS_DURATION,
    PQI_IS_CHOICE,
    PQI_IS_YES_NO,
    PQI_IS_SECRET, /* a text that is never shown */
    PQI_IS_TEXT,
    PQI_IS_URL,
    PQI_IS_PART,    /* of the one database without a URL */
    PQI_IS_LIBPQ,   /* fills what a URL or the parts leave out */
    PQI_IS_PLANNED, /* refused */
    PQI_IS_IGNORED  /* warned of */
};

enum pqi_zero { PQI_NO_ZERO, PQI_ZERO, PQI_ZERO_IS_NEVER };

struct pqi_option {
    enum pqi_kind kind;
    const char *name;     /* with {i} and {n} where numbers stand; of a section its title */
    size_t field;         /* where in struct pqi_options */
    enum pqi_part part;   /* of PQI_IS_PART and PQI_IS_LIBPQ */
    const char *fallback; /* the default as one would write it */
    int64_t min, max;     /* of a text: bytes; of a part: a whole number, if max is not 0 */
    enum pqi_zero zero;   /* a duration of 0: out of range unless min is 0; 0; INT64_MAX */
    const char *word;     /* a duration's word for 0 ms */
    const char *choices;
    bool dotted;         /* a text: the name of a setting, "app.tenant_id" */
    const char *lacking; /* of an ignored one: what this version does not have, "cache" */
    bool secret;         /* also taken as NAME_FILE */
    const char *help;
};

/* Walks the list: the first behind NULL; behind the last NULL. */
const struct pqi_option *pqi_option_next(const struct pqi_option *option);

/* The row of that name, which there must be. */
const struct pqi_option *pqi_option_named(const char *name);

/* How many rows there are, and which one this is, from 0. */
size_t pqi_option_count(void);
size_t pqi_option_index(const struct pqi_option *option);

/* Has it a field of its own in struct pqi_options? */
bool pqi_option_has_field(const struct pqi_option *option);

#endif
