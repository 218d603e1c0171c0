#!/usr/bin/python3 -IS
"""A throw-away PostgreSQL fleet: n shards, each a primary and m streaming replicas, and Redis.

Real servers on free ports of 127.0.0.1, in a temporary folder, up in seconds. When their owner
ends, however it ends, they are gone, and so is the folder. docs/fleet.md is the manual.

    with Fleet(shards=2, replicas=2) as fleet:          # lives as long as this block or process
        env = fleet.env()                               # {"DATABASE_SHARD_0_URL": "postgres…", …}
        fleet.sql("shard0/primary", "select 1")         # "1"
        fleet.pause_replay("shard0/replica1")

class Fleet(shards=2, replicas=2, redis=True, control=False, durable=False, sync=False,
            max_connections=200, settings={}, folder=None, owner=0, say=None, tls=False,
      pgbouncer=False)
    Starts a fleet and returns when all of it is up. `settings` go into every postgresql.conf.
    `folder` must not exist yet; by default it is a new one in $TMPDIR, or /tmp. `owner` is the
    process whose end is the fleet's: 0 for this one, None for nobody. `say` is called with a
    line of text for each step of the start. With `tls` the servers have certificates for the name
    fleet.test, by an authority of the fleet's own: folder/tls/ca.crt, beside other.crt of another.
    With `pgbouncer` a PgBouncer in transaction mode stands before each server, and the URLs lead to it.

Fleet.attach(folder=None)
    The fleet in that folder; else in $PQR_FLEET; else the only one of this user.

    folder  nodes                            its folder; the names of its servers, "redis" last
    env()                                    the URLs of its servers, for an application
    status()                                 a dict for each server: what it is and does now
    sql(node, *statements, user=, database=, timeout=)     psql's answer, unaligned, as text
    kill(node)  start(node)                  dead at once, children too; back again
    stop(node)  cont(node)                   frozen, children too; thawed
    shutdown(node, mode)  restart(node, mode)              mode: fast, immediate, smart
    promote(node)  rejoin(node, source=None)               now a primary; now a standby, made anew
    pause_replay(node)  resume_replay(node)
    cut_receiver(node)  join_receiver(node)  streaming stops and stays so; streams again
    down()  wait()                           take all away; wait until it is gone

A node is called like "shard0/primary", "shard0/replica1", "control/primary" or "redis"; the poolers
before these are "shard0/pooler", "shard0/pooler1", "control/pooler". It keeps its name for life, also
after a promote. Every verb returns when it is true, and the fault verbs
return a line that says what is now so. What cannot be done raises FleetError, which says why.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

WAIT_S = 30         # for one server to do what it was told
START_S = 60        # for servers to come up, also on a busy machine
DOWN_S = 15
PROGRAMS = {"postgres", "initdb", "pg_basebackup", "cp", "redis-server",     # what works in a folder
            "pgbouncer"}
STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
CLEAN_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}

TLS_NAME = "fleet.test"     # whom the servers' certificates name

# In every postgresql.conf: small and fast, since nothing here is meant to survive.
SETTINGS = {
    "wal_level": "replica",
    "hot_standby": "on",
    "max_wal_senders": "20",
    "wal_keep_size": "512MB",               # instead of slots: a standby may be away for a while
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
    "wal_retrieve_retry_interval": "200ms",
    "shared_buffers": "16MB",
    "huge_pages": "off",
    "dynamic_shared_memory_type": "mmap",   # files in the folder, not in /dev/shm: they go with it
    "synchronous_commit": "on",
    "hot_standby_feedback": "off",
    "autovacuum": "on",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}

# Of each PgBouncer: few sessions at the server, so that many share one, and a server that is back
# is found soon. Who logs in is looked up at the server: a new role can, too.
POOLER = """\
[databases]
app = host={socket} port={port} auth_user=postgres
* = host={socket} port={port} auth_user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = md5
auth_file = {users}
pool_mode = transaction
default_pool_size = 4
max_client_conn = 500
server_login_retry = 1
query_wait_timeout = 30
log_connections = 0
log_disconnections = 0
"""

HBA = """\
# The socket's folder is closed to others, so who gets there may be anyone.
local all all trust
local replication all trust
# Whoever has a SCRAM secret proves it by SCRAM all the same.
host all all 127.0.0.1/32 md5
"""

# One row: standby?, timeline, position, replay paused?, system identifier.
STATUS_SQL = """\
select s, greatest((select timeline_id from pg_control_checkpoint()),
                   (select min_recovery_end_timeline from pg_control_recovery()),
                   (select received_tli from pg_stat_wal_receiver),
                   case when not s then ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))
                                        ::bit(32)::int end),
       case when s then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end,
       case when s then pg_get_wal_replay_pause_state() <> 'not paused' end,
       (select system_identifier from pg_control_system())
  from pg_is_in_recovery() s"""


class FleetError(Exception):
    """What could not be done, and what to do about it."""


# ---------------------------------------------------------------------------------------------
# The keeper: the parent of all servers. And the janitor: the keeper's parent.
#
#   owner ──pidfd──▶ keeper ──▶ server, server, …       the owner ends: the keeper sweeps and ends
#                      ▲        (killed by the kernel when the keeper ends)
#                   janitor                             the keeper ends: the janitor sweeps and ends
#                                                       the janitor ends: the keeper sweeps and ends
#
# To sweep is to kill what works in the folder and to remove the folder. Both run as the servers'
# user and in a session of their own, so that a Ctrl-C for the owner does not reach them. The
# keeper never waits for a server: it starts, signals and looks, and its clients wait.
# ---------------------------------------------------------------------------------------------

def keep(folder, owner_fd):
    """Be the janitor of a new folder, and the parent of its keeper. Prints one line of JSON when
    the keeper listens, or when that failed. The exit status tells if the keeper ended well."""
    import ctypes, pwd, select, shutil              # now: another user may not be able to read them
    del ctypes, pwd, select, shutil
    try:
        become_run_user()
        sweep_orphans()
        make_folder(folder)
        os.chdir("/")
        prctl(PR_SET_CHILD_SUBREAPER, 1)            # what the keeper leaves behind is ours to reap
    except (FleetError, OSError) as e:
        report(error=str(e))
        sys.exit(1)
    janitor = os.getpid()
    keeper = os.fork()
    if keeper == 0:
        be_keeper(folder, owner_fd, janitor)
    log_to(folder)
    _, status = os.waitpid(keeper, 0)
    sweep(folder)
    sys.exit(0 if status == 0 else 1)


def be_keeper(folder, owner_fd, janitor):
    status = 1
    try:
        Keeper(folder, owner_fd, janitor).run()
        status = 0
    except (FleetError, OSError) as e:
        report(error=str(e))
    finally:
        sweep(folder)
        os._exit(status)


def report(**facts):
    """Tell who has started us, if it is still there."""
    try:
        print(json.dumps(facts), flush=True)
    except BrokenPipeError:
        pass


class Keeper:
    """Serves one request at a time on a socket in the folder: a line of JSON each way."""

    def __init__(self, folder, owner_fd, janitor):
        self.folder, self.janitor = folder, janitor
        self.owner_fd = owner_fd    # readable when the owner has ended; None: no owner
        self.servers = {}           # name → {"pid": None when dead, "cwd": its data's folder}
        self.ports = []             # sockets, see do_ports
        self.ended = False

    def run(self):
        """Until told to end, or the owner or the janitor has."""
        import select
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        wake = self.catch_signals()
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != self.janitor:
            return
        listener = self.listen()
        report(keeper=os.getpid(), janitor=self.janitor)
        log_to(self.folder)
        while not self.ended:
            sources = [wake, listener] + [self.owner_fd] * (self.owner_fd is not None)
            ready = select.select(sources, [], [])[0]
            if self.owner_fd in ready:
                return
            if wake in ready and self.ending_signal(wake):
                return
            self.reap()
            if listener in ready:
                self.serve(listener.accept()[0])

    def listen(self):
        """Renamed once it listens, so that who is refused knows that the keeper is dead."""
        listener = socket.socket(socket.AF_UNIX)
        path = os.path.join(self.folder, "keeper.sock")
        listener.bind(path + ".new")
        listener.listen(64)
        os.rename(path + ".new", path)
        return listener

    def catch_signals(self):
        """A descriptor to read the numbers of arrived signals from."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        return read

    def ending_signal(self, wake):
        return bool(set(os.read(wake, 4096)) & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

    def reap(self):
        for pid in reaped():
            for server in self.servers.values():
                if server["pid"] == pid:
                    server["pid"] = None

    def serve(self, client):
        with client:
            try:
                client.settimeout(2)        # a client that stalls must not stall the others
                verb, *args = json.loads(client.makefile("r").readline())
                reply = {"ok": getattr(self, "do_" + verb)(*args)}
            except Exception as e:              # whatever a client does, the servers stay up
                reply = {"error": str(e) if isinstance(e, FleetError) else repr(e)}
            try:
                client.sendall(json.dumps(reply).encode() + b"\n")
            except OSError:
                pass

    def do_ports(self, count):
        """Ports for the fleet's life. Each is held by a socket that is bound and never listens:
        no one else is given the port then, also while its server is down, yet the server itself
        can bind it, since SO_REUSEADDR is set on both."""
        for _ in range(count):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", 0))
            self.ports.append(s)
        return [s.getsockname()[1] for s in self.ports[-count:]]

    def do_start(self, name, argv, cwd, log):
        if self.servers.get(name, {}).get("pid"):
            raise FleetError(f"{name} runs already")
        self.servers[name] = {"pid": spawn(argv, cwd, log), "cwd": cwd}

    def do_look(self):
        """The servers: name → pid and state as in ps, both None when it is dead."""
        return {name: {"pid": s["pid"], "state": s["pid"] and process(s["pid"])[1]}
                for name, s in self.servers.items()}

    def do_signal(self, name, number):
        """Signal the server alone."""
        pid = self.servers[name]["pid"]
        if pid:
            os.kill(pid, number)

    def do_signal_all(self, name, number):
        """Signal the server and all its children. What they were before: [[pid, state], …]."""
        server = self.servers[name]
        found = members(server["cwd"])
        found.sort(key=lambda m: m[0] != server["pid"])     # the parent first: it must not react
        signal_each(found, number)
        return found

    def do_wipe(self, name):
        """Remove the data of a dead server."""
        remove(self.servers[name]["cwd"])

    def do_adopt(self, pid):
        """From now on the fleet ends with this process; None: with none."""
        new = None if pid is None else open_process(pid)
        os.close(self.owner_fd)
        self.owner_fd = new

    def do_down(self):
        self.ended = True


def run_user():
    """(name, uid, gid) of the user the servers run as: postgres or nobody for root, who may not
    run them; for others themselves."""
    import pwd
    if os.geteuid() != 0:
        try:
            return pwd.getpwuid(os.geteuid()).pw_name, os.geteuid(), os.getegid()
        except KeyError:
            raise FleetError(f"user id {os.geteuid()} has no entry in /etc/passwd; "
                             "initdb needs one") from None
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
            return name, user.pw_uid, user.pw_gid
        except KeyError:
            pass
    raise FleetError("root may not run PostgreSQL, and there is no user postgres or nobody; "
                     "run this as another user")


def become_run_user():
    _, uid, gid = run_user()
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)


