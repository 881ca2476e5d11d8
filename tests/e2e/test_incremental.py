"""Levels by the commands, end to end: what is kept after which backup, and dump dates that move to another server."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from mover.data.birth_times import BirthTimes
from mover.ndmp.enums import (
    UNBOUNDED,
    AddressType,
    DataHaltReason,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    TapeMode,
)
from mover.ndmp.messages import (
    DataConnectRequest,
    DataStartBackupRequest,
    DataStopRequest,
    MoverAbortRequest,
    MoverContinueRequest,
    MoverListenRequest,
    MoverSetRecordSizeRequest,
    MoverSetWindowRequest,
    MoverStopRequest,
    NotifyMoverPausedPost,
    TapeCloseRequest,
    TapeOpenRequest,
)
from mover.ndmp.messages.common import LOCAL
from tests.data.backup_runner import CLOCK_REALTIME_COARSE
from tests.data.dump_reader import Dump, parse
from tests.e2e.conftest import MakeServer
from tests.support.ndmp_client import NdmpClient, pairs
from tests.support.servers import Login, Server, mover_command
from tests.support.trees import make_large_file

TIME_LIMIT_S = 120


class Client:
    """Backs the tree ``source`` up by the built-in DMA and reads the streams from the cartridges."""

    def __init__(self, login: Login, directory: Path) -> None:
        self.tree = directory / "source"
        (self.tree / "below").mkdir(parents=True)
        (self.tree / "old").write_bytes(b"old" * 1000)
        self._login = login
        self._directory = directory
        self._secret = directory / "password"
        self._secret.touch(mode=0o600)
        self._secret.write_text(login.password)
        self._count = 0

    def back_up(self, server: Server, *options: str) -> tuple[Dump, dict[str, str], list[str]]:
        """A backup: the stream, the environment and the warnings."""
        told = json.loads(
            self._run(
                "backup", str(self.tree), "--host", server.address, "--user", self._login.user,
                "--password-file", str(self._secret), "--drive", "vtl0/drive0", "--overwrite",
                "--catalogue", str(self._directory / "catalogue"), "--json", *options,
            )
        )  # fmt: skip
        self._count += 1
        stream = self._directory / f"stream-{self._count}"
        (cartridge,) = (server.config.parent / "tapes").glob("*.tap")
        self._run("tape", "extract", str(cartridge), "--output", str(stream))
        return parse(stream.read_bytes()), dict(told["env"]), told["warnings"]

    @staticmethod
    def _run(*arguments: str) -> str:
        done = subprocess.run(
            [*mover_command(), *arguments], capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def wait_for_the_next_second() -> None:
    """What changed before has a time of change before the next backup's date, which has whole seconds."""
    now = time.time()
    while int(time.clock_gettime(CLOCK_REALTIME_COARSE)) <= int(now):
        time.sleep(0.02)


def dump_dates(server: Server) -> list[tuple[int, bool, str]]:
    listed = server.ask("dumpdates", "list")["dump-dates"]
    assert isinstance(listed, list)
    return [(each["level"], each["full"], each["dump-date"]) for each in listed]


@pytest.fixture
def client(login: Login, shm: Path) -> Client:
    return Client(login, shm)


@pytest.mark.slow
def test_levels_and_what_is_kept(local: Server, client: Client) -> None:
    wait_for_the_next_second()
    full, _, _ = client.back_up(local)
    (client.tree / "below/new").write_bytes(b"new")
    first, env, warnings = client.back_up(local, "--level", "1", "--no-update")
    assert warnings == []
    assert env["LEVEL"] == "1"
    assert first.tape[8:12] == full.tape[4:8]
    assert {first.tree()[b"below/new"], first.tree()[b"below"], 2} == first.dumped
    assert dump_dates(local) == [(0, True, "")]
    second, _, _ = client.back_up(local, "--level", "31")
    assert second.dumped == first.dumped
    assert dump_dates(local) == [(0, True, ""), (31, False, "")]
    assert "1 dump date" in str(local.ask("dumpdates", "delete", str(client.tree), "--level", "0")["text"])
    again, env, warnings = client.back_up(local, "--level", "2")
    assert again.dumped == again.used
    assert env["LEVEL"] == "0"
    assert warnings == ["no backup of a level below 2 is known: this is a full backup (level 0)"]


@pytest.mark.slow
def test_tokens(local: Server, client: Client) -> None:
    wait_for_the_next_second()
    full, env, _ = client.back_up(local, "--env", "BASE_DATE=0")
    assert int(env["DUMP_DATE"]) == int.from_bytes(full.tape[4:8], "little")
    (client.tree / "old").chmod(0o600)
    first, later, _ = client.back_up(local, "--env", f"BASE_DATE={env['DUMP_DATE']}")
    assert first.dumped == {2, first.tree()[b"old"]}
    assert first.tape[692:696] == b"\1\0\0\0"
    assert later["LEVEL"] == "1"
    assert int(later["DUMP_DATE"]) == 1 << 32 | int.from_bytes(first.tape[4:8], "little")
    assert dump_dates(local) == [(0, True, env["DUMP_DATE"]), (1, False, later["DUMP_DATE"])]


