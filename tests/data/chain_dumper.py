"""Dumps a tree at any level by a walk of its own, apart from mover.data's backup; the records' layout alone is shared.

An inode of the file system has one number for good, also when it is used again for something else, as in the dump of a
whole file system.
"""

import hashlib
import os
import stat
from typing import NamedTuple

from mover.data.dump_format import (
    DumpLabel,
    Inode,
    RecordType,
    pack_directory,
    pack_header,
)
from mover.data.xattr_blob import split

RECORD = 1024
SPAN = 512
FILESYSTEM = b"/source"


class _Object(NamedTuple):
    """What is known of an inode at one moment; two that are equal need no new dump."""

    status: tuple[int, ...]
    attributes: tuple[tuple[bytes, bytes], ...]
    content: bytes  # of a file a digest, of a symbolic link its target, of a directory its entries


class _State(NamedTuple):
    date: int
    objects: dict[int, _Object]


class ChainDumper:
    """The dumps of one tree, their dates a second apart and made up."""

    def __init__(self, root: os.PathLike[str] | bytes, *, filesystem: bytes = FILESYSTEM) -> None:
        self.root = os.fsencode(root)
        self.filesystem = filesystem
        self.date = 1_700_000_000
        self._numbers: dict[int, int] = {}  # inode -> number in the dump
        self._levels: dict[int, _State] = {}

    def dump(self, level: int, *, everything: bool = False) -> bytes:
        """A stream of what has changed since the latest dump of a lower level.

        Args:
            everything: all that there is, with the base's date all the same.
        """
        self.date += 1
        lower = [state for below, state in self._levels.items() if below < level]
        base = max(lower, key=lambda state: state.date, default=_State(0, {}))
        walk = _Walk(self.root, self._numbers)
        state = _State(self.date, walk.objects)
        self._levels[level] = state
        wanted = {
            number
            for number, found in walk.objects.items()
            if everything or base.objects.get(number) != found or number == 2
        }
        way = [above for number in wanted for above in walk.above[number]]
        while way:
            above = way.pop()
            if above not in wanted:
                wanted.add(above)
                way += walk.above[above]
        label = DumpLabel(self.date, base.date, level if base.objects else 0, filesystem=self.filesystem)
        return _Writer(label, walk).write(wanted)


class _Walk:
    """All of a tree."""

    def __init__(self, root: bytes, numbers: dict[int, int]) -> None:
        self.objects: dict[int, _Object] = {}
        self.paths: dict[int, bytes] = {}
        self.above: dict[int, list[int]] = {}  # the directories that name it
        self.entries: dict[int, list[tuple[int, int, bytes]]] = {}
        self._numbers = numbers
        numbers.setdefault(os.lstat(root).st_ino, 2)
        self._visit(root, 2)

    def _visit(self, path: bytes, parent: int) -> int:
        status = os.lstat(path)
        number = self._numbers.setdefault(status.st_ino, 2 + len(self._numbers))
        self.above.setdefault(number, []).append(parent)
        if number in self.paths:
            return number
        self.paths[number] = path
        content = b""
        if stat.S_ISDIR(status.st_mode):
            entries = []
            for name in sorted(os.listdir(path)):
                child = self._visit(os.path.join(path, name), number)
                entries.append((child, os.lstat(os.path.join(path, name)).st_mode >> 12, name))
            self.entries[number] = entries
            content = repr(entries).encode()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        fields = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_ctime_ns, status.st_nlink)
        self.objects[number] = _Object(fields, tuple(_attributes(path)), content)
        return number


def _attributes(path: bytes) -> list[tuple[bytes, bytes]]:
    names = [os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False)]
    return [(name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names)]


def _has_holes(path: bytes, size: int) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        return size > 0 and os.lseek(fd, 0, os.SEEK_HOLE) < size
    finally:
        os.close(fd)


class _Writer:
    """One stream."""

    def __init__(self, label: DumpLabel, walk: _Walk) -> None:
        self._label = label
        self._walk = walk
        self._stream = bytearray()

    def _header(self, kind: RecordType, number: int = 0, inode: Inode | None = None, **more: int | bytes) -> None:
        fields = {"inode": inode} if inode is not None else {}
        tapea = len(self._stream) // RECORD
        self._stream += pack_header(self._label, kind, tapea, inumber=number, **fields, **more)  # type: ignore[arg-type]

    def write(self, wanted: set[int]) -> bytes:
        self._header(RecordType.TAPE)
        highest = max(self._walk.objects)
        for kind, members in ((RecordType.CLRI, set(self._walk.objects)), (RecordType.BITS, wanted)):
            bitmap = bytearray(-(-(highest // 8 + 1) // RECORD) * RECORD)
            for number in members:
                bitmap[(number - 1) // 8] |= 1 << (number - 1) % 8
            self._header(kind, count=len(bitmap) // RECORD)
            self._stream += bitmap
        for number in sorted(wanted & self._walk.entries.keys()):
            entries = self._walk.entries[number]
            parent = self._walk.above[number][0]
            self._object(number, pack_directory([(number, 4, b"."), (parent, 4, b".."), *entries]))
        for number in sorted(wanted - self._walk.entries.keys()):
            path = self._walk.paths[number]
            mode = os.lstat(path).st_mode
            content = b""
            if stat.S_ISLNK(mode):
                content = os.readlink(path)
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    content = file.read()
            self._object(number, content)
        self._header(RecordType.END)
        return bytes(self._stream)

    def _object(self, number: int, content: bytes) -> None:
        path = self._walk.paths[number]
        status = os.lstat(path)
        times = (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)
        owner = (status.st_nlink, status.st_uid, status.st_gid)
        inode = Inode(status.st_mode, *owner, len(content), *times, status.st_rdev)
        content += bytes(-len(content) % RECORD)
        holes = stat.S_ISREG(status.st_mode) and _has_holes(path, status.st_size)
        records = [content[at : at + RECORD] for at in range(0, len(content), RECORD)]
        for first in range(0, max(1, len(records)), SPAN):
            part = records[first : first + SPAN]
            addr = bytes(0 if holes and not any(record) else 1 for record in part)
            kind = RecordType.ADDR if first else RecordType.INODE
            self._header(kind, number, inode, count=len(part), addr=addr)
            self._stream += b"".join(record for record, there in zip(part, addr, strict=True) if there)
        blob, left = split(_attributes(path))
        assert not left
        if blob:
            count = -(-len(blob) // RECORD)
            self._header(RecordType.INODE, number, inode._replace(size=len(blob)), count=count, extension=3)
            self._stream += blob + bytes(-len(blob) % RECORD)
