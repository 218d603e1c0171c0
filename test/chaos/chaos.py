#!/usr/bin/env python3
"""What `./dev chaos` does: real servers, an application that writes down all it does, faults, and
a checker that looks whether what was promised held. docs/chaos.md is the manual. Exit status: 0 all
held; 1 something did not, and the folder with the history is named; 2 usage or no fleet."""

import argparse
import collections
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.dont_write_bytecode = True
sys.path[:0] = [HERE, os.path.dirname(HERE)]
from checker import check
from faults import ALL, Faults, now
from fleet import Fleet, FleetError
from net import Net
from picture import draw
from records import OPENING, load, table_queries
from schedule import Nemesis

BUILD = os.environ.get("BUILD") or os.path.join(ROOT, "build")
RECOVER_S = 20
SOON_NS = 300_000_000       # what comes so soon after a fault may be due to it
# What the driver is told beside the URLs: it shall notice and give up in test's time, not in a day's.
SETTINGS = {"DB_HEALTH_INTERVAL": "200ms", "DB_CONNECT_TIMEOUT": "3", "DB_POOL_TIMEOUT": "2",
            "DB_CONNECTION_LIMIT": "16", "DB_MAX_REPLICA_LAG": "2"}
SERVER = {"client_connection_check_interval": "250ms", "autovacuum": "off",
          "wal_receiver_status_interval": "1s", "superuser_reserved_connections": "10"}


class Misuse(Exception):
    """Why it cannot be begun."""


def program(*path):
    path = os.path.join(BUILD, *path)
    if not os.path.exists(path):
        raise Misuse(f"there is no {path}: ./dev build makes it")
    return path


# ---- A fleet and its proxies -----------------------------------------------------------------

class Stage:
    """Where runs happen, one after another."""

    def __init__(self, args, seed):
        self.args = args
        self.fleet = Fleet(args.shards, args.replicas, redis=False, sync=args.sync,
                           max_connections=args.max_connections, settings=SERVER)
        try:
            self.shards = [f"shard{i}" for i in range(args.shards)]
            for shard in self.shards:
                with open(os.path.join(HERE, "schema.sql")) as f:
                    self.fleet.sql(f"{shard}/primary", f.read(),
                                   "grant usage on schema chaos to app",
                                   "grant all on all tables in schema chaos to app")
            self.command("init")        # idempotency keys need its table
            ports = {row["node"]: row["port"] for row in self.fleet.status()}
            self.net = Net(ports, seed)
        except BaseException:
            self.fleet.down()
            raise

    def close(self):
        self.net.close()
        self.fleet.down()

    def environment(self, through=True):
        """The URLs lead through the proxies."""
        ours = ("DATABASE_", "DB_", "REDIS_", "PQR_", "PG")
        env = {name: v for name, v in os.environ.items() if not name.startswith(ours)}
        env.update(SETTINGS)
        for name, value in self.fleet.env().items():
            if through and name.endswith("_URL"):
                for node, port in self.net.ports.items():
                    value = value.replace(f":{self.port(node)}/", f":{port}/")
            env[name] = value
        return env

    def port(self, node):
        return self.fleet._facts["ports"][node]

    def command(self, *args):
        done = subprocess.run([program("cli", "pqrouter"), *args], text=True, capture_output=True,
                              env=self.environment(through=False))
        if done.returncode:
            raise Misuse(f"pqrouter {args[0]}: {done.stderr.strip()}")
        return done.stdout

    def seed_rows(self, run, tenants, keys, primaries):
        names = [f"{run}_tn{i:03d}x" for i in range(tenants)]
        for shard in self.shards:
            here = [n for n in names if self.shard_of(n) == shard]
            values = ", ".join(f"('{n}')" for n in here) or "(null)"
            each = f"from (values {values}) t(tenant), generate_series(0, {keys - 1}) key"
            self.fleet.sql(
                primaries[shard],
                f"insert into chaos.list select tenant, key, 0 {each} where tenant is not null",
                f"insert into chaos.reg select tenant, key, 0, '-' {each} where tenant is not null",
                f"insert into chaos.account select tenant, key, {OPENING} {each} "
                "where tenant is not null",
                f"insert into chaos.counter select tenant, 0 from (values {values}) t(tenant) "
                "where tenant is not null")

    def shard_of(self, tenant):
        if len(self.shards) == 1:
            return "shard0"
        slot = int(json.loads(self.command("slot", tenant, "--json"))[0]["slot"])
        return f"shard{slot * len(self.shards) // 16384}"


