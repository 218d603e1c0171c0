/* Many threads, one router: a session for each request, and how many answers came from where.
 * It reads no table and writes nothing, so it may run against any fleet. */
#include <pqrouter/pqrouter.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 8, REQUESTS = 100, TENANTS = 50 };

/* How many requests each server has answered. */
struct tally {
    pthread_mutex_t lock;
    pqr_node_health *nodes;
    int *answers; /* one a node */
    int n;
};

struct worker {
    pthread_t thread;
    pqr *db; /* shared: the router is thread-safe */
    struct tally *tally;
    int number;
    pqr_error err;
};

static void count(struct tally *t, const char *source)
{
    pthread_mutex_lock(&t->lock);
    for (int i = 0; i < t->n; i++)
        t->answers[i] += strcmp(t->nodes[i].node, source) == 0;
    pthread_mutex_unlock(&t->lock);
}

/* One request, as of a web server. Its session belongs to this thread alone, and costs no
 * connection: those are the router's, and are shared. */
static int serve(struct worker *w, const char *tenant)
{
    pqr_session *s = NULL;
    pqr_result *res = NULL;
    int code = pqr_session_open(w->db, PQR_SESSION(.tenant = tenant, .deadline_ms = 10000), &s,
                                &w->err);
    if (code == PQR_OK)
        code = pqr_read(s,
                        PQR_QUERY(.name = "echo", .sql = "select $1", PQR_PARAMS(PQR_TEXT(tenant))),
                        &res, &w->err);
    if (code == PQR_OK && strcmp(pqr_text(res, 0, 0), tenant) != 0)
        abort(); /* somebody else's answer */
    if (code == PQR_OK)
        count(w->tally, pqr_source(res));
    pqr_result_free(res);
    pqr_session_close(s);
    return code;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < REQUESTS; i++) {
        char tenant[32];
        snprintf(tenant, sizeof tenant, "tenant%d", (w->number * REQUESTS + i) % TENANTS);
        if (serve(w, tenant) != PQR_OK)
            break;
    }
    return NULL;
}

/* Runs all workers to their end; returns how many of them failed. */
static int run(pqr *db, struct tally *t)
{
    struct worker workers[THREADS];
    int failed = 0;
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.db = db, .tally = t, .number = i};
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            abort();
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        if (workers[i].err.code == PQR_OK)
            continue;
        failed++;
        fprintf(stderr, "thread %d: %s: %s\n", i, pqr_code_name(workers[i].err.code),
                workers[i].err.message);
    }
    return failed;
}

int main(void)
{
    pqr *db = NULL;
    pqr_error err;
    if (pqr_open(&db, NULL, &err) != PQR_OK) {
        fprintf(stderr, "%s: %s\n", pqr_code_name(err.code), err.message);
        return 1;
    }
    struct tally t = {.lock = PTHREAD_MUTEX_INITIALIZER, .n = pqr_health(db, NULL, 0, 0)};
    t.nodes = calloc((size_t)t.n, sizeof *t.nodes);
    t.answers = calloc((size_t)t.n, sizeof *t.answers);
    if (!t.nodes || !t.answers)
        abort();
    pqr_health(db, t.nodes, (size_t)t.n, sizeof *t.nodes);

    int failed = run(db, &t);
    printf("%d requests for %d tenants, from %d threads:\n", THREADS * REQUESTS, TENANTS, THREADS);
    for (int i = 0; i < t.n; i++)
        printf("%6d  %s\n", t.answers[i], t.nodes[i].node);

    free(t.answers);
    free(t.nodes);
    pqr_close(db, 1000);
    return failed > 0;
}
