"""run_backup against a scripted server: the sequence, the catalogue, and each way to fail."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from mover.dma import (
    BackupOptions,
    CartridgeError,
    CartridgeFullError,
    ControlConnectionError,
    Credentials,
    JobError,
    LoginError,
    LogLine,
    NdmpError,
    Progress,
    Server,
    run_backup,
)
from mover.dma.cartridge_book import CartridgeBook
from mover.dma.catalogue import Catalogue
from mover.media import Label, encode_label
from mover.ndmp import messages as m
from mover.ndmp.enums import AuthType, ConnectionStatusReason, ErrorCode, MessageCode
from mover.ndmp.states import DataInput, MoverInput
from tests.dma.fake_server import LOG_WARNING, LOGIN, World, fake_server, small_history

C = MessageCode
DEADLINE_S = 20


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def server(world: World) -> AsyncIterator[Server]:
    async with fake_server(world) as address:
        yield address


def options(server: Server, tmp_path: Path, **changes: object) -> BackupOptions:
    given: dict[str, object] = {
        "data": server,
        "credentials": LOGIN,
        "drive": "drive0",
        "filesystem": "/srv/\udcff",
        "record_size": 512,
        "catalogue": tmp_path / "below" / "catalogue.sqlite",
    }
    return BackupOptions(**{**given, **changes})  # type: ignore[arg-type] # a test's own choices


def read(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "below" / "catalogue.sqlite", create=False)


@pytest.mark.parametrize("version", [2, 3, 4])
async def test_local_backup(world: World, server: Server, tmp_path: Path, version: int) -> None:
    world.version = version
    of_unknown_kind = m.LogMessagePost(77, 2, b"of a kind of its own")
    world.history, world.posts = small_history(), [LOG_WARNING, of_unknown_kind]
    world.env = (m.Pval(b"PATHNAME_SEPARATOR", b"/"),)
    seen: list[Progress] = []
    lines: list[LogLine] = []
    with trio.fail_after(DEADLINE_S):
        result = await run_backup(options(server, tmp_path), progress=seen.append, log=lines.append)
    assert (result.job, result.tape_file, result.bytes_processed, result.files) == (1, 0, 5000, 4)
    assert (result.protocol_version, result.record_size) == (version, 512)
    assert (b"FILESYSTEM", b"/srv/\xff") in result.env
    assert result.env[-1] == (b"PATHNAME_SEPARATOR", b"/")
    assert world.image(0) == world.stream
    assert world.marks == 1
    assert seen[0].phase == "connect"
    assert seen[-1].phase == "finish"
    assert seen[-1].bytes_processed == 5000
    if version > 2:
        assert lines == result.log
        assert lines == [LogLine("warning", "file changed while read"), LogLine("normal", "of a kind of its own")]
        assert result.warnings == ["file changed while read"]
    catalogue = read(tmp_path)
    job = catalogue.job(None)
    assert (job.status, job.tape_file, job.bytes_processed, job.files) == ("successful", 0, 5000, 4)
    assert job.filesystem == "/srv/\udcff"
    assert catalogue.env(1) == result.env
    assert [entry.path for entry in catalogue.entries(1)] == [b"/", b"/a", b"/d", b"/d/x\n", b"/d/\xff"]
    catalogue.close()


@pytest.mark.parametrize(
    ("version", "sequence"),
    [
        (4, [C.MOVER_SET_RECORD_SIZE, C.MOVER_SET_WINDOW, C.MOVER_LISTEN, C.DATA_CONNECT, C.DATA_START_BACKUP]),
        (3, [C.MOVER_SET_RECORD_SIZE, C.MOVER_LISTEN, C.MOVER_SET_WINDOW, C.DATA_CONNECT, C.DATA_START_BACKUP]),
        (2, [C.MOVER_SET_RECORD_SIZE, C.MOVER_LISTEN, C.MOVER_SET_WINDOW, C.DATA_START_BACKUP]),
    ],
)
async def test_order_of_requests(
    world: World, server: Server, tmp_path: Path, version: int, sequence: list[MessageCode]
) -> None:
    with trio.fail_after(DEADLINE_S):
        result = await run_backup(options(server, tmp_path, max_version=version))
    assert result.protocol_version == version
    polls = {C.DATA_GET_STATE, C.MOVER_GET_STATE, C.TAPE_GET_STATE}
    order = [code for code in world.order if code not in polls]
    tape = [C.TAPE_OPEN, C.TAPE_MTIO, C.TAPE_MTIO, C.TAPE_READ, C.TAPE_MTIO, C.TAPE_MTIO]
    end = [C.DATA_GET_ENV, C.TAPE_MTIO, C.TAPE_CLOSE, C.DATA_STOP, C.MOVER_STOP, C.CONNECT_CLOSE]
    start = order.index(C.TAPE_OPEN)
    assert order[start:] == tape + sequence + end


@pytest.mark.parametrize(("version", "data_listens"), [(2, False), (3, False), (3, True), (4, False), (4, True)])
async def test_three_way_backup(
    world: World, server: Server, tmp_path: Path, version: int, *, data_listens: bool
) -> None:
    world.version = version
    with trio.fail_after(DEADLINE_S):
        result = await run_backup(options(server, tmp_path, tape=server, data_listens=data_listens))
    assert result.bytes_processed == 5000
    assert world.requests[C.CONNECT_CLIENT_AUTH] == 2
    assert world.requests[C.DATA_LISTEN if data_listens else C.MOVER_LISTEN] == 1
    assert world.image(0) == world.stream


async def test_data_cannot_listen_in_version_2(world: World, server: Server, tmp_path: Path) -> None:
    world.version = 2
    with trio.fail_after(DEADLINE_S), pytest.raises(JobError, match="the data server cannot listen"):
        await run_backup(options(server, tmp_path, tape=server, data_listens=True))


async def test_appends_behind_the_last_file(world: World, server: Server, tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        for number in range(3):
            result = await run_backup(options(server, tmp_path))
            assert (result.job, result.tape_file) == (number + 1, number)
        assert [b"".join(records) for records in world.tape] == [world.stream] * 3
        result = await run_backup(options(server, tmp_path, overwrite=True))
    assert (result.job, result.tape_file, len(world.tape), world.marks) == (4, 0, 1, 1)


async def test_an_earlier_backup_is_the_estimate(world: World, server: Server, tmp_path: Path) -> None:
    world.estimates = False
    for expected in ({None}, {None, 5000}):
        seen: list[Progress] = []
        with trio.fail_after(DEADLINE_S):
            await run_backup(options(server, tmp_path), progress=seen.append)
        assert {progress.total_bytes for progress in seen} == expected
    with trio.fail_after(DEADLINE_S):
        await run_backup(options(server, tmp_path, level=1), progress=seen.append)
    assert seen[-1].total_bytes is None


async def test_an_unfinished_file_gets_a_filemark(world: World, server: Server, tmp_path: Path) -> None:
    world.tape = [[b"whole"], [b"torn"]]
    world.marks = 1
    with trio.fail_after(DEADLINE_S):
        result = await run_backup(options(server, tmp_path))
    assert result.tape_file == 2
    assert result.warnings == ["tape file 1 had no filemark at its end and got one"]
    assert world.tape[1] == [b"torn"]
    assert world.image(2) == world.stream


@pytest.mark.parametrize("unfinished", [False, True])
async def test_a_filemark_that_is_not_written(
    world: World, server: Server, tmp_path: Path, *, unfinished: bool
) -> None:
    """NO_ERR and a residual: the drive may hold the end of the image, and the next one would run into this one."""
    world.takes_marks = False
    if unfinished:
        world.tape = [[b"torn"]]
    with trio.fail_after(DEADLINE_S), pytest.raises(JobError, match="drive0: the filemark was not written"):
        await run_backup(options(server, tmp_path))
    assert not unfinished or world.tape == [[b"torn"]]
    assert world.requests[C.DATA_STOP] == 0  # which would make the server base other backups on this one
    catalogue = read(tmp_path)
    assert catalogue.job(1).status == "failed"
    catalogue.close()


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (C.TAPE_OPEN, r"TAPE_OPEN: NO_TAPE_LOADED_ERR: no cartridge in the drive, or .* \(drive0 at 127.0.0.1:\d+\)"),
        (C.TAPE_MTIO, r"TAPE_MTIO: NO_TAPE_LOADED_ERR: .* \(REW 1 on drive0\)"),
        (C.MOVER_SET_RECORD_SIZE, r"MOVER_SET_RECORD_SIZE: .* \(512 bytes\)"),
        (C.MOVER_LISTEN, "MOVER_LISTEN: "),
        (C.DATA_CONNECT, r"DATA_CONNECT: .* \(local\)"),
        (C.DATA_START_BACKUP, "DATA_START_BACKUP: "),
        (C.DATA_GET_ENV, "DATA_GET_ENV: "),
    ],
)
@pytest.mark.parametrize("where", ["refuse", "refuse_in_header"])
async def test_a_refusal_ends_the_job(
    world: World, server: Server, tmp_path: Path, code: MessageCode, text: str, where: str
) -> None:
    getattr(world, where)[code] = ErrorCode.NO_TAPE_LOADED_ERR
    with trio.fail_after(DEADLINE_S), pytest.raises(NdmpError, match="^" + text) as caught:
        await run_backup(options(server, tmp_path))
    assert (caught.value.message, caught.value.code) == (code.name, ErrorCode.NO_TAPE_LOADED_ERR)
    assert world.order[-1] is C.CONNECT_CLOSE
    assert world.requests[C.TAPE_CLOSE] == (code is not C.TAPE_OPEN)
    catalogue = read(tmp_path)
    job = catalogue.job(1)
    assert (job.status, job.message) == ("failed", str(caught.value))
    catalogue.close()


async def test_a_refusal_says_what_the_server_logged(world: World, server: Server, tmp_path: Path) -> None:
    world.tape, world.marks = [[b"an image"]], 1
    world.refuse[C.DATA_START_BACKUP] = ErrorCode.ILLEGAL_ARGS_ERR
    world.logged_refusal = m.LogMessagePost(2, 1, b"/srv is no volume")
    world.logged_abort = m.LogMessagePost(2, 1, b"mover: the data connection failed")
    said: list[LogLine] = []
    with trio.fail_after(DEADLINE_S), pytest.raises(NdmpError, match=r"^DATA_START_BACKUP.*: /srv is no volume$"):
        await run_backup(options(server, tmp_path), log=said.append)
    # The mover's only met the end that the DMA made.
    assert said == [LogLine("error", "/srv is no volume"), LogLine("debug", "mover: the data connection failed")]


@pytest.mark.parametrize(
    ("known", "keep", "overwrite", "refused"),
    [
        (True, True, False, "a backup goes to a labelled cartridge with --labels or --changer"),
        (False, False, False, "a backup goes to a labelled cartridge with --labels or --changer"),
        (True, True, True, "and backups on it are to be kept"),
        (True, False, True, ""),
        (False, False, True, ""),
    ],
)
async def test_a_labelled_cartridge_is_for_backups_with_labels(
    world: World, server: Server, tmp_path: Path, known: bool, keep: bool, overwrite: bool, refused: str
) -> None:
    """Or the book of cartridges would not know what is on it."""
    label = Label("A1", "ab" * 16, 1_700_000_000)
    world.tape, world.marks = [[encode_label(label)], [b"an image"]], 2
    (tmp_path / "below").mkdir()
    catalogue = Catalogue(tmp_path / "below" / "catalogue.sqlite")
    book = CartridgeBook(catalogue)
    if known:
        cartridge = book.labelled(label, "")
        job = catalogue.begin_job(
            data_server="h", tape_server="h", drive="d", record_size=512, butype="dump", filesystem=b"/x",
            protocol_version=4, keep_until=None if keep else 1.0, level=0,
        )  # fmt: skip
        book.begin_segment(job, 0, cartridge, 1, 0)
        book.end_segment(job, 0, 8)
        catalogue.end_job(job, "successful", "", tape_file=1, bytes_processed=8, env=[], log=[])
    with trio.fail_after(DEADLINE_S):
        if refused:
            with pytest.raises(CartridgeError, match=f"^cartridge A1 is in drive0.*{refused}"):
                await run_backup(options(server, tmp_path, overwrite=overwrite))
            assert world.tape[1:] == [[b"an image"]]
        else:
            assert (await run_backup(options(server, tmp_path, overwrite=overwrite))).tape_file == 0
    assert [each.id for each in book.cartridges()] == [label.id] * (known and bool(refused))
    catalogue.close()


async def test_a_full_cartridge_aborts(world: World, server: Server, tmp_path: Path) -> None:
    world.early_warning = True
    with trio.fail_after(DEADLINE_S), pytest.raises(CartridgeFullError, match="drive0: the cartridge is full after"):
        await run_backup(options(server, tmp_path))
    assert [world.requests[code] for code in (C.DATA_ABORT, C.DATA_STOP, C.MOVER_STOP, C.TAPE_CLOSE)] == [1] * 4


async def test_a_mover_that_moved_less_than_was_sent(world: World, server: Server, tmp_path: Path) -> None:
    """Both services ended well, by their own word."""
    world.lost_bytes = 1
    with trio.fail_after(DEADLINE_S), pytest.raises(JobError, match="the rest is not on tape"):
        await run_backup(options(server, tmp_path))
    assert world.requests[C.DATA_STOP] == 0


@pytest.mark.parametrize(
    ("data", "mover", "text"),
    [
        (DataInput.FAILED, MoverInput.CONNECTION_LOST, "data service halted: INTERNAL_ERROR, mover halted: CONNECT_E"),
        (DataInput.CONNECTION_LOST, MoverInput.FAILED, "data service halted: CONNECT_ERROR, mover halted: INTERNAL"),
        (DataInput.COMPLETE, MoverInput.CONNECTION_LOST, "data service halted: SUCCESSFUL, mover halted: CONNECT_ERR"),
        (DataInput.CONNECTION_LOST, MoverInput.MEDIA_ERROR, "data service halted: CONNECT_ERROR, mover halted: MEDIA"),
    ],
)
async def test_other_ends_are_failures(
    world: World, server: Server, tmp_path: Path, data: DataInput, mover: MoverInput, text: str
) -> None:
    world.data_reason, world.mover_ends_with = data, mover
    world.posts = [m.LogMessagePost(2, 1, b"disk on fire")]
    with trio.fail_after(DEADLINE_S), pytest.raises(JobError, match=text + r".* \(disk on fire\)$"):
        await run_backup(options(server, tmp_path))
    assert world.requests[C.TAPE_CLOSE] == 1


async def test_what_broke_the_mover_is_the_reason_and_not_what_the_data_service_saw_of_it(
    world: World, server: Server, tmp_path: Path
) -> None:
    world.data_reason, world.mover_ends_with = DataInput.CONNECTION_LOST, MoverInput.FAILED
    said = ("mover: the tape worker died", "data: the ring is broken")
    world.posts = [m.LogMessagePost(2, number, text.encode()) for number, text in enumerate(said)]
    with trio.fail_after(DEADLINE_S), pytest.raises(JobError, match=r"INTERNAL_ERROR \(mover: the tape worker died\)$"):
        await run_backup(options(server, tmp_path))


@pytest.mark.slow
async def test_halts_without_posts_are_believed(
    world: World, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mover.dma.jobs.POST_GRACE_S", 0.1)
    world.lose_posts = True
    with trio.fail_after(DEADLINE_S):
        assert (await run_backup(options(server, tmp_path))).bytes_processed == 5000


@pytest.mark.parametrize("three_way", [False, True])
async def test_cancelling_aborts(world: World, server: Server, tmp_path: Path, *, three_way: bool) -> None:
    world.hold = trio.Event()
    world.history = small_history()
    with trio.fail_after(DEADLINE_S):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_backup, options(server, tmp_path, tape=server if three_way else None))
                await world.active.wait()
                scope.cancel()
        assert scope.cancelled_caught
    ends = (C.DATA_ABORT, C.MOVER_ABORT, C.DATA_STOP, C.MOVER_STOP, C.TAPE_CLOSE)
    assert [world.requests[code] for code in ends] == [1] * 5
    assert world.requests[C.CONNECT_CLOSE] == 1 + three_way
    catalogue = read(tmp_path)
    job = catalogue.job(1)
    assert (job.status, job.message, job.files) == ("aborted", "cancelled", 4)
    catalogue.close()


@pytest.mark.parametrize("code", [C.TAPE_OPEN, C.DATA_START_BACKUP, C.DATA_STOP])
async def test_a_lost_connection(world: World, server: Server, tmp_path: Path, code: MessageCode) -> None:
    world.hang_up.add(code)
    with trio.fail_after(DEADLINE_S), pytest.raises(ControlConnectionError, match="the server closed the connection"):
        await run_backup(options(server, tmp_path))


async def test_a_lost_connection_says_what_the_server_said(world: World, server: Server, tmp_path: Path) -> None:
    world.hang_up.add(C.DATA_START_BACKUP)
    world.last_words = m.NotifyConnectionStatusPost(ConnectionStatusReason.SHUTDOWN, 4, b"ended by an operator")
    with trio.fail_after(DEADLINE_S), pytest.raises(ControlConnectionError) as caught:
        await run_backup(options(server, tmp_path))
    assert str(caught.value) == f"{server}: the server closed the connection (ended by an operator)"


async def test_a_connection_lost_in_mid_job_aborts_the_other(world: World, server: Server, tmp_path: Path) -> None:
    world.hold = trio.Event()
    other = World()
    other.hold = trio.Event()
    other.listeners = world.listeners
    other.hang_up.add(C.MOVER_GET_STATE)
    async with fake_server(other) as tape:
        with trio.fail_after(DEADLINE_S), pytest.raises(ControlConnectionError, match="closed the connection"):
            await run_backup(options(server, tmp_path, tape=tape))
    assert world.requests[C.DATA_ABORT] == 1
    assert world.requests[C.DATA_STOP] == 1


async def test_a_silent_server(world: World, server: Server, tmp_path: Path) -> None:
    world.silent.add(C.TAPE_OPEN)
    with trio.fail_after(DEADLINE_S), pytest.raises(ControlConnectionError, match=r"no reply to TapeOpen within 0.1 s"):
        await run_backup(options(server, tmp_path, request_timeout_s=0.1))


@pytest.mark.parametrize(
    ("offered", "method"),
    [
        ((AuthType.MD5, AuthType.TEXT), "auto"),
        ((AuthType.TEXT,), "auto"),
        ((AuthType.TEXT,), "text"),
        ((AuthType.MD5,), "md5"),
        ((AuthType.NONE,), "auto"),
        ((), "auto"),
    ],
)
async def test_login_methods(
    world: World, server: Server, tmp_path: Path, offered: tuple[AuthType, ...], method: str
) -> None:
    world.methods = offered or (AuthType.TEXT,)
    if not offered:
        world.refuse[C.CONFIG_GET_SERVER_INFO] = ErrorCode.NOT_AUTHORIZED_ERR
    login = Credentials(LOGIN.user, LOGIN.password, method)  # type: ignore[arg-type] # the parameters are its values
    with trio.fail_after(DEADLINE_S):
        await run_backup(options(server, tmp_path, credentials=login))


async def test_wrong_password(server: Server, tmp_path: Path) -> None:
    login = Credentials(LOGIN.user, "wrong")
    with trio.fail_after(DEADLINE_S), pytest.raises(LoginError, match="login of 'ndmp' by MD5 refused: NOT_AUTHOR"):
        await run_backup(options(server, tmp_path, credentials=login))


async def test_no_login_method_in_common(world: World, server: Server, tmp_path: Path) -> None:
    world.methods = (AuthType.TEXT,)
    login = Credentials(LOGIN.user, LOGIN.password, "md5")
    with trio.fail_after(DEADLINE_S), pytest.raises(LoginError, match=r"no login method in common: .* offers TEXT$"):
        await run_backup(options(server, tmp_path, credentials=login))


async def test_nobody_listens(tmp_path: Path) -> None:
    with trio.socket.socket() as taken:
        await taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with (
            trio.fail_after(DEADLINE_S),
            pytest.raises(ControlConnectionError, match=f"cannot connect to 127.0.0.1:{port}: Connection refused"),
        ):
            await run_backup(options(Server("127.0.0.1", port), tmp_path))
