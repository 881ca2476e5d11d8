"""The codec: vectors, round trips, the oracle, bounds, and bytes cut anywhere."""

import struct
from typing import Annotated

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.ndmp import xdr
from mover.ndmp.errors import XdrDecodeError, XdrEncodeError
from mover.ndmp.messages import (
    LOCAL,
    AuthMd5,
    Body,
    ConnectClientAuthRequest,
    DataConnectRequest,
    IpcAddress,
    Pval,
    ScsiGetStateReply,
    TapeOpenRequest,
    TcpAddress,
    TcpEndpoint,
    TcpIpv6Address,
    TcpIpv6Endpoint,
    UnknownArm,
    v2,
    v3,
)
from mover.ndmp.messages.config import ConfigGetServerInfoReply
from mover.ndmp.xdr_types import STRING_MAX, U16, U32, U64, FixedOpaque, String, VariableOpaque
from tests.ndmp.strategies import oracle, structs, wire_types

WIRE = wire_types()


class Short(Body, frozen=True):
    text: Annotated[bytes, VariableOpaque(4)]


class Odd(Body, frozen=True):
    fixed: Annotated[bytes, FixedOpaque(5)]
    number: U32


class Pairs(Body, frozen=True):
    pairs: tuple[Pval, ...]


class Wrong(msgspec.Struct, frozen=True):
    number: float


VECTORS = [
    (TapeOpenRequest(b"nst0", 1), "00000004 6e737430 00000001"),
    (TapeOpenRequest(b"/dev/x", -1), "00000006 2f646576 2f780000 ffffffff"),
    (TapeOpenRequest(b"", 0x7FFFFFFF), "00000000 7fffffff"),
    (ScsiGetStateReply(0, -1, 3, 0), "00000000 ffffffff 00000003 00000000"),
    (DataConnectRequest(LOCAL), "00000000"),
    (
        DataConnectRequest(TcpAddress((TcpEndpoint(0xC0000201, 10000, (Pval(b"a", b"bc"),)),))),
        "00000001 00000001 c0000201 00002710 00000001 00000001 61000000 00000002 62630000",
    ),
    (DataConnectRequest(IpcAddress(b"xyz")), "00000003 00000003 78797a00"),
    (
        DataConnectRequest(TcpIpv6Address((TcpIpv6Endpoint(bytes(15) + b"\1", 10000, (Pval(b"a", b"bc"),)),))),
        "20510004 00000001 00000000 00000000 00000000 00000001 00002710 00000001 00000001 61000000 00000002 62630000",
    ),
    (DataConnectRequest(UnknownArm(123)), "0000007b"),
    (v3.DataConnectRequest(v2.SingleTcpAddress(0x7F000001, 99)), "00000001 7f000001 00000063"),
    (
        ConnectClientAuthRequest(AuthMd5(b"u", bytes(range(16)))),
        "00000002 00000001 75000000 00010203 04050607 08090a0b 0c0d0e0f",
    ),
    (
        ConfigGetServerInfoReply(0, b"v", b"", b"1", (1, 2)),
        "00000000 00000001 76000000 00000000 00000001 31000000 00000002 00000001 00000002",
    ),
    (v2.Name(b"n", b"", 0, 2**64 - 1), "00000001 6e000000 00000000 00000000 ffffffff ffffffff"),
    (Odd(b"12345", 7), "31323334 35000000 00000007"),
]


@pytest.mark.parametrize(("value", "wire"), VECTORS, ids=lambda value: type(value).__name__)
def test_vectors(value: msgspec.Struct, wire: str) -> None:
    data = bytes.fromhex(wire)
    assert xdr.encode(value) == data
    assert xdr.decode(type(value), data) == value


@pytest.mark.parametrize("wire_type", [wire for _, wire in WIRE], ids=[name for name, _ in WIRE])
def test_every_body_comes_back_and_equals_the_oracle(wire_type: type[Body]) -> None:
    @settings(max_examples=12, deadline=None)
    @given(value=structs(wire_type), behind=st.binary(max_size=5))
    def check(value: Body, behind: bytes) -> None:
        data = xdr.encode(value)
        assert data == oracle(value)
        assert len(data) % 4 == 0
        assert len(data) >= xdr.codec(wire_type).minimum
        assert xdr.decode(wire_type, data + behind) == value
        assert xdr.decode(wire_type, b"1234" + data, 4) == value

    check()


@pytest.mark.parametrize("wire_type", [wire for _, wire in WIRE], ids=[name for name, _ in WIRE])
def test_a_body_cut_anywhere_is_a_decode_error(wire_type: type[Body]) -> None:
    @settings(max_examples=4, deadline=None)
    @given(value=structs(wire_type))
    def check(value: Body) -> None:
        data = xdr.encode(value)
        for end in range(len(data)):
            with pytest.raises(XdrDecodeError):
                xdr.decode(wire_type, data[:end])

    check()


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=80), index=st.integers(0, len(WIRE) - 1))
def test_any_bytes_decode_or_are_refused(data: bytes, index: int) -> None:
    try:
        xdr.decode(WIRE[index][1], data)
    except XdrDecodeError:
        return


