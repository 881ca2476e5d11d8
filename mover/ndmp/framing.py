"""Record marking both ways: messages out of fragments, and one fragment around a message.

A fragment's header is judged before its bytes are kept: a message past the limit is refused at once.
Source: RFC 5531 section 11; NDMPv4 section 2.2.
"""

import struct
from typing import Final

from mover.ndmp.errors import FramingError

RECORD_LIMIT: Final = 32 << 20
"""Longest message in bytes: a TAPE_WRITE of the largest record, a recover with a long nlist."""
EMPTY_FRAGMENTS_MAX: Final = 64
"""Fragments without bytes that one message may have: legal, but endless ones would never end."""

_MARK = struct.Struct(">I")
_LAST = 0x8000_0000
_LENGTH = 0x7FFF_FFFF


def mark(length: int) -> bytes:
    """The header of the one fragment that holds a message of `length` bytes."""
    return _MARK.pack(_LAST | length)


class RecordReader:
    """Cuts a byte stream into messages; fed with chunks of any size."""

    def __init__(self, limit: int = RECORD_LIMIT) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._begun: bytearray | None = None  # a message's fragments so far, joined: a million may have a byte each
        self._empty = 0  # fragments without bytes so far
        self._broken: str | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes of the peer."""
        self._buffer += data

    @property
    def inside_record(self) -> bool:
        """Whether a message has begun and not ended; the end of the connection now is broken framing."""
        return bool(self._buffer) or self._begun is not None

    def next_record(self) -> bytes | None:
        """The next message, or None when more bytes are needed.

        Raises:
            FramingError: too long, or endless; it stays so on every later call.
        """
        if self._broken is not None:
            raise FramingError(self._broken)
        while len(self._buffer) >= 4:
            (word,) = _MARK.unpack_from(self._buffer)
            length = word & _LENGTH
            before = 0 if self._begun is None else len(self._begun)
            if before + length > self._limit:
                raise self._break(f"message of over {self._limit} bytes (a fragment of {length})")
            if len(self._buffer) < 4 + length:
                return None
            if length == 0 and not word & _LAST:
                self._empty += 1
                if self._empty > EMPTY_FRAGMENTS_MAX:
                    raise self._break(f"over {EMPTY_FRAGMENTS_MAX} empty fragments in one message")
            record: bytes | None = None
            with memoryview(self._buffer) as view, view[4 : 4 + length] as fragment:
                if word & _LAST and self._begun is None:
                    record = bytes(fragment)
                else:
                    self._begun = bytearray() if self._begun is None else self._begun
                    self._begun += fragment
                    if word & _LAST:
                        record = bytes(self._begun)
            del self._buffer[: 4 + length]
            if record is not None:
                self._begun = None
                self._empty = 0
                return record
        return None

    def _break(self, reason: str) -> FramingError:
        self._broken = reason
        self._buffer.clear()
        self._begun = None
        return FramingError(reason)
