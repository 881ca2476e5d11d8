"""Which objects of a dump are wanted and where each goes: the recover list against the dump's directories.

Wanted directories become :class:`Target` objects. Everything else is three parallel arrays in ascending inode order,
the order of the stream, so that the reading loop walks along them and needs no table from inode to name: some 70
bytes a name.
"""

import operator
from array import array
from itertools import islice
from typing import Final

from mover.data.beneath import components
from mover.data.codes import LogType, RecoveryStatus
from mover.data.dump_format import DT_DIRECTORY, ROOT_INUMBER
from mover.data.name_table import NameTable
from mover.data.recover_catalogue import Catalogue, DirectoryRecord
from mover.data.recover_report import RecoverReport, Request
from mover.data.report import counted

BEYOND: Final = 1 << 40  # above every inode number: the sentinel behind the last entry
_LOOKUPS: Final = 64  # directories whose names are kept while the list is looked up


class Target:
    """A directory that is written into.

    Attributes:
        parent, name: where it is made; no parent: at ``parts`` below ``volume``.
        record: the directory of the dump that it becomes; None = only the place of a single object.
        failed: it could not be made, and what belongs in it cannot be either.
        inherits: new objects in it get a group or an ACL from it, or may.
        existed: it was there before.
    """

    __slots__ = (
        "existed",
        "failed",
        "index",
        "inherits",
        "inumber",
        "name",
        "parent",
        "parts",
        "record",
        "request",
        "volume",
    )

    def __init__(
        self,
        index: int,
        request: Request,
        parent: "Target | None",
        name: bytes,
        inumber: int,
        record: DirectoryRecord | None,
    ) -> None:
        self.index = index
        self.request = request
        self.parent = parent
        self.name = name
        self.inumber = inumber
        self.record = record
        self.volume = b"" if parent is not None else request.name.target.volume
        self.parts: list[bytes] = []
        self.failed = False
        self.inherits = False
        self.existed = False

    def place(self) -> tuple[bytes, list[bytes]]:
        """The volume and the components below it."""
        names: list[bytes] = []
        target = self
        while target.parent is not None:
            names.append(target.name)
            target = target.parent
        return target.volume, target.parts + names[::-1]

    def path(self, name: bytes = b"") -> bytes:
        """The full path of the directory, or of a name in it."""
        volume, parts = self.place()
        return b"/".join([volume.rstrip(b"/"), *parts] + ([name] if name else [])) or b"/"


class Plan:
    """What is to be done.

    Attributes:
        targets: directories, parents before what is in them.
        inumbers, places, names: entry i is the inode ``inumbers[i]``, to be made as ``names[i]`` in
            ``targets[places[i]]``; ascending by inode, with a sentinel behind the last.
        not_contained: names of objects that the dump's map does not have.
        in_order: two objects may have one place, and the one that comes later in the stream is to have it.
    """

    def __init__(self, requests: list[Request]) -> None:
        self.requests = requests
        self.targets: list[Target] = []
        self.not_contained = 0
        self.in_order = False
        self.inumbers: array[int] = array("Q")
        self.places: array[int] = array("I")
        self.names: list[bytes] = []

    def add_target(
        self, request: Request, parent: Target | None, name: bytes, inumber: int, record: DirectoryRecord | None
    ) -> Target:
        """A further directory."""
        target = Target(len(self.targets), request, parent, name, inumber, record)
        self.targets.append(target)
        return target

    def add_entry(self, inumber: int, target: Target, name: bytes) -> None:
        """A further object that is not a directory."""
        self.inumbers.append(inumber)
        self.places.append(target.index)
        self.names.append(name)

    def part(self, first: int, last: int) -> "Plan":
        """Entries [first, last) of a sorted plan by themselves, with the same targets."""
        part = Plan(self.requests)
        part.targets = self.targets
        part.inumbers = self.inumbers[first:last]
        part.places = self.places[first:last]
        part.names = self.names[first:last]
        part.end()
        return part

    def end(self) -> None:
        """Put the sentinel behind the last entry."""
        self.inumbers.append(BEYOND)
        self.places.append(0)
        self.names.append(b"")

    def sort(self) -> None:
        """Bring the entries into the order of the stream."""
        inumbers, places, names = self.inumbers, self.places, self.names
        if not all(map(operator.le, inumbers, islice(inumbers, 1, None))):
            order = sorted(range(len(inumbers)), key=inumbers.__getitem__)
            self.inumbers = array("Q", [inumbers[at] for at in order])
            self.places = array("I", [places[at] for at in order])
            self.names = [names[at] for at in order]
        self.end()


