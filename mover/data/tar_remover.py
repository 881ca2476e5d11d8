"""Removes from a destination what the directories of a tar stream do not list, and moves what they say has moved.

As ``tar -xG`` does, and only where the DMA says so (EXTRACT=N). A tar stream tells what was in a directory and not what
its base held, so here, unlike with a dump, everything goes that is not listed, whoever has put it there; each name is
told. A directory that the stream does not tell of, or whose listing is not whole, stays as it is, and so does what is
mounted. All goes by descriptors beneath the destination, never through a symbolic link.

A directory is cleared when its member comes, which is before anything that belongs into it. Source: tar.md section 3.
"""

import errno
import os
from typing import Final

from mover.data.beneath import components, open_or_allow_at
from mover.data.codes import LogType
from mover.data.recover_plan import Target
from mover.data.recover_report import RecoverReport, Request
from mover.data.report import counted, reason
from mover.data.tar_format import FormatError
from mover.data.tar_listing import Listing, Move, parse_listing
from mover.data.tree_writer import MADE, TreeWriter, remove

DEPTH_MAX: Final = 200
"""Levels of a directory that is removed; each takes a descriptor."""
_NAMES_TOLD: Final = 200
_DIRECTORY: Final = ord("D")
_IN_STREAM: Final = ord("Y")


class Remover:
    """The removals of one recover of everything to one place.

    Attributes:
        removed: objects.
        moved: directories.
    """

    def __init__(self, writer: TreeWriter, report: RecoverReport, request: Request) -> None:
        self.removed = 0
        self.moved = 0
        self._writer = writer
        self._report = report
        self._request = request
        self._told = 0
        self._spare = b".mover-%d-moved" % os.getpid()

    @property
    def summary(self) -> str:
        """For the last line of the recover."""
        return f", {counted(self.removed, 'object', 'objects')} removed" + (
            f", {counted(self.moved, 'directory', 'directories')} moved" if self.moved else ""
        )

    def apply(self, target: Target, value: bytes, *, is_first: bool) -> None:
        """Make a directory hold no more than its listing names.

        Args:
            is_first: nothing of the stream has been made but this directory.
        """
        if target.failed:
            return
        try:
            listing = parse_listing(value)
        except FormatError as error:
            self._report.error(target.path(), f"nothing is removed from it: {error}", target.request)
            return
        if listing.moves and not is_first:
            text = "says what has moved, which only the first directory of a stream can: nothing is moved"
            self._report.error(target.path(), text, target.request)
        elif listing.moves and not self._move_all(listing.moves):
            return  # what is in it may be what has to be elsewhere
        if not target.existed:
            return
        try:
            self._clear(target, self._writer.descriptor(target), listing)
        except OSError as error:
            self._report.error(target.path(), f"cannot be cleared: {reason(error)}", target.request)

    # --- what is gone --------------------------------------------------------------------------------------

    def _clear(self, target: Target, directory: int, listing: Listing) -> None:
        device = os.fstat(directory).st_dev
        with os.scandir(directory) as entries:
            found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_directory in sorted(found):
            listed = listing.names.get(name)
            if listed is not None and is_directory == (listed == _DIRECTORY):
                continue
            if listed not in {None, _DIRECTORY, _IN_STREAM}:
                continue  # a file that the stream does not bring: what has its name is left alone
            try:
                self._remove(directory, name, is_directory, device)
            except OSError as error:
                self._report.error(target.path(name), f"cannot be removed: {reason(error)}", target.request)
            else:
                self._tell(target.path(name))

    def _tell(self, path: bytes) -> None:
        self._told += 1
        if self._told <= _NAMES_TOLD:
            self._report.log(LogType.NORMAL, path + b": removed, it was not in the source any more")
        elif self._told == _NAMES_TOLD + 1:
            self._report.say(LogType.NORMAL, "what else is removed is only counted")

    def _remove(self, parent: int, name: bytes, is_directory: bool, device: int) -> None:
        """Remove an object with all it holds.

        Raises:
            OSError: it, or something in it, stays.
        """
        if not is_directory:
            remove(parent, name)
            self.removed += 1
            return
        opened = [_open_on(parent, name, device)]
        names = [name]
        pending: list[list[bytes]] = []
        try:
            pending.append(self._empty(opened[-1]))
            while opened:
                if pending[-1]:
                    if len(opened) >= DEPTH_MAX:
                        raise OSError(errno.ENAMETOOLONG, f"more than {DEPTH_MAX} directories in each other")
                    names.append(pending[-1].pop())
                    opened.append(_open_on(opened[-1], names[-1], device))
                    pending.append(self._empty(opened[-1]))
                    continue
                os.close(opened.pop())
                pending.pop()
                os.rmdir(names.pop(), dir_fd=opened[-1] if opened else parent)
                self.removed += 1
        finally:
            for fd in opened:
                os.close(fd)

    def _empty(self, directory: int) -> list[bytes]:
        """Remove from a directory what is none; returns the names of those in it."""
        inner: list[bytes] = []
        with os.scandir(directory) as entries:
            found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_directory in found:
            if is_directory:
                inner.append(name)
            else:
                remove(directory, name)
                self.removed += 1
        return inner

    # --- what has moved ------------------------------------------------------------------------------------

    def _move_all(self, moves: list[Move]) -> bool:
        """False: something stays where it was, and that was reported."""
        place = self._request.name.target
        path = b"/".join([place.volume.rstrip(b"/"), *components(place.path)])
        try:
            root = self._writer.open_destination(place)
        except OSError as error:
            self._report.error(path, error, self._request)
            return False
        errors = self._report.errors
        try:
            for move in moves:
                source, target = move.source or [self._spare], move.target or [self._spare]
                try:
                    _rename(root, source, target)
                except OSError as error:
                    text = f"cannot be moved to {os.fsdecode(b'/'.join(target))!r}: {reason(error)}"
                    self._report.error(b"/".join([path, *source]), text, self._request)
                else:
                    self.moved += 1
        finally:
            os.close(root)
        return self._report.errors == errors


def _open_on(parent: int, name: bytes, device: int) -> int:
    """A directory, if it is on this device: what is mounted is none of the stream's. Raises OSError."""
    fd = open_or_allow_at(parent, name)[0]
    if os.fstat(fd).st_dev != device:
        os.close(fd)
        raise OSError(errno.EXDEV, "another file system is mounted there")
    return fd


def _open_beneath(root: int, parts: list[bytes], *, makes: bool = False) -> int:
    """A directory, also behind one that is shut even to its owner. Raises OSError.

    Args:
        makes: directories on the way that are not there; they get their attributes with their members.
    """
    fd = os.dup(root)
    for part in parts:
        below = fd
        try:
            try:
                fd = open_or_allow_at(below, part)[0]
            except FileNotFoundError:
                if not makes:
                    raise
                os.mkdir(part, MADE, dir_fd=below)
                fd = open_or_allow_at(below, part)[0]
        finally:
            os.close(below)
    return fd


def _rename(root: int, source: list[bytes], target: list[bytes]) -> None:
    """Move a directory, also into one that is new, whose member comes later: as tar does."""
    from_fd = _open_beneath(root, source[:-1])
    try:
        os.stat(source[-1], dir_fd=from_fd, follow_symlinks=False)  # nothing is made for what is not there
        to_fd = _open_beneath(root, target[:-1], makes=True)
        try:
            os.rename(source[-1], target[-1], src_dir_fd=from_fd, dst_dir_fd=to_fd)
        finally:
            os.close(to_fd)
    finally:
        os.close(from_fd)
