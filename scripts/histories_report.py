"""What histories have been lived through so far, and the page that tells."""

import datetime
import fcntl
from pathlib import Path
from typing import Final, Self

import msgspec

WANTED: Final = 20_000
BEGIN, END = "<!-- histories: begin -->", "<!-- histories: end -->"


class Total(msgspec.Struct, frozen=True):
    """Of one way on one file system."""

    histories: int = 0
    backups: int = 0
    entries: int = 0
    """Of the trees that were compared, over all backups."""
    seconds: float = 0.0
    finds: int = 0

    def __add__(self, other: Self) -> Self:
        return msgspec.structs.replace(
            self,
            histories=self.histories + other.histories,
            backups=self.backups + other.backups,
            entries=self.entries + other.entries,
            seconds=round(self.seconds + other.seconds, 1),
            finds=self.finds + other.finds,
        )


class Record(msgspec.Struct, frozen=True):
    """All that is stored."""

    date: str = ""
    machine: dict[str, str] = {}
    ways: dict[str, dict[str, Total]] = {}
    """Way -> file system -> what was done."""

    def plus(self, way: str, kind: str, more: Total, machine: dict[str, str]) -> Self:
        """With one more piece."""
        kinds = dict(self.ways.get(way, {}))
        kinds[kind] = kinds.get(kind, Total()) + more
        ways = dict(sorted({**self.ways, way: dict(sorted(kinds.items()))}.items()))
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        return msgspec.structs.replace(self, date=today, machine=machine, ways=ways)

    def table(self) -> str:
        """All of it as Markdown."""
        rows = [(way, kind, total) for way, kinds in self.ways.items() for kind, total in kinds.items()]
        whole = sum((total for _, _, total in rows), Total())
        lines = ["| way | file system | histories | backups | entries compared | hours | finds |", "| --- " * 7 + "|"]
        lines += [_row(way, kind, total) for way, kind, total in [*rows, ("all", "", whole)]]
        verdict = "reached" if whole.histories >= WANTED else "missed"
        lines += ["", f"As of {self.date}: {whole.histories:,} of {WANTED:,} wanted, {verdict}.", ""]
        return "\n".join([*lines, *(f"- {name}: {value}" for name, value in self.machine.items())])


def _row(way: str, kind: str, total: Total) -> str:
    hours = f"{total.seconds / 3600:.1f}"
    return f"| {way} | {kind} | {total.histories:,} | {total.backups:,} | {total.entries:,} | {hours} | {total.finds} |"


def load(directory: Path) -> Record:
    """What was stored, or nothing yet."""
    path = directory / "chain-tests.json"
    return msgspec.json.decode(path.read_bytes(), type=Record) if path.exists() else Record()


def store(directory: Path, way: str, kind: str, more: Total, machine: dict[str, str]) -> None:
    """Adds a piece to chain-tests.json, and writes the table into chain-tests.md; two runs at once may do so."""
    with (directory / "chain-tests.md").open("r+") as page:
        fcntl.flock(page, fcntl.LOCK_EX)
        record = load(directory).plus(way, kind, more, machine)
        text = msgspec.json.format(msgspec.json.encode(record), indent=2)
        (directory / "chain-tests.json").write_bytes(text + b"\n")
        written = with_table(page.read(), record)
        page.seek(0)
        page.truncate()
        page.write(written)


def with_table(page: str, record: Record) -> str:
    """The page with the record's table between its two markers.

    Raises:
        ValueError: it has no place for it.
    """
    before, found, rest = page.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"no place for the table: {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{record.table()}\n{END}{after}"
