"""Every request of version 1 in every state of DATA, logins, and ends that are not good.

Source: NDMPv1 (October 1996) sections 2.3, 2.7, 3.1 and 3.5; states.md sections 2.1 and 2.2.
"""

import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from mover.dma.compare import compare_trees
from tests.e2e.conftest import MakeServer
from tests.support import v1_client as v1
from tests.support.processes import busy_worker, settle
from tests.support.servers import Login, Server, write_config
from tests.support.trees import make_small_files
from tests.support.v1_client import Failed, V1Client, pack_pairs, refusal, text
from tests.support.v1_jobs import DRIVE, FH_UNKNOWN, RECORD, back_up, connect, env_of, halted, open_drive, recover

pytestmark = pytest.mark.slow

CDB = struct.pack(">III", 1, 1000, 36) + text(bytes([0x12, 0, 0, 0, 36, 0])) + text(b"")
TARGET = text(b"") + struct.pack(">III", 0, 1, 0)

IS, ARGS, CLOSED, BUSY, NONE = (
    "ILLEGAL_STATE_ERR", "ILLEGAL_ARGS_ERR", "DEV_NOT_OPEN_ERR", "DEVICE_BUSY_ERR", "NO_ERR",
)  # fmt: skip
OPENED, UNSUPPORTED = "DEVICE_OPENED_ERR", "NOT_SUPPORTED_ERR"

# A column per state: IDLE without a drive, IDLE, ACTIVE, PAUSED, HALTED with one. Requests that would change the state
# where they are taken are not here ("-"): the jobs make them.
TABLE: list[tuple[int, bytes, tuple[str, str, str, str, str]]] = [
    (v1.CONNECT_OPEN, struct.pack(">I", 1), (IS, IS, IS, IS, IS)),  # the version is fixed once
    (v1.CONNECT_AUTH, struct.pack(">I", 2), ("-", IS, IS, IS, IS)),  # a device is open
    (v1.CONFIG_GET_HOST_INFO, b"", (NONE, NONE, NONE, NONE, NONE)),
    (v1.CONFIG_GET_BUTYPE_ATTR, text(b"dump"), (NONE, NONE, NONE, NONE, NONE)),
    (v1.CONFIG_GET_BUTYPE_ATTR, text(b"cpio"), (ARGS, ARGS, ARGS, ARGS, ARGS)),
    (v1.SCSI_OPEN, text(b"none"), ("NO_DEVICE_ERR", OPENED, OPENED, OPENED, OPENED)),
    (v1.SCSI_CLOSE, b"", (CLOSED, CLOSED, CLOSED, CLOSED, CLOSED)),
    (v1.SCSI_GET_STATE, b"", (CLOSED, CLOSED, CLOSED, CLOSED, CLOSED)),
    (v1.SCSI_SET_TARGET, TARGET, (CLOSED, CLOSED, CLOSED, CLOSED, CLOSED)),
    (v1.SCSI_RESET_DEVICE, b"", (CLOSED, CLOSED, CLOSED, CLOSED, CLOSED)),
    (v1.SCSI_RESET_BUS, b"", (CLOSED, CLOSED, CLOSED, CLOSED, CLOSED)),
    (v1.SCSI_EXECUTE_CDB, CDB, (CLOSED, CLOSED, CLOSED, CLOSED, CLOSED)),
    (v1.TAPE_OPEN, text(b"none") + struct.pack(">I", 0), ("NO_DEVICE_ERR", OPENED, OPENED, OPENED, OPENED)),
    (v1.TAPE_OPEN, text(b"none") + struct.pack(">I", 9), (ARGS, ARGS, ARGS, ARGS, ARGS)),
    (v1.TAPE_CLOSE, b"", (CLOSED, "-", BUSY, "-", "-")),
    (v1.TAPE_GET_STATE, b"", (CLOSED, NONE, NONE, NONE, NONE)),
    (v1.TAPE_MTIO, struct.pack(">II", v1.REW, 1), (CLOSED, NONE, BUSY, NONE, NONE)),
    (v1.TAPE_MTIO, struct.pack(">II", 9, 1), (ARGS, ARGS, ARGS, ARGS, ARGS)),
    (v1.TAPE_WRITE, text(b"x"), (CLOSED, NONE, BUSY, NONE, NONE)),
    (v1.TAPE_READ, struct.pack(">I", 0), (CLOSED, NONE, BUSY, NONE, NONE)),
    (v1.TAPE_SET_RECORD_SIZE, struct.pack(">I", 512), (CLOSED, NONE, IS, NONE, NONE)),
    (v1.TAPE_SET_RECORD_SIZE, struct.pack(">I", 0), (ARGS, ARGS, ARGS, ARGS, ARGS)),
    (v1.TAPE_EXECUTE_CDB, CDB, (CLOSED, NONE, BUSY, NONE, NONE)),
    (v1.DATA_GET_STATE, b"", (NONE, NONE, NONE, NONE, NONE)),
    (v1.DATA_START_BACKUP, text(b"dump") + pack_pairs([]), (ARGS, ARGS, IS, IS, IS)),
    (v1.DATA_START_BACKUP, text(b"cpio") + pack_pairs([(b"filesystem", b"/")]), (ARGS, ARGS, IS, IS, IS)),
    (v1.DATA_START_RECOVER, pack_pairs([]) + struct.pack(">I", 0) + text(b"dump"), (ARGS, ARGS, IS, IS, IS)),
    (v1.DATA_ABORT, b"", (IS, IS, "-", "-", IS)),
    (v1.DATA_STOP, b"", (IS, IS, IS, IS, "-")),
    (v1.DATA_CONTINUE, b"", (IS, IS, IS, "-", IS)),
    (v1.DATA_GET_ENV, b"", (IS, IS, NONE, NONE, NONE)),
]
STATES = {"idle without a drive": v1.IDLE, "idle": v1.IDLE, "active": v1.ACTIVE, "paused": v1.PAUSED,
          "halted": v1.HALTED}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _many(shared_shm: Path) -> None:
    """A backup of ``many`` is long enough to be stopped in its midst."""
    make_small_files(shared_shm / "many", files=20_000, size=100, directories=50)


