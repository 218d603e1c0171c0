#!/usr/bin/env python3
"""What `./dev demo` shows: an application's statements find their servers, also while servers fail.

Starts a fleet, and beside it one process of demo_app.c, whose one router lives through everything.
Who served is never taken on trust: each statement returns current_setting('cluster_name'), which
is the server's own name, and pqr_source must say the same. Exit status 0: every step went where
it should."""

import argparse
import collections
import json
import os
import shlex
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("BUILD") or os.path.join(ROOT, "build")
sys.path.insert(0, os.path.join(ROOT, "test"))
sys.dont_write_bytecode = True
from fleet import Fleet, FleetError

LIMIT_S = 110       # for the whole
WAIT_S = 20         # for the router to notice something
READS = 20          # at a time, each in a session of its own
NAMES = ["acme", "globex", "initech", "hooli", "umbrella", "stark", "wayne", "tyrell", "wonka"]

# What the application is told beside the URLs. The defaults, 5 s and 1 s, make a longer demo.
SETTINGS = {"DB_MAX_REPLICA_LAG": "1s", "DB_HEALTH_INTERVAL": "200ms"}


class Stop(Exception):
    """Why there is no use in going on."""


# ---- The application -------------------------------------------------------------------------

class Application:
    """One process of demo_app.c: a line to it, a line of JSON from it."""

    def __init__(self, urls):
        ours = ("DATABASE_", "DB_", "REDIS_", "PQR_", "PG")
        env = {name: v for name, v in os.environ.items() if not name.startswith(ours)}
        program = os.path.join(BUILD, "examples", "demo_app")
        if not os.path.exists(program):
            raise Stop(f"there is no {program}: ./dev build makes it")
        self.process = subprocess.Popen([program], env={**env, **urls, **SETTINGS}, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1)

    def ask(self, *words):
        try:
            self.process.stdin.write(" ".join(words) + "\n")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Stop(f"the application ended with status {self.process.wait()}")
        return json.loads(line)

    def do(self, *words):
        """For what must succeed, or there is no story."""
        answer = self.ask(*words)
        if "error" in answer:
            raise Stop(f"{' '.join(words)}: {answer['error']}: {answer['message']}")
        return answer

    def end(self):
        """Its exit status."""
        self.process.stdin.close()
        return self.process.wait()


# ---- What is printed -------------------------------------------------------------------------

class Page:
    """Steps: what was done, who served it, and whether that is right."""

    def __init__(self):
        sys.stdout.reconfigure(errors="replace", line_buffering=True)
        self.tty = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.colour = self.tty and "NO_COLOR" not in os.environ
        unicode = (sys.stdout.encoding or "").lower().startswith("utf")
        self.yes, self.no, self.dots = ("✓", "✗", "…") if unicode else ("ok", "FAILED", "...")
        self.number, self.title = 0, "the beginning"
        self.failed = {}                                    # number of a step → its title

    def paint(self, text, code):
        return f"\033[{code}m{text}\033[0m" if self.colour else text

    def step(self, title, why):
        self.number, self.title = self.number + 1, title
        print(f"\n{self.paint(f'{self.number:2}  {title}', 1)}\n    {self.paint(why, 2)}")

    def event(self, text):
        print(f"    {self.paint('!', 33)} {self.paint(text, 33)}")

    def row(self, what, result):
        print(f"      {what:<29} {result}")

    def check(self, right, text):
        if not right:
            self.failed[self.number] = self.title
        print(f"    {self.paint(self.yes, 32)} {text}" if right else
              f"    {self.paint(f'{self.no} this should be so, and is not:', 31)} {text}")

    def wait(self, what, look):
        """Until look() returns (True, what is so now); shows the second meanwhile."""
        began = shown = time.monotonic()
        done, text = look()
        while not done and time.monotonic() < began + WAIT_S:
            if self.tty:
                print(f"\r\033[K      {self.dots} {text}", end="", flush=True)
            elif time.monotonic() > shown + 0.5:
                print(f"      {self.dots} {text}")
                shown = time.monotonic()
            time.sleep(0.1)
            done, text = look()
        if self.tty:
            print("\r\033[K", end="")
        seconds = f"{time.monotonic() - began:.1f} s"
        self.row(what, f"after {seconds}: {text}" if done else f"not in {seconds}: {text}")


