"""Sense data of real devices becomes meaning: what it tells a drive, and the NDMP error that says so, in one table.

The emulated devices have an enum of their own (mover/scsi/sense.py): it names the few answers that they give, a row
each, in control; this one has to understand whatever a device says, in a worker, and falls back from the exact code to
its kind. They share no row that would have to agree.

Source: SPC-4 4.5 (formats), table 53 (codes); SSC-4 4.2 (what a drive reports where).
"""

from enum import Enum
from typing import Final, NamedTuple

from mover.tape.codes import Error

DEFERRED: Final = frozenset({0x71, 0x73})
_FIXED: Final = frozenset({0x70, 0x71})
_DESCRIPTORS: Final = frozenset({0x72, 0x73})
_INFORMATION: Final = 0x00  # descriptor types, SPC-4 table 28
_STREAM: Final = 0x04
_VALID: Final = 0x80
_FILEMARK: Final = 0x80
_EOM: Final = 0x40
_ILI: Final = 0x20


class Key(Enum):
    """Sense keys. Source: SPC-4 table 45."""

    NO_SENSE = 0x0
    RECOVERED_ERROR = 0x1
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    BLANK_CHECK = 0x8
    VENDOR_SPECIFIC = 0x9
    COPY_ABORTED = 0xA
    ABORTED_COMMAND = 0xB
    RESERVED = 0xC
    VOLUME_OVERFLOW = 0xD
    MISCOMPARE = 0xE
    COMPLETED = 0xF


class Meaning(Enum):
    """What sense data tells a drive: words for the log, and the NDMP error where it is one."""

    NOTHING = ("nothing", Error.NO_ERR)
    FILEMARK = ("filemark", Error.NO_ERR)
    END_OF_DATA = ("end of data", Error.NO_ERR)
    BEGINNING = ("beginning of tape", Error.NO_ERR)
    EARLY_WARNING = ("early warning", Error.NO_ERR)
    NOTICE = ("a notice that changes nothing for us", Error.NO_ERR)
    END_OF_MEDIUM = ("end of medium", Error.IO)
    NO_MEDIUM = ("no medium in the drive", Error.NO_TAPE_LOADED)
    BECOMING_READY = ("the drive is becoming ready", Error.NO_TAPE_LOADED)
    NOT_READY = ("the drive is not ready", Error.NO_TAPE_LOADED)
    MEDIUM_CHANGED = ("the medium may have been changed", Error.IO)
    RESET = ("the drive was reset", Error.IO)
    SETTINGS_CHANGED = ("another initiator changed the drive's settings", Error.IO)
    ATTENTION = ("a unit attention", Error.IO)
    WRITE_PROTECTED = ("the medium is write protected", Error.WRITE_PROTECT)
    MEDIUM_ERROR = ("medium error", Error.IO)
    HARDWARE_ERROR = ("hardware error", Error.IO)
    UNSUPPORTED = ("the drive does not have this command", Error.IO)
    ILLEGAL = ("the drive refuses the command", Error.IO)
    ABORTED = ("the command was aborted", Error.IO)
    OTHER = ("an error", Error.IO)

    def __init__(self, words: str, error: Error) -> None:
        self.words = words
        self.error = error


