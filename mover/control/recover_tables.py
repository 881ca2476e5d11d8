"""The names that recovers of everything have given, one file per destination in the state directory.

A data worker reads the old table and writes the new one through descriptors (its format is mover/data/name_table.py's);
here the files are found, and the new one takes the old one's place, on disk, once the recover has ended well. An old
table is marked by the worker before it touches the destination, so a crash at any moment leaves one that says so.
Source: docs/architecture.md section 5.
"""

import hashlib
import os
import threading
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from mover.control.data_run import Start
from mover.control.durable import sync_directory
from mover.control.environment import Environment
from mover.control.refusal import Refusal
from mover.ndmp.enums import ErrorCode
from mover.workers.data_messages import DataFinished, Place, RecoverName, StartRecover

DIRECTORY: Final = "recovered"
CHAINED: Final = "dump"  # the backup type whose levels build on names
TABLES_MAX: Final = 64
"""Destinations that are remembered; the ones recovered to longest ago are forgotten."""
WAIT_S: Final = 5.0
_SUFFIX: Final = ".names"
_NEW: Final = ".new"


class TableFiles:
    """The files of one recover; held until ``discard``.

    Attributes:
        descriptors: for the worker: of the new table, and of the old one if there is one; none = no table is kept.
    """

    def __init__(self, tables: "RecoverTables", key: str, descriptors: Sequence[int]) -> None:
        self.descriptors = list(descriptors)
        self._tables = tables
        self._key = key

    def announce(self, message: Start) -> Start:
        """The request as the worker is to get it, with these descriptors behind the rings."""
        assert isinstance(message, StartRecover)
        return replace(message, tables=len(self.descriptors))

    def begin_now(self) -> None:
        """A recover has no date."""

    def conclude(self, *, stopped: bool) -> None:
        """What was recovered is on disk, whatever the DMA makes of it."""

    def note_flush(self, *, whole: bool) -> None:
        """A recover writes no tape."""

    def commit(self, finished: DataFinished, *, tape_here: bool = False) -> None:
        """The recover has ended well: the new table counts, if there is one. Blocks. Raises OSError."""
        if finished.table_kept and self.descriptors:
            self._tables.take_over(self._key)

    def discard(self, *, orderly: bool) -> None:
        """Let go of the files; what was not committed is gone. Blocks, briefly."""
        for fd in self.descriptors:
            os.close(fd)
        self.descriptors.clear()
        self._tables.let_go(self._key)


class RecoverTables:
    """All tables of a node.

    Args:
        directory: where they lie; made when it is wanted first.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._busy: set[str] = set()
        self._freed = threading.Condition()

    def open(self, place: Place, *, keep: bool) -> TableFiles:
        """The tables of a destination that everything is about to be recovered to. Blocks.

        Args:
            keep: its names are kept; otherwise what is known of it is forgotten, because it will not be true any more.

        Raises:
            Refusal: another recover of everything is under way to the same place, and not about to end; or what is
                known of it cannot be forgotten.
        """
        key = hashlib.sha256(place.volume + b"\0" + place.path).hexdigest()[:32]
        with self._freed:
            # One that was aborted lets go a moment after its DMA has been told.
            if not self._freed.wait_for(lambda: key not in self._busy, WAIT_S):
                text = "another recover of everything is under way to this destination"
                raise Refusal(ErrorCode.UNDEFINED_ERR, text)
            self._busy.add(key)
        descriptors: list[int] = []
        opened = False
        try:
            if keep:
                descriptors = self._open(key)
            if not descriptors:
                self._forget(key)
            opened = True
        except OSError as error:
            text = f"what is known of this destination cannot be forgotten: {error.strerror}"
            raise Refusal(ErrorCode.UNDEFINED_ERR, text) from error
        finally:
            if not opened:
                self._free(key)
        return TableFiles(self, key, descriptors)

    def _path(self, key: str, suffix: str = "") -> str:
        return os.path.join(self._directory, key + _SUFFIX + suffix)

    def _open(self, key: str) -> list[int]:
        """New table and old one; none where the state directory takes no new file: the recover matters more."""
        descriptors: list[int] = []
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptors.append(os.open(self._path(key, _NEW), flags, 0o600))
            descriptors.append(os.open(self._path(key), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC))
        except FileNotFoundError:
            return descriptors
        except OSError:
            for fd in descriptors:
                os.close(fd)
            return []
        return descriptors

    def _forget(self, key: str) -> None:
        try:
            os.unlink(self._path(key))
        except FileNotFoundError:
            return
        sync_directory(self._directory)

    def take_over(self, key: str) -> None:
        """The new table of a destination is whole and on disk: it takes the place of the old one. Raises OSError."""
        os.rename(self._path(key, _NEW), self._path(key))
        sync_directory(os.path.dirname(self._directory))
        sync_directory(self._directory)
        found: list[tuple[int, str]] = []
        for entry in os.scandir(self._directory):
            if entry.name.endswith(_SUFFIX):
                found.append((entry.stat().st_mtime_ns, entry.path))
            elif entry.name.endswith(_NEW) and entry.name.partition(".")[0] not in self._busy:
                os.unlink(entry.path)  # of a recover that a crash has ended
        for _, path in sorted(found)[:-TABLES_MAX]:
            os.unlink(path)

    def let_go(self, key: str) -> None:
        """A recover is over."""
        try:
            os.unlink(self._path(key, _NEW))
        except FileNotFoundError:
            pass  # it was taken over, or there was none
        finally:
            self._free(key)

    def _free(self, key: str) -> None:
        with self._freed:
            self._busy.discard(key)
            self._freed.notify_all()


def whole_destination(names: Sequence[RecoverName]) -> Place | None:
    """Where a recover list takes everything; None = it names parts."""
    return names[0].target if len(names) == 1 and not names[0].original else None


def keeps_names(env: Environment, names: Sequence[RecoverName]) -> bool:
    """Whether a recover list asks for a chain of dumps to be begun or gone on with: EXTRACT=n, or not said.

    Raises:
        Refusal: EXTRACT=n, the whole dump, and a list of parts.
    """
    extract = (env.get(b"EXTRACT") or b"")[:1].lower()
    if extract in {b"n", b"f"} and whole_destination(names) is None:
        text = "EXTRACT=n recovers the whole dump: name everything and nothing else, or say EXTRACT=y"
        raise Refusal(ErrorCode.ILLEGAL_ARGS_ERR, text)
    replaces = env.flag(b"OVERWRITE", default=True) and env.flag(b"RECURSIVE", default=True)
    return replaces and extract not in {b"y", b"t", b"e"}


def writes(env: Environment) -> bool:
    """Whether a recover touches its destination: neither LIST nor NOWRITE."""
    return not (env.flag(b"LIST", default=False) or env.flag(b"NOWRITE", default=False))
