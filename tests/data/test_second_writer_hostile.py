"""Small files of a tar stream whose head says two things: both ways to read it agree, however many processes write."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.data.backup_runner import backup_here
from tests.data.backup_runner import request as backup_request
from tests.data.recover_runner import Outcome, name, recover
from tests.data.tar_writer import BLOCK, TarWriter, octal, record
from tests.support.trees import make_small_files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors"),
]

FILES = 1_700
SIZE = 700
RECORDS_BYTES = 90


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    tree = tmp_path_factory.mktemp("hostile") / "tree"
    make_small_files(tree, files=FILES, size=SIZE, directories=1)
    return backup_here(backup_request(tree, butype="tar")).stream


def heads(stream: bytes | bytearray) -> list[int]:
    """Where the extended headers of the small files lie, in their order."""
    found, at = [], stream.find(b"30 mtime=")
    while at >= 0:
        found.append(at - BLOCK)
        at = stream.find(b"30 mtime=", at + 1)
    return found


def with_records(stream: bytearray, at: int, records: bytes) -> None:
    rest = RECORDS_BYTES - len(records)
    records += record(b"comment", b"c" * (rest - len(record(b"comment", b"")) - 1))
    records = records.ljust(RECORDS_BYTES, b"\n")
    assert len(records) == RECORDS_BYTES
    stream[at + BLOCK : at + BLOCK + RECORDS_BYTES] = records


def another_size(stream: bytearray) -> None:
    for at in heads(stream)[1_200::50]:
        with_records(stream, at, record(b"size", b"9000"))


def another_path(stream: bytearray) -> None:
    for number, at in enumerate(heads(stream)[1_200::50]):
        with_records(stream, at, record(b"path", b"elsewhere/%d" % number))


def no_records(stream: bytearray) -> None:
    for at in heads(stream)[1_200::50]:
        stream[at + BLOCK] = ord("x")


def twelve_digits(stream: bytearray) -> None:
    for at in heads(stream)[1_200::50]:
        header = stream[at + 2 * BLOCK : at + 3 * BLOCK]
        header[124:136] = octal(SIZE, 11)[:-1] + b"7"
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        stream[at + 2 * BLOCK : at + 3 * BLOCK] = header


def a_blank_header_field(stream: bytearray) -> None:
    """Of a member that is handed over nobody looks at its time in the header."""
    for at in heads(stream)[1_200::50]:
        header = stream[at + 2 * BLOCK : at + 3 * BLOCK]
        header[136:148] = b"no time\0\0\0\0\0"
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        stream[at + 2 * BLOCK : at + 3 * BLOCK] = header


def a_global_size(stream: bytearray) -> None:
    data = record(b"size", b"1000")
    writer = TarWriter().header(b"globals", b"g", size=len(data))
    stream[heads(stream)[1_200] : heads(stream)[1_200]] = writer.stream + data.ljust(BLOCK, b"\0")


@contextmanager
def processors(number: int) -> Iterator[None]:
    all_of_them = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_of_them)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_of_them)


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "harm", [another_size, another_path, no_records, twelve_digits, a_global_size], ids=lambda harm: harm.__name__
)
def test_two_writers_make_what_one_makes(stream: bytes, tmp_path: Path, harm: Callable[[bytearray], None]) -> None:
    harmed = bytearray(stream)
    harm(harmed)
    outcomes: list[tuple[Outcome, dict[str, bytes]]] = []
    for number in (1, 2):
        with processors(number):
            outcome = recover(bytes(harmed), [name(tmp_path, below=b"%d" % number)], butype="tar")
        assert outcome.stderr == b""
        outcomes.append((outcome, contents(tmp_path / str(number))))
    (alone, made_alone), (together, made_together) = outcomes
    assert made_together == made_alone
    assert together.finished.reason == alone.finished.reason != 3
    assert (together.finished.files, together.finished.errors) == (alone.finished.files, alone.finished.errors)


def test_a_head_that_only_one_way_can_read_is_told(stream: bytes, tmp_path: Path) -> None:
    harmed = bytearray(stream)
    a_blank_header_field(harmed)
    harmed_files = len(range(1_200, len(heads(stream)), 50))
    destination = tmp_path / "again"
    assert recover(stream, [name(tmp_path, below=b"again")], butype="tar").finished.errors == 0
    # Every file exists: none is made at a glance, and so each head is read in full.
    outcome = recover(bytes(harmed), [name(tmp_path, below=b"again")], butype="tar")
    assert outcome.stderr == b""
    assert outcome.finished.reason in {1, 4}
    assert 0 < outcome.finished.errors <= harmed_files
    assert all(len(content) == SIZE for content in contents(destination).values())
