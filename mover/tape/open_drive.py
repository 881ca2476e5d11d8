"""Which kind of drive, and which way to a device, a specification asks for."""

from mover.tape.codes import TapeMode
from mover.tape.drive import Drive
from mover.tape.faults import FaultyDrive
from mover.tape.iscsi import IscsiTransport
from mover.tape.scsi_drive import ScsiDrive
from mover.tape.sg import SgTransport
from mover.tape.st_drive import StDrive
from mover.tape.transport import Transport
from mover.tape.virtual import VirtualDrive
from mover.workers.device_messages import DeviceSpec
from mover.workers.tape_messages import DriveSpec


def open_drive(spec: DriveSpec | DeviceSpec, mode: TapeMode, *, implicit_filemark: bool) -> Drive:
    """The drive, opened; rewinds nothing.

    Raises:
        DriveError: it cannot be opened so.
    """
    if isinstance(spec, DriveSpec):
        virtual = FaultyDrive if spec.faults else VirtualDrive
        return virtual(spec, mode, implicit_filemark=implicit_filemark)
    if spec.device.startswith("/"):
        return StDrive(spec, mode, implicit_filemark=implicit_filemark)
    return ScsiDrive(IscsiTransport(spec), spec, mode, implicit_filemark=implicit_filemark)


def open_transport(spec: DeviceSpec) -> Transport:
    """A way for CDBs to the device: a logical unit of an iSCSI target, or an sg node.

    Raises:
        DriveError: it cannot be opened.
    """
    if spec.device.startswith("/"):
        return SgTransport(spec.sg_device or spec.device)
    return IscsiTransport(spec)
