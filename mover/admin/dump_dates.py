"""What incremental backups are based on, at the admin socket."""

from mover.admin.base import Message, Row


class DumpDatesList(Message, frozen=True):
    """What incremental backups are based on. Reply: DumpDatesReply or Failed."""


class DumpDatesDelete(Message, frozen=True):
    """Forget dates of a directory, as the list names it; None = whatever the others say. Reply: Done or Failed."""

    filesystem: str
    butype: str | None = None
    level: int | None = None
    dump_date: str | None = None


class DumpDatesExport(Message, frozen=True):
    """Write all dates and tables to a new file on the server's machine. Reply: Done with the directories, or Failed."""

    path: str


class DumpDatesImport(Message, frozen=True):
    """Take dates and tables from such a file. Reply: Done, with the directories, or Failed."""

    path: str


class DumpDateStatus(Row, frozen=True, kw_only=True):
    """A backup that others can be based on.

    Attributes:
        level: that it was asked for; full: it turned out a full one.
        date: seconds since 1970.
        dump_date: the token, a number of 64 bits, that names it; "" = it is found by its level.
        table_bytes: of its inode table.
    """

    butype: str
    filesystem: str
    level: int
    full: bool
    date: int
    dump_date: str = ""
    table_bytes: int = 0


class DumpDatesReply(Message, frozen=True):
    """The dates, the oldest first."""

    dump_dates: list[DumpDateStatus]


Request = DumpDatesList | DumpDatesDelete | DumpDatesExport | DumpDatesImport
