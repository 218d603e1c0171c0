#!/usr/bin/python3
"""The service examples/notes_loop, asked by HTTP clients, on a fleet of its own: its paths and
errors, which are those of examples/notes; hundreds of clients at a time in its one thread, slow
ones, and ones that go away; an end that loses nothing.

The server is $NOTES_LOOP. Accounts are made and logged in by $NOTES, beside it."""

import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import unittest
import uuid
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
import notes                                                            # noqa: E402
from notes import BODY_MAX, PATIENCE_S, Answer, eventually, new_name, new_tenant    # noqa: E402

NOTES_LOOP = os.environ.get("NOTES_LOOP",
                            os.path.join(HERE, "../../build/examples/notes_loop/notes_loop"))
CLIENTS = 200

server = None                       # of the tests that need no special one


def setUpModule():
    global server
    notes.setUpModule()
    server = Server("--grace", "1000")
    unittest.addModuleCleanup(end_well)


def end_well():
    """After all the tests: it ends as it should, and a sanitizer that it may have is content."""
    server.stop()
    status, accepted, answered = server.end()
    assert (status, accepted) == (0, answered), (status, accepted, answered)


class Server(notes.Server):

    program = NOTES_LOOP

    def end_counting(self):
        """(exit status, requests accepted, answered, given up), after its end."""
        last = self.process.stdout.read()
        status = self.process.wait(timeout=PATIENCE_S)
        self.process.stdout.close()
        counts = [int(n) for n in re.findall(r"\d+", last)]
        return status, counts[0] - self.made, counts[1] - self.made, counts[2]


class Tenant(notes.Tenant):
    """A tenant who was made by the one server and asks the other."""

    def __init__(self, name, on=None):
        super().__init__(name, on=notes.server)
        self.on = on or server

    def there(self, method, path):
        """The other server's answer."""
        return notes.server.ask(method, f"/t/{self.name}{path}", token=self.token,
                                Cache_Control="no-cache")


class ManyTenants:
    """n tenants, each with a token, made by SQL: hashing that many passwords takes minutes. They
    are on every shard; where they belong says the map, and elsewhere nobody asks for them."""

    def __init__(self, n):
        self.names = [new_name() for _ in range(n)]
        self.tokens = [hashlib.sha256(name.encode()).digest() for name in self.names]
        accounts = ", ".join(f"('{name}', 'ann@example.com', 'x')" for name in self.names)
        hashes = ", ".join(f"('{name}', '\\x{hashlib.sha256(token).hexdigest()}'::bytea)"
                           for name, token in zip(self.names, self.tokens))
        for shard in (0, 1):
            notes.fleet.sql(f"shard{shard}/primary",
                            f"insert into notes.account (tenant, email, password_hash) "
                            f"values {accounts}",
                            f"insert into notes.token (tenant, hash, account, expires_at) "
                            f"select tenant, hash, id, now() + interval '1 hour' "
                            f"from notes.account join (values {hashes}) as t (tenant, hash) "
                            f"using (tenant)")

    def ask(self, i, connection, method, path, body=None, on=None):
        token = base64.urlsafe_b64encode(self.tokens[i]).decode().rstrip("=")
        return (on or server).ask(method, f"/t/{self.names[i]}{path}", body, token, connection,
                                  Cache_Control="no-cache")


@contextlib.contextmanager
def locked_notes(mode, shards=(0, 1)):
    """Nobody can write notes ("exclusive"), or touch them ("access exclusive"); gives a function
    that ends it."""
    sessions = []

    def release():
        for psql in sessions:
            if psql.poll() is None:
                psql.communicate("rollback;\n", timeout=PATIENCE_S)
    try:
        for shard in shards:
            sessions.append(subprocess.Popen(
                ["psql", "-XqAt", notes.fleet.env()[f"DATABASE_SHARD_{shard}_URL"]], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                bufsize=1))
            sessions[-1].stdin.write(f"begin; lock table notes.note in {mode} mode; "
                                     "select 'locked';\n")
            assert sessions[-1].stdout.readline() == "locked\n"
        yield release
    finally:
        release()
        for psql in sessions:
            psql.stdout.close()


class Case(notes.Case):

    def server(self, *args, **env):
        new = Server(*args, **env)
        self.addCleanup(new.kill)
        return new

    def tenant(self, on):
        return Tenant(new_tenant(), on=on)

    def open(self, on=None):
        connection = (on or server).connect()
        self.addCleanup(connection.close)
        return connection


