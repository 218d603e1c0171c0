/* docs/options.md, printed from the list of options. */
#ifndef PQI_PAGE_H
#define PQI_PAGE_H

/* The whole page (pqi_mem_free); NULL: no memory. */
char *pqi_options_markdown(void);

#endif
