"""The DATA and MOVER machines: literal tables of (state, input) -> state, one per version.

Theory of operation. An input is a request of the DMA or an event of the world. A pair that is absent is illegal:
`audit` and `apply` raise IllegalStateError and nothing has changed. A handler audits first, does its work, and
applies when that went well; so CONNECT that fails just is not applied. Inputs that end in PAUSED or HALTED have
their reason in a table beside. What one machine does to the other stands in JOINT alone.
Departures that every deployed client needs, as the rows say: CLOSE is taken in LISTEN and ACTIVE (Deviates:
NDMPv4 3.6.7), SET_WINDOW in IDLE also in v2 and v3 (Deviates: NDMPv3). ABORT in HALTED is NO_ERR
without effect, but for DATA of v1 and v2.
Version 1 has no MOVER and no data connection: its DATA pauses at the end of a tape, and control drives a mover of
its own beside it, after version 4's table, over a LOCAL connection that no message names.
Source: NDMPv4 sections 2.5 (state machines), 3.5 and 3.6; NDMPv1 sections 2.3 and 3.5, NDMPv2, NDMPv3.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Generic, TypeVar

import msgspec

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


class DataInput(StrEnum):
    """What moves the DATA machine: requests, then events."""

    GET_STATE = "GET_STATE"
    GET_ENV = "GET_ENV"
    LISTEN = "LISTEN"
    CONNECT = "CONNECT"
    START = "START"  # START_BACKUP, START_RECOVER, START_RECOVER_FILEHIST
    ABORT = "ABORT"
    STOP = "STOP"
    CONTINUE = "CONTINUE"  # v1
    PEER_CONNECTED = "peer connected"
    COMPLETE = "operation complete"
    FAILED = "operation failed"  # also: worker died, local trouble
    CONNECTION_LOST = "data connection lost"  # also: accept failed, closed too early
    END_OF_TAPE = "end of tape"  # v1: early warning while writing, end of recorded data while reading
    FILEMARK = "filemark"  # v1, reading tape
    MEDIA_ERROR = "media error"  # v1
    NO_SPLIT = "end of a volume that the type cannot go past"  # v1; our types can


class MoverInput(StrEnum):
    """What moves the MOVER machine: requests, then events."""

    GET_STATE = "GET_STATE"
    SET_RECORD_SIZE = "SET_RECORD_SIZE"
    SET_WINDOW = "SET_WINDOW"
    LISTEN = "LISTEN"
    CONNECT = "CONNECT"
    READ = "READ"
    CONTINUE = "CONTINUE"
    CLOSE = "CLOSE"
    ABORT = "ABORT"
    STOP = "STOP"
    PEER_CONNECTED = "peer connected"
    CONNECTION_CLOSED = "data connection closed in order"
    CONNECTION_LOST = "data connection lost"  # also: accept failed
    FAILED = "mover failed"  # also: tape worker died
    EARLY_WARNING = "early warning"  # writing tape
    WINDOW_FULL = "window full"  # writing tape
    FILEMARK = "filemark"  # reading tape
    END_OF_DATA = "end of recorded data"  # reading tape
    OUTSIDE_WINDOW = "wanted offset outside the window"  # reading tape
    MEDIA_ERROR = "media error"


_D = DataState
_I = DataInput

_DATA_1: Final[dict[tuple[DataState, DataInput], DataState]] = {
    # NDMPv1 2.3 and figure 4; the requests' error lists in 3.5
    (_D.IDLE, _I.GET_STATE): _D.IDLE,
    (_D.IDLE, _I.START): _D.ACTIVE,  # 3.5.2, 3.5.3
    (_D.ACTIVE, _I.GET_STATE): _D.ACTIVE,
    (_D.ACTIVE, _I.GET_ENV): _D.ACTIVE,  # 3.5.7
    (_D.ACTIVE, _I.ABORT): _D.HALTED,  # 3.5.4
    (_D.ACTIVE, _I.COMPLETE): _D.HALTED,
    (_D.ACTIVE, _I.FAILED): _D.HALTED,
    (_D.ACTIVE, _I.MEDIA_ERROR): _D.HALTED,  # "must enter a halted state": 3.5.2
    (_D.ACTIVE, _I.NO_SPLIT): _D.HALTED,  # 3.5.1, halt reasons
    (_D.ACTIVE, _I.END_OF_TAPE): _D.PAUSED,  # "must enter a paused state": 3.5.2
    (_D.ACTIVE, _I.FILEMARK): _D.PAUSED,  # 3.5.3
    (_D.PAUSED, _I.GET_STATE): _D.PAUSED,
    (_D.PAUSED, _I.GET_ENV): _D.PAUSED,
    (_D.PAUSED, _I.CONTINUE): _D.ACTIVE,  # 3.5.6, whose error text says "halted" and means this state
    (_D.PAUSED, _I.ABORT): _D.HALTED,
    # Deviates: figure 4 has no such arrow; a worker that dies in a pause has to be told of
    (_D.PAUSED, _I.FAILED): _D.HALTED,
    (_D.HALTED, _I.GET_STATE): _D.HALTED,
    (_D.HALTED, _I.GET_ENV): _D.HALTED,  # expected between the backup and STOP: 3.5.3, env
    (_D.HALTED, _I.STOP): _D.IDLE,  # 3.5.5
}

_DATA_2: Final[dict[tuple[DataState, DataInput], DataState]] = {
    (_D.IDLE, _I.GET_STATE): _D.IDLE,
    (_D.IDLE, _I.START): _D.ACTIVE,  # carries the mover's address
    (_D.ACTIVE, _I.GET_STATE): _D.ACTIVE,
    (_D.ACTIVE, _I.GET_ENV): _D.ACTIVE,
    (_D.ACTIVE, _I.ABORT): _D.HALTED,
    (_D.ACTIVE, _I.COMPLETE): _D.HALTED,
    (_D.ACTIVE, _I.FAILED): _D.HALTED,
    (_D.ACTIVE, _I.CONNECTION_LOST): _D.HALTED,
    (_D.HALTED, _I.GET_STATE): _D.HALTED,
    (_D.HALTED, _I.GET_ENV): _D.HALTED,
    (_D.HALTED, _I.STOP): _D.IDLE,
    # ABORT in HALTED is illegal in NDMPv2: no operation is in progress
}

_DATA_34: Final[dict[tuple[DataState, DataInput], DataState]] = {
    (_D.IDLE, _I.GET_STATE): _D.IDLE,
    (_D.IDLE, _I.LISTEN): _D.LISTEN,
    (_D.IDLE, _I.CONNECT): _D.CONNECTED,
    (_D.LISTEN, _I.GET_STATE): _D.LISTEN,
    (_D.LISTEN, _I.ABORT): _D.HALTED,
    (_D.LISTEN, _I.PEER_CONNECTED): _D.CONNECTED,
    (_D.LISTEN, _I.FAILED): _D.HALTED,
    (_D.LISTEN, _I.CONNECTION_LOST): _D.HALTED,
    (_D.CONNECTED, _I.GET_STATE): _D.CONNECTED,
    (_D.CONNECTED, _I.START): _D.ACTIVE,
    (_D.CONNECTED, _I.ABORT): _D.HALTED,
    (_D.CONNECTED, _I.FAILED): _D.HALTED,
    (_D.CONNECTED, _I.CONNECTION_LOST): _D.HALTED,
    (_D.ACTIVE, _I.GET_STATE): _D.ACTIVE,
    (_D.ACTIVE, _I.GET_ENV): _D.ACTIVE,
    (_D.ACTIVE, _I.ABORT): _D.HALTED,
    (_D.ACTIVE, _I.COMPLETE): _D.HALTED,
    (_D.ACTIVE, _I.FAILED): _D.HALTED,
    (_D.ACTIVE, _I.CONNECTION_LOST): _D.HALTED,
    (_D.HALTED, _I.GET_STATE): _D.HALTED,
    (_D.HALTED, _I.GET_ENV): _D.HALTED,
    (_D.HALTED, _I.ABORT): _D.HALTED,
    (_D.HALTED, _I.STOP): _D.IDLE,
}

DATA_TRANSITIONS: Final = {1: _DATA_1, 2: _DATA_2, 3: _DATA_34, 4: _DATA_34}
"""version -> (state, input) -> state."""

DATA_HALT_REASONS: Final[dict[DataInput, DataHaltReason]] = {
    _I.ABORT: DataHaltReason.ABORTED,
    _I.COMPLETE: DataHaltReason.SUCCESSFUL,
    _I.FAILED: DataHaltReason.INTERNAL_ERROR,
    _I.CONNECTION_LOST: DataHaltReason.CONNECT_ERROR,
    _I.MEDIA_ERROR: DataHaltReason.MEDIA_ERROR,
    _I.NO_SPLIT: DataHaltReason.NO_SPLIT,
}

DATA_PAUSE_REASONS: Final[dict[DataInput, DataPauseReason]] = {
    _I.END_OF_TAPE: DataPauseReason.EOM,
    _I.FILEMARK: DataPauseReason.EOF,
}

_M = MoverState
_J = MoverInput

_MOVER_4: Final[dict[tuple[MoverState, MoverInput], MoverState]] = {
    (_M.IDLE, _J.GET_STATE): _M.IDLE,
    (_M.IDLE, _J.SET_RECORD_SIZE): _M.IDLE,
    (_M.IDLE, _J.SET_WINDOW): _M.IDLE,
    (_M.IDLE, _J.LISTEN): _M.LISTEN,
    (_M.IDLE, _J.CONNECT): _M.ACTIVE,
    (_M.LISTEN, _J.GET_STATE): _M.LISTEN,
    (_M.LISTEN, _J.CLOSE): _M.HALTED,
    (_M.LISTEN, _J.ABORT): _M.HALTED,
    (_M.LISTEN, _J.PEER_CONNECTED): _M.ACTIVE,
    (_M.LISTEN, _J.CONNECTION_LOST): _M.HALTED,
    (_M.LISTEN, _J.FAILED): _M.HALTED,
    (_M.ACTIVE, _J.GET_STATE): _M.ACTIVE,
    (_M.ACTIVE, _J.READ): _M.ACTIVE,
    (_M.ACTIVE, _J.CLOSE): _M.HALTED,
    (_M.ACTIVE, _J.ABORT): _M.HALTED,
    (_M.ACTIVE, _J.CONNECTION_CLOSED): _M.HALTED,
    (_M.ACTIVE, _J.CONNECTION_LOST): _M.HALTED,
    (_M.ACTIVE, _J.FAILED): _M.HALTED,
    (_M.ACTIVE, _J.EARLY_WARNING): _M.PAUSED,
    (_M.ACTIVE, _J.WINDOW_FULL): _M.PAUSED,
    (_M.ACTIVE, _J.FILEMARK): _M.PAUSED,
    (_M.ACTIVE, _J.END_OF_DATA): _M.PAUSED,
    (_M.ACTIVE, _J.OUTSIDE_WINDOW): _M.PAUSED,
    (_M.ACTIVE, _J.MEDIA_ERROR): _M.HALTED,
    (_M.PAUSED, _J.GET_STATE): _M.PAUSED,
    (_M.PAUSED, _J.SET_WINDOW): _M.PAUSED,
    (_M.PAUSED, _J.CONTINUE): _M.ACTIVE,
    (_M.PAUSED, _J.CLOSE): _M.HALTED,
    (_M.PAUSED, _J.ABORT): _M.HALTED,
    (_M.PAUSED, _J.CONNECTION_CLOSED): _M.HALTED,
    (_M.PAUSED, _J.CONNECTION_LOST): _M.HALTED,
    (_M.PAUSED, _J.FAILED): _M.HALTED,
    (_M.HALTED, _J.GET_STATE): _M.HALTED,
    (_M.HALTED, _J.ABORT): _M.HALTED,
    (_M.HALTED, _J.STOP): _M.IDLE,
}

_MOVER_3: Final = _MOVER_4 | {
    (_M.LISTEN, _J.SET_WINDOW): _M.LISTEN,
    (_M.ACTIVE, _J.MEDIA_ERROR): _M.PAUSED,
}

_MOVER_2: Final = {pair: state for pair, state in _MOVER_3.items() if pair[1] is not _J.CONNECT}

MOVER_TRANSITIONS: Final = {2: _MOVER_2, 3: _MOVER_3, 4: _MOVER_4}
"""version -> (state, input) -> state."""

_OWN_MOVER_VERSION: Final = 4


def mover_version(version: int) -> int:
    """The version whose MOVER rules a session follows.

    Control's own mover in version 1 follows version 4's: at a tape error it halts, as NDMPv1 3.5.2 wants it.
    """
    return _OWN_MOVER_VERSION if version == 1 else version


MOVER_PAUSE_REASONS: Final[dict[MoverInput, MoverPauseReason]] = {
    _J.EARLY_WARNING: MoverPauseReason.EOM,
    _J.WINDOW_FULL: MoverPauseReason.EOW,
    _J.FILEMARK: MoverPauseReason.EOF,
    _J.END_OF_DATA: MoverPauseReason.EOM,
    _J.OUTSIDE_WINDOW: MoverPauseReason.SEEK,
    _J.MEDIA_ERROR: MoverPauseReason.MEDIA_ERROR,
}

MOVER_HALT_REASONS: Final[dict[MoverInput, MoverHaltReason]] = {
    _J.CLOSE: MoverHaltReason.CONNECT_CLOSED,
    _J.ABORT: MoverHaltReason.ABORTED,
    _J.CONNECTION_CLOSED: MoverHaltReason.CONNECT_CLOSED,
    _J.CONNECTION_LOST: MoverHaltReason.CONNECT_ERROR,
    _J.FAILED: MoverHaltReason.INTERNAL_ERROR,
    _J.MEDIA_ERROR: MoverHaltReason.MEDIA_ERROR,
}

StateT = TypeVar("StateT", bound=DataState | MoverState)
InputT = TypeVar("InputT", bound=DataInput | MoverInput)


class _Machine(Generic[StateT, InputT]):
    """A table applied."""

    def __init__(self, name: str, transitions: Mapping[tuple[StateT, InputT], StateT], state: StateT) -> None:
        self._name = name
        self._transitions = transitions
        self.state: StateT = state
        self.local = False
        """Whether the data connection is (to be) with the other machine of this session."""

    def can(self, signal: InputT) -> bool:
        """Whether the present state takes an input."""
        return (self.state, signal) in self._transitions

    def audit(self, signal: InputT) -> None:
        """Raise IllegalStateError for an input that the present state does not take."""
        if not self.can(signal):
            raise IllegalStateError(f"{self._name} {signal} in state {self.state.name}")

    def _move(self, signal: InputT) -> bool:
        self.audit(signal)
        before = self.state
        self.state = self._transitions[before, signal]
        return self.state != before


class DataMachine(_Machine[DataState, DataInput]):
    """The DATA machine of one connection. `operation` is set by who starts one; STOP clears it."""

    def __init__(self, version: int) -> None:
        super().__init__("DATA", DATA_TRANSITIONS[version], DataState.IDLE)
        self.halt_reason = DataHaltReason.NA
        self.pause_reason = DataPauseReason.NA
        self.operation = DataOperation.NOACTION

    def apply(self, signal: DataInput) -> bool:
        """Move; returns whether the state changed, so that a change to PAUSED or HALTED is posted once.

        Raises:
            IllegalStateError: the state does not take the input; nothing has changed.
        """
        moved = self._move(signal)
        if moved:
            self.pause_reason = DATA_PAUSE_REASONS.get(signal, DataPauseReason.NA)
        if moved and self.state is DataState.HALTED:
            self.halt_reason = DATA_HALT_REASONS[signal]
        elif self.state is DataState.IDLE:
            self.halt_reason = DataHaltReason.NA
            self.operation = DataOperation.NOACTION
            self.local = False
        return moved


class MoverMachine(_Machine[MoverState, MoverInput]):
    """The MOVER machine of one connection. `mode` is set by who listens or connects; STOP clears it."""

    def __init__(self, version: int) -> None:
        super().__init__("MOVER", MOVER_TRANSITIONS[mover_version(version)], MoverState.IDLE)
        self.pause_reason = MoverPauseReason.NA
        self.halt_reason = MoverHaltReason.NA
        self.mode = MoverMode.NOACTION

    def apply(self, signal: MoverInput) -> bool:
        """Move; returns whether the state changed, so that a change to PAUSED or HALTED is posted once.

        Raises:
            IllegalStateError: the state does not take the input; nothing has changed.
        """
        moved = self._move(signal)
        if not moved:
            return False
        self.pause_reason = MoverPauseReason.NA
        match self.state:
            case MoverState.PAUSED:
                self.pause_reason = MOVER_PAUSE_REASONS[signal]
            case MoverState.HALTED:
                self.halt_reason = MOVER_HALT_REASONS[signal]
            case MoverState.IDLE:
                self.halt_reason = MoverHaltReason.NA
                self.mode = MoverMode.NOACTION
                self.local = False
            case _:
                pass
        return True


class Joint(msgspec.Struct, frozen=True):
    """What a request with address LOCAL needs of the other machine, and which input that one gets."""

    needs: DataState | MoverState
    gives: DataInput | MoverInput


_TO_MOVER = Joint(MoverState.LISTEN, MoverInput.PEER_CONNECTED)
_TO_DATA = Joint(DataState.LISTEN, DataInput.PEER_CONNECTED)

DATA_JOINT: Final[dict[tuple[int, DataInput], Joint]] = {
    (1, DataInput.START): _TO_MOVER,  # always LOCAL
    (2, DataInput.START): _TO_MOVER,
    (3, DataInput.CONNECT): _TO_MOVER,
    (4, DataInput.CONNECT): _TO_MOVER,
}
"""(version, input) of DATA with address LOCAL -> what MOVER needs and gets."""

MOVER_JOINT: Final[dict[tuple[int, MoverInput], Joint]] = {
    (3, MoverInput.CONNECT): _TO_DATA,
    (4, MoverInput.CONNECT): _TO_DATA,
}
"""(version, input) of MOVER with address LOCAL -> what DATA needs and gets."""

_DATA_CONNECTS: Final = {1: {DataInput.START}, 2: {DataInput.START}, 3: {DataInput.LISTEN, DataInput.CONNECT}}
_DATA_CONNECTS[4] = _DATA_CONNECTS[3]


class SessionMachines:
    """The two machines of one connection and the rules that join them.

    LOCAL binds the two to each other. Any other address type needs the other machine IDLE: one connection
    controls one end of a TCP data connection.
    """

    def __init__(self, version: int) -> None:
        self.version = version
        self.data = DataMachine(version)
        self.mover = MoverMachine(version)

    def audit_data(self, signal: DataInput, *, local: bool) -> None:
        """Raise IllegalStateError for a LISTEN, CONNECT or (v1, v2) START of DATA that cannot be."""
        self.data.audit(signal)
        joint = DATA_JOINT.get((self.version, signal))
        if local and joint is not None and not (self.mover.state == joint.needs and self.mover.local):
            raise IllegalStateError(f"DATA {signal} LOCAL with MOVER {self.mover.state.name}")
        if not local and signal in _DATA_CONNECTS[self.version] and self.mover.state is not MoverState.IDLE:
            raise IllegalStateError(f"DATA {signal} with MOVER {self.mover.state.name}")

    def apply_data(self, signal: DataInput, *, local: bool) -> None:
        """Move DATA by a LISTEN, CONNECT or (v1, v2) START, and MOVER with it where they are joined."""
        self.audit_data(signal, local=local)
        self.data.apply(signal)
        self.data.local = local
        joint = DATA_JOINT.get((self.version, signal))
        if local and joint is not None and isinstance(joint.gives, MoverInput):
            self.mover.apply(joint.gives)

    def audit_mover(self, signal: MoverInput, *, local: bool) -> None:
        """Raise IllegalStateError for a LISTEN or CONNECT of MOVER that cannot be."""
        self.mover.audit(signal)
        joint = MOVER_JOINT.get((self.version, signal))
        if local and joint is not None and not (self.data.state == joint.needs and self.data.local):
            raise IllegalStateError(f"MOVER {signal} LOCAL with DATA {self.data.state.name}")
        if not local and self.data.state is not DataState.IDLE:
            raise IllegalStateError(f"MOVER {signal} with DATA {self.data.state.name}")

    def apply_mover(self, signal: MoverInput, *, local: bool) -> None:
        """Move MOVER by a LISTEN or CONNECT, and DATA with it where they are joined."""
        self.audit_mover(signal, local=local)
        self.mover.apply(signal)
        self.mover.local = local
        joint = MOVER_JOINT.get((self.version, signal))
        if local and joint is not None and isinstance(joint.gives, DataInput):
            self.data.apply(joint.gives)

    def audit_start(self, mode: MoverMode) -> None:
        """Raise IllegalStateError for a START (v3 on) over LOCAL whose mover is not active in `mode`.

        READ for a backup, WRITE for a recover.
        """
        self.data.audit(DataInput.START)
        if self.data.local and not (self.mover.state is MoverState.ACTIVE and self.mover.mode is mode):
            raise IllegalStateError(f"START with MOVER {self.mover.state.name} in mode {self.mover.mode.name}")
