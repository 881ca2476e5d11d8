"""Attacks on control connections: floods, garbage, clients that vanish or never read. Control serves everybody else,
stays flat, and has nothing of it left afterwards."""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from mover.admin.client import AdminClient
from mover.admin.sessions import Status, StatusReply
from mover.admin.tapes import TapeShow, TapeShowReply
from mover.ndmp.enums import (
    ConnectionStatusReason,
    DataHaltReason,
    ErrorCode,
    MessageCode,
    MoverHaltReason,
    MoverMode,
    TapeMode,
    TapeOperation,
)
from mover.ndmp.framing import mark
from mover.ndmp.header import Header
from mover.ndmp.messages import (
    Body,
    DataAbortRequest,
    DataConnectRequest,
    DataGetEnvReply,
    DataGetEnvRequest,
    DataGetStateRequest,
    DataStartBackupRequest,
    DataStartRecoverRequest,
    DataStopRequest,
    MoverAbortRequest,
    MoverCloseRequest,
    MoverListenRequest,
    MoverSetRecordSizeRequest,
    MoverSetWindowRequest,
    MoverStopRequest,
    Pval,
    RecoverName,
    TapeCloseRequest,
    TapeMtioRequest,
    TapeOpenRequest,
)
from mover.ndmp.messages.common import LocalAddress
from tests.e2e.conftest import SPARES, MakeServer
from tests.e2e.test_death import serve_reads
from tests.support.ndmp_client import ALL, DEADLINE_S, RECORD_SIZE, Job, NdmpClient, pairs
from tests.support.processes import settle, zombies
from tests.support.servers import Login, Server
from tests.support.trees import make_large_file, make_small_files

pytestmark = pytest.mark.slow  # servers of their own, and waits that are meant

MIB = 1 << 20
RESET = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module", autouse=True)
def more_files(shared_shm: Path) -> None:
    make_small_files(shared_shm / "files", files=500, directories=5)


@contextmanager
def unharmed(server: Server, *, memory_bytes: int = 8 * MIB) -> Iterator[None]:
    """Afterwards control has the descriptors, workers and memory of before, the drive is free, and it answers."""
    settle(lambda: at_rest(server), "the server at rest before")
    control = psutil.Process(server.pid)
    descriptors, memory = control.num_fds(), control.memory_info().rss
    yield
    settle(lambda: at_rest(server), "the server at rest again", 30)
    settle(lambda: control.num_fds() <= descriptors, f"control back to {descriptors} descriptors")
    assert zombies(server) == []
    assert control.memory_info().rss - memory < memory_bytes


def at_rest(server: Server) -> bool:
    with AdminClient(server.ready.admin_socket) as admin:
        sessions, tapes = admin.ask(Status()), admin.ask(TapeShow())
    assert isinstance(sessions, StatusReply)
    assert isinstance(tapes, TapeShowReply)
    free = all(drive.state == "loaded" for drive in tapes.drives)
    return sessions.sessions == [] and free and sum(map(is_worker, server.processes())) == SPARES


def is_worker(process: psutil.Process) -> bool:
    try:
        return process.name().startswith("mover-") and not process.name().endswith("-tpl")
    except psutil.NoSuchProcess:
        return False


def record(body: bytes, code: int, *, message_type: int = 0) -> bytes:
    payload = Header(7, 0, message_type, code, 0, 0).encode() + body
    return mark(len(payload)) + payload


def raw(server: Server) -> socket.socket:
    host, _, port = server.address.rpartition(":")
    return socket.create_connection((host, int(port)), DEADLINE_S)


def read_exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := connection.recv(count - len(data))):
        data += piece
    return data


def send_all(connection: socket.socket, data: bytes) -> bool:
    """Whether the server took it all."""
    try:
        connection.sendall(data)
    except (ConnectionResetError, BrokenPipeError):
        return False
    return True


def closed(connection: socket.socket) -> bool:
    """Whether the server has ended the connection, whatever it said before."""
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


# --- bytes


FLOODS: dict[str, bytes] = {
    "two gibibytes announced": b"\xff\xff\xff\xff",
    "a limit passed in pieces": struct.pack(">I", 33 << 20),
    "empty fragments": bytes(4) * 100_000,
    "empty messages": b"\x80\0\0\0" * 1000,
    "short messages": (b"\x80\0\0\4" + b"abcd") * 1000,
    "noise": bytes(range(256)) * 4096,
    "replies": record(bytes(4), MessageCode.CONNECT_OPEN, message_type=1) * 100,
    "posts": record(bytes(4), MessageCode.NOTIFY_DATA_HALTED) * 100,
    "other kinds": record(bytes(4), MessageCode.CONNECT_OPEN, message_type=77) * 100,
}


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("logged_in", [False, True])
def test_a_flood_ends_its_connection(flood: str, logged_in: bool, shared: Server, login: Login) -> None:
    with unharmed(shared), NdmpClient(shared.address, login=login if logged_in else None) as client:
        send_all(client.socket, FLOODS[flood])
        assert closed(client.socket)


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_message_of_tiny_fragments_is_read(size: int, shared: Server, login: Login) -> None:
    with unharmed(shared), NdmpClient(shared.address, login=login) as client:
        request = DataStartBackupRequest(b"dump", tuple(Pval(b"N%d" % number, b"v" * 100) for number in range(1024)))
        sequence, data = client.protocol.request(request)
        payload, pieces = data[4:], []
        for start in range(0, len(payload), size):
            piece = payload[start : start + size]
            last = 0x8000_0000 if start + size >= len(payload) else 0
            pieces.append(struct.pack(">I", last | len(piece)) + piece)
        client.socket.sendall(b"".join(pieces))
        assert client.reply_to(sequence, "the start").error == ErrorCode.ILLEGAL_STATE_ERR


