/* The router as a whole: made and unmade. */
#include "router.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "conn.h"
#include "gate.h"
#include "lane.h"
#include "lend.h"
#include "loop.h"
#include "monitor.h"
#include "opener.h"
#include "parting.h"
#include "shard.h"
#include "txn.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

/* ---- Opening -------------------------------------------------------------------------------- */

static int init_shard(struct pqr *db, struct pqi_shard *s, const struct pqi_shard_conf *conf,
                      int number, pqr_error *err)
{
    s->db = db;
    s->number = number;
    s->n = conf->n;
    s->primary = -1;
    s->follow = (struct pqi_follow){PQI_PRIMARY_NONE, -1, -1};
    s->expected = (struct pqi_stamp_expected){db->options->fleet_id, number,
                                              db->options->sharded ? db->nshards : 0};
    if (number == PQI_STAMP_CONTROL)
        snprintf(s->name, sizeof s->name, "control");
    else
        snprintf(s->name, sizeof s->name, "shard%d", number);
    pthread_mutex_init(&s->lock, NULL);
    pqi_list_init(&s->waiting);
    s->nodes = pqi_mem_array((size_t)conf->n, sizeof *s->nodes);
    if (!s->nodes)
        return pqi_err(err, PQR_E_NOMEM, "no memory for %s", s->name);
    if (conf->n > PQI_NODES_MAX)
        return pqi_err(err, PQR_E_CONFIG, "%s has %d servers, more than %d", s->name, conf->n,
                       PQI_NODES_MAX);
    for (int i = 0; i < conf->n; i++) {
        struct pqi_node *node = &s->nodes[i];
        node->shard = s;
        node->index = i;
        node->number = db->nnodes++;
        node->target = &conf->targets[i];
        node->known.latency_us = -1;
        node->known.lag = (struct pqi_lag){-1, -1};
        pqi_resolver_init(&node->resolver);
        if (!pqi_dial_init(&node->dial, node->target, db->options))
            return pqi_err(err, PQR_E_NOMEM, "no memory for %s", node->target->name);
    }
    return PQR_OK;
}

static int init_shards(struct pqr *db, pqr_error *err)
{
    const struct pqi_options *o = db->options;
    db->nshards = o->nshards;
    db->shards = pqi_mem_array((size_t)o->nshards + 1, sizeof *db->shards);
    db->map = pqi_map_new(o->nshards);
    if (!db->shards || !db->map)
        return pqi_err(err, PQR_E_NOMEM, "no memory for %d shards", o->nshards);
    int code = PQR_OK;
    for (int i = 0; i < o->nshards && code == PQR_OK; i++, db->ngroups++)
        code = init_shard(db, &db->shards[i], &o->shards[i], i, err);
    if (code == PQR_OK && o->control.n > 0) {
        code = init_shard(db, &db->shards[db->ngroups], &o->control, PQI_STAMP_CONTROL, err);
        db->ngroups++;
    }
    return code;
}

static void init_locks(struct pqr *db)
{
    pqi_waiter_init(&db->emptied);
    pthread_mutex_init(&db->gate_lock, NULL);
    pthread_mutex_init(&db->map_lock, NULL);
    pthread_mutex_init(&db->budget_lock, NULL);
    pqi_list_init(&db->open_txs);
    pqi_list_init(&db->loops);
    pqi_wanted_init(&db->wanted);
}

static void log_opening(const struct pqr *db)
{
    for (int i = 0; i < db->options->nwarnings; i++)
        pqi_log(&db->log, PQR_LOG_WARN, "configuration", "%s", db->options->warnings[i]);
}

int pqi_router_open(struct pqr **out, const pqr_options *options, pqr_error *err)
{
    struct pqr *db = pqi_mem_new(sizeof *db);
    if (!db)
        return pqi_err(err, PQR_E_NOMEM, "no memory for a router");
    init_locks(db);
    atomic_store(&db->refs, 1);
    db->abort_flag = db->monitor_flag = -1;
    const char *const *env = options && options->env ? options->env : (const char *const *)environ;
    int code = pqi_options_load(&db->options, env, NULL, err);
    if (code == PQR_OK) {
        db->log = (struct pqi_log){.level = db->options->log_level,
                                   .format = (int)db->options->log_format,
                                   .fn = options ? options->log : NULL,
                                   .arg = options ? options->log_arg : NULL};
        db->partings = pqi_partings_new();
        db->opener = pqi_opener_new(db);
        code = db->partings && db->opener ? init_shards(db, err)
                                          : pqi_err(err, PQR_E_NOMEM, "no memory for a router");
    }
    if (code == PQR_OK)
        code = pqi_wall_init(&db->wall, db->options, err);
    if (code == PQR_OK && !pqi_group_init(&db->threads, db))
        code = pqi_err(err, PQR_E_NOMEM, "no memory for lanes");
    if (code == PQR_OK)
        code = pqi_monitor_new(&db->monitor, db, err);
    if (code == PQR_OK) {
        log_opening(db);
        *out = db;
    } else {
        pqi_router_unref(db);
    }
    return code;
}

int pqi_router_set_wait(struct pqr *db, pqr_wait_fn *wait, void *arg, pqr_error *err)
{
    if (atomic_load(&db->pid) != 0)
        return pqi_err(err, PQR_E_USAGE,
                       "the router is used already: call pqr_set_wait before the first use of it");
    db->wait = (struct pqi_wait){wait, arg};
    return PQR_OK;
}

