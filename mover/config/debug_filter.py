"""What a protocol log takes in: ONTAP's filter expressions over the interfaces of NDMP.

A filter is a word, then any number of words with + or - in front: ``all``, ``normal`` (all without fh and log, the two
that a job floods), ``none``, or an interface: ``data+mover+notify``, ``all-fh``, ``none+tape``.
"""

import re
from typing import Any, Final  # Any: TOML values before they are checked

INTERFACES: Final = ("connect", "config", "scsi", "tape", "data", "mover", "notify", "log", "fh", "other")
"""``other``: extensions, unknown numbers, and what has no whole header."""
_WORDS: Final = {
    "all": frozenset(INTERFACES),
    "normal": frozenset(INTERFACES) - {"fh", "log"},
    "none": frozenset[str](),
    **{name: frozenset({name}) for name in INTERFACES},
}
_FILTER = re.compile(r"[a-z]+(?:[+-][a-z]+){0,32}")


def interfaces(text: str) -> frozenset[str]:
    """The interfaces that a filter lets through; raises ValueError, whose text completes "expected ..."."""
    if _FILTER.fullmatch(text) is None:
        raise ValueError(_EXPECTED)
    chosen: frozenset[str] = frozenset()
    for sign, word in re.findall(r"([+-]?)([a-z]+)", text):
        if word not in _WORDS:
            raise ValueError(_EXPECTED)
        chosen = chosen - _WORDS[word] if sign == "-" else chosen | _WORDS[word]
    if not chosen:
        raise ValueError(f"a filter that leaves something: {_EXPECTED}")
    return chosen


def parse_debug_filter(value: Any) -> str:
    """A filter expression."""
    if not isinstance(value, str):
        raise ValueError(_EXPECTED)
    interfaces(value)
    return value


_EXPECTED: Final = f"words joined by + and - out of {', '.join(_WORDS)}"
