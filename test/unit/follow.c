/* Who is primary: every shard of up to three nodes, compared with the rule written out plainly. */
#include "../../lib/plan/follow.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define UP PQR_NODE_UP
#define SUSPECT PQR_NODE_SUSPECT
#define DOWN PQR_NODE_DOWN
#define PRIMARY PQR_ROLE_PRIMARY
#define REPLICA PQR_ROLE_REPLICA
#define IS PQI_PRIMARY_IS
#define NONE PQI_PRIMARY_NONE
#define DOUBT PQI_PRIMARY_DOUBT

/* A shard as pqi_follow is asked about it. */
struct shard {
    struct pqi_report node[5];
    int n, known;
    uint32_t timeline;
    uint64_t system_id;
};

static struct pqi_follow ask(const struct shard *s)
{
    return pqi_follow(s->node, s->n, s->known, s->timeline, s->system_id);
}

static void expect(const struct shard *s, enum pqi_verdict_of_follow verdict, int node, int rival)
{
    struct pqi_follow f = ask(s);
    if (f.verdict != verdict || f.node != node || f.rival != rival)
        fail_msg("verdict %d of node %d, rival %d; not %d of %d, rival %d", f.verdict, f.node,
                 f.rival, verdict, node, rival);
}

/* ---- Stories --------------------------------------------------------------------------------- */

static void a_shard_without_nodes_has_no_primary(void **state)
{
    (void)state;
    expect(&(struct shard){.known = -1}, NONE, -1, -1);
}

static void the_only_server_out_of_recovery_is_the_primary(void **state)
{
    (void)state;
    struct shard s = {
        {{UP, REPLICA, false, 1, 7, 0, 0, false}, {UP, PRIMARY, false, 1, 7, 0, 0, false}},
        2,
        -1,
        0,
        0};
    expect(&s, IS, 1, -1);
}

static void a_primary_that_is_silent_once_stays(void **state)
{
    (void)state;
    struct shard s = {
        {{SUSPECT, PRIMARY, false, 1, 7, 0, 0, false}, {UP, REPLICA, false, 1, 7, 0, 0, false}},
        2,
        0,
        1,
        7};
    expect(&s, IS, 0, -1);
}

static void while_the_primary_is_down_there_is_none(void **state)
{
    (void)state;
    struct shard s = {
        {{DOWN, PRIMARY, false, 1, 7, 0, 0, false}, {UP, REPLICA, false, 1, 7, 0, 0, false}},
        2,
        0,
        1,
        7};
    expect(&s, NONE, -1, -1);
}

static void a_promoted_standby_is_followed_once_the_old_primary_is_down(void **state)
{
    (void)state;
    struct shard s = {
        {{DOWN, PRIMARY, false, 1, 7, 0, 0, false}, {UP, PRIMARY, false, 2, 7, 0, 0, false}},
        2,
        0,
        1,
        7};
    expect(&s, IS, 1, -1);
}

static void a_standby_promoted_beside_a_living_primary_is_doubt(void **state)
{
    (void)state;
    struct shard s = {
        {{UP, PRIMARY, false, 1, 7, 0, 0, false}, {UP, PRIMARY, false, 2, 7, 0, 0, false}},
        2,
        0,
        1,
        7};
    expect(&s, DOUBT, 1, 0);
}

static void a_clone_restored_beside_a_living_primary_is_doubt(void **state)
{
    (void)state;
    struct shard s = {
        {{UP, PRIMARY, false, 1, 7, 0, 0, false}, {UP, PRIMARY, false, 1, 7, 0, 0, false}},
        2,
        1,
        1,
        7};
    expect(&s, DOUBT, 0, 1);
    s.known = 0;
    expect(&s, DOUBT, 0, 1);
}

static void doubt_ends_when_one_of_the_two_is_read_only(void **state)
{
    (void)state;
    struct shard s = {
        {{UP, PRIMARY, true, 1, 7, 0, 0, false}, {UP, PRIMARY, false, 2, 7, 0, 0, false}},
        2,
        0,
        1,
        7};
    expect(&s, IS, 1, -1); /* the operator chose the new one */
    s.node[0].read_only = false;
    s.node[1].read_only = true;
    expect(&s, IS, 0, -1); /* the old one */
    s.node[0].read_only = true;
    expect(&s, DOUBT, 1, 0); /* none yet */
}

