"""The index beside a cartridge (``.idx``): its map and the tape's position as they were at the last close.

Only a copy of what a walk through the cartridge finds: it is believed when the cartridge's inode, size and time of
change are the ones it names and its last record or filemark lies where the map says, and is made again otherwise.
"""

import os
import stat
from binascii import crc32
from contextlib import suppress
from typing import Final

import msgspec

from mover.tape.tape_map import TapeFile, TapeMap, extent

SUFFIX: Final = ".idx"
_MAGIC: Final = b"mover tape index 1\n"


class Index(msgspec.Struct, frozen=True, array_like=True):
    """What the index holds.

    Attributes:
        end: offset of the end of recorded data.
        files: the map's tape files, as TapeFile.dump gives them.
        position: tape file and block where the tape stands.
        holder: the drive and loading that this position belongs to.
        inode, size, mtime_ns: the cartridge file that all this is of.
    """

    end: int
    files: list[tuple[int, int, bytes, bytes, bytes]]
    position: tuple[int, int]
    holder: str
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0

    @classmethod
    def of(cls, tape: TapeMap, position: tuple[int, int], holder: str) -> "Index":
        return cls(tape.end, [file.dump() for file in tape.files], position, holder)

    def tape_map(self) -> TapeMap:
        tape = TapeMap()
        tape.files = [TapeFile.restore(*file) for file in self.files]
        tape.end = self.end
        return tape


def read_index(fd: int, path: str) -> Index | None:
    """The index of the open cartridge, or None when there is none for this state of it."""
    status = os.fstat(fd)
    try:
        with open(path + SUFFIX, "rb") as file:
            data = file.read()
    except OSError:
        return None  # none, or not readable: the cartridge itself is read instead
    body = data[len(_MAGIC) + 4 :]
    if data[: len(_MAGIC)] != _MAGIC or data[len(_MAGIC) : len(_MAGIC) + 4] != crc32(body).to_bytes(4, "little"):
        return None
    try:
        index = msgspec.msgpack.decode(body, type=Index)
        file_num, block = index.position
        if not 0 <= block <= index.tape_map().files[file_num].records or file_num < 0:
            return None
    except (msgspec.DecodeError, ValueError, IndexError):
        return None
    if (index.inode, index.size, index.mtime_ns) != (status.st_ino, status.st_size, status.st_mtime_ns):
        return None
    return index if _ends_so(fd, index.tape_map()) else None


def _ends_so(fd: int, tape: TapeMap) -> bool:
    """Whether the cartridge ends as the map says: with a record between its length words, or with a filemark."""
    last = tape.last
    try:
        if last.records:
            offset, word, _ = last.place(last.records - 1)
            found = os.pread(fd, 4, offset) + os.pread(fd, 4, offset + extent(word) - 4)
            return found == word.to_bytes(4, "little") * 2
        return not tape.marks or os.pread(fd, 4, last.start - 4) == bytes(4)
    except OSError:
        return False  # the walk meets it again, and tells


def write_index(fd: int, path: str, index: Index) -> None:
    """Put the index in place, whole or not at all: where it cannot be written, the next open does without."""
    status = os.fstat(fd)
    body = msgspec.msgpack.encode(
        msgspec.structs.replace(index, inode=status.st_ino, size=status.st_size, mtime_ns=status.st_mtime_ns)
    )
    temporary = f"{path}{SUFFIX}.new"
    # A worker has no umask. Who may not read or write the cartridge may not its index either.
    mode = stat.S_IMODE(status.st_mode) & 0o666 | 0o600
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(_MAGIC + crc32(body).to_bytes(4, "little") + body)
        os.replace(temporary, path + SUFFIX)
    except OSError:  # a directory closed to writing, or no space: the cartridge itself is whole
        with suppress(OSError):
            os.unlink(temporary)


def remove_index(path: str) -> None:
    """Make sure that no index outlives the state of the cartridge it describes, not even in a crash of the host.

    Raises:
        OSError: it is there and cannot be removed, or may come back.
    """
    try:
        os.unlink(path + SUFFIX)
    except FileNotFoundError:
        return
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
