"""The DMA's catalogue: a SQLite file with the jobs it ran and the file history of each.

Theory of operation. Names are BLOBs: a file name is bytes and may be anything but slash and NUL. History is kept as
it comes: (parent, name, node) for directory/node history, whole paths for path based history, attributes by node.
Keys begin with the job and follow the order in which a dump sends its history, so that inserts append to their
B-trees instead of seeking in them; one transaction takes a whole batch. Paths are made when somebody asks, by a walk
from the root's node that enters each directory node once: a history with a circle in it ends too.

A job that is running has a lock (:mod:`mover.dma.job_locks`). Whoever opens the file ends those whose DMA is gone: what
is on their cartridges is then needed no more than that of any job that failed.

Numbers of 64 bits without a sign are stored as SQLite's signed ones with the same bits.
The methods block; callers on trio use `trio.to_thread`. Transactions of several threads wait for each other.
"""

import contextlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from mover.dma.errors import CatalogueError
from mover.dma.history_rows import HistoryRows
from mover.dma.job_locks import JobLocks
from mover.dma.results import Entry, Job, LogLine
from mover.ndmp.enums import UNKNOWN_U64, FileType

SCHEMA_VERSION: Final = 2
LOST: Final = "its DMA ended without a word"
"""The message of a job whose process is gone."""
BUSY_TIMEOUT_S: Final = 60.0
"""How long a batch waits for another job's batch in the same file."""

_SCHEMA: Final = """
CREATE TABLE job (
    job INTEGER PRIMARY KEY AUTOINCREMENT, started REAL NOT NULL, ended REAL, status TEXT NOT NULL,
    message TEXT NOT NULL, data_server TEXT NOT NULL, tape_server TEXT NOT NULL, drive TEXT NOT NULL, tape_file INTEGER,
    record_size INTEGER NOT NULL, butype TEXT NOT NULL, filesystem BLOB NOT NULL, protocol_version INTEGER NOT NULL,
    bytes INTEGER NOT NULL, files INTEGER NOT NULL, root INTEGER, keep_until REAL,
    asked_level INTEGER);
CREATE TABLE env (
    job INTEGER NOT NULL, position INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (job, position)) WITHOUT ROWID;
CREATE TABLE log (
    job INTEGER NOT NULL, position INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (job, position)) WITHOUT ROWID;
CREATE TABLE dir (
    job INTEGER NOT NULL, parent INTEGER NOT NULL, name BLOB NOT NULL, node INTEGER NOT NULL,
    PRIMARY KEY (job, parent, name)) WITHOUT ROWID;
CREATE TABLE node (
    job INTEGER NOT NULL, node INTEGER NOT NULL, ftype INTEGER NOT NULL, mode INTEGER NOT NULL, owner INTEGER NOT NULL,
    grp INTEGER NOT NULL, size INTEGER NOT NULL, mtime INTEGER NOT NULL, links INTEGER NOT NULL,
    fh_info INTEGER NOT NULL,
    PRIMARY KEY (job, node)) WITHOUT ROWID;
CREATE TABLE file (
    job INTEGER NOT NULL, path BLOB NOT NULL, node INTEGER NOT NULL, ftype INTEGER NOT NULL, mode INTEGER NOT NULL,
    owner INTEGER NOT NULL, grp INTEGER NOT NULL, size INTEGER NOT NULL, mtime INTEGER NOT NULL, links INTEGER NOT NULL,
    fh_info INTEGER NOT NULL,
    PRIMARY KEY (job, path)) WITHOUT ROWID;
"""
_CARTRIDGES: Final = """
CREATE TABLE cartridge (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, barcode TEXT NOT NULL, labelled REAL NOT NULL, is_full INTEGER NOT NULL,
    gone REAL) WITHOUT ROWID;
CREATE TABLE segment (
    job INTEGER NOT NULL, position INTEGER NOT NULL, cartridge TEXT NOT NULL, tape_file INTEGER NOT NULL,
    offset INTEGER NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (job, position)) WITHOUT ROWID;
CREATE INDEX segment_of_cartridge ON segment (cartridge);
"""
# What makes a file of the format before it into one of each format.
_MIGRATIONS: Final = {
    2: "ALTER TABLE job ADD COLUMN keep_until REAL; ALTER TABLE job ADD COLUMN asked_level INTEGER;" + _CARTRIDGES,
}
_JOB_COLUMNS: Final = (
    "job, started, ended, status, message, data_server, tape_server, drive, tape_file, record_size, butype, "
    "filesystem, protocol_version, bytes, files, "
    "keep_until, "
    "(SELECT group_concat(name, ' ') FROM (SELECT name FROM segment JOIN cartridge ON id = cartridge "
    "WHERE segment.job = job.job ORDER BY position)), "
    "(SELECT value FROM env WHERE env.job = job.job AND name = CAST('LEVEL' AS BLOB) ORDER BY position DESC LIMIT 1)"
)
_ATTRIBUTES: Final = "ftype, mode, owner, grp, size, mtime, links, fh_info"


