"""The second reader of a real worker: it has the worker's rights, and leaves with it."""

import os
from pathlib import Path
from typing import Never

import psutil
import pytest

from mover.data.second_reader import WORTH_ENTRIES
from mover.ring import RingControl
from mover.workers.messages import Done
from tests.data.backup_runner import DEADLINE_S, Worker, request, worker
from tests.support.processes import is_gone, settle
from tests.support.trees import make_small_files

SIZE = 1_500
AHEAD = 256  # files: less than its areas hold


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Enough files for a second reader of a worker that a test does not reach into."""
    make_small_files(tmp_path / "tree", files=WORTH_ENTRIES, size=SIZE, directories=3)
    return tmp_path / "tree"


def listen(data_worker: Worker) -> Never:
    """What a worker has said before, to the end of its socket."""
    while True:
        data_worker.receive()


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_one_leaves_with_its_worker(many: Path) -> None:
    """A worker that stands still, because nobody reads its ring, is killed: its control socket ends at once."""
    ring = RingControl(1 << 16, 4)
    try:
        with worker() as data_worker:
            data_worker.send(request(many), list(ring.fds))
            assert isinstance(data_worker.receive(), Done)
            process = psutil.Process(data_worker.process.pid)
            settle(
                lambda: ring.statistics().waiting == "full" and bool(process.children()),
                "a second reader and a full ring",
                DEADLINE_S,
            )
            (second,) = process.children()
            data_worker.process.kill()
            with pytest.raises(AssertionError, match="the worker is gone"):
                listen(data_worker)
            settle(lambda: is_gone(second.pid), "no second reader", DEADLINE_S)
    finally:
        ring.close()


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
def test_it_reads_within_the_worker_s_rights(many: Path) -> None:
    """It fills its areas while the worker stands still, so that what it has read is its own."""
    ring = RingControl(1 << 16, 4)
    try:
        with worker() as data_worker:
            data_worker.send(request(many, butype="tar"), list(ring.fds))
            assert isinstance(data_worker.receive(), Done)
            process = psutil.Process(data_worker.process.pid)
            settle(lambda: bool(process.children()), "a second reader", DEADLINE_S)
            (second,) = process.children()
            settle(lambda: second.io_counters().read_chars >= AHEAD * SIZE, "files read ahead", DEADLINE_S)
    finally:
        ring.close()
