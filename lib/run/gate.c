/* The gate that every public call passes. */
#include "gate.h"

#include "../base/err.h"
#include "monitor.h"
#include "opener.h"
#include "parting.h"

#define CLOSED UINT32_C(0x80000000) /* in `inside`, beside the count */

int pqi_gate_pid(const struct pqr *db, pqr_error *err)
{
    pid_t pid = atomic_load_explicit(&db->pid, memory_order_relaxed);
    if (pid == 0 || pid == pqi_pid())
        return PQR_OK;
    return pqi_err(
        err, PQR_E_FORKED,
        "this router was used by process %ld before fork(): call pqr_open in the child, or "
        "fork before the first use",
        (long)pid);
}

/* The first use. Flags, epolls and chance come now and not with opening: what is there before a
 * fork() the children would share. */
static bool take_descriptors(struct pqr *db)
{
    if (db->abort_flag < 0)
        db->abort_flag = pqi_flag_new();
    if (db->monitor_flag < 0)
        db->monitor_flag = pqi_flag_new();
    return db->abort_flag >= 0 && db->monitor_flag >= 0 && pqi_partings_begin(db->partings) &&
           pqi_opener_begin(db->opener) && pqi_monitor_begin(db->monitor);
}

/* Processes that live for one read would all read from the first replica otherwise. */
static void take_turns(struct pqr *db)
{
    pqi_chance_anew();
    for (int i = 0; i < db->ngroups; i++) {
        atomic_store(&db->shards[i].session_turn, pqi_random() >> 1);
        atomic_store(&db->shards[i].call_turn, pqi_random() >> 1);
    }
}

static bool begin(struct pqr *db)
{
    pid_t unused = 0;
    atomic_compare_exchange_strong(&db->pid, &unused, pqi_pid());
    pthread_mutex_lock(&db->gate_lock);
    bool begun = atomic_load(&db->begun);
    if (!begun && take_descriptors(db)) {
        take_turns(db);
        begun = true;
    }
    if (atomic_load(&db->aborting))
        pqi_flag_set(db->abort_flag); /* closing came between */
    atomic_store(&db->begun, begun);
    pthread_mutex_unlock(&db->gate_lock);
    return begun;
}

int pqi_gate_look(struct pqr *db, bool begins, pqr_error *err)
{
    int code = pqi_gate_pid(db, err);
    if (code != PQR_OK)
        return code;
    uint32_t before = atomic_fetch_add(&db->inside, 1);
    if (!(before & CLOSED) && !(begins && atomic_load(&db->draining)))
        return PQR_OK;
    pqi_gate_out(db);
    return pqi_err(err, PQR_E_CLOSED, "the router is closing: no new calls");
}

int pqi_gate_in(struct pqr *db, bool begins, pqr_error *err)
{
    int code = pqi_gate_look(db, begins, err);
    if (code != PQR_OK || atomic_load(&db->begun) || begin(db))
        return code;
    pqi_gate_out(db);
    return pqi_err(err, PQR_E_NOMEM, "no descriptors for the router: raise ulimit -n");
}

/* Whoever is not the last one out of a closed gate touches nothing after the count: the others may
 * be gone too by then, and the router freed. The last one is waited for. */
void pqi_gate_out(struct pqr *db)
{
    if (atomic_fetch_sub(&db->inside, 1) == (CLOSED | 1))
        pqi_waiter_finish(&db->emptied);
}

void pqi_gate_close(struct pqr *db)
{
    atomic_fetch_add(&db->inside, 1); /* so that there is a last one in any case: this one */
    atomic_fetch_or(&db->inside, CLOSED);
    pqi_gate_out(db);
}

bool pqi_gate_wait_empty(struct pqr *db, int64_t until_ns)
{
    if (!pqi_waiter_finished(&db->emptied))
        pqi_waiter_wait(&db->emptied, &db->wait, until_ns);
    return pqi_waiter_finished(&db->emptied);
}
