"""How a backup ends when something else does: its own failure, its ring, control; and what it waits for meanwhile."""

from pathlib import Path

import pytest

from mover.ring import Consumer, DataGauge, Kind, RingControl, Verdict
from mover.workers.data_messages import DataFinished, HistoryPlan
from mover.workers.messages import Done
from tests.data.backup_runner import Reader, backup_here, request, worker
from tests.data.test_backup_faults import change_after_scan
from tests.support.processes import settle


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One file that no small ring holds."""
    (tmp_path / "large").write_bytes(b"l" * 3_000_000)
    return tmp_path


def test_an_internal_failure_ends_in_band_and_with_one_line(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise RuntimeError("planted")

    change_after_scan(monkeypatch, broken)
    outcome = backup_here(request(tree))
    assert outcome.end == Kind.FAILED
    assert (outcome.finished.reason, outcome.finished.text) == (3, "the backup failed: RuntimeError: planted")
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("verdict", [Verdict.BROKEN, Verdict.CLOSED])
def test_a_ring_that_ends_ends_the_backup(tree: Path, verdict: Verdict) -> None:
    """A real worker that waits for room is woken by control's verdict."""
    ring = RingControl(4096, 2)
    with worker() as data_worker, Consumer(ring.duplicate()) as consumer:
        data_worker.send(request(tree), list(ring.fds))
        assert isinstance(data_worker.receive(), Done)
        consumer.peek().view.release()
        ring.conclude(verdict)
        while not isinstance(finished := data_worker.receive(), DataFinished):
            pass
        assert finished.reason == 4
        assert verdict.name.lower() in finished.text
    ring.close()


def test_a_worker_leaves_when_control_is_gone(tree: Path) -> None:
    ring = RingControl(4096, 2)
    with worker() as data_worker:
        data_worker.send(request(tree), list(ring.fds))
        assert isinstance(data_worker.receive(), Done)
    assert data_worker.process.returncode == 3
    ring.close()


def test_waiting_for_history_is_counted(tree: Path) -> None:
    for number in range(300):
        (tree / f"entry-{number}").touch()
    data, history = RingControl(1 << 20, 8), RingControl(1024, 2)
    reader = Reader(history)
    with worker() as data_worker:
        data_worker.send(request(tree, history=HistoryPlan(4, "dir")), [*data.fds, *history.fds])
        assert isinstance(data_worker.receive(), Done)
        settle(lambda: history.statistics().waiting == "full", "the worker waits for room")
        reader.start()
        while not isinstance(message := data_worker.receive(), DataFinished):
            pass
        assert message.reason == 1
        assert data.gauge("producer", DataGauge.HISTORY_WAIT_NS) > 0
    history.conclude(Verdict.CLOSED)
    reader.join()
    history.close()
    data.close()
