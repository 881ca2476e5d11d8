"""Which entries of a plan are names of one inode, and which directories are there twice: by equal inode numbers.

Of files only those that share their number are looked at with a stat: a mount can show equal ones for different files.
Source: dump.md section 10, performance.md "Memory per inode".
"""

import os
from array import array
from collections.abc import Callable, Iterator
from typing import Final

from mover.data.dump_format import FIRST_INUMBER
from mover.data.open_directories import OpenDirectories
from mover.data.plan import Plan, identity

_PART: Final = 1 << 17  # inodes examined at once, about: bounds the sets and dictionaries
_SLICE: Final = 1 << 16  # entries between two looks whether to end


def find_links(plan: Plan, directories: OpenDirectories, check: Callable[[], None]) -> None:
    """Note in the plan which entries are further names, and which inodes are ambiguous.

    Args:
        check: called now and then; may raise to end it.
    """
    for repeated in _repeated(plan.inodes, check):
        _verify(plan, directories, repeated, check)


def find_repeated_directories(plan: Plan, check: Callable[[], None]) -> None:
    """A directory that is mounted at two places is two directories, and neither is known again.

    Args:
        check: as above.
    """
    for repeated in _repeated(plan.directory_inodes, check):
        seen: set[int] = set()
        for ordinal in range(1, len(plan)):
            if plan.directory_inodes[ordinal] in repeated:
                name = identity(plan, ordinal)
                if name in seen:
                    plan.ambiguous.add(name)
                seen.add(name)


def _repeated(inodes: "array[int]", check: Callable[[], None]) -> Iterator[set[int]]:
    """What is there more than once, 0 left out, some of it at a time."""
    found: set[int] = set()
    for members in _parts(inodes, check):
        found |= _twice(members)
        if len(found) >= _PART:
            yield found
            found = set()
    if found:
        yield found


def _parts(inodes: "array[int]", check: Callable[[], None]) -> Iterator["array[int]"]:
    """All of them in parts, so that equal ones are in one part."""
    count = len(inodes) // _PART | 1
    if count == 1:
        yield inodes
        return
    parts = [array("Q") for _ in range(count)]
    puts = [part.append for part in parts]
    for start in range(0, len(inodes), _SLICE):
        check()
        for inode in inodes[start : start + _SLICE]:
            puts[inode % count](inode)
    while parts:
        check()
        yield parts.pop()


def _twice(members: "array[int]") -> set[int]:
    """What is among the members more than once, 0 left out."""
    distinct = set(members)
    distinct.discard(0)
    if len(distinct) == len(members) - members.count(0):
        return set()
    found: set[int] = set()
    for inode in members:
        if inode in distinct:
            distinct.remove(inode)
        elif inode:
            found.add(inode)
    return found


def _verify(plan: Plan, directories: OpenDirectories, repeated: set[int], check: Callable[[], None]) -> None:
    first_of: dict[tuple[int, int, int], int] = {}
    at, names = -1, list[bytes]()
    of_inode: dict[int, int] = {}
    for start in range(0, len(plan.inodes), _SLICE):
        check()
        for place, inode in enumerate(plan.inodes[start : start + _SLICE], start):
            if inode not in repeated:
                continue
            inumber = FIRST_INUMBER + place
            ordinal = plan.directory_of(inumber)
            if ordinal != at:
                at, names = ordinal, plan.entry_names(ordinal)
                check()
            name = names[inumber - plan.firsts[ordinal]]
            try:
                stat = os.stat(name, dir_fd=directories.open(ordinal), follow_symlinks=False)
            except OSError:
                plan.ambiguous.add(inode)
                continue  # gone or hidden: it stays an inode of its own, and reading it will report that
            first = first_of.setdefault((stat.st_dev, stat.st_ino, stat.st_mode >> 12), inumber)
            if first != inumber:
                plan.links.add(inumber, first)
            if of_inode.setdefault(inode, first) != first:
                plan.ambiguous.add(inode)
