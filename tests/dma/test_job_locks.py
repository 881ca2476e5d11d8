"""Jobs whose DMA was killed: the next one that opens the catalogue knows, and their cartridges are free."""

import subprocess
import sys
from pathlib import Path

import pytest

from mover.dma.cartridge_book import CartridgeBook
from mover.dma.catalogue import LOST, Catalogue
from mover.dma.errors import CatalogueError
from mover.media import Label

DEADLINE_S = 60.0
_DMA = """
import sys
from pathlib import Path
from mover.dma.catalogue import Catalogue
catalogue = Catalogue(Path(sys.argv[1]))
print(catalogue.begin_job(
    data_server="a:1", tape_server="b:2", drive="d", record_size=512, butype="dump", filesystem=b"/f",
    protocol_version=4,
), flush=True)
sys.stdin.read()
"""


def begin(catalogue: Catalogue) -> int:
    return catalogue.begin_job(
        data_server="a:1", tape_server="b:2", drive="d", record_size=512, butype="dump", filesystem=b"/f",
        protocol_version=4,
    )  # fmt: skip


def end(catalogue: Catalogue, job: int) -> None:
    catalogue.end_job(job, "successful", "", tape_file=1, bytes_processed=1, env=[], log=[])


def statuses(path: Path) -> list[tuple[str, str]]:
    catalogue = Catalogue(path)
    try:
        return [(job.status, job.message) for job in catalogue.jobs()]
    finally:
        catalogue.close()


def test_one_whose_process_was_killed_has_failed_and_keeps_no_cartridge(tmp_path: Path) -> None:
    path = tmp_path / "catalogue"
    with subprocess.Popen(
        [sys.executable, "-c", _DMA, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        job = int(process.stdout.readline())
        catalogue = Catalogue(path)
        book = CartridgeBook(catalogue)
        cartridge = book.labelled(Label("A", "0" * 32, 500), "A")
        book.begin_segment(job, 0, cartridge, 1, 0)
        assert book.needed(1000.0) == {cartridge.id}
        assert statuses(path) == [("running", "")]
        process.kill()
        process.wait(DEADLINE_S)
    assert statuses(path) == [("failed", LOST)]
    assert book.needed(1000.0) == set()
    catalogue.close()
    assert [each.name for each in tmp_path.iterdir() if each.name.endswith(".running")] == []


def test_one_that_runs_in_this_process_is_running(tmp_path: Path) -> None:
    path = tmp_path / "catalogue"
    catalogue = Catalogue(path)
    first, second = begin(catalogue), begin(catalogue)
    end(catalogue, first)
    assert statuses(path) == [("successful", ""), ("running", "")]
    end(catalogue, second)
    catalogue.close()
    assert statuses(path) == [("successful", ""), ("successful", "")]
    assert [each.name for each in tmp_path.iterdir() if each.name.endswith(".running")] == []


def test_of_one_without_a_lock_nothing_is_known(tmp_path: Path) -> None:
    """It was begun by a program that knew no locks, and may be running."""
    path = tmp_path / "catalogue"
    catalogue = Catalogue(path)
    job = begin(catalogue)
    (tmp_path / f"catalogue.{job}.running").unlink()
    catalogue.close()
    assert statuses(path) == [("running", "")]


def test_a_job_that_cannot_be_locked_is_not_begun(tmp_path: Path) -> None:
    path = tmp_path / "catalogue"
    catalogue = Catalogue(path)
    (tmp_path / "catalogue.1.running").symlink_to("elsewhere")
    with pytest.raises(CatalogueError, match=r"catalogue .*: Too many levels of symbolic links"):
        begin(catalogue)
    assert catalogue.jobs() == []
    catalogue.close()
