"""What a caller tells the built-in DMA: servers, login, and the options of each job.

Paths and names are `str` as the command line gives them: bytes that are not UTF-8 travel as surrogate escapes
(`os.fsdecode`) and reach the wire as the bytes they were.
"""

import os
from pathlib import Path
from typing import Literal

import msgspec

from mover.ndmp.secure import Tls

DEFAULT_PORT = 10000
SECURE_PORT = 30000
"""Source: IANA, service ndmps."""
DEFAULT_RECORD_SIZE = 65536

AuthMethod = Literal["auto", "md5", "text", "none"]
History = Literal["y", "d", "f", "n"]


def default_catalogue() -> Path:
    """`$XDG_DATA_HOME/mover/catalogue.sqlite`, XDG_DATA_HOME being ~/.local/share unless set."""
    data_home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(data_home) / "mover" / "catalogue.sqlite"


class Server(msgspec.Struct, frozen=True):
    """An NDMP server's control port; tls: None = a plain one."""

    host: str
    port: int = DEFAULT_PORT
    tls: Tls | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Credentials(msgspec.Struct, frozen=True):
    """A login. `auto` takes MD5 where the server offers it, else TEXT (the password in clear); `none` sends no name."""

    user: str
    password: str
    method: AuthMethod = "auto"

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r}, password=..., method={self.method!r})"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What every job over NDMP needs: where the data and the drive are, and how to talk to them."""

    data: Server
    tape: Server | None = None
    """The server of the drive; None: the data server has it, and the data connection is LOCAL."""
    credentials: Credentials
    tape_credentials: Credentials | None = None
    """Login at the server of the drive where it is not that of the data; None: the same."""
    drive: str
    """Tape device by the name the tape server gives it (`vtl0/drive0`)."""
    butype: str = "dump"
    env: list[tuple[str, str]] = []
    """Environment variables beyond the DMA's own; one of the same name replaces it."""
    max_version: int = 4
    """Highest protocol version to ask for; the server's offer may lower it. 2 to 4."""
    extensions: bool = True
    """Choose CAB and CAE of the servers that offer them: each node of a cluster is gone on to, and IPv6 is used."""
    data_listens: bool = False
    """Three-way: the data server listens and the mover connects (version 3 on), instead of the reverse."""
    connect_timeout_s: float = 30
    request_timeout_s: float = 600
    """How long a reply may take: a rewind or a locate on a real drive takes minutes."""
    changer: str | None = None
    """Media changer by the name the tape server gives it (`vtl0/changer`): it loads the cartridges."""
    drive_element: int | None = None
    """Address of the drive in the changer; None: the changer's only one, or the one that has the drive's identity."""
    wait_s: float = 0
    """How long to wait for an operator to bring a cartridge that is missing."""


class BackupOptions(Session, frozen=True, kw_only=True):
    """A backup of one file system or directory into one tape file."""

    filesystem: str
    record_size: int = DEFAULT_RECORD_SIZE
    """Bytes per mover record."""
    history: History = "y"
    """File history: y as the server likes, d by directory and node, f by path, n none."""
    level: int = 0
    """Dump level, 0 to 31."""
    update: bool = True
    """Later backups of higher levels are based on this one."""
    overwrite: bool = False
    """Write from the beginning of the tape; otherwise behind the last tape file. Not with labels."""
    labels: bool = False
    """Write to labelled cartridges, as with a changer, that an operator changes."""
    new_cartridge: bool = False
    """With labels: begin on a cartridge that holds nothing needed, not behind other backups."""
    keep_s: float | None = None
    """With labels: after so long its cartridges may be written anew; None: never."""
    catalogue: Path = msgspec.field(default_factory=default_catalogue)


class RecoverOptions(Session, frozen=True, kw_only=True):
    """A recover from one tape file, known from the catalogue or given by number."""

    destination: str
    """Directory on the data server to recover into; empty: the original place (needs the catalogue's job)."""
    names: list[str] = []
    """Paths relative to the backup root, each recovered to the same path below `destination`; none: everything."""
    renames: list[tuple[str, str]] = []
    """As `names`, but (path, other path below `destination`)."""
    job: int | None = None
    """Job of the catalogue; None without `tape_file`: the newest that succeeded."""
    tape_file: int | None = None
    """Number of the tape file, 0 first: recover without asking the catalogue."""
    record_size: int | None = None
    """Bytes per mover record; None: the job's, or else the default."""
    direct: bool = False
    """Direct access: jump to the named files by their `fh_info` (needs the catalogue's history)."""
    catalogue: Path = msgspec.field(default_factory=default_catalogue)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A directory of an NDMP server, and the login there."""

    server: Server
    credentials: Credentials
    path: str


class CopyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of one directory into another without a tape."""

    source: Place
    destination: Place
    butype: str = "dump"
    level: int = 0
    """Above 0: what changed since the source's last backup of a lower level, laid over the destination."""
    update: bool = False
    """Later levels of the source are based on this copy, also those of backups, which then lack what it has taken."""
    exclude: list[str] = []
    """Items of the environment variable EXCLUDE, each as the server wants it."""
    env: list[tuple[str, str]] = []
    """Variables for both servers beyond the DMA's own; one of the same name replaces it."""
    max_version: int = 4
    connect_timeout_s: float = 30
    request_timeout_s: float = 600


class LabelOptions(Session, frozen=True, kw_only=True):
    """Label cartridges. `data` is the server of the drive."""

    names: list[str]
    """With a changer barcodes, and none for all that are blank; else the one name for what is in the drive."""
    overwrite: bool = False
    """Also cartridges with data, whoever has written it: it is lost."""
    catalogue: Path = msgspec.field(default_factory=default_catalogue)


class InventoryOptions(Session, frozen=True, kw_only=True):
    """Look at what is in a changer. `data` is the server of the changer."""

    initialize: bool = False
    """Let the changer look into every element first."""
    catalogue: Path = msgspec.field(default_factory=default_catalogue)


class TapeListOptions(Session, frozen=True, kw_only=True):
    """List a tape file by reading it (DATA_START_RECOVER_FILEHIST, version 4)."""

    tape_file: int
    record_size: int = DEFAULT_RECORD_SIZE


class ListOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to list: without `job` and `from_tape` the jobs of the catalogue, otherwise entries."""

    catalogue: Path = msgspec.field(default_factory=default_catalogue)
    job: int | None = None
    pattern: str | None = None
    """A path (it and everything below) or a pattern with * ? [ over the whole path; None: everything."""
    from_tape: TapeListOptions | None = None
    """Read this tape file instead of the catalogue."""
