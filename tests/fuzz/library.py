"""A library without a disk: its places and its directory are kept in memory, and new for each script."""

import errno
import os
from collections.abc import Coroutine
from typing import Any, Final, cast

from mover.config import Config
from mover.control.drives import Devices
from mover.control.store import Location, Place, Places, Store

CARTRIDGES: Final = ("A1", "A2")
"""The first is in the drive, the others in slots from 0 on."""


class Shelf:
    """Which cartridge's file is in which directory: what `barcodes_in`, `move_file` and `make_file` find."""

    def __init__(self) -> None:
        self._files: set[str] = set()

    def fill(self, directory: str) -> None:
        """As it is in the beginning."""
        self._files = {os.path.join(directory, f"{barcode}.tap") for barcode in CARTRIDGES}

    def barcodes_in(self, directory: str) -> set[str]:
        return {os.path.basename(path)[:-4] for path in self._files if os.path.dirname(path) == directory}

    def move_file(self, source: str, target: str) -> None:
        if target in self._files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        self._files.remove(source)
        self._files.add(target)

    def make_file(self, path: str, *, exclusive: bool) -> None:
        if exclusive and path in self._files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self._files.add(path)


SHELF: Final = Shelf()
"""Of the script that is being played."""


class _Memory:
    """The store: places by barcode."""

    def __init__(self) -> None:
        drive, *slots = CARTRIDGES
        self._places: Places = {drive: Place(Location("drive", 0), len(slots))}
        self._places |= {barcode: Place(Location("slot", at), at) for at, barcode in enumerate(slots)}

    async def cartridges(self, library: str) -> Places:
        return dict(self._places)

    async def intended(self, library: str) -> Places:
        return {}

    async def replace_cartridges(self, library: str, places: Places) -> None:
        self._places = dict(places)

    async def intend(self, library: str, places: Places) -> None:
        """What is lost with a process is of no interest here."""

    async def put_cartridges(self, library: str, places: Places) -> None:
        self._places |= places


def devices(config: Config) -> Devices:
    """The devices of a configuration with one library, whose inventory has been taken."""
    (library,) = config.library
    SHELF.fill(library.directory)
    found = Devices(config, cast("Store", _Memory()))
    _at_once(found.libraries[library.name].reconcile())
    return found


def _at_once(work: Coroutine[Any, Any, None]) -> None:
    # Any: a coroutine's other two types, of which there is nothing when it does not wait
    try:
        work.send(None)
    except StopIteration:
        return
    raise RuntimeError("it waits")
