"""run_recover and run_list against a scripted server: lists per version, reads, pauses, fates, failures."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from mover.dma import (
    BackupOptions,
    CatalogueError,
    FailedName,
    JobError,
    ListOptions,
    NdmpError,
    RecoverOptions,
    Server,
    TapeListOptions,
    run_backup,
    run_list,
    run_recover,
)
from mover.dma.catalogue import LOST, Catalogue
from mover.ndmp import messages as m
from mover.ndmp.enums import UNKNOWN_U64, ErrorCode, MessageCode
from mover.ndmp.nlist import recover_target
from tests.dma.fake_server import LOGIN, World, fake_server, small_history

C = MessageCode
DEADLINE_S = 20
ON_TAPE = "recover what is on the tape with --tape-file"
INCOMPLETE = f"nothing of it is complete; {ON_TAPE}"


@pytest.fixture(autouse=True)
def _no_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted data service has everything at once."""
    monkeypatch.setattr("mover.dma.recover.DRAIN_S", 0.0)


@pytest.fixture
def world() -> World:
    return World(history=small_history(), env=(m.Pval(b"DUMP_DATE", b"17"),))


@pytest.fixture
async def server(world: World) -> AsyncIterator[Server]:
    async with fake_server(world) as address:
        yield address


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    return tmp_path / "catalogue.sqlite"


async def back_up(server: Server, catalogue: Path) -> None:
    await run_backup(
        BackupOptions(
            data=server,
            credentials=LOGIN,
            drive="drive0",
            filesystem="/srv/home",
            record_size=512,
            catalogue=catalogue,
            env=[("DIRECT", "y")],
        )
    )


def options(server: Server, catalogue: Path, **changes: object) -> RecoverOptions:
    given: dict[str, object] = {
        "data": server,
        "credentials": LOGIN,
        "drive": "drive0",
        "destination": "/restore",
        "catalogue": catalogue,
    }
    return RecoverOptions(**{**given, **changes})  # type: ignore[arg-type] # a test's own choices


def request(world: World) -> m.DataStartRecoverRequest:
    last = world.started[-1]
    assert isinstance(last, m.DataStartRecoverRequest)
    return last


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("three_way", [False, True])
@pytest.mark.parametrize("needed", [4000, None])
async def test_recover_of_everything(
    world: World, server: Server, catalogue: Path, version: int, needed: int | None, *, three_way: bool
) -> None:
    world.version, world.needed = version, needed
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        await back_up(server, catalogue)
        result = await run_recover(options(server, catalogue, tape=server if three_way else None, job=2))
    assert (result.requested, result.recovered, result.failed) == (1, 1, [])
    assert (result.tape_file, result.bytes_processed) == (1, needed or 5000)
    assert result.protocol_version == version
    assert world.requests[C.MOVER_READ] == three_way
    assert world.requests[C.MOVER_CLOSE] == 1
    assert world.requests[C.TAPE_CLOSE] == 3
    (name,) = request(world).nlist
    assert name.original_path == b""
    assert recover_target(version, name) == b"/restore"
    env = {pair.name: pair.value for pair in request(world).env}
    assert env[b"FILESYSTEM"] == b"/srv/home"
    assert env[b"DUMP_DATE"] == b"17"
    assert env[b"DIRECT"] == b"n"


@pytest.mark.parametrize("version", [2, 3, 4])
async def test_names_and_renames(world: World, server: Server, catalogue: Path, version: int) -> None:
    world.version = version
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        result = await run_recover(
            options(server, catalogue, names=["a", "/d/\udcff", "missing"], renames=[("d/x\n", "new/name")])
        )
    assert (result.requested, result.recovered) == (4, 3)
    assert result.failed == [FailedName(b"/missing", "FAILED_NOT_FOUND")]
    assert [(name.original_path, recover_target(version, name)) for name in request(world).nlist] == [
        (b"/a", b"/restore/a"),
        (b"/d/\xff", b"/restore/d/\xff"),
        (b"/missing", b"/restore/missing"),
        (b"/d/x\n", b"/restore/new/name"),
    ]
    assert {name.fh_info for name in request(world).nlist} == {UNKNOWN_U64}


