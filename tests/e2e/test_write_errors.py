"""A drive that cannot write a record: what the mover, and TAPE_WRITE, tell of it is what lies on the tape.

Source: states.md 2.2, 2.4, 4.2, 4.3, 5.5.
"""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from mover.ndmp.enums import (
    AddressType,
    DataHaltReason,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    MoverState,
    TapeOperation,
)
from mover.ndmp.messages import (
    DataConnectRequest,
    DataStartBackupRequest,
    DataStopRequest,
    MoverContinueRequest,
    MoverSetWindowRequest,
    MoverStopRequest,
    NotifyDataHaltedPost,
    NotifyMoverHaltedPost,
    NotifyMoverPausedPost,
    TapeCloseRequest,
    TapeGetStateReply,
    TapeGetStateRequest,
    TapeMtioRequest,
    TapeReadReply,
    TapeReadRequest,
    TapeWriteRequest,
)
from tests.e2e.conftest import MakeServer
from tests.support import v1_client as v1
from tests.support.cartridges import take
from tests.support.ndmp_client import ALL, NdmpClient, pairs
from tests.support.servers import Login, Server
from tests.support.stages import listen, mover_state, open_tape, stage
from tests.support.trees import make_large_file
from tests.support.v1_jobs import connect, env_of, halted, open_drive

pytestmark = pytest.mark.slow

BAD: Final = 7
GOOD: Final = BAD - 1
SIZE: Final = 20_480
STREAM: Final = random.Random(17).randbytes(10 * SIZE + 5)


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    """Its drive cannot write the seventh record since it was opened."""
    return make_server("server", extra=f'[[fault]]\ndrive = "vtl0/drive0"\nkind = "write-error"\nrecord = {BAD}\n')


@contextmanager
def sending(connection: socket.socket) -> Iterator[None]:
    """The stream and its end, in the background; whether they are taken is the test's business."""

    def run() -> None:
        try:
            connection.sendall(STREAM)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the mover has let go of it

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(30)
    assert not thread.is_alive()


def on_tape(client: NdmpClient) -> list[bytes]:
    """All records of the first tape file, as a DMA reads them."""
    client.ok(TapeMtioRequest(TapeOperation.REW, 1))
    found = []
    while (reply := client.ask(TapeReadRequest(SIZE))).error == ErrorCode.NO_ERR:
        assert isinstance(reply.body, TapeReadReply)
        found.append(reply.body.data_in)
    return found


def check_counts(client: NdmpClient) -> None:
    state = mover_state(client)
    assert (state.record_num, state.bytes_moved) == (GOOD, GOOD * SIZE)
    tape = client.ok(TapeGetStateRequest())
    assert isinstance(tape, TapeGetStateReply)
    assert (tape.file_num, tape.blockno) == (0, GOOD)


@pytest.mark.parametrize("version", [2, 3])
def test_older_versions_pause_and_the_client_may_go_on(version: int, server: Server, login: Login) -> None:
    with stage(server, login, version) as at:
        client = at.client
        open_tape(client)
        connection = at.peer.connect(listen(client, MoverMode.READ, record_size=SIZE))
        with sending(connection):
            assert take(client, NotifyMoverPausedPost).reason == MoverPauseReason.MEDIA_ERROR
            assert mover_state(client).state == MoverState.PAUSED
            check_counts(client)
            client.ok(MoverSetWindowRequest(GOOD * SIZE, ALL - GOOD * SIZE))
            client.ok(MoverContinueRequest())
            assert take(client, NotifyMoverHaltedPost).reason == MoverHaltReason.CONNECT_CLOSED
        state = mover_state(client)
        assert (state.record_num, state.bytes_moved) == (11, len(STREAM))
        client.ok(MoverStopRequest())
        assert b"".join(on_tape(client)) == STREAM.ljust(11 * SIZE, b"\0")
        client.ok(TapeCloseRequest())


@pytest.mark.parametrize("way", ["local", "three-way"])
def test_version_4_halts(way: str, server: Server, login: Login, shm: Path) -> None:
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=24 << 20)  # more than the ring holds: the backup is not through by then
    with stage(server, login, 4) as at:
        client = at.client
        open_tape(client)
        if way == "local":
            address = listen(client, MoverMode.READ, record_size=SIZE, kind=AddressType.LOCAL)
            client.ok(DataConnectRequest(address))
            client.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source))))
            assert take(client, NotifyMoverHaltedPost).reason == MoverHaltReason.MEDIA_ERROR
            assert take(client, NotifyDataHaltedPost).reason == DataHaltReason.CONNECT_ERROR
            client.ok(DataStopRequest())
        else:
            with sending(at.peer.connect(listen(client, MoverMode.READ, record_size=SIZE))):
                assert take(client, NotifyMoverHaltedPost).reason == MoverHaltReason.MEDIA_ERROR
        check_counts(client)
        client.ok(MoverStopRequest())
        found = on_tape(client)
        assert len(found) == GOOD
        assert way == "local" or b"".join(found) == STREAM[: GOOD * SIZE]
        client.ok(TapeCloseRequest())


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_record_of_the_tape_interface(version: int, server: Server, login: Login) -> None:
    with stage(server, login, version) as at:
        client = at.client
        open_tape(client)
        errors = [client.error(TapeWriteRequest(STREAM[at_ : at_ + SIZE])) for at_ in range(0, 8 * SIZE, SIZE)]
        assert errors == [*[ErrorCode.NO_ERR] * GOOD, ErrorCode.IO_ERR, ErrorCode.NO_ERR]
        assert on_tape(client) == [STREAM[at_ : at_ + SIZE] for at_ in range(0, 8 * SIZE, SIZE) if at_ != GOOD * SIZE]
        client.ok(TapeCloseRequest())


def test_version_1(server: Server, login: Login, shm: Path) -> None:
    """Its operation halts; a TAPE_WRITE of several records tells how much of it is on tape."""
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=40 * SIZE)
    with connect(server, login) as client:
        open_drive(client, v1.WRITE_MODE, record=SIZE)
        client.start_backup(env_of(source, HIST="n"))
        assert halted(client) == v1.MEDIA_ERROR, client.logged()
        assert client.data_state().bytes_processed == GOOD * SIZE
        assert client.tape_state().blockno == GOOD
        client.stop()
        client.tape_close()
        open_drive(client, v1.WRITE_MODE, record=SIZE)
        assert client.tape_write(STREAM[: 10 * SIZE]) == ("IO_ERR", GOOD * SIZE)
        assert client.tape_state().blockno == GOOD
        client.mtio(v1.REW)
        assert client.tape_read(GOOD * SIZE) == ("NO_ERR", STREAM[: GOOD * SIZE])
        client.tape_close()
