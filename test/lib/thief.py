#!/usr/bin/env python3
"""A proxy that knows PostgreSQL's protocol, and steals an answer.

    thief.py PORT

Listens on a free port of 127.0.0.1 and prints it; forwards to PORT of 127.0.0.1. On standard input,
a line each, at most one theft at a time:

    cut MARK TAG WHEN    on the connection where the client says MARK from now on, when the server
                         completes a command whose tag begins with TAG ("SELECT+1": the second of
                         them). WHEN:
                           before   the client does not get that answer, nor what follows it; it is
                                    cut off when the server has answered the Sync
                           stay     the same, but it is cut off by the line `go`
                           never    the same, and it is not cut off at all
                           sync     the client gets all up to the answer to the Sync, and is cut off
                           after    it gets that answer, and both sides are cut off at once
                           held     it gets that answer and no more, and is cut off by the line `go`
    go

Prints "cut" when the answer is stolen and, but for `stay`, `held` and `never`, the client cut off. Ends
with its input.
"""
import os
import selectors
import socket
import struct
import sys

SSL_REQUEST = 80877103


class Link:
    """One connection: both sockets, and how far the server's messages were read."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.begun = False  # its startup packet has passed
        self.raw = 0  # bytes of the server's that are no message: the answer to a request for TLS
        self.said = b""  # by the client, since a theft was ordered
        self.heard = b""  # from the server, and not a whole message yet
        self.steals = False
        self.waits = None  # for "sync": what ends the theft


class Thief:
    def __init__(self, target):
        self.target = target
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.selector.register(self.listener, selectors.EVENT_READ, None)
        self.selector.register(sys.stdin, selectors.EVENT_READ, None)
        self.order, self.passes = None, 0
        self.stayed = []
        self.input = b""

    def say(self, text):
        print(text, flush=True)

    def accept(self):
        client, _ = self.listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        link = Link(client, server)
        for side in (client, server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.selector.register(side, selectors.EVENT_READ, link)

    def close(self, link, *sides):
        for side in sides or (link.client, link.server):
            if side.fileno() >= 0:
                self.selector.unregister(side)
                side.close()

    def obey(self, line):
        words = line.split()
        if words[0] == "cut":
            tag, _, passes = words[2].partition("+")
            self.order, self.passes = (words[1].encode(), tag.encode(), words[3]), int(passes or 0)
        for link in self.stayed if words[0] == "go" else []:
            self.close(link)
        self.stayed = [] if words[0] == "go" else self.stayed

    def from_client(self, link, data):
        if not link.begun:
            code = struct.unpack("!i", data[4:8])[0] if len(data) >= 8 else 0
            link.raw = 1 if code == SSL_REQUEST else 0
            link.begun = code != SSL_REQUEST
        if self.order:
            link.said = (link.said + data)[-100000:]
        link.server.sendall(data)

    def message(self, link, kind, data):
        """One message of the server's. Returns whether the client gets it."""
        if link.steals:
            if kind == b"Z" and link.waits == "before":
                self.say("cut")
                self.close(link)
            return False
        if kind == b"Z" and link.waits == "sync":
            link.client.sendall(data)
            self.say("cut")
            self.close(link)
            return False
        if not self.order or kind != b"C" or self.order[0] not in link.said:
            return True
        if not data[5:].startswith(self.order[1]):
            return True
        if self.passes:
            self.passes -= 1
            return True
        link.waits, self.order = self.order[2], None
        if link.waits == "sync":
            return True
        if link.waits == "after":
            link.client.sendall(data)
            self.say("cut")
            self.close(link)
            return False
        link.steals = True
        if link.waits in ("stay", "held", "never"):
            self.say("cut")
        if link.waits in ("stay", "held"):
            self.stayed.append(link)
        return link.waits == "held"

    def from_server(self, link, data):
        if link.raw:
            link.client.sendall(data[:1])
            link.raw, data = 0, data[1:]
        link.heard += data
        while len(link.heard) >= 5:
            size = 1 + struct.unpack("!i", link.heard[1:5])[0]
            if len(link.heard) < size:
                break
            one, link.heard = link.heard[:size], link.heard[size:]
            if self.message(link, one[:1], one):
                link.client.sendall(one)
            if link.client.fileno() < 0:
                return

    def hear(self, side, link):
        if side.fileno() < 0:
            return
        try:
            data = side.recv(65536)
            if not data:
                raise OSError
            if side is link.client:
                self.from_client(link, data)
            else:
                self.from_server(link, data)
        except OSError:
            if link.steals and link.waits in ("stay", "held", "never") and side is link.server:
                self.close(link, link.server)  # the client learns nothing of that
            else:
                self.close(link)

    def run(self):
        self.say(self.listener.getsockname()[1])
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    self.accept()
                elif key.fileobj is sys.stdin:
                    data = os.read(0, 4096)
                    if not data:
                        return
                    self.input += data
                    while b"\n" in self.input:
                        line, self.input = self.input.split(b"\n", 1)
                        self.obey(line.decode())
                else:
                    self.hear(key.fileobj, key.data)


if __name__ == "__main__":
    Thief(int(sys.argv[1])).run()
