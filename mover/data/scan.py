"""Phases I and II of a dump: finds every entry below the root, in a full backup without a stat per file.

Hard links are found by their inode numbers (mover/data/hard_links.py). An incremental backup has to look at every entry
once, for its time of change.

Source: dump.md sections 5 and 10, performance.md "Recommended backup path".
"""

import errno
import functools
import itertools
import os
from array import array
from collections.abc import Callable, Collection, Sequence
from typing import Final

from mover.data.backup_report import BackupReport
from mover.data.changes import Since, find_changes
from mover.data.dump_format import DT_DIRECTORY, DT_FILE, DT_SYMLINK, FIRST_INUMBER, ROOT_INUMBER
from mover.data.exclusion import Exclusion, Tags
from mover.data.hard_links import find_links, find_repeated_directories
from mover.data.mounts import NOT_IN_SNAPSHOT, Crossing, FileSystemType, Mounts, stands_for_subvolume
from mover.data.open_directories import OpenDirectories
from mover.data.plan import Plan
from mover.data.report import reason
from mover.data.subtrees import Way
from mover.data.tally import OTHER_FILE_SYSTEM
from mover.data.xattr_blob import Attribute
from mover.ring import DataPhase

_LISTING_PART: Final = 1 << 16  # entries of one directory between two words of how far the scan is


