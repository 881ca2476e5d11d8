"""An incremental dump against the tree that the dumps before it made: what has moved, what is gone, what is new.

Pure: it reads the head of the stream and the names that a destination holds, and touches no file. The new tree is
the stream's own where it brings a directory and the old one elsewhere; it must be a tree, each directory in one place,
or nothing is concluded from it. Source: dump.md section 5.
"""

from array import array
from itertools import compress
from typing import Final, NamedTuple

from mover.data.dump_format import DT_DIRECTORY, ROOT_INUMBER
from mover.data.name_table import NameIndex, NameTable
from mover.data.recover_catalogue import Catalogue

_DIRECTORY: Final = 1


class NoTree(Exception):  # noqa: N818 - a decision about the stream
    """The head of the stream is damaged, or its directories are no tree; the text says how."""


class NewName(NamedTuple):
    """A name that the old tree does not have."""

    parent: int  # the directory's inode number
    name: bytes
    inumber: int


class Changes:
    """From the old tree to the new one.

    Attributes:
        table: the new tree.
        directories: names of directories that are new or stand elsewhere, parents before what is in them.
        others: names of anything else that the old tree does not have, where the inode was there before.
        removed: entries of the old table that are no names any more; not those of directories.
        is_removed: for each entry of the old table, 1 = it is one of them.
        gone: ordinals of the old table's directories that are in the new tree no more.
        sources: inode number -> entry of the old table, for ``others``; one that stays, where there is one.
        unknown: names of inodes that neither the stream holds nor the old tree.
    """

    def __init__(self, old_entries: int) -> None:
        self.table = NameTable()
        self.directories: list[NewName] = []
        self.others: list[NewName] = []
        self.removed: array[int] = array("Q")
        self.is_removed = bytearray(old_entries)
        self.gone: array[int] = array("I")
        self.sources: dict[int, int] = {}
        self.unknown: list[NewName] = []


def compare(catalogue: Catalogue, old: NameIndex) -> Changes:
    """What is to be done to the old tree.

    Raises:
        NoTree: the head of the stream does not say it for certain.
        TableError: the table's parts do not fit each other.
    """
    comparison = _Comparison(catalogue, old)
    comparison.walk()
    comparison.note_gone()
    comparison.find_sources()
    return comparison.changes


class _Listing(NamedTuple):
    inumbers: list[int]
    kinds: bytearray
    names: list[bytes]


class _Comparison:
    """One comparison, step by step."""

    def __init__(self, catalogue: Catalogue, old: NameIndex) -> None:
        self.changes = Changes(len(old.table.inumbers))
        self._catalogue = catalogue
        self._old = old
        self._seen = {ROOT_INUMBER}

    def walk(self) -> None:
        """The new tree, from its root, parents before children."""
        if ROOT_INUMBER not in self._catalogue.directories:
            raise NoTree("its root directory is not in it")
        pending = [ROOT_INUMBER]
        for number in pending:  # grows meanwhile
            if number in self._catalogue.directories:
                listing = self._listing(number)
                self._compare(number, listing)
                children = [child for child, kind in zip(listing.inumbers, listing.kinds, strict=True) if kind]
            else:
                children = self._unchanged(number)
            for child in children:
                if child in self._seen:
                    raise NoTree(f"the directory with inode {child} is in it twice")
                self._seen.add(child)
            pending += children
        if unreachable := self._catalogue.directories.keys() - self._seen:
            raise NoTree(f"nothing names the directory with inode {min(unreachable)}")

    def _unchanged(self, number: int) -> list[int]:
        """A directory that the stream does not bring is as it was, but for what is nowhere any more: left out since.

        Returns:
            its directories.
        """
        old, catalogue = self._old, self._catalogue
        ordinal = old.ordinals[number]
        first, end = old.firsts[ordinal], old.firsts[ordinal + 1]
        inumbers, kinds = old.table.inumbers[first:end], old.table.kinds[first:end]
        if catalogue.uses_all(inumbers):
            old.copy(ordinal, self.changes.table)
            return [inumbers[entry - first] for entry in old.directories_in(ordinal)]
        kept = bytes(map(catalogue.uses, inumbers))
        self._remove([first + at for at in range(end - first) if not kept[at] and not kinds[at]])
        rest = list(compress(inumbers, kept))
        self.changes.table.add(number, rest, bytes(compress(kinds, kept)), list(compress(old.names(ordinal), kept)))
        return list(compress(rest, compress(kinds, kept)))

    def _listing(self, number: int) -> _Listing:
        """What the stream says of a directory, with the names of unknown inodes left out."""
        catalogue, directories, ordinals = self._catalogue, self._catalogue.directories, self._old.ordinals
        found = catalogue.names(number)
        if directories[number].is_damaged or found.damaged or found.refused:
            raise NoTree(f"the directory with inode {number} is damaged")
        if len(set(found.names)) != len(found.names):
            raise NoTree(f"the directory with inode {number} has a name twice")
        kinds = bytearray(len(found.names))
        for at, (child, kind) in enumerate(zip(found.inumbers, found.kinds, strict=True)):
            if child in directories:
                kinds[at] = _DIRECTORY
            elif catalogue.contains(child):
                if kind == DT_DIRECTORY:
                    raise NoTree(f"the directory with inode {child} is not in it")
            elif child in ordinals and kind in {DT_DIRECTORY, 0}:
                kinds[at] = _DIRECTORY
        return _Listing(found.inumbers, kinds, found.names)

    def _compare(self, number: int, listing: _Listing) -> None:
        """Note what differs in one directory."""
        changes, old = self.changes, self._old
        before: dict[bytes, int] = {}  # name -> entry
        ordinal = old.ordinals.get(number)
        if ordinal is not None:
            first = old.firsts[ordinal]
            before = {name: first + at for at, name in enumerate(old.names(ordinal))}
        inumbers, kinds = old.table.inumbers, old.table.kinds
        for child, kind, name in zip(*listing, strict=True):
            entry = before.get(name)
            if entry is not None and inumbers[entry] == child and kinds[entry] == kind:
                del before[name]
            elif kind:
                changes.directories.append(NewName(number, name, child))
            else:
                changes.others.append(NewName(number, name, child))
        self._remove([entry for entry in before.values() if not kinds[entry]])
        changes.table.add(number, listing.inumbers, bytes(listing.kinds), listing.names)

    def _remove(self, entries: list[int]) -> None:
        self.changes.removed.extend(entries)
        for entry in entries:
            self.changes.is_removed[entry] = 1

    def note_gone(self) -> None:
        """Directories of the old tree that the new one has not lose all that is in them."""
        old, seen = self._old, self._seen
        for ordinal, number in enumerate(old.table.numbers):
            if number not in seen:
                self.changes.gone.append(ordinal)
                kinds = old.table.kinds
                self._remove([at for at in range(old.firsts[ordinal], old.firsts[ordinal + 1]) if not kinds[at]])

    def find_sources(self) -> None:
        """Where the old tree has what gets further names; new inodes that the stream brings need none."""
        changes, catalogue = self.changes, self._catalogue
        needed = {new.inumber for new in changes.others}
        if needed:
            kinds, removed = self._old.table.kinds, self.changes.is_removed
            for entry, inumber in enumerate(self._old.table.inumbers):
                if inumber in needed and not kinds[entry] and (inumber not in changes.sources or not removed[entry]):
                    changes.sources[inumber] = entry
        changes.unknown = [
            new for new in changes.others if new.inumber not in changes.sources and not catalogue.contains(new.inumber)
        ]
        changes.others = [new for new in changes.others if new.inumber in changes.sources]
