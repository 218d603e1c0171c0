/* What to do when TLS fails, told by what libpq said. */
#ifndef PQI_TLS_H
#define PQI_TLS_H

/* "; …": how to mend it, and how to accept this server knowingly. "": nothing is known to help. */
const char *pqi_tls_advice(const char *text);

#endif