@pytest.fixture(scope="module")
def small_tapes(shared_shm: Path, login: Login) -> Iterator[Server]:
    """A server whose tape ends before a backup does."""
    config = write_config(
        shared_shm / "small", login, volumes={"shm": shared_shm}, drives=1, cartridge_size="1MiB", early_warning="64KiB"
    )
    with Server(config) as server:
        server.ask("tape", "load", DRIVE)
        yield server


@contextmanager
def suspended(server: Server) -> Iterator[psutil.Process]:
    """The data worker at work stands still: the operation stays as it is."""
    worker = psutil.Process(busy_worker(server, "data"))
    worker.suspend()
    try:
        yield worker
    finally:
        if worker.is_running():
            worker.resume()


@contextmanager
def in_state(name: str, server: Server, client: V1Client, directory: Path) -> Iterator[None]:
    """DATA in a state; ended, and IDLE again, afterwards."""
    if name != "idle without a drive":
        open_drive(client, v1.WRITE_MODE)
    if name in {"active", "paused", "halted"}:
        client.start_backup(env_of(directory / "source" if name == "paused" else directory / "many"))
    match name:
        case "active":
            with suspended(server):
                yield
        case "paused":
            assert client.wait_for(v1.NOTIFY_PAUSED).fields == (v1.PAUSE_EOM, 0)
            yield
        case "halted":
            client.abort()
            assert halted(client) == v1.ABORTED
            yield
        case _:
            yield
    if name in {"active", "paused"}:
        client.abort()
        assert halted(client) == v1.ABORTED
    if name in {"active", "paused", "halted"}:
        client.stop()
    assert client.data_state()[:4] == (v1.NOACTION, v1.IDLE, 0, 0)


@pytest.mark.parametrize("name", STATES)
def test_every_request_in_every_state(
    name: str, shared: Server, small_tapes: Server, shared_shm: Path, login: Login
) -> None:
    """A request that a state does not take is refused with the draft's error and changes nothing."""
    column = list(STATES).index(name)
    server = small_tapes if name == "paused" else shared
    with connect(server, login) as client, in_state(name, server, client, shared_shm):
        for code, body, errors in TABLE:
            if errors[column] == "-":
                continue
            before = client.data_state()
            found = refusal(client.ask, code, body)
            assert (hex(code), found) == (hex(code), errors[column])
            after = client.data_state()
            assert (after.state, after[:4]) == (STATES[name], before[:4])


