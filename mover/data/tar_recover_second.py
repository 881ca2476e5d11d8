"""What the second writer does with a tar stream: the same small files as the worker's loop, every second run of them.

See :mod:`mover.data.second_writer`. Both processes number the small files alike, because both see the same slots. A
file whose directory is not there yet is left to the worker, as everything is that is not simple.
"""

import os
import stat
from mmap import mmap

from mover.data.object_maker import FILE_FLAGS
from mover.data.recover_plan import Target
from mover.data.second_writer import SHARE
from mover.data.tar_format import BLOCK_BYTES
from mover.data.tar_recover_members import MemberReader
from mover.data.tar_recover_places import Places, directory_of
from mover.data.tar_recover_small import HEAD_BYTES, SmallHeads
from mover.data.tree_writer import TreeWriter, hands_down, remove


def make_share(reader: MemberReader, places: Places, writer: TreeWriter, serial: int, marks: mmap) -> None:
    """Make this process's share of the small files; returns at the stream's end.

    Args:
        serial: number of the next small file.
        marks: one for each of the last small files, by their number modulo its length.
    """
    reader.silence()
    places.only_find()
    heads = SmallHeads()
    share = _Share(places, writer)
    mask = len(marks) - 1
    while True:
        view, pos, end, extended = reader.view, reader.pos, reader.end, reader.times
        while end - pos >= HEAD_BYTES and (size := heads.size(view, pos, extended)) >= 0:
            after = pos + HEAD_BYTES + (size + BLOCK_BYTES - 1 & -BLOCK_BYTES)
            if after > end:
                break
            if serial & SHARE and share.make(heads, view, pos, size):
                marks[serial & mask] = 1
            serial += 1
            pos = after
        reader.pos = pos
        member = reader.next()
        if member is None:
            return
        reader.skip(member.blocks)


class _Share:
    """Makes single files; the directory of the last one is kept."""

    def __init__(self, places: Places, writer: TreeWriter) -> None:
        self._places = places
        self._writer = writer
        self._prefix = b""
        self._directory = -1

    def make(self, heads: SmallHeads, view: memoryview, at: int, size: int) -> bool:
        """Make the file met last; False where it is not simple or cannot be made: the worker reports it."""
        writer, name, times_ns = self._writer, heads.name(), heads.times_ns(view, at)
        if not name or times_ns is None:
            return False
        if heads.uid != writer.attributes.uid or heads.gid != writer.attributes.gid or heads.mode & ~0o777:
            return False
        if heads.prefix != self._prefix:
            self._directory = self._open(heads.prefix)
            self._prefix = heads.prefix if self._directory >= 0 else b""
        directory = self._directory
        if directory < 0:
            return False
        try:
            fd = os.open(name, FILE_FLAGS, heads.mode, dir_fd=directory)
        except OSError:
            return False
        try:
            whole = not size or os.write(fd, view[at + HEAD_BYTES : at + HEAD_BYTES + size]) == size
            os.utime(fd, ns=times_ns)
        except OSError:
            whole = False
        finally:
            os.close(fd)
        if not whole:
            remove(directory, name)
        return whole

    def _open(self, prefix: bytes) -> int:
        """The directory of small files, if it hands nothing down to them; else -1."""
        target, _ = directory_of(self._places, prefix)
        if not isinstance(target, Target):
            return -1
        try:
            fd = self._writer.descriptor(target)
            status = os.fstat(fd)
            if status.st_gid != self._writer.attributes.gid or status.st_mode & stat.S_ISGID or hands_down(fd):
                return -1
        except OSError:
            return -1
        return fd
