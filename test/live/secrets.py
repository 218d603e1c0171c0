#!/usr/bin/python3
"""No secret in any output: passwords of all shapes are planted wherever one may stand, all kinds of
things go wrong, and everything that the command prints, in all forms and at every level of its log, is
searched for them. The fleet has TLS. The command is $PQROUTER."""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(HERE))
from fleet import Fleet                                                 # noqa: E402

if "TMPDIR" not in os.environ and os.path.isdir("/dev/shm"):
    space = os.statvfs("/dev/shm")
    if space.f_bavail * space.f_frsize > 4 << 30:
        os.environ["TMPDIR"] = "/dev/shm"

COMMAND = os.environ.get("PQROUTER", os.path.join(HERE, "../../build/cli/pqrouter"))
PATIENCE_S = 60
OK, FAILED, CONFIG = 0, 1, 3

# Between any two characters that mean something in a URL or a keyword string stands a mark of its own,
# so that a piece is found as well as the whole.
MARK = "zqX"
PASSWORD = "@".join("/".join(f"{MARK}{a}{b}" for a in "ab") for b in "cd") + \
           f"%{MARK}1:{MARK}2 {MARK}3'{MARK}4\\{MARK}5?{MARK}6#{MARK}7&{MARK}8=%40{MARK}9+é{MARK}"
ENCODED = quote(PASSWORD, safe="")
QUOTED = "'" + PASSWORD.replace("\\", "\\\\").replace("'", "\\'") + "'"
SHORT = ["--timeout", "0.3"]
LOOKS = [["check", *SHORT], ["topology", *SHORT], ["route", "acme", *SHORT], ["query", "acme", "select 1"],
         ["query", "acme", "select 1", "--write"], ["env"]]
FORMS = ["text", "logfmt", "json"]
LEVELS = ["trace", "trace", "debug", "info", "warn", "error"]

fleet = None


def setUpModule():
    global fleet
    fleet = Fleet(shards=1, replicas=0, redis=False, tls=True)
    unittest.addModuleCleanup(fleet.down)
    fleet.sql("shard0/primary", f"create role planted login password '{PASSWORD.replace(chr(39), chr(39) * 2)}'",
              "create role barred nologin", "create role weak login superuser password 'x'",
              user="postgres")


def clean_env(**more):
    ours = ("DATABASE_", "DB_", "PQR_", "PG", "REDIS_")
    return {**{k: v for k, v in os.environ.items() if not k.startswith(ours)}, **more}


def server():
    """(host and port, parameters) of the primary's URL."""
    parts = urlsplit(fleet.env()["DATABASE_PRIMARY_URL"])
    return parts.netloc.rpartition("@")[2], parts.query


def url(user="planted", password=ENCODED, place=None, database="app", query=None):
    host, parameters = server()
    return (f"postgresql://{user}:{password}@{place or host}/{database}?"
            f"{parameters if query is None else query}")


def keywords(user="planted", password=QUOTED, more=""):
    _, parameters = server()
    host, port = server()[0].split(":")
    return f"host={host} port={port} dbname=app user={user} password={password} " + \
        parameters.replace("&", " ") + more


