"""The built-in DMA on a library: it labels, appends, spans, fetches, and writes over nothing that is needed."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from mover.dma import (
    BackupOptions,
    CartridgeError,
    Credentials,
    InventoryOptions,
    LabelOptions,
    ListOptions,
    LogLine,
    NdmpError,
    RecoverOptions,
    Server,
    run_backup,
    run_cartridges,
    run_inventory,
    run_label,
    run_list,
    run_recover,
)
from mover.dma.catalogue import Catalogue
from mover.dma.compare import compare_trees
from mover.dma.elements import Element
from mover.dma.loader import Loader
from mover.ndmp.enums import TapeMode
from mover.ndmp.messages import TapeOpenRequest
from mover.tape.offline import list_files
from tests.support.ndmp_client import NdmpClient
from tests.support.servers import Login, write_config
from tests.support.servers import Server as Serve
from tests.tape import tap

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LOGIN = Credentials("ndmp", "a secret")
DEADLINE_S = 120
MIB = 1 << 20


class Library:
    """A server with a library of small cartridges, a source and a target directory."""

    def __init__(self, directory: Path, serve: Serve) -> None:
        self.directory = directory
        self.source = directory / "source"
        self.target = directory / "target"
        self.catalogue = directory / "catalogue.sqlite"
        self.serve = serve
        host, _, port = serve.address.rpartition(":")
        self.server = Server(host, int(port))
        self.said: list[LogLine] = []

    def session(self, **changes: object) -> dict[str, object]:
        own = {"data": self.server, "credentials": LOGIN, "drive": "vtl0/drive0", "changer": "vtl0/changer"}
        return {**own, "catalogue": self.catalogue, **changes}

    async def back_up(self, **changes: object) -> int:
        """A backup of the source; its job."""
        options = self.session(filesystem=str(self.source), record_size=20480, **changes)
        result = await run_backup(BackupOptions(**options), log=self.said.append)  # type: ignore[arg-type] # a test's own choices
        return result.job

    async def recover(self, job: int | None, **changes: object) -> None:
        options = self.session(destination=str(self.target), job=job, **changes)
        result = await run_recover(RecoverOptions(**options), log=self.said.append)  # type: ignore[arg-type] # as above
        assert result.failed == []

    async def label(self, *names: str, **changes: object) -> tuple[list[str], list[str]]:
        result = await run_label(LabelOptions(**self.session(names=list(names), **changes)))  # type: ignore[arg-type] # as above
        return [each.name for each in result.labelled], result.refused

    async def cartridges(self, job: int) -> list[str]:
        (found,) = [each for each in (await run_list(ListOptions(catalogue=self.catalogue))).jobs if each.job == job]
        return found.cartridges

    async def places(self) -> dict[str, tuple[str, list[int], bool]]:
        """Barcode -> kind of element, jobs, needed."""
        result = await run_inventory(InventoryOptions(**self.session()))  # type: ignore[arg-type] # as above
        return {each.barcode: (each.kind, each.jobs, each.needed) for each in result.elements if each.full}

    def tape(self, barcode: str) -> Path:
        return self.directory / "server" / "tapes" / f"{barcode}.tap"

    def kinds(self, barcode: str) -> list[tuple[str, str]]:
        """Kind and label of each tape file."""
        return [(each.kind, each.label) for each in list_files(str(self.tape(barcode))).files]

    def same(self) -> bool:
        return compare_trees(self.source, self.target).differences == []


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    yield from make_library(tmp_path, drives=1)


def make_library(tmp_path: Path, *, drives: int) -> Iterator[Library]:
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    config = write_config(
        tmp_path / "server",
        Login(LOGIN.user, LOGIN.password),
        volumes={name: tmp_path / name for name in ("source", "target")},
        drives=drives,
        cartridge_size="2MiB",
        early_warning="128KiB",
    )
    with Serve(config) as serve:
        yield Library(tmp_path, serve)


def fill(directory: Path, size: int, start: int = 0) -> None:
    """Files of 100,000 bytes, ``size`` bytes together."""
    for number in range(size // 100_000):
        (directory / f"file{start + number}").write_bytes((b"%07d " % (start + number)) * 12_500)


def create(library: Library, count: int) -> list[str]:
    made = library.serve.ask("tape", "create", "vtl0", "--count", str(count))
    names = made["barcodes"]
    assert isinstance(names, list)
    return names


@pytest.mark.parametrize("version", [2, 3, 4])
async def test_a_backup_over_three_cartridges_and_back(library: Library, version: int) -> None:
    fill(library.source, 5 * MIB)
    with trio.fail_after(DEADLINE_S):
        barcodes = create(library, 4)
        job = await library.back_up(max_version=version)
        assert await library.cartridges(job) == barcodes[:3]
        assert [library.kinds(each) for each in barcodes[:2]] == [
            [("label", barcodes[0]), ("dump", "")],
            [("label", barcodes[1]), ("unknown", "")],
        ]
        assert library.kinds(barcodes[3]) == []
        await library.recover(job, max_version=version)
        assert library.same()
        assert await library.places() == {
            barcodes[0]: ("slot", [job], True),
            barcodes[1]: ("slot", [job], True),
            barcodes[2]: ("drive", [job], True),
            barcodes[3]: ("slot", [], False),
        }


@pytest.mark.parametrize("data_listens", [False, True])
async def test_three_way_and_of_type_tar(library: Library, tmp_path: Path, *, data_listens: bool) -> None:
    fill(library.source, 3 * MIB)
    volumes = {name: tmp_path / name for name in ("source", "target")}
    config = write_config(tmp_path / "files", Login(LOGIN.user, LOGIN.password), volumes=volumes, drives=0)
    with trio.fail_after(DEADLINE_S), Serve(config) as files:
        host, _, port = files.address.rpartition(":")
        way = {"data": Server(host, int(port)), "tape": library.server, "data_listens": data_listens}
        barcodes = create(library, 2)
        job = await library.back_up(**way, butype="tar")
        assert await library.cartridges(job) == barcodes
        await library.recover(job, **way)
        assert library.same()


async def test_direct_access_fetches_the_one_cartridge(library: Library) -> None:
    fill(library.source, 5 * MIB)
    with trio.fail_after(DEADLINE_S):
        barcodes = create(library, 3)
        job = await library.back_up()
        library.said.clear()
        listed = await run_list(ListOptions(catalogue=library.catalogue, job=job))
        last = max(listed.entries, key=lambda entry: entry.fh_info or 0).path.decode()[1:]
        await library.recover(job, names=[last], direct=True)
        assert (library.target / last).read_bytes() == (library.source / last).read_bytes()
        assert len(list(library.target.iterdir())) == 1
        read = [line.text for line in library.said if line.text.startswith("reading ")]
        assert read == [
            f"reading cartridge {barcodes[0]}, tape file 1",
            f"reading cartridge {barcodes[2]}, tape file 1",
        ]


async def test_levels_on_different_cartridges(library: Library) -> None:
    """Each level begins on a fresh one; the chain fetches them in turn, and what was removed goes."""
    with trio.fail_after(DEADLINE_S):
        barcodes = create(library, 3)
        fill(library.source, MIB)
        jobs = [await library.back_up()]
        for level in (1, 2):
            (library.source / f"file{level}").unlink()
            fill(library.source, 300_000, start=100 * level)
            jobs.append(await library.back_up(level=level, new_cartridge=True))
        assert [await library.cartridges(job) for job in jobs] == [[barcodes[0]], [barcodes[1]], [barcodes[2]]]
        for job in jobs:
            await library.recover(job)
        assert library.same()


async def test_backups_are_put_behind_each_other(library: Library) -> None:
    with trio.fail_after(DEADLINE_S):
        barcodes = create(library, 3)
        for number in range(5):
            (library.source / "file").write_bytes(bytes([number]) * 600_000)
            assert await library.back_up() == number + 1
        assert [await library.cartridges(job) for job in (1, 3, 4, 5)] == [
            [barcodes[0]], [barcodes[0]], barcodes[:2], [barcodes[1]],
        ]  # fmt: skip
        for job in (4, 1, 5):
            await library.recover(job)
            assert (library.target / "file").read_bytes() == bytes([job - 1]) * 600_000


async def test_what_is_needed_is_not_written_over(library: Library) -> None:
    """One cartridge of a stranger, one with data, one with our label of another catalogue: all stay as they are."""
    foreign, data, others = create(library, 3)
    tapes = {
        foreign: tap.build([b"AMANDA: TAPESTART DATE X TAPE Daily-1\n".ljust(32768, b"\0"), None]),
        data: tap.build([b"anything" * 100, None]),
    }
    for barcode, content in tapes.items():
        library.tape(barcode).write_bytes(content)
    fill(library.source, 300_000)
    with trio.fail_after(DEADLINE_S):
        first, library.catalogue = library.catalogue, library.directory / "other.sqlite"
        await library.label(others)
        await library.back_up()
        library.catalogue = first
        before = {barcode: library.tape(barcode).read_bytes() for barcode in (foreign, data, others)}
        with pytest.raises(CartridgeError, match=r"no cartridge in it can be written \(3 were looked at\)"):
            await library.back_up()
        assert [line.text for line in library.said if line.text.startswith("VTL")] == [
            f"{others} is cartridge {others}, with data that this catalogue does not know: not written over",
            f"{foreign} is a cartridge with a label of amanda: Daily-1: it is not written over",
            f"{data} is a cartridge without a label, and with data: it is not written over",
        ]
        assert {barcode: library.tape(barcode).read_bytes() for barcode in before} == before
        labelled, refused = await library.label(foreign, data)
        assert (labelled, len(refused)) == ([], 2)
        assert await library.label(foreign, overwrite=True) == ([foreign], [])
        await library.recover(await library.back_up())
        assert library.same()


async def test_a_cartridge_that_was_exchanged_meanwhile_is_not_labelled(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--overwrite` is for the cartridge that was named, and not for what somebody puts in its place."""
    fill(library.source, 300_000)
    load = Loader.load

    async def load_late(loader: Loader, place: Element, *, write: bool) -> bool:
        def exchange() -> None:
            for source, destination in ((blank, "mail0"), (needed, home), (blank, "slot7")):
                library.serve.ask("library", "move", "vtl0", source, destination)

        await trio.to_thread.run_sync(exchange)
        return await load(loader, place, write=write)

    with trio.fail_after(DEADLINE_S):
        needed, blank = create(library, 2)
        job = await library.back_up()
        (home,) = [element for element, barcode in elements(library) if barcode == blank]
        with monkeypatch.context() as patch:
            patch.setattr(Loader, "load", load_late)
            assert await library.label(blank, overwrite=True) == ([], [f"{blank} cannot be loaded for writing"])
        assert library.kinds(blank) == []
        await library.recover(job)
        assert library.same()


