"""Many short byte strings in one piece of memory: a few bytes each beside their own, where objects take fifty."""

from array import array
from typing import Literal


class ByteStrings:
    """A list of byte strings that grows and shrinks at its end only.

    Attributes:
        joined: all of them, one behind the other.
    """

    def __init__(self, typecode: Literal["I", "Q"] = "Q") -> None:
        """Args: typecode: of the array of their ends; "I" holds 4 GiB of them."""
        self.joined = bytearray()
        self._ends = array(typecode)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, place: int) -> bytes:
        """One of them; places count from the beginning."""
        ends = self._ends
        return bytes(self.joined[ends[place - 1] if place else 0 : ends[place]])

    def append(self, string: bytes | bytearray) -> None:
        """A further one."""
        self.joined += string
        self._ends.append(len(self.joined))

    def length(self, place: int) -> int:
        """How long one of them is."""
        return self._ends[place] - (self._ends[place - 1] if place else 0)

    def pop(self) -> None:
        """Take the last one back."""
        self._ends.pop()
        del self.joined[self._ends[-1] if self._ends else 0 :]

    def put_last(self, string: bytes | bytearray) -> None:
        """Another one in place of the last."""
        self.pop()
        self.append(string)
