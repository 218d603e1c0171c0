#!/usr/bin/python3
"""The service examples/notes, asked by HTTP clients, on a fleet of its own: each path, each
error's status, pages, tenants that must not meet, servers that fail, and an end that loses nothing.

The server is $NOTES, the command $PQROUTER."""

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(HERE))
from fleet import Fleet                                                 # noqa: E402

if "TMPDIR" not in os.environ and os.path.isdir("/dev/shm"):
    space = os.statvfs("/dev/shm")
    if space.f_bavail * space.f_frsize > 4 << 30:
        os.environ["TMPDIR"] = "/dev/shm"

NOTES = os.environ.get("NOTES", os.path.join(HERE, "../../build/examples/notes/notes"))
PQROUTER = os.environ.get("PQROUTER", os.path.join(HERE, "../../build/cli/pqrouter"))
PATIENCE_S = 60                     # for what must happen, however slow the machine is
PASSWORD = "correct horse battery"
BODY_MAX = 256 * 1024

# All that an error's body may say. Nothing of the database is among it.
WORDS = {"malformed", "unauthorized", "missing", "no_route", "wrong_method", "too_large", "invalid",
         "conflict", "unknown_reference", "repeated", "overloaded", "unavailable",
         "unknown_outcome", "internal"}
FIELDS = {"email", "password", "slug", "title", "body", "parent", "notes", "limit", "cursor"}

fleet = None                        # one for all; a test leaves every server as it found it
server = None                       # of the tests that need no special one


def setUpModule():
    global fleet, server
    fleet = Fleet(shards=2, replicas=1, redis=False)
    unittest.addModuleCleanup(fleet.down)
    run(PQROUTER, "init")
    run(NOTES, "--migrate")
    server = Server("--grace", "1000")
    unittest.addModuleCleanup(end_well)


def end_well():
    """After all the tests: it ends as it should, and a sanitizer that it may have is content."""
    server.stop()
    status, accepted, answered = server.end()
    assert (status, accepted) == (0, answered), (status, accepted, answered)


def clean_env(**more):
    ours = ("DATABASE_", "DB_", "PQR_", "PG", "REDIS_")
    rest = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return {**rest, **fleet.env(), **more}


def run(*command):
    """What it prints. It must succeed."""
    return subprocess.run(command, env=clean_env(), check=True, stdout=subprocess.PIPE, text=True,
                          timeout=PATIENCE_S).stdout


def eventually(condition, seconds=PATIENCE_S):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def new_name(prefix="t"):
    return f"{prefix}{uuid.uuid4().hex[:12]}"


def new_tenant(shard=0):
    while True:
        name = new_name()
        if json.loads(run(PQROUTER, "route", name, "--json"))["shard"] == shard:
            return name


class Answer:
    """A complete response, whose error, if it is one, says nothing that it must not."""

    def __init__(self, response):
        text = response.read()
        self.status, self.headers = response.status, response.headers
        self.body = json.loads(text) if text else None
        self.served_by = self.headers["X-Served-By"]
        assert re.fullmatch(r"none|shard[01]/(primary|replica1)", self.served_by), self.served_by
        if self.status >= 400 and "status" not in self.body:        # of /health
            assert self.body["error"] in WORDS and self.body.get("field", "slug") in FIELDS, text
            assert set(self.body) <= {"error", "field"}, text
        assert (self.status == 503) == ("Retry-After" in self.headers), self.status
        self.error = (self.status, self.body.get("error"), self.body.get("field")) \
            if self.status >= 400 else None


