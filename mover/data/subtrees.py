"""Several subtrees of one directory as one backup: MULTI_SUBTREE_NAMES, with DMP_NAME as the backup's name.

The list becomes the way to each subtree, component by component. The scan goes that way: a directory on it is in the
backup with what leads on and nothing else. Source: backup-env.md section 2.2.
"""

import os
from collections.abc import Iterator
from typing import Final

from mover.data.beneath import components, open_beneath
from mover.data.mounts import NOT_IN_SNAPSHOT, stands_for_subvolume
from mover.data.report import reason
from mover.data.variables import BadVariable

SUBTREES: Final = b"MULTI_SUBTREE_NAMES"
NAME: Final = b"DMP_NAME"
NAME_BYTES_MAX: Final = 255
LIST_BYTES_MAX: Final = 1 << 18
SUBTREES_MAX: Final = 1024

Way = dict[str, "Way"]
"""Name of an entry -> the way on below it; an empty one is the end: everything below is wanted."""


def parse_subtrees(value: bytes, root: bytes) -> Way:
    """The ways to the subtrees that a list names, one a line, relative to the root.

    Args:
        root: the DMA's name of the common root, which ONTAP's DMAs put behind the last subtree.

    Raises:
        BadVariable: a line that cannot be a path below the root, or names what another one names too; none; too many.
    """
    if len(value) > LIST_BYTES_MAX:
        raise BadVariable(f"MULTI_SUBTREE_NAMES has {len(value)} bytes, at most {LIST_BYTES_MAX} are possible")
    lines = [line for line in value.rstrip(b"\0").split(b"\n") if line]
    if lines and lines[-1].startswith(b"/") and _components(lines[-1]) == _components(root):
        lines.pop()
    if not lines:
        raise BadVariable("MULTI_SUBTREE_NAMES names no subtree")
    if len(lines) > SUBTREES_MAX:
        raise BadVariable(f"MULTI_SUBTREE_NAMES has {len(lines)} subtrees, at most {SUBTREES_MAX} are possible")
    ways: Way = {}
    for line in lines:
        if line.startswith(b"/"):
            raise BadVariable(f"MULTI_SUBTREE_NAMES: {_show(line)} is not relative to {_show(root)}")
        parts = [os.fsdecode(part) for part in _components(line)]
        if not parts:
            raise BadVariable(f"MULTI_SUBTREE_NAMES: {_show(line)} is the common root itself")
        _add(ways, parts, line)
    return ways


def _add(ways: Way, parts: list[str], line: bytes) -> None:
    at = ways
    for place, part in enumerate(parts):
        is_new = part not in at
        at = at.setdefault(part, {})
        if not is_new and not at and place < len(parts) - 1:
            raise BadVariable(f"MULTI_SUBTREE_NAMES: {_show(line)} lies in another of its subtrees")
    if at:
        raise BadVariable(f"MULTI_SUBTREE_NAMES: another of its subtrees lies in {_show(line)}")
    if not is_new:
        raise BadVariable(f"MULTI_SUBTREE_NAMES: {_show(line)} is named twice")


def check_subtrees(ways: Way, root: int, *, crosses: bool) -> None:
    """Look at each subtree below the open directory ``root``.

    Args:
        crosses: whether other file systems are backed up, too.

    Raises:
        BadVariable: one is not there, no directory, behind a symbolic link, on another file system, or a subvolume
            that is not in the snapshot.
    """
    device = os.fstat(root).st_dev
    for path in _paths(ways):
        try:
            fd = open_beneath(root, list(map(os.fsencode, path)))
        except OSError as error:
            raise BadVariable(f"MULTI_SUBTREE_NAMES: {'/'.join(path)}: {reason(error)}") from error
        try:
            if stands_for_subvolume(fd):
                raise BadVariable(f"MULTI_SUBTREE_NAMES: {'/'.join(path)} {NOT_IN_SNAPSHOT}")
            if os.fstat(fd).st_dev != device and not crosses:
                raise BadVariable(f"MULTI_SUBTREE_NAMES: {'/'.join(path)} is on another file system")
        finally:
            os.close(fd)


def _paths(ways: Way) -> Iterator[list[str]]:
    """The components of each subtree's path, good until the next one."""
    path: list[str] = []
    pending = [iter(ways.items())]
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
            del path[-1:]
            continue
        name, below = entry
        path.append(name)
        if below:
            pending.append(iter(below.items()))
        else:
            yield path
            path.pop()


def _components(path: bytes) -> list[bytes]:
    try:
        return components(path)
    except ValueError as error:
        raise BadVariable(f"MULTI_SUBTREE_NAMES: {error}") from error


def _show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
