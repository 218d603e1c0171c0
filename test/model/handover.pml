/* Who waits drives: the hand-over of one lane among the threads that wait for their calls on it.
 *
 * Each caller puts its call behind those of the others (the riders, in order) and waits. One of
 * them leads: it polls the connection for all, hands the answers out, and when its own call is
 * out or its time is over it wakes the first who still rides, who leads on. The others follow:
 * each sleeps on a waiter of its own. handover.sh has the model checked:
 *
 *   nobody waits for ever (no state without a next step but the end, and no circle of steps),
 *   at most one leads, each call ends once, and nobody touches a call's memory after it has left.
 *
 * WELL: the server answers all that reaches it, it drops the connection at most once, and whoever
 * opens connections always comes again. Here some callers are patient: no time-out wakes them, so
 * one lost wake-up is a caller that never ends. Without WELL the server may stop answering and the
 * opener may not come, so each caller has a time-out.
 *
 * LOOKS: who waits looks now and then, takes what has arrived and the leader has not, and the lead from
 * it. A leader that is deposed finds that when it has the lock again, and follows. STALLS: a leader may
 * never go on (a fiber that is not let, a thread that was stopped); the others end all the same.
 *
 * What happens under the lane's lock is one atomic step here: nothing that it guards is touched
 * anywhere else, except where a BUG_… does so. Each BUG_… is a mistake that must be found. */

#ifndef CALLERS
#define CALLERS 3
#endif
#ifndef CALLS
#define CALLS 2 /* of each caller, one after the other, in the same memory */
#endif
#ifndef DEPTH
#define DEPTH 2 /* segments in flight at most */
#endif
#define BIT(i) (1 << (i))
#ifdef STALLS
#define LOOKS
#endif

/* The calls' memory: each caller's own, for as long as its call lives. */
bool alive[CALLERS];
bool out[CALLERS];  /* answered or lost */
bool wake[CALLERS]; /* its waiter's flag; what wakes it too often does no harm */

/* The lane, under its lock. */
bool is_open, led;
byte riders[CALLERS], nriders;
byte pending;         /* calls that are not sent yet, a bit each */
byte segments[DEPTH]; /* the calls in each segment that was sent and is not taken yet */
byte nsegments;
bool unflushed; /* not all was taken by the socket */

/* What the leader polls beside its time-out. */
bool kick;
byte answered; /* segments whose answers have arrived */
bool dropped;  /* end-of-file */

/* For the properties; and callers are alike, so that their first calls come in their order. */
byte leaders, begun, ended;

#ifdef LOOKS
byte leader;            /* who leads, if anybody does */
bool deposed[CALLERS];  /* it led, and does not know yet that it does no more */
#endif
#ifdef STALLS
byte missing; /* calls that will never end, since their caller does not go on */
#define SOMEBODY_STALLS (missing > 0)
#endif

/* ---- Under the lock ------------------------------------------------------------------------- */

inline touch(whom)
{
    assert(alive[whom])
}

inline wake_first()
{
    if
    :: nriders > 0 ->
        touch(riders[0]);
        wake[riders[0]] = true
    :: else
    fi
}

inline remove(whom)
{
    i = 0;
    do
    :: riders[i] == whom -> break
    :: else -> i++; assert(i < nriders)
    od;
    nriders--;
    do
    :: i < nriders -> riders[i] = riders[i + 1]; i++
    :: else -> break
    od;
    riders[nriders] = 0;
    i = 0
}

/* Its time is over: its answers will be nobody's. */
inline abandon(whom)
{
    d_step {
        remove(whom);
        pending = pending & ~BIT(whom);
#ifndef BUG_MARKS_STAY
        do
        :: i < nsegments -> segments[i] = segments[i] & ~BIT(whom); i++
        :: else -> break
        od;
        i = 0
#endif
    }
}

