"""The kinds of snapshots as tables of command lines, and the one interface over them: make, remove, find.

Words in braces are filled in, each argument by itself; no shell sees them. Only what has a name of ours is ever
removed.

Source: btrfs-subvolume(8), lvcreate(8), lvremove(8), lvs(8), mount(8), zfs-snapshot(8), zfs-destroy(8), zfs-list(8).
"""

import os
import re
import shlex
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from mover.snapshot.commands import KEPT_BYTES, Ended
from mover.snapshot.places import (
    NoPlace,
    below,
    is_below,
    mount_of,
    mounted_below,
    open_below,
    open_directory,
    read_mounts,
    subvolume_number,
    subvolume_of,
    zfs_root_of,
)
from mover.workers.snapshot_messages import SnapshotMade, SnapshotSource

NAME: Final = re.compile(r"mover-[0-9a-f]{16}")
DIRECTORY: Final = b".mover-snapshots"
"""Where snapshots of Btrfs go: in the root of the subvolume, unless the configuration says otherwise."""
MOUNT_OPTIONS: Final = {"xfs": "ro,nouuid"}
"""File system -> options of mounting a snapshot of it: XFS else refuses a second file system with the same UUID."""
OTHER_MOUNT_OPTIONS: Final = "ro"
DIES_OF: Final = signal.SIGTERM
"""What a snapshot command gets where the helper is killed under it; LVM must not be killed in its midst."""

Command = tuple[str, ...]
Run = Callable[[list[str], int, int | None], Ended]
"""Runs one command, keeps so many bytes of what it says, and has it begin in an open directory (None = anywhere);
raises OSError and what else ends the helper."""
FOUND_BYTES_MAX: Final = 4 << 20  # what a list of snapshots may be long


class Commands(NamedTuple):
    """The command lines of one kind.

    Attributes:
        make: in this order; the first makes the snapshot. Those of Btrfs begin in the directory of snapshots.
        remove: in this order; the last removes it. Of Btrfs it is for people only, see ``_BTRFS_DELETE``.
        find: says the names of snapshots, one a line; None = they are the names in a directory.
    """

    make: tuple[Command, ...]
    remove: tuple[Command, ...]
    find: Command | None


_MOUNT: Final = ("mount", "-o", "{options}", "/dev/{group}/{name}", "{mount}")
_LVM_REMOVE: Final = (("umount", "{mount}"), ("lvremove", "--yes", "{group}/{name}"))
# By number: whoever may rename the directory of snapshots could put a link to another subvolume in the place of a path.
# Without --commit-after it would be there again after a crash of the host.
_BTRFS_DELETE: Final = ("btrfs", "subvolume", "delete", "--commit-after", "--subvolid", "{number}", "{subvolume}")
_BTRFS_LIST: Final = ("btrfs", "subvolume", "list", "{subvolume}")
_LVM_FIND: Final = ("lvs", "--noheadings", "--options", "lv_name", "{group}")

COMMANDS: Final[dict[str, Commands]] = {
    "btrfs": Commands(
        make=(("btrfs", "subvolume", "snapshot", "-r", "{subvolume}", "./{name}"),),
        remove=(("btrfs", "subvolume", "delete", "--commit-after", "{directory}/{name}"),),
        find=None,
    ),
    "lvm": Commands(
        make=(("lvcreate", "--yes", "--snapshot", "--size", "{size}b", "--name", "{name}", "{origin}"), _MOUNT),
        remove=_LVM_REMOVE,
        find=_LVM_FIND,
    ),
    "lvm-thin": Commands(  # takes its space from the pool, and is not activated unless that is said
        make=(("lvcreate", "--yes", "--snapshot", "--setactivationskip", "n", "--name", "{name}", "{origin}"), _MOUNT),
        remove=_LVM_REMOVE,
        find=_LVM_FIND,
    ),
    "zfs": Commands(
        make=(("zfs", "snapshot", "{origin}@{name}"),),
        remove=(("zfs", "destroy", "{origin}@{name}"),),
        find=("zfs", "list", "-H", "-t", "snapshot", "-d", "1", "-o", "name", "{origin}"),
    ),
}


