"""The built-in DMA against real `mover serve` processes: trees there and back, lists, ends that are not good."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from mover.dma import (
    BackupOptions,
    CartridgeFullError,
    Credentials,
    FailedName,
    JobError,
    ListOptions,
    LoginError,
    LogLine,
    NdmpError,
    Progress,
    RecoverOptions,
    Server,
    TapeListOptions,
    run_backup,
    run_list,
    run_recover,
)
from mover.dma.catalogue import Catalogue
from mover.dma.compare import compare_trees
from tests.support.servers import Login, write_config
from tests.support.servers import Server as Serve
from tests.support.trees import make_large_file, make_tree

pytestmark = pytest.mark.slow

LOGIN = Credentials("ndmp", "a secret")
DRIVE = "vtl0/drive0"
DEADLINE_S = 90  # of a job, the start of the second server with it


class Site:
    """Servers that reach one source and one target directory, each with a drive and an empty cartridge in it.

    The second is started by the first job over two.
    """

    def __init__(self, directory: Path, running: ExitStack) -> None:
        self.directory = directory
        self.source = directory / "source"
        self.target = directory / "target"
        self.catalogue = directory / "catalogue.sqlite"
        self._running = running
        self.serves: dict[str, Serve] = {}
        self.server("one")

    def server(self, name: str) -> Server:
        """Where it listens."""
        if name not in self.serves:
            serve = self.serves[name] = self._running.enter_context(Serve(_config(self.directory, name)))
            serve.load(DRIVE)
        return Server(*_host_port(self.serves[name].address))

    def session(self, *, three_way: bool = False, **changes: object) -> dict[str, object]:
        return {
            "data": self.server("one"),
            "tape": self.server("two") if three_way else None,
            "credentials": LOGIN,
            "drive": DRIVE,
            **changes,
        }

    def backup(self, **changes: object) -> BackupOptions:
        given = {"filesystem": str(self.source), "catalogue": self.catalogue, **self.session(**changes)}  # type: ignore[arg-type] # a test's own choices
        return BackupOptions(**given)  # type: ignore[arg-type] # as above

    def recover(self, **changes: object) -> RecoverOptions:
        given = {"destination": str(self.target), "catalogue": self.catalogue, **self.session(**changes)}  # type: ignore[arg-type] # as above
        return RecoverOptions(**given)  # type: ignore[arg-type] # as above

    def paths(self) -> list[bytes]:
        """Every path of the source as a listing has it."""
        root = os.fsencode(self.source)
        found = [b"/"]
        for above, directories, files in os.walk(root):
            found += [os.path.join(above, name)[len(root) :] for name in directories + files]
        return sorted(found)


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def _config(directory: Path, name: str) -> Path:
    volumes = {volume: directory / volume for volume in ("source", "target")}
    login = Login(LOGIN.user, LOGIN.password)
    return write_config(
        directory / name, login, volumes=volumes, drives=1, cartridge_size="64MiB", early_warning="8MiB"
    )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    with ExitStack() as running:
        yield Site(tmp_path, running)


@pytest.fixture
def tree(site: Site) -> Site:
    """The site with a tree of every kind of entry."""
    site.source.rmdir()
    made = make_tree(site.source, wide=200, depth=10, huge_sparse=False)
    assert made.entries > 200
    return site


WAYS = [
    (4, False, False), (3, False, False), (2, False, False), (4, False, True),
    (4, True, False), (3, True, False), (2, True, False), (4, True, True), (3, True, True),
]  # fmt: skip


@pytest.mark.parametrize(("version", "three_way", "data_listens"), WAYS)
async def test_there_and_back(tree: Site, version: int, *, three_way: bool, data_listens: bool) -> None:
    way = {"max_version": version, "three_way": three_way, "data_listens": data_listens}
    seen: list[Progress] = []
    with trio.fail_after(DEADLINE_S):
        backup = await run_backup(tree.backup(**way), progress=seen.append)
        assert backup.protocol_version == version
        assert backup.warnings == []
        assert seen[-1].bytes_processed == backup.bytes_processed > 0
        result = await run_recover(tree.recover(**way))
    assert (result.failed, result.warnings) == ([], [])
    comparison = compare_trees(tree.source, tree.target)
    assert comparison.differences == []
    assert comparison.compared == len(tree.paths())
    listed = await run_list(ListOptions(catalogue=tree.catalogue, job=backup.job))
    assert sorted(entry.path for entry in listed.entries) == tree.paths()
    assert backup.files == len(tree.paths()) - 1


@pytest.mark.parametrize("history", ["d", "f", "n"])
async def test_forms_of_history(tree: Site, history: str) -> None:
    with trio.fail_after(DEADLINE_S):
        backup = await run_backup(tree.backup(history=history))
        listed = await run_list(ListOptions(catalogue=tree.catalogue, job=backup.job))
        assert sorted(entry.path for entry in listed.entries) == (tree.paths() if history != "n" else [])
        for entry in listed.entries:
            status = os.lstat(os.fsencode(tree.source) + entry.path)
            assert (entry.mode, entry.owner, entry.mtime) == (
                status.st_mode & 0o7777, status.st_uid, max(0, int(status.st_mtime_ns // 10**9)),
            )  # fmt: skip


@pytest.mark.parametrize("three_way", [False, True])
async def test_listing_the_tape_itself(tree: Site, *, three_way: bool) -> None:
    with trio.fail_after(DEADLINE_S):
        await run_backup(tree.backup(three_way=three_way, history="n"))
        source = TapeListOptions(**tree.session(three_way=three_way, tape_file=0))  # type: ignore[arg-type] # as above
        listed = await run_list(ListOptions(from_tape=source))
    assert sorted(entry.path for entry in listed.entries) == tree.paths()


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("direct", [False, True])
async def test_single_names(site: Site, version: int, *, direct: bool) -> None:
    (site.source / "d" / "e").mkdir(parents=True)
    (site.source / "d" / "e" / "deep").write_text("deep")
    (site.source / "d" / "other").write_text("other")
    (site.source / "\udcff").write_text("bytes")
    (site.source / "left").write_text("left")
    with trio.fail_after(DEADLINE_S):
        await run_backup(site.backup(max_version=version))
        result = await run_recover(
            site.recover(
                max_version=version,
                names=["d/e/deep", "/\udcff"],
                renames=[("d/other", "new/place")],
                direct=direct,
            )
        )
        assert (result.requested, result.recovered, result.failed) == (3, 3, [])
        assert (site.target / "d" / "e" / "deep").read_text() == "deep"
        assert (site.target / "new" / "place").read_text() == "other"
        assert (site.target / "\udcff").read_text() == "bytes"
        assert not (site.target / "left").exists()
        result = await run_recover(site.recover(max_version=version, names=["d", "nowhere"]))
        assert result.failed == [FailedName(b"/nowhere", "FAILED_NOT_FOUND")]
        assert (site.target / "d" / "other").read_text() == "other"


async def test_several_jobs_on_one_cartridge(site: Site) -> None:
    with trio.fail_after(DEADLINE_S):
        for number in range(3):
            (site.source / "file").write_text(f"contents {number}")
            assert (await run_backup(site.backup())).tape_file == number
        for number in (2, 0, 1):
            await run_recover(site.recover(job=number + 1))
            assert (site.target / "file").read_text() == f"contents {number}"
        without = site.recover(tape_file=1, catalogue=site.directory / "none")
        (site.target / "file").unlink()
        await run_recover(without)
        assert (site.target / "file").read_text() == "contents 1"
        assert (await run_backup(site.backup(overwrite=True))).tape_file == 0


async def test_a_tape_file_that_holds_another_job_is_not_recovered(site: Site) -> None:
    said: list[LogLine] = []
    with trio.fail_after(DEADLINE_S):
        for number in range(2):
            (site.source / "file").write_text(f"contents {number}")
            await run_backup(site.backup(overwrite=True))
        with pytest.raises(JobError, match=r"\(data: the tape file holds the dump of .* that is wanted \(id \w+\)\)$"):
            await run_recover(site.recover(job=1), log=said.append)
        assert [line.text[:20] for line in said if line.kind in {"error", "dma"}] == ["data: the tape file "]
        assert "refused" not in (site.directory / "one" / "server.log").read_text()
        assert list(site.target.iterdir()) == []
        await run_recover(site.recover(job=2))
        assert (site.target / "file").read_text() == "contents 1"
        (site.target / "file").unlink()
        # Another cartridge, whose tape file has the same number.
        site.serves["one"].ask("tape", "unload", DRIVE)
        site.serves["one"].ask("tape", "create", "vtl0", "--barcode", "OTHER")
        site.serves["one"].ask("tape", "load", DRIVE, "--barcode", "OTHER")
        await run_backup(site.backup())
        with pytest.raises(JobError, match="the tape file holds the dump of"):
            await run_recover(site.recover(job=2))
        assert list(site.target.iterdir()) == []
        await run_recover(site.recover(tape_file=0, catalogue=site.directory / "none"))
        assert (site.target / "file").read_text() == "contents 1"


@pytest.mark.parametrize("three_way", [False, True])
async def test_a_full_cartridge_and_after(site: Site, *, three_way: bool) -> None:
    make_large_file(site.source / "large", size=80 << 20)
    with trio.fail_after(DEADLINE_S):
        with pytest.raises(CartridgeFullError):
            await run_backup(site.backup(three_way=three_way))
        (site.source / "large").write_text("small now")
        result = await run_backup(site.backup(three_way=three_way, overwrite=True))
        await run_recover(site.recover(three_way=three_way))
    assert result.tape_file == 0
    assert (site.target / "large").read_text() == "small now"


@pytest.mark.parametrize("three_way", [False, True])
async def test_cancelled_in_mid_job_and_after(site: Site, *, three_way: bool) -> None:
    make_large_file(site.source / "large", size=48 << 20)
    with trio.fail_after(DEADLINE_S):
        with trio.CancelScope() as scope:

            def progress(now: Progress) -> None:
                if now.phase == "transfer":
                    scope.cancel()

            await run_backup(site.backup(three_way=three_way), progress=progress)
        assert scope.cancelled_caught
        catalogue = Catalogue(site.catalogue)
        assert catalogue.job(1).status == "aborted"
        assert [line.text for line in catalogue.log(1) if line.kind == "dma"] == []
        catalogue.close()
        await run_backup(site.backup(three_way=three_way, overwrite=True))
        await run_recover(site.recover(three_way=three_way))
    assert compare_trees(site.source, site.target).differences == []


async def test_refusals(site: Site) -> None:
    with trio.fail_after(DEADLINE_S):
        with pytest.raises(LoginError, match="refused: NOT_AUTHORIZED_ERR"):
            await run_backup(site.backup(credentials=Credentials(LOGIN.user, "wrong")))
        with pytest.raises(NdmpError, match=r"^DATA_START_BACKUP: ILLEGAL_ARGS_ERR.*/no/such/place"):
            await run_backup(site.backup(filesystem="/no/such/place"))
        with pytest.raises(NdmpError, match=r"^TAPE_OPEN: NO_DEVICE_ERR.*no drive at 127.0.0.1"):
            await run_backup(site.backup(drive="no drive"))
        await run_backup(site.backup())
        with pytest.raises(NdmpError, match=r"^DATA_START_RECOVER: ILLEGAL_ARGS_ERR"):
            await run_recover(site.recover(destination="/no/such/place"))
        await run_recover(site.recover())
