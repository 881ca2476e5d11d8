"""The XDR codec: built once per struct from its annotations, fields in wire order.

Neighbouring integers of a struct are packed and unpacked by one `struct.Struct`; everything else is a form of
its own. Lengths and counts are checked against the rest of the record before anything is allocated. Bytes
behind the body are ignored (they are no error in any version).
An array of structs that hold strings and integers alone (an environment, a list of names) is decoded by a loop that is
written for its struct: a list of twenty thousand names would else hold up every other connection of the process.
Source: RFC 4506; NDMPv4 section 2.3.
"""

import struct
from collections.abc import Callable
from functools import cache
from inspect import isclass
from typing import Annotated, Any, Final, Protocol, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from mover.ndmp.errors import XdrDecodeError, XdrEncodeError
from mover.ndmp.xdr_types import Arms, FixedOpaque, Integer, UnknownArm, VariableOpaque

T = TypeVar("T", bound=msgspec.Struct)
_U32 = struct.Struct(">I")
_I32 = struct.Struct(">i")
ELEMENTS_MAX: Final = 1 << 16
"""Most elements of an array: six times the longest name list known; decoding them takes a tenth of a second."""
_PADS = (b"", b"\0\0\0", b"\0\0", b"\0")


class Form(Protocol):
    """How one kind of value travels. Values are Any: the annotations are the types, checked at the fields."""

    minimum: int  # fewest bytes that a value takes

    def encode(self, value: Any, parts: list[bytes]) -> None: ...

    def decode(self, data: bytes, offset: int) -> tuple[Any, int]: ...


class _IntegerForm:
    def __init__(self, integer: Integer) -> None:
        self.integer = integer
        self.minimum = integer.size
        self._struct = struct.Struct(">" + integer.format)

    def encode(self, value: int, parts: list[bytes]) -> None:
        check_range(self.integer, value)
        parts.append(self._struct.pack(value))

    def decode(self, data: bytes, offset: int) -> tuple[int, int]:
        end = offset + self.minimum
        if end > len(data):
            raise XdrDecodeError(f"integer at {offset} ends behind the record of {len(data)} bytes")
        (value,) = self._struct.unpack_from(data, offset)
        if not self.integer.low <= value <= self.integer.high:
            raise XdrDecodeError(f"{value} at {offset} does not fit its type")
        return value, end


class _VariableOpaqueForm:
    minimum = 4

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def encode(self, value: bytes, parts: list[bytes]) -> None:
        length = len(value)
        if length > self.limit:
            raise XdrEncodeError(f"{length} bytes where {self.limit} are allowed")
        parts += (_U32.pack(length), value, _PADS[length & 3])

    def decode(self, data: bytes, offset: int) -> tuple[bytes, int]:
        start = offset + 4
        if start > len(data):
            raise XdrDecodeError(f"length at {offset} ends behind the record of {len(data)} bytes")
        (length,) = _U32.unpack_from(data, offset)
        end = start + (length + 3 & ~3)
        if length > self.limit or end > len(data):
            raise XdrDecodeError(f"{length} bytes announced at {offset} of a record of {len(data)} bytes")
        return data[start : start + length], end


class _FixedOpaqueForm:
    def __init__(self, length: int) -> None:
        self._length = length
        self.minimum = length + 3 & ~3

    def encode(self, value: bytes, parts: list[bytes]) -> None:
        if len(value) != self._length:
            raise XdrEncodeError(f"{len(value)} bytes where exactly {self._length} belong")
        parts += (value, _PADS[self._length & 3])

    def decode(self, data: bytes, offset: int) -> tuple[bytes, int]:
        end = offset + self.minimum
        if end > len(data):
            raise XdrDecodeError(f"{self._length} bytes at {offset} end behind the record of {len(data)} bytes")
        return data[offset : offset + self._length], end


