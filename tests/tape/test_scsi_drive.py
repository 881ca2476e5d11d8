"""Drives by CDBs: the contract of a drive on tgtd over iSCSI."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mover.tape.codes import TapeMode
from mover.tape.drive import Drive, Position
from mover.tape.open_drive import open_drive
from mover.workers.device_messages import DeviceSpec
from tests.support.tgtd import PROGRAMS, Tgtd
from tests.tape.contract import WHOLE_BYTES, Capability, DriveContract, Peer


class TgtdPeer(Peer):
    """A drive of tgtd, with a cartridge of its own for each test."""

    capabilities = frozenset({Capability.EMPTY})

    def __init__(self, tgtd: Tgtd) -> None:
        self._tgtd = tgtd
        self._drive: Drive | None = None
        self._empty = False

    def open(
        self,
        mode: TapeMode = TapeMode.RDWR,
        *,
        capacity: int = WHOLE_BYTES,
        early_warning: int = 0,
        implicit_filemark: bool = True,
    ) -> Drive:
        drive = open_drive(DeviceSpec("t0", self._tgtd.url()), mode, implicit_filemark=implicit_filemark)
        # tgtd's READ POSITION always answers "unknown": a tape that stood at BOT is rewound to make that known.
        stood = Position(0, 0) if self._drive is None else self._drive.position()
        if stood in {Position(0, 0), Position(None, None)} and not self._empty:
            drive.rewind()
        self._drive = drive
        return drive

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