class Paths(Case):

    def test_a_note_is_created_found_and_listed(self):
        for shard in (0, 1):
            t = Tenant(new_tenant(shard))
            created = t.ask("POST", "/notes", {"slug": "first", "title": "Été", "body": "日本"})
            self.assertEqual((201, f"shard{shard}/primary"), (created.status, created.served_by))
            note = f"/notes/{created.body['id']}"
            self.assertEqual(f"/t/{t.name}{note}", created.headers["Location"])
            self.assertEqual(("Été", "日本", t.account),
                             tuple(t.ask("GET", note).body[k] for k in ("title", "body", "author")))
            self.assertEqual(["first"], t.slugs())
            self.assertEqual((200, None), (t.ask("HEAD", note).status, t.ask("HEAD", note).body))

    def test_both_servers_answer_alike_and_take_each_others_cursors(self):
        t = Tenant(new_tenant())
        child = t.note("child", parent=t.note("parent"))
        for n in range(5):
            t.note(f"n{n}", title="Many words" if n % 2 else "Many")
        for path in (f"/notes/{child}", "/notes", "/notes?limit=3", "/notes?q=words&limit=1"):
            here, there = t.ask("GET", path), t.there("GET", path)
            self.assertEqual((200, here.body, here.served_by),
                             (there.status, there.body, there.served_by))
        cursor = t.there("GET", "/notes?limit=3").body["next"]
        self.assertEqual(["n1", "n0", "child"], t.slugs(limit=3, cursor=cursor))

    def test_pages_have_no_gaps_and_nothing_twice(self):
        t = Tenant(new_tenant())
        slugs = [f"n{n}" for n in range(23)]
        for slug in slugs:
            t.note(slug)
        pages = [[note["slug"] for note in page] for page in t.pages(limit=5)]
        self.assertEqual([5, 5, 5, 5, 3], [len(page) for page in pages])
        self.assertEqual(slugs[::-1], sum(pages, []))

    def test_a_replica_answers_and_a_login_counts_before_it_has_heard_of_it(self):
        notes.fleet.pause_replay("shard0/replica1")
        try:
            t = Tenant(new_tenant(0))
            self.assertEqual(200, t.ask("GET", "/notes", Cache_Control="").status)
        finally:
            notes.fleet.resume_replay("shard0/replica1")
        self.assertTrue(eventually(lambda: t.ask(
            "GET", "/notes", Cache_Control="").served_by == "shard0/replica1"))

    def test_what_was_written_to_the_other_server_is_read_with_its_cookie(self):
        t = Tenant(new_tenant(0))
        notes.fleet.pause_replay("shard0/replica1")
        try:
            for n in range(1, 6):
                created = notes.server.ask("POST", f"/t/{t.name}/notes",
                                           {"slug": f"n{n}", "title": "x"}, t.token)
                self.assertEqual(201, created.status)
                cookie = created.headers["Set-Cookie"].split(";")[0]
                listed = server.ask("GET", f"/t/{t.name}/notes", None, t.token, Cookie=cookie)
                self.assertEqual(n, len(listed.body["notes"]))
                self.assertRegex(listed.headers["Set-Cookie"], r"^seen=[\w-]+; Path=/t/")
        finally:
            notes.fleet.resume_replay("shard0/replica1")

    def test_health_tells_of_every_server(self):
        body = server.ask("GET", "/health").body
        self.assertEqual(("ok", {f"shard{s}/{n}" for s in (0, 1) for n in ("primary", "replica1")}),
                         (body["status"], {s["node"] for s in body["servers"]}))

    def test_a_wrong_command_line_and_a_wrong_configuration_have_their_exit_statuses(self):
        for status, args, env in [(2, ["--nonsense"], notes.clean_env()),
                                  (2, ["--migrate"], notes.clean_env()),
                                  (3, [], {"DATABASE_SHARD_COUNT": "x"}), (0, ["--help"], {}),
                                  (1, ["--listen", f"127.0.0.1:{server.port}"], notes.clean_env())]:
            done = subprocess.run([NOTES_LOOP, *args], env=env, capture_output=True, text=True,
                                  timeout=PATIENCE_S)
            self.assertEqual(status, done.returncode, (args, done.stderr))


