"""Handshakes of TCP that a peer takes for done and our kernel does not yet: its SYN is answered, its ACK is not here.

The kernel tells of them through NETLINK_SOCK_DIAG, to anybody, in half a millisecond. Source: Linux, sock_diag(7).
"""

import socket
import struct
from typing import Final

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_DUMP: Final = 0x301  # NLM_F_REQUEST, NLM_F_ROOT, NLM_F_MATCH
_ERROR: Final = 2
_DONE: Final = 3
_TCP_SYN_RECV: Final = 3
_STATES: Final = 1 << _TCP_SYN_RECV | 1 << 12  # 12: TCP_NEW_SYN_RECV, which is told as SYN_RECV
_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_REQUEST: Final = struct.Struct("=BBxxI")  # family, protocol, states; then the sockets' addresses
_ADDRESSES: Final = struct.Struct("!HH16s16s12x")  # local and remote port, then addresses; any interface
_FAMILY_AND_STATE: Final = struct.Struct("=BBxx")
_ANSWER_BYTES: Final = 1 << 16


def is_half_open(address: str, port: int) -> bool:
    """Whether somebody shakes hands with the listener at this address and port, and is not through.

    Raises:
        OSError: the kernel does not tell.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    ours = socket.inet_pton(family, address)
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, _STATES) + _ADDRESSES.pack(port, 0, b"", b"")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
        netlink.sendto(_HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _DUMP, 0, 0) + body, (0, 0))
        while True:
            answer = netlink.recv(_ANSWER_BYTES, socket.MSG_DONTWAIT)  # the kernel answers while it is asked
            offset = 0
            while offset < len(answer):
                length, kind, _, _, _ = _HEADER.unpack_from(answer, offset)
                start = offset + _HEADER.size
                if kind == _DONE:
                    return False
                if kind == _ERROR:
                    (number,) = struct.unpack_from("=i", answer, start)
                    raise OSError(-number, "the kernel does not tell of handshakes")
                _, state = _FAMILY_AND_STATE.unpack_from(answer, start)
                local_port, _, local, _ = _ADDRESSES.unpack_from(answer, start + _FAMILY_AND_STATE.size)
                if state == _TCP_SYN_RECV and local_port == port and local[: len(ours)] == ours:
                    return True
                offset += length + 3 & ~3
