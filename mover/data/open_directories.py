"""Descriptors of the directories of a plan."""

import os
from typing import Final

from mover.data.plan import Plan

OPEN_DIRECTORIES_MAX: Final = 64  # descriptors kept for going up and down the tree
_TO_PASS: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TO_LIST: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class OpenDirectories:
    """Descriptors of the directories of a plan, opened from their parents, a bounded number at a time.

    No path is ever given to the kernel, so neither depth nor length of a path is bounded, and no symbolic link is
    followed. A descriptor that is only passed through is an O_PATH one: Landlock goes up to the volume for any other.
    """

    def __init__(self, plan: Plan, root: int, *, to_list: bool = False) -> None:
        """Args:
        root: descriptor of the root, owned by the caller.
        to_list: what is opened can be listed and asked for attributes, until ``list_no_more``.
        """
        self._flags = _TO_LIST if to_list else _TO_PASS
        self._plan = plan
        self._root = root
        self._open: dict[int, int] = {}  # ordinal -> descriptor, least recently used first

    def open(self, ordinal: int) -> int:
        """The directory's descriptor, good until the next call.

        Raises:
            OSError: it, or one above it, cannot be opened.
        """
        if ordinal == 0:
            return self._root
        opened = self._open
        chain: list[int] = []
        while ordinal and ordinal not in opened:
            chain.append(ordinal)
            ordinal = self._plan.parents[ordinal]
        fd = self._root
        if ordinal:
            fd = opened.pop(ordinal)
            opened[ordinal] = fd
        while chain:
            ordinal = chain.pop()
            fd = os.open(self._plan.names[ordinal], self._flags, dir_fd=fd)
            opened[ordinal] = fd
            if len(opened) > OPEN_DIRECTORIES_MAX:
                oldest = next(iter(opened))
                os.close(opened.pop(oldest))
        return fd

    def list_no_more(self) -> None:
        """From here on descriptors are for what is below their directories alone."""
        self._flags = _TO_PASS

    def is_as_scanned(self, ordinal: int, fd: int) -> bool:
        """Whether what was just opened is what the scan found, and not a directory that has got its name since.

        Raises:
            OSError: it cannot be asked.
        """
        return os.fstat(fd).st_ino == self._plan.own_inodes[ordinal]

    def forget(self, ordinal: int) -> None:
        """Close a directory that goes out of the plan."""
        fd = self._open.pop(ordinal, None)
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
