"""Drives, cartridges and libraries at the admin socket."""

from typing import Annotated, Literal

from msgspec import Meta

from mover.admin.base import Message, Row


class TapeShow(Message, frozen=True):
    """Drives and cartridges. Reply: TapeShowReply."""


class TapeCreate(Message, frozen=True):
    """Make ``count`` cartridges, or one with this barcode; None = the next free ones. Reply: Done or Failed."""

    library: str
    barcode: str | None = None
    count: Annotated[int, Meta(ge=1, le=65000)] = 1


class TapeLoad(Message, frozen=True):
    """Put a cartridge into a drive. ``barcode`` None = the first empty scratch one, made where there is none.

    Reply: Done or Failed.
    """

    drive: str
    barcode: str | None = None


class TapeUnload(Message, frozen=True):
    """Put the drive's cartridge back. Reply: Done or Failed."""

    drive: str


class LibraryShow(Message, frozen=True):
    """The elements of the libraries, or of the one named. Reply: LibraryShowReply; Failed where there is none such."""

    library: str | None = None


class LibraryInventory(Message, frozen=True):
    """Look which cartridge files were put in and taken out. Reply: Done, with the new barcodes, or Failed."""

    library: str


class LibraryMove(Message, frozen=True):
    """Move a cartridge from an element, or by its barcode, to an element ("slot0", "drive0", "mail0").

    Reply: Done or Failed.
    """

    library: str
    source: str
    destination: str


class DriveStatus(Row, frozen=True, kw_only=True):
    """One drive.

    Attributes:
        name: as in the configuration, ``vtl0/drive0``.
        library: "" for a drive of its own.
        state: empty, loaded, ejected (a cartridge is in it and not threaded), in-use (open by ``session_id``), closed
            (a real drive, of which only who opens it knows what is in it), or hung (it does not answer).
        barcode: of the cartridge in it; "" = none, or a drive of its own.
        path: the cartridge file; "" = none.
        unflushed: of the cartridge: it was not closed in order (its tape worker or the whole server was killed), or
            comes from elsewhere, and what was written last may not be on disk before it is opened and closed again.
        hung_since: since when it does not answer, in seconds since 1970; None = it is not hung.
        model, serial: of a real drive, as it says itself; "" = it has not said so.
    """

    name: str
    library: str = ""
    state: Literal["empty", "loaded", "ejected", "in-use", "closed", "hung"]
    session_id: int | None = None
    barcode: str = ""
    path: str = ""
    write_protected: bool = False
    unflushed: bool = False
    hung_since: float | None = None
    model: str = ""
    serial: str = ""


class CartridgeStatus(Row, frozen=True, kw_only=True):
    """One cartridge of a library; ``drive`` is "" while it is in a slot."""

    barcode: str
    library: str
    path: str
    drive: str = ""
    used_bytes: int = 0
    capacity_bytes: int = 0
    write_protected: bool = False
    unflushed: bool = False


class ElementStatus(Row, frozen=True, kw_only=True):
    """One element of a library.

    Attributes:
        element: "drive0", "mail0", "slot0" and so on; mail is the mail slot, import/export.
        address: as the changer numbers it.
        barcode: of the cartridge in it; "" = empty.
        home: of the cartridge: the slot it was in last; "" = it has not been in one.
        imported: of a cartridge in the mail slot: an operator put it there, not the robot.
        ejected: of a cartridge in a drive: it is not threaded.
        full: a cartridge is in it; of a real changer also one without a barcode.
        drive: of a real changer's drive: its name in the configuration, "" = not known.
        exception: what a real changer says is wrong with it: additional sense code and qualifier; "" = nothing.
    """

    element: str
    address: int
    barcode: str = ""
    home: str = ""
    imported: bool = False
    ejected: bool = False
    full: bool = False
    drive: str = ""
    exception: str = ""


class LibraryStatus(Row, frozen=True, kw_only=True):
    """A virtual library or a real changer; ``session_id`` has the changer open. Elements: drives, mail slot, slots.

    Attributes:
        directory: of a virtual library; of a real changer its device.
        error: why a real changer's elements are not told; "" = they are.
        hung_since: since when the changer does not answer, in seconds since 1970; None = it is not hung.
        model, serial: of a real changer, as it says itself.
    """

    name: str
    directory: str
    changer: str
    session_id: int | None = None
    elements: list[ElementStatus]
    error: str = ""
    hung_since: float | None = None
    model: str = ""
    serial: str = ""


class TapeShowReply(Message, frozen=True):
    """Drives and cartridges in the order of the configuration."""

    drives: list[DriveStatus]
    cartridges: list[CartridgeStatus]


class LibraryShowReply(Message, frozen=True):
    """Libraries in the order of the configuration."""

    libraries: list[LibraryStatus]


Request = TapeShow | TapeCreate | TapeLoad | TapeUnload | LibraryShow | LibraryInventory | LibraryMove
Reply = TapeShowReply | LibraryShowReply
