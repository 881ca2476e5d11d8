"""SCSI without I/O: emulated devices, and what real ones report of themselves.

A CDB to an emulated device goes in; status, data and sense come out, or what is to be moved.
"""

from mover.scsi.changer import MEDIA_CHANGER, SMC_3, Changer, Moves, TakeInventory
from mover.scsi.drive import DISTURBING, SSC_4, TAPE_DRIVE, LoadUnload, Locate, TapeDrive, TapeStatus
from mover.scsi.element_report import (
    ASSIGNMENT_REQUESTS,
    ReportedElement,
    move_request,
    read_assignment,
    read_elements,
    status_request,
)
from mover.scsi.elements import FIRST, ElementKind, Geometry, Occupant
from mover.scsi.inquiry import (
    IDENTIFICATION_PAGE,
    INQUIRY_BYTES,
    PAGE_BYTES,
    SERIAL_PAGE,
    inquiry,
    read_identity,
    tell_bystander,
)
from mover.scsi.sense import Fault, Sense, read_sense
from mover.scsi.unit import VENDOR, Answer, Identity, Status, refusal

__all__ = [
    "ASSIGNMENT_REQUESTS",
    "DISTURBING",
    "FIRST",
    "IDENTIFICATION_PAGE",
    "INQUIRY_BYTES",
    "MEDIA_CHANGER",
    "PAGE_BYTES",
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
    "Sense",
    "Status",
    "TakeInventory",
    "TapeDrive",
    "TapeStatus",
    "inquiry",
    "move_request",
    "read_assignment",
    "read_elements",
    "read_identity",
    "read_sense",
    "refusal",
    "status_request",
    "tell_bystander",
]
