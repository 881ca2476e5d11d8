"""The machines against a naive model, in any order of requests and events.

The model is written from states.md sections 1 to 4 as prose with `if`, without a look at the tables of the code: each
question is answered from the state's name alone. Where the prose leaves a choice, its "recommended" line is taken.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from mover.ndmp.enums import DataHaltReason, DataPauseReason, DataState, MoverHaltReason, MoverPauseReason, MoverState
from mover.ndmp.errors import IllegalStateError
from mover.ndmp.states import DataInput, DataMachine, MoverInput, SessionMachines

ILLEGAL = "illegal"


class NaiveData:
    """DATA of versions 2 to 4 (3.1 to 3.3) and of version 1 (2.1, 2.2)."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.state = "IDLE"
        self.halt = "NA"
        self.pause = "NA"
        self.local = False

    def halted(self, reason: str) -> None:
        self.state, self.halt, self.pause = "HALTED", reason, "NA"

    def illegal(self, signal: DataInput) -> bool:
        at = self.state
        working = at in {"LISTEN", "CONNECTED", "ACTIVE"}
        match signal:
            case DataInput.GET_STATE:
                return False
            case DataInput.GET_ENV:
                return at in {"IDLE", "LISTEN", "CONNECTED"}
            case DataInput.LISTEN | DataInput.CONNECT:
                return self.version < 3 or at != "IDLE"
            case DataInput.START:
                return at != ("IDLE" if self.version < 3 else "CONNECTED")
            case DataInput.ABORT:
                if self.version < 3:  # no operation in progress: neither IDLE nor HALTED
                    return at in {"IDLE", "HALTED"}
                return at == "IDLE"
            case DataInput.STOP:
                return at != "HALTED"
            case DataInput.CONTINUE:
                return at != "PAUSED"
            case DataInput.PEER_CONNECTED:
                return at != "LISTEN"
            case DataInput.COMPLETE:
                return at != "ACTIVE"
            case DataInput.CONNECTION_LOST:
                return self.version == 1 or not working
            case DataInput.FAILED:
                return not (working or at == "PAUSED")
            case _:  # what happens on the tape of version 1
                return self.version != 1 or at != "ACTIVE"

    def apply(self, signal: DataInput) -> None:
        match signal:
            case DataInput.LISTEN:
                self.state = "LISTEN"
            case DataInput.CONNECT | DataInput.PEER_CONNECTED:
                self.state = "CONNECTED"
            case DataInput.START | DataInput.CONTINUE:
                self.state, self.pause = "ACTIVE", "NA"
            case DataInput.ABORT if self.state != "HALTED":
                self.halted("ABORTED")
            case DataInput.COMPLETE:
                self.halted("SUCCESSFUL")
            case DataInput.FAILED:
                self.halted("INTERNAL_ERROR")
            case DataInput.CONNECTION_LOST:
                self.halted("CONNECT_ERROR")
            case DataInput.MEDIA_ERROR:
                self.halted("MEDIA_ERROR")
            case DataInput.NO_SPLIT:
                self.halted("NO_SPLIT")
            case DataInput.END_OF_TAPE:
                self.state, self.pause = "PAUSED", "EOM"
            case DataInput.FILEMARK:
                self.state, self.pause = "PAUSED", "EOF"
            case DataInput.STOP:
                self.state, self.halt, self.local = "IDLE", "NA", False
            case _:
                pass


