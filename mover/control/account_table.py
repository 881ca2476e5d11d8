"""The users and roles of the state database: rows, without knowing what they mean."""

import sqlite3
from typing import Final, Literal

import msgspec

TABLES: Final = """
CREATE TABLE account (
    name TEXT PRIMARY KEY,
    source TEXT NOT NULL CHECK (source IN ('local', 'system')),
    role TEXT NOT NULL,
    vservers TEXT NOT NULL,
    password_login INTEGER NOT NULL,
    login_hash TEXT NOT NULL,
    sealed BLOB NOT NULL,
    made INTEGER NOT NULL
) STRICT;
CREATE TABLE role (
    name TEXT PRIMARY KEY,
    access TEXT NOT NULL CHECK (access IN ('all', 'readonly', 'none'))
) STRICT;
"""

BOUNDS: Final = """
ALTER TABLE account ADD COLUMN volumes TEXT NOT NULL DEFAULT '*';
ALTER TABLE account ADD COLUMN devices TEXT NOT NULL DEFAULT '*';
"""
"""What each user reaches; those who were there before it reach everything."""

Access = Literal["all", "readonly", "none"]


class AccountRow(msgspec.Struct, frozen=True, kw_only=True):
    """One user.

    Attributes:
        source: local: the login password is kept here; system: it is the host's.
        vservers: those he is bound to.
        password_login: whether he may log in by a password; only then he may by NDMP.
        login_hash: of a local user's login password.
        sealed: the NDMP password; b"" = none was generated.
        made: when, in seconds since 1970.
        volumes, devices: what he reaches of what his LIF gives, by names; "*" = everything.
    """

    name: str
    source: Literal["local", "system"]
    role: str
    vservers: tuple[str, ...] = ()
    password_login: bool = True
    login_hash: str = ""
    sealed: bytes = b""
    made: int = 0
    volumes: tuple[str, ...] = ("*",)
    devices: tuple[str, ...] = ("*",)

    def __repr__(self) -> str:
        return f"AccountRow({self.name!r}, {self.source}, {self.role!r}, {self.vservers!r})"


def read_accounts(database: sqlite3.Connection) -> list[AccountRow]:
    """All users by name."""
    rows = database.execute(
        "SELECT name, source, role, vservers, password_login, login_hash, sealed, made, volumes, devices"
        " FROM account ORDER BY name"
    )
    return [
        AccountRow(
            name=name, source=source, role=role, vservers=_split(vservers), password_login=bool(password_login),
            login_hash=login_hash, sealed=sealed, made=made, volumes=_split(volumes), devices=_split(devices),
        )
        for name, source, role, vservers, password_login, login_hash, sealed, made, volumes, devices in rows
    ]  # fmt: skip


def _split(names: str) -> tuple[str, ...]:
    return tuple(filter(None, names.split(",")))


def write_account(database: sqlite3.Connection, row: AccountRow) -> None:
    """Add a user, or put the row in the place of the one there is."""
    with database:
        database.execute(
            "INSERT OR REPLACE INTO account"
            " (name, source, role, vservers, password_login, login_hash, sealed, made, volumes, devices)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.name, row.source, row.role, ",".join(row.vservers), int(row.password_login), row.login_hash,
                row.sealed, row.made, ",".join(row.volumes), ",".join(row.devices),
            ),
        )  # fmt: skip


def delete_account(database: sqlite3.Connection, name: str) -> None:
    """Forget a user."""
    with database:
        database.execute("DELETE FROM account WHERE name = ?", (name,))


def read_roles(database: sqlite3.Connection) -> dict[str, Access]:
    """The roles that were made: name -> access."""
    return dict(database.execute("SELECT name, access FROM role ORDER BY name").fetchall())


def write_role(database: sqlite3.Connection, name: str, access: Access) -> None:
    """Add a role."""
    with database:
        database.execute("INSERT INTO role VALUES (?, ?)", (name, access))


def delete_role(database: sqlite3.Connection, name: str) -> None:
    """Forget a role."""
    with database:
        database.execute("DELETE FROM role WHERE name = ?", (name,))
