#!/usr/bin/python3
"""fleet.py does what it says, with real servers: each verb, and that nothing is left behind."""

import contextlib
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
import fleet as module                                                  # noqa: E402
from fleet import Fleet, FleetError                                     # noqa: E402

if "TMPDIR" not in os.environ and os.path.isdir("/dev/shm"):
    space = os.statvfs("/dev/shm")
    if space.f_bavail * space.f_frsize > 4 << 30:
        os.environ["TMPDIR"] = "/dev/shm"       # a fleet takes four times as long on a slow disk

COMMAND = [sys.executable, os.path.join(HERE, "fleet.py")]
SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])      # PostgreSQL answers it with one byte
GONE_S = 3


def psql(url, statement):
    """As an application would: over TCP, with the URL alone. (exit status, output)"""
    path = os.path.join(module.find_postgres(), "psql")
    done = subprocess.run([path, "-AtqX", "-c", statement, url], capture_output=True, text=True,
                          env={"PATH": os.environ["PATH"], "PGCONNECT_TIMEOUT": "2"})
    return done.returncode, done.stdout.strip() or done.stderr


def command(*args, **more):
    return subprocess.run(COMMAND + list(args), capture_output=True, text=True, **more)


def eventually(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def redis_says(port, line):
    with socket.create_connection(("127.0.0.1", port), timeout=0.5) as s:
        s.sendall(line.encode() + b"\r\n")
        return s.recv(64).decode().strip()


def shared_memory():
    with open("/proc/sysvipc/shm") as f:
        return {tuple(line.split()[:2]) for line in f.readlines()[1:]}


def shared_memory_of(folder):
    found = set()
    for path in glob.glob(os.path.join(folder, "data", "*", "postmaster.pid")):
        with open(path) as f:
            found.add(tuple(f.read().split("\n")[6].split()))
    return found


class NothingStays:
    """For a TestCase: take the fleet's folder before, check after."""

    def expect_gone(self, folder, segments):
        self.assertTrue(eventually(lambda: not self.rest(folder, segments), GONE_S),
                        self.rest(folder, segments))

    def rest(self, folder, segments):
        return ([folder] * os.path.exists(folder) + module.members(folder)
                + [f for f, _ in module.keepers() if f == folder]
                + list(segments & shared_memory()))


class AFleet(unittest.TestCase):
    """One fleet for all; a test leaves every server as it found it."""

    @classmethod
    def setUpClass(cls):
        cls.fleet = Fleet(shards=2, replicas=2)
        cls.addClassCleanup(cls.fleet.down)
        cls.env = cls.fleet.env()
        cls.fleet.sql("shard0/primary", "create table t (i int)", "grant all on t to app")

    def roles(self, *nodes):
        roles = {row["node"]: row["role"] for row in self.fleet.status()}
        return [roles[n] for n in nodes]

    def port(self, node):
        return {row["node"]: row["port"] for row in self.fleet.status()}[node]

    def count(self, node, i):
        return self.fleet.sql(node, f"select count(*) from t where i = {i}")

    def insert(self, i, node="shard0/primary"):
        self.fleet.sql(node, f"insert into t values ({i})")

    def test_an_application_gets_in_by_url(self):
        for name, url in self.env.items():
            if name.endswith("_URL") and name != "REDIS_URL":
                self.assertEqual((0, "app|app|t"), psql(url, "select current_user, "
                    "current_database(), pg_has_role('pg_monitor', 'member')"), name)
        self.assertEqual("+PONG", redis_says(self.port("redis"), "PING"))

    def test_a_wrong_password_does_not_get_in(self):
        user, _, rest = self.env["DATABASE_SHARD_0_URL"].rpartition("@")
        status, text = psql(f"{user}x@{rest}", "select 1")
        self.assertEqual(2, status)
        self.assertIn("password authentication failed", text)

    def test_the_password_needs_its_percent_signs(self):
        for c in ("%40", "%2F", "%25", "%3A"):
            self.assertIn(c, self.env["DATABASE_SHARD_0_URL"])

    def test_an_application_may_create_tables_and_a_replica_refuses_them(self):
        statement = "create table mine (i int); drop table mine"
        self.assertEqual((0, ""), psql(self.env["DATABASE_SHARD_1_URL"], statement))
        status, text = psql(self.env["DATABASE_SHARD_1_REPLICA_1_URL"], statement)
        self.assertEqual(1, status)
        self.assertIn("read-only", text)

    def test_each_server_knows_its_name_and_each_shard_has_an_identity(self):
        for node in self.fleet.nodes[:-1]:
            self.assertEqual(node, self.fleet.sql(node, "show cluster_name"))
        systems = {row["node"]: row["system"] for row in self.fleet.status()}
        self.assertEqual(systems["shard0/primary"], systems["shard0/replica2"])
        self.assertNotEqual(systems["shard0/primary"], systems["shard1/primary"])

    def test_the_environment_names_every_server(self):
        self.assertEqual(
            ["DATABASE_SHARD_COUNT", "DATABASE_SHARD_0_URL", "DATABASE_SHARD_0_REPLICA_1_URL",
             "DATABASE_SHARD_0_REPLICA_2_URL", "DATABASE_SHARD_1_URL",
             "DATABASE_SHARD_1_REPLICA_1_URL", "DATABASE_SHARD_1_REPLICA_2_URL", "REDIS_URL",
             "PQR_FLEET"], list(self.env))
        self.assertEqual("2", self.env["DATABASE_SHARD_COUNT"])

    def test_status_tells_the_roles(self):
        self.assertEqual(["primary", "standby", "standby"] * 2 + ["up"],
                         self.roles(*self.fleet.nodes))
        row = self.fleet.status()[1]
        self.assertEqual(("shard0/replica1", False), (row["node"], row["paused"]))
        self.assertRegex(row["position"], "^[0-9A-F]+/[0-9A-F]+$")

    def test_a_killed_server_is_dead_and_starts_again_where_it_was(self):
        self.insert(1)
        port, data = self.port("shard0/primary"), self.fleet._data("shard0/primary")
        self.fleet.kill("shard0/primary")
        self.assertEqual(["down"], self.roles("shard0/primary"))
        self.assertEqual([], module.members(data))
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        self.fleet.start("shard0/primary")
        self.assertEqual("1", self.count("shard0/primary", 1))
        self.assertEqual(port, self.port("shard0/primary"))

    def test_a_server_killed_by_someone_else_starts_too(self):
        self.fleet.stop("shard1/replica2")      # so that its children cannot notice
        os.kill(self.fleet._look("shard1/replica2")["pid"], signal.SIGKILL)
        self.assertTrue(eventually(lambda: self.roles("shard1/replica2") == ["down"]))
        self.fleet.start("shard1/replica2")
        self.assertEqual(["standby"], self.roles("shard1/replica2"))

    def test_a_stopped_server_is_silent_until_it_goes_on(self):
        self.fleet.stop("shard1/primary")
        states = {state for _, state in module.members(self.fleet._data("shard1/primary"))}
        self.assertEqual({"T"}, states)
        self.assertEqual(["stopped"], self.roles("shard1/primary"))
        with socket.create_connection(("127.0.0.1", self.port("shard1/primary"))) as s:
            s.settimeout(0.5)
            s.sendall(SSL_REQUEST)
            self.assertRaises(TimeoutError, s.recv, 1)
            self.fleet.cont("shard1/primary")
            self.assertEqual(1, len(s.recv(1)))
        self.fleet.stop("shard1/primary")
        with self.assertRaisesRegex(FleetError, "`cont shard1/primary`"):
            self.fleet.sql("shard1/primary", "select 1")
        self.fleet.cont("shard1/primary")
        self.assertEqual("1", self.fleet.sql("shard1/primary", "select 1"))

    def test_shut_down_and_started_or_restarted_at_once(self):
        self.fleet.shutdown("shard1/replica1")
        self.assertEqual(["down"], self.roles("shard1/replica1"))
        self.fleet.start("shard1/replica1")
        for mode in ("fast", "immediate"):
            before = self.fleet.sql("shard1/replica1", "select pg_postmaster_start_time()")
            self.fleet.restart("shard1/replica1", mode)
            self.assertLess(before, self.fleet.sql("shard1/replica1",
                                                   "select pg_postmaster_start_time()"))

    def test_after_a_failover_all_come_back_and_follow(self):
        f = self.fleet
        f.sql("shard1/primary", "create table failover (i int)")
        f.kill("shard1/primary")
        f.promote("shard1/replica1")
        f.sql("shard1/replica1", "insert into failover values (1)")
        f.start("shard1/primary")               # two primaries now, and they part
        f.sql("shard1/primary", "insert into failover values (2)")
        with self.assertRaisesRegex(FleetError, "--from"):
            f.rejoin("shard1/replica2")
        f.rejoin("shard1/primary")
        f.rejoin("shard1/replica2", "shard1/replica1")
        self.assertEqual(["standby", "primary", "standby"],
                         self.roles("shard1/primary", "shard1/replica1", "shard1/replica2"))
        self.assertEqual([2, 2, 2], [row["timeline"] for row in f.status()[3:6]])
        for node in ("shard1/primary", "shard1/replica2"):
            self.assertTrue(eventually(
                lambda: f.sql(node, "select string_agg(i::text, ',') from failover") == "1"))
        f.kill("shard1/replica1")
        f.promote("shard1/primary")
        f.rejoin("shard1/replica1")
        f.rejoin("shard1/replica2")
        self.assertEqual([3, 3, 3], [row["timeline"] for row in f.status()[3:6]])

    def test_a_paused_standby_receives_and_does_not_replay(self):
        f = self.fleet
        f.pause_replay("shard0/replica1")
        self.insert(2)
        self.assertTrue(eventually(lambda: self.count("shard0/replica2", 2) == "1"))
        self.assertEqual("0", self.count("shard0/replica1", 2))
        self.assertTrue(f.status()[1]["paused"])
        f.resume_replay("shard0/replica1")
        self.assertTrue(eventually(lambda: self.count("shard0/replica1", 2) == "1"))

    def test_a_cut_standby_receives_nothing_also_after_a_restart(self):
        f = self.fleet
        f.cut_receiver("shard0/replica1")
        f.restart("shard0/replica1")
        self.insert(3)
        self.assertTrue(eventually(lambda: self.count("shard0/replica2", 3) == "1"))
        self.assertEqual("0", self.count("shard0/replica1", 3))
        f.join_receiver("shard0/replica1")
        self.assertTrue(eventually(lambda: self.count("shard0/replica1", 3) == "1"))

    def test_a_standby_is_cut_while_its_replay_is_paused(self):
        f = self.fleet
        f.pause_replay("shard0/replica2")
        f.cut_receiver("shard0/replica2")
        self.assertIn("once its replay resumes", f.join_receiver("shard0/replica2"))
        f.resume_replay("shard0/replica2")
        self.assertEqual("shard0/replica2 streams", f.join_receiver("shard0/replica2"))

    def test_redis_is_killed_stopped_and_shut_down_too(self):
        f, port = self.fleet, self.port("redis")
        f.kill("redis")
        with self.assertRaises(ConnectionRefusedError):
            redis_says(port, "PING")
        f.start("redis")
        f.stop("redis")
        with self.assertRaises(TimeoutError):
            redis_says(port, "PING")
        f.cont("redis")
        self.assertEqual("+PONG", redis_says(port, "PING"))
        f.restart("redis")
        self.assertEqual("+PONG", redis_says(port, "PING"))

    def test_what_cannot_be_is_said(self):
        f = self.fleet
        for does, says in ((lambda: f.kill("shard7/primary"), "there are shard0/primary"),
                           (lambda: f.pause_replay("shard0/primary"), "is a primary"),
                           (lambda: f.cut_receiver("shard0/primary"), "is a primary"),
                           (lambda: f.promote("redis"), "redis has no"),
                           (lambda: f.rejoin("shard0/primary"), "nobody"),
                           (lambda: f.rejoin("shard0/replica1", "shard1/primary"), "its shard"),
                           (lambda: f.rejoin("shard0/replica1", "shard0/replica2"), "a primary"),
                           (lambda: f.sql("shard0/primary", "selec 1"), "syntax error"),
                           (lambda: f.sql("shard0/primary", "select pg_sleep(9)", timeout=0.2),
                            "no answer in 0.2 s")):
            with self.assertRaisesRegex(FleetError, says):
                does()

    def test_as_commands(self):
        where = {**os.environ, "PQR_FLEET": self.fleet.folder}
        for args, says in ((("sql", "shard0/primary", "select 6 * 7"), "42\n"),
                           (("sql", "--user", "app", "shard0-primary", "select user"), "app\n"),
                           (("pause-replay", "shard0-replica1"), "has paused replay"),
                           (("resume-replay", "shard0/replica1"), "replays"),
                           (("restart", "shard0/replica1", "--mode", "immediate"), "is up"),
                           (("rejoin", "shard0/replica1", "--from", "shard0/primary"), "standby"),
                           (("status",), "shard1/replica2 | ")):
            done = command(*args, env=where)
            self.assertEqual(0, done.returncode, done.stderr)
            self.assertIn(says, done.stdout)
        rows = json.loads(command("status", "--json", env=where).stdout)
        self.assertEqual(self.fleet.nodes, [row["node"] for row in rows])
        env = json.loads(command("env", "--json", env=where).stdout)
        self.assertEqual(self.env, env)
        shell = subprocess.run(["sh", "-c", 'eval "$("$@")"; echo "$DATABASE_SHARD_1_URL"', "sh",
                                *COMMAND, "env"], capture_output=True, text=True, env=where)
        self.assertEqual(self.env["DATABASE_SHARD_1_URL"], shell.stdout.strip())

    def test_what_a_shell_had_of_another_fleet_is_unset(self):
        old = {"DATABASE_PRIMARY_URL": "old", "DATABASE_SHARD_7_URL": "old",
               "DATABASE_SHARD_1_URL": "old", "REDIS_URL_FILE": "old"}
        shell = subprocess.run(["sh", "-c", 'eval "$("$@")"; env', "sh", *COMMAND, "env"],
                               capture_output=True, text=True, check=True,
                               env={**os.environ, **old, "PQR_FLEET": self.fleet.folder})
        seen = dict(line.split("=", 1) for line in shell.stdout.splitlines() if "=" in line)
        self.assertEqual(self.env, {name: value for name, value in seen.items()
                                    if name.startswith(("DATABASE_", "REDIS_", "PQR_FLEET"))})

    def test_exit_status_is_1_for_what_failed_and_2_for_usage(self):
        where = {**os.environ, "PQR_FLEET": self.fleet.folder}
        for status, args in ((1, ["kill", "shard9/primary"]), (1, ["sql", "redis", "select 1"]),
                             (1, ["status", "--dir", "/nonexistent"]), (2, ["explode"]),
                             (2, ["kill"]), (2, ["up", "--shards", "0"]), (2, ["down", "--", "x"]),
                             (2, ["up", "--set", "novalue"])):
            done = command(*args, env=where)
            self.assertEqual((status, ""), (done.returncode, done.stdout), args)
            self.assertNotIn("Traceback", done.stderr)


class OtherFleets(unittest.TestCase, NothingStays):

    def test_a_command_has_a_fleet_while_it_runs_and_its_exit_status_is_ours(self):
        done = command("up", "--shards", "1", "--replicas", "1", "--no-redis", "--", "sh", "-c",
                       'echo "$PQR_FLEET"; env | sort | grep ^DATABASE | cut -d= -f1; exit 7',
                       env={**os.environ, "DATABASE_SHARD_COUNT": "2",
                            "DATABASE_SHARD_0_URL": "another fleet's"})
        self.assertEqual(7, done.returncode, done.stderr)
        folder, *names = done.stdout.split()
        self.assertEqual(["DATABASE_PRIMARY_URL", "DATABASE_REPLICA_1_URL"], names)
        self.assertFalse(os.path.exists(folder))

    def test_control_is_one_more_primary_and_settings_reach_every_server(self):
        with Fleet(shards=1, replicas=1, redis=False, control=True, sync=True, durable=True,
                   max_connections=50, settings={"work_mem": "5MB"}) as f:
            self.assertEqual(["DATABASE_PRIMARY_URL", "DATABASE_SHARD_COUNT",
                              "DATABASE_SHARD_0_URL", "DATABASE_SHARD_0_REPLICA_1_URL",
                              "PQR_FLEET"], list(f.env()))
            for node in f.nodes:
                self.assertEqual("5MB|50|on|on|on", f.sql(node, "select "
                    "current_setting('work_mem'), current_setting('max_connections'), "
                    "current_setting('fsync'), current_setting('full_page_writes'), "
                    "current_setting('synchronous_commit')"))
            self.assertEqual("quorum", f.sql("shard0/primary",
                                             "select sync_state from pg_stat_replication"))
            f.stop("shard0/replica1")
            with self.assertRaisesRegex(FleetError, "no answer"):       # a commit waits for it
                f.sql("shard0/primary", "create table t ()", timeout=0.5)
            f.cont("shard0/replica1")
            f.sql("shard0/primary", "create table u ()")
            f.sql("control/primary", "create table u ()")               # and here for nobody

    def test_with_tls_the_urls_check_the_servers(self):
        with Fleet(shards=1, replicas=1, redis=False, tls=True) as f:
            for url in (f.env()["DATABASE_PRIMARY_URL"], f.env()["DATABASE_REPLICA_1_URL"]):
                checked = url + "&sslmode=verify-full"
                asks = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
                self.assertEqual((0, "t"), psql(checked, asks))
                status, said = psql(checked.replace("/ca.crt", "/other.crt"), asks)
                self.assertEqual((2, True), (status, "certificate verify failed" in said))
                status, said = psql(checked.replace("@fleet.test", "@other.test"), asks)
                self.assertEqual((2, True), (status, "does not match host name" in said))

    def test_with_pgbouncer_the_urls_lead_to_a_pooler_before_each_server(self):
        with Fleet(shards=1, replicas=1, redis=False, pgbouncer=True) as f:
            env = f.env()
            self.assertEqual(["shard0/primary", "shard0/replica1", "shard0/pooler",
                              "shard0/pooler1"], f.nodes)
            for node, pooler, name in (("shard0/primary", "shard0/pooler", "DATABASE_PRIMARY_URL"),
                                       ("shard0/replica1", "shard0/pooler1",
                                        "DATABASE_REPLICA_1_URL")):
                ports = {row["node"]: row["port"] for row in f.status()}
                self.assertIn(f":{ports[pooler]}/", env[name])
                self.assertIn(f"{node}={ports[node]}", env["PQR_FLEET_PORTS"].split())
                self.assertEqual((0, node), psql(env[name], "show cluster_name"))
                f.kill(pooler)
                self.assertEqual(2, psql(env[name], "select 1")[0])
                self.assertEqual(node, f.sql(node, "show cluster_name"))
                f.start(pooler)
                self.assertEqual((0, node), psql(env[name], "show cluster_name"))
            with self.assertRaisesRegex(FleetError, "has no sql"):
                f.sql("shard0/pooler", "select 1")

    def test_two_side_by_side_must_be_told_apart(self):
        with Fleet(1, 0, redis=False) as one, Fleet(1, 0, redis=False) as two:
            self.assertNotEqual(one.sql("shard0/primary", "show port"),
                                two.sql("shard0/primary", "show port"))
            env = {k: v for k, v in os.environ.items() if k != "PQR_FLEET"}
            done = command("status", env=env)
            self.assertEqual(1, done.returncode)
            self.assertIn(one.folder, done.stderr)
            self.assertIn(two.folder, done.stderr)
            self.assertEqual(0, command("status", "--dir", two.folder, env=env).returncode)

    def test_a_server_that_does_not_start_shows_its_log(self):
        done = command("up", "--shards", "1", "--replicas", "0", "--no-redis",
                       "--set", "work_mem=plenty")
        self.assertEqual(1, done.returncode)
        self.assertIn('invalid value for parameter "work_mem": "plenty"', done.stderr)
        self.assertNotIn("Traceback", done.stderr)

    def test_a_folder_in_use_is_refused_and_kept(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            kept = os.path.join(folder, "kept")
            open(kept, "w").close()
            done = command("up", "--dir", folder)
            self.assertEqual(1, done.returncode)
            self.assertIn("exists already; name a folder that does not", done.stderr)
            self.assertTrue(os.path.exists(kept))
            self.assertIn("/tmp exists already", command("up", "--dir", "/tmp").stderr)
            done = command("up", "--dir", os.path.join(folder, "x" * 90))
            self.assertIn("too long", done.stderr)
            done = command("up", "--dir", os.path.join(folder, "no", "where"))
            self.assertIn("cannot write in", done.stderr)

    def test_missing_packages_are_named(self):
        was, os.access = os.access, lambda *_: False
        try:
            with self.assertRaisesRegex(FleetError, "apt install postgresql"):
                module.find_postgres()
            with self.assertRaisesRegex(FleetError, "apt install redis-server"):
                module.find_redis()
            with self.assertRaisesRegex(FleetError, "apt install openssl"):
                module.find_openssl()
            with self.assertRaisesRegex(FleetError, "apt install pgbouncer"):
                module.find_pgbouncer()
        finally:
            os.access = was


class WhenItEnds(unittest.TestCase, NothingStays):
    """Each way to end a fleet, always with one frozen server in it."""

    @contextlib.contextmanager
    def in_foreground(self):
        """A fleet of `up` without --detach: (its owner, the fleet)."""
        owner = subprocess.Popen(COMMAND + ["up", "--shards", "1", "--replicas", "0"], text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        with owner:
            fleet = Fleet.attach(owner.stdout.readline().strip())
            fleet.stop("shard0/primary")
            segments = shared_memory_of(fleet.folder)
            self.assertEqual(1, len(segments))
            yield owner, fleet
            self.expect_gone(fleet.folder, segments)

    def test_nothing_stays_when_the_owner_is_killed(self):
        with self.in_foreground() as (owner, _):
            owner.kill()

    def test_nothing_stays_when_the_keeper_is_killed(self):
        with self.in_foreground() as (owner, fleet):
            os.kill(fleet._facts["keeper"], signal.SIGKILL)
            self.assertEqual(1, owner.wait(GONE_S))

    def test_nothing_stays_when_the_janitor_is_killed(self):
        with self.in_foreground() as (owner, fleet):
            os.kill(fleet._facts["janitor"], signal.SIGKILL)
            self.assertEqual(1, owner.wait(GONE_S))

    def test_nothing_stays_after_ctrl_c(self):
        with self.in_foreground() as (owner, _):
            owner.send_signal(signal.SIGINT)
            self.assertEqual(0, owner.wait(GONE_S))

    def test_a_signal_tells_itself_in_the_exit_status_during_the_start_and_after(self):
        with self.in_foreground() as (owner, _):
            owner.terminate()
            self.assertEqual(143, owner.wait(GONE_S))
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            with subprocess.Popen(COMMAND + ["up"], stdout=subprocess.DEVNULL, text=True,
                                  stderr=subprocess.PIPE) as owner:
                owner.stderr.readline()     # the first step is done
                owner.send_signal(number)
                owner.stderr.read()
                self.assertEqual(128 + number, owner.wait(GONE_S))

    def test_nothing_stays_after_down(self):
        with self.in_foreground() as (owner, fleet):
            self.assertEqual(0, command("down", "--dir", fleet.folder).returncode)
            self.assertFalse(os.path.exists(fleet.folder))
            self.assertEqual(0, owner.wait(GONE_S))

    def test_nothing_stays_when_the_owner_is_killed_during_the_start(self):
        shared = set(glob.glob("/dev/shm/PostgreSQL.*"))
        parent = tempfile.mkdtemp()  # of its own: other fleets may start at the same moment
        self.addCleanup(shutil.rmtree, parent)
        os.chmod(parent, 0o777)
        ours = lambda: [f for f, _ in module.keepers() if f.startswith(parent)]
        with subprocess.Popen(COMMAND + ["up", "--detach"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL,
                              env={**os.environ, "TMPDIR": parent}) as starter:
            self.assertTrue(eventually(ours))
            folder = ours()[0]
            self.assertTrue(eventually(lambda: module.members(folder)))
            starter.kill()
            self.expect_gone(folder, set())
        self.assertTrue(eventually(lambda: set(glob.glob("/dev/shm/PostgreSQL.*")) <= shared))

    def test_a_detached_fleet_ends_with_the_owner_it_was_given(self):
        with subprocess.Popen(["sleep", "60"]) as other:
            done = command("up", "--shards", "1", "--replicas", "0", "--no-redis",
                           "--owner", str(other.pid))
            folder = done.stdout.strip()
            segments = shared_memory_of(folder)
            self.assertEqual(1, len(segments))
            other.kill()
            self.expect_gone(folder, segments)

    def test_a_detached_fleet_stays_until_down(self):
        with contextlib.ExitStack() as stack:
            folder = command("up", "--shards", "1", "--replicas", "0", "--detach").stdout.strip()
            fleet = Fleet.attach(folder)
            stack.callback(fleet.down)
            self.assertEqual("1", fleet.sql("shard0/primary", "select 1"))
            segments = shared_memory_of(folder)
        self.expect_gone(folder, segments)
        with self.assertRaisesRegex(FleetError, "no fleet is up in"):
            Fleet.attach(folder)

    def test_the_next_start_removes_what_stays_when_keeper_and_janitor_are_killed_at_once(self):
        fleet = Fleet.attach(command("up", "--shards", "1", "--replicas", "0", "--detach",
                                     "--no-redis").stdout.strip())
        fleet.stop("shard0/primary")
        segments = shared_memory_of(fleet.folder)
        for who in ("janitor", "keeper"):       # both stopped first, so that neither may notice
            os.kill(fleet._facts[who], signal.SIGSTOP)
        for who in ("janitor", "keeper"):
            os.kill(fleet._facts[who], signal.SIGKILL)
        self.assertTrue(eventually(lambda: fleet.folder not in dict(module.keepers())))
        with Fleet(1, 0, redis=False):
            self.expect_gone(fleet.folder, segments)


if __name__ == "__main__":
    unittest.main()
