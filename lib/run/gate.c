/* The gate that every public call passes. */
#include "gate.h"

#include "../base/err.h"

#include <unistd.h>

int pqi_gate_pid(const struct pqr *db, pqr_error *err)
{
    pid_t pid = atomic_load_explicit(&db->pid, memory_order_relaxed);
    if (pid == 0 || pid == getpid())
        return PQR_OK;
    return pqi_err(
        err, PQR_E_FORKED,
        "this router was used by process %ld before fork(): call pqr_open in the child, or "
        "fork before the first use",
        (long)pid);
}

int pqi_gate_in(struct pqr *db, bool begins, pqr_error *err)
{
    if (pqi_gate_pid(db, err) != PQR_OK)
        return PQR_E_FORKED;
    if (atomic_load_explicit(&db->pid, memory_order_relaxed) == 0)
        atomic_store(&db->pid, getpid());
    atomic_fetch_add(&db->inside, 1);
    if (!atomic_load(&db->closing) && !(begins && atomic_load(&db->draining)))
        return PQR_OK;
    pqi_gate_out(db);
    return pqi_err(err, PQR_E_CLOSED, "the router is closing: no new calls");
}

void pqi_gate_out(struct pqr *db)
{
    if (atomic_fetch_sub(&db->inside, 1) != 1 || !atomic_load(&db->closing))
        return;
    pthread_mutex_lock(&db->gate_lock);
    pthread_cond_broadcast(&db->empty);
    pthread_mutex_unlock(&db->gate_lock);
}
