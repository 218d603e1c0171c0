/* 64 buyers want one of 10 lamps: exactly 10 are sold, whatever happens on the way. */
#include <pqrouter/pqrouter.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUYERS = 64, STOCK = 10, ATTEMPTS = 3 };

/* What a buyer comes home with. Positive, so that `buy` may return it: error codes are negative. */
enum outcome { BOUGHT = 0, SOLD_OUT = 1, FAILED = 2 };

struct buyer {
    pthread_t thread;
    pqr *db;
    int number;
    enum outcome outcome;
};

/* The work of one transaction. pqr_transact may run it several times, so it leaves nothing behind
 * but what it does through `tx`; and what it returns other than PQR_OK rolls back. */
static int buy(pqr_tx *tx, void *arg, pqr_error *err)
{
    const struct buyer *b = arg;
    pqr_result *res = NULL;
    int code = pqr_exec(tx,
                        PQR_QUERY(.name = "book sale",
                                  .sql = "insert into example_sale (buyer) values ($1)",
                                  PQR_PARAMS(PQR_INT32(b->number))),
                        NULL, err);
    /* The guard stands in the update itself, so buyers cannot come between the look and the deed.
     * Where a decision needs a look at other rows first, begin with
     * PQR_TX(.isolation = PQR_SERIALIZABLE): what would be wrong is then run again. */
    if (code == PQR_OK)
        code = pqr_exec(
            tx,
            PQR_QUERY(.name = "take lamp", .sql = "update example_item set stock = stock - 1 "
                                                  "where name = 'lamp' and stock > 0"),
            &res, err);
    if (code == PQR_OK && pqr_affected(res) == 0)
        code = SOLD_OUT;
    pqr_result_free(res);
    return code;
}

static enum outcome visit(struct buyer *b, pqr_session *s, pqr_error *err)
{
    for (int attempt = 1; attempt <= ATTEMPTS; attempt++) {
        int code = pqr_transact(s, NULL, buy, b, err);
        if (code == PQR_OK)
            return BOUGHT;
        if (code == SOLD_OUT)
            return SOLD_OUT;
        /* An attempt whose answer was lost (UNKNOWN) had succeeded: the booking is there. */
        if (strcmp(err->constraint, "example_sale_pkey") == 0)
            return BOUGHT;
        /* SAFE: it did not happen. UNKNOWN: perhaps it did, but the primary key lets nobody buy
         * twice. So both may be tried again; anything else would only fail again. */
        if (err->retry == PQR_RETRY_NEVER)
            break;
    }
    return FAILED;
}

static void *shop(void *arg)
{
    struct buyer *b = arg;
    pqr_session *s = NULL;
    pqr_error err;
    b->outcome = FAILED;
    if (pqr_session_open(b->db, PQR_SESSION(.tenant = "lamp shop"), &s, &err) == PQR_OK)
        b->outcome = visit(b, s, &err);
    if (b->outcome == FAILED)
        fprintf(stderr, "buyer %d: %s: %s\n", b->number, pqr_code_name(err.code), err.message);
    pqr_session_close(s);
    return NULL;
}

/* Sends all buyers at once; returns how many of them say that they bought, or -1. */
static int sell(pqr *db)
{
    struct buyer buyers[BUYERS];
    int count[3] = {0};
    for (int i = 0; i < BUYERS; i++) {
        buyers[i] = (struct buyer){.db = db, .number = i + 1};
        if (pthread_create(&buyers[i].thread, NULL, shop, &buyers[i]) != 0)
            abort();
    }
    for (int i = 0; i < BUYERS; i++) {
        pthread_join(buyers[i].thread, NULL);
        count[buyers[i].outcome]++;
    }
    printf("%d buyers: %d bought, %d found it sold out, %d failed\n", BUYERS, count[BOUGHT],
           count[SOLD_OUT], count[FAILED]);
    return count[FAILED] == 0 ? count[BOUGHT] : -1;
}

static int stock_up(pqr_session *s, pqr_error *err)
{
    static const char *const statements[] = {
        "drop table if exists example_item, example_sale",
        "create table example_item (name text primary key, stock integer not null)",
        "create table example_sale (buyer integer primary key)",
    };
    int code = PQR_OK;
    for (size_t i = 0; i < sizeof statements / sizeof *statements && code == PQR_OK; i++)
        code = pqr_write(s, PQR_QUERY(.sql = statements[i]), NULL, err);
    if (code == PQR_OK)
        code = pqr_write(s,
                         PQR_QUERY(.sql = "insert into example_item values ('lamp', $1)",
                                   PQR_PARAMS(PQR_INT32(STOCK))),
                         NULL, err);
    return code;
}

/* What the books say. The buyers wrote in sessions of their own, so this one asks the primary. */
static int look(pqr_session *s, int *stock, int *sales, pqr_error *err)
{
    pqr_result *res = NULL;
    int code = pqr_read(s,
                        PQR_QUERY(.sql = "select stock, (select count(*) from example_sale) "
                                         "from example_item where name = 'lamp'",
                                  .level = PQR_LEVEL_PRIMARY),
                        &res, err);
    if (code == PQR_OK)
        code = pqr_get_int32(res, 0, 0, stock, err);
    if (code == PQR_OK)
        code = pqr_get_int32(res, 0, 1, sales, err);
    pqr_result_free(res);
    return code;
}

int main(void)
{
    pqr *db = NULL;
    pqr_session *s = NULL;
    pqr_error err;
    int bought = -1, stock = -1, sales = -1;
    int code = pqr_open(&db, NULL, &err);
    if (code == PQR_OK)
        code = pqr_session_open(db, PQR_SESSION(.tenant = "lamp shop"), &s, &err);
    if (code == PQR_OK)
        code = stock_up(s, &err);
    if (code == PQR_OK) {
        bought = sell(db);
        code = look(s, &stock, &sales, &err);
    }
    if (code == PQR_OK)
        printf("stock of %d: %d sold, %d left\n", STOCK, sales, stock);
    else
        fprintf(stderr, "%s: %s\n", pqr_code_name(err.code), err.message);
    pqr_session_close(s);
    pqr_close(db, 1000);
    return bought == STOCK && sales == STOCK && stock == 0 ? 0 : 1;
}
