#!/usr/bin/env python3
"""checker.py FOLDER: looks at a run that was kept, and prints what it violates. Exit status 1: something.

One function for each rule. A rule takes what the run was and reports violations and counts; it
knows nothing of how faults are made. docs/chaos.md has the rules in words.
"""

import bisect
import collections
import hashlib
import os
import re
import sys
from dataclasses import dataclass, field

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from records import GRACE_NS, OPENING, load, value_fault

SLACK_MS = 100                  # that a call may end behind its deadline
SETTLE_NS = 1_500_000_000       # after a fault: a dead connection may be found only by its next use
BRANCHES = 5000                 # that are tried to explain what a read saw
READS_OF = {"list": ("list",), "batch": ("list", "reg", "counter"), "get": ("reg",),
            "star": ("reg",), "count": ("counter",), "total": ("total",)}
WRITES_OF = {"append": "list", "slow": "list", "cas": "reg", "add": "counter"}


@dataclass
class Report:
    violations: list = field(default_factory=list)          # (rule, text)
    counts: dict = field(default_factory=collections.Counter)

    def add(self, rule, text):
        self.violations.append((rule, text))


class Facts:
    """What several rules ask of a run."""

    def __init__(self, run):
        self.run = run
        self.by_id = {op.id: op for op in run.ops}
        self.uids = run.final.uids()
        self.shards = run.shard_of()
        self.lost = {op.id for op in run.ops
                     if op.ok and leaves_uid(op) and op.left not in self.uids}
        self.order = {key: [uid for _, uid, _ in rows] for key, rows in run.final.log.items()}
        self.absent = collections.defaultdict(list)     # place of a list → entries it has not
        for op in run.ops:
            if (op.kind in ("append", "slow") and op.label != "FAILED" and not op.repeats
                    and op.id not in self.uids):
                self.absent[op.tenant, op.key].append(op)
        self.chains = {key: {ver: uid for ver, uid in rows} for key, rows in run.final.past.items()}

    def shard(self, op):
        return self.shards.get(op.tenant)

    def promotions(self, op):
        return [p for p in self.run.promotions
                if self.shard(op) in (None, p["node"].partition("/")[0])]


def leaves_uid(op):
    """Does it leave a row with its id, if it happens? A cas that found another version does not,
    nor does one whose answer is lost say whether it did."""
    if op.kind == "cas":
        return not op.ok or op.number() is not None
    return op.writes and op.kind != "add"


# ---- Writes ----------------------------------------------------------------------------------

def acknowledged_writes_are_there(facts, report):
    """Without a synchronous standby a promotion may cost the newest ones, and only those."""
    present = sorted((op.call, op.end) for op in facts.run.ops
                     if op.ok and leaves_uid(op) and op.left in facts.uids)
    for op in facts.run.ops:
        if op.id not in facts.lost:
            continue
        why = excuse_for_loss(facts, op, present)
        if why:
            report.counts[why] += 1
        else:
            report.add("lost", f"{told(op)} was acknowledged and is not there")


def excuse_for_loss(facts, op, present):
    for p in facts.promotions(op):
        if p["node"] == op.node or op.call > p["until"] or p.get("accident"):
            continue
        if facts.run.sync and not p.get("loses"):
            continue
        # Commits are a line: who lost this one cannot have a later one of the same old primary.
        i = bisect.bisect_right(present, (op.end, 0))
        if not any(end < p["from"] for _, end in present[i:]):
            return "lost_async"
    return None


def failed_writes_are_not(facts, report):
    for when, tables in (("", facts.run.final), (" later", facts.run.later)):
        uids = tables.uids()
        for op in facts.run.ops:
            if op.writes and op.label == "FAILED" and not op.repeats and op.id in uids:
                report.add("false_failure", f"{told(op)} was called failed and is there{when}")


def nothing_happens_twice(facts, report):
    for when, tables in (("", facts.run.final), (" later", facts.run.later)):
        for uid, times in tables.uids().items():
            if times > 1:
                report.add("duplicate", f"{uid} is there {times:g} times{when}")
            elif uid not in facts.by_id:
                report.add("duplicate", f"{uid} is there, and nobody asked for it")
        counters_add_up(facts, tables.counter, report)