static void a_primary_that_is_read_only_and_alone_stays(void **state)
{
    (void)state;
    struct shard s = {
        {{UP, PRIMARY, true, 1, 7, 0, 0, false}, {UP, REPLICA, true, 1, 7, 0, 0, false}},
        2,
        0,
        1,
        7};
    expect(&s, IS, 0, -1);
}

static void doubt_ends_when_one_of_the_two_is_gone(void **state)
{
    (void)state;
    struct shard s = {
        {{UP, PRIMARY, false, 1, 7, 0, 0, false}, {DOWN, PRIMARY, false, 2, 7, 0, 0, false}},
        2,
        0,
        1,
        7};
    expect(&s, IS, 0, -1);
}

static void an_old_primary_that_comes_back_alone_is_not_followed(void **state)
{
    (void)state;
    struct shard s = {
        {{UP, PRIMARY, false, 1, 7, 0, 0, false}, {DOWN, PRIMARY, false, 2, 7, 0, 0, false}},
        2,
        1,
        2,
        7};
    expect(&s, DOUBT, 0, -1);
}

/* An accidental promotion was followed, as the primary was out of reach; then it was undone. */
static void an_older_line_is_followed_again_once_the_newer_ones_primary_is_its_standby(void **state)
{
    (void)state;
    struct shard s = {{{UP, PRIMARY, false, 1, 7, 10, 0, false},
                       {UP, REPLICA, false, 1, 7, 20, 1, false},
                       {UP, REPLICA, false, 1, 7, 30, 1, false}},
                      3,
                      1,
                      2,
                      7};
    expect(&s, IS, 0, -1);
    s.node[1].state = DOWN; /* it may come back as the newer line's primary */
    expect(&s, DOUBT, 0, -1);
    s.node[1].state = UP;
    s.node[1].follows = 0; /* it waits for somebody to follow */
    expect(&s, DOUBT, 0, -1);
    s.node[1].follows = 2;
    expect(&s, DOUBT, 0, -1);
    s.node[1].follows = 1;
    s.node[2].follows = 0; /* one of two is no majority */
    expect(&s, DOUBT, 0, -1);
}

static void an_old_primary_that_comes_back_beside_the_one_promoted_since_is_no_rival(void **state)
{
    (void)state;
    struct shard s = {
        {{UP, PRIMARY, false, 1, 7, 0, 0, false}, {UP, PRIMARY, false, 2, 7, 0, 0, false}},
        2,
        1,
        2,
        7};
    expect(&s, IS, 1, -1);
    s.node[2] = (struct pqi_report){UP, PRIMARY, false, 2, 7, 0, 0, false}; /* but this one is */
    s.n = 3;
    expect(&s, DOUBT, 1, 2);
}

static void a_server_of_another_system_is_no_claimant(void **state)
{
    (void)state;
    struct shard s = {
        {{UP, PRIMARY, false, 9, 8, 0, 0, false}, {UP, PRIMARY, false, 1, 7, 0, 0, false}},
        2,
        1,
        1,
        7};
    expect(&s, IS, 1, -1);
    s.node[1].state = DOWN;
    expect(&s, NONE, -1, -1);
}

static void of_two_strangers_the_one_promoted_later_is_followed(void **state)
{
    (void)state;
    struct shard s = {
        {{UP, PRIMARY, false, 2, 7, 0, 0, false}, {UP, PRIMARY, false, 3, 7, 0, 0, false}},
        2,
        -1,
        0,
        7};
    expect(&s, IS, 1, -1);
    s.node[0].timeline = 3;
    expect(&s, DOUBT, 0, 1);
}

