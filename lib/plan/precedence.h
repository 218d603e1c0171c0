/* Which source gives an option its value. From the weakest to the strongest: its default;
 * DATABASE_POOL_SIZE; the first URL that has a parameter for it; its variable. They are taken in this
 * order, each over what stands there. */
#ifndef PQI_PRECEDENCE_H
#define PQI_PRECEDENCE_H

#include "draft.h"
#include "parts.h"

void pqi_take_defaults(struct pqi_draft *d);
void pqi_take_pool_size(struct pqi_draft *d);
void pqi_take_wishes(struct pqi_draft *d, const struct pqi_var *v, const struct pqi_url *url);
void pqi_take_variables(struct pqi_draft *d);

/* Tells that a variable's text is no value for its option. */
void pqi_refuse_value(struct pqi_draft *d, const struct pqi_var *v);

#endif
