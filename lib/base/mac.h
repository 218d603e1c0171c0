/* Message authentication: HMAC-SHA256. Builds without OpenSSL have none. */
#ifndef PQI_MAC_H
#define PQI_MAC_H

#include <stdbool.h>
#include <stddef.h>

enum { PQI_MAC_BYTES = 32 };

/* Is it built in? */
bool pqi_mac_built_in(void);

/* The code of these parts, one behind the other. false: it is not built in, or there is no memory. */
struct pqi_part_of_mac {
    const void *bytes;
    size_t len;
};
bool pqi_mac(const char *key, const struct pqi_part_of_mac *parts, size_t n,
             unsigned char out[PQI_MAC_BYTES]);

/* Compares in a time that does not depend on what differs. */
bool pqi_mac_same(const unsigned char *a, const unsigned char *b, size_t len);

#endif
