"""Reads a whole cartridge file with no server, and holds every record against the checksum that was kept of it."""

from typing import Final

from msgspec import Struct

from mover.tape.cartridge import Cartridge, CartridgeError
from mover.tape.checksum import UNKNOWN, checksums
from mover.tape.offline import DAMAGES_MAX, OfflineError
from mover.tape.tape_map import LENGTH_BITS

__all__ = ["Verified", "VerifiedFile", "verify"]

BUFFER_BYTES: Final = 1 << 20


class VerifiedFile(Struct, frozen=True):
    """What became of one tape file.

    Attributes:
        number: filemarks before it, as NDMP's file_num.
        records: all of them, which are the sum of those below.
        written: are as they were written.
        later: are as they were when an earlier ``keep`` read them: nothing is known of the time before.
        unknown: could be read, and have no checksum.
        damaged: have changed, or cannot be read.
    """

    number: int
    records: int
    written: int
    later: int
    unknown: int
    damaged: int


class Verified(Struct, frozen=True):
    """What was found.

    Attributes:
        files: in order; empty ones behind the last filemarks are left out.
        damages: a line for each damaged record, of the first hundred.
        kept: records whose checksum is kept from now on.
        warning: a torn or unreadable end, else "".
    """

    files: list[VerifiedFile]
    damages: list[str]
    kept: int
    warning: str


def verify(path: str, *, keep: bool) -> Verified:
    """Read every record of a cartridge.

    Args:
        path: the cartridge file.
        keep: make checksums, as of now, of the records that have none; no drive may have the cartridge meanwhile.

    Raises:
        OfflineError: it cannot be read, or with ``keep`` is in use or not whole, or has no room for an index.
    """
    try:
        cartridge = Cartridge(path, writable=False, exclusive=keep)
    except CartridgeError as error:
        raise OfflineError(str(error)) from error
    if keep and cartridge.warning:
        cartridge.abandon()
        raise OfflineError(f"{cartridge.warning}; no checksums can be kept beside it like that")
    try:
        reading = _Reading(cartridge, keep=keep)
        files = [reading.tape_file(number) for number in range(len(cartridge.map.files))]
    except BaseException:
        cartridge.abandon()
        raise
    while files and not files[-1].records:
        files.pop()
    if not reading.kept:
        cartridge.abandon()
    elif not cartridge.close_with_sums():
        raise OfflineError(f"{path}: the checksums could not be kept beside it")
    return Verified(files, reading.damages, reading.kept, cartridge.warning)


class _Reading:
    """A walk through a cartridge's records."""

    def __init__(self, cartridge: Cartridge, *, keep: bool) -> None:
        self._cartridge = cartridge
        self._keep = keep
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self.damages: list[str] = []
        self.kept = 0

    def tape_file(self, number: int) -> VerifiedFile:
        file = self._cartridge.map.files[number]
        counts = {"written": 0, "later": 0, "unknown": 0, "damaged": 0}
        block = 0
        while block < file.records:
            size = file.place(block).word & LENGTH_BITS
            if size > len(self._buffer):
                self._buffer = memoryview(bytearray(size))
            count = self._read(number, block, size)
            for each in range(block, block + count):
                counts[self._kind(number, each)] += 1
            if count and self._keep:
                self._keep_sums(number, block, count, size)
            if not count:
                counts["damaged"] += 1
            block += max(1, count)
        return VerifiedFile(number, file.records, **counts)

    def _read(self, number: int, block: int, size: int) -> int:
        """How many records from here on are good, and lie in the buffer; 0 = this one is damaged."""
        try:
            count = self._cartridge.read_run(number, block, self._buffer, size)
            if count:
                return count
        except CartridgeError:  # one of the run: the record here, by itself, tells whether it is that one
            pass
        try:
            self._cartridge.read_record(number, block, self._buffer)
        except CartridgeError as error:
            if len(self.damages) < DAMAGES_MAX:
                self.damages.append(str(error))
            return 0
        return 1

    def _kind(self, number: int, block: int) -> str:
        tape = self._cartridge.map
        file = tape.files[number]
        if file.sums[block] == UNKNOWN:
            return "unknown"
        return "later" if tape.is_later(file.offset(block)) else "written"

    def _keep_sums(self, number: int, block: int, count: int, size: int) -> None:
        with self._buffer[: count * size] as records:
            self.kept += self._cartridge.add_sums(number, block, checksums(records, size))