/* ---- Closing -------------------------------------------------------------------------------- */

static void free_shard(struct pqi_shard *s)
{
    for (int i = 0; i < s->n && s->nodes; i++) {
        pqi_resolver_free(&s->nodes[i].resolver);
        if (s->nodes[i].probe)
            pqi_pool_free(&s->nodes[i].pool);
    }
    pqi_mem_free(s->nodes);
    pthread_mutex_destroy(&s->lock);
}

void pqi_router_unref(struct pqr *db)
{
    if (atomic_fetch_sub(&db->refs, 1) != 1)
        return;
    pid_t pid = atomic_load(&db->pid);
    bool forked = pid != 0 && pid != pqi_pid();
    pqi_group_free(&db->threads, forked);
    for (int i = 0; i < db->ngroups; i++)
        free_shard(&db->shards[i]);
    pqi_monitor_free(db->monitor, forked);
    pqi_opener_free(db->opener, forked);
    pqi_wanted_free(&db->wanted);
    pqi_mem_free(db->shards);
    pqi_map_free(db->map);
    pqi_partings_free(db->partings);
    pqi_flag_close(db->abort_flag);
    pqi_flag_close(db->monitor_flag);
    pqi_wall_free(&db->wall);
    pqi_options_free(db->options);
    pqi_waiter_free(&db->emptied);
    pthread_mutex_destroy(&db->gate_lock);
    pthread_mutex_destroy(&db->map_lock);
    pthread_mutex_destroy(&db->budget_lock);
    pqi_mem_free(db);
}

/* Transactions in the application's hands count as in flight too: they end by its own calls. */
static void wait_for_transactions(struct pqr *db, int64_t until_ns)
{
    for (bool open = true; open && pqi_now_ns() < until_ns;) {
        pthread_mutex_lock(&db->gate_lock);
        open = !pqi_list_empty(&db->open_txs);
        pthread_mutex_unlock(&db->gate_lock);
        int64_t soon = pqi_after_ms(pqi_now_ns(), 2);
        if (open)
            pqi_wait_fd(&db->wait, -1, 0, -1, soon < until_ns ? soon : until_ns);
    }
}

static void abort_calls(struct pqr *db)
{
    pthread_mutex_lock(&db->gate_lock);
    atomic_store(&db->aborting, true);
    pqi_flag_set(db->abort_flag);
    pthread_mutex_unlock(&db->gate_lock);
    for (int i = 0; i < db->ngroups; i++) {
        for (int j = 0; j < db->shards[i].n; j++)
            pqi_pool_close(&db->shards[i].nodes[j].pool);
        pqi_shard_wake_all(&db->shards[i]);
    }
    pqi_group_stir(&db->threads);
    pthread_mutex_lock(&db->gate_lock);
    for (struct pqi_link *at = db->loops.next; at != &db->loops; at = at->next)
        pqi_loop_stir(pqi_container(at, struct pqr_loop, of_db));
    pthread_mutex_unlock(&db->gate_lock);
}

/* In a child of fork(): no lock of the parent's can be trusted, no socket be spoken on. */
static void close_in_child(struct pqr *db)
{
    for (int i = 0; i < db->ngroups; i++)
        for (int j = 0; j < db->shards[i].n; j++) {
            struct pqi_pool *p = &db->shards[i].nodes[j].pool;
            struct pqi_conn *c;
            while (pthread_mutex_trylock(&p->lock) == 0) {
                pthread_mutex_unlock(&p->lock);
                if (!(c = pqi_pool_expire(p, INT64_MAX, INT64_MAX)))
                    break;
                pqi_conn_orphan(c);
            }
        }
}

void pqi_router_close(struct pqr *db, int64_t drain_ms)
{
    if (pqi_gate_pid(db, NULL) != PQR_OK) {
        close_in_child(db);
        pqi_router_unref(db);
        return;
    }
    int64_t until = pqi_after_ms(pqi_now_ns(), drain_ms > 0 ? drain_ms : 0);
    atomic_store(&db->draining, true);
    wait_for_transactions(db, until);
    pqi_gate_close(db);
    pqi_gate_wait_empty(db, until);
    abort_calls(db);
    pqi_gate_wait_empty(db, PQI_FOREVER);
    pqi_monitor_stop(db->monitor);
    pqi_group_free(&db->threads, false);
    pqi_partings_end(db->partings);
    pqi_tx_cut_all(db);
    for (int i = 0; i < db->ngroups; i++)
        for (int j = 0; j < db->shards[i].n; j++) {
            struct pqi_conn *c;
            while ((c = pqi_pool_expire(&db->shards[i].nodes[j].pool, INT64_MAX, INT64_MAX)))
                pqi_conn_give_up(&db->shards[i].nodes[j], c);
        }
    pqi_router_unref(db);
}

void pqi_session_close(struct pqr_session *s)
{
    struct pqr *db = s->db;
    s->closing = s->calls > 0;
    if (s->closing)
        return;
    pqi_tx_drop_all(s);
    pqi_lend_back(s, NULL);
    pqi_session_free(s);
    pqi_router_unref(db);
}
