"""What scripts/histories writes down: the page tells what is stored, and pieces add up."""

import shutil
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.scripts import CHECKOUT, load_script


@pytest.fixture
def report() -> ModuleType:
    return load_script("histories_report")


def test_the_page_tells_what_is_stored(report: ModuleType) -> None:
    page = (CHECKOUT / "docs" / "chain-tests.md").read_text()
    assert report.with_table(page, report.load(CHECKOUT / "docs")) == page


def test_pieces_add_up(report: ModuleType, tmp_path: Path) -> None:
    shutil.copyfile(CHECKOUT / "docs" / "chain-tests.md", tmp_path / "chain-tests.md")
    for way, kind, histories in (("dump", "xfs", 100), ("tar", "host", 20_000), ("dump", "xfs", 7)):
        report.store(tmp_path, way, kind, report.Total(histories, 2 * histories, 9, 1.5, 0), {"machine": "of a test"})
    record = report.load(tmp_path)
    assert record.ways["dump"] == {"xfs": report.Total(107, 214, 18, 3.0, 0)}
    page = (tmp_path / "chain-tests.md").read_text()
    assert "| dump | xfs | 107 | 214 | 18 | 0.0 | 0 |" in page
    assert "20,107 of 20,000 wanted, reached." in page
    assert "- machine: of a test" in page


def test_a_page_without_a_place_is_refused(report: ModuleType) -> None:
    with pytest.raises(ValueError, match="no place for the table"):
        report.with_table("# A page\n", report.Record())
