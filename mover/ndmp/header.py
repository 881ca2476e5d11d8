"""The 24-byte header, alike in all versions. Source: NDMPv4 section 2.6."""

import struct
from typing import Final

import msgspec

from mover.ndmp.errors import XdrDecodeError

_HEADER: Final = struct.Struct(">6I")
SIZE: Final = _HEADER.size


class Header(msgspec.Struct, frozen=True):
    """Header of a request, reply or post; the numbers as they came."""

    sequence: int  # sender's counter
    time_stamp: int  # seconds since 1970 UTC at the sender; informational
    message_type: int  # MessageType
    message: int  # MessageCode
    reply_sequence: int  # sequence of the request answered, else 0
    error: int  # ErrorCode; not 0 replaces the body of a reply

    def encode(self) -> bytes:
        return _HEADER.pack(
            self.sequence, self.time_stamp, self.message_type, self.message, self.reply_sequence, self.error
        )


def decode_header(record: bytes) -> Header:
    """The header in front of a message; raises XdrDecodeError when it is cut off."""
    if len(record) < SIZE:
        raise XdrDecodeError(f"a message of {len(record)} bytes has no whole header")
    return Header(*_HEADER.unpack_from(record))
