"""Where an nlist entry is to be recovered to: the same fields mean different things in each version.

Source: NDMPv4 section 3.5.3 (DATA_START_RECOVER), NDMPv3, NDMPv2, NDMPv1 section 3.5.3.
"""

from mover.ndmp.messages import RecoverName


def recover_target(version: int, name: RecoverName) -> bytes:
    """Full path of the recovered object; empty = where it was.

    v1, v2: the destination is the target. v3: the destination is a directory under which the new name, or else the
    original path, goes; clients also send a whole path as new name and no directory. v4: the destination is the
    target, or with a name the directory of it.
    """
    last = name.name
    if version == 3 and not last and name.destination:
        last = name.original_path
    if version <= 2 or not last:
        return name.destination
    if not name.destination:
        return last
    return name.destination.rstrip(b"/") + b"/" + last.lstrip(b"/")
