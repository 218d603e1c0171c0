/* Options. */
#include "settings.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static bool read_number(const char *text, int64_t least, int64_t most, int64_t *out)
{
    char *end = NULL;
    long long n = strtoll(text, &end, 10);
    if (end == text || *end || n < least || n > most)
        return false;
    *out = n;
    return true;
}

static bool read_address(const char *text, struct sockaddr_in *out)
{
    char host[INET_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    int64_t port;
    if (!colon || (size_t)(colon - text) >= sizeof host || !read_number(colon + 1, 0, 65535, &port))
        return false;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    *out = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return inet_pton(AF_INET, host, &out->sin_addr) == 1;
}

static bool read_option(int option, const char *value, struct settings *s)
{
    switch (option) {
    case 'm':
        s->migrate = true;
        return true;
    case 'l':
        return read_address(value, &s->listen);
    case 'd':
        return read_number(value, 1, 3600000, &s->deadline_ms);
    case 'g':
        return read_number(value, 0, 3600000, &s->grace_ms);
    case 'h':
        s->help = true;
        return true;
    default:
        return false;
    }
}

bool settings_read(int argc, char **argv, struct settings *s)
{
    static const struct option known[] = {
        {"migrate", no_argument, NULL, 'm'},        {"listen", required_argument, NULL, 'l'},
        {"deadline", required_argument, NULL, 'd'}, {"grace", required_argument, NULL, 'g'},
        {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0},
    };
    *s = (struct settings){.deadline_ms = 5000, .grace_ms = 5000};
    read_address("127.0.0.1:8080", &s->listen);
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;)
        if (!read_option(option, optarg, s))
            return false;
    return optind == argc;
}
