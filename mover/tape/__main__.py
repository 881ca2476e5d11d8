"""The tape worker: ``python -I -m mover.tape FD``."""

import mover.workers.lean  # noqa: F401  # first, or it is too late

# isort: split
import mmap
import os
import sys
from typing import Final

from mover.tape import iscsi
from mover.tape.codes import TapeMode
from mover.tape.st_device import options_path
from mover.tape.worker import TapeWorker
from mover.workers.confine import CAP_SYS_RAWIO, CHANGE, IOCTL_DEV, READ_FILE, WRITE_FILE, Grant
from mover.workers.device_messages import DeviceSpec, OpenDevice
from mover.workers.frame import run
from mover.workers.messages import ToWorker
from mover.workers.tape_messages import DriveSpec, OpenDrive

_DEVICE: Final = READ_FILE | WRITE_FILE | IOCTL_DEV


def need(message: ToWorker) -> Grant:
    """What the work needs that this message begins."""
    match message:
        case OpenDrive(drive=DriveSpec() as drive):
            return _of_cartridge(drive)
        case OpenDrive(drive=DeviceSpec() as device) | OpenDevice(device=device):
            return _of_device(device)
        case _:
            return Grant()


def _of_cartridge(drive: DriveSpec) -> Grant:
    """The directory of the cartridge: the cartridge itself and what lies beside it."""
    if drive.path is None:
        return Grant()
    return Grant(trees=((os.path.dirname(os.fsencode(drive.path)), CHANGE),))


def _of_device(device: DeviceSpec) -> Grant:
    """The port of an iSCSI target; or a device node, its sg node and what the kernel tells of its options."""
    if not device.device.startswith("/"):
        return Grant(ports=iscsi.prepare(device.device))
    nodes = [os.fsencode(node) for node in (device.device, device.sg_device) if node]
    options = os.fsencode(options_path(os.path.basename(os.path.realpath(device.device))))
    # The kernel takes most commands of tapes and changers, when they come by an sg node, from nobody without this.
    return Grant(CAP_SYS_RAWIO, (*((node, _DEVICE) for node in nodes), (options, READ_FILE)))


def rehearsal() -> tuple[ToWorker, list[int]]:
    """The opening of a drive without a tape."""
    memory = os.memfd_create("rehearsal", os.MFD_CLOEXEC)
    os.ftruncate(memory, mmap.PAGESIZE)
    return OpenDrive(DriveSpec("rehearsal", None, 1, 0), TapeMode.READ, implicit_filemark=False), [memory]


if __name__ == "__main__":
    sys.exit(run("tape", sys.argv, TapeWorker().handle, need, capabilities=CAP_SYS_RAWIO, rehearsal=rehearsal))
