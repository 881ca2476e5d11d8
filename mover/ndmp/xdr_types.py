"""Annotations that give a struct field its XDR form; `mover.ndmp.xdr` builds the codec from them.

Source: RFC 4506; NDMPv4 section 2.3 (types).
"""

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

STRING_MAX: Final = 1 << 20
"""Longest string in bytes: a path, or a list of paths in an environment variable."""
OPAQUE_MAX: Final = 32 << 20
"""Longest opaque in bytes: a tape record."""


class Integer(msgspec.Struct, frozen=True):
    """An integer of `size` bytes on the wire whose value fits in `bits`."""

    format: str  # code of the struct module
    size: int
    low: int
    high: int


class VariableOpaque(msgspec.Struct, frozen=True):
    """Length, bytes, zero pad to a multiple of four; at most `limit` bytes."""

    limit: int


class FixedOpaque(msgspec.Struct, frozen=True):
    """Exactly `length` bytes and the pad, no length word."""

    length: int


class Arms(msgspec.Struct, frozen=True, eq=False):
    """A discriminated union: discriminant, then the arm's fields; any other discriminant is an `UnknownArm`."""

    arms: Mapping[int, type[msgspec.Struct]]


class UnknownArm(msgspec.Struct, frozen=True):
    """A union whose discriminant has no arm in this version; the handler answers ILLEGAL_ARGS_ERR."""

    discriminant: int


U8 = Annotated[int, Integer("I", 4, 0, 0xFF)]
U16 = Annotated[int, Integer("I", 4, 0, 0xFFFF)]
I16 = Annotated[int, Integer("i", 4, -0x8000, 0x7FFF)]
U32 = Annotated[int, Integer("I", 4, 0, 0xFFFF_FFFF)]
I32 = Annotated[int, Integer("i", 4, -0x8000_0000, 0x7FFF_FFFF)]
Enum = I32
"""An enum as it travels: any integer, because an unknown value is the handler's to refuse."""
U64 = Annotated[int, Integer("Q", 8, 0, 0xFFFF_FFFF_FFFF_FFFF)]
String = Annotated[bytes, VariableOpaque(STRING_MAX)]
"""Names and texts are bytes end to end."""
Opaque = Annotated[bytes, VariableOpaque(OPAQUE_MAX)]
Digest = Annotated[bytes, FixedOpaque(16)]
Ipv6Bytes = Annotated[bytes, FixedOpaque(16)]
Challenge = Annotated[bytes, FixedOpaque(64)]


class Body(msgspec.Struct, frozen=True):
    """Base of every message body; field order is wire order."""
