"""What NDMP's own errors, halts and pauses mean here.

Source: NDMPv4 sections 2.6 and 3; NDMPv1 for what version 4 dropped.
"""

from enum import IntEnum
from typing import Final

from mover.catalogue.entry import Entry
from mover.ndmp.enums import (
    ConnectionStatusReason,
    DataHaltReason,
    DataPauseReason,
    ErrorCode,
    MoverHaltReason,
    MoverPauseReason,
    RecoveryStatus,
)

_ERRORS: Final = {
    ErrorCode.NO_ERR: ("The request was done.", "Nothing."),
    ErrorCode.NOT_SUPPORTED_ERR: (
        "The server does not offer this message, interface or option, or not in this version.",
        "Have the DMA use another protocol version, or see docs/protocol.md for what is offered.",
    ),
    ErrorCode.DEVICE_BUSY_ERR: (
        "The drive or changer is open in another session, is being moved, or hangs.",
        (
            "`mover tape show` and `mover status` name who has it; end that job or `mover kill` its session. "
            "A device that hangs is free again when it answers."
        ),
    ),
    ErrorCode.DEVICE_OPENED_ERR: (
        "This session has a device open already.",
        "A fault of the DMA: it is to close the first device.",
    ),
    ErrorCode.NOT_AUTHORIZED_ERR: (
        "Nobody is logged in, the login was refused, or this user may not do this here.",
        (
            "See the server's log for the line `login failed`, `mover user show` for the user, "
            "and `mover generate-password` where the NDMP password is stale."
        ),
    ),
    ErrorCode.PERMISSION_ERR: (
        "The tape is open for reading and was to be written.",
        "Have the DMA open the drive for writing.",
    ),
    ErrorCode.DEV_NOT_OPEN_ERR: (
        "A tape or SCSI request came with no device open.",
        "Look for why TAPE_OPEN or SCSI_OPEN failed before; the DMA's log has it.",
    ),
    ErrorCode.IO_ERR: (
        "The drive, changer or cartridge failed.",
        "The log's line beside it says how. Try another cartridge, clean the drive; `mover tape verify` a virtual one.",
    ),
    ErrorCode.TIMEOUT_ERR: (
        "A SCSI command was not answered in its time.",
        "Look at the device and the way to it; `timeout_s` of the drive or changer gives a slow one more.",
    ),
    ErrorCode.ILLEGAL_ARGS_ERR: (
        "An argument is out of range, or names what is not there: a volume, a variable, a record size.",
        "The LOG message beside it names the argument. `mover show` and docs/environment.md have what is allowed.",
    ),
    ErrorCode.NO_TAPE_LOADED_ERR: (
        "The drive is empty or not ready.",
        "`mover tape load DRIVE`, or have the DMA load a cartridge.",
    ),
    ErrorCode.WRITE_PROTECT_ERR: (
        "The cartridge is write protected.",
        "Take the protection off, or load another cartridge.",
    ),
    ErrorCode.EOF_ERR: (
        "A filemark was met while reading.",
        "Nothing: the end of a tape file. A DMA goes on behind it.",
    ),
    ErrorCode.EOM_ERR: (
        "The cartridge is nearly full, or, while reading, holds nothing here.",
        "The DMA changes the cartridge. On reading: the wrong cartridge, or the wrong place on it.",
    ),
    ErrorCode.FILE_NOT_FOUND_ERR: (
        "A name of a recover is not in the backup.",
        "List the backup and give the name as it is there.",
    ),
    ErrorCode.BAD_FILE_ERR: ("Historic; mover never sends it.", "If a peer sends it, see that peer's manual."),
    ErrorCode.NO_DEVICE_ERR: (
        "There is no device of this name, or this LIF and user do not show it.",
        "`mover tape show` and `mover library show` have the names; docs/operations.md says which LIF shows which.",
    ),
    ErrorCode.NO_BUS_ERR: (
        "There is no such SCSI controller, id or lun.",
        "GET_SCSI_INFO and `mover tape show` have the addresses.",
    ),
    ErrorCode.XDR_DECODE_ERR: (
        "A request could not be decoded.",
        "A fault of the DMA or of the version it chose; `mover log start` records the dialogue for its vendor.",
    ),
    ErrorCode.ILLEGAL_STATE_ERR: (
        "The request is not possible in the present state.",
        "A DMA that lost count: end its session with `mover kill` and begin anew. `mover probe` shows the states.",
    ),
    ErrorCode.UNDEFINED_ERR: (
        "Something else failed, a fault of the server included.",
        "The server's log has the line; report it if it is ours.",
    ),
    ErrorCode.XDR_ENCODE_ERR: ("A reply could not be encoded.", "A fault of the server: report it with the log."),
    ErrorCode.NO_MEM_ERR: (
        "There was not enough memory.",
        "Look at the host's memory and at `[limits]` of the configuration.",
    ),
    ErrorCode.CONNECT_ERR: (
        "The data connection could not be made.",
        "Routes, firewalls, `data_connections.port_range` and `allow` on both sides; the LOG message has the address.",
    ),
    ErrorCode.SEQUENCE_NUM_ERR: (
        "A message had a wrong sequence number.",
        "A fault of the peer; mover never sends it.",
    ),
    ErrorCode.READ_IN_PROGRESS_ERR: (
        "MOVER_READ came while one was unfinished.",
        "A fault of the DMA: it is to wait, or to abort the mover.",
    ),
    ErrorCode.PRECONDITION_ERR: (
        "A request that has to come before is missing: of extension 2052, CAB_DATA_CONN_PREPARE.",
        "Have the DMA prepare the data connection, or switch the extension off with `mover extensions modify`.",
    ),
    ErrorCode.CLASS_NOT_SUPPORTED: (
        "The DMA chose an extension class that was not offered.",
        "`mover extensions show` has those that are on.",
    ),
    ErrorCode.VERSION_NOT_SUPPORTED: (
        "The DMA chose a version of an extension class that was not offered.",
        "`mover extensions show` has the versions.",
    ),
    ErrorCode.EXT_DUPL_CLASSES: ("The DMA chose an extension class twice.", "A fault of the DMA."),
    ErrorCode.EXT_DN_ILLEGAL: (
        "Extensions cannot be chosen now: they were, or the session has begun its work.",
        "A fault of the DMA.",
    ),
}

