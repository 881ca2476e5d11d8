"""Every (state, input) pair of every version, written out a second time; reasons; what joins the machines."""

import pytest

from mover.ndmp.enums import (
    DataHaltReason,
    DataOperation,
    DataPauseReason,
    DataState,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
)
from mover.ndmp.errors import IllegalStateError
from mover.ndmp.states import (
    DATA_HALT_REASONS,
    DATA_PAUSE_REASONS,
    DATA_TRANSITIONS,
    MOVER_HALT_REASONS,
    MOVER_PAUSE_REASONS,
    MOVER_TRANSITIONS,
    DataInput,
    DataMachine,
    MoverInput,
    MoverMachine,
    SessionMachines,
    mover_version,
)

# As in the specification's tables: a column per state, "." = illegal, the letter = the next state.
DATA_COLUMNS = {
    1: {"I": DataState.IDLE, "A": DataState.ACTIVE, "P": DataState.PAUSED, "H": DataState.HALTED},
    2: {"I": DataState.IDLE, "A": DataState.ACTIVE, "H": DataState.HALTED},
    3: {
        "I": DataState.IDLE, "L": DataState.LISTEN, "C": DataState.CONNECTED, "A": DataState.ACTIVE,
        "H": DataState.HALTED,
    },
}  # fmt: skip
DATA_TABLE = {
    1: """
        GET_STATE I A P H
        GET_ENV . A P H
        LISTEN . . . .
        CONNECT . . . .
        START A . . .
        ABORT . H H .
        STOP . . . I
        CONTINUE . . A .
        PEER_CONNECTED . . . .
        COMPLETE . H . .
        FAILED . H H .
        CONNECTION_LOST . . . .
        END_OF_TAPE . P . .
        FILEMARK . P . .
        MEDIA_ERROR . H . .
        NO_SPLIT . H . .
    """,
    2: """
        GET_STATE I A H
        GET_ENV . A H
        LISTEN . . .
        CONNECT . . .
        START A . .
        ABORT . H .
        STOP . . I
        CONTINUE . . .
        PEER_CONNECTED . . .
        COMPLETE . H .
        FAILED . H .
        CONNECTION_LOST . H .
        END_OF_TAPE . . .
        FILEMARK . . .
        MEDIA_ERROR . . .
        NO_SPLIT . . .
    """,
    3: """
        GET_STATE I L C A H
        GET_ENV . . . A H
        LISTEN L . . . .
        CONNECT C . . . .
        START . . A . .
        ABORT . H H H H
        STOP . . . . I
        CONTINUE . . . . .
        PEER_CONNECTED . C . . .
        COMPLETE . . . H .
        FAILED . H H H .
        CONNECTION_LOST . H H H .
        END_OF_TAPE . . . . .
        FILEMARK . . . . .
        MEDIA_ERROR . . . . .
        NO_SPLIT . . . . .
    """,
}
DATA_COLUMNS[4], DATA_TABLE[4] = DATA_COLUMNS[3], DATA_TABLE[3]

MOVER_COLUMNS = {
    "I": MoverState.IDLE, "L": MoverState.LISTEN, "A": MoverState.ACTIVE, "P": MoverState.PAUSED,
    "H": MoverState.HALTED,
}  # fmt: skip
_MOVER_COMMON = """
    GET_STATE I L A P H
    SET_RECORD_SIZE I . . . .
    LISTEN L . . . .
    READ . . A . .
    CONTINUE . . . A .
    CLOSE . H H H .
    ABORT . H H H H
    STOP . . . . I
    PEER_CONNECTED . A . . .
    CONNECTION_CLOSED . . H H .
    CONNECTION_LOST . H H H .
    FAILED . H H H .
    EARLY_WARNING . . P . .
    WINDOW_FULL . . P . .
    FILEMARK . . P . .
    END_OF_DATA . . P . .
    OUTSIDE_WINDOW . . P . .
"""
MOVER_TABLE = {
    2: _MOVER_COMMON
    + """
    CONNECT . . . . .
    SET_WINDOW I L . P .
    MEDIA_ERROR . . P . .
    """,
    3: _MOVER_COMMON
    + """
    CONNECT A . . . .
    SET_WINDOW I L . P .
    MEDIA_ERROR . . P . .
    """,
    4: _MOVER_COMMON
    + """
    CONNECT A . . . .
    SET_WINDOW I . . P .
    MEDIA_ERROR . . H . .
    """,
}
MOVER_TABLE[1] = MOVER_TABLE[4]  # control's own mover