static void two_strangers_of_one_timeline_are_doubt_wherever_a_third_stands(void **state)
{
    (void)state;
    for (int third = 0; third < 3; third++) {
        struct shard s = {.n = 3, .known = -1, .system_id = 7};
        for (int i = 0; i < 3; i++)
            s.node[i] = (struct pqi_report){UP, PRIMARY, false, i == third ? 1 : 2, 7, 0, 0, false};
        expect(&s, DOUBT, third == 0 ? 1 : 0, third == 2 ? 1 : 2);
    }
}

static void one_server_under_two_addresses_is_one_claimant_by_the_first(void **state)
{
    (void)state;
    struct shard s = {{{UP, PRIMARY, false, 1, 7, 99, 0, false},
                       {UP, REPLICA, false, 1, 7, 50, 0, false},
                       {UP, PRIMARY, false, 1, 7, 99, 0, false}},
                      3,
                      -1,
                      0,
                      0};
    for (s.known = -1; s.known < 3; s.known++)
        expect(&s, IS, 0, -1);
    s.node[2].started_us = 98; /* another one after all */
    s.known = 0;
    expect(&s, DOUBT, 0, 2);
}

static void the_known_primary_lives_while_any_of_its_addresses_does(void **state)
{
    (void)state;
    struct shard s = {.n = 3, .known = 1, .timeline = 1, .system_id = 7};
    s.node[0] = (struct pqi_report){UP, PRIMARY, false, 1, 7, 99, 0, false};
    s.node[1] = (struct pqi_report){DOWN, PRIMARY, false, 1, 7, 99, 0, false};
    s.node[2] = (struct pqi_report){UP, PRIMARY, false, 2, 7, 50, 0, false};
    expect(&s, DOUBT, 2, 0);
    s.node[2].timeline = 1;
    expect(&s, DOUBT, 0, 2);
    s.node[2].state = DOWN;
    expect(&s, IS, 0, -1);
}

/* It was made to take writes again, and only one address has been asked since. */
static void of_two_addresses_the_one_with_the_better_news_counts(void **state)
{
    (void)state;
    struct shard s = {.n = 2, .known = 0, .timeline = 1, .system_id = 7};
    s.node[0] = (struct pqi_report){UP, PRIMARY, true, 1, 7, 99, 0, false};
    s.node[1] = (struct pqi_report){UP, PRIMARY, false, 1, 7, 99, 0, false};
    expect(&s, IS, 1, -1);
}

static struct shard two_claimants_and_standbys(uint32_t first, uint32_t second, uint32_t third)
{
    const uint32_t follows[] = {first, second, third};
    struct shard s = {.n = 5, .known = 0, .timeline = 1, .system_id = 7};
    s.node[0] = (struct pqi_report){UP, PRIMARY, false, 1, 7, 10, 0, false};
    s.node[1] = (struct pqi_report){UP, PRIMARY, false, 2, 7, 11, 0, false};
    for (int i = 2; i < 5; i++)
        s.node[i] = (struct pqi_report){UP, REPLICA, true, 1, 7, 10 + i, follows[i - 2], false};
    return s;
}

/* It may merely be slow to answer. */
static void a_known_primary_that_fell_silent_just_now_still_stands_beside_one_promoted(void **state)
{
    (void)state;
    struct shard s = two_claimants_and_standbys(1, 1, 1);
    s.node[0].state = DOWN;
    expect(&s, IS, 1, -1);
    s.node[0].lingers = true;
    expect(&s, DOUBT, 1, 0);
    s.node[2].follows = s.node[3].follows = 2; /* but the standbys have gone over */
    expect(&s, IS, 1, -1);
    s.node[1].state = DOWN; /* alone it is no primary that one could write to */
    expect(&s, NONE, -1, -1);
    s = two_claimants_and_standbys(1, 1, 1);
    s.known = 1; /* who is not the known primary does not linger */
    s.timeline = 2;
    s.node[0].state = DOWN;
    s.node[0].lingers = true;
    expect(&s, IS, 1, -1);
}

/* An old primary that nobody told of the failover lives beside the new one, or one was promoted by
 * accident: those that follow tell which it is. */