def elements(library: Library) -> list[tuple[str, str]]:
    """Name and barcode of each element."""
    shown = library.serve.ask("library", "show", "vtl0")["libraries"][0]["elements"]  # type: ignore[index] # JSON
    return [(each["element"], each["barcode"]) for each in shown]


async def test_expired_backups_make_room_once_nothing_builds_on_them(library: Library) -> None:
    fill(library.source, 300_000)
    with trio.fail_after(DEADLINE_S):
        barcodes = create(library, 2)
        full = await library.back_up(keep_s=0)
        level = await library.back_up(level=1, new_cartridge=True)
        with pytest.raises(CartridgeError, match="no cartridge in it can be written"):
            await library.back_up(new_cartridge=True)
        expire(library.catalogue, level)
        again = await library.back_up(new_cartridge=True)
        assert await library.cartridges(again) == [barcodes[1]]  # the one in the drive
        with pytest.raises(
            CartridgeError, match=f"cartridge {barcodes[1]} was labelled anew at .*: this backup is not on"
        ):
            await library.recover(level)
        await library.recover(again)
        assert library.same()
        known = {each.name: (each.jobs, each.needed) for each in await run_cartridges(library.catalogue)}
        assert known == {barcodes[0]: ([full], False), barcodes[1]: ([again], True)}


