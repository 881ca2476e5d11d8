"""The backup types of this server: what CONFIG tells of each, and the form of file history that suits it.

Source: messages.md section 5, backup-env.md sections 2.1 and 6.1.
"""

from typing import Final, Literal

from msgspec import Struct

from mover.ndmp.enums import ButypeAttribute
from mover.workers.data_messages import Pairs

_ATTRIBUTES: Final = (
    ButypeAttribute.RECOVER_FILELIST
    | ButypeAttribute.BACKUP_DIRECT
    | ButypeAttribute.RECOVER_DIRECT
    | ButypeAttribute.BACKUP_INCREMENTAL
    | ButypeAttribute.RECOVER_INCREMENTAL
    | ButypeAttribute.BACKUP_FH_FILE
    | ButypeAttribute.BACKUP_FH_DIR
    | ButypeAttribute.RECOVER_FILEHIST
    | ButypeAttribute.RECOVER_FH_FILE
    | ButypeAttribute.RECOVER_FH_DIR
)
"""No list of files at backup, names are bytes and not UTF-8."""
_DEFAULTS: Final[Pairs] = [
    (b"HIST", b"n"),
    (b"DIRECT", b"n"),
    (b"RECURSIVE", b"y"),
    (b"LEVEL", b"0"),
    (b"UPDATE", b"y"),
]


class BackupType(Struct, frozen=True):
    """One backup type.

    Attributes:
        attributes: what it can do.
        defaults: of the environment.
        history: the form of file history that HIST=y means.
    """

    name: str
    attributes: ButypeAttribute
    defaults: Pairs
    history: Literal["dir", "file"]


BUTYPES: Final = {
    b"dump": BackupType("dump", _ATTRIBUTES, _DEFAULTS, "dir"),
    b"tar": BackupType("tar", _ATTRIBUTES, _DEFAULTS, "file"),
}
"""By the name in requests, which is matched exactly; the first is the usual one."""