_ANY: Final = None
MEANINGS: Final[dict[tuple[Key, int | None, int | None], tuple[Meaning, str]]] = {
    (Key.NO_SENSE, 0x00, 0x01): (Meaning.FILEMARK, "SSC-4 4.2.10"),
    (Key.NO_SENSE, 0x00, 0x02): (Meaning.EARLY_WARNING, "SSC-4 4.2.5"),
    (Key.NO_SENSE, 0x00, 0x04): (Meaning.BEGINNING, "SSC-4 7.7"),
    (Key.NO_SENSE, 0x00, 0x05): (Meaning.END_OF_DATA, "SSC-4 7.7; tgtd says so with this key"),
    (Key.NO_SENSE, 0x00, 0x07): (Meaning.EARLY_WARNING, "SSC-4 4.2.6, programmable early warning"),
    (Key.NO_SENSE, _ANY, _ANY): (Meaning.NOTHING, "SPC-4 table 45"),
    (Key.NOT_READY, 0x04, 0x01): (Meaning.BECOMING_READY, "SPC-4 table 53"),
    (Key.NOT_READY, 0x04, 0x07): (Meaning.BECOMING_READY, "SPC-4 table 53, operation in progress"),
    (Key.NOT_READY, 0x30, _ANY): (Meaning.MEDIUM_ERROR, "SPC-4 table 53, incompatible medium"),
    (Key.NOT_READY, 0x3A, _ANY): (Meaning.NO_MEDIUM, "SSC-4 4.2.2"),
    (Key.NOT_READY, 0x53, _ANY): (Meaning.MEDIUM_ERROR, "SPC-4 table 53, load or eject failed"),
    (Key.NOT_READY, _ANY, _ANY): (Meaning.NOT_READY, "SPC-4 table 45"),
    (Key.MEDIUM_ERROR, 0x00, 0x02): (Meaning.END_OF_MEDIUM, "SSC-4 7.4, a read at the end of the partition"),
    (Key.MEDIUM_ERROR, _ANY, _ANY): (Meaning.MEDIUM_ERROR, "SPC-4 table 45"),
    (Key.HARDWARE_ERROR, _ANY, _ANY): (Meaning.HARDWARE_ERROR, "SPC-4 table 45"),
    (Key.ILLEGAL_REQUEST, 0x20, _ANY): (Meaning.UNSUPPORTED, "SPC-4 4.3.5.2"),
    (Key.ILLEGAL_REQUEST, 0x24, _ANY): (Meaning.UNSUPPORTED, "SPC-4 4.3.5.2, a field it does not have"),
    (Key.ILLEGAL_REQUEST, 0x25, _ANY): (Meaning.ILLEGAL, "SPC-4 table 53, no such logical unit"),
    (Key.ILLEGAL_REQUEST, 0x26, _ANY): (Meaning.UNSUPPORTED, "SPC-4 6.11, a parameter it does not have"),
    (Key.ILLEGAL_REQUEST, _ANY, _ANY): (Meaning.ILLEGAL, "SPC-4 table 45"),
    (Key.UNIT_ATTENTION, 0x0B, _ANY): (Meaning.NOTICE, "SPC-4 table 53, a warning of temperature and the like"),
    (Key.UNIT_ATTENTION, 0x28, _ANY): (Meaning.MEDIUM_CHANGED, "SSC-4 4.2.2"),
    (Key.UNIT_ATTENTION, 0x29, _ANY): (Meaning.RESET, "SAM-5 6.3"),
    (Key.UNIT_ATTENTION, 0x2A, 0x01): (Meaning.SETTINGS_CHANGED, "SPC-4 6.11, mode parameters"),
    (Key.UNIT_ATTENTION, 0x2A, 0x02): (Meaning.NOTICE, "SPC-4 6.7, log parameters"),
    (Key.UNIT_ATTENTION, 0x3F, 0x0E): (Meaning.NOTICE, "SPC-4 6.33, reported LUNs data"),
    (Key.UNIT_ATTENTION, 0x5E, _ANY): (Meaning.NOTICE, "SPC-4 5.12, power condition"),
    (Key.UNIT_ATTENTION, _ANY, _ANY): (Meaning.ATTENTION, "SAM-5 5.14"),
    (Key.DATA_PROTECT, _ANY, _ANY): (Meaning.WRITE_PROTECTED, "SSC-4 4.2.14"),
    (Key.BLANK_CHECK, 0x14, _ANY): (Meaning.MEDIUM_ERROR, "SPC-4 table 53, end of data not found: data may follow"),
    (Key.BLANK_CHECK, _ANY, _ANY): (Meaning.END_OF_DATA, "SSC-4 4.2.11; the code beside it varies"),
    (Key.ABORTED_COMMAND, _ANY, _ANY): (Meaning.ABORTED, "SPC-4 table 45"),
    (Key.VOLUME_OVERFLOW, _ANY, _ANY): (Meaning.END_OF_MEDIUM, "SSC-4 4.2.5"),
}
"""Sense key, code, qualifier -> meaning, clause. None = any: the row for all that have none of their own."""


