"""What operations count, against streams taken apart by other readers and against the trees themselves."""

import errno
import io
import os
import socket
import stat
import tarfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from mover.data import file_systems, tally
from mover.data.recover_options import OVERWRITE
from mover.data.tally import PATH_BYTES_MAX, PATHS_MAX, Tally
from mover.ring import DataGauge, DataPhase
from mover.ring.layout import GAUGES
from mover.workers.messages import LogLine
from tests.data import dump_reader
from tests.data.backup_runner import backup_here, request
from tests.data.recover_runner import name, recover, recover_here

SIZES = (0, 0, 1, 1023, 1024, 4096, 70_000, 3 << 20)
DT = {"fifo": 1, "directory": 4, "file": 8, "symlink": 10, "socket": 12, "character": 2, "block": 6}


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_systems, "syncfs", lambda fd: None)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Entries of every kind that an ordinary user can make."""
    root = tmp_path / "tree"
    (root / "below" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    for number, size in enumerate(SIZES):
        (root / "below" / f"file-{number}").write_bytes(os.urandom(size))
    with_attribute = root / "below" / "attribute"
    with_attribute.write_bytes(b"x" * 5000)
    os.setxattr(with_attribute, "user.some", b"value")
    with open(root / "sparse", "wb") as sparse:
        sparse.truncate(1 << 20)
        sparse.seek(1 << 19)
        sparse.write(b"in the midst")
    os.link(root / "below" / "file-3", root / "second name")
    os.link(root / "below" / "file-3", root / "empty" / "third name")
    os.symlink("nowhere", root / "symlink")
    os.link(root / "symlink", root / "another symlink", follow_symlinks=False)
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        place = os.open(root, os.O_PATH)  # its path may be too long for an address
        sock.bind(f"/proc/self/fd/{place}/socket")
        os.close(place)
    return root


def kinds(gauges: Sequence[int]) -> Counter[str]:
    """What was counted, by kind; the size classes beside."""
    found = Counter({kind: gauges[DataGauge.KINDS + number] for kind, number in DT.items()})
    assert not found["directory"]
    assert not found["file"]
    found["directory"] = gauges[DataGauge.DIRECTORIES]
    found["link"] = gauges[DataGauge.KINDS]
    found["file"] = sum(gauges[DataGauge.SIZES : DataGauge.SIZES + 64])
    return +found


def size_classes(gauges: Sequence[int]) -> dict[int, int]:
    return {bits: gauges[DataGauge.SIZES + bits] for bits in range(64) if gauges[DataGauge.SIZES + bits]}


def in_dump(stream: bytes) -> tuple[Counter[str], dict[int, int]]:
    """The same of a dump, by the tests' own reader."""
    dump = dump_reader.parse(stream)
    names = {number: kind for kind, number in DT.items()}
    found = Counter(names[each.mode >> 12] for each in dump.objects.values())
    found["link"] = len(dump.tree()) - len(dump.objects)
    sizes = Counter(each.size.bit_length() for each in dump.objects.values() if stat.S_ISREG(each.mode))
    return +found, dict(sizes)


def in_tar(stream: bytes) -> tuple[Counter[str], dict[int, int]]:
    """The same of a tar stream, by Python's."""
    found: Counter[str] = Counter()
    sizes: Counter[int] = Counter()
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        for member in archive:
            tests = {
                "directory": member.isdir(), "link": member.islnk(), "symlink": member.issym(), "fifo": member.isfifo(),
                "block": member.isblk(), "character": member.ischr(), "file": member.isreg(),
            }  # fmt: skip
            (kind,) = [each for each, does in tests.items() if does]
            found[kind] += 1
            if kind == "file":
                sizes[member.size.bit_length()] += 1
    return found, dict(sizes)


READERS = {"dump": in_dump, "tar": in_tar}


@pytest.mark.parametrize("butype", READERS)
def test_a_backup_counts_what_is_in_its_stream(tree: Path, butype: str) -> None:
    outcome = backup_here(request(tree, butype=butype))
    entries, sizes = READERS[butype](outcome.stream)
    assert kinds(outcome.all_gauges) == entries
    assert size_classes(outcome.all_gauges) == sizes
    assert entries["link"] == 3
    assert outcome.finished.left_out == ({tally.NOT_HELD: 1} if butype == "tar" else {})
    assert outcome.finished.causes == []
    assert outcome.finished.file_bytes == sum(SIZES) + 5000 + (1 << 20) + 0


@pytest.mark.parametrize("butype", READERS)
def test_what_is_excluded_is_counted(tree: Path, butype: str) -> None:
    outcome = backup_here(request(tree, butype=butype, env=[(b"EXCLUDE", b"file-*,empty")]))
    entries, sizes = READERS[butype](outcome.stream)
    assert (kinds(outcome.all_gauges), size_classes(outcome.all_gauges)) == (entries, sizes)
    assert outcome.finished.left_out[tally.EXCLUDED] == len(SIZES) + 1


@pytest.mark.parametrize("piece", [4096, 65_536])
@pytest.mark.parametrize("butype", READERS)
def test_a_recover_counts_what_it_makes(tree: Path, tmp_path: Path, butype: str, piece: int) -> None:
    stream = backup_here(request(tree, butype=butype)).stream
    target = tmp_path / "target"
    target.mkdir()
    outcome = recover(stream, [name(target, below=b"again")], butype=butype, lengths=piece)
    entries, sizes = READERS[butype](stream)
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0), outcome.text()
    assert kinds(outcome.gauges) == entries
    assert size_classes(outcome.gauges) == sizes
    assert outcome.finished.files == sum(entries.values()) - entries["directory"]


