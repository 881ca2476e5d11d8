"""The tape worker: ``python -I -m mover.tape FD``."""

import os
import sys

from mover.tape import iscsi
from mover.tape.worker import TapeWorker
from mover.workers.confine import CHANGE, Grant
from mover.workers.device_messages import DeviceSpec, OpenDevice
from mover.workers.frame import run
from mover.workers.messages import DriveSpec, OpenDrive, ToWorker


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
    """The port of an iSCSI target."""
    return Grant(ports=iscsi.prepare(device.device))


if __name__ == "__main__":
    sys.exit(run("tape", sys.argv, TapeWorker().handle, need))
