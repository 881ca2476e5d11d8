"""The three blocks in front of a usual small file in a stream of ours, read at a glance.

They are the extended header, which is the same for all of them, its records, which are three times and nothing else,
and the header proper, of which all behind the checksum is the same within a directory. What is not exactly like that
is left to :class:`MemberReader`, which is complete by itself.
"""

import re
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
_unpack_again: Final = Struct("1024x148s8x356s").unpack_from  # of the last two
_unpack_times: Final = Struct("512x9x10sx9s10x10sx9s").unpack_from  # modification's, access's: seconds, nanoseconds
_KEYWORDS: Final = (b"30 mtime=", b"30 atime=", b"30 ctime=")
_OWNER: Final = slice(100, 124)  # mode, uid, gid
_octal: Final = re.compile(rb"([0-7]{7})\0([0-7]{7})\0([0-7]{7})\0").fullmatch  # int() takes signs, underlines and more
_SIZE: Final = slice(124, 135)
_SIZE_END: Final = 135  # 0; a twelfth digit is for the general way
_LINK: Final = slice(OFFSET_LINK - OFFSET_TYPE, OFFSET_MAGIC - OFFSET_TYPE)
_MAGIC: Final = slice(OFFSET_MAGIC - OFFSET_TYPE, OFFSET_MAGIC - OFFSET_TYPE + len(MAGIC))
_DEVICE: Final = slice(329 - OFFSET_TYPE, OFFSET_PREFIX - OFFSET_TYPE)
_PREFIX: Final = slice(OFFSET_PREFIX - OFFSET_TYPE, OFFSET_PREFIX - OFFSET_TYPE + PREFIX_BYTES)
_NO_DEVICE: Final = b"0000000\0" * 2
_BLANKS: Final = 8 * 0x20  # for which the checksum counts itself
_SLASH: Final = ord("/")  # to look for a number costs half as much as for b"/"
_SPECIAL_NAMES: Final = frozenset({b"", b".", b".."})


class SmallHeads:
    """Reads heads; what most of them share is remembered.

    Attributes:
        prefix: path of the directory of the file met last.
        mode, uid, gid: of the file whose ``name`` was asked for last.
    """

    def __init__(self) -> None:
        self.prefix = b""
        self.mode = self.uid = self.gid = 0
        self._front = b""
        self._tail = b""
        self._rest = 0  # what the sum of a header is more than Adler's of its front
        self._is_plain = False
        self._owner = b""

    def size(self, view: memoryview, at: int, extended: bytes) -> int:
        """Bytes of content of the small file whose head is at a place; negative = another member, or a damaged one.

        Args:
            extended: the block with which such a head begins, of a checksum that was seen to be good.
        """
        first, modified, accessed, changed, front, told, tail = _unpack(view, at)
        if first != extended or (modified, accessed, changed) != _KEYWORDS:  # others may tell of another size
            return -1
        if tail != self._tail:
            self._look_at(tail)
        if not self._is_plain:
            return -1
        try:
            # Adler's first half is one more than the sum of the bytes, as long as that is below 65,520: here it is.
            if (adler32(front) & 0xFFFF) + self._rest != int(told, 8):
                return -1
            size = front[_SIZE]
            if front[_SIZE_END] or not size.isdigit():
                return -1
            self._front = front
            return int(size, 8)
        except ValueError:
            return -1

    def look(self, view: memoryview, at: int) -> None:
        """Meet the small file whose head is at a place and was seen to be good."""
        self._front, tail = _unpack_again(view, at)
        if tail != self._tail:
            self._look_at(tail)

    def name(self) -> bytes:
        """The name of the file met last, one component; b"" = it has none that is usual, or other fields have not."""
        front = self._front
        name = front[:NAME_BYTES].rstrip(b"\0")
        if _SLASH in name or 0 in name or name in _SPECIAL_NAMES:
            return b""
        owner = front[_OWNER]
        if owner != self._owner:
            found = _octal(owner)
            if found is None:
                return b""
            self.mode, self.uid, self.gid = int(found[1], 8), int(found[2], 8), int(found[3], 8)
            self._owner = owner
        return name

    @staticmethod
    def times_ns(view: memoryview, at: int) -> tuple[int, int] | None:
        """Access and modification time in the head at a place, seen to be good; None where one of them is no number."""
        seconds, nanoseconds, since, and_ns = _unpack_times(view, at)
        accessed, modified = since + and_ns, seconds + nanoseconds
        return (int(accessed), int(modified)) if accessed.isdigit() and modified.isdigit() else None

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
