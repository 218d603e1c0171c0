/* What to do when TLS fails. */
#include "tls.h"

#include <stddef.h>
#include <string.h>

static const struct advice {
    const char *part, *text;
} advices[] = {
    {"does not support SSL", "; switch its TLS on (ssl = on), or accept this server knowingly, "
                             "without encryption, by sslmode=disable in its URL"},
    {"does not match host name",
     "; name it as its certificate does, or accept this server knowingly by sslmode=verify-ca"},
    {"certificate verify failed", "; give its CA by sslrootcert=FILE in its URL, or accept this "
                                  "server knowingly by sslmode=require and no sslrootcert"},
    {"root certificate file", "; give its CA by sslrootcert=FILE in its URL, or accept this server "
                              "knowingly by sslmode=require and no sslrootcert"},
};

const char *pqi_tls_advice(const char *text)
{
    for (size_t i = 0; i < sizeof advices / sizeof *advices; i++)
        if (strstr(text, advices[i].part))
            return advices[i].text;
    return "";
}
