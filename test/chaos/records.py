"""What a run was: its history, what was done to the servers, and what was in them at the end.

A folder holds a run: history.jsonl (the driver's lines), run.json (settings, faults, promotions,
forks) and final.json (tables). The checker needs no more, so an old folder can be checked again.
"""

import json
import os
import zlib
from dataclasses import dataclass, field

OPENING = 1000          # what an account begins with
GRACE_NS = 1_000_000_000
WRITES = {"append", "cas", "add", "transfer", "fail_write", "slow", "defer", "tx_fail",
          "tx_rollback"}
TRANSACTIONS = {"transfer", "tx_fail", "tx_rollback"}


@dataclass
class Op:
    """One operation, from its two lines. `end` is None if the second one never came."""
    id: str
    session: str
    kind: str
    tenant: str
    key: int
    call: int
    deadline_ms: int
    level: str = ""
    ver: int = 0
    to: int = 0
    amount: int = 0
    row: str = ""           # the id in what it writes, if it has an idempotency key, which is that
    end: int = None
    ends: int = 0
    label: str = ""
    code: str = ""
    retry: int = 0
    kept: int = 0           # ns that its thread waited for a processor meanwhile
    node: str = ""
    cancelled: bool = False
    sqlstate: str = ""
    message: str = ""
    got: list = field(default_factory=list)

    @property
    def writes(self):
        return self.kind in WRITES

    @property
    def left(self):
        """The id in what it writes."""
        return self.row or self.id

    @property
    def repeats(self):
        """Does it ask again for what another operation was to do?"""
        return bool(self.row) and self.row != self.id

    @property
    def ok(self):
        return self.label == "OK"

    def number(self, i=0):
        return self.got[i].get("n") if len(self.got) > i else None


@dataclass
class Tables:
    """One server's tables. Lists are in their order."""
    log: dict = field(default_factory=dict)         # (tenant, key) → [(seq, uid, val), …]
    heads: dict = field(default_factory=dict)       # (tenant, key) → n
    reg: dict = field(default_factory=dict)         # (tenant, key) → (ver, val)
    past: dict = field(default_factory=dict)        # (tenant, key) → [(ver, uid), …]
    counter: dict = field(default_factory=dict)     # tenant → n
    account: dict = field(default_factory=dict)     # (tenant, key) → amount
    ledger: dict = field(default_factory=dict)      # uid → [(tenant, key, amount), …]
    child: list = field(default_factory=list)       # uids

    def uids(self):
        """Every operation that has left something, as often as it has. A transfer leaves two."""
        found = {}
        for rows in self.log.values():
            for _, uid, _ in rows:
                found[uid] = found.get(uid, 0) + 1
        for rows in self.past.values():
            for _, uid in rows:
                found[uid] = found.get(uid, 0) + 1
        for uid, rows in self.ledger.items():
            found[uid] = found.get(uid, 0) + len(rows) / 2
        for uid in self.child:
            found[uid] = found.get(uid, 0) + 1
        return found


@dataclass
class Run:
    """All that the checker looks at. Times are CLOCK_MONOTONIC in ns, everywhere."""
    meta: dict
    ops: list
    stalls: list = field(default_factory=list)      # [(from, until), …] the driver was not let run
    faults: list = field(default_factory=list)      # {"kind", "node", "from", "until"}
    promotions: list = field(default_factory=list)  # {"node", "old", "from", "until", "accident"}
    forks: list = field(default_factory=list)       # {"node", "from", "uids": {uid: times}}
    final: Tables = None                            # of the primary, when all was healed
    later: Tables = None                            # and a while after that
    replicas: dict = field(default_factory=dict)    # node → Tables
    orphans: list = field(default_factory=list)     # ends without a beginning

    def shard_of(self):
        """Tenant → shard, as far as an answer told."""
        return {op.tenant: op.node.partition("/")[0] for op in self.ops if "/" in op.node}

    @property
    def sync(self):
        return self.meta["sync"]


# ---- The history -----------------------------------------------------------------------------

def read_history(path):
    """(head, [Op, …], stalls, orphans)"""
    head, ops, stalls, orphans = {}, {}, [], []
    with open(path) as f:
        for text in f:
            if not text.endswith("\n"):
                break                       # the driver was killed in the middle of it
            line = json.loads(text)
            event = line["e"]
            if event == "call":
                ops[line["id"]] = call_of(line)
            elif event == "end":
                if line["id"] in ops:
                    add_end(ops[line["id"]], line)
                else:
                    orphans.append(line["id"])
            elif event == "stall":
                stalls.append((line["t"], line["until"]))
            elif event == "head":
                head = line
    return head, list(ops.values()), stalls, orphans


