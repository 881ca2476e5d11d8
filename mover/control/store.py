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

DATABASE: Final = "mover.sqlite"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS cartridge (
    library TEXT NOT NULL,
    barcode TEXT NOT NULL,
    element TEXT NOT NULL CHECK (element IN ('slot', 'drive')),
    number INTEGER NOT NULL,
    PRIMARY KEY (library, barcode),
    UNIQUE (library, element, number)
) STRICT;
"""

T = TypeVar("T")
Element = Literal["slot", "drive"]


class StoreError(Exception):
    """The database refuses; one line."""


class Location(NamedTuple):
    """An element of a library: a slot or a drive, counted from 0."""

    element: Element
    number: int


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

    async def cartridges(self, library: str) -> dict[str, Location]:
        """Where each cartridge of a library is, by barcode."""

        def read() -> dict[str, Location]:
            rows = self._database.execute(
                "SELECT barcode, element, number FROM cartridge WHERE library = ?", (library,)
            ).fetchall()
            return {barcode: Location(element, number) for barcode, element, number in rows}

        return await self._run(read)

    async def replace_cartridges(self, library: str, cartridges: dict[str, Location]) -> None:
        """Write a library's whole inventory in one transaction."""

        def write() -> None:
            with self._database:
                self._database.execute("DELETE FROM cartridge WHERE library = ?", (library,))
                self._database.executemany(
                    "INSERT INTO cartridge VALUES (?, ?, ?, ?)",
                    [(library, barcode, where.element, where.number) for barcode, where in cartridges.items()],
                )

        await self._run(write)

    async def put_cartridge(self, library: str, barcode: str, where: Location) -> None:
        """A cartridge is new, or moved."""

        def write() -> None:
            with self._database:
                self._database.execute(
                    "INSERT INTO cartridge VALUES (?, ?, ?, ?) ON CONFLICT (library, barcode) "
                    "DO UPDATE SET element = excluded.element, number = excluded.number",
                    (library, barcode, where.element, where.number),
                )

        await self._run(write)


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
        database = sqlite3.connect(path, check_same_thread=False, timeout=5)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.executescript(_SCHEMA)
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
