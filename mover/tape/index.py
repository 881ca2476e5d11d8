"""The index beside a cartridge (``.idx``): its map, checksums and the tape's position, as they were at the last close.

The map is only a copy of what a walk through the cartridge finds: it is believed when the cartridge's inode, size and
time of change are the ones it names and its last record or filemark lies where the map says, and is made again
otherwise. The checksums are found nowhere else. So those of records that lie where they lay are held against a
cartridge that was copied, or changed by somebody else.

The drive itself removes the index before it changes anything, and first sets the checksums of what stays as it is
aside (``.idx.cut``), so that a kill in the midst of a long write costs those of the new records only. What is set
aside never reaches behind the place where writing began, so it holds whatever became of the rest; the next close makes
an index of all and removes it. As long as it is there the file was being written here.
"""

import os
import stat
from binascii import crc32
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from mover.tape.tape_map import TapeFile, TapeMap, extent

SUFFIX: Final = ".idx"
CUT_SUFFIX: Final = ".idx.cut"
_MAGIC: Final = b"mover tape index 2\n"
_MAGIC_1: Final = b"mover tape index 1\n"  # before there were checksums
_RECORD_BYTES_MIN: Final = 10
# Four bytes of cartridge, a filemark, take 60 in an index at the most; a longer one is not of this cartridge.
_BYTES_MAX_PER_BYTE: Final = 16
_BYTES_MAX_LEAST: Final = 1 << 20


class Index(msgspec.Struct, frozen=True, array_like=True):
    """What the index holds.

    Attributes:
        end: offset of the end of recorded data.
        files: the map's tape files, as TapeFile.dump gives them.
        position: tape file and block where the tape stands.
        holder: the drive and loading that this position belongs to.
        inode, size, mtime_ns: the cartridge file that all this is of.
        later: as TapeMap.later.
    """

    end: int
    files: list[tuple[int, int, bytes, bytes, bytes, bytes]]
    position: tuple[int, int]
    holder: str
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0
    later: list[tuple[int, int]] = []

    @classmethod
    def of(cls, tape: TapeMap, position: tuple[int, int], holder: str) -> "Index":
        return cls(tape.end, [file.dump() for file in tape.files], position, holder, later=tape.later)

    def tape_map(self) -> TapeMap:
        """The map.

        Raises:
            ValueError: this is none.
        """
        tape = TapeMap()
        if not self.files or sum(records for _, records, *_ in self.files) > self.end // _RECORD_BYTES_MIN:
            raise ValueError("more records than the cartridge has room for")
        tape.files = [TapeFile.restore(*file) for file in self.files]
        behind = [file.end + 4 for file in tape.files[:-1]]  # each file's filemark
        if any(file.start < least for file, least in zip(tape.files, [0, *behind], strict=True)):
            raise ValueError("tape files that lie in each other")
        if not tape.last.end <= self.end <= self.size:
            raise ValueError("the recorded data do not end where they can")
        tape.end = self.end
        tape.later = list(self.later)
        return tape


class _Index1(msgspec.Struct, frozen=True, array_like=True):
    """What an index of the first version holds."""

    end: int
    files: list[tuple[int, int, bytes, bytes, bytes]]
    position: tuple[int, int]
    holder: str
    inode: int
    size: int
    mtime_ns: int


class Found(NamedTuple):
    """An index that was read.

    Attributes:
        contents: what it says.
        tape: its map.
        current: it is of this state of the cartridge; if not, only its checksums are of use.
        own: this very file was written here.
        writing: and was being written when the process ended: it has not been closed since.
    """

    contents: Index
    tape: TapeMap
    current: bool
    own: bool
    writing: bool = False


def read_index(fd: int, path: str) -> Found | None:
    """The index beside the open cartridge, or None when there is none that can be read."""
    found = _read(fd, path + SUFFIX)
    if found is not None:
        return found
    cut = _read(fd, path + CUT_SUFFIX)
    return None if cut is None else cut._replace(current=False, writing=cut.own)


