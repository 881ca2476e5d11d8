"""Drives by CDBs: the contract of a drive on tgtd over iSCSI."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.tape.codes import TapeMode
from mover.tape.drive import Drive, Position
from mover.tape.open_drive import open_drive
from mover.tape.scsi_drive import ScsiDrive
from mover.workers.device_messages import DeviceSpec
from tests.support.tgtd import PROGRAMS, Tgtd
from tests.tape.contract import WHOLE_BYTES, Capability, DriveContract, Peer
from tests.tape.model_drive import ModelDrive

SPEC = DeviceSpec("t0", "iscsi://127.0.0.1/iqn.2026-01.test:vtl/1")


class ScsiPeer(Peer):
    """A drive by CDBs that may not tell where its tape stands: one that stood at BOT is rewound to make that known."""

    def __init__(self) -> None:
        self._last: Drive | None = None
        self._empty = False

    @abstractmethod
    def make(self, mode: TapeMode, *, capacity: int, early_warning: int, implicit_filemark: bool) -> Drive:
        """The drive, open."""

    def open(
        self,
        mode: TapeMode = TapeMode.RDWR,
        *,
        capacity: int = WHOLE_BYTES,
        early_warning: int = 0,
        implicit_filemark: bool = True,
    ) -> Drive:
        drive = self.make(mode, capacity=capacity, early_warning=early_warning, implicit_filemark=implicit_filemark)
        stood = Position(0, 0) if self._last is None else self._last.position()
        if stood in {Position(0, 0), Position(None, None)} and not self._empty:
            drive.rewind()
        self._last = drive
        return drive


class ModelPeer(ScsiPeer):
    """A drive as SSC-4 says."""

    capabilities = frozenset(Capability)

    def __init__(self) -> None:
        super().__init__()
        self.model = ModelDrive()

    def make(self, mode: TapeMode, *, capacity: int, early_warning: int, implicit_filemark: bool) -> Drive:
        model = self.model
        model.capacity, model.early_warning = capacity, early_warning
        if not self._empty:
            model.loaded = True  # again, where it was unloaded
        return ScsiDrive(model.transport(), SPEC, mode, implicit_filemark=implicit_filemark)

    def protect(self) -> None:
        self.model.protected = True

    def empty(self) -> None:
        self.model.loaded, self._empty = False, True


class TestContract(DriveContract):
    """The contract on a drive as it should be."""

    @pytest.fixture
    def peer(self) -> Peer:
        return ModelPeer()


class CountedPeer(ModelPeer):
    """A drive that does not tell where it stands, does not space exactly and says no residuals."""

    capabilities = frozenset(Capability) - {Capability.KNOWS_BLOCKNO}

    def __init__(self) -> None:
        super().__init__()
        model = self.model
        model.tells = model.locates = model.spaces_exactly = model.says_residual = model.gives_all = False


class TestContractOnOddDrive(DriveContract):
    """The contract on a drive that has nothing but what it has to have."""

    @pytest.fixture
    def peer(self) -> Peer:
        return CountedPeer()


class TgtdPeer(ScsiPeer):
    """A drive of tgtd, with a cartridge of its own for each test."""

    capabilities = frozenset({Capability.EMPTY})

    def __init__(self, tgtd: Tgtd) -> None:
        super().__init__()
        self._tgtd = tgtd

    def make(self, mode: TapeMode, *, capacity: int, early_warning: int, implicit_filemark: bool) -> Drive:
        return open_drive(DeviceSpec("t0", self._tgtd.url()), mode, implicit_filemark=implicit_filemark)

    def protect(self) -> None:
        raise AssertionError("not among its capabilities")

    def empty(self) -> None:
        self._tgtd.unload(0)
        self._empty = True


@pytest.mark.slow
@pytest.mark.peer(*PROGRAMS, "iscsi-ls")
class TestContractOnTgtd(DriveContract):
    """The contract on a drive of tgtd."""

    @pytest.fixture
    def peer(self, tmp_path: Path) -> Iterator[Peer]:
        with Tgtd(tmp_path / "tgtd") as tgtd:
            yield TgtdPeer(tgtd)
