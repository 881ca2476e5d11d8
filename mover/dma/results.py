"""What the built-in DMA tells its caller: progress while a job runs, its result, catalogue jobs and entries."""

import msgspec

from mover.ndmp.enums import FileType


class Progress(msgspec.Struct, frozen=True):
    """Where a job is; given to the caller about once a second and at each change of phase."""

    phase: str
    """connect, position, transfer, finish; abort when something went wrong."""
    bytes_processed: int = 0
    """Stream bytes that the data service has processed."""
    total_bytes: int | None = None
    """Estimate of all stream bytes: the server's, else from an earlier backup or the catalogue; None without any."""
    files: int = 0
    """Names seen in the file history; 0 without history."""
    rate_bytes_s: float = 0.0
    """Bytes per second over the last seconds."""
    eta_s: float | None = None
    """Seconds to go at this rate, None while unknown."""
    state: str = ""
    """States of both machines, as in `DATA ACTIVE, MOVER ACTIVE`."""


class LogLine(msgspec.Struct, frozen=True):
    """A LOG_MESSAGE of the server, or a note of the DMA's own."""

    kind: str
    """normal, debug, error, warning; dma for the DMA's own."""
    text: str


class BackupResult(msgspec.Struct, frozen=True):
    """A backup that succeeded: DATA halted SUCCESSFUL and MOVER halted CONNECT_CLOSED."""

    job: int
    bytes_processed: int
    files: int
    elapsed_s: float
    tape_file: int
    """Number of the tape file, on the first of its cartridges."""
    cartridges: list[str]
    """As in `Job`."""
    record_size: int
    protocol_version: int
    env: list[tuple[bytes, bytes]]
    """What DATA_GET_ENV returned."""
    warnings: list[str]
    """Texts of the server's warnings and errors, and what the DMA itself found odd."""
    log: list[LogLine]
    encryption: str = ""
    """Of the data connection, as the servers tell it: TLSv1.3; "" = it was LOCAL or in clear."""


class FailedName(msgspec.Struct, frozen=True):
    """A name of a recover that the server reported as not recovered."""

    name: bytes
    status: str
    """Name of the recovery status: FAILED_NOT_FOUND, ..."""


class RecoverResult(msgspec.Struct, frozen=True):
    """A recover whose stream was read to its end; single names may have failed all the same."""

    requested: int
    """Entries of the recover list; 1 for everything."""
    recovered: int
    failed: list[FailedName]
    bytes_processed: int
    elapsed_s: float
    tape_file: int
    protocol_version: int
    warnings: list[str]
    log: list[LogLine]
    encryption: str = ""
    """As in `BackupResult`."""


class CopyResult(msgspec.Struct, frozen=True):
    """A copy whose data services both halted SUCCESSFUL; single names may have failed all the same."""

    bytes_processed: int
    elapsed_s: float
    failed: list[FailedName]
    warnings: list[str]
    """As in `BackupResult`, each with the end that said it: source or destination."""
    log: list[LogLine]
    encryption: str = ""
    """As in `BackupResult`."""


class Job(msgspec.Struct, frozen=True):
    """A backup as the catalogue has it."""

    job: int
    started: float
    """Seconds since 1970."""
    ended: float | None
    status: str
    """running, successful, failed, aborted."""
    message: str
    """Why it failed; empty otherwise."""
    data_server: str
    tape_server: str
    drive: str
    tape_file: int | None
    """Number of the tape file, 0 first; None if the job failed before the tape was positioned."""
    record_size: int
    butype: str
    filesystem: str
    protocol_version: int
    bytes_processed: int
    files: int
    keep_until: float | None = None
    """Seconds since 1970 from when on its cartridges may be written anew; None: never."""
    cartridges: list[str] = []
    """Names of the labelled cartridges that it is on, in order; none: on one without a label of ours."""
    level: int | None = None
    """As the server returned it; None if it did not, or the backup did not end well."""


class LabelledCartridge(msgspec.Struct, frozen=True):
    """A label that was written."""

    name: str
    barcode: str
    """As the changer has it; empty without one."""
    id: str
    """Of the label."""


class LabelResult(msgspec.Struct, frozen=True):
    """Cartridges that were labelled, and those that were left alone."""

    labelled: list[LabelledCartridge]
    refused: list[str]
    """Why each of the others was left alone."""


class ElementContents(msgspec.Struct, frozen=True):
    """An element of a changer, and what the catalogue has on the cartridge in it."""

    address: int
    kind: str
    """slot, mail, drive."""
    barcode: str
    """Of the cartridge; empty where the element is, or the barcode cannot be read."""
    full: bool
    name: str
    """Of the cartridge by its label; empty where the catalogue does not know it."""
    jobs: list[int]
    """Backups on it."""
    needed: bool
    """Whether it is not to be written over."""


class InventoryResult(msgspec.Struct, frozen=True):
    """What is in a changer."""

    elements: list[ElementContents]


class CartridgeInfo(msgspec.Struct, frozen=True):
    """A labelled cartridge as the catalogue has it."""

    name: str
    barcode: str
    """As a changer had it last; empty without one."""
    labelled: float
    """Seconds since 1970."""
    full: bool
    """Whether a backup has met its end."""
    jobs: list[int]
    """Backups on it that succeeded, oldest first."""
    needed: bool
    """Whether one of them, or one that builds on it, is to be kept."""


class Entry(msgspec.Struct, frozen=True):
    """A name in a file history. Attributes are None where the backup saved none (an incremental's unsaved names)."""

    path: bytes
    """From the backup root, beginning with a slash; the root itself is b"/"."""
    node: int | None = None
    ftype: FileType | None = None
    mode: int | None = None
    """Permission bits."""
    owner: int | None = None
    group: int | None = None
    size: int | None = None
    mtime: int | None = None
    """Seconds since 1970."""
    links: int | None = None
    fh_info: int | None = None
    """Offset in the backup stream; None: no direct access."""


class ListResult(msgspec.Struct, frozen=True):
    """Jobs of the catalogue, or the entries of one job or tape file."""

    jobs: list[Job]
    entries: list[Entry]
