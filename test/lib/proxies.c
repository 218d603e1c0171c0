/* Proxies in front of a server, for live tests. */
#include "proxies.h"

#include "live.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child's ends of both pipes become its standard ones. */
static pid_t start(const char *script, const char *port, int in[2], int out[2])
{
    pid_t pid = fork();
    if (pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        for (int fd = 3; fd < 1000; fd++)
            close(fd);
        execlp("python3", "python3", script, port, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    return pid;
}

struct proxy proxy_begin(const char *script)
{
    struct proxy p = {0};
    char port[8] = "";
    int in[2], out[2];
    const char *url = getenv("DATABASE_PRIMARY_URL"), *path = getenv(script);
    const char *host = url ? strstr(url, "://") : NULL;
    const char *slash = host ? strchr(host + 3, '/') : NULL;
    const char *colon = slash ? memrchr(host + 3, ':', (size_t)(slash - host - 3)) : NULL;
    if (!colon || !slash || !path || pipe(in) != 0 || pipe(out) != 0)
        fail_msg("no DATABASE_PRIMARY_URL with a port, no %s, or no pipe", script);
    snprintf(port, sizeof port, "%.*s", (int)(slash - colon - 1), colon + 1);
    p.pid = start(path, port, in, out);
    p.to = fdopen(in[1], "w");
    p.from = fdopen(out[0], "r");
    snprintf(p.url, sizeof p.url, "DATABASE_PRIMARY_URL=%.*s:%d%s", (int)(colon - url), url,
             proxy_number(&p), slash);
    return p;
}

void proxy_end(struct proxy *p)
{
    fclose(p->to);
    fclose(p->from);
    waitpid(p->pid, NULL, 0);
}

void proxy_tell(struct proxy *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(p->to, format, args);
    va_end(args);
    fputc('\n', p->to);
    fflush(p->to);
}

int proxy_number(struct proxy *p)
{
    int n;
    if (fscanf(p->from, "%d", &n) != 1)
        fail_msg("a proxy gives no number");
    return n;
}

void proxy_hears(struct proxy *p, const char *line)
{
    char word[32] = "";
    if (fscanf(p->from, "%31s", word) != 1 || strcmp(word, line) != 0)
        fail_msg("a proxy says \"%s\", not \"%s\"", word, line);
}
