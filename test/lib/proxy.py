#!/usr/bin/env python3
"""A TCP proxy that counts round trips: how often the client spoke after the server had.

    proxy.py PORT [ADDRESS]

Listens on a free port of 127.0.0.1, or at the same PORT of another ADDRESS, and prints it; forwards
to PORT of 127.0.0.1. On standard input, a line each, answered with the count:

    zero      sets the count to 0
    count     does nothing else
    hole N    swallows: of each connection that is made from now on, what the client says when it speaks
              for the Nth time, and all that either side says from then on; 0: on all connections, at once
    deaf      takes no connection any more: the kernel drops whoever comes
    heal      closes those that were swallowed, and takes new ones again

Ends with its input.

A client that says "drown me" is answered for ten seconds with notices, faster than it can read them.
"""
import os
import selectors
import socket
import sys
import threading
import time

NOTICE = b"SNOTICE\0C00000\0Mx\0\0"
NOTICES = (b"N" + (len(NOTICE) + 4).to_bytes(4, "big") + NOTICE) * 10000


def drown(client, server):
    ends = time.monotonic() + 10
    try:
        while time.monotonic() < ends:
            client.sendall(NOTICES)
    except OSError:
        pass
    for s in (client, server):
        s.close()


def fill(listener):
    """More than the queue of one that takes nobody has room for."""
    listener.listen(0)
    fillers = [socket.socket() for _ in range(4)]
    for s in fillers:
        s.setblocking(False)
        s.connect_ex(listener.getsockname())
    return fillers


def main():
    target = int(sys.argv[1])
    place = (sys.argv[2], target) if len(sys.argv) > 2 else ("127.0.0.1", 0)
    listener = socket.create_server(place)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    print(listener.getsockname()[1], flush=True)
    peers, last, turns = {}, {}, 0
    hole, spoken, swallowed, fillers = None, {}, set(), []

    def close(pair):
        for s in pair:
            selector.unregister(s)
            del peers[s]
            s.close()
        del last[pair]
        swallowed.discard(pair)
        spoken.pop(pair, None)

    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", target))
                for a, b, side in ((client, server, "client"), (server, client, "server")):
                    a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    peers[a] = (b, side, frozenset((a, b)))
                    selector.register(a, selectors.EVENT_READ)
                last[frozenset((client, server))] = "server"
                if hole:
                    spoken[frozenset((client, server))] = hole
                elif hole == 0:
                    swallowed.add(frozenset((client, server)))
            elif key.fileobj is sys.stdin:
                verb = os.read(0, 100).decode().strip()
                if not verb:
                    return
                turns = 0 if verb == "zero" else turns
                if verb.startswith("hole "):
                    hole = int(verb[5:])
                    swallowed |= set() if hole else set(last)
                elif verb == "deaf":
                    selector.unregister(listener)
                    fillers = fill(listener)
                elif verb == "heal":
                    hole = None
                    for pair in list(swallowed):
                        close(pair)
                    spoken.clear()
                    if fillers:
                        for s in fillers:
                            s.close()
                        fillers = []
                        listener.listen(100)
                        selector.register(listener, selectors.EVENT_READ)
                print(turns, flush=True)
            elif key.fileobj in peers:
                peer, side, pair = peers[key.fileobj]
                try:
                    data = key.fileobj.recv(65536)
                except ConnectionResetError:
                    data = b""
                if not data:
                    close(pair)
                    continue
                if side == "client" and b"drown me" in data:
                    for s in pair:
                        selector.unregister(s)
                        del peers[s]
                    del last[pair]
                    threading.Thread(target=drown, args=(key.fileobj, peer), daemon=True).start()
                    continue
                speaks = side == "client" and last[pair] == "server"
                turns += speaks
                last[pair] = side
                if speaks and pair in spoken:
                    spoken[pair] -= 1
                    if spoken[pair] == 0:
                        swallowed.add(pair)
                if pair not in swallowed:
                    try:
                        peer.sendall(data)
                    except OSError:
                        close(pair)


if __name__ == "__main__":
    main()
