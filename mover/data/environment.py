"""The environment of a backup: level, dates, what is left out and what is not.

Source: backup-env.md sections 1 and 2. Variables that do not concern the data worker (FILESYSTEM, HIST, USER, ...)
and unknown ones are not an error; control keeps them for GET_ENV.
"""

from typing import Final

from msgspec import Struct

from mover.data.exclusion import Exclusion, Tags
from mover.data.mounts import CROSS, Crossing, crossing
from mover.data.subtrees import NAME, NAME_BYTES_MAX, SUBTREES, Way, parse_subtrees
from mover.data.variables import BadVariable, flag, number
from mover.workers.data_messages import Pairs

__all__ = ["BackupOptions", "BadVariable", "Exclusion", "backup_options", "dump_date", "stream_bytes"]

LEVEL_MAX: Final = 31
STREAM_BYTES: Final = b"MOVER_STREAM_BYTES"
"""Variable of our own in the environment: the length of the stream. In the reply to GET_ENV of a backup; a recover by
direct access that is given it asks for more at a time, because it knows what is there."""


class BackupOptions(Struct, frozen=True):
    """What a backup's environment asks for.

    Attributes:
        level: as requested.
        exclusion: entries to leave out.
        tags: what says of a directory that its contents are to be left out.
        ways: to the subtrees that are wanted; None = everything is.
        name: of a backup of several subtrees: it has dump dates of its own; b"" of any other.
        crossing: which other file systems are wanted, too.
        without_acls: access control lists are left out.
        ignores_ctime: times of change do not count where the content is known to be what it was.
        base_date: BASE_DATE when it asks for token based incrementals (present and not -1), else None.
    """

    level: int
    exclusion: Exclusion
    base_date: int | None
    tags: Tags = Tags(b"")
    ways: Way | None = None
    name: bytes = b""
    crossing: Crossing = Crossing.NONE
    without_acls: bool = False
    ignores_ctime: bool = False

    @property
    def takes_all(self) -> bool:
        """Whether all of a file system is in the backup, if its root is that of the file system."""
        return not (self.exclusion or self.tags or self.ways) and self.crossing is Crossing.NONE


def backup_options(env: Pairs, root: bytes = b"") -> BackupOptions:
    """The options of a backup; of a name that comes twice the last pair counts.

    Args:
        root: of the backup, as the DMA names it.

    Raises:
        BadVariable: one of them cannot be understood.
    """
    values = dict(env)
    base_date = number(b"BASE_DATE", values.get(b"BASE_DATE", b"-1"), -1, 2**64 - 1)
    subtrees = values.get(SUBTREES, b"")
    return BackupOptions(
        number(b"LEVEL", values.get(b"LEVEL", b"0"), 0, LEVEL_MAX),
        Exclusion(values.get(b"EXCLUDE", b"")),
        None if base_date == -1 else base_date,
        tags=Tags(values.get(b"EXCLUDE_IF_PRESENT", b"")),
        ways=parse_subtrees(subtrees, root) if subtrees else None,
        name=_name(values.get(NAME, b"")) if subtrees else b"",
        crossing=crossing(values.get(CROSS, b"")),
        without_acls=flag(values, b"NO_ACLS", default=False),
        ignores_ctime=flag(values, b"IGNORE_CTIME", default=False),
    )


def _name(value: bytes) -> bytes:
    if not 0 < len(value) <= NAME_BYTES_MAX:
        raise BadVariable(f"MULTI_SUBTREE_NAMES takes a DMP_NAME of 1 to {NAME_BYTES_MAX} bytes, the backup's name")
    return value


def stream_bytes(env: Pairs) -> int | None:
    """The length of the stream that an environment tells; None = it does not.

    Raises:
        BadVariable: it is no number of bytes.
    """
    value = dict(env).get(STREAM_BYTES, b"")
    return number(STREAM_BYTES, value, 0, 2**63 - 1) if value else None


def dump_date(level: int, date: int) -> bytes:
    """The token DUMP_DATE: level in the upper, seconds in the lower 32 bits (backup-env.md 2.3)."""
    return b"%d" % (level << 32 | date & 0xFFFF_FFFF)
