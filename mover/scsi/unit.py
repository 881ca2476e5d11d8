"""What every emulated logical unit does: it looks a CDB up, and answers INQUIRY, MODE SENSE, LOG SENSE and their like.

Theory of operation. A unit is bytes in, bytes out. A command that moves something is not done here: ``execute`` gives
back what is to be moved, and who does that makes the Answer. Each unit's table names the commands by operation code;
what is absent, too short or has a wrong field ends with CHECK CONDITION and never with an exception.
"""

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgspec

from mover.scsi.sense import CommandError, Fault, sense_data

VENDOR: Final = "MOVER"
ALL_PAGES: Final = 0x3F
NACA: Final = 0x04  # of the control byte: ACA is not offered
_SPC_4: Final = 0x0460  # version descriptors; SPC-4 table 142


class Status(IntEnum):
    """SCSI status. Source: SAM-5 5.3.1."""

    GOOD = 0x00  # done
    CHECK_CONDITION = 0x02  # see the sense data
    BUSY = 0x08  # cannot take it now
    RESERVATION_CONFLICT = 0x18  # somebody else has the unit


class Answer(NamedTuple):
    """What a command ends with.

    Attributes:
        taken: bytes of the data-out that the unit has used.
    """

    status: int = Status.GOOD  # a real device may know more
    data: bytes = b""
    sense: bytes = b""
    taken: int = 0


class Identity(msgspec.Struct, frozen=True):
    """Who a unit says it is.

    Attributes:
        product: at most 16 characters.
        revision: at most 4 characters.
        serial: ASCII.
        device_type: 0x01 a tape drive, 0x08 a media changer.
        standard: version descriptor of the command set.
        vendor: at most 8 characters.
    """

    product: str
    revision: str
    serial: str
    device_type: int
    standard: int
    vendor: str = VENDOR

    @property
    def designator(self) -> bytes:
        """T10 vendor id, product and serial: unique in the world as far as the serial is. Source: SPC-4 7.8.6.4."""
        return f"{self.vendor:8.8}{self.product:16.16}{self.serial}".encode("ascii", "replace")


class Command(NamedTuple):
    """A row of a unit's table.

    Attributes:
        length: of the CDB in bytes.
        run: a function of the unit, the CDB and the data-out.
        always: also while a unit attention is pending, and for who does not have the unit (SPC-4 5.14, SAM-5 5.14).
    """

    length: int
    run: Callable[[Any, bytes, bytes], Any]  # Any: each table's functions take their own unit, and give what it moves
    always: bool = False


