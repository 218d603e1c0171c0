#!/usr/bin/env python3
"""A proxy before each server that speaks enough of PostgreSQL's protocol to know where a message
begins. Started as `net.py PORT …` it listens on a free port for each, prints those, and takes one
JSON list [which, fault, {how}] a line on standard input, answered by "ok". Ends with its input.

  pass                      forwards again; connections that have lost bytes are reset
  delay     ms              each piece later by so much
  chunk     bytes           in such pieces
  swallow                   what the server says is dropped; it works on
  blackhole                 nothing passes in either direction, new connections neither
  refuse                    new connections are reset
  cut       side, type, where, one_in, quietly
                            resets (quietly: closes) a connection before, inside or behind a message
                            of this type from this side ("server" or "client"), one in so many
"""

import asyncio
import collections
import json
import logging
import os
import random
import socket
import struct
import subprocess
import sys
import threading

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
OTHER = {"client": "server", "server": "client"}


class Framer:
    """Where messages begin in one direction of a connection."""

    def __init__(self, typed):
        self.typed = typed      # not yet: a client's first ones, which have no type
        self.opaque = False     # encrypted: nothing is to be known
        self.single = 0         # so many bytes come without any frame: the answer to SSLRequest
        self.left = 0           # of the message's body
        self.head = b""

    def feed(self, data):
        """[(type, begin, end of what is here), …] of messages that begin in these bytes; begin is
        where the head is complete, so 0 for one whose head began in an earlier piece."""
        found, at = [], 0
        while at < len(data) and not self.opaque:
            if self.single:
                self.opaque = data[at:at + 1] == b"S"
                self.single, at = 0, at + 1
            elif self.left:
                step = min(self.left, len(data) - at)
                self.left, at = self.left - step, at + step
            else:
                take = data[at:at + 5 - len(self.head)]
                self.head, begin, at = self.head + take, at, at + len(take)
                if len(self.head) == 5:
                    self.left = struct.unpack("!I", self.head[1:])[0] - 4
                    found.append((chr(self.head[0]), begin, min(at + self.left, len(data))))
                    self.head = b""
        return found


class Place:
    """The proxy before one server."""

    def __init__(self, target, chance):
        self.target, self.chance = target, chance
        self.fault, self.how = "pass", {}
        self.links = set()

    def set(self, fault, how):
        self.fault, self.how = fault, how
        for link in [link for link in self.links if link.tainted]:
            link.reset()