# ---- The story -------------------------------------------------------------------------------

class Story:
    def __init__(self, page, fleet, app):
        self.page, self.fleet, self.app = page, fleet, app
        self.shard = {}             # tenant → its shard

    def tell(self):
        self.stamp()
        self.find_tenants()
        self.write()
        self.spread()
        self.read_own_writes()
        self.refuse_hidden_writes()
        self.leave_out_a_lagging_replica()
        self.take_it_back()
        self.lose_a_replica()
        self.fall_back_to_the_primary()
        self.take_both_back()

    # --- What steps are made of

    def primary(self, tenant):
        return f"shard{self.shard[tenant]}/primary"

    def replicas(self, tenant):
        return [f"shard{self.shard[tenant]}/replica{n}" for n in (1, 2)]

    def notes(self, tenant, node=None):
        """How many there are: not by way of the library, and on the primary unless told."""
        return int(self.fleet.sql(node or self.primary(tenant),
                                  f"select count(*) from note where tenant = '{tenant}'"))

    def served(self, what, answers):
        """Prints who served; server → calls, or {} if a call failed or the two words differ."""
        failed = [a for a in answers if "error" in a]
        answered = [a for a in answers if "error" not in a]
        differ = [a for a in answered if a["server"] != a["source"]]
        servers = collections.Counter(a["server"] for a in answered)
        self.page.row(what, ", ".join(f"{n} {count}" for n, count in sorted(servers.items())))
        for a in failed[:1]:
            self.page.row("", f"{len(failed)} failed: {a['error']}: {a['message']}")
        for a in differ[:1]:
            self.page.row("", f"{len(differ)} by {a['server']}, but pqr_source says {a['source']}")
        return {} if failed or differ else servers

    def check_write(self, tenant, text):
        servers = self.served(f"{tenant} writes", [self.app.ask("write", tenant, "a note")])
        self.page.check(servers == {self.primary(tenant): 1}, text)

    def check_reads(self, tenant, by, text, all_notes=False):
        """Reads are shared by exactly these servers, and evenly."""
        answers = [self.app.ask("read", tenant) for _ in range(READS)]
        servers = self.served(f"{READS} sessions of {tenant} read", answers)
        right = set(servers) == set(by) and min(servers.values()) >= READS // len(by) - 1
        if all_notes:
            right = right and {a["notes"] for a in answers} == {self.notes(tenant)}
        self.page.check(right, text)

    def check_own_writes(self, tenant, text, never=""):
        """Sessions that write and then count see one note more each, the last one their own."""
        before = self.notes(tenant)
        answers = [self.app.ask("own", tenant, "mine") for _ in range(READS)]
        servers = self.served(f"{READS} sessions write and count", answers)
        counted = [a.get("notes") for a in answers]
        self.page.check(counted == list(range(before + 1, before + READS + 1))
                        and servers and never not in servers, text)

    def wait_for_return(self, nodes):
        def look():
            known = self.app.ask("nodes")
            back = all(known[n]["serves_reads"] and known[n]["lag_ms"] == 0 for n in nodes)
            return back, "; ".join(f"{n}: {known[n]['why']}" for n in nodes if known[n]["why"]) \
                or ("reads may go there" if back else "catching up")
        self.page.wait("noticed", look)

    def wait_for_absence(self, node):
        def look():
            known = self.app.ask("nodes")[node]
            lag = f"{known['lag_ms']} ms behind" if known["lag_ms"] else "nothing noticed yet"
            return not known["serves_reads"], known["why"] or lag
        self.page.wait("noticed", look)

    # --- The steps

    def stamp(self):
        self.page.step("Each database is stamped",
                       "It says whose it is, so a mistaken URL cannot reach another shard's rows.")
        self.app.do("init")
        stamps = [self.fleet.sql(f"shard{i}/primary", "select shard from pqrouter.stamp")
                  for i in (0, 1)]
        for i, stamp in enumerate(stamps):
            self.page.row(f"shard{i}/primary says", f"shard {stamp}")
        self.page.check(stamps == ["0", "1"], "each carries its own number (of `pqrouter init`)")

    def find_tenants(self):
        self.page.step("Two tenants live on two shards",
                       "A hash of the name decides, the same in every process and language.")
        for name in NAMES:
            place = self.app.do("place", name)
            if place["shard"] not in self.shard.values():
                self.shard[name] = place["shard"]
                self.page.row(name, f"slot {place['slot']} of 16384, on shard {place['shard']}")
        if sorted(self.shard.values()) != [0, 1]:
            raise Stop("no two of the names are on different shards")
        self.one, self.other = self.shard
        self.page.check(True, f"{self.one} and {self.other} share no server")
        for tenant in self.shard:
            self.app.do("make", tenant)

    def write(self):
        self.page.step("A write goes to the primary of its tenant's shard",
                       "The application names the tenant, and never a server.")
        for tenant in self.shard:
            self.check_write(tenant, f"{tenant}'s primary")
        rows = {i: self.fleet.sql(f"shard{i}/primary", "select tenant from note") for i in (0, 1)}
        self.page.check(rows == {i: tenant for tenant, i in self.shard.items()},
                        "each note is on its own shard, and only there")

    def spread(self):
        self.page.step("Reads are spread over the replicas",
                       "So the primary has its time for writes, and each replica bears its share.")
        for tenant in self.shard:
            self.check_reads(tenant, self.replicas(tenant), "both replicas, evenly")

    def read_own_writes(self):
        self.page.step("A session sees its own write at once",
                       "Until a replica is known to have it, the primary answers this session.")
        self.check_own_writes(self.one, "each session has counted its own note")

    def refuse_hidden_writes(self):
        self.page.step("A read that writes is refused everywhere",
                       "WITH x AS (DELETE …) SELECT … looks like a read. A primary would do it.")
        before, refused = self.notes(self.one), True
        for where in ("replica", "primary"):
            answer = self.app.ask("sneak", self.one, where)
            error, state, node = (answer.get(k, "") for k in ("error", "sqlstate", "node"))
            refused = refused and (error, state) == ("READ_ONLY", "25006") and where in node
            self.page.row(f"tried on a {where}", f"{node}: {error or 'done!'} (SQLSTATE {state})")
        self.page.check(refused, "the servers refused it themselves")
        self.page.check(self.notes(self.one) == before, f"all {before} notes are still there")

    def leave_out_a_lagging_replica(self):
        lagging, good = self.replicas(self.one)
        self.page.step("A replica that lags is left out",
                       "It answers, and fast, but with what was: no error would ever tell.")
        self.page.event(self.fleet.pause_replay(lagging))
        self.check_own_writes(self.one, "each session has counted its own note, noticed or not",
                              never=lagging)
        self.wait_for_absence(lagging)
        self.page.row("asked directly, it counts",
                      f"{self.notes(self.one, lagging)} notes of {self.notes(self.one)}")
        self.check_reads(self.one, [good], "the other replica only, with every note",
                         all_notes=True)

    def take_it_back(self):
        back = self.replicas(self.one)[0]
        self.page.step("It has caught up, and serves again", "Nobody had to tell the application.")
        self.page.event(self.fleet.resume_replay(back))
        self.wait_for_return([back])
        self.check_reads(self.one, self.replicas(self.one), "both replicas, with every note",
                         all_notes=True)

    def lose_a_replica(self):
        killed, good = self.replicas(self.one)
        self.page.step("A replica dies",
                       "A read that finds its server dead is run on another; nobody sees an error.")
        self.page.event(self.fleet.kill(killed))
        self.check_reads(self.one, [good], "at once the other replica only, and no read failed")

    def fall_back_to_the_primary(self):
        frozen = self.replicas(self.one)[1]
        self.page.step("The other one freezes, and the primary answers",
                       "A frozen server refuses nothing and never answers: it must be noticed.")
        self.page.event(self.fleet.stop(frozen))
        self.wait_for_absence(frozen)
        self.check_reads(self.one, [self.primary(self.one)], "the primary")
        self.check_write(self.one, "writes go on")
        self.check_reads(self.other, self.replicas(self.other),
                         f"{self.other}, on the other shard, has noticed nothing")

    def take_both_back(self):
        dead, frozen = self.replicas(self.one)
        self.page.step("Both come back, and relieve the primary", "As in the beginning.")
        self.page.event(self.fleet.start(dead))
        self.page.event(self.fleet.cont(frozen))
        self.wait_for_return([dead, frozen])
        self.check_reads(self.one, [dead, frozen], "both replicas, with every note", all_notes=True)


