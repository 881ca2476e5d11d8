"""What the environment of a recover asks for beside names and places. Source: backup-env.md sections 2.1 and 2.2."""

from typing import Final

from msgspec import Struct

from mover.workers.data_messages import Pairs

OVERWRITE: Final = b"OVERWRITE"
"""Variable of our own, Y/N, default Y: what exists is replaced, each object in one step when it is whole; N = it is
kept, and told of."""


class RecoverOptions(Struct, frozen=True):
    """The options of one recover.

    Attributes:
        lists: LIST: the names that would be recovered are told, from the head of the stream; nothing is written.
        writes: not NOWRITE and not LIST.
        overwrites: objects that exist are replaced.
        removes: EXTRACT=N, and said so: what a stream says is gone is removed.
    """

    lists: bool
    writes: bool
    overwrites: bool
    removes: bool


def recover_options(env: Pairs) -> RecoverOptions:
    """The options in an environment; of a name that comes twice the last pair counts."""
    values = dict(env)
    lists = _flag(values, b"LIST", default=False)
    return RecoverOptions(
        lists=lists,
        writes=not (lists or _flag(values, b"NOWRITE", default=False)),
        overwrites=_flag(values, OVERWRITE, default=True),
        removes=not _flag(values, b"EXTRACT", default=True),
    )


def _flag(values: dict[bytes, bytes], name: bytes, *, default: bool) -> bool:
    first = values.get(name, b"")[:1].lower()
    if first in {b"y", b"t"}:
        return True
    return default if first not in {b"n", b"f"} else False
