"""Which cartridges may lose what was written to them last, should this host crash now.

A cartridge whose index lies beside it was closed in order, and flushed: the index goes before the first change and
comes with the close. Of those that this process has opened it knows more: what is in use has no index while it is
written, and where no index can be kept a close has flushed all the same.
"""

import os

from mover.control.cartridges import INDEX_SUFFIX


class Unflushed:
    """The cartridges of a node, by path."""

    def __init__(self) -> None:
        self._opened: set[str] = set()  # here, since the start
        self._lost: set[str] = set()  # could be written when their tape worker went, or were found without an index

    def holds(self, path: str | None) -> bool:
        """Whether the cartridge is one of them; None = no cartridge. Of one that was not opened here it blocks."""
        if path is None:
            return False
        return path in self._lost or (path not in self._opened and _was_not_closed(path))

    def open(self, path: str, *, unflushed: bool) -> None:
        """It is about to be opened: what was found of it by ``holds`` holds until it is closed."""
        if unflushed:
            self._lost.add(path)
        self._opened.add(path)

    def close(self, path: str) -> None:
        """Its worker has closed it: all that was ever written to it is on disk."""
        self._lost.discard(path)

    def lose(self, path: str) -> None:
        """Its worker is gone, and could write."""
        self._lost.add(path)


def _was_not_closed(path: str) -> bool:
    """Whether it holds data and no index is beside it, although one could be kept."""
    try:
        holds_data = os.stat(path).st_size > 0
    except OSError:
        return False  # gone, and its directory perhaps with it
    return holds_data and not os.path.exists(path + INDEX_SUFFIX) and os.access(os.path.dirname(path) or ".", os.W_OK)