def expire(catalogue: Path, job: int) -> None:
    with sqlite3.connect(catalogue) as connection:
        connection.execute("UPDATE job SET keep_until = 0 WHERE job = ?", (job,))
    connection.close()


async def test_a_cartridge_that_is_away_is_asked_for_and_waited_for(library: Library) -> None:
    fill(library.source, 3 * MIB)
    with trio.fail_after(DEADLINE_S):
        barcodes = create(library, 2)
        job = await library.back_up()
        library.serve.ask("library", "move", "vtl0", barcodes[0], "mail0")
        mailed = library.tape(barcodes[0]).parent / "import_export" / f"{barcodes[0]}.tap"
        away = mailed.rename(library.catalogue.parent / mailed.name)
        library.serve.ask("library", "inventory", "vtl0")
        with pytest.raises(CartridgeError, match=f"put cartridge {barcodes[0]} into vtl0/changer: no {barcodes[0]} is"):
            await library.recover(job)
        asked = trio.Event()

        def hear(line: LogLine) -> None:
            if line.text.startswith(f"waiting: put cartridge {barcodes[0]}"):
                asked.set()

        async def bring() -> None:
            await asked.wait()
            away.rename(mailed)
            await trio.to_thread.run_sync(library.serve.ask, "library", "inventory", "vtl0")

        options = library.session(destination=str(library.target), job=job, wait_s=DEADLINE_S)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bring)
            await run_recover(RecoverOptions(**options), log=hear)  # type: ignore[arg-type] # a test's own choices
        assert library.same()


