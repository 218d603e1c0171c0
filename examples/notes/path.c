/* Paths, step by step. */
#include "path.h"

#include <string.h>

/* A tenant's name: a to z, 0 to 9, and inside also "-". */
static bool read_tenant(const char *step, size_t len, char tenant[TENANT_MAX + 1])
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
    if (len < 1 || len > TENANT_MAX || strspn(step, good) < len || *step == '-' ||
        step[len - 1] == '-')
        return false;
    memcpy(tenant, step, len);
    tenant[len] = '\0';
    return true;
}

static int hex(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* A UUID in the one way that PostgreSQL prints it. */
static bool read_id(const char *step, size_t len, uint8_t id[16])
{
    if (len != 36)
        return false;
    for (int n = 0; n < 16; n++, step += 2) {
        if ((n == 4 || n == 6 || n == 8 || n == 10) && *step++ != '-')
            return false;
        int high = hex(step[0]), low = hex(step[1]);
        if (high < 0 || low < 0)
            return false;
        id[n] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool step_fits(const char *pattern, size_t pattern_len, const char *step, size_t len,
                      struct request *r)
{
    if (strncmp(pattern, "{tenant}", pattern_len) == 0)
        return read_tenant(step, len, r->tenant);
    if (strncmp(pattern, "{id}", pattern_len) == 0)
        return read_id(step, len, r->id);
    return pattern_len == len && memcmp(pattern, step, len) == 0;
}

bool path_fits(const char *pattern, const char *path, struct request *r)
{
    while (*pattern == '/' && *path == '/') {
        size_t pattern_len = strcspn(++pattern, "/"), len = strcspn(++path, "/");
        if (!step_fits(pattern, pattern_len, path, len, r))
            return false;
        pattern += pattern_len;
        path += len;
    }
    return !*pattern && !*path;
}

void path_allow(struct reply *reply, const char *method)
{
    size_t used = strlen(reply->allow);
    if (used + strlen(method) + sizeof ", " <= sizeof reply->allow) {
        strcat(reply->allow, used > 0 ? ", " : "");
        strcat(reply->allow, method);
    }
}