class NaiveMover:
    """MOVER (4.1, 4.2), with CLOSE and SET_WINDOW as 4.1 and 4.4 recommend."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.state = "IDLE"
        self.halt = "NA"
        self.pause = "NA"
        self.local = False

    def illegal(self, signal: MoverInput) -> bool:
        at = self.state
        match signal:
            case MoverInput.GET_STATE:
                return False
            case MoverInput.SET_RECORD_SIZE | MoverInput.LISTEN:
                return at != "IDLE"
            case MoverInput.CONNECT:
                return self.version < 3 or at != "IDLE"
            case MoverInput.SET_WINDOW:
                return at not in ({"IDLE", "PAUSED"} if self.version >= 4 else {"IDLE", "LISTEN", "PAUSED"})
            case MoverInput.READ:
                return at != "ACTIVE"
            case MoverInput.CONTINUE:
                return at != "PAUSED"
            case MoverInput.CLOSE:
                return at in {"IDLE", "HALTED"}
            case MoverInput.ABORT:
                return at == "IDLE"
            case MoverInput.STOP:
                return at != "HALTED"
            case MoverInput.PEER_CONNECTED:
                return at != "LISTEN"
            case MoverInput.CONNECTION_CLOSED:
                return at not in {"ACTIVE", "PAUSED"}
            case MoverInput.CONNECTION_LOST | MoverInput.FAILED:
                return at in {"IDLE", "HALTED"}
            case _:  # what happens on the tape
                return at != "ACTIVE"

    def apply(self, signal: MoverInput) -> None:
        pauses = {
            MoverInput.EARLY_WARNING: "EOM",
            MoverInput.END_OF_DATA: "EOM",
            MoverInput.WINDOW_FULL: "EOW",  # version 2 says EOF: that is the edge's to change
            MoverInput.FILEMARK: "EOF",
            MoverInput.OUTSIDE_WINDOW: "SEEK",
        }
        if self.version < 4:
            pauses[MoverInput.MEDIA_ERROR] = "MEDIA_ERROR"
        halts = {
            MoverInput.CLOSE: "CONNECT_CLOSED",
            MoverInput.CONNECTION_CLOSED: "CONNECT_CLOSED",
            MoverInput.CONNECTION_LOST: "CONNECT_ERROR",
            MoverInput.FAILED: "INTERNAL_ERROR",
            MoverInput.ABORT: "ABORTED",
            MoverInput.MEDIA_ERROR: "MEDIA_ERROR",
        }
        if signal in pauses:
            self.state, self.pause = "PAUSED", pauses[signal]
        elif signal in halts and self.state != "HALTED":
            self.state, self.pause, self.halt = "HALTED", "NA", halts[signal]
        elif signal is MoverInput.LISTEN:
            self.state = "LISTEN"
        elif signal in {MoverInput.CONNECT, MoverInput.PEER_CONNECTED, MoverInput.CONTINUE}:
            self.state, self.pause = "ACTIVE", "NA"
        elif signal is MoverInput.STOP:
            self.state, self.halt, self.local = "IDLE", "NA", False


JOINING_DATA = [DataInput.LISTEN, DataInput.CONNECT, DataInput.START]
JOINING_MOVER = [MoverInput.LISTEN, MoverInput.CONNECT]


class Session(RuleBasedStateMachine):
    """One connection's machines beside their models; `version` is set by a subclass."""

    version = 4

    def __init__(self) -> None:
        super().__init__()
        self.machines = SessionMachines(self.version)
        self.data = NaiveData(self.version)
        self.mover = NaiveMover(self.version)

    def connects_data(self, signal: DataInput) -> bool:
        """Whether this input of DATA makes or awaits a data connection."""
        return signal in ({DataInput.START} if self.version == 2 else {DataInput.LISTEN, DataInput.CONNECT})

    @rule(signal=st.sampled_from(list(DataInput)))
    def data_input(self, signal: DataInput) -> None:
        if self.connects_data(signal):
            return  # the next rule's
        if self.data.illegal(signal):
            with pytest.raises(IllegalStateError):
                self.machines.data.apply(signal)
            return
        before = self.data.state
        self.data.apply(signal)
        assert self.machines.data.apply(signal) == (self.data.state != before)

    @rule(signal=st.sampled_from(JOINING_DATA), local=st.booleans())
    def data_connection(self, signal: DataInput, local: bool) -> None:
        if not self.connects_data(signal):
            return
        # LOCAL: a LISTEN needs nothing; else the mover must be in LISTEN with LOCAL. TCP: the mover must be IDLE.
        fits = self.mover.state == "IDLE"
        if local:
            fits = signal is DataInput.LISTEN or (self.mover.state == "LISTEN" and self.mover.local)
        if self.data.illegal(signal) or not fits:
            with pytest.raises(IllegalStateError):
                self.machines.apply_data(signal, local=local)
            return
        self.machines.apply_data(signal, local=local)
        self.data.apply(signal)
        self.data.local = local
        if local and signal is not DataInput.LISTEN:
            self.mover.apply(MoverInput.PEER_CONNECTED)  # "both advance at once"

    @rule(signal=st.sampled_from([each for each in MoverInput if each not in JOINING_MOVER]))
    def mover_input(self, signal: MoverInput) -> None:
        if self.mover.illegal(signal):
            with pytest.raises(IllegalStateError):
                self.machines.mover.apply(signal)
            return
        before = self.mover.state
        self.mover.apply(signal)
        assert self.machines.mover.apply(signal) == (self.mover.state != before)

    @rule(signal=st.sampled_from(JOINING_MOVER), local=st.booleans())
    def mover_connection(self, signal: MoverInput, local: bool) -> None:
        fits = self.data.state == "IDLE"
        if local:
            fits = signal is MoverInput.LISTEN or (self.data.state == "LISTEN" and self.data.local)
        if self.mover.illegal(signal) or not fits:
            with pytest.raises(IllegalStateError):
                self.machines.apply_mover(signal, local=local)
            return
        self.machines.apply_mover(signal, local=local)
        self.mover.apply(signal)
        self.mover.local = local
        if local and signal is MoverInput.CONNECT:
            self.data.apply(DataInput.PEER_CONNECTED)

    @invariant()
    def they_agree(self) -> None:
        data, mover = self.machines.data, self.machines.mover
        assert (data.state, data.halt_reason, data.local) == (
            DataState[self.data.state], DataHaltReason[self.data.halt], self.data.local,
        )  # fmt: skip
        assert (mover.state, mover.halt_reason, mover.pause_reason, mover.local) == (
            MoverState[self.mover.state], MoverHaltReason[self.mover.halt], MoverPauseReason[self.mover.pause],
            self.mover.local,
        )  # fmt: skip


class FirstVersion(RuleBasedStateMachine):
    """DATA of version 1, which has no data connection and no MOVER."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = DataMachine(1)
        self.model = NaiveData(1)

    @rule(signal=st.sampled_from(list(DataInput)))
    def data_input(self, signal: DataInput) -> None:
        if self.model.illegal(signal):
            with pytest.raises(IllegalStateError):
                self.machine.apply(signal)
            return
        before = self.model.state
        self.model.apply(signal)
        assert self.machine.apply(signal) == (self.model.state != before)

    @invariant()
    def they_agree(self) -> None:
        assert (self.machine.state, self.machine.halt_reason, self.machine.pause_reason) == (
            DataState[self.model.state], DataHaltReason[self.model.halt], DataPauseReason[self.model.pause],
        )  # fmt: skip


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_any_walk(version: int) -> None:
    walk = FirstVersion if version == 1 else type(f"Session{version}", (Session,), {"version": version})
    run_state_machine_as_test(walk, settings=settings(max_examples=150, stateful_step_count=40, deadline=None))