async def test_one_name_to_two_places_fails_twice(world: World, server: Server, catalogue: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        renames = [("missing", "one"), ("missing", "two"), ("a", "three")]
        result = await run_recover(options(server, catalogue, renames=renames))
    assert (result.requested, result.recovered) == (3, 1)
    assert len(result.failed) == 2


async def test_direct_recover_sends_positions(world: World, server: Server, catalogue: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        await run_recover(options(server, catalogue, names=["a", "d/x\n"], direct=True))
        assert [(name.node, name.fh_info) for name in request(world).nlist] == [(11, 2048), (13, 4096)]
        assert m.Pval(b"DIRECT", b"y") in request(world).env
        assert b"RECURSIVE" not in {pair.name for pair in request(world).env}


@pytest.mark.parametrize("version", [2, 3, 4])
async def test_a_directory_is_expanded_for_direct_access(
    world: World, server: Server, catalogue: Path, version: int
) -> None:
    world.version = version
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        result = await run_recover(options(server, catalogue, names=["a"], renames=[("d", "new/d")], direct=True))
    places = [
        (name.original_path, recover_target(version, name), name.fh_info) for name in request(world).nlist
    ]  # fmt: skip
    assert places == [
        (b"/a", b"/restore/a", 2048),
        (b"/d", b"/restore/new/d", 1024),
        (b"/d/x\n", b"/restore/new/d/x\n", 4096),
        (b"/d/\xff", b"/restore/new/d/\xff", 2048),
    ]
    assert [pair for pair in request(world).env if pair.name in {b"DIRECT", b"RECURSIVE"}] == [
        m.Pval(b"DIRECT", b"y"),
        m.Pval(b"RECURSIVE", b"n"),
    ]
    assert (result.requested, result.recovered) == (2, 2)


async def test_a_failure_below_a_directory_is_one_name(world: World, server: Server, catalogue: Path) -> None:
    world.fails = {b"/d/x\n", b"/d/\xff"}
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        result = await run_recover(options(server, catalogue, names=["a", "d"], direct=True))
    assert (result.requested, result.recovered) == (2, 1)
    assert [each.name for each in result.failed] == [b"/d/x\n", b"/d/\xff"]


@pytest.mark.parametrize("tells_length", [False, True])
async def test_a_large_directory_is_left_to_a_server_that_can(
    world: World, server: Server, catalogue: Path, monkeypatch: pytest.MonkeyPatch, *, tells_length: bool
) -> None:
    monkeypatch.setattr(
        "mover.dma.recover_list.EXPANDED_FEW" if tells_length else "mover.dma.recover_list.EXPANDED_MAX", 3
    )
    if tells_length:
        world.env = (m.Pval(b"MOVER_STREAM_BYTES", b"5000"),)
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        await run_recover(options(server, catalogue, names=["a", "d"], direct=True))
    places = [(name.original_path, name.fh_info) for name in request(world).nlist]
    if tells_length:
        assert places == [(b"/a", 2048), (b"/d", 1024)]
    else:
        assert places == [(b"/a", UNKNOWN_U64), (b"/d", UNKNOWN_U64)]
    env = {pair.name: pair.value for pair in request(world).env}
    assert env[b"DIRECT"] == (b"y" if tells_length else b"n")
    assert b"RECURSIVE" not in env


async def test_a_name_that_the_catalogue_does_not_know_makes_all_sequential(
    world: World, server: Server, catalogue: Path
) -> None:
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        await run_recover(options(server, catalogue, names=["a", "nothing"], direct=True))
    assert {name.fh_info for name in request(world).nlist} == {UNKNOWN_U64}
    assert m.Pval(b"DIRECT", b"n") in request(world).env


async def test_a_directory_alone(world: World, server: Server, catalogue: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        await run_recover(options(server, catalogue, names=["d"], direct=True, env=[("RECURSIVE", "n")]))
    assert [(name.original_path, name.fh_info) for name in request(world).nlist] == [(b"/d", 1024)]


@pytest.mark.parametrize(
    ("given", "right"), [("/srv/home/d/x\n", r"'d/x\n'"), ("srv/home//a/", "'a'"), ("/srv/home", "'/'")]
)
@pytest.mark.parametrize("direct", [False, True])
async def test_a_name_from_the_root_of_the_server_is_told_as_the_backup_has_it(
    world: World, server: Server, catalogue: Path, given: str, right: str, *, direct: bool
) -> None:
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        with pytest.raises(JobError) as refused:
            await run_recover(options(server, catalogue, names=["a", given], direct=direct))
    assert str(refused.value) == (
        f"{given!r} is not in job 1: names are paths below the root of the backup, /srv/home: {right}"
    )
    assert len(world.started) == 1  # the backup


async def test_to_the_original_place(world: World, server: Server, catalogue: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        await run_recover(options(server, catalogue, destination=""))
    assert request(world).nlist[0].destination == b"/srv/home"


async def test_without_a_catalogue(world: World, server: Server, catalogue: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        nowhere = catalogue.with_name("none")
        given = options(server, nowhere, tape_file=0, record_size=512, env=[("FILESYSTEM", "/x")])
        result = await run_recover(given)
        assert result.bytes_processed == 5000
        assert m.Pval(b"FILESYSTEM", b"/x") in request(world).env
        with pytest.raises(JobError, match="a recover to the original place needs the catalogue's job"):
            await run_recover(options(server, nowhere, tape_file=0, destination=""))
        with pytest.raises(CatalogueError, match="no catalogue at"):
            await run_recover(options(server, nowhere))
        with pytest.raises(CatalogueError, match="no job 9 in"):
            await run_recover(options(server, catalogue, job=9))
        with pytest.raises(JobError, match="drive0: no tape file 5, the cartridge ends behind 1 filemarks"):
            await run_recover(options(server, catalogue, tape_file=5))
        with pytest.raises(JobError, match=r"has no \.\. in it"):
            await run_recover(options(server, catalogue, names=["a/../../etc"]))
    assert not nowhere.exists()


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        (("failed", "no space", 3), f"failed (no space): {INCOMPLETE} 3"),
        (("aborted", "cancelled", 0), f"was aborted (cancelled): {INCOMPLETE} 0"),
        (("failed", "no drive", None), "failed (no drive): it wrote no tape file"),
        ("runs", f"is running, or {LOST}: nothing of it is known to be complete; {ON_TAPE}"),
        ("lost", f"failed ({LOST}): nothing of it is known to be complete; {ON_TAPE}"),
    ],
)
async def test_a_job_that_did_not_succeed_is_refused(
    world: World, server: Server, catalogue: Path, ended: tuple[str, str, int | None] | str, text: str
) -> None:
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        jobs = Catalogue(catalogue)
        number = jobs.begin_job(
            data_server="h", tape_server="h", drive="drive0", record_size=512, butype="dump", filesystem=b"/srv/home",
            protocol_version=4,
        )  # fmt: skip
        if not isinstance(ended, str):
            status, message, tape_file = ended
            jobs.end_job(number, status, message, tape_file=tape_file, bytes_processed=0, env=[], log=[])
        if ended != "runs":
            jobs.close()
        with pytest.raises(JobError) as caught:
            await run_recover(options(server, catalogue, job=number))
        jobs.close()
        assert str(caught.value) == f"job {number} {text}"
        assert world.requests[C.DATA_START_RECOVER] == 0
        await run_recover(options(server, catalogue, tape_file=0, record_size=512))
        await run_recover(options(server, catalogue))  # the newest that succeeded


@pytest.mark.parametrize("three_way", [False, True])
async def test_a_tape_file_that_ends_too_early(
    world: World, server: Server, catalogue: Path, *, three_way: bool
) -> None:
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        world.needed = 6000
        with pytest.raises(JobError, match=r"tape file 0 ended \(EOF\) after 5000 bytes.*halted: CONNECT_ERROR"):
            await run_recover(options(server, catalogue, tape=server if three_way else None))
    assert world.requests[C.TAPE_CLOSE] == 2


@pytest.mark.parametrize("code", [C.DATA_START_RECOVER, C.MOVER_LISTEN, C.TAPE_OPEN, C.MOVER_READ])
async def test_a_refusal(world: World, server: Server, catalogue: Path, code: MessageCode) -> None:
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        world.refuse[code] = ErrorCode.ILLEGAL_ARGS_ERR
        with pytest.raises(NdmpError, match=f"^{code.name}: ILLEGAL_ARGS_ERR"):
            await run_recover(options(server, catalogue, tape=server))
    assert world.requests[C.TAPE_CLOSE] == 1 + (code is not C.TAPE_OPEN)


async def test_cancelling_aborts(world: World, server: Server, catalogue: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        world.hold = trio.Event()
        world.active = trio.Event()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_recover, options(server, catalogue))
                await world.active.wait()
                scope.cancel()
    assert scope.cancelled_caught
    ends = (C.DATA_ABORT, C.MOVER_ABORT)
    assert [world.requests[code] for code in ends] == [1, 1]


async def test_a_mover_that_takes_close_when_paused_only(
    world: World, server: Server, catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mover.dma.recover.CLOSE_GRACE_S", 0.05)
    world.needed = 100
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        world.refuse[C.MOVER_CLOSE] = ErrorCode.ILLEGAL_STATE_ERR
        result = await run_recover(options(server, catalogue))
    assert world.requests[C.MOVER_ABORT] == 1
    assert result.warnings == ["mover halted: ABORTED"]


async def test_lists(world: World, server: Server, catalogue: Path) -> None:
    everything = [b"/", b"/a", b"/d", b"/d/x\n", b"/d/\xff"]
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        jobs = (await run_list(ListOptions(catalogue=catalogue))).jobs
        assert [(job.job, job.status, job.tape_file) for job in jobs] == [(1, "successful", 0)]
        for pattern, paths in (
            (None, everything),
            ("/", everything),
            ("d", everything[2:]),
            ("/d/", everything[2:]),
            ("*\udcff", [b"/d/\xff"]),
            ("?", [b"/a", b"/d"]),
            ("nothing", []),
        ):
            listed = await run_list(ListOptions(catalogue=catalogue, job=1, pattern=pattern))
            assert [entry.path for entry in listed.entries] == paths, pattern
            assert listed.jobs == jobs
        source = TapeListOptions(data=server, credentials=LOGIN, drive="drive0", tape_file=0, record_size=512)
        for pattern, paths in ((None, everything), ("d/*", everything[3:])):
            listed = await run_list(ListOptions(from_tape=source, pattern=pattern))
            assert [entry.path for entry in listed.entries] == paths
    assert isinstance(world.started[-1], m.DataStartRecoverFilehistRequest)
    (a,) = (await run_list(ListOptions(catalogue=catalogue, job=1, pattern="a"))).entries
    assert (a.node, a.size, a.mode, a.fh_info, a.mtime) == (11, 5, 0o644, 2048, 1_700_000_000)


async def test_listing_a_tape_needs_version_4(world: World, server: Server) -> None:
    world.version = 3
    source = TapeListOptions(data=server, credentials=LOGIN, drive="drive0", tape_file=0)
    with trio.fail_after(DEADLINE_S), pytest.raises(JobError, match="speaks version 3: listing a tape needs"):
        await run_list(ListOptions(from_tape=source))


async def test_a_server_that_cannot_list(world: World, server: Server) -> None:
    world.tape, world.marks = [[b"x"]], 1
    world.refuse_in_header[C.DATA_START_RECOVER_FILEHIST] = ErrorCode.NOT_SUPPORTED_ERR
    source = TapeListOptions(data=server, credentials=LOGIN, drive="drive0", tape_file=0)
    with trio.fail_after(DEADLINE_S), pytest.raises(JobError, match="cannot list a tape of type dump"):
        await run_list(ListOptions(from_tape=source))
    assert world.requests[C.TAPE_CLOSE] == 1


async def test_a_later_job_may_have_the_place_of_one_that_failed(world: World, server: Server, catalogue: Path) -> None:
    """What failed before its first byte leaves no tape file: the next job begins there."""
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        jobs = Catalogue(catalogue)
        known = jobs.job(1)
        numbers = []
        for drive in (known.drive, known.drive, "another"):
            number = jobs.begin_job(
                data_server=known.data_server, tape_server=known.tape_server, drive=drive, record_size=512,
                butype="dump", filesystem=b"/srv/home", protocol_version=4,
            )  # fmt: skip
            jobs.end_job(number, "failed", "refused", tape_file=1, bytes_processed=0, env=[], log=[])
            numbers.append(number)
        jobs.close()
        for number, end in ((numbers[0], f" 1, unless job {numbers[1]} has taken its place there"), (numbers[1], " 1")):
            with pytest.raises(JobError) as caught:
                await run_recover(options(server, catalogue, job=number))
            assert str(caught.value) == f"job {number} failed (refused): {INCOMPLETE}{end}"


async def test_the_job_that_is_taken_by_default_is_told(world: World, server: Server, catalogue: Path) -> None:
    with trio.fail_after(DEADLINE_S):
        await back_up(server, catalogue)
        told = "job 1 is the newest good one: "
        newest = await run_recover(options(server, catalogue))
        assert [line.text.startswith(told) for line in newest.log].count(True) == 1
        named = await run_recover(options(server, catalogue, job=1))
        assert not any(line.text.startswith(told) for line in named.log)
