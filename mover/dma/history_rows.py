"""File history posts as rows of the catalogue; numbers without a sign become SQLite's signed ones."""

from collections.abc import Iterable

from mover.ndmp.enums import UNKNOWN_U64
from mover.ndmp.messages import (
    Dir,
    FhAddDirPost,
    FhAddFilePost,
    FhAddNodePost,
    File,
    FileStat,
    NtName,
    OtherName,
    UnixName,
)

HistoryPost = FhAddDirPost | FhAddNodePost | FhAddFilePost

_HIGH = 1 << 63
_WHOLE = 1 << 64
_NO_STAT = FileStat()


class HistoryRows:
    """A batch of history in the order of the catalogue's columns."""

    def __init__(self) -> None:
        self.dirs: list[tuple[int, bytes, int]] = []
        """parent, name, node"""
        self.nodes: list[tuple[int, ...]] = []
        """node, ftype, mode, owner, group, size, mtime, links, fh_info"""
        self.files: list[tuple[bytes | int, ...]] = []
        """path, node, and the attributes as above"""
        self.names = 0
        """Names in the batch; "." and ".." are none."""
        self.root: int | None = None
        """Node of the batch's first "." entry: of the whole history's first one it is the backup root."""

    def __len__(self) -> int:
        return len(self.dirs) + len(self.nodes) + len(self.files)

    def add(self, posts: Iterable[HistoryPost]) -> None:
        """Take posts in the order in which they came."""
        for post in posts:
            match post:
                case FhAddDirPost(dirs):
                    self._add_dirs(dirs)
                case FhAddNodePost(nodes):
                    self.nodes += [
                        (
                            node.node if node.node < _HIGH else node.node - _WHOLE,
                            *_attributes(node.stats, node.fh_info),
                        )
                        for node in nodes
                    ]
                case FhAddFilePost(files):
                    self._add_files(files)

    def _add_dirs(self, dirs: Iterable[Dir]) -> None:
        before = len(self.dirs)
        for entry in dirs:
            name = _name(entry.names)
            if name in {b".", b".."}:
                if name == b"." and self.root is None:
                    self.root = _signed(entry.node)
                continue
            parent, node = entry.parent, entry.node
            if parent >= _HIGH:
                parent -= _WHOLE
            if node >= _HIGH:
                node -= _WHOLE
            self.dirs.append((parent, name, node))
        self.names += len(self.dirs) - before

    def _add_files(self, files: Iterable[File]) -> None:
        before = len(self.files)
        for file in files:
            path = b"/" + _name(file.names).strip(b"/")
            self.files.append((path, _signed(file.node), *_attributes(file.stats, file.fh_info)))
        self.names += len(self.files) - before


def _signed(value: int) -> int:
    return value if value < _HIGH else value - _WHOLE


def _name(names: tuple[object, ...]) -> bytes:
    match names[0] if names else None:
        case UnixName(name) | OtherName(name):
            return name
        case NtName(nt_path=name):
            return name
        case _:
            return b""


def _attributes(stats: tuple[FileStat, ...], fh_info: int) -> tuple[int, ...]:
    stat = stats[0] if stats else _NO_STAT
    size = stat.size
    return (
        stat.ftype,
        stat.fattr & 0o7777,
        stat.owner,
        stat.group,
        size if size < _HIGH else size - _WHOLE,
        stat.mtime,
        stat.links,
        -1 if fh_info == UNKNOWN_U64 else _signed(fh_info),
    )
