"""What one connection can make the control process keep: the bound that docs/architecture.md states, at its worst."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from mover.ndmp.enums import ErrorCode, MessageCode, MoverMode
from mover.ndmp.messages import (
    DataConnectRequest,
    DataGetStateRequest,
    DataStartBackupRequest,
    DataStartRecoverRequest,
    Pval,
    RecoverName,
    TapeWriteRequest,
    TcpAddress,
    TcpEndpoint,
)
from mover.ndmp.xdr import ELEMENTS_MAX
from tests.e2e.test_attacks_wire import at_rest, closed, read_exactly, record, send_all
from tests.support.ndmp_client import Job, NdmpClient, pairs
from tests.support.processes import settle
from tests.support.servers import Login, Server

pytestmark = pytest.mark.slow

MIB = 1 << 20
RECORD = 32 * MIB
AUTHENTICATED_MAX = 256 * MIB
UNAUTHENTICATED_MAX = 2 * MIB
ROUNDS = 3
"""One connection after the other: what the first one took is there for the next."""
ANY_LOGIN = [False, True]


def peak_bytes(server: Server) -> int:
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    (line,) = (each for each in lines if each.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@contextmanager
def bounded(server: Server, limit_bytes: int) -> Iterator[None]:
    """The control process stays within so much more than before at any moment."""
    settle(lambda: at_rest(server), "the server at rest before")
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the peak begins anew
    before = psutil.Process(server.pid).memory_info().rss
    yield
    settle(lambda: at_rest(server), "the server at rest again", 30)
    assert peak_bytes(server) - before <= limit_bytes


@pytest.fixture
def server(local: Server) -> Server:
    return local


def fragmented(payload: bytes, size: int) -> bytes:
    pieces = []
    for start in range(0, len(payload), size):
        piece = payload[start : start + size]
        last = 0x8000_0000 if start + size >= len(payload) else 0
        pieces.append(struct.pack(">I", last | len(piece)) + piece)
    return b"".join(pieces)


def test_without_a_login_a_message_ends_its_connection_early(server: Server) -> None:
    with bounded(server, UNAUTHENTICATED_MAX), NdmpClient(server.address) as client:
        send_all(client.socket, struct.pack(">I", 0x8000_0000 | RECORD) + bytes(RECORD))
        assert closed(client.socket)


@pytest.mark.parametrize("logged_in", ANY_LOGIN)
def test_a_flood_of_requests_that_nobody_reads_the_answers_of(logged_in: bool, server: Server, login: Login) -> None:
    known = login if logged_in else None
    with bounded(server, UNAUTHENTICATED_MAX + MIB), NdmpClient(server.address, login=known) as client:
        _, request = client.protocol.request(DataGetStateRequest())
        client.socket.settimeout(1)
        with pytest.raises(OSError):  # noqa: PT011 - it takes no more: a time-out, or closed
            client.socket.sendall(request * 400_000)


@pytest.mark.parametrize("size", [RECORD, 512])
def test_the_longest_record(size: int, server: Server, login: Login) -> None:
    """In one fragment, and in many."""
    with bounded(server, AUTHENTICATED_MAX), NdmpClient(server.address, login=login) as client:
        sequence, data = client.protocol.request(TapeWriteRequest(bytes(RECORD - 64)))
        client.socket.sendall(data if size == RECORD else fragmented(data[4:], size))
        assert client.reply_to(sequence, "TAPE_WRITE").error == ErrorCode.ILLEGAL_ARGS_ERR
        client.hang_up()


def test_a_fragment_that_never_ends(server: Server, login: Login) -> None:
    with bounded(server, AUTHENTICATED_MAX):
        for _ in range(ROUNDS):
            with NdmpClient(server.address, login=login) as client:
                client.socket.sendall(struct.pack(">I", 0x8000_0000 | RECORD) + bytes(RECORD - 1))
                assert client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_the_most_pairs(server: Server, login: Login) -> None:
    """Ten thousand, then as many as an array may have; refused for their sum or for their state, and not kept."""
    with bounded(server, AUTHENTICATED_MAX):
        for count in (10_000, ELEMENTS_MAX, ELEMENTS_MAX):
            value = bytes((RECORD - 8192) // count - 24)
            env = tuple(Pval(b"N%06d" % number, value) for number in range(count))
            with NdmpClient(server.address, login=login) as client:
                assert client.error(DataStartBackupRequest(b"dump", env)) == ErrorCode.ILLEGAL_STATE_ERR
                client.hang_up()


@pytest.mark.parametrize("name_bytes", [16, 400])
def test_the_most_names(name_bytes: int, server: Server, login: Login, shm: Path) -> None:
    with bounded(server, AUTHENTICATED_MAX), Job.connect(server, server, login) as job:
        job.connect_data(MoverMode.WRITE)
        names = tuple(RecoverName(b"%07d/" % number + b"x" * (name_bytes - 8), b"") for number in range(ELEMENTS_MAX))
        root = pairs(FILESYSTEM=str(shm))
        assert job.data.error(DataStartRecoverRequest(root, names, b"dump")) in {
            ErrorCode.NO_ERR, ErrorCode.ILLEGAL_ARGS_ERR,
        }  # fmt: skip
        job.data.hang_up()


def test_short_names_in_a_long_root(server: Server, login: Login, shm: Path) -> None:
    """A megabyte of root before each of sixty thousand names would be sixty gigabytes."""
    with bounded(server, AUTHENTICATED_MAX), Job.connect(server, server, login) as job:
        job.connect_data(MoverMode.WRITE)
        names = tuple(RecoverName(b"%d" % number, b"") for number in range(ELEMENTS_MAX))
        root = pairs(FILESYSTEM=str(shm) + "/d" * (500 * 1024))
        assert job.data.error(DataStartRecoverRequest(root, names, b"dump")) == ErrorCode.ILLEGAL_ARGS_ERR
        job.data.hang_up()


def test_arrays_in_arrays(server: Server, login: Login) -> None:
    """Addresses with options: millions of empty pairs would fit into a record, and are not decoded."""
    endpoint = TcpEndpoint(0x7F00_0001, 1, (Pval(b"", b""),) * ELEMENTS_MAX)
    with bounded(server, AUTHENTICATED_MAX), NdmpClient(server.address, login=login) as client:
        reply = client.ask(DataConnectRequest(TcpAddress((endpoint,) * 60)))
        assert reply.header.error == ErrorCode.XDR_DECODE_ERR
        client.hang_up()


def test_an_array_that_only_says_it_is_long(server: Server, login: Login) -> None:
    with bounded(server, UNAUTHENTICATED_MAX), NdmpClient(server.address, login=login) as client:
        body = struct.pack(">I", 4) + b"dump" + struct.pack(">I", 0xFFFF_FFFF)
        client.socket.sendall(record(body, MessageCode.DATA_START_BACKUP))
        assert struct.unpack(">I", read_exactly(client.socket, 28)[24:])[0] == ErrorCode.XDR_DECODE_ERR
        client.hang_up()
