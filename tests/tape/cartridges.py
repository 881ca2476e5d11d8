"""Cartridges as what opens them sees them, for tests."""

from pathlib import Path

from mover.tape.cartridge import Cartridge
from mover.tape.index import set_aside
from mover.tape.tape_map import TapeMap
from tests.tape import tap


def append(cartridge: Cartridge, *items: bytes | None, at: tuple[int, int] | None = None) -> None:
    cartridge.cut(*(at or (cartridge.map.marks, cartridge.map.last.records)))
    for item in items:
        if item is None:
            assert cartridge.append_marks(1) == (1, None)
        else:
            assert cartridge.append_records(memoryview(item), len(item)) == (1, None)


def contents(cartridge: Cartridge) -> tap.Tape:
    """Everything on it, read record by record at the places of the map."""
    tape: tap.Tape = []
    for number, file in enumerate(cartridge.map.files):
        if number:
            tape.append(tap.MARK)
        for block in range(file.records):
            buffer = bytearray(70_000)
            length = cartridge.read_record(number, block, memoryview(buffer))
            tape.append(bytes(buffer[:length]))
    return tape


def opened(path: Path, *, writable: bool = True) -> Cartridge:
    return Cartridge(str(path), writable=writable)


def being_written(path: Path) -> None:
    """What a drive leaves beside a cartridge that it writes, and a kill leaves there."""
    with path.open("rb") as file:
        assert set_aside(file.fileno(), str(path), TapeMap())
