/* A configuration in the making: what is known of it so far, and what was found on the way. */
#ifndef PQI_DRAFT_H
#define PQI_DRAFT_H

#include "config.h"
#include "notes.h"
#include "variables.h"

struct pqi_draft {
    struct pqi_options *o;
    struct pqi_vars vars;
    struct pqi_notes notes;
};

#endif
