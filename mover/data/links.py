"""Which entries of a plan are further names of earlier ones: four bytes an entry where there are any, else nothing."""

from array import array
from collections.abc import Iterator

from mover.data.dump_format import FIRST_INUMBER


class Links:
    """Key of an entry that is another name of an earlier one -> key of that one."""

    def __init__(self) -> None:
        self._firsts = array("I")  # of the entry with key FIRST_INUMBER + k; 0 = it is the first itself
        self._count = 0

    def add(self, key: int, first: int) -> None:
        """An entry, once, and the one whose other name it is."""
        place = key - FIRST_INUMBER
        if place >= len(self._firsts):
            self._firsts.frombytes(bytes(self._firsts.itemsize * (place + 1 - len(self._firsts) + place // 4)))
        self._firsts[place] = first
        self._count += 1

    def first(self, key: int) -> int:
        """The key of the entry's first name, which may be its own."""
        place = key - FIRST_INUMBER
        return (self._firsts[place] or key) if place < len(self._firsts) else key

    def __contains__(self, key: int) -> bool:
        place = key - FIRST_INUMBER
        return place < len(self._firsts) and self._firsts[place] != 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return (key for key, _ in self.items())

    def items(self) -> Iterator[tuple[int, int]]:
        """Each other name with its first, ascending."""
        return ((place + FIRST_INUMBER, first) for place, first in enumerate(self._firsts) if first)
