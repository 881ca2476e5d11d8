"""State that outlives the process: an embedded SQLite database in the state directory, written by control only.

Every call runs off the trio thread, one at a time. In a cluster the same state would live elsewhere behind this
interface.
"""

import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Literal, NamedTuple, TypeVar

import trio

from mover.config.state_files import DATABASE
from mover.control import account_table, option_table

SCHEMA_VERSION: Final = 5
# home: the slot it was in last. imported: an operator put it into the mail slot.
_CARTRIDGE: Final = """
CREATE TABLE cartridge (
    library TEXT NOT NULL,
    barcode TEXT NOT NULL,
    element TEXT NOT NULL CHECK (element IN ('slot', 'drive', 'mail')),
    number INTEGER NOT NULL,
    home INTEGER,
    imported INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (library, barcode),
    UNIQUE (library, element, number)
) STRICT;
"""
# Where a cartridge is about to be while its file changes directories: what a crash interrupts is finished at the start.
_INTENT: Final = """
CREATE TABLE intent (
    library TEXT NOT NULL,
    barcode TEXT NOT NULL,
    element TEXT NOT NULL,
    number INTEGER NOT NULL,
    home INTEGER,
    imported INTEGER NOT NULL,
    PRIMARY KEY (library, barcode)
) STRICT;
"""
_FROM_1: Final = """
ALTER TABLE cartridge RENAME TO cartridge_1;
{cartridge}
INSERT INTO cartridge (library, barcode, element, number) SELECT library, barcode, element, number FROM cartridge_1;
DROP TABLE cartridge_1;
"""

T = TypeVar("T")
Element = Literal["slot", "drive", "mail"]


class StoreError(Exception):
    """The database refuses; one line."""


class Location(NamedTuple):
    """An element of a library: a slot, a drive or a place of the mail slot (import/export), counted from 0."""

    element: Element
    number: int

    def __str__(self) -> str:
        return f"{self.element}{self.number}"


class Place(NamedTuple):
    """Where a cartridge is.

    Attributes:
        home: the slot it was in last; None = it has not been in one.
        imported: an operator put it there, not the robot.
    """

    where: Location
    home: int | None = None
    imported: bool = False


Places = dict[str, Place]
"""By barcode."""


class Store:
    """The database; made by :func:`open_store`. Every call raises StoreError where the database refuses."""

    def __init__(self, database: sqlite3.Connection, path: str) -> None:
        self._database = database
        self._path = path
        self._limiter = trio.CapacityLimiter(1)

    async def _run(self, work: Callable[[], T]) -> T:
        # Not abandoned on cancellation: a task that is cancelled still knows that its write is done or not begun.
        try:
            return await trio.to_thread.run_sync(work, limiter=self._limiter)
        except sqlite3.Error as error:
            raise StoreError(f"the state database {self._path}: {error}") from error

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something with the database that is not the inventory's."""
        return await self._run(lambda: work(self._database))

    async def cartridges(self, library: str) -> Places:
        """Where each cartridge of a library is."""
        return await self._read("SELECT * FROM cartridge WHERE library = ?", library)

    async def intended(self, library: str) -> Places:
        """Where the cartridges go whose move was begun and not recorded."""
        return await self._read("SELECT * FROM intent WHERE library = ?", library)

    async def _read(self, query: str, library: str) -> Places:
        def read() -> Places:
            rows = self._database.execute(query, (library,)).fetchall()
            return {
                barcode: Place(Location(element, number), home, bool(imported))
                for _, barcode, element, number, home, imported in rows
            }

        return await self._run(read)

    async def replace_cartridges(self, library: str, places: Places) -> None:
        """Write a library's whole inventory in one transaction; no move is under way any more."""

        def write() -> None:
            with self._database:
                self._database.execute("DELETE FROM cartridge WHERE library = ?", (library,))
                self._database.execute("DELETE FROM intent WHERE library = ?", (library,))
                self._insert("cartridge", library, places)

        await self._run(write)

    async def intend(self, library: str, places: Places) -> None:
        """Cartridges are about to be moved; {} = none is any more."""

        def write() -> None:
            with self._database:
                self._database.execute("DELETE FROM intent WHERE library = ?", (library,))
                self._insert("intent", library, places)

        await self._run(write)

    async def put_cartridges(self, library: str, places: Places) -> None:
        """Cartridges are new, or have moved: recorded together, and no longer intended."""

        def write() -> None:
            with self._database:
                # First all go, or two that change places would meet in one.
                self._database.executemany(
                    "DELETE FROM cartridge WHERE library = ? AND barcode = ?",
                    [(library, barcode) for barcode in places],
                )
                self._insert("cartridge", library, places)
                self._database.execute("DELETE FROM intent WHERE library = ?", (library,))

        await self._run(write)

    def _insert(self, table: Literal["cartridge", "intent"], library: str, places: Places) -> None:
        self._database.executemany(
            f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608 - one of our own two names
            [
                (library, barcode, place.where.element, place.where.number, place.home, int(place.imported))
                for barcode, place in places.items()
            ],
        )


def _make_tables(database: sqlite3.Connection) -> None:
    """Make the tables, or bring those of an earlier version up to date. Raises sqlite3.Error."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise sqlite3.DatabaseError(f"written by a later version of mover (tables {version}, known {SCHEMA_VERSION})")
    if version < 2:
        (old,) = database.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'cartridge'").fetchone()
        cartridge = _FROM_1.format(cartridge=_CARTRIDGE) if old else _CARTRIDGE
        database.executescript(f"BEGIN; {cartridge} {_INTENT} PRAGMA user_version = 2; COMMIT;")
    if version < 3:
        database.executescript(f"BEGIN; {account_table.TABLES} PRAGMA user_version = 3; COMMIT;")
    if version < 4:
        database.executescript(f"BEGIN; {option_table.TABLE} PRAGMA user_version = 4; COMMIT;")
    if version < 5:
        database.executescript(f"BEGIN; {account_table.BOUNDS} PRAGMA user_version = 5; COMMIT;")


@asynccontextmanager
async def open_store(directory: str) -> AsyncIterator[Store]:
    """The database in the state directory, which is made when it is missing.

    Raises:
        OSError: the directory cannot be made.
        sqlite3.Error: the database cannot be opened or is none of ours.
    """

    path = os.path.join(directory, DATABASE)

    def connect() -> sqlite3.Connection:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        # Hashes of passwords are in it; what SQLite lays beside it gets the same mode.
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        os.chmod(path, 0o600)
        database = sqlite3.connect(path, check_same_thread=False, timeout=5)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            _make_tables(database)
        except BaseException:
            database.close()
            raise
        return database

    database = await trio.to_thread.run_sync(connect)
    try:
        yield Store(database, path)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(database.close)