def make_folder(folder):
    parent = os.path.dirname(folder)
    if os.path.lexists(folder):         # in the end we remove it: it must be ours from the start
        raise FleetError(f"{folder} exists already; name a folder that does not")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise FleetError(f"user {run_user()[0]} cannot write in {parent}; "
                         "choose another folder with --dir")
    os.umask(0o077)
    os.mkdir(folder)
    for name in ("data", "log", "socket"):
        os.mkdir(os.path.join(folder, name))


def log_to(folder):
    """Let go of the starter's pipes, so that nobody waits for us to close them."""
    null = os.open("/dev/null", os.O_RDWR)
    log = os.open(os.path.join(folder, "log", "keeper.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def spawn(argv, cwd, log):
    """Run argv, to be killed by the kernel when this process ends."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)       # Python ignores these two
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(cwd)
        os.execve(argv[0], argv, CLEAN_ENV)
    except OSError as e:
        os.write(2, f"{argv[0]}: {e}\n".encode())
    finally:
        os._exit(127)


def process(pid):
    """(name, state) of a process as in ps; (None, None) when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as f:
            text = f.read()
    except OSError:
        return None, None
    return text[text.index("(") + 1:text.rindex(")")], text[text.rindex(")") + 2]


def members(path):
    """[[pid, state], …] of all that works in this folder or below: server processes keep their
    data's folder as the working one, so we find them also when their parent is dead. A shell of
    yours in there is not one of ours."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        name, state = process(pid)
        if name not in PROGRAMS:
            continue
        try:
            cwd = os.readlink(f"/proc/{pid}/cwd")
        except OSError:             # gone, a zombie, or another user's
            continue
        if (cwd + "/").startswith(path + "/"):
            found.append([int(pid), state])
    return found


def signal_each(found, number):
    for pid, _ in found:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def reaped():
    """The pids of our children that have ended."""
    found = []
    try:
        while (pid := os.waitpid(-1, os.WNOHANG)[0]):
            found.append(pid)
    except ChildProcessError:
        pass
    return found


def sweep(folder):
    """Leave nothing of the fleet. Harmless twice, and at the same time as another."""
    shared = set()
    while (found := members(folder)):
        signal_each(found, signal.SIGSTOP)
        shared.update(*(posix_shared_memory(pid) for pid, _ in found))
        signal_each(found, signal.SIGKILL)
        reaped()
        time.sleep(0.005)
    for path in shared:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
    for data in inside(os.path.join(folder, "data")):
        remove(data)
    remove(folder)
    reaped()


def inside(folder):
    """The paths in a folder; none if it is gone."""
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder)]
    except OSError:
        return []


def remove(path):
    """A folder and all in it. If it is a dead server's data, its shared memory too: killed, the
    server could not give it back."""
    from shutil import rmtree
    free_shared_memory(os.path.join(path, "postmaster.pid"))
    for _ in range(20):
        rmtree(path, ignore_errors=True)
        if not os.path.lexists(path):
            return
        time.sleep(0.01)            # a clean-up beside ours, or a last file of a dying process


def posix_shared_memory(pid):
    """Files in /dev/shm that a process maps or opens. Our servers have none, but initdb's have,
    and no setting prevents it."""
    try:
        with open(f"/proc/{pid}/maps") as f:
            paths = {line.split(maxsplit=5)[-1].strip() for line in f if "PostgreSQL." in line}
        paths |= {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    except OSError:
        return set()
    return {path for path in paths if path.startswith("/dev/shm/PostgreSQL.")}


def free_shared_memory(pid_file):
    """Line 7 of postmaster.pid has key and id of the server's segment."""
    try:
        with open(pid_file) as f:
            key, shmid = (int(n) for n in f.read().split("\n")[6].split())
    except (OSError, IndexError, ValueError):
        return
    if libc().shmget(key, 0, 0) == shmid:
        libc().shmctl(shmid, 0, None)           # IPC_RMID


def sweep_orphans():
    """Where keeper and janitor were killed at once, a folder has stayed: ours to remove."""
    for folder in inside(temporary_folder()):
        if (os.path.basename(folder).startswith("pqrouter-fleet-")
                and is_refused(os.path.join(folder, "keeper.sock"))):
            sweep(folder)


def is_refused(path):
    """Does nobody listen on this socket any more? False also if it is another user's."""
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.setblocking(False)
            s.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        pass
    return False


def keepers():
    """{(folder, caller's uid), …} of all fleets that are up, starting or ending."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                argv = os.fsdecode(f.read()).split("\0")[:-1]
        except OSError:
            continue
        if len(argv) > 4 and argv[-4] == "keep" and os.path.basename(argv[-5]) == "fleet.py":
            found.add((argv[-3], int(argv[-1])))
    return found


def temporary_folder():
    return os.path.realpath(os.environ.get("TMPDIR") or "/tmp")


PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def libc():
    import ctypes
    return ctypes.CDLL(None, use_errno=True)


def prctl(option, value):
    import ctypes
    if libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise FleetError(f"prctl({option}, {value}): {os.strerror(ctypes.get_errno())}")


# ---------------------------------------------------------------------------------------------
# The fleet, as its users see it.
# ---------------------------------------------------------------------------------------------

def passwords():
    """How they are proven. SCRAM costs a client milliseconds on purpose, and under a thread sanitizer
    a hundred times that: there, MD5 will do."""
    how = os.environ.get("PQR_FLEET_PASSWORDS", "")
    return {"password_encryption": how} if how else {}


class Fleet:
    """See the top of this file."""

    def __init__(self, shards=2, replicas=2, redis=True, control=False, durable=False, sync=False,
                 max_connections=200, settings=None, folder=None, owner=0, say=None, tls=False,
                 pgbouncer=False):
        if shards < 1 or replicas < 0:
            raise FleetError("a fleet has one shard or more, and no less than 0 replicas")
        if sync and not replicas:
            raise FleetError("a commit cannot wait for a standby where there is none: "
                             "sync needs replicas")
        if tls and pgbouncer:
            raise FleetError("the poolers of a fleet speak no TLS: tls or pgbouncer, not both")
        self.folder = new_folder(folder)
        self._say, self._began = say or (lambda line: None), time.monotonic()
        self._facts = {
            "bin": find_postgres(), "redis": redis and find_redis(), "user": run_user(),
            "shards": shards, "replicas": replicas, "control": control, "sync": sync,
            "tls": tls and find_openssl(), "pgbouncer": pgbouncer and find_pgbouncer(),
            "password": "p@ss/w%rd:?#[]&=+" + os.urandom(6).hex(),
            "settings": {**SETTINGS, **durability(durable), **passwords(),
                         "max_connections": str(max_connections), **(settings or {})},
        }
        self._process = None
        if owner:
            os.close(open_process(owner))       # to know now, and not when all is built
        try:
            self._start_keeper()
            self._build()
            if owner != 0:
                self._ask("adopt", owner)       # until here it was ours: half a fleet must not stay
        except BaseException as e:
            killed = isinstance(e, Exception) and "janitor" in self._facts and not self._is_up()
            self.down()
            if killed:          # what broke then is only a consequence
                raise FleetError("the fleet was taken away during its start") from None
            raise

    @classmethod
    def attach(cls, folder=None):
        self = cls.__new__(cls)
        self.folder = os.path.realpath(folder or os.environ.get("PQR_FLEET") or only_fleet())
        self._say, self._process = (lambda line: None), None
        try:
            with open(self._path("fleet.json")) as f:
                self._facts = json.load(f)
        except FileNotFoundError:
            raise FleetError(f"no fleet is up in {self.folder}") from None
        except PermissionError:
            raise FleetError(f"the fleet in {self.folder} is another user's") from None
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.down()

    @property
    def nodes(self):
        return list(self._facts["ports"])

    # --- Coming up and going down

    def _start_keeper(self):
        """A new process, not a fork: the caller may have threads."""
        fd = open_process(os.getpid())
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", os.path.abspath(__file__), "keep", self.folder, str(fd),
             str(os.getuid())],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True,
            env={**CLEAN_ENV, "TMPDIR": temporary_folder()}, pass_fds=[fd])
        os.close(fd)
        with self._process.stdout as pipe:
            reply = json.loads(pipe.readline() or '{"error": "the keeper did not start"}')
        if "error" in reply:
            raise FleetError(reply["error"])
        self._facts.update(reply)

    def _build(self):
        names = list(self._all_nodes())
        if self._facts["pgbouncer"]:
            names += [pooler_of(n) for n in names]
        names += ["redis"] * bool(self._facts["redis"])
        self._facts["ports"] = dict(zip(names, self._ask("ports", len(names))))
        if self._facts["redis"]:
            os.mkdir(self._data("redis"))
            self._own(self._data("redis"))
            self._launch("redis")
        if self._facts["tls"]:
            self._make_certificates()
        self._init_primaries()
        self._copy_replicas()
        self._start_all()
        self._write(self._path("fleet.json"), json.dumps(self._facts, indent=1))
        self._step(f"the fleet is up: {', '.join(names)}", since=self._began)

    def _all_nodes(self):
        if self._facts["control"]:
            yield "control/primary"
        for shard in range(self._facts["shards"]):
            yield f"shard{shard}/primary"
            for replica in range(1, self._facts["replicas"] + 1):
                yield f"shard{shard}/replica{replica}"

    def _make_certificates(self):
        began = time.monotonic()
        os.mkdir(self._path("tls"))
        self._own(self._path("tls"))
        for name, how in (("ca", []), ("other", []),
                          ("server", ["-CA", "ca.crt", "-CAkey", "ca.key", "-addext",
                                      f"subjectAltName=DNS:{TLS_NAME}",
                                      "-addext", "basicConstraints=critical,CA:FALSE"])):
            done = subprocess.run(
                [self._facts["tls"], "req", "-x509", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj",
                 f"/CN={name} of a throw-away fleet", "-keyout", name + ".key",
                 "-out", name + ".crt", *how],
                cwd=self._path("tls"), env=CLEAN_ENV, stdin=subprocess.DEVNULL,
                capture_output=True, text=True)
            if done.returncode != 0:
                raise FleetError(f"openssl made no certificate: {done.stderr.strip()}")
            for ending in (".key", ".crt"):
                self._own(self._path("tls", name + ending))
        self._step("certificates", since=began)

    def _init_primaries(self):
        """Each by its own initdb, so that each shard has its own system identifier. What is in
        all of them is put in before the first start, so that the copies have it from birth: also
        the settings that a standby compares with its primary's, which are in the control file."""
        began = time.monotonic()
        primaries = [n for n in self.nodes if n.endswith("/primary")]
        self._run_each(primaries, lambda n: (
            ["initdb", "-D", self._data(n), "-U", "postgres", "-A", "trust", "-E", "UTF8",
             "--locale=C.UTF-8", "--no-sync", "--no-instructions"], ""))
        self._step(f"initdb of {len(primaries)}", since=began)
        began = time.monotonic()
        for n in primaries:
            self._configure(n)
        self._run_each(primaries, lambda n: (
            ["postgres", "--single", "-c", "exit_on_error=on", "-c", "synchronous_standby_names=",
             "-D", self._data(n), "postgres"],
            f"create role app login password '{self._facts['password']}'\n"
            "grant pg_monitor to app\n"
            "create database app owner app\n"))
        self._step("role and database app", since=began)

    def _copy_replicas(self):
        began = time.monotonic()
        replicas = [n for n in self.nodes if "/replica" in n]
        self._run_each(replicas, lambda n: (
            ["cp", "-a", self._data(primary_at_birth(n)), self._data(n)], ""))
        for n in replicas:
            self._configure(n, follows=primary_at_birth(n))
        if replicas:
            self._step(f"copies for {len(replicas)} replicas", since=began)

    def _start_all(self):
        began = time.monotonic()
        for n in self.nodes:
            if is_postgres(n):
                self._launch(n)
        for n in filter(is_postgres, self.nodes):
            if self._facts["pgbouncer"]:
                self._configure_pooler(pooler_of(n), n)
                self._launch(pooler_of(n))
        self._await_ready(self.nodes)
        for n in self.nodes:
            if "/replica" in n:
                self._await_streaming(n, primary_at_birth(n))
        self._step("servers start", since=began)

    def down(self):
        janitor = self._facts.get("janitor")
        if janitor:
            try:
                fd = os.pidfd_open(janitor)
            except ProcessLookupError:
                fd = -1
            try:
                self._ask("down")
            except FleetError:
                pass                # ending already
            if fd >= 0 and not ended_within(fd, DOWN_S):
                raise FleetError(f"the fleet in {self.folder} does not end; "
                                 f"kill its keeper, process {self._facts['keeper']}")
        if self._process:
            if not janitor:
                self._process.terminate()       # interrupted before it could say a word
            self._process.wait()
        return f"the fleet in {self.folder} is gone"

    def _is_up(self):
        try:
            self._ask("look")
            return True
        except FleetError:
            return False

    def wait(self):
        """Until the fleet is gone. Only where it was started."""
        return self._process.wait()

    # --- What it is

    def env(self):
        ports, shards = self._facts["ports"], self._facts["shards"]
        urls = {}
        if self._facts["control"]:
            urls["DATABASE_PRIMARY_URL"] = self._url("control/primary")
        alone = shards == 1 and not self._facts["control"]
        if not alone:
            urls["DATABASE_SHARD_COUNT"] = str(shards)
        for shard in range(shards):
            prefix = "DATABASE_" if alone else f"DATABASE_SHARD_{shard}_"
            urls[prefix + ("PRIMARY_URL" if alone else "URL")] = self._url(f"shard{shard}/primary")
            for n in range(1, self._facts["replicas"] + 1):
                urls[f"{prefix}REPLICA_{n}_URL"] = self._url(f"shard{shard}/replica{n}")
        if "redis" in ports:
            urls["REDIS_URL"] = f"redis://127.0.0.1:{ports['redis']}/0"
        if self._facts["pgbouncer"]:        # the servers' own ports: the URLs do not lead there
            urls["PQR_FLEET_PORTS"] = " ".join(f"{n}={p}" for n, p in ports.items() if is_postgres(n))
        urls["PQR_FLEET"] = self.folder
        return urls

    def _url(self, node):
        password = "".join(c if c.isalnum() else f"%{ord(c):02X}" for c in self._facts["password"])
        port = self._facts["ports"][pooler_of(node) if self._facts["pgbouncer"] else node]
        if not self._facts["tls"]:
            return f"postgresql://app:{password}@127.0.0.1:{port}/app"
        return (f"postgresql://app:{password}@{TLS_NAME}:{port}/app?hostaddr=127.0.0.1"
                f"&sslrootcert={self._path('tls', 'ca.crt')}")

    def status(self):
        """[{node, port, pid, role, timeline, position, paused, system}, …]; None: not known now.
        role: primary, standby, down, stopped, starting; up for Redis and poolers."""
        look = self._ask("look")
        rows = [{"node": n, "port": p, "pid": look[n]["pid"], "role": self._role(n, look[n]),
                 "timeline": None, "position": None, "paused": None, "system": None}
                for n, p in self._facts["ports"].items()]
        asked = [(row, subprocess.Popen(self._psql(row["node"], STATUS_SQL), env=psql_env(2),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True))
                 for row in rows if row["role"] == "ready"]
        for row, psql in asked:
            row.update(parse_status(finish(psql, 5)))
        return rows

    def _role(self, node, look):
        """As far as the outside of the server tells."""
        if look["pid"] is None:
            return "down"
        if look["state"] in ("T", "t"):
            return "stopped"
        if not self._is_ready(node, look["pid"]):
            return "starting"
        return "ready" if is_postgres(node) else "up"

    def sql(self, node, *statements, user="postgres", database="app", timeout=60):
        node = self._answering(node)
        psql = self._psql(node, *statements, user=user, database=database)
        try:
            done = subprocess.run(psql, env=psql_env(5), stdin=subprocess.DEVNULL, text=True,
                                  capture_output=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise FleetError(f"{node}: no answer in {timeout} s to: {statements[-1]}") from None
        if done.returncode != 0:
            raise FleetError(f"{node}: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")

    def _psql(self, node, *statements, user="postgres", database="app"):
        argv = [os.path.join(self._facts["bin"], "psql"), "-AtqX", "-v", "ON_ERROR_STOP=1",
                "-h", self._path("socket"), "-p", str(self._facts["ports"][node]),
                "-U", user, "-d", database]
        for statement in statements:
            argv += ["-c", statement]
        return argv

    # --- Faults

    def kill(self, node):
        node = self._server(node)
        self._until(f"{node} is dead", lambda: not self._ask("signal_all", node, signal.SIGKILL)
                    and self._look(node)["pid"] is None)
        return f"{node} is dead"

    def start(self, node):
        node = self._server(node)
        look = self._look(node)
        if look["state"] in ("T", "t"):
            raise FleetError(f"{node} is stopped, not dead: `cont {node}` lets it go on")
        if look["pid"] is None:
            self.kill(node)         # children of a server that somebody else killed
            self._launch(node)
        self._await_ready([node])
        return f"{node} is up, port {self._facts['ports'][node]}"

    def stop(self, node):
        node = self._running(node)
        self._until(f"{node} is stopped", lambda: all(
            state == "T" for _, state in self._ask("signal_all", node, signal.SIGSTOP)))
        return f"{node} is stopped: it holds its connections and answers nothing"

    def cont(self, node):
        node = self._running(node)
        self._until(f"{node} goes on", lambda: all(
            state != "T" for _, state in self._ask("signal_all", node, signal.SIGCONT)))
        return f"{node} goes on"

    def shutdown(self, node, mode="fast"):
        node = self._server(node)
        look = self._look(node)
        if look["state"] in ("T", "t"):
            raise FleetError(f"{node} is stopped and cannot shut down: `cont` or `kill` it")
        if mode not in STOP_SIGNALS:
            raise FleetError(f"mode {mode}: one of {', '.join(STOP_SIGNALS)}")
        if look["pid"] is not None:
            self._ask("signal", node, STOP_SIGNALS[mode] if is_postgres(node) else signal.SIGTERM)
            self._until(f"{node} is shut down", lambda: self._look(node)["pid"] is None)
        return f"{node} is shut down"

    def restart(self, node, mode="fast"):
        self.shutdown(node, mode)
        return self.start(node)

    def promote(self, node):
        node = self._answering(node)
        if self._is_standby(node):
            self.sql(node, "select pg_promote(false)")
            self._until(f"{node} is a primary", lambda: not self._is_standby(node))
        return f"{node} is a primary"

    def rejoin(self, node, source=None):
        """From a fresh base backup: right whatever the two have written since they parted."""
        node = self._server(node, "rejoin")
        source = self._answering(source) if source else self._primary_beside(node)
        if source == node or shard_of(source) != shard_of(node) or self._is_standby(source):
            raise FleetError(f"{node} cannot follow {source}, only another server of its shard "
                             "that is a primary")
        self.kill(node)
        self._ask("wipe", node)
        self._run_each([node], lambda n: (
            ["pg_basebackup", "-D", self._data(n), "-h", self._path("socket"),
             "-p", str(self._facts["ports"][source]), "-U", "postgres", "-X", "stream",
             "-c", "fast", "--no-sync"], ""))
        self._configure(node, follows=source)
        self._launch(node)
        self._await_ready([node])
        self._await_streaming(node, source)
        return f"{node} is a standby of {source}"

    def pause_replay(self, node):
        node = self._standby(node, "replay")
        self.sql(node, "select pg_wal_replay_pause()")
        self._until(f"{node} pauses replay", lambda: self._pause_state(node) == "paused")
        return f"{node} has paused replay"

    def resume_replay(self, node):
        node = self._standby(node, "replay")
        self.sql(node, "select pg_wal_replay_resume()")
        self._until(f"{node} resumes replay", lambda: self._pause_state(node) == "not paused")
        return f"{node} replays"

    def cut_receiver(self, node):
        node = self._standby(node, "receiver")
        self.sql(node, "alter system set primary_conninfo = ''", "select pg_reload_conf()")
        self._until(f"{node} stops streaming", lambda: not self._receiver_pid(node))
        return f"{node} does not stream"

    def _receiver_pid(self, node):
        """While replay is paused, nobody ends the receiver when its setting changes: we do."""
        pid, paused = self.sql(node, "select (select pid from pg_stat_wal_receiver), "
                               "pg_is_wal_replay_paused()").split("|")
        if pid and paused == "t":
            signal_each([(int(pid), None)], signal.SIGTERM)
        return pid

    def join_receiver(self, node):
        node = self._standby(node, "receiver")
        self.sql(node, "alter system reset primary_conninfo", "select pg_reload_conf()")
        if self._pause_state(node) != "not paused" and not self._is_receiving(node):
            return f"{node} streams again once its replay resumes"
        self._until(f"{node} streams (is its primary up?)", lambda: self._is_receiving(node))
        return f"{node} streams"

    # --- Nodes, and what must hold of them for a verb

    def _server(self, node, verb=None):
        """The node's name as we write it."""
        name = node.replace("-", "/", 1)
        if name not in self._facts["ports"]:
            raise FleetError(f"no node {node}; there are {', '.join(self.nodes)}")
        if verb and not is_postgres(name):
            raise FleetError(f"{name} has no {verb}")
        return name

    def _running(self, node, verb=None):
        node = self._server(node, verb)
        if self._look(node)["pid"] is None:
            raise FleetError(f"{node} is down: `start {node}` first")
        return node

    def _answering(self, node):
        node = self._running(node, "sql")
        if self._look(node)["state"] in ("T", "t"):
            raise FleetError(f"{node} is stopped: `cont {node}` first")
        return node

    def _standby(self, node, what):
        node = self._answering(node)
        if not self._is_standby(node):
            raise FleetError(f"{node} is a primary and has no {what}")
        return node

    def _primary_beside(self, node):
        found = [row["node"] for row in self.status() if row["role"] == "primary"
                 and shard_of(row["node"]) == shard_of(node) and row["node"] != node]
        if len(found) != 1:
            raise FleetError(f"{node} can follow {' or '.join(found) or 'nobody'}: "
                             + ("say which with --from" if found else
                                f"no other server of {shard_of(node)} is a primary; "
                                "`promote` one or `start` it"))
        return found[0]

    def _is_standby(self, node):
        return self.sql(node, "select pg_is_in_recovery()") == "t"

    def _pause_state(self, node):
        return self.sql(node, "select pg_get_wal_replay_pause_state()")

    def _is_receiving(self, node):
        return self.sql(node, "select status from pg_stat_wal_receiver") == "streaming"

    def _is_ready(self, node, pid):
        """Does it accept connections? PostgreSQL says so in the last line of postmaster.pid."""
        if node == "redis":
            return redis_answers(self._facts["ports"][node])
        if not is_postgres(node):
            return listens(self._facts["ports"][node])
        try:
            with open(os.path.join(self._data(node), "postmaster.pid")) as f:
                lines = f.read().split("\n")
            return int(lines[0]) == pid and lines[7].strip() == "ready"
        except (OSError, IndexError, ValueError):
            return False

    # --- Doing

    def _ask(self, *request):
        """The keeper's answer."""
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(10)
                s.connect(self._path("keeper.sock"))
                s.sendall(json.dumps(request).encode() + b"\n")
                reply = json.loads(s.makefile("r").readline())
        except (OSError, ValueError):
            raise FleetError(f"the fleet in {self.folder} has gone") from None
        if "error" in reply:
            raise FleetError(reply["error"])
        return reply["ok"]

    def _look(self, node):
        return self._ask("look")[node]

    def _launch(self, node):
        """Start without waiting. The keeper knows that the last one is dead, so its lock files
        say nothing, and could only name an unrelated process that has got its number since."""
        port = self._facts["ports"][node]
        if node == "redis":
            argv = [self._facts["redis"], "--port", str(port), "--bind", "127.0.0.1",
                    "--save", "", "--appendonly", "no", "--dir", self._data(node)]
        elif not is_postgres(node):
            argv = [self._facts["pgbouncer"], os.path.join(self._data(node), "pgbouncer.ini")]
        else:
            argv = [os.path.join(self._facts["bin"], "postgres"), "-D", self._data(node)]
            for stale in (os.path.join(self._data(node), "postmaster.pid"),
                          self._path("socket", f".s.PGSQL.{port}.lock")):
                if os.path.exists(stale):
                    os.unlink(stale)
        self._ask("start", node, argv, self._data(node), self._log(node))

    def _await_ready(self, nodes):
        def ready():
            look = self._ask("look")
            for n in nodes:
                if look[n]["pid"] is None:
                    raise FleetError(f"{n} did not start; the end of {self._log(n)}:\n"
                                     + tail(self._log(n)))
            return all(self._is_ready(n, look[n]["pid"]) for n in nodes)
        self._until(f"ready: {', '.join(nodes)}", ready, START_S)

    def _await_streaming(self, node, source):
        self._until(f"{node} streams from {source}", lambda: self.sql(
            source, "select 1 from pg_stat_replication where state = 'streaming' "
            f"and application_name = '{node}'"))

    def _until(self, what, condition, seconds=WAIT_S):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise FleetError(f"not so after {seconds} s: {what}")
            time.sleep(0.01)

    def _configure(self, node, follows=None):
        """All settings of a server, as of its birth."""
        data = self._data(node)
        mine = {"cluster_name": node, "port": self._facts["ports"][node],
                "listen_addresses": "127.0.0.1",
                "unix_socket_directories": self._path("socket")}
        if self._facts["sync"] and (others := self._others_of_shard(node)):
            mine["synchronous_standby_names"] = f"ANY 1 ({', '.join(others)})"
        if self._facts["tls"]:
            mine |= {"ssl": "on", "ssl_cert_file": self._path("tls", "server.crt"),
                     "ssl_key_file": self._path("tls", "server.key")}
        if follows:
            mine["primary_conninfo"] = (f"host={conninfo(self._path('socket'))} user=postgres "
                                        f"port={self._facts['ports'][follows]} "
                                        f"application_name={conninfo(node)}")
            self._write(os.path.join(data, "standby.signal"), "")
        self._write(os.path.join(data, "postgresql.conf"), "".join(
            f"{name} = {literal(value)}\n"
            for name, value in {**self._facts["settings"], **mine}.items()))
        self._write(os.path.join(data, "postgresql.auto.conf"), "")
        self._write(os.path.join(data, "pg_hba.conf"), HBA)

    def _configure_pooler(self, pooler, node):
        data, ports = self._data(pooler), self._facts["ports"]
        os.mkdir(data)
        self._own(data)
        users = os.path.join(data, "users.txt")
        self._write(users, f'"app" "{self._facts["password"]}"\n"postgres" ""\n')
        self._write(os.path.join(data, "pgbouncer.ini"), POOLER.format(
            socket=literal(self._path("socket")), port=ports[node], listen=ports[pooler],
            users=users))

    def _others_of_shard(self, node):
        return [f'"{n}"' for n in self.nodes
                if is_postgres(n) and n != node and shard_of(n) == shard_of(node)]

    def _run_each(self, nodes, job):
        """Run a program for each node, all at once, as the servers' user; job(node) is its argv
        and its input."""
        running = []
        for n in nodes:
            argv, text = job(n)
            if argv[0] != "cp":
                argv[0] = os.path.join(self._facts["bin"], argv[0])
            with open(self._log(n), "a") as log:
                self._own(self._log(n))
                running.append((n, argv, subprocess.Popen(
                    argv, env=CLEAN_ENV, cwd=self._path("data"), stdin=subprocess.PIPE,
                    stdout=log, stderr=log, start_new_session=True, **self._as_run_user())))
            with contextlib.suppress(BrokenPipeError), running[-1][2].stdin as pipe:
                pipe.write(text.encode())   # who has ended already says why in its log
        for n, argv, process in running:
            if exit_status(process, START_S) != 0:
                raise FleetError(f"{n}: {os.path.basename(argv[0])} failed:\n{tail(self._log(n))}")

    def _as_run_user(self):
        if os.geteuid() != 0:
            return {}
        _, uid, gid = self._facts["user"]
        return {"user": uid, "group": gid, "extra_groups": []}

    def _own(self, path):
        """Give to the servers' user what root has made."""
        if os.geteuid() == 0:
            os.chown(path, *self._facts["user"][1:])

    def _write(self, path, text):
        with open(path + ".new", "w") as f:
            f.write(text)
        self._own(path + ".new")
        os.rename(path + ".new", path)

    def _step(self, what, since):
        self._say(f"{time.monotonic() - since:6.2f} s  {what}")

    def _path(self, *names):
        return os.path.join(self.folder, *names)

    def _data(self, node):
        return self._path("data", node.replace("/", "-"))

    def _log(self, node):
        return self._path("log", node.replace("/", "-") + ".log")


def new_folder(folder):
    """The path of the folder to make."""
    if not folder:
        folder = os.path.join(temporary_folder(), "pqrouter-fleet-" + os.urandom(4).hex())
    folder = os.path.realpath(folder)
    if len(os.path.join(folder, "socket", ".s.PGSQL.65535").encode()) > 107:
        raise FleetError(f"{folder} is too long for the path of a socket; use a shorter --dir")
    return folder


def only_fleet():
    """The folder of this user's only fleet."""
    mine = sorted(folder for folder, uid in keepers() if uid == os.getuid())
    if len(mine) == 1:
        return mine[0]
    raise FleetError("more than one fleet is up; say which with --dir or $PQR_FLEET:\n  "
                     + "\n  ".join(mine) if mine else "no fleet is up; `fleet.py up` starts one")


def find_postgres():
    top = "/usr/lib/postgresql"
    found = [v for v in os.listdir(top) if v.isdigit()] if os.path.isdir(top) else []
    for version in sorted(found, key=int, reverse=True):
        folder = os.path.join(top, version, "bin")
        if int(version) >= 14 and all(os.access(os.path.join(folder, p), os.X_OK) for p in
                                      ("postgres", "initdb", "psql", "pg_basebackup")):
            return folder
    raise FleetError(f"no PostgreSQL server, 14 or newer, in {top}; "
                     "its Debian package: apt install postgresql")


def find_redis():
    for folder in ("/usr/bin", "/usr/local/bin"):
        if os.access(path := os.path.join(folder, "redis-server"), os.X_OK):
            return path
    raise FleetError("no redis-server; its Debian package: apt install redis-server; "
                     "or do without it: --no-redis")


def find_openssl():
    for folder in ("/usr/bin", "/usr/local/bin"):
        if os.access(path := os.path.join(folder, "openssl"), os.X_OK):
            return path
    raise FleetError("no openssl, which TLS needs; its Debian package: apt install openssl")


def find_pgbouncer():
    for folder in ("/usr/sbin", "/usr/bin", "/usr/local/bin"):
        if os.access(path := os.path.join(folder, "pgbouncer"), os.X_OK):
            return path
    raise FleetError("no pgbouncer; its Debian package: apt install pgbouncer")


def durability(durable):
    return {"fsync": "on", "full_page_writes": "on"} if durable else \
           {"fsync": "off", "full_page_writes": "off"}


def open_process(pid):
    """A descriptor that becomes readable when the process ends."""
    try:
        return os.pidfd_open(pid)
    except OSError as e:
        raise FleetError(f"owner {pid}: {e.strerror}") from None


def ended_within(pidfd, seconds):
    import select
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ended = bool(poll.poll(seconds * 1000))
    os.close(pidfd)
    return ended


def shard_of(node):
    return node.partition("/")[0]


def primary_at_birth(node):
    return shard_of(node) + "/primary"


def is_postgres(node):
    return node != "redis" and "/pooler" not in node


def pooler_of(node):
    """shard0/replica1 → shard0/pooler1"""
    return node.replace("/primary", "/pooler").replace("/replica", "/pooler")


def listens(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def redis_answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as s:
            s.sendall(b"PING\r\n")
            return s.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def psql_env(connect_s):
    return {**CLEAN_ENV, "PGCONNECT_TIMEOUT": str(connect_s)}


def exit_status(process, seconds):
    """None: it took too long and was killed."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def finish(psql, seconds):
    """Its output; nothing when it takes too long."""
    try:
        return psql.communicate(timeout=seconds)[0].strip()
    except subprocess.TimeoutExpired:
        psql.kill()
        psql.communicate()
        return ""


def parse_status(line):
    if not line:
        return {"role": "starting"}
    standby, timeline, position, paused, system = line.split("|")
    return {"role": "standby" if standby == "t" else "primary", "timeline": int(timeline),
            "position": position or None, "paused": {"t": True, "f": False}.get(paused),
            "system": system}


def literal(value):
    return "'" + str(value).replace("'", "''") + "'"


def conninfo(value):
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def tail(path, lines=15):
    try:
        with open(path, errors="replace") as f:
            return "".join(f.readlines()[-lines:]).rstrip()
    except OSError as e:
        return str(e)


# ---------------------------------------------------------------------------------------------
# The command.
# ---------------------------------------------------------------------------------------------

USAGE = """\
examples:
  test/fleet.py up                          2 shards x (1 primary + 2 replicas), Redis; until Ctrl-C
  test/fleet.py up --detach --shards 1      …until `down`
  eval "$(test/fleet.py env)"               its URLs for this shell
  test/fleet.py up -- make check            run a command with a fleet of its own

  test/fleet.py status
  test/fleet.py kill shard0/primary         then: promote shard0/replica1, rejoin shard0/primary
  test/fleet.py pause-replay shard0/replica1
  test/fleet.py sql shard1/primary 'select count(*) from t'
  test/fleet.py down

A node is called shard0/primary, shard0/replica1, control/primary or redis; shard0-replica1 is
understood too. Which fleet: --dir, else $PQR_FLEET, else the only one of this user that is up.
Exit status: 0 done; 1 not done, stderr says why; 2 usage. docs/fleet.md has more."""

NODE_VERBS = {
    "kill": "SIGKILL a server and all its children",
    "start": "start a server that is down",
    "stop": "SIGSTOP a server and all its children: it is frozen",
    "cont": "SIGCONT them all",
    "shutdown": "shut a server down in good order",
    "restart": "shut it down and start it",
    "promote": "make a standby a primary",
    "rejoin": "make a server, dead or alive, a standby of its shard's primary",
    "pause-replay": "a standby goes on to receive, and replays no more",
    "resume-replay": "it replays again",
    "cut-receiver": "a standby receives no more",
    "join-receiver": "it receives again",
}


def parser():
    import argparse

    def shape(prog):
        return argparse.RawDescriptionHelpFormatter(prog, max_help_position=20, width=100)

    top = argparse.ArgumentParser(
        prog="fleet.py", formatter_class=shape, epilog=USAGE, allow_abbrev=False,
        description="A throw-away PostgreSQL fleet with Redis, on this machine.")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--dir", metavar="DIR", help="the folder of the fleet")

    def verb(name, text, **more):
        return verbs.add_parser(name, help=text, description=text, parents=[where],
                                formatter_class=shape, allow_abbrev=False, **more)

    add_up(verb("up", "start a fleet; with -- COMMAND, only while that runs",
                usage="fleet.py up [option …] [-- COMMAND ARG …]"))
    for name, text in (("env", "print the URLs of its servers, for a shell's eval"),
                       ("status", "print what each server is and does now")):
        verb(name, text).add_argument("--json", action="store_true")
    verb("down", "take the fleet away")
    sql = verb("sql", "run a statement with psql")
    sql.add_argument("node", metavar="NODE")
    sql.add_argument("statement", metavar="STATEMENT", nargs="+")
    sql.add_argument("--user", default="postgres", help="default: postgres, the superuser")
    sql.add_argument("--database", default="app", help="default: app")
    sql.add_argument("--timeout", type=float, default=60, metavar="S", help="default: 60")
    for name, text in NODE_VERBS.items():
        v = verb(name, text)
        v.add_argument("node", metavar="NODE")
        if name in ("shutdown", "restart"):
            v.add_argument("--mode", choices=list(STOP_SIGNALS), default="fast")
        if name == "rejoin":
            v.add_argument("--from", dest="source", metavar="NODE",
                           help="follow this primary, where there are two")
    return top


def add_up(up):
    up.add_argument("--shards", type=count(1), default=2, metavar="N", help="default: 2")
    up.add_argument("--replicas", type=count(0), default=2, metavar="N",
                    help="of each shard; default: 2")
    up.add_argument("--no-redis", dest="redis", action="store_false")
    up.add_argument("--control", action="store_true", help="one more primary: control/primary")
    up.add_argument("--durable", action="store_true", help="fsync and full_page_writes on")
    up.add_argument("--sync", action="store_true", help="a commit waits for one standby")
    up.add_argument("--tls", action="store_true",
                    help="the servers have certificates for fleet.test, by a CA of their own")
    up.add_argument("--pgbouncer", action="store_true",
                    help="a PgBouncer before each server, in transaction mode; the URLs lead there")
    up.add_argument("--max-connections", type=count(30), default=200, metavar="N",
                    help="default: 200")
    up.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings",
                    help="a setting for every PostgreSQL server; may be repeated")
    stay = up.add_mutually_exclusive_group()
    stay.add_argument("--detach", action="store_true", help="return when it is up; until `down`")
    stay.add_argument("--owner", type=int, metavar="PID",
                      help="return when it is up; until that process ends or `down`")


def count(least):
    def number(text):
        if int(text) < least:
            raise ValueError
        return int(text)
    number.__name__ = f"number, at least {least},"      # argparse: "invalid … value"
    return number


def main(argv):
    cut = argv.index("--") if "--" in argv else len(argv)
    command = argv[cut + 1:]
    top = parser()
    args = top.parse_args(argv[:cut])
    if cut < len(argv) and (args.verb != "up" or not command or args.detach or args.owner):
        top.error("-- COMMAND goes with `up`, without --detach and --owner")
    try:
        if args.verb == "up":
            return up(args, command, top)
        return act(Fleet.attach(args.dir), args)
    except BrokenPipeError:         # of our stdout: `status | head`
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
    except (FleetError, OSError) as e:
        print(f"fleet.py: {e}", file=sys.stderr)
    except KeyboardInterrupt as e:
        return 128 + signal_of(e)
    return 1


def up(args, command, top):
    settings = dict(pair.partition("=")[::2] for pair in args.settings)
    if not all("=" in pair for pair in args.settings):
        top.error("--set takes NAME=VALUE")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):     # INT: a shell's & ignores it
        signal.signal(number, interrupt)
    fleet = Fleet(args.shards, args.replicas, args.redis, args.control, args.durable, args.sync,
                  args.max_connections, settings, args.dir,
                  owner=None if args.detach else args.owner or 0,
                  say=lambda line: print(line, file=sys.stderr, flush=True), tls=args.tls,
                  pgbouncer=args.pgbouncer)
    if command:
        with fleet:
            return run_command(command, {**without(strangers()), **fleet.env()})
    print(fleet.folder, flush=True)
    print(f"use it:  eval \"$({sys.argv[0]} env --dir {fleet.folder})\"", file=sys.stderr)
    if args.detach or args.owner:
        return 0
    try:
        if fleet.wait() == 0:
            return 0
        raise FleetError("the fleet's keeper was killed; all is gone")
    except KeyboardInterrupt as e:
        fleet.down()
        return 0 if signal_of(e) == signal.SIGINT else 128 + signal_of(e)


def interrupt(number, _):
    raise KeyboardInterrupt(number)


def signal_of(interruption):
    return interruption.args[0] if interruption.args else signal.SIGINT


def strangers():
    """The inherited variables that could lead an application to other servers than a fleet's."""
    return [name for name in os.environ
            if name.startswith(("DATABASE_", "REDIS_URL", "PQR_FLEET_PORTS"))]


def without(names):
    return {name: value for name, value in os.environ.items() if name not in names}


def run_command(command, env):
    """Its exit status. Ctrl-C reaches the command by itself; what is sent to us is passed on."""
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        process = subprocess.Popen(command, env=env)
    except OSError as e:
        print(f"fleet.py: {command[0]}: {e.strerror}", file=sys.stderr)
        return 127
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: process.send_signal(number))
    status = process.wait()
    return status if status >= 0 else 128 - status


def act(fleet, args):
    if args.verb == "env":
        show_env(fleet.env(), args.json)
    elif args.verb == "status":
        show_status(fleet.status(), args.json)
    elif args.verb == "sql":
        answer = fleet.sql(args.node, *args.statement, user=args.user, database=args.database,
                           timeout=args.timeout)
        if answer:
            print(answer)
    elif args.verb == "down":
        print(fleet.down())
    else:
        given = {name: vars(args)[name] for name in ("mode", "source") if name in args}
        print(getattr(fleet, args.verb.replace("-", "_"))(args.node, **given))
    return 0


def show_env(env, as_json):
    if as_json:
        print(json.dumps(env, indent=1))
        return
    for name in strangers():
        if name not in env:
            print("unset", name)
    for name, value in env.items():
        print("export {}='{}'".format(name, value.replace("'", "'\\''")))


def show_status(rows, as_json):
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = [list(rows[0])] + [[cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = [" " + " | ".join(map(str.ljust, line, widths)) for line in table]
    lines.insert(1, "+".join("-" * (width + 2) for width in widths))
    print("\n".join(line.rstrip() for line in lines))


def cell(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


if __name__ == "__main__":
    if sys.argv[1:2] == ["keep"]:
        keep(sys.argv[2], int(sys.argv[3]))
    sys.exit(main(sys.argv[1:]))
