"""Recover by direct access: jumps to each object by its fh_info and believes nothing that it does not find there.

fh_info is the offset of an object's header in the stream, and comes back from strangers. An entry is recovered only if
a good header of an inode lies there, of this dump and with the number that the list names; otherwise it fails, alone.
Entries go by ascending offset; near ones share a piece. A directory gets its attributes here, its contents only by
:mod:`mover.data.direct_trees`. Parents that do not exist are made, without attributes.

Source: backup-env.md section 5, states.md 4.7.
"""

from itertools import groupby
from typing import Final

from mover.data.beneath import components
from mover.data.codes import RecoveryStatus
from mover.data.dump_format import (
    HEADER_RECORDS_MAX,
    HEADER_SPAN_BYTES,
    RECORD_BYTES,
    FormatError,
    Header,
    RecordType,
    parse_header,
)
from mover.data.dump_identity import DUMP_ID, wrong_dump
from mover.data.object_maker import ObjectMaker, Unfinished
from mover.data.pieces import FIRST_BYTES, Pieces, reaches
from mover.data.recover_catalogue import S_IFDIR, S_IFMT, DirectoryRecord, read_attributes
from mover.data.recover_plan import Plan, Target
from mover.data.recover_report import RecoverReport, Request
from mover.data.recover_stream import ALL_ONES, RecordReader
from mover.data.stream_blocks import StreamBroken, StreamRefused
from mover.data.tree_writer import TreeWriter
from mover.workers.data_messages import Pairs

_S_IFLNK: Final = 0o120000
_S_IFREG: Final = 0o100000


class _NotThere(Exception):  # noqa: N818 - a finding about one entry
    """What the list says lies at an offset does not; the text says what does."""