static void doubt_ends_when_most_standbys_follow_the_one_promoted_later(void **state)
{
    (void)state;
    for (int followers = 0; followers <= 3; followers++) {
        struct shard s = two_claimants_and_standbys(followers > 0 ? 2 : 1, followers > 1 ? 2 : 1,
                                                    followers > 2 ? 2 : 1);
        if (followers >= 2)
            expect(&s, IS, 1, -1);
        else
            expect(&s, DOUBT, 1, 0);
    }
}

static void standbys_that_still_receive_the_old_line_prove_nothing_for_it(void **state)
{
    (void)state;
    struct shard s = two_claimants_and_standbys(1, 1, 1);
    expect(&s, DOUBT, 1, 0);
}

static void a_standby_that_is_away_or_cannot_tell_counts_as_not_following(void **state)
{
    (void)state;
    static const struct pqi_report away[] = {
        {DOWN, REPLICA, true, 2, 7, 20, 2, false},
        {SUSPECT, REPLICA, true, 2, 7, 20, 2, false},
        {DOWN, PQR_ROLE_UNKNOWN, false, 0, 0, 0, 0, false},
        {UP, REPLICA, true, 2, 7, 20, 0, false},
        {UP, REPLICA, true, 2, 7, 20, 1, false},
    };
    for (size_t i = 0; i < sizeof away / sizeof *away; i++) {
        struct shard s = two_claimants_and_standbys(2, 2, 2);
        s.node[3] = away[i];
        expect(&s, IS, 1, -1); /* two of three */
        s.node[4] = away[i];
        s.node[4].started_us = 21;
        expect(&s, DOUBT, 1, 0);
    }
}

static void a_standby_counts_once_and_only_if_it_is_of_the_shard(void **state)
{
    (void)state;
    struct shard s = two_claimants_and_standbys(2, 1, 2);
    s.node[4].started_us = s.node[2].started_us; /* one and the same under two addresses: 1 of 2 */
    expect(&s, DOUBT, 1, 0);
    s = two_claimants_and_standbys(2, 1, 1);
    s.node[3].system_id = s.node[4].system_id = 8; /* strangers: 1 of 1 */
    expect(&s, IS, 1, -1);
    s = two_claimants_and_standbys(1, 2, 2);
    s.node[3].system_id = s.node[4].system_id = 8; /* 0 of 1 */
    expect(&s, DOUBT, 1, 0);
}

static void standbys_decide_nothing_between_two_of_one_line(void **state)
{
    (void)state;
    struct shard s = two_claimants_and_standbys(2, 2, 2);
    s.node[0].timeline = s.timeline = 2;
    expect(&s, DOUBT, 0, 1);
}

/* A process that starts in the middle of it. */
static void strangers_are_doubt_while_most_standbys_follow_the_older_one(void **state)
{
    (void)state;
    for (int followers = 0; followers <= 3; followers++) {
        struct shard s = two_claimants_and_standbys(followers > 0 ? 1 : 2, followers > 1 ? 1 : 2,
                                                    followers > 2 ? 1 : 2);
        s.known = -1;
        s.timeline = 0;
        s.system_id = 0;
        if (followers >= 2)
            expect(&s, DOUBT, 1, 0);
        else
            expect(&s, IS, 1, -1);
        s.node[3].state = PQR_NODE_UNKNOWN; /* not looked at yet: who knows what it says */
        expect(&s, NONE, -1, -1);
        s.known = 1;
        expect(&s, IS, 1, -1);
    }
}

static void the_system_is_clear_while_all_tell_the_same(void **state)
{
    (void)state;
    struct shard s = two_claimants_and_standbys(1, 1, 1);
    assert_int_equal(pqi_follow_system(s.node, 5), 7);
    s.node[2].system_id = 0; /* has not told yet */
    assert_int_equal(pqi_follow_system(s.node, 5), 7);
    s.node[4].system_id = 8;
    assert_int_equal(pqi_follow_system(s.node, 5), 0);
    assert_int_equal(pqi_follow_system(s.node, 0), 0);
}

/* ---- The rule -------------------------------------------------------------------------------- */

