"""CDBs by SG_IO: what the header says, and what becomes of every answer; the kernel is a function here."""

import ctypes
import errno
import os
from pathlib import Path

import pytest

from mover.tape.codes import Error
from mover.tape.drive import DriveError
from mover.tape.sg import HEADER, SENSE_BYTES, SG_IO, SgTransport
from mover.tape.transport import Reply, Status, TransportError

INQUIRY = bytes([0x12, 0, 0, 0, 36, 0])
SENSE = bytes([0x70, 0, 0x03]) + bytes(15)


class Kernel:
    """Answers one SG_IO as the test says, and keeps what it was asked."""

    def __init__(
        self,
        *,
        data: bytes = b"",
        status: int = 0,
        sense: bytes = b"",
        host: int = 0,
        driver: int = 0,
        residual: int = 0,
        fails: int = 0,
    ) -> None:
        self.data, self.status, self.sense = data, status, sense
        self.host, self.driver, self.residual, self.fails = host, driver, residual, fails
        self.cdb = self.written = b""
        self.timeout_ms = 0

    def __call__(self, fd: int, request: int, header: bytearray) -> int:
        assert request == SG_IO
        if self.fails:
            raise OSError(self.fails, os.strerror(self.fails))
        fields = list(HEADER.unpack(header))
        direction, cdb_length, sense_room, length = fields[1], fields[2], fields[3], fields[5]
        data, cdb, sense = fields[6:9]
        self.timeout_ms = fields[9]
        assert (fields[0], sense_room) == (ord("S"), SENSE_BYTES)
        assert (direction == -1) == (length == 0) == (data is None or data == 0)
        self.cdb = ctypes.string_at(cdb, cdb_length)
        if direction == -2:
            self.written = ctypes.string_at(data, length)
        if direction == -3:
            ctypes.memmove(data, self.data, min(len(self.data), length))
        ctypes.memmove(sense, self.sense, len(self.sense))
        fields[13], fields[16] = self.status, len(self.sense)
        fields[17], fields[18], fields[19] = self.host, self.driver, self.residual
        header[:] = HEADER.pack(*fields)
        return 0


@pytest.fixture
def node(tmp_path: Path) -> str:
    path = tmp_path / "sg3"
    path.touch()
    return str(path)


def test_the_header_is_the_kernels() -> None:
    assert HEADER.size == {8: 88, 4: 64}[ctypes.sizeof(ctypes.c_void_p)]


def test_data_in(node: str) -> None:
    kernel = Kernel(data=b"abc", residual=33)
    transport = SgTransport(node, ioctl=kernel)
    room = bytearray(36)
    assert transport.execute(INQUIRY, memoryview(room), timeout_s=1.5) == Reply(Status.GOOD, b"", 3)
    assert (kernel.cdb, kernel.timeout_ms, bytes(room[:3])) == (INQUIRY, 1500, b"abc")
    transport.close()


@pytest.mark.parametrize("data", [memoryview(b"page"), memoryview(bytearray(b"page"))], ids=["readonly", "writable"])
def test_data_out(node: str, data: memoryview) -> None:
    kernel = Kernel()
    reply = SgTransport(node, ioctl=kernel).execute(bytes(6), data, writes=True, timeout_s=1)
    assert (reply, kernel.written) == (Reply(Status.GOOD, b"", 4), b"page")


@pytest.mark.parametrize("driver", [0, 0x08])
def test_sense(node: str, driver: int) -> None:
    """Older kernels say DRIVER_SENSE beside the status, and some adapters in its place."""
    for status in (0, 2) if driver else (2,):
        kernel = Kernel(status=status, sense=SENSE, driver=driver)
        assert SgTransport(node, ioctl=kernel).execute(bytes(6), timeout_s=1) == Reply(2, SENSE, 0)


def test_status_without_sense(node: str) -> None:
    reply = SgTransport(node, ioctl=Kernel(status=0x18)).execute(bytes(6), timeout_s=1)
    assert reply == Reply(Status.RESERVATION_CONFLICT, b"", 0)


@pytest.mark.parametrize("residual", [-1, 37])
def test_a_residual_that_cannot_be_counts_nothing(node: str, residual: int) -> None:
    kernel = Kernel(residual=residual)
    assert SgTransport(node, ioctl=kernel).execute(INQUIRY, memoryview(bytearray(36)), timeout_s=1).transferred == 0


@pytest.mark.parametrize(
    ("kernel", "timed_out", "text"),
    [
        (Kernel(host=3), True, "did not answer in time"),
        (Kernel(host=1), False, "cannot be reached"),
        (Kernel(host=0x7F), False, "host adapter status 0x7f"),
        (Kernel(driver=6), True, "driver status 0x06"),
        (Kernel(driver=5), False, "driver status 0x05"),
        (Kernel(fails=errno.ENODEV), False, os.strerror(errno.ENODEV)),
        (Kernel(fails=errno.EPERM), False, "CAP_SYS_RAWIO"),
    ],
)
def test_no_answer(node: str, kernel: Kernel, timed_out: bool, text: str) -> None:
    with pytest.raises(TransportError, match=text) as caught:
        SgTransport(node, ioctl=kernel).execute(bytes(6), timeout_s=1)
    assert (caught.value.timed_out, str(caught.value).startswith(node)) == (timed_out, True)


def test_bounds_and_the_end(node: str) -> None:
    transport = SgTransport(node, ioctl=Kernel())
    for cdb in (b"", bytes(253)):
        with pytest.raises(TransportError, match="a CDB of"):
            transport.execute(cdb, timeout_s=1)
    transport.close()
    transport.close()
    with pytest.raises(TransportError, match="closed"):
        transport.execute(bytes(6), timeout_s=1)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DriveError, match="No such file") as caught:
        SgTransport(str(tmp_path / "none"))
    assert caught.value.error == Error.IO


def test_a_node_that_is_no_sg_node(node: str) -> None:
    with pytest.raises(TransportError, match="ioctl"):
        SgTransport(node).execute(bytes(6), timeout_s=1)
