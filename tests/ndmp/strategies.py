"""Values of any XDR struct, made from its annotations; and an encoder on xdrlib3 as the oracle of the codec."""

from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import xdrlib3
from hypothesis import strategies as st

from mover.ndmp.edge import CONVERSIONS
from mover.ndmp.messages import Body
from mover.ndmp.table import EXTENSION_TABLE, ROWS, TABLE
from mover.ndmp.xdr_types import Arms, FixedOpaque, Integer, UnknownArm, VariableOpaque

# Any throughout: annotations and struct fields are walked generically


def marks(hint: Any) -> list[Any]:
    return list(get_args(hint)[1:]) if get_origin(hint) is Annotated else []


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """A strategy of values that fit one annotation."""
    for mark in marks(hint):
        match mark:
            case Integer(low=low, high=high):
                return st.integers(low, high) | st.sampled_from([low, high, 0, 1])
            case VariableOpaque():
                return st.binary(max_size=9)
            case FixedOpaque(length=length):
                return st.binary(min_size=length, max_size=length)
            case Arms(arms=arms):
                return st.one_of([structs(arm) for arm in arms.values()])
    if get_origin(hint) is tuple:
        return st.lists(values_of(get_args(hint)[0]), max_size=3).map(tuple)
    return structs(hint)


def structs(struct_type: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """A strategy of whole structs."""
    hints = get_type_hints(struct_type, include_extras=True)
    return st.builds(struct_type, *(values_of(hints[name]) for name in struct_type.__struct_fields__))


def oracle(value: msgspec.Struct) -> bytes:
    """The wire form according to xdrlib3."""
    packer = xdrlib3.Packer()
    _pack_struct(packer, value)
    packed: bytes = packer.get_buffer()
    return packed


def _pack_struct(packer: Any, value: msgspec.Struct) -> None:
    hints = get_type_hints(type(value), include_extras=True)
    for name in value.__struct_fields__:
        _pack(packer, hints[name], getattr(value, name))


def _pack(packer: Any, hint: Any, value: Any) -> None:
    for mark in marks(hint):
        match mark:
            case Integer(format="I"):
                packer.pack_uint(value)
                return
            case Integer(format="i"):
                packer.pack_int(value)
                return
            case Integer(format="Q"):
                packer.pack_uhyper(value)
                return
            case VariableOpaque():
                packer.pack_opaque(value)
                return
            case FixedOpaque(length=length):
                packer.pack_fopaque(length, value)
                return
            case Arms(arms=arms):
                if isinstance(value, UnknownArm):
                    packer.pack_int(value.discriminant)
                    return
                (discriminant,) = (number for number, arm in arms.items() if arm is type(value))
                packer.pack_int(discriminant)
                _pack_struct(packer, value)
                return
    if get_origin(hint) is tuple:
        packer.pack_array(value, lambda item: _pack(packer, get_args(hint)[0], item))
        return
    _pack_struct(packer, value)


def wire_types() -> list[tuple[str, type[Body]]]:
    """Every body of every version as it is on the wire, each type once, with a name for the test."""
    found: dict[type[Body], str] = {}
    for (version, code), row in ROWS.items():
        for body in (row.request, row.reply):
            if body is not None:
                conversion = CONVERSIONS.get((version, code, body))
                wire = body if conversion is None else conversion.wire
                found.setdefault(wire, f"v{version}-{wire.__name__}")
    return [(name, wire) for wire, name in found.items()]


def extension_bodies() -> list[tuple[int, int, bool, type[Body]]]:
    """(version of the class, number, whether it is a reply, internal type) of every body of an extension."""
    found: list[tuple[int, int, bool, type[Body]]] = []
    for (version, code), row in EXTENSION_TABLE.items():
        assert row.reply is not None
        found += [(version, code, False, row.request), (version, code, True, row.reply)]
    return found


def bodies(version: int) -> list[tuple[int, bool, type[Body]]]:
    """(number, whether it is a reply, internal type) of every body of a version."""
    found: list[tuple[int, bool, type[Body]]] = []
    for (of_version, code), row in TABLE.items():
        if of_version == version:
            found.append((code, False, row.request))
            if row.reply is not None:
                found.append((code, True, row.reply))
    return found
