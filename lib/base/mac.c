/* Message authentication, by OpenSSL's libcrypto. */
#include "mac.h"

#include <string.h>

#if PQI_OPENSSL
#include <openssl/evp.h>
#include <openssl/params.h>

bool pqi_mac_built_in(void)
{
    return true;
}

static bool begin(EVP_MAC_CTX *ctx, const char *key)
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", digest, 0),
                                 OSSL_PARAM_construct_end()};
    return EVP_MAC_init(ctx, (const unsigned char *)key, strlen(key), params) == 1;
}

bool pqi_mac(const char *key, const struct pqi_part_of_mac *parts, size_t n,
             unsigned char out[PQI_MAC_BYTES])
{
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = hmac ? EVP_MAC_CTX_new(hmac) : NULL;
    bool good = ctx && begin(ctx, key);
    for (size_t i = 0; good && i < n; i++)
        good = EVP_MAC_update(ctx, parts[i].bytes, parts[i].len) == 1;
    size_t len = 0;
    good = good && EVP_MAC_final(ctx, out, &len, PQI_MAC_BYTES) == 1 && len == PQI_MAC_BYTES;
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(hmac);
    return good;
}

#else

bool pqi_mac_built_in(void)
{
    return false;
}

bool pqi_mac(const char *key, const struct pqi_part_of_mac *parts, size_t n,
             unsigned char out[PQI_MAC_BYTES])
{
    (void)key;
    (void)parts;
    (void)n;
    memset(out, 0, PQI_MAC_BYTES);
    return false;
}

#endif

bool pqi_mac_same(const unsigned char *a, const unsigned char *b, size_t len)
{
    unsigned char differs = 0;
    for (size_t i = 0; i < len; i++)
        differs |= a[i] ^ b[i];
    return differs == 0;
}