static bool one_server(const struct shard *s, int a, int b)
{
    return a == b ||
           (s->node[a].started_us != 0 && s->node[a].started_us == s->node[b].started_us &&
            s->node[a].system_id == s->node[b].system_id);
}

/* Of these servers there is talk: they live, are out of recovery and of the shard's system; if any
 * of them takes writes, only those that do; and each by one address. */
static int claimants(const struct shard *s, bool claims[3])
{
    int n = 0, writable = 0;
    for (int i = 0; i < s->n; i++) {
        bool lives = s->node[i].state == UP || s->node[i].state == SUSPECT;
        bool ours = s->system_id == 0 || s->node[i].system_id == s->system_id;
        claims[i] = lives && ours && s->node[i].role == PRIMARY;
        writable += claims[i] && !s->node[i].read_only;
    }
    for (int i = 0; i < s->n; i++) {
        claims[i] = claims[i] && (writable == 0 || !s->node[i].read_only);
        for (int before = 0; before < i; before++)
            claims[i] = claims[i] && !(claims[before] && one_server(s, i, before));
        n += claims[i];
    }
    return n;
}

/* Says what is wrong with an answer; NULL: nothing. */
static const char *wrong(const struct shard *s, struct pqi_follow f)
{
    bool claims[3] = {false, false, false};
    int n = claimants(s, claims), at_top = 0;
    uint32_t top = 0;
    for (int i = 0; i < s->n; i++)
        if (claims[i] && s->node[i].timeline > top)
            top = s->node[i].timeline;
    for (int i = 0; i < s->n; i++)
        at_top += claims[i] && s->node[i].timeline == top;
    int known = -1; /* where the known primary lives, if it does */
    for (int i = 0; i < s->n && s->known >= 0; i++)
        known = claims[i] && one_server(s, i, s->known) ? i : known;

    bool unseen = false;
    for (int i = 0; i < s->n; i++)
        unseen |= s->node[i].state == PQR_NODE_UNKNOWN;
    if (s->known < 0 && unseen)
        return f.verdict == NONE && f.node == -1 && f.rival == -1 ? NULL : "one was not looked at";
    if (n == 0)
        return f.verdict == NONE && f.node == -1 && f.rival == -1 ? NULL : "nobody claims it";
    if (f.verdict == NONE)
        return "somebody claims it";
    if (f.node < 0 || f.node >= s->n || !claims[f.node])
        return "that node does not claim it";
    if (s->node[f.node].timeline != top)
        return "another claimant was promoted later";
    if (top < s->timeline)
        return f.verdict == DOUBT && f.rival == -1 ? NULL : "all claimants are outdated";
    bool beside = known >= 0 && s->node[known].timeline < top;
    bool clear = n == 1 || (at_top == 1 && !beside);
    if (clear)
        return f.verdict == IS && f.rival == -1 ? NULL : "it is beyond doubt";
    if (f.verdict != DOUBT)
        return known >= 0 ? "the known primary lives and has a rival" : "they cannot be told apart";
    if (f.rival < 0 || f.rival >= s->n || f.rival == f.node || !claims[f.rival])
        return "that is no rival";
    if (known >= 0 ? known != f.node && known != f.rival : s->node[f.rival].timeline != top)
        return "that is not the rival";
    return NULL;
}

/* What must hold whatever the rule is. */
static const char *unsafe(const struct shard *s, struct pqi_follow f)
{
    if (f.verdict != IS)
        return NULL;
    const struct pqi_report *chosen = &s->node[f.node];
    if (chosen->state == DOWN || chosen->state == PQR_NODE_UNKNOWN)
        return "it does not live";
    if (chosen->role != PRIMARY)
        return "it is in recovery";
    if (chosen->timeline < s->timeline)
        return "its timeline is older than one that was seen";
    if (s->system_id != 0 && chosen->system_id != s->system_id)
        return "it is of another system";
    for (int i = 0; i < s->n; i++) {
        const struct pqi_report *other = &s->node[i];
        bool claims = (other->state == UP || other->state == SUSPECT) && other->role == PRIMARY &&
                      (s->system_id == 0 || other->system_id == s->system_id) &&
                      (!other->read_only || chosen->read_only) && !one_server(s, i, f.node);
        if (claims && i == s->known)
            return "the known primary lives beside it";
        if (claims && other->timeline >= chosen->timeline)
            return "another server claims it that was promoted as late";
    }
    return NULL;
}

