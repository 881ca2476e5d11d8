"""The tape drive as CDBs see it: what may be asked, and where it may be sent. Source: SSC-4, SPC-4."""

from typing import Final, Literal, NamedTuple

from mover.scsi.sense import CommandError, Fault
from mover.scsi.unit import COMMON, Answer, Command, Identity, LogicalUnit, log_parameter

TAPE_DRIVE: Final = 0x01
SSC_4: Final = 0x0520  # version descriptor
MIB: Final = 1 << 20
HARD_ERROR: Final = 3  # TapeAlert flag; SSC-4 table A.1
_U32: Final = 0xFFFFFFFF
DISTURBING: Final = frozenset({
    0x04,  # FORMAT MEDIUM
    0x0A,  # WRITE(6)
    0x0B,  # SET CAPACITY
    0x10,  # WRITE FILEMARKS(6)
    0x11,  # SPACE(6)
    0x13,  # VERIFY(6)
    0x15,  # MODE SELECT(6)
    0x19,  # ERASE(6)
    0x08,  # READ(6)
    0x55,  # MODE SELECT(10)
    0x80,  # WRITE FILEMARKS(16)
    0x8A,  # WRITE(16)
    0x88,  # READ(16)
    0x91,  # SPACE(16)
    0x93,  # ERASE(16)
})  # fmt: skip
"""Operation codes that write, or move the tape by records: TAPE_WRITE, TAPE_READ and TAPE_MTIO are for that, which keep
count of files and records (states.md 5.11: a server may refuse them while it relies on its own position)."""


class TapeStatus(NamedTuple):
    """Where the tape stands.

    Attributes:
        objects: records and filemarks between BOP and here; None = not known.
        file_num: filemarks between BOP and here.
        early_warning: the tape is behind early warning.
        space, remaining: capacity and what is left of it in bytes; None = not known.
        failed: the last operation had a media error.
    """

    objects: int | None = None
    file_num: int = 0
    early_warning: bool = False
    space: int | None = None
    remaining: int | None = None
    failed: bool = False


class Locate(NamedTuple):
    """Where the tape is to be moved: behind so many objects, so many filemarks, or to the end of data."""

    unit: Literal["object", "file", "end"]
    number: int = 0


class LoadUnload(NamedTuple):
    """The cartridge is to be threaded, or ejected."""

    load: bool


