"""The tree that quickstart backs up: its entries, and what of them this user cannot back up and restore exactly."""

import collections
import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

# What goes with an owner that cannot be given, in the comparer's words: a recover gives no set-ID bits to our own file.
OWNERSHIP = frozenset({"owner", "group"})
SET_ID = frozenset({"set-id"})
NOTHING: frozenset[str] = frozenset()


class Source:
    """The tree to back up: what is in it, and what has to be left out of the comparison.

    Attributes:
        entries, data_bytes: what is to be backed up.
        skipped: path -> why the entry cannot be read or made.
        not_restored: path -> kinds of difference (the comparer's) that cannot be avoided here.
        asks_for_trusted: some entry has attributes that a job keeps only with TRUSTED_XATTRS=y.
    """

    def __init__(self, directory: Path, exclude: tuple[str, ...], scratch: Path) -> None:
        self.directory = directory
        self.exclude = exclude
        self.entries = 0
        self.data_bytes = 0
        self.skipped: dict[bytes, str] = {}
        self.not_restored: dict[bytes, frozenset[str]] = {}
        self.asks_for_trusted = False
        self._mounted: set[bytes] = set()
        root = os.fsencode(directory)
        groups = {os.getegid(), *os.getgroups()}
        for path, status, here in walk(root):
            if self.is_left_out(path):
                continue
            self.entries += 1
            if stat.S_ISREG(status.st_mode):
                self.data_bytes += status.st_blocks * 512
            full = root if path == b"." else os.path.join(root, path)
            if not here:
                self._mounted.add(path)
                self.skipped[path] = "on another file system"
            elif reason := reason_to_skip(full, status):
                self.skipped[path] = reason
            else:
                names = attribute_names(full)
                self.asks_for_trusted |= any(asks_for_trusted(name) for name in names)
                if lost := refused_ownership(status, groups) | refused_attributes(full, names, status, scratch):
                    self.not_restored[path] = lost

    def is_left_out(self, path: bytes) -> bool:
        """Whether EXCLUDE names the entry or one above it, or it lies below a mount point."""
        components = path.split(b"/")
        if any(os.fsencode(name) in components for name in self.exclude):
            return True
        return any(b"/".join(components[:count]) in self._mounted for count in range(1, len(components)))

    def counts_of_not_restored(self) -> dict[str, int]:
        """What cannot be restored, for people -> the number of entries that have it."""
        counts: collections.Counter[str] = collections.Counter()
        for lost in self.not_restored.values():
            counts.update(sorted(lost - OWNERSHIP))
            counts["owner"] += lost >= OWNERSHIP
        names = {"owner": "owner and group", "set-id": "set-user-ID and set-group-ID bits"}
        named = {
            names.get(what, what.replace("xattr ", "attribute ")): count for what, count in counts.items() if count
        }
        return dict(sorted(named.items()))


def walk(root: bytes) -> Iterator[tuple[bytes, os.stat_result, bool]]:
    """Every entry below and with the root: relative path, status, and whether it lies on the root's file system.

    Directories that may not be read or lie on another file system are met but not entered.
    """
    device = os.lstat(root).st_dev
    waiting = [b"."]
    while waiting:
        path = waiting.pop()
        full = root if path == b"." else os.path.join(root, path)
        try:
            status = os.lstat(full)
        except (PermissionError, FileNotFoundError):
            continue
        here = status.st_dev == device
        yield path, status, here
        if here and stat.S_ISDIR(status.st_mode):
            with contextlib.suppress(PermissionError, FileNotFoundError):
                waiting += [name if path == b"." else path + b"/" + name for name in sorted(os.listdir(full))]


def reason_to_skip(path: bytes, status: os.stat_result) -> str | None:
    """Why this user cannot read an entry, or make and read it again; None: it can."""
    if os.geteuid() == 0:
        return None
    kind = stat.S_IFMT(status.st_mode)
    if kind in {stat.S_IFCHR, stat.S_IFBLK}:
        return "a device, which only root may make"
    wanted = {stat.S_IFREG: os.R_OK, stat.S_IFDIR: os.R_OK | os.X_OK}.get(kind)
    if wanted is not None:
        if not os.access(path, wanted):
            return "may not be read"
        if status.st_mode >> 6 & wanted != wanted:
            return "its owner may not read it, and recovered it is ours"
    return None


def refused_ownership(status: os.stat_result, groups: set[int]) -> frozenset[str]:
    """Owner, group and what goes with them, where this user may not give them."""
    if os.geteuid() == 0 or (status.st_uid == os.geteuid() and status.st_gid in groups):
        return NOTHING
    return OWNERSHIP | SET_ID if status.st_mode & (stat.S_ISUID | stat.S_ISGID) else OWNERSHIP


def attribute_names(path: bytes) -> list[str]:
    """The names of the extended attributes that this user sees."""
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError:
        return []  # the file system has none


def asks_for_trusted(name: str) -> bool:
    """Whether an attribute takes the right that TRUSTED_XATTRS=y keeps (docs/environment.md)."""
    return name.startswith(("trusted.", "security.")) and name != "security.capability"


def refused_attributes(path: bytes, names: list[str], status: os.stat_result, scratch: Path) -> frozenset[str]:
    """The attributes that cannot be set in the scratch directory, by rights or by its file system, found by trying."""
    if not names:
        return NOTHING
    refused = set()
    directory = stat.S_ISDIR(status.st_mode)
    with (tempfile.TemporaryDirectory if directory else tempfile.NamedTemporaryFile)(dir=scratch) as made:
        probe = made if isinstance(made, str) else made.name
        for name in names:
            try:
                os.setxattr(probe, name, os.getxattr(path, name, follow_symlinks=False))
            except OSError:
                refused.add(f"xattr {name}")
    return frozenset(refused)