_STOPS: Final[dict[str, dict[IntEnum, tuple[str, str]]]] = {
    "DATA_HALT": {
        DataHaltReason.NA: ("The data operation is not halted.", "Nothing."),
        DataHaltReason.SUCCESSFUL: (
            "The backup or recover is complete.",
            "Nothing; the log lines tell what was left out.",
        ),
        DataHaltReason.ABORTED: ("The DMA, or `mover kill`, aborted the operation.", "Nothing, if it was meant."),
        DataHaltReason.INTERNAL_ERROR: (
            "The operation failed on the file server: the stream, the destination or the worker.",
            "`mover jobs --number N` and the LOG lines say what; a worker that died is in the server's log.",
        ),
        DataHaltReason.CONNECT_ERROR: (
            "The data connection broke, or the mover at its other end failed.",
            "Look at the tape host first: its mover's halt reason says whether tape or network failed.",
        ),
        DataHaltReason.MEDIA_ERROR: (
            "The tape failed under a version 1 operation.",
            "As MOVER_HALT_MEDIA_ERROR.",
        ),
        DataHaltReason.NO_SPLIT: (
            "The tape ended and the backup cannot go on another one; mover never sends it.",
            "Use a larger cartridge.",
        ),
    },
    "DATA_PAUSE": {
        DataPauseReason.NA: ("The version 1 operation is not paused.", "Nothing."),
        DataPauseReason.EOM: ("The tape of a version 1 operation ended.", "The DMA changes it and continues."),
        DataPauseReason.EOF: ("A version 1 recover met a filemark.", "The DMA loads the next part and continues."),
    },
    "MOVER_HALT": {
        MoverHaltReason.NA: ("The mover is not halted.", "Nothing."),
        MoverHaltReason.CONNECT_CLOSED: ("The data connection ended in order, and all of it was moved.", "Nothing."),
        MoverHaltReason.ABORTED: ("The DMA, or `mover kill`, aborted the mover.", "Nothing, if it was meant."),
        MoverHaltReason.INTERNAL_ERROR: (
            "The mover failed, for example because its tape worker died or a deadline passed.",
            "The server's log names the worker, the drive and the reason.",
        ),
        MoverHaltReason.CONNECT_ERROR: (
            "The data connection broke: what is on tape of this backup is not whole.",
            "Look at the file server's job and at the network; repeat the backup.",
        ),
        MoverHaltReason.MEDIA_ERROR: (
            "The tape could not be written or read.",
            "The LOG line has the drive's words and the number of good records. Another cartridge; clean the drive.",
        ),
    },
    "MOVER_PAUSE": {
        MoverPauseReason.NA: ("The mover is not paused.", "Nothing."),
        MoverPauseReason.EOM: (
            "The cartridge is full, or the recorded data ends.",
            "The DMA loads the next cartridge.",
        ),
        MoverPauseReason.EOF: (
            "A filemark was met while reading.",
            "The DMA goes on behind it, or loads the next part.",
        ),
        MoverPauseReason.SEEK: ("What is to be read lies outside the window.", "The DMA sets the window and the tape."),
        MoverPauseReason.MEDIA_ERROR: (
            "The tape could not be written or read (versions 2 and 3).",
            "As MOVER_HALT_MEDIA_ERROR.",
        ),
        MoverPauseReason.EOW: ("The window is full.", "The DMA sets the next window, usually with the next cartridge."),
    },
    "CONNECTION": {
        ConnectionStatusReason.CONNECTED: ("The server greets the DMA.", "Nothing."),
        ConnectionStatusReason.SHUTDOWN: (
            "The server is stopping.",
            "Jobs have `grace_s` to end; repeat those that did not.",
        ),
        ConnectionStatusReason.REFUSED: (
            "The server takes no session now: too many, switched off, or not from this address.",
            "The server's log has the line `connection refused` with the reason.",
        ),
    },
    "RECOVERY": {
        RecoveryStatus.SUCCESSFUL: ("The name was recovered.", "Nothing."),
        RecoveryStatus.FAILED_PERMISSION: (
            "The destination may not be written.",
            "Rights and mount options of the destination; who mover runs as.",
        ),
        RecoveryStatus.FAILED_NOT_FOUND: (
            "The name is not in the backup.",
            "List the backup; give the name as it is there.",
        ),
        RecoveryStatus.FAILED_NO_DIRECTORY: (
            "The directory to recover into is not there, and could not be made.",
            "Make it, or choose another destination.",
        ),
        RecoveryStatus.FAILED_OUT_OF_MEMORY: ("There was not enough memory.", "Look at the host's memory."),
        RecoveryStatus.FAILED_IO_ERROR: (
            "The stream was damaged here, or the destination's disk failed.",
            "The LOG line of the name says which.",
        ),
        RecoveryStatus.FAILED_UNDEFINED_ERROR: ("It failed otherwise.", "The LOG line of the name says how."),
        RecoveryStatus.FAILED_FILE_PATH_EXISTS: (
            "Something of this name is there and was not to be overwritten, or cannot be.",
            "Recover to another place.",
        ),
    },
}

ERRORS: Final = tuple(
    Entry(
        code=error.name,
        kind="ndmp error",
        number=error.value,
        meaning=meaning,
        action=action,
        source="NDMPv4 section 2.6",
    )
    for error, (meaning, action) in _ERRORS.items()
)
STOPS: Final = tuple(
    Entry(
        code=f"{group}_{reason.name}",
        kind="halt or pause",
        number=reason.value,
        meaning=meaning,
        action=action,
        source="NDMPv1 section 2.8" if group == "DATA_PAUSE" else "NDMPv4 section 3",
    )
    for group, reasons in _STOPS.items()
    for reason, (meaning, action) in reasons.items()
)
