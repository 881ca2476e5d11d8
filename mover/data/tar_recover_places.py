"""Where the members of a tar stream go: their paths against the recover list, and the directories that they need.

A tar stream has no list of what it holds, so this is decided member by member. Directories that the stream tells of
are kept until their attributes are set, last of all; those that are only on the way to something are kept as long as
there is room and found again when they are needed.
"""

from array import array
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from mover.data.beneath import components
from mover.data.codes import RecoveryStatus
from mover.data.dump_format import Inode
from mover.data.recover_catalogue import DirectoryRecord
from mover.data.recover_plan import Target
from mover.data.recover_report import RecoverReport, Request
from mover.data.tally import PARENT
from mover.data.tree_writer import TreeWriter
from mover.data.xattr_blob import Attribute

_ON_THE_WAY_MAX: Final = 4096
_NAMES_LOOKED_AT: Final = 100
DEPTH_MAX: Final = 8192

Parts = list[bytes]


class Spot(NamedTuple):
    """A name in a directory that is written into."""

    target: Target
    name: bytes


class Wanted(NamedTuple):
    """One entry of the recover list that a path belongs to, and the path's components behind its own."""

    number: int
    rest: Parts


class Places:
    """The recover list as the places of members.

    Attributes:
        targets: directories that the stream told of.
        found: numbers of the entries of the list that something came for.
        before_making: called with the entry of the list and the path in the stream of a directory that is to be made.
    """

    def __init__(
        self, requests: list[Request], writer: TreeWriter, report: RecoverReport, *, recursive: bool, makes: bool
    ) -> None:
        """Args: makes: directories are made; else only found."""
        self.targets: list[Target] = []
        self.found: set[int] = set()
        self.before_making: Callable[[Request, Parts], None] = lambda request, parts: None
        self._requests = requests
        self._writer = writer
        self._report = report
        self._recursive = recursive
        self._makes = makes
        self._bases = [components(request.name.target.path) for request in requests]
        self._everything: list[int] = []
        self._named: dict[bytes, list[int]] = {}
        self._deepest = 0
        for number, request in enumerate(requests):
            parts = components(request.name.original)
            if parts:
                self._named.setdefault(b"/".join(parts), []).append(number)
                self._deepest = max(self._deepest, len(parts))
            else:
                self._everything.append(number)
                self.found.add(number)  # also in a stream that holds nothing
        self._known: dict[tuple[int, bytes], Target] = {}  # those told of
        self._on_the_way: dict[tuple[int, bytes], Target] = {}
        self._made = 0

    def wanted(self, parts: Parts) -> list[Wanted]:
        """The entries of the list that a path belongs to."""
        found = [Wanted(number, parts) for number in self._everything if self._recursive or not parts]
        if self._named:
            for depth in range(1, min(len(parts), self._deepest) + 1):
                if depth == len(parts) or self._recursive:
                    numbers = self._named.get(b"/".join(parts[:depth]), ())
                    found += [Wanted(number, parts[depth:]) for number in numbers]
        self.found.update(wanted.number for wanted in found)
        return found

    def of(self, wanted: Iterable[Wanted]) -> list[Spot]:
        """Where an object that is no directory goes; what cannot be is reported."""
        spots = []
        for number, rest in wanted:
            parts = self._bases[number] + rest
            if not parts:
                request = self._requests[number]
                path = request.name.original or b"."
                self._report.error(path, "would have to take the place of its volume", request)
                request.status = RecoveryStatus.PATH_EXISTS
                continue
            spots.append(Spot(self._directory(number, parts[:-1]), parts[-1]))
        return spots

    def only_find(self) -> None:
        """Make no directories any more."""
        self._makes = False

    def alone(self, parts: Parts) -> "Target | bool | None":
        """Where everything goes that lies straight in a directory, if that is one place.

        Returns:
            the place; None = it is not wanted; False = names in it are wanted one by one, or it goes to several places.
        """
        if len(parts) > DEPTH_MAX or self._names_in(parts):
            return False
        wanted = self.wanted(parts) if self._recursive else []
        if len(wanted) > 1:
            return False
        return self._directory(wanted[0].number, self._bases[wanted[0].number] + wanted[0].rest) if wanted else None

    def _names_in(self, parts: Parts) -> bool:
        """Whether the list may name something in a directory."""
        inside = b"".join(part + b"/" for part in parts)
        return len(self._named) > _NAMES_LOOKED_AT or any(name.startswith(inside) for name in self._named)

    def add_directory(
        self, wanted: Iterable[Wanted], inode: Inode, attributes: list[Attribute], offset: int
    ) -> list[Target]:
        """A directory that the stream tells of, made where it is not there yet; its attributes are set at the end."""
        targets = []
        for number, rest in wanted:
            parts = self._bases[number] + rest
            key = number, b"/".join(parts)
            target = self._known.get(key)
            record = DirectoryRecord(inode, offset)
            record.attributes = attributes
            if target is not None:
                target.record = record  # told of twice: what came last counts
            else:
                self._on_the_way.pop(key, None)
                target = self._known[key] = self._new(number, parts, record)
                self.targets.append(target)
            targets.append(target)
        return targets

    def missing(self) -> list[Request]:
        """Entries of the list that nothing came for."""
        return [request for number, request in enumerate(self._requests) if number not in self.found]

    def finish(self) -> None:
        """Set the attributes of all directories that the stream told of, deepest first."""
        self._writer.finish_directories(sorted(self.targets, key=lambda target: len(target.parts)))

    def _directory(self, number: int, parts: Parts) -> Target:
        key = number, b"/".join(parts)
        target = self._at(key)
        if target is None:
            if len(self._on_the_way) >= _ON_THE_WAY_MAX:
                del self._on_the_way[next(iter(self._on_the_way))]
            target = self._on_the_way[key] = self._new(number, parts, None)
        return target

    def _at(self, key: tuple[int, bytes]) -> Target | None:
        """The directory at a place of an entry of the list, where it is known."""
        return self._known.get(key) or self._on_the_way.get(key)

    def _new(self, number: int, parts: Parts, record: DirectoryRecord | None) -> Target:
        target = Target(self._made, self._requests[number], None, b"", 0, record)
        target.parts = parts
        self._made += 1
        above = self._at((number, b"/".join(parts[:-1]))) if parts else None
        if above is not None and above.failed:
            target.failed = True
            self._report.count_error(PARENT, target.path())
        elif self._makes:
            request = target.request
            self.before_making(request, components(request.name.original) + parts[len(self._bases[number]) :])
            self._writer.make_directories([target])
        else:
            self._report.directories += record is not None
        return target


