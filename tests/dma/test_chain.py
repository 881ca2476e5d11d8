"""Which backups of the catalogue an incremental one builds on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.dma.catalogue import Catalogue
from mover.dma.chain import chain_below, chain_text


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    made = Catalogue(tmp_path / "catalogue")
    yield made
    made.close()


def backup(
    catalogue: Catalogue, status: str = "successful", filesystem: bytes = b"/f", butype: str = "dump", **env: str
) -> int:
    number = catalogue.begin_job(
        data_server="a:1", tape_server="a:1", drive="d", record_size=512, butype=butype, filesystem=filesystem,
        protocol_version=4,
    )  # fmt: skip
    pairs = [(name.encode(), value.encode()) for name, value in env.items()]
    catalogue.end_job(number, status, "", tape_file=number, bytes_processed=1, env=pairs, log=[])
    return number


def chain(catalogue: Catalogue, job: int) -> list[int] | None:
    found = chain_below(catalogue, catalogue.job(job))
    return None if found is None else [each.job for each in found]


def test_the_latest_of_a_lower_level(catalogue: Catalogue) -> None:
    full = backup(catalogue, LEVEL="0")
    backup(catalogue, LEVEL="1")
    first = backup(catalogue, LEVEL="1")
    backup(catalogue, filesystem=b"/g", LEVEL="0")
    backup(catalogue, butype="tar", LEVEL="0")
    backup(catalogue, LEVEL="0", UPDATE="n")
    backup(catalogue, status="failed", LEVEL="0")
    backup(catalogue, LEVEL="2")
    assert chain(catalogue, backup(catalogue, LEVEL="2")) == [full, first]
    assert chain(catalogue, backup(catalogue, LEVEL="1")) == [full]
    assert chain(catalogue, full) == []


def test_sets_of_subtrees_have_chains_of_their_own(catalogue: Catalogue) -> None:
    full = backup(catalogue, LEVEL="0", DMP_NAME="without meaning here")
    one = backup(catalogue, LEVEL="0", DMP_NAME="one", MULTI_SUBTREE_NAMES="home\ndb")
    two = backup(catalogue, LEVEL="0", DMP_NAME="two", MULTI_SUBTREE_NAMES="home")
    assert chain(catalogue, backup(catalogue, LEVEL="1")) == [full]
    assert chain(catalogue, backup(catalogue, LEVEL="1", DMP_NAME="one", MULTI_SUBTREE_NAMES="home")) == [one]
    assert chain(catalogue, backup(catalogue, LEVEL="1", DMP_NAME="two", MULTI_SUBTREE_NAMES="db")) == [two]
    assert chain(catalogue, backup(catalogue, LEVEL="1", DMP_NAME="three", MULTI_SUBTREE_NAMES="db")) is None


def test_by_date(catalogue: Catalogue) -> None:
    full = backup(catalogue, LEVEL="0", BASE_DATE="0", DUMP_DATE="7")
    backup(catalogue, LEVEL="0")
    first = backup(catalogue, LEVEL="1", BASE_DATE="7", DUMP_DATE="8")
    backup(catalogue, LEVEL="1", BASE_DATE="7", DUMP_DATE="9")
    assert chain(catalogue, backup(catalogue, LEVEL="2", BASE_DATE="8", DUMP_DATE="10")) == [full, first]
    assert chain(catalogue, backup(catalogue, LEVEL="2", BASE_DATE="99", DUMP_DATE="11")) is None


def test_what_a_server_returns_as_level(catalogue: Catalogue) -> None:
    numbers = [backup(catalogue, LEVEL=level) for level in ("31", "", "x", "-1", "9" * 30)]
    assert [catalogue.job(number).level for number in [*numbers, backup(catalogue)]] == [31] + [None] * 5


def test_what_is_told(catalogue: Catalogue) -> None:
    early = backup(catalogue, LEVEL="3")
    assert chain_text(catalogue, catalogue.job(early)).endswith(
        "of level 3 and holds what had changed; the catalogue does not have all the backups that it builds on"
    )
    full, first, second = (backup(catalogue, LEVEL=level) for level in "012")
    assert chain_text(catalogue, catalogue.job(full)) == ""
    assert chain_text(catalogue, catalogue.job(second)) == (
        f"job {second} is of level 2 and holds what had changed: job {full}, then job {first} "
        "must have been recovered to the same destination before"
    )