class Catalogue:
    """The catalogue in one file; made, with its directory, when it is not there.

    Raises:
        CatalogueError: from the constructor and every method.
    """

    def __init__(self, path: Path | None, *, create: bool = True) -> None:
        """Open the file; None: a temporary one that goes with the object."""
        self._where = str(path) if path else "the temporary catalogue"
        self._turn = threading.Lock()
        self._locks = JobLocks(path) if path is not None else None
        with self._errors():
            if path is not None:
                if not create and not path.exists():
                    raise CatalogueError(f"no catalogue at {path}")
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # File names are nobody else's business: the file is made private before SQLite writes to it.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(
                path if path is not None else "",
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
        try:
            self._prepare()
            self._end_lost_jobs()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        with self._errors():
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            with self.transaction():
                (version,) = self._connection.execute("PRAGMA user_version").fetchone()
                if not 0 <= version <= SCHEMA_VERSION:
                    raise CatalogueError(f"{self._where} has format {version}, this program knows {SCHEMA_VERSION}")
                if version == 0:
                    steps = _SCHEMA + _CARTRIDGES
                else:
                    steps = "".join(_MIGRATIONS[each] for each in range(version + 1, SCHEMA_VERSION + 1))
                if version != SCHEMA_VERSION:
                    for statement in steps.split(";"):
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _end_lost_jobs(self) -> None:
        if self._locks is None:
            return
        with self._errors():
            rows = self._connection.execute("SELECT job FROM job WHERE status = 'running'").fetchall()
            lost = [job for (job,) in rows if self._locks.is_lost(job)]
        if not lost:
            return
        with self.transaction() as connection:
            connection.executemany(
                "UPDATE job SET ended = ?, status = 'failed', message = ? WHERE job = ? AND status = 'running'",
                [(time.time(), LOST, job) for job in lost],
            )
        with self._errors():
            for job in lost:
                self._locks.forget(job)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        if self._locks is not None:
            self._locks.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise CatalogueError(f"catalogue {self._where}: {error}") from error
        except OSError as error:
            raise CatalogueError(f"catalogue {self._where}: {error.strerror}") from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction for the length of a block."""
        with self._turn, self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    # ---- jobs

    def begin_job(
        self,
        *,
        data_server: str,
        tape_server: str,
        drive: str,
        record_size: int,
        butype: str,
        filesystem: bytes,
        protocol_version: int,
        keep_until: float | None = None,
        level: int = 0,
    ) -> int:
        """Note a backup that begins now; its number.

        Args:
            keep_until: seconds since 1970 from when on its cartridges may be written anew; None = never.
            level: that was asked for.
        """
        with self.transaction():
            cursor = self._connection.execute(
                "INSERT INTO job (started, status, message, data_server, tape_server, drive, record_size, butype, "
                "filesystem, protocol_version, keep_until, asked_level, bytes, files) "
                "VALUES (?, 'running', '', ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)",
                (
                    time.time(),
                    data_server,
                    tape_server,
                    drive,
                    record_size,
                    butype,
                    filesystem,
                    protocol_version,
                    keep_until,
                    level,
                ),
            )
            job = cursor.lastrowid
            assert job is not None
            if self._locks is not None:
                self._locks.hold(job)  # before anybody else can see the job
        return job

    def end_job(
        self,
        job: int,
        status: str,
        message: str,
        *,
        tape_file: int | None,
        bytes_processed: int,
        env: Iterable[tuple[bytes, bytes]],
        log: Iterable[LogLine],
    ) -> None:
        """Note how a job ended, with its environment and log."""
        with self.transaction():
            self._connection.execute(
                "UPDATE job SET ended = ?, status = ?, message = ?, tape_file = ?, bytes = ? WHERE job = ?",
                (time.time(), status, message, tape_file, signed(bytes_processed), job),
            )
            self._connection.executemany(
                "INSERT INTO env VALUES (?, ?, ?, ?)",
                [(job, position, name, value) for position, (name, value) in enumerate(env)],
            )
            self._connection.executemany(
                "INSERT INTO log VALUES (?, ?, ?, ?)",
                [(job, position, line.kind, line.text) for position, line in enumerate(log)],
            )
        if self._locks is not None:
            with self._errors():
                self._locks.end(job)

    def jobs(self) -> list[Job]:
        """Every job, oldest first."""
        with self._errors():
            return [
                _job(row)
                for row in self._connection.execute(f"SELECT {_JOB_COLUMNS} FROM job ORDER BY job")  # noqa: S608 - constants
            ]

    def job(self, job: int | None) -> Job:
        """A job by its number; None: the newest that succeeded."""
        with self._errors():
            which = "status = 'successful'" if job is None else "job = :job"
            row = self._connection.execute(
                f"SELECT {_JOB_COLUMNS} FROM job WHERE {which} ORDER BY job DESC LIMIT 1",  # noqa: S608 - constants
                {"job": job},
            ).fetchone()
        if row is None:
            raise CatalogueError(
                f"no successful job in {self._where}" if job is None else f"no job {job} in {self._where}"
            )
        return _job(row)

    def earlier_bytes(self, data_server: str, filesystem: bytes, level: int) -> int | None:
        """Size of the newest good backup of the same kind, for an estimate; None without one."""
        with self._errors():
            row = self._connection.execute(
                "SELECT bytes FROM job WHERE status = 'successful' AND data_server = ? AND filesystem = ? AND EXISTS "
                "(SELECT 1 FROM env WHERE env.job = job.job AND name = ? AND value = ?) ORDER BY job DESC LIMIT 1",
                (data_server, filesystem, b"LEVEL", b"%d" % level),
            ).fetchone()
        return _unsigned(row[0]) if row else None

    def env(self, job: int) -> list[tuple[bytes, bytes]]:
        """The environment that a job's GET_ENV returned."""
        with self._errors():
            return self._connection.execute(
                "SELECT name, value FROM env WHERE job = ? ORDER BY position", (job,)
            ).fetchall()

    def log(self, job: int) -> list[LogLine]:
        """The log of a job."""
        with self._errors():
            rows = self._connection.execute("SELECT kind, text FROM log WHERE job = ? ORDER BY position", (job,))
            return [LogLine(kind, text) for kind, text in rows]

    # ---- history

    def add_history(self, job: int, rows: HistoryRows) -> None:
        """Store a batch of history in one transaction."""
        with self.transaction():
            execute = self._connection.executemany
            execute(f"INSERT OR REPLACE INTO dir VALUES ({job}, ?, ?, ?)", rows.dirs)  # noqa: S608 - job is an int
            execute(f"INSERT OR REPLACE INTO node VALUES ({job}, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows.nodes)  # noqa: S608 - job is an int
            execute(f"INSERT OR REPLACE INTO file VALUES ({job}, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows.files)  # noqa: S608 - job is an int
            self._connection.execute(
                "UPDATE job SET files = files + ?, root = coalesce(root, ?) WHERE job = ?",
                (rows.names, rows.root, job),
            )

    def entries(self, job: int) -> Iterator[Entry]:
        """Every name of a job's history: path based ones in order of path, else directories before their contents."""
        with self._errors():
            found = False
            rows = self._connection.execute(
                f"SELECT path, node, {_ATTRIBUTES} FROM file WHERE job = ? ORDER BY path",  # noqa: S608 - constants
                (job,),
            )
            for path, node, *attributes in rows:
                found = True
                yield _entry(path, node, attributes)
            if not found and (root := self.find(job, b"/")) is not None:
                yield from self._walk(job, root)

    def tree(self, job: int, path: bytes) -> Iterator[Entry]:
        """One path (with or without a leading slash) and every name below it, as ``entries`` has them."""
        top = self.find(job, path)
        if top is None:
            return
        with self._errors():
            below = top.path.rstrip(b"/") + b"/"
            rows = self._connection.execute(
                f"SELECT path, node, {_ATTRIBUTES} FROM file WHERE job = ? AND path > ? AND path < ? ORDER BY path",  # noqa: S608 - constants
                (job, below, below[:-1] + b"0"),  # the character behind the slash
            )
            first = rows.fetchone()
            if first is None and top.ftype in {FileType.DIR, None} and top.node is not None:
                yield from self._walk(job, top)
                return
            yield top
            while first is not None:
                yield _entry(first[0], first[1], first[2:])
                first = rows.fetchone()

    def _walk(self, job: int, top: Entry) -> Iterator[Entry]:
        """A directory and every name below it, by node."""
        assert top.node is not None
        root = signed(top.node)
        yield top
        seen = {root}
        pending = [(top.path.rstrip(b"/"), root)]
        while pending:
            above, parent = pending.pop()
            below = []
            children = self._connection.execute(
                f"SELECT name, dir.node, {_ATTRIBUTES} FROM dir LEFT JOIN node USING (job, node) "  # noqa: S608 - constants
                "WHERE job = ? AND parent = ? ORDER BY name",
                (job, parent),
            )
            for name, node, *attributes in children:
                path = above + b"/" + name
                yield _entry(path, node, attributes)
                # Without attributes (an incremental's unsaved name) it may be a directory all the same.
                if attributes[0] in {FileType.DIR, None} and node not in seen:
                    seen.add(node)
                    below.append((path, node))
            pending += reversed(below)

    def _root(self, job: int) -> int | None:
        (root,) = self._connection.execute("SELECT root FROM job WHERE job = ?", (job,)).fetchone() or (None,)
        if root is None:
            # A server that does not begin with "." has at least a directory that is nobody's entry.
            row = self._connection.execute(
                "SELECT parent FROM dir WHERE job = ?1 AND parent NOT IN (SELECT node FROM dir WHERE job = ?1) LIMIT 1",
                (job,),
            ).fetchone()
            root = row[0] if row else None
        return root

    def find(self, job: int, path: bytes) -> Entry | None:
        """The entry of one path (with or without a leading slash), or None."""
        parts = [part for part in path.split(b"/") if part not in {b"", b"."}]
        whole = b"/" + b"/".join(parts)
        with self._errors():
            row = self._connection.execute(
                f"SELECT node, {_ATTRIBUTES} FROM file WHERE job = ? AND path = ?",  # noqa: S608 - constants
                (job, whole),
            ).fetchone()
            if row is not None:
                return _entry(whole, row[0], row[1:])
            node = self._root(job)
            for part in parts:
                if node is None:
                    return None
                row = self._connection.execute(
                    "SELECT node FROM dir WHERE job = ? AND parent = ? AND name = ?", (job, node, part)
                ).fetchone()
                node = row[0] if row else None
            if node is None:
                return None
            attributes = self._connection.execute(
                f"SELECT {_ATTRIBUTES} FROM node WHERE job = ? AND node = ?",  # noqa: S608 - constants
                (job, node),
            ).fetchone()
            return _entry(whole, node, attributes or ())


def signed(value: int) -> int:
    """A number of 64 bits without a sign as SQLite stores it."""
    return value if value < 1 << 63 else value - (1 << 64)


def _unsigned(value: int) -> int:
    return value & (1 << 64) - 1


def _job(row: Sequence[object]) -> Job:
    values = list(row)
    filesystem = values[11]
    assert isinstance(filesystem, bytes)
    values[11] = os.fsdecode(filesystem)
    values[-1] = _level(values[-1])
    values[-2] = str(values[-2] or "").split()
    return Job(*values)  # type: ignore[arg-type] # the columns of our own schema


def _level(value: object) -> int | None:
    """LEVEL as a server returned it, which may be anything."""
    return int(value) if isinstance(value, bytes) and re.fullmatch(rb"[0-9]{1,9}", value) else None


def _entry(path: bytes, node: int, attributes: Sequence[int | None]) -> Entry:
    if not attributes or attributes[0] is None:
        return Entry(path, _unsigned(node))
    ftype, mode, owner, group, size, mtime, links, fh_info = (value or 0 for value in attributes)
    try:
        kind = FileType(ftype)
    except ValueError:
        kind = FileType.OTHER
    where = _unsigned(fh_info)
    return Entry(
        path,
        _unsigned(node),
        kind,
        mode,
        owner,
        group,
        _unsigned(size),
        mtime,
        links,
        None if where == UNKNOWN_U64 else where,
    )