class Server:
    """A process of the example, up and ready: on a free port, with the fleet's environment."""

    program = NOTES

    def __init__(self, *args, **env):
        self.made = 0               # requests by which it was seen that it is
        self.process = subprocess.Popen([self.program, "--listen", "127.0.0.1:0", *args],
                                        env=clean_env(**env), stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(re.fullmatch(r"\w+: listening on http://127.0.0.1:(\d+)\n", line)[1])
        assert eventually(self.is_ready)

    def is_ready(self):
        self.made += 1
        return self.ask("GET", "/health").body["ready"]

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def ask(self, method, path, body=None, token=None, connection=None, **headers):
        """`body`: bytes as they are; else what is made JSON of."""
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        used = connection or self.connect()
        try:
            used.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            return Answer(used.getresponse())
        finally:
            if not connection:
                used.close()

    def stop(self, signal_number=signal.SIGTERM):
        self.process.send_signal(signal_number)

    def end(self):
        """(exit status, the test's requests that were accepted, and answered), after its end."""
        last = self.process.stdout.read()
        status = self.process.wait(timeout=PATIENCE_S)
        self.process.stdout.close()
        said = re.fullmatch(r"\w+: (\d+) requests accepted, (\d+) answered(, \d+ given up)?\n", last)
        return status, int(said[1]) - self.made, int(said[2]) - self.made

    def kill(self):
        self.process.kill()
        self.process.wait()
        if not self.process.stdout.closed:
            self.process.stdout.close()


class Tenant:
    """A tenant, with somebody who is logged in. Reads ask the primary, so that what a test has
    written is there."""

    def __init__(self, name, on=None, email="ann@example.com"):
        self.name, self.on = name, on or server
        answer = self.on.ask("POST", f"/t/{name}/accounts", {"email": email, "password": PASSWORD})
        assert answer.status == 201, answer.body
        self.account, self.token = answer.body["id"], None
        self.token = self.log_in(email, PASSWORD).body["token"]

    def log_in(self, email, password):
        return self.ask("POST", "/login", {"email": email, "password": password})

    def ask(self, method, path, body=None, token=..., connection=None, Cache_Control="no-cache"):
        return self.on.ask(method, f"/t/{self.name}{path}", body,
                           self.token if token is ... else token, connection,
                           Cache_Control=Cache_Control)

    def note(self, slug=None, **more):
        """The id of a new note."""
        slug = slug or new_name("s")
        answer = self.ask("POST", "/notes", {"slug": slug, "title": f"About {slug}", **more})
        assert answer.status == 201, answer.body
        return answer.body["id"]

    def put(self, n, prefix="n", title="Many"):
        answer = self.ask("PUT", "/notes", {"notes": [{"slug": f"{prefix}-{i}", "title": title}
                                                      for i in range(n)]})
        assert answer.status == 200, answer.body
        return [note["id"] for note in answer.body["notes"]]

    def list(self, **query):
        return self.ask("GET", "/notes?" + "&".join(f"{k}={quote(str(v), safe='')}"
                                                    for k, v in query.items()))

    def slugs(self, **query):
        return [note["slug"] for note in self.list(**query).body["notes"]]

    def pages(self, **query):
        """The rows of each page, from the first to the last."""
        cursor = {}
        while True:
            answer = self.list(**query, **cursor)
            assert answer.status == 200, answer.body
            yield answer.body["notes"]
            if answer.body["next"] is None:
                return
            cursor = {"cursor": answer.body["next"]}

    def count(self):
        return self.ask("GET", "/notes/count").body["count"]


@contextlib.contextmanager
def locked(note):
    """A note's row that nobody can change in the meantime; gives a function that ends it."""
    url = fleet.env()["DATABASE_SHARD_0_URL"]
    psql = subprocess.Popen(["psql", "-XqAt", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True, bufsize=1)

    def release():
        if psql.poll() is None:
            psql.communicate("rollback;\n", timeout=PATIENCE_S)
    try:
        psql.stdin.write(f"begin; select 'locked' from notes.note where id = '{note}' "
                         "for update;\n")
        assert psql.stdout.readline() == "locked\n"
        yield release
    finally:
        release()
        psql.stdout.close()


def somebody_waits_for_a_lock():
    return fleet.sql("shard0/primary", "select count(*) from pg_stat_activity "
                                       "where wait_event_type = 'Lock'") != "0"


class Case(unittest.TestCase):
    maxDiff = None

    def expect(self, status, word, field, answer):
        self.assertEqual((status, word, field), answer.error, answer.body)

    def server(self, *args, **env):
        new = Server(*args, **env)
        self.addCleanup(new.kill)
        return new

    def tenant(self, on):
        """A new tenant that asks this server."""
        return Tenant(new_tenant(), on=on)


class Accounts(Case):

    def test_an_account_is_found_by_its_email_in_any_case(self):
        t = Tenant(new_tenant())
        answer = t.ask("GET", "/accounts?email=ANN@example.com")
        self.assertEqual((200, t.account, "ann@example.com"),
                         (answer.status, answer.body["id"], answer.body["email"]))
        self.expect(404, "missing", None, t.ask("GET", "/accounts?email=bob@example.com"))
        self.expect(400, "malformed", "email", t.ask("GET", "/accounts"))

    def test_an_email_that_is_taken_is_a_conflict_of_the_field_email(self):
        t = Tenant(new_tenant())
        self.expect(409, "conflict", "email", t.ask(
            "POST", "/accounts", {"email": "Ann@Example.com", "password": PASSWORD}))

    def test_what_is_not_acceptable_in_an_account_is_told_by_field(self):
        t = Tenant(new_tenant())
        for field, body in [("email", {"email": "nobody", "password": PASSWORD}),
                            ("email", {"password": PASSWORD}),
                            ("password", {"email": "bob@example.com", "password": "short"}),
                            ("password", {"email": "bob@example.com", "password": "x" * 201}),
                            ("password", {"email": "bob@example.com", "password": 12345678})]:
            self.expect(422, "invalid", field, t.ask("POST", "/accounts", body))

    def test_a_wrong_password_and_an_unknown_email_get_the_same_answer(self):
        t = Tenant(new_tenant())
        wrong = t.log_in("ann@example.com", "wrong horse battery")
        unknown = t.log_in("nobody@example.com", PASSWORD)
        for answer in (wrong, unknown, t.log_in("ann@example.com", "x" * 1000)):
            self.expect(401, "unauthorized", None, answer)
        self.assertEqual((wrong.body, wrong.served_by), (unknown.body, unknown.served_by))

    def test_the_database_has_neither_the_password_nor_the_token(self):
        t = Tenant(new_tenant())
        dump = fleet.sql("shard0/primary",
                         f"select a, k from notes.account a join notes.token k using (tenant) "
                         f"where tenant = '{t.name}'")
        token = base64.urlsafe_b64decode(t.token + "=")
        self.assertIn("$y$", dump)
        for secret in (PASSWORD, t.token, token.hex()):
            self.assertNotIn(secret, dump)

    def test_after_a_logout_the_token_counts_no_more(self):
        t = Tenant(new_tenant())
        other = t.log_in("ann@example.com", PASSWORD).body["token"]
        self.assertEqual(204, t.ask("DELETE", "/login").status)
        self.expect(401, "unauthorized", None, t.ask("GET", "/notes"))
        self.assertEqual(200, t.ask("GET", "/notes", token=other).status)

    def test_a_token_that_is_over_counts_no_more(self):
        t = Tenant(new_tenant())
        fleet.sql("shard0/primary", f"update notes.token set expires_at = now() - interval '1s' "
                                    f"where tenant = '{t.name}'")
        self.expect(401, "unauthorized", None, t.ask("GET", "/notes"))
        t.log_in("ann@example.com", PASSWORD)
        self.assertEqual("1", fleet.sql("shard0/primary", f"select count(*) from notes.token "
                                                          f"where tenant = '{t.name}'"))

    def test_without_a_right_token_nothing_is_served(self):
        t = Tenant(new_tenant())
        note = f"/notes/{t.note()}"
        for token in (None, "x", t.token[:-1], t.token + "A", t.token.swapcase()):
            for method, path in [("GET", "/notes"), ("GET", "/notes/count"), ("POST", "/notes"),
                                 ("PUT", "/notes"), ("GET", note), ("PATCH", note),
                                 ("DELETE", note), ("POST", note + "/restore"),
                                 ("GET", "/accounts?email=ann@example.com")]:
                answer = t.ask(method, path, token=token)
                self.expect(401, "unauthorized", None, answer)
                self.assertEqual("Bearer", answer.headers["WWW-Authenticate"])
        self.assertEqual(1, t.count())

    def test_a_token_is_good_at_once_though_the_replica_has_not_seen_it(self):
        name = new_tenant()
        fleet.pause_replay("shard0/replica1")
        try:
            t = Tenant(name)
            self.assertEqual(200, t.ask("GET", "/notes", Cache_Control="").status)
        finally:
            fleet.resume_replay("shard0/replica1")


class Notes(Case):

    def setUp(self):
        self.t = Tenant(new_tenant())

    def test_a_note_is_created_and_found_where_its_location_says(self):
        t = self.t
        created = t.ask("POST", "/notes", {"slug": "first", "title": "Été", "body": "日本\n\"x\""})
        self.assertEqual(201, created.status)
        note = t.on.ask("GET", created.headers["Location"], token=t.token,
                        Cache_Control="no-cache").body
        self.assertEqual(
            {"slug": "first", "title": "Été", "body": "日本\n\"x\"", "parent": None,
             "author": t.account},
            {k: note[k] for k in ("slug", "title", "body", "parent", "author")})
        self.assertRegex(note["created_at"], r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")

    def test_a_change_leaves_alone_what_it_does_not_name(self):
        t = self.t
        note = t.note("one", body="as it was")
        changed = t.ask("PATCH", f"/notes/{note}", {"title": "Another"})
        self.assertEqual((200, "one", "Another", "as it was"),
                         (changed.status, *(changed.body[k] for k in ("slug", "title", "body"))))
        self.assertGreater(changed.body["updated_at"], changed.body["created_at"])

    def test_a_slug_that_is_taken_is_a_conflict_of_the_field_slug(self):
        t = self.t
        t.note("one")
        self.expect(409, "conflict", "slug", t.ask("POST", "/notes", {"slug": "one", "title": "x"}))
        self.expect(409, "conflict", "slug",
                    t.ask("PATCH", f"/notes/{t.note('two')}", {"slug": "one"}))

    def test_a_note_that_is_not_there_is_missing(self):
        t = self.t
        for id in (uuid.uuid4(), "00000000-0000-0000-0000-000000000000"):
            self.expect(404, "missing", None, t.ask("GET", f"/notes/{id}"))
            self.expect(404, "missing", None, t.ask("PATCH", f"/notes/{id}", {"title": "x"}))
            self.expect(404, "missing", None, t.ask("DELETE", f"/notes/{id}"))
            self.expect(404, "missing", None, t.ask("POST", f"/notes/{id}/restore"))
        for id in ("1", "x" * 36, f"{uuid.uuid4()}0", str(uuid.uuid4())[:-1], f"{uuid.uuid4()}/x",
                   str(uuid.uuid4()).replace("-", "_"), f"{uuid.uuid4()}".replace("4", "%00")):
            self.expect(404, "no_route", None, t.ask("GET", f"/notes/{id}"))

    def test_a_parent_must_be_a_note(self):
        t = self.t
        child = t.note("child", parent=t.note("parent"))
        self.assertIsNotNone(t.ask("GET", f"/notes/{child}").body["parent"])
        body = {"slug": "x", "title": "x"}
        self.expect(422, "unknown_reference", "parent",
                    t.ask("POST", "/notes", {**body, "parent": str(uuid.uuid4())}))
        self.expect(422, "invalid", None, t.ask("POST", "/notes", {**body, "parent": "no uuid"}))
        self.assertEqual(2, t.count())

    def test_what_is_not_acceptable_in_a_note_is_told_by_field(self):
        t = self.t
        for field, more in [("title", {"title": ""}), ("title", {"title": "x" * 201}),
                            ("title", {"title": None}), ("title", {"title": 1}),
                            ("slug", {"slug": ""}), ("slug", {"slug": "A"}),
                            ("slug", {"slug": "a--b"}), ("slug", {"slug": "x" * 81}),
                            ("slug", {"slug": ["x"]}), ("body", {"body": "x" * 20001}),
                            ("body", {"body": {}}), ("parent", {"parent": 7})]:
            self.expect(422, "invalid", field,
                        t.ask("POST", "/notes", {"slug": "s", "title": "x", **more}))
        self.assertEqual(0, t.count())

    def test_a_body_that_is_no_object_of_json_is_malformed(self):
        t = self.t
        for body in (b"", b"{", b"[]", b"null", b'"x"', b'{"slug": "a", "slug": "b"}', b"\xff\xfe",
                     b'{"slug": "\xff"}', b'{"slug": "a\\u0000b"}', b"{} {}",
                     b"[" * 100000):
            for method, path in [("POST", "/notes"), ("PUT", "/notes"), ("POST", "/login"),
                                 ("POST", "/accounts"), ("PATCH", f"/notes/{uuid.uuid4()}")]:
                self.expect(400, "malformed", None, t.ask(method, path, body))

    def test_a_body_is_too_large_beyond_its_limit_and_the_connection_goes_on(self):
        t = self.t
        connection = t.on.connect()
        self.addCleanup(connection.close)
        good = json.dumps({"slug": "big", "title": "x"}).encode()
        for size in (BODY_MAX + 1, 2 * BODY_MAX):
            self.expect(413, "too_large", None,
                        t.ask("POST", "/notes", good.ljust(size), connection=connection))
        self.assertEqual(201, t.ask("POST", "/notes", good.ljust(BODY_MAX),
                                    connection=connection).status)

    def test_a_body_without_an_end_is_hung_up_on(self):
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as s:
            s.sendall(b"POST /t/a/notes HTTP/1.1\r\nHost: x\r\n"
                      b"Content-Length: 1000000000000\r\n\r\n")
            with self.assertRaises(OSError):
                for _ in range(1000):
                    s.sendall(b"x" * 65536)
        self.assertEqual(200, server.ask("GET", "/health").status)

    def test_paths_and_methods_that_are_not_there_are_told_apart(self):
        for path in ("/", "/t", "/t/", "/t/acme", "/t/acme/", "/t/acme/notes/", "/t//notes",
                     "/t/Acme/notes", "/t/-a/notes", "/t/a%00b/notes", "/t/a%2Fb/notes",
                     f"/t/{'x' * 64}/notes", "/healthy", "/%7Btenant%7D", "/t/acme/notes/count/x"):
            self.expect(404, "no_route", None, server.ask("GET", path))
        answer = self.t.ask("DELETE", "/notes")
        self.expect(405, "wrong_method", None, answer)
        self.assertEqual({"GET", "POST", "PUT"}, set(answer.headers["Allow"].split(", ")))
        self.expect(405, "wrong_method", None, server.ask("POST", "/health"))

    def test_head_is_get_without_the_body(self):
        answer = self.t.ask("HEAD", "/notes")
        self.assertEqual((200, None), (answer.status, answer.body))

    # --- Many at once

    def test_a_bulk_creates_what_is_not_there_and_updates_what_is(self):
        t = self.t
        old = t.note("b", title="Old", body="old")
        answer = t.ask("PUT", "/notes", {"notes": [
            {"slug": "c", "title": "C"}, {"slug": "b", "title": "New", "body": "new"},
            {"slug": "a", "title": "A", "body": "α"}]})
        self.assertEqual({"a": True, "b": False, "c": True},
                         {n["slug"]: n["created"] for n in answer.body["notes"]})
        note = t.ask("GET", f"/notes/{old}").body
        self.assertEqual(("New", "new"), (note["title"], note["body"]))

    def test_a_bulk_counts_what_it_has_just_written_itself(self):
        t = self.t
        fleet.pause_replay("shard0/replica1")
        try:
            for n in range(1, 6):
                answer = t.ask("PUT", "/notes", {"notes": [{"slug": f"s{n}", "title": "x"}]})
                self.assertEqual(n, answer.body["count"])
                self.assertEqual(answer.served_by, answer.body["server"])
        finally:
            fleet.resume_replay("shard0/replica1")

    def test_a_bulk_is_all_or_nothing(self):
        t = self.t
        good = {"slug": "good", "title": "x"}
        for expected, bad in [((422, "repeated", None), good),
                              ((422, "invalid", "title"), {"slug": "bad", "title": ""}),
                              ((422, "invalid", "slug"), {"slug": "Bad", "title": "x"}),
                              ((422, "invalid", "title"), {"slug": "bad"}),
                              ((422, "invalid", "notes"), "x")]:
            self.expect(*expected, t.ask("PUT", "/notes", {"notes": [good, bad]}))
        for notes in (None, [], {}, [good] * 501):
            self.expect(422, "invalid", "notes", t.ask("PUT", "/notes", {"notes": notes}))
        self.assertEqual(0, t.count())

    def test_bulks_at_the_same_time_do_not_fail(self):
        t = self.t
        notes = [{"slug": f"s{i}", "title": "x"} for i in range(50)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda i: t.ask("PUT", "/notes", {
                "notes": notes if i % 2 else notes[::-1]}), range(24)))
        self.assertEqual({200}, {a.status for a in answers})
        self.assertEqual(50, t.count())

    # --- Pages

    def test_pages_over_equal_times_have_every_note_once(self):
        t = self.t
        ids = t.put(50)
        self.assertEqual("1", fleet.sql(
            "shard0/primary", f"select count(distinct created_at) from notes.note "
                              f"where tenant = '{t.name}'"))
        for limit in (1, 7, 25, 49, 50, 51, 100):
            pages = list(t.pages(limit=limit))
            self.assertEqual(sorted(ids, reverse=True), [n["id"] for page in pages for n in page])
            self.assertEqual(-(-50 // limit), len(pages))

    def test_pages_are_in_order_and_not_moved_by_what_comes_and_goes_meanwhile(self):
        t = self.t
        ids = [id for n in range(3) for id in t.put(7, prefix=f"b{n}")]
        seen, gone = [], None
        for page in t.pages(limit=4):
            seen += page
            t.note()                                        # newer than every page
            if gone is None:
                gone = page[-1]["id"]                       # where the next page begins
                t.ask("DELETE", f"/notes/{gone}")
        self.assertEqual(sorted(ids), sorted(n["id"] for n in seen))
        keys = [(n["created_at"], n["id"]) for n in seen]
        self.assertEqual(sorted(keys, reverse=True), keys)

    def test_a_list_without_notes_is_one_empty_page(self):
        self.assertEqual({"notes": [], "next": None}, self.t.list().body)

    def test_a_cursor_that_was_changed_is_malformed(self):
        t = self.t
        t.put(3)
        cursor = t.list(limit=1).body["next"]
        self.assertRegex(cursor, r"^[\w-]{43}$")
        bad = ["", "x", cursor[:-1], cursor + "A", cursor + "=", "A" * 43, "é" * 43, "-" * 43,
               cursor.swapcase(), cursor[:20] + "/" + cursor[21:]]
        bad += [cursor[:i] + chr(ord(c) ^ 1) + cursor[i + 1:] for i, c in enumerate(cursor)]
        for text in bad:
            self.expect(400, "malformed", "cursor", t.list(limit=1, cursor=text))
        self.assertEqual(200, t.list(limit=1, cursor=cursor).status)

    def test_a_cursor_belongs_to_one_tenant_and_one_search(self):
        t, other = self.t, Tenant(new_tenant())
        t.put(3, title="fox")
        plain, search = t.list(limit=1).body["next"], t.list(limit=1, q="fox").body["next"]
        self.expect(400, "malformed", "cursor", other.list(cursor=plain))
        self.expect(400, "malformed", "cursor", t.list(cursor=search))
        self.expect(400, "malformed", "cursor", t.list(q="fox", cursor=plain))
        self.expect(400, "malformed", "cursor", t.list(q="dog", cursor=search))

    def test_a_limit_that_is_none_is_malformed(self):
        for limit in ("0", "101", "-1", "x", "", "1x", " 1", "1e1", "99999999999999999999"):
            self.expect(400, "malformed", "limit", self.t.list(limit=limit))

    # --- Search

    def test_a_search_finds_words_in_titles_and_bodies(self):
        t = self.t
        t.note("fox", title="A quick fox", body="jumps over the dog")
        t.note("dog", title="The lazy dog")
        t.note("cat", title="A cat", body="sleeps")
        for q, found in [("fox", {"fox"}), ("DOG", {"fox", "dog"}), ("jumps dog", {"fox"}),
                         ('"lazy dog"', {"dog"}), ('"dog lazy"', set()), ("dog -fox", {"dog"}),
                         ("cat or fox", {"cat", "fox"}), ("bird", set())]:
            self.assertEqual(found, set(t.slugs(q=q)), q)
        self.assertEqual({"fox", "dog", "cat"}, set(t.slugs()))

    def test_no_text_of_a_search_is_an_error(self):
        t = self.t
        t.note("fox")
        for q in ("'", "\"", "&|!<->():*", "' or 1=1 --", "\\", "-", "%", "日本", "x" * 5000, ""):
            self.assertEqual((200, []), (t.list(q=q).status, t.slugs(q=q)), q)
        self.expect(422, "invalid", None, t.ask("GET", "/notes?q=%ff"))     # no UTF-8

    def test_the_pages_of_a_search_have_every_hit_once(self):
        t = self.t
        hits = t.put(20, prefix="a", title="fox")
        t.put(20, prefix="b", title="dog")
        self.assertEqual(sorted(hits, reverse=True),
                         [n["id"] for page in t.pages(limit=3, q="fox") for n in page])

    def test_a_search_has_an_index(self):
        plan = fleet.sql("shard0/primary", "set enable_seqscan = off; explain select 1 "
                         "from notes.note where search @@ websearch_to_tsquery('simple', 'fox')")
        self.assertIn("note_search", plan)

    # --- Deleting

    def test_a_deleted_note_is_nowhere_and_the_row_says_who_deleted_it(self):
        t = self.t
        note = t.note("one", title="fox")
        self.assertEqual(200, t.ask("DELETE", f"/notes/{note}").status)
        self.expect(404, "missing", None, t.ask("GET", f"/notes/{note}"))
        self.expect(404, "missing", None, t.ask("PATCH", f"/notes/{note}", {"title": "x"}))
        self.expect(404, "missing", None, t.ask("DELETE", f"/notes/{note}"))
        self.assertEqual(([], [], 0), (t.slugs(), t.slugs(q="fox"), t.count()))
        self.assertEqual(t.account, fleet.sql(
            "shard0/primary", "select deleted_by from notes.note "
                              f"where id = '{note}' and deleted_at is not null"))

    def test_a_deleted_note_gives_its_slug_free_and_gets_it_back_only_if_it_is(self):
        t = self.t
        first = t.note("one")
        t.ask("DELETE", f"/notes/{first}")
        second = t.note("one")
        self.expect(409, "conflict", "slug", t.ask("POST", f"/notes/{first}/restore"))
        self.expect(404, "missing", None, t.ask("GET", f"/notes/{first}"))
        t.ask("PATCH", f"/notes/{second}", {"slug": "two"})
        self.assertEqual(200, t.ask("POST", f"/notes/{first}/restore").status)
        self.assertEqual({"one", "two"}, set(t.slugs()))

    def test_a_bulk_does_not_wake_a_deleted_note(self):
        t = self.t
        first = t.note("one")
        t.ask("DELETE", f"/notes/{first}")
        [note] = t.ask("PUT", "/notes", {"notes": [{"slug": "one", "title": "x"}]}).body["notes"]
        self.assertTrue(note["created"])
        self.assertNotEqual(first, note["id"])

    def test_only_what_is_deleted_can_be_restored(self):
        t = self.t
        note = t.note("one", body="as it was")
        self.expect(404, "missing", None, t.ask("POST", f"/notes/{note}/restore"))
        t.ask("DELETE", f"/notes/{note}")
        restored = t.ask("POST", f"/notes/{note}/restore")
        self.assertEqual((200, "as it was"), (restored.status, restored.body["body"]))
        self.assertEqual(200, t.ask("GET", f"/notes/{note}").status)


class Seen(Case):

    def test_a_second_process_reads_what_the_first_one_wrote_though_a_replica_is_paused(self):
        lenient = {"DB_MAX_REPLICA_LAG": "0", "DB_MAX_REPLICA_LAG_BYTES": "0"}
        first, second = self.server(**lenient), self.server(**lenient)
        t = self.tenant(first)
        t.note("old")
        cookie = self.keep(t.ask("GET", "/notes/count", Cache_Control=""))
        everybody_has(t, 1)
        fleet.pause_replay("shard0/replica1")
        try:
            for n in range(2, 12):
                created = first.ask("POST", f"/t/{t.name}/notes", {"slug": f"n{n}", "title": "x"},
                                    t.token, Cookie=cookie)
                cookie = self.keep(created)
                counted = second.ask("GET", f"/t/{t.name}/notes/count", None, t.token, Cookie=cookie)
                cookie = self.keep(counted)
                self.assertEqual(n, counted.body["count"])
            # Who has no cookie sees what was before.
            counted = second.ask("GET", f"/t/{t.name}/notes/count", None, t.token)
            self.assertEqual((1, "shard0/replica1"), (counted.body["count"], counted.served_by))
        finally:
            fleet.resume_replay("shard0/replica1")

    def test_a_cookie_that_is_nonsense_does_no_harm(self):
        t = Tenant(new_tenant())
        for seen in ("", "x", "p" * 4000, "seen=seen", "p%00", "pAAAA.pAAAA"):
            answer = t.on.ask("GET", f"/t/{t.name}/notes", None, t.token, Cookie=f"seen={seen}")
            self.assertEqual(200, answer.status)

    def keep(self, answer):
        """As a browser does. The cookie is the tenant's own."""
        self.assertLess(answer.status, 400, answer.body)
        found = re.fullmatch(r"(seen=[\w-]+); Path=/t/[a-z0-9-]+; HttpOnly; SameSite=Lax",
                             answer.headers["Set-Cookie"])
        return found[1]


def everybody_has(t, n):
    count = f"select count(*) from notes.note where tenant = '{t.name}'"
    assert eventually(lambda: fleet.sql("shard0/replica1", count) == str(n))


class Tenants(Case):
    """Two that live on the same shard, in the same tables."""

    def setUp(self):
        self.a, self.b = Tenant(new_tenant(0)), Tenant(new_tenant(0))

    def test_one_tenant_never_sees_or_changes_a_note_of_another(self):
        a, b = self.a, self.b
        theirs, gone = b.note("theirs", title="fox"), b.note("gone")
        b.ask("DELETE", f"/notes/{gone}")
        for method, path, body in [("GET", "", None), ("PATCH", "", {"title": "mine"}),
                                   ("DELETE", "", None), ("POST", "/restore", None)]:
            for note in (theirs, gone):
                self.expect(404, "missing", None, a.ask(method, f"/notes/{note}{path}", body))
        self.assertEqual(([], [], 0), (a.slugs(), a.slugs(q="fox"), a.count()))
        self.assertEqual(["theirs"], b.slugs())
        self.assertEqual("fox", b.ask("GET", f"/notes/{theirs}").body["title"])

    def test_one_tenants_token_and_password_are_nothing_to_another(self):
        a, b = self.a, self.b
        self.expect(401, "unauthorized", None, b.ask("GET", "/notes", token=a.token))
        self.expect(401, "unauthorized", None, b.ask("POST", "/notes", {"slug": "x", "title": "x"},
                                                     token=a.token))
        Tenant.log_in(a, "ann@example.com", PASSWORD)
        self.assertEqual(201, a.ask("POST", "/accounts", {"email": "only@a.example",
                                                          "password": PASSWORD}).status)
        self.expect(401, "unauthorized", None, b.log_in("only@a.example", PASSWORD))
        self.expect(404, "missing", None, b.ask("GET", "/accounts?email=only@a.example"))
        b.ask("DELETE", "/login", token=a.token)
        self.assertEqual(200, a.ask("GET", "/notes").status)

    def test_each_tenant_has_slugs_and_emails_of_its_own(self):
        mine, theirs = self.a.note("same"), self.b.note("same")
        self.b.ask("PUT", "/notes", {"notes": [{"slug": "same", "title": "Changed"}]})
        self.assertEqual("About same", self.a.ask("GET", f"/notes/{mine}").body["title"])
        self.assertEqual("Changed", self.b.ask("GET", f"/notes/{theirs}").body["title"])

    def test_a_note_cannot_hang_below_another_tenants(self):
        self.expect(422, "unknown_reference", "parent", self.a.ask(
            "POST", "/notes", {"slug": "x", "title": "x", "parent": self.b.note()}))

    def test_each_tenant_is_on_the_shard_that_the_router_says(self):
        other = Tenant(new_tenant(1))
        other.note()
        self.a.note()
        for node, there, not_there in [("shard0/primary", self.a, other),
                                       ("shard1/primary", other, self.a)]:
            rows = fleet.sql(node, "select distinct tenant from notes.note").split("\n")
            self.assertIn(there.name, rows)
            self.assertNotIn(not_there.name, rows)


class Serving(Case):

    def test_the_header_tells_the_server_that_answered(self):
        for shard in (0, 1):
            t = Tenant(new_tenant(shard))
            created = t.ask("POST", "/notes", {"slug": "one", "title": "x"})
            self.assertEqual((f"shard{shard}/primary",) * 2, (created.served_by,
                                                              created.body["server"]))
            by = set()
            for fresh in ("", "no-cache"):
                answer = t.ask("GET", "/notes/count", Cache_Control=fresh)
                self.assertEqual(answer.served_by, answer.body["server"])
            self.assertEqual(f"shard{shard}/primary", answer.served_by)

            def on_the_replica():
                answer = t.ask("GET", "/notes/count", Cache_Control="")
                self.assertEqual(answer.served_by, answer.body["server"])
                by.add(answer.served_by)
                return f"shard{shard}/replica1" in by
            self.assertTrue(eventually(on_the_replica))
            self.expect(404, "missing", None, t.ask("GET", f"/notes/{uuid.uuid4()}"))
            self.assertEqual(f"shard{shard}/primary",
                             t.ask("GET", f"/notes/{uuid.uuid4()}").served_by)

    def test_health_tells_of_every_server_and_nothing_of_their_addresses(self):
        self.assertTrue(eventually(lambda: server.ask("GET", "/health").body["ready"]))
        body = server.ask("GET", "/health").body
        self.assertEqual({f"shard{s}/{n}" for s in (0, 1) for n in ("primary", "replica1")},
                         {s["node"] for s in body["servers"]})
        self.assertEqual({"up"}, {s["state"] for s in body["servers"]})
        self.assertEqual("ok", body["status"])
        for secret in ("127.0.0.1", "5432", "app", "host"):
            self.assertNotIn(secret, json.dumps(body))

    def test_migrating_again_changes_nothing(self):
        t = Tenant(new_tenant())
        t.note("one")
        with ThreadPoolExecutor(4) as pool:
            said = list(pool.map(lambda _: run(NOTES, "--migrate"), range(4)))
        self.assertEqual({"shard 0: migrated\nshard 1: migrated\n"}, set(said))
        self.assertEqual(["one"], t.slugs())

    def test_a_wrong_command_line_and_a_wrong_configuration_have_their_exit_statuses(self):
        for status, args, env in [(2, ["--nonsense"], clean_env()), (2, ["more"], clean_env()),
                                  (2, ["--listen", "8080"], clean_env()),
                                  (2, ["--grace", "-1"], clean_env()),
                                  (3, [], {"DATABASE_SHARD_COUNT": "x"}), (0, ["--help"], {})]:
            done = subprocess.run([NOTES, *args], env=env, capture_output=True, text=True,
                                  timeout=PATIENCE_S)
            self.assertEqual(status, done.returncode, (args, done.stderr))

    def test_a_port_that_is_taken_is_told(self):
        done = subprocess.run([NOTES, "--listen", f"127.0.0.1:{server.port}"], env=clean_env(),
                              capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertEqual((1, True), (done.returncode, "cannot listen" in done.stderr))


class Faults(Case):

    def test_without_a_primary_writes_are_unavailable_and_reads_go_on(self):
        t = Tenant(new_tenant())
        note = t.note("one")
        t.on = self.server(DB_POOL_TIMEOUT="300ms", DB_HEALTH_INTERVAL="200ms")

        def the_replica_answers():     # within that time, on a connection that it has made by then
            found = t.ask("GET", f"/notes/{note}", Cache_Control="")
            return (200, "shard0/replica1") == (found.status, found.served_by)
        self.assertTrue(eventually(the_replica_answers))
        fleet.kill("shard0/primary")
        try:
            for method, path, body in [("POST", "/notes", {"slug": "two", "title": "x"}),
                                       ("DELETE", f"/notes/{note}", None),
                                       ("POST", "/login", {"email": "ann@example.com",
                                                           "password": PASSWORD}),
                                       ("GET", f"/notes/{note}", None)]:     # with no-cache
                self.expect(503, "unavailable", None, t.ask(method, path, body))
            found = t.ask("GET", f"/notes/{note}", Cache_Control="")
            self.assertEqual((200, "shard0/replica1"), (found.status, found.served_by))
            health = t.on.ask("GET", "/health")
            self.assertEqual((200, False), (health.status, health.body["ready"]))
        finally:
            fleet.start("shard0/primary")
        self.assertTrue(eventually(lambda: t.ask("PATCH", f"/notes/{note}",
                                                 {"title": "Back"}).status == 200))
        self.assertEqual(["one"], t.slugs())

    def test_when_every_connection_is_taken_the_server_is_overloaded(self):
        for env in ({"DB_POOL_TIMEOUT": "200ms"}, {"DB_POOL_QUEUE_LIMIT": "0"}):
            s = self.server("--deadline", "60000", DB_CONNECTION_LIMIT="1", **env)
            t = Tenant(new_tenant())
            note = t.note()
            t.on = s
            self.assertTrue(eventually(lambda: t.ask("GET", f"/notes/{note}").status == 200))
            with ThreadPoolExecutor(1) as pool, locked(note) as release:
                slow = pool.submit(t.ask, "PATCH", f"/notes/{note}", {"title": "Waited"})
                self.assertTrue(eventually(somebody_waits_for_a_lock))
                self.expect(503, "overloaded", None, t.ask("POST", "/notes",
                                                           {"slug": "x", "title": "x"}))
                release()
                self.assertEqual(200, slow.result().status)

    def test_a_write_that_nobody_answered_has_an_unknown_outcome(self):
        t = Tenant(new_tenant(), on=self.server("--deadline", "3000"))
        note = t.note()
        with locked(note):
            self.expect(504, "unknown_outcome", None,
                        t.ask("PATCH", f"/notes/{note}", {"title": "Perhaps"}))

    def test_a_write_whose_server_is_killed_has_an_unknown_outcome(self):
        t = Tenant(new_tenant(), on=self.server("--deadline", "10000"))
        note = t.note()
        with ThreadPoolExecutor(1) as pool, locked(note):
            slow = pool.submit(t.ask, "PATCH", f"/notes/{note}", {"title": "Perhaps"})
            self.assertTrue(eventually(somebody_waits_for_a_lock))
            fleet.kill("shard0/primary")
            try:
                self.expect(504, "unknown_outcome", None, slow.result())
            finally:
                fleet.start("shard0/primary")

    def test_a_database_without_the_tables_is_a_fault_of_ours_and_says_nothing_of_it(self):
        s = self.server()
        name = new_tenant()
        fleet.sql("shard0/primary", "alter schema notes rename to mislaid")
        try:
            self.expect(500, "internal", None, s.ask("POST", f"/t/{name}/accounts",
                                                     {"email": "a@b", "password": PASSWORD}))
        finally:
            fleet.sql("shard0/primary", "alter schema mislaid rename to notes")

    def test_a_login_holds_no_connection_while_it_hashes(self):
        s = self.server(DB_CONNECTION_LIMIT="1", DB_POOL_TIMEOUT="2s")
        t = Tenant(new_tenant(), on=s)
        # A hash that takes minutes. Where it is computed says the processor's time.
        fleet.sql("shard0/primary", f"update notes.account set password_hash = "
                  f"'$6$rounds=999999999$saltsalt$x' where tenant = '{t.name}'")

        def seen_by_the_replica():
            return fleet.sql("shard0/replica1", f"select 1 from notes.account where "
                             f"tenant = '{t.name}' and password_hash like '$6$%'") == "1"
        self.assertTrue(eventually(seen_by_the_replica))

        def used_s():
            with open(f"/proc/{s.process.pid}/stat") as f:
                return int(f.read().rpartition(")")[2].split()[11]) / os.sysconf("SC_CLK_TCK")
        before = used_s()
        logins = []
        for _ in range(8):
            connection = s.connect()
            self.addCleanup(connection.close)
            connection.request("POST", f"/t/{t.name}/login", json.dumps(
                {"email": "ann@example.com", "password": PASSWORD}))
            logins.append(connection.sock)
        self.assertTrue(eventually(lambda: used_s() > before + 1))      # so it hashes
        for n in range(10):
            self.assertEqual(200, t.ask("GET", "/notes", Cache_Control="").status)
            self.assertEqual(200, t.ask("GET", "/notes").status)
            self.assertEqual(201, t.ask("POST", "/notes", {"slug": f"s{n}", "title": "x"}).status)
        s.kill()


class Ending(Case):

    made = 2                        # requests that a new tenant takes

    def load(self, t, answers, failures, enough):
        """Writes and reads on one connection after another, until nobody lets it in."""
        connection, n = None, 0
        while True:
            if connection is None or connection.sock is None:
                connection = t.on.connect()
                try:
                    connection.connect()
                except ConnectionRefusedError:
                    return
            try:
                if n % 2:
                    answer = t.ask("GET", "/notes?limit=5", connection=connection)
                else:
                    answer = t.ask("POST", "/notes", {"slug": new_name(), "title": "x"},
                                   connection=connection)
                answers.append(answer)
            except Exception as e:
                failures.append(repr(e))
                return
            n += 1
            if n == 20:
                enough.release()
            if n % 10 == 0:
                connection.close()                          # a new one now and then

    def test_every_accepted_request_is_answered_when_it_is_told_to_end_under_load(self):
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            s = self.server("--grace", "60000")
            t = self.tenant(s)
            threads, answers, failures, enough = [], [], [], threading.Semaphore(0)
            for _ in range(8):
                threads.append(threading.Thread(target=self.load,
                                                args=(t, answers, failures, enough)))
                threads[-1].start()
            for _ in threads:
                self.assertTrue(enough.acquire(timeout=PATIENCE_S))
            s.stop(signal_number)
            status, accepted, answered = s.end()
            for thread in threads:
                thread.join(timeout=PATIENCE_S)
            self.assertEqual([], failures)
            self.assertEqual({200, 201}, {a.status for a in answers})
            n = len(answers) + self.made
            self.assertEqual((0, n, n), (status, accepted, answered))
            self.assertEqual(str(sum(a.status == 201 for a in answers)), fleet.sql(
                "shard0/primary", f"select count(*) from notes.note where tenant = '{t.name}'"))

    def test_a_request_that_is_under_way_is_answered_and_its_connection_closed(self):
        s = self.server("--deadline", "60000", "--grace", "0")
        t = self.tenant(s)
        note = t.note()
        with ThreadPoolExecutor(1) as pool, locked(note) as release:
            slow = pool.submit(t.ask, "PATCH", f"/notes/{note}", {"title": "Waited"})
            self.assertTrue(eventually(somebody_waits_for_a_lock))
            s.stop()
            self.assertTrue(eventually(self.refused(s)))
            self.assertFalse(slow.done())
            release()
            answer = slow.result()
        self.assertEqual((200, "Waited", "close"), (answer.status, answer.body["title"],
                                                    answer.headers["Connection"]))
        self.assertEqual((0, 4, 4), s.end())

    def test_a_request_that_has_come_in_part_is_waited_for(self):
        s = self.server("--grace", "60000")
        t = self.tenant(s)
        body = json.dumps({"slug": "late", "title": "x"}).encode()
        connection = s.connect()
        self.addCleanup(connection.close)
        connection.putrequest("POST", f"/t/{t.name}/notes")
        connection.putheader("Authorization", f"Bearer {t.token}")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:10])
        s.stop()
        self.assertTrue(eventually(self.refused(s)))
        connection.send(body[10:])
        self.assertEqual(201, Answer(connection.getresponse()).status)
        self.assertEqual((0, self.made + 1, self.made + 1), s.end())

    def test_who_still_waits_to_be_let_in_is_answered_too(self):
        s = self.server("--grace", "60000")
        s.process.send_signal(signal.SIGSTOP)
        waiting = [s.connect() for _ in range(50)]          # the kernel has them, it has not
        for connection in waiting:
            self.addCleanup(connection.close)
            connection.request("GET", "/health")
        s.stop()
        s.process.send_signal(signal.SIGCONT)
        for connection in waiting:
            Answer(connection.getresponse())
            connection.close()
        self.assertEqual((0, 50, 50), s.end())

    def test_hundreds_of_connections_are_served_at_a_time(self):
        s = self.server()
        connections = [s.connect() for _ in range(600)]
        for connection in connections:
            self.addCleanup(connection.close)
        for _ in range(2):
            for connection in connections:
                self.assertEqual(200, s.ask("GET", "/health", connection=connection).status)

    def test_health_says_that_it_is_stopping(self):
        s = self.server("--grace", "60000")
        connection = s.connect()
        self.addCleanup(connection.close)
        self.assertEqual("ok", s.ask("GET", "/health", connection=connection).body["status"])
        s.stop()
        self.assertTrue(eventually(self.refused(s)))
        answer = s.ask("GET", "/health", connection=connection)
        self.assertEqual((503, "stopping"), (answer.status, answer.body["status"]))
        self.assertEqual((0, 2, 2), s.end())

    def test_idle_connections_do_not_keep_it_from_ending(self):
        s = self.server("--grace", "100")
        connections = [s.connect() for _ in range(5)]
        for connection in connections[:4]:
            self.addCleanup(connection.close)
            s.ask("GET", "/health", connection=connection)
        connections[4].connect()
        self.addCleanup(connections[4].close)
        s.stop()
        self.assertEqual((0, 4, 4), s.end())

    @staticmethod
    def refused(s):
        def look():
            try:
                socket.create_connection(("127.0.0.1", s.port), timeout=PATIENCE_S).close()
                return False
            except ConnectionRefusedError:
                return True
        return look


if __name__ == "__main__":
    unittest.main()