def test_what_an_operator_sees_of_a_pause(small_tapes: Server, shared_shm: Path, login: Login) -> None:
    with connect(small_tapes, login) as client, in_state("paused", small_tapes, client, shared_shm):
        sessions = small_tapes.ask("status")["sessions"]
        assert isinstance(sessions, list)
        (session,) = sessions
        shown = {name: session[name] for name in ("ndmp-version", "data-state", "data-operation", "tape-device")}
    assert shown == {"ndmp-version": 1, "data-state": "PAUSED", "data-operation": "BACKUP", "tape-device": DRIVE}


def test_a_start_without_a_drive(shared: Server, shared_shm: Path, login: Login) -> None:
    """3.5.2, 3.5.3: arguments are looked at before the drive (states.md 2.1)."""
    with connect(shared, login) as client:
        env = env_of(shared_shm / "source")
        assert refusal(client.start_backup, env) == CLOSED
        assert refusal(client.start_recover, env, [(b"/", bytes(shared_shm / "x"), 0)]) == CLOSED
        assert client.data_state().state == v1.IDLE


def test_arguments_of_a_start(shared: Server, shared_shm: Path, login: Login) -> None:
    """3.5.2: "invalid backup method, parameter or value"; 3.5.3: "or invalid name list entry"."""
    source = shared_shm / "source"
    with connect(shared, login) as client:
        open_drive(client, v1.WRITE_MODE)
        for env in (
            [],
            [(b"filesystem", b"relative")],
            [(b"filesystem", b"/etc")],
            [(b"filesystem", bytes(source / "not-there"))],
            [*env_of(source), (b"LEVEL", b"32")],
            [*env_of(source), (b"LEVEL", b"full")],
            [(b"ID", b"4711")],
        ):
            assert (env, refusal(client.start_backup, env)) == (env, ARGS)
        for name in ((b"../x", bytes(source), 0), (b"x", b"/etc/x", 0), (b"x", b"", 0)):
            assert (name, refusal(client.start_recover, [], [name])) == (name, ARGS)
        assert refusal(client.start_backup, env_of(source), b"cpio") == ARGS
        client.tape_close()
        open_drive(client, v1.READ_MODE)
        assert refusal(client.start_backup, env_of(source)) == "PERMISSION_ERR"
        assert client.data_state().state == v1.IDLE


def test_a_start_onto_a_protected_tape(make_server: MakeServer, login: Login, shm: Path) -> None:
    """3.4.1: it opens in read mode only; 3.5.2 lists WRITE_PROTECT for the backup."""
    make_small_files(shm / "source", files=3, directories=1)
    server = make_server("server")
    (cartridge,) = (shm / "server" / "tapes").rglob("*.tap")
    cartridge.chmod(0o444)
    with connect(server, login) as client:
        if os.geteuid() != 0:
            assert refusal(client.tape_open, DRIVE, v1.WRITE_MODE) == "WRITE_PROTECT_ERR"
        client.tape_open(DRIVE, v1.READ_MODE)
        protected = client.tape_state().flags & 0x10
        assert refusal(client.start_backup, env_of(shm / "source")) == (
            "WRITE_PROTECT_ERR" if protected else "PERMISSION_ERR"
        )


def test_a_start_in_a_drive_that_was_emptied(make_server: MakeServer, login: Login, shm: Path) -> None:
    make_small_files(shm / "source", files=3, directories=1)
    server = make_server("server")
    with connect(server, login) as client:
        open_drive(client, v1.WRITE_MODE)
        client.mtio(v1.OFF)
        assert refusal(client.start_backup, env_of(shm / "source")) == "NO_TAPE_LOADED_ERR"
        assert client.data_state()[:4] == (v1.NOACTION, v1.IDLE, 0, 0)
        client.tape_close()


# ---- connections


