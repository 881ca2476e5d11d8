"""Cartridges that were not closed in order: what the file tells, and what this process knows better."""

import os
from pathlib import Path

import pytest

from mover.control.unflushed import Unflushed


@pytest.fixture
def cartridge(tmp_path: Path) -> Path:
    """One with data; its index is beside it."""
    (tmp_path / "A1.tap").write_bytes(b"data")
    (tmp_path / "A1.tap.idx").touch()
    return tmp_path / "A1.tap"


def test_no_index_beside_data_says_so(cartridge: Path) -> None:
    path = str(cartridge)
    assert not Unflushed().holds(path)
    os.unlink(path + ".idx")
    assert Unflushed().holds(path)
    cartridge.write_bytes(b"")
    assert not Unflushed().holds(path)
    cartridge.unlink()
    assert not Unflushed().holds(path)
    assert not Unflushed().holds(None)


def test_what_is_written_is_not_lost_yet(cartridge: Path) -> None:
    path, unflushed = str(cartridge), Unflushed()
    unflushed.open(path, unflushed=unflushed.holds(path))
    os.unlink(path + ".idx")  # the first change
    assert not unflushed.holds(path)
    unflushed.lose(path)
    assert unflushed.holds(path)
    unflushed.close(path)
    assert not unflushed.holds(path)  # also where the index could not be kept


def test_what_was_found_holds_until_the_close(cartridge: Path) -> None:
    path, unflushed = str(cartridge), Unflushed()
    os.unlink(path + ".idx")
    unflushed.open(path, unflushed=unflushed.holds(path))
    assert unflushed.holds(path)
    unflushed.close(path)
    assert not unflushed.holds(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_where_no_index_can_be_kept_its_absence_says_nothing(cartridge: Path) -> None:
    os.unlink(str(cartridge) + ".idx")
    cartridge.parent.chmod(0o500)
    try:
        assert not Unflushed().holds(str(cartridge))
    finally:
        cartridge.parent.chmod(0o700)
