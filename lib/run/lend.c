/* Lending a connection to the application. */
#include "lend.h"

#include "../base/err.h"
#include "../base/mem.h"
#include "call.h"
#include "conn.h"

struct loan {
    struct pqi_link link;
    struct pqi_node *node;
    struct pqi_conn *conn;
    struct pg_conn *pg;
    bool write;
};

/* Its link may have ended behind the last answer: that is seen here, not by who borrows it. */
static int hand_over(struct pqi_call *c, struct pg_conn **out, pqr_error *err)
{
    if (pqi_conn_stale(c->conn)) {
        c->keep = false;
        return pqi_err(err, PQR_E_LOST, "%s: the connection has ended: nothing was lent",
                       c->node->target->name);
    }
    struct loan *loan = pqi_mem_new(sizeof *loan);
    struct pg_conn *pg = loan ? pqi_conn_lend(c->conn) : NULL;
    if (!pg) {
        pqi_mem_free(loan);
        c->keep = false;
        return pqi_err(err, PQR_E_NOMEM, "%s: the connection cannot be lent",
                       c->node->target->name);
    }
    *loan = (struct loan){.node = c->node, .conn = c->conn, .pg = pg, .write = c->write};
    c->session->write_loans += c->write;
    pqi_list_append(&c->session->loans, &loan->link);
    *out = pg;
    return PQR_OK;
}

int pqi_lend_check(const struct pqr *db, int mode, pqr_error *err)
{
    if (mode != PQR_LEND_READ && mode != PQR_LEND_WRITE)
        return pqi_err(err, PQR_E_USAGE, "mode is %d: not a pqr_lend_mode", mode);
    if (db->options->pgbouncer)
        return pqi_err(
            err, PQR_E_USAGE,
            "behind a transaction pooler (DB_PGBOUNCER) no session is one's own, so none "
            "can be lent: open a direct connection with libpq");
    return PQR_OK;
}

int pqi_lend_start(struct pqi_op *op, struct pqr_session *s, int mode, const struct pqi_how *how)
{
    struct pqi_call *c = &op->call;
    pqi_op_init(op, s, 0, 2, NULL, how);
    /* Each with its Sync: whoever fails ends the call, and nothing is lent. */
    c->n = 0;
    if (mode != PQR_LEND_WRITE)
        op->stmts[c->n++] = (struct pqi_stmt){
            .sql = "select pg_catalog.set_config('default_transaction_read_only', 'on', false)",
            .sync = true};
    c->n += pqi_wall_lead_lasting(&s->db->wall, s->name, &op->stmts[c->n]);
    c->keep = c->lends = true;
    c->write = mode == PQR_LEND_WRITE;
    return PQR_OK;
}

int pqi_lend_end(struct pqi_op *op, struct pg_conn **out, pqr_error *err)
{
    struct pqi_call *c = &op->call;
    int code = c->err.code;
    if (err)
        *err = c->err;
    if (code == PQR_OK) {
        c->conn->tainted = true; /* whatever comes, it is not pooled again */
        code = hand_over(c, out, err);
    }
    pqi_op_free(op);
    return code;
}

int pqi_lend(struct pqr_session *s, int mode, struct pg_conn **out, pqr_error *err)
{
    static const struct pqi_how here = {0};
    struct pqi_op op;
    pqi_lend_start(&op, s, mode, &here);
    pqi_call_run(&op.call);
    return pqi_lend_end(&op, out, err);
}

void pqi_lend_back(struct pqr_session *s, struct pg_conn *pg)
{
    for (struct pqi_link *l = s->loans.next, *next; l != &s->loans; l = next) {
        struct loan *loan = pqi_container(l, struct loan, link);
        next = l->next;
        if (pg && loan->pg != pg)
            continue;
        pqi_list_remove(l);
        s->write_loans -= loan->write;
        if (loan->write)
            pqi_session_goes_on(s);
        /* What it wrote may still be under way. */
        s->in_doubt |= loan->write && pqi_conn_block(loan->conn) == PQI_BLOCK_OPEN;
        if (!loan->write)
            pqi_session_read_beside(s, loan->node, loan->conn);
        pqi_conn_give_up(loan->node, loan->conn);
        pqi_mem_free(loan);
    }
}
