"""The records of a dump stream: vectors by offset, round trips, both byte orders, malformed bytes."""

import os
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mover.data import dump_format as form
from mover.data.beneath import is_plain_name
from mover.data.dump_format import DumpLabel, FormatError, Inode, RecordType
from mover.data.recover_catalogue import Catalogue, DirectoryRecord, Names

LABEL = DumpLabel(1_700_000_000, ddate=5, level=3, filesystem=b"/srv/home", device=b"dev", host=b"host")
INODE = Inode(0o100644, 2, 100_000, 4_000_000_000, 5 << 40, 1_000_000_001_999, 7_000_000_123, 0, 0x1234, 16, 8, 99)


def swapped(record: bytes) -> bytes:
    """The same header as a big-endian writer would have written it."""
    fields = list(form.LITTLE.unpack(record))
    fields[7] = 0
    mark = fields[-1]
    unsummed = form.BIG.pack(*fields[:-1], mark)
    fields[7] = (form.CHECKSUM - form.word_sum(unsummed, little_endian=False)) & 0xFFFF_FFFF
    return form.BIG.pack(*fields)


def test_a_header_has_its_fields_where_the_format_says() -> None:
    record = form.pack_header(LABEL, RecordType.INODE, 77, inumber=12, inode=INODE, count=3, addr=b"\1\0\1")
    assert len(record) == 1024
    assert struct.unpack_from("<IiiIIII", record) == (2, 1_700_000_000, 5, 1, 77, 12, 60012)
    assert struct.unpack_from("<HhHHQ", record, 32) == (0o100644, 2, 100_000 & 0xFFFF, 4_000_000_000 & 0xFFFF, 5 << 40)
    assert struct.unpack_from("<6I", record, 48) == (1000, 1, 7, 0, 0, 0)
    assert struct.unpack_from("<I", record, 72) == (0x1234,)
    assert struct.unpack_from("<5I", record, 132) == (16, 8, 99, 100_000, 4_000_000_000)
    assert struct.unpack_from("<i3B", record, 160) == (3, 1, 0, 1)
    assert record[692:696] == struct.pack("<i", 3)
    assert record[696:707] == b"/srv/home\0\0"
    assert record[824:829] == b"host\0"
    assert struct.unpack_from("<4i", record, 888) == (2, 0, 10, 0)
    assert sum(struct.unpack("<256I", record)) % 2**32 == 84446


@pytest.mark.parametrize("is_swapped", [False, True])
def test_a_header_reads_back_in_both_byte_orders(is_swapped: bool) -> None:
    record = form.pack_header(LABEL, RecordType.ADDR, 2**32 + 9, inumber=12, inode=INODE, count=3, addr=b"\1\0\1")
    header = form.parse_header(swapped(record) if is_swapped else record)
    assert header.inode == INODE
    assert (header.type, header.tapea, header.inumber, header.records) == (RecordType.ADDR, 9, 12, 3)
    assert (header.data_records, header.level, header.filesystem, header.host) == (2, 3, b"/srv/home", b"host")
    assert (header.little_endian, header.is_extension) == (not is_swapped, False)


@pytest.mark.parametrize("words", [(0x103, 0), (0, 0x1111_0370)])
def test_a_device_number_stands_in_one_of_two_words(words: tuple[int, int]) -> None:
    record = bytearray(form.pack_header(LABEL, RecordType.INODE, 77, inode=INODE._replace(mode=0o20600, device=0)))
    struct.pack_into("<II", record, 72, *words)
    assert form.parse_header(record, verify=False).inode.device == sum(words)


def test_dumps_go_on_in_2038() -> None:
    late = LABEL._replace(date=2**31 + 5, ddate=2**32 - 1)
    record = form.pack_header(late, RecordType.INODE, 0, inode=INODE)
    header = form.parse_header(record)
    assert (header.date, header.ddate, header.inode) == (2**31 + 5, 2**32 - 1, INODE)


def test_records_that_follow_are_counted_by_kind() -> None:
    def records(kind: RecordType, count: int, extension: int = 0) -> int:
        record = form.pack_header(LABEL, kind, 0, count=count, addr=b"", extension=extension)
        return form.parse_header(record).data_records

    assert records(RecordType.BITS, 700) == 700
    assert records(RecordType.INODE, 5) == 0
    assert records(RecordType.INODE, 4, form.EXTENSION_XATTR) == 4
    assert records(RecordType.END, 4) == 0


