"""Tape devices of the Linux st driver: which node is meant, and what the kernel says of its drive.

All of it is read from sysfs, which asks no drive anything and does not wait.

Source: linux/Documentation/scsi/st.rst; linux/Documentation/admin-guide/devices.txt, character major 9.
"""

import os
import re
import stat
from typing import Final

import msgspec
from msgspec import Struct

from mover.workers.device_messages import DeviceSpec

SYSFS: Final = "/sys/class/scsi_tape"
_ST_MAJOR: Final = 9
_NO_REWIND: Final = 0x80  # of the minor number
_SG_NAME: Final = re.compile(r"sg\d+\Z")
_PAGE_HEADER: Final = 4


class StNodeError(Exception):
    """This is no tape device that can be driven; one line says why and what to give instead.

    Attributes:
        missing: there is nothing of that name, now.
    """

    def __init__(self, text: str, *, missing: bool = False) -> None:
        super().__init__(text)
        self.missing = missing


class StNode(Struct, frozen=True):
    """A tape device.

    Attributes:
        name: ``nst0``, also where the configuration names a link to it.
        sg_device: the sg node of the same drive, "" = the kernel has none (module sg).
        vendor, product, revision, serial: as the drive told the kernel; "" = it did not.
    """

    name: str
    sg_device: str = ""
    vendor: str = ""
    product: str = ""
    revision: str = ""
    serial: str = ""


def find_st_node(path: str, *, sysfs: str = SYSFS, devices: str = "/dev") -> StNode:
    """The tape device that ``path``, a node or a link to one (/dev/tape/by-id), names now.

    Raises:
        StNodeError: it is none.
    """
    try:
        node = os.stat(path)
    except OSError as error:
        raise StNodeError(f"{path}: {error.strerror}", missing=True) from error
    if not stat.S_ISCHR(node.st_mode) or os.major(node.st_rdev) != _ST_MAJOR:
        raise StNodeError(f"{path} is no device of the st driver, such as /dev/nst0")
    if not os.minor(node.st_rdev) & _NO_REWIND:
        raise StNodeError(f"{path} rewinds whenever it is closed: give the device that does not, such as /dev/nst0")
    return describe(os.path.basename(os.path.realpath(path)), sysfs=sysfs, devices=devices)


def describe(name: str, *, sysfs: str = SYSFS, devices: str = "/dev") -> StNode:
    """What the kernel says of tape device ``name``; it does not say all of every drive."""
    device = os.path.join(sysfs, name, "device")
    try:
        generic = sorted(each for each in os.listdir(os.path.join(device, "scsi_generic")) if _SG_NAME.match(each))
    except OSError:
        generic = []  # the module sg is not loaded
    return StNode(
        name,
        os.path.join(devices, generic[0]) if generic else "",
        _text(_read(device, "vendor")),
        _text(_read(device, "model")),
        _text(_read(device, "rev")),
        _text(_read(device, "vpd_pg80")[_PAGE_HEADER:]),
    )


def with_sg_node(spec: DeviceSpec) -> DeviceSpec:
    """The drive with the sg node that is its own now: numbers change when devices come and go."""
    try:
        node = find_st_node(spec.device)
    except StNodeError:
        return spec  # the worker has the reason to tell when it opens it
    return msgspec.structs.replace(spec, sg_device=node.sg_device)


def _read(device: str, attribute: str) -> bytes:
    try:
        with open(os.path.join(device, attribute), "rb") as file:
            return file.read(256)
    except OSError:
        return b""  # not every drive has every page


def _text(raw: bytes) -> str:
    return "".join(chr(byte) for byte in raw if 0x20 <= byte < 0x7F).strip()
