#!/usr/bin/env python3
"""A TCP proxy that counts round trips: how often the client spoke after the server had.

    proxy.py PORT [ADDRESS]

Listens on a free port of 127.0.0.1, or at the same PORT of another ADDRESS, and prints it; forwards
to PORT of 127.0.0.1. On standard input: a line
"zero" sets the count to 0, a line "count" prints it. Ends with its input.

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


def main():
    target = int(sys.argv[1])
    place = (sys.argv[2], target) if len(sys.argv) > 2 else ("127.0.0.1", 0)
    listener = socket.create_server(place)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    print(listener.getsockname()[1], flush=True)
    peers, last, turns = {}, {}, 0
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
            elif key.fileobj is sys.stdin:
                verb = os.read(0, 100).decode().strip()
                if not verb:
                    return
                turns = 0 if verb == "zero" else turns
                print(turns, flush=True)
            elif key.fileobj in peers:
                peer, side, pair = peers[key.fileobj]
                try:
                    data = key.fileobj.recv(65536)
                except ConnectionResetError:
                    data = b""
                if not data:
                    for s in pair:
                        selector.unregister(s)
                        del peers[s]
                        s.close()
                    continue
                if side == "client" and b"drown me" in data:
                    for s in pair:
                        selector.unregister(s)
                        del peers[s]
                    threading.Thread(target=drown, args=(key.fileobj, peer), daemon=True).start()
                    continue
                turns += side == "client" and last[pair] == "server"
                last[pair] = side
                peer.sendall(data)


if __name__ == "__main__":
    main()
