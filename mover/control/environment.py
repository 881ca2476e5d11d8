"""The environment of a data operation: what control itself reads of it.

Names are compared case sensitively; of a name given twice the last counts; unknown ones pass through untouched.
Source: NDMPv4 section 3.5 (environment), NDMPv1 section 3.5.2; backup-env.md sections 1 and 2.
"""

import difflib
from collections.abc import Iterable
from typing import Final, Literal

from mover.control.refusal import Refusal
from mover.ndmp.enums import ErrorCode
from mover.ndmp.messages import Pval
from mover.workers.data_messages import Pairs

LEVEL_MAX = 31
LOWER_CASE_1: Final = {b"FILESYSTEM": b"filesystem", b"FILES": b"files"}
"""Names that NDMPv1 3.5.2 writes in lower case; version 1 takes both, and returns each under the name it came with
(backup-env.md 2.6)."""

VARIABLES: Final[dict[Literal["backup", "recover"], frozenset[str]]] = {
    "backup": frozenset({
        "FILESYSTEM", "PREFIX", "HIST", "LEVEL", "UPDATE", "BASE_DATE", "EXCLUDE", "EXCLUDE_IF_PRESENT",
        "MULTI_SUBTREE_NAMES", "DMP_NAME", "CROSS_FILE_SYSTEMS", "NO_ACLS", "IGNORE_CTIME", "TRUSTED_XATTRS",
    }),
    "recover": frozenset({
        "PREFIX", "TRUSTED_XATTRS", "RECURSIVE", "EXTRACT", "OVERWRITE", "LIST", "NOWRITE", "MOVER_DUMP_ID", "DIRECT",
        "MOVER_STREAM_BYTES",
    }),
}  # fmt: skip
"""What a START of each kind understands (docs/environment.md)."""
_OTHERS: Final = frozenset({
    "TYPE", "ID", "DEBUG", "USER", "CMD", "FILES", "OPTIONS", "filesystem", "files", "PATHNAME_SEPARATOR",
    "NDMP_VERSION", "DUMP_DATE",
}).union(*VARIABLES.values())  # fmt: skip
_LOOKED_AT: Final = 32  # names of an environment
_LIKENESS: Final = 0.85  # of two names, by difflib


def misspelt(pairs: Pairs, operation: Literal["backup", "recover"]) -> list[str]:
    """Lines on names that nobody knows and that are nearly those of variables: what was asked for is not done."""
    unknown = [name.decode() for name in dict(pairs) if len(name) <= 2 * _LOOKED_AT and name.isascii() and name.strip()]
    lines = []
    for name in [name for name in unknown if name not in _OTHERS][:_LOOKED_AT]:
        near = difflib.get_close_matches(name.strip().upper(), sorted(VARIABLES[operation]), 1, _LIKENESS)
        if near:
            lines.append(f"{name!r} is no variable of a {operation} and was not followed; is {near[0]} meant?")
    return lines


class Environment:
    """The pairs of a START request, read as the session's version has it."""

    def __init__(self, pairs: Iterable[Pval], version: int) -> None:
        self.pairs: Pairs = [(pair.name, pair.value) for pair in pairs]
        self._last = dict(self.pairs)
        self._version = version

    def get(self, name: bytes) -> bytes | None:
        """The value of a variable; None = not given."""
        value = self._last.get(name)
        if value is None and self._version == 1 and name in LOWER_CASE_1:
            return self._last.get(LOWER_CASE_1[name])
        return value

    def flag(self, name: bytes, *, default: bool) -> bool:
        """A boolean by its first letter: y, t are true, n, f are false."""
        first = (self.get(name) or b"")[:1].lower()
        if first in {b"y", b"t"}:
            return True
        if first in {b"n", b"f"}:
            return False
        return default

    @property
    def root(self) -> bytes | None:
        """Root of the backup: FILESYSTEM, else PREFIX, else in version 1 ID if that is a path."""
        root = self.get(b"FILESYSTEM") or self.get(b"PREFIX") or None
        if root is None and self._version == 1:
            named = self.get(b"ID") or b""
            return named if named.startswith(b"/") else None
        return root

    @property
    def subtree_backup(self) -> bytes:
        """DMP_NAME of a backup of several subtrees, which has dump dates of its own; b"" = it is another backup."""
        return (self.get(b"DMP_NAME") or b"") if self.get(b"MULTI_SUBTREE_NAMES") else b""

    def history_form(self, suiting: Literal["dir", "file"]) -> Literal["dir", "file"] | None:
        """HIST: which form of file history is wanted; None = none. ``y`` leaves the choice to us: ``suiting``."""
        first = (self.get(b"HIST") or b"n")[:1].lower()
        if first == b"f":
            return "file"
        if first == b"d":
            return "dir"
        return suiting if first in {b"y", b"t"} else None

    def check_level(self) -> int:
        """LEVEL as a number. Raises Refusal."""
        text = self.get(b"LEVEL")
        if text is None or text == b"":
            return 0
        if not text.isdigit() or len(text) > 2 or int(text) > LEVEL_MAX:
            shown = text.decode("utf-8", "backslashreplace")[:40]
            raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR, f"LEVEL {shown}: expected 0 to {LEVEL_MAX}")
        return int(text)


def merge(pairs: Pairs, changes: Pairs) -> Pairs:
    """``pairs`` with the values of ``changes``: replaced where the name is there, else added behind."""
    changed, present = dict(changes), {name for name, _ in pairs}
    merged = [(name, changed.get(name, value)) for name, value in pairs]
    return merged + [(name, value) for name, value in changed.items() if name not in present]
