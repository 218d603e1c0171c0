#!/usr/bin/env python3
"""The checker finds what it is for: a history that is right passes, and with one thing spoiled it
does not, for each rule and many seeds. What is allowed passes, too, and is counted."""

import copy
import os
import random
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from checker import RULES, Facts, Report, check, prefix_digests
from made_up import MS, PRIMARY, REPLICAS, TENANTS, World
from net import Framer
from records import Op, make_value, read_history, value_fault

SEEDS = range(5)


class Spoiler:
    """A run, and the words to spoil it in."""

    def __init__(self, seed, sync=True):
        self.chance = random.Random(seed)
        self.run = World(seed, sync).run()
        self.by_id = {op.id: op for op in self.run.ops}
        self.tables = [self.run.final, self.run.later, *self.run.replicas.values()]

    def pick(self, wanted):
        found = [op for op in self.run.ops if wanted(op)]
        assert found, "nothing in this history can be spoiled so"
        return self.chance.choice(found)

    def write(self, kind, label="OK"):
        return self.pick(lambda op: op.kind == kind and op.label == label and
                         (kind != "cas" or op.number() is not None))

    def happened(self, op):
        return op.id in self.run.final.uids()

    def forget(self, op):
        """All that it has left."""
        for tables in self.tables:
            for rows in tables.log.values():
                rows[:] = [row for row in rows if row[1] != op.id]
            for rows in tables.past.values():
                rows[:] = [row for row in rows if row[1] != op.id]
            for tenant, key, amount in tables.ledger.pop(op.id, []):
                tables.account[tenant, key] -= amount

    def do_again(self, op, tables):
        place = (op.tenant, op.key)
        rows = tables.log.setdefault(place, [])
        rows.append((len(rows) + 1, op.id, make_value(*place, op.id, 0)))
        tables.heads[place] = len(rows)

    def show(self, read, n):
        """Lets a read of a list have seen so many."""
        uids = [uid for _, uid, _ in self.run.final.log.get((read.tenant, read.key), [])]
        read.got[0].update(n=n, h=prefix_digests(uids)[n])
        read.got[0].pop("v", None)

    def found(self):
        return {rule for rule, _ in check(self.run).violations}


# ---- What is spoiled: each is named for what the checker must say ----------------------------

def lost__an_append(s):
    s.forget(s.write("append"))


def lost__a_cas(s):
    s.forget(s.write("cas"))


def lost__a_transfer(s):
    s.forget(s.write("transfer"))


def lost__an_addition(s):
    op = s.write("add")
    for tables in s.tables:
        tables.counter[op.tenant] = sum(o.kind == "add" and o.tenant == op.tenant and o.ok
                                        for o in s.run.ops) - 1


