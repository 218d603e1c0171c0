#!/usr/bin/env python3
"""What `./dev demo` shows: an application's statements find their servers, also while servers fail.

Starts a fleet, and beside it one process of examples/notes, an HTTP service whose one router lives
through everything; each request is HTTP. Who served is never taken on trust: the answer's body has
current_setting('cluster_name'), which is the server's own name, and the header X-Served-By, which
is what the library says (pqr_source), must be the same. Exit status 0: every step went where it
should."""

import argparse
import collections
import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("BUILD") or os.path.join(ROOT, "build")
sys.path.insert(0, os.path.join(ROOT, "test"))
sys.dont_write_bytecode = True
from fleet import Fleet, FleetError

LIMIT_S = 110       # for the whole
WAIT_S = 20         # for the router to notice something
READS = 20          # at a time, each a request, so each in a session of its own
CLIENTS = 8         # who write and read when the service is told to end
NAMES = ["acme", "globex", "initech", "hooli", "umbrella", "stark", "wayne", "tyrell", "wonka"]

# What the service is told beside the URLs. The defaults, 5 s and 1 s, make a longer demo.
SETTINGS = {"DB_MAX_REPLICA_LAG": "1s", "DB_HEALTH_INTERVAL": "200ms"}


class Stop(Exception):
    """Why there is no use in going on."""


# ---- The service -----------------------------------------------------------------------------

def environment(urls):
    ours = ("DATABASE_", "DB_", "REDIS_", "PQR_", "PG")
    rest = {name: v for name, v in os.environ.items() if not name.startswith(ours)}
    return {**rest, **urls, **SETTINGS}


def program(*path):
    path = os.path.join(BUILD, *path)
    if not os.path.exists(path):
        raise Stop(f"there is no {path}: ./dev build makes it")
    return path


def run(urls, *command, fails=False):
    """What a program prints; it must succeed, or there is no story."""
    done = subprocess.run(command, env=environment(urls), text=True, capture_output=True)
    if done.returncode != 0 and not fails:
        raise Stop(f"{os.path.basename(command[0])}: {done.stderr.strip()}")
    return done.stdout


class Answer:
    """A complete answer of the service."""

    def __init__(self, response):
        text = response.read()
        self.status = response.status
        self.body = json.loads(text) if text else {}
        self.source = response.headers["X-Served-By"]       # the library's word
        self.server = self.body.get("server")               # the server's own word
        self.last = response.headers["Connection"] == "close"


