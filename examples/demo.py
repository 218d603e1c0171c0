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
from fleet import Fleet, FleetError                                                     # noqa: E402

LIMIT_S = 110       # the whole
WAIT_S = 20         # for the router to notice something
READS = 20          # in one go, each in a session of its own
NAMES = ["acme", "globex", "initech", "hooli", "umbrella", "stark", "wayne", "tyrell", "wonka"]

# What the application is told beside the URLs. Without these it is 5 s and 1 s: a longer demo.
SETTINGS = {"DB_MAX_REPLICA_LAG": "1s", "DB_HEALTH_INTERVAL": "200ms"}


class Stop(Exception):
    """No use in going on."""


# ---- The application -------------------------------------------------------------------------

class Application:
    """One process of demo_app.c: a line to it, a line of JSON from it."""

    def __init__(self, urls):
        ours = ("DATABASE_", "DB_", "REDIS_", "PQR_", "PG")
        env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        self.process = subprocess.Popen(
            [os.path.join(BUILD, "examples", "demo_app")], env={**env, **urls, **SETTINGS},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

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
    """Steps, what was done in them, who served, and whether that is right."""

    def __init__(self):
        self.tty = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.colour = self.tty and "NO_COLOR" not in os.environ
        self.steps, self.failed = 0, {}         # failed: step → its title
        sys.stdout.reconfigure(errors="replace", line_buffering=True)
        utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        self.good, self.bad, self.dots = ("✓", "✗", "…") if utf8 else ("ok", "FAILED", "...")

    def paint(self, text, code):
        return f"\033[{code}m{text}\033[0m" if self.colour else text

    def step(self, title, why):
        self.steps += 1
        self.title = title
        print(f"\n{self.paint(f'{self.steps:2}  {title}', 1)}\n    {self.paint(why, 2)}")

    def row(self, what, result):
        print(f"      {what:<34} {result}")

    def check(self, right, text):
        if right:
            print(f"    {self.paint(self.good, 32)} {text}")
        else:
            self.failed[self.steps] = self.title
            print(f"    {self.paint(self.bad, 31)} {self.paint('NOT so:', 31)} {text}")

    def wait(self, what, state):
        """Until state() is (True, …); its second is what is shown meanwhile. True: it came so."""
        began = shown = time.monotonic()
        done, text = state()
        while not done and time.monotonic() < began + WAIT_S:
            if self.tty:
                print(f"\r\033[K      {self.dots} {text}", end="", flush=True)
            elif time.monotonic() >= shown + 0.5:
                print(f"      {self.dots} {text}")
                shown = time.monotonic()
            time.sleep(0.1)
            done, text = state()
        if self.tty:
            print("\r\033[K", end="")
        took = time.monotonic() - began
        self.row(what, f"after {took:.1f} s: {text}" if done else f"not in {took:.0f} s: {text}")
        return done


def counts(servers):
    return ", ".join(f"{name} {n}" for name, n in sorted(servers.items())) or "nobody"


# ---- The story -------------------------------------------------------------------------------

class Story:
    def __init__(self, page, fleet, app):
        self.page, self.fleet, self.app = page, fleet, app
        self.written = collections.Counter()    # tenant → its notes

    def tell(self):
        """Every step that went wrong is in page.failed."""
        self.stamp()
        self.find_tenants()
        self.write()
        self.spread()
        self.read_own_writes()
        self.refuse_hidden_writes()
        self.leave_out_a_lagging_replica()
        self.take_it_back()
        self.survive_a_killed_replica()
        self.fall_back_to_the_primary()
        self.take_both_back()

    # --- What the steps are made of

    def calls(self, what, answers):
        """Prints who served; a Counter of the servers if all answered and both words agree."""
        errors = [a for a in answers if "error" in a]
        lies = [a for a in answers if "error" not in a and a["server"] != a["source"]]
        servers = collections.Counter(a["server"] for a in answers if "error" not in a)
        self.page.row(what, counts(servers))
        for a in errors[:1]:
            self.page.row("", f"{len(errors)} failed: {a['error']}: {a['message']}")
        for a in lies[:1]:
            self.page.row("", f"{len(lies)} came from {a['server']}, but pqr_source says {a['source']}")
        return collections.Counter() if errors or lies else servers

    def add_note(self, tenant, text="a note"):
        answer = self.app.ask("write", tenant, text)
        self.written[tenant] += "error" not in answer
        return self.calls(f"{tenant} writes", [answer])

    def reads(self, tenant, by, text, see_all=False):
        """READS sessions of a tenant, a read each: shared evenly by exactly these servers."""
        answers = [self.app.ask("read", tenant) for _ in range(READS)]
        servers = self.calls(f"{READS} sessions of {tenant} read", answers)
        right = set(servers) == set(by) and min(servers.values()) >= READS // len(by) - 1
        if see_all:
            right = right and all(a["notes"] == self.written[tenant] for a in answers)
        self.page.check(right, text)

    def primary(self, tenant):
        return f"shard{self.shard[tenant]}/primary"

    def replicas(self, tenant):
        return [f"shard{self.shard[tenant]}/replica{n}" for n in (1, 2)]

    def wait_until_reading(self, *nodes):
        def state():
            known = self.app.ask("nodes")
            out = [f"{n}: {known[n]['why']}" for n in nodes if not known[n]["serves_reads"]]
            return not out, "; ".join(out) or "serving reads"
        return self.page.wait(f"{' and '.join(n.split('/')[1] for n in nodes)} back", state)

    # --- The steps

    def stamp(self):
        self.page.step("The databases are stamped", "Each says whose it is (`pqrouter init` does it, once), "
                       "so a mistaken URL cannot reach another shard's rows.")
        self.app.do("init")
        stamps = [self.fleet.sql(f"shard{i}/primary", "select shard from pqrouter.stamp") for i in (0, 1)]
        self.page.row("stamps of the two primaries", f"shard {stamps[0]}, shard {stamps[1]}")
        self.page.check(stamps == ["0", "1"], "each database carries its own number")

    def find_tenants(self):
        self.page.step("Two tenants live on two shards",
                       "A hash of the tenant's name decides, the same in every process and language.")
        self.shard = {}
        for name in NAMES:
            place = self.app.do("place", name)
            if place["shard"] not in self.shard.values():
                self.shard[name] = place["shard"]
                self.page.row(name, f"slot {place['slot']} of 16384, shard {place['shard']}")
            if len(self.shard) == 2:
                break
        self.page.check(set(self.shard.values()) == {0, 1}, f"{' and '.join(self.shard)} do not share a server")
        if len(self.shard) < 2:
            raise Stop("no two of the names are on different shards")
        self.one, self.other = self.shard
        for tenant in self.shard:
            self.app.do("make", tenant)

    def write(self):
        self.page.step("A write goes to the primary of its tenant's shard",
                       "The application names the tenant, and no server.")
        right = [self.add_note(t, "first") == {self.primary(t): 1} for t in self.shard]
        rows = [self.fleet.sql(f"shard{i}/primary", "select string_agg(tenant, ' ') from note") for i in (0, 1)]
        self.page.row("tenants in the tables, by shard", f"{rows[0]} | {rows[1]}")
        in_place = all(rows[self.shard[t]] == t for t in self.shard)
        self.page.check(all(right) and in_place, "each note is on its own shard, and only there")

    def spread(self):
        self.page.step("Reads are spread over the replicas",
                       "So the primary has its time for writes, and each replica bears its share.")
        for tenant in self.shard:
            self.reads(tenant, self.replicas(tenant), "both replicas, evenly; not the primary")

    def read_own_writes(self):
        self.page.step("A session sees its own write at once",
                       "Replicas are always a little behind: who has just written must not notice.")
        self.own_writes("each session counts its own note too")

    def own_writes(self, text, without=()):
        answers = []
        self_seen = True
        for _ in range(READS):
            answers.append(self.app.ask("own", self.one, "mine"))
            self.written[self.one] += 1
            self_seen = self_seen and answers[-1].get("notes") == self.written[self.one]
        servers = self.calls(f"{READS} sessions write, then read", answers)
        self.page.check(servers and self_seen and not set(servers) & set(without), text)

    def refuse_hidden_writes(self):
        self.page.step("A read that writes is refused, everywhere",
                       "WITH … DELETE … SELECT looks like a read. On a replica it cannot work; on the "
                       "primary it must not.")
        refused = []
        for where in ("replica", "primary"):
            answer = self.app.ask("sneak", self.one, where)
            error = answer.get("error", "done!")
            self.page.row(f"sent to a {where}", f"{answer.get('node') or answer.get('server')}: {error}, "
                          f"SQLSTATE {answer.get('sqlstate')}")
            refused.append((error, answer.get("sqlstate"), where in answer.get("node", "")))
        left = self.fleet.sql(self.primary(self.one), f"select count(*) from note where tenant = '{self.one}'")
        self.page.check(refused == [("READ_ONLY", "25006", True)] * 2 and int(left) == self.written[self.one],
                        "the servers themselves refused it, and all notes are still there")

    def leave_out_a_lagging_replica(self):
        lagging, good = self.replicas(self.one)
        self.page.step("A replica that lags is left out",
                       "It answers, and fast, but with old data: no error would ever tell.")
        self.page.row("done to it", self.fleet.pause_replay(lagging))
        self.own_writes("before anybody knows of the lag: each session counts its own note too",
                        without=[lagging])

        def left_out():
            known = self.app.ask("nodes")[lagging]
            return not known["serves_reads"], known["why"] or f"{known['lag_ms']} ms behind"
        self.page.wait(f"{lagging.split('/')[1]} left out", left_out)
        says = self.fleet.sql(lagging, f"select count(*) from note where tenant = '{self.one}'")
        self.page.row("asked directly, it counts", f"{says} notes of {self.written[self.one]}")
        self.reads(self.one, [good], f"all by {good}, and all count every note", see_all=True)

    def take_it_back(self):
        back = self.replicas(self.one)[0]
        self.page.step("It has caught up, and serves again", "Nobody had to tell the application.")
        self.page.row("done to it", self.fleet.resume_replay(back))
        self.wait_until_reading(back)
        self.reads(self.one, self.replicas(self.one), "both replicas again, with every note", see_all=True)

    def survive_a_killed_replica(self):
        killed, good = self.replicas(self.one)
        self.page.step("A replica dies", "A read that finds its server dead goes to the next one, and "
                       "the application sees an answer.")
        self.page.row("done to it", self.fleet.kill(killed))
        self.reads(self.one, [good], f"at once all by {good}, and not one failed")

    def fall_back_to_the_primary(self):
        dead, frozen = self.replicas(self.one)
        self.page.step("The last replica freezes, and the primary answers",
                       "A frozen server refuses nothing, it only never answers: it must be noticed.")
        self.page.row("done to it", self.fleet.stop(frozen))

        def noticed():
            known = self.app.ask("nodes")[frozen]
            return not known["serves_reads"], f"{frozen}: {known['why'] or 'nothing noticed yet'}"
        self.page.wait("noticed", noticed)
        self.reads(self.one, [self.primary(self.one)], "all by the primary")
        right = self.add_note(self.one) == {self.primary(self.one): 1}
        self.page.check(right, "writes go on")
        self.reads(self.other, self.replicas(self.other), f"{self.other}, on the other shard, notices nothing")

    def take_both_back(self):
        dead, frozen = self.replicas(self.one)
        self.page.step("Both come back, and the primary is relieved", "Again nobody had to tell the application.")
        self.page.row("done to them", f"{self.fleet.cont(frozen)}; {self.fleet.start(dead)}")
        self.wait_until_reading(dead, frozen)
        self.reads(self.one, self.replicas(self.one), "both replicas, as in the beginning", see_all=True)


# ---- Around it -------------------------------------------------------------------------------

def play(page, keep):
    """From the first server to the last line; the exit status."""
    began = time.monotonic()
    print(page.paint("pqrouter: an application, two shards of three PostgreSQL servers, "
                     "and what may happen to them", 1))
    print("\n    The servers are real and throw-away: they start now, and "
          + ("stay." if keep else "go when this ends."))
    fleet = Fleet(shards=2, replicas=2, owner=None if keep else 0)
    try:
        print(f"    Up in {time.monotonic() - began:.1f} s: {', '.join(fleet.nodes)}")
        try:
            tell(page, fleet)
        except (Stop, FleetError) as e:
            page.check(False, str(e))
        status = sum_up(page, time.monotonic() - began)
        signal.alarm(0)
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


def sum_up(page, seconds):
    if page.failed:
        steps = "; ".join(f"step {n}, {title}" for n, title in page.failed.items())
        print(f"\n{page.paint('FAILED', 31)}: {steps}")
        return 1
    print(f"\n{page.paint(f'All {page.steps} steps went where they should', 32)}, in {seconds:.0f} s.")
    return 0


def how_to_go_on(fleet):
    include, lib = os.path.join(ROOT, "include"), os.path.join(BUILD, "lib")
    where = shlex.quote(fleet.folder)
    return f"""
The servers stay up. A program of your own, beginning with a copy of examples/hello.c:

    cd {shlex.quote(ROOT)}
    eval "$(test/fleet.py env --dir {where})"
    cc -I{shlex.quote(include)} examples/hello.c -o /tmp/hello \\
        -L{shlex.quote(lib)} -Wl,-rpath,{shlex.quote(lib)} -lpqrouter
    /tmp/hello

What may happen to the servers (docs/fleet.md has more):

    test/fleet.py status
    test/fleet.py kill shard0/replica1          # and: start shard0/replica1
    test/fleet.py stop shard0/primary           # frozen; and: cont shard0/primary

And to take them away:

    test/fleet.py down --dir {where}"""


def too_long(*_):
    raise Stop(f"this should be over long ago: given up after {LIMIT_S} s")


def main():
    parser = argparse.ArgumentParser(description="An application's statements find their servers.")
    parser.add_argument("--keep", action="store_true", help="leave the servers up, and say how to use them")
    keep = parser.parse_args().keep
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LIMIT_S)
    try:
        return play(Page(), keep)
    except (Stop, FleetError) as e:
        print(f"demo: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; the servers are gone", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
