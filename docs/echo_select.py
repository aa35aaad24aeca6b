"""Echo server with nonblocking sockets and select(2), as in the textbooks: python3 echo_select.py PORT"""
import select, socket, sys

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
unsent = {}  # per client: the bytes still to be sent back
while True:
    owed = [client for client in unsent if unsent[client]]  # not read from until these bytes are sent
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
                raise ConnectionError("end of input")
            unsent[client] = unsent[client][client.send(unsent[client]):]  # the socket may take only a part
        except BlockingIOError:
            pass  # no longer ready
        except OSError:
            del unsent[client]
            client.close()