def test_a_flood_of_one_byte_fragments_takes_its_length_in_memory(shared: Server, login: Login) -> None:
    with unharmed(shared, memory_bytes=16 * MIB), NdmpClient(shared.address, login=login) as client:
        control = psutil.Process(shared.pid)
        before = control.memory_info().rss
        for _ in range(20):
            client.socket.sendall((struct.pack(">I", 1) + b"x") * 100_000)
            assert control.memory_info().rss - before < 16 * MIB


def test_an_endless_array_is_refused_at_once(shared: Server, login: Login) -> None:
    with unharmed(shared, memory_bytes=80 * MIB), NdmpClient(shared.address, login=login) as client:
        count = 3_900_000
        body = struct.pack(">I", 4) + b"dump" + struct.pack(">I", count) + bytes(8 * count)
        client.socket.sendall(record(body, MessageCode.DATA_START_BACKUP))
        reply = read_exactly(client.socket, 28)
        assert struct.unpack(">I", reply[24:])[0] == ErrorCode.XDR_DECODE_ERR


def test_a_giant_environment_is_refused_and_not_kept(shared: Server, login: Login, shared_shm: Path) -> None:
    with unharmed(shared, memory_bytes=80 * MIB), Job.connect(shared, shared, login) as job:
        job.connect_data(MoverMode.READ)
        root = pairs(FILESYSTEM=str(shared_shm / "files"))
        giant = tuple(Pval(b"V%d" % number, bytes(MIB - 16)) for number in range(31))
        assert job.data.error(DataStartBackupRequest(b"dump", root + giant)) == ErrorCode.ILLEGAL_ARGS_ERR
        many = tuple(Pval(b"V%d" % number, bytes(4000)) for number in range(1023))
        job.data.ok(DataStartBackupRequest(b"dump", root + many))
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        env = job.data.ok(DataGetEnvRequest())
        assert isinstance(env, DataGetEnvReply)
        assert set(many) <= set(env.env)
        job.data.hang_up()


def test_sessions_past_the_limit_are_refused(shared: Server, login: Login) -> None:
    """And who does not log in leaves some to others."""
    with unharmed(shared):
        connections = [raw(shared) for _ in range(300)]
        reasons = []
        for connection in connections:
            greeting = read_exactly(connection, 36)
            reasons.append(ConnectionStatusReason(struct.unpack(">I", greeting[28:32])[0]))
        assert reasons.count(ConnectionStatusReason.CONNECTED) == 48
        assert reasons.count(ConnectionStatusReason.REFUSED) == 252
        host, _, port = shared.address.rpartition(":")
        with contextlib.ExitStack() as stack:
            for _ in range(16):
                other = socket.create_connection((host, int(port)), timeout=DEADLINE_S, source_address=("127.0.0.2", 0))
                client = stack.enter_context(NdmpClient(shared.address, login=login, connection=other))
                client.ok(DataGetStateRequest())
        for connection in connections:
            connection.close()
    with NdmpClient(shared.address, login=login) as client:
        client.hang_up()


# --- clients that do not read


def test_a_client_that_pipelines_and_never_reads_costs_nothing(shared: Server, login: Login) -> None:
    with unharmed(shared), NdmpClient(shared.address, login=login) as client:
        _, request = client.protocol.request(DataGetStateRequest())
        client.socket.settimeout(1)
        sent = 0
        try:
            for _ in range(200):
                client.socket.sendall(request * 1000)
                sent += 1000
        except TimeoutError:
            pass  # nobody takes more: the server waits for us
        assert sent < 200_000


def test_a_job_waits_for_a_client_that_reads_neither_replies_nor_posts(
    shared: Server, login: Login, shared_shm: Path
) -> None:
    """Its 20,000 posts must not pile up behind a reply that nobody reads, and come all in the end."""
    wanted = 20_000
    with Job.connect(shared, shared, login) as job:
        job.start_backup(str(shared_shm / "files"))
        assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
        job.data.hang_up()
    with unharmed(shared, memory_bytes=40 * MIB), Job.connect(shared, shared, login) as job:
        job.connect_data(MoverMode.WRITE)
        names = tuple(RecoverName(b"missing-%d" % number, b"") for number in range(wanted))
        root = pairs(FILESYSTEM=str(shared_shm / "files"))
        start = job.data.send(DataStartRecoverRequest(root, names, b"dump"))
        _, request = job.data.protocol.request(DataGetStateRequest())
        job.data.socket.settimeout(1)
        try:
            while True:
                job.data.socket.sendall(request * 1000)
        except TimeoutError:
            pass  # the server has stopped to read us
        before = psutil.Process(shared.pid).memory_info().rss
        time.sleep(1)
        assert psutil.Process(shared.pid).memory_info().rss - before < 4 * MIB
        job.data.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)  # with its requests cut anywhere
        assert start