class Sense(NamedTuple):
    """Sense data taken apart.

    Attributes:
        information: of a count that was asked for, what was not done; negative = more than was asked for; None = the
            device does not say.
        deferred: it tells of an earlier command; the present one was not begun.
    """

    key: Key
    asc: int = 0
    ascq: int = 0
    information: int | None = None
    filemark: bool = False
    eom: bool = False
    ili: bool = False
    deferred: bool = False

    @property
    def meaning(self) -> Meaning:
        """What it tells a drive; a filemark and the end of the medium also by their bits alone."""
        key = Key.NO_SENSE if self.key is Key.RECOVERED_ERROR else self.key
        if self.filemark and key is Key.NO_SENSE:
            return Meaning.FILEMARK
        for row in ((key, self.asc, self.ascq), (key, self.asc, _ANY), (key, _ANY, _ANY)):
            if row in MEANINGS:
                meaning = MEANINGS[row][0]
                break
        else:
            meaning = Meaning.OTHER
        if meaning is Meaning.NOTHING and self.eom:
            return Meaning.EARLY_WARNING
        return meaning

    def __str__(self) -> str:
        """``medium error (3/11/00)``."""
        return f"{self.meaning.words} ({self.key.value:X}/{self.asc:02X}/{self.ascq:02X})"


def parse_sense(data: bytes) -> Sense | None:
    """Sense data of either format, of any length; None = it is neither, or too short to say anything.

    Source: SPC-4 4.5.2, 4.5.3.
    """
    if not data:
        return None
    code = data[0] & 0x7F
    if code in _FIXED and len(data) >= 3:
        return _parse_fixed(data, deferred=code in DEFERRED)
    if code in _DESCRIPTORS and len(data) >= 4:
        return _parse_descriptors(data, deferred=code in DEFERRED)
    return None


def _parse_fixed(data: bytes, *, deferred: bool) -> Sense:
    valid = data[0] & _VALID and len(data) >= 7
    return Sense(
        key=Key(data[2] & 0x0F),
        asc=data[12] if len(data) > 12 else 0,
        ascq=data[13] if len(data) > 13 else 0,
        information=int.from_bytes(data[3:7], signed=True) if valid else None,
        filemark=bool(data[2] & _FILEMARK),
        eom=bool(data[2] & _EOM),
        ili=bool(data[2] & _ILI),
        deferred=deferred,
    )


def _parse_descriptors(data: bytes, *, deferred: bool) -> Sense:
    information: int | None = None
    flags = 0
    rest = data[8 : 8 + (data[7] if len(data) > 7 else 0)]
    while len(rest) >= 4:
        length = 2 + rest[1]
        if rest[0] == _INFORMATION and len(rest) >= 12 and rest[2] & _VALID:
            information = int.from_bytes(rest[4:12], signed=True)
            if 0 <= information >> 31 <= 1:  # a 32-bit two's complement that was not extended
                information = int.from_bytes(rest[8:12], signed=True)
        elif rest[0] == _STREAM:
            flags = rest[3]
        rest = rest[length:]
    return Sense(
        key=Key(data[1] & 0x0F),
        asc=data[2],
        ascq=data[3],
        information=information,
        filemark=bool(flags & _FILEMARK),
        eom=bool(flags & _EOM),
        ili=bool(flags & _ILI),
        deferred=deferred,
    )