def counters_add_up(facts, counters, report):
    adds, ends = collections.defaultdict(collections.Counter), {}
    for op in facts.run.ops:
        if op.kind == "add":
            ends.setdefault((op.tenant, op.left), set()).add(op.label or "UNKNOWN")
    for (tenant, _), labels in ends.items():        # asked for twice, it happens once
        adds[tenant][min(labels, key=["OK", "UNKNOWN", "FAILED"].index)] += 1
    may_lose = any(not p.get("accident") for p in facts.run.promotions) and (
        not facts.run.sync or any(p.get("loses") for p in facts.run.promotions))
    for tenant, n in counters.items():
        least, most = adds[tenant]["OK"], adds[tenant]["OK"] + adds[tenant]["UNKNOWN"]
        if n > most:
            report.add("duplicate", f"the counter of {tenant} is {n}, and {most} were added at most")
        elif n < least and may_lose:
            report.counts["lost_async"] += least - n
        elif n < least:
            report.add("lost", f"the counter of {tenant} is {n}, and {least} were acknowledged")


def transactions_are_whole(facts, report):
    balance = collections.Counter()
    for uid, rows in facts.run.final.ledger.items():
        if len(rows) % 2 or sum(amount for _, _, amount in rows) != 0:
            report.add("atomic", f"{uid} left {len(rows)} entries in the ledger: {rows}")
        for tenant, key, amount in rows:
            balance[tenant, key] += amount
    for place, amount in facts.run.final.account.items():
        if amount != OPENING + balance[place]:
            report.add("atomic", f"account {place} has {amount}; its ledger makes it "
                       f"{OPENING + balance[place]}")
    keys = collections.Counter(tenant for tenant, _ in facts.run.final.account)
    for op in facts.run.ops:
        if op.kind == "total" and op.ok:
            whole = OPENING * keys[op.tenant]
            if (op.number(), op.got[0].get("c")) != (whole, keys[op.tenant]):
                report.add("atomic", f"{told(op)} saw half a transfer: {op.number()} for {whole}")


def lists_are_in_order(facts, report):
    """Numbers without a gap; who was acknowledged before another one began stands before it."""
    for place, rows in facts.run.final.log.items():
        seqs = [seq for seq, _, _ in rows]
        if seqs != list(range(1, len(seqs) + 1)) or facts.run.final.heads.get(place) != len(seqs):
            report.add("order", f"list {place} is numbered {brief(seqs)}, its head is "
                       f"{facts.run.final.heads.get(place)}")
        soonest = None
        for _, uid, _ in reversed(rows):
            op = facts.by_id.get(uid)
            if not op:
                continue
            if soonest is not None and op.call > soonest[0]:
                report.add("order", f"{uid} began after {soonest[1]} had ended and stands before it")
            if op.ok and (soonest is None or op.end < soonest[0]):
                soonest = (op.end, uid)
    for place, rows in facts.run.final.past.items():
        if [ver for ver, _ in rows] != list(range(1, len(rows) + 1)):
            report.add("order", f"register {place} had the versions {brief([v for v, _ in rows])}")


# ---- Reads -----------------------------------------------------------------------------------

@dataclass
class Seen:
    """What one read showed of one thing."""
    op: object
    what: tuple         # ("list", tenant, key), …
    n: int


def seen_by(op):
    for i, thing in enumerate(READS_OF.get(op.kind, ())):
        if thing == "total" or not op.ok or len(op.got) <= i or op.number(i) is None:
            continue
        yield Seen(op, what_of(thing, op), op.number(i))


def what_of(thing, op):
    return (thing, op.tenant) if thing == "counter" else (thing, op.tenant, op.key)


def sessions_read_their_writes(facts, report):
    for ops in sessions(facts):
        wrote = collections.defaultdict(list)       # what → [(end, n, op), …]
        for op in ops:
            if op.ok and op.kind in WRITES_OF and op.number() is not None:
                wrote[what_of(WRITES_OF[op.kind], op)].append((op.end, op.number(), op))
        for op in ops:
            if op.level == "any":
                continue
            for seen in seen_by(op):
                for end, n, write in wrote[seen.what]:
                    if end < op.call and seen.n < n:
                        stale_read(facts, report, "ryw", seen, n, write)


