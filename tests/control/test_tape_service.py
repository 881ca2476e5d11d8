"""What a drive is taken for when its worker's answers to CloseDrive do not all arrive."""

from collections.abc import Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import cast

import pytest
import structlog
import trio

from mover.control.connection import Connection
from mover.control.device_names import AtClose
from mover.control.drives import DriveBay
from mover.control.refusal import Refusal
from mover.control.tape_service import TapeService
from mover.control.workers import Worker
from mover.ndmp.enums import ErrorCode, TapeMode
from mover.workers.messages import Done, Refused, Reply, ToWorker
from mover.workers.tape_messages import MotionDone

IO = Refused(int(ErrorCode.IO_ERR), "disk full")
NODE = SimpleNamespace(statistics=SimpleNamespace(ledger=SimpleNamespace(add_drive=lambda name, figures: None)))
NOT_OPEN = Refused(int(ErrorCode.DEV_NOT_OPEN_ERR), "no tape drive is open")


class FakeWorker:
    """Gives its answers in turn; None = one that does not come."""

    pid = 1

    def __init__(self, *answers: Reply | None) -> None:
        self._answers = list(answers)
        self.ended = trio.Event()
        self.ended.set()

    async def request(self, message: ToWorker, descriptors: Sequence[int] = (), *, deadline_s: float) -> Reply:
        answer = self._answers.pop(0)
        if answer is None:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        assert answer is not None
        return answer

    def kill(self) -> None:
        pass

    async def stop(self) -> None:
        await trio.lowlevel.checkpoint()


class FakeBay:
    """Remembers what became of its cartridge."""

    kind = "virtual"
    timeout_s: float | None = None
    name = "drive"
    path = "a.tap"
    unflushed = False
    session_id: int | None = 1
    outcome = ""

    real = False

    def was_closed(self) -> None:
        self.outcome = "closed"

    def was_lost(self, *, written: bool) -> None:
        self.outcome = "lost"


@pytest.mark.parametrize(
    ("answers", "outcome", "told"),
    [
        ([Done()], "closed", [True]),
        ([IO, Done()], "lost", [False]),  # closed whatever happened: nothing says that all is on disk
        ([None, NOT_OPEN], "closed", [True]),  # by the first, whose answer was not waited for
        ([None, Done()], "lost", []),  # the first failed, or this would not have found a drive
        ([IO, None, NOT_OPEN], "lost", [False]),  # by the second
    ],
)
async def test_only_a_first_close_says_that_all_is_on_disk(
    answers: list[Reply | None], outcome: str, told: list[bool]
) -> None:
    flushes: list[bool] = []

    async def note_flush(*, whole: bool) -> None:
        flushes.append(whole)

    data = SimpleNamespace(aftermath=SimpleNamespace(note_flush=note_flush))
    connection = SimpleNamespace(session_id=1, log=structlog.get_logger(), data=data, node=NODE)
    tape = TapeService(cast("Connection", connection))  # what closing looks at
    bay = FakeBay()
    tape.bay, tape.worker = cast("DriveBay", bay), cast("Worker", FakeWorker(*answers))
    tape.mode = TapeMode.RDWR
    with trio.fail_after(5):
        for answer in answers[:-1]:
            refused = pytest.raises(Refusal) if answer is IO else nullcontext()
            cancelled = trio.move_on_after(0.01) if answer is None else nullcontext()  # as when the peer goes away
            with cancelled, refused:
                await tape.close()
        await tape.release()
    assert (bay.outcome, bay.session_id, tape.is_open) == (outcome, None, False)
    assert flushes == told


@pytest.mark.parametrize(
    "moved", [MotionDone(int(ErrorCode.NO_ERR), 0, ""), MotionDone(int(ErrorCode.IO_ERR), 0, ""), IO]
)
async def test_a_rewind_that_fails_does_not_keep_a_drive_from_closing(moved: Reply) -> None:
    async def note_flush(*, whole: bool) -> None:
        assert whole

    data = SimpleNamespace(aftermath=SimpleNamespace(note_flush=note_flush))
    connection = SimpleNamespace(session_id=1, log=structlog.get_logger(), data=data, version=4, node=NODE)
    tape = TapeService(cast("Connection", connection))
    bay, worker = FakeBay(), FakeWorker(moved, Done())
    tape.bay, tape.worker, tape._at_close = cast("DriveBay", bay), cast("Worker", worker), AtClose.REWINDS
    with trio.fail_after(30):
        await tape.close()
    assert (bay.outcome, tape.is_open, worker._answers) == ("closed", False, [])
