"""What a backup takes and leaves out, over the wire: refusals, and the levels of a set of subtrees."""

from pathlib import Path

import pytest

from mover.ndmp.enums import DataHaltReason, DataState, ErrorCode, MoverMode
from mover.ndmp.messages import (
    DataGetEnvReply,
    DataGetEnvRequest,
    DataGetStateReply,
    DataGetStateRequest,
    DataStartBackupRequest,
    DataStopRequest,
)
from tests.support.ndmp_client import Job, pairs
from tests.support.servers import Login, Server

SUBTREES = {"MULTI_SUBTREE_NAMES": "a\nb/below", "DMP_NAME": "set"}


@pytest.fixture
def source(shm: Path) -> Path:
    for path in ("a/one", "b/below/two", "b/three", "c/four"):
        (shm / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        (shm / "source" / path).write_text(path)
    return shm / "source"


@pytest.mark.slow
def test_what_cannot_be_meant_is_refused_and_the_next_start_is_taken(local: Server, login: Login, source: Path) -> None:
    wrong = [
        {"MULTI_SUBTREE_NAMES": "a"},
        {"MULTI_SUBTREE_NAMES": "a\nnowhere", "DMP_NAME": "set"},
        {"MULTI_SUBTREE_NAMES": "../source", "DMP_NAME": "set"},
        {"EXCLUDE": ",".join(map(str, range(33)))},
        {"EXCLUDE": "a*b"},
        {"EXCLUDE_IF_PRESENT": "a/b"},
        {"CROSS_FILE_SYSTEMS": "maybe"},
    ]
    with Job.connect(local, local, login) as job:
        job.connect_data(MoverMode.READ)
        for env in wrong:
            request = DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source), **env))
            assert job.data.error(request) == ErrorCode.ILLEGAL_ARGS_ERR
            state = job.data.ok(DataGetStateRequest())
            assert isinstance(state, DataGetStateReply)
            assert state.state == DataState.CONNECTED
        job.data.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source), **SUBTREES)))
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL


@pytest.mark.slow
def test_levels_of_a_set_of_subtrees(local: Server, login: Login, source: Path) -> None:
    def level(number: int, **env: str) -> tuple[bytes, int]:
        """The LEVEL that the backup turned out to have, and how many dump dates there are then."""
        with Job.connect(local, local, login) as job:
            job.start_backup(str(source), LEVEL=str(number), **env)
            assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
            reply = job.data.ok(DataGetEnvRequest())
            assert isinstance(reply, DataGetEnvReply)
            job.tape.mover_halted()
            job.data.ok(DataStopRequest())
            job.data.hang_up()
        listed = local.ask("dumpdates", "list")["dump-dates"]
        assert isinstance(listed, list)
        return {pair.name: pair.value for pair in reply.env}[b"LEVEL"], len(listed)

    assert level(0, **SUBTREES) == (b"0", 1)
    assert level(1) == (b"0", 2)  # of everything there is no base yet
    assert level(1, **SUBTREES) == (b"1", 3)
    assert level(2) == (b"2", 4)


@pytest.mark.slow
def test_a_misspelt_variable_is_told(local: Server, login: Login, source: Path) -> None:
    with Job.connect(local, local, login) as job:
        job.start_backup(str(source), EXLUDE="one", OF_ANOTHER_DMA="x")
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        told = [line for line in job.data.log() if "variable" in line]
        assert told == ["'EXLUDE' is no variable of a backup and was not followed; is EXCLUDE meant?"]