VERSIONS = [1, 2, 3, 4]


def rows(table: str) -> dict[str, list[str]]:
    return {words[0]: words[1:] for line in table.splitlines() if (words := line.split())}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("signal", list(DataInput), ids=lambda signal: signal.name)
def test_every_pair_of_data(version: int, signal: DataInput) -> None:
    columns = DATA_COLUMNS[version]
    row = rows(DATA_TABLE[version])[signal.name]
    for state, cell in zip(columns.values(), row, strict=True):
        machine = DataMachine(version)
        machine.state = state
        machine.halt_reason = DataHaltReason.CONNECT_ERROR if state is DataState.HALTED else DataHaltReason.NA
        machine.pause_reason = DataPauseReason.EOF if state is DataState.PAUSED else DataPauseReason.NA
        assert machine.can(signal) == (cell != ".")
        if cell == ".":
            with pytest.raises(IllegalStateError):
                machine.apply(signal)
            assert machine.state is state
            continue
        moved = machine.apply(signal)
        assert machine.state is columns[cell]
        assert moved == (machine.state is not state)
        expected = DataHaltReason.NA
        if machine.state is DataState.HALTED:
            expected = DATA_HALT_REASONS[signal] if moved else DataHaltReason.CONNECT_ERROR
        assert machine.halt_reason == expected
        paused = DataPauseReason.NA
        if machine.state is DataState.PAUSED:
            paused = DATA_PAUSE_REASONS[signal] if moved else DataPauseReason.EOF
        assert machine.pause_reason == paused


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("signal", list(MoverInput), ids=lambda signal: signal.name)
def test_every_pair_of_mover(version: int, signal: MoverInput) -> None:
    row = rows(MOVER_TABLE[version])[signal.name]
    for state, cell in zip(MOVER_COLUMNS.values(), row, strict=True):
        machine = MoverMachine(version)
        machine.state = state
        if state is MoverState.PAUSED:
            machine.pause_reason = MoverPauseReason.EOM
        if state is MoverState.HALTED:
            machine.halt_reason = MoverHaltReason.CONNECT_ERROR
        assert machine.can(signal) == (cell != ".")
        if cell == ".":
            with pytest.raises(IllegalStateError):
                machine.apply(signal)
            assert machine.state is state
            continue
        moved = machine.apply(signal)
        assert machine.state is MOVER_COLUMNS[cell]
        assert moved == (machine.state is not state)
        pause, halt = MoverPauseReason.NA, MoverHaltReason.NA
        if machine.state is MoverState.PAUSED:
            pause = MOVER_PAUSE_REASONS[signal] if moved else MoverPauseReason.EOM
        if machine.state is MoverState.HALTED:
            halt = MOVER_HALT_REASONS[signal] if moved else MoverHaltReason.CONNECT_ERROR
        assert (machine.pause_reason, machine.halt_reason) == (pause, halt)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_way_into_a_state_with_a_reason_has_one(version: int) -> None:
    for (before, data_signal), after in DATA_TRANSITIONS[version].items():
        assert after is not DataState.HALTED or before is after or data_signal in DATA_HALT_REASONS
        assert after is not DataState.PAUSED or before is after or data_signal in DATA_PAUSE_REASONS
    for (was, mover_signal), becomes in MOVER_TRANSITIONS[mover_version(version)].items():
        if was is not becomes:
            assert becomes is not MoverState.HALTED or mover_signal in MOVER_HALT_REASONS
            assert becomes is not MoverState.PAUSED or mover_signal in MOVER_PAUSE_REASONS


def test_stop_forgets_everything() -> None:
    machines = SessionMachines(4)
    machines.apply_mover(MoverInput.LISTEN, local=True)
    machines.mover.mode = MoverMode.READ
    machines.apply_data(DataInput.CONNECT, local=True)
    machines.data.apply(DataInput.START)
    machines.data.operation = DataOperation.BACKUP
    for machine_input in (DataInput.COMPLETE, DataInput.STOP):
        assert machines.data.apply(machine_input)
    for mover_input in (MoverInput.CONNECTION_CLOSED, MoverInput.STOP):
        assert machines.mover.apply(mover_input)
    assert (machines.data.state, machines.data.halt_reason, machines.data.operation, machines.data.local) == (
        DataState.IDLE, DataHaltReason.NA, DataOperation.NOACTION, False,
    )  # fmt: skip
    assert (machines.mover.state, machines.mover.halt_reason, machines.mover.mode, machines.mover.local) == (
        MoverState.IDLE, MoverHaltReason.NA, MoverMode.NOACTION, False,
    )  # fmt: skip