# ---- One run ---------------------------------------------------------------------------------

class Driver:
    """The application, and what it has counted so far."""

    def __init__(self, stage, folder, options):
        argv = [program("test", "chaos", "chaos-driver"),
                "--history", os.path.join(folder, "history.jsonl")]
        for name, value in options.items():
            argv += [f"--{name}", str(value)]
        self.process = subprocess.Popen(argv, env=stage.environment(), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.told = []
        self.counts = {"OK": 0, "FAILED": 0, "UNKNOWN": 0}
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.counts = json.loads(line)
            self.told.append(self.counts)

    def end(self):
        """Its exit status; None: it did not end, and was killed."""
        self.process.stdin.close()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None


class Trial:
    """One run: who drives, what is done to the servers, and what is kept of it."""

    def __init__(self, stage, folder, faults, options):
        self.stage, self.folder, self.faults = stage, folder, faults
        self.run, self.options = faults.run, {"run": faults.run, **options}
        self.extra, self.recovered_ms = [], None

    def begin(self):
        self.stage.seed_rows(self.run, self.options["tenants"], self.options["keys"],
                             self.faults.primary)
        for shard in self.stage.shards:
            self.faults.caught_up(shard)
        self.began = now()
        self.driver = Driver(self.stage, self.folder, self.options)

    def end(self, later_s):
        """Heals, sees that writes go on, ends the driver, and reads what there is."""
        self.faults.heal()
        self.recover()
        status = self.driver.end()
        if status != 0:
            self.extra.append(("driver", "it did not end" if status is None else
                               f"it ended with status {status}"))
        self.ended = now()
        final = self.read_primaries()
        time.sleep(later_s)
        later = self.read_primaries()
        for shard in self.stage.shards:
            self.faults.caught_up(shard)
        replicas = {n: self.rows(n) for s in self.stage.shards for n in self.faults.standbys(s)}
        self.keep("final.json", {"final": final, "later": later, "replicas": replicas})
        self.keep("run.json", {
            "meta": {"sync": self.stage.args.sync, "seed": self.options["seed"],
                     "slack_ms": self.stage.args.slack, "began": self.began,
                     "ended": self.ended},
            "faults": self.faults.noted, "promotions": self.faults.promotions,
            "forks": self.faults.forks, "errors": self.faults.errors})

    def recover(self):
        """Some more writes than before are acknowledged, soon."""
        healed, before = now(), self.driver.counts["OK"]
        if self.faults.until(lambda: self.driver.counts["OK"] > before + 50
                             or self.driver.process.poll() is not None, RECOVER_S):
            self.recovered_ms = (now() - healed) // 1_000_000
        else:
            self.extra.append(("recovery", f"less than 50 calls were OK in {RECOVER_S} s after "
                               "all was healed"))

    def rows(self, node):
        return self.faults.sql(node, table_queries(self.run), timeout=60)

    def read_primaries(self):
        return [self.rows(self.faults.primary[shard]) for shard in self.stage.shards]

    def keep(self, name, what):
        with open(os.path.join(self.folder, name), "w") as f:
            json.dump(what, f)

    def judge(self):
        """(the run, the checker's report)"""
        run = load(self.folder)
        report = check(run)
        report.violations += self.extra
        return run, report


# ---- What is told ----------------------------------------------------------------------------

class Page:
    """Progress, a line a second at most: what has happened and how many calls ended how."""

    def __init__(self, quiet):
        self.quiet, self.events, self.lock = quiet, [], threading.Lock()
        self.began = time.monotonic()

    def say(self, text):
        with self.lock:
            self.events.append(text)

    def tick(self, driver):
        with self.lock:
            events, self.events = self.events, []
        if not self.quiet:
            c = driver.counts
            print(f"{time.monotonic() - self.began:6.1f} s  {c['OK']:7} OK {c['FAILED']:6} failed "
                  f"{c['UNKNOWN']:5} unknown  {'; '.join(events)}", file=sys.stderr, flush=True)


def first_writes(run):
    """For each promotion: how long after its end the first write was acknowledged by the new
    primary, in ms."""
    found = []
    for p in run.promotions:
        ends = [op.end for op in run.ops if op.ok and op.writes and op.node == p["node"]
                and op.end > p["until"]]
        if not p["accident"]:
            found.append({"node": p["node"], "ms": (min(ends) - p["until"]) // 1_000_000
                          if ends else None})
    return found


def reads_failed(run):
    """Reads that had time enough and failed all the same, by the fault that was about."""
    found = collections.Counter()
    for op in run.ops:
        if (op.label == "FAILED" and not op.writes and op.kind != "fail_read"
                and op.code != "CANCELLED" and op.deadline_ms >= 300):
            about = {f["kind"] for f in run.faults
                     if f["from"] < op.end and op.call < f["until"] + SOON_NS}
            found["+".join(sorted(about)) or "no fault"] += 1
    return dict(found.most_common())


def summary(trial, run, report):
    labels = collections.Counter(op.label or "no end" for op in run.ops)
    writes = [op for op in run.ops if op.writes]
    return {
        "seed": trial.options["seed"], "sync": run.sync,
        "seconds": round((trial.ended - trial.began) / 1e9, 1),
        "operations": len(run.ops), "ok": labels["OK"], "failed": labels["FAILED"],
        "unknown": labels["UNKNOWN"],
        "writes": len(writes), "writes_unknown": sum(op.label == "UNKNOWN" for op in writes),
        "rows_lost": sum(op.code == "ROWS_LOST" for op in run.ops),
        "unknown_that_happened": sum(op.label == "UNKNOWN" and op.id in run.final.uids()
                                     for op in writes if op.kind != "add"),
        "failed_by_code": dict(collections.Counter(
            f"{op.code} {op.sqlstate}".strip() for op in run.ops
            if op.label == "FAILED").most_common()),
        "reads_failed": reads_failed(run),
        "faults": dict(collections.Counter(f["kind"] for f in run.faults)),
        "promotions": first_writes(run), "recovered_ms": trial.recovered_ms,
        "counts": dict(report.counts),
        "nemesis_errors": trial.faults.errors,
        "violations": dict(collections.Counter(rule for rule, _ in report.violations)),
    }


def table(s):
    def line(name, value):
        return f"  {name:<34} {value}"
    rows = [line("operations", s["operations"]), line("OK", s["ok"]), line("FAILED", s["failed"]),
            line("UNKNOWN", s["unknown"]), line("  of them had happened", s["unknown_that_happened"])]
    rows += [line("OK, its rows lost", s["rows_lost"])]
    rows += [line(f"reads failed: {about}", n) for about, n in list(s["reads_failed"].items())[:9]]
    rows += [line(f"failed: {code}", n) for code, n in s["failed_by_code"].items()]
    rows += [line(f"fault: {kind}", n) for kind, n in sorted(s["faults"].items())]
    rows += [line(f"first write after promotion of {p['node']}",
                  "none" if p["ms"] is None else f"{p['ms']} ms") for p in s["promotions"]]
    rows += [line(name.replace("_", " "), n) for name, n in sorted(s["counts"].items())]
    rows += [line("recovered after", f"{s['recovered_ms']} ms")]
    rows += [line("a fault went wrong", text) for text in s["nemesis_errors"]]
    rows += [line("violations", sum(s["violations"].values()) or "none")]
    rows += [line(f"  {rule}", n) for rule, n in s["violations"].items()]
    return "\n".join(rows)


# ---- The command -----------------------------------------------------------------------------

def arguments(argv):
    p = argparse.ArgumentParser(prog="./dev chaos", allow_abbrev=False,
                                description="Real servers under faults, checked. docs/chaos.md")
    p.add_argument("--seconds", type=int, default=60, help="of faults; default: 60")
    p.add_argument("--level", type=int, choices=range(4), default=1,
                   help="0 no faults, 1 one after another, 2 pairs, 3 more; default: 1")
    p.add_argument("--seed", type=int, help="of faults and work; default: another one each time")
    p.add_argument("--json", action="store_true", help="print the counts as JSON")
    p.add_argument("--sync", action="store_true", help="a commit waits for one standby")
    p.add_argument("--shards", type=int, default=1)
    p.add_argument("--replicas", type=int, default=2)
    p.add_argument("--rate", type=int, default=400, help="operations a second; default: 400")
    p.add_argument("--max-connections", type=int, default=60, help="of each server; default: 60")
    p.add_argument("--faults", default=",".join(ALL), help="only these kinds, with commas between")
    p.add_argument("--longest", type=float, default=2.0, help="seconds that a fault lasts at most")
    p.add_argument("--slack", type=int, default=100, metavar="MS",
                   help="behind a deadline, for slow builds; default: 100")
    p.add_argument("--mutant", default="none", help="a mistake of the driver's, to be found")
    p.add_argument("--keep", metavar="DIR", help="keep the run there, whatever comes out")
    args = p.parse_args(argv)
    args.faults = args.faults.split(",")
    if unknown := set(args.faults) - set(ALL):
        p.error(f"no fault {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    return args


def driver_options(args, seed):
    """Lists stay short enough to be looked at whole, however long it takes."""
    return {"seed": seed, "seconds": args.seconds + 600, "rate": args.rate, "mutant": args.mutant,
            "tenants": 8, "keys": max(4, min(64, args.seconds * args.rate // 8000)),
            "threads": 8, "actors": 16}


def chaos(args, folder):
    seed = args.seed if args.seed is not None else random.randrange(1_000_000)
    page = Page(args.json)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    stage = Stage(args, seed)
    try:
        faults = Faults(stage.fleet, stage.net, seed, "r", page.say)
        trial = Trial(stage, folder, faults, driver_options(args, seed))
        trial.begin()
        nemesis = Nemesis(trial.faults, args.level, args.faults, seed, args.longest)
        nemesis.start()
        until = time.monotonic() + args.seconds
        while time.monotonic() < until and trial.driver.process.poll() is None:
            time.sleep(1)
            page.tick(trial.driver)
        nemesis.end()
        trial.end(max(2, min(60, args.seconds / 10)))
        page.tick(trial.driver)
    finally:
        stage.close()
    run, report = trial.judge()
    s = summary(trial, run, report)
    trial.keep("summary.json", s)
    with open(os.path.join(folder, "picture.html"), "w") as f:
        f.write(draw(run, s))
    return s, report


def again(argv, args, seed):
    """The command that does the same; not into the same folder."""
    left = [a for i, a in enumerate(argv) if a != "--keep" and argv[i - 1:i] != ["--keep"]
            and not a.startswith("--keep=")]
    return " ".join(["./dev chaos", *left] + ([] if args.seed is not None else ["--seed", str(seed)]))


def main(argv):
    args = arguments(argv)
    folder = args.keep or tempfile.mkdtemp(prefix="pqrouter-chaos-")
    os.makedirs(folder, exist_ok=True)
    if os.listdir(folder):
        print(f"chaos: {folder} is not empty: two runs are not to be mixed", file=sys.stderr)
        return 2
    try:
        s, report = chaos(args, folder)
    except (FleetError, Misuse) as e:
        print(f"chaos: {e}", file=sys.stderr)
        return 2
    print(json.dumps(s, indent=1) if args.json else table(s))
    for rule, text in report.violations[:20]:
        print(f"{rule}: {text}", file=sys.stderr)
    print(f"again: {again(argv, args, s['seed'])}", file=sys.stderr)
    if report.violations or args.keep:
        print(f"kept in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
