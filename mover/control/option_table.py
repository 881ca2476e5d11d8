"""The options of the state database: what operators have changed, as they wrote it."""

import sqlite3
from collections.abc import Collection, Mapping
from typing import Final

TABLE: Final = """
CREATE TABLE option (
    vserver TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (vserver, name)
) STRICT;
"""
Key = tuple[str, str]
"""Vserver, "" = the node, and option."""


def read_options(database: sqlite3.Connection) -> dict[Key, str]:
    """All that was changed."""
    return {(vserver, name): value for vserver, name, value in database.execute("SELECT * FROM option ORDER BY 1, 2")}


def change_options(database: sqlite3.Connection, changed: Mapping[Key, str], reset: Collection[Key]) -> None:
    """Write some and forget others, together."""
    with database:
        database.executemany("DELETE FROM option WHERE vserver = ? AND name = ?", [*changed, *reset])
        database.executemany("INSERT INTO option VALUES (?, ?, ?)", [(*key, value) for key, value in changed.items()])