@pytest.mark.slow
def test_the_next_level_goes_on_at_another_server_and_back_again(
    make_server: MakeServer, client: Client, shm: Path
) -> None:
    here, there = make_server("here"), make_server("there")
    wait_for_the_next_second()
    full, _, _ = client.back_up(here)
    here.ask("dumpdates", "export", str(shm / "over"))
    there.ask("dumpdates", "import", str(shm / "over"))
    (client.tree / "below/new").symlink_to("nowhere")
    first, _, warnings = client.back_up(there, "--level", "1")
    assert (warnings, first.tape[8:12]) == ([], full.tape[4:8])
    assert b"old" in first.tree()
    assert first.tree()[b"old"] not in first.dumped
    wait_for_the_next_second()
    os.unlink(client.tree / "below/new")
    there.ask("dumpdates", "export", str(shm / "back"))
    assert "2 dump dates" in str(here.ask("dumpdates", "import", str(shm / "back"))["text"])
    second, _, warnings = client.back_up(here, "--level", "2")
    assert (warnings, second.tape[8:12]) == ([], first.tape[4:8])
    assert second.used == full.used
    assert second.dumped == {2, second.tree()[b"below"]}


@pytest.mark.slow
def test_dates_outlive_the_server(make_server: MakeServer, client: Client) -> None:
    server = make_server("server")
    client.back_up(server)
    before = dump_dates(server)
    os.kill(server.pid, signal.SIGKILL)
    server.reap_killed()
    tables = server.config.parent / "state/dumpdates"
    (tables / "left-by-a-crash.inodes").write_bytes(b"")
    with Server(server.config) as again:
        assert dump_dates(again) == before
        assert not (tables / "left-by-a-crash.inodes").exists()


@pytest.mark.slow
@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("end", ["abort", "leave", "go on", "stop and go on", "no stop"])
def test_a_backup_whose_end_the_tape_never_got_is_no_base(
    end: str, version: int, make_server: MakeServer, login: Login, shm: Path
) -> None:
    """DATA is SUCCESSFUL with the rest of the stream in the ring; the mover still has it, its cartridge full.

    A DMA that goes away without its STOP does not have the backup either.
    """
    server = make_server("server", cartridge_size="2MiB", early_warning="512KiB")
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=1700 << 10)
    with NdmpClient(server.address, login=login, version=version) as client:
        client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.RDWR))
        client.ok(MoverSetRecordSizeRequest(64 << 10))
        client.ok(MoverSetWindowRequest(0, UNBOUNDED))
        client.ok(MoverListenRequest(MoverMode.READ, AddressType.LOCAL))
        if version > 2:
            client.ok(DataConnectRequest(LOCAL))
        address = LOCAL if version == 2 else None
        client.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source)), address))
        assert client.wait_for(NotifyMoverPausedPost).reason == MoverPauseReason.EOM
        assert client.data_halted() == DataHaltReason.SUCCESSFUL
        if end == "stop and go on":
            client.ok(DataStopRequest())
        if end in {"go on", "stop and go on", "no stop"}:  # what the early warning leaves is enough
            client.ok(MoverContinueRequest())
            assert client.mover_halted() == MoverHaltReason.CONNECT_CLOSED
        if end == "go on":
            client.ok(DataStopRequest())
        elif end == "abort":
            client.ok(MoverAbortRequest())
            client.ok(DataStopRequest())
            client.ok(MoverStopRequest())
    wanted = [(0, True, "")] if end in {"go on", "stop and go on"} else []
    deadline = time.monotonic() + TIME_LIMIT_S
    while dump_dates(server) != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    assert dump_dates(server) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize("kept", [True, False])
def test_a_server_that_is_killed_keeps_what_the_dma_has_ended(
    make_server: MakeServer, login: Login, shm: Path, *, stops: bool, kept: bool
) -> None:
    """Killed behind DATA_STOP the bytes are in the kernel's hands; killed before it, nobody has the backup."""
    server = make_server("server")
    source = shm / "source"
    source.mkdir()
    (source / "file").write_bytes(b"content")
    if kept:  # what a date that does not count yet would outdate stays
        with NdmpClient(server.address, login=login, version=4) as client:
            _back_up_by_messages(client, source)
            client.ok(DataStopRequest())
            client.ok(MoverStopRequest())
            client.ok(TapeCloseRequest())
        assert dump_dates(server) == [(0, True, "")]
    with NdmpClient(server.address, login=login, version=4) as client:
        _back_up_by_messages(client, source)
        if stops:
            client.ok(DataStopRequest())
            assert dump_dates(server) == [(0, True, "")]
        os.kill(server.pid, signal.SIGKILL)
        server.reap_killed()
    with Server(server.config) as again:
        assert dump_dates(again) == ([(0, True, "")] if stops or kept else [])


def _back_up_by_messages(client: NdmpClient, source: Path) -> None:
    client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.RDWR))
    client.ok(MoverSetRecordSizeRequest(64 << 10))
    client.ok(MoverSetWindowRequest(0, UNBOUNDED))
    client.ok(MoverListenRequest(MoverMode.READ, AddressType.LOCAL))
    client.ok(DataConnectRequest(LOCAL))
    client.ok(DataStartBackupRequest(b"dump", pairs(FILESYSTEM=str(source))))
    assert client.data_halted() == DataHaltReason.SUCCESSFUL
    assert client.mover_halted() == MoverHaltReason.CONNECT_CLOSED


@pytest.mark.slow
def test_the_option_counts_where_the_job_does_not_say(local: Server, client: Client) -> None:
    """ignore-ctime-enabled, and IGNORE_CTIME before it."""
    below = os.open(client.tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if BirthTimes().of(b"old", below) is None:
            pytest.skip("the file system of the tests tells no times of birth")
    finally:
        os.close(below)
    wait_for_the_next_second()
    client.back_up(local)
    wait_for_the_next_second()
    (client.tree / "old").chmod(0o600)

    def takes(*words: str) -> bool:
        level, _, _ = client.back_up(local, "--level", "1", "--no-update", *words)
        return level.tree()[b"old"] in level.objects

    assert takes()
    assert not takes("--env", "IGNORE_CTIME=Y")
    local.ask("modify", "--ignore-ctime-enabled", "true")
    assert not takes()
    assert takes("--env", "IGNORE_CTIME=N")