/* Sends what is pending as one segment. The socket may not take all of it. */
inline pump()
{
    if
    :: is_open && pending != 0 && nsegments < DEPTH ->
        segments[nsegments] = pending;
        nsegments++;
        pending = 0;
        if
        :: unflushed = true
        :: skip
        fi
    :: else
    fi
}

inline put_out(whom)
{
    touch(whom);
    assert(!out[whom]);
    out[whom] = true;
    remove(whom);
#if defined(BUG_NOBODY_WOKEN)
    skip
#elif defined(BUG_WAKES_UNLOCKED)
    if
    :: whom != me -> to_wake = to_wake | BIT(whom)
    :: else
    fi
#else
    wake[whom] = true
#endif
}

/* Hands out what has arrived, first come first. */
inline take_answers()
{
    do
    :: answered > 0 ->
        rest = segments[0];
        j = 0;
        do
        :: j < CALLERS && (rest & BIT(j)) -> put_out(j); j++
        :: j < CALLERS && !(rest & BIT(j)) -> j++
        :: else -> break
        od;
        nsegments--;
        answered--;
        j = 0;
        do
        :: j < nsegments -> segments[j] = segments[j + 1]; j++
        :: else -> break
        od;
        segments[nsegments] = 0
    :: else -> break
    od;
    j = 0;
    rest = 0
}

/* All who ride are lost. The next connection is the opener's work. */
inline lose_connection()
{
    is_open = false;
    dropped = false;
    unflushed = false;
    pending = 0;
    do
    :: nsegments > 0 -> nsegments--; segments[nsegments] = 0
    :: else -> break
    od;
    do
    :: nriders > 0 -> j = riders[0]; put_out(j)
    :: else -> break
    od;
    j = 0
}

inline begin_to_lead()
{
    led = true;
    leaders++;
    assert(leaders == 1);
    assert(is_open);
#ifdef LOOKS
    leader = me;
#endif
    pump();
    wants_out = unflushed
}

inline end_to_lead()
{
    led = false;
    leaders--;
#ifndef BUG_LEADER_LEAVES_SILENTLY
    wake_first()
#endif
}

inline leave()
{
    assert(alive[me]);
    alive[me] = false;
    out[me] = false;
    ended++;
    patient = false;
    late = false;
    wants_out = false
}

/* ---- Callers -------------------------------------------------------------------------------- */

