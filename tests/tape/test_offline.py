"""Cartridges read with no server: what is on them, and a stream cut out without its padding."""

import errno
import os
from pathlib import Path

import pytest

from mover.tape.cartridge import Cartridge
from mover.tape.offline import Contents, Extracted, OfflineError, TapeFileContents, extract, list_files
from mover.tape.verify import verify
from tests.tape import tap

LABEL = b"##ndmjob -m TAPE01\n".ljust(512, b"\0")


def header(kind: int, order: str = "little") -> bytes:
    """A dump header: type at 0, magic at 24, and a last byte that is zero as in every real one."""
    words = [kind, 1, 0, 1, 7, 2, 60012, 99]
    return b"".join(word.to_bytes(4, "little" if order == "little" else "big") for word in words).ljust(1024, b"\0")


def dump(kilobytes: int, ends: int, order: str = "little") -> bytes:
    return header(1, order) + b"\x55" * 1024 * kilobytes + bytes(1024) + header(5, order) * ends


def records(data: bytes, size: int) -> tap.Tape:
    return [data[at : at + size].ljust(size, b"\0") for at in range(0, len(data), size)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.tap"


def test_what_is_on_a_cartridge(path: Path) -> None:
    archive = bytes(257) + b"ustar\0" + bytes(2000)
    path.write_bytes(
        tap.build(
            [
                *[LABEL, None],
                *[*records(dump(100, 3), 10_240), None],
                *[*records(archive, 10_240), None],
                *[b"anything", b"else", None],
                *[None, *records(dump(3, 1, "big"), 2048), None, None],
            ]
        )
    )
    assert list_files(str(path)) == Contents(
        [
            TapeFileContents(0, 1, 512, 512, "label", "ndmjob", "TAPE01"),
            TapeFileContents(1, 11, 112_640, 10_240, "dump", "", ""),
            TapeFileContents(2, 1, 10_240, 10_240, "tar", "", ""),
            TapeFileContents(3, 2, 12, 8, "unknown", "", ""),
            TapeFileContents(4, 0, 0, 0, "empty", "", ""),
            TapeFileContents(5, 3, 6144, 2048, "dump", "", ""),
        ],
        "",
    )


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("record_size", [512, 1000, 1024, 3072, 10_240, 65_536, 2_000_000])
@pytest.mark.parametrize("ends", [1, 5])
def test_a_dump_ends_behind_its_last_end_record(
    path: Path, tmp_path: Path, order: str, record_size: int, ends: int
) -> None:
    stream = dump(150, ends, order)
    path.write_bytes(tap.build([LABEL, None, *records(stream, record_size), None]))
    output = tmp_path / "out"
    assert extract(str(path), str(output)) == Extracted(1, "dump", len(stream), "", "")
    assert output.read_bytes() == stream


def test_whole_records_of_zeros_behind_the_end(path: Path, tmp_path: Path) -> None:
    stream = dump(5, 1)
    path.write_bytes(tap.build([*records(stream, 1024), *[bytes(1024)] * 3, None]))
    assert extract(str(path), str(tmp_path / "out")).bytes == len(stream)


def test_a_dump_without_an_end_is_not_cut(path: Path, tmp_path: Path) -> None:
    stream = header(1) + bytes(9 * 1024)
    path.write_bytes(tap.build(records(stream, 10_240)))
    done = extract(str(path), str(tmp_path / "out"))
    assert (done.bytes, done.missing) == (len(stream), "the dump has no end")


def test_a_named_tape_file(path: Path, tmp_path: Path) -> None:
    path.write_bytes(tap.build([LABEL, None, b"one", b"three", b"x" * 3_000_000]))
    output = tmp_path / "out"
    assert extract(str(path), str(output), 1).bytes == 3_000_008
    assert output.read_bytes() == b"onethree" + b"x" * 3_000_000
    for number in (2, -1):
        with pytest.raises(OfflineError, match=f"no tape file {number}"):
            extract(str(path), str(output), number)
    with pytest.raises(OfflineError, match="no tape file holds a stream"):
        extract(str(path), str(output))


def test_errors_are_one_line(path: Path, tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match="does not exist"):
        list_files(str(path))
    tap.create(path)
    assert list_files(str(path)) == Contents([], "")
    path.write_bytes(tap.build(records(dump(1, 1), 1024)))
    with pytest.raises(OfflineError, match="No such file"):
        extract(str(path), str(tmp_path / "none" / "out"))


def test_a_torn_end_is_warned_of_and_left_alone(path: Path, tmp_path: Path) -> None:
    data = tap.build([*records(dump(1, 1), 1024), b"torn"])[:-1]
    path.write_bytes(data)
    assert "is torn" in list_files(str(path)).warning
    done = extract(str(path), str(tmp_path / "out"))
    assert "is torn" in done.warning
    assert done.missing == ""  # the dump's end stands before it
    assert path.read_bytes() == data


def test_a_stream_that_the_cartridge_ends_in_is_not_whole(path: Path, tmp_path: Path) -> None:
    tar = b"name".ljust(257, b"\0") + b"ustar" + bytes(250)
    stream = dump(3, 1)
    path.write_bytes(tap.build([tar, None, *records(stream, 1024)])[:-1])
    output = tmp_path / "out"
    whole, cut = (extract(str(path), str(output), number) for number in (0, 1))
    assert (whole.missing, cut.missing) == ("", "the dump has no end")
    assert output.read_bytes() == stream[:-1024]
    path.write_bytes(tap.build([tar, tar])[:-1])
    assert extract(str(path), str(output)).missing == "the cartridge ends in it"
    assert output.read_bytes() == tar


def test_a_stream_behind_a_header_comes_without_it(path: Path, tmp_path: Path) -> None:
    """As Amanda writes: a header of 32 KiB, then the stream, in one tape file."""
    start = b"AMANDA: TAPESTART DATE 20240101000000 TAPE Daily-1\n\014\n".ljust(32768, b"\0")
    header = b"AMANDA: FILE 20240101 files1 /srv lev 0 comp N program /sbin/dump\n".ljust(32768, b"\0")
    stream, archive = dump(150, 1), b"name".ljust(257, b"\0") + b"ustar" + bytes(250 + 9728)
    path.write_bytes(
        tap.build(
            [
                *[start, None],
                *[header, *records(stream, 32768), None],
                *[header.replace(b"/sbin/dump", b"/bin/tar"), archive, None],
                *[header, None],
                *[header, b"compressed", None],
            ]
        )
    )
    said = "FILE 20240101 files1 /srv lev 0 comp N program /sbin/dump"
    assert list_files(str(path)).files == [
        TapeFileContents(0, 1, 32768, 32768, "label", "amanda", "Daily-1"),
        TapeFileContents(1, 6, 32768 * 6, 32768, "dump", "amanda", said),
        TapeFileContents(2, 2, 43_006, 32_766, "tar", "amanda", said.replace("/sbin/dump", "/bin/tar")),
        TapeFileContents(3, 1, 32768, 32768, "unknown", "amanda", said),
        TapeFileContents(4, 2, 32778, 32768, "unknown", "amanda", said),
    ]
    output = tmp_path / "out"
    assert extract(str(path), str(output)) == Extracted(1, "dump", len(stream), "", "")
    assert output.read_bytes() == stream
    assert extract(str(path), str(output), 2).bytes == len(archive)
    assert output.read_bytes() == archive
    assert extract(str(path), str(output), 3).bytes == 0
    assert extract(str(path), str(output), 4).bytes == 10
    assert output.read_bytes() == b"compressed"


def test_a_cartridge_in_a_drive_can_be_looked_at(path: Path) -> None:
    tap.create(path)
    holder = Cartridge(str(path), writable=True)
    holder.cut(0, 0)
    holder.append_records(memoryview(LABEL), 512)
    assert [file.kind for file in list_files(str(path)).files] == ["label"]
    holder.abandon()


def test_damaged_records_are_taken_where_they_are_wanted(path: Path, tmp_path: Path) -> None:
    stream = dump(20, 2)
    size, output = 4096, tmp_path / "out"
    path.write_bytes(tap.build([LABEL, None, *records(stream, size), None]))
    assert verify(str(path), keep=True).kept == 7
    data = bytearray(path.read_bytes())
    first = 520 + 4
    lies = {1: 100, 4: 3000}  # in which record a byte is another one
    for number, at in lies.items():
        data[first + number * (size + 8) + 4 + at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(OfflineError, match="record 1 of tape file 1"):
        extract(str(path), str(output))
    found = extract(str(path), str(output), damaged=True)
    expected = bytearray(stream)
    for number, at in lies.items():
        expected[number * size + at] ^= 0xFF
    assert output.read_bytes() == expected
    assert (found.bytes, found.damaged, found.missing) == (len(stream), 2, "")
    assert [line.split(": ")[1].split(",")[0] for line in found.damages] == [
        "record 1 of tape file 1",
        "record 4 of tape file 1",
    ]


def test_a_damaged_end_of_a_dump_is_not_taken_for_another_one(path: Path, tmp_path: Path) -> None:
    stream = dump(6, 1)
    path.write_bytes(tap.build([*records(stream, 1024), None]))
    verify(str(path), keep=True)
    data = bytearray(path.read_bytes())
    data[-4 - 4 - 1024 + 24] ^= 1  # the magic of the END record
    path.write_bytes(data)
    with pytest.raises(OfflineError, match="another checksum"):
        extract(str(path), str(tmp_path / "out"))
    found = extract(str(path), str(tmp_path / "out"), damaged=True)
    assert (found.damaged, found.missing) == (1, "the dump has no end")


def test_what_cannot_be_read_is_zeros(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = bytes(257) + b"ustar\0" + b"x" * 3000
    path.write_bytes(tap.build(records(archive, 512)))
    preadv = os.preadv

    def failing(fd: int, buffers: list[memoryview], offset: int) -> int:
        if offset <= 2 * 520 + 4 < offset + sum(map(len, buffers)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", failing)
    with pytest.raises(OfflineError, match="Input/output error"):
        extract(str(path), str(tmp_path / "out"))
    found = extract(str(path), str(tmp_path / "out"), damaged=True)
    whole = archive.ljust(7 * 512, b"\0")
    assert (tmp_path / "out").read_bytes() == whole[:1024] + bytes(512) + whole[1536:]
    assert (found.damaged, found.bytes) == (1, len(whole))


def test_a_record_that_was_written_as_bad_is_taken_as_it_is(path: Path, tmp_path: Path) -> None:
    bad = b"\x02\0\0\x80no\x02\0\0\x80"
    path.write_bytes(tap.build([b"ab"]) + bad + tap.build([b"cd", None]))
    with pytest.raises(OfflineError, match="bad record"):
        extract(str(path), str(tmp_path / "out"), 0)
    found = extract(str(path), str(tmp_path / "out"), 0, damaged=True)
    assert ((tmp_path / "out").read_bytes(), found.damaged) == (b"abnocd", 1)