class Made:
    """Which members were made, each as ``key_of`` has it; a set that few ask and many are added to.

    Attributes:
        added: since somebody asked; small files, one after the other, cost a quarter there of what they cost in a set.
    """

    def __init__(self) -> None:
        self.added: array[int] = array("q")
        self._known: set[int] = set()

    def add(self, key: int) -> None:
        """This one was made."""
        self.added.append(key)

    def discard(self, key: int) -> None:
        """What was made as this one is there no more."""
        self._gather()
        self._known.discard(key)

    def __contains__(self, key: int) -> bool:
        self._gather()
        return key in self._known

    def _gather(self) -> None:
        if self.added:
            self._known.update(self.added)
            del self.added[:]


def key_of(spot: Spot, parts: Parts) -> int:
    """What stands for a member at its place among those that were made; a hash, because they may be many."""
    return key_for(spot.target.request, parts)


def key_for(request: Request, parts: Parts) -> int:
    """As ``key_of``, of a member that is wanted for an entry of the list."""
    name = parts[-1] if parts else b""  # of the root, where a stream holds one file alone
    return hash((_directory_key(request, parts[:-1]), name))


def _directory_key(request: Request, parts: Parts) -> int:
    return hash((id(request), *parts))


def directory_of(places: Places, prefix: bytes) -> "tuple[Target | bool | None, int]":
    """As ``Places.alone``, by a path in the stream; and what stands for the directory in ``key_of`` of its entries."""
    try:
        parts = components(prefix)
    except ValueError:
        return False, 0
    if prefix.startswith(b"/"):
        return False, 0  # which is to be told
    target = places.alone(parts)
    return target, _directory_key(target.request, parts) if isinstance(target, Target) else 0