proctype caller(byte me)
{
    bool patient, late, wants_out;
    byte calls, i, j, rest;
#ifdef BUG_WAKES_UNLOCKED
    byte to_wake;
#endif

next_call:
    atomic {
        if
        :: calls == CALLS -> goto no_more
        :: calls == 0 && begun == me -> begun++
        :: calls > 0 && calls < CALLS
        fi;
        calls++;
#ifdef WELL
        if
        :: patient = true
        :: patient = false
        fi;
#endif
        /* No answer of an earlier call may find this one in the same memory. */
        assert(!alive[me] && !(pending & BIT(me)));
        do
        :: i < nsegments -> assert(!(segments[i] & BIT(me))); i++
        :: else -> break
        od;
        i = 0;
        alive[me] = true;

        /* locked */
        riders[nriders] = me;
        nriders++;
        pending = pending | BIT(me);
        if
        :: !led && is_open -> begin_to_lead(); goto lead
        :: else
        fi;
        if
        :: led ->
            pump();
#ifndef BUG_NO_KICK
            kick = kick || unflushed
#endif
        :: else
        fi
    }

follow:
    atomic { /* sleeps */
        if
        :: wake[me] -> wake[me] = false
        :: !patient -> late = true
#if defined(LOOKS) && !defined(BUG_NOBODY_LOOKS)
        :: led && is_open && unflushed -> unflushed = false; goto follow /* looks: locked */
        :: led && is_open && (answered > 0 || dropped) -> /* likewise */
            d_step {
                take_answers();
                if
                :: dropped -> lose_connection()
                :: else
                fi
            }
            unflushed = false;
            deposed[leader] = true;
            end_to_lead();
            pump();
            goto follow_on
#endif
#ifdef STALLS
        :: SOMEBODY_STALLS && !led && is_open /* likewise: whoever was woken does not come */
#endif
        fi
    }
follow_on:
    atomic { /* locked */
        if
        :: out[me] -> leave(); goto next_call
        :: !out[me] && late ->
            abandon(me);
#ifndef BUG_BATON_KEPT
            if
            :: !led -> wake_first()
            :: else
            fi;
#endif
            leave();
            goto next_call
#if defined(BUG_LEADS_BESIDE_ANOTHER)
        :: !out[me] && !late && is_open -> begin_to_lead(); goto lead
        :: !out[me] && !late && !is_open -> goto follow
#elif defined(BUG_LEADS_WITHOUT_CONNECTION)
        :: !out[me] && !late && !led -> begin_to_lead(); goto lead
        :: !out[me] && !late && led -> goto follow
#else
        :: !out[me] && !late && !led && is_open -> begin_to_lead(); goto lead
        :: !out[me] && !late && (led || !is_open) -> goto follow
#endif
        fi
    }

lead:
    atomic { /* polls */
        if
        :: answered > 0 || dropped || kick || wants_out
#ifdef LOOKS
        :: deposed[me] /* at its own next look, if nothing else comes */
#endif
#ifdef STALLS
        :: !SOMEBODY_STALLS -> missing = CALLS - calls + 1; goto stalled
#endif
#ifndef BUG_LEADER_NEVER_GIVES_UP
        :: !patient -> late = true
#endif
        fi
    }
    atomic { /* locked */
#if defined(LOOKS) && !defined(BUG_DEPOSED_LEADS_ON)
        if
        :: deposed[me] -> deposed[me] = false; wants_out = false; goto follow_on
        :: else
        fi;
#endif
#ifndef BUG_KICK_STAYS
        kick = false;
#endif
        unflushed = false;
        d_step {
            take_answers();
            if
            :: dropped -> lose_connection()
            :: else
            fi
        }
        if
        :: out[me] || late ->
            if
            :: !out[me] -> abandon(me)
            :: else
            fi;
            end_to_lead();
#ifdef BUG_WAKES_UNLOCKED
            goto unlocked
#else
            leave();
            goto next_call
#endif
        :: else
        fi;
#ifndef BUG_SENDS_ONLY_AT_FIRST
        pump();
#endif
        wants_out = unflushed;
    }
    goto lead;

#ifdef BUG_WAKES_UNLOCKED
unlocked:
    do
    :: j < CALLERS && (to_wake & BIT(j)) -> atomic { touch(j); wake[j] = true; j++ }
    :: j < CALLERS && !(to_wake & BIT(j)) -> j++
    :: else -> break
    od;
    atomic {
        j = 0;
        to_wake = 0;
        leave();
        goto next_call
    }
#endif

#ifdef STALLS
stalled:
    ended + missing == CALLERS * CALLS;
#endif

no_more:
    skip
}

/* ---- The others ------------------------------------------------------------------------------ */

proctype server()
{
    bool has_dropped;
end_of_server:
    do
    :: atomic { is_open && !dropped && !unflushed && nsegments > answered -> answered++ }
    :: atomic { is_open && !dropped && !has_dropped -> dropped = true; has_dropped = true }
#ifndef WELL
    :: break
#endif
    od
}

proctype opener()
{
    byte times;
end_of_opener:
    do
    :: atomic { /* locked */
        !is_open && times < 2 ->
        times++;
        is_open = true;
#ifndef BUG_OPENER_IS_SILENT
        assert(!led);
        wake_first()
#endif
    }
#ifndef WELL
    :: break
#endif
    od
}

init
{
    byte n;
    atomic {
        do
        :: n < CALLERS -> run caller(n); n++
        :: else -> break
        od;
        run server();
        run opener()
    }
#ifdef STALLS
    ended + missing == CALLERS * CALLS
#else
    ended == CALLERS * CALLS
#endif
}
