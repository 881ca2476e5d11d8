"""Emulated SCSI devices without I/O: a CDB in; status, data and sense out, or what is to be moved."""

from mover.scsi.changer import MEDIA_CHANGER, SMC_3, Changer, Moves, TakeInventory
from mover.scsi.drive import DISTURBING, SSC_4, TAPE_DRIVE, LoadUnload, Locate, TapeDrive, TapeStatus
from mover.scsi.elements import FIRST, ElementKind, Geometry, Occupant
from mover.scsi.sense import Fault
from mover.scsi.unit import VENDOR, Answer, Identity, Status, refusal

__all__ = [
    "DISTURBING",
    "FIRST",
    "MEDIA_CHANGER",
    "SMC_3",
    "SSC_4",
    "TAPE_DRIVE",
    "VENDOR",
    "Answer",
    "Changer",
    "ElementKind",
    "Fault",
    "Geometry",
    "Identity",
    "LoadUnload",
    "Locate",
    "Moves",
    "Occupant",
    "Status",
    "TakeInventory",
    "TapeDrive",
    "TapeStatus",
    "refusal",
]
