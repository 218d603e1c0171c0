/* What must hold. */
#include "check.h"

#include "turns.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLACK (2 * MS)      /* behind a deadline */
#define KNOWN_FOR (50 * MS) /* so long after it was told of a newer primary the router knows */

struct write {
    int tenant, key;
    int64_t begun, ended;
    enum sim_outcome outcome;
    int commits;
    struct sim_rec *rec;
    struct sim_shard *shard;
};

struct sim_counts sim_count;

static struct write *writes; /* uid is index + 1 */
static int nwrites, cap;

int sim_check_write(int tenant, int key, int64_t begun)
{
    if (nwrites == cap) {
        cap = cap ? cap * 2 : 256;
        writes = realloc(writes, (size_t)cap * sizeof *writes);
        if (!writes)
            abort();
    }
    writes[nwrites++] = (struct write){.tenant = tenant, .key = key, .begun = begun};
    sim_count.writes++;
    return nwrites;
}

static struct write *write_of(int uid)
{
    if (uid < 1 || uid > nwrites) {
        sim_violated("there is no write %d", uid);
        return NULL;
    }
    return &writes[uid - 1];
}

/* One promoted by accident is in doubt beside the other for as long as it answers, and then gone. */
static bool disputes(const struct sim_server *other)
{
    bool cut = other->host.cut[TO_SERVER] || other->host.cut[TO_CLIENT];
    return other == other->shard->primary || (other->state == SIM_UP && !other->stopped && !cut);
}

/* Once the router has been told of a newer primary, nothing that begins then goes to an older one. */
void sim_check_ran(struct sim_server *s, int uid)
{
    const struct write *w = write_of(uid);
    for (int i = 0; w && i < s->shard->n; i++) {
        const struct sim_server *other = &s->shard->server[i];
        if (other->primary && disputes(other) && other->timeline > s->timeline &&
            other->host.visible_since > 0 && other->host.visible_since + KNOWN_FOR < w->begun)
            sim_violated("write %d runs on %s (timeline %u), and %s (timeline %u) was seen before "
                         "it began",
                         uid, s->name, s->timeline, other->name, other->timeline);
    }
}

void sim_check_commit(struct sim_server *s, struct sim_rec *rec)
{
    for (int i = 0; i < rec->n; i++) {
        struct write *w = write_of(rec->append[i].uid);
        if (!w)
            return;
        w->rec = rec;
        w->shard = s->shard;
        sim_say("server: %s commits write %d", s->name, rec->append[i].uid);
        if (++w->commits > 1)
            sim_violated("write %d was committed twice, now on %s", rec->append[i].uid, s->name);
        if (w->outcome == SIM_FAILED)
            sim_violated("write %d is committed on %s, and its caller was told that it had not "
                         "happened",
                         rec->append[i].uid, s->name);
        if (w->tenant != rec->append[i].tenant || w->key != rec->append[i].key)
            sim_violated("write %d has another one's parameters", rec->append[i].uid);
    }
}

enum sim_outcome sim_outcome_of(const pqr_error *err)
{
    if (err->code == PQR_OK)
        return SIM_OK;
    return err->retry == PQR_RETRY_UNKNOWN ? SIM_UNKNOWN : SIM_FAILED;
}

static void add(struct sim_view *v, int uid)
{
    for (int i = 0; i < v->n; i++)
        if (v->uids[i] == uid)
            return;
    if (v->n == v->cap) {
        v->cap = v->cap ? v->cap * 2 : 16;
        v->uids = realloc(v->uids, (size_t)v->cap * sizeof *v->uids);
        if (!v->uids)
            abort();
    }
    v->uids[v->n++] = uid;
}

void sim_check_wrote(int uid, enum sim_outcome outcome, const pqr_error *err, struct sim_view *view)
{
    struct write *w = write_of(uid);
    w->outcome = outcome;
    w->ended = sim_now();
    sim_count.ok += outcome == SIM_OK;
    sim_count.failed += outcome == SIM_FAILED;
    sim_count.unknown += outcome == SIM_UNKNOWN;
    sim_say("caller: write %d: %s%s%s", uid,
            outcome == SIM_OK       ? "done"
            : outcome == SIM_FAILED ? "did not happen: "
                                    : "may have happened: ",
            outcome == SIM_OK ? "" : err->sqlstate, outcome == SIM_OK ? "" : err->message);
    if (outcome == SIM_OK && !w->rec)
        sim_violated("write %d was acknowledged, and no server has committed it", uid);
    if (outcome == SIM_FAILED && w->rec)
        sim_violated("write %d was committed, and its caller is told that it has not happened: %s",
                     uid, err->message);
    if (outcome == SIM_OK && view)
        add(view, uid);
}