@pytest.mark.parametrize("version", [3, 4])
def test_local_connections_move_both(version: int) -> None:
    machines = SessionMachines(version)
    with pytest.raises(IllegalStateError):
        machines.apply_data(DataInput.CONNECT, local=True)
    assert machines.data.state is DataState.IDLE
    machines.apply_mover(MoverInput.LISTEN, local=True)
    machines.apply_data(DataInput.CONNECT, local=True)
    assert (machines.data.state, machines.mover.state) == (DataState.CONNECTED, MoverState.ACTIVE)

    machines = SessionMachines(version)
    with pytest.raises(IllegalStateError):
        machines.apply_mover(MoverInput.CONNECT, local=True)
    machines.apply_data(DataInput.LISTEN, local=True)
    machines.apply_mover(MoverInput.CONNECT, local=True)
    assert (machines.data.state, machines.mover.state) == (DataState.CONNECTED, MoverState.ACTIVE)


@pytest.mark.parametrize("version", [1, 2])
def test_versions_1_and_2_start_onto_the_listening_mover(version: int) -> None:
    machines = SessionMachines(version)
    with pytest.raises(IllegalStateError):
        machines.apply_data(DataInput.START, local=True)
    machines.apply_mover(MoverInput.LISTEN, local=True)
    machines.apply_data(DataInput.START, local=True)
    assert (machines.data.state, machines.mover.state) == (DataState.ACTIVE, MoverState.ACTIVE)


@pytest.mark.parametrize("version", VERSIONS)
def test_local_needs_a_listener_that_is_local(version: int) -> None:
    connect = DataInput.START if version <= 2 else DataInput.CONNECT
    machines = SessionMachines(version)
    machines.apply_mover(MoverInput.LISTEN, local=False)
    for local in (True, False):
        with pytest.raises(IllegalStateError):
            machines.apply_data(connect, local=local)
    assert (machines.data.state, machines.mover.state) == (DataState.IDLE, MoverState.LISTEN)


@pytest.mark.parametrize("version", VERSIONS)
def test_tcp_alone_is_free(version: int) -> None:
    machines = SessionMachines(version)
    machines.apply_data(DataInput.START if version <= 2 else DataInput.CONNECT, local=False)
    with pytest.raises(IllegalStateError):
        machines.apply_mover(MoverInput.LISTEN, local=False)
    assert machines.mover.state is MoverState.IDLE


@pytest.mark.parametrize("version", [3, 4])
def test_a_start_over_tcp_does_not_look_at_the_mover(version: int) -> None:
    machines = SessionMachines(version)
    machines.apply_data(DataInput.LISTEN, local=False)
    with pytest.raises(IllegalStateError):
        machines.audit_start(MoverMode.READ)
    machines.data.apply(DataInput.PEER_CONNECTED)
    machines.audit_start(MoverMode.READ)


@pytest.mark.parametrize("version", [3, 4])
def test_a_local_start_needs_the_mover_in_the_fitting_mode(version: int) -> None:
    machines = SessionMachines(version)
    machines.apply_mover(MoverInput.LISTEN, local=True)
    machines.mover.mode = MoverMode.READ
    machines.apply_data(DataInput.CONNECT, local=True)
    machines.audit_start(MoverMode.READ)
    with pytest.raises(IllegalStateError):
        machines.audit_start(MoverMode.WRITE)
    machines.mover.apply(MoverInput.FAILED)
    with pytest.raises(IllegalStateError):
        machines.audit_start(MoverMode.READ)


def test_a_second_halt_is_refused_and_abort_keeps_the_reason() -> None:
    machine = MoverMachine(4)
    for signal in (MoverInput.CONNECT, MoverInput.MEDIA_ERROR):
        machine.apply(signal)
    with pytest.raises(IllegalStateError):
        machine.apply(MoverInput.FAILED)
    assert not machine.apply(MoverInput.ABORT)
    assert machine.halt_reason is MoverHaltReason.MEDIA_ERROR
