"""Real devices as workers know them, and the messages of a tape worker that passes CDBs on to one.

A worker has a device open for CDBs (OpenDevice), or a drive as a tape (OpenDrive), which takes CDBs too where it is a
real one. See :mod:`mover.workers.messages`.
"""

from msgspec import Struct

from mover.workers.message import Message


class DeviceSpec(Struct, frozen=True, tag=True):
    """A real device as the tape worker needs to know it.

    Attributes:
        name: as in the configuration.
        device: ``iscsi://host[:port]/iqn/lun``, or the path of a device node.
        sg_device: of a drive behind the st driver, the sg node that takes CDBs; "" = the worker finds it.
        chap_user, chap_secret: who we are to an iSCSI target; "" = no authentication.
        block_size: of a drive in fixed block mode; 0 = variable.
        timeout_s: how long it may take for anything; 0 = as long as each command takes at most.
    """

    name: str
    device: str
    sg_device: str = ""
    chap_user: str = ""
    chap_secret: str = ""
    block_size: int = 0
    timeout_s: int = 0

    def __repr__(self) -> str:
        """Without the secret, wherever a message is printed."""
        return f"DeviceSpec({self.name!r}, {self.device!r})"


# --- requests


class OpenDevice(Message, frozen=True):
    """Tape: open a way for CDBs to a device. Descriptors: the record memory, for their data.

    Reply: DeviceOpened or Refused.
    """

    device: DeviceSpec


class ExecuteCommand(Message, frozen=True):
    """Tape: have the device, or the open drive, do a command. Reply: CommandDone or Refused.

    length: bytes of the record memory that go out (``writes``), or room there for what comes in; 0 = no data.
    timeout_s: how long the device may take.
    """

    cdb: bytes
    length: int
    writes: bool
    timeout_s: float


class CloseDevice(Message, frozen=True):
    """Tape: give the way back. Reply: Done."""


# --- replies


class DeviceOpened(Message, frozen=True):
    """Commands reach the device, or its target: whether it answers is for the first one to find out."""


class CommandDone(Message, frozen=True):
    """What became of a command that reached the device.

    Attributes:
        status: SCSI status.
        sense: sense data of CHECK CONDITION; else empty.
        transferred: bytes of data that were moved.
    """

    status: int
    sense: bytes
    transferred: int


Request = OpenDevice | ExecuteCommand | CloseDevice
Reply = DeviceOpened | CommandDone