def sessions_never_go_back(facts, report):
    """Reads of level any may, and bind no later one; they are counted."""
    for ops in sessions(facts):
        past = collections.defaultdict(list)
        for op in ops:
            for seen in seen_by(op):
                for earlier in past[seen.what]:
                    if earlier.op.end < op.call and seen.n < earlier.n:
                        if "any" in (op.level, earlier.op.level):
                            report.counts["any_went_back"] += 1
                        else:
                            stale_read(facts, report, "monotonic", seen, earlier.n, earlier.op)
                past[seen.what].append(seen)


def stale_read(facts, report, rule, seen, n, than):
    """Older than the session had known: is that a loss that may be, or a long fork?"""
    missing = [facts.by_id.get(uid) for uid in entries(facts, seen.what, seen.n, n)]
    if rewound(facts, than, seen.op):
        report.counts["rewound_by_loss"] += 1
        return
    if rule == "monotonic" and missing and all(in_flight(op, seen.op.call) for op in missing):
        report.counts["long_fork"] += 1
        return
    report.add(rule, f"{told(seen.op)} at {seen.op.node} saw {seen.what} at {seen.n}, "
               f"older than {n} of {than.id} at {than.node}")


def entries(facts, what, after, upto):
    """The operations that made a list or register go from one state to the other."""
    if what[0] == "list":
        return facts.order.get(what[1:], [])[after:upto]
    if what[0] == "reg":
        chain = facts.chains.get(what[1:], {})
        return [chain.get(ver) for ver in range(after + 1, upto + 1)]
    return [None]


def in_flight(op, at):
    """Was it not yet acknowledged at that time? A standby may show it before the primary does."""
    return op is not None and (op.end is None or op.end > at or op.label == "UNKNOWN")


def rewound(facts, earlier, later):
    """Was there a promotion between the two that may have lost what the earlier one knew?"""
    return any(earlier.call < p["until"] and later.end > p["from"] and not p.get("accident")
               for p in facts.promotions(later) if not facts.run.sync or p.get("loses"))


def sessions(facts):
    found = collections.defaultdict(list)
    for op in facts.run.ops:
        if op.end is not None:
            found[op.session].append(op)
    for ops in found.values():
        ops.sort(key=lambda op: op.call)
    return found.values()


def reads_see_prefixes(facts, report):
    """Of the final list; or of one that ended with entries which a promotion has lost."""
    digests = {place: prefix_digests(uids) for place, uids in facts.order.items()}
    for op in facts.run.ops:
        if op.kind not in ("list", "batch") or not op.ok:
            continue
        n, digest = op.number(), op.got[0].get("h")
        whole = digests.get((op.tenant, op.key), prefix_digests([]))
        if n < len(whole) and whole[n] == digest:
            continue
        if saw_lost_branch(facts, op, n, digest):
            report.counts["reads_of_lost_branch"] += 1
        else:
            report.add("prefix", f"{told(op)} at {op.node} saw {n} entries that are not the "
                       f"first {n} of {len(whole) - 1}")
    for op in facts.run.ops:
        for i, thing in enumerate(READS_OF.get(op.kind, ())):
            if thing == "reg" and op.ok and len(op.got) > i:
                a_version_is_what_was_written(facts, op, op.got[i], report)


def prefix_digests(uids):
    """The digest of the first n, for each n."""
    md5, found = hashlib.md5(), [hashlib.md5().hexdigest()]
    for i, uid in enumerate(uids):
        md5.update((("," if i else "") + uid).encode())
        found.append(md5.copy().hexdigest())
    return found


def saw_lost_branch(facts, op, n, digest):
    """Is it the final list's beginning, and then entries that were asked for and are lost?"""
    lost = [w for w in facts.absent.get((op.tenant, op.key), ()) if w.call < op.end
            and any(w.call < p["until"] for p in facts.promotions(op))]
    final = facts.order.get((op.tenant, op.key), [])
    tries = 0
    for shared in range(min(n, len(final)), max(-1, n - len(lost) - 1), -1):
        branches = [final[:shared]]
        while branches and tries < BRANCHES:
            branch, tries = branches.pop(), tries + 1
            if len(branch) == n:
                if prefix_digests(branch)[-1] == digest:
                    return True
                continue
            branches += [branch + [w.id] for w in lost if w.id not in branch
                         and w.number() in (None, len(branch) + 1)]
    return False


