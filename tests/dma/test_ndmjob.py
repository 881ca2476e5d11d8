"""ndmjob's daemon as the server: a drive and a mover that nobody here wrote take what our DMA sends."""

import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from mover.dma import (
    BackupOptions,
    Credentials,
    JobError,
    LoginError,
    NdmpError,
    RecoverOptions,
    Server,
    run_backup,
    run_recover,
)
from mover.dma.catalogue import Catalogue
from mover.dma.client import open_client
from mover.dma.compare import compare_trees
from mover.dma.drive import go_to_end, go_to_file, mtio, open_drive
from mover.dma.jobs import open_job
from mover.dma.options import Session
from mover.dma.services import join_services
from mover.ndmp.enums import MoverMode, MoverState, TapeOperation
from mover.ndmp.messages import (
    Body,
    ConfigGetConnectionTypeReply,
    ConfigGetConnectionTypeRequest,
    TapeReadReply,
    TapeReadRequest,
    TapeWriteReply,
    TapeWriteRequest,
)
from tests.support import peers
from tests.support.servers import Login, write_config
from tests.support.servers import Server as Serve
from tests.support.trees import make_tree

pytestmark = pytest.mark.peer("ndmjob")

LOGIN = Credentials("ndmp", "ndmp")
DEADLINE_S = 20


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A fresh daemon; it serves one connection after another and leaves when its standard input closes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["timeout", "60", str(peers.require("ndmjob")), "-o", "test-daemon", "-p", str(port)]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        seen = b""
        while b"READY" not in seen:
            data = await process.stdout.receive_some()
            assert data, "ndmjob ended before it was ready"
            seen += data
        yield Server("127.0.0.1", port)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await process.stdin.aclose()
            await process.wait()
            await process.stdout.aclose()


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    path = tmp_path / "tape"
    path.touch()
    return path


@pytest.mark.parametrize("method", ["md5", "text", "auto"])
@pytest.mark.parametrize("version", [2, 3, 4])
async def test_connect_and_log_in(server: Server, version: int, method: str) -> None:
    async def no_post(_body: Body) -> None:
        raise AssertionError("a post without a job")

    login = Credentials("ndmp", "ndmp", method)  # type: ignore[arg-type] # the parameters are its values
    with trio.fail_after(DEADLINE_S):
        async with open_client(server, login, no_post, max_version=version) as client:
            assert client.version == version
            types = await client.call(ConfigGetConnectionTypeRequest(), ConfigGetConnectionTypeReply)
            assert types.addr_types == (0, 1)


async def test_a_wrong_password(server: Server) -> None:
    async def no_post(_body: Body) -> None:
        raise AssertionError("a post without a job")

    async def connect() -> None:
        async with open_client(server, Credentials("ndmp", "pmdn"), no_post):
            pass

    with trio.fail_after(DEADLINE_S), pytest.raises(LoginError, match=r"by MD5 refused: NOT_AUTHORIZED_ERR$"):
        await connect()


@pytest.mark.parametrize("version", [2, 3, 4])
async def test_its_drive(server: Server, tape: Path, version: int) -> None:
    session = Session(data=server, credentials=LOGIN, drive=str(tape), max_version=version)
    with trio.fail_after(DEADLINE_S):
        async with open_job(session, None, None) as job:
            await open_drive(job, write=True)
            assert await go_to_end(job) == 0
            for number in range(3):
                await job.tape.call(TapeWriteRequest(b"%d" % number * 1000), TapeWriteReply)
                assert await mtio(job, TapeOperation.EOF, 1) == 1
            await mtio(job, TapeOperation.REW, 1)
            assert await go_to_end(job) == 3
            await mtio(job, TapeOperation.REW, 1)
            await go_to_file(job, 2)
            assert (await job.tape.call(TapeReadRequest(5000), TapeReadReply)).data_in == b"2" * 1000
            await mtio(job, TapeOperation.REW, 1)
            with pytest.raises(JobError, match="no tape file 4, the cartridge ends behind 3 filemarks"):
                await go_to_file(job, 4)
            await job.close_tape()


@pytest.mark.parametrize("version", [3, 4])
async def test_its_mover_and_data_service_meet(server: Server, tape: Path, version: int) -> None:
    session = Session(data=server, credentials=LOGIN, drive=str(tape), max_version=version)
    with trio.fail_after(DEADLINE_S):
        async with open_job(session, None, None) as job:
            await open_drive(job, write=True)
            await join_services(job, MoverMode.READ, 8192)
            assert (await job.poll()).mover.state == MoverState.ACTIVE
            await job.abort(JobError("a test"))
            states = await job.poll()
            # It aborts a data service that is ACTIVE and no other; the end of the connection ends this one.
            assert str(states) == "DATA CONNECTED, MOVER IDLE"
            assert [line.text for line in job.events.log if line.kind == "dma"] == []


@pytest.mark.parametrize("version", [2, 3, 4])
async def test_a_backup_it_cannot_do_is_cleaned_up(server: Server, tape: Path, tmp_path: Path, version: int) -> None:
    options = BackupOptions(
        data=server,
        credentials=LOGIN,
        drive=str(tape),
        max_version=version,
        filesystem="/srv",
        butype="no such type",
        catalogue=tmp_path / "catalogue.sqlite",
    )
    for number in (1, 2):  # the second shows that the first left nothing behind
        with trio.fail_after(DEADLINE_S), pytest.raises(NdmpError, match=r"^DATA_START_BACKUP: "):
            await run_backup(options)
        catalogue = Catalogue(options.catalogue)
        assert catalogue.job(number).status == "failed"
        assert [line for line in catalogue.log(number) if line.kind == "dma"] == []
        catalogue.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Server]:
    """A real data server with a tree in its volume `source`."""
    directory = tmp_path / "serve"
    (directory / "target").mkdir(parents=True)
    make_tree(directory / "source", wide=50, depth=5, huge_sparse=False)
    volumes = {name: directory / name for name in ("source", "target")}
    with Serve(write_config(directory, Login("ndmp", "ndmp"), volumes=volumes)) as running:
        host, _, port = running.address.rpartition(":")
        yield Server(host, int(port))


@pytest.mark.slow
@pytest.mark.parametrize(("version", "data_listens"), [(2, False), (3, False), (3, True), (4, False), (4, True)])
async def test_our_data_service_and_its_drive(
    server: Server, serve: Server, tape: Path, tmp_path: Path, version: int, *, data_listens: bool
) -> None:
    source, target = tmp_path / "serve" / "source", tmp_path / "serve" / "target"
    common: dict[str, object] = {
        "data": serve,
        "tape": server,
        "credentials": LOGIN,
        "drive": str(tape),
        "max_version": version,
        "data_listens": data_listens,
        "catalogue": tmp_path / "catalogue.sqlite",
    }
    with trio.fail_after(60):
        for number in (0, 1):
            backup = await run_backup(BackupOptions(**common, filesystem=str(source)))  # type: ignore[arg-type] # as named
            assert (backup.tape_file, backup.warnings) == (number, [])
        recover = await run_recover(RecoverOptions(**common, destination=str(target)))  # type: ignore[arg-type] # as named
    assert (recover.tape_file, recover.failed, recover.warnings) == (1, [], [])
    assert compare_trees(source, target).differences == []
