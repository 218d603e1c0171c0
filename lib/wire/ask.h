/* What the router asks a server: at the start of each connection, and at each probe. The answers
 * as plain values. */
#ifndef PQI_ASK_H
#define PQI_ASK_H

#include "../plan/config.h"
#include "../plan/lsn.h"
#include "../plan/slot.h"
#include "../plan/stamp.h"
#include "../plan/wall.h"
#include "pg.h"

/* What a server says of itself. */
struct pqi_sighting {
    enum pqr_role role;
    bool read_only;
    uint32_t timeline; /* 0: no right to tell (a replica, without pg_monitor) */
    uint64_t system_id;
    uint64_t lsn;       /* a primary's written position, a replica's replayed one */
    uint64_t end;       /* a primary's end of log (insert position) */
    uint64_t recovered; /* a primary's: up to where it had replayed when it was promoted, or when it
                           last came back from a crash; 0: neither since it was started */
    uint64_t segment_bytes;
    int64_t started_us;     /* when its postmaster did */
    int64_t incarnation_us; /* also changes when it restarts from a crash; 0: it does not tell */
    struct pqi_stamp stamp;
    struct pqi_login login; /* told at the start of a connection only */
};

/* The first words on a connection: pins its settings, then asks. Each part has its own Sync. */
void pqi_ask_handshake(struct pqi_conn *c, const struct pqi_options *o);

/* Asks again, on a connection whose handshake is done. */
void pqi_ask_probe(struct pqi_conn *c);

/* On a connection that is to be shared by reads: pins what they rely on. pqi_ask_pinned: is it so? */
void pqi_ask_pin_reads(struct pqi_conn *c);
bool pqi_ask_pinned(const struct pqi_conn *c, char *why, size_t why_size);

/* Behind a pooler nothing is pinned: what calls rely on is set in each transaction. A SELECT that does
 * so, to be gone on with. */
void pqi_ask_write_pins(char *to, size_t size, const struct pqi_options *o);
/* One with a proof has failed: behind the pooler is another server than the connection's first answers
 * came from, or that one after a restart. Nothing behind it in its segment ran. */
bool pqi_ask_moved(const struct pqi_answer *a);

/* What its session holds that a statement may have left there, as one number: settings, locks,
 * temporary objects, channels, prepared statements. Then, when it is IDLE: the number; "" when it
 * was not told. Where PQI_LOOK_AT_SESSIONS it is asked for with the pins, too. */
void pqi_ask_look(struct pqi_conn *c);
const char *pqi_ask_looked(const struct pqi_conn *c);

/* Reads the answers to either (the connection is IDLE), and keeps with the connection what holds for
 * its whole life. false: `why` tells what was wrong. */
bool pqi_ask_read(struct pqi_conn *c, struct pqi_sighting *out, char *why, size_t why_size);

/* What stands around a write. The id of its transaction, told before it runs: where the connection is
 * lost, the server can be asked what became of it. */
struct pqi_stmt pqi_ask_id(void);
/* The same inside a transaction block, behind a statement of it: it has one once it has written. */
struct pqi_stmt pqi_ask_id_so_far(void);
/* false: it was not told, or it has none. */
bool pqi_ask_read_id(const struct pqi_answer *a, uint64_t *id);

/* Asks what became of it. `sql` gets the text, which must live as long as the statement. */
void pqi_ask_fate(struct pqi_stmt *out, char *sql, size_t size, uint64_t id);
enum pqi_xact pqi_ask_read_fate(const struct pqi_answer *a);

/* Behind a commit: a position at or past it. false: it was not told. */
struct pqi_stmt pqi_ask_position(void);
bool pqi_ask_read_position(const struct pqi_conn *c, const struct pqi_answer *a, uint64_t *lsn);

/* Behind reads, in their segment: how far the server is that answered them. */
struct pqi_position {
    bool replica;
    uint32_t timeline; /* of a replica; 0: no right to tell */
    uint64_t lsn;      /* nothing of what was read is beyond it */
    uint64_t replayed; /* a replica: up to there it had */
};
struct pqi_stmt pqi_ask_how_far(void);
bool pqi_ask_read_how_far(const struct pqi_answer *a, struct pqi_position *out);

/* Asks for the shard map with its pins, as of one moment. */
void pqi_ask_map(struct pqi_conn *c);
int pqi_ask_read_map(struct pqi_conn *c, struct pqi_map **out, pqr_error *err);

/* Makes the transaction read only to its end, wherever it runs: also on a replica that is promoted
 * meanwhile. Nothing inside can switch it off, since a snapshot was taken by then.
 * https://www.postgresql.org/docs/15/sql-set-transaction.html */
extern const char pqi_ask_read_only_sql[];

#endif
