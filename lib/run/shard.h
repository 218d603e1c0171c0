/* A shard: what is known of its servers, and where a call goes. Knowledge comes in as sightings
 * and troubles, from the monitor and from calls alike; decisions are plan's. */
#ifndef PQI_SHARD_H
#define PQI_SHARD_H

#include "../plan/token.h"
#include "state.h"

/* What a call needs of a shard. */
struct pqi_errand {
    bool write;
    bool stamping;        /* the stamp is what it is about: not checked */
    struct pqi_need need; /* reads */
    bool deal_session;    /* reads: dealt by session, else call by call */
    int64_t read_ns;      /* when the session last read on need.stay; 0: it has not */
    uint64_t stay_generation;
    bool *
        falls_back; /* set where it has a place in the share of reads that fall back to the primary,
                          to be given back (pqi_shard_share_back); NULL: it only looks */
    uint64_t *generation; /* into which goes the node's, as it was when this was decided; NULL */
    int64_t
        looked_ns; /* rather than go to the primary, wait until every replica that may merely seem
                          to be behind was looked at since then; 0: do not */
    bool catching_up;  /* …or until one is not behind any more */
    const bool *tried; /* nodes where this call already failed; NULL: none */
};

enum pqi_placing {
    PQI_PLACE_GO,     /* *node */
    PQI_PLACE_WAIT,   /* nobody can serve it yet: wait for news, then ask again */
    PQI_PLACE_REFUSED /* waiting would not help: err says why */
};

/* Places an errand. WAIT also fills err: what to say when the caller's patience ends. */
enum pqi_placing pqi_shard_place(struct pqi_shard *s, const struct pqi_errand *e,
                                 struct pqi_node **node, pqr_error *err);

/* A place among those who are woken by news. */
struct pqi_hope {
    struct pqi_link link;
    struct pqi_waiter *waiter;
    bool for_share; /* a read: it may wait for a place in the primary's share */
};
void pqi_shard_hope(struct pqi_shard *s, struct pqi_hope *h);
void pqi_shard_unhope(struct pqi_shard *s, struct pqi_hope *h);
/* A read that fell back to the primary is over: those that wait for its place are woken. */
void pqi_shard_share_back(struct pqi_shard *s);
void pqi_shard_wake_all(struct pqi_shard *s);
/* When placing may succeed without news: the moment its first look ends. PQI_FOREVER: it has. */
int64_t pqi_shard_next_look(struct pqi_shard *s);

/* A node answered: `sent_ns` to `now_ns`. */
void pqi_shard_sighted(struct pqi_node *node, const struct pqi_sighting *seen, int64_t sent_ns,
                       int64_t now_ns);

/* A position that covers all that the primary had shown or acknowledged by `at_ns`. false: none was
 * told since. */
bool pqi_shard_covers(struct pqi_shard *s, int64_t at_ns, struct pqi_seen *out);

/* It leaves the monitor's question and all calls unanswered, for so long. */
void pqi_shard_quiet(struct pqi_node *node, int64_t ms);
/* Tenants may have come from elsewhere. */
void pqi_shard_map_changed(struct pqi_shard *s);

/* What can be said of a token that came at `at_ns`. */
void pqi_shard_reached(struct pqi_shard *s, int64_t at_ns, struct pqi_token_known *out);

/* A node told how far it is, behind a read on it, in that generation: what nobody who has read there
 * has seen more than. false: nobody knows on which line that is. */
bool pqi_shard_told(struct pqi_node *node, uint64_t generation, const struct pqi_position *p,
                    struct pqi_seen *out);

/* A node did not answer, or refused. */
void pqi_shard_troubled(struct pqi_node *node, const struct pqi_trouble *trouble);

/* Behind its pooler there is no server, though the connections to the pooler live on. */
bool pqi_shard_gone(struct pqi_node *node);

/* A node said that it does not take writes, or its role is otherwise not what is known: look
 * again at once. */
void pqi_shard_look_again(struct pqi_shard *s);

/* A node refused a write as read only (25006), or behind its pooler is another server: its connections
 * were made for another role. */
void pqi_shard_not_primary(struct pqi_node *node);

/* Is it the shard's primary? */
bool pqi_shard_primary_is(struct pqi_node *node);

/* Is the server behind a new connection the one that is known? Otherwise (a restart, also from a
 * crash of its backends alone; an address that moved) what is known of the node is not of it: the
 * monitor connects and looks anew. */
bool pqi_shard_recognises(struct pqi_node *node, const struct pqi_sighting *seen);

/* The monitor asks: must it connect anew? Answers once. */
bool pqi_shard_replaced(struct pqi_node *node);

/* May a new connection be used for this errand? (WRONG_SHARD, UNSTAMPED, MAP, or another system
 * behind the address.) */
int pqi_shard_admit(struct pqi_node *node, const struct pqi_sighting *seen, bool write,
                    pqr_error *err);

/* The needs of a read as the options set them. */
void pqi_shard_need(const struct pqi_shard *s, enum pqr_level level, struct pqi_need *need);

/* Fills the candidates of all nodes (cap at least s->n), under the shard's lock. */
void pqi_shard_candidates(struct pqi_shard *s, struct pqi_candidate *out, const bool *tried);

/* "shard1", "the control database". */
const char *pqi_shard_called(const struct pqi_shard *s);

#endif