class Errors(Case):

    def setUp(self):
        self.t = Tenant(new_tenant())

    def test_what_cannot_be_understood_is_malformed(self):
        for body in (b"", b"{", b"[]", b'{"slug": "a", "slug": "b"}', b"\xff\xfe"):
            self.expect(400, "malformed", None, self.t.ask("POST", "/notes", body))
        for query, field in [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"),
                             ("cursor=x", "cursor")]:
            self.expect(400, "malformed", field, self.t.ask("GET", f"/notes?{query}"))

    def test_without_a_right_token_nothing_is_served(self):
        note = f"/notes/{self.t.note()}"
        other = Tenant(new_tenant())
        for token in (None, "x", self.t.token[:-1], self.t.token.swapcase(), other.token):
            for method, path in [("GET", "/notes"), ("GET", note), ("POST", "/notes")]:
                self.expect(401, "unauthorized", None, self.t.ask(method, path, token=token))

    def test_a_note_of_another_tenant_is_missing(self):
        note = self.t.note()
        self.assertEqual(200, self.t.ask("GET", f"/notes/{note}").status)
        self.expect(404, "missing", None, Tenant(new_tenant()).ask("GET", f"/notes/{note}"))
        self.expect(404, "missing", None, self.t.ask("GET", f"/notes/{uuid.uuid4()}"))
        self.assertEqual("shard0/primary",
                         self.t.ask("GET", f"/notes/{uuid.uuid4()}").served_by)

    def test_paths_and_methods_that_are_not_there_are_told_apart(self):
        for path in ("/", "/t/acme", "/t/Acme/notes", "/t/acme/notes/1", "/t/acme/login"):
            self.expect(404, "no_route", None, server.ask("GET", path))
        answer = self.t.ask("DELETE", "/notes")
        self.expect(405, "wrong_method", None, answer)
        self.assertEqual({"GET", "POST"}, set(answer.headers["Allow"].split(", ")))

    def test_what_the_database_refuses_is_told_by_field(self):
        t = self.t
        t.note("one")
        self.expect(409, "conflict", "slug", t.ask("POST", "/notes", {"slug": "one", "title": "x"}))
        for word, field, more in [("invalid", "title", {"title": ""}),
                                  ("invalid", "title", {"title": 1}),
                                  ("invalid", "slug", {"slug": "A"}),
                                  ("invalid", None, {"parent": "no uuid"}),
                                  ("unknown_reference", "parent", {"parent": str(uuid.uuid4())})]:
            self.expect(422, word, field, t.ask("POST", "/notes",
                                                {"slug": "s", "title": "x", **more}))
        self.assertEqual(["one"], t.slugs())

    def test_a_body_is_too_large_beyond_its_limit_and_the_connection_goes_on(self):
        connection = self.open()
        good = json.dumps({"slug": "big", "title": "x"}).encode()
        for status, size in [(413, BODY_MAX + 1), (413, 2 * BODY_MAX), (201, BODY_MAX)]:
            self.assertEqual(status, self.t.ask("POST", "/notes", good.ljust(size),
                                                connection=connection).status)


