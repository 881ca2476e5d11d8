"""abort-on-disk-error: a job ends at the first error of the disk, or at its end where no line told of it."""

from types import SimpleNamespace
from typing import cast

import pytest
import trio

from mover.config import Config, Node
from mover.control.connection import Connection
from mover.control.data_service import DataService
from mover.ndmp.enums import DataHaltReason, DataState
from mover.ndmp.states import DataInput, SessionMachines
from mover.workers.data_messages import Cause, DataFinished
from mover.workers.messages import LogLine

TEXT = "a disk error (EIO), and abort-on-disk-error is set"


async def nothing(*_: object, **__: object) -> None:
    await trio.lowlevel.checkpoint()


class Service(DataService):
    """What ends the operation is noted, and ends nothing."""

    def __init__(self, *, abort: bool) -> None:
        stub = SimpleNamespace(
            config=Config(node=Node(abort_on_disk_error=abort)),
            machines=SessionMachines(4),
            outbox=SimpleNamespace(room=nothing, log_line=nothing),
        )
        super().__init__(cast("Connection", stub))
        self.machine.state = DataState.ACTIVE
        self.ends: list[tuple[DataInput, str]] = []

    async def _break(self, signal: DataInput, text: str) -> None:
        await self._halt(signal, text)
        self._run = None

    async def _halt(self, signal: DataInput, text: str) -> None:
        await trio.lowlevel.checkpoint()
        self.ends.append((signal, text))


def finished(*causes: str) -> DataFinished:
    return DataFinished(
        reason=DataHaltReason.SUCCESSFUL, text="", directories=1, files=2, errors=len(causes), file_bytes=3,
        stream_bytes=4, history_entries=5, env=[], causes=[Cause(cause, 1, []) for cause in causes],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("abort", "cause", "ends"),
    [
        (True, "EIO", [(DataInput.FAILED, TEXT)]),
        (True, "EACCES", [(DataInput.COMPLETE, "")]),
        (False, "EIO", [(DataInput.COMPLETE, "")]),
    ],
)
async def test_a_line_about_the_disk_ends_the_job(
    *, abort: bool, cause: str, ends: list[tuple[DataInput, str]]
) -> None:
    send, events = trio.open_memory_channel[object](2)
    send.send_nowait(LogLine(2, b"/srv/a: it cannot be read", cause, 6))
    send.send_nowait(finished())
    send.close()
    service = Service(abort=abort)
    worker = SimpleNamespace(events=events, exit_status=0)
    service._run = cast("None", SimpleNamespace(worker=worker, history_sent=nothing, keep=nothing))
    with trio.fail_after(30):
        await service._listen(worker)  # type: ignore[arg-type]  # what is asked of a worker
    assert service.ends == ends


@pytest.mark.parametrize(("abort", "signal"), [(True, DataInput.FAILED), (False, DataInput.COMPLETE)])
async def test_an_error_that_no_line_told_of_ends_it_at_its_end(*, abort: bool, signal: DataInput) -> None:
    service = Service(abort=abort)
    with trio.fail_after(30):
        await service._complete(finished("EACCES", "EIO"))
    assert service.ends == [(signal, TEXT if abort else "")]