async def test_a_cartridge_that_was_ejected_and_left_in_the_drive_is_threaded_again(library: Library) -> None:
    fill(library.source, MIB)
    with trio.fail_after(DEADLINE_S):
        create(library, 1)
        job = await library.back_up()
        with NdmpClient(library.serve.address, login=Login(LOGIN.user, LOGIN.password)) as client:
            client.ok(TapeOpenRequest(b"vtl0/udrive0", TapeMode.READ))  # closing ejects
        await library.recover(job)
        assert library.same()


async def test_the_drive_keeps_a_cartridge_for_which_no_slot_is_free(library: Library) -> None:
    fill(library.source, 300_000)
    with trio.fail_after(DEADLINE_S):
        first, second = create(library, 2)
        before = await library.back_up()
        assert await library.cartridges(await library.back_up(new_cartridge=True)) == [second]
        create(library, 6)
        library.tape("BYHAND").touch()  # in the only slot that is left
        library.serve.ask("library", "inventory", "vtl0")
        with pytest.raises(CartridgeError, match=f"put cartridge {first} into"):
            await library.recover(before)
        assert any(f"no free slot for {second} in the drive" in line.text for line in library.said)
        assert await library.cartridges(await library.back_up()) == [second]


async def test_an_operator_changes_labelled_cartridges(library: Library) -> None:
    """No changer: the operator is told what is missing, and brings it; a wrong one is named."""
    fill(library.source, 3 * MIB)
    ask, drive = library.serve.ask, "vtl0/drive0"
    with trio.fail_after(DEADLINE_S):
        first, second, third = create(library, 3)
        ask("tape", "load", drive, "--barcode", first)
        send, receive = trio.open_memory_channel[str](100)

        def hear(line: LogLine) -> None:
            if line.text.startswith("waiting: "):
                send.send_nowait(line.text)

        async def bring(*barcodes: str) -> None:
            for barcode in barcodes:
                said.append(await receive.receive())
                await trio.to_thread.run_sync(ask, "tape", "load", drive, "--barcode", barcode)

        said: list[str] = []
        session = library.session(changer=None, wait_s=DEADLINE_S)
        options = BackupOptions(**session, filesystem=str(library.source), record_size=20480, labels=True)  # type: ignore[arg-type] # a test's own choices
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bring, second)
            result = await run_backup(options, log=hear)
        assert result.cartridges == ["M000001", "M000002"]
        assert library.kinds(first)[0] == ("label", "M000001")
        assert said == [f"waiting: {drive} is empty: load a cartridge"]
        said.clear()
        ask("tape", "unload", drive)
        ask("tape", "load", drive, "--barcode", third)
        recover = RecoverOptions(**session, destination=str(library.target))  # type: ignore[arg-type] # as above
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bring, first, second)
            await run_recover(recover, log=hear)
        assert said == [
            f"waiting: load cartridge M000001 into {drive}: a blank cartridge is in it",
            f"waiting: load cartridge M000002 into {drive}: cartridge M000001 is in it",
        ]
        assert library.same()


