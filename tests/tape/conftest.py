"""Fixtures of the tests of tapes."""

from pathlib import Path

import pytest

from mover.tape import logical_unit, scsi_medium
from tests.tape import tap
from tests.tape.model_drive import ModelDrive


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A new cartridge."""
    cartridge = tmp_path / "a.tap"
    tap.create(cartridge)
    return cartridge


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ModelDrive:
    """A drive by CDBs that is asked again at once."""
    monkeypatch.setattr(logical_unit, "BUSY_PAUSE_S", 0)
    monkeypatch.setattr(scsi_medium, "READY_PAUSE_S", 0)
    return ModelDrive()
