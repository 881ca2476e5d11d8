"""The second writer of a recover: many small files come back whole whatever becomes of it."""

import os
import signal
import stat
import threading
import time
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from mover.ring import Kind
from tests.data import recover_runner
from tests.data.backup_runner import backup_here
from tests.data.backup_runner import request as backup_request
from tests.data.dump_reader import parse
from tests.data.recover_runner import name, recover
from tests.support.trees import make_small_files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files in the main, and enough else between them."""
    root = tmp_path_factory.mktemp("second") / "tree"
    make_small_files(root, files=4_000, size=3_000, directories=7)
    for number in range(0, 4_000, 97):
        path = root / f"directory-{number % 7:03d}" / f"file-{number:05d}"
        match number // 97 % 5:
            case 0:
                os.setxattr(path, "user.a", b"b")
            case 1:
                path.chmod(0o4755)
            case 2:
                path.write_bytes(b"large" * 100_000)
            case 3:
                os.link(path, path.with_name(path.name + "-again"))
            case _:
                os.truncate(path, 500_000)
    for number in range(0, 4_000, 3):
        os.utime(root / f"directory-{number % 7:03d}" / f"file-{number:05d}", ns=(number, number * 1_000_003))
    return root


@pytest.fixture(scope="module", params=["dump", "tar"])
def butype(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def stream(tree: Path, butype: str) -> bytes:
    return backup_here(backup_request(tree, butype=butype)).stream


@pytest.mark.parametrize(("lengths", "slot_bytes"), [(1 << 20, 1 << 20), ([40_000, 7], 1 << 16)])
def test_everything_comes_back(
    tree: Path, stream: bytes, butype: str, tmp_path: Path, lengths: int | list[int], slot_bytes: int
) -> None:
    outcome = recover(stream, [name(tmp_path, below=b"again")], lengths=lengths, slot_bytes=slot_bytes, butype=butype)
    assert (outcome.finished.reason, outcome.finished.errors, outcome.stderr) == (1, 0, b"")
    assert outcome.finished.files == sum(len(files) for _, _, files in os.walk(tree))
    assert list(map(str, compare_trees(tree, tmp_path / "again", time_granularity_ns=1).differences)) == []
    # A second time over what is there, so that every file exists.
    again = recover(stream, [name(tmp_path, below=b"again")], lengths=lengths, slot_bytes=slot_bytes, butype=butype)
    assert again.finished == outcome.finished
    assert list(map(str, compare_trees(tree, tmp_path / "again", time_granularity_ns=1).differences)) == []


def find_second_writer() -> tuple[int, int]:
    """Waits for a worker with its second writer; the numbers of both processes."""
    while True:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                arguments = (process / "cmdline").read_bytes()
                parent = _parent(int(process.name))
                if b"recover.start" in arguments and _parent(parent) == os.getpid():
                    return parent, int(process.name)
            except (OSError, IndexError):
                continue  # gone in the meantime


def _parent(number: int) -> int:
    return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_second_writer_that_is_killed_costs_nothing(tree: Path, stream: bytes, butype: str, tmp_path: Path) -> None:
    killed = threading.Event()

    class Stream(bytes):
        """Waits in the middle until it has been killed."""

        def __getitem__(self, at: slice) -> bytes:  # type: ignore[override]  # only slices are asked for
            if at.start >= len(stream) // 2:
                assert killed.wait(recover_runner.DEADLINE_S)
            return bytes(self)[at]

    def kill() -> None:
        os.kill(find_second_writer()[1], signal.SIGKILL)
        killed.set()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    outcome = recover(
        Stream(stream), [name(tmp_path, below=b"again")], lengths=100_000, slot_bytes=1 << 17, butype=butype
    )
    thread.join(recover_runner.DEADLINE_S)
    assert killed.is_set()
    assert (outcome.finished.reason, outcome.finished.errors) == (1, 0)
    assert list(map(str, compare_trees(tree, tmp_path / "again", time_granularity_ns=1).differences)) == []


@pytest.mark.parametrize("stopped", [False, True])
def test_a_second_writer_leaves_with_its_worker(stream: bytes, butype: str, stopped: bool, tmp_path: Path) -> None:
    second: list[int] = []
    killed = threading.Event()

    class Stream(bytes):
        """Waits in the middle until the worker has been killed."""

        def __getitem__(self, at: slice) -> bytes:  # type: ignore[override]  # only slices are asked for
            if at.start >= len(stream) // 2:
                assert killed.wait(recover_runner.DEADLINE_S)
            return bytes(self)[at]

    def kill() -> None:
        worker, number = find_second_writer()
        second.append(number)
        if stopped:
            os.kill(number, signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)

    def gone(number: int) -> bool:
        try:
            return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        # The control socket ends at once: the second writer does not hold it.
        with pytest.raises(AssertionError, match="None"):
            recover(Stream(stream), [name(tmp_path)], lengths=100_000, slot_bytes=1 << 17, ended=killed, butype=butype)
    finally:
        killed.set()
        thread.join(recover_runner.DEADLINE_S)
    deadline = time.monotonic() + recover_runner.DEADLINE_S
    while not gone(second[0]):
        assert time.monotonic() < deadline


def test_a_producer_that_fails_gets_its_slots_first(stream: bytes, butype: str, tmp_path: Path) -> None:
    """A mover at a bad spot or behind its last tape file waits until all that it has read is taken."""
    outcome = recover(stream[: len(stream) // 2], [name(tmp_path, below=b"again")], end=Kind.FAILED, butype=butype)
    assert outcome.finished.reason == 4
    assert outcome.finished.text.startswith("the other side failed after ")


def test_a_broken_stream_is_reported_once(tree: Path, stream: bytes, butype: str, tmp_path: Path) -> None:
    outcome = recover(stream[: len(stream) // 2], [name(tmp_path, below=b"again")], butype=butype)
    assert outcome.finished.reason == 4
    assert outcome.stderr == b""
    there = [path for path in (tmp_path / "again").rglob("*") if stat.S_ISREG(path.stat().st_mode)]
    assert len(there) == outcome.finished.files
    damaged = bytearray(stream)
    for at in range(len(stream) // 3, len(stream) // 3 + 40_000, 512):
        damaged[at] ^= 0xFF
    outcome = recover(bytes(damaged), [name(tmp_path, below=b"third")], butype=butype)
    assert outcome.finished.reason == 1
    assert outcome.finished.errors > (5 if butype == "dump" else 0)
    there = [path for path in (tmp_path / "third").rglob("*") if stat.S_ISREG(path.stat().st_mode)]
    assert len(there) == outcome.finished.files


def test_files_left_over_do_not_move_the_ground_under_the_others(tmp_path: Path) -> None:
    """The worker makes late what the other writer could not, in directories that it has to open for it."""
    tree, again = tmp_path / "tree", tmp_path / "again"
    for directory in range(1_100):
        (tree / f"directory-{directory:04d}").mkdir(parents=True)
        for number in range(2):
            (tree / f"directory-{directory:04d}" / f"{directory:04d}-{number}").touch()
    stream = backup_here(backup_request(tree)).stream
    lengths = [(128 - number) * 1024 for number in range(7)]

    def recovered() -> list[str]:
        outcome = recover(
            stream, [name(tmp_path, below=b"again")], lengths=lengths, slot_bytes=1 << 17, directories_open=4
        )
        assert (outcome.finished.reason, outcome.finished.errors, outcome.stderr) == (1, 0, b"")
        return list(map(str, compare_trees(tree, again, time_granularity_ns=1).differences))

    assert recovered() == []
    # Now each of them finds files in its way, and others not.
    numbered = sorted((number, path) for path, number in parse(stream).tree().items() if b"/" in path)
    for entry, (_, path) in enumerate(numbered):
        if entry % 3:
            (again / os.fsdecode(path)).unlink()
    assert recovered() == []
