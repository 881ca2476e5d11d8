"""Names of a tape device by what closing it does: the drive's own name leaves the tape where it is.

As in other systems a letter in front of the device says so: ``r`` rewinds, ``u`` unloads. A name like that of a Linux
node, ``nst0``, has ``st0`` and ``ust0`` beside it.
"""

from enum import Enum
from typing import Final

from mover.ndmp.enums import TapeAttribute, TapeFlag, TapeOperation

_NODE: Final = "nst"


class AtClose(Enum):
    """What becomes of the tape when the device is closed."""

    STAYS = "stays"
    REWINDS = "rewinds"
    UNLOADS = "unloads"


ATTRIBUTES: Final = {
    AtClose.STAYS: TapeAttribute(0),
    AtClose.REWINDS: TapeAttribute.REWIND,
    AtClose.UNLOADS: TapeAttribute.UNLOAD,
}
"""In CONFIG_GET_TAPE_INFO."""
FLAGS: Final = {
    AtClose.STAYS: TapeFlag.NOREWIND,
    AtClose.REWINDS: TapeFlag(0),
    AtClose.UNLOADS: TapeFlag.UNLOAD,
}
"""In TAPE_GET_STATE."""
MOTIONS: Final = {AtClose.REWINDS: TapeOperation.REW, AtClose.UNLOADS: TapeOperation.OFF}


def device_names(name: str) -> dict[str, AtClose]:
    """All names of a drive, its own first."""
    library, slash, drive = name.rpartition("/")
    before = library + slash
    if drive.startswith(_NODE):
        node = drive.removeprefix("n")
        return {name: AtClose.STAYS, before + node: AtClose.REWINDS, f"{before}u{node}": AtClose.UNLOADS}
    return {name: AtClose.STAYS, f"{before}r{drive}": AtClose.REWINDS, f"{before}u{drive}": AtClose.UNLOADS}