def lost__an_early_write_though_a_later_one_is_there(s):
    s.run.meta["sync"] = False
    ops = [op for op in s.run.ops if op.kind == "append" and op.ok
           and op.end < s.run.promotions[0]["from"]]
    s.forget(ops[len(ops) // 2])


def lost__a_write_that_no_promotion_explains(s):
    s.run.meta["sync"] = False
    s.forget(s.pick(lambda op: op.kind == "append" and op.ok
                    and op.call > s.run.promotions[0]["until"]))


def false_failure__now(s):
    op = s.write("append")
    op.label = op.code = "FAILED"


def false_failure__of_a_transaction(s):
    op = s.write("transfer")
    op.label = op.code = "FAILED"


def false_failure__later(s):
    s.do_again(s.write("append", "FAILED"), s.run.later)


def duplicate__an_append(s):
    op = s.write("append")
    for tables in s.tables:
        s.do_again(op, tables)


def duplicate__a_transfer(s):
    op = s.write("transfer")
    for tables in s.tables:
        for tenant, key, amount in list(tables.ledger[op.id]):
            tables.ledger[op.id].append((tenant, key, amount))
            tables.account[tenant, key] += amount


def duplicate__an_addition(s):
    op = s.write("add")
    for tables in s.tables:
        tables.counter[op.tenant] = sum(o.kind == "add" and o.tenant == op.tenant
                                        and o.label in ("OK", "UNKNOWN") for o in s.run.ops) + 1


def duplicate__of_a_write_in_doubt(s):
    op = s.pick(lambda op: op.label == "UNKNOWN" and op.kind == "append" and s.happened(op))
    for tables in s.tables:
        s.do_again(op, tables)


def duplicate__of_what_was_asked_for_twice(s):
    op = s.write("append")
    op.row = op.id
    again = copy.deepcopy(op)
    again.id, again.got = op.id + "0", []
    s.run.ops.append(again)
    for tables in s.tables:
        s.do_again(op, tables)


def lost__what_a_second_request_was_told_is_done(s):
    op = s.write("append", "FAILED")
    op.row = op.id
    again = copy.deepcopy(op)
    again.id, again.label, again.code, again.retry = op.id + "0", "OK", "OK", 0
    s.run.ops.append(again)


def duplicate__later(s):
    s.do_again(s.write("append"), s.run.later)


def duplicate__a_write_of_nobody(s):
    op = s.write("append")
    op.id = "r-99-99"


def atomic__one_entry_of_two(s):
    op = s.write("transfer")
    for tables in s.tables:
        tenant, key, amount = tables.ledger[op.id].pop()
        tables.account[tenant, key] -= amount


def atomic__a_balance_without_entry(s):
    place = s.chance.choice(list(s.run.final.account))
    for tables in s.tables:
        tables.account[place] += 3


def atomic__half_a_transfer_seen(s):
    s.pick(lambda op: op.kind == "total" and op.ok).got[0]["n"] -= 7


def order__who_was_first_stands_second(s):
    rows = s.chance.choice([rows for rows in s.run.final.log.values() if len(rows) > 4])
    i = next(i for i in range(len(rows) - 1)
             if s.by_id[rows[i][1]].ok and s.by_id[rows[i][1]].end < s.by_id[rows[i + 1][1]].call)
    (a, *first), (b, *second) = rows[i:i + 2]
    rows[i:i + 2] = [(a, *second), (b, *first)]


def order__a_gap(s):
    rows = s.chance.choice([rows for rows in s.run.final.log.values() if len(rows) > 4])
    seq, *rest = rows[-1]
    rows[-1] = (seq + 1, *rest)


def order__a_version_twice(s):
    rows = s.chance.choice([rows for rows in s.run.final.past.values() if len(rows) > 1])
    rows[1] = (1, rows[1][1])


def own(s, kind, read_kind):
    """(a write, a read of the same session and thing that began behind it)"""
    pairs = [(w, r) for w in s.run.ops if w.ok and w.kind == kind and w.number()
             for r in s.run.ops if r.session == w.session and r.ok and r.kind == read_kind
             and r.level in ("session", "primary") and r.call > w.end
             and (kind == "add" or r.key == w.key)]
    return s.chance.choice(pairs)


def ryw__of_a_list(s):
    write, read = own(s, "append", "list")
    s.show(read, write.number() - 1)


def ryw__of_a_register(s):
    write, read = own(s, "cas", "get")
    n = write.number() - 1
    uid = dict(s.run.final.past[write.tenant, write.key]).get(n)
    read.got[0].update(n=n, v=make_value(write.tenant, write.key, uid, n) if n else "-")


def ryw__of_a_counter(s):
    write, read = own(s, "add", "count")
    read.got[0]["n"] = write.number() - 1


def monotonic__a_list_grows_shorter(s):
    pairs = []
    for a in s.run.ops:
        if a.kind != "list" or not a.ok or a.level == "any" or not a.number():
            continue
        last = s.by_id[s.run.final.log[a.tenant, a.key][a.number() - 1][1]]
        pairs += [(a, b) for b in s.run.ops
                  if b.kind == "list" and b.ok and b.level != "any" and b.session == a.session
                  and b.key == a.key and b.call > max(a.end, last.end) and last.ok]
    a, b = s.chance.choice(pairs)
    s.show(b, a.number() - 1)


def monotonic__a_counter_falls(s):
    a, b = s.chance.choice([
        (a, b) for a in s.run.ops if a.kind == "count" and a.ok and a.level != "any" and a.number()
        for b in s.run.ops if b.kind == "count" and b.ok and b.level != "any"
        and b.session == a.session and b.call > a.end])
    b.got[0]["n"] = a.number() - 1


def prefix__another_entry_seen(s):
    read = s.pick(lambda op: op.kind == "list" and op.ok and op.number() > 0)
    read.got[0]["h"] = prefix_digests(["r-77-77"])[1]


def prefix__more_than_there_is(s):
    read = s.pick(lambda op: op.kind == "list" and op.ok)
    read.got[0]["n"] = 10_000


def prefix__a_version_that_another_one_wrote(s):
    read = s.pick(lambda op: op.kind == "get" and op.ok and op.number())
    read.got[0]["v"] = make_value(read.tenant, read.key, s.write("append").id, read.number())


def primary__does_not_show_what_was_acknowledged(s):
    pairs = [(w, r) for w in s.run.ops if w.ok and w.kind == "append"
             for r in s.run.ops if r.kind == "list" and r.ok and r.level == "primary"
             and (r.tenant, r.key) == (w.tenant, w.key) and r.call > w.end
             and r.end < s.run.promotions[0]["from"]]
    write, read = s.chance.choice(pairs)
    s.show(read, write.number() - 1)


def tenant__a_value_of_another_one(s):
    read = s.pick(lambda op: op.kind in ("list", "get") and op.got and op.number())
    other = s.pick(lambda op: op.tenant != read.tenant)
    read.got[0]["v"] = make_value(other.tenant, read.key, other.id, 1)


def tenant__a_value_of_another_key(s):
    read = s.pick(lambda op: op.kind == "list" and op.got and op.number())
    read.got[0]["v"] = make_value(read.tenant, read.key + 1, "r-1-1", 0)


def tenant__a_damaged_value(s):
    read = s.pick(lambda op: op.kind == "list" and op.got and op.number())
    read.got[0]["v"] = read.got[0]["v"].replace("r-", "q-", 1)


def tenant__the_answer_of_another_call(s):
    read = s.pick(lambda op: op.kind == "list" and op.got)
    read.got[0]["echo"] = s.write("append").id


def tenant__an_error_of_another_one(s):
    read = s.pick(lambda op: op.kind == "fail_read")
    read.message = read.message.replace(read.tenant, s.pick(
        lambda op: op.tenant != read.tenant).tenant)


def tenant__a_row_of_another_one(s):
    (tenant, key), rows = s.chance.choice(list(s.run.final.log.items()))
    other = s.pick(lambda op: op.tenant != tenant)
    rows[0] = (rows[0][0], rows[0][1], make_value(other.tenant, key, rows[0][1], 0))


def fenced__a_write_on_the_old_primary(s):
    fork = s.run.forks[0]
    op = s.pick(lambda op: op.label == "FAILED" and op.writes and op.call > fork["from"])
    op.label, op.retry, op.code = "UNKNOWN", 2, "UNKNOWN"
    fork["uids"][op.id] = 1


def fenced__an_old_write_acknowledged_too_late(s):
    s.run.meta["sync"] = False
    fork = s.run.forks[0]
    op = s.pick(lambda op: op.kind == "append" and op.ok and op.end > fork["from"])
    op.call = fork["from"] - MS
    fork["uids"][op.id] = 1
    s.forget(op)


def fenced__an_answer_of_the_old_primary(s):
    fork = s.run.forks[0]
    s.pick(lambda op: op.ok and op.kind == "append"
           and fork["from"] < op.call < fork["until"]).node = PRIMARY


def ends__never(s):
    op = s.pick(lambda op: not op.writes)
    op.end, op.ends, op.label, op.code, op.got = None, 0, "", "", []


def ends__twice(s):
    s.pick(lambda op: True).ends = 2


def ends__without_a_beginning(s):
    s.run.orphans.append("r-5-5")


def late__by_more_than_is_allowed(s):
    op = s.pick(lambda op: op.label == "FAILED")
    op.end = op.call + (op.deadline_ms + 101) * MS


def label__in_doubt_and_safe_to_repeat(s):
    s.pick(lambda op: op.label == "UNKNOWN").retry = 1


def label__failed_with_the_code_of_doubt(s):
    op = s.pick(lambda op: op.label == "FAILED" and op.writes)
    op.code, op.retry = "UNKNOWN", 2


def label__a_rollback_that_is_ok(s):
    op = s.pick(lambda op: op.kind == "tx_fail")
    op.label = "OK"


def label__a_read_in_doubt(s):
    op = s.pick(lambda op: not op.writes and op.ok)
    op.label, op.code, op.retry = "UNKNOWN", "UNKNOWN", 2


def unknown__without_a_fault(s):
    s.run.faults.clear()


def replica__another_table(s):
    s.run.replicas[REPLICAS[1]].counter["r_tn000x"] += 1


SPOILED = [f for name, f in list(globals().items()) if callable(f) and "__" in name.strip("_")]


class Checker(unittest.TestCase):
    def test_a_right_history_passes(self):
        for seed in range(20):
            for sync in (True, False):
                run = World(seed, sync).run()
                self.assertEqual(check(run).violations, [], f"seed {seed}")

    def test_each_spoiled_history_is_found(self):
        for spoil in SPOILED:
            rule = spoil.__name__.partition("__")[0]
            for seed in SEEDS:
                with self.subTest(spoil=spoil.__name__, seed=seed):
                    s = Spoiler(seed)
                    spoil(s)
                    self.assertIn(rule, s.found())

    def test_every_rule_has_something_that_only_it_finds(self):
        alone = set()
        for spoil in SPOILED:
            s = Spoiler(1)
            spoil(s)
            finders = [rule for rule in RULES if spoil.__name__.partition("__")[0]
                       in found_by(rule, s.run)]
            if len(finders) == 1:
                alone.add(finders[0])
        self.assertEqual(set(RULES) - alone, set())

    def test_the_last_writes_may_be_lost_without_a_synchronous_standby(self):
        a, b, c = append(0, 1, PRIMARY), append(20, 2, PRIMARY), append(60, 2, REPLICAS[0])
        before, after = looked(32, [a, b], REPLICAS[1]), looked(80, [a, c], REPLICAS[0])
        shorter = looked(55, [a], REPLICAS[0])
        report = check(failover([a, b, c, before, shorter, after], [a, c], sync=False))
        self.assertEqual(report.violations, [])
        self.assertEqual(report.counts["lost_async"], 1)
        self.assertEqual(report.counts["reads_of_lost_branch"], 1)
        self.assertEqual(report.counts["rewound_by_loss"], 1)

    def test_a_synchronous_standby_allows_no_loss(self):
        a, b, c = append(0, 1, PRIMARY), append(20, 2, PRIMARY), append(60, 2, REPLICAS[0])
        self.assertEqual(rules_broken(failover([a, b, c], [a, c], sync=True)), {"lost"})

    def test_a_loss_before_what_is_there_is_none_that_may_be(self):
        a, b, c = append(0, 1, PRIMARY), append(20, 1, PRIMARY), append(60, 2, REPLICAS[0])
        self.assertEqual(rules_broken(failover([a, b, c], [b, c], sync=False)), {"lost"})

    def test_a_list_with_an_entry_of_nobody_is_no_lost_branch(self):
        a, c = append(0, 1, PRIMARY), append(60, 2, REPLICAS[0])
        other = append(20, 2, PRIMARY)
        seen = looked(32, [a, other], REPLICAS[1])
        self.assertEqual(rules_broken(failover([a, c, seen], [a, c], sync=False)), {"prefix"})

    def test_a_long_fork_is_counted_and_no_violation(self):
        for seed in SEEDS:
            s = Spoiler(seed)
            report = long_fork(s)
            self.assertNotIn("monotonic", {rule for rule, _ in report.violations})
            self.assertGreater(report.counts["long_fork"], 0)

    def test_a_second_request_with_the_same_key_may_fail_and_may_be_told_the_first_ones_outcome(self):
        s = Spoiler(5)
        for kind, label in (("append", "FAILED"), ("append", "OK"), ("add", "OK"), ("cas", "OK")):
            op = s.write(kind)
            op.row = op.id
            again = copy.deepcopy(op)
            again.id, again.label, again.node = f"{op.id}{label}", label, ""
            again.code, again.got = ("ROWS_LOST" if label == "OK" else "DEADLINE"), []
            s.run.ops.append(again)
        self.assertEqual(check(s.run).violations, [])

    def test_who_was_not_let_run_is_not_late(self):
        for seed in SEEDS:
            s = Spoiler(seed)
            late__by_more_than_is_allowed(s)
            op = max(s.run.ops, key=lambda op: op.end - op.call)
            op.kept = 2 * MS
            self.assertEqual(check(s.run).violations, [])
            op.kept, s.run.stalls = 0, [(op.end - 2 * MS, op.end)]
            self.assertEqual(check(s.run).violations, [])

    def test_a_write_may_be_in_doubt_at_its_deadline_and_when_it_is_cancelled(self):
        s = Spoiler(3)
        s.run.faults.clear()
        doubtful = [op for op in s.run.ops if op.label == "UNKNOWN"]
        for i, op in enumerate(doubtful):
            op.end = op.call + (op.deadline_ms if i else 1) * MS
        doubtful[0].cancelled = True
        self.assertNotIn("unknown", s.found())

    def test_a_write_in_doubt_although_it_has_a_key_is_counted(self):
        s = Spoiler(3)
        op = s.write("append", "UNKNOWN")
        op.row = op.id
        self.assertEqual(check(s.run).counts["unknown_by_fault_with_key"], 1)


def rules_broken(run):
    return {rule for rule, _ in check(run).violations}


def found_by(rule, run):
    report = Report()
    rule(Facts(run), report)
    return {name for name, _ in report.violations}


def append(at, n, node):
    op = Op(f"r-1-{at}", f"{at}.0", "append", TENANTS[0], 0, at * MS, 400, end=(at + 10) * MS,
            ends=1, label="OK", code="OK", node=node)
    op.got = [{"rows": 1, "echo": op.id, "n": n}]
    return op


def looked(at, entries, node):
    op = Op(f"r-2-{at}", "2.0", "list", TENANTS[0], 0, at * MS, 400, "session", end=(at + 3) * MS,
            ends=1, label="OK", code="OK", node=node)
    op.got = [{"rows": 1, "echo": op.id, "n": len(entries),
               "h": prefix_digests([e.id for e in entries])[-1]}]
    return op


def failover(ops, left, sync):
    """A promotion from 40 to 50 ms; `left` is what is there in the end."""
    run = World(1, sync, ops=0).run()
    run.ops = sorted(ops, key=lambda op: op.call)
    run.promotions[0].update({"from": 40 * MS, "until": 50 * MS})
    for tables in (run.final, run.later, *run.replicas.values()):
        tables.log[TENANTS[0], 0] = [(i + 1, op.id, make_value(TENANTS[0], 0, op.id, 0))
                                     for i, op in enumerate(left)]
        tables.heads[TENANTS[0], 0] = len(left)
    return run


def long_fork(s):
    """A session sees an entry on a standby and then not on the primary, which is not yet through
    with waiting for that standby."""
    a, b, entry = s.chance.choice([
        (a, b, entry) for a in s.run.ops if shows_list(a) and a.number()
        for entry in [s.by_id[s.run.final.log[a.tenant, a.key][a.number() - 1][1]]]
        for b in s.run.ops if shows_list(b) and b.key == a.key and b.session == a.session
        and b.call > a.end and entry.session != a.session
        and all(c.number() <= a.number() - (c is not a) for c in s.run.ops if shows_list(c)
                and c.key == a.key and c.session == a.session and c.call < b.call)])
    entry.end, entry.deadline_ms = b.end + MS, 100_000
    s.show(b, a.number() - 1)
    return check(s.run)


def shows_list(op):
    return op.kind in ("list", "batch") and op.ok and op.level != "any"


class Words(unittest.TestCase):
    def test_a_value_tells_its_owner_and_its_place(self):
        value = make_value("acme", 3, "r-1-2", 7)
        self.assertIsNone(value_fault(value, "acme", 3))
        self.assertIn("tenant acme", value_fault(value, "globex", 3))
        self.assertIn("key 3", value_fault(value, "acme", 4))
        self.assertIn("damaged", value_fault(value.replace("7|", "8|"), "acme", 3))

    def test_a_history_is_read_up_to_the_last_whole_line(self):
        call = '{"e":"call","t":5,"id":"%s","s":"1.0","kind":"append","tenant":"t","key":0,"dl":9}\n'
        end = '{"e":"end","t":7,"id":"%s","l":"OK","code":"OK","rt":0,"kept":0,"node":"n","got":[]}\n'
        with tempfile.NamedTemporaryFile("w") as f:
            f.write(call % "a" + end % "a" + end % "b" + call % "c" + (end % "c")[:40])
            f.flush()
            _, ops, _, orphans = read_history(f.name)
        self.assertEqual([(op.id, op.ends, op.label) for op in ops], [("a", 1, "OK"), ("c", 0, "")])
        self.assertEqual(orphans, ["b"])

    def test_messages_are_found_however_they_are_cut(self):
        stream = b"C\0\0\0\x08abcd" + b"Z\0\0\0\x05I" + b"1\0\0\0\x04"
        for step in range(1, len(stream) + 1):
            framer, kinds = Framer(True), ""
            for i in range(0, len(stream), step):
                kinds += "".join(kind for kind, _, _ in framer.feed(stream[i:i + step]))
            self.assertEqual(kinds, "CZ1")

    def test_the_answer_to_sslrequest_is_no_message(self):
        framer = Framer(True)
        framer.single = 1
        self.assertEqual([k for k, _, _ in framer.feed(b"NR\0\0\0\x08\0\0\0\0")], ["R"])
        framer = Framer(True)
        framer.single = 1
        self.assertEqual(framer.feed(b"S\x16\x03\x01\0\0"), [])
        self.assertTrue(framer.opaque)


if __name__ == "__main__":
    unittest.main()