@settings(max_examples=50)
@given(st.integers(-(2**39) * 10**9, (2**39 - 1) * 10**9 + 999_999_999))
def test_every_time_survives_to_the_nanosecond(time_ns: int) -> None:
    inode = INODE._replace(atime_ns=time_ns, mtime_ns=-time_ns // 3, ctime_ns=time_ns // 7)
    record = form.pack_header(LABEL, RecordType.INODE, 0, inode=inode)
    assert form.parse_header(record).inode == inode


def test_a_header_that_is_none_is_refused() -> None:
    record = bytearray(form.pack_header(LABEL, RecordType.INODE, 1, inode=INODE))
    record[200] ^= 1
    with pytest.raises(FormatError, match="wrong checksum"):
        form.parse_header(record)
    with pytest.raises(FormatError, match="no dump header"):
        form.parse_header(bytes(1024))
    with pytest.raises(FormatError, match="1023 bytes"):
        form.parse_header(bytes(1023))
    old = bytearray(1024)
    struct.pack_into(">I", old, 24, 60011)
    with pytest.raises(FormatError, match=r"before 4\.4BSD"):
        form.parse_header(old)


def test_no_bit_of_a_header_may_be_wrong() -> None:
    record = bytearray(form.pack_header(LABEL, RecordType.INODE, 1, inumber=12, inode=INODE, count=3, addr=b"\1\0\1"))
    for bit in range(8 * len(record)):
        record[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            form.parse_header(record)
        record[bit // 8] ^= 1 << bit % 8
    assert form.parse_header(record).inode == INODE


def test_what_others_read_as_a_signed_count_stays_one() -> None:
    """A file may have more names than 15 bits hold; its entries tell them."""
    record = form.pack_header(LABEL, RecordType.INODE, 1, inode=INODE._replace(nlink=70_000))
    assert struct.unpack_from("<h", record, 34) == (32767,)


@pytest.mark.parametrize("device", [os.makedev(259, 70_000), os.makedev(8, 0x80001), os.makedev(4095, 0xFFFFF)])
def test_device_numbers_of_any_size(device: int) -> None:
    """Minors from 0x80000 on set the highest bit."""
    record = form.pack_header(LABEL, RecordType.INODE, 1, inode=INODE._replace(mode=0o20600, device=device))
    assert form.parse_header(record).inode.device == device


def listed(data: bytes) -> Names:
    """The entries of a directory's data as a recover reads them."""
    catalogue = Catalogue(form.parse_header(form.pack_header(LABEL, RecordType.TAPE, 0)))
    record = catalogue.directories[2] = DirectoryRecord(INODE._replace(size=len(data)), 0)
    record.data += data
    return catalogue.names(2)


entries = st.lists(
    st.tuples(st.integers(1, 2**32 - 1), st.integers(0, 15), st.binary(min_size=1, max_size=255).filter(is_plain_name)),
    max_size=60,
)


@settings(max_examples=50)
@given(entries)
def test_a_directory_reads_back(packed: list[tuple[int, int, bytes]]) -> None:
    data = form.pack_directory(packed)
    assert len(data) % 1024 == 0
    names = listed(data)
    assert list(zip(names.inumbers, names.kinds, names.names, strict=True)) == packed
    assert (names.refused, names.damaged) == ([], 0)


@example(b"\0\0\0\1\x14\0\0\3")
@settings(max_examples=100)
@given(st.binary(max_size=2048))
def test_rubbish_in_a_directory_ends_in_damage_or_in_plain_names(data: bytes) -> None:
    names = listed(data)
    assert names.damaged <= 2
    assert all(map(is_plain_name, names.names))


@pytest.mark.parametrize("highest", [2, 3, 8191, 8192, 8193, 100_000])
def test_a_map_names_all_but_the_absent(highest: int) -> None:
    bitmap = form.full_bitmap(highest, absent=(1, highest))
    assert len(bitmap) % 1024 == 0
    assert highest < len(bitmap) * 8
    named = {number for number in range(1, len(bitmap) * 8 + 10) if form.bit_is_set(bitmap, number)}
    assert named == set(range(2, highest))
