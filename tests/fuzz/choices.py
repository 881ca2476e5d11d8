"""Bytes as choices: a fuzzer's input read as values of any XDR struct, and values spelled as such bytes (for seeds).

A byte mostly picks a value out of a list of interesting ones, so that a mutation of one byte is another plausible
message and not another broken one.
"""

import struct
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec

from mover.ndmp.xdr_types import Arms, FixedOpaque, Integer, UnknownArm, VariableOpaque

# Any throughout: annotations and struct fields are walked generically

LITERAL: Final = 0xF0
"""From this byte on the value itself follows."""
UNKNOWN_DISCRIMINANT: Final = 99
ELEMENTS: Final = 8
OVERLONG: Final = 64
"""One string in so many is longer than it may be, where values need not fit."""

INTEGERS: Final = (
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 23, 31, 99, 255, 512, 1000, 1024, 4096, 10240, 65535, 65536, 1 << 20,
    1 << 24, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 32, 1 << 40, (1 << 63) - 1, (1 << 64) - 1, (1 << 64) - 512,
    -1, -2, -0x8000_0000, 0x7F00_0001, 0x0808_0808,
)  # fmt: skip
VOLUME: Final = b"/usr"
DRIVE: Final = b"d0"
OTHER_DRIVE: Final = b"d1"
LIBRARY: Final = b"l"
CHANGER: Final = LIBRARY + b"/changer"
LIBRARY_DRIVE: Final = LIBRARY + b"/drive0"
USER: Final = b"ndmp"
PASSWORD: Final = b"the secret"
LONG: Final = b"x" * 300
CDBS: Final = tuple(bytes.fromhex(each) for each in (
    "00 00 00 00 00 00", "01 00 00 00 00 00", "03 00 00 00 12 00", "07 00 00 00 00 00", "0a 00 00 00 01 00",
    "12 00 00 00 60 00", "16 00 00 00 00 00", "17 00 00 00 00 00", "1a 00 3f 00 ff 00", "1b 00 00 00 00 00",
    "1b 00 00 00 01 00", "1e 00 00 00 01 00", "1e 00 00 00 00 00", "2b 00 00 00 00 00 02 00 00 00",
    "34 00 00 00 00 00 00 00 00 00", "4d 00 31 00 00 00 00 00 ff 00", "a5 00 00 00 04 00 01 00 00 00 00 00",
    "a5 00 00 00 01 00 04 01 00 00 00 00", "a5 00 00 00 04 00 03 00 00 00 00 00",
    "a6 00 00 00 04 00 01 00 04 02 00 00", "b8 10 00 00 00 ff 00 00 ff ff 00 00",
))  # fmt: skip
"""Commands for drives and changers: what they ask, where they go, what they move."""
STRINGS: Final = (
    b"", b"dump", b"tar", DRIVE, OTHER_DRIVE, b"nowhere", USER, PASSWORD, VOLUME, b"/usr/share/x", b"/", b"/outside",
    b"../..", b"relative/name", b"\0", b"\xff\xfe", b"FILESYSTEM", b"PREFIX", b"HIST", b"LEVEL", b"DIRECT", b"TYPE",
    b"RECURSIVE", b"y", b"n", b"f", b"d", b"0", b"1", b"10", LONG, LIBRARY, CHANGER, LIBRARY_DRIVE, b"drives", b"ID",
    b"DEBUG", b"filesystem", *CDBS,
)  # fmt: skip


