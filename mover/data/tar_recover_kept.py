"""Objects that are not made by the name they come under and have others: their content waits in a nameless file.

Nobody asked for that name, or something has it that is to stay, or its directory is missing.

Only a stream of ours tells how many names an object has (:data:`mover.data.tar_format.NAMED_TYPES`), so only of such a
stream a further name can be recovered by itself. The file lies on the destination's file system and holds content as
it is in the stream, one object behind the other.
"""

import os
from collections.abc import Iterator
from typing import Final

from mover.data.codes import LogType
from mover.data.recover_report import RecoverReport
from mover.data.report import reason
from mover.data.tar_format import BLOCK_BYTES
from mover.data.tar_recover_members import Member, MemberReader
from mover.data.tar_recover_places import Spot
from mover.data.tree_writer import TreeWriter

_CHUNK_BYTES: Final = 1 << 20


class KeptObject:
    """One of them.

    Attributes:
        offset: of its content in the nameless file.
        made: the names it has got, by the recover list's entry (its id).
    """

    __slots__ = ("made", "member", "offset")

    def __init__(self, member: Member, offset: int) -> None:
        self.member = member
        self.offset = offset
        self.made: dict[int, Spot] = {}


class KeptObjects:
    """All of one recover."""

    def __init__(self, writer: TreeWriter, report: RecoverReport, volume: bytes) -> None:
        """Args: volume: where content may wait."""
        self._writer = writer
        self._report = report
        self._volume = volume
        self._fd = -1
        self._end = 0
        self._failed = False
        self._objects: dict[bytes, KeptObject] = {}

    def close(self) -> None:
        """Let go of everything."""
        self._objects.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def keep(self, path: bytes, member: Member, reader: MemberReader) -> None:
        """Take a member's content out of the stream; where it cannot be kept, that is told once."""
        blocks = member.blocks
        offset = self._end
        while blocks:
            with reader.take(blocks) as piece:
                blocks -= len(piece) // BLOCK_BYTES
                if not self._failed:
                    self._write(piece)
        if not self._failed:
            self._objects[path] = KeptObject(member, offset)

    def _write(self, piece: memoryview) -> None:
        try:
            if self._fd < 0:
                self._fd = self._writer.scratch(self._volume)
            done = 0
            while done < len(piece):
                done += os.pwrite(self._fd, piece[done:], self._end + done)
            self._end += done
        except OSError as error:
            self._failed = True
            text = f"files that are not made by their first name cannot be kept for the others: {reason(error)}"
            self._report.log(LogType.WARNING, text.encode())

    def find(self, path: bytes) -> KeptObject | None:
        """What came under a path, if it was kept."""
        return self._objects.get(path)

    def content(self, kept: KeptObject) -> Iterator[memoryview]:
        """Its content, piece by piece."""
        offset, left = kept.offset, kept.member.stored
        while left:
            piece = os.pread(self._fd, min(left, _CHUNK_BYTES), offset)
            if not piece:
                raise OSError(f"the file for kept objects ends at {offset} bytes")
            offset, left = offset + len(piece), left - len(piece)
            yield memoryview(piece)