# ---- Around it -------------------------------------------------------------------------------

def play(keep):
    """From the first server to the last line; the exit status."""
    began = time.monotonic()
    page = Page()
    print(page.paint("pqrouter: one application, two shards of three PostgreSQL servers each,\n"
                     "and what may happen to them", 1))
    print("\n    The servers are real. They start now, in a folder of their own, and "
          + ("stay up." if keep else "are gone at the end."))
    fleet = Fleet(shards=2, replicas=2, owner=None if keep else 0)
    try:
        print(f"    Up after {time.monotonic() - began:.1f} s: two shards, each a primary with "
              "replica1 and replica2;\n    and Redis, which this version does not use yet.\n\n"
              "    Beside each action stands who served it, by the server's own word: its "
              "cluster_name.\n    What the library says (pqr_source) must be the same.")
        try:
            tell(page, fleet)
        except (Stop, FleetError) as e:
            page.check(False, f"the story goes on ({e})")
        signal.alarm(0)
        status = sum_up(page, time.monotonic() - began)
        if keep:
            print(how_to_go_on(fleet))
    except BaseException:
        keep = False
        raise
    finally:
        if not keep:
            fleet.down()
    return status


def tell(page, fleet):
    app = Application(fleet.env())
    try:
        Story(page, fleet, app).tell()
        status = app.end()
        if status != 0:
            raise Stop(f"the application ended with status {status}")
    finally:
        app.process.kill()
        app.process.wait()


