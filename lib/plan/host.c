/* What a text says as a host: a name, an address, or a socket's folder. */
#include "host.h"

#include "env.h"

#include <arpa/inet.h>
#include <string.h>

static bool is_ipv4(const char *text, struct in_addr *address)
{
    return inet_pton(AF_INET, text, address) == 1;
}

/* An address may name its interface behind a %. */
static bool is_ipv6(const char *text, struct in6_addr *address)
{
    char number[INET6_ADDRSTRLEN];
    size_t len = strcspn(text, "%");
    if (len >= sizeof number)
        return false;
    memcpy(number, text, len);
    number[len] = '\0';
    return inet_pton(AF_INET6, number, address) == 1;
}

bool pqi_host_is_socket(const char *host)
{
    return *host == '/' || *host == '@';
}

bool pqi_host_is_address(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    return is_ipv4(host, &v4) || is_ipv6(host, &v6);
}

bool pqi_host_is_local(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (pqi_host_is_socket(host) || pqi_read_choice(host, "localhost") == 0)
        return true;
    if (is_ipv4(host, &v4))
        return ntohl(v4.s_addr) >> 24 == 127;
    return is_ipv6(host, &v6) && memcmp(&v6, &in6addr_loopback, sizeof v6) == 0;
}

const char *pqi_host_fault(const char *host)
{
    struct in6_addr v6;
    if (pqi_host_is_socket(host) || is_ipv6(host, &v6))
        return NULL;
    if (strlen(host) > 255 || strpbrk(host, " /@?#%\\'\"[]=&;"))
        return "not a host's name, address or socket folder";
    return strchr(host, ':') ? "a : in a host (ports have a parameter of their own)" : NULL;
}
