/* The notes service: many tenants, one process, one router. README.md says how to run it. */
#include "app.h"
#include "http.h"
#include "listener.h"
#include "migrate.h"
#include "settings.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>

enum { EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_CONFIG };
enum { MIGRATE_MS = 30000, DRAIN_MS = 5000 };

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
    listener_allow_many();
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
    if (!settings_read(argc, argv, &s) || s.help) {
        usage(s.help ? stdout : stderr);
        return s.help ? EXIT_OK : EXIT_USAGE;
    }
    if (pqr_open(&db, NULL, &err) != PQR_OK) {
        fprintf(stderr, "notes: %s\n", err.message);
        return EXIT_CONFIG;
    }
    int status = run(db, &s);
    pqr_close(db, DRAIN_MS);
    return status;
}
