"""An echo server with nonblocking sockets and select(2), as the textbooks have it: python3 echo_select.py PORT"""
import select, socket, sys

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
listener.setblocking(False)
unsent = {}  # each client, and what it has yet to get back
while True:
    # Who has not taken its replies is asked for no more requests: that bounds what is kept for it.
    owed = [client for client in unsent if unsent[client]]
    asked = [client for client in unsent if not unsent[client]]
    readable, writable, _ = select.select([listener] + asked, owed, [])
    if listener in readable:
        readable.remove(listener)
        client, _ = listener.accept()
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if client.fileno() < 1000:
            unsent[client] = b""
        else:  # select(2) cannot watch descriptors from 1024 on: this client is turned away
            client.close()
    for client in readable + writable:
        try:
            unsent[client] = unsent[client] or client.recv(65536)
            ended = not unsent[client]
            unsent[client] = unsent[client][client.send(unsent[client]):]  # the socket may take a part only
        except BlockingIOError:  # it was ready, and is not any more
            ended = False
        except OSError:
            ended = True
        if ended:
            del unsent[client]
            client.close()
