"""What a tape worker asks for, by the message that its work begins with."""

from mover.tape.__main__ import need
from mover.workers.confine import CAP_SYS_RAWIO, CHANGE, IOCTL_DEV, READ_FILE, WRITE_FILE, Grant
from mover.workers.device_messages import DeviceSpec, OpenDevice
from mover.workers.tape_messages import DriveSpec, GetDriveState, OpenDrive

NODE = READ_FILE | WRITE_FILE | IOCTL_DEV


def test_a_virtual_drive_gets_the_directory_of_its_cartridge() -> None:
    assert need(OpenDrive(DriveSpec("d", "/tapes/a.tap", 1, 0), 1, True)) == Grant(trees=((b"/tapes", CHANGE),))
    assert need(OpenDrive(DriveSpec("d", None, 1, 0), 1, True)) == Grant()


def test_a_drive_of_the_st_driver_gets_its_nodes() -> None:
    grant = need(OpenDrive(DeviceSpec("nst0", "/dev/nst0", "/dev/sg1"), 1, True))
    options = b"/sys/class/scsi_tape/nst0/options"
    assert grant == Grant(CAP_SYS_RAWIO, ((b"/dev/nst0", NODE), (b"/dev/sg1", NODE), (options, READ_FILE)))


def test_a_changer_gets_its_sg_node() -> None:
    grant = need(OpenDevice(DeviceSpec("mc0", "/dev/sg3")))
    assert (grant.capabilities, grant.trees[0], grant.ports) == (CAP_SYS_RAWIO, (b"/dev/sg3", NODE), ())


def test_nothing_else_gets_anything() -> None:
    assert need(GetDriveState()) == Grant()
