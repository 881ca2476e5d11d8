"""Renames and removes in a destination what an incremental dump says, before its objects are made.

Everything goes by directory descriptors beneath the destination, never through a symbolic link. What stands elsewhere
in the new tree is first moved into a directory of its own, so that swaps and cycles of names need no order; a
directory's place at any moment is what :class:`_Whereabouts` says. Only names that the table of the old tree holds are
removed: a directory that holds anything else stays, and that is told.
"""

import errno
import os
from bisect import bisect_right
from collections import OrderedDict
from typing import Final

from mover.data.beneath import open_beneath, open_or_allow_at
from mover.data.codes import LogType
from mover.data.dump_format import ROOT_INUMBER
from mover.data.name_table import NameIndex
from mover.data.recover_catalogue import Catalogue
from mover.data.recover_chain import Changes, NewName
from mover.data.recover_report import RecoverReport, Request
from mover.data.report import reason
from mover.data.tree_writer import TreeWriter, remove, shed_inheritance

_DESCRIPTORS_MAX: Final = 64
_STASH: Final = 0  # no inode of a dump
_ALL_OF_OWNER: Final = 0o700


class _Whereabouts:
    """Where each directory of the dump is now, and its descriptor.

    Args:
        root: descriptor of the destination; stays the caller's.
    """

    def __init__(self, root: int, old: NameIndex) -> None:
        self._root = root
        self._old = old
        self._moved: dict[int, tuple[int, bytes]] = {}  # inode number -> the directory it is in, and its name
        self._open: OrderedDict[int, int] = OrderedDict()
        self._names: dict[int, list[bytes]] = {}  # of the directory asked for last
        self.borrowed: dict[int, int] = {}  # modes of directories that had to be made accessible

    def close(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def put(self, number: int, parent: int, name: bytes) -> None:
        """A directory is now in another place, or has been made."""
        self._moved[number] = (parent, name)

    def place(self, number: int) -> tuple[int, bytes]:
        """The directory that one is in, and its name there."""
        moved = self._moved.get(number)
        if moved is not None:
            return moved
        ordinal = self._old.ordinals[number]
        parent = self._old.parents[ordinal]
        return self._old.table.numbers[parent], self.name(parent, self._old.places[ordinal] - 1)

    def name(self, ordinal: int, entry: int) -> bytes:
        """The name of an entry of the old table, which is in the directory with that ordinal."""
        names = self._names.get(ordinal)
        if names is None:
            names = self._old.names(ordinal)
            if len(self._names) >= _DESCRIPTORS_MAX:
                self._names.pop(next(iter(self._names)))
            self._names[ordinal] = names
        return names[entry - self._old.firsts[ordinal]]

    def parts(self, number: int) -> list[bytes]:
        """The path of a directory below the destination."""
        parts: list[bytes] = []
        while number != ROOT_INUMBER:
            number, name = self.place(number)
            parts.append(name)
        return parts[::-1]

    def open(self, number: int) -> int:
        """A directory's descriptor, good until so many others have been asked for; it can be changed.

        Raises:
            OSError: it is not there, or not a directory any more.
        """
        if number == ROOT_INUMBER:
            return self._root
        fd = self._open.get(number)
        if fd is not None:
            self._open.move_to_end(number)
            return fd
        chain: list[tuple[int, bytes]] = []
        above = number
        while above != ROOT_INUMBER and above not in self._open:
            parent, name = self.place(above)
            chain.append((above, name))
            above = parent
        fd = self._root if above == ROOT_INUMBER else self._open[above]
        try:
            if len(chain) > 1:
                holder = open_beneath(fd, [name for _, name in reversed(chain[1:])])
                try:
                    return self._open_at(holder, *chain[0])
                finally:
                    os.close(holder)
        except PermissionError:
            for each, name in reversed(chain[1:]):  # one of them is shut even to its owner
                fd = self._open_at(fd, each, name)
        return self._open_at(fd, *chain[0])

    def _open_at(self, parent: int, number: int, name: bytes) -> int:
        fd, mode = open_or_allow_at(parent, name)
        if len(self._open) >= _DESCRIPTORS_MAX:
            os.close(self._open.popitem(last=False)[1])
        self._open[number] = fd
        if mode & _ALL_OF_OWNER != _ALL_OF_OWNER and os.fstat(fd).st_uid == os.geteuid():
            os.fchmod(fd, mode | _ALL_OF_OWNER)
            self.borrowed[number] = mode
        return fd


class TreeChanger:
    """One incremental dump's renames and removals.

    Args:
        root: descriptor of the destination; stays the caller's.
        path: of the destination, for what is reported.

    Attributes:
        failed: the destination is not as the table of the new tree says.
        removed, renamed: objects; a directory counts as one.
    """

    def __init__(
        self,
        root: int,
        path: bytes,
        old: NameIndex,
        changes: Changes,
        catalogue: Catalogue,
        writer: TreeWriter,
        report: RecoverReport,
        request: Request,
    ) -> None:
        self.failed = False
        self.removed = 0
        self.renamed = 0
        self._root = root
        self._path = path
        self._old = old
        self._changes = changes
        self._catalogue = catalogue
        self._writer = writer
        self._report = report
        self._request = request
        self._where = _Whereabouts(root, old)
        self._stash = -1
        self._stash_name = b""
        self._aside: set[int] = set()  # directories and others, by inode number: no number is both
        self._emptied: set[int] = set()

    def run(self) -> None:
        """Bring the names of the destination into the order of the new tree; what fails is reported."""
        status = os.fstat(self._root)
        self._writer.file_systems.note(self._root, status.st_dev)
        try:
            if status.st_uid == os.geteuid() and status.st_mode & _ALL_OF_OWNER != _ALL_OF_OWNER:
                os.fchmod(self._root, status.st_mode & 0o7777 | _ALL_OF_OWNER)  # it is in the stream, as ever
            self._set_directories_aside()
            self._set_others_aside()
            self._remove_others()
            self._remove_directories()
            self._place_directories()
            self._place_others()
            self._tell_of_unknown()
            self._give_modes_back()
            self._remove_stash()
        finally:
            self._where.close()
            if self._stash >= 0:
                os.close(self._stash)

    # --- what is told

    def _full_path(self, number: int, name: bytes) -> bytes:
        return b"/".join([self._path.rstrip(b"/"), *self._where.parts(number), name])

    def _fail(self, number: int, name: bytes, what: str, error: OSError) -> None:
        self.failed = True
        self._report.error(self._full_path(number, name), f"{what}: {reason(error)}", self._request)

    def _warn(self, number: int, name: bytes, why: str) -> None:
        self._report.log(LogType.WARNING, self._full_path(number, name) + b": " + why.encode())

    # --- aside

    def _stash_fd(self) -> int:
        """The directory for what has no place at the moment; made when it is wanted first."""
        turn = 0
        while self._stash < 0:
            name = b".mover-moving-%d-%d" % (os.getpid(), turn)
            turn += 1
            try:
                os.mkdir(name, _ALL_OF_OWNER, dir_fd=self._root)
            except FileExistsError:
                continue  # of a recover that was killed
            self._stash_name = name
            self._where.put(_STASH, ROOT_INUMBER, name)
            self._stash = os.dup(self._where.open(_STASH))
        return self._stash

    def _set_directories_aside(self) -> None:
        where = self._where
        for new in self._changes.directories:
            number = new.inumber
            if number not in self._old.ordinals:
                continue
            parent, name = where.place(number)
            try:
                where.open(number)  # a directory, and one whose ".." may change
                os.rename(name, b"%d" % number, src_dir_fd=where.open(parent), dst_dir_fd=self._stash_fd())
            except OSError as error:
                self._fail(parent, name, "cannot be renamed", error)
            else:
                where.put(number, _STASH, b"%d" % number)
                self._aside.add(number)

    def _place_of(self, entry: int) -> tuple[int, bytes]:
        """The directory and the name of an entry of the old table."""
        ordinal = bisect_right(self._old.firsts, entry) - 1
        return self._old.table.numbers[ordinal], self._where.name(ordinal, entry)

    def _set_others_aside(self) -> None:
        """What has no name that stays keeps its last one until it gets a new one."""
        changes = self._changes
        for number, entry in list(changes.sources.items()):
            if not changes.is_removed[entry]:
                continue
            changes.is_removed[entry] = 0
            parent, name = self._place_of(entry)
            try:
                source = self._where.open(parent)
                os.rename(name, b"%d" % number, src_dir_fd=source, dst_dir_fd=self._stash_fd())
            except OSError as error:
                del changes.sources[number]
                if not isinstance(error, FileNotFoundError) or not self._catalogue.contains(number):
                    self._fail(parent, name, "cannot be renamed", error)  # else it is as it should be, and comes anew
            else:
                self._aside.add(number)

    # --- away

    def _remove_others(self) -> None:
        changes = self._changes
        for entry in sorted(changes.removed):
            if not changes.is_removed[entry]:
                continue
            parent, name = self._place_of(entry)
            try:
                os.unlink(name, dir_fd=self._where.open(parent))
            except FileNotFoundError:
                continue  # as it should be
            except IsADirectoryError:
                self._warn(parent, name, "is a directory now, which no dump has brought here: it stays")
            except OSError as error:
                self._fail(parent, name, "cannot be removed", error)
            else:
                self.removed += 1

    def _remove_directories(self) -> None:
        for ordinal in reversed(self._changes.gone):
            number = self._old.table.numbers[ordinal]
            parent, name = self._where.place(number)
            try:
                os.rmdir(name, dir_fd=self._where.open(parent))
            except FileNotFoundError:
                self._emptied.add(number)
            except OSError as error:
                if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                    self._warn(parent, name, "holds what no dump has brought here: the directory stays")
                elif error.errno == errno.ENOTDIR:
                    self._warn(parent, name, "is no directory any more: it stays")
                else:
                    self._fail(parent, name, "cannot be removed", error)
            else:
                self._emptied.add(number)
                self.removed += 1

    # --- into place

    def _place_directories(self) -> None:
        where = self._where
        for new in self._changes.directories:
            try:
                parent = where.open(new.parent)
                if new.inumber in self._aside:
                    os.rename(b"%d" % new.inumber, new.name, src_dir_fd=self._stash, dst_dir_fd=parent)
                    self.renamed += 1
                else:
                    self._make_directory(parent, new)
            except OSError as error:
                self._fail(new.parent, new.name, "cannot be put into its place", error)
                if new.inumber in self._aside:
                    continue  # and stays where it is, with all it holds
            where.put(new.inumber, new.parent, new.name)

    @staticmethod
    def _make_directory(parent: int, new: NewName) -> None:
        try:
            os.mkdir(new.name, _ALL_OF_OWNER, dir_fd=parent)
        except FileExistsError:
            fd, _ = open_or_allow_at(parent, new.name)
        else:
            fd, _ = open_or_allow_at(parent, new.name)
            shed_inheritance(fd)
        os.close(fd)

    def _place_others(self) -> None:
        kept: set[int] = set()
        for new in self._changes.others:
            number = new.inumber
            if number not in self._changes.sources:
                continue
            try:
                if number in self._aside:
                    source, name = self._stash, b"%d" % number
                else:
                    parent, name = self._place_of(self._changes.sources[number])
                    source = self._where.open(parent)
                self._writer.link(source, name, self._where.open(new.parent), new.name)
            except OSError as error:
                if not self._catalogue.contains(number):  # else it comes anew, and is reported then
                    kept.add(number)
                    self._fail(new.parent, new.name, "cannot be put into its place", error)
            else:
                self.renamed += 1
        for number in (self._changes.sources.keys() & self._aside) - kept:
            try:
                remove(self._stash, b"%d" % number)
            except OSError as error:
                self._fail(_STASH, b"%d" % number, "cannot be removed", error)

    def _tell_of_unknown(self) -> None:
        for new in self._changes.unknown:
            self._warn(new.parent, new.name, "named in the dump, but neither in it nor here")

    def _give_modes_back(self) -> None:
        """Directories of the stream get theirs with their attributes. Those inside others were opened later."""
        for number, mode in reversed(self._where.borrowed.items()):
            if number not in self._catalogue.directories and number not in self._emptied:
                try:
                    os.fchmod(self._where.open(number), mode)
                except OSError as error:
                    self._fail(*self._where.place(number), "does not get its mode back", error)

    def _remove_stash(self) -> None:
        if self._stash < 0:
            return
        try:
            os.rmdir(self._stash_name, dir_fd=self._root)
        except OSError as error:
            self._fail(ROOT_INUMBER, self._stash_name, "holds what could not be put into its place", error)
