"""An echo server with nonblocking sockets and select(2), as the textbooks have it: python3 echo_select.py PORT"""
import select, socket, sys

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
unsent = {}  # each client, and what it has yet to get back
while True:
    owed = [client for client in unsent if unsent[client]]  # asked for more only when they have taken it
    readable, writable, _ = select.select([listener, *(unsent.keys() - owed)], owed, [])
    for client in readable + writable:
        if client is listener:
            client, _ = listener.accept()
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            unsent[client] = b""
            continue
        try:
            unsent[client] = unsent[client] or client.recv(65536)
            if not unsent[client]:
                raise ConnectionError("it has said all it will say")
            unsent[client] = unsent[client][client.send(unsent[client]):]  # the socket may take a part only
        except BlockingIOError:
            pass  # it was ready, and is not any more
        except OSError:
            del unsent[client]
            client.close()
