"""Whether the peer of a TCP connection is gone, or takes nothing, read from the kernel's own view of it.

Not by TCP_USER_TIMEOUT: Linux counts with it also the time for which a living peer keeps its receive window shut. A
mover that waits for its next cartridge, or a DMA that does not read file history for a while, must find its job
waiting and not its connection gone. Keepalive finds a peer that is gone while nothing is in flight.
"""

import socket
import struct
from typing import Final, Protocol

_PROBES_LOST: Final = 3
_TCP_INFO_BYTES: Final = 104
_LONG_TCP_INFO_BYTES: Final = 192  # Linux 4.10 and later
# struct tcp_info of linux/tcp.h: eight bytes, then u32 words
_PROBES: Final = 3
_UNACKED: Final = 8 + 4 * 4
_LAST_ACK_MS: Final = 8 + 12 * 4
_WINDOW_FULL_US: Final = 176  # tcpi_rwnd_limited, u64


class Socket(Protocol):
    """The part of a socket that is needed, whoever's socket it is."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...

    def setsockopt(self, level: int, optname: int, value: int, /) -> None: ...


def set_keepalive(sock: Socket, peer_timeout_s: float) -> None:
    """Probe a silent peer, so that one that is gone is noticed within ``peer_timeout_s`` seconds."""
    seconds = max(1, int(peer_timeout_s))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, seconds // 3))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, seconds // 6))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def is_gone(sock: Socket, peer_timeout_s: float) -> bool:
    """Whether bytes, or probes of a shut window, have gone unanswered for ``peer_timeout_s`` seconds.

    Raises:
        OSError: the connection is broken already.
    """
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    (unacked,) = struct.unpack_from("=I", info, _UNACKED)
    (last_ack_ms,) = struct.unpack_from("=I", info, _LAST_ACK_MS)
    in_flight = unacked > 0 or info[_PROBES] >= _PROBES_LOST
    return in_flight and last_ack_ms >= peer_timeout_s * 1000


def peer_full_ns(sock: Socket) -> int:
    """Nanoseconds for which there was more to send than the peer's receive window held; 0 = the kernel does not tell.

    Raises:
        OSError: the connection is broken already.
    """
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LONG_TCP_INFO_BYTES)
    if len(info) < _WINDOW_FULL_US + 8:
        return 0
    (microseconds,) = struct.unpack_from("=Q", info, _WINDOW_FULL_US)
    return int(microseconds) * 1000
