"""Single fields of a tar stream's headers: numbers, times, records, ACLs as text."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mover.data.tar_format import FormatError
from mover.data.tar_headers import number, parse_header, pax_records, pax_time_ns
from mover.data.tar_recover_attributes import Accounts, acl_of_text, mode_with_acl
from tests.data.tar_writer import base_256, octal


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (octal(0o644, 7), 0o644),
        (b"  644 \0 ", 0o644),
        (bytes(8), 0),
        (b"        ", 0),
        (base_256(2**40, 8), 2**40),
        (base_256(-5, 8), -5),
        (b"\xff" * 12, -1),
    ],
)
def test_numbers(field: bytes, value: int) -> None:
    assert number(field, "field") == value


@pytest.mark.parametrize("field", [b"0000a44\0", b"12 45678", b"-0000001", b"0x000001"])
def test_what_is_no_number(field: bytes) -> None:
    with pytest.raises(FormatError):
        number(field, "field")


@given(data=st.binary(max_size=2000))
def test_any_bytes_as_a_header_or_records(data: bytes) -> None:
    for parse in (parse_header, lambda data: list(pax_records(data))):
        with contextlib.suppress(FormatError):
            parse(data)


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [(b"1", 10**9), (b"1.", 10**9), (b"-1.5", -1_500_000_000), (b"0.1234567891", 123_456_789),
     (b"7.05", 7_050_000_000)],
)  # fmt: skip
def test_times(text: bytes, time_ns: int) -> None:
    assert pax_time_ns(text, "mtime") == time_ns


@pytest.mark.parametrize(
    "text",
    [
        b"user::rw-\nuser:1000:r--\ngroup::r-x\ngroup:7:rwx\nmask::rwx\nother::---\n",
        b"user::rw-,group::r-x,other::---,user:somebody:r--:1000,group:others:rwx:7,mask::rwx",
        b"u::rw,g::rx,m:rwx,o:-  # and a remark\nu:1000:r,g:7:rwx",
    ],
)
def test_acls_of_any_text_are_in_the_kernels_order(text: bytes) -> None:
    acl = acl_of_text(text, Accounts())
    tags = [acl[at] for at in range(4, len(acl), 8)]
    assert tags == [0x01, 0x02, 0x04, 0x08, 0x10, 0x20]
    assert acl[4 + 8 + 4 : 4 + 16] == (1000).to_bytes(4, "little")
    assert mode_with_acl(0o4640, [(b"system.posix_acl_access", acl)]) == 0o4670
