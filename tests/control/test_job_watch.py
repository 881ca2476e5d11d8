"""A word to the DMA in a silence: when, what, and when not."""

from collections.abc import Awaitable, Callable
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from mover.control.estimate import Figures
from mover.control.job_watch import JobWatch, Look, describe
from mover.control.outbox import Outbox
from mover.ndmp.enums import DataOperation, LogType
from mover.ring import DataPhase

PERIOD_S = 30.0


class Desk:
    """Stands for an outbox: what was said, and when."""

    def __init__(self) -> None:
        self.posted_at = trio.current_time()
        self.said: list[tuple[float, str]] = []

    async def log_message(self, log_type: int, text: str) -> None:
        assert log_type == LogType.NORMAL
        self.posted_at = trio.current_time()
        self.said.append((self.posted_at, text))

    def post(self) -> None:
        """Something else goes out."""
        self.posted_at = trio.current_time()


def seen(phase: DataPhase = DataPhase.SCAN, *, waits: bool = False, at: bytes = b"", **figures: int) -> Look:
    return Look(DataOperation.BACKUP, Figures(phase, **{"processed": 0, **figures}), waits=waits, at=at)


async def watch(
    look: Callable[[], Look | None], seconds: float, beside: Callable[[Desk], Awaitable[None]] | None = None,
    period_s: float = PERIOD_S,
) -> tuple[list[float], list[str], int]:  # fmt: skip
    """When something was said, what, and how often the rate was sampled."""
    desk = Desk()
    start = trio.current_time()
    samples: list[float] = []
    job = JobWatch(cast("Outbox", desk), period_s, look, lambda: samples.append(trio.current_time()))
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(job.run)
            if beside is not None:
                nursery.start_soon(beside, desk)
    return [round(when - start, 3) for when, _ in desk.said], [text for _, text in desk.said], len(samples)


async def test_a_silence_is_broken_every_period(autojump_clock: MockClock) -> None:
    when, said, samples = await watch(lambda: seen(total_entries=5, at=b"/srv/x\n"), 100)
    assert when == [30, 60, 90]
    assert said == ["backup: scanning: 5 entries found so far, now at /srv/x\\n"] * 3
    assert samples >= 19


async def test_what_else_is_said_puts_it_off(autojump_clock: MockClock) -> None:
    async def talk(desk: Desk) -> None:
        for _ in range(8):
            await trio.sleep(11)
            desk.post()

    when, _, _ = await watch(seen, 130, talk)
    assert when == [88 + 30]


async def test_there_is_none_where_none_is_wanted(autojump_clock: MockClock) -> None:
    when, _, samples = await watch(seen, 1000, period_s=0)
    assert when == []
    assert samples == 199


async def test_what_waits_for_others_is_told_of_as_long_as_it_moves(autojump_clock: MockClock) -> None:
    begin = trio.current_time()

    def look() -> Look:
        return seen(DataPhase.FILES, waits=True, processed=min(70, int(trio.current_time() - begin)))

    when, _, _ = await watch(look, 300)
    assert when == [30, 60, 90]


async def test_a_worker_that_stands_still_by_itself_is_told_of(autojump_clock: MockClock) -> None:
    when, _, _ = await watch(lambda: seen(DataPhase.FILES, processed=7), 100)
    assert when == [30, 60, 90]


async def test_an_operation_that_has_said_its_last_word_is_not_spoken_for(autojump_clock: MockClock) -> None:
    when, _, _ = await watch(lambda: None, 100)
    assert when == []


@pytest.mark.parametrize("operation", [each for each in DataOperation if each is not DataOperation.NOACTION])
@pytest.mark.parametrize("phase", list(DataPhase))
def test_there_are_words_for_every_phase(operation: DataOperation, phase: DataPhase) -> None:
    text = describe(Look(operation, Figures(phase, 5)))
    assert ": " in text
    assert "{" not in text


def test_words() -> None:
    figures = Figures(DataPhase.CHANGES, 0, total_entries=10)
    text = describe(Look(DataOperation.BACKUP, figures, looked_at=4))
    assert text == "backup: looking for what has changed: 4 of 10 entries looked at"
    figures = Figures(DataPhase.FILES, 4096, directories=1, files=2)
    text = describe(Look(DataOperation.RECOVER, figures, at=b"/a"))
    assert text == "recover: 1 directory, 2 files and 4096 bytes of the stream so far, now at /a"