class Link:
    """A connection through it: two ends, and what is under way between them."""

    def __init__(self, place):
        self.place, self.ends = place, {}
        self.tainted = False        # it has lost bytes: nothing sensible can follow
        self.framers = {"client": Framer(False), "server": Framer(True)}
        self.waiting = {"client": collections.deque(), "server": collections.deque()}
        place.links.add(self)

    def begin(self):
        if self.place.fault == "refuse":
            self.reset()
        elif self.place.fault == "blackhole":
            self.tainted = True
        else:
            asyncio.ensure_future(self.reach())

    async def reach(self):
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: End(self, "server"), "127.0.0.1", self.place.target)
        except OSError:
            return self.reset()
        self.let_go("client")

    def reset(self):
        """Both ends get RST."""
        self.place.links.discard(self)
        for end in self.ends.values():
            s = end.get_extra_info("socket")
            if s is not None and s.fileno() >= 0:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.abort()

    def end(self):
        """Both ends get FIN."""
        self.tainted = True
        for end in self.ends.values():
            end.close()

    def lost(self, side):
        """One end is gone: the other hears the same."""
        self.place.links.discard(self)
        other = self.ends.get(OTHER[side])
        if other:
            other.close()

    def forward(self, side, data):
        messages = self.look(side, data)
        fault, how = self.place.fault, self.place.how
        if fault == "blackhole" or (fault == "swallow" and side == "server"):
            self.tainted = True
        if self.tainted:
            return
        if fault == "cut" and side == how["side"]:
            for kind, begin, end in messages:
                if kind == how["type"] and self.place.chance.randrange(how["one_in"]) == 0:
                    at = {"before": begin, "inside": (begin + end) // 2, "behind": end}[how["where"]]
                    self.put(side, data[:at])
                    return self.end() if how["quietly"] else self.reset()
        late = how["ms"] / 1000 if fault == "delay" else 0
        if late or self.waiting[side] or OTHER[side] not in self.ends:
            loop = asyncio.get_running_loop()
            self.waiting[side].append((loop.time() + late, data))
            loop.call_later(late, self.let_go, side)
        else:
            self.put(side, data)

    def let_go(self, side):
        """What has waited long enough, in its order."""
        waiting, now = self.waiting[side], asyncio.get_running_loop().time()
        while waiting and waiting[0][0] <= now + 0.001 and OTHER[side] in self.ends:
            self.put(side, waiting.popleft()[1])

    def put(self, side, data):
        end = self.ends.get(OTHER[side])
        if end is None or end.is_closing() or not data:
            return
        step = self.place.how["bytes"] if self.place.fault == "chunk" else len(data)
        chopped = min(len(data), 400) if step < len(data) else 0
        for i in range(0, chopped, step):
            end.write(data[i:min(i + step, chopped)])
        if chopped < len(data):
            end.write(data[chopped:])

    def look(self, side, data):
        """The messages that begin in it. A client's first: SSLRequest and the like, then startup."""
        framer = self.framers[side]
        if side == "client" and not framer.typed:
            number = struct.unpack("!I", data[4:8])[0] if len(data) >= 8 else 0
            if number in (SSL_REQUEST, GSS_REQUEST):
                self.framers["server"].single = 1
            else:
                framer.typed = True
            return []
        return framer.feed(data)


class End(asyncio.Protocol):
    """One end of a link."""

    def __init__(self, link, side):
        self.link, self.side = link, side

    def connection_made(self, transport):
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.link.ends[self.side] = transport
        if self.side == "client":
            self.link.begin()
        elif self.link.ends["client"].is_closing():
            transport.abort()

    def data_received(self, data):
        self.link.forward(self.side, data)

    def connection_lost(self, _):
        self.link.lost(self.side)


def fail(loop, context):
    """A proxy with a fault of its own would be no honest witness."""
    loop.default_exception_handler(context)
    os._exit(1)


async def main(ports, seed):
    asyncio.get_running_loop().set_exception_handler(fail)
    logging.getLogger("asyncio").setLevel(logging.ERROR)    # a write to who is gone is no news
    chance = random.Random(seed)
    places, servers = [], []
    for port in ports:
        place = Place(port, chance)
        places.append(place)
        servers.append(await asyncio.get_running_loop().create_server(
            lambda place=place: End(Link(place), "client"), "127.0.0.1", 0, backlog=512))
    print(json.dumps([s.sockets[0].getsockname()[1] for s in servers]), flush=True)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while (line := await orders.readline()):
        number, fault, how = json.loads(line)
        places[number].set(fault, how)
        print("ok", flush=True)
    os._exit(0)         # there is nothing to be said to anybody


class Net:
    """The proxies, from outside: a process of their own."""

    def __init__(self, nodes, seed):
        """nodes: name → port."""
        self.nodes = list(nodes)
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), str(seed), *map(str, nodes.values())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.lock = threading.Lock()
        self.ports = dict(zip(nodes, json.loads(self.process.stdout.readline())))

    def set(self, node, fault, **how):
        with self.lock:
            self.process.stdin.write(json.dumps([self.nodes.index(node), fault, how]) + "\n")
            self.process.stdin.flush()
            if self.process.stdout.readline() != "ok\n":
                raise OSError("the proxy has ended")

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


if __name__ == "__main__":
    asyncio.run(main([int(p) for p in sys.argv[2:]], int(sys.argv[1])))
