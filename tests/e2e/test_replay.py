"""Protocol logs of whole dialogues, played against a fresh server: no difference, unless there is one."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any  # Any: JSON values

import pytest
import trio

from mover.control.protocol_log import DIRECTORY
from mover.dma import BackupOptions, Credentials, RecoverOptions, run_backup, run_recover
from mover.dma import Server as Target
from mover.ndmp.auth import md5_digest
from mover.ndmp.enums import ErrorCode, MoverMode, TapeMode, TapeOperation
from mover.ndmp.framing import mark
from mover.ndmp.header import Header
from mover.ndmp.messages import (
    ConfigGetAuthAttrReply,
    ConfigGetAuthAttrRequest,
    ConfigGetExtListRequest,
    ConfigGetFsInfoRequest,
    ConfigGetHostInfoRequest,
    ConfigSetExtListRequest,
    ConnectClientAuthRequest,
    DataAbortRequest,
    DataGetStateRequest,
    DataListenRequest,
    DataStopRequest,
    MoverListenRequest,
    SelectedExt,
    TapeCloseRequest,
    TapeGetStateRequest,
    TapeMtioRequest,
    TapeOpenRequest,
    TapeReadRequest,
    TapeWriteRequest,
    TestEchoRequest,
)
from mover.ndmp.messages.common import AuthMd5, AuthMd5Attr
from tests.e2e.conftest import MakeServer
from tests.support import v1_jobs
from tests.support.ndmp_client import Job, NdmpClient
from tests.support.processes import settle
from tests.support.servers import Login, Server, mover_command
from tests.support.trees import make_small_files

pytestmark = pytest.mark.slow

LOGGED = "debug_enable = true"
Edit = Callable[[list[dict[str, Any]]], None]


def logs(server: Server) -> list[Path]:
    """The protocol logs of a server in the order of its sessions, when they are whole."""
    directory = server.config.parent / "state" / DIRECTORY
    settle(lambda: all(b'"type":"end"' in path.read_bytes() for path in directory.iterdir()), "ended logs")
    return sorted(directory.iterdir(), key=lambda path: int(path.name.split("-")[1]))


def replay(log: Path, server: Server, login: Login, *more: str) -> subprocess.CompletedProcess[str]:
    password = log.with_name("password")
    password.touch(mode=0o600)
    password.write_text(login.password)
    return subprocess.run(
        [*mover_command(), "replay", str(log), server.address, "--user", login.user, "--password-file", str(password),
         "--timeout", "20", *more],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def edited(log: Path, edit: Edit) -> Path:
    """A copy of a log with something changed in its lines."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    edit(lines)
    path = log.with_suffix(".edited")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def first(lines: list[dict[str, Any]], message: str, kind: str) -> dict[str, Any]:
    return next(line for line in lines if line.get("message") == message and line["kind"] == kind)


@pytest.mark.parametrize("version", [2, 3, 4])
async def test_jobs_of_the_built_in_dma_are_played_again(
    make_server: MakeServer, shm: Path, login: Login, version: int
) -> None:
    source = shm / "source"
    make_small_files(source, files=300, directories=6, seed=version)
    recorded = make_server("recorded", node=LOGGED)
    host, _, port = recorded.address.rpartition(":")
    options: dict[str, Any] = {
        "data": Target(host, int(port)), "credentials": Credentials(login.user, login.password),
        "drive": "vtl0/drive0", "max_version": version, "catalogue": shm / "catalogue",
    }  # fmt: skip
    with trio.fail_after(60):
        await run_backup(BackupOptions(filesystem=str(source), **options))
        await run_recover(RecoverOptions(destination=str(shm / "target"), **options))
    fresh = make_server("fresh")
    for log in await trio.to_thread.run_sync(logs, recorded):
        played = await trio.to_thread.run_sync(replay, log, fresh, login)
        assert played.stderr == ""
        assert played.returncode == 0
        assert "no difference" in played.stdout


def test_a_raw_dialogue_is_played_again_and_a_changed_field_is_named(
    make_server: MakeServer, login: Login, shm: Path
) -> None:
    recorded = make_server("recorded", node=LOGGED)
    make_small_files(shm / "source", files=20, directories=2, seed=1)
    raw_dialogue(recorded, login)
    with Job.connect(recorded, recorded, login) as job:
        job.start_backup(str(shm / "source"), HIST="f")
        job.data.data_halted()
        job.tape.mover_halted()
        job.data.hang_up()
    raw, backup = logs(recorded)
    fresh = make_server("fresh")
    for log in (raw, backup):
        played = replay(log, fresh, login)
        assert played.stderr == "", log
        assert played.returncode == 0

    def other_position(lines: list[dict[str, Any]]) -> None:
        first(lines, "TAPE_GET_STATE", "reply")["fields"]["file_num"] += 7

    def other_error(lines: list[dict[str, Any]]) -> None:
        first(lines, "MOVER_LISTEN", "reply")["fields"]["error"] = "PERMISSION_ERR"

    def other_echo(lines: list[dict[str, Any]]) -> None:
        first(lines, "TEST_ECHO", "reply")["fields"]["echo_short"] += 1

    for log, edit, words in (
        (raw, other_echo, "TEST_ECHO reply, echo_short: recorded 10, now 9"),
        (raw, other_position, "TAPE_GET_STATE reply, file_num: recorded 8, now 1"),
        (raw, other_error, 'MOVER_LISTEN reply, error: recorded "PERMISSION_ERR", now "ILLEGAL_ARGS_ERR"'),
    ):
        changed = replay(edited(log, edit), fresh, login)
        assert changed.returncode == 1
        assert words in changed.stderr

    def other_size(lines: list[dict[str, Any]]) -> None:
        first(lines, "FH_ADD_FILE", "post")["fields"]["files"][3]["stats"][0]["size"] += 1

    def other_halt(lines: list[dict[str, Any]]) -> None:
        first(lines, "NOTIFY_DATA_HALTED", "post")["fields"]["reason"] = "ABORTED"

    for edit, message, field in (
        (other_size, "FH_ADD_FILE", "stats[0].size"),
        (other_halt, "NOTIFY_DATA_HALTED", "reason"),
    ):
        changed = replay(edited(backup, edit), fresh, login, "--json")
        found = json.loads(changed.stdout)["difference"]
        assert changed.returncode == 1
        assert (found["message"], found["field"]) == (message, field)


