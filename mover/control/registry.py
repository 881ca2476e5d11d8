"""The registry of a cluster: what its nodes have, and with which of them each shared volume is; files in one directory.

Theory of operation. ``nodes/NAME.json`` is written by node NAME alone, which holds ``nodes/NAME.lock`` while it runs;
``volumes/VSERVER:VOLUME.json`` by whoever moves the volume. Every file is replaced whole, and the first claim of a
volume is a link that only one node can make, so that nothing has to be locked to be written and a reader never sees
half of anything. What lies there comes from elsewhere: it is bounded before it is read, and a file that cannot be
taken is left out and told of.

The functions block, and a shared directory may hang: they run in threads that may be given up. A cluster that keeps
the same in etcd needs these five calls and nothing more.
"""

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from mover.config.model import LifRole
from mover.control.durable import sync_directory

FORMAT: Final = 1
NODES_MAX: Final = 64
VOLUMES_MAX: Final = 4096
FILE_BYTES_MAX: Final = 1 << 20
SUFFIX: Final = ".json"

Text = Annotated[str, Meta(max_length=1024)]
Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")]
_NODE_FILE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,63})\.json")
_VOLUME_FILE: Final = re.compile(r"((?:[A-Za-z0-9][A-Za-z0-9_.-]{0,63})?):([A-Za-z0-9][A-Za-z0-9_.-]{0,63})\.json")


class RegistryError(Exception):
    """The registry refuses; one line."""


class VolumeKey(NamedTuple):
    """A volume of the cluster; vserver "" = it belongs to none."""

    vserver: str
    name: str

    def __str__(self) -> str:
        return f"{self.vserver}/{self.name}" if self.vserver else self.name


class LifRow(Struct, frozen=True, kw_only=True):
    """A LIF of a node; secure_port None = it has none."""

    name: Text
    role: LifRole
    address: Text
    port: Annotated[int, Meta(ge=1, le=65535)]
    secure_port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    vserver: Text = ""


class VolumeRow(Struct, frozen=True, kw_only=True):
    """A volume that a node is configured to have, as DMAs see it; whether other nodes may have it too."""

    vserver: Text = ""
    name: Name
    shown: Text
    shared: bool = False

    @property
    def key(self) -> VolumeKey:
        return VolumeKey(self.vserver, self.name)


class DeviceRow(Struct, frozen=True, kw_only=True):
    """A drive or changer of a node: all its names with their attributes, and what is told of it beside."""

    model: Text
    names: Annotated[dict[Text, Annotated[int, Meta(ge=0, lt=1 << 32)]], Meta(min_length=1, max_length=8)]
    pairs: Annotated[dict[Text, Text], Meta(max_length=16)] = {}


class NodeRecord(Struct, frozen=True, kw_only=True):
    """What a node says of itself.

    Attributes:
        incarnation, beat: of one start of the node, and counted up as long as it lives.
        written: seconds since 1970, on the clock of its host.
        stopped: it has ended in order.
    """

    format: int = FORMAT
    name: Name
    version: Text = ""
    incarnation: Text
    beat: int = 0
    written: float = 0.0
    stopped: bool = False
    lifs: Annotated[list[LifRow], Meta(max_length=256)] = []
    volumes: Annotated[list[VolumeRow], Meta(max_length=VOLUMES_MAX)] = []
    drives: Annotated[list[DeviceRow], Meta(max_length=1024)] = []
    changers: Annotated[list[DeviceRow], Meta(max_length=1024)] = []


class _Owner(Struct, frozen=True):
    """With which node a shared volume is."""

    node: Name


class Contents(NamedTuple):
    """The registry as it was read.

    Attributes:
        nodes: by name.
        owners: of shared volumes, the node's name.
        errors: a line for each file that was left out.
    """

    nodes: dict[str, NodeRecord]
    owners: dict[VolumeKey, str]
    errors: list[str]


_T = TypeVar("_T")


