"""A cartridge, its file and where that lies, and what is said when one cannot be moved."""

import errno
import os
from contextlib import suppress
from typing import Final, Literal

import msgspec

from mover.control.durable import sync_directory
from mover.control.store import Element, Location, Place

SUFFIX: Final = ".tap"
INDEX_SUFFIX: Final = ".idx"
INDEX_SUFFIXES: Final = (INDEX_SUFFIX, ".idx.cut")  # the second: what is kept of it while the cartridge is written
MAIL_DIRECTORY: Final = "import_export"

Code = Literal["bad-request", "not-found", "busy", "refused", "failed"]


Why = Literal["", "source-empty", "destination-full", "drive-open", "disk"]


class InventoryError(Exception):
    """A move or a cartridge that cannot be.

    Attributes:
        code: that of the admin socket's Failed.
        why: what a robot's client is told of it; "" = nothing that a robot does.
    """

    def __init__(self, code: Code, text: str, why: Why = "") -> None:
        super().__init__(text)
        self.code: Code = code
        self.why: Why = why


class Cartridge(msgspec.Struct):
    """A cartridge and where it is.

    Attributes:
        library: the library's directory.
        loading: names its present loading into a drive; "" = since the start.
        ejected: it is in a drive and not threaded: the drive is empty for who opens it.
    """

    barcode: str
    library: str
    place: Place
    loading: str = ""
    ejected: bool = False

    @property
    def where(self) -> Location:
        return self.place.where

    @property
    def path(self) -> str:
        return cartridge_path(self.library, self.barcode, self.where.element)

    def used_bytes(self) -> int:
        """Size of the file; 0 also when it cannot be looked at, because it is gone. Blocks."""
        try:
            return os.stat(self.path).st_size
        except OSError:
            return 0

    def write_protected(self) -> bool:
        """Whether the file may not be written by anyone: the tab of a virtual cartridge. Blocks."""
        return is_protected(self.path)


def cartridge_path(directory: str, barcode: str, element: Element) -> str:
    """Where the file of a cartridge in such an element of the library in ``directory`` lies."""
    return os.path.join(directory, MAIL_DIRECTORY if element == "mail" else "", barcode + SUFFIX)


def is_protected(path: str) -> bool:
    """Whether a cartridge's file may not be written by anyone. Blocks."""
    try:
        return not os.stat(path).st_mode & 0o222
    except OSError:
        return False  # gone, and its directory perhaps with it


def barcodes_in(directory: str) -> set[str]:
    """Of the cartridges in a directory. Raises OSError."""
    return {name.removesuffix(SUFFIX) for name in os.listdir(directory) if name.endswith(SUFFIX)}


def move_file(source: str, target: str) -> None:
    """Take a cartridge to another directory, for good. Raises OSError; FileExistsError where one is there already.

    Its index stays behind and goes: it is made again where it is wanted.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)  # who takes it away from here takes all of it
    finally:
        os.close(fd)
    os.rename(source, target)
    for directory in {os.path.dirname(source), os.path.dirname(target)}:
        sync_directory(directory)
    for suffix in INDEX_SUFFIXES:
        with suppress(FileNotFoundError):
            os.unlink(source + suffix)