class _ArrayForm:
    minimum = 4

    def __init__(self, element: Form) -> None:
        self._element = element
        self._read_all = _written_reader(element) if isinstance(element, Codec) else None

    def encode(self, value: tuple[Any, ...], parts: list[bytes]) -> None:
        parts.append(_U32.pack(len(value)))
        encode = self._element.encode
        for item in value:
            encode(item, parts)

    def decode(self, data: bytes, offset: int) -> tuple[tuple[Any, ...], int]:
        if offset + 4 > len(data):
            raise XdrDecodeError(f"count at {offset} ends behind the record of {len(data)} bytes")
        (count,) = _U32.unpack_from(data, offset)
        offset += 4
        if count > ELEMENTS_MAX or count * max(self._element.minimum, 4) > len(data) - offset:
            raise XdrDecodeError(f"{count} elements announced, {len(data) - offset} bytes are left")
        if self._read_all is not None and (read := self._read_all(data, offset, count)) is not None:
            return tuple(read[0]), read[1]
        items = []
        decode = self._element.decode
        for _ in range(count):
            item, offset = decode(data, offset)
            items.append(item)
        return tuple(items), offset


class _UnionForm:
    minimum = 4

    def __init__(self, arms: Arms) -> None:
        self._by_discriminant = {int(number): codec(arm) for number, arm in arms.arms.items()}
        self._by_type = {arm: (_I32.pack(number), self._by_discriminant[number]) for number, arm in arms.arms.items()}

    def encode(self, value: msgspec.Struct, parts: list[bytes]) -> None:
        if isinstance(value, UnknownArm):
            parts.append(_I32.pack(value.discriminant))
            return
        if type(value) not in self._by_type:
            raise XdrEncodeError(f"{type(value).__name__} is no arm of this union")
        discriminant, arm = self._by_type[type(value)]
        parts.append(discriminant)
        arm.encode(value, parts)

    def decode(self, data: bytes, offset: int) -> tuple[msgspec.Struct, int]:
        if offset + 4 > len(data):
            raise XdrDecodeError(f"discriminant at {offset} ends behind the record of {len(data)} bytes")
        (discriminant,) = _I32.unpack_from(data, offset)
        arm = self._by_discriminant.get(discriminant)
        if arm is None:
            return UnknownArm(discriminant), offset + 4
        return arm.decode(data, offset + 4)


class _IntegerRun:
    """Neighbouring integer fields: one pack, one unpack, then the ranges that the format does not bound."""

    def __init__(self, fields: list[tuple[str, Integer]]) -> None:
        self.names = tuple(name for name, _ in fields)
        integers = tuple(integer for _, integer in fields)
        self.struct = struct.Struct(">" + "".join(integer.format for integer in integers))
        self.minimum = self.struct.size
        whole = {"I": 1 << 32, "i": 1 << 32, "Q": 1 << 64}
        self.narrow = tuple(
            (index, integer)
            for index, integer in enumerate(integers)
            if integer.high - integer.low + 1 != whole[integer.format]
        )

    def encode(self, values: list[int], parts: list[bytes]) -> None:
        for index, integer in self.narrow:
            check_range(integer, values[index])
        try:
            parts.append(self.struct.pack(*values))
        except struct.error as error:
            pairs = ", ".join(f"{name}={value!r}" for name, value in zip(self.names, values, strict=True))
            raise XdrEncodeError(f"{pairs}: {error}") from error

    def decode(self, data: bytes, offset: int) -> tuple[tuple[int, ...], int]:
        end = offset + self.minimum
        if end > len(data):
            raise XdrDecodeError(f"{self.names[0]} at {offset} ends behind the record of {len(data)} bytes")
        values = self.struct.unpack_from(data, offset)
        for index, integer in self.narrow:
            if not integer.low <= values[index] <= integer.high:
                raise XdrDecodeError(f"{self.names[index]}: {values[index]} does not fit its type")
        return values, end