# --- clients that vanish


def vanish(client: NdmpClient, how: str) -> None:
    if how == "reset":
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.socket.close()


def local_steps(operation: str, room: Path) -> list[Body]:
    """The requests of a local job in order."""
    mode = MoverMode.READ if operation == "backup" else MoverMode.WRITE
    names = (RecoverName(b"", os.fsencode(room / "target")),)
    env = pairs(FILESYSTEM=str(room / "source"), HIST="y")
    return [
        TapeOpenRequest(b"vtl0/drive0", TapeMode.RDWR if operation == "backup" else TapeMode.READ),
        TapeMtioRequest(TapeOperation.REW, 1),
        MoverSetRecordSizeRequest(RECORD_SIZE),
        MoverSetWindowRequest(0, ALL),
        MoverListenRequest(mode, 0),
        DataConnectRequest(LocalAddress()),
        DataStartBackupRequest(b"dump", env) if operation == "backup" else DataStartRecoverRequest(env, names, b"dump"),
        DataAbortRequest(),
        MoverAbortRequest(),
        DataStopRequest(),
        MoverStopRequest(),
        TapeCloseRequest(),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["answered", "in flight"])
@pytest.mark.parametrize("how", ["reset", "closed"])
@pytest.mark.parametrize("operation", ["backup", "recover"])
def test_a_client_that_vanishes_at_any_step_leaves_nothing(
    operation: str, how: str, asked: str, shared: Server, login: Login, shared_shm: Path
) -> None:
    steps = local_steps(operation, shared_shm)
    for count in range(1, len(steps) + 1):
        with unharmed(shared):
            client = NdmpClient(shared.address, login=login)
            for request in steps[: count - 1]:
                client.ok(request)
            if asked == "answered":
                client.ok(steps[count - 1])
            else:
                client.send(steps[count - 1])
            vanish(client, how)


@pytest.mark.parametrize("operation", ["backup", "recover"])
@pytest.mark.parametrize("last", [MoverAbortRequest(), MoverCloseRequest(), DataAbortRequest()])
def test_a_client_that_vanishes_behind_its_abort_leaves_nothing(
    last: Body, operation: str, shared: Server, login: Login, shared_shm: Path
) -> None:
    with Job.connect(shared, shared, login) as job:  # so that a recover has something to read
        job.start_backup(str(shared_shm / "source"))
        assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
        job.data.hang_up()
    steps = local_steps(operation, shared_shm)[:7]
    with unharmed(shared):
        for _ in range(8):
            client = NdmpClient(shared.address, login=login)
            for request in steps:
                client.ok(request)
            client.send(last)
            vanish(client, "reset")
            settle(lambda: at_rest(shared), "the drive is free for the next")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["reset", "closed"])
@pytest.mark.parametrize("who", ["data", "tape", "both"])
@pytest.mark.parametrize("data_listens", [False, True])
def test_a_client_that_vanishes_from_a_three_way_job_leaves_nothing(
    data_listens: bool, who: str, how: str, make_server: MakeServer, login: Login, shm: Path
) -> None:
    tape, data = make_server("tape-host"), make_server("file-server", drives=0)
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=64 * MIB)
    for operation in ("backup", "recover"):
        if operation == "recover":
            with Job.connect(data, tape, login) as job:
                job.start_backup(str(source))
                assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
        for point in ("connected", "started", "reading"):
            with unharmed(tape), unharmed(data):
                job = Job.connect(data, tape, login)
                mode = MoverMode.READ if operation == "backup" else MoverMode.WRITE
                job.connect_data(mode, data_listens=data_listens)
                if point != "connected":
                    start(job, operation, source, shm / "target")
                if point == "reading":
                    serve_reads(job)
                if who in {"data", "both"}:
                    vanish(job.data, how)
                if who in {"tape", "both"}:
                    vanish(job.tape, how)
                if who == "data":
                    assert job.tape.mover_halted() == MoverHaltReason.CONNECT_ERROR
                if who == "tape":
                    assert job.data.data_halted() == DataHaltReason.CONNECT_ERROR
                job.close()


def start(job: Job, operation: str, source: Path, target: Path) -> None:
    env = pairs(FILESYSTEM=str(source), HIST="n")
    if operation == "backup":
        job.data.ok(DataStartBackupRequest(b"dump", env))
    else:
        names = (RecoverName(b"", os.fsencode(target)),)
        job.data.ok(DataStartRecoverRequest(env, names, b"dump"))