def call_of(line):
    return Op(line["id"], line["s"], line["kind"], line["tenant"], line["key"], line["t"],
              line["dl"], line.get("level", ""), line.get("ver", 0), line.get("to", 0),
              line.get("amount", 0), line.get("row", ""))


def add_end(op, line):
    op.ends += 1
    if op.ends > 1:
        return
    op.end, op.label, op.code = line["t"], line["l"], line["code"]
    op.retry, op.kept, op.node, op.got = line["rt"], line["kept"], line["node"], line["got"]
    op.sqlstate, op.message = line.get("st", ""), line.get("msg", "")
    op.cancelled = line.get("cancelled", False)


# ---- Values ----------------------------------------------------------------------------------

def make_value(tenant, key, uid, ver):
    """As the driver makes it."""
    body = f"{tenant}|{key}|{uid}|{ver}"
    return f"{body}|{zlib.crc32(body.encode()):08x}"


def value_fault(value, tenant, key):
    """What is wrong with a value that was seen by this tenant under this key; None: nothing."""
    body, _, check = value.rpartition("|")
    if f"{zlib.crc32(body.encode()):08x}" != check or body.count("|") != 3:
        return f"damaged value {value!r}"
    owner, place, _, _ = body.split("|")
    if owner != tenant:
        return f"value of tenant {owner}"
    return None if int(place) == key else f"value of key {place} under key {key}"


# ---- Tables ----------------------------------------------------------------------------------

# Of one run only: its tenants begin with its name.
QUERIES = {
    "log": "select tenant, key, seq, uid, val from chaos.log where tenant like '{}' "
           "order by tenant, key, seq, uid",
    "heads": "select tenant, key, n from chaos.list where tenant like '{}'",
    "reg": "select tenant, key, ver, val from chaos.reg where tenant like '{}'",
    "past": "select tenant, key, ver, uid from chaos.reg_history where tenant like '{}' "
            "order by tenant, key, ver, uid",
    "counter": "select tenant, n from chaos.counter where tenant like '{}'",
    "account": "select tenant, key, amount from chaos.account where tenant like '{}'",
    "ledger": "select tenant, uid, key, amount from chaos.ledger where tenant like '{}' "
              "order by uid, key, amount",
    "child": "select uid from chaos.child where tenant like '{}' order by uid",
}


def table_queries(run):
    """One statement, so one snapshot: a line for each row, its table's name first."""
    return " union all ".join(
        f"select '{name}', row_number() over (), to_jsonb(array[{columns(query)}]::text[])"
        f" from ({query.format(run + chr(92) + '_%')}) {name}" for name, query in QUERIES.items())


def columns(query):
    return query[len("select "):query.index(" from")]


def parse_tables(text, into=None):
    """From psql's unaligned answer to table_queries()."""
    tables = into or Tables()
    rows = {name: [] for name in QUERIES}
    for line in text.splitlines():
        name, number, row = line.split("|", 2)
        rows[name].append((int(number), json.loads(row)))
    for name in rows:
        for _, row in sorted(rows[name]):
            add_row(tables, name, row)
    return tables


def add_row(tables, name, row):
    if name == "log":
        tables.log.setdefault((row[0], int(row[1])), []).append((int(row[2]), row[3], row[4]))
    elif name == "heads":
        tables.heads[row[0], int(row[1])] = int(row[2])
    elif name == "reg":
        tables.reg[row[0], int(row[1])] = (int(row[2]), row[3])
    elif name == "past":
        tables.past.setdefault((row[0], int(row[1])), []).append((int(row[2]), row[3]))
    elif name == "counter":
        tables.counter[row[0]] = int(row[1])
    elif name == "account":
        tables.account[row[0], int(row[1])] = int(row[2])
    elif name == "ledger":
        tables.ledger.setdefault(row[1], []).append((row[0], int(row[2]), int(row[3])))
    else:
        tables.child.append(row[0])


# ---- A run in a folder -----------------------------------------------------------------------

def load(folder):
    with open(os.path.join(folder, "run.json")) as f:
        kept = json.load(f)
    with open(os.path.join(folder, "final.json")) as f:
        final = json.load(f)
    head, ops, stalls, orphans = read_history(os.path.join(folder, "history.jsonl"))
    return Run({**head, **kept["meta"]}, ops, stalls, kept["faults"], kept["promotions"],
               kept["forks"], joined(final["final"]), joined(final["later"]),
               {node: joined([text]) for node, text in final["replicas"].items()}, orphans)


def joined(texts):
    """The tables of several shards as one: a tenant lives in one of them."""
    tables = Tables()
    for text in texts:
        parse_tables(text, tables)
    return tables
