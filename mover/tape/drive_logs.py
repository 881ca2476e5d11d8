"""What a drive tells of itself beside its work: capacity, errors that it overcame, TapeAlert flags; from log pages.

A drive that has not got a page is not asked for it again.

Source: SPC-4 7.3 (log parameters), SSC-4 8.2; TapeAlert Specification 3.
"""

from typing import Final, NamedTuple

from mover.tape.logical_unit import LogicalUnit

WRITE_ERRORS: Final = 0x02
READ_ERRORS: Final = 0x03
TAPE_ALERT: Final = 0x2E
CAPACITY: Final = 0x31
_CORRECTED: Final = 0x0003  # parameter: total errors corrected, SPC-4 7.3.7
_REMAINING: Final = 0x0001  # of the main partition; SSC-4 8.2.6, in MiB
_MAXIMUM: Final = 0x0003
_MIB: Final = 1 << 20

ALERTS: Final[dict[int, str]] = {
    1: "read warning", 2: "write warning", 3: "hard error", 4: "medium", 5: "read failure", 6: "write failure",
    7: "medium life", 8: "not data grade", 9: "write protect", 10: "no removal", 11: "cleaning medium",
    12: "unsupported format", 13: "recoverable mechanical cartridge failure",
    14: "unrecoverable mechanical cartridge failure", 15: "memory chip in cartridge failure", 16: "forced eject",
    17: "read only format", 18: "tape directory corrupted on load", 19: "nearing medium life", 20: "cleaning required",
    21: "cleaning requested", 22: "expired cleaning medium", 23: "invalid cleaning tape",
    24: "retension requested", 26: "cooling fan failure", 27: "power supply failure", 30: "hardware A",
    31: "hardware B", 32: "primary interface", 33: "eject medium", 34: "microcode update fail", 35: "drive humidity",
    36: "drive temperature", 37: "drive voltage", 38: "predictive failure", 39: "diagnostics required",
    51: "tape directory invalid at unload", 52: "tape system area write failure", 53: "tape system area read failure",
    54: "no start of data", 55: "loading or threading failure", 56: "unrecoverable unload failure",
    58: "microcode failure", 59: "WORM medium integrity check failed", 60: "WORM medium overwrite attempted",
}  # fmt: skip
"""Flag -> its name; what the drive does not tell by sense data as well is why they are read."""


class Capacity(NamedTuple):
    """Of the medium, in bytes; None = not known."""

    total: int | None = None
    remaining: int | None = None


class DriveLogs:
    """The log pages of a drive."""

    def __init__(self, unit: LogicalUnit) -> None:
        self._unit = unit
        self._missing: set[int] = set()
        self._corrected_before = self._corrected()

    def capacity(self) -> Capacity:
        """Native capacity, as of now."""
        page = self._page(CAPACITY)
        total, remaining = page.get(_MAXIMUM), page.get(_REMAINING)
        return Capacity(
            int.from_bytes(total) * _MIB if total else None, int.from_bytes(remaining) * _MIB if remaining else None
        )

    def soft_errors(self) -> int:
        """Errors that the drive has corrected since it was opened."""
        return max(0, self._corrected() - self._corrected_before)

    def alerts(self) -> str:
        """The TapeAlert flags that are set, in words; "" = none. Reading clears them (TapeAlert 3.0, section 3)."""
        page = self._page(TAPE_ALERT)
        numbers = sorted(number for number, value in page.items() if value and value[-1] & 1)
        if not numbers:
            return ""
        return "TapeAlert: " + ", ".join(ALERTS.get(number, f"flag {number}") for number in numbers[:64])

    def _corrected(self) -> int:
        pages = [self._page(WRITE_ERRORS), self._page(READ_ERRORS)]
        return sum(int.from_bytes(page.get(_CORRECTED, b"")) for page in pages)

    def _page(self, number: int) -> dict[int, bytes]:
        """Parameter code -> value; empty where there is no such page."""
        if number in self._missing:
            return {}
        answer, data = self._unit.log_page(number)
        if answer.error or len(data) < 4 or data[0] & 0x3F != number:
            if not answer.lost and not self._unit.deferred:
                self._missing.add(number)
            return {}
        return parse_parameters(data[4 : 4 + int.from_bytes(data[2:4])])


def parse_parameters(data: bytes) -> dict[int, bytes]:
    """Log parameters; what is cut off at the end is left out. Source: SPC-4 7.3.2.2."""
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length = data[3]
        value = data[4 : 4 + length]
        if len(value) == length:
            found[int.from_bytes(data[:2])] = value
        data = data[4 + length :]
    return found
