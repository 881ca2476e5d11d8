"""The blocks of a pax stream, against Python's tarfile and by hand."""

import struct
import tarfile
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.data import tar_format as tf
from mover.data.xattr_blob import ACL_ACCESS


def test_a_header_is_what_tarfile_reads() -> None:
    header = tf.pack_header(
        b"name", b"a/b", tf.CHARACTER_DEVICE, mode=0o104755, uid=7, gid=8, size=9, mtime=10, major=11, minor=12
    )
    info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    assert (info.name, info.type, info.mode) == ("a/b/name", tarfile.CHRTYPE, 0o4755)
    assert (info.uid, info.gid, info.size, info.mtime) == (7, 8, 9, 10)
    assert (info.devmajor, info.devminor, info.linkname, info.uname, info.gname) == (11, 12, "", "", "")


def test_numbers_that_do_not_fit_are_clipped() -> None:
    header = tf.pack_header(b"n", b"", tf.REGULAR, uid=1 << 32, size=1 << 40, mtime=-1)
    info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    assert (info.uid, info.size, info.mtime) == (tf.SMALL_NUMBER_MAX, tf.LARGE_NUMBER_MAX, 0)


@given(st.binary(max_size=2000), st.sampled_from([b"k", b"SCHILY.xattr.user.a"]))
@settings(max_examples=60)
def test_a_record_counts_itself(value: bytes, keyword: bytes) -> None:
    record = tf.pax_record(keyword, value)
    length, rest = record.split(b" ", 1)
    assert int(length) == len(record)
    assert rest == keyword + b"=" + value + b"\n"


@pytest.mark.parametrize("size", [*range(3), *range(90, 110), *range(985, 1005)])
def test_a_record_counts_itself_where_a_digit_more_is_needed(size: int) -> None:
    record = tf.pax_record(b"k", b"v" * size)
    assert int(record.split(b" ")[0]) == len(record)


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, b"0.000000000"),
        (1_700_000_000_123_456_789, b"1700000000.123456789"),
        (-1, b"-0.000000001"),
        (-1_500_000_000, b"-1.500000000"),
        (2**33 * 10**9 + 1, b"8589934592.000000001"),
    ],
)
def test_times(time_ns: int, text: bytes) -> None:
    assert tf.pax_time(time_ns) == text


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        (b"a", (b"", b"a")),
        (b"n" * 100, (b"", b"n" * 100)),
        (b"n" * 101, None),
        (b"d/" + b"n" * 100, (b"d", b"n" * 100)),
        (b"d/" + b"n" * 101, None),
        (b"d/" + b"n" * 99 + b"/", (b"d", b"n" * 99 + b"/")),
        (b"d/" + b"n" * 100 + b"/", None),
        (b"p" * 155 + b"/" + b"n" * 100, (b"p" * 155, b"n" * 100)),
        (b"p" * 156 + b"/" + b"n" * 100, None),
        (b"p" * 60 + b"/" + b"q" * 60 + b"/n", (b"p" * 60, b"q" * 60 + b"/n")),
    ],
)
def test_a_long_path_is_split(path: bytes, parts: tuple[bytes, bytes] | None) -> None:
    assert tf.split_path(path) == parts


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        (b"a", (b"", b"a")),
        (b"./a", (b".", b"a")),
        (b"./d/e/a", (b"./d/e", b"a")),
        (b"d/" + b"n" * 100, (b"d", b"n" * 100)),
        (b"d/" + b"n" * 101, None),
        (b"p" * 155 + b"/" + b"n" * 100, (b"p" * 155, b"n" * 100)),
        (b"p" * 90 + b"/" + b"q" * 65 + b"/n", (b"p" * 90, b"q" * 65 + b"/n")),
        (b"/a", (b"", b"/a")),
    ],
)
def test_a_path_is_split_at_its_directory(path: bytes, parts: tuple[bytes, bytes] | None) -> None:
    assert tf.split_path(path, at_directory=True) == parts


def test_an_acl_as_text() -> None:
    entries = [(1, 7, -1), (2, 5, 1000), (4, 4, -1), (8, 6, 4_000_000_000), (0x10, 7, -1), (0x20, 0, -1)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", t, p, i & 0xFFFF_FFFF) for t, p, i in entries)
    text = b"user::rwx\nuser:1000:r-x\ngroup::r--\ngroup:4000000000:rw-\nmask::rwx\nother::---\n"
    assert tf.acl_text(value) == text
    assert tf.attribute_records([(ACL_ACCESS, value)]) == [tf.pax_record(b"SCHILY.acl.access", text)]


@pytest.mark.parametrize("value", [b"", b"\1\0\0\0", b"\2\0\0\0\0", struct.pack("<IHHI", 2, 3, 7, 0)])
def test_what_is_no_acl_stays_an_attribute(value: bytes) -> None:
    with pytest.raises(tf.FormatError):
        tf.acl_text(value)
    kept = tf.pax_record(b"SCHILY.xattr.system.posix_acl_access", value)
    assert tf.attribute_records([(ACL_ACCESS, value)]) == [kept]


def test_the_name_of_an_attribute_keeps_what_would_end_it() -> None:
    assert tf.xattr_keyword(b"user.a=b%c") == b"SCHILY.xattr.user.a%3Db%25c"


@pytest.mark.parametrize(
    ("segments", "size", "text"),
    [
        ([], 5000, b"1\n5000\n0\n"),
        ([0, 512], 512, b"1\n0\n512\n"),
        ([4096, 512], 1 << 40, b"2\n4096\n512\n1099511627776\n0\n"),
    ],
)
def test_the_map_of_a_sparse_file(segments: list[int], size: int, text: bytes) -> None:
    packed = tf.sparse_map(array("Q", segments), size)
    assert packed.rstrip(b"\0") == text
    assert len(packed) == 512
