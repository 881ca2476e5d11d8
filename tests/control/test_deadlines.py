"""The table of deadlines: every operation has one, and a worker's own time limits come before it."""

from typing import get_args

import pytest

from mover.control.deadlines import (
    CLOSE_MAX_S,
    COMMAND_MAX_S,
    LATE_S,
    DriveKind,
    command_timeout_s,
    drive_deadline_s,
    mover_deadline_s,
)
from mover.tape.logical_unit import OTHER_S, TIMEOUTS_S
from mover.workers.tape_messages import (
    CloseDrive,
    GetDriveState,
    GetTapePosition,
    LocateTape,
    MoveTape,
    OpenDrive,
    ReadRecord,
    StartMover,
    WriteRecord,
)

OPERATIONS = (
    OpenDrive, CloseDrive, GetDriveState, MoveTape, GetTapePosition, LocateTape, WriteRecord, ReadRecord, StartMover,
)  # fmt: skip
COMMANDS: dict[type, tuple[int, ...]] = {
    OpenDrive: (0x1B,),
    CloseDrive: (0x10,),
    MoveTape: (0x01, 0x10, 0x11, 0x1B),
    LocateTape: (0x01, 0x2B, 0x92, 0x11),
    WriteRecord: (0x0A,),
    ReadRecord: (0x08,),
    StartMover: (0x08, 0x0A, 0x11),
    GetDriveState: (),
    GetTapePosition: (),
}
"""What a worker may have a drive do for an operation, by operation code."""


@pytest.mark.parametrize("kind", get_args(DriveKind))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_has_a_deadline(kind: DriveKind, operation: type) -> None:
    assert 0 < drive_deadline_s(kind, operation, None) <= CLOSE_MAX_S
    assert drive_deadline_s(kind, operation, 5) in {5, 5 + LATE_S}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_worker_says_first_what_was_not_answered(operation: type) -> None:
    deadline_s = drive_deadline_s("iscsi", operation, None)
    for code in COMMANDS[operation]:
        assert TIMEOUTS_S[code] < deadline_s
    assert deadline_s > OTHER_S


@pytest.mark.parametrize("kind", get_args(DriveKind))
def test_a_call_of_the_mover_may_take_as_long_as_its_records(kind: DriveKind) -> None:
    late_s = 0 if kind == "virtual" else LATE_S
    assert mover_deadline_s(kind, None, 1000) == drive_deadline_s(kind, StartMover, None)
    assert mover_deadline_s(kind, 3, 4) == 12 + late_s
    assert mover_deadline_s(kind, 3, 0) == 3 + late_s


def test_time_for_commands() -> None:
    move, unknown = b"\xa5" + bytes(11), b"\xff" + bytes(5)
    assert command_timeout_s(move, None) == 900
    assert command_timeout_s(unknown, None) == 120
    assert command_timeout_s(move, 30.0) == command_timeout_s(unknown, 30.0) == 30
    assert command_timeout_s(move, 30.0, 0.3) == 0.3  # the client's word counts
    assert command_timeout_s(move, None, 1e9) == COMMAND_MAX_S