void sim_view_forget(struct sim_view *view, int uid)
{
    for (int i = 0; i < view->n; i++)
        if (view->uids[i] == uid)
            view->uids[i--] = view->uids[--view->n];
}

static bool contains(const int *uids, int n, int uid)
{
    for (int i = 0; i < n; i++)
        if (uids[i] == uid)
            return true;
    return false;
}

static int parse(const char *text, int *out, int most)
{
    int n = 0;
    char *end;
    for (; *text && n < most; text = *end ? end + 1 : end)
        out[n++] = (int)strtol(text, &end, 10);
    return n;
}

/* A uid that must be shown and is not. */
static void missing(int uid, const int *hidden, int nhidden, const char *source, const char *why)
{
    const struct write *w = write_of(uid);
    if (contains(hidden, nhidden, uid))
        sim_count.long_fork++;
    else if (w && w->rec && !w->rec->lost)
        sim_violated("%s does not show write %d, which %s", source, uid, why);
}

void sim_check_read(int tenant, int key, const pqr_result *res, struct sim_view *view,
                    int64_t begun)
{
    int shown[1024], hidden[256];
    int n = parse(pqr_text(res, 0, 2), shown, 1024),
        nhidden = parse(pqr_text(res, 0, 3), hidden, 256);
    sim_count.reads++;
    if (pqr_rows(res) != 1 || pqr_int32(res, 0, 0) != tenant || pqr_int32(res, 0, 1) != key) {
        sim_violated("%s answers tenant %d, key %d, with the row of tenant %d, key %d",
                     pqr_source(res), tenant, key, pqr_int32(res, 0, 0), pqr_int32(res, 0, 1));
        return;
    }
    for (int i = 0; i < n; i++) {
        const struct write *w = write_of(shown[i]);
        if (w && (w->tenant != tenant || w->key != key))
            sim_violated("%s shows tenant %d write %d, which is tenant %d's", pqr_source(res),
                         tenant, shown[i], w->tenant);
    }
    for (int i = 0; view && i < view->n; i++)
        if (!contains(shown, n, view->uids[i]))
            missing(view->uids[i], hidden, nhidden, pqr_source(res), "the session has seen");
    for (int i = 0; begun > 0 && i < nwrites; i++)
        if (writes[i].tenant == tenant && writes[i].key == key && writes[i].outcome == SIM_OK &&
            writes[i].ended < begun && !contains(shown, n, i + 1))
            missing(i + 1, hidden, nhidden, pqr_source(res), "was acknowledged before");
    for (int i = 0; view && i < n; i++)
        add(view, shown[i]);
}

void sim_check_time(const char *what, int64_t begun, int64_t deadline_ms, const pqr_error *err)
{
    int64_t over = sim_now() - begun - deadline_ms * MS;
    sim_mix((uint64_t)err->code);
    if (err->code == PQR_E_BUG || err->code == PQR_E_USAGE || err->code == PQR_E_NOMEM)
        sim_violated("%s: %s: %s", what, pqr_code_name(err->code), err->message);
    if (over > SLACK)
        sim_violated("%s with a deadline of %d ms ends %d us late: %s", what, (int)deadline_ms,
                     (int)(over / US), err->message);
}

void sim_check_finally(void)
{
    for (int i = 0; i < nwrites; i++) {
        const struct write *w = &writes[i];
        bool lost = w->rec && w->rec->lost;
        sim_count.happened += w->outcome == SIM_UNKNOWN && w->rec != NULL;
        sim_count.lost += w->outcome == SIM_OK && lost;
        if (w->outcome == SIM_PENDING)
            sim_violated("write %d has never ended", i + 1);
        if (w->outcome == SIM_OK && lost && w->shard->sync)
            sim_violated("write %d was acknowledged, and is lost, with a synchronous standby",
                         i + 1);
    }
}

void sim_check_begin(void)
{
    nwrites = 0;
}

void sim_check_over(void)
{
    free(writes);
    writes = NULL;
    nwrites = cap = 0;
}
