"""Direct access over real servers: the built-in DMA and ndmjob recover files and directories by their positions.

That the stream was not read from its beginning is seen by the bytes that the data service has processed.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from mover.dma import BackupOptions, Credentials, RecoverOptions, run_backup, run_recover
from mover.dma import Server as Address
from mover.dma.compare import Difference, compare_trees
from tests.e2e.test_ndmjob import Rig, succeeded
from tests.support.servers import Login, Server, write_config
from tests.support.trees import make_large_file, make_small_files, make_tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
DEADLINE_S = 120
BULK = 24 << 20
DRIVE = "vtl0/drive1"  # ndmjob writes over the cartridge in the first one
FEW_BYTES = BULK // 4


class Site(NamedTuple):
    """A file server, a tape host with the backup in its drive, and the backup's source."""

    directory: Path
    data: Server
    tape: Server
    login: Login

    @property
    def source(self) -> Path:
        return self.directory / "source"

    def target(self) -> Path:
        """A directory to recover to."""
        return Path(tempfile.mkdtemp(dir=self.directory))

    def session(self, version: int, *, three_way: bool) -> dict[str, object]:
        return {
            "data": _address(self.data if three_way else self.tape),
            "tape": _address(self.tape) if three_way else None,
            "credentials": Credentials(self.login.user, self.login.password),
            "drive": DRIVE,
            "max_version": version,
            "catalogue": self.directory / "catalogue.sqlite",
        }


def _address(server: Server) -> Address:
    host, _, port = server.address.rpartition(":")
    return Address(host, int(port))


@pytest.fixture(scope="module")
def site(login: Login) -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix="mover-e2e-", dir="/dev/shm"))
    source = directory / "source"
    make_tree(source, wide=50, depth=5, huge_sparse=False, newlines=False)
    make_large_file(source / "bulk", size=BULK)
    make_small_files(source / "zone", files=200, directories=4, seed=1)
    volumes = {"shm": directory}
    with (
        Server(write_config(directory / "tape-host", login, volumes=volumes, drives=2)) as tape,
        Server(write_config(directory / "file-server", login, volumes=volumes)) as data,
    ):
        for drive in ("vtl0/drive0", DRIVE):
            tape.ask("tape", "load", drive)
        yield Site(directory, data, tape, login)
    shutil.rmtree(directory)


@pytest.fixture(scope="module", params=["dump", "tar"])
def backed_up(request: pytest.FixtureRequest, site: Site) -> Site:
    """With a backup of each type on the tape, the newest of which is the one that a recover takes."""

    async def back_up() -> None:
        with trio.fail_after(DEADLINE_S):
            given = site.session(4, three_way=False)
            options = BackupOptions(filesystem=str(site.source), butype=request.param, **given)  # type: ignore[arg-type] # as named
            await run_backup(options)

    trio.run(back_up)
    return site


def differences(one: Path, other: Path) -> list[Difference]:
    """Of two trees; a tar stream holds no socket."""
    compared = compare_trees(one, other).differences
    return [each for each in compared if each.path not in {b"socket", b"special/socket"}]


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("three_way", [False, True])
async def test_names_by_the_catalogue(backed_up: Site, version: int, *, three_way: bool) -> None:
    site, target = backed_up, backed_up.target()
    some = next(path for path in sorted(site.source.rglob("zone/**/*")) if path.is_file()).relative_to(site.source)
    with trio.fail_after(DEADLINE_S):
        options = RecoverOptions(
            destination=str(target),
            names=[str(some)],
            renames=[("zone", "other/zone")],
            direct=True,
            **site.session(version, three_way=three_way),  # type: ignore[arg-type] # as named
        )
        result = await run_recover(options)
    assert (result.requested, result.recovered, result.failed) == (2, 2, [])
    assert (target / some).read_bytes() == (site.source / some).read_bytes()
    assert differences(site.source / "zone", target / "other/zone") == []
    assert 0 < result.bytes_processed < FEW_BYTES


async def test_every_kind_of_entry_by_the_catalogue(backed_up: Site) -> None:
    site, target = backed_up, backed_up.target()
    names = sorted(entry for entry in os.listdir(site.source) if entry != "bulk")
    with trio.fail_after(DEADLINE_S):
        given = site.session(4, three_way=False)
        result = await run_recover(RecoverOptions(destination=str(target), names=names, direct=True, **given))  # type: ignore[arg-type] # as named
    assert (result.recovered, result.failed) == (len(names), [])
    # The root itself was not in the list, and what lies in it is one entry less.
    assert [each for each in differences(site.source, target) if each.path not in {b".", b"bulk"}] == []
    assert result.bytes_processed < BULK


@pytest.mark.parametrize("version", [3, 4])
async def test_the_whole_backup_by_its_root(backed_up: Site, version: int) -> None:
    site, target = backed_up, backed_up.target()
    with trio.fail_after(DEADLINE_S):
        given = site.session(version, three_way=False)
        result = await run_recover(RecoverOptions(destination=str(target), names=["/"], direct=True, **given))  # type: ignore[arg-type] # as named
    assert (result.requested, result.recovered, result.failed) == (1, 1, [])
    assert differences(site.source, target) == []


@pytest.mark.peer("ndmjob")
@pytest.mark.parametrize(
    ("flags", "way", "butype"),
    [(flags, way, "dump") for flags in ("2t", "3m", "4m") for way in ("local", "three-way")]
    + [("3m", "data-listens", "dump"), ("4m", "data-listens", "dump")]
    + [("2t", "local", "tar"), ("3m", "three-way", "tar"), ("4m", "local", "tar"), ("4m", "three-way", "tar")],
)
def test_ndmjob_recovers_files_and_directories_by_its_index(site: Site, flags: str, way: str, butype: str) -> None:
    data = site.tape if way == "local" else site.data
    rig = Rig(data, site.tape, site.login, flags, way == "data-listens", butype)
    work = site.target()
    index, target = work / "index", work / "target"
    target.mkdir()
    said = rig.run(work, "-c", "-C", str(site.source), "-I", str(index), "-E", "HIST=y", "-E", "DIRECT=y")
    assert succeeded(said), said

    logged = data.log.read_bytes()
    some = next(path for path in sorted(site.source.rglob("zone/**/*")) if path.is_file()).relative_to(site.source)
    names = ["-F", f"/{some}", "-F", "/zone"]
    said = rig.run(work, "-x", "-C", str(target), "-J", str(index), "-E", "DIRECT=y", *names)
    assert succeeded(said), said
    assert compare_trees(site.source / "zone", target / "zone", time_granularity_ns=1000).differences == []
    (processed,) = re.findall(rb"data halted.*?bytes\W+(\d+)", data.log.read_bytes()[len(logged) :])
    assert 0 < int(processed) < FEW_BYTES
