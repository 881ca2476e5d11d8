"""A real /dev/nst0: the contract of a drive, and beside it mt, dd and the changer; run by pytest inside the guest.

See tests/tape/test_st_guest.py, which starts it.

The drive is tgtd's behind the kernel's iSCSI initiator and st driver. TAPE, SG and MEDIUM in the environment name the
tape device, its sg node, and the file that is the cartridge.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from mover.control.st_nodes import StNodeError, find_st_node
from mover.tape.codes import Error, TapeMode
from mover.tape.drive import Outcome
from mover.tape.sg import SgTransport
from mover.tape.st_drive import StDrive
from mover.workers.device_messages import DeviceSpec
from tests.tape.contract import WHOLE_BYTES, Capability, DriveContract, Peer, contents, refused, write

TAPE = os.environ.get("TAPE", "")
SPEC = DeviceSpec("st0", TAPE, os.environ.get("SG", ""))


class GuestPeer(Peer):
    """tgtd's drive behind the st driver."""

    capabilities = frozenset({Capability.SECOND_OPEN})
    faults: ClassVar[Mapping[str, str]] = {}

    def __init__(self, medium: Path) -> None:
        blank = medium.with_name("blank")
        if not blank.exists():
            shutil.copyfile(medium, blank)
        with open(medium, "r+b") as file:  # in place: tgtd has it open, and reads it anew from BOT
            file.write(blank.read_bytes())
            file.truncate()
        subprocess.run(["mt", "-f", TAPE, "rewind"], check=True)
        self._open: list[StDrive] = []

    def open(
        self,
        mode: TapeMode = TapeMode.RDWR,
        *,
        capacity: int = WHOLE_BYTES,
        early_warning: int = 0,
        implicit_filemark: bool = True,
    ) -> StDrive:
        drive = StDrive(SPEC, mode, implicit_filemark=implicit_filemark)
        self._open.append(drive)
        return drive

    def protect(self) -> None:
        raise NotImplementedError("tgtd protects no medium")

    def empty(self) -> None:
        raise NotImplementedError("left to the changer")

    def close(self) -> None:
        """After a test that failed with the drive open."""
        for drive in self._open:
            drive.close(force=True)


@pytest.fixture
def peer() -> Iterator[GuestPeer]:
    peer = GuestPeer(Path(os.environ["MEDIUM"]))
    yield peer
    peer.close()


class TestContract(DriveContract):
    """The contract on /dev/nst0."""


# --- what operators use on the same devices ---------------------------------------------------------------------


def run(*command: str, data: bytes = b"") -> bytes:
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True, timeout=120).stdout


def test_mt_and_dd_read_what_we_write(peer: GuestPeer) -> None:
    drive = peer.open()
    write(drive, bytes(range(256)) * 4, b"second record")
    drive.write_filemarks(1)
    write(drive, b"behind the mark")
    drive.close(force=False)
    run("mt", "-f", TAPE, "rewind")
    assert run("dd", f"if={TAPE}", "bs=64k", "status=none") == bytes(range(256)) * 4 + b"second record"
    assert run("dd", f"if={TAPE}", "bs=64k", "status=none") == b"behind the mark"
    run("mt", "-f", TAPE, "rewind")
    run("mt", "-f", TAPE, "fsf", "1")
    assert run("dd", f"if={TAPE}", "bs=64k", "count=1", "status=none") == b"behind the mark"


def test_we_read_what_dd_and_mt_write(peer: GuestPeer) -> None:
    run("dd", f"of={TAPE}", "bs=4k", "status=none", data=b"by dd" * 100)  # its close writes a filemark
    run("dd", f"of={TAPE}", "bs=4k", "status=none", data=b"another" * 100)
    run("mt", "-f", TAPE, "rewind")
    drive = peer.open(TapeMode.READ)
    assert contents(drive) == [b"by dd" * 100, None, b"another" * 100, None]
    drive.rewind()
    assert drive.space_files(1) == Outcome(1)
    drive.close(force=False)
    assert run("dd", f"if={TAPE}", "bs=64k", "count=1", "status=none") == b"another" * 100


def test_who_has_the_device_open_keeps_it(peer: GuestPeer) -> None:
    with open(TAPE, "rb", buffering=0):
        assert refused(peer, TapeMode.RDWR) == Error.DEVICE_BUSY
    drive = peer.open()
    assert subprocess.run(["mt", "-f", TAPE, "status"], capture_output=True, check=False).returncode != 0
    drive.close(force=False)


def test_fixed_blocks(peer: GuestPeer) -> None:
    spec = DeviceSpec("st0", TAPE, os.environ["SG"], block_size=512)
    drive = StDrive(spec, TapeMode.RDWR, implicit_filemark=True)
    assert drive.write_records(memoryview(bytes(range(256)) * 16), 2048) == Outcome(2)
    drive.write_filemarks(1)
    drive.rewind()
    room = bytearray(4096)
    assert drive.read_records(memoryview(room), 2048).done == 2
    assert (bytes(room), drive.state().block_size) == (bytes(range(256)) * 16, 512)
    drive.close(force=False)
    peer.open().close(force=False)  # variable again


def test_the_kernel_names_the_sg_node_and_the_serial_number() -> None:
    node = find_st_node(TAPE)
    assert (node.name, node.sg_device, node.serial) == (os.path.basename(TAPE), os.environ["SG"], "DRV0000001")
    with pytest.raises(StNodeError, match="rewinds"):
        find_st_node(TAPE.replace("nst", "st"))


def test_commands_by_the_sg_node() -> None:
    drive, changer = SgTransport(os.environ["SG"]), SgTransport(os.environ["CHANGER"])
    room = bytearray(36)
    for transport, product in ((drive, b"ULT3580-TD4"), (changer, b"VTL")):
        reply = transport.execute(bytes([0x12, 0, 0, 0, 36, 0]), memoryview(room), timeout_s=60)
        assert (reply.status, reply.transferred, product in bytes(room)) == (0, 36, True)
    refusal = drive.execute(bytes([0x19, 0, 0, 0, 0, 0]), timeout_s=60)  # ERASE, which tgtd has not
    assert (refusal.status, refusal.sense[2] & 0xF) == (2, 5)
    status = bytearray(4096)
    reply = changer.execute(bytes([0xB8, 0x14, 0, 0, 0, 1, 0, 0, 16, 0, 0, 0]), memoryview(status), timeout_s=60)
    assert (reply.status, b"TAPE01L4" in bytes(status[: reply.transferred])) == (0, True)
    drive.close()
    changer.close()
