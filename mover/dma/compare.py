"""Compares two directory trees entry by entry: the judge of every recover that quickstart and the tests make.

Stands apart from NDMP: it reads both trees through directory descriptors, never follows a symbolic link, and
treats a filled hole as a difference.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

CHUNK_BYTES = 1 << 20
# st_blocks counts the file system's metadata too (extent tree, attribute block): so much is no filled hole.
ALLOCATION_SLACK_BYTES = 64 << 10
SET_ID_BITS = 0o6000  # apart from the mode: they go with the owner

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: an entry that turned into a fifo since its stat must not hang us.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TYPE_NAMES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}

Extent = tuple[int, int]
Exempt = Callable[[bytes, os.stat_result, str], bool]


class Difference(NamedTuple):
    """One way in which an entry differs; `path` is relative to the roots (b"." is the root itself)."""

    path: bytes
    what: str  # missing, type, unreadable, size, mode, set-id, owner, group, mtime, content, holes, allocation,
    # target, device, xattr NAME, hard link
    left: str
    right: str

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.what}: {self.left} != {self.right}"


class Comparison(NamedTuple):
    """What a comparison found."""

    compared: int  # entries looked at, the roots included; a skipped entry is not
    identical: int  # of those, the ones without any difference
    differences: list[Difference]
    skipped: dict[bytes, str]  # path -> reason, as far as the entry was met


class _Side(NamedTuple):
    """One entry of one tree: its parent's descriptor, its name there and its metadata."""

    parent: int
    name: bytes
    status: os.stat_result

    def path(self) -> bytes:
        """A short path that never passes a symbolic link of the tree, for calls without a dir_fd."""
        return b"/proc/self/fd/%d/%s" % (self.parent, self.name)


def printable(path: bytes) -> str:
    """A path for people: undecodable bytes and control characters escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def compare_trees(
    left: bytes | str | os.PathLike[str],
    right: bytes | str | os.PathLike[str],
    *,
    skip: Mapping[bytes, str] | None = None,
    time_granularity_ns: int = 1000,
    hole_granularity_bytes: int = 4096,
    exempt: Exempt | None = None,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Compares every entry of two trees.

    Type, content, size, mode, set-ID bits, owner, group, mtime, link target, hard-link groups, device numbers, extended
    attributes (POSIX ACLs among them) and holes must agree. A directory's size, and access and change times,
    are the file system's own and are left out.

    Args:
        left, right: the two roots, compared themselves as b".".
        skip: paths relative to the roots that are left out, with the reason. What lies below a skipped
            directory is still compared where both sides have it and let it be read.
        time_granularity_ns: mtimes are cut to a multiple of it; other readers of a dump know microseconds only.
        hole_granularity_bytes: hole maps are rounded outward to it; at least the larger block size.
        exempt: `exempt(path, left status, what)` is true where that kind of difference is none.
        progress: called with the number of entries looked at so far.

    Raises:
        OSError: one of the roots cannot be read.
    """
    walk = _Walk(skip or {}, time_granularity_ns, hole_granularity_bytes, exempt, progress)
    with contextlib.ExitStack() as stack:
        parents = []
        for root in (left, right):
            descriptor = os.open(root, _DIRECTORY_FLAGS)
            stack.callback(os.close, descriptor)
            parents.append(_Side(descriptor, b".", os.fstat(descriptor)))
        walk.entry(b".", parents[0], parents[1])
    return Comparison(walk.compared, walk.identical, walk.differences, walk.skipped)


def data_extents(descriptor: int, size: int) -> Iterator[Extent]:
    """The parts of an open file of `size` bytes that are not holes, as (start, end), ascending."""
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        position = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        if start >= size:
            return
        yield start, position