@pytest.mark.parametrize("butype", READERS)
def test_a_recover_that_writes_nothing_counts_the_same(tree: Path, tmp_path: Path, butype: str) -> None:
    stream = backup_here(request(tree, butype=butype)).stream
    outcome = recover_here(stream, [name(tmp_path, below=b"again")], butype=butype, env=[(b"NOWRITE", b"Y")])
    assert kinds(outcome.gauges) == READERS[butype](stream)[0]


@pytest.mark.slow
@pytest.mark.parametrize("butype", READERS)
def test_files_that_a_second_writer_makes_are_counted_once(tmp_path: Path, butype: str) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(2_600):
        (root / f"{number}").write_bytes(bytes(number % 1500))
    stream = backup_here(request(root, butype=butype)).stream
    target = tmp_path / "target"
    target.mkdir()
    outcome = recover(stream, [name(target, below=b"again")], butype=butype)
    entries, sizes = READERS[butype](stream)
    assert (kinds(outcome.gauges), size_classes(outcome.gauges)) == (entries, sizes)
    assert entries["file"] == 2_600


def test_what_exists_and_stays_is_left_out(tree: Path, tmp_path: Path) -> None:
    stream = backup_here(request(tree)).stream
    names = [name(tmp_path, below=b"again")]
    first = kinds(recover_here(stream, names).gauges)
    again = recover_here(stream, names, env=[(OVERWRITE, b"N")])
    assert kinds(again.gauges) == Counter(directory=first["directory"])
    assert again.finished.left_out == {tally.KEPT: sum(first.values()) - first["directory"]}


def test_errors_have_causes_and_the_first_paths(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(30):
        (root / f"{number:02}").write_bytes(b"x" * 100)
    stream = backup_here(request(root)).stream
    target = tmp_path / "target"
    for number in range(30):
        (target / "again" / f"{number:02}").mkdir(parents=True)  # in the way
    outcome = recover_here(stream, [name(target, below=b"again")])
    (cause,) = outcome.finished.causes
    assert (cause.name, cause.count) == ("EISDIR", 30)
    assert len(set(cause.paths)) == PATHS_MAX
    assert set(cause.paths) < {os.fsencode(path) for path in (target / "again").iterdir()}
    assert outcome.finished.errors == 30


@pytest.mark.parametrize("butype", READERS)
def test_what_cannot_be_read_has_its_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, butype: str) -> None:
    for number in range(12):
        (tmp_path / str(number)).write_bytes(b"x" * 100)

    def fails(*_: object, **__: object) -> list[str]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "listxattr", fails)
        outcome = backup_here(request(tmp_path, butype=butype))
    (cause,) = outcome.finished.causes
    assert (cause.name, cause.count, outcome.finished.errors) == ("EIO", 13, 13)  # the root's attributes too
    assert len(cause.paths) == PATHS_MAX
    assert kinds(outcome.all_gauges) == Counter(directory=1)
    told = [message for message in outcome.messages if isinstance(message, LogLine) and message.cause]
    assert {message.cause for message in told} == {"EIO"}
    assert [message.text[: message.path_bytes] for message in told][:PATHS_MAX] == cause.paths


# --- by itself


def of_gauges() -> tuple[Tally, memoryview]:
    gauges = memoryview(bytearray(8 * GAUGES)).cast("Q")
    return Tally(gauges), gauges


def test_sizes_fall_into_powers_of_two() -> None:
    counts, gauges = of_gauges()
    counts.regulars([0, 1, 2, 3, 4, 4095, 4096, 2**63 - 1, 2**64])
    counts.entry(stat.S_IFREG, 5)
    counts.take_back(4)
    assert size_classes(gauges) == {0: 1, 1: 1, 2: 2, 3: 1, 12: 1, 13: 1, 63: 2}


def test_no_mode_counts_beyond_the_kinds() -> None:
    counts, gauges = of_gauges()
    for kind in range(16):
        counts.entry(kind << 12, 1)
    assert sum(gauges) == 13  # 13, 14 and 15 mean nothing; 8 is a size
    assert sum(gauges[DataGauge.SIZES : DataGauge.SIZES + 64]) == 1


def test_causes_are_bounded() -> None:
    counts, _ = of_gauges()
    for number in range(10_000):
        counts.fail(f"E{number % 100}", b"p" * 10_000)
    causes = counts.causes()
    assert len(causes) == tally.CAUSES_MAX + 1
    assert sum(cause.count for cause in causes) == 10_000
    assert causes[0].name == tally.OTHER
    assert all(len(cause.paths) == PATHS_MAX for cause in causes)
    assert all(len(path) <= PATH_BYTES_MAX + 3 for cause in causes for path in cause.paths)


def test_time_counts_for_the_phase_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, gauges = of_gauges()
    now = 1000
    monkeypatch.setattr(time, "monotonic_ns", lambda: now)
    for phase, until in ((DataPhase.SCAN, 1010), (DataPhase.FILES, 1060), (DataPhase.SCAN, 1061)):
        counts.enter(phase)
        now = until
    assert gauges[DataGauge.PHASE_SINCE_NS] == 1060
    counts.enter(DataPhase.IDLE)
    assert gauges[DataGauge.PHASE_SINCE_NS] == 0
    spent = {phase: gauges[DataGauge.PHASE_NS + phase] for phase in (DataPhase.SCAN, DataPhase.FILES)}
    assert spent == {DataPhase.SCAN: 11, DataPhase.FILES: 50}