class NoSecretIsSeen(unittest.TestCase):
    """Each way goes wrong in its own manner, or right."""

    searched = turn = 0
    hands = ThreadPoolExecutor(6)       # most of a command is waiting

    def run_command(self, args, env, level="trace", form="text"):
        done = subprocess.run([COMMAND, *args], capture_output=True, text=True, timeout=PATIENCE_S,
                              errors="replace",
                              env=clean_env(PQR_LOG=level, PQR_LOG_FORMAT=form,
                                            DB_HEALTH_INTERVAL="0.1", **env))
        NoSecretIsSeen.searched += len(done.stdout) + len(done.stderr)
        for told in (done.stdout, done.stderr):
            self.assertNotIn(MARK, told, (args, level, form))
        return done

    def look_everywhere(self, env, status):
        """Every command that asks servers, in both forms, and the log in all of its own; the exit
        status of a query."""
        def look(job):
            number, args, as_json = job
            done = self.run_command(args + ["--json"] * as_json, env, LEVELS[number % 6],
                                    FORMS[number % 3])
            if args[0] == "query":
                self.assertEqual(status, done.returncode, (args, done.stderr))
            if as_json and done.stdout:
                json.loads(done.stdout)

        if status != OK:
            env = {**env, "DB_POOL_TIMEOUT": "0.3"}     # for what does not come
        NoSecretIsSeen.turn += 1
        jobs = [(i + NoSecretIsSeen.turn, args, (i + NoSecretIsSeen.turn) % 2 == 0)
                for i, args in enumerate(LOOKS)]
        list(self.hands.map(look, jobs))

    def test_when_all_is_well(self):
        self.look_everywhere({"DATABASE_PRIMARY_URL": url()}, OK)
        self.look_everywhere({"DATABASE_PRIMARY_URL": keywords()}, OK)

    def test_when_it_stands_apart_or_in_a_file(self):
        host, port = server()[0].split(":")
        with tempfile.TemporaryDirectory() as folder:
            def file(name, text):
                path = os.path.join(folder, name)
                with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
                    f.write(text)
                return path
            escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
            passfile = file("pgpass", f"*:*:*:*:{escaped}\n")
            without = f"postgresql://planted@{server()[0]}/app?{server()[1]}"
            for env in ({"DATABASE_PRIMARY_URL_FILE": file("url", url() + "\n")},
                        {"DATABASE_PRIMARY_URL": without, "PGPASSWORD": PASSWORD},
                        {"DATABASE_PRIMARY_URL": without, "PGPASSFILE": passfile},
                        {"DATABASE_PRIMARY_URL": without + "&passfile=" + quote(passfile)}):
                self.look_everywhere(env, OK)
            parts = {"DATABASE_HOST": "127.0.0.1", "DATABASE_PORT": port, "DATABASE_NAME": "app",
                     "DATABASE_USER": "planted"}
            for env in ({"DATABASE_PASSWORD": PASSWORD},
                        {"DATABASE_PASSWORD_FILE": file("password", PASSWORD)}):
                self.look_everywhere({**parts, **env}, OK)
                self.look_everywhere({**parts, **env, "DATABASE_USER": "app"}, FAILED)
            both = {"DATABASE_PASSWORD": PASSWORD, "DATABASE_PASSWORD_FILE": passfile}
            for env in (both, {"DATABASE_PASSWORD_FILE": PASSWORD},
                        {"DATABASE_PRIMARY_URL_FILE": url()}):
                self.refused({**parts, **env})

    def test_when_the_login_fails(self):
        for text in (url(user="app"), keywords(user="app"), url(user="nobody"), url(user="barred"),
                     url(database="nothing"), url(password=ENCODED + "x"),
                     url(query=server()[1] + "&require_auth=none")
                     if self.libpq_knows("require_auth") else url(user="app")):
            self.look_everywhere({"DATABASE_PRIMARY_URL": text}, FAILED)

    def libpq_knows(self, keyword):
        env = {"DATABASE_PRIMARY_URL": url(query=server()[1] + f"&{keyword}=scram-sha-256")}
        return self.run_command(["query", "acme", "select 1"], env).returncode == OK

    def test_when_the_server_cannot_be_reached(self):
        for place in ("127.0.0.1:1", "no-such-host.invalid:5432", "[::1]:1", "%2Fno%2Ffolder:5432"):
            self.look_everywhere({"DATABASE_PRIMARY_URL": url(place=place, query="connect_timeout=1")},
                                 FAILED)

    def test_when_tls_fails(self):
        folder = os.path.join(fleet.folder, "tls")
        host, parameters = server()
        with tempfile.TemporaryDirectory() as mine:
            key = os.path.join(mine, "client.key")
            subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
                            "ec_paramgen_curve:prime256v1", "-aes256", "-pass", "pass:other",
                            "-out", key], check=True, capture_output=True)
            wrong = quote(PASSWORD + "key", safe="")
            for text in (url(query=parameters.replace("ca.crt", "other.crt")),
                         url(place=host.replace("fleet.test", "other.test")),
                         url(query=parameters.replace("ca.crt", "none.crt")),
                         url(query=f"{parameters}&sslcert={folder}/server.crt&sslkey={key}"
                                   f"&sslpassword={wrong}"),
                         keywords(more=f" sslcert={folder}/server.crt sslkey={key} "
                                       f"sslpassword={QUOTED}")):
                self.look_everywhere({"DATABASE_PRIMARY_URL": text}, FAILED)

    def test_when_the_role_is_refused(self):
        """And where a secret is a part of what the refusal tells."""
        env = {"DB_TENANT_SETTING": "app.tenant_id"}
        fleet.sql("shard0/primary", "alter role planted superuser")
        try:
            self.look_everywhere({**env, "DATABASE_PRIMARY_URL": url()}, FAILED)
        finally:
            fleet.sql("shard0/primary", "alter role planted nosuperuser")
        self.look_everywhere({**env, "DATABASE_PRIMARY_URL": url()}, OK)

    def refused(self, env):
        for args in (["env", "--json"], ["check"]):
            done = self.run_command(args, env)
            self.assertEqual(CONFIG, done.returncode, (env, done.stdout, done.stderr))

    def test_when_the_text_is_no_url(self):
        """Each password bare, where it must be encoded or quoted, and other slips."""
        host, parameters = server()
        for text in (url(password=PASSWORD), url(password=ENCODED[:-1] + "%"),
                     url(password=ENCODED + "%G0"), url(password=ENCODED, place=host + "0000"),
                     url(query=f"password={ENCODED}&{parameters}&password={ENCODED}"),
                     f"postgresql://{host}/app?password={PASSWORD}",
                     f"postgresql://{host}/app?passwort={ENCODED}",
                     f"postgresql://{host}/app?user=app&password={ENCODED}&sslmode={ENCODED}",
                     f"postgresql://{host}/app?sslpassword={PASSWORD}",
                     f"postgresql://{host}/app?port={ENCODED}", f"postgresql://{host}/app?{ENCODED}",
                     f"postgresql://:{ENCODED}@[::1/app", f"postgresql:/app:{ENCODED}@{host}/app",
                     f"mysql://app:{ENCODED}@{host}/app", f"jdbc:postgresql://{host}/app?{PASSWORD}",
                     f"jdbc:mysql://app:{PASSWORD}@{host}/app", f"app:{ENCODED}@{host}/app",
                     PASSWORD, ENCODED, QUOTED, f"password={PASSWORD}", f"password={QUOTED[:-1]}",
                     f"password {QUOTED}", f"password={QUOTED} {QUOTED}", f"{QUOTED}=password",
                     f"host=h password = {QUOTED}x y", f"host=h sslpassword={PASSWORD}",
                     keywords(password=QUOTED + f" password={QUOTED}"),
                     f"redis://:{ENCODED}@{host}/0"):
            self.refused({"DATABASE_PRIMARY_URL": text})

    def test_when_letters_are_lost_or_come_twice(self):
        """What is refused shows nothing of the password. (What is not shows a host or a user, which
        may be anything then.)"""
        chance = random.Random(20)
        texts = [url(), url(password=PASSWORD), keywords(), keywords(password=PASSWORD)]
        refused = 0
        for i in range(160):
            text = texts[i % 4]
            at = chance.randrange(len(text))
            text = chance.choice([text[:at] + text[at + 1:], text[:at] + text[at] + text[at:],
                                  text[:at] + chance.choice("@/%:?#&='\" \\") + text[at + 1:]])
            text = "".join(c for c in text if c.isprintable())
            done = subprocess.run([COMMAND, "env"], capture_output=True, text=True, timeout=PATIENCE_S,
                                  env=clean_env(PQR_LOG="trace", DATABASE_PRIMARY_URL=text))
            self.assertIn(done.returncode, (OK, CONFIG), text)
            if done.returncode == CONFIG:
                refused += 1
                self.assertNotIn(MARK, done.stdout + done.stderr, text)
        self.assertGreater(refused, 40)

    def test_when_a_secret_stands_in_the_wrong_variable(self):
        for name in ("DB_TOKEN_KEY", "DB_TOKEN_KEY_FILE", "REDIS_SENTINEL_PASSWORD", "REDIS_URL",
                     "DATABASE_DIRECT_URL", "DATABASE_PASSWORT", "DATABASE_PRIMARY_URI"):
            for args in (["env"], ["check", *SHORT], ["query", "acme", "select 1", "--json"]):
                self.run_command(args, {"DATABASE_PRIMARY_URL": url(), name: PASSWORD})

    @classmethod
    def tearDownClass(cls):
        assert cls.searched > 1000, cls.searched     # there was something to search
        assert not re.search(MARK, json.dumps([k for k in fleet.env() if k != "PQR_FLEET"]))


if __name__ == "__main__":
    unittest.main()
