/* The grammar of keyword strings, libpq's other form: host=… password='…' */
#ifndef PQI_CONNINFO_H
#define PQI_CONNINFO_H

#include "dialect.h"

/* PQR_OK, PQR_E_CONFIG with the fault filled, or PQR_E_NOMEM. */
int pqi_conninfo_read(struct pqi_reader *r, const char *at);

#endif
