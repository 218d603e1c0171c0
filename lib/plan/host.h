/* What a text says as a host: a name, an address, or a socket's folder, and whether it is this
 * machine. Resolves nothing. */
#ifndef PQI_HOST_H
#define PQI_HOST_H

#include <stdbool.h>

/* A folder for sockets, or an abstract one (@…). */
bool pqi_host_is_socket(const char *host);

/* A numeric IPv4 or IPv6 address. */
bool pqi_host_is_address(const char *host);

/* A socket, localhost, 127.0.0.0/8 or ::1. Names that only look local, such as
 * 127.0.0.1.example.com, are not. */
bool pqi_host_is_local(const char *host);

/* Why it can be none of the three (static); NULL: it can. */
const char *pqi_host_fault(const char *host);

#endif