class DirectObjects:
    """Makes single objects out of pieces of a dump.

    Args:
        reader: of ``pieces``.
        env: of the operation; it may name the one dump that will do.
        recursive: directories come with their contents, so they are left to the caller.

    Attributes:
        plan: what was made.
        trees: requests for directories, with all they hold.
    """

    def __init__(
        self,
        pieces: Pieces,
        reader: RecordReader,
        writer: TreeWriter,
        report: RecoverReport,
        env: Pairs,
        *,
        recursive: bool,
    ) -> None:
        self.plan = Plan([])
        self.trees: list[Request] = []
        self._pieces = pieces
        self._reader = reader
        self._writer = writer
        self._report = report
        self._env = env
        self._recursive = recursive
        self._objects = ObjectMaker(reader, self.plan, writer, report)
        self._dump: Header | None = None  # a header that is known to be of this dump
        self._checked = False  # whether the beginning of the stream was looked at
        self._holders: dict[tuple[bytes, ...], Target] = {}  # of objects, by volume and components
        self._ordered: list[Request] = []
        self._reached = 0  # of these so many are through

    def path_at_hand(self) -> bytes:
        """The path made last; b"" before the first."""
        plan = self.plan
        return plan.targets[plan.places[-1]].path(plan.names[-1]) if plan.names else b""

    def run(self, requests: list[Request]) -> None:
        """Recover the requests, which all have a position and a node.

        Raises:
            StreamBroken: no more of the stream comes; what is left then fails by ``abandon``.
            StreamRefused: this is not the dump that is wanted.
            DestinationLost: writing makes no sense any more.
        """
        self._ordered = sorted(requests, key=_place)
        if not dict(self._env).get(DUMP_ID):
            self._check_beginning()
        groups = [(place, list(group)) for place, group in groupby(self._ordered, _place)]
        ends = reaches([offset for (offset, _), _ in groups], RECORD_BYTES)
        for ((offset, node), group), reach in zip(groups, ends, strict=True):
            try:
                header = self._land(offset, node, reach)
            except _NotThere as wrong:
                for request in group:
                    text = f"not found by direct access: {wrong}"
                    self._report.error(request.name.original, text, request)
            else:
                self._make(header, group)
            self._reached += len(group)
        if self._dump is None and not self._checked and groups:
            self._check_beginning()  # nothing was where it should be: the tape file may hold another dump

    def directories(self) -> list[Target]:
        """What was made, parents before what is in them: for ``TreeWriter.finish_directories``."""
        return sorted(self.plan.targets, key=lambda target: len(target.parts))

    def abandon(self) -> None:
        """The stream has ended: what was not reached has failed."""
        for request in self._ordered[self._reached :]:
            self._report.error(request.name.original, "not reached", request)

    # --- where things lie ----------------------------------------------------------------------------------

    def _check_beginning(self) -> None:
        """Read the header that the dump begins with, where no label tells which dump is wanted, or all were wrong."""
        self._checked = True
        self._pieces.go_to(self._reader, 0)
        self._pieces.expect(RECORD_BYTES)
        first = self._reader.first_header()
        if wrong := wrong_dump(first, self._env):
            raise StreamRefused(wrong)
        self._dump = first

    def _land(self, offset: int, node: int, reach: int) -> Header:
        """The header of the object that is wanted. Raises _NotThere."""
        pieces, reader = self._pieces, self._reader
        if offset % RECORD_BYTES:
            raise _NotThere(f"fh_info {offset} is not the beginning of a record")
        if offset + RECORD_BYTES > (ALL_ONES if pieces.end is None else pieces.end):
            raise _NotThere(f"fh_info {offset} lies behind the end of the dump")
        pieces.go_to(reader, offset)
        pieces.expect(reach)
        pieces.guess(reach + FIRST_BYTES)
        with reader.take(1) as record:
            try:
                header = parse_header(record)
            except FormatError as error:
                raise _NotThere(f"at fh_info {offset} lies {error}") from error
        if wrong := self._not_ours(header):
            raise _NotThere(f"at fh_info {offset} lies {wrong}")
        if header.type != RecordType.INODE or header.is_extension:
            raise _NotThere(f"no object begins at fh_info {offset}")
        if header.inumber != node:
            raise _NotThere(f"inode {header.inumber} begins at fh_info {offset}, and not inode {node}")
        if self._dump is None:
            self._dump = header
            reader.little_endian, reader.date, reader.label = _identity(header)
        return header

    def _not_ours(self, header: Header) -> str:
        """Why a header with a good sum is none of this dump's; "" = it is one."""
        if header.type in {RecordType.INODE, RecordType.ADDR} and header.records > HEADER_RECORDS_MAX:
            return f"a header that describes {header.records} records"
        if self._dump is None:
            return wrong_dump(header, self._env)
        return "" if _identity(header) == _identity(self._dump) else "a header of another dump"

    # --- objects -------------------------------------------------------------------------------------------

    def _make(self, header: Header, group: list[Request]) -> None:
        self._expect_object(header)
        if header.inode.mode & S_IFMT == S_IFDIR:
            if self._recursive:
                self.trees += group
            else:
                self._make_directory(header, group)
            return
        first = len(self.plan.names)
        for request in group:
            parts = components(request.name.target.path)
            if not parts:
                self._report.error(request.name.original, "would have to take the place of its volume", request)
                request.status = RecoveryStatus.PATH_EXISTS
                continue
            self._add_entry(header.inumber, request, parts)
        if len(self.plan.names) > first:
            self._make_object(header, range(first, len(self.plan.names)))

    def _make_object(self, header: Header, entries: range) -> None:
        current = self._objects.begin(header, entries)
        if current is None:
            return  # reported; the next jump leaves its records behind
        try:
            if header.inode.mode & S_IFMT != _S_IFLNK:
                self._objects.add_data(current, header)
            while (following := self._following(current)) is not None:
                if following.type == RecordType.ADDR:
                    self._objects.add_data(current, following)
                else:
                    self._add_attributes(current, following)
        except StreamBroken:
            current.damaged = current.damaged or not current.is_complete
            self._objects.finish(current)
            raise
        self._objects.finish(current)

    def _make_directory(self, header: Header, group: list[Request]) -> None:
        """The directory alone: made now, its attributes set at the end."""
        record = DirectoryRecord(header.inode, 0)
        for request in group:
            self._add_target(request, components(request.name.target.path), header.inumber, record)
        self._reader.skip(header.data_records)
        # Only to see what belongs to it: a directory is no object of ObjectMaker, and its names are not wanted.
        current = Unfinished(header.inumber, header.inode, self.plan.targets[-1], b"")
        while (following := self._following(current)) is not None:
            if following.type == RecordType.ADDR:
                self._reader.skip(following.data_records)
            else:
                self._add_attributes(current, following)
        record.attributes = current.attributes

    def _add_entry(self, inumber: int, request: Request, parts: list[bytes]) -> None:
        """An object, in a directory that is made if it is not there; each request has a target of its own."""
        key = (request.name.target.volume, *parts[:-1])
        known = self._holders.get(key)
        if known is None or known.failed:
            self._holders[key] = known = self._add_target(request, parts[:-1], 0, None)
            self.plan.add_entry(inumber, known, parts[-1])
            return
        target = self.plan.add_target(request, None, b"", 0, None)
        target.parts, target.inherits = known.parts, known.inherits
        self.plan.add_entry(inumber, target, parts[-1])
        target.index = known.index  # from here on only what the writer keeps its descriptor by

    def _add_target(self, request: Request, parts: list[bytes], inumber: int, record: DirectoryRecord | None) -> Target:
        target = self.plan.add_target(request, None, b"", inumber, record)
        target.parts = parts
        self._writer.make_directories([target])
        return target

    def _add_attributes(self, current: Unfinished, header: Header) -> None:
        for problem in read_attributes(self._reader, header, current.attributes):
            self._report.error(current.path(), f"lost: {problem}", current.target.request)

    def _following(self, current: Unfinished) -> Header | None:
        """The next header if it goes on with the object at hand; behind a damaged one nothing is known of it."""
        reader = self._reader
        with reader.take(1) as record:
            try:
                header = parse_header(record)
                wrong = self._not_ours(header)
            except FormatError as error:
                header, wrong = None, str(error)
        if header is None or wrong:
            text = f"its end is not certain: behind what was read of it lies {wrong}"
            self._report.error(current.path(), text, current.target.request)
            current.damaged = not current.is_complete
            return None
        belongs = header.type == RecordType.ADDR or (header.type == RecordType.INODE and header.is_extension)
        if header.inumber != current.inumber or not belongs:
            reader.unread_header()
            return None
        self._expect_object(header)
        return header

    def _expect_object(self, header: Header) -> None:
        """A header tells how much follows for certain, its records and one more header; an inode also how much may."""
        here, inode = self._reader.offset, header.inode
        self._pieces.expect(here + (header.data_records + 1) * RECORD_BYTES)
        if header.type == RecordType.INODE and inode.mode & S_IFMT == _S_IFREG and not header.is_extension:
            data = min(inode.size, inode.blocks * 512)
            headers = 2 + inode.size // HEADER_SPAN_BYTES
            self._pieces.guess(here + (-(-data // RECORD_BYTES) + headers) * RECORD_BYTES)


def _place(request: Request) -> tuple[int, int]:
    return request.name.fh_info, request.name.node


def _identity(header: Header) -> tuple[bool, int, bytes]:
    """What all headers of a dump have in common."""
    return header.little_endian, header.date, header.label
