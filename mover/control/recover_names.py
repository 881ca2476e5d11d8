"""The names of a recover, resolved: what each version's fields mean becomes (what to take, where it goes).

No file is touched. Source: NDMPv4 section 3.5.3 (DATA_START_RECOVER) and its counterparts in versions 1 to 3.
"""

from collections.abc import Sequence
from typing import Final

import trio

from mover.control.volumes import PlacementError, Volumes, components, show
from mover.ndmp import messages as m
from mover.ndmp.nlist import recover_target
from mover.workers.data_messages import RecoverName

NAMES_IN_A_ROW: Final = 500
"""Then other connections have their turn: tens of thousands take a tenth of a second together."""
NAMES_BYTES_MAX: Final = 40 << 20
"""Of all names and destinations together: what a worker message holds, less room for its frame."""


async def resolve_names(
    version: int, names: Sequence[m.RecoverName], root: bytes | None, volumes: Volumes, *, direct: bool
) -> list[RecoverName]:
    """The recover list for the data worker.

    Args:
        root: where the backup was taken from (FILESYSTEM, else PREFIX of the environment); entries without a
            destination go back there. None = the environment names none.
        direct: DIRECT=y: fh_info counts; without it 0 is what some clients send for "unknown".

    Raises:
        PlacementError: a name climbs, or a target lies outside every volume; the text names it. Or all of them are too
            long: a short name in a long root is cheap to send, and sixty thousand of them are not to be kept.
    """
    resolved: list[RecoverName] = []
    left = NAMES_BYTES_MAX
    for name in names:
        target = _target(version, name, root)
        left -= len(name.original_path) + len(target)
        if left < 0:
            raise PlacementError(f"the recover list and its destinations: at most {NAMES_BYTES_MAX} bytes")
        resolved.append(_resolve(version, name, target, volumes, direct))
        if not len(resolved) % NAMES_IN_A_ROW:
            await trio.lowlevel.checkpoint()
    return resolved


def _target(version: int, name: m.RecoverName, root: bytes | None) -> bytes:
    """The absolute path that an entry goes to."""
    target = recover_target(version, name)
    if not target:
        if root is None:
            what = show(name.original_path) or "the whole backup"
            raise PlacementError(f"{what}: no destination, and the environment names no FILESYSTEM")
        return root.rstrip(b"/") + b"/" + name.original_path
    if not target.startswith(b"/") and root is not None:
        if version == 3 and name.name and not name.destination and b"/" not in name.name:
            # A new last component and no directory: the object stays where it was, under another name.
            target = b"/".join([*components(name.original_path)[:-1], target])
        return root.rstrip(b"/") + b"/" + target
    return target


def _resolve(
    version: int,
    name: m.RecoverName,
    target: bytes,
    volumes: Volumes,
    direct: bool,
) -> RecoverName:
    original = b"/".join(components(name.original_path))
    # Version 1 may ignore it (3.5.3): nothing tells which part of the stream the tape in the drive holds.
    unknown = 2**64 - 1
    return RecoverName(
        original=original,
        target=volumes.place(target),
        reported=name.original_path,
        node=name.node,
        fh_info=unknown if version == 1 or (name.fh_info == 0 and not direct) else name.fh_info,
    )
