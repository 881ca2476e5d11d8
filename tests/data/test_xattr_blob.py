"""The attribute blobs: vectors, the 4096-byte bound, ACL versions, malformed bytes."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mover.data import xattr_blob as blob
from mover.data.dump_format import FormatError
from tests.support.trees import posix_acl

ACL = posix_acl(1000, 6, 4_000_000_000)


def test_an_acl_becomes_version_1_and_comes_back() -> None:
    disk = blob.acl_to_disk(ACL)
    assert disk[:4] == struct.pack("<I", 1)
    assert len(disk) == 4 + 6 * 4 + 2 * 4
    assert blob.acl_from_disk(disk) == ACL
    for wrong in (b"", b"\1\0\0\0", ACL[:-1]):
        with pytest.raises(FormatError):
            blob.acl_to_disk(wrong)
    for wrong in (b"", ACL, disk[:-1], disk[: 4 + 4 + 4]):
        with pytest.raises(FormatError):
            blob.acl_from_disk(wrong)


def test_the_blob_is_laid_out_as_the_format_says() -> None:
    standard, left = blob.split([(b"user.ab", b"value")])
    assert left == []
    assert standard[:32] == struct.pack("<IIII16x", 0xEA020000, 1, 1, 0)
    assert standard[32:48] == struct.pack("<BBHIII", 2, 1, 56, 0, 5, 0)
    assert standard[48:] == b"ab\0\0" + bytes(4) + b"value\0\0\0"


def test_attributes_in_the_inode_count_their_offsets_from_behind_the_head() -> None:
    entry = struct.pack("<BBHIII", 1, 4, 24, 0, 3, 0) + b"x\0\0\0" + bytes(4) + b"abc\0"
    assert blob.decode(struct.pack("<I", 0xEA020001) + entry) == ([(b"trusted.x", b"abc")], [])


names = st.sampled_from([b"user.", b"trusted.", b"security.", b"system.", b"btrfs."]).flatmap(
    lambda prefix: st.binary(min_size=1, max_size=40).map(lambda rest: prefix + rest)
)
attributes = st.dictionaries(names, st.binary(max_size=3000), max_size=12)


@settings(max_examples=60)
@given(attributes, st.booleans())
def test_nothing_is_lost_and_the_blob_stays_small(given_attributes: dict[bytes, bytes], acl: bool) -> None:
    wanted = dict(given_attributes)
    if acl:
        wanted |= {blob.ACL_ACCESS: ACL, blob.ACL_DEFAULT: ACL}
    standard, left = blob.split(wanted.items())
    assert len(standard) <= 4096
    found, problems = blob.decode(standard) if standard else ([], [])
    for private in blob.encode_private(left):
        more, further = blob.decode_private(private)
        found, problems = found + more, problems + further
    assert problems == []
    assert dict(found) == wanted
    assert len(found) == len(wanted)
    if acl:
        assert {blob.ACL_ACCESS, blob.ACL_DEFAULT}.isdisjoint(name for name, _ in left)


def test_the_blob_holds_4096_bytes_and_not_one_more() -> None:
    """A longer one has Debian's restore take the next inode for what belongs to this one."""
    fits, longer = (b"user.x", bytes(4040)), (b"user.x", bytes(4041))
    standard, left = blob.split([fits])
    assert (len(standard), left) == (4096, [])
    assert blob.split([longer]) == (b"", [longer])


def test_private_blobs_stay_within_one_header() -> None:
    many = [(b"user.%d" % number, bytes(65_536)) for number in range(20)]
    blobs = blob.encode_private(many)
    assert len(blobs) == 3
    assert all(len(one) <= 512 * 1024 for one in blobs)
    assert [pair for one in blobs for pair in blob.decode_private(one).attributes] == many


@settings(max_examples=100)
@given(st.sampled_from([0xEA020000, 0xEA020001]), st.binary(max_size=300))
def test_rubbish_ends_in_problems_or_in_attributes(magic: int, rest: bytes) -> None:
    data = struct.pack("<I", magic) + rest
    for decoded in (blob.decode(data), blob.decode_private(data)):
        assert all(isinstance(name, bytes) for name, _ in decoded.attributes)
        assert all(problem.isprintable() for problem in decoded.problems)
    assert blob.decode(b"rest") == ([], ["extended attributes with the magic 0x74736572"])


def test_what_is_unknown_costs_no_other_attribute() -> None:
    def entry(index: int, name: bytes, offset: int, size: int) -> bytes:
        return struct.pack("<BBHIII", len(name), index, offset, 0, size, 0) + name.ljust(-(-len(name) // 4) * 4, b"\0")

    entries = [
        entry(1, b"before", 0, 0),
        entry(9, b"x", 0, 0),  # no kind that we know
        entry(2, b"", 0, 3),  # an ACL that is none
        entry(1, b"far", 60_000, 5),  # a value outside the blob
        entry(6, b"behind", 0, 0),
    ]
    attributes, problems = blob.decode(struct.pack("<I", 0xEA020001) + b"".join(entries) + bytes(4))
    assert attributes == [(b"user.before", b""), (b"security.behind", b"")]
    assert [problem.split()[-1] for problem in problems] == ["9", "1", str(4 + sum(map(len, entries)) + 4)]


def test_values_that_overlap_never_become_more_than_their_blob() -> None:
    entries = 1_000
    value = bytes(30_000)
    offset = 32 + entries * 20 + 4
    table = struct.pack("<BBHIII", 1, 1, offset, 0, len(value), 0) + b"a\0\0\0"
    hostile = struct.pack("<IIII16x", 0xEA020000, 1, 1, 0) + table * entries + bytes(4) + value
    attributes, problems = blob.decode(hostile)
    assert attributes == [(b"user.a", value)]
    assert problems == [f"extended attributes that overlap in their blob of {len(hostile)} bytes"]


def test_a_private_blob_that_is_cut_keeps_what_is_whole() -> None:
    (whole,) = blob.encode_private([(b"user.a", b"1"), (b"user.b", b"2")])
    for end in range(len(whole)):
        attributes, problems = blob.decode_private(whole[:end])
        assert attributes == [(b"user.a", b"1")] * (end >= len(whole) // 2)
        assert len(problems) == (end not in {0, len(whole) // 2})
