"""Phases I and II of a dump: finds every entry below the root, in a full backup without a stat per file.

Hard links are regular files (and other non-directories) whose inode number occurs twice; only those are looked at with
a stat, because a mount can show equal numbers for different files. An incremental backup has to look at every entry
once, for its time of change.

Source: dump.md sections 5 and 10, performance.md "Recommended backup path".
"""

import errno
import functools
import itertools
import os
from collections.abc import Callable
from typing import Final

from mover.data.backup_report import BackupReport
from mover.data.changes import find_changes
from mover.data.dump_format import DT_DIRECTORY, DT_FILE, DT_SYMLINK, FIRST_INUMBER, ROOT_INUMBER
from mover.data.environment import Exclusion
from mover.data.open_directories import OpenDirectories
from mover.data.plan import Plan, identity, inode_of
from mover.data.report import reason
from mover.data.xattr_blob import Attribute

__all__ = ["OpenDirectories", "Plan", "Scanner", "inode_of"]

_LINK_PARTITION: Final = 1 << 20  # inodes examined for hard links at once: bounds the memory it takes


class Scanner:
    """Walks the tree below ``root`` into a plan."""

    def __init__(
        self,
        root: int,
        *,
        exclusion: Exclusion,
        report: BackupReport,
        attributes: Callable[[int, Callable[[], bytes]], list[Attribute]],
        check: Callable[[int], None],
        since_ns: int | None = None,
        private_fd: int = -1,
    ) -> None:
        """Args:
        root: descriptor of the root directory.
        since_ns: whatever was changed then or later is noted as changed; None = it is not looked at.
        attributes: reads the extended attributes of an open directory whose path it can ask for.
        check: called once a directory with the number of entries found; may raise to end the scan.
        private_fd: with since_ns: what a copy of this process must not hold.
        """
        self._exclusion = exclusion
        self._report = report
        self._attributes = attributes
        self._check = check
        self._root = root
        self._since_ns = since_ns
        self._private_fd = private_fd
        self._device = 0
        self.plan = Plan()
        self.open_directories = OpenDirectories(self.plan, root)

    def run(self) -> Plan:
        """The whole scan.

        Raises:
            OSError: the root itself cannot be read.
        """
        plan, walk = self.plan, self.open_directories
        # Parent's ordinal, name, key, inode as listed; a stack, so that depth costs nothing.
        pending = [(0, ".", ROOT_INUMBER, 0)]
        while pending:
            self._check(plan.next_inumber)
            parent, name, key, listed = pending.pop()
            ordinal = plan.add(key, parent, os.fsencode(name))
            errors = self._report.errors
            try:
                fd = walk.open(ordinal)
                stat = os.fstat(fd)
            except OSError as error:
                if ordinal == 0:
                    raise
                self._closed_directory(ordinal, error)
                if ordinal < len(plan):
                    self._identify(ordinal, listed, None)
                    plan.unsound.add(key)
                    plan.closed.add(ordinal)
                continue
            if ordinal == 0:
                self._device, listed = stat.st_dev, stat.st_ino
            self._identify(ordinal, listed, stat)
            plan.set_metadata(ordinal, stat)
            found = self._attributes(fd, functools.partial(plan.path, ordinal))
            if found:
                plan.attributes[ordinal] = found
            if stat.st_dev != self._device:
                path = plan.path(ordinal)
                self._report.warning(path, "is on another file system: backed up as an empty directory")
                continue
            children = self._list(ordinal, fd)
            pending += reversed(children)
            if self._report.errors != errors:
                plan.unsound.add(key)
        self._find_links()
        self._find_repeated_directories()
        if self._since_ns is not None:
            check = functools.partial(self._check, plan.next_inumber)
            plan.changed = find_changes(plan, self._root, self._since_ns, check, self._private_fd)
        return plan

    def _identify(self, ordinal: int, listed: int, stat: os.stat_result | None) -> None:
        """Note how a directory is known again, and whether it was changed; None: it could not be looked into."""
        plan = self.plan
        plan.directory_inodes[ordinal] = listed
        plan.own_inodes[ordinal] = stat.st_ino if stat is not None else 0
        plan.odd[ordinal] = stat is not None and (stat.st_ino != listed or stat.st_dev != self._device)
        since = self._since_ns
        if since is not None:
            plan.directory_changed[ordinal] = stat is None or stat.st_ctime_ns >= since or stat.st_mtime_ns >= since

    def _closed_directory(self, ordinal: int, error: OSError) -> None:
        """A directory that cannot be opened: left out when it is gone, else dumped without its entries."""
        plan, walk = self.plan, self.open_directories
        path = plan.path(ordinal)
        parent, name = plan.parents[ordinal], plan.names[ordinal]
        try:
            stat = os.stat(name, dir_fd=walk.open(parent), follow_symlinks=False)
            if stat.st_mode >> 12 != DT_DIRECTORY:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        except OSError as gone:
            walk.forget(ordinal)
            plan.drop_last()
            self._report.error(path, f"left out: {reason(gone)}")
        else:
            plan.set_metadata(ordinal, stat)
            what = "backed up as an empty directory" if self._since_ns is None else "what is in it is left out"
            self._report.error(path, f"{what}: {reason(error)}")

    def _list(self, ordinal: int, fd: int) -> list[tuple[int, str, int, int]]:
        """Read one directory into the plan; returns its directories as they become pending."""
        names: list[str] = []
        types = bytearray()
        inodes = self.plan.inodes
        children: list[tuple[int, str, int, int]] = []
        first = self.plan.next_inumber
        exclusion = self._exclusion
        excluding = bool(exclusion)
        prefix = self.plan.path(ordinal) if exclusion.by_path else b""
        if prefix:
            prefix += b"/"
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = entry.name
                    if excluding:
                        raw = os.fsencode(name)
                        if exclusion.leaves_out(raw, prefix + raw):
                            self.plan.excluded.setdefault(ordinal, []).append(raw)
                            continue
                    if entry.is_file(follow_symlinks=False):
                        types.append(DT_FILE)
                        inodes.append(entry.inode())
                    elif entry.is_dir(follow_symlinks=False):
                        children.append((ordinal, name, first + len(names), entry.inode()))
                        types.append(DT_DIRECTORY)
                        inodes.append(0)
                    elif entry.is_symlink():
                        types.append(DT_SYMLINK)
                        inodes.append(entry.inode())
                    else:
                        try:
                            types.append(entry.stat(follow_symlinks=False).st_mode >> 12)
                        except FileNotFoundError:
                            continue  # gone between the listing and here, as if it had never been listed
                        inodes.append(entry.inode())
                    names.append(name)
        except OSError as error:
            del inodes[first - FIRST_INUMBER + len(names) :], types[len(names) :]
            self._report.error(self.plan.path(ordinal), f"listed only in part: {reason(error)}")
            children = [child for child in children if child[2] < first + len(names)]
        self.plan.set_listing(ordinal, names, bytes(types))
        return children

    def _find_links(self) -> None:
        """Give all names of one inode the number of the first."""
        inodes = self.plan.inodes
        parts = len(inodes) // _LINK_PARTITION + 1
        for part in range(parts):
            members = inodes if parts == 1 else [inode for inode in inodes if inode % parts == part]
            distinct = set(members)
            distinct.discard(0)
            if len(members) - members.count(0) == len(distinct):
                continue
            ordered = sorted(members)
            repeated = {one for one, other in itertools.pairwise(ordered) if one == other}
            repeated.discard(0)
            self._verify_links(repeated)

    def _verify_links(self, repeated: set[int]) -> None:
        plan = self.plan
        first_of: dict[tuple[int, int, int], int] = {}
        at, names = -1, list[bytes]()
        of_inode: dict[int, int] = {}
        for place, inode in enumerate(plan.inodes):
            if inode not in repeated:
                continue
            inumber = FIRST_INUMBER + place
            ordinal = plan.directory_of(inumber)
            if ordinal != at:
                at, names = ordinal, plan.entry_names(ordinal)
            name = names[inumber - plan.firsts[ordinal]]
            try:
                stat = os.stat(name, dir_fd=self.open_directories.open(ordinal), follow_symlinks=False)
            except OSError:
                plan.ambiguous.add(inode)
                continue  # gone or hidden: it stays an inode of its own, and reading it will report that
            first = first_of.setdefault((stat.st_dev, stat.st_ino, stat.st_mode >> 12), inumber)
            if first != inumber:
                plan.links.add(inumber, first)
            if of_inode.setdefault(inode, first) != first:
                plan.ambiguous.add(inode)

    def _find_repeated_directories(self) -> None:
        """A directory that is mounted at two places is two directories, and neither is known again."""
        plan = self.plan
        seen: set[int] = set()
        for ordinal in range(1, len(plan)):
            name = identity(plan, ordinal)
            if name in seen:
                plan.ambiguous.add(name)
            seen.add(name)
