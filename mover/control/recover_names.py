"""The names of a recover, resolved: what each version's fields mean becomes (what to take, where it goes).

Pure: no file is touched. Source: NDMPv4 section 3.5.3 (DATA_START_RECOVER) and its counterparts in versions 1 to 3.
"""

from collections.abc import Sequence

from mover.control.volumes import PlacementError, Volumes, components, show
from mover.ndmp import messages as m
from mover.ndmp.nlist import recover_target
from mover.workers.messages import RecoverName


def resolve_names(
    version: int, names: Sequence[m.RecoverName], root: bytes | None, volumes: Volumes, *, direct: bool
) -> list[RecoverName]:
    """The recover list for the data worker.

    Args:
        root: where the backup was taken from (FILESYSTEM, else PREFIX of the environment); entries without a
            destination go back there. None = the environment names none.
        direct: DIRECT=y: fh_info counts; without it 0 is what some clients send for "unknown".

    Raises:
        PlacementError: a name climbs, or a target lies outside every volume; the text names it.
    """
    return [_resolve(version, name, root, volumes, direct) for name in names]


def _resolve(
    version: int,
    name: m.RecoverName,
    root: bytes | None,
    volumes: Volumes,
    direct: bool,
) -> RecoverName:
    original = b"/".join(components(name.original_path))
    target = recover_target(version, name)
    if not target:
        if root is None:
            what = show(name.original_path) or "the whole backup"
            raise PlacementError(f"{what}: no destination, and the environment names no FILESYSTEM")
        target = root.rstrip(b"/") + b"/" + original
    elif not target.startswith(b"/") and root is not None:
        target = root.rstrip(b"/") + b"/" + target
    # Version 1 may ignore it (3.5.3): nothing tells which part of the stream the tape in the drive holds.
    unknown = 2**64 - 1
    return RecoverName(
        original=original,
        target=volumes.place(target),
        reported=name.original_path,
        node=name.node,
        fh_info=unknown if version == 1 or (name.fh_info == 0 and not direct) else name.fh_info,
    )
