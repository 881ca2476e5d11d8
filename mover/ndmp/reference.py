"""What the documents list for each request beside its layout: the errors, and what it needs besides a state.

The lists are those of the specifications and what deployed clients insist on; every request may also be answered by
one of GENERAL_ERRORS. docs/protocol.md is made from them (scripts/protocol-docs).
"""

from typing import Final

import msgspec

from mover.ndmp.enums import ErrorCode
from mover.ndmp.table import TABLE

GENERAL_ERRORS: Final = (
    ErrorCode.NOT_SUPPORTED_ERR,
    ErrorCode.NOT_AUTHORIZED_ERR,
    ErrorCode.XDR_DECODE_ERR,
    ErrorCode.NO_MEM_ERR,
    ErrorCode.UNDEFINED_ERR,
)
"""Errors that any request may meet. Source: NDMPv4 section 2.6."""

SECTIONS: Final = {
    0x1: "3.2",  # CONFIG
    0x2: "3.3",  # SCSI
    0x3: "3.4",  # TAPE
    0x4: "3.5",  # DATA
    0x5: "3.7",  # NOTIFY
    0x6: "3.8",  # LOG
    0x7: "3.9",  # FH
    0x9: "3.1",  # CONNECT
    0xA: "3.6",  # MOVER
}
"""High byte of a message number -> section of the version 4 draft."""

SECTIONS_1: Final = SECTIONS | {0x5: "4.1", 0x6: "4.2", 0x7: "4.3"}
"""High byte of a message number -> section of the version 1 draft (October 1996)."""


class Clause(msgspec.Struct, frozen=True):
    """What one request needs beside a state of DATA or MOVER, and the errors listed for it."""

    needs: str
    errors: tuple[ErrorCode, ...]


_DEVICE = "a SCSI device open"
_DRIVE = "a drive open"
_FREE = "a drive open, MOVER not LISTEN or ACTIVE"
_FREE_1 = "a drive open, DATA not ACTIVE"
_RUN = "a drive open, record size and window (v4)"