_Pending = tuple[int, str, int, int]
"""A directory to scan: its parent's ordinal, name, key, inode as listed."""


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
        since: Since | None = None,
        private_fd: int = -1,
        tags: Tags | None = None,
        ways: Way | None = None,
        crossing: Crossing = Crossing.NONE,
    ) -> None:
        """Args:
        root: descriptor of the root directory.
        tags: what says of a directory that nothing else in it is wanted.
        ways: to the subtrees that are wanted; None = everything is.
        crossing: which other file systems are wanted.
        since: whatever was changed then or later is noted as changed; None = it is not looked at.
        attributes: reads the extended attributes of an open directory whose path it can ask for.
        check: called once a directory, and within large ones, with the number of entries found; may raise to end the
            scan.
        private_fd: with since: what a copy of this process must not hold.
        """
        self._exclusion = exclusion
        self._report = report
        self._attributes = attributes
        self._check = check
        self._root = root
        self._since = since
        self._private_fd = private_fd
        self._tags = tags
        self._ways: dict[int, Way] = {0: ways} if ways else {}  # ordinal -> what is wanted of it, where that is a part
        self._crosses = crossing is not Crossing.NONE
        self._mounts = Mounts(crossing)
        self.plan = Plan()
        self.open_directories = OpenDirectories(self.plan, root, to_list=True)

    def run(self) -> Plan:
        """The whole scan.

        Raises:
            OSError: the root itself cannot be read.
        """
        plan, walk = self.plan, self.open_directories
        # A stack, so that depth costs nothing.
        pending: list[_Pending] = [(0, ".", ROOT_INUMBER, 0)]
        while pending:
            self._check(plan.next_inumber)
            parent, name, key, listed = pending.pop()
            ordinal = plan.add(key, parent, os.fsencode(name))
            errors = self._report.errors
            mounted: FileSystemType | None = None
            is_held = True
            try:
                fd = walk.open(ordinal)
                stat = os.fstat(fd)
                if ordinal:
                    mounted = self._mounts.enter(ordinal, parent, fd, stat.st_dev)
                    is_held = mounted is None or not stands_for_subvolume(fd)
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
                self._mounts.begin(stat.st_dev)
                listed = stat.st_ino
            self._identify(ordinal, listed, stat)
            plan.set_metadata(ordinal, stat)
            found = self._attributes(fd, functools.partial(plan.path, ordinal))
            if found:
                plan.attributes[ordinal] = found
            if mounted is not None and not self._goes_into(ordinal, mounted, is_held=is_held):
                continue
            if self._ways and (way := self._ways.get(parent)) is not None and ordinal and (way := way[name]):
                self._ways[ordinal] = way
            children = self._list(ordinal, fd)
            pending += reversed(children)
            if self._report.errors != errors:
                plan.unsound.add(key)
        walk.list_no_more()
        plan.mask = self._mounts.mask
        check = functools.partial(self._check, plan.next_inumber)
        find_links(plan, walk, check)
        find_repeated_directories(plan, check)
        if self._since is not None:
            self._report.enter(DataPhase.CHANGES)
            plan.changed = find_changes(
                plan, self._root, self._since, check, self._private_fd, self._report.tell_looked_at
            )
        return plan

    def _identify(self, ordinal: int, listed: int, stat: os.stat_result | None) -> None:
        """Note how a directory is known again, and whether it was changed; None: it could not be looked into."""
        plan, mounts, parent = self.plan, self._mounts, self.plan.parents[ordinal]
        plan.directory_inodes[ordinal] = listed
        plan.own_inodes[ordinal] = stat.st_ino if stat is not None else 0
        plan.odd[ordinal] = stat is not None and (stat.st_ino != listed or stat.st_dev != mounts.device(parent))
        if self._crosses and ordinal:
            # What another file system is mounted on is another directory than what was there before.
            is_mount = stat is not None and stat.st_dev != mounts.device(parent)
            plan.directory_inodes[ordinal] ^= mounts.mask(parent) ^ (mounts.mask(ordinal) if is_mount else 0)
        if self._since is not None:
            since_ns = self._since.ns
            plan.directory_changed[ordinal] = (
                stat is None or stat.st_ctime_ns >= since_ns or stat.st_mtime_ns >= since_ns
            )

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
            self._report.error(path, f"left out: {reason(gone)}", gone)
        else:
            plan.set_metadata(ordinal, stat)
            what = "backed up as an empty directory" if self._since is None else "what is in it is left out"
            self._report.error(path, f"{what}: {reason(error)}", error)

    def _goes_into(self, ordinal: int, mounted: FileSystemType, *, is_held: bool) -> bool:
        """Whether what is mounted on a directory is backed up; either way the log says so.

        Args: is_held: it is in the snapshot that is read, if one is.
        """
        path = self.plan.path(ordinal)
        if is_held and self._mounts.goes_into(mounted):
            self._report.note(path, f"is on another file system ({mounted.name}): backed up, too")
            return True
        where = f"is on another file system ({mounted.name}, {mounted.kind.value})" if is_held else NOT_IN_SNAPSHOT
        self._report.warning(path, f"{where}: backed up as an empty directory")
        self._report.tally.left_out[OTHER_FILE_SYSTEM] += 1
        return False

    def _list(self, ordinal: int, fd: int) -> list[_Pending]:
        """Read one directory into the plan; returns its directories as they become pending."""
        names: list[str] = []
        types = bytearray()
        inodes = self.plan.inodes
        children: list[_Pending] = []
        first = self.plan.next_inumber
        exclusion = self._exclusion
        excluding = bool(exclusion)
        prefix = self.plan.path(ordinal) if exclusion.by_path else b""
        if prefix:
            prefix += b"/"
        try:
            with os.scandir(fd) as entries:
                for leading in entries:
                    for entry in itertools.chain((leading,), itertools.islice(entries, _LISTING_PART - 1)):
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
                    if len(names) >= _LISTING_PART:
                        self._check(first + len(names))
        except OSError as error:
            del inodes[first - FIRST_INUMBER + len(names) :], types[len(names) :]
            self._report.error(self.plan.path(ordinal), f"listed only in part: {reason(error)}", error)
            children = [child for child in children if child[2] < first + len(names)]
        if self._ways or self._tags:
            wanted = self._wanted(ordinal, fd, names, types, children)
            if wanted is not None:
                names, types, children = self._thin_out(ordinal, wanted, names, types, children)
        if self._crosses and (mask := self._mounts.mask(ordinal)):
            start = first - FIRST_INUMBER
            inodes[start:] = array("Q", [inode ^ mask if inode else 0 for inode in inodes[start:]])
        self.plan.set_listing(names, types)
        return children

    def _wanted(
        self, ordinal: int, fd: int, names: Sequence[str], types: bytearray, children: Sequence[_Pending]
    ) -> Collection[str] | None:
        """Which of a directory's entries are backed up, where that is a part of them: on the way to a subtree the way
        on, in a directory that holds a tag the tag; None = all."""
        way = self._ways.get(ordinal)
        if way is not None:
            wanted = way.keys() & {child[1] for child in children}
            left_out = set(map(os.fsdecode, self.plan.excluded.get(ordinal, [])))
            for name in way.keys() - wanted - left_out:
                path = self.plan.path(ordinal, os.fsencode(name))
                self._report.error(path, "left out: it is not there any more, or no directory")
            return wanted
        if not self._tags:
            return None
        try:
            found = self._tags.found(fd, names, types)
        except OSError as error:
            self._report.error(
                self.plan.path(ordinal), f"its tag cannot be read, so its contents are backed up: {reason(error)}"
            )
            return None
        if found:
            self._report.note(self.plan.path(ordinal), f"holds {min(found)}: what is in it besides is left out")
        return found or None

    def _thin_out(
        self, ordinal: int, wanted: Collection[str], names: list[str], types: bytearray, children: list[_Pending]
    ) -> tuple[list[str], bytearray, list[_Pending]]:
        """The listing of a directory with nothing but what is wanted."""
        plan = self.plan
        start = plan.next_inumber - FIRST_INUMBER
        inodes = plan.inodes[start:]
        del plan.inodes[start:]
        directories = {child[1]: child[3] for child in children}
        kept_names, kept_types, kept_children = list[str](), bytearray(), list[_Pending]()
        for name, kind, inode in zip(names, types, inodes, strict=True):
            if name not in wanted:
                plan.excluded.setdefault(ordinal, []).append(os.fsencode(name))
                continue
            if kind == DT_DIRECTORY:
                kept_children.append((ordinal, name, plan.next_inumber + len(kept_names), directories[name]))
            kept_names.append(name)
            kept_types.append(kind)
            plan.inodes.append(inode)
        return kept_names, kept_types, kept_children