class TapeDrive(LogicalUnit):
    """A drive at the moment of one command.

    Args:
        tape: None = no cartridge is loaded.
        record_bytes_max: longest record.
        ejects: whether LOAD UNLOAD is offered.
    """

    def __init__(
        self,
        identity: Identity,
        tape: TapeStatus | None,
        *,
        write_protected: bool,
        record_bytes_max: int,
        ejects: bool = False,
    ) -> None:
        super().__init__(identity)
        self.commands = COMMANDS if not ejects else COMMANDS | _EJECTING
        self._tape = tape
        self._write_protected = write_protected
        self._record_bytes_max = record_bytes_max

    def execute(self, cdb: bytes, data_out: bytes = b"", *, owner: bool = True) -> Answer | Locate | LoadUnload:
        """Answer a CDB, or say what it wants done before it can be answered."""
        outcome = self.look_up(cdb, data_out, owner=owner)
        assert isinstance(outcome, (Answer, Locate, LoadUnload))
        return outcome

    def _loaded(self) -> TapeStatus:
        if self._tape is None:
            raise CommandError(Fault.NO_MEDIUM)
        return self._tape

    def test_unit_ready(self, cdb: bytes, data_out: bytes) -> Answer:
        self._loaded()
        return Answer()

    def read_block_limits(self, cdb: bytes, data_out: bytes) -> Answer:
        """READ BLOCK LIMITS: records of any length. Source: SSC-4 7.5."""
        return Answer(data=bytes(1) + min(self._record_bytes_max, 0xFFFFFF).to_bytes(3, "big") + (1).to_bytes(2, "big"))

    def read_position(self, cdb: bytes, data_out: bytes) -> Answer:
        """READ POSITION, short and long form. Source: SSC-4 7.7."""
        tape = self._loaded()
        action = cdb[1] & 0x1F
        if action not in {0x00, 0x06}:
            raise CommandError(Fault.FIELD_IN_CDB, 1)
        known = tape.objects is not None
        objects = tape.objects or 0
        flags = (0x80 if known and objects == 0 else 0) | (0x01 if tape.early_warning else 0)
        if action == 0x06:
            flags |= 0 if known else 0x0C  # MPU, LONU
            return Answer(
                data=bytes([flags, 0, 0, 0]) + bytes(4) + objects.to_bytes(8, "big") + tape.file_num.to_bytes(8, "big")
                + bytes(8)
            )  # fmt: skip
        if known and objects > _U32:
            known, objects, flags = False, 0, flags | 0x02  # PERR: more than the form can tell
        flags |= 0 if known else 0x04  # LOLU
        location = objects.to_bytes(4, "big")
        return Answer(data=bytes([flags, 0, 0, 0]) + location + location + bytes(8))

    def rewind(self, cdb: bytes, data_out: bytes) -> Locate:
        """REWIND. Source: SSC-4 7.11."""
        self._movable()
        return Locate("object", 0)

    def locate_10(self, cdb: bytes, data_out: bytes) -> Locate:
        """LOCATE(10). Source: SSC-4 7.3."""
        self._movable()
        if cdb[1] & 0x04:  # BT: a device-specific number
            raise CommandError(Fault.FIELD_IN_CDB, 1)
        _one_partition(cdb, 8)
        return Locate("object", int.from_bytes(cdb[3:7], "big"))

    def locate_16(self, cdb: bytes, data_out: bytes) -> Locate:
        """LOCATE(16): an object, a file or the end of data. Source: SSC-4 7.4."""
        self._movable()
        _one_partition(cdb, 3)
        number = int.from_bytes(cdb[4:12], "big")
        match cdb[1] >> 3 & 0x03:
            case 0:
                return Locate("object", number)
            case 1:
                return Locate("file", number)
            case 3:
                return Locate("end")
            case _:
                raise CommandError(Fault.FIELD_IN_CDB, 1)

    def _movable(self) -> None:
        """A tape that somebody has open as a tape: else nobody is there to move it."""
        if self._loaded().objects is None:
            raise CommandError(Fault.OPERATION_CODE, 0)

    def load_unload(self, cdb: bytes, data_out: bytes) -> LoadUnload:
        """LOAD UNLOAD. Source: SSC-4 7.2."""
        if cdb[4] & 0x0E:  # hold, end of tape, retension
            raise CommandError(Fault.FIELD_IN_CDB, 4)
        return LoadUnload(load=bool(cdb[4] & 0x01))

    # --- pages

    def mode_specific(self) -> int:
        return (0x80 if self._write_protected else 0) | 0x10  # WP, buffered mode

    def block_descriptor(self) -> bytes:
        """Default density, the whole tape, records of any length. Source: SPC-4 7.5.7.1."""
        return bytes(8)

    def mode_pages(self) -> dict[int, bytes]:
        """Data compression (there is none) and device configuration. Source: SSC-4 8.3."""
        return {
            0x0F: bytes([0x0F, 14]) + bytes(14),
            0x10: bytes([0x10, 14]) + bytes(6) + bytes([0x40]) + bytes(7),  # block identifiers are supported
        }

    def log_pages(self) -> dict[int, bytes]:
        """TapeAlert, and the capacity in MiB as LTO drives tell it. Source: SSC-4 8.2; LTO SCSI reference, page 31h."""
        alerts = b"".join(
            log_parameter(flag, bytes([1 if flag == HARD_ERROR and self._tape and self._tape.failed else 0]))
            for flag in range(1, 65)
        )
        pages = {0x2E: alerts}
        if self._tape is not None and self._tape.space is not None:
            remaining = self._tape.remaining or 0
            pages[0x31] = b"".join(
                log_parameter(code, min(size // MIB, _U32).to_bytes(4, "big"))
                for code, size in ((0x0001, remaining), (0x0003, self._tape.space))
            )
        return pages


def _one_partition(cdb: bytes, at: int) -> None:
    if cdb[1] & 0x02 and cdb[at]:  # CP
        raise CommandError(Fault.FIELD_IN_CDB, at)


COMMANDS: Final = COMMON | {
    0x00: Command(6, TapeDrive.test_unit_ready),
    0x01: Command(6, TapeDrive.rewind),
    0x05: Command(6, TapeDrive.read_block_limits),
    0x2B: Command(10, TapeDrive.locate_10),
    0x34: Command(10, TapeDrive.read_position),
    0x92: Command(16, TapeDrive.locate_16),
}
_EJECTING: Final = {0x1B: Command(6, TapeDrive.load_unload)}
