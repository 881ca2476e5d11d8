"""CDBs to a device by its sg node, one SG_IO at a time.

The kernel copies the header, and moves data to and from the addresses in it while no Python code runs: what they
belong to is held until the call is through. A worker ignores all signals that it may get, so no call is interrupted,
and none repeated.

Source: linux/Documentation/scsi/scsi-generic.rst; scsi/sg.h.
"""

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Callable
from typing import Final

from mover.tape.codes import Error
from mover.tape.drive import DriveError
from mover.tape.transport import Reply, Status, TransportError

Ioctl = Callable[[int, int, bytearray], int]

SG_IO: Final = 0x2285
# interface_id, dxfer_direction; cmd_len, mx_sb_len, iovec_count; dxfer_len; dxferp, cmdp, sbp; timeout, flags, pack_id;
# usr_ptr; status, masked_status, msg_status, sb_len_wr; host_status, driver_status; resid, duration, info
HEADER: Final = struct.Struct("@iiBBHIPPPIIiPBBBBHHiII0P")
_TO_DEVICE: Final = -2
_FROM_DEVICE: Final = -3
_NO_DATA: Final = -1
CDB_BYTES_MAX: Final = 252
SENSE_BYTES: Final = 252
DATA_BYTES_MAX: Final = (1 << 31) - 1
TIMEOUT_MS_MAX: Final = (1 << 31) - 1

DRIVER_SENSE: Final = 0x08  # sense data came; older kernels set it beside CHECK CONDITION
_DRIVER_TIMEOUT: Final = 0x06
_HOST_TIMEOUT: Final = 0x03
_HOST: Final = {
    0x01: "cannot be reached", 0x02: "its bus is busy", _HOST_TIMEOUT: "did not answer in time", 0x04: "no such target",
    0x05: "the command was aborted", 0x06: "parity error", 0x07: "host adapter error", 0x08: "was reset",
    0x0B: "failed on the way", 0x0D: "the command was given back", 0x0E: "its transport was disrupted",
    0x0F: "its transport fails fast",
}  # fmt: skip
"""What the host adapter says: DID codes of scsi/scsi_status.h."""
_OPEN_ERRORS: Final = {
    errno.EBUSY: Error.DEVICE_BUSY,
    errno.EACCES: Error.PERMISSION,
    errno.EPERM: Error.PERMISSION,
}


class SgTransport:
    """An open sg node; see :class:`mover.tape.transport.Transport`.

    Args:
        path: such as ``/dev/sg3``.
        ioctl: the system call, for tests.

    Raises:
        DriveError: it cannot be opened.
    """

    def __init__(self, path: str, *, ioctl: Ioctl = fcntl.ioctl) -> None:
        self.path = path
        self._ioctl = ioctl
        try:
            # O_NONBLOCK: do not wait for whoever has it alone. SG_IO itself waits in any case.
            self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            code = _OPEN_ERRORS.get(error.errno or 0, Error.IO)
            raise DriveError(code, f"{path}: {error.strerror}") from error

    def execute(self, cdb: bytes, data: memoryview | None = None, *, writes: bool = False, timeout_s: float) -> Reply:
        """See Transport.execute."""
        if self._fd < 0:
            raise TransportError(f"{self.path} is closed")
        length = 0 if data is None else data.nbytes
        if not 0 < len(cdb) <= CDB_BYTES_MAX or length > DATA_BYTES_MAX:
            raise TransportError(f"{self.path}: a CDB of {len(cdb)} bytes with {length} bytes of data")
        command = (ctypes.c_char * len(cdb)).from_buffer_copy(cdb)
        sense = ctypes.create_string_buffer(SENSE_BYTES)
        room: ctypes.Array[ctypes.c_char] | None = None
        if data is not None and length:
            kind = ctypes.c_char * length
            room = kind.from_buffer_copy(data) if data.readonly else kind.from_buffer(data)
        direction = _NO_DATA if room is None else _TO_DEVICE if writes else _FROM_DEVICE
        header = bytearray(
            HEADER.pack(
                ord("S"), direction, len(cdb), SENSE_BYTES, 0, length,
                ctypes.addressof(room) if room is not None else 0, ctypes.addressof(command), ctypes.addressof(sense),
                max(1, min(TIMEOUT_MS_MAX, int(timeout_s * 1000))), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            )
        )  # fmt: skip
        try:
            self._ioctl(self._fd, SG_IO, header)
        except OSError as error:
            right = " (a command that takes CAP_SYS_RAWIO)" if error.errno == errno.EPERM else ""
            raise TransportError(f"{self.path}: {error.strerror}{right}") from error
        return self._reply(header, length, sense.raw)

    def _reply(self, header: bytearray, length: int, sense: bytes) -> Reply:
        (*_, status, _, _, sense_length, host, driver, residual, _, _) = HEADER.unpack(header)
        if host:
            text = _HOST.get(host, f"host adapter status {host:#04x}")
            raise TransportError(f"{self.path}: {text}", timed_out=host == _HOST_TIMEOUT)
        if driver & 0x0F not in {0, DRIVER_SENSE}:
            late = driver & 0x0F == _DRIVER_TIMEOUT
            raise TransportError(f"{self.path}: driver status {driver:#04x}", timed_out=late)
        if driver & DRIVER_SENSE and status == Status.GOOD and sense_length:
            status = Status.CHECK_CONDITION
        # A residual that no transfer can have is the adapter's mistake: nothing is known to have come then.
        transferred = length - residual if 0 <= residual <= length else 0
        return Reply(status, sense[: min(sense_length, SENSE_BYTES)], transferred)

    def close(self) -> None:
        """Give it back; a second time does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
