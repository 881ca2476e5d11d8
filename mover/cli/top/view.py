"""A table of the live view: what columns and rows are, how they are fitted, sorted and filtered.

Pure: widths are fixed, so that a refresh looks at no cell that is not shown.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, Literal, TypeVar  # Any: what rows of any table are sorted by

from msgspec import Struct

from mover.admin.statistics import StatisticsReply
from mover.cli.top.drawing import Look

R = TypeVar("R")
Tone = Literal["", "good", "warn", "bad"]

GAP: Final = 1


class Column(Struct, Generic[R], frozen=True, kw_only=True):
    """One column.

    Attributes:
        text: the cell of a row, for a width; what is longer is cut.
        key: what the column is sorted by; None stands at the end.
        rank: columns of the highest are left out first where the terminal is narrow, from the right.
        flexible: takes the room that is left; ``width`` is its least.
        picture: says nothing without its neighbours, and is left out of plain tables.
    """

    title: str
    width: int
    text: Callable[[R, Look, int], str]
    key: Callable[[R], Any]
    rank: int = 0
    right: bool = False
    flexible: bool = False
    picture: bool = False
    tone: Callable[[R], Tone] | None = None


class View(Struct, Generic[R], frozen=True, kw_only=True):
    """One table.

    Attributes:
        nothing: what is said where there are no rows.
        identity: what a row is known by from one reply to the next.
        sort: the title of the column it is sorted by at first, and whether from large to small.
        kind: what the filter ``kind:`` looks at.
        vserver: the row's own; None = that of its session.
    """

    name: str
    title: str
    nothing: str
    rows: Callable[[StatisticsReply], list[R]]
    identity: Callable[[R], str]
    session: Callable[[R], int | None]
    kind: Callable[[R], str]
    columns: tuple[Column[R], ...]
    sort: tuple[str, bool]
    vserver: Callable[[R], str] | None = None

    def fitting(self, width: int) -> list[tuple[Column[R], int]]:
        """The columns that have room in ``width`` cells, with their widths."""
        kept = list(self.columns)
        room = width + GAP  # the last gap may be beyond
        while len(kept) > 1 and sum(each.width + GAP for each in kept) > room:
            kept.remove(max(reversed(kept), key=lambda each: each.rank))
        flexible = [each for each in kept if each.flexible]
        left = max(0, room - sum(each.width + GAP for each in kept))
        share, more = divmod(left, len(flexible)) if flexible else (0, 0)
        first = flexible[0] if flexible else None
        return [(each, each.width + (share if each.flexible else 0) + (more if each is first else 0)) for each in kept]

    def column(self, title: str) -> Column[R]:
        """The column of that title."""
        return next(each for each in self.columns if each.title == title)


def sort_rows(rows: list[R], column: Column[R], *, descending: bool) -> list[R]:
    """In the column's order; rows that have nothing there come last."""
    keyed = [(column.key(row), row) for row in rows]
    known = sorted((each for each in keyed if each[0] is not None), key=lambda each: each[0], reverse=descending)
    return [row for _, row in known] + [row for key, row in keyed if key is None]


class Filter(Struct, frozen=True):
    """What rows are shown: all words must be found in a row, whatever their case.

    ``session:12``, ``vserver:vs1`` and ``kind:data`` look at that alone, and hide what has none.
    """

    words: tuple[str, ...] = ()
    facets: tuple[tuple[str, str], ...] = ()

    @property
    def empty(self) -> bool:
        return not self.words and not self.facets

    def passes(self, view: View[R], row: R, vservers: Mapping[int, str], look: Look) -> bool:
        """Whether the row is shown; ``vservers`` by session."""
        if self.facets:
            session = view.session(row)
            vserver = view.vserver(row) if view.vserver is not None else vservers.get(session or 0, "")
            has = {"session": str(session or ""), "vserver": vserver.lower(), "kind": view.kind(row).lower()}
            for name, wanted in self.facets:
                # A session is one, so that 1 does not find 12; kinds are found by a part, as in template-data.
                if not (wanted == has[name] if name == "session" else wanted in has[name]):
                    return False
        if not self.words:
            return True
        said = "\n".join(each.text(row, look, 1000) for each in view.columns if not each.picture).lower()
        return all(word in said for word in self.words)


FACETS: Final = ("session", "vserver", "kind")


def read_filter(text: str) -> Filter:
    """What an operator has typed."""
    words, facets = [], []
    for word in text.lower().split():
        name, colon, value = word.partition(":")
        if colon and value and name in FACETS:
            facets.append((name, value))
        else:
            words.append(word)
    return Filter(tuple(words), tuple(facets))
