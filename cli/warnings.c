/* What is noticed in a configuration: the library logs it when a router is opened, if the log is
 * on. So one is opened with it on, and closed at once. */
#include "warnings.h"

#include "cli.h"
#include "memory.h"

#include <stdlib.h>
#include <string.h>

static void take(void *arg, int level, const char *event, const char *text)
{
    struct warnings *w = arg;
    (void)level;
    if (strcmp(event, "configuration") != 0)
        return;
    w->texts = more_memory(w->texts, (size_t)w->n + 1, sizeof *w->texts);
    w->texts[w->n++] = copy_text(text);
}

void warnings_read(struct warnings *w, const struct environment *env)
{
    const char *const *list = environment_list(env);
    size_t n = 0;
    while (list[n])
        n++;
    const char **loud = get_memory(n + 2, sizeof *loud);
    loud[0] = "PQR_LOG=warn"; /* the first of a name counts */
    memcpy(loud + 1, list, n * sizeof *loud);
    *w = (struct warnings){0};
    pqr *db;
    if (pqr_open(&db, PQR_OPTIONS(.env = loud, .log = take, .log_arg = w), NULL) == PQR_OK)
        pqr_close(db, 0);
    free(loud);
}

void warnings_free(struct warnings *w)
{
    for (int i = 0; i < w->n; i++)
        free(w->texts[i]);
    free(w->texts);
}