def test_logins(shared: Server, login: Login) -> None:
    """3.1.2: TEXT; NONE only where the operator says so; type 2 is reserved."""
    with V1Client(shared.address) as client:
        *_, types = client.host_info()
        assert types == [1]
        with pytest.raises(Failed) as refused:
            client.butype_attr(b"dump")
        assert (refused.value.error, refused.value.where) == ("NOT_AUTHORIZED_ERR", "header")
        assert refusal(client.auth_text, login.user, "wrong") == "NOT_AUTHORIZED_ERR"
        assert refusal(client.auth_text, "nobody", login.password) == "NOT_AUTHORIZED_ERR"
        assert refusal(client.auth_none) == ARGS
        assert refusal(client.done, v1.CONNECT_AUTH, struct.pack(">I", 2) + bytes(24)) == ARGS
        client.auth_text(login.user, login.password)
        # no list of files, no direct access; an increment is recovered by itself too
        for butype in (b"dump", b"tar"):
            assert client.butype_attr(butype) == 0x01 | 0x08


def test_a_login_without_a_secret(make_server: MakeServer, login: Login) -> None:
    server = make_server("server", authtype=("none", "plaintext"))
    with V1Client(server.address) as client:
        assert client.host_info()[4] == [0, 1]
        client.auth_none()
        client.tape_open(DRIVE, v1.READ_MODE)


def test_versions_above_and_below(shared: Server) -> None:
    """3.1.1: a version that is not there is refused, and the client retries with a lower one."""
    with V1Client(shared.address, versions=(9, 5, 1)) as client:
        assert client.offered == 4
        assert client.refused == [9, 5]
        assert client.host_info()[4] == [1]


def test_a_shutdown_is_told(make_server: MakeServer, login: Login) -> None:
    """4.1.3: "prior to gracefully closing the NDMP connection"."""
    server = make_server("server")
    with connect(server, login) as client:
        os.kill(server.pid, signal.SIGTERM)
        reason, version, _ = client.wait_for(v1.NOTIFY_CONNECTED).fields
        assert (reason, version) == (1, 4)
        assert client.closed()
    server.reap_killed()  # a second signal would not let it end in order


# ---- ends


@pytest.mark.parametrize("name", ["active", "paused"])
def test_an_abort_leaves_the_tape_alone(
    name: str, shared: Server, small_tapes: Server, shared_shm: Path, login: Login
) -> None:
    """3.5.4, and the next job on the same connection and drive."""
    server = small_tapes if name == "paused" else shared
    with connect(server, login) as client:
        with in_state(name, server, client, shared_shm):
            assert client.data_state().operation == v1.BACKUP
        client.mtio(v1.EOF)
        client.tape_close()
        target = shared_shm / f"after-{name}"
        recover(client, back_up(client, env_of(shared_shm / "many" / "directory-000")), target)
    assert compare_trees(shared_shm / "many" / "directory-000", target).differences == []


@pytest.mark.parametrize("name", ["active", "paused"])
def test_a_client_that_vanishes_gives_the_drive_back(
    name: str, small_tapes: Server, shared_shm: Path, login: Login
) -> None:
    client = connect(small_tapes, login)
    open_drive(client, v1.WRITE_MODE)
    client.start_backup(env_of(shared_shm / ("source" if name == "paused" else "many")))
    if name == "paused":
        client.wait_for(v1.NOTIFY_PAUSED)
    client.socket.close()
    with connect(small_tapes, login) as other:
        settle(lambda: refusal(other.tape_open, DRIVE, v1.WRITE_MODE) == NONE, "the drive is free")
        assert other.mtio(v1.REW) == 0


@pytest.mark.parametrize("kind", ["data", "tape"])
def test_a_worker_that_dies_ends_the_operation(kind: str, shared: Server, shared_shm: Path, login: Login) -> None:
    with connect(shared, login) as client:
        open_drive(client, v1.WRITE_MODE)
        client.start_backup(env_of(shared_shm / "many"))
        with suspended(shared):
            os.kill(busy_worker(shared, kind), signal.SIGKILL)
            assert halted(client) == v1.INTERNAL_ERROR
        client.stop()
        if kind == "tape":
            assert refusal(client.tape_state) == CLOSED
        else:
            assert client.mtio(v1.REW) == 0


@pytest.mark.parametrize("kind", ["data", "tape"])
def test_a_worker_that_dies_in_a_pause(kind: str, small_tapes: Server, shared_shm: Path, login: Login) -> None:
    """The draft has no arrow for it; the client must not wait for ever."""
    with connect(small_tapes, login) as client:
        open_drive(client, v1.WRITE_MODE)
        client.start_backup(env_of(shared_shm / "source"))
        client.wait_for(v1.NOTIFY_PAUSED)
        os.kill(worker_of(small_tapes, kind), signal.SIGKILL)
        assert halted(client) == v1.INTERNAL_ERROR
        assert refusal(client.go_on) == IS
        client.stop()
        assert refusal(client.mtio, v1.REW) == (NONE if kind == "data" else CLOSED)