class Registry:
    """The directory; every function raises OSError where it fails.

    Args:
        directory: there already, and for no stranger to write in.
        name: of the node that we are.
    """

    def __init__(self, directory: str, name: str) -> None:
        self.directory = directory
        self.name = name
        self._nodes = os.path.join(directory, "nodes")
        self._volumes = os.path.join(directory, "volumes")

    def enter(self) -> int:
        """Be the node of our name as long as the descriptor that is returned is open.

        Raises:
            RegistryError: another process is it, or everybody may write to the directory.
        """
        _check_rights(self.directory)
        for each in (self._nodes, self._volumes):
            os.makedirs(each, mode=0o700, exist_ok=True)
            _check_rights(each)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(os.path.join(self._nodes, f"{self.name}.lock"), flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise RegistryError(f"{self.directory}: another mover serve is node {self.name} of this cluster") from None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def publish(self, record: NodeRecord) -> None:
        """Say what a node has, in place of what it said before."""
        self._write(os.path.join(self._nodes, record.name + SUFFIX), msgspec.json.encode(record), durable=False)

    def claim(self, key: VolumeKey) -> None:
        """A shared volume is with us, unless it is with a node already."""
        path = self._owner_path(key)
        if not os.path.lexists(path):
            with contextlib.suppress(FileExistsError):  # another node was quicker
                self._write(path, msgspec.json.encode(_Owner(self.name)), durable=True, replace=False)

    def move(self, key: VolumeKey, node: str) -> None:
        """A shared volume is with this node from now on."""
        self._write(self._owner_path(key), msgspec.json.encode(_Owner(node)), durable=True)

    def read(self) -> Contents:
        """All of it."""
        errors: list[str] = []
        nodes = {}
        for match, path in _files(self._nodes, _NODE_FILE, NODES_MAX, errors):
            record = _read(path, NodeRecord, errors)
            if record is None:
                continue
            if record.name != match[1] or record.format != FORMAT:
                errors.append(f"{path}: not written by this node and a version of mover known here")
                continue
            nodes[record.name] = record
        owners = {}
        for match, path in _files(self._volumes, _VOLUME_FILE, VOLUMES_MAX, errors):
            owner = _read(path, _Owner, errors)
            if owner is not None:
                owners[VolumeKey(match[1], match[2])] = owner.node
        return Contents(nodes, owners, errors)

    def _owner_path(self, key: VolumeKey) -> str:
        return os.path.join(self._volumes, f"{key.vserver}:{key.name}{SUFFIX}")

    def _write(self, path: str, content: bytes, *, durable: bool, replace: bool = True) -> None:
        directory, name = os.path.split(path)
        temporary = os.path.join(directory, f".{self.name}.{name}")  # ours alone
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # one that a crash has left may be a second name of the file that is read
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(content)
                file.flush()
                if durable:
                    os.fsync(fd)
            if replace:
                os.replace(temporary, path)
            else:
                os.link(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):  # it has its name
                os.unlink(temporary)
        if durable:
            sync_directory(directory)


def _check_rights(directory: str) -> None:
    """Raises RegistryError: strangers may write there. OSError."""
    if os.stat(directory).st_mode & stat.S_IWOTH:
        raise RegistryError(f"{directory}: everybody may write to it")


def _files(
    directory: str, pattern: re.Pattern[str], count_max: int, errors: list[str]
) -> Iterator[tuple[re.Match[str], str]]:
    """The files of a directory with such names, in order; past the bound they are left out."""
    found = sorted(name for name in os.listdir(directory) if pattern.fullmatch(name))
    if len(found) > count_max:
        errors.append(f"{directory}: {len(found)} files, of which {count_max} are read")
    for name in found[:count_max]:
        match = pattern.fullmatch(name)
        assert match is not None
        yield match, os.path.join(directory, name)


def _read(path: str, kind: type[_T], errors: list[str]) -> _T | None:
    """What a file holds; None = it cannot be taken, or has just gone."""
    try:
        # Not to wait at a pipe, and not to be led elsewhere by a link.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                errors.append(f"{path}: no file")
                return None
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        errors.append(f"{path}: {error.strerror}")
        return None
    if len(content) > FILE_BYTES_MAX:
        errors.append(f"{path}: longer than {FILE_BYTES_MAX} bytes")
        return None
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        errors.append(f"{path}: {error}")
        return None
