"""What to test: the server, the login, the versions and groups, and what of the server may be used."""

from typing import Final, Literal

import msgspec

from mover.ndmp.secure import Tls as Tls  # noqa: PLC0414 - of the options, for who gives them

GROUPS: Final = (
    "connect", "config", "scsi", "tape", "data", "mover", "medium", "joined", "job", "three-way", "notices",
)  # fmt: skip
VERSIONS: Final = (1, 2, 3, 4)
DEFAULT_PORT: Final = 10000
SECURE_PORT: Final = 30000
DEFAULT_TIMEOUT_S: Final = 20.0

AuthMethod = Literal["auto", "md5", "text"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        match: only the checks whose name has this in it.
        timeout_s: the deadline of one check.
        tape_device: a drive that the server may open; None: what needs one is skipped.
        write: whether the tape in it may be overwritten; without it the drive is only opened for reading.
        filesystem: a directory that may be backed up; None: what needs one is skipped.
        recover_to: a directory that a recover may write into.
        changer: a SCSI device that may be opened and asked for its name.
        sessions: how many sessions may be opened at once to find the server's limit; 0: none.
        shutdown_pid: the server's process on this machine, which is told to end (SIGTERM) when all else is done.
        butype: backup type.
        tls: None = plain connections.
    """

    host: str
    port: int = DEFAULT_PORT
    user: str
    password: str
    auth: AuthMethod = "auto"
    versions: tuple[int, ...] = VERSIONS
    groups: tuple[str, ...] = GROUPS
    match: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S
    tape_device: str | None = None
    write: bool = False
    filesystem: str | None = None
    recover_to: str | None = None
    changer: str | None = None
    sessions: int = 0
    shutdown_pid: int | None = None
    butype: str = "dump"
    tls: Tls | None = None

    def __repr__(self) -> str:
        return f"Options(host={self.host!r}, port={self.port}, user={self.user!r}, password=...)"