class Faults(Case):

    def test_without_a_primary_writes_are_unavailable_and_reads_go_on(self):
        t = Tenant(new_tenant(), on=self.server(DB_POOL_TIMEOUT="2s", DB_HEALTH_INTERVAL="200ms"))
        note = t.note("one")
        self.assertTrue(eventually(lambda: notes.fleet.sql(
            "shard0/replica1", f"select 1 from notes.note where id = '{note}'") == "1"))
        notes.fleet.kill("shard0/primary")
        try:
            self.expect(503, "unavailable", None, t.ask("POST", "/notes",
                                                        {"slug": "two", "title": "x"}))
            self.expect(503, "unavailable", None, t.ask("GET", f"/notes/{note}"))
            self.assertTrue(eventually(lambda: t.ask(
                "GET", f"/notes/{note}", Cache_Control="").served_by == "shard0/replica1"))
            self.assertEqual(200, t.ask("GET", f"/notes/{note}", Cache_Control="").status)
        finally:
            notes.fleet.start("shard0/primary")
        self.assertTrue(eventually(lambda: t.ask(
            "POST", "/notes", {"slug": "two", "title": "x"}).status in (201, 409)))
        self.assertEqual(["two", "one"], t.slugs())

    def test_a_read_that_takes_too_long_did_not_happen(self):
        t = Tenant(new_tenant(), on=self.server("--deadline", "3000"))
        note = t.note()
        with locked_notes("access exclusive"):
            self.expect(503, "overloaded", None, t.ask("GET", f"/notes/{note}"))
        self.assertTrue(eventually(lambda: t.ask("GET", f"/notes/{note}").status == 200))

    def test_a_write_that_nobody_answered_has_an_unknown_outcome(self):
        t = Tenant(new_tenant(), on=self.server("--deadline", "3000"))
        with locked_notes("exclusive"):
            answer = t.ask("POST", "/notes", {"slug": "perhaps", "title": "x"})
            while answer.status == 503:         # it was not even sent: a slow machine
                answer = t.ask("POST", "/notes", {"slug": "perhaps", "title": "x"})
            self.expect(504, "unknown_outcome", None, answer)

    def test_a_write_whose_server_is_killed_has_an_unknown_outcome(self):
        # As long as its deadline allows, what became of it is asked for.
        t = Tenant(new_tenant(), on=self.server("--deadline", "10000"))
        with ThreadPoolExecutor(1) as pool, locked_notes("exclusive"):
            slow = pool.submit(t.ask, "POST", "/notes", {"slug": "perhaps", "title": "x"})
            self.assertTrue(eventually(notes.somebody_waits_for_a_lock))
            notes.fleet.kill("shard0/primary")
            try:
                self.expect(504, "unknown_outcome", None, slow.result())
            finally:
                notes.fleet.start("shard0/primary")


