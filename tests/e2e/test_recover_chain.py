"""Chains of dumps through a real server: the table of names outlives the job, the server, and no broken level."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any  # Any: JSON values

import pytest

from mover.control.recover_tables import DIRECTORY
from mover.dma.compare import compare_trees
from mover.ndmp.enums import DataHaltReason, ErrorCode
from mover.ndmp.messages import (
    DataAbortRequest,
    DataConnectRequest,
    DataStartRecoverRequest,
    LogFilePost,
    NotifyDataReadPost,
)
from mover.ndmp.messages import RecoverName as Name
from tests.data.chain_dumper import ChainDumper
from tests.e2e.conftest import MakeServer
from tests.e2e.test_incremental import wait_for_the_next_second
from tests.support.ndmp_client import NdmpClient, pairs
from tests.support.processes import busy_worker, settle
from tests.support.servers import Login, Server, mover_command
from tests.support.stages import Peer

pytestmark = pytest.mark.slow


class Chain:
    """A source, its dumps, and a destination on a server; the test is the mover that has the streams."""

    def __init__(self, shm: Path, server: Server, login: Login) -> None:
        directory = Path(tempfile.mkdtemp(dir=shm))
        self.source, self.target = directory / "source", directory / "target"
        self.server, self.login = server, login
        self._tables: list[str] = []  # of those before
        self._tables = self.tables
        (self.source / "a/b").mkdir(parents=True)
        (self.source / "a/b/file").write_text("one")
        (self.source / "link").hardlink_to(self.source / "a/b/file")
        (self.source / "old").write_text("old")
        self.dumper = ChainDumper(self.source)

    def change(self) -> None:
        (self.source / "a").rename(self.source / "c")
        (self.source / "old").unlink()
        (self.source / "new").write_text("new")

    @property
    def tables(self) -> list[str]:
        directory = self.server.config.parent / "state" / DIRECTORY
        return sorted(set(os.listdir(directory)).difference(self._tables)) if directory.exists() else []

    def begin(self, client: NdmpClient, peer: Peer, name: Name, env: dict[str, str]) -> tuple[int, socket.socket]:
        client.ok(DataConnectRequest(peer.address))
        sock = peer.accept()
        request = DataStartRecoverRequest(pairs(FILESYSTEM=str(self.source), **env), (name,), b"dump")
        error = client.error(request)
        if not error:
            client.wait_for(NotifyDataReadPost)
        return error, sock

    def recover(
        self, stream: bytes, env: dict[str, str] | None = None, *, name: Name | None = None
    ) -> tuple[int, list[str], list[int]]:
        """The halt reason, the log, and the statuses of the names."""
        peer = Peer()
        with NdmpClient(self.server.address, login=self.login) as client:
            try:
                error, sock = self.begin(client, peer, name or Name(b"", bytes(self.target)), env or {})
                assert not error, client.log()
                sock.sendall(stream)
                sock.shutdown(socket.SHUT_WR)
                reason = client.data_halted()
            finally:
                peer.close()
            statuses = [seen.body.recovery_status for seen in client.posts if isinstance(seen.body, LogFilePost)]
            client.hang_up()
            return reason, client.log(), statuses

    def assert_equal(self) -> None:
        assert list(map(str, compare_trees(self.source, self.target).differences)) == []


def told(client: NdmpClient, text: bytes) -> None:
    """Wait for a line of the log."""
    client.wait_until(lambda seen: text in getattr(seen.body, "entry", b""), text.decode())


@pytest.fixture
def chained(shared_shm: Path, shared: Server, login: Login) -> Chain:
    return Chain(shared_shm, shared, login)


def test_a_chain_and_what_is_refused_of_it(shm: Path, login: Login, make_server: MakeServer) -> None:
    chained = Chain(shm, make_server("server", drives=0), login)
    assert chained.recover(chained.dumper.dump(0))[0] == DataHaltReason.SUCCESSFUL
    chained.assert_equal()
    (table,) = chained.tables
    chained.change()
    level1 = chained.dumper.dump(1)
    (chained.source / "new").rename(chained.source / "c/b/new")
    level2 = chained.dumper.dump(2)

    reason, log, statuses = chained.recover(level2)
    assert reason == DataHaltReason.INTERNAL_ERROR
    assert any("an earlier level is missing; nothing was changed" in line for line in log), log
    assert statuses != [0]
    assert (chained.target / "old").exists()

    assert chained.recover(level1)[0] == DataHaltReason.SUCCESSFUL
    chained.server.stop()
    chained.server = make_server("server", drives=0)
    reason, log, statuses = chained.recover(level2)
    assert (reason, statuses) == (DataHaltReason.SUCCESSFUL, [0])
    assert any("1 name changed, 0 objects removed" in line for line in log), log
    chained.assert_equal()
    assert chained.tables == [table]


def test_a_level_that_breaks_off_ends_the_chain(chained: Chain) -> None:
    chained.recover(chained.dumper.dump(0))
    chained.change()
    stream = chained.dumper.dump(1)
    assert chained.recover(stream[:-2048])[0] == DataHaltReason.CONNECT_ERROR
    reason, log, _ = chained.recover(stream)
    assert reason == DataHaltReason.INTERNAL_ERROR
    assert any("did not end well: start over with the dump of level 0" in line for line in log), log
    assert chained.recover(chained.dumper.dump(0))[0] == DataHaltReason.SUCCESSFUL
    (chained.source / "last").write_text("last")
    assert chained.recover(chained.dumper.dump(1))[0] == DataHaltReason.SUCCESSFUL


def test_an_aborted_level_leaves_no_new_table(chained: Chain) -> None:
    chained.recover(chained.dumper.dump(0))
    chained.change()
    stream = chained.dumper.dump(1)
    peer = Peer()
    with NdmpClient(chained.server.address, login=chained.login) as client:
        error, sock = chained.begin(client, peer, Name(b"", bytes(chained.target)), {})
        assert not error
        sock.sendall(stream[:1024])
        second = Peer()
        with NdmpClient(chained.server.address, login=chained.login) as other:
            busy, _ = chained.begin(other, second, Name(b"", bytes(chained.target)), {})
            assert busy == ErrorCode.UNDEFINED_ERR
            told(other, b"another recover of everything is under way")
        second.close()
        client.ok(DataAbortRequest())
        client.data_halted()
        client.hang_up()
    peer.close()
    assert chained.recover(stream)[0] == DataHaltReason.SUCCESSFUL
    chained.assert_equal()
    assert len(chained.tables) == 1


@pytest.mark.parametrize("who", ["worker", "server"])
def test_a_crash_within_a_level_ends_the_chain(shm: Path, login: Login, make_server: MakeServer, who: str) -> None:
    """The table says, on disk, that the destination changes, before it does."""
    chained = Chain(shm, make_server("server", drives=0), login)
    chained.recover(chained.dumper.dump(0))
    chained.change()
    stream = chained.dumper.dump(1)
    peer = Peer()
    with NdmpClient(chained.server.address, login=login) as client:
        error, sock = chained.begin(client, peer, Name(b"", bytes(chained.target)), {})
        assert not error
        sock.sendall(stream[:-2048])
        settle(lambda: not (chained.target / "old").exists(), "the level to be under way")
        if who == "worker":
            os.kill(busy_worker(chained.server, "data"), signal.SIGKILL)
            assert client.data_halted() == DataHaltReason.INTERNAL_ERROR
            client.hang_up()
        else:
            os.kill(chained.server.pid, signal.SIGKILL)
            chained.server.reap_killed()
            settle(lambda: not chained.server.processes(), "every worker gone")
            chained.server = make_server("server", drives=0)
    peer.close()
    reason, log, _ = chained.recover(stream)
    assert reason == DataHaltReason.INTERNAL_ERROR
    assert any("did not end well: start over with the dump of level 0" in line for line in log), log
    assert chained.recover(chained.dumper.dump(0))[0] == DataHaltReason.SUCCESSFUL


@pytest.mark.parametrize("env", [{"EXTRACT": "y"}, {"EXTRACT": "E"}, {"OVERWRITE": "n"}])
def test_laid_over_on_demand(chained: Chain, env: dict[str, str]) -> None:
    chained.recover(chained.dumper.dump(0))
    chained.change()
    (chained.source / "link").write_text("changed")
    stream = chained.dumper.dump(1)
    reason, log, statuses = chained.recover(stream, env)
    assert (reason, statuses) == (DataHaltReason.SUCCESSFUL, [0])
    assert any("nothing is removed or renamed" in line for line in log), log
    assert (chained.target / "old").exists()
    assert (chained.target / "new").read_text() == "new"
    assert (chained.target / "link").read_text() == ("one" if "OVERWRITE" in env else "changed")
    assert chained.tables == []


def test_extract_n_takes_no_names(chained: Chain) -> None:
    peer = Peer()
    with NdmpClient(chained.server.address, login=chained.login) as client:
        error, _ = chained.begin(client, peer, Name(b"old", bytes(chained.target)), {"EXTRACT": "n"})
        assert error == ErrorCode.ILLEGAL_ARGS_ERR
        told(client, b"EXTRACT=n recovers the whole dump")
    peer.close()


@pytest.mark.parametrize("option", ["LIST", "NOWRITE"])
def test_nothing_is_written(chained: Chain, option: str) -> None:
    reason, log, statuses = chained.recover(chained.dumper.dump(0), {option: "y"})
    assert (reason, statuses) == (DataHaltReason.SUCCESSFUL, [0])
    assert any(f"nothing was written ({option})" in line for line in log), log
    assert not chained.target.exists()
    assert chained.tables == []
    listed = [line.partition("\t")[2] for line in log if "\t" in line]
    if option == "LIST":
        names = ["", "/a", "/a/b", "/a/b/file", "/link", "/old"]
        assert sorted(listed) == [f"{chained.target}{name}" for name in names]
    else:
        assert listed == []
    reason, _, statuses = chained.recover(
        chained.dumper.dump(0), {option: "y"}, name=Name(b"missing", bytes(chained.target / "x"))
    )
    assert (reason, statuses) == (DataHaltReason.SUCCESSFUL, [2])


def test_parts_leave_the_chain_alone(chained: Chain) -> None:
    first = chained.dumper.dump(0)
    chained.recover(first)
    (table,) = chained.tables
    assert chained.recover(first, name=Name(b"old", bytes(chained.target / "old")))[2] == [0]
    kept = chained.recover(first, {"OVERWRITE": "n"}, name=Name(b"old", bytes(chained.target / "old")))
    assert kept[0] == DataHaltReason.SUCCESSFUL
    assert kept[2] == [7]
    chained.change()
    shutil.rmtree(chained.source / "c/b")
    assert chained.recover(chained.dumper.dump(1))[0] == DataHaltReason.SUCCESSFUL
    chained.assert_equal()
    assert chained.tables == [table]


def test_levels_by_the_commands(shm: Path, login: Login, local: Server) -> None:
    """The built-in DMA backs up three levels onto one cartridge and recovers them in order."""
    chained = Chain(shm, local, login)
    secret = shm / "password"
    secret.touch(mode=0o600)
    secret.write_text(login.password)

    def run(command: str, *arguments: str) -> dict[str, Any]:
        options = ["--host", local.address, "--user", login.user, "--password-file", str(secret)]
        options += ["--drive", "vtl0/drive0", "--catalogue", str(shm / "catalogue"), "--json"]
        done = subprocess.run(
            [*mover_command(), command, *arguments, *options], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        assert told["warnings"] == []
        return told

    def change_again() -> None:
        (chained.source / "c/b/file").rename(chained.source / "file")
        shutil.rmtree(chained.source / "c")
        (chained.source / "c").write_text("a file now")

    jobs = []
    for level, change in enumerate([lambda: None, chained.change, change_again]):
        change()
        wait_for_the_next_second()
        jobs.append(run("backup", str(chained.source), "--level", str(level))["job"])
    for job in jobs:
        told = run("recover", "--job", str(job), "--destination", str(chained.target))
    assert "removed" in str(told["log"])
    chained.assert_equal()
