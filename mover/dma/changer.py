"""The media changer of a job, commanded by CDBs over NDMP: looks at its elements, moves cartridges.

A server may let a connection have one device open at a time, and other jobs and operators need the changer too: so it
is opened for each piece of work, while the drive is closed.
"""

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import msgspec
import trio

from mover.dma.elements import ASSIGNMENT_PAGE, Element, ElementKind, read_assignment, read_status
from mover.dma.errors import ChangerError, NdmpError
from mover.dma.jobs import RunningJob
from mover.ndmp.enums import CdbFlag, ErrorCode
from mover.ndmp.messages import (
    ScsiCloseReply,
    ScsiCloseRequest,
    ScsiExecuteCdbReply,
    ScsiExecuteCdbRequest,
    ScsiOpenReply,
    ScsiOpenRequest,
)

BUSY_S: Final = 60.0
"""How long another session may have the changer before we give up."""
BUSY_PAUSE_S: Final = 0.5
READY_S: Final = 120.0
"""How long the changer may be becoming ready."""
CLOSE_S: Final = 5.0
MOVE_TIMEOUT_MS: Final = 300_000
ASK_TIMEOUT_MS: Final = 60_000
INITIALIZE_TIMEOUT_MS: Final = 600_000
ATTENTIONS_MAX: Final = 10
ELEMENTS_A_TIME: Final = 200
DATA_BYTES: Final = 64 << 10
MEDIA_CHANGER: Final = 0x08
DESIGNATOR_MIN: Final = 8
"""A shorter one tells no drive from another."""

_CHECK_CONDITION: Final = 0x02
_UNIT_ATTENTION: Final = 0x06
_NOT_READY: Final = 0x02
# (sense key, ASC, ASCQ) of what an operator can do something about. Source: SPC-4 annex D.
_MEANINGS: Final = {
    (0x05, 0x3B, 0x0D): "the destination is full",
    (0x05, 0x3B, 0x0E): "no cartridge is at the source",
    (0x05, 0x21, 0x01): "there is no such element",
    (0x05, 0x53, 0x02): "the drive does not let go of its cartridge",
    (0x04, 0x53, 0x00): "loading or ejecting failed",
    (0x04, 0x15, 0x01): "the robot failed",
    (0x02, 0x04, 0x03): "it needs an operator",
}


class Changer:
    """A changer of the job's tape server; ``opened`` is the way in.

    Args:
        name: as SCSI_OPEN has it.
        drive_address: element of the job's drive; None = found by itself.
    """

    def __init__(self, job: RunningJob, name: str, drive_address: int | None) -> None:
        self.job = job
        self.name = name
        self._drive: int | DriveIdentity | None = drive_address

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["OpenChanger"]:
        """The changer for the length of a block.

        Raises:
            NdmpError: it cannot be opened.
            ChangerError: it is no changer, does not get ready, or has no such drive.
        """
        if self._drive is None:
            self._drive = await self._identify_drive()
        await self._open(self.name)
        try:
            changer = OpenChanger(self.job, self.name, self._drive)
            await changer.check()
            yield changer
        finally:
            await self._close()

    async def _open(self, device: str) -> None:
        deadline = trio.current_time() + BUSY_S
        while True:
            try:
                await self.job.tape.call(ScsiOpenRequest(os.fsencode(device)), ScsiOpenReply, detail=device)
            except NdmpError as error:
                if error.code != ErrorCode.DEVICE_BUSY_ERR or trio.current_time() >= deadline:
                    raise
                await trio.sleep(BUSY_PAUSE_S)
            else:
                return

    async def _close(self) -> None:
        with trio.move_on_after(CLOSE_S, shield=True):  # the end of the connection closes it too
            with contextlib.suppress(NdmpError):
                await self.job.tape.call(ScsiCloseRequest(), ScsiCloseReply)

    async def _identify_drive(self) -> "DriveIdentity":
        """Ask the job's drive who it is, where the server lets it be asked."""
        drive = self.job.session.drive
        try:
            await self._open(drive)
        except NdmpError:
            return NOBODY  # with one drive in the library nothing is lost, with more it has to be told
        pages = {0x83: b"", 0x80: b""}
        try:
            for page in pages:
                with contextlib.suppress(NdmpError, ChangerError):  # a drive without this page
                    inquiry = bytes([0x12, 1, page, 0, 0xFF, 0])
                    pages[page] = await OpenChanger(self.job, drive, NOBODY).ask(inquiry, 0xFF)
        finally:
            await self._close()
        return DriveIdentity(pages[0x83], pages[0x80][4:].strip(b" \0"))


