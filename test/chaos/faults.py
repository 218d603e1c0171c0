"""What is done to the servers: one method for each fault, from its beginning to its healing. The
schedule is in schedule.py; a method is told a shard and how long the fault shall last.

Each fault is noted with its time, for the checker: a write may be in doubt only while one is about.
A promotion is noted with both primaries' names; what a primary that has no right to it any more
still took is read before it is made a standby, and noted as a fork.
"""

import contextlib
import os
import random
import signal
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from fleet import FleetError
from records import GRACE_NS, parse_tables, table_queries

HEAL_S = 30
TOPOLOGY = ["kill_promote", "kill_promote_fork", "freeze_promote", "accidental_promote"]
PRIMARY = ["kill_restart", "freeze_primary", "backend_killed", "terminate_backends", "slots_full",
           "rolling_restart", "ddl"]
REPLICA = ["kill_replica", "freeze_replica", "pause_replay", "cut_receiver"]
NET = ["net_delay", "net_chunk", "net_swallow", "net_cut", "net_blackhole", "net_refuse"]
ALL = TOPOLOGY + PRIMARY + REPLICA + NET
BESIDE = REPLICA + NET + ["terminate_backends", "ddl"]      # what may happen beside another one


class Faults:
    """The servers and who is what among them."""

    def __init__(self, fleet, net, seed, run, say):
        self.fleet, self.net, self.run, self.say = fleet, net, run, say
        self.chance = random.Random(seed)
        self.ending = threading.Event()
        self.lock = threading.Condition()   # of the notes, and of the next two
        self.taken = set()                  # servers that a fault holds now
        self.wanted = set()                 # …and those that one waits for
        self.noted, self.promotions, self.forks, self.errors = [], [], [], []
        rows = [row for row in fleet.status() if row["node"] != "redis"]
        self.ports = {row["node"]: row["port"] for row in rows}
        self.nodes = {}
        for node in self.ports:
            self.nodes.setdefault(node.partition("/")[0], []).append(node)
        self.primary = {shard: f"{shard}/primary" for shard in self.nodes}

    # --- Words

    def sql(self, node, *statements, timeout=10):
        return self.fleet.sql(node, *statements, timeout=timeout)

    def nap(self, seconds):
        self.ending.wait(seconds)

    def standbys(self, shard):
        return [n for n in self.nodes[shard] if n != self.primary[shard]]

    @contextlib.contextmanager
    def fault(self, kind, node):
        """Notes it, from here to its end; it has healed then."""
        note = {"kind": kind, "node": node, "from": now(), "until": None}
        with self.lock:
            self.noted.append(note)
        self.say(f"{kind} {node}")
        try:
            yield note
        finally:
            note["until"] = now()

    @contextlib.contextmanager
    def hold(self, things, wait):
        """These are ours until the end; False: another fault has one of them. Who waits for some
        comes first: nobody else gets one of them meanwhile."""
        things = set(things)
        with self.lock:
            self.wanted |= things if wait else set()
            free = not things & self.taken and (wait or not things & self.wanted)
            if wait:
                free = self.lock.wait_for(lambda: not things & self.taken, HEAL_S)
                self.wanted -= things
            self.taken |= things if free else set()
        try:
            yield free
        finally:
            with self.lock:
                self.taken -= things if free else set()
                self.lock.notify_all()

    def inject(self, kind, shard, seconds, wait=False):
        """Whatever goes wrong with it, its servers are whole again behind it."""
        node = self.place_of(kind, shard)
        if node is None:
            return
        with self.hold(self.needs(kind, shard, node), wait) as free:
            if not free:
                return
            node = node if kind in NET else self.place_of(kind, shard, node)
            with self.fault(kind, node):
                try:
                    getattr(self, kind)(shard, node, seconds)
                except (FleetError, OSError) as e:
                    self.errors.append(f"{kind} {node}: {e}")
                    self.say(f"{kind} {node}: {e}")
                    self.mend(shard, node)

    def place_of(self, kind, shard, node=None):
        """The server that it begins with; None: there is none of that sort. The primary may have
        become another one while we waited."""
        if kind in REPLICA + TOPOLOGY and not self.standbys(shard):
            return None
        if kind in NET:
            return self.chance.choice(self.nodes[shard])
        if kind not in REPLICA:
            return self.primary[shard]
        return node if node in self.standbys(shard) else self.chance.choice(self.standbys(shard))

    def needs(self, kind, shard, node):
        """What nobody else may touch meanwhile: a server, or only the proxy before it."""
        if kind in NET:
            return ["proxy of " + node]
        if kind == "accidental_promote":        # who cannot reach the primary would follow the other
            return self.nodes[shard] + ["proxy of " + n for n in self.nodes[shard]]
        if kind in TOPOLOGY or kind == "rolling_restart":
            return self.nodes[shard]
        if kind in ("terminate_backends", "ddl"):
            return [kind]
        return [node]

    # --- Promotions

    def promote(self, shard, node, old, accident=False):
        note = {"node": node, "old": old, "from": now(), "accident": accident}
        self.fleet.promote(node)
        note["until"] = now()
        with self.lock:
            self.promotions.append(note)
        if not accident:
            self.primary[shard] = node
            for other in self.standbys(shard):
                if other != old:
                    self.follow(other, node)
        return note

    def best_standby(self, shard, old):
        """The one that has received most: with a synchronous standby that is all that was
        acknowledged, with any rule it is what an operator would take."""
        found = {}
        for _ in range(100):
            before, found = found, {n: self.sql(n, "select pg_last_wal_receive_lsn() - '0/0'")
                                    for n in self.standbys(shard) if n != old}
            if found == before:
                break
            time.sleep(0.02)
        return max(found, key=lambda n: (int(found[n] or 0), n))

    def follow(self, node, primary):
        """A standby goes over to another primary, with its data."""
        self.sql(node, f"alter system set primary_conninfo = '{self.conninfo(node, primary)}'",
                 "select pg_reload_conf()")
        self.await_streaming(node, primary)

    def conninfo(self, node, primary):
        text = (f"host='{self.fleet.folder}/socket' user=postgres port={self.ports[primary]} "
                f"application_name='{node}'")
        return text.replace("'", "''")

    def await_streaming(self, node, primary):
        if not self.until(lambda: self.sql(
                primary, "select 1 from pg_stat_replication where state = 'streaming' "
                f"and application_name = '{node}'")):
            raise FleetError(f"{node} does not stream from {primary}")

    def until(self, condition, seconds=HEAL_S):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def note_fork(self, node, since):
        """What a server has taken that is to be thrown away."""
        tables = parse_tables(self.sql(node, table_queries(self.run)))
        with self.lock:
            self.forks.append({"node": node, "from": since, "until": now(),
                               "uids": tables.uids()})

    def kill_promote(self, shard, old, seconds):
        self.fleet.kill(old)
        self.promote(shard, self.best_standby(shard, old), old)
        self.nap(seconds)
        self.fleet.rejoin(old, self.primary[shard])

    def kill_promote_fork(self, shard, old, seconds):
        """The old primary comes back as one, on its old timeline."""
        self.fleet.kill(old)
        self.promote(shard, self.best_standby(shard, old), old)
        self.nap(seconds / 2)
        since = now()
        self.fleet.start(old)
        self.nap(max(1, seconds / 2))
        self.note_fork(old, since)
        self.fleet.rejoin(old, self.primary[shard])

    def freeze_promote(self, shard, old, seconds):
        """…was never dead, and goes on where it was."""
        self.fleet.stop(old)
        note = self.promote(shard, self.best_standby(shard, old), old)
        self.nap(max(1.2, seconds / 2))
        since = max(now(), note["until"] + GRACE_NS)
        self.fleet.cont(old)
        self.nap(max(1, seconds / 2))
        self.note_fork(old, since)
        self.fleet.rejoin(old, self.primary[shard])

    def accidental_promote(self, shard, primary, seconds):
        """A standby becomes a primary beside a living one. No write may move there."""
        node = self.chance.choice(self.standbys(shard))
        since = now()
        self.promote(shard, node, primary, accident=True)
        self.nap(seconds)
        self.note_fork(node, since)
        self.fleet.kill(node)
        self.nap(0.5)
        self.fleet.rejoin(node, primary)

    # --- Of a primary

    def kill_restart(self, _, node, seconds):
        self.fleet.kill(node)
        self.nap(seconds / 2)
        self.fleet.start(node)

    def freeze_primary(self, _, node, seconds):
        self.fleet.stop(node)
        self.nap(seconds)
        self.fleet.cont(node)

    def backend_killed(self, _, node, seconds):
        """The postmaster ends all of them and recovers, on the same timeline."""
        pid = self.sql(node, "select pid from pg_stat_activity where usename = 'app' "
                       "and backend_type = 'client backend' order by random() limit 1")
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self.nap(seconds)
        self.until(lambda: self.answers(node))

    def answers(self, node):
        try:
            return self.sql(node, "select 1", timeout=2) == "1"
        except FleetError:
            return False

    def terminate_backends(self, _, node, seconds):
        for _ in range(max(2, int(seconds / 0.15))):
            with contextlib.suppress(FleetError):       # it is down, by another fault
                self.sql(node, "select count(pg_terminate_backend(pid)) from (select pid from "
                         "pg_stat_activity where usename = 'app' and backend_type = "
                         "'client backend' order by random() limit 3) few", timeout=2)
            self.nap(0.15)

    def slots_full(self, _, node, seconds):
        """max_connections is reached, and a few of the application's are lost meanwhile."""
        most = int(self.sql(node, "show max_connections"))
        held = [s for s in (self.slot(node) for _ in range(most)) if s]
        try:
            self.sql(node, "select count(pg_terminate_backend(pid)) from (select pid from "
                     "pg_stat_activity where usename = 'app' and client_addr is not null "
                     "order by random() limit 4) few")
            held += [s for s in (self.slot(node) for _ in range(8)) if s]
            self.nap(seconds)
        finally:
            for s in held:
                s.close()

    def slot(self, node):
        """A connection as app through the server's own socket, where no password is asked for;
        None: there is none left."""
        startup = b"user\0app\0database\0app\0\0"
        s = socket.socket(socket.AF_UNIX)
        try:
            s.settimeout(5)
            s.connect(f"{self.fleet.folder}/socket/.s.PGSQL.{self.ports[node]}")
            s.sendall(struct.pack("!II", len(startup) + 8, 196608) + startup)
            if s.recv(1) == b"R":
                return s
        except OSError:
            pass
        s.close()
        return None

    def rolling_restart(self, shard, primary, seconds):
        for node in self.standbys(shard) + [primary]:
            self.fleet.restart(node)
            if node != primary:
                self.await_streaming(node, primary)
            self.nap(seconds / 4)

    def ddl(self, _, node, seconds):
        """A column comes and goes under statements that are prepared."""
        for _ in range(max(1, int(seconds / 0.3))):
            for change in ("add column extra integer", "drop column extra"):
                with contextlib.suppress(FleetError):       # somebody held a lock for too long
                    self.sql(node, "set lock_timeout = '300ms'",
                             f"alter table chaos.reg {change}", timeout=2)
                self.nap(0.15)

    def dropped(self, node):
        try:
            self.sql(node, "set lock_timeout = '300ms'",
                     "alter table chaos.reg drop column if exists extra")
            return True
        except FleetError:
            return False

    # --- Of a replica

    def kill_replica(self, shard, node, seconds):
        self.fleet.kill(node)
        self.nap(seconds)
        self.fleet.start(node)
        self.await_streaming(node, self.primary[shard])

    def freeze_replica(self, _, node, seconds):
        self.fleet.stop(node)
        self.nap(seconds)
        self.fleet.cont(node)

    def pause_replay(self, _, node, seconds):
        self.fleet.pause_replay(node)
        self.nap(seconds)
        self.fleet.resume_replay(node)

    def cut_receiver(self, shard, node, seconds):
        self.fleet.cut_receiver(node)
        self.nap(seconds)
        self.follow(node, self.primary[shard])

    # --- Of the network

    def through(self, node, seconds, fault, **how):
        self.net.set(node, fault, **how)
        try:
            self.nap(seconds)
        finally:
            self.net.set(node, "pass")

    def net_delay(self, _, node, seconds):
        self.through(node, seconds, "delay", ms=self.chance.choice([2, 20, 80]))

    def net_chunk(self, _, node, seconds):
        self.through(node, seconds, "chunk", bytes=self.chance.choice([1, 3, 7]))

    def net_swallow(self, _, node, seconds):
        self.through(node, seconds, "swallow")

    def net_blackhole(self, _, node, seconds):
        self.through(node, seconds, "blackhole")

    def net_refuse(self, _, node, seconds):
        self.through(node, seconds, "refuse")

    def net_cut(self, _, node, seconds):
        """At another kind of message every half a second."""
        for _ in range(max(2, int(seconds / 0.5))):
            side, kind = self.chance.choice([
                ("server", "C"), ("server", "Z"), ("server", "D"), ("server", "2"), ("server", "1"),
                ("server", "E"), ("client", "P"), ("client", "B"), ("client", "E"), ("client", "S")])
            self.through(node, 0.5, "cut", side=side, type=kind, one_in=self.chance.choice([5, 20]),
                         where=self.chance.choice(["before", "inside", "behind"]),
                         quietly=self.chance.random() < 0.3)

    # --- The end

    def heal(self):
        """One primary in each shard, all others stream from it, nothing is in between."""
        for node in self.ports:
            self.net.set(node, "pass")
        for shard, primary in self.primary.items():
            self.mend(shard, primary)
            for node in self.standbys(shard):
                self.mend(shard, node)
            self.until(lambda: self.dropped(primary))

    def mend(self, shard, node):
        """Up, and what it should be."""
        self.wake(node)
        primary = self.primary[shard]
        if node == primary:
            return
        self.wake(primary)
        if not self.is_standby(node):
            self.fleet.rejoin(node, primary)
            return
        if self.paused(node):
            self.fleet.resume_replay(node)
        self.join(node, primary)

    def wake(self, node):
        role = next(row["role"] for row in self.fleet.status() if row["node"] == node)
        if role == "stopped":
            self.fleet.cont(node)
        if role == "down":
            self.fleet.start(node)
        self.until(lambda: self.answers(node))

    def is_standby(self, node):
        return self.sql(node, "select pg_is_in_recovery()") == "t"

    def paused(self, node):
        return self.sql(node, "select pg_is_wal_replay_paused()") == "t"

    def join(self, node, primary):
        """By what it has, else anew."""
        try:
            if not self.sql(primary, "select 1 from pg_stat_replication where state = 'streaming' "
                            f"and application_name = '{node}'"):
                self.follow(node, primary)
        except FleetError:
            self.fleet.rejoin(node, primary)

    def caught_up(self, shard):
        """Waits until its standbys show all that the primary has."""
        primary = self.primary[shard]
        position = self.sql(primary, "select pg_current_wal_lsn()")
        for node in self.standbys(shard):
            if not self.until(lambda: self.sql(
                    node, f"select pg_last_wal_replay_lsn() >= '{position}'") == "t"):
                raise FleetError(f"{node} does not catch up with {primary}")


def now():
    return time.monotonic_ns()