def a_version_is_what_was_written(facts, op, got, report):
    ver, value = got.get("n"), got.get("v", "")
    if not ver:
        return
    uid = facts.chains.get((op.tenant, op.key), {}).get(ver)
    parts = value.split("|")
    if len(parts) == 5 and (parts[2], parts[3]) == (uid, str(ver)):
        return
    if facts.run.promotions and parts[2:3] and parts[2] not in facts.uids:
        report.counts["reads_of_lost_branch"] += 1
    else:
        report.add("prefix", f"{told(op)} at {op.node} saw version {ver} as {value!r}, and "
                   f"{uid} had written it")


def primaries_show_what_was_acknowledged(facts, report):
    """Reads of level primary: what any session was told before they began. Where a promotion is
    under way there may be two primaries, and the old one may answer; that is counted."""
    told_of = collections.defaultdict(list)         # what → [(end, highest n so far), …]
    for op in sorted((op for op in facts.run.ops if op.ok), key=lambda op: op.end):
        if op.kind in WRITES_OF and op.number() is not None and op.id not in facts.lost:
            past = told_of[what_of(WRITES_OF[op.kind], op)]
            past.append((op.end, max(op.number(), past[-1][1] if past else 0)))
    for op in facts.run.ops:
        if op.level != "primary":
            continue
        for seen in seen_by(op):
            past = told_of[seen.what]
            i = bisect.bisect_left(past, (op.call, 0))
            if i and seen.n < past[i - 1][1]:
                if any(p["from"] < op.end and op.call < p["until"] + GRACE_NS
                       or p["from"] < op.call and not facts.run.sync
                       for p in facts.promotions(op)):
                    report.counts["stale_primary_reads"] += 1
                else:
                    report.add("primary", f"{told(op)} at {op.node} saw {seen.what} at {seen.n}; "
                               f"{past[i - 1][1]} had been acknowledged")


# ---- Tenants ---------------------------------------------------------------------------------

def everything_is_ones_own(facts, report):
    names = {op.tenant for op in facts.run.ops}
    name = re.compile(r"\w+_tn\d{3}x")
    for op in facts.run.ops:
        for got in op.got:
            if "echo" in got and got["echo"] != op.left:
                report.add("tenant", f"{told(op)} got the answer of {got['echo']}")
            for value in got.get("v", "").split():
                fault = value and value != "-" and value_fault(value, op.tenant, op.key)
                if fault:
                    report.add("tenant", f"{told(op)} at {op.node} got a {fault}")
        strangers = set(name.findall(op.message)) & names - {op.tenant}
        if strangers:
            report.add("tenant", f"{told(op)} failed with a word of {strangers}: {op.message}")
        if op.kind == "fail_read" and op.sqlstate == "22P02" and op.tenant not in op.message:
            report.add("tenant", f"{told(op)} failed with somebody else's error: {op.message}")
    for (tenant, key), rows in facts.run.final.log.items():
        for _, uid, value in rows:
            fault = value_fault(value, tenant, key)
            if fault or value.split("|")[2] != uid:
                report.add("tenant", f"the list of {tenant}, {key} has at {uid} {fault or value}")


# ---- Primaries that are none any more --------------------------------------------------------

def fenced_primaries_take_nothing(facts, report):
    for fork in facts.run.forks:
        for uid in fork["uids"]:
            op = facts.by_id.get(uid)
            if op and uid not in facts.uids and op.call > fork["from"]:
                report.add("fenced", f"{told(op)} was written on {fork['node']}, "
                           f"{ms(op.call - fork['from'])} after it had no right to it")
            elif op and uid not in facts.uids and op.ok and op.end > fork["from"]:
                report.add("fenced", f"{told(op)} was acknowledged by {fork['node']}, "
                           f"{ms(op.end - fork['from'])} after it had no right to it")
        for op in facts.run.ops:
            until = fork.get("until") or op.call
            if op.ok and op.writes and op.node == fork["node"] and fork["from"] < op.call <= until:
                report.add("fenced", f"{told(op)} was answered by {fork['node']}")


# ---- Labels and time -------------------------------------------------------------------------

def each_operation_ends_once(facts, report):
    for op in facts.run.ops:
        if op.ends != 1:
            report.add("ends", f"{told(op)} ended {op.ends} times")
    for uid in facts.run.orphans:
        report.add("ends", f"{uid} ended, and never began")