static void complain(const struct shard *s, struct pqi_follow f, const char *what)
{
    char nodes[400] = "";
    for (int i = 0, at = 0; i < s->n; i++)
        at += snprintf(nodes + at, sizeof nodes - (size_t)at,
                       " (state %d, role %d, read-only %d, timeline %u, system %" PRIu64
                       ", started %" PRId64 ")",
                       s->node[i].state, s->node[i].role, s->node[i].read_only, s->node[i].timeline,
                       s->node[i].system_id, s->node[i].started_us);
    fail_msg("known %d, timeline %u, system %" PRIu64
             ", nodes%s: verdict %d of node %d, rival %d: %s",
             s->known, s->timeline, s->system_id, nodes, f.verdict, f.node, f.rival, what);
}

/* The i-th of all reports that differ; those that matter most come first. */
enum { REPORTS = 12 * 16, REPORTS_OF_THREE = 4 * 16 };

static struct pqi_report report(int i)
{
    static const struct {
        enum pqr_node_state state;
        enum pqr_role role;
    } nodes[] = {
        {UP, PRIMARY},
        {SUSPECT, PRIMARY},
        {DOWN, PRIMARY},
        {UP, REPLICA},
        {SUSPECT, REPLICA},
        {DOWN, REPLICA},
        {PQR_NODE_UNKNOWN, PRIMARY},
        {PQR_NODE_UNKNOWN, REPLICA},
        {PQR_NODE_UNKNOWN, PQR_ROLE_UNKNOWN},
        {UP, PQR_ROLE_UNKNOWN},
        {SUSPECT, PQR_ROLE_UNKNOWN},
        {DOWN, PQR_ROLE_UNKNOWN},
    };
    return (struct pqi_report){.state = nodes[i / 16].state,
                               .role = nodes[i / 16].role,
                               .read_only = i % 2,
                               .timeline = 1 + (uint32_t)(i / 2 % 2),
                               .system_id = 7 + (uint64_t)(i / 4 % 2),
                               .started_us = i / 8 % 2 ? 99 : 0};
}

/* A primary's timeline does not change while it runs. */
static bool possible(const struct shard *s)
{
    for (int a = 0; a < s->n; a++)
        for (int b = 0; b < a; b++)
            if (one_server(s, a, b) && s->node[a].role == PRIMARY && s->node[b].role == PRIMARY &&
                s->node[a].timeline != s->node[b].timeline)
                return false;
    return true;
}

/* Every primary known before, timeline and system seen before. Returns how many had one beyond
 * doubt. */
static int check_memories(struct shard *s)
{
    int found = 0;
    if (!possible(s))
        return 0;
    for (s->known = -1; s->known < s->n; s->known++)
        for (s->timeline = 0; s->timeline <= 2; s->timeline++)
            for (s->system_id = 0; s->system_id <= 7; s->system_id += 7) {
                struct pqi_follow f = ask(s);
                const char *what = wrong(s, f);
                what = what ? what : unsafe(s, f);
                if (what)
                    complain(s, f, what);
                found += f.verdict == IS;
            }
    return found;
}

static void every_shard_of_up_to_two_nodes_is_judged_by_the_rule(void **state)
{
    (void)state;
    struct shard s = {0};
    assert_int_equal(check_memories(&s), 0);
    int found = 0;
    for (int a = 0; a < REPORTS; a++) {
        s.node[0] = report(a);
        s.n = 1;
        found += check_memories(&s);
        for (int b = 0; b < REPORTS; b++) {
            s.node[1] = report(b);
            s.n = 2;
            found += check_memories(&s);
        }
    }
    assert_true(found > 10000);
}