def raw_dialogue(server: Server, login: Login) -> None:
    """Requests as no DMA of ours sends them: refused, cut off, unknown, in the wrong state."""
    with NdmpClient(server.address) as client:
        attr = client.ok(ConfigGetAuthAttrRequest(2))
        assert isinstance(attr, ConfigGetAuthAttrReply)
        assert isinstance(attr.server_attr, AuthMd5Attr)
        wrong = md5_digest(attr.server_attr.challenge, b"wrong")
        assert (
            client.error(ConnectClientAuthRequest(AuthMd5(login.user.encode(), wrong))) == ErrorCode.NOT_AUTHORIZED_ERR
        )
        assert client.error(TapeCloseRequest()) == ErrorCode.NOT_AUTHORIZED_ERR
        client.log_in(login, "md5")
        client.ok(ConfigGetHostInfoRequest())
        client.ok(ConfigGetFsInfoRequest())
        client.ok(ConfigGetExtListRequest())
        client.ok(ConfigSetExtListRequest((SelectedExt(0x7FF0, 2),)))
        client.protocol.extensions = {0x7FF0: 2}
        client.ok(TestEchoRequest(b"hello", 9))
        for number, body in ((0x777, b""), (0x300, b"\0\0")):
            header = Header(1000 + number, 0, 0, number, 0, 0).encode()
            client.socket.sendall(mark(len(header + body)) + header + body)
        client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.RDWR))
        client.ok(TapeMtioRequest(TapeOperation.REW, 1))
        client.ok(TapeWriteRequest(bytes(range(256)) * 40))
        client.ok(TapeMtioRequest(TapeOperation.EOF, 1))
        client.ok(TapeGetStateRequest())
        client.ok(TapeMtioRequest(TapeOperation.REW, 1))
        client.ok(TapeReadRequest(20000))
        assert client.error(MoverListenRequest(MoverMode.NOACTION, 0)) == ErrorCode.ILLEGAL_ARGS_ERR
        client.ok(DataListenRequest(1))
        client.ok(DataGetStateRequest())
        client.ok(DataAbortRequest())
        client.data_halted()
        client.ok(DataStopRequest())
        client.ok(TapeMtioRequest(TapeOperation.REW, 1))
        client.ok(TapeCloseRequest())
        client.hang_up()


def test_a_job_of_version_1_is_played_again(make_server: MakeServer, login: Login, shm: Path) -> None:
    make_small_files(shm / "source", files=60, directories=3, seed=1)
    recorded = make_server("recorded", node=LOGGED)
    with v1_jobs.connect(recorded, login) as client:
        saved = v1_jobs.back_up(client, v1_jobs.env_of(shm / "source", HIST="y"))
        v1_jobs.recover(client, saved, shm / "target")
        client.hang_up()
    (log,) = logs(recorded)
    assert login.password not in log.read_text()
    played = replay(log, make_server("fresh"), login)
    assert played.stderr == ""
    assert played.returncode == 0


def test_a_log_begun_in_the_dialogue_is_played_behind_a_login(make_server: MakeServer, login: Login) -> None:
    server = make_server("server")
    with NdmpClient(server.address, login=login, version=3) as client:
        server.ask("log", "start", "--session-id", "1", "--advanced", "--filter", "tape")
        client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.RDWR))
        client.ok(ConfigGetHostInfoRequest())
        client.ok(TapeMtioRequest(TapeOperation.REW, 1))
        client.ok(TapeCloseRequest())
        server.ask("log", "stop", "--session-id", "1", "--advanced")
        client.ok(ConfigGetHostInfoRequest())
        client.hang_up()
    (log,) = logs(server)
    played = replay(log, server, login)
    assert played.returncode == 0, played.stderr
    assert played.stdout == "6 requests played, 3 replies and posts compared: no difference\n"
    assert "the log was made without config" in played.stderr
    assert "the replay opens and logs in by itself" in played.stderr


def test_what_cannot_be_played_says_why(make_server: MakeServer, login: Login, shm: Path) -> None:
    server = make_server("server", drives=0)
    nothing = shm / "nothing"
    missing = replay(nothing, server, login)
    assert (missing.returncode, missing.stderr) == (1, f"mover: {nothing}: No such file or directory\n")
    nothing.write_text("no log\n")
    assert f"{nothing}:1: not a line of a protocol log" in replay(nothing, server, login).stderr