class Codec:
    """The XDR form of one struct."""

    def __init__(self, struct_type: type[msgspec.Struct]) -> None:
        self.struct_type = struct_type
        self.steps: list[tuple[str, Form] | _IntegerRun] = []
        hints = get_type_hints(struct_type, include_extras=True)
        run: list[tuple[str, Integer]] = []
        for name in struct_type.__struct_fields__:
            form = _form(hints[name])
            if isinstance(form, _IntegerForm):
                run.append((name, form.integer))
                continue
            if run:
                self.steps.append(_IntegerRun(run))
                run = []
            self.steps.append((name, form))
        if run:
            self.steps.append(_IntegerRun(run))
        self.minimum = sum(step.minimum if isinstance(step, _IntegerRun) else step[1].minimum for step in self.steps)

    def encode(self, value: msgspec.Struct, parts: list[bytes]) -> None:
        """Append the wire form of `value`; raises XdrEncodeError."""
        for step in self.steps:
            if isinstance(step, _IntegerRun):
                step.encode([getattr(value, name) for name in step.names], parts)
            else:
                name, form = step
                form.encode(getattr(value, name), parts)

    def decode(self, data: bytes, offset: int) -> tuple[Any, int]:
        """The struct at `offset`, and where it ends; raises XdrDecodeError."""
        values: list[Any] = []  # mixed by nature: the struct's constructor takes them in order
        for step in self.steps:
            if isinstance(step, _IntegerRun):
                integers, offset = step.decode(data, offset)
                values += integers
            else:
                item, offset = step[1].decode(data, offset)
                values.append(item)
        return self.struct_type(*values), offset


ReadAll = Callable[[bytes, int, int], tuple[list[Any], int] | None]
"""Decodes so many structs from an offset on; None = the bytes are wrong, and the codec says what is."""


def _written_reader(codec: Codec) -> ReadAll | None:
    """A loop over the fields of one struct, written out; None = it holds more than strings and integers."""
    names: dict[str, object] = {"make": codec.struct_type, "word": _U32.unpack_from, "error": struct.error}
    body: list[str] = []
    values: list[str] = []
    for number, step in enumerate(codec.steps):
        if isinstance(step, _IntegerRun):
            names[f"run{number}"] = step.struct.unpack_from
            found = [f"i{number}_{index}" for index in range(len(step.names))]
            body += [f"({', '.join(found)},) = run{number}(data, at)", f"at += {step.minimum}"]
            body += [
                f"if not {integer.low} <= {found[index]} <= {integer.high}: return None"
                for index, integer in step.narrow
            ]
            values += found
        elif isinstance(step[1], _VariableOpaqueForm):
            body += [
                "(length,) = word(data, at)",
                f"if length > {step[1].limit}: return None",
                f"s{number} = data[at + 4 : at + 4 + length]",
                "at += 4 + (length + 3 & ~3)",
            ]
            values.append(f"s{number}")
        else:
            return None
    lines = ["def read(data, at, count):", " items = []", " try:", "  for _ in range(count):"]
    lines += [f"   {line}" for line in [*body, f"items.append(make({', '.join(values)}))"]]
    lines += [" except error:", "  return None", " return (items, at) if at <= len(data) else None"]
    exec("\n".join(lines), names)  # noqa: S102 -- of our own annotations, as dataclasses are made
    read: ReadAll = names["read"]  # type: ignore[assignment]  # what the text defines
    return read


def check_range(integer: Integer, value: int) -> None:
    """Raise XdrEncodeError for a value outside the type."""
    if not integer.low <= value <= integer.high:
        raise XdrEncodeError(f"{value} is outside {integer.low} to {integer.high}")


def _form(hint: Any) -> Form:  # Any: a type annotation has no static type
    if get_origin(hint) is Annotated:
        for mark in get_args(hint)[1:]:
            match mark:
                case Integer():
                    return _IntegerForm(mark)
                case VariableOpaque(limit=limit):
                    return _VariableOpaqueForm(limit)
                case FixedOpaque(length=length):
                    return _FixedOpaqueForm(length)
                case Arms():
                    return _UnionForm(mark)
    if get_origin(hint) is tuple:
        return _ArrayForm(_form(get_args(hint)[0]))
    if isclass(hint) and issubclass(hint, msgspec.Struct):
        return codec(hint)
    raise TypeError(f"{hint!r} has no XDR form")


@cache
def codec(struct_type: type[msgspec.Struct]) -> Codec:
    """The one codec of a struct type; raises TypeError for a field without XDR form."""
    return Codec(struct_type)


def encode(value: msgspec.Struct) -> bytes:
    """The wire form of a struct; raises XdrEncodeError."""
    parts: list[bytes] = []
    codec(type(value)).encode(value, parts)
    return b"".join(parts)


def decode(struct_type: type[T], data: bytes, offset: int = 0) -> T:
    """The struct at `offset` of a record, ignoring what follows; raises XdrDecodeError."""
    value: T = codec(struct_type).decode(data, offset)[0]
    return value
