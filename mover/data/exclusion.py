"""What a backup leaves out by name: EXCLUDE, and directories that hold a tag, EXCLUDE_IF_PRESENT.

Source: backup-env.md section 2.4 (EXCLUDE, ONTAP's rules); GNU tar, section 6.4.1 (exclude-tag, cache directories).
"""

import os
import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from mover.data.dump_format import DT_DIRECTORY, DT_FILE
from mover.data.variables import BadVariable

ITEMS_MAX: Final = 32
"""Items of one list, as with ONTAP: each is held against each name."""
CACHE_TAG: Final = "CACHEDIR.TAG"
"""A tag that counts only if it begins with CACHE_SIGNATURE, as the Cache Directory Tagging Specification has it."""
CACHE_SIGNATURE: Final = b"Signature: 8a477f597d28d172789f06886806bc55"
_COMMA: Final = re.compile(rb"(?<!\\),")


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
        """Raises: BadVariable: too many items, a star inside of one, or one that can be no path below the root."""
        self._names: list[_Pattern] = []
        self._paths: list[_Pattern] = []
        for item in _split_items("EXCLUDE", value):
            pattern = _parse_item(item)
            (self._paths if b"/" in item else self._names).append(pattern)
        self.by_path = bool(self._paths)

    def without(self, path: bytes) -> "Exclusion":
        """The same, and one path more, relative to the root, is left out."""
        more = Exclusion(b"")
        more._names, more._paths, more.by_path = self._names, [*self._paths, _Pattern(path, False, False)], True
        return more

    def __bool__(self) -> bool:
        return bool(self._names or self._paths)

    def leaves_out(self, name: bytes, path: bytes) -> bool:
        """Whether an entry is not wanted; ``path`` is relative to the root and only looked at when ``by_path``."""
        return any(pattern.matches(name) for pattern in self._names) or any(
            pattern.matches(path) for pattern in self._paths
        )


class Tags:
    """What EXCLUDE_IF_PRESENT names: files in whose directory nothing else is wanted."""

    def __init__(self, value: bytes) -> None:
        """Raises: BadVariable: too many names, or one that no file can have."""
        names = _split_items("EXCLUDE_IF_PRESENT", value)
        for name in names:
            if b"/" in name or b"*" in name or name in {b".", b".."}:
                raise BadVariable(
                    f"EXCLUDE_IF_PRESENT item {os.fsdecode(name)!r}: the name of a file is wanted, as it stands"
                )
        self._names = frozenset(map(os.fsdecode, names))

    def __bool__(self) -> bool:
        return bool(self._names)

    def found(self, directory: int, names: Sequence[str], types: Sequence[int]) -> set[str]:
        """The tags among the entries of an open directory; a directory is none.

        Raises:
            OSError: the signature of a cache's tag cannot be read.
        """
        candidates = self._names.intersection(names)
        if not candidates:
            return candidates  # type: ignore[return-value]  # empty, and nobody adds to it
        kinds = dict(zip(names, types, strict=True))
        return {
            name
            for name in candidates
            if kinds[name] != DT_DIRECTORY and (name != CACHE_TAG or _is_signed(directory, name, kinds[name]))
        }


def _is_signed(directory: int, name: str, kind: int) -> bool:
    if kind != DT_FILE:
        return False
    # O_NONBLOCK: what turned into a fifo since the listing must not hang us.
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.pread(fd, len(CACHE_SIGNATURE), 0) == CACHE_SIGNATURE
    finally:
        os.close(fd)


def _split_items(variable: str, value: bytes) -> list[bytes]:
    """The items between commas; ``\\,`` is a comma inside a name."""
    items = [item.replace(b"\\,", b",") for item in _COMMA.split(value) if item]
    if len(items) > ITEMS_MAX:
        raise BadVariable(f"{variable} has {len(items)} items, at most {ITEMS_MAX} are possible")
    return items


def _parse_item(item: bytes) -> _Pattern:
    text = item
    if b"/" in item:
        parts = [part for part in item.split(b"/") if part not in {b"", b"."}]
        text = b"/".join(parts)
        if not parts or b".." in parts:
            raise BadVariable(f"EXCLUDE item {os.fsdecode(item)!r}: it names nothing below FILESYSTEM")
    star_before, star_behind = text.startswith(b"*"), len(text) > 1 and text.endswith(b"*")
    text = text[star_before : len(text) - star_behind]
    if b"*" in text:
        raise BadVariable(f"EXCLUDE item {os.fsdecode(item)!r}: a star is possible only as first or last character")
    return _Pattern(text, star_before, star_behind)