class SnapshotError(Exception):
    """A snapshot was not made, or is still there; one line.

    Attributes:
        absent: there is none, as far as its own command says.
    """

    def __init__(self, text: str, *, absent: bool = False) -> None:
        super().__init__(text)
        self.absent = absent


class Source:
    """What snapshots are made of, found on this host.

    Args:
        run: runs one command.

    Raises:
        SnapshotError: the volume is not there, or not what the kind needs.
    """

    def __init__(self, source: SnapshotSource, run: Run, timeout_s: float) -> None:
        self._run = run
        self._timeout_s = timeout_s
        self._kind = source.kind
        self._commands = COMMANDS["lvm-thin" if source.kind == "lvm" and not source.size_bytes else source.kind]
        self.volume = os.path.realpath(source.volume)
        self._root = b""  # of the file system or subvolume that the volume lies in
        self._own_directory = False
        try:
            mounts = read_mounts()
            self._mount = mount_of(self.volume, mounts)
            self.mounted = mounted_below(self.volume, mounts)
            os.stat(self.volume)
            directory = source.directory
            if source.kind == "btrfs":
                self._root = subvolume_of(self.volume, self._mount)
                self._own_directory = not directory
                directory = directory or os.path.join(self._root, DIRECTORY)
            elif source.kind == "zfs":
                self._root = zfs_root_of(self.volume)
                directory = os.path.join(self._root, b".zfs/snapshot")
            else:
                self._root = self._mount.point
        except (NoPlace, OSError) as error:
            raise SnapshotError(_reason(error), absent=True) from error
        self.directory = directory
        options = MOUNT_OPTIONS.get(self._mount.kind, OTHER_MOUNT_OPTIONS)
        self._words = {
            "subvolume": os.fsdecode(self._root),
            "directory": os.fsdecode(directory),
            "origin": source.origin,
            "group": source.origin.partition("/")[0],
            "size": str(source.size_bytes),
            "options": ",".join(filter(None, (options, source.mount_options))),
        }

    def make(self, name: str) -> SnapshotMade:
        """Make the snapshot. Raises SnapshotError: it may be there all the same."""
        where = self._path(name)
        directory: int | None = None
        try:
            if self._own_directory:
                with suppress(FileExistsError):
                    os.mkdir(self.directory, 0o700)
            elif self._kind == "lvm":
                os.makedirs(where, 0o700)
            if self._kind == "btrfs":
                directory = self._open_directory()
            first, *others = self._fill(self._commands.make, name)
            ended = self._run(first, KEPT_BYTES, directory)
            if failure := ended.failure(first, self._timeout_s):
                raise SnapshotError(failure, absent=not ended.late and ended.status is not None and ended.status > 0)
            for command in others:
                self._do(command)
            inner = below(self.volume, self._root)
            made = self._look_into(where if directory is None else name.encode(), directory, inner)
        except OSError as error:
            raise SnapshotError(_reason(error)) from error
        finally:
            if directory is not None:
                os.close(directory)
        path = os.path.join(where, inner) if inner else where
        hidden = below(self.directory, self.volume) if is_below(self.directory, self.volume) else b""
        return SnapshotMade(path, made.st_dev, made.st_ino, hidden if self._kind == "btrfs" else b"", self.mounted)

    @staticmethod
    def _look_into(name: bytes, directory: int | None, inner: bytes) -> os.stat_result:
        """The volume in its snapshot, by descriptors: nobody can put another tree in its place. Raises OSError."""
        top = open_directory(name, directory)
        try:
            fd = open_below(top, inner)
            try:
                with os.scandir(fd):
                    pass  # there is something to read; ZFS mounts it now
                return os.fstat(fd)
            finally:
                os.close(fd)
        finally:
            os.close(top)

    def remove(self, name: str) -> None:
        """Remove the snapshot, if it is there.

        Raises:
            SnapshotError: it is still there, or that cannot be known; the text says how it is removed by hand.
        """
        try:
            if NAME.fullmatch(name) is None:
                raise SnapshotError(f"{name} is not the name of a snapshot of ours")
            where = self._path(name)
            commands = self._fill(self._commands.remove, name)
            if self._kind == "lvm" and os.path.isdir(where):
                self._unmount(commands[0], where)
            if name not in self.find():
                if self._kind == "btrfs":
                    self._look_elsewhere(name)
            elif self._kind == "btrfs":
                self._delete_subvolume(name)
            else:
                self._do(commands[-1])
        except (SnapshotError, NoPlace, OSError) as error:
            by_hand = " && ".join(map(shlex.join, self._fill(self._commands.remove, name)))
            raise SnapshotError(f"{_reason(error)}; by hand: {by_hand}") from error

    def _delete_subvolume(self, name: str) -> None:
        directory = self._open_directory()
        try:
            fd = open_directory(name.encode(), directory)
            try:
                number = subvolume_number(fd)
            finally:
                os.close(fd)
        finally:
            os.close(directory)
        (command,) = self._fill((_BTRFS_DELETE,), name, number=str(number))
        self._do(command)

    def _look_elsewhere(self, name: str) -> None:
        """Who owns the volume may have moved the directory of snapshots away. Raises SnapshotError: so it is."""
        for line in self._list(_BTRFS_LIST):
            if line.rpartition("/")[2] == name:
                _, _, path = line.partition(" path ")
                raise SnapshotError(f"{name} was moved, its file system has it as {path}")

    def _unmount(self, command: list[str], where: bytes) -> None:
        ended = self._run(command, KEPT_BYTES, None)
        if os.path.ismount(where):
            raise SnapshotError(ended.failure(command, self._timeout_s) or f"{os.fsdecode(where)} is still mounted")
        os.rmdir(where)

    def find(self) -> list[str]:
        """The names of the snapshots of ours that there are.

        Raises:
            SnapshotError, OSError: that cannot be known.
        """
        if self._commands.find is None:
            try:
                directory = self._open_directory()
            except FileNotFoundError:
                if not self._own_directory:
                    raise  # it may lie on a file system that is not mounted
                return []
            try:
                names = os.listdir(directory)
            finally:
                os.close(directory)
        else:
            names = [line.strip().rpartition("@")[2] for line in self._list(self._commands.find)]
        return sorted(name for name in names if NAME.fullmatch(name))

    def _list(self, template: Command) -> list[str]:
        (command,) = self._fill((template,), "")
        ended = self._run(command, FOUND_BYTES_MAX, None)
        if failure := ended.failure(command, self._timeout_s):
            raise SnapshotError(failure)
        if not ended.whole:
            raise SnapshotError(f"{command[0]} lists more than {FOUND_BYTES_MAX} bytes")
        return ended.lines

    def _open_directory(self) -> int:
        """The directory of Btrfs's snapshots, which nobody else can have made or can change.

        Raises:
            SnapshotError: somebody could put something else in a snapshot's place.
            OSError: it is not there, or no directory.
        """
        fd = open_directory(self.directory)
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            os.close(fd)
            text = (
                f"{os.fsdecode(self.directory)}: expected a directory of the server's own that nobody else may write to"
            )
            raise SnapshotError(text, absent=True)
        return fd

    def _path(self, name: str) -> bytes:
        return os.path.join(self.directory, name.encode())

    def _fill(self, commands: tuple[Command, ...], name: str, number: str = "") -> list[list[str]]:
        words = self._words | {"name": name, "mount": os.fsdecode(self._path(name)), "number": number}
        return [[argument.format_map(words) for argument in command] for command in commands]

    def _do(self, command: list[str]) -> None:
        if failure := self._run(command, KEPT_BYTES, None).failure(command, self._timeout_s):
            raise SnapshotError(failure)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        name = error.filename
        shown = f"{os.fsdecode(name)}: " if name is not None else ""
        return f"{shown}{error.strerror}"
    return str(error)
