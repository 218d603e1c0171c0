/* The field that an option has in the configuration: a text put into it, what it holds told as a
 * text again, and where that came from. */
#ifndef PQI_FIELD_H
#define PQI_FIELD_H

#include "../base/bytes.h"
#include "option.h"

/* PQR_OK, PQR_E_CONFIG: the text is no value for the option, or PQR_E_NOMEM. */
int pqi_field_set(struct pqi_options *o, const struct pqi_option *option, const char *text);

/* "a whole number from 1 to 10000": what would have been a value. */
void pqi_field_expect(struct pqi_buf *to, const struct pqi_option *option);

/* The value as one would write it; nothing, where there is none. */
void pqi_field_show(struct pqi_buf *to, const struct pqi_options *o,
                    const struct pqi_option *option);

/* Do both hold the same? Of texts nobody asks: yes. */
bool pqi_field_same(const struct pqi_option *option, const struct pqi_options *a,
                    const struct pqi_options *b);

/* Where the value came from; also of an option without a field. */
void pqi_source_set(struct pqi_options *o, const struct pqi_option *option, const char *source);
const char *pqi_source_of(const struct pqi_options *o, const struct pqi_option *option);

#endif
