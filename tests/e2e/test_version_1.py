"""Version 1 through the real server and a client that shares no line with it: the draft's three configurations.

Source: NDMPv1 (October 1996) sections 2.1 (simple, two drives, jukebox), 2.3 and 3; states.md section 2.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from tests.e2e.conftest import MakeServer
from tests.support import v1_client as v1
from tests.support.servers import Login, Server
from tests.support.trees import make_large_file, make_small_files
from tests.support.v1_client import V1Client, refusal

pytestmark = pytest.mark.slow

RECORD = 20_480
DRIVE, OTHER_DRIVE = "vtl0/drive0", "vtl0/drive1"
FH_UNKNOWN = 2**64 - 1


def connect(server: Server, login: Login, *, fragments: int = 1) -> V1Client:
    return V1Client(server.address, login.user, login.password, fragments=fragments)


def open_drive(client: V1Client, mode: int, *, drive: str = DRIVE, record: int = RECORD) -> None:
    client.tape_open(drive, mode)
    client.mtio(v1.REW)
    client.set_record_size(record)


def halted(client: V1Client) -> int:
    """The reason of NOTIFY_HALTED, which comes with the state already changed."""
    _, (reason, text) = client.wait_for(v1.NOTIFY_HALTED)
    state = client.data_state()
    assert (state.state, state.halt_reason, state.pause_reason) == (v1.HALTED, reason, 0), text
    return int(reason)


def back_up(client: V1Client, env: v1.Pairs, *, drive: str = DRIVE) -> v1.Pairs:
    """A whole backup on one tape; returns the environment to recover with."""
    open_drive(client, v1.WRITE_MODE, drive=drive)
    client.start_backup(env)
    assert halted(client) == v1.SUCCESSFUL, client.logged()
    saved = client.env()
    client.stop()
    client.mtio(v1.EOF)
    client.tape_close()
    return saved


def recover(client: V1Client, env: v1.Pairs, target: Path, *, drive: str = DRIVE) -> None:
    """A whole recover from one tape."""
    open_drive(client, v1.READ_MODE, drive=drive)
    client.start_recover(env, [(b"/", bytes(target), FH_UNKNOWN)])
    assert halted(client) == v1.SUCCESSFUL, client.logged()
    client.stop()
    client.tape_close()


@pytest.fixture
def source(shm: Path) -> Path:
    make_small_files(shm / "source", files=120, directories=4)
    make_large_file(shm / "source" / "large", size=700_000)
    return shm / "source"


@pytest.mark.parametrize("fragments", [1, 2, 37])
def test_the_simple_configuration(local: Server, login: Login, source: Path, shm: Path, fragments: int) -> None:
    """2.1, figure 1: one file system to one drive, and back."""
    with connect(local, login, fragments=fragments) as client:
        env = [(b"TYPE", b"dump"), (b"HIST", b"y"), (b"LEVEL", b"0"), (b"filesystem", bytes(source))]
        saved = back_up(client, env)
        assert [pair for pair in saved if pair in env] == env
        recover(client, saved, shm / "target")
        client.hang_up()
    assert compare_trees(source, shm / "target").differences == []