def each_operation_ends_in_time(facts, report):
    stalls, slack = sorted(facts.run.stalls), facts.run.meta.get("slack_ms", SLACK_MS) * 1_000_000
    for op in facts.run.ops:
        if op.end is None:
            continue
        late = op.end - op.call - op.deadline_ms * 1_000_000
        if late > slack:        # nobody keeps a deadline without a processor
            late -= max(op.kept, stalled(stalls, op))
        report.counts["latest_ms"] = max(report.counts["latest_ms"], late // 1_000_000)
        if late > slack:
            report.add("late", f"{told(op)} ended {ms(late)} after its deadline")


def stalled(stalls, op):
    """How long the driver's watch was not let run meanwhile."""
    return sum(min(until, op.end) - max(start, op.call) for start, until in stalls
               if start < op.end and op.call < until)


def labels_are_honest(facts, report):
    for op in facts.run.ops:
        if op.ends == 0:
            continue
        if (op.code == "UNKNOWN") != (op.retry == 2):
            report.add("label", f"{told(op)} has retry class {op.retry}")
        if (op.code in ("OK", "ROWS_LOST")) != (op.label == "OK") or (op.code == "UNKNOWN") != (
                op.label == "UNKNOWN"):
            report.add("label", f"{told(op)} is called {op.label}")
        if op.ok and op.kind in ("fail_read", "fail_write", "defer", "tx_fail", "tx_rollback"):
            report.add("label", f"{told(op)} cannot have happened")
        if op.label == "UNKNOWN" and not op.writes:
            report.add("label", f"{told(op)} only reads")


def unknown_only_in_faults(facts, report):
    """A write may be in doubt if a fault was about, or its own deadline or a cancel came. One with a
    key only if its attempts are used up: these are counted."""
    windows = [(f["from"], f["until"] + SETTLE_NS) for f in facts.run.faults]
    for op in facts.run.ops:
        if op.label != "UNKNOWN" or op.end is None:
            continue
        if op.cancelled:
            report.counts["unknown_by_cancel"] += 1
        elif op.end - op.call >= (op.deadline_ms - 2) * 1_000_000:
            report.counts["unknown_by_deadline"] += 1
        elif any(start < op.end and op.call < until for start, until in windows):
            report.counts["unknown_by_fault"] += 1
            report.counts["unknown_by_fault_with_key"] += bool(op.row)
        else:
            report.add("unknown", f"{told(op)} is in doubt, and there was no fault: {op.message}")


# ---- The end ---------------------------------------------------------------------------------

def replicas_are_equal(facts, report):
    for node, tables in facts.run.replicas.items():
        shard = node.partition("/")[0]
        for name in vars(tables):
            whole = getattr(facts.run.final, name)
            if name != "child":
                whole = {k: v for k, v in whole.items() if name == "ledger"
                         or facts.shards.get(k[0] if isinstance(k, tuple) else k, shard) == shard}
            if name == "ledger":
                whole = {k: v for k, v in whole.items() if facts.shards.get(v[0][0], shard) == shard}
            if getattr(tables, name) != whole:
                report.add("replica", f"{node} has another {name} than its primary")


# Cached reads have rules of their own (no older than the last acknowledged invalidation; every
# cached value is the database's, expired or marked): they go here when there is a cache.
RULES = [
    acknowledged_writes_are_there, failed_writes_are_not, nothing_happens_twice,
    transactions_are_whole, lists_are_in_order, sessions_read_their_writes, sessions_never_go_back,
    reads_see_prefixes, primaries_show_what_was_acknowledged, everything_is_ones_own,
    fenced_primaries_take_nothing, each_operation_ends_once, each_operation_ends_in_time,
    labels_are_honest, unknown_only_in_faults, replicas_are_equal,
]


def check(run):
    report = Report()
    facts = Facts(run)
    for rule in RULES:
        rule(facts, report)
    return report


def told(op):
    what = f" in {op.kind} of {op.tenant}"
    return f"{op.id}{what} ({op.label or 'no end'}{': ' + op.code if op.code not in ('', op.label) else ''})"


def brief(numbers):
    return str(numbers) if len(numbers) < 12 else f"[{numbers[0]}, {numbers[1]} … {numbers[-1]}]"


def ms(ns):
    return f"{ns / 1e6:.0f} ms"


def main(folder):
    report = check(load(folder))
    for rule, text in report.violations:
        print(f"{rule}: {text}")
    print(f"{len(report.violations)} violations; {dict(report.counts)}")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