# name, versions, needs, errors without their suffix _ERR
_ROWS: Final = (
    ("CONNECT_OPEN", "1234", "", "ILLEGAL_ARGS ILLEGAL_STATE"),
    ("CONNECT_AUTH", "1", "", "ILLEGAL_ARGS"),
    ("CONNECT_CLIENT_AUTH", "234", "", "ILLEGAL_ARGS"),
    ("CONNECT_CLOSE", "1234", "", ""),
    ("CONNECT_SERVER_AUTH", "234", "", "ILLEGAL_ARGS"),
    ("CONFIG_GET_HOST_INFO", "1234", "", ""),
    ("CONFIG_GET_BUTYPE_ATTR", "12", "", "ILLEGAL_ARGS"),
    ("CONFIG_GET_MOVER_TYPE", "2", "", ""),
    ("CONFIG_GET_CONNECTION_TYPE", "34", "", ""),
    ("CONFIG_GET_AUTH_ATTR", "234", "", "ILLEGAL_ARGS"),
    ("CONFIG_GET_BUTYPE_INFO", "34", "", ""),
    ("CONFIG_GET_FS_INFO", "34", "", ""),
    ("CONFIG_GET_TAPE_INFO", "34", "", ""),
    ("CONFIG_GET_SCSI_INFO", "34", "", ""),
    ("CONFIG_GET_SERVER_INFO", "34", "", ""),
    ("CONFIG_SET_EXT_LIST", "4", "CONFIG_GET_EXT_LIST before it",
     "PRECONDITION CLASS_NOT_SUPPORTED VERSION_NOT_SUPPORTED EXT_DUPL_CLASSES EXT_DN_ILLEGAL"),
    ("CONFIG_GET_EXT_LIST", "4", "", "EXT_DN_ILLEGAL"),
    ("SCSI_OPEN", "1234", "no device open", "DEVICE_OPENED DEVICE_BUSY NO_DEVICE IO"),
    ("SCSI_CLOSE", "1234", _DEVICE, "DEV_NOT_OPEN"),
    ("SCSI_GET_STATE", "1234", _DEVICE, "DEV_NOT_OPEN"),
    ("SCSI_SET_TARGET", "1", _DEVICE, "DEV_NOT_OPEN"),
    ("SCSI_SET_TARGET", "23", _DEVICE, "DEV_NOT_OPEN NO_BUS NO_DEVICE"),
    ("SCSI_RESET_DEVICE", "1234", _DEVICE, "DEV_NOT_OPEN"),
    ("SCSI_RESET_BUS", "123", _DEVICE, "DEV_NOT_OPEN"),
    ("SCSI_EXECUTE_CDB", "1234", _DEVICE, "DEV_NOT_OPEN IO ILLEGAL_ARGS TIMEOUT NO_DEVICE NO_BUS"),
    ("TAPE_OPEN", "1234", "no device open",
     "DEVICE_OPENED NO_DEVICE DEVICE_BUSY IO WRITE_PROTECT NO_TAPE_LOADED PERMISSION ILLEGAL_ARGS"),
    ("TAPE_CLOSE", "1234", _FREE, "DEV_NOT_OPEN IO DEVICE_BUSY NO_TAPE_LOADED"),
    ("TAPE_GET_STATE", "1234", _DRIVE, "DEV_NOT_OPEN IO"),
    ("TAPE_MTIO", "1234", _FREE, "DEV_NOT_OPEN IO ILLEGAL_ARGS WRITE_PROTECT PERMISSION NO_TAPE_LOADED DEVICE_BUSY"),
    ("TAPE_WRITE", "1234", _FREE, "DEV_NOT_OPEN IO EOM WRITE_PROTECT PERMISSION NO_TAPE_LOADED DEVICE_BUSY"),
    ("TAPE_READ", "1234", _FREE, "DEV_NOT_OPEN IO EOF EOM NO_TAPE_LOADED DEVICE_BUSY ILLEGAL_ARGS"),
    ("TAPE_SET_RECORD_SIZE", "1", _FREE, "DEV_NOT_OPEN ILLEGAL_ARGS ILLEGAL_STATE"),
    ("TAPE_EXECUTE_CDB", "1234", _FREE, "DEV_NOT_OPEN IO ILLEGAL_ARGS TIMEOUT DEVICE_BUSY"),
    ("DATA_GET_STATE", "1234", "", ""),
    ("DATA_START_BACKUP", "1", "a drive open for writing",
     "ILLEGAL_STATE ILLEGAL_ARGS DEV_NOT_OPEN WRITE_PROTECT PERMISSION NO_TAPE_LOADED"),
    ("DATA_START_BACKUP", "234", "", "ILLEGAL_STATE ILLEGAL_ARGS"),
    ("DATA_START_RECOVER", "1", _DRIVE, "ILLEGAL_STATE ILLEGAL_ARGS DEV_NOT_OPEN NO_TAPE_LOADED"),
    ("DATA_START_RECOVER", "234", "", "ILLEGAL_STATE ILLEGAL_ARGS"),
    ("DATA_START_RECOVER_FILEHIST", "234", "", "ILLEGAL_STATE ILLEGAL_ARGS"),
    ("DATA_ABORT", "1234", "", "ILLEGAL_STATE"),
    ("DATA_GET_ENV", "1234", "", "ILLEGAL_STATE"),
    ("DATA_STOP", "1234", "", "ILLEGAL_STATE"),
    ("DATA_CONTINUE", "1", _DRIVE, "ILLEGAL_STATE DEV_NOT_OPEN WRITE_PROTECT PERMISSION NO_TAPE_LOADED"),
    ("DATA_LISTEN", "34", "MOVER IDLE, unless LOCAL", "ILLEGAL_STATE ILLEGAL_ARGS CONNECT"),
    ("DATA_CONNECT", "34", "MOVER IDLE; LOCAL: MOVER LISTEN", "ILLEGAL_STATE ILLEGAL_ARGS CONNECT"),
    ("MOVER_GET_STATE", "234", "", ""),
    ("MOVER_LISTEN", "234", f"{_RUN}; DATA IDLE, unless LOCAL",
     "ILLEGAL_ARGS ILLEGAL_STATE DEV_NOT_OPEN PERMISSION PRECONDITION CONNECT"),
    ("MOVER_CONNECT", "34", f"{_RUN}; DATA IDLE; LOCAL: DATA LISTEN",
     "ILLEGAL_ARGS ILLEGAL_STATE DEV_NOT_OPEN PERMISSION PRECONDITION CONNECT"),
    ("MOVER_CONTINUE", "234", "a drive open, a window (v4)", "ILLEGAL_STATE PRECONDITION DEV_NOT_OPEN"),
    ("MOVER_ABORT", "234", "", "ILLEGAL_STATE"),
    ("MOVER_STOP", "234", "", "ILLEGAL_STATE"),
    ("MOVER_SET_WINDOW", "234", "a record size (v4)", "ILLEGAL_ARGS ILLEGAL_STATE PRECONDITION"),
    ("MOVER_READ", "234", "mode WRITE", "ILLEGAL_STATE ILLEGAL_ARGS READ_IN_PROGRESS"),
    ("MOVER_CLOSE", "234", "", "ILLEGAL_STATE"),
    ("MOVER_SET_RECORD_SIZE", "234", "", "ILLEGAL_ARGS ILLEGAL_STATE"),
)  # fmt: skip


def _code(name: str) -> ErrorCode:
    return ErrorCode[name] if name in ErrorCode.__members__ else ErrorCode[name + "_ERR"]


CLAUSES: Final = {
    (int(digit), name): Clause(
        _FREE_1 if (digit, needs) == ("1", _FREE) else needs, tuple(_code(error) for error in errors.split())
    )
    for name, versions, needs, errors in _ROWS
    for digit in versions
}
"""(version, message name) -> what it needs and its errors; posts have none."""


def source(version: int, code: int) -> str:
    """The document that describes a message, with its section where the document counts them.

    Raises:
        KeyError: the version does not have the message.
    """
    row = TABLE[version, code]
    if row.name == "DATA_START_RECOVER_FILEHIST" and version < 4:
        return "extension of NDMJOB"
    sections = {1: SECTIONS_1, 4: SECTIONS}.get(version)
    return f"NDMPv{version} {sections[code >> 8]}" if sections is not None else f"NDMPv{version}"