class Service:
    """One process of examples/notes, and who asks it."""

    def __init__(self, urls):
        self.process = subprocess.Popen(
            [program("examples", "notes", "notes"), "--listen", "127.0.0.1:0",
             "--deadline", str(WAIT_S * 1000), "--grace", str(WAIT_S * 1000)],
            env=environment(urls), text=True, stdout=subprocess.PIPE)
        line = self.process.stdout.readline()
        if not line:
            raise Stop(f"the service ended with status {self.process.wait()}")
        self.address = line.rpartition("//")[2].strip()
        self.tokens = {}            # tenant → who is logged in
        self.answers = 0            # complete ones that came
        self.lock = threading.Lock()

    def connect(self):
        return http.client.HTTPConnection(self.address, timeout=2 * WAIT_S)

    def ask(self, method, path, body=None, tenant=None, connection=None):
        used = connection or self.connect()
        token = self.tokens.get(tenant)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if tenant:
            path = f"/t/{tenant}{path}"
        try:
            used.request(method, path, json.dumps(body) if body else None, headers)
            answer = Answer(used.getresponse())
        except (OSError, http.client.HTTPException) as e:
            if connection:
                raise
            raise Stop(f"{method} {path}: no answer: {e!r}")
        finally:
            if not connection:
                used.close()
        with self.lock:
            self.answers += 1
        return answer

    def do(self, *args):
        """For what must succeed, or there is no story."""
        answer = self.ask(*args)
        if answer.status >= 300:
            raise Stop(f"{' '.join(map(str, args))}: {answer.status}: {answer.body}")
        return answer

    def log_in(self, tenant):
        who = {"email": "ann@example.com", "password": "correct horse battery"}
        self.do("POST", "/accounts", who, tenant)
        self.tokens[tenant] = self.do("POST", "/login", who, tenant).body["token"]

    def nodes(self):
        """What it knows of its servers: name → what."""
        return {s["node"]: s for s in self.ask("GET", "/health").body["servers"]}

    def end(self):
        """(exit status, requests it accepted, requests it answered), after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        said = re.search(r"(\d+) requests accepted, (\d+) answered", self.process.stdout.read())
        return (self.process.wait(), *map(int, said.groups())) if said else \
            (self.process.wait(), 0, 0)


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
    def __init__(self, page, fleet):
        self.page, self.fleet, self.urls = page, fleet, fleet.env()
        self.service = None         # from the second step on
        self.shard = {}             # tenant → its shard
        self.promoted = {}          # shard → its primary, where that has changed

    def tell(self):
        self.stamp()
        self.find_tenants()
        self.write()
        self.refuse_what_conflicts()
        self.spread()
        self.read_own_writes()
        self.refuse_hidden_writes()
        self.leave_out_a_lagging_replica()
        self.take_it_back()
        self.lose_a_replica()
        self.fall_back_to_the_primary()
        self.take_both_back()
        self.follow_a_failover()
        self.end_under_load()

    # --- What steps are made of

    def primary(self, tenant):
        shard = self.shard[tenant]
        return self.promoted.get(shard, f"shard{shard}/primary")

    def replicas(self, tenant):
        names = [f"shard{self.shard[tenant]}/{n}" for n in ("primary", "replica1", "replica2")]
        return [n for n in names if n != self.primary(tenant)]

    def notes(self, tenant, node=None):
        """How many there are: not by way of the library, and on the primary unless told."""
        return int(self.fleet.sql(node or self.primary(tenant),
                                  f"select count(*) from notes.note where tenant = '{tenant}'"))

    def served(self, what, answers):
        """Prints who served; server → calls, or {} if a call failed or the two words differ."""
        failed = [a for a in answers if a.status >= 300]
        answered = [a for a in answers if a.status < 300]
        differ = [a for a in answered if a.server != a.source]
        servers = collections.Counter(a.server for a in answered)
        self.page.row(what, ", ".join(f"{n} {count}" for n, count in sorted(servers.items())))
        for a in failed[:1]:
            self.page.row("", f"{len(failed)} failed: {a.status} {a.body['error']}")
        for a in differ[:1]:
            self.page.row("", f"{len(differ)} by {a.server}, but X-Served-By says {a.source}")
        return {} if failed or differ else servers

    def add(self, tenant, slug, connection=None):
        return self.service.ask("POST", "/notes", {"slug": slug, "title": "A note"}, tenant,
                                connection)

    def check_write(self, tenant, text):
        servers = self.served(f"{tenant} writes", [self.add(tenant, uuid.uuid4().hex)])
        self.page.check(servers == {self.primary(tenant): 1}, text)

    def check_reads(self, tenant, by, text, all_notes=False):
        """Reads are shared by exactly these servers, and evenly."""
        answers = [self.service.ask("GET", "/notes/count", None, tenant) for _ in range(READS)]
        servers = self.served(f"{READS} requests of {tenant} read", answers)
        right = set(servers) == set(by) and min(servers.values()) >= READS // len(by) - 1
        if all_notes:
            right = right and {a.body.get("count") for a in answers} == {self.notes(tenant)}
        self.page.check(right, text)

    def check_own_writes(self, tenant, text, never=""):
        """Requests that write and then count see one note more each, the last one their own."""
        before = self.notes(tenant)
        answers = [self.service.ask("PUT", "/notes", {"notes": [{"slug": uuid.uuid4().hex,
                                                                 "title": "Mine"}]}, tenant)
                   for _ in range(READS)]
        servers = self.served(f"{READS} requests write and count", answers)
        counted = [a.body.get("count") for a in answers]
        self.page.check(counted == list(range(before + 1, before + READS + 1))
                        and servers and never not in servers, text)

    def wait_for_return(self, nodes):
        def look():
            known = self.service.nodes()
            back = all(known[n]["serves_reads"] and known[n]["lag_ms"] == 0 for n in nodes)
            return back, "; ".join(f"{n} is {known[n]['state']}" for n in nodes
                                   if not known[n]["serves_reads"]) \
                or ("reads may go there" if back else "catching up")
        self.page.wait("noticed", look)

    def wait_for_absence(self, node):
        def look():
            known = self.service.nodes()[node]
            lag = f"{known['lag_ms']} ms behind" if known["lag_ms"] else "nothing noticed yet"
            return not known["serves_reads"], \
                f"it is {known['state']}" if known["state"] != "up" else lag
        self.page.wait("noticed", look)

    def wait_for_logins(self):
        """Until each replica knows who is logged in, or the primary would be asked for that."""
        def look():
            known = [node for tenant in self.shard for node in self.replicas(tenant)
                     if self.fleet.sql(node, "select tenant from notes.token") == tenant]
            return len(known) == 4, f"{len(known)} of 4 replicas know of it"
        self.page.wait("POST /t/…/login", look)

    # --- The steps

    def stamp(self):
        self.page.step("Each database is stamped",
                       "It says whose it is, so a mistaken URL cannot reach another shard's rows.")
        run(self.urls, program("cli", "pqrouter"), "init")
        stamps = [self.fleet.sql(f"shard{i}/primary", "select shard from pqrouter.stamp")
                  for i in (0, 1)]
        for i, stamp in enumerate(stamps):
            self.page.row(f"shard{i}/primary says", f"shard {stamp}")
        self.page.check(stamps == ["0", "1"], "each carries its own number (of `pqrouter init`)")

    def find_tenants(self):
        self.page.step("Two tenants live on two shards",
                       "A hash of the name decides, the same in every process and language.")
        for name in NAMES:
            place = json.loads(run(self.urls, program("cli", "pqrouter"), "route", name, "--json"))
            if place["shard"] not in self.shard.values():
                self.shard[name] = place["shard"]
                self.page.row(name, f"slot {place['slot']} of 16384, on shard {place['shard']}")
        if sorted(self.shard.values()) != [0, 1]:
            raise Stop("no two of the names are on different shards")
        self.one, self.other = self.shard
        self.page.check(True, f"{self.one} and {self.other} share no server")
        self.start_service()

    def start_service(self):
        self.page.step("A service starts, for all tenants",
                       "examples/notes: HTTP, one router for all its threads, a session a request.")
        made = run(self.urls, program("examples", "notes", "notes"), "--migrate")
        self.page.row("notes --migrate", "; ".join(made.splitlines()))
        self.service = Service(self.urls)
        self.page.wait("GET /health", lambda: (self.service.ask("GET", "/health").body["ready"],
                                               f"on http://{self.service.address}"))
        for tenant in self.shard:
            self.service.log_in(tenant)
        self.wait_for_logins()
        self.page.check(self.service.nodes().keys() == set(self.fleet.nodes) - {"redis"},
                        "it knows every server, and somebody of each tenant is logged in")

    def write(self):
        self.page.step("A write goes to the primary of its tenant's shard",
                       "A request names its tenant in the path, and never a server.")
        for tenant in self.shard:
            self.check_write(tenant, f"{tenant}'s primary")
        rows = {i: self.fleet.sql(f"shard{i}/primary", "select tenant from notes.note")
                for i in (0, 1)}
        self.page.check(rows == {i: tenant for tenant, i in self.shard.items()},
                        "each note is on its own shard, and only there")

    def refuse_what_conflicts(self):
        self.page.step("What a database refuses is told by its field",
                       "Never in the database's words: those are for the log.")
        self.service.do("POST", "/notes", {"slug": "once", "title": "A note"}, self.one)
        again = self.add(self.one, "once")
        self.page.row("the same slug again", f"{again.status} {json.dumps(again.body)}")
        self.page.check((again.status, again.body, again.source) == (
            409, {"error": "conflict", "field": "slug"}, self.primary(self.one)),
            "409, and which field, from the primary")

    def spread(self):
        self.page.step("Reads are spread over the replicas",
                       "So the primary has its time for writes, and each replica bears its share.")
        for tenant in self.shard:
            self.check_reads(tenant, self.replicas(tenant), "both replicas, evenly")

    def read_own_writes(self):
        self.page.step("A session sees its own write at once",
                       "Until a replica is known to have it, the primary answers this session.")
        self.check_own_writes(self.one, "each request has counted its own note")

    def refuse_hidden_writes(self):
        self.page.step("A read that writes is refused everywhere",
                       "WITH x AS (DELETE …) SELECT … looks like a read. A primary would do it.")
        before, refused = self.notes(self.one), True
        sneak = "with gone as (delete from notes.note returning 1) select count(*) from gone"
        for level, where in (("any", "replica"), ("primary", "primary")):
            answer = json.loads(run(self.urls, program("cli", "pqrouter"), "query", self.one, sneak,
                                    "--level", level, "--json", fails=True)).get("error", {})
            error, state, node = (answer.get(k) or "" for k in ("code", "sqlstate", "node"))
            refused = refused and (error, state) == ("READ_ONLY", "25006") and where in node
            self.page.row(f"tried on a {where}", f"{node}: {error or 'done!'} (SQLSTATE {state})")
        self.page.check(refused, "the servers refused it themselves")
        self.page.check(self.notes(self.one) == before, f"all {before} notes are still there")

    def leave_out_a_lagging_replica(self):
        lagging, good = self.replicas(self.one)
        self.page.step("A replica that lags is left out",
                       "It answers, and fast, but with what was: no error would ever tell.")
        self.page.event(self.fleet.pause_replay(lagging))
        self.check_own_writes(self.one, "each request has counted its own note, noticed or not",
                              never=lagging)
        self.wait_for_absence(lagging)
        self.page.row("asked directly, it counts",
                      f"{self.notes(self.one, lagging)} notes of {self.notes(self.one)}")
        self.check_reads(self.one, [good], "the other replica only, with every note",
                         all_notes=True)

    def take_it_back(self):
        back = self.replicas(self.one)[0]
        self.page.step("It has caught up, and serves again", "Nobody had to tell the service.")
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

    def follow_a_failover(self):
        old, (new, other) = self.primary(self.one), self.replicas(self.one)
        self.page.step("The primary dies with a write in flight, and a replica is promoted",
                       "Others promote, the service is told nothing: it asks the servers.")
        seen, slug, answers = self.count(), uuid.uuid4().hex, []
        self.page.event(self.fleet.stop(old))
        caller = threading.Thread(target=lambda: answers.append(self.add(self.one, slug)))
        caller.start()
        time.sleep(0.5)                                     # its write is on the way by now
        self.page.event(self.fleet.kill(old))
        meanwhile = [self.count() for _ in range(5)]
        self.page.check(min(meanwhile) >= seen, f"reads go on, and none is older: {seen} notes")
        self.page.event(self.fleet.promote(new))
        self.promoted[self.shard[self.one]], began = new, time.monotonic()
        self.check_write(self.one, "the next write went to the new primary")
        self.page.row("", f"{time.monotonic() - began:.2f} s after the promotion")
        caller.join()
        told = answers[0].status if answers else "nothing"
        there = int(self.fleet.sql(new, f"select count(*) from notes.note where slug = '{slug}'"))
        self.page.row("the write in flight", f"{told} {answers[0].body.get('error', '')}; "
                                             f"{'it is' if there else 'it is not'} there")
        self.page.check(told == 504 or (told == 201 and there) or (told == 503 and not there),
                        "its caller was told the truth: done, not done, or that nobody knows")
        self.page.check(self.count() >= seen + 1 + there,
                        "the same user reads on: nothing older, and the new note")
        for node in (old, other):
            self.page.event(self.fleet.rejoin(node))
        self.wait_for_return([old, other])
        self.check_reads(self.one, [old, other], "both others serve as its replicas",
                         all_notes=True)

    def count(self):
        return self.service.do("GET", "/notes/count", None, self.one).body["count"]

    def end_under_load(self):
        self.page.step("It is told to end, in the midst of work",
                       "It lets nobody in any more, answers everyone who is in, and goes.")
        before, load = {t: self.notes(t) for t in self.shard}, Load(self)
        load.begin()
        self.page.event(f"SIGTERM, while {CLIENTS} clients write and read")
        status, accepted, answered = self.service.end()
        load.join()
        added = sum(self.notes(t) - before[t] for t in self.shard)
        self.page.row("the clients",
                      f"{load.reads} reads and {load.writes} writes answered, {load.lost} lost")
        self.page.row("the service", f"{accepted} requests accepted, {answered} answered in all; "
                                     f"exit status {status}")
        self.page.check(load.lost == 0 and accepted == answered == self.service.answers,
                        "every request that was accepted was answered, in full")
        self.page.check(added == load.writes, f"the databases have those {load.writes} notes")
        self.page.check(status == 0, "and it ended well")


class Load:
    """Clients that write and read, each on a connection that it keeps, until nobody answers."""

    def __init__(self, story):
        self.story, self.service = story, story.service
        self.reads = self.writes = self.lost = 0
        self.threads = [threading.Thread(target=self.work, args=(tenant,), daemon=True)
                        for tenant in list(story.shard) * (CLIENTS // 2)]

    def begin(self):
        """Until they are in the midst of it."""
        for thread in self.threads:
            thread.start()
        while self.writes < CLIENTS * 5 and not self.lost:
            time.sleep(0.01)

    def join(self):
        for thread in self.threads:
            thread.join(timeout=2 * WAIT_S)

    def work(self, tenant):
        try:
            while True:
                connection = self.service.connect()
                connection.connect()
                self.use(connection, tenant)
        except ConnectionRefusedError:
            return                          # the end: nobody has taken a request
        except Exception:
            with self.service.lock:
                self.lost += 1

    def use(self, connection, tenant):
        """As long as the service keeps it."""
        last = False
        while not last:
            wrote = self.story.add(tenant, uuid.uuid4().hex, connection)
            if wrote.status != 201:
                raise ValueError(wrote.body)
            with self.service.lock:
                self.writes += 1
            if not wrote.last:
                read = self.service.ask("GET", "/notes?limit=5", None, tenant, connection)
                if read.status != 200:
                    raise ValueError(read.body)
                with self.service.lock:
                    self.reads += 1
                last = read.last
            last = last or wrote.last
        connection.close()


# ---- Around it -------------------------------------------------------------------------------

def play(keep):
    """From the first server to the last line; the exit status."""
    began = time.monotonic()
    page = Page()
    print(page.paint("pqrouter: one service, two shards of three PostgreSQL servers each,\n"
                     "and what may happen to them", 1))
    print("\n    The servers are real. They start now, in a folder of their own, and "
          + ("stay up." if keep else "are gone at the end."))
    fleet = Fleet(shards=2, replicas=2, owner=None if keep else 0)
    try:
        print(f"    Up after {time.monotonic() - began:.1f} s: two shards, each a primary with "
              "replica1 and replica2;\n    and Redis, which this version does not use yet.\n\n"
              "    Beside each action stands who served it, by the server's own word: its "
              "cluster_name.\n    What the library says (the header X-Served-By) must be the same.")
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
    story = Story(page, fleet)
    try:
        story.tell()
    finally:
        if story.service:
            story.service.process.kill()
            story.service.process.wait()


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
    near = os.path.relpath(BUILD, ROOT) if BUILD.startswith(ROOT) else BUILD
    notes = shlex.quote(os.path.join(near, "examples", "notes", "notes"))
    lib = os.path.join(BUILD, "lib")
    return f"""
The servers stay up. To let the service run on them (examples/notes/README.md has what it serves):

    cd {shlex.quote(ROOT)}
    eval "$(test/fleet.py env --dir {folder})"
    {notes}                          # Ctrl-C ends it
    curl -s http://127.0.0.1:8080/health                # in another terminal

To build a program against them, at first examples/hello.c:

    cc -Iinclude examples/hello.c -o build/hello \\
        -L{shlex.quote(os.path.join(near, "lib"))} -Wl,-rpath,{shlex.quote(lib)} -lpqrouter
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
    parser = argparse.ArgumentParser(description="A service's statements find their servers.")
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
