"""Bad input and bad days: each gets the protocol's own error or a log line that names the thing, and the job goes on
where it can."""

import re
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from mover.dma.compare import compare_trees
from mover.ndmp.enums import (
    DataHaltReason,
    DataState,
    ErrorCode,
    MoverHaltReason,
    MoverMode,
    MoverPauseReason,
    TapeMode,
)
from mover.ndmp.messages import (
    DataGetStateReply,
    DataGetStateRequest,
    DataStartBackupRequest,
    NotifyMoverPausedPost,
    TapeCloseRequest,
    TapeOpenRequest,
)
from tests.e2e.conftest import MakeServer
from tests.support.ndmp_client import Job, NdmpClient, pairs
from tests.support.servers import Login, Server, mover_command
from tests.support.trees import make_large_file, make_small_files

MIB = 1 << 20


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("{shm}/missing", "missing"),
        ("/etc", "/etc"),
        ("{shm}/../../etc", "etc"),
        ("{shm}/escape", "escape"),
        ("{shm}/file", "file"),
        ("", "FILESYSTEM"),
    ],
)
def test_a_path_that_may_not_be_backed_up_is_named(
    path: str, named: str, shared: Server, login: Login, shared_shm: Path
) -> None:
    shm = Path(tempfile.mkdtemp(dir=shared_shm))
    (shm / "escape").symlink_to("/etc")
    (shm / "file").write_text("no directory")
    with Job.connect(shared, shared, login) as job:
        job.connect_data(MoverMode.READ)
        request = DataStartBackupRequest(b"dump", pairs(FILESYSTEM=path.format(shm=shm)))
        assert job.data.error(request) == ErrorCode.ILLEGAL_ARGS_ERR
        state = job.data.ok(DataGetStateRequest())
        assert isinstance(state, DataGetStateReply)
        assert state.state == DataState.CONNECTED
        assert any(named in line for line in job.data.log()), job.data.log()
        job.data.hang_up()  # the next has the same drive


@pytest.mark.slow
def test_drives_that_cannot_be_opened(make_server: MakeServer, login: Login, shm: Path) -> None:
    server = make_server("server", drives=3, load=False)
    server.ask("tape", "load", "vtl0/drive1")
    server.ask("tape", "load", "vtl0/drive2")
    tapes = sorted((shm / "server" / "tapes").glob("*.tap"))
    with NdmpClient(server.address, login=login) as first, NdmpClient(server.address, login=login) as second:

        def opened(client: NdmpClient, drive: bytes, mode: TapeMode = TapeMode.RDWR) -> int:
            return client.error(TapeOpenRequest(drive, mode))

        assert opened(first, b"bogus") == ErrorCode.NO_DEVICE_ERR
        assert opened(first, b"vtl0/drive0") == ErrorCode.NO_TAPE_LOADED_ERR
        assert opened(first, b"vtl0/drive1") == ErrorCode.NO_ERR
        assert opened(first, b"vtl0/drive2") == ErrorCode.DEVICE_OPENED_ERR
        assert opened(second, b"vtl0/drive1") == ErrorCode.DEVICE_BUSY_ERR
        first.ok(TapeCloseRequest())
        for tape in tapes:
            tape.chmod(0o444)
        assert opened(second, b"vtl0/drive1") == ErrorCode.WRITE_PROTECT_ERR
        assert opened(second, b"vtl0/drive1", TapeMode.READ) == ErrorCode.NO_ERR


@pytest.mark.slow
def test_a_full_cartridge_pauses_with_everything_counted(make_server: MakeServer, login: Login, shm: Path) -> None:
    server = make_server("server", cartridge_size="16MiB", early_warning="1MiB")
    source = shm / "source"
    source.mkdir()
    make_large_file(source / "large", size=32 * MIB)
    with Job.connect(server, server, login) as job:
        job.start_backup(str(source))
        assert job.tape.wait_for(NotifyMoverPausedPost).reason == MoverPauseReason.EOM


@pytest.mark.slow
def test_files_that_shrink_grow_vanish_or_cannot_be_read(local: Server, login: Login, shm: Path) -> None:
    source, target = shm / "source", shm / "target"
    make_small_files(source, files=3000, directories=3)
    steady = source / "steady"
    make_large_file(steady, size=8 * MIB)
    churned = [source / f"churned-{number}" for number in range(4)]
    for file in churned:
        make_large_file(file, size=4 * MIB)
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for number, file in enumerate(churned):
                with open(file, "r+b") as handle:
                    handle.truncate(MIB if number % 2 else 9 * MIB)
                    handle.truncate(4 * MIB)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        with Job.connect(local, local, login) as job:
            job.start_backup(str(source), HIST="y")
            assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
            assert job.tape.mover_halted() == MoverHaltReason.CONNECT_CLOSED
            job.tape.hang_up()
    finally:
        stop.set()
        thread.join(20)
    with Job.connect(local, local, login) as job:
        job.start_recover(str(source), str(target))
        assert job.data.data_halted() == DataHaltReason.SUCCESSFUL
        job.tape.hang_up()
    for file in churned:
        (target / file.name).unlink()
        file.unlink()
    assert [
        difference
        for difference in compare_trees(source, target).differences
        if difference.path != b"."  # its time changed with the names
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "status", "named"),
    [
        (("[node]", '[node]\nnmae = "x"'), 2, r"nmae"),
        (("port = 0", "port = 70000"), 2, r"lif\[0\]\.port.*70000"),
        (("port = 0", "port = {taken}"), 1, r"{taken}"),
        (('"shm" = "', '"shm" = "/nowhere'), 1, r"/nowhere"),
        (("[node]", "[node"), 2, r"line 1|mover.toml"),
    ],
)
def test_serve_says_what_is_wrong_in_one_line(
    change: tuple[str, str], status: int, named: str, local: Server, shm: Path
) -> None:
    taken = local.address.rpartition(":")[2]
    config = shm / "mover.toml"
    text = local.config.read_text().replace(str(local.ready.admin_socket), str(shm / "other.sock"))
    config.touch(mode=0o600)
    config.write_text(text.replace(change[0], change[1].format(taken=taken), 1))
    result = subprocess.run(
        [*mover_command(), "serve", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (result.returncode, result.stdout) == (status, "")
    lines = [line for line in result.stderr.splitlines() if line]
    assert re.search(named.format(taken=taken), lines[-1]), result.stderr
    assert "Traceback" not in result.stderr
    assert len(lines) == 1, result.stderr