def sum_up(page, seconds):
    if page.failed:
        for number, title in page.failed.items():
            print(f"\n{page.paint('Failed', 31)}: step {number}, {title}")
        return 1
    print(f"\n{page.paint(f'All {page.number} steps went where they should', 32)}, "
          f"in {seconds:.0f} s.")
    return 0


def how_to_go_on(fleet):
    folder = shlex.quote(fleet.folder)
    lib = os.path.join(BUILD, "lib")
    near = os.path.relpath(lib, ROOT) if lib.startswith(ROOT) else lib
    return f"""
The servers stay up. To build a program against them, at first examples/hello.c:

    cd {shlex.quote(ROOT)}
    eval "$(test/fleet.py env --dir {folder})"
    cc -Iinclude examples/hello.c -o build/hello \\
        -L{shlex.quote(near)} -Wl,-rpath,{shlex.quote(lib)} -lpqrouter
    build/hello

To see how it bears what may happen (docs/fleet.md has more):

    test/fleet.py status
    test/fleet.py kill shard0/replica1          # and: test/fleet.py start shard0/replica1
    test/fleet.py stop shard0/primary           # frozen; and: test/fleet.py cont shard0/primary

To take them away:

    test/fleet.py down --dir {folder}"""


def give_up(*_):
    raise Stop(f"it is not over after {LIMIT_S} s")


def main():
    parser = argparse.ArgumentParser(description="An application's statements find their servers.")
    parser.add_argument("--keep", action="store_true",
                        help="leave the servers up, and say how to use them")
    args = parser.parse_args()
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LIMIT_S)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        return play(args.keep)
    except (Stop, FleetError) as e:
        print(f"demo: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; the servers are gone", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
