/* The hot paths of the notes service, from one event loop. README.md says how to run it. */
#include "../notes/app.h"
#include "../notes/listener.h"
#include "../notes/settings.h"
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_CONFIG };

static void usage(FILE *out)
{
    fputs(
        "notes_loop [--listen 127.0.0.1:8080] [--deadline 5000] [--grace 5000]\n"
        "\n"
        "Serves notes over HTTP from one event loop. The databases are named by the environment,\n"
        "as for every program of pqrouter; `notes --migrate` makes the tables.\n"
        "\n"
        "  --listen ADDRESS:PORT  port 0: any that is free; it is printed\n"
        "  --deadline MS          how long a call to a database may take\n"
        "  --grace MS             how long an idle connection stays open after SIGTERM\n",
        out);
}

/* Signals as something to be read. Blocked in every thread: the router's inherit that. */
static int open_signals(void)
{
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* The order matters: nobody is let in, then every request is answered, and only then the router,
 * which the answers need, is closed (by the caller). */
static int serve(pqr *db, const struct settings *settings, int signals)
{
    struct app app = {.db = db, .deadline_ms = settings->deadline_ms};
    pqr_error err = {0};
    struct server *s = server_start(&app, &settings->listen, signals, &err);
    if (!s) {
        fprintf(stderr, "notes_loop: cannot listen: %s\n",
                *err.message ? err.message : strerror(errno));
        return EXIT_FAILED;
    }
    printf("notes_loop: listening on http://%s:%u\n", inet_ntoa(settings->listen.sin_addr),
           server_port(s));
    fflush(stdout);
    server_run(s);
    atomic_store(&app.stopping, true);
    struct tally t = server_stop(s, settings->grace_ms);
    printf("notes_loop: %lu requests accepted, %lu answered, %lu given up\n", t.accepted,
           t.answered, t.given_up);
    return EXIT_OK;
}

int main(int argc, char **argv)
{
    struct settings settings;
    pqr *db = NULL;
    pqr_error err;
    if (!settings_read(argc, argv, &settings) || settings.migrate || settings.help) {
        usage(settings.help ? stdout : stderr);
        return settings.help ? EXIT_OK : EXIT_USAGE;
    }
    if (pqr_open(&db, NULL, &err) != PQR_OK) {
        fprintf(stderr, "notes_loop: %s\n", err.message);
        return EXIT_CONFIG;
    }
    int signals = open_signals();
    listener_allow_many();
    pqr_ready(db, 0, NULL); /* does not wait: only, every shard is looked at from now on */
    int status = serve(db, &settings, signals);
    pqr_close(db, 0); /* no call is in flight */
    close(signals);
    return status;
}
