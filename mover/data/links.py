"""Which entries of a plan are further names of earlier ones: four bytes an entry where there are any, else nothing."""

from array import array
from collections.abc import Iterator

from mover.data.dump_format import FIRST_INUMBER


class Links:
    """Key of an entry that is another name of an earlier one -> key of that one."""

    def __init__(self) -> None:
        # Of the entry with key FIRST_INUMBER + k; itself = it is the first of several names, 0 = it is the only one.
        self._firsts = array("I")
        self._count = 0

    def add(self, key: int, first: int) -> None:
        """An entry, once, and the earlier one whose other name it is."""
        place = key - FIRST_INUMBER
        if place >= len(self._firsts):
            self._firsts.frombytes(bytes(self._firsts.itemsize * (place + 1 - len(self._firsts) + place // 4)))
        self._firsts[place] = first
        if not self._firsts[first - FIRST_INUMBER]:
            self._firsts[first - FIRST_INUMBER] = first
        self._count += 1

    def first(self, key: int) -> int:
        """The key of the entry's first name, which may be its own."""
        place = key - FIRST_INUMBER
        return (self._firsts[place] or key) if place < len(self._firsts) else key

    def is_first(self, key: int) -> bool:
        """Whether others are further names of this entry."""
        place = key - FIRST_INUMBER
        return place < len(self._firsts) and self._firsts[place] == key

    def __contains__(self, key: int) -> bool:
        place = key - FIRST_INUMBER
        return place < len(self._firsts) and self._firsts[place] not in {0, key}

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return (key for key, _ in self.items())

    def items(self) -> Iterator[tuple[int, int]]:
        """Each other name with its first, ascending."""
        keyed = enumerate(self._firsts, FIRST_INUMBER)
        return ((key, first) for key, first in keyed if first not in {0, key})