class Choices:
    """A cursor over a fuzzer's bytes; past their end every byte is 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._inserted = 0  # how many at the beginning were put in between
        self._taken = b""  # before those

    def insert(self, data: bytes) -> None:
        """Have other bytes read before what is left."""
        self._taken = self.taken
        self._data = data + self._data[self._at :]
        self._at = 0
        self._inserted = len(data)

    @property
    def taken(self) -> bytes:
        """The bytes read so far, without those that were inserted."""
        own = self._data[self._inserted : self._at]
        return self._taken + own.ljust(self._at - self._inserted, b"\0")

    def next_is(self, byte: int) -> bool:
        """Whether this byte is the next one."""
        return self._data[self._at : self._at + 1] == bytes([byte])

    @property
    def ended(self) -> bool:
        return self._at >= len(self._data)

    def byte(self) -> int:
        """The next byte."""
        at = self._at
        self._at = at + 1
        return self._data[at] if at < len(self._data) else 0

    def take(self, count: int) -> bytes:
        """At most so many bytes as they are."""
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))

    def word(self) -> int:
        """Four bytes as a number."""
        (number,) = struct.unpack(">I", self.take(4).ljust(4, b"\0"))
        return int(number)

    def integer(self) -> int:
        """One of the interesting numbers, or any."""
        byte = self.byte()
        return self.word() if byte >= LITERAL else INTEGERS[byte % len(INTEGERS)]

    def string(self) -> bytes:
        """One of the interesting strings, or any short one."""
        byte = self.byte()
        return self.take(self.byte()) if byte >= LITERAL else STRINGS[byte % len(STRINGS)]


def marks_of(hint: Any) -> tuple[Any, ...]:
    """What an annotation carries beside its type."""
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


_HINTS: dict[type, dict[str, Any]] = {}


def hints_of(struct_type: type[msgspec.Struct]) -> dict[str, Any]:
    """The annotations of a struct's fields, in order."""
    found = _HINTS.get(struct_type)
    if found is None:
        found = _HINTS[struct_type] = get_type_hints(struct_type, include_extras=True)
    return found


def build(struct_type: type[msgspec.Struct], choices: Choices, *, bound: bool = True) -> Any:
    """A struct out of choices.

    Args:
        bound: values fit their types.
    """
    hints = hints_of(struct_type)
    return struct_type(*[_value(hints[name], choices, bound) for name in struct_type.__struct_fields__])


def _value(hint: Any, choices: Choices, bound: bool) -> Any:
    for mark in marks_of(hint):
        match mark:
            case Integer(low=low, high=high):
                number = choices.integer()
                return min(max(number, low), high) if bound else number
            case VariableOpaque(limit=limit):
                overlong = not bound and choices.byte() % OVERLONG == 1
                return bytes(limit + 1) if overlong else choices.string()[:limit]
            case FixedOpaque(length=length):
                return bytes([choices.byte()]) * length if bound else choices.string()
            case Arms(arms=arms):
                structs = list(arms.values())
                index = choices.byte() % (len(structs) + 1 + (not bound))
                if index > len(structs):
                    return Choice()
                return (
                    UnknownArm(UNKNOWN_DISCRIMINANT)
                    if index == len(structs)
                    else build(structs[index], choices, bound=bound)
                )
    if get_origin(hint) is tuple:
        count = choices.byte() % ELEMENTS
        return tuple(_value(get_args(hint)[0], choices, bound) for _ in range(count))
    return build(hint, choices, bound=bound)


class Choice(msgspec.Struct):
    """No arm of any union."""


def spell(value: msgspec.Struct) -> bytes:
    """The choices that `build` makes this struct of.

    Raises:
        ValueError: no choices do.
    """
    hints = hints_of(type(value))
    spelled = b"".join(_spell(hints[name], getattr(value, name)) for name in value.__struct_fields__)
    if build(type(value), Choices(spelled)) != value:
        raise ValueError(f"{value} cannot be spelled")
    return spelled


def spell_integer(value: int) -> bytes:
    """One byte, or the number itself."""
    return bytes([INTEGERS.index(value)]) if value in INTEGERS else struct.pack(">BI", LITERAL, value)


def spell_string(value: bytes) -> bytes:
    """One byte, or length and bytes."""
    return bytes([STRINGS.index(value)]) if value in STRINGS else bytes([LITERAL, len(value)]) + value


def _spell(hint: Any, value: Any) -> bytes:
    for mark in marks_of(hint):
        match mark:
            case Integer():
                return spell_integer(value)
            case VariableOpaque():
                return spell_string(value)
            case FixedOpaque():
                return value[:1]  # type: ignore[no-any-return]  # bytes, by the annotation
            case Arms(arms=arms):
                structs = list(arms.values())
                if isinstance(value, UnknownArm):
                    return bytes([len(structs)])
                return bytes([structs.index(type(value))]) + spell(value)
    if get_origin(hint) is tuple:
        return bytes([len(value)]) + b"".join(_spell(get_args(hint)[0], item) for item in value)
    return spell(value)