def _read(fd: int, name: str) -> Found | None:
    status = os.fstat(fd)
    try:
        data = _contents(name, _BYTES_MAX_LEAST + _BYTES_MAX_PER_BYTE * status.st_size)
    except OSError:
        return None  # none, or not readable: the cartridge itself is read instead
    magic, body = data[: len(_MAGIC)], memoryview(data)[len(_MAGIC) + 4 :]
    if data[len(_MAGIC) : len(_MAGIC) + 4] != crc32(body).to_bytes(4, "little"):
        return None
    try:
        index = _decode(magic, body)
        tape = index.tape_map()
        file_num, block = index.position
        if not 0 <= block <= tape.files[file_num].records or file_num < 0:
            return None
    except (msgspec.DecodeError, ValueError, IndexError):
        return None
    same = (index.inode, index.size, index.mtime_ns) == (status.st_ino, status.st_size, status.st_mtime_ns)
    return Found(index, tape, same and _ends_so(fd, tape), own=index.inode == status.st_ino)


def _contents(name: str, bytes_max: int) -> bytes:
    """What is in the file; nothing of one that is no file, or too long: others may have put it there."""
    with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
        status = os.fstat(file.fileno())
        return file.read() if stat.S_ISREG(status.st_mode) and status.st_size <= bytes_max else b""


def _decode(magic: bytes, body: memoryview) -> Index:
    if magic == _MAGIC:
        return msgspec.msgpack.decode(body, type=Index)
    if magic == _MAGIC_1:
        old = msgspec.msgpack.decode(body, type=_Index1)
        files = [(*file, b"") for file in old.files]
        return Index(old.end, files, old.position, old.holder, old.inode, old.size, old.mtime_ns)
    raise ValueError("no index")


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


def write_index(fd: int, path: str, index: Index) -> bool:
    """Put the index in place, whole or not at all, and whether it is: the next open does without one.

    An older one does not stay either, because the tape stood elsewhere then; its checksums do.
    """
    try:
        _write(fd, path + SUFFIX, index)
        with suppress(FileNotFoundError):
            os.unlink(path + CUT_SUFFIX)
    except OSError:  # a directory closed to writing, or no space: the cartridge itself is whole
        with suppress(OSError):
            os.replace(path + SUFFIX, path + CUT_SUFFIX)
        return False
    return True


def _write(fd: int, name: str, index: Index) -> None:
    status = os.fstat(fd)
    body = msgspec.msgpack.encode(
        msgspec.structs.replace(index, inode=status.st_ino, size=status.st_size, mtime_ns=status.st_mtime_ns)
    )
    temporary = f"{name}.new"
    # A worker has no umask. Who may not read or write the cartridge may not its index either.
    mode = stat.S_IMODE(status.st_mode) & 0o666 | 0o600
    try:
        with suppress(FileNotFoundError):
            os.unlink(temporary)  # of a crash, or a link to what is not ours
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            if os.geteuid() == 0 and status.st_uid != 0:
                # An operator's: the server, which may be another user, is to read it. A worker may not, and need not.
                with suppress(PermissionError):
                    os.fchown(file.fileno(), status.st_uid, status.st_gid)
            file.write(_MAGIC + crc32(body).to_bytes(4, "little") + body)
            file.flush()
            os.fsync(file.fileno())  # or a crash of the host could leave an empty one in the place of a good one
        os.replace(temporary, name)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def set_aside(fd: int, path: str, kept: TapeMap) -> bool:
    """Leave no index of the cartridge but what is ``kept`` of it, with its checksums, before the rest is changed.

    All of it holds in a crash of the host too. What is set aside also says that the file is being written here, so
    that a record torn by a crash can be told from another's file that is no cartridge.

    Returns:
        Whether it could be set aside. If not, the checksums are lost in a kill.

    Raises:
        OSError: what describes another state is there and cannot be removed, or may come back.
    """
    changed = noted = False
    with suppress(OSError):  # no space, say: the old ones go all the same
        _write(fd, path + CUT_SUFFIX, Index.of(kept, (0, 0), ""))
        changed = noted = True
    for name in (path + SUFFIX,) if noted else (path + SUFFIX, path + CUT_SUFFIX):
        with suppress(FileNotFoundError):
            os.unlink(name)
            changed = True
    if not changed:
        return False
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return noted