class LogicalUnit:
    """Base of the units.

    Attributes:
        commands: operation code -> row.
    """

    commands: dict[int, Command]

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self._attentions: deque[Fault] = deque()

    def attend(self, fault: Fault) -> None:
        """Something happened that whoever has the unit must hear of: the next command is told. Source: SAM-5 5.14."""
        if fault not in self._attentions:
            self._attentions.append(fault)

    def forget(self) -> None:
        """Nobody has the unit any more, so nobody waits to be told."""
        self._attentions.clear()

    def look_up(self, cdb: bytes, data_out: bytes, *, owner: bool) -> Any:  # Any: as Command.run
        """Run a command; what it gives is an Answer, or what is to be moved."""
        command = self.commands.get(cdb[0]) if cdb else None
        try:
            if command is None or not command.always:
                if not owner:
                    return Answer(Status.RESERVATION_CONFLICT)
                if self._attentions:
                    raise CommandError(self._attentions.popleft())
            if command is None:
                raise CommandError(Fault.OPERATION_CODE, 0)
            if len(cdb) < command.length:
                raise CommandError(Fault.FIELD_IN_CDB, len(cdb))
            if cdb[command.length - 1] & NACA:
                raise CommandError(Fault.FIELD_IN_CDB, command.length - 1)
            return command.run(self, cdb, data_out)
        except CommandError as refused:
            return refusal(refused.fault, refused.field)

    # --- what units have of their own

    def mode_pages(self) -> dict[int, bytes]:
        """Page code -> the whole page with its two bytes of header, current values."""
        return {}

    def mode_specific(self) -> int:
        """The device-specific byte of the mode parameter header."""
        return 0

    def block_descriptor(self) -> bytes:
        """The mode parameter block descriptor; b"" = the device type has none."""
        return b""

    def log_pages(self) -> dict[int, bytes]:
        """Page code -> log parameters."""
        return {}

    # --- SPC commands

    def test_unit_ready(self, cdb: bytes, data_out: bytes) -> Answer:
        """TEST UNIT READY. Source: SPC-4 6.47."""
        return Answer()

    def request_sense(self, cdb: bytes, data_out: bytes) -> Answer:
        """REQUEST SENSE: a pending unit attention; sense data itself went with its command. Source: SPC-4 6.39."""
        if cdb[1] & 1:  # DESC
            raise CommandError(Fault.FIELD_IN_CDB, 1)
        fault = self._attentions.popleft() if self._attentions else Fault.NOTHING
        return Answer(data=sense_data(fault)[: cdb[4]])

    def inquiry(self, cdb: bytes, data_out: bytes) -> Answer:
        """INQUIRY and its pages. Source: SPC-4 6.6, 7.8."""
        length = int.from_bytes(cdb[3:5], "big")
        if not cdb[1] & 1:
            if cdb[2]:
                raise CommandError(Fault.FIELD_IN_CDB, 2)
            return Answer(data=self._standard_inquiry()[:length])
        page = self._vital_page(cdb[2])
        data = bytes([self.identity.device_type, cdb[2]]) + len(page).to_bytes(2, "big") + page
        return Answer(data=data[:length])

    def _standard_inquiry(self) -> bytes:
        identity = self.identity
        data = bytearray(96)
        data[0] = identity.device_type
        data[1] = 0x80  # removable medium
        data[2] = 0x06  # SPC-4
        data[3] = 0x02  # response data format
        data[4] = len(data) - 5
        data[8:36] = f"{identity.vendor:8.8}{identity.product:16.16}{identity.revision:4.4}".encode("ascii", "replace")
        data[58:60] = _SPC_4.to_bytes(2, "big")
        data[60:62] = identity.standard.to_bytes(2, "big")
        return bytes(data)

    def _vital_page(self, page: int) -> bytes:
        match page:
            case 0x00:
                return bytes([0x00, 0x80, 0x83])
            case 0x80:
                return self.identity.serial.encode("ascii", "replace")
            case 0x83:
                designator = self.identity.designator
                return bytes([0x02, 0x01, 0, len(designator)]) + designator  # ASCII, T10 vendor id
            case _:
                raise CommandError(Fault.FIELD_IN_CDB, 2)

    def report_luns(self, cdb: bytes, data_out: bytes) -> Answer:
        """REPORT LUNS: each unit is LUN 0 of its target. Source: SPC-4 6.33."""
        length = int.from_bytes(cdb[6:10], "big")
        if cdb[2] > 2:
            raise CommandError(Fault.FIELD_IN_CDB, 2)
        luns = b"" if cdb[2] == 1 else bytes(8)  # 1 = well known units only
        return Answer(data=(len(luns).to_bytes(4, "big") + bytes(4) + luns)[:length])

    def mode_sense_6(self, cdb: bytes, data_out: bytes) -> Answer:
        """MODE SENSE(6). Source: SPC-4 6.13."""
        descriptor, pages = self._mode_parameters(cdb)
        header = bytes([3 + len(descriptor) + len(pages), 0, self.mode_specific(), len(descriptor)])
        return Answer(data=(header + descriptor + pages)[: cdb[4]])

    def mode_sense_10(self, cdb: bytes, data_out: bytes) -> Answer:
        """MODE SENSE(10). Source: SPC-4 6.14."""
        descriptor, pages = self._mode_parameters(cdb)
        length = 6 + len(descriptor) + len(pages)
        header = length.to_bytes(2, "big") + bytes([0, self.mode_specific(), 0, 0, 0, len(descriptor)])
        return Answer(data=(header + descriptor + pages)[: int.from_bytes(cdb[7:9], "big")])

    def _mode_parameters(self, cdb: bytes) -> tuple[bytes, bytes]:
        control, code, subpage = cdb[2] >> 6, cdb[2] & 0x3F, cdb[3]
        pages = self.mode_pages()
        if control == 3:
            raise CommandError(Fault.SAVING_PARAMETERS)
        if subpage not in {0x00, 0xFF} or (code == 0 and not self.block_descriptor()):
            raise CommandError(Fault.FIELD_IN_CDB, 3 if code else 2)
        if code not in {0, ALL_PAGES} and code not in pages:
            raise CommandError(Fault.FIELD_IN_CDB, 2)
        wanted = [page for number, page in sorted(pages.items()) if code in {number, ALL_PAGES}]
        if control == 1:  # changeable values: none
            wanted = [page[:2] + bytes(len(page) - 2) for page in wanted]
        descriptor = b"" if cdb[1] & 0x08 else self.block_descriptor()
        return descriptor, b"".join(wanted)

    def mode_select_6(self, cdb: bytes, data_out: bytes) -> Answer:
        """MODE SELECT(6). Source: SPC-4 6.11."""
        return self._mode_select(cdb, data_out, cdb[4], 4)

    def mode_select_10(self, cdb: bytes, data_out: bytes) -> Answer:
        """MODE SELECT(10). Source: SPC-4 6.12."""
        return self._mode_select(cdb, data_out, int.from_bytes(cdb[7:9], "big"), 8)

    def _mode_select(self, cdb: bytes, data_out: bytes, length: int, header: int) -> Answer:
        """Nothing can be changed, so what is set has to be what is: clients write pages back that they have read."""
        if cdb[1] & 1:
            raise CommandError(Fault.SAVING_PARAMETERS)
        if not cdb[1] & 0x10:  # PF: only pages are understood
            raise CommandError(Fault.FIELD_IN_CDB, 1)
        if length > len(data_out) or 0 < length < header:
            raise CommandError(Fault.PARAMETER_LIST_LENGTH)
        at = header + (data_out[header - 1] if length else 0)
        pages = self.mode_pages()
        while at < length:
            page = pages.get(data_out[at] & 0x3F, b"")
            if not page:
                raise CommandError(Fault.FIELD_IN_PARAMETERS, at)
            given = data_out[at : min(length, at + len(page))]
            if len(given) < len(page):
                raise CommandError(Fault.PARAMETER_LIST_LENGTH)
            if given[1:] != page[1:]:
                raise CommandError(Fault.FIELD_IN_PARAMETERS, at)
            at += len(page)
        return Answer(taken=length)

    def log_sense(self, cdb: bytes, data_out: bytes) -> Answer:
        """LOG SENSE: cumulative values, which are kept since the start. Source: SPC-4 6.7."""
        code = cdb[2] & 0x3F
        pages = self.log_pages()
        if cdb[1] & 1:
            raise CommandError(Fault.SAVING_PARAMETERS)
        if cdb[2] >> 6 != 1 and code:  # of thresholds and defaults there are none
            raise CommandError(Fault.FIELD_IN_CDB, 2)
        if cdb[3]:
            raise CommandError(Fault.FIELD_IN_CDB, 3)
        if code == 0:
            page = bytes([0, *sorted(pages)])
        elif code in pages:
            page = pages[code]
        else:
            raise CommandError(Fault.FIELD_IN_CDB, 2)
        data = bytes([code, 0]) + len(page).to_bytes(2, "big") + page
        return Answer(data=data[: int.from_bytes(cdb[7:9], "big")])


COMMON: Final = {
    0x00: Command(6, LogicalUnit.test_unit_ready),
    0x03: Command(6, LogicalUnit.request_sense, always=True),
    0x12: Command(6, LogicalUnit.inquiry, always=True),
    0x1A: Command(6, LogicalUnit.mode_sense_6),
    0x4D: Command(10, LogicalUnit.log_sense),
    0x5A: Command(10, LogicalUnit.mode_sense_10),
    0xA0: Command(12, LogicalUnit.report_luns, always=True),
}
"""What both kinds of units answer."""


def refusal(fault: Fault, field: int | None = None) -> Answer:
    """CHECK CONDITION with its sense data."""
    return Answer(Status.CHECK_CONDITION, sense=sense_data(fault, field))


def log_parameter(code: int, value: bytes) -> bytes:
    """One log parameter: a binary counter in a list. Source: SPC-4 7.3.2.2."""
    return code.to_bytes(2, "big") + bytes([0x03, len(value)]) + value
