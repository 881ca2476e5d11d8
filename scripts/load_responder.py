"""The least that can answer load_client.py: it sends every request back as the one same reply. The floor of load.py."""

import select
import socket
import struct

from mover.ndmp.edge import encode_reply
from mover.ndmp.enums import HIGHEST_VERSION, ErrorCode, MessageCode, MessageType
from mover.ndmp.framing import mark
from mover.ndmp.header import SIZE, Header
from mover.ndmp.messages import DataGetStateReply

BODY = encode_reply(HIGHEST_VERSION, MessageCode.DATA_GET_STATE, DataGetStateReply())
SEQUENCE_OFFSET = 4  # behind the mark
REPLY_SEQUENCE_OFFSET = 4 + 16
REQUEST_BYTES = 4 + SIZE


def main() -> None:
    """Prints its port, then answers until it is killed."""
    header = Header(1, 0, MessageType.REPLY, MessageCode.DATA_GET_STATE, 0, ErrorCode.NO_ERR)
    reply = bytearray(mark(SIZE + len(BODY)) + header.encode() + BODY)
    connections: dict[int, socket.socket] = {}
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener, select.epoll() as poll:
        print(listener.getsockname()[1], flush=True)
        poll.register(listener, select.EPOLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == listener.fileno():
                    connection, _ = listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connections[connection.fileno()] = connection
                    poll.register(connection, select.EPOLLIN)
                    continue
                data = connections[descriptor].recv(1 << 16)
                if not data:
                    poll.unregister(descriptor)
                    connections.pop(descriptor).close()
                # On loopback a request of 28 bytes comes whole; several may come at once.
                for begin in range(0, len(data), REQUEST_BYTES):
                    (sequence,) = struct.unpack_from(">I", data, begin + SEQUENCE_OFFSET)
                    struct.pack_into(">I", reply, REPLY_SEQUENCE_OFFSET, sequence)
                    connections[descriptor].sendall(reply)


if __name__ == "__main__":
    main()