async def test_the_second_drive_is_found_by_its_identity(tmp_path: Path) -> None:
    for library in make_library(tmp_path, drives=2):
        fill(library.source, 300_000)
        with trio.fail_after(DEADLINE_S):
            create(library, 1)
            assert await library.label(drive="vtl0/drive1") == (["VTL00001"], [])
            await library.recover(await library.back_up(drive="vtl0/drive1"), drive="vtl0/drive0", drive_element=1)
        assert library.same()


async def test_a_backup_that_fails_leaves_nothing_that_is_kept(library: Library) -> None:
    fill(library.source, 5 * MIB)
    with trio.fail_after(DEADLINE_S):
        barcodes = create(library, 2)
        with pytest.raises(CartridgeError, match="no cartridge in it can be written"):
            await library.back_up()
        catalogue = Catalogue(library.catalogue)
        assert catalogue.job(1).status == "failed"
        catalogue.close()
        for path in library.source.iterdir():
            path.unlink()
        fill(library.source, 300_000)
        job = await library.back_up()
        assert await library.cartridges(job) == [barcodes[1]]  # the one in the drive
        await library.recover(job)
        assert library.same()


async def test_a_refused_backup_does_not_spoil_its_cartridge(library: Library) -> None:
    fill(library.source, 300_000)
    with trio.fail_after(DEADLINE_S):
        barcodes = create(library, 2)
        await library.back_up()
        for _ in range(2):
            with pytest.raises(NdmpError, match="DATA_START_BACKUP"):
                await library.back_up(env=[("FILESYSTEM", "/no/such/place")])
        assert await library.cartridges(await library.back_up()) == [barcodes[0]]
        assert [kind for kind, _ in library.kinds(barcodes[0])] == ["label", "dump", "dump"]


async def test_a_protected_cartridge_is_passed_over(library: Library) -> None:
    fill(library.source, 300_000)
    with trio.fail_after(DEADLINE_S):
        first, second = create(library, 2)
        library.tape(first).chmod(0o444)
        assert await library.cartridges(await library.back_up()) == [second]
        assert f"cartridge {first} is write-protected" in "\n".join(line.text for line in library.said)
        assert library.kinds(first) == []


async def test_an_old_copy_of_the_catalogue_overwrites_nothing(library: Library) -> None:
    """It has all backups on the cartridge as expired; another one was put behind them since."""
    fill(library.source, 300_000)
    with trio.fail_after(DEADLINE_S):
        (barcode,) = create(library, 1)
        await library.back_up(keep_s=DEADLINE_S)
        old = library.directory / "old.sqlite"
        with sqlite3.connect(library.catalogue) as now, sqlite3.connect(old) as copy:
            now.backup(copy)
        now.close()
        copy.close()
        newest = library.catalogue
        job = await library.back_up()
        assert await library.cartridges(job) == [barcode]
        library.catalogue = old
        expire(old, 1)
        with pytest.raises(CartridgeError, match="no cartridge in it can be written"):
            await library.back_up()
        assert library.said[-1].text.endswith("with more on it than this catalogue knows: not written over")
        library.catalogue = newest
        await library.recover(job)
        assert library.same()


async def test_cancelled_while_it_waits_for_a_cartridge(library: Library) -> None:
    fill(library.source, 3 * MIB)
    with trio.fail_after(DEADLINE_S):
        (barcode,) = create(library, 1)
        with trio.CancelScope() as scope:

            def hear(line: LogLine) -> None:
                if line.text.startswith("waiting: vtl0/changer: no cartridge in it can be written"):
                    scope.cancel()

            options = library.session(filesystem=str(library.source), wait_s=DEADLINE_S)
            await run_backup(BackupOptions(**options), log=hear)  # type: ignore[arg-type] # a test's own choices
        assert scope.cancelled_caught
        catalogue = Catalogue(library.catalogue)
        assert catalogue.job(1).status == "aborted"
        catalogue.close()
        library.serve.ask("tape", "unload", "vtl0/drive0")  # nobody has it any more
        for path in library.source.iterdir():
            path.unlink()
        fill(library.source, 300_000)
        assert await library.cartridges(await library.back_up()) == [barcode]