class DriveIdentity(NamedTuple):
    """What a changer may know the job's drive by.

    Attributes:
        designators: page 83h of its INQUIRY; b"" = not told.
        serial: its unit serial number; b"" = not told.
    """

    designators: bytes
    serial: bytes

    def is_of(self, designator: bytes) -> bool:
        """Whether this designator, as a changer tells it, is the drive's: one of its own, or its serial number.

        The number may stand behind vendor and product. Source: SMC-3 table 48, SPC-4 7.8.6.4.
        """
        if len(designator) < DESIGNATOR_MIN:
            return False
        by_serial = len(self.serial) >= DESIGNATOR_MIN and designator.rstrip(b" \0").endswith(self.serial)
        return by_serial or designator in self.designators


NOBODY: Final = DriveIdentity(b"", b"")


class OpenChanger:
    """The changer while this session has it open.

    Args:
        drive: the element of the job's drive, or what a changer may know it by.
    """

    def __init__(self, job: RunningJob, name: str, drive: int | DriveIdentity) -> None:
        self.job = job
        self.name = name
        self._drive = drive
        self._addresses: dict[ElementKind, range] = {}

    async def check(self) -> None:
        """Is it a changer, and ready? Raises ChangerError."""
        inquiry = await self.ask(bytes([0x12, 0, 0, 0, 0x24, 0]), 0x24)
        if not inquiry or inquiry[0] & 0x1F != MEDIA_CHANGER:
            raise ChangerError(f"{self.name} is no media changer")
        deadline = trio.current_time() + READY_S
        while (key := await self._not_ready()) is not None:
            if key != _NOT_READY or trio.current_time() >= deadline:
                raise ChangerError(f"{self.name} is not ready")
            await trio.sleep(BUSY_PAUSE_S)
        mode = await self.ask(bytes([0x1A, 0x08, ASSIGNMENT_PAGE, 0, 0xFF, 0]), 0xFF)
        self._addresses = read_assignment(mode)

    async def initialize(self) -> None:
        """INITIALIZE ELEMENT STATUS: let it look at what is in every element."""
        await self.ask(bytes([0x07, 0, 0, 0, 0, 0]), 0, timeout_ms=INITIALIZE_TIMEOUT_MS)

    async def elements(self) -> list[Element]:
        """Every element that holds cartridges, one kind at a time. Raises ChangerError.

        Of a changer that calls none of them accessible that is not believed, but of drives.
        """
        found: list[Element] = []
        for kind, addresses in self._addresses.items():
            first = addresses.start
            while first < addresses.stop:
                count = min(ELEMENTS_A_TIME, addresses.stop - first)
                ids = kind is ElementKind.DATA_TRANSFER
                data = await self._read_status(kind, first, count, device_ids=ids)
                elements = [each for each in read_status(data, kind) if first <= each.address < addresses.stop]
                if not elements:
                    break
                found += elements
                first = max(each.address for each in elements) + 1
        if any(each.accessible for each in found):
            return found
        return [msgspec.structs.replace(each, accessible=each.kind is not ElementKind.DATA_TRANSFER) for each in found]

    async def _read_status(self, kind: ElementKind, first: int, count: int, *, device_ids: bool) -> bytes:
        def cdb(ids: int) -> bytes:
            head = bytes([0xB8, 0x10 | kind]) + first.to_bytes(2, "big") + count.to_bytes(2, "big")
            return head + bytes([ids]) + DATA_BYTES.to_bytes(3, "big") + bytes(2)

        if device_ids:
            with contextlib.suppress(ChangerError):  # an old changer that knows no DVCID
                return await self.ask(cdb(1), DATA_BYTES)
        return await self.ask(cdb(0), DATA_BYTES)

    def drive_of(self, elements: list[Element]) -> Element:
        """The element of the job's drive. Raises ChangerError where that cannot be told."""
        drives = [each for each in elements if each.kind is ElementKind.DATA_TRANSFER]
        if isinstance(self._drive, int):
            found = [each for each in drives if each.address == self._drive]
        elif len(drives) == 1:
            found = drives
        else:
            found = [each for each in drives if self._drive.is_of(each.designator)]
        if len(found) == 1:
            return found[0]
        addresses = ", ".join(str(each.address) for each in drives) or "none"
        which = f"which drive is {self.job.session.drive}? tell by --drive-element"
        raise ChangerError(f"{self.name}: {which} (drives are at: {addresses})")

    async def move(self, source: Element, destination: Element) -> None:
        """MOVE MEDIUM. Raises ChangerError."""
        what = f"{source.barcode or 'cartridge'} from {source.address} to {destination.address}"
        cdb = bytes([0xA5, 0, 0, 0]) + source.address.to_bytes(2, "big") + destination.address.to_bytes(2, "big")
        await self.ask(cdb + bytes(4), 0, what=what, timeout_ms=MOVE_TIMEOUT_MS)

    async def _not_ready(self) -> int | None:
        """TEST UNIT READY: the sense key of why it is not; None when it is."""
        reply = await self._execute(bytes(6), 0, ASK_TIMEOUT_MS)
        return None if reply.status == 0 else _sense(reply.ext_sense)[0]

    async def ask(self, cdb: bytes, length: int, *, what: str = "", timeout_ms: int = ASK_TIMEOUT_MS) -> bytes:
        """The data of a command. Raises ChangerError with the sense when it fails, NdmpError."""
        reply = await self._execute(cdb, length, timeout_ms)
        if reply.status == 0:
            return reply.datain[:length]
        sense = _sense(reply.ext_sense)
        meaning = _MEANINGS.get(sense, "")
        told = "sense {:02x}/{:02x}/{:02x}".format(*sense) if reply.ext_sense else f"status {reply.status:#x}"
        of = f" ({what})" if what else ""
        raise ChangerError(
            f"{self.name}: command {cdb[0]:#04x}{of} failed: {meaning or told}{f', {told}' if meaning else ''}"
        )

    async def _execute(self, cdb: bytes, length: int, timeout_ms: int) -> ScsiExecuteCdbReply:
        """A command, repeated while unit attentions come before its answer."""
        flags = CdbFlag.DATA_IN if length else 0
        request = ScsiExecuteCdbRequest(flags, timeout_ms, length, cdb)
        for _ in range(ATTENTIONS_MAX):
            reply = await self.job.tape.call(request, ScsiExecuteCdbReply, detail=f"{cdb[0]:#04x} to {self.name}")
            if reply.status != _CHECK_CONDITION or _sense(reply.ext_sense)[0] != _UNIT_ATTENTION:
                return reply
        raise ChangerError(f"{self.name}: {ATTENTIONS_MAX} unit attentions in a row")


def _sense(data: bytes) -> tuple[int, int, int]:
    """Sense key, additional sense code and qualifier, of fixed and of descriptor format. Source: SPC-4 4.5."""
    padded = data[:18].ljust(18, b"\0")
    if padded[0] & 0x7F in {0x72, 0x73}:
        return padded[1] & 0x0F, padded[2], padded[3]
    return padded[2] & 0x0F, padded[12], padded[13]
