"""Every record size over the wire, in every version: what is on tape, what is counted, and that the pad does not come
back.

Source: states.md 2.4, 4.3 to 4.6.
"""

import random
import socket
import threading
from pathlib import Path
from typing import Final

import pytest

from mover.dma.compare import compare_trees
from mover.ndmp.enums import MoverHaltReason, MoverMode, MoverPauseReason, TapeMode, TapeOperation
from mover.ndmp.messages import (
    MoverReadRequest,
    MoverStopRequest,
    NotifyMoverHaltedPost,
    NotifyMoverPausedPost,
    TapeCloseRequest,
    TapeGetStateReply,
    TapeGetStateRequest,
    TapeMtioRequest,
    TapeReadReply,
    TapeReadRequest,
)
from tests.support import v1_client as v1
from tests.support.cartridges import receive, take
from tests.support.ndmp_client import NdmpClient
from tests.support.record_sizes import RECORD_SIZES
from tests.support.servers import Login, Server
from tests.support.stages import listen, mover_state, open_tape, stage
from tests.support.trees import make_small_files
from tests.support.v1_jobs import connect, env_of, halted, open_drive, recover

pytestmark = pytest.mark.slow

NOISE: Final = random.Random(13).randbytes(3 * RECORD_SIZES[-1])
REW, EOF = TapeOperation.REW, TapeOperation.EOF


def send(connection: socket.socket, data: bytes) -> threading.Thread:
    """The stream and its end, in the background."""

    def run() -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def blockno(client: NdmpClient) -> int:
    state = client.ok(TapeGetStateRequest())
    assert isinstance(state, TapeGetStateReply)
    return state.blockno


@pytest.mark.parametrize("version", [2, 3, 4])
def test_records_of_every_size(version: int, shared: Server, login: Login) -> None:
    """Two whole records, then one byte: the third record is a byte and its pad, of which nothing is counted."""
    for size in RECORD_SIZES:
        data = NOISE[: 2 * size + 1]
        with stage(shared, login, version) as at:
            client = at.client
            open_tape(client)
            sender = send(at.peer.connect(listen(client, MoverMode.READ, record_size=size)), data)
            assert take(client, NotifyMoverHaltedPost).reason == MoverHaltReason.CONNECT_CLOSED
            sender.join(30)
            state = mover_state(client)
            assert (state.bytes_moved, state.record_num, state.record_size) == (len(data), 3, size)
            assert blockno(client) == 3
            client.ok(MoverStopRequest())
            client.ok(TapeMtioRequest(EOF, 1))
            client.ok(TapeMtioRequest(REW, 1))
            found = []
            for _ in range(3):
                reply = client.ok(TapeReadRequest(size))
                assert isinstance(reply, TapeReadReply)
                found.append(reply.data_in)
            assert found == [data[:size], data[size : 2 * size], data[2 * size :].ljust(size, b"\0")]
            client.ok(TapeCloseRequest())
            open_tape(client, TapeMode.READ)
            connection = at.peer.connect(listen(client, MoverMode.WRITE, record_size=size, window=(0, len(data))))
            client.ok(MoverReadRequest(0, len(data) + 1))
            assert receive(connection, len(data)) == data
            paused = take(client, NotifyMoverPausedPost)
            assert (paused.reason, paused.seek_position) == (MoverPauseReason.SEEK, len(data))
            assert mover_state(client).bytes_moved == len(data)
            client.ok(TapeCloseRequest())


def test_records_of_every_size_in_version_1(shared: Server, login: Login, shared_shm: Path) -> None:
    """The records hold the image and the pad; the recover finds the image's end by itself."""
    source = shared_shm / "small"
    make_small_files(source, files=10, directories=2)
    with connect(shared, login) as client:
        for size in RECORD_SIZES:
            open_drive(client, v1.WRITE_MODE, record=size)
            client.start_backup(env_of(source, HIST="n"))
            assert halted(client) == v1.SUCCESSFUL, client.logged()
            image = client.data_state().bytes_processed
            assert client.tape_state().blockno == -(-image // size)
            env = client.env()
            client.stop()
            client.mtio(v1.EOF)
            client.tape_close()
            target = shared_shm / f"target{size}"
            recover(client, env, target, record=size)
            assert compare_trees(source, target).differences == []
