"""Errors of the built-in DMA; every text is one line for the operator."""

from mover.ndmp.enums import ErrorCode

MEANINGS: dict[int, str] = {
    ErrorCode.NOT_SUPPORTED_ERR: "the server does not offer this",
    ErrorCode.DEVICE_BUSY_ERR: "the device is in use by another session or by the mover",
    ErrorCode.DEVICE_OPENED_ERR: "this session has a device open already",
    ErrorCode.NOT_AUTHORIZED_ERR: "not logged in, login refused, or not permitted to this user",
    ErrorCode.PERMISSION_ERR: "the device was not opened for writing",
    ErrorCode.DEV_NOT_OPEN_ERR: "no device is open",
    ErrorCode.IO_ERR: "device error",
    ErrorCode.TIMEOUT_ERR: "the device did not answer in time",
    ErrorCode.ILLEGAL_ARGS_ERR: "an argument is out of range, or a name is unknown to the server",
    ErrorCode.NO_TAPE_LOADED_ERR: "no cartridge in the drive, or the drive is not ready",
    ErrorCode.WRITE_PROTECT_ERR: "the cartridge is write-protected",
    ErrorCode.EOF_ERR: "filemark",
    ErrorCode.EOM_ERR: "end of the tape or of its data",
    ErrorCode.FILE_NOT_FOUND_ERR: "not found in the backup",
    ErrorCode.BAD_FILE_ERR: "invalid file descriptor",
    ErrorCode.NO_DEVICE_ERR: "no such device",
    ErrorCode.NO_BUS_ERR: "no such SCSI controller",
    ErrorCode.XDR_DECODE_ERR: "the server could not decode the request",
    ErrorCode.ILLEGAL_STATE_ERR: "not possible in the present state",
    ErrorCode.UNDEFINED_ERR: "the server gives no reason",
    ErrorCode.XDR_ENCODE_ERR: "the server could not encode its reply",
    ErrorCode.NO_MEM_ERR: "the server is out of memory",
    ErrorCode.CONNECT_ERR: "the data connection could not be made",
    ErrorCode.SEQUENCE_NUM_ERR: "wrong sequence number",
    ErrorCode.READ_IN_PROGRESS_ERR: "the mover is still reading for an earlier request",
    ErrorCode.PRECONDITION_ERR: "an earlier request is missing",
}


def error_name(code: int) -> str:
    """Name of an error code, or its number where it has none."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"error {code:#x}"


def one_line(text: str) -> str:
    """A text for people: no control characters, bytes that were not UTF-8 as backslash escapes."""
    decoded = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else " " for c in decoded).strip()


class DmaError(Exception):
    """Base of what goes wrong in a job."""

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text))


class ControlConnectionError(DmaError):
    """A control connection could not be made, was refused, or broke."""


class LoginError(DmaError):
    """No login method in common, or the login was refused."""


class NdmpError(DmaError):
    """The server answered a request with an error, in the header or in the body."""

    def __init__(self, message: str, code: int, detail: str = "") -> None:
        self.message = message
        self.code = code
        self.meaning = MEANINGS.get(code, "unknown error code")
        text = f"{message}: {error_name(code)}: {self.meaning}"
        super().__init__(f"{text} ({detail})" if detail else text)

    def explain(self, reason: str) -> None:
        """Add what the server logged about it."""
        self.args = (one_line(f"{self}: {reason}"),)


class JobError(DmaError):
    """A job did not reach its good end."""


class CartridgeFullError(JobError):
    """The mover paused at the end of the tape in mid-backup."""


class CartridgeError(JobError):
    """The cartridge that a job needs is not there, or is another one than it should be."""


class ChangerError(JobError):
    """The media changer refused a command, or says what cannot be."""


class CatalogueError(DmaError):
    """The catalogue cannot be opened, read or written, or lacks what was asked for."""