class ManyClients(Case):

    def each(self, work):
        """One thread for each client; what went wrong in any of them is raised."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            return list(pool.map(work, range(CLIENTS)))

    def test_each_of_two_hundred_clients_at_a_time_gets_its_own_tenants_notes(self):
        many, all_here = ManyTenants(CLIENTS), threading.Barrier(CLIENTS, timeout=PATIENCE_S)
        s = self.server("--deadline", "60000", DB_POOL_TIMEOUT="60s", DB_POOL_QUEUE_LIMIT="1000")

        def client(i):
            connection, marker = self.open(s), many.names[i]
            connection.connect()
            all_here.wait()
            for n in range(3):
                created = many.ask(i, connection, "POST", "/notes",
                                   {"slug": f"n{n}", "title": f"of {marker}", "body": marker}, s)
                found = many.ask(i, connection, "GET", f"/notes/{created.body['id']}", on=s)
                listed = many.ask(i, connection, "GET", "/notes", on=s)
                self.assertEqual((201, 200, 200), (created.status, found.status, listed.status))
                self.assertEqual((marker, marker, {f"of {marker}"}, n + 1),
                                 (created.body["body"], found.body["body"],
                                  {note["title"] for note in listed.body["notes"]},
                                  len(listed.body["notes"])))
        self.each(client)
        s.stop()
        self.assertEqual((0, 9 * CLIENTS, 9 * CLIENTS, 0), s.end_counting())

    def test_while_two_hundred_wait_for_a_lock_whoever_does_not_is_served(self):
        many = ManyTenants(CLIENTS)
        s = self.server("--deadline", "60000", DB_POOL_TIMEOUT="60s", DB_POOL_QUEUE_LIMIT="1000")
        connections = [self.open(s) for _ in range(CLIENTS)]
        with locked_notes("access exclusive", shards=(0,)) as release:
            for i, connection in enumerate(connections):
                token = base64.urlsafe_b64encode(many.tokens[i]).decode().rstrip("=")
                connection.request("GET", f"/t/{many.names[i]}/notes", headers={
                    "Authorization": f"Bearer {token}", "Cache-Control": "no-cache"})
            self.assertTrue(eventually(notes.somebody_waits_for_a_lock))
            other = Tenant(new_tenant(shard=1), on=s)
            other.note("one")
            self.assertEqual((["one"], 200), (other.slugs(), s.ask("GET", "/health").status))
            release()
        for connection in connections:
            answer = Answer(connection.getresponse())
            self.assertEqual((200, []), (answer.status, answer.body["notes"]))

    def test_slow_clients_hold_up_nobody(self):
        t = Tenant(new_tenant())
        t.note("big", body="x" * 20000)
        note = f"/t/{t.name}/notes/{t.list().body['notes'][0]['id']}"
        head = f"Host: x\r\nAuthorization: Bearer {t.token}\r\nCache-Control: no-cache\r\n"
        body = json.dumps({"slug": "slow", "title": "x"})
        half_a_head = f"GET {note} HTTP/1.1\r\n{head[:20]}"
        half_a_body = (f"POST /t/{t.name}/notes HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n"
                       f"\r\n{body[:5]}")
        asks_and_does_not_read = f"GET {note} HTTP/1.1\r\n{head}\r\n" * 500
        clients = []
        for said in (half_a_head, half_a_body, asks_and_does_not_read):
            clients.append(socket.create_connection(("127.0.0.1", server.port), PATIENCE_S))
            self.addCleanup(clients[-1].close)
            clients[-1].sendall(said.encode())
        for _ in range(20):
            self.assertEqual(200, t.ask("GET", "/notes").status)
        clients[0].sendall(f"{head[20:]}\r\n".encode())
        clients[1].sendall(body[5:].encode())
        for client, status, n in zip(clients, (200, 201, 200), (1, 1, 500)):
            with client.makefile("rb") as reader:
                for _ in range(n):
                    self.assertEqual(status, self.read_answer(reader))

    def read_answer(self, reader):
        """The status of the next of many on one connection."""
        status, length = int(reader.readline().split()[1]), 0
        for line in iter(reader.readline, b"\r\n"):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        self.assertEqual({"id", "slug", "title", "body", "parent", "author"},
                         set(json.loads(reader.read(length))) -
                         {"created_at", "updated_at", "server"})
        return status

    def test_a_client_that_goes_away_gives_its_call_up(self):
        s = self.server("--deadline", "60000", "--grace", "0")
        t = Tenant(new_tenant(), on=s)
        note = t.note("one")
        with locked_notes("access exclusive", shards=(0,)):
            waiting = []
            for n in range(20):
                waiting.append(s.connect())
                waiting[-1].request(*(("GET", f"/t/{t.name}/notes/{note}") if n % 2 else
                                      ("POST", f"/t/{t.name}/notes",
                                       json.dumps({"slug": f"w{n}", "title": "x"}))),
                                    headers={"Authorization": f"Bearer {t.token}",
                                             "Cache-Control": "no-cache"})
            self.assertTrue(eventually(notes.somebody_waits_for_a_lock))
            for connection in waiting[:19]:
                connection.close()
            # It would wait for the lock as they did, were they not given up.
            self.assertEqual(200, s.ask("GET", "/health").status)
            waiting[19].close()
            s.stop()
            self.assertEqual((0, 22, 2, 20), s.end_counting())

    def test_clients_come_and_go_and_the_rest_is_answered(self):
        many = ManyTenants(CLIENTS)
        s = self.server("--deadline", "60000", DB_POOL_TIMEOUT="60s", DB_POOL_QUEUE_LIMIT="1000")

        def client(i):
            for _ in range(10):
                connection = s.connect()
                token = base64.urlsafe_b64encode(many.tokens[i]).decode().rstrip("=")
                if i % 2:
                    connection.request("POST", f"/t/{many.names[i]}/notes", json.dumps(
                        {"slug": new_name(), "title": many.names[i]}),
                        headers={"Authorization": f"Bearer {token}"})
                else:
                    answer = many.ask(i, connection, "POST", "/notes", {
                        "slug": new_name(), "title": many.names[i]}, s)
                    self.assertEqual((201, many.names[i]), (answer.status, answer.body["title"]))
                connection.close()
        self.each(client)
        self.assertEqual(200, s.ask("GET", "/health").status)
        s.stop()
        self.assertEqual(0, s.end_counting()[0])


class Ending(Case, notes.Ending):

    made = 0                        # the other server made the tenant

    def test_a_request_that_is_under_way_is_answered_and_its_connection_closed(self):
        s = self.server("--deadline", "60000", "--grace", "0")
        t = self.tenant(s)
        with ThreadPoolExecutor(1) as pool, locked_notes("exclusive") as release:
            slow = pool.submit(t.ask, "POST", "/notes", {"slug": "waited", "title": "x"})
            self.assertTrue(eventually(notes.somebody_waits_for_a_lock))
            s.stop(signal.SIGINT)
            self.assertTrue(eventually(self.refused(s)))
            self.assertFalse(slow.done())
            release()
            answer = slow.result()
        self.assertEqual((201, "waited", "close"), (answer.status, answer.body["slug"],
                                                    answer.headers["Connection"]))
        self.assertEqual((0, 1, 1), s.end())


if __name__ == "__main__":
    unittest.main()
