"""The environment of a backup as the dump type understands it: level, dates, and names to leave out.

Source: backup-env.md sections 1 and 2. Variables that do not concern the data worker (FILESYSTEM, HIST, USER, ...)
and unknown ones are not an error; control keeps them for GET_ENV.
"""

from typing import Final

from msgspec import Struct

from mover.workers.messages import Pairs

LEVEL_MAX: Final = 31
STREAM_BYTES: Final = b"MOVER_STREAM_BYTES"
"""Variable of our own in the environment: the length of the stream. In the reply to GET_ENV of a backup; a recover by
direct access that is given it asks for more at a time, because it knows what is there."""


class BadVariable(ValueError):  # noqa: N818 - names what is wrong, as the reply does
    """A known variable with a value that cannot be meant: the START is refused."""


class _Pattern(Struct, frozen=True):
    """One item of EXCLUDE: text with an optional star at either end."""

    text: bytes
    star_before: bool
    star_behind: bool

    def matches(self, name: bytes) -> bool:
        if self.star_before:
            return self.text in name if self.star_behind else name.endswith(self.text)
        return name.startswith(self.text) if self.star_behind else name == self.text


class Exclusion:
    """What EXCLUDE leaves out: an item without a separator matches a last component, one with it a path."""

    def __init__(self, value: bytes) -> None:
        """Raises: BadVariable: a star inside an item."""
        self._names: list[_Pattern] = []
        self._paths: list[_Pattern] = []
        for item in _split_items(value):
            pattern = _parse_item(item)
            (self._paths if b"/" in item else self._names).append(pattern)
        self.by_path = bool(self._paths)

    def __bool__(self) -> bool:
        return bool(self._names or self._paths)

    def leaves_out(self, name: bytes, path: bytes) -> bool:
        """Whether an entry is not wanted; ``path`` is relative to the root and only looked at when ``by_path``."""
        return any(pattern.matches(name) for pattern in self._names) or any(
            pattern.matches(path) for pattern in self._paths
        )


def _split_items(value: bytes) -> list[bytes]:
    """The items between commas; ``\\,`` is a comma inside a name."""
    items = value.replace(b"\\,", b"\0").split(b",")
    return [item.replace(b"\0", b",") for item in items if item]


def _parse_item(item: bytes) -> _Pattern:
    text = item
    if b"/" in item:
        text = item.strip(b"/")
    star_before, star_behind = text.startswith(b"*"), len(text) > 1 and text.endswith(b"*")
    text = text[star_before : len(text) - star_behind]
    if b"*" in text:
        raise BadVariable(f"EXCLUDE item {item!r}: a star is possible only as first or last character")
    return _Pattern(text, star_before, star_behind)


class BackupOptions(Struct, frozen=True):
    """What a backup's environment asks for.

    Attributes:
        level: as requested.
        exclusion: entries to leave out.
        base_date: BASE_DATE when it asks for token based incrementals (present and not -1), else None.
    """

    level: int
    exclusion: Exclusion
    base_date: int | None


def _number(name: bytes, text: bytes, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise BadVariable(f"{name.decode()} is {text!r}, it must be a number from {least} to {most}")
    return number


def backup_options(env: Pairs) -> BackupOptions:
    """The options of a backup; of a name that comes twice the last pair counts.

    Raises:
        BadVariable: LEVEL, BASE_DATE or EXCLUDE cannot be understood.
    """
    values = dict(env)
    base_date = _number(b"BASE_DATE", values.get(b"BASE_DATE", b"-1"), -1, 2**64 - 1)
    return BackupOptions(
        _number(b"LEVEL", values.get(b"LEVEL", b"0"), 0, LEVEL_MAX),
        Exclusion(values.get(b"EXCLUDE", b"")),
        None if base_date == -1 else base_date,
    )


def stream_bytes(env: Pairs) -> int | None:
    """The length of the stream that an environment tells; None = it does not.

    Raises:
        BadVariable: it is no number of bytes.
    """
    value = dict(env).get(STREAM_BYTES, b"")
    return _number(STREAM_BYTES, value, 0, 2**63 - 1) if value else None


def dump_date(level: int, date: int) -> bytes:
    """The token DUMP_DATE: level in the upper, seconds in the lower 32 bits (backup-env.md 2.3)."""
    return b"%d" % (level << 32 | date & 0xFFFF_FFFF)