static void every_shard_of_three_nodes_is_judged_by_the_rule(void **state)
{
    (void)state;
    struct shard s = {.n = 3};
    int found = 0;
    for (int a = 0; a < REPORTS_OF_THREE; a++)
        for (int b = 0; b < REPORTS_OF_THREE; b++)
            for (int c = 0; c < REPORTS_OF_THREE; c++) {
                s.node[0] = report(a);
                s.node[1] = report(b);
                s.node[2] = report(c);
                found += check_memories(&s);
            }
    assert_true(found > 100000);
}

static void a_primary_that_was_found_is_found_again(void **state)
{
    (void)state;
    struct shard s = {.n = 2, .known = -1};
    for (int a = 0; a < REPORTS; a++)
        for (int b = 0; b < REPORTS; b++) {
            s.node[0] = report(a);
            s.node[1] = report(b);
            s.known = -1;
            s.timeline = 0;
            s.system_id = 0;
            struct pqi_follow f = ask(&s);
            if (f.verdict != IS)
                continue;
            s.known = f.node;
            s.timeline = s.node[f.node].timeline;
            s.system_id = s.node[f.node].system_id;
            struct pqi_follow again = ask(&s);
            bool rival = again.verdict == DOUBT && again.node == f.node;
            if (!rival && (again.verdict != IS || again.node != f.node))
                complain(&s, again, "it was another one before");
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shard_without_nodes_has_no_primary),
        cmocka_unit_test(the_only_server_out_of_recovery_is_the_primary),
        cmocka_unit_test(a_primary_that_is_silent_once_stays),
        cmocka_unit_test(while_the_primary_is_down_there_is_none),
        cmocka_unit_test(a_promoted_standby_is_followed_once_the_old_primary_is_down),
        cmocka_unit_test(a_standby_promoted_beside_a_living_primary_is_doubt),
        cmocka_unit_test(a_clone_restored_beside_a_living_primary_is_doubt),
        cmocka_unit_test(doubt_ends_when_one_of_the_two_is_read_only),
        cmocka_unit_test(a_primary_that_is_read_only_and_alone_stays),
        cmocka_unit_test(doubt_ends_when_one_of_the_two_is_gone),
        cmocka_unit_test(an_old_primary_that_comes_back_alone_is_not_followed),
        cmocka_unit_test(
            an_older_line_is_followed_again_once_the_newer_ones_primary_is_its_standby),
        cmocka_unit_test(an_old_primary_that_comes_back_beside_the_one_promoted_since_is_no_rival),
        cmocka_unit_test(a_server_of_another_system_is_no_claimant),
        cmocka_unit_test(of_two_strangers_the_one_promoted_later_is_followed),
        cmocka_unit_test(two_strangers_of_one_timeline_are_doubt_wherever_a_third_stands),
        cmocka_unit_test(one_server_under_two_addresses_is_one_claimant_by_the_first),
        cmocka_unit_test(the_known_primary_lives_while_any_of_its_addresses_does),
        cmocka_unit_test(of_two_addresses_the_one_with_the_better_news_counts),
        cmocka_unit_test(
            a_known_primary_that_fell_silent_just_now_still_stands_beside_one_promoted),
        cmocka_unit_test(doubt_ends_when_most_standbys_follow_the_one_promoted_later),
        cmocka_unit_test(standbys_that_still_receive_the_old_line_prove_nothing_for_it),
        cmocka_unit_test(a_standby_that_is_away_or_cannot_tell_counts_as_not_following),
        cmocka_unit_test(a_standby_counts_once_and_only_if_it_is_of_the_shard),
        cmocka_unit_test(standbys_decide_nothing_between_two_of_one_line),
        cmocka_unit_test(strangers_are_doubt_while_most_standbys_follow_the_older_one),
        cmocka_unit_test(the_system_is_clear_while_all_tell_the_same),
        cmocka_unit_test(every_shard_of_up_to_two_nodes_is_judged_by_the_rule),
        cmocka_unit_test(every_shard_of_three_nodes_is_judged_by_the_rule),
        cmocka_unit_test(a_primary_that_was_found_is_found_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
