"""SCSI without I/O: emulated devices, and what real ones report of themselves.

A CDB to an emulated device goes in; status, data and sense come out, or what is to be moved.
"""

from mover.scsi.changer import MEDIA_CHANGER, SMC_3, Changer, Moves, TakeInventory
from mover.scsi.drive import DISTURBING, SSC_4, TAPE_DRIVE, LoadUnload, Locate, TapeDrive, TapeStatus
from mover.scsi.element_report import (
    ReportedElement,
    assignment_request,
    move_request,
    read_assignment,
    read_elements,
    status_request,
)
from mover.scsi.elements import FIRST, ElementKind, Geometry, Occupant
from mover.scsi.inquiry import IDENTIFICATION_PAGE, SERIAL_PAGE, inquiry, read_identity
from mover.scsi.sense import Fault
from mover.scsi.unit import VENDOR, Answer, Identity, Status, refusal

__all__ = [
    "DISTURBING",
    "FIRST",
    "IDENTIFICATION_PAGE",
    "MEDIA_CHANGER",
    "SERIAL_PAGE",
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
    "ReportedElement",
    "Status",
    "TakeInventory",
    "TapeDrive",
    "TapeStatus",
    "assignment_request",
    "inquiry",
    "move_request",
    "read_assignment",
    "read_elements",
    "read_identity",
    "refusal",
    "status_request",
]
