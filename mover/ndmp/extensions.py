"""Extensions of version 4: which are offered, and how far one session's negotiation of them is; without I/O.

Theory of operation. A message number has its class in the upper half; class 0 is NDMP itself, whose version is the
session's, and every other class has a version of its own. GET_EXT_LIST lists what is offered, SET_EXT_LIST behind it
chooses, once. A DMA may also leave both out: the first message of an extension takes every class in its default
version, and then nothing can be chosen any more.
Source: NDMPv4 (extensions); extensions.md section 2.
"""

import struct
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

from mover.ndmp.enums import ErrorCode
from mover.ndmp.errors import XdrDecodeError
from mover.ndmp.messages import ConfigSetExtListRequest, SelectedExt
from mover.ndmp.table import EXTENSION_TABLE, EXTENSIONS_FROM, class_of


def _offered() -> dict[int, tuple[int, ...]]:
    versions: dict[int, set[int]] = {}
    for version, code in EXTENSION_TABLE:
        versions.setdefault(class_of(code), set()).add(version)
    return {each: tuple(sorted(found)) for each, found in sorted(versions.items())}


CAE: Final = 0x2051
"""NetApp's connection address extension: data connections over IPv6."""
CAB: Final = 0x2052
"""NetApp's cluster aware backup."""
WITH_VSERVERS: Final[Mapping[int, tuple[int, ...]]] = {CAB: (1,)}
"""Class -> its versions, of those that are offered where there are vservers. They count once they were chosen."""
_EVERYWHERE: Final = {each: versions for each, versions in _offered().items() if each not in WITH_VSERVERS}
OFFERED: Final[Mapping[int, tuple[int, ...]]] = {CAE: (1,), **_EVERYWHERE}
"""Class -> its versions, the default first, of those that are offered everywhere.

CAE has no messages: it adds a type of address, which counts once it was chosen. Not offered: NetApp's 2050 (snapshots,
restartable backup), whose bodies are not public.
"""
DEFAULTS: Final[Mapping[int, int]] = {each: versions[0] for each, versions in _EVERYWHERE.items()}
"""Class -> the version in force where nothing has been chosen."""


class Stage(Enum):
    """How far the negotiation is."""

    FRESH = "fresh"
    LISTED = "listed"  # GET_EXT_LIST was answered
    FIXED = "fixed"  # a list was chosen, or an extension used without


class Step(Enum):
    """What moves it."""

    GET = "GET_EXT_LIST"
    SET = "SET_EXT_LIST"
    USE = "a message of an extension"


TRANSITIONS: Final = {
    (Stage.FRESH, Step.GET): Stage.LISTED,
    (Stage.FRESH, Step.USE): Stage.FIXED,
    (Stage.LISTED, Step.GET): Stage.LISTED,
    (Stage.LISTED, Step.SET): Stage.FIXED,
    (Stage.LISTED, Step.USE): Stage.FIXED,
    (Stage.FIXED, Step.USE): Stage.FIXED,
}
"""An absent pair is refused by the stage's error."""
REFUSALS: Final = {Stage.FRESH: ErrorCode.PRECONDITION_ERR, Stage.FIXED: ErrorCode.EXT_DN_ILLEGAL}


class Negotiation:
    """One session's negotiation.

    Attributes:
        offered: class -> its versions, the default first.
        stage: how far it is.
        chosen: class -> version of what was chosen.
        in_force: class -> version of what may be sent now: what was chosen, before that the defaults.
    """

    def __init__(self) -> None:
        self.offered: Mapping[int, tuple[int, ...]] = OFFERED
        self.stage = Stage.FRESH
        self.chosen: Mapping[int, int] = {}
        self.in_force: Mapping[int, int] = DEFAULTS

    def offer(self, offered: Mapping[int, tuple[int, ...]]) -> None:
        """Offer these; before the first message."""
        self.offered = offered
        self.in_force = {each: version for each, version in DEFAULTS.items() if each in offered}

    def list(self) -> ErrorCode:
        """GET_EXT_LIST."""
        return self._move(Step.GET)

    def choose(self, chosen: Iterable[SelectedExt]) -> ErrorCode:
        """SET_EXT_LIST; an error chooses nothing, and another list may be tried. An empty one is "no extensions"."""
        if (self.stage, Step.SET) not in TRANSITIONS:
            return REFUSALS[self.stage]
        versions: dict[int, int] = {}
        for each in chosen:
            if each.ext_class_id not in self.offered:
                return ErrorCode.CLASS_NOT_SUPPORTED
            if each.ext_class_id in versions:
                return ErrorCode.EXT_DUPL_CLASSES
            if each.ext_version not in self.offered[each.ext_class_id]:
                return ErrorCode.VERSION_NOT_SUPPORTED
            versions[each.ext_class_id] = each.ext_version
        self.chosen = self.in_force = versions
        return self._move(Step.SET)

    def use(self) -> None:
        """A message of an extension was taken."""
        self._move(Step.USE)

    def _move(self, step: Step) -> ErrorCode:
        after = TRANSITIONS.get((self.stage, step))
        if after is None:
            return REFUSALS[self.stage]
        self.stage = after
        return ErrorCode.NO_ERR


def layout_version(version: int, extensions: Mapping[int, int], number: int) -> int:
    """The version that decides what a message looks like: the session's, for an extension its class's.

    Args:
        version: of the session.
        extensions: class -> version of those in force.
        number: of the message.

    Returns:
        0 for a class that the session does not have.
    """
    if not (found := class_of(number)):
        return version
    return extensions.get(found, 0) if version >= EXTENSIONS_FROM else 0


# ---- SET_EXT_LIST has two layouts in circulation

_U32: Final = struct.Struct(">I")
_PAIR_BYTES: Final = 8


def decode_chosen(record: bytes, offset: int) -> ConfigSetExtListRequest | None:
    """SET_EXT_LIST as NDMJOB's XDR file has it: a word 0, then a list in the form of GET_EXT_LIST.

    The two cannot be confused: a list of pairs that begins with 0 is empty, and nothing follows. A class without a
    version takes the default; one with several is named as often, and refused for that.
    Source: messages.md section 5.

    Returns:
        None: the pairs of NDMPv4, which the codec decodes.

    Raises:
        XdrDecodeError: it is neither.
    """
    words = len(record) - offset >> 2
    if words * 4 != len(record) - offset or not words:
        raise XdrDecodeError(f"a list of {len(record) - offset} bytes")
    (first,) = _U32.unpack_from(record, offset)
    if 4 + first * _PAIR_BYTES == len(record) - offset:
        return None
    if first:
        raise XdrDecodeError(f"{first} pairs announced in {len(record) - offset} bytes")
    values = struct.unpack_from(f">{words}I", record, offset)[1:]
    if max(values[1:], default=0) > 0xFFFF:
        raise XdrDecodeError("a number of more than 16 bits")
    count, at = values[0], 1
    chosen: list[SelectedExt] = []
    for _ in range(min(count, len(values))):
        if at + 2 > len(values) or at + 2 + values[at + 1] > len(values):
            raise XdrDecodeError("a class that ends behind the record")
        number, versions = values[at], values[at + 1]
        listed = values[at + 2 : at + 2 + versions] or (DEFAULTS.get(number, 0),)
        chosen += [SelectedExt(number, version) for version in listed]
        at += 2 + versions
    if at != len(values):
        raise XdrDecodeError(f"{len(values) - at} words behind the list")
    return ConfigSetExtListRequest(tuple(chosen))