def rounded_extents(extents: Iterator[Extent] | list[Extent], granularity: int, size: int) -> list[Extent]:
    """Extents rounded outward to the granularity, cut at `size`, overlapping and touching ones joined."""
    joined: list[Extent] = []
    for start, end in extents:
        low = start // granularity * granularity
        high = min(-(-end // granularity) * granularity, size)
        if joined and low <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return joined


class _Walk:
    """The state of one comparison; depth is limited by the descriptors a process may hold (two a level)."""

    def __init__(
        self,
        skip: Mapping[bytes, str],
        time_granularity_ns: int,
        hole_granularity_bytes: int,
        exempt: Exempt | None,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.compared = 0
        self.identical = 0
        self.differences: list[Difference] = []
        self.skipped: dict[bytes, str] = {}
        self._skip = skip
        self._time_granularity_ns = time_granularity_ns
        self._hole_granularity_bytes = hole_granularity_bytes
        self._exempt = exempt
        self._progress = progress
        # inode -> first path met with it: the hard-link groups are equal when these agree everywhere.
        self._first_left: dict[tuple[int, int], bytes] = {}
        self._first_right: dict[tuple[int, int], bytes] = {}

    def entry(self, path: bytes, left: _Side, right: _Side) -> None:
        """Compares one entry that both sides have, and what lies below it."""
        if path in self._skip:
            self.skipped[path] = self._skip[path]
        else:
            self._count(self._entry_differences(path, left, right))
        if stat.S_ISDIR(left.status.st_mode) and stat.S_ISDIR(right.status.st_mode):
            self._children(path, left, right)

    def _count(self, found: list[Difference]) -> None:
        self.compared += 1
        if found:
            self.differences += found
        else:
            self.identical += 1
        if self._progress is not None:
            self._progress(self.compared)

    def _children(self, path: bytes, left: _Side, right: _Side) -> None:
        with contextlib.ExitStack() as stack:
            descriptors: list[int] = []
            names: list[set[bytes]] = []
            for side in (left, right):
                try:
                    descriptor = os.open(side.name, _DIRECTORY_FLAGS, dir_fd=side.parent)
                    stack.callback(os.close, descriptor)
                    names.append({os.fsencode(name) for name in os.listdir(descriptor)})
                except OSError as error:
                    if path not in self._skip:
                        self._count([Difference(path, "unreadable", *_failure(side is left, error))])
                    return
                descriptors.append(descriptor)
            prefix = b"" if path == b"." else path + b"/"
            for name in sorted(names[0] | names[1]):
                self._child(prefix + name, name, descriptors)

    def _child(self, path: bytes, name: bytes, descriptors: list[int]) -> None:
        sides: list[_Side | None] = []
        for descriptor in descriptors:
            try:
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except FileNotFoundError:
                sides.append(None)
            except OSError as error:
                if path in self._skip:
                    self.skipped[path] = self._skip[path]
                else:
                    self._count([Difference(path, "unreadable", *_failure(not sides, error))])
                return
            else:
                sides.append(_Side(descriptor, name, status))
        left, right = sides
        if left is not None and right is not None:
            self.entry(path, left, right)
        elif path in self._skip:
            self.skipped[path] = self._skip[path]
        else:
            present = left or right
            if present is not None and not self._is_exempt(path, present.status, "missing"):
                self._count([Difference(path, "missing", _kind(left), _kind(right))])

    def _is_exempt(self, path: bytes, status: os.stat_result, what: str) -> bool:
        return self._exempt is not None and self._exempt(path, status, what)

    def _entry_differences(self, path: bytes, left: _Side, right: _Side) -> list[Difference]:
        one, two = left.status, right.status
        kind = stat.S_IFMT(one.st_mode)
        if kind != stat.S_IFMT(two.st_mode):
            return [Difference(path, "type", _kind(left), _kind(right))]
        granularity = self._time_granularity_ns
        checks: list[tuple[str, object, object]] = [
            ("mode", f"{one.st_mode & 0o1777:04o}", f"{two.st_mode & 0o1777:04o}"),
            ("set-id", f"{one.st_mode & SET_ID_BITS:04o}", f"{two.st_mode & SET_ID_BITS:04o}"),
            ("owner", one.st_uid, two.st_uid),
            ("group", one.st_gid, two.st_gid),
            ("mtime", _time(one.st_mtime_ns, granularity), _time(two.st_mtime_ns, granularity)),
        ]
        if kind in {stat.S_IFCHR, stat.S_IFBLK}:
            checks.append(("device", _device(one), _device(two)))
        if kind == stat.S_IFREG:
            checks.append(("size", one.st_size, two.st_size))
        if kind != stat.S_IFDIR:
            first_left = self._first_left.setdefault((one.st_dev, one.st_ino), path)
            first_right = self._first_right.setdefault((two.st_dev, two.st_ino), path)
            checks.append(("hard link", _link(first_left, path), _link(first_right, path)))
        found = [Difference(path, what, str(a), str(b)) for what, a, b in checks if a != b]
        reading_left = True
        try:
            if kind == stat.S_IFLNK:
                targets = (
                    os.readlink(left.name, dir_fd=left.parent),
                    os.readlink(right.name, dir_fd=right.parent),
                )
                if targets[0] != targets[1]:
                    found.append(Difference(path, "target", printable(targets[0]), printable(targets[1])))
            attributes_left = _xattrs(left)
            reading_left = False
            found += _xattr_differences(path, attributes_left, _xattrs(right))
        except OSError as error:
            found.append(Difference(path, "unreadable", *_failure(reading_left, error)))
        else:
            if kind == stat.S_IFREG and one.st_size == two.st_size:
                found += self._file_differences(path, left, right)
        return [difference for difference in found if not self._is_exempt(path, one, difference.what)]

    def _file_differences(self, path: bytes, left: _Side, right: _Side) -> list[Difference]:
        size = left.status.st_size
        granularity = self._hole_granularity_bytes
        with contextlib.ExitStack() as stack:
            descriptors = []
            for side in (left, right):
                try:
                    descriptor = os.open(side.name, _FILE_FLAGS, dir_fd=side.parent)
                except OSError as error:
                    return [Difference(path, "unreadable", *_failure(side is left, error))]
                stack.callback(os.close, descriptor)
                descriptors.append(descriptor)
            maps = [list(data_extents(descriptor, size)) for descriptor in descriptors]
            found = []
            # Outside both maps both read as zeros: only the union is read, a huge sparse file costs little.
            for start, end in rounded_extents(sorted(maps[0] + maps[1]), granularity, size):
                difference = _first_unequal(path, descriptors, start, end)
                if difference is not None:
                    found.append(difference)
                    break
        rounded = [rounded_extents(extents, granularity, size) for extents in maps]
        if rounded[0] != rounded[1]:
            found.append(Difference(path, "holes", _map_text(rounded[0]), _map_text(rounded[1])))
        else:
            data_bytes = sum(end - start for start, end in rounded[0])
            excess = [max(0, side.status.st_blocks * 512 - data_bytes) for side in (left, right)]
            # Extents that were reserved but never written read as holes: only the block count tells of them.
            slack = max(ALLOCATION_SLACK_BYTES, data_bytes // 64)
            if (excess[0] > slack) != (excess[1] > slack):
                texts = [f"{value} bytes allocated beyond its data" for value in excess]
                found.append(Difference(path, "allocation", *texts))
        return found


def _first_unequal(path: bytes, descriptors: list[int], start: int, end: int) -> Difference | None:
    """The first byte in [start, end) that differs between two open files."""
    while start < end:
        wanted = min(CHUNK_BYTES, end - start)
        one, two = (_read_exactly(descriptor, wanted, start) for descriptor in descriptors)
        if one != two:
            at = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
            texts = [f"byte {data[at : at + 1].hex() or 'none'} at offset {start + at}" for data in (one, two)]
            return Difference(path, "content", *texts)
        if len(one) < wanted:  # both were cut while we read
            return None
        start += wanted
    return None


def _read_exactly(descriptor: int, wanted: int, offset: int) -> bytes:
    """`wanted` bytes from `offset`, fewer only at the end of the file."""
    pieces = []
    while wanted:
        piece = os.pread(descriptor, wanted, offset)
        if not piece:
            break
        pieces.append(piece)
        wanted -= len(piece)
        offset += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _xattrs(side: _Side) -> dict[str, bytes]:
    """All extended attributes of an entry; none where the file system has no such thing."""
    path = side.path()
    try:
        return {
            name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
        }
    except OSError as error:
        if error.errno in {errno.ENOTSUP, errno.EOPNOTSUPP}:
            return {}
        raise


def _xattr_differences(path: bytes, left: dict[str, bytes], right: dict[str, bytes]) -> list[Difference]:
    found = []
    for name in sorted(left.keys() | right.keys()):
        one, two = left.get(name), right.get(name)
        if one != two:
            what = f"xattr {name.encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')}"
            found.append(Difference(path, what, _value_text(one), _value_text(two)))
    return found


def _failure(on_left: bool, error: OSError) -> tuple[str, str]:
    text = error.strerror or str(error)
    return (text, "-") if on_left else ("-", text)


def _kind(side: _Side | None) -> str:
    return "absent" if side is None else _TYPE_NAMES.get(stat.S_IFMT(side.status.st_mode), "unknown type")


def _time(nanoseconds: int, granularity: int) -> str:
    seconds, rest = divmod(nanoseconds // granularity * granularity, 1_000_000_000)
    return f"{seconds}.{rest:09d}"


def _device(status: os.stat_result) -> str:
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _link(first: bytes, path: bytes) -> str:
    return "first of its inode" if first == path else f"linked to {printable(first)}"


def _value_text(value: bytes | None) -> str:
    if value is None:
        return "absent"
    return f"{len(value)} bytes {value[:32].hex()}{'...' if len(value) > 32 else ''}"


def _map_text(extents: list[Extent]) -> str:
    shown = ", ".join(f"{start}-{end}" for start, end in extents[:4])
    return f"data at {shown}{', ...' if len(extents) > 4 else ''}" if extents else "no data"
