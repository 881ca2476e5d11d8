"""A recover that writes nothing: LIST tells what the dump holds of the names, NOWRITE reads as if to make it all."""

import stat
from bisect import bisect_left

from mover.data.codes import LogType
from mover.data.dump_format import RECORD_BYTES, Header, RecordType
from mover.data.recover_catalogue import read_attributes
from mover.data.recover_plan import BEYOND, Plan
from mover.data.recover_report import RecoverReport
from mover.data.recover_stream import RecordReader, is_map


def list_names(plan: Plan, report: RecoverReport) -> None:
    """A log line for each object of a plan: its inode number and the path that it would get."""
    by_place = sorted(range(len(plan.names) - 1), key=plan.places.__getitem__)
    at = 0
    for target in plan.targets:
        if target.record is not None:
            report.directories += 1
            _tell(report, target.inumber, target.path())
        while at < len(by_place) and plan.places[by_place[at]] == target.index:
            entry = by_place[at]
            report.files += 1
            _tell(report, plan.inumbers[entry], target.path(plan.names[entry]))
            at += 1


def _tell(report: RecoverReport, inumber: int, path: bytes) -> None:
    report.say(LogType.NORMAL, f"{inumber}\t{path.decode('utf-8', 'surrogateescape')}")


class DryRecoverer:
    """Reads what a plan wants and makes nothing; to be used as a FileRecoverer is.

    Attributes:
        remaining: entries of the plan that have not come yet.
        end: the dump's first END header, once it has been read.
    """

    def __init__(self, reader: RecordReader, plan: Plan, report: RecoverReport) -> None:
        self._reader = reader
        self._plan = plan
        self._report = report
        self._done = bytearray(len(plan.names))
        self._at = -1  # the first entry of the object whose records are passing
        self._inumber = 0
        self._left = 0  # bytes of it that have not passed
        self._damaged = False
        self.remaining = len(plan.names) - 1
        self.end: Header | None = None

    def path_at_hand(self) -> bytes:
        """The path of the object at hand; b"" where it is none of the plan."""
        return self._path(self._at) if self._at >= 0 else b""

    def _path(self, entry: int) -> bytes:
        return self._plan.targets[self._plan.places[entry]].path(self._plan.names[entry])

    def run(self) -> None:
        """Read until the dump's END or until everything wanted has passed.

        Raises:
            StreamBroken, StreamRefused: as the reader does; call ``abandon`` then.
        """
        reader = self._reader
        while True:
            skips = reader.skips
            header = reader.header()
            self._damaged |= skips != reader.skips and self._left > 0
            if header.type == RecordType.INODE and not header.is_extension:
                self._finish()
                if not self.remaining:
                    return
                self._begin(header)
            elif header.type == RecordType.END:
                self._finish()
                self.end = header
                return
            if header.type == RecordType.INODE and header.is_extension and header.inumber == self._inumber:
                for problem in read_attributes(reader, header, []):
                    self._lost(problem)
            else:
                self._left -= header.records * RECORD_BYTES if header.inumber == self._inumber else 0
                reader.skip(header.records if is_map(header) else header.data_records)

    def _begin(self, header: Header) -> None:
        inumbers = self._plan.inumbers
        at = first = bisect_left(inumbers, min(header.inumber, BEYOND - 1))
        while inumbers[at] == header.inumber:
            self.remaining -= not self._done[at]
            self._done[at] = 1
            at += 1
        if at > first:
            self._at, self._inumber = first, header.inumber
            self._left = header.inode.size if stat.S_ISREG(header.inode.mode) else 0
            copies = 1 if header.inode.nlink > 1 else at - first  # of an inode with one name each place gets its own
            for _ in range(copies):
                self._report.add_entry(header.inode.mode, header.inode.size)
            self._report.add_links(at - first - copies)

    def _lost(self, what: str) -> None:
        if self._at >= 0:
            target = self._plan.targets[self._plan.places[self._at]]
            self._report.error(self._path(self._at), f"lost: {what}", target.request)

    def _finish(self) -> None:
        if self._damaged:
            self._lost("a part of it in the stream")
        self._at, self._inumber, self._left, self._damaged = -1, 0, 0, False

    def abandon(self) -> None:
        """The stream ended too early."""
        self._damaged |= self._left > 0
        self._finish()

    def missing(self) -> list[int]:
        """Entries of the plan that never came."""
        return [at for at in range(len(self._plan.names) - 1) if not self._done[at]] if self.remaining else []
