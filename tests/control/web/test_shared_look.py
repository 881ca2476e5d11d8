"""Looks are shared, never older than the question, and no oftener than they may be."""

import pytest
import trio
import trio.testing

from mover.admin.statistics import StatisticsReply
from mover.control.web.shared_look import SPACE_S, SharedLook
from tests.support.moments import moment

LOOK_S = 0.5


async def test_who_asks_meanwhile_shares_the_next_look(autojump_clock: trio.testing.MockClock) -> None:
    begun: list[float] = []

    async def look() -> StatisticsReply:
        begun.append(trio.current_time())
        await trio.sleep(LOOK_S)
        return moment(uptime_seconds=float(len(begun)))

    shared = SharedLook(look)
    told: list[tuple[float, float]] = []

    async def ask(after_s: float) -> None:
        await trio.sleep(after_s)
        asked = trio.current_time()
        reply = await shared()
        assert isinstance(reply, StatisticsReply)
        told.append((asked, begun[int(reply.uptime_seconds) - 1]))

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(ask, number / 100)
    assert all(began >= asked for asked, began in told)
    assert len(told) == 100
    assert len(begun) == 3
    assert begun[1] - begun[0] == pytest.approx(LOOK_S + SPACE_S)


async def test_a_look_that_fails_is_looked_again(autojump_clock: trio.testing.MockClock) -> None:
    fails = [True]

    async def look() -> StatisticsReply:
        if fails:
            fails.pop()
            raise RuntimeError("planted")
        return moment()

    shared = SharedLook(look)
    with pytest.raises(RuntimeError, match="planted"):
        await shared()
    assert await shared() == moment()