def test_counts_are_checked_against_what_is_left_before_allocating() -> None:
    huge = struct.pack(">I", 0xFFFF_FFFF)
    with pytest.raises(XdrDecodeError, match="4294967295 elements announced"):
        xdr.decode(Pairs, huge + bytes(64))
    with pytest.raises(XdrDecodeError, match="9 elements announced, 64 bytes"):
        xdr.decode(Pairs, struct.pack(">I", 9) + bytes(64))
    assert len(xdr.decode(Pairs, struct.pack(">I", 8) + bytes(64)).pairs) == 8
    many = struct.pack(">I", xdr.ELEMENTS_MAX + 1) + bytes(8 * (xdr.ELEMENTS_MAX + 1))
    with pytest.raises(XdrDecodeError, match="65537 elements announced"):
        xdr.decode(Pairs, many)
    with pytest.raises(XdrDecodeError, match="4294967295 bytes announced"):
        xdr.decode(TapeOpenRequest, huge + bytes(64))


def test_a_string_past_its_bound_is_refused_both_ways() -> None:
    assert xdr.decode(Short, b"\0\0\0\4abcd") == Short(b"abcd")
    with pytest.raises(XdrDecodeError):
        xdr.decode(Short, b"\0\0\0\5abcde\0\0\0")
    with pytest.raises(XdrEncodeError):
        xdr.encode(Short(b"abcde"))


def test_a_fixed_opaque_of_another_length_is_refused() -> None:
    with pytest.raises(XdrEncodeError):
        xdr.encode(Odd(b"1234", 0))


@pytest.mark.parametrize("value", [-1, 1 << 16])
def test_small_types_travel_in_four_bytes_and_must_fit(value: int) -> None:
    class Small(Body, frozen=True):
        small: U16
        text: String
        smalls: tuple[U16, ...]

    fine = Small(0xFFFF, b"", (0xFFFF,))
    assert xdr.decode(Small, xdr.encode(fine)) == fine
    for bad in (Small(value, b"", ()), Small(0, b"", (value,))):
        with pytest.raises(XdrEncodeError):
            xdr.encode(bad)
    word = struct.pack(">I", value & 0xFFFF_FFFF)
    for data in (word + bytes(8), bytes(8) + b"\0\0\0\1" + word):
        with pytest.raises(XdrDecodeError, match="does not fit"):
            xdr.decode(Small, data)


def test_an_integer_out_of_range_names_its_field() -> None:
    class Big(Body, frozen=True):
        offset: U64
        length: U64

    with pytest.raises(XdrEncodeError, match="offset=-1, length=0"):
        xdr.encode(Big(-1, 0))


def test_pad_bytes_are_ignored_on_reading() -> None:
    assert xdr.decode(TapeOpenRequest, b"\0\0\0\1x\1\2\3\0\0\0\1") == TapeOpenRequest(b"x", 1)


def test_an_arm_of_another_version_cannot_be_encoded() -> None:
    with pytest.raises(XdrEncodeError, match="SingleTcpAddress is no arm"):
        xdr.encode(v2.DataGetStateReply()) and xdr.encode(
            msgspec.structs.replace(DataConnectRequest(LOCAL), addr=v2.SingleTcpAddress(1, 2))
        )


def test_a_field_without_xdr_form_fails_when_the_codec_is_built() -> None:
    with pytest.raises(TypeError, match="no XDR form"):
        xdr.codec(Wrong)


class Named(msgspec.Struct, frozen=True):
    first: String
    small: U16
    node: U64
    second: String


class Wanted(Body, frozen=True):
    """An array whose loop is written out: strings, integers that fill their words and one that does not."""

    names: tuple[Named, ...]


def test_the_written_loop_and_the_codec_say_the_same() -> None:
    element = Named(b"x" * 5, 0xFFFF, 2**64 - 1, b"")
    data = oracle(Wanted((element,) * 3))
    assert xdr.decode(Wanted, data) == Wanted((element,) * 3)
    for end in range(len(data)):
        with pytest.raises(XdrDecodeError, match=r"announced|ends behind"):
            xdr.decode(Wanted, data[:end])
    with pytest.raises(XdrDecodeError, match="65536 does not fit its type"):
        xdr.decode(Wanted, data.replace(b"\0\0\xff\xff", b"\0\1\0\0", 1))
    too_long = struct.pack(">II", 1, STRING_MAX + 1) + bytes(STRING_MAX + 64)
    with pytest.raises(XdrDecodeError, match=f"{STRING_MAX + 1} bytes announced"):
        xdr.decode(Wanted, too_long)
