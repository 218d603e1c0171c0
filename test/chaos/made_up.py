"""Runs that never were: a database with two replicas in a few lines, whose history is right by
construction. The checker must find nothing in it, and each thing that is then spoiled."""

import bisect
import random

from checker import prefix_digests
from records import OPENING, Op, Run, Tables, make_value

MS = 1_000_000
TENANTS = ["r_tn000x", "r_tn001x", "r_tn002x"]
KEYS = 3
PRIMARY, REPLICAS = "shard0/primary", ["shard0/replica1", "shard0/replica2"]
KINDS = ["append"] * 6 + ["cas"] * 3 + ["add"] * 3 + ["transfer"] * 3 + ["list"] * 8 + \
    ["get"] * 4 + ["count"] * 3 + ["total"] * 2 + ["batch"] * 2 + \
    ["fail_read", "fail_write", "tx_fail", "tx_rollback", "defer"]


class World:
    """Commits in a line; a replica is a place in it."""

    def __init__(self, seed, sync=True, ops=500):
        self.chance, self.sync = random.Random(seed), sync
        self.commits = []           # their times
        self.lists, self.chains, self.counters = {}, {}, {}
        self.past = {}              # what → [(commits until then, n), …]
        self.tables = Tables()
        for tenant in TENANTS:
            self.tables.counter[tenant] = 0
            for key in range(KEYS):
                place = (tenant, key)
                self.tables.heads[place], self.tables.reg[place] = 0, (0, "-")
                self.tables.account[place] = OPENING
        self.need = {}              # session → commits it must see
        self.lag = {node: [self.chance.uniform(0, 60) for _ in range(100)] for node in REPLICAS}
        self.sessions = {f"{i}.0": self.chance.choice(TENANTS) for i in range(12)}
        self.seen = {}              # (session, place) → version
        self.promoted_ms = ops * 1.3
        self.ops = self.make(ops)

    # --- What was asked when

    def make(self, count):
        asked, free = [], {s: 0.0 for s in self.sessions}
        for i in range(count):
            session = self.chance.choice(list(self.sessions))
            call = max(i * 2 + self.chance.uniform(0, 5), free[session])
            commit = call + self.chance.uniform(0.5, 6)
            end = commit + self.chance.uniform(0.1, 3)
            free[session] = end + 0.01
            op = Op(f"r-{session.split('.')[0]}-{i}", session, self.chance.choice(KINDS),
                    self.sessions[session], self.chance.randrange(KEYS), int(call * MS), 400,
                    end=int(end * MS), ends=1)
            asked.append((commit, op))
        asked.sort(key=lambda each: each[0])
        for commit, op in asked:
            self.happen(op, commit)
        return sorted((op for _, op in asked), key=lambda op: op.call)

    def happen(self, op, commit):
        op.node = PRIMARY if commit < self.promoted_ms else REPLICAS[0]
        if not op.writes:
            return self.read(op, commit)
        if op.kind in ("fail_write", "defer", "tx_fail", "tx_rollback"):
            return failed(op, "SQL")
        fate = self.chance.random()
        if fate < 0.08:
            return failed(op, "DEADLINE")
        in_doubt = fate < 0.25 and 300 < commit < 700
        if in_doubt and self.chance.random() < 0.5:
            return self.doubt(op)
        op.got = [{"rows": 1, "echo": op.id}]
        getattr(self, op.kind)(op, commit)
        if in_doubt:
            return self.doubt(op)
        op.label = op.code = "OK"
        self.need[op.session] = len(self.commits)

    def doubt(self, op):
        op.label = op.code = "UNKNOWN"
        op.retry, op.got = 2, []

    # --- Writes

    def commit(self, what, n, commit):
        self.commits.append(commit)
        self.past.setdefault(what, []).append((len(self.commits), n))

    def append(self, op, commit):
        rows = self.tables.log.setdefault((op.tenant, op.key), [])
        rows.append((len(rows) + 1, op.id, make_value(op.tenant, op.key, op.id, 0)))
        self.tables.heads[op.tenant, op.key] = op.got[0]["n"] = len(rows)
        self.commit(("list", op.tenant, op.key), len(rows), commit)

    def cas(self, op, commit):
        place = (op.tenant, op.key)
        ver = self.tables.reg[place][0]
        op.ver = self.seen.get((op.session, place), ver)
        if op.ver != ver:
            return
        self.tables.reg[place] = (ver + 1, make_value(*place, op.id, ver + 1))
        self.tables.past.setdefault(place, []).append((ver + 1, op.id))
        op.got[0]["n"] = ver + 1
        self.commit(("reg", *place), ver + 1, commit)

    def add(self, op, commit):
        self.tables.counter[op.tenant] += 1
        op.got[0]["n"] = self.tables.counter[op.tenant]
        self.commit(("counter", op.tenant), op.got[0]["n"], commit)

    def transfer(self, op, commit):
        op.to, op.amount, op.got, op.node = (op.key + 1) % KEYS, 7, [], ""
        self.tables.ledger[op.id] = [(op.tenant, op.key, -7), (op.tenant, op.to, 7)]
        self.tables.account[op.tenant, op.key] -= 7
        self.tables.account[op.tenant, op.to] += 7
        self.commits.append(commit)

    # --- Reads

    def read(self, op, commit):
        op.level = self.chance.choice(["session", "session", "any", "primary"])
        if op.kind == "fail_read":
            op.message, op.sqlstate = f'invalid input syntax for type integer: "{op.tenant}?"', "22P02"
            return failed(op, "SQL")
        op.label = op.code = "OK"
        upto = self.place(op, commit)
        for thing in {"batch": ["list", "reg", "counter"], "list": ["list"], "get": ["reg"],
                      "count": ["counter"], "total": []}[op.kind]:
            op.got.append({"rows": 1, "echo": op.id, **self.look(thing, op, upto)})
        if op.kind == "total":
            op.got = [{"rows": 1, "echo": op.id, "n": OPENING * KEYS, "c": KEYS}]
        if op.level != "any":
            self.need[op.session] = max(self.need.get(op.session, 0), upto)

    def place(self, op, commit):
        """Chooses a server; how many commits are seen there."""
        if op.level != "primary":
            for node in self.chance.sample(REPLICAS, 2):
                late = self.lag[node][min(99, int(commit / 20))]
                upto = bisect.bisect_right(self.commits, commit - late)
                if op.level == "any" or upto >= self.need.get(op.session, 0):
                    op.node = node
                    return upto
        return len(self.commits)

    def look(self, thing, op, upto):
        what = (thing, op.tenant) if thing == "counter" else (thing, op.tenant, op.key)
        past = self.past.get(what, [])
        i = bisect.bisect_right(past, (upto, 1 << 60))
        n = past[i - 1][1] if i else 0
        if thing == "counter":
            return {"n": n}
        if thing == "list":
            rows = self.tables.log.get(what[1:], [])[:n]
            found = {"n": n, "h": prefix_digests([uid for _, uid, _ in rows])[-1]}
            return {**found, "v": " ".join(v for _, _, v in rows[-2:])} if rows else found
        self.seen[op.session, what[1:]] = n
        versions = self.tables.past.get(what[1:], [])
        return {"n": n, "v": make_value(*what[1:], versions[n - 1][1], n) if n else "-"}

    # --- The whole

    def run(self):
        return Run({"sync": self.sync, "began": 0, "ended": self.ops[-1].end if self.ops else 0}, self.ops,
                   faults=[{"kind": "kill_promote", "node": PRIMARY, "from": 250 * MS,
                            "until": 750 * MS}],
                   promotions=[{"node": REPLICAS[0], "old": PRIMARY, "accident": False,
                                "from": int((self.promoted_ms - 1) * MS),
                                "until": int(self.promoted_ms * MS)}],
                   forks=[{"node": PRIMARY, "from": int((self.promoted_ms + 20) * MS),
                           "until": int((self.promoted_ms + 200) * MS),
                           "uids": {op.id: 1 for op in self.ops[:40]
                                    if op.id in self.tables.uids()}}],
                   final=copied(self.tables), later=copied(self.tables),
                   replicas={node: copied(self.tables) for node in (PRIMARY, REPLICAS[1])})


def failed(op, code):
    op.label, op.code, op.retry, op.node, op.got = "FAILED", code, 1, "", []


def copied(tables):
    import copy
    return copy.deepcopy(tables)