def make_plan(
    catalogue: Catalogue,
    requests: list[Request],
    report: RecoverReport,
    *,
    recursive: bool,
    table: NameTable | None = None,
) -> Plan:
    """Look every requested name up and note all that it stands for; names that do not exist are reported.

    Args:
        table: filled with the directories on the way, as they come to be.
    """
    plan = Plan(requests)
    plan.in_order = overlap(requests)
    lookup = PathLookup(catalogue)
    for request in requests:
        parts = components(request.name.original)
        inumber = lookup.find(parts)
        target_parts = components(request.name.target.path)
        if inumber is None:
            report.error(request.name.original, "not in the dump", request)
            request.status = RecoveryStatus.NOT_FOUND
        elif inumber in catalogue.directories:
            top = plan.add_target(request, None, b"", inumber, catalogue.directories[inumber])
            top.parts = target_parts
            if recursive:
                _add_contents(plan, catalogue, top, report, table)
        elif not target_parts:
            report.error(request.name.original, "would have to take the place of its volume", request)
            request.status = RecoveryStatus.PATH_EXISTS
        else:
            holder = plan.add_target(request, None, b"", 0, None)
            holder.parts = target_parts[:-1]
            plan.add_entry(inumber, holder, target_parts[-1])
    plan.sort()
    if plan.not_contained and not catalogue.first.ddate:
        names = counted(plan.not_contained, "name", "names")
        report.say(LogType.WARNING, f"{names} of objects that this dump, a full one, was not to hold")
    for target in plan.targets:
        if target.record is not None and target.record.is_damaged:
            target.request.fail(RecoveryStatus.IO_ERROR)
    for record in catalogue.directories.values():
        record.data = bytearray()  # not needed any more, and as large as all names together
    return plan


def overlap(requests: list[Request]) -> bool:
    """Whether two entries of a recover list may put different objects at one place."""
    entries = []
    for request in requests:
        target = request.name.target
        place = [*target.volume.split(b"/"), *components(target.path)]
        entries.append((place, components(request.name.original)))
    above: list[tuple[list[bytes], list[bytes]]] = []  # entries that the one at hand lies in or at, the nearest last
    for place, original in sorted(entries):  # what lies in a place comes straight behind it
        while above and place[: len(above[-1][0])] != above[-1][0]:
            above.pop()
        if above and original != above[-1][1] + place[len(above[-1][0]) :]:
            return True
        above.append((place, original))
    return False


class PathLookup:
    """Finds paths; the names of the directories seen last are kept."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._names: dict[int, dict[bytes, int]] = {}

    def find(self, parts: list[bytes]) -> int | None:
        """The inode number of a path, None when the dump has no such name."""
        inumber = ROOT_INUMBER
        if inumber not in self._catalogue.directories:
            return None
        for part in parts:
            if inumber not in self._catalogue.directories:
                return None
            below = self._children(inumber).get(part)
            if below is None:
                return None
            inumber = below
        known = inumber in self._catalogue.directories or self._catalogue.contains(inumber)
        return inumber if known else None

    def _children(self, inumber: int) -> dict[bytes, int]:
        children = self._names.get(inumber)
        if children is None:
            if len(self._names) >= _LOOKUPS:
                self._names.pop(next(iter(self._names)))
            names = self._catalogue.names(inumber)
            children = dict(zip(names.names, names.inumbers, strict=True))
            self._names[inumber] = children
        return children


def _add_contents(
    plan: Plan, catalogue: Catalogue, top: Target, report: RecoverReport, table: NameTable | None
) -> None:
    """Note everything below a directory."""
    directories, request = catalogue.directories, top.request
    seen = {top.inumber}
    stack = [top]
    while stack:
        target = stack.pop()
        found = catalogue.names(target.inumber)
        plan.in_order |= len(set(found.names)) < len(found.names)
        for name in found.refused:
            report.error(target.path(), f"the name {name!r} in the dump is not allowed", request)
        if found.damaged:
            pieces = counted(found.damaged, "damaged piece", "damaged pieces")
            report.error(target.path(), f"{pieces} of the directory: names are missing", request)
        if (
            found.inumbers
            and DT_DIRECTORY not in found.kinds
            and directories.keys().isdisjoint(found.inumbers)
            and catalogue.contains_all(found.inumbers)
        ):
            plan.inumbers.extend(found.inumbers)
            plan.places.extend([target.index] * len(found.inumbers))
            plan.names += found.names
            if table is not None:
                table.add(target.inumber, found.inumbers, bytes(len(found.names)), found.names)
            continue
        taken: list[tuple[int, int, bytes]] = []
        for inumber, kind, name in zip(found.inumbers, found.kinds, found.names, strict=True):
            if inumber in directories:
                if inumber in seen:
                    report.error(target.path(name), "the dump names this directory in two places", request)
                else:
                    seen.add(inumber)
                    stack.append(plan.add_target(request, target, name, inumber, directories[inumber]))
                    taken.append((inumber, 1, name))
            elif not catalogue.contains(inumber):
                plan.not_contained += 1  # not changed since the base of an incremental dump
            elif kind == DT_DIRECTORY:
                report.error(target.path(name), "the directory is named in the dump but not in it", request)
            else:
                plan.add_entry(inumber, target, name)
                taken.append((inumber, 0, name))
        if table is not None:
            table.add(
                target.inumber,
                [inumber for inumber, _, _ in taken],
                bytes([kind for _, kind, _ in taken]),
                [name for _, _, name in taken],
            )
