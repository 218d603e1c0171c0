/* The notes service: many tenants, one process, one router. README.md says how to run it. */
#include "app.h"
#include "http.h"
#include "migrate.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_CONFIG };
enum { MIGRATE_MS = 30000, DRAIN_MS = 5000 };

struct settings {
    bool migrate;
    struct sockaddr_in listen;
    int64_t deadline_ms, grace_ms;
};

static void usage(FILE *out)
{
    fputs("notes [--listen 127.0.0.1:8080] [--deadline 5000] [--grace 5000]\n"
          "notes --migrate\n"
          "\n"
          "Serves notes over HTTP, or makes its tables on every shard. The databases are named by\n"
          "the environment, as for every program of pqrouter.\n"
          "\n"
          "  --listen ADDRESS:PORT  port 0: any that is free; it is printed\n"
          "  --deadline MS          how long a call to a database may take\n"
          "  --grace MS             how long an idle connection stays open after SIGTERM\n",
          out);
}

/* ---- Options -------------------------------------------------------------------------------- */

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
        usage(stdout);
        exit(EXIT_OK);
    default:
        return false;
    }
}

static bool read_options(int argc, char **argv, struct settings *s)
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

/* ---- Serving -------------------------------------------------------------------------------- */

/* A descriptor for each client and each connection to a database: more than shells allow, and less
 * than they could. */
static void allow_descriptors(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* Blocked in every thread, and taken by main: no handler interrupts anything. */
static void block_signals(sigset_t *ends)
{
    sigemptyset(ends);
    sigaddset(ends, SIGTERM);
    sigaddset(ends, SIGINT);
    pthread_sigmask(SIG_BLOCK, ends, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* Until a signal; then the order matters: nobody is let in, then every request is answered, and
 * only then the router, which the answers need, is closed (by the caller). */
static int serve_until(const sigset_t *ends, struct app *app, const struct settings *s)
{
    struct http *h = http_start(app, &s->listen);
    int signal_number = 0;
    if (!h) {
        perror("notes: cannot listen");
        return EXIT_FAILED;
    }
    printf("notes: listening on http://%s:%u\n", inet_ntoa(s->listen.sin_addr), http_port(h));
    fflush(stdout);
    sigwait(ends, &signal_number);
    atomic_store(&app->stopping, true);
    struct tally t = http_stop(h, s->grace_ms);
    printf("notes: %lu requests accepted, %lu answered\n", t.accepted, t.answered);
    return EXIT_OK;
}

static int run(pqr *db, const struct settings *s)
{
    sigset_t ends;
    if (s->migrate)
        return migrate(db, MIGRATE_MS) == PQR_OK ? EXIT_OK : EXIT_FAILED;
    struct app app = {.db = db, .hasher = hasher_new(), .deadline_ms = s->deadline_ms};
    if (!app.hasher) {
        fprintf(stderr, "notes: this libcrypt has no yescrypt, or there is no memory for it\n");
        return EXIT_FAILED;
    }
    allow_descriptors();
    block_signals(&ends);
    pqr_ready(db, 0, NULL); /* does not wait: only, every shard is looked at from now on */
    int status = serve_until(&ends, &app, s);
    hasher_free(app.hasher);
    return status;
}

int main(int argc, char **argv)
{
    struct settings s;
    pqr *db = NULL;
    pqr_error err;
    if (!read_options(argc, argv, &s)) {
        usage(stderr);
        return EXIT_USAGE;
    }
    if (pqr_open(&db, NULL, &err) != PQR_OK) {
        fprintf(stderr, "notes: %s\n", err.message);
        return EXIT_CONFIG;
    }
    int status = run(db, &s);
    pqr_close(db, DRAIN_MS);
    return status;
}