def worker_of(server: Server, kind: str) -> int:
    """The worker of this kind of the only session."""
    sessions = server.ask("status")["sessions"]
    assert isinstance(sessions, list)
    (worker,) = [each for each in sessions[0]["workers"] if each["kind"] == kind]
    return int(worker["pid"])


def data_worker_is_through(client: V1Client) -> bool:
    assert client.data_state().state == v1.PAUSED
    return any("0 errors" in line for line in client.logged())


@pytest.mark.parametrize("closed", [False, True])
def test_an_abort_when_only_the_tape_is_behind(
    closed: bool, small_tapes: Server, shared_shm: Path, login: Login
) -> None:
    """The data worker is through, what it made waits in the ring for the next tape; the drive may be anybody's."""
    source = shared_shm / f"little-{closed}"
    make_small_files(source, files=400, directories=4)
    with connect(small_tapes, login) as client:
        open_drive(client, v1.WRITE_MODE)
        client.start_backup(env_of(source))
        client.wait_for(v1.NOTIFY_PAUSED)
        settle(lambda: data_worker_is_through(client), "the data worker is through")
        if closed:
            client.tape_close()
        client.abort()
        assert halted(client) == v1.ABORTED
        assert refusal(client.start_backup, env_of(source)) == IS
        client.stop()
        if not closed:
            client.tape_close()
        with connect(small_tapes, login) as other:
            other.tape_open(DRIVE, v1.WRITE_MODE)
            other.tape_close()


def test_a_tape_that_cannot_be_written_any_more(small_tapes: Server, shared_shm: Path, login: Login) -> None:
    """3.5.2: an error halts. Continued on the same tape, a backup runs into the end of the medium."""
    with connect(small_tapes, login) as client:
        open_drive(client, v1.WRITE_MODE)
        client.start_backup(env_of(shared_shm / "source"))
        client.wait_for(v1.NOTIFY_PAUSED)
        client.go_on()
        assert halted(client) == v1.MEDIA_ERROR, client.logged()
        client.stop()


def test_a_tape_that_cannot_be_read(shared: Server, shared_shm: Path, login: Login) -> None:
    """Records longer than the record size are no image of it."""
    with connect(shared, login) as client:
        saved = back_up(client, env_of(shared_shm / "source"))
        open_drive(client, v1.READ_MODE, record=RECORD // 2)
        client.start_recover(saved, [(b"/", bytes(shared_shm / "unreadable"), FH_UNKNOWN)])
        assert halted(client) == v1.MEDIA_ERROR
        client.stop()
        assert client.mtio(v1.REW) == 0


def test_a_tape_without_an_image(shared: Server, shared_shm: Path, login: Login) -> None:
    """The recover method fails, not the tape."""
    with connect(shared, login) as client:
        open_drive(client, v1.WRITE_MODE, record=1024)
        client.tape_write(b"no dump" * 4000)
        client.mtio(v1.EOF)
        client.mtio(v1.REW)
        client.start_recover(env_of(shared_shm / "source"), [(b"/", bytes(shared_shm / "nothing"), FH_UNKNOWN)])
        post = client.wait_for(v1.NOTIFY_PAUSED, v1.NOTIFY_HALTED)
        assert (post.code, post.fields[0]) == (v1.NOTIFY_HALTED, v1.INTERNAL_ERROR)
        client.stop()


def test_requests_of_one_segment_are_answered_in_order(shared: Server, login: Login) -> None:
    with connect(shared, login) as client:
        sent = [client.send(code) for code in (v1.DATA_GET_STATE, v1.TAPE_GET_STATE, 0x123, v1.DATA_STOP)]
        replies = [client.reply_to(sequence) for sequence in sent]
        assert [v1.ERRORS[reply.error] for reply in replies] == [NONE, NONE, UNSUPPORTED, NONE]
        assert [reply.message for reply in replies] == [v1.DATA_GET_STATE, v1.TAPE_GET_STATE, 0x123, v1.DATA_STOP]
        assert [reply.size for reply in replies[:2]] == [64, 48]
