"""Virtual drives as a DMA meets them: names that rewind or unload, rehearsed faults, cartridges for other readers."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from mover.ndmp.enums import ErrorCode, TapeFlag, TapeMode, TapeOperation
from mover.ndmp.messages import (
    TapeCloseRequest,
    TapeGetStateReply,
    TapeGetStateRequest,
    TapeMtioRequest,
    TapeOpenRequest,
    TapeWriteReply,
    TapeWriteRequest,
)
from tests.e2e.conftest import MakeServer
from tests.support import peers
from tests.support.ndmp_client import NdmpClient
from tests.support.processes import settle
from tests.support.servers import Login, Server, mover_command
from tests.support.trees import make_tree
from tests.tape import tap

pytestmark = pytest.mark.slow

TIME_LIMIT_S = 120


def state(client: NdmpClient) -> TapeGetStateReply:
    found = client.ok(TapeGetStateRequest())
    assert isinstance(found, TapeGetStateReply)
    return found


def write(client: NdmpClient, data: bytes) -> tuple[int, int]:
    body = client.ask(TapeWriteRequest(data)).body
    assert isinstance(body, TapeWriteReply)
    return body.error, body.count


# --- names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("ends", ["close", "connection"])
def test_a_name_says_what_closing_does(make_server: MakeServer, login: Login, version: int, ends: str) -> None:
    server = make_server("server")
    flags = {b"vtl0/drive0": TapeFlag.NOREWIND, b"vtl0/rdrive0": TapeFlag(0), b"vtl0/udrive0": TapeFlag.UNLOAD}
    expected = {b"vtl0/drive0": (0, 1), b"vtl0/rdrive0": (0, 0)}
    for name, flag in flags.items():
        with NdmpClient(server.address, login=login, version=version) as client:
            wanted = TapeOpenRequest(name, TapeMode.RDWR)
            settle(lambda: client.error(wanted) == ErrorCode.NO_ERR, "the drive is free")  # noqa: B023 - called here
            assert state(client).flags == flag
            client.ok(TapeMtioRequest(TapeOperation.REW, 1))
            assert write(client, b"a" * 512) == (ErrorCode.NO_ERR, 512)
            if version == 4:
                client.ok(TapeMtioRequest(TapeOperation.BSR, 1))
                client.ok(TapeMtioRequest(TapeOperation.FSR, 1))
            if ends == "close":
                client.ok(TapeCloseRequest())
                assert client.error(TapeCloseRequest()) == ErrorCode.DEV_NOT_OPEN_ERR
        if name == b"vtl0/udrive0":
            break
        with NdmpClient(server.address, login=login, version=version) as client:
            wanted = TapeOpenRequest(b"vtl0/drive0", TapeMode.READ)
            settle(lambda: client.error(wanted) == ErrorCode.NO_ERR, "the drive is free")  # noqa: B023 - called here
            place = state(client)
            marks = int(version == 4 and name == b"vtl0/drive0")  # the implicit one
            assert (place.file_num, place.blockno) == ((1, 0) if marks else expected[name])
    with NdmpClient(server.address, login=login, version=version) as client:
        gone = TapeOpenRequest(b"vtl0/rdrive0", TapeMode.READ)
        settle(lambda: client.error(gone) == ErrorCode.NO_TAPE_LOADED_ERR, "the cartridge is ejected")
        assert client.error(TapeOpenRequest(b"vtl0/xdrive0", TapeMode.READ)) == ErrorCode.NO_DEVICE_ERR


# --- rehearsed faults ------------------------------------------------------------------------------------------


def test_a_fault_is_met_named_and_taken_away_by_a_reload(make_server: MakeServer, login: Login) -> None:
    fault = '[[fault]]\ndrive = "vtl0/drive0"\nkind = "write-error"\nrecord = 2\n'
    server = make_server("server", extra=fault)
    with NdmpClient(server.address, login=login, version=4) as client:
        client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.RDWR))
        assert write(client, b"a" * 512) == (ErrorCode.NO_ERR, 512)
        assert write(client, b"b" * 512) == (ErrorCode.IO_ERR, 0)
        assert state(client).flags & TapeFlag.ERROR
        assert write(client, b"c" * 512) == (ErrorCode.NO_ERR, 512)
        client.ok(TapeCloseRequest())
    assert "drive rehearses faults" in server.log.read_text(errors="replace")
    (cartridge,) = (server.config.parent / "tapes").glob("*.tap")
    assert tap.read(cartridge) == [b"a" * 512, b"c" * 512, tap.MARK]
    server.config.write_text(server.config.read_text().replace(fault, ""))
    os.kill(server.pid, signal.SIGHUP)
    settle(lambda: "configuration read again" in server.log.read_text(errors="replace"), "the reload")
    with NdmpClient(server.address, login=login, version=4) as client:
        client.ok(TapeOpenRequest(b"vtl0/drive0", TapeMode.RDWR))
        assert [write(client, b"d" * 512) for _ in range(3)] == [(ErrorCode.NO_ERR, 512)] * 3
        client.ok(TapeCloseRequest())


# --- cartridges for other readers ------------------------------------------------------------------------------


def backup(server: Server, login: Login, shm: Path, kind: str) -> Path:
    """Backs ``tree`` up; a file with the stream that an independent reader takes from the cartridge."""
    secret = shm / "password"
    secret.touch(mode=0o600)
    secret.write_text(login.password)
    done = subprocess.run(
        [
            *mover_command(), "backup", str(shm / "tree"), "--type", kind, "--host", server.address,
            "--user", login.user, "--password-file", str(secret), "--drive", "vtl0/drive0",
            "--catalogue", str(shm / "catalogue"), "--json",
        ],
        capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["job"]
    server.stop()
    (cartridge,) = [each for each in (server.config.parent / "tapes").glob("*.tap") if each.stat().st_size]
    files: list[list[bytes]] = [[]]
    for item in tap.read(cartridge):
        if item is None:
            files.append([])
        else:
            files[-1].append(item)
    assert files[-1] == []  # the last file ends with its mark
    records = max(files, key=lambda each: sum(map(len, each)))
    assert len({len(record) for record in records}) == 1  # the last record is padded
    stream = shm / "stream"
    stream.write_bytes(b"".join(records))
    return stream


@pytest.mark.peer("restore")
def test_restore_reads_what_another_reader_takes_from_a_cartridge(local: Server, login: Login, shm: Path) -> None:
    make_tree(shm / "tree", wide=50, depth=5, huge_sparse=False)
    stream = backup(local, login, shm, "dump")
    target, scratch = shm / "target", shm / "tmp"
    target.mkdir()
    scratch.mkdir()
    command = [str(peers.require("restore")), "-r", "-f", str(stream), "-T", str(scratch)]
    result = subprocess.run(command, cwd=target, capture_output=True, check=False, timeout=TIME_LIMIT_S)
    assert (result.returncode, result.stderr) == (0, b"")
    (target / "restoresymtable").unlink()
    different = compare_trees(shm / "tree", target, time_granularity_ns=1000).differences
    # restore writes its table into the root after it has set the root's time
    assert [each for each in different if (each.path, each.what) != (b".", "mtime")] == []


@pytest.mark.peer("tar")
def test_tar_reads_what_another_reader_takes_from_a_cartridge(local: Server, login: Login, shm: Path) -> None:
    (shm / "tree" / "below").mkdir(parents=True)
    for number in range(100):
        (shm / "tree" / "below" / f"file{number}").write_bytes(os.urandom(number * 300))
    stream = backup(local, login, shm, "tar")
    target = shm / "target"
    target.mkdir()
    command = [str(peers.require("tar")), "-xpf", str(stream), "-C", str(target)]
    subprocess.run(command, check=True, timeout=TIME_LIMIT_S)
    assert compare_trees(shm / "tree", target).differences == []
