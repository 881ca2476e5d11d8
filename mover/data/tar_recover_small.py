"""The three blocks in front of a usual small file in a stream of ours, read at a glance.

They are the extended header, which is the same for all of them, its records, which are three times and nothing else,
and the header proper, of which all behind the checksum is the same within a directory. What is not exactly like that
is left to :class:`MemberReader`, which is complete by itself.
"""

import re
from collections.abc import Iterator
from struct import Struct
from typing import Final
from zlib import adler32

from mover.data.tar_format import (
    BLOCK_BYTES,
    MAGIC,
    NAME_BYTES,
    OFFSET_LINK,
    OFFSET_MAGIC,
    OFFSET_PREFIX,
    OFFSET_TYPE,
    PREFIX_BYTES,
    REGULAR,
)

HEAD_BYTES: Final = 3 * BLOCK_BYTES
TIMES_BYTES: Final = 90  # of records: "30 mtime=SSSSSSSSSS.NNNNNNNNN\n", the same with atime and ctime
# The extended header; what each of its records begins with; to the checksum, it, what follows it.
_unpack: Final = Struct("512s9s21x9s21x9s443x148s6s2x356s").unpack_from
_unpack_times: Final = Struct("521x10sx9s10x10sx9s").unpack_from  # modification's, access's: seconds, nanoseconds
_unpack_again: Final = Struct("521x10sx9s10x10sx9s453x124s24x8x356s").unpack_from  # them; name and owner; the last
_MODIFIED, _ACCESSED, _CHANGED = b"30 mtime=", b"30 atime=", b"30 ctime="
_OWNER: Final = slice(100, 124)  # mode, uid, gid
# int() takes signs, underlines and more.
_owner: Final = re.compile(rb"([0-7]{7})\0([0-7]{7})\0([0-7]{7})\0").fullmatch
_octal: Final = re.compile(rb"([0-7]{6}|[0-7]{11}(?=\0))\0?").fullmatch
_OCTALS_MAX: Final = 4096
_SIZE: Final = slice(124, 136)
_LINK: Final = slice(OFFSET_LINK - OFFSET_TYPE, OFFSET_MAGIC - OFFSET_TYPE)
_MAGIC: Final = slice(OFFSET_MAGIC - OFFSET_TYPE, OFFSET_MAGIC - OFFSET_TYPE + len(MAGIC))
_DEVICE: Final = slice(329 - OFFSET_TYPE, OFFSET_PREFIX - OFFSET_TYPE)
_PREFIX: Final = slice(OFFSET_PREFIX - OFFSET_TYPE, OFFSET_PREFIX - OFFSET_TYPE + PREFIX_BYTES)
_NO_DEVICE: Final = b"0000000\0" * 2
_BLANKS: Final = 8 * 0x20  # for which the checksum counts itself
_SLASH: Final = ord("/")  # to look for a number costs half as much as for b"/"
_SPECIAL_NAMES: Final = frozenset({b"", b".", b".."})

Times = tuple[int, int]
"""Of last access and of last modification, in nanoseconds: as utime(2) wants them."""


class _Octals(dict[bytes, int]):
    """Numbers by their fields, size or checksum; what was met before costs a third. -1 = no number, to be looked at."""

    def __missing__(self, field: bytes) -> int:
        if len(self) >= _OCTALS_MAX:
            self.clear()
        found = _octal(field)
        number = self[field] = int(found[1], 8) if found else -1
        return number


class SmallHeads:
    """Reads heads; what most of them share is remembered.

    Attributes:
        prefix: path of the directory of the file met last; the same object as long as it has not changed.
        mode, uid, gid: of the file met last.
        wanted: how many bytes are needed in one piece where ``follow`` ended; 0 = no such file is there.
    """

    def __init__(self) -> None:
        self.prefix = b""
        self.mode = self.uid = self.gid = 0
        self.wanted = 0
        self._tail = b""
        self._rest = 0  # what the sum of a header is more than Adler's of its front
        self._is_plain = False
        self._owner = b""
        self._octals = _Octals()

    def follow(self, view: memoryview, at: int, end: int, extended: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """The small files that follow each other from a place on and lie whole before another.

        Args:
            extended: the block with which such a head begins, of a checksum that was seen to be good.

        Yields:
            where its head is, how many bytes its content has, where the next head is, and its name, one component;
            b"" = it has none that is usual, or its owner is none.
        """
        octals = self._octals
        last = self._tail if self._is_plain else b""
        self.wanted = 0
        while True:
            if end - at < HEAD_BYTES:
                self.wanted = HEAD_BYTES
                return
            first, modified, accessed, changed, front, told, tail = _unpack(view, at)
            if first != extended or modified != _MODIFIED or accessed != _ACCESSED or changed != _CHANGED:
                return  # others may tell of another size
            if tail != last:
                self._look_at(tail)
                if not self._is_plain:
                    return
                last = tail
            # Adler's first half is one more than the sum of the bytes, as long as that is below 65,520: here it is.
            if (adler32(front) & 0xFFFF) + self._rest != octals[told]:
                return
            size = octals[front[_SIZE]]
            if size < 0:
                return
            following = at + (HEAD_BYTES + BLOCK_BYTES - 1 + size & -BLOCK_BYTES)
            if following > end:
                self.wanted = following - at
                return
            if front[_OWNER] == self._owner or self._has_owner(front[_OWNER]):
                # Behind a name of full length the mode's field ends with a 0.
                name = front[: min(front.index(0), NAME_BYTES)]
                if _SLASH in name or name in _SPECIAL_NAMES:
                    name = b""
            else:
                name = b""
            yield at, size, following, name
            at = following

    def again(self, view: memoryview, at: int) -> tuple[bytes, Times | None]:
        """Meet a file again that ``follow`` has found and named: its name and times; None = they are no numbers."""
        seconds, nanoseconds, since, and_ns, front, tail = _unpack_again(view, at)
        if tail != self._tail:
            self._look_at(tail)
        if front[_OWNER] != self._owner:
            self._has_owner(front[_OWNER])
        return front[: min(front.index(0), NAME_BYTES)], _times(seconds, nanoseconds, since, and_ns)

    @staticmethod
    def times_ns(view: memoryview, at: int) -> Times | None:
        """The times in the head at a place; None = they are no numbers."""
        return _times(*_unpack_times(view, at))

    def _has_owner(self, field: bytes) -> bool:
        """Whether the field of mode, uid and gid is usual; they are known then."""
        found = _owner(field)
        if found is None:
            return False
        self.mode, self.uid, self.gid = int(found[1], 8), int(found[2], 8), int(found[3], 8)
        self._owner = field
        return True

    def _look_at(self, tail: bytes) -> None:
        self._tail = tail
        self._rest = sum(tail) + _BLANKS - 1
        self.prefix = tail[_PREFIX].rstrip(b"\0")
        self._is_plain = (
            tail[:1] == REGULAR
            and not any(tail[_LINK])
            and tail[_MAGIC] == MAGIC
            and tail[_DEVICE] == _NO_DEVICE  # a device, or a file of several names
            and bool(self.prefix)
            and b"\0" not in self.prefix
        )


def _times(seconds: bytes, nanoseconds: bytes, since: bytes, and_ns: bytes) -> Times | None:
    """Args: seconds, nanoseconds: of modification; since, and_ns: of access."""
    modified = seconds + nanoseconds
    if not modified.isdigit():
        return None
    modified_ns = int(modified)
    if since == seconds and and_ns == nanoseconds:  # never read since it was written
        return modified_ns, modified_ns
    accessed = since + and_ns
    return (int(accessed), modified_ns) if accessed.isdigit() else None
