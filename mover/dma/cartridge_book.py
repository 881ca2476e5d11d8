"""What the catalogue knows of cartridges: their labels, which part of which backup lies where, which are still needed.

A cartridge is known by the id of its label; one that is labelled anew is another one, and the old one is gone. A backup
lies in segments: one tape file of one cartridge each, with its place in the stream. Like the catalogue's, these methods
block.
"""

import os
import time

import msgspec

from mover.dma.catalogue import Catalogue
from mover.dma.chain import chain_below
from mover.dma.results import CartridgeInfo
from mover.media import Label


class Cartridge(msgspec.Struct, frozen=True):
    """A cartridge with a label of ours.

    Attributes:
        id, name: of the label.
        barcode: what the changer called it when it was last seen; "" without one.
        labelled: seconds since 1970.
        full: a backup has met its end.
        gone: when it was labelled anew, seconds since 1970; None = it was not.
    """

    id: str
    name: str
    barcode: str
    labelled: float
    full: bool
    gone: float | None


class Segment(msgspec.Struct, frozen=True):
    """A part of a backup stream; offset and bytes are those of the mover's window."""

    cartridge: Cartridge
    tape_file: int
    offset: int
    bytes: int


_COLUMNS = "id, name, barcode, labelled, is_full, gone"


def _cartridge(row: tuple[str, str, str, float, int, float | None]) -> Cartridge:
    return Cartridge(row[0], row[1], row[2], row[3], bool(row[4]), row[5])


class CartridgeBook:
    """The cartridges of one catalogue. Every method raises CatalogueError."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def find(self, label_id: str) -> Cartridge | None:
        """The cartridge with this label, if this catalogue knows it."""
        with self.catalogue.transaction() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM cartridge WHERE id = ?", (label_id,)).fetchone()  # noqa: S608 - constants
        return _cartridge(row) if row else None

    def cartridges(self) -> list[Cartridge]:
        """Those that are not gone, oldest label first."""
        with self.catalogue.transaction() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM cartridge WHERE gone IS NULL ORDER BY labelled, name")  # noqa: S608 - constants
            return [_cartridge(row) for row in rows]

    def labelled(self, label: Label, barcode: str, *, replaces: str | None = None) -> Cartridge:
        """A label was written.

        Args:
            replaces: id of the label that was on the cartridge before.
        """
        new = Cartridge(label.id, label.name, barcode, label.written, full=False, gone=None)
        with self.catalogue.transaction() as connection:
            connection.execute("UPDATE cartridge SET gone = ? WHERE id = ?", (time.time(), replaces))
            connection.execute(
                "INSERT INTO cartridge VALUES (?, ?, ?, ?, 0, NULL)", (new.id, new.name, barcode, new.labelled)
            )
        return new

    def seen(self, cartridge: Cartridge, barcode: str) -> None:
        """The changer calls it by this barcode now."""
        with self.catalogue.transaction() as connection:
            connection.execute("UPDATE cartridge SET barcode = ? WHERE id = ?", (barcode, cartridge.id))

    def filled(self, cartridge: Cartridge) -> None:
        """Nothing more fits on it."""
        with self.catalogue.transaction() as connection:
            connection.execute("UPDATE cartridge SET is_full = 1 WHERE id = ?", (cartridge.id,))

    def written_over(self, cartridge: Cartridge) -> None:
        """It has no label any more."""
        with self.catalogue.transaction() as connection:
            connection.execute("UPDATE cartridge SET gone = ? WHERE id = ?", (time.time(), cartridge.id))

    # ---- segments

    def begin_segment(self, job: int, position: int, cartridge: Cartridge, tape_file: int, offset: int) -> None:
        """A backup goes on to this tape file; noted before the first byte of it is written."""
        with self.catalogue.transaction() as connection:
            connection.execute(
                "INSERT INTO segment VALUES (?, ?, ?, ?, ?, 0)", (job, position, cartridge.id, tape_file, offset)
            )

    def end_segment(self, job: int, position: int, count: int) -> None:
        """So many bytes of the stream are in it; none: it is no part of the backup."""
        with self.catalogue.transaction() as connection:
            where = (job, position)
            if count:
                connection.execute("UPDATE segment SET bytes = ? WHERE job = ? AND position = ?", (count, *where))
            else:
                connection.execute("DELETE FROM segment WHERE job = ? AND position = ?", where)

    def segments(self, job: int) -> list[Segment]:
        """Where a backup lies, in order; none where it was written without labels."""
        with self.catalogue.transaction() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS}, tape_file, offset, bytes FROM segment JOIN cartridge ON id = cartridge "  # noqa: S608 - constants
                "WHERE job = ? ORDER BY position",
                (job,),
            )
            return [Segment(_cartridge(row[:6]), *row[6:]) for row in rows]

    def last_tape_file(self, cartridge: Cartridge, *, begun: bool = False) -> int:
        """The last tape file of a cartridge that has a part of a backup; 0, the label, without any.

        Args:
            begun: or in which a backup was begun that may have come to nothing.
        """
        least = 0 if begun else 1
        with self.catalogue.transaction() as connection:
            (last,) = connection.execute(
                "SELECT coalesce(max(tape_file), 0) FROM segment WHERE cartridge = ? AND bytes >= ?",
                (cartridge.id, least),
            ).fetchone()
        return int(last)

    # ---- what is needed

    def needed(self, now: float) -> set[str]:
        """Ids of the cartridges with a backup that is to be kept, is running, or on which such a one builds.

        What one that is running builds on is not known yet: any of its directory.
        """
        jobs = self.catalogue.jobs()
        with self.catalogue.transaction() as connection:
            rising = {
                tuple(row)
                for row in connection.execute(
                    "SELECT data_server, butype, filesystem FROM job WHERE status = 'running' AND asked_level > 0"
                )
            }
        kept = {
            job.job
            for job in jobs
            if job.status == "running"
            or (job.status == "successful" and (job.keep_until is None or job.keep_until > now))
        }
        for job in jobs:
            if job.status == "successful" and (job.data_server, job.butype, os.fsencode(job.filesystem)) in rising:
                kept.add(job.job)
            if job.job in kept and job.level:
                kept.update(each.job for each in chain_below(self.catalogue, job) or [])
        with self.catalogue.transaction() as connection:
            rows = connection.execute("SELECT job, cartridge FROM segment")
            return {cartridge for job, cartridge in rows if job in kept}

    def known(self, now: float) -> list[CartridgeInfo]:
        """Those that are not gone, for people."""
        needed = self.needed(now)
        found = []
        for each in self.cartridges():
            with self.catalogue.transaction() as connection:
                rows = connection.execute(
                    "SELECT DISTINCT job FROM segment JOIN job USING (job) "
                    "WHERE cartridge = ? AND status = 'successful' ORDER BY job",
                    (each.id,),
                )
                jobs = [job for (job,) in rows]
            found.append(CartridgeInfo(each.name, each.barcode, each.labelled, each.full, jobs, each.id in needed))
        return found
