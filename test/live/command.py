#!/usr/bin/python3
"""The command pqrouter, run as a person runs it, on a fleet of its own: each command in both forms,
exit statuses, what it says when something is wrong, and that no password is ever seen.

The command is $PQROUTER."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from urllib.parse import unquote, urlsplit

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(HERE))
from fleet import Fleet                                                 # noqa: E402

if "TMPDIR" not in os.environ and os.path.isdir("/dev/shm"):
    space = os.statvfs("/dev/shm")
    if space.f_bavail * space.f_frsize > 4 << 30:
        os.environ["TMPDIR"] = "/dev/shm"

COMMAND = os.environ.get("PQROUTER", os.path.join(HERE, "../../build/cli/pqrouter"))
PATIENCE_S = 60                     # for what must happen, however slow the machine is
COMMANDS = ["check", "env", "init", "pin", "purge", "topology", "route", "slot", "query", "docs"]
LOOK = {"check", "route", "topology"}       # these wait until every server was looked at
PLANTED = "gEheim/%40#Pa55"        # a password in all that is wrong
PLANTED_IN_URL = "gEheim%2F%2540%23Pa55"
OK, FAILED, USAGE, CONFIG = 0, 1, 2, 3

fleet = None                        # one for all; a test leaves every server as it found it
secrets = set()


def setUpModule():
    global fleet
    fleet = Fleet(shards=2, replicas=2, control=True, redis=False)
    unittest.addModuleCleanup(fleet.down)
    secret = unquote(urlsplit(fleet.env()["DATABASE_SHARD_0_URL"]).netloc.rpartition("@")[0])
    secrets.update({secret.partition(":")[2], PLANTED, PLANTED_IN_URL, "gEheim"})
    secrets.add(urlsplit(fleet.env()["DATABASE_SHARD_0_URL"]).password)


def clean_env(**more):
    """Nothing of the process's that configures the library."""
    ours = ("DATABASE_", "DB_", "PQR_", "PG", "REDIS_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return {**env, **{k: v for k, v in more.items() if v is not None}}


def with_database(url, name):
    return urlsplit(url)._replace(path="/" + name).geturl()


def with_login(url, login):
    parts = urlsplit(url)
    return parts._replace(netloc=login + "@" + parts.netloc.rpartition("@")[2]).geturl()


def eventually(condition, seconds=PATIENCE_S):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def databases(name):
    """The fleet's environment, led to new databases of that name in every server."""
    env = fleet.env()
    for node in fleet.nodes:
        if node.endswith("/primary"):
            fleet.sql(node, f"create database {name} owner app")
    for node in fleet.nodes:
        assert eventually(lambda: fleet.sql(
            node, f"select 1 from pg_database where datname = '{name}'") == "1"), node
    return {k: with_database(v, name) if k.endswith("_URL") else v for k, v in env.items()}


class Case(unittest.TestCase):
    maxDiff = None

    def run_command(self, *args, status=OK, env=None, **more):
        """What it prints, after its exit status was as expected and no password was in it."""
        env = fleet.env() if env is None else env
        if args and args[0] in LOOK and not {"--timeout", "--help"} & {*args}:
            args = (args[0], "--timeout", str(PATIENCE_S), *args[1:])
        done = subprocess.run([COMMAND, *args], capture_output=True, text=True,
                              timeout=2 * PATIENCE_S, env=clean_env(**env), **more)
        for secret in secrets:
            self.assertNotIn(secret, done.stdout + done.stderr, args)
        self.assertEqual(status, done.returncode, (args, done.stdout, done.stderr))
        self.said = done.stderr
        return done.stdout

    def run_json(self, *args, **more):
        """The one JSON value that it prints."""
        text = self.run_command(*args, "--json", **more)
        self.assertEqual(1, text.count("\n"), text)
        return json.loads(text)

    def expect_said(self, *lines):
        self.assertEqual("".join(f"pqrouter: {line}\n" for line in lines), self.said)

    def findings(self, status=FAILED, **more):
        """{(level, kind, where), …} of check, but for what is fine."""
        found = self.run_json("check", status=status, **more)
        return {(f["level"], f["kind"], f["where"]) for f in found["findings"] if f["level"] != "ok"}


class WithoutServers(Case):
    """What needs no server."""

    def test_help_lists_every_command(self):
        text = self.run_command("--help", env={})
        for name in COMMANDS:
            self.assertRegex(text, rf"\n  {name} +\w")
        self.assertEqual("", self.said)
        self.assertEqual(text, self.run_command("help", env={}))
        self.assertEqual(text, self.run_command("-h", env={}))

    def test_each_command_has_its_help_with_an_example_of_itself(self):
        for name in COMMANDS:
            text = self.run_command(name, "--help", env={})
            self.assertRegex(text, rf"^Usage: pqrouter {name} ")
            self.assertRegex(text, rf"Example:\n  .*pqrouter {name}")
            self.assertIn("--json", text)
            self.assertEqual(text, self.run_command("help", name, env={}))
            self.assertEqual("", self.said)

    def test_what_is_wrong_with_the_command_line_is_said_with_exit_status_2(self):
        for args, said in [
                (["chekc"], "there is no command chekc"),
                (["check", "x"], "check takes no argument"),
                (["check", "--watch", "1"], "unknown option, or one that takes no value: --watch"),
                (["check", "-q"], "unknown option -q"),
                (["--nonsense"], "unknown option, or one that takes no value: --nonsense"),
                (["topology", "--watch"], "a value is missing after --watch"),
                (["topology", "--watch", "often"],
                 '--watch takes a number of seconds, such as 2.5, not "often"'),
                (["topology", "--watch", "-1"],
                 '--watch takes a number of seconds, such as 2.5, not "-1"'),
                (["query", "acme", "select 1", "--deadline", "0"],
                 '--deadline takes a number of milliseconds, such as 500, not "0"'),
                (["init", "--shard", "0"], "--shard and --control go with --sql"),
                (["init", "--sql", "--shard", "x"], '--shard is a number from 0, not "x"'),
                (["init", "--sql", "--shard", "0", "--control"],
                 "--shard and --control are two databases: choose one"),
                (["route"], "route takes TENANT: an argument is missing"),
                (["route", "a", "b"], "route takes TENANT: an argument is too much"),
                (["slot"], "slot takes TENANT…: an argument is missing"),
                (["pin", "acme"], "pin takes TENANT SHARD: an argument is missing"),
                (["pin", "acme", "one"], 'SHARD is a number from 0, not "one"'),
                (["purge", "--older-than", "soon"],
                 '--older-than takes a number with s, m, h or d, such as 36h, not "soon"'),
                (["query", "acme"], "query takes TENANT SQL: the SQL is missing"),
                (["query", "--control", "acme", "select 1"],
                 "with --control there is no TENANT, only the SQL"),
                (["query", "acme", "select 1", "--level", "fresh"],
                 '--level is session, any or primary, not "fresh"'),
                (["query", "acme", "select 1", "--write", "--level", "any"],
                 "--level is for reads: a write goes to the primary"),
                (["query", "acme", "select 1", f"--password={PLANTED}"],
                 "unknown option, or one that takes no value: --password")]:
            for env in ({}, {"DATABASE_PRIMARY_URL": "postgresql://a@127.0.0.1:1/b"}):
                self.assertEqual("", self.run_command(*args, status=USAGE, env=env))
                command = args[0] + " " if args[0] in COMMANDS else ""
                self.expect_said(said, f"see pqrouter {command}--help")

    def test_without_a_command_it_prints_its_help_and_fails(self):
        self.assertEqual("", self.run_command(status=USAGE, env={}))
        self.assertIn("Usage: pqrouter", self.said)

    def test_it_tells_its_version(self):
        self.assertRegex(self.run_command("--version", env={}), r"^pqrouter \d+\.\d+\.\d+\n$")
        self.assertRegex(self.run_json("--version", env={})["version"], r"^\d+\.\d+\.\d+$")

    def test_slots_are_those_of_the_frozen_formula(self):
        self.assertEqual([{"tenant": "", "slot": 2881}, {"tenant": "acme", "slot": 4395}],
                         self.run_json("slot", "", "acme", env={}))
        self.assertEqual(" tenant | slot\n"
                         "--------+------\n"
                         " acme   | 4395\n"
                         " 日本   | 2821\n"
                         "(2 rows)\n",
                         self.run_command("slot", "acme", "日本", env={}))

    def test_the_reference_pages_are_printed(self):
        for page, word in (("options", "DB_CONNECTION_LIMIT"), ("errors", "PQR_E_NO_PRIMARY")):
            text = self.run_command("docs", page, env={})
            self.assertTrue(text.startswith("# "))
            self.assertIn(word, text)
            self.assertEqual({"page": page, "text": text}, self.run_json("docs", page, env={}))
        self.run_command("docs", "poems", status=USAGE, env={})
        self.expect_said('no page "poems": there are options and errors')

    def test_an_answer_that_cannot_be_written_is_a_failure(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([COMMAND, "docs", "options"], stdout=full, env=clean_env(),
                                  stderr=subprocess.PIPE, text=True, timeout=30)
        self.assertEqual((FAILED, "pqrouter: the answer cannot be written to standard output\n"),
                         (done.returncode, done.stderr))

    def test_it_ends_quietly_when_nobody_reads_on(self):
        for before in ("", "trap '' PIPE; "):
            done = subprocess.run(["sh", "-c", f"{before}'{COMMAND}' docs options | head -1"],
                                  capture_output=True, text=True, env=clean_env(), timeout=30)
            self.assertEqual(("# Options\n", ""), (done.stdout, done.stderr))


class TheConfiguration(Case):
    """Without a server that answers."""

    URL = f"postgresql://app:{PLANTED_IN_URL}@127.0.0.1:1/app"
    FAULTS = ['DATABASE_SHARD_1_URL: not a usable PostgreSQL URL: it begins with neither '
              'postgresql:// nor postgres://',
              'DB_POOL_TIMEOUT: "soon" is not a duration from 1ms to 1h (write 5, 0.5, 250ms, 2m)']
    FAULTY = {"DATABASE_SHARD_COUNT": "2", "DATABASE_SHARD_0_URL": URL, "DB_POOL_TIMEOUT": "soon",
              "DATABASE_SHARD_1_URL": f"ftp://app:{PLANTED}@h/d"}

    def test_every_fault_is_told_by_every_command_with_exit_status_3(self):
        for args in (["env"], ["init"], ["init", "--sql"], ["pin", "a", "0"], ["topology"],
                     ["route", "a"], ["query", "a", "select 1"]):
            self.assertEqual("", self.run_command(*args, env=self.FAULTY, status=CONFIG))
            self.assertEqual(sorted(self.FAULTS), sorted(self.said.replace("pqrouter: ", "")
                                                         .splitlines()))
            error = self.run_json(*args, env=self.FAULTY, status=CONFIG)["error"]
            self.assertEqual(("CONFIG", sorted(self.FAULTS)),
                             (error["code"], sorted(error["faults"])))

    def test_check_tells_every_fault_on_a_line_of_its_own(self):
        text = self.run_command("check", env=self.FAULTY, status=CONFIG)
        self.assertEqual(sorted(f"error: configuration: {f}" for f in self.FAULTS),
                         sorted(text.splitlines()[:-1]))
        self.assertEqual("2 errors, 0 warnings", text.splitlines()[-1])
        found = self.run_json("check", env=self.FAULTY, status=CONFIG)
        self.assertEqual((False, 2, 0, []), (found["ok"], found["errors"], found["warnings"],
                                             found["nodes"]))
        self.assertEqual(sorted(self.FAULTS), sorted(f["text"] for f in found["findings"]))

    def test_nothing_configured_is_a_fault(self):
        self.assertIn("no database configured", self.run_command("check", env={}, status=CONFIG))
        self.run_command("env", env={}, status=CONFIG)
        self.assertIn("pqrouter: no database configured", self.said)

    def test_a_service_of_the_process_is_a_fault_unless_each_url_names_one(self):
        env = {"DATABASE_PRIMARY_URL": self.URL, "PGSERVICE": "nope"}
        self.run_command("env", env=env, status=CONFIG)
        self.expect_said("PGSERVICE is set, and libpq would apply it to every server: unset it; a "
                         "URL may name a service as its parameter")
        env["DATABASE_PRIMARY_URL"] += "?service=mine"
        self.run_command("env", env=env)

    def test_a_broken_url_never_shows_its_password(self):
        for url in (f"postgresql://app:{PLANTED}@h/d", f"host=h password={PLANTED}' dbname='d",
                    f"postgresql+psycopg2://app:{PLANTED}@h:x/d", f"jdbc:mysql://u:{PLANTED}@h/d",
                    f"postgresql://h/d?password={PLANTED_IN_URL}&sslmode=maybe",
                    f"postgresql://app:{PLANTED_IN_URL}@h:99999/d", f"{PLANTED}"):
            self.run_command("check", env={"DATABASE_PRIMARY_URL": url}, status=CONFIG)
            self.run_json("env", env={"DATABASE_URL": url}, status=CONFIG)
            self.run_json("query", "-", "select 1", status=CONFIG,
                          env={"DATABASE_SHARD_0_URL": url, "DATABASE_SHARD_COUNT": "1"})

    def test_env_tells_each_value_and_its_source_while_no_server_is_up(self):
        env = {"DATABASE_PRIMARY_URL": self.URL, "DATABASE_POOL_SIZE": "7",
               "DB_SOCKET_TIMEOUT": "90s"}
        settings = {s["name"]: (s["value"], s["source"])
                    for s in self.run_json("env", env=env)["settings"]}
        self.assertEqual(("7", "DATABASE_POOL_SIZE"), settings["DB_CONNECTION_LIMIT"])
        self.assertEqual(("90s", "environment"), settings["DB_SOCKET_TIMEOUT"])
        self.assertEqual(("10s", "default"), settings["DB_POOL_TIMEOUT"])
        self.assertEqual(("postgresql://app@127.0.0.1:1/app", "environment"),
                         settings["DATABASE_PRIMARY_URL"])
        text = self.run_command("env", env=env)
        self.assertRegex(text, r"\n DB_CONNECTION_LIMIT +\| 7 +\| DATABASE_POOL_SIZE\n")
        self.assertRegex(text, rf"\n\({len(settings)} rows\)\n$")
        self.assertEqual("", self.said)

    def test_env_never_shows_a_password(self):
        with tempfile.NamedTemporaryFile("w") as f:
            f.write(PLANTED)
            f.flush()
            for more in ({"DATABASE_PASSWORD": PLANTED}, {"DATABASE_PASSWORD_FILE": f.name},
                         {"PGPASSWORD": PLANTED}):
                env = {"DATABASE_NAME": "app", "DATABASE_HOST": "127.0.0.1", **more}
                settings = {s["name"]: s["value"] for s in self.run_json("env", env=env)["settings"]}
                self.assertEqual("(set)", settings["DATABASE_PASSWORD"])
                self.run_command("env", env=env)

    def test_env_and_check_tell_warnings(self):
        env = {"DATABASE_PRIMARY_URL": self.URL, "DB_POOL_TIMEOUT": "0"}
        self.run_command("env", env=env)
        self.assertRegex(self.said, r"^pqrouter: warning: DB_POOL_TIMEOUT is 0, .*\n$")
        self.assertEqual(1, len(self.run_json("env", env=env)["warnings"]))
        self.assertIn(("warning", "configuration", "configuration"), self.findings(env=env))

    def test_a_server_that_refuses_is_told_with_its_address_and_what_to_do(self):
        env = {"DATABASE_PRIMARY_URL": self.URL}
        self.assertEqual({("error", "unreachable", "shard0/primary")}, self.findings(env=env))
        self.run_command("query", "-", "select 1", "--deadline", "300", env=env, status=FAILED)
        self.assertRegex(self.said, r"^pqrouter: .*127\.0\.0\.1:1/app.*Connection refused.*\n"
                                    r"pqrouter: what to do: .*\n$")
        error = self.run_json("query", "-", "select 1", "--deadline", "300", env=env,
                              status=FAILED)["error"]
        self.assertEqual("safe", error["retry"])
        self.assertEqual("down", self.run_json("topology", env=env)["nodes"][0]["state"])


class AFileOfVariables(Case):
    """--env-file"""

    def read(self, text, name="DB_APPLICATION_NAME", env=None):
        with tempfile.NamedTemporaryFile("w", suffix=".env") as f:
            f.write(text)
            f.flush()
            env = {"DATABASE_PRIMARY_URL": TheConfiguration.URL, **(env or {})}
            settings = self.run_json("env", "--env-file", f.name, env=env)["settings"]
        return next((s["value"], s["source"]) for s in settings if s["name"] == name)

    def test_lines_are_read_as_a_shell_or_a_container_has_them(self):
        for line, value in [("DB_APPLICATION_NAME=one", "one"),
                            ("  export DB_APPLICATION_NAME='two words'  ", "two words"),
                            ("DB_APPLICATION_NAME=two words", "two words"),
                            ("DB_APPLICATION_NAME='it'\"'\"'s'", "it's"),
                            ('DB_APPLICATION_NAME="a \\"b\\" $c"', 'a "b" $c'),
                            ("DB_APPLICATION_NAME=a#b'c", "a#b'c"),
                            ("DB_APPLICATION_NAME=crlf\r", "crlf"),
                            ("# DB_APPLICATION_NAME=no\n\nDB_APPLICATION_NAME=first\n"
                             "DB_APPLICATION_NAME=last", "last")]:
            self.assertEqual((value, "file"), self.read(line), line)

    def test_the_file_wins_over_the_environment(self):
        env = {"DB_APPLICATION_NAME": "environment's"}
        self.assertEqual(("file's", "file"), self.read("DB_APPLICATION_NAME=file's", env=env))
        self.assertEqual(("environment's", "environment"), self.read("X=1", env=env))
        self.assertEqual(("pqrouter", "default"), self.read("DB_APPLICATION_NAME=", env=env))
        self.assertEqual(("pqrouter", "default"), self.read("unset DB_APPLICATION_NAME", env=env))

    def test_what_the_fleet_prints_is_understood_before_and_after_the_command(self):
        with tempfile.NamedTemporaryFile("w") as f:
            done = subprocess.run([sys.executable, os.path.join(HERE, "../fleet.py"), "env", "--dir",
                                   fleet.folder], stdout=f, check=True, timeout=30)
            self.assertEqual(0, done.returncode)
            for args in (["--env-file", f.name, "topology"], ["topology", "--env-file", f.name]):
                self.assertIn("(7 rows)", self.run_command(*args, env={}))

    def test_what_it_cannot_read_is_told_by_its_line_and_never_by_its_value(self):
        for text, said in [(f"A=1\nexport PASS {PLANTED}\n", "2: not of the form NAME=value"),
                           (f"1A={PLANTED}\n", "1: not of the form NAME=value"),
                           (f"unset {PLANTED}\n", "1: unset takes one name"),
                           (f"A='{PLANTED}\n", "1: a quote is not closed"),
                           (f"A='b' {PLANTED}\n", "1: there is more after the value")]:
            with tempfile.NamedTemporaryFile("w") as f:
                f.write(text)
                f.flush()
                self.assertEqual("", self.run_command("env", "--env-file", f.name, status=CONFIG))
                self.expect_said(f"{f.name}:{said}")
        self.run_command("env", "--env-file", "/nowhere/x", status=CONFIG)
        self.expect_said("/nowhere/x cannot be read: No such file or directory")
        self.run_command("env", "--env-file", "/", status=CONFIG)
        self.expect_said("/ cannot be read: Is a directory")


class Stamping(Case):
    """init and pin, each on databases of its own."""

    def test_init_stamps_every_shard_once(self):
        env = databases("stamping")
        self.assertEqual({("error", "unstamped", "shard0"), ("error", "unstamped", "shard1"),
                          ("warning", "unstamped", "control")}, self.findings(env=env))
        self.run_command("query", "acme", "--write", "select 1", env=env, status=FAILED)
        self.assertIn("run pqrouter init", self.said)
        self.run_command("pin", "acme", "1", env=env, status=FAILED)
        self.assertIn("run pqrouter init first", self.said)
        steps = self.run_command("init", env=env).splitlines()
        self.assertEqual(3, len(steps), steps)
        for step, shard in zip(steps, ("shard0", "shard1", "control")):
            self.assertRegex(step, rf"^{shard} is stamped: fleet fleet-\w+, map version 1$")
        steps = self.run_json("init", env=env)["steps"]
        self.assertEqual(["shard0 is stamped already", "shard1 is stamped already",
                          "control is stamped already"], [s.partition(":")[0] for s in steps])
        self.assertEqual(set(), self.findings(env=env, status=OK))

    def test_init_goes_on_and_tells_who_owns_no_slots(self):
        env = databases("resumed")
        self.run_command("init", env=env)
        fleet.sql("shard1/primary", "drop schema pqrouter cascade", database="resumed")
        step = self.run_command("init", env=env).splitlines()[1]
        self.assertRegex(step, r"^shard1 is stamped: fleet fleet-\w+, map version 1$")
        env = databases("grown")
        one = {k: v for k, v in env.items() if not k.startswith("DATABASE_SHARD_1")}
        self.run_command("init", env={**one, "DATABASE_SHARD_COUNT": "1"})
        self.assertRegex(self.run_command("init", env=env).splitlines()[1],
                         r"^shard1 is stamped: .*; it owns no slots until some are moved to it$")

    def test_init_writes_nothing_when_a_database_is_of_another_fleet(self):
        env = databases("foreign_stamp")
        alone = {"DATABASE_PRIMARY_URL": env["DATABASE_SHARD_1_URL"], "DATABASE_FLEET_ID": "other"}
        self.run_command("init", env=alone)
        done = self.run_json("init", env={**env, "DATABASE_FLEET_ID": "mine"}, status=FAILED)
        self.assertEqual(([], "WRONG_SHARD"), (done["steps"], done["error"]["code"]))
        self.assertRegex(self.said, r'^pqrouter: shard1 is stamped as shard 0 of fleet "other".*\n$')
        self.assertEqual("", fleet.sql("shard0/primary", "select to_regclass('pqrouter.stamp')",
                                       database="foreign_stamp"))

    def test_the_sql_of_init_does_the_same(self):
        env = databases("by_sql")
        self.run_command("init", "--sql", env=env, status=CONFIG)
        self.expect_said("set DATABASE_FLEET_ID: the stamps of one fleet must carry the same id")
        env["DATABASE_FLEET_ID"] = "o'hara"
        texts = self.run_json("init", "--sql", env=env)["sql"]
        self.assertEqual("", self.run_command("init", "--sql", env=env, status=USAGE))
        self.expect_said("the SQL of each database is its own: choose one by --shard N or --control",
                         "see pqrouter init --help")
        for node, args, text in zip(("shard0/primary", "shard1/primary", "control/primary"),
                                    (["--shard", "0"], ["--shard", "1"], ["--control"]), texts):
            self.assertEqual(text, self.run_command("init", "--sql", *args, env=env))
            fleet.sql(node, text, database="by_sql")
        self.assertTrue(eventually(lambda: self.run_json("check", env=env)["ok"]))

    def test_purge_deletes_old_keys_of_every_shard_and_no_others(self):
        env = databases("purging")
        self.run_command("init", env=env)
        fill = ("insert into pqrouter.outcome (tenant, key, at) select '', 'k' || n, now() - "
                "interval '30 minutes' - n * interval '1 hour' from generate_series(0, 2499) n")
        count = "select count(*) from pqrouter.outcome"
        for shard in (0, 1):
            fleet.sql(f"shard{shard}/primary", fill, database="purging")
        steps = self.run_command("purge", "--older-than", "2200h", env=env).splitlines()
        self.assertEqual(["shard0: 300 keys are deleted", "shard1: 300 keys are deleted",
                          "control: 0 keys are deleted"], steps)
        self.assertEqual("2200", fleet.sql("shard1/primary", count, database="purging"))
        answer = self.run_json("purge", "--older-than", "0.5h", env=env)
        self.assertEqual((2 * 2200, 3), (answer["deleted"], len(answer["steps"])))
        self.assertEqual("0", fleet.sql("shard1/primary", count, database="purging"))
        fleet.sql("shard0/primary", "drop table pqrouter.outcome", database="purging")
        self.assertEqual("SQL", self.run_json("purge", env=env, status=FAILED)["error"]["code"])
        self.assertIn("run pqrouter init", self.said)
        self.assertIn("the tables that it lacked are made", self.run_command("init", env=env))
        self.assertEqual(0, self.run_json("purge", env=env)["deleted"])

    def test_a_pin_says_that_no_rows_move_and_route_follows_it(self):
        env = databases("pins")
        self.run_command("init", env=env)
        self.assertEqual(("map", False, 0), self.routed(env))
        self.assertEqual("acme is pinned to shard 1 (before: shard 0, by its slot).\n"
                         "No rows were moved: what it has on shard 0 stays there, and is not seen "
                         "any more.\n",
                         self.run_command("pin", "acme", "1", env=env))
        self.assertEqual(("pin", True, 1), self.routed(env))
        self.assertRegex(self.run_command("route", "acme", env=env),
                         r"\n decided by +\| a pin, in map version 2\n")
        self.assertEqual({"tenant": "acme", "shard": 1, "shard_before": 1, "rows_moved": False},
                         self.run_json("pin", "acme", "1", env=env))
        self.assertEqual(2, self.run_json("route", "acme", env=env)["map_version"])
        fleet.sql("shard1/primary", "delete from pqrouter.pin", database="pins")
        self.run_command("pin", "acme", "1", env=env)
        self.assertEqual(3, self.run_json("route", "acme", env=env)["map_version"])
        self.run_command("pin", "acme", "2", env=env, status=USAGE)
        self.expect_said("shard 2 is not configured: there are 2, from 0")

    def routed(self, env):
        route = self.run_json("route", "acme", env=env)
        return route["decided_by"], route["pinned"], route["shard"]


class AStampedFleet(Case):

    @classmethod
    def setUpClass(cls):
        done = subprocess.run([COMMAND, "init"], env=clean_env(**fleet.env()), timeout=30,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        # On shard 0: see its slot in the test of slots.
        fleet.sql("shard0/primary", "create table if not exists note (id int primary key, body text)",
                  "grant all on note to app")

    @contextlib.contextmanager
    def without(self, undo, do, node):
        """A server after `do`; `undo` follows."""
        do(node)
        try:
            yield
        finally:
            undo(node)
            self.assertTrue(eventually(self.all_serve))

    def all_serve(self):
        return all(n["serves_reads"] for n in self.run_json("topology")["nodes"])


class Topology(AStampedFleet):

    def test_it_shows_every_server_in_both_forms(self):
        self.assertTrue(eventually(self.all_serve))
        text = self.run_command("topology")
        self.assertRegex(text.splitlines()[0],
                         "^  shard  +| +node +| +address +| +role +| +state | timeline | lag ms "
                         "| lag bytes | used/idle/limit | latency | reads | why$")
        for n in fleet.nodes:
            self.assertRegex(text, rf"\n {n.split('/')[0].replace('shard', '')} +\| {n} +\| 127")
        nodes = self.run_json("topology")["nodes"]
        self.assertEqual({n: "primary" if n.endswith("primary") else "replica" for n in fleet.nodes},
                         {n["node"]: n["role"] for n in nodes})
        for n in nodes:
            self.assertEqual(("up", 1, True, 20), (n["state"], n["timeline"], n["serves_reads"],
                                                   n["connections_limit"]))

    def test_a_server_that_is_down_says_why(self):
        with self.without(fleet.start, fleet.kill, "shard0/replica2"):
            self.assertRegex(self.run_command("topology"),
                             r"shard0/replica2 \|.*\| down, refused +\|.*\| no +\| Connection refused")
            self.assertTrue(eventually(
                lambda: self.run_json("route", "acme")["read_node"] == "shard0/replica1"))
            route = self.run_json("route", "acme")
            why = {n["node"]: n["read_why"] for n in route["nodes"]}
            self.assertIn("down", why["shard0/replica2"])

    def test_it_redraws_until_ctrl_c_and_clears_only_a_terminal(self):
        for form in ([], ["--json"]):
            with subprocess.Popen([COMMAND, "topology", "--watch", "0.1", *form], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  env=clean_env(**fleet.env())) as watching:
                lines = [watching.stdout.readline() for _ in range(25)]
                watching.send_signal(signal.SIGINT)
                rest, said = watching.communicate(timeout=10)
                self.assertEqual((OK, ""), (watching.returncode, said))
            self.assertNotIn("\033", "".join(lines) + rest)
            if form:
                self.assertEqual(7, len(json.loads(lines[24])["nodes"]))
            else:
                self.assertGreaterEqual(lines.count("(7 rows)\n"), 2)
        self.assertIn("\033[H\033[J", self.on_terminal("topology", "--watch", "0.1"))

    def on_terminal(self, *args):
        """The first of what it prints there."""
        ours, theirs = pty.openpty()
        with subprocess.Popen([COMMAND, *args], stdout=theirs,
                              env=clean_env(**fleet.env())) as process:
            os.close(theirs)
            text = os.read(ours, 4096).decode()
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(OSError):
                while os.read(ours, 4096):
                    pass
            self.assertEqual(OK, process.wait(10))
        os.close(ours)
        return text


class Route(AStampedFleet):

    def test_it_tells_slot_and_shard_and_every_server_in_both_forms(self):
        self.assertTrue(eventually(self.all_serve))
        route = self.run_json("route", "acme")
        self.assertEqual((4395, 0, False, 1, "map", "shard0/primary"),
                         tuple(route[k] for k in ("slot", "shard", "pinned", "map_version",
                                                  "decided_by", "write_node")))
        self.assertEqual(["shard0/primary", "shard0/replica1", "shard0/replica2"],
                         [n["node"] for n in route["nodes"]])
        text = self.run_command("route", "acme")
        for line in (r" slot +\| 4395", r" shard +\| 0", r" decided by +\| the shard map, version 1",
                     r" a write goes to +\| shard0/primary",
                     r" shard0/replica2 +\| replica +\| up +\| .*"):
            self.assertRegex(text, rf"(?m)^{line}$")

    def test_without_a_primary_it_says_why_nobody_takes_writes(self):
        with self.without(fleet.start, fleet.kill, "shard1/primary"):
            tenant = next(t for t in map(str, range(99))
                          if self.run_json("slot", t)[0]["slot"] >= 8192)
            route = self.run_json("route", tenant)
            self.assertEqual((1, None), (route["shard"], route["write_node"]))
            self.assertIn("no server answers as its primary", route["write_why"])
            self.assertRegex(self.run_command("route", tenant), r" a write goes to +\| nobody: ")


class Query(AStampedFleet):

    def test_rows_are_printed_as_psql_does_with_their_source(self):
        text = self.run_command(
            "query", "acme", "--level", "primary",
            "select * from (values (1, 'één', 10.5), (20, null, -3), (3, '日本', null)) as v(n, t, f)")
        self.assertEqual(" n  |   t    |   f\n"
                         "----+--------+--------\n"
                         "  1 | één    |   10.5\n"
                         " 20 | [null] |     -3\n"
                         "  3 | 日本   | [null]\n"
                         "(3 rows)\n"
                         "from shard0/primary\n", text)

    def test_json_has_objects_with_texts_and_nulls(self):
        self.assertEqual(
            {"source": "shard0/primary", "affected": 0, "columns": ["n", "n_2", "t"],
             "rows": [{"n": "1", "n_2": None, "t": "a\"\n\x1b\\é"}]},
            self.run_json("query", "acme", "--level", "primary",
                          "select 1 as n, null as n, E'a\"\\n\\x1b\\\\é' as t"))
        self.assertEqual([], self.run_json("query", "acme", "select 1 where false")["rows"])

    def test_nothing_from_a_database_reaches_the_terminal_as_a_control(self):
        text = self.run_command("query", "acme", "select E'a\\n\\t\\x1b[31m' || chr(155) || chr(8238) "
                                                 "as \"x\x1b[0m\"")
        self.assertIn("a\\n\\t\\x1b[31m\\u009b\\u202e", text)
        self.assertIn("x\\x1b[0m", text)
        self.assertNotIn("\033", text)
        self.run_command("query", "acme", "--write", status=FAILED,
                         *["do $$ begin raise exception using message = E'\\x1b[31mred'; end $$"])
        self.assertNotIn("\033", self.said)

    def test_parameters_are_given_in_their_order(self):
        rows = self.run_json("query", "acme", "select $1::int + 1 as a, $2 as b, $3 as c",
                             "--param", "41", "--param", "it's", "--param", "")["rows"]
        self.assertEqual([{"a": "42", "b": "it's", "c": ""}], rows)

    def test_the_source_is_the_server_that_answered(self):
        sql = "select current_setting('cluster_name') as who"
        self.assertTrue(eventually(self.all_serve))
        for level in ("any", "session", "primary"):
            answer = self.run_json("query", "acme", sql, "--level", level)
            self.assertEqual(answer["source"], answer["rows"][0]["who"])
        answer = self.run_json("query", "acme", "--write", sql)
        self.assertEqual(("shard0/primary", "shard0/primary"),
                         (answer["source"], answer["rows"][0]["who"]))
        answer = self.run_json("query", "--control", sql)
        self.assertEqual(("control/primary", "control/primary"),
                         (answer["source"], answer["rows"][0]["who"]))

    def test_writes_tell_how_many_rows_they_have_touched(self):
        self.run_command("query", "acme", "--write", "delete from note")
        self.assertEqual("0 rows affected\nfrom shard0/primary\n",
                         self.run_command("query", "acme", "--write", "delete from note"))
        self.assertEqual(" id\n----\n  1\n  2\n(2 rows)\n2 rows affected\nfrom shard0/primary\n",
                         self.run_command("query", "acme", "--write",
                                          "insert into note values (1), (2) returning id"))
        self.assertEqual(2, self.run_json("query", "acme", "--write", "delete from note")["affected"])

    def test_a_read_that_writes_is_refused_and_says_how(self):
        for sql, status in (("delete from note", FAILED), ("vacuum note", USAGE),
                            ("with x as (delete from note returning 1) select * from x", FAILED)):
            self.run_command("query", "acme", sql, status=status)
            self.assertRegex(self.said, r"pqrouter: what to do: .*run it with --write, if it may")

    def test_its_refusals_speak_of_the_command_and_both_forms_say_the_same(self):
        slip = "mend it, if it is a slip; run it with --write, if it may change something"
        for args, said, advice in ((["selec 1"], "selec is not a read", slip),
                                   (["begin"], "BEGIN would", "use psql"),
                                   (["--write", "set x = 1"], "SET would", "use psql"),
                                   (["delete from note"], "cannot execute DELETE", "--write")):
            error = self.run_json("query", "acme", *args,
                                  status=FAILED if "delete" in args[0] else USAGE)["error"]
            self.assertIn(said, error["message"])
            self.assertIn(advice, error["advice"])
            self.assertIn(f"what to do: {error['advice']}\n", self.said)
            self.assertNotIn("pqr_", self.said + error["message"])

    def test_what_the_server_refuses_is_told_with_its_sqlstate(self):
        self.run_command("query", "acme", "--write", "insert into note values (7)")
        insert = ["query", "acme", "--write", "insert into note values (7)"]
        self.run_command(*insert, status=FAILED)
        self.expect_said('shard0/primary: duplicate key value violates unique constraint "note_pkey" '
                         '(SQLSTATE 23505)')
        error = self.run_json(*insert, status=FAILED)["error"]
        self.assertEqual(("SQL", "23505", "shard0/primary", 0, "note", "note_pkey", "never"),
                         tuple(error[k] for k in ("code", "sqlstate", "node", "shard", "table",
                                                  "constraint", "retry")))
        self.run_command("query", "acme", "begin", status=USAGE)

    def test_a_replica_that_cannot_be_measured_says_why(self):
        def lag(node):
            fleet.pause_replay(node)
            fleet.sql("shard0/primary", "create temp table x ()")
        with self.without(fleet.resume_replay, lag, "shard0/replica1"):
            why = {n["node"]: n["why"] for n in self.run_json("topology")["nodes"]}
            self.assertRegex(why["shard0/replica1"],
                             r"^\d+ bytes behind, for longer than is remembered$")

    def test_where_no_primary_was_seen_yet_a_replica_serves_reads_and_nobody_writes(self):
        with self.without(fleet.start, fleet.kill, "shard0/primary"):
            self.assertRegex(self.run_command("query", "acme", "select 1"),
                             r"from shard0/replica[12]\n$")
            self.run_command("query", "acme", "select 1", "--write", "--deadline", "1000",
                             status=FAILED)
            self.assertIn("shard0: no server answers as its primary", self.said)

    def test_a_parameter_too_few_is_refused_and_nothing_is_in_doubt(self):
        error = self.run_json("query", "acme", "--write", "insert into note values ($1, $2)",
                              status=FAILED)["error"]
        self.assertEqual(("SQL", "08P01", "never"),
                         tuple(error[k] for k in ("code", "sqlstate", "retry")))
        self.assertNotIn("may have happened", self.said)

    def test_a_deadline_ends_it(self):
        begun = time.monotonic()
        error = self.run_json("query", "acme", "select pg_sleep(20)", "--deadline", "1500",
                              status=FAILED)["error"]
        self.assertEqual("DEADLINE", error["code"])
        self.assertLess(time.monotonic() - begun, 10)
        self.assertIn("what to do: allow more time", self.said)

    def test_a_tenant_may_be_left_out_only_without_shards(self):
        self.run_command("query", "-", "select 1", status=USAGE)
        self.assertIn("needs a tenant", self.said)
        env = {"DATABASE_PRIMARY_URL": databases("alone")["DATABASE_PRIMARY_URL"]}
        self.assertEqual("shard0/primary",
                         self.run_json("query", "-", "select 1", env=env)["source"])

    def test_a_server_without_a_connection_left_is_told_as_that(self):
        env = {k: v for k, v in databases("crowded").items() if "SHARD_" not in k}
        fleet.sql("control/primary", "alter database crowded connection limit 0")
        why = ("no connection is left: lower DB_CONNECTION_LIMIT, or raise max_connections "
               "(or the role's limit)")
        advice = ("see who holds them: select usename, application_name, count(*) from "
                  "pg_stat_activity group by 1, 2")
        for args in ([], ["--write"]):
            error = self.run_json("query", "-", "select 1", "--deadline", "1500", *args, env=env,
                                  status=FAILED)["error"]
            self.assertIn(why, error["message"])
            self.assertEqual(("53300", advice), (error["sqlstate"], error["advice"]))
            self.assertIn(f"pqrouter: what to do: {advice}\n", self.said)
        errors = [f for f in self.run_json("check", "--timeout", "5", env=env, status=FAILED)
                  ["findings"] if f["level"] == "error"]
        self.assertEqual([("unreachable", advice)], [(f["kind"], f["advice"]) for f in errors])
        self.assertIn(why, errors[0]["text"])

    def test_a_wrong_password_is_told_as_that(self):
        env = fleet.env()
        env["DATABASE_SHARD_0_URL"] = with_login(env["DATABASE_SHARD_0_URL"], f"app:{PLANTED_IN_URL}")
        args = ["query", "acme", "--level", "primary", "select 1", "--deadline", "2000"]
        self.run_command(*args, env=env, status=FAILED)
        self.assertIn("password", self.said)


class Check(AStampedFleet):

    def test_a_fleet_that_is_right_has_no_findings(self):
        self.assertTrue(eventually(self.all_serve))
        text = self.run_command("check")
        self.assertRegex(text, r"(?m)^ok: configuration: no fault$")
        self.assertRegex(text, r"(?m)^ok: shard0/primary takes writes; 2 of 2 replicas serve reads; "
                               r"stamped for fleet fleet-\w+, map version 1$")
        self.assertEqual("0 errors, 0 warnings", text.splitlines()[-1])
        found = self.run_json("check")
        self.assertEqual((True, 0, 0), (found["ok"], found["errors"], found["warnings"]))
        for n in found["nodes"]:
            self.assertEqual(("up", "read", "app", 20, 197),
                             tuple(n[k] for k in ("state", "stamp", "user", "connections_needed",
                                                  "connections_allowed")))
            self.assertRegex(n["version"], r"^\d+(\.\d+)?")

    def test_servers_that_are_dead_or_frozen_are_found(self):
        with self.without(fleet.start, fleet.kill, "shard0/replica1"):
            text = self.run_command("check", status=FAILED)
            self.assertRegex(text, r"(?m)^error: shard0/replica1 .*Connection refused.*\n"
                                   r"    what to do: check address, port and firewall, and that the "
                                   r"server runs$")
            self.assertEqual("1 error, 0 warnings", text.splitlines()[-1])
        with self.without(fleet.cont, fleet.stop, "shard1/primary"):
            self.assertEqual({("error", "unreachable", "shard1/primary"),
                              ("error", "no_primary", "shard1")}, self.findings())

    def test_a_replica_that_lags_is_found(self):
        def lag(node):
            fleet.pause_replay(node)
            fleet.sql("shard0/primary", "select pg_logical_emit_message(true, '', repeat('x', 1000))")
        with self.without(fleet.resume_replay, lag, "shard0/replica1"):
            self.assertEqual({("warning", "no_reads", "shard0/replica1")},
                             self.findings(env={**fleet.env(), "DB_MAX_REPLICA_LAG_BYTES": "100"},
                                           status=OK))

    def test_a_wrong_password_is_found(self):
        env = fleet.env()
        env["DATABASE_SHARD_1_REPLICA_1_URL"] = with_login(env["DATABASE_SHARD_1_REPLICA_1_URL"],
                                                           f"app:{PLANTED_IN_URL}")
        self.assertEqual({("error", "login", "shard1/replica1")}, self.findings(env=env))
        self.assertIn("SQLSTATE 28P01", self.run_command("check", env={**env, "PQR_LOG": "trace"},
                                                         status=FAILED))
        self.assertIn("shard1/replica1 is down", self.said)

    def test_where_no_server_answers_nothing_is_said_of_a_failover(self):
        wrong = f"app:{PLANTED_IN_URL}"
        env = {k: with_login(v, wrong) if k.startswith("DATABASE_SHARD_1_") else v
               for k, v in fleet.env().items()}
        self.assertEqual({("error", "login", f"shard1/{n}")
                          for n in ("primary", "replica1", "replica2")}, self.findings(env=env))

    def test_a_wrong_stamp_is_found(self):
        env = {**fleet.env(), "DATABASE_FLEET_ID": "another"}
        self.assertEqual({("error", "wrong_stamp", f"{group}/primary")
                          for group in ("shard0", "shard1", "control")}, self.findings(env=env))
        self.run_command("query", "acme", "select 1", env=env, status=FAILED)
        self.assertIn('not "another"', self.said)
        self.assertEqual("WRONG_SHARD", self.run_json("query", "acme", "select 1", env=env,
                                                      status=FAILED)["error"]["code"])

    def test_a_map_with_more_shards_than_are_configured_is_found(self):
        env = {k: v for k, v in fleet.env().items() if "SHARD_1" not in k}
        env["DATABASE_SHARD_COUNT"] = "1"
        self.assertEqual({("error", "map", "shard0/primary")}, self.findings(env=env))

    def test_urls_that_lead_to_another_shard_are_found(self):
        env = fleet.env()
        for name, node in (("DATABASE_SHARD_1_REPLICA_1_URL", "shard1/replica1"),
                           ("DATABASE_SHARD_1_URL", "shard1/primary")):
            found = self.findings(env={**env, name: env["DATABASE_SHARD_0_REPLICA_1_URL"]})
            self.assertIn(("error", "other_cluster", node), found)
        swapped = {**env, "DATABASE_SHARD_0_URL": env["DATABASE_SHARD_1_URL"],
                   "DATABASE_SHARD_1_URL": env["DATABASE_SHARD_0_URL"]}
        self.assertEqual({("error", "other_cluster", "shard0/primary"),
                          ("error", "other_cluster", "shard1/primary"),
                          ("error", "no_primary", "shard0"), ("error", "no_primary", "shard1")},
                         self.findings(env=swapped))

    def test_shards_without_replicas_that_are_one_database_are_found(self):
        env = {k: v for k, v in fleet.env().items() if "REPLICA" not in k}
        env["DATABASE_SHARD_1_URL"] = env["DATABASE_SHARD_0_URL"]
        self.assertIn(("error", "same_database", "shard1/primary"), self.findings(env=env))

    def test_a_server_named_twice_is_found(self):
        env = fleet.env()
        twice = {**env, "DATABASE_SHARD_0_REPLICA_2_URL": env["DATABASE_SHARD_0_REPLICA_1_URL"]}
        self.assertEqual({("warning", "same_server", "shard0/replica2")},
                         self.findings(env=twice, status=OK))
        twice = {**env, "DATABASE_SHARD_0_REPLICA_2_URL": env["DATABASE_SHARD_0_URL"]}
        self.assertEqual({("warning", "same_server", "shard0/replica2")},
                         self.findings(env=twice, status=OK))
        self.run_command("query", "acme", "--write", "select 1", env=twice)

    def test_shards_on_one_server_share_its_connections(self):
        env = databases("shared_0")
        one = {"DATABASE_SHARD_COUNT": "2", "DATABASE_SHARD_0_URL": env["DATABASE_SHARD_0_URL"],
               "DATABASE_SHARD_1_URL": with_database(env["DATABASE_SHARD_0_URL"], "app"),
               "DB_CONNECTION_LIMIT": "99"}
        found = self.run_json("check", env=one, status=FAILED)      # the stamps do not fit
        self.assertEqual([198, 198], [n["connections_needed"] for n in found["nodes"]])
        kinds = {(f["kind"], f["where"]) for f in found["findings"]}
        self.assertIn(("same_server", "shard1/primary"), kinds)
        self.assertIn(("connections", "shard0/primary"), kinds)

    def test_limits_that_do_not_fit_are_found(self):
        found = self.findings(env={**fleet.env(), "DB_CONNECTION_LIMIT": "198",
                                   "DB_MAX_CONNECTIONS": "300"}, status=OK)
        self.assertEqual({("warning", kind, f"{group}/primary")
                          for group in ("shard0", "shard1", "control")
                          for kind in ("connections", "max_connections")}, found)
        found = self.run_json("check", env={**fleet.env(), "DB_MAX_CONNECTIONS": "10"})
        self.assertEqual({"one process may open 20 connections there, and DB_MAX_CONNECTIONS is 10"},
                         {f["text"] for f in found["findings"] if f["kind"] == "connections"})

    def test_the_rights_of_the_role_are_looked_at(self):
        env = fleet.env()
        for name, how in (("plain", "connection limit 5"), ("boss", "superuser")):
            for shard in ("shard0", "shard1", "control"):
                fleet.sql(f"{shard}/primary", f"create role {name} login password '{PLANTED}' {how}")
            for node in fleet.nodes:
                self.assertTrue(eventually(lambda: fleet.sql(
                    node, f"select 1 from pg_roles where rolname = '{name}'") == "1"))
        plain = {k: with_login(v, f"plain:{PLANTED_IN_URL}") if k.endswith("_URL") else v
                 for k, v in env.items()}
        found = self.run_json("check", env=plain)
        self.assertEqual(
            {("no_pg_monitor", "shard0/replica1"), ("no_pg_monitor", "shard1/replica1"),
             ("connections", "shard0/primary"), ("connections", "shard1/primary"),
             ("connections", "control/primary")},
            {(f["kind"], f["where"]) for f in found["findings"] if f["level"] == "warning"})
        self.assertIn("on its primary: grant pg_monitor to plain",
                      {f["advice"] for f in found["findings"]})
        boss = {k: with_login(v, f"boss:{PLANTED_IN_URL}") if k.endswith("_URL") else v
                for k, v in env.items()}
        self.assertEqual({("warning", "superuser", g) for g in ("shard0", "shard1", "control")},
                         self.findings(env=boss, status=OK))

    def test_a_stamp_that_may_not_be_read_is_found(self):
        env = {"DATABASE_PRIMARY_URL": databases("denied")["DATABASE_PRIMARY_URL"]}
        self.run_command("init", env=env)
        fleet.sql("control/primary", "revoke all on schema pqrouter from public, app",
                  "alter schema pqrouter owner to postgres", database="denied")
        self.assertEqual({("error", "stamp_denied", "shard0/primary")}, self.findings(env=env))


if __name__ == "__main__":
    unittest.main()
