"""Sense data: what a device says beside CHECK CONDITION, in one table with the clause behind each row."""

from enum import Enum
from typing import Final, NamedTuple

NO_SENSE: Final = 0x0
FIXED_CURRENT: Final = 0x70  # response code; SPC-4 4.5.3
FIXED_BYTES: Final = 18
FIELD_IN_CDB: Final = 0xC0  # SKSV and C/D of the sense-key specific bytes; SPC-4 4.5.2.4.2
FIELD_IN_DATA: Final = 0x80


class Fault(Enum):
    """Sense key, additional sense code and qualifier, meaning, source."""

    NOTHING = (0x0, 0x00, 0x00, "no additional sense information", "SPC-4 4.5.6")
    NO_MEDIUM = (0x2, 0x3A, 0x00, "medium not present", "SSC-4 4.2.2")
    MOTION_FAILED = (0x4, 0x15, 0x01, "mechanical positioning error", "SPC-4 4.5.6")
    PARAMETER_LIST_LENGTH = (0x5, 0x1A, 0x00, "parameter list length error", "SPC-4 6.11")
    OPERATION_CODE = (0x5, 0x20, 0x00, "invalid command operation code", "SPC-4 4.3.5.2")
    ELEMENT_ADDRESS = (0x5, 0x21, 0x01, "invalid element address", "SMC-3 6.6")
    FIELD_IN_CDB = (0x5, 0x24, 0x00, "invalid field in CDB", "SPC-4 4.3.5.2")
    FIELD_IN_PARAMETERS = (0x5, 0x26, 0x00, "invalid field in parameter list", "SPC-4 6.11")
    SAVING_PARAMETERS = (0x5, 0x39, 0x00, "saving parameters not supported", "SPC-4 6.13")
    DESTINATION_FULL = (0x5, 0x3B, 0x0D, "medium destination element full", "SMC-3 6.6")
    SOURCE_EMPTY = (0x5, 0x3B, 0x0E, "medium source element empty", "SMC-3 6.6")
    LOAD_FAILED = (0x5, 0x53, 0x00, "media load or eject failed", "SPC-4 4.5.6")
    REMOVAL_PREVENTED = (0x5, 0x53, 0x02, "medium removal prevented", "SMC-3 6.6, SPC-4 6.16")
    MEDIUM_CHANGED = (0x6, 0x28, 0x00, "not ready to ready change, medium may have changed", "SMC-3 5.3")
    IMPORT_EXPORT_ACCESSED = (0x6, 0x28, 0x01, "import or export element accessed", "SMC-3 5.3")
    BUS_RESET = (0x6, 0x29, 0x02, "SCSI bus reset occurred", "SAM-5 6.3.2")
    DEVICE_RESET = (0x6, 0x29, 0x03, "bus device reset function occurred", "SAM-5 6.3.3")
    END_OF_DATA = (0x8, 0x00, 0x05, "end-of-data detected", "SSC-4 4.2.11")

    def __init__(self, key: int, asc: int, ascq: int, meaning: str, source: str) -> None:
        self.key = key
        self.asc = asc
        self.ascq = ascq
        self.meaning = meaning
        self.source = source


class CommandError(Exception):
    """A command ends with CHECK CONDITION; never leaves the room.

    Args:
        field: the first wrong byte of the CDB, or of the parameters where the fault is there; None = none to name.
    """

    def __init__(self, fault: Fault, field: int | None = None) -> None:
        super().__init__(fault.meaning)
        self.fault = fault
        self.field = field


def sense_data(fault: Fault, field: int | None = None) -> bytes:
    """Fixed format sense data. Source: SPC-4 4.5.3."""
    data = bytearray(FIXED_BYTES)
    data[0] = FIXED_CURRENT
    data[2] = fault.key
    data[7] = FIXED_BYTES - 8
    data[12], data[13] = fault.asc, fault.ascq
    if field is not None:
        data[15] = FIELD_IN_DATA if fault is Fault.FIELD_IN_PARAMETERS else FIELD_IN_CDB
        data[16:18] = field.to_bytes(2, "big")
    return bytes(data)


class Sense(NamedTuple):
    """Sense key, additional sense code and qualifier of what a real device said."""

    key: int
    asc: int
    ascq: int

    def __str__(self) -> str:
        known = {(fault.key, fault.asc, fault.ascq): fault.meaning for fault in Fault}
        return known.get(self, f"sense {self.key:X}h, {self.asc:02X}h/{self.ascq:02X}h")


def read_sense(data: bytes) -> Sense:
    """Of sense data in fixed or descriptor format, whatever is missing as 0. Source: SPC-4 4.5.2, 4.5.3."""
    padded = data[:FIXED_BYTES].ljust(FIXED_BYTES, b"\0")
    if padded[0] & 0x7F in {0x72, 0x73}:
        return Sense(padded[1] & 0x0F, padded[2], padded[3])
    return Sense(padded[2] & 0x0F, padded[12], padded[13])
