"""What a recover does about the level of its dump: begin a chain, go on with one, or lay over what is there.

Control keeps a table of the names that a destination holds (:mod:`mover.data.name_table`) and hands over the one there
is and an empty file for the next. A dump that builds on another one is refused where the destination is known to hold
anything else; where nothing is known of it, objects are laid over what is there and nothing is removed.
Source: dump.md section 5.
"""

import os
import time
from collections.abc import Sequence
from typing import Final, Literal

from mover.data.beneath import components
from mover.data.codes import LogType
from mover.data.dump_format import Header
from mover.data.dump_identity import shown
from mover.data.name_table import NameIndex, NameTable, TableError, mark_changing, read_table
from mover.data.recover_catalogue import Catalogue
from mover.data.recover_chain import Changes, NoTree, compare
from mover.data.recover_report import RecoverReport, Request
from mover.data.report import counted, reason
from mover.data.stream_blocks import StreamRefused
from mover.data.tree_changer import TreeChanger
from mover.data.tree_writer import TreeWriter

START_OVER: Final = "start over with the dump of level 0, or name what you want"
Course = Literal["begin", "go on", "lay over"]


class NotBegun(Exception):  # noqa: N818 - the end of the whole job
    """It could not be noted that the destination changes, so it was not changed."""


class Levels:
    """One recover's part in a chain of dumps.

    Args:
        descriptors: of the new table, an empty file, and of the old one, if there is one; none = no table is kept.
            They stay the caller's.
        requests: the recover list; where descriptors are given, its only entry stands for everything.

    Attributes:
        beginning: the table of a full dump, to be filled as its directories are gone through; None = not wanted.
        summary: for the last line of the recover; "" = nothing to add.
    """

    def __init__(
        self, descriptors: Sequence[int], requests: Sequence[Request], writer: TreeWriter, report: RecoverReport
    ) -> None:
        self.beginning: NameTable | None = None
        self.summary = ""
        self._new_fd = descriptors[0] if descriptors else -1
        self._old_fd = descriptors[1] if len(descriptors) > 1 else -1
        self._request = requests[0]
        self._writer = writer
        self._report = report
        self._course: Course = "lay over"
        self._changes: Changes | None = None
        self._old: NameIndex | None = None
        self._failed = False

    def decide(self, catalogue: Catalogue) -> None:
        """Look at the head of the stream and at what is known of the destination; nothing is changed.

        Raises:
            StreamRefused: this dump does not belong on what is there.
        """
        first = catalogue.first
        if not first.ddate:
            if self._new_fd >= 0:
                self._course = "begin"
                self.beginning = NameTable()
            return
        why = "as for names, EXTRACT=y, OVERWRITE=n and RECURSIVE=n"
        if self._new_fd >= 0:
            why = self._go_on(catalogue)
        if why:
            text = f"of level {first.level}, built on that of {_date(first.ddate)}: nothing is removed or renamed"
            self._report.say(LogType.WARNING, f"an incremental dump {text} ({why})")

    def _go_on(self, catalogue: Catalogue) -> str:
        """Why the chain is not gone on with; "" = it is. Raises StreamRefused."""
        first = catalogue.first
        if self._old_fd < 0:
            return "this server has no record of what is there"
        try:
            table = read_table(self._old_fd)
            if not self._is_the_one(table):
                return "the destination is not the directory that was recovered before"
            self._check_order(first, table)
            self._old = NameIndex(table)
            self._changes = compare(catalogue, self._old)
        except (TableError, OSError) as error:
            text = reason(error) if isinstance(error, OSError) else str(error)
            return f"this server's record of what is there cannot be used: {text}"
        except NoTree as no_tree:
            self._report.damage(f"the directories of the dump are not whole: {no_tree}")
            return "for that"
        self._course = "go on"
        return ""

    def _is_the_one(self, table: NameTable) -> bool:
        try:
            return self._writer.inode_of_destination(self._request.name.target) == table.root_inode
        except OSError:
            return False  # it is not there any more

    @staticmethod
    def _check_order(first: Header, table: NameTable) -> None:
        """Raises StreamRefused."""
        if table.is_changing:
            text = "nothing was changed now, and what is there may be of two levels: the last recover of everything"
            raise StreamRefused(f"{text} into this destination was broken off or did not end well: {START_OVER}")
        if _spelt(first.filesystem) != _spelt(table.filesystem):
            names = f"{shown(first.filesystem)}, the destination holds {shown(table.filesystem)}"
            raise StreamRefused(f"an incremental dump of {names}: nothing was changed")
        if first.ddate != table.date:
            order = "an earlier level is missing" if first.ddate > table.date else "it is not the next one"
            raise StreamRefused(
                f"a dump of level {first.level} built on that of {_date(first.ddate)}, but the destination holds that"
                f" of {_date(table.date)}: {order}; nothing was changed: recover the levels in order, or {START_OVER}"
            )

    def begin(self, catalogue: Catalogue) -> None:
        """The destination is about to be changed: rename and remove what the dump says.

        Raises:
            NotBegun: nothing was changed.
        """
        target = self._request.name.target
        root = -1
        try:
            if self._changes is not None:
                root = self._writer.open_destination(target)
            if self._old_fd >= 0:
                mark_changing(self._old_fd)
        except OSError as error:
            if root >= 0:
                os.close(root)
            raise NotBegun(f"the record of what the destination holds: {reason(error)}") from error
        if self._changes is None:
            return
        assert self._old is not None
        try:
            path = b"/".join([target.volume.rstrip(b"/"), *components(target.path)])
            changer = TreeChanger(
                root, path, self._old, self._changes, catalogue, self._writer, self._report, self._request
            )
            changer.run()
        finally:
            os.close(root)
        self._failed = changer.failed
        names = counted(changer.renamed, "name", "names")
        self.summary = f", {names} changed, {counted(changer.removed, 'object', 'objects')} removed"
        self._old = None  # as large as the tree

    def keep(self, catalogue: Catalogue) -> bool:
        """The recover has ended well: write the new table; whether the next level can build on it."""
        table = self._changes.table if self._changes is not None else self.beginning
        if table is None or self._failed:
            return False
        first = catalogue.first
        table.date, table.level, table.filesystem = first.date, first.level, first.filesystem
        try:
            table.root_inode = self._writer.inode_of_destination(self._request.name.target)
            table.write(self._new_fd)
        except OSError as error:
            text = f"the names of what was recovered cannot be kept for the next level: {reason(error)}"
            self._report.say(LogType.WARNING, text)
            return False
        return True


def _spelt(filesystem: bytes) -> list[bytes]:
    """A name of a file system without what spelling may add: separators twice and at the end."""
    return [part for part in filesystem.split(b"/") if part]


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
