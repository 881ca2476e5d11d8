"""The header: its bytes, and what is too short for one."""

import pytest

from mover.ndmp.errors import XdrDecodeError
from mover.ndmp.header import SIZE, Header, decode_header


def test_the_bytes_of_a_header() -> None:
    header = Header(1, 0x60000000, 1, 0x900, 7, 9)
    wire = bytes.fromhex("00000001 60000000 00000001 00000900 00000007 00000009")
    assert header.encode() == wire
    assert decode_header(wire + b"body") == header
    assert len(wire) == SIZE


@pytest.mark.parametrize("length", range(SIZE))
def test_fewer_bytes_are_no_header(length: int) -> None:
    with pytest.raises(XdrDecodeError):
        decode_header(bytes(length))
