"""Requests that come while one is under way: what waits, and what does not, with a drive that takes its time."""

import pytest
import trio
from trio.testing import MockClock

from mover.ndmp import messages as m
from mover.ndmp.enums import MessageCode
from mover.ndmp.header import decode_header
from mover.ndmp.table import TABLE
from tests.fuzz.choices import DRIVE
from tests.fuzz.fakes import Mood
from tests.fuzz.script import FIRST, Op, ask, do
from tests.fuzz.stage import Stage, quiet_world

STATES = {1: [m.DataGetStateRequest()]} | {
    version: [m.DataGetStateRequest(), m.MoverGetStateRequest()] for version in (2, 3, 4)
}
SLOW = do(Op.MOOD, Mood.SLOW, 0)
PIPELINE = do(Op.PIPELINE)


def replies(version: int, *steps: bytes) -> list[str]:
    """Play a script logged in; the messages answered, in the order of the replies."""

    async def play() -> list[bytes]:
        with quiet_world() as directory:
            async with trio.open_nursery() as nursery:
                player = Stage(directory, None, nursery).make(debugged=False)
                await player.play(bytes([FIRST[version]]) + b"".join(steps))
                await player.see_off()
            return player.sent

    sent = trio.run(play, clock=MockClock(autojump_threshold=0))
    headers = [decode_header(message[4:]) for message in sent]
    login = {MessageCode.CONNECT_OPEN, MessageCode.CONNECT_CLIENT_AUTH}
    return [
        TABLE[version, each.message].name for each in headers if each.message_type == 1 and each.message not in login
    ]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_states_are_told_while_a_tape_moves_and_everything_else_waits(version: int) -> None:
    states = [ask(version, body) for body in STATES[version]]
    rewind = ask(version, m.TapeMtioRequest(4, 1))
    names = ["DATA_GET_STATE", "MOVER_GET_STATE"][: len(states)]
    told = replies(
        version, ask(version, m.TapeOpenRequest(DRIVE, 1)), SLOW, PIPELINE,
        rewind, *states, ask(version, m.TapeGetStateRequest()), *states,
    )  # fmt: skip
    assert told == ["TAPE_OPEN", *names, "TAPE_MTIO", "TAPE_GET_STATE", *names]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_second_tape_command_waits_for_the_first(version: int) -> None:
    steps = [
        ask(version, m.TapeMtioRequest(4, 1)),
        ask(version, m.TapeWriteRequest(b"x")),
        ask(version, m.TapeCloseRequest()),
    ]
    told = replies(version, ask(version, m.TapeOpenRequest(DRIVE, 1)), SLOW, SLOW, PIPELINE, *steps)
    assert told == ["TAPE_OPEN", "TAPE_MTIO", "TAPE_WRITE", "TAPE_CLOSE"]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_what_is_quick_is_answered_in_order(version: int) -> None:
    states = [ask(version, body) for body in STATES[version]]
    names = ["DATA_GET_STATE", "MOVER_GET_STATE"][: len(states)]
    told = replies(
        version, PIPELINE, ask(version, m.TapeOpenRequest(DRIVE, 1)), *states,
        ask(version, m.TapeMtioRequest(4, 1)), *states,
    )  # fmt: skip
    assert told == ["TAPE_OPEN", *names, "TAPE_MTIO", *names]


@pytest.mark.parametrize("how", [Op.RESET, Op.HANG_UP, Op.END])
@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_connection_may_end_while_a_tape_moves(version: int, how: Op) -> None:
    """And leaves nothing, which the script's player sees to; a DMA that only closes its side gets its reply first."""
    rewind = ask(version, m.TapeMtioRequest(4, 1))
    told = replies(version, ask(version, m.TapeOpenRequest(DRIVE, 1)), SLOW, rewind, do(how))
    assert told == (["TAPE_OPEN", "TAPE_MTIO"] if how is Op.HANG_UP else ["TAPE_OPEN"])
