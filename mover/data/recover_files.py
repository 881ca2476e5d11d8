"""The part of a dump stream behind its directories: finds the wanted inodes and makes them.

Theory of operation: one loop (:meth:`FileRecoverer.run`) handles what nearly every stream consists of, a small regular
file, with one open, write, utime and close, and a chown where it is not our own user's; and it steps over what is not
wanted.
Everything else goes header by header through :meth:`FileRecoverer.step`, which is complete by itself. Of many small
files the loop hands a part over to a second writer (:mod:`mover.data.second_writer`).
"""

import os
import stat
from array import array
from bisect import bisect_left
from typing import Final

from mover.data.attribute_writer import NOBODY, OWNER_BITS, give_away
from mover.data.codes import LogType
from mover.data.dump_format import (
    HEADER_RECORDS_MAX,
    RECORD_BYTES,
    Header,
    Inode,
    RecordType,
    parse_header,
)
from mover.data.object_maker import FILE_FLAGS, ObjectMaker, Unfinished
from mover.data.recover_catalogue import read_attributes
from mover.data.recover_headers import EXTENSION_BYTE, REPEATED, VARYING, Repeated, read_repeated
from mover.data.recover_plan import BEYOND, Plan
from mover.data.recover_report import RecoverReport
from mover.data.recover_second import SmallFiles
from mover.data.recover_stream import RecordReader, is_map
from mover.data.second_writer import FULL, RUN, Shared, share
from mover.data.stream_blocks import JOINED_BYTES_MAX, StreamBroken
from mover.data.tree_writer import TreeWriter

WORTH_ENTRIES: Final = 2_000  # below that a second writer costs more than it gains
_INODE: Final = int(RecordType.INODE)
_ADDR: Final = int(RecordType.ADDR)
_U32: Final = 0xFFFF_FFFF
_BILLION: Final = 1_000_000_000


class FileRecoverer:
    """Makes what a plan wants while the stream passes.

    Attributes:
        remaining: entries of the plan that have not come yet.
        end: the dump's first END header, once it has been read.
    """

    def __init__(
        self,
        reader: RecordReader,
        plan: Plan,
        writer: TreeWriter,
        report: RecoverReport,
        private_fd: int = -1,
        *,
        ascending: bool = False,
    ) -> None:
        """Make ready.

        Args:
            private_fd: the control socket, which a second writer must not keep; -1 = work alone.
            ascending: the work ends at the first inode behind the last one wanted.
        """
        self._reader = reader
        self._plan = plan
        self._writer = writer
        self._report = report
        self._objects = ObjectMaker(reader, plan, writer, report)
        self._done = bytearray(len(plan.names))
        self._cursor = 0
        self._last = -1
        self._current: Unfinished | None = None
        self._private_fd = private_fd
        self._shared: Shared | None = None
        self.remaining = len(plan.names) - 1
        self._last_wanted = plan.inumbers[-2] if ascending and self.remaining else BEYOND
        self.end: Header | None = None

    def path_at_hand(self) -> bytes:
        """The path made last; b"" before the first."""
        plan, at = self._plan, self._last
        return plan.targets[plan.places[at]].path(plan.names[at]) if at >= 0 else b""

    def run(self) -> None:
        """Work until the dump's END or until everything wanted was made.

        Raises:
            StreamBroken, StreamRefused: as the reader does; call ``abandon`` then.
            DestinationLost: writing makes no sense any more.
        """
        if not self._reader.little_endian:
            while self.step():
                pass
            return
        # Where nothing is overwritten, what a second writer that was killed leaves would pass for an older file.
        if self.remaining >= WORTH_ENTRIES and self._writer.overwrites and not self._plan.in_order:
            small_files = SmallFiles(self._plan, self._writer)
            self._shared = share(self._reader, self._private_fd, small_files.make, self, self._report)
        try:
            self._run_little_endian()
        finally:
            if self._shared is not None:
                self._shared.finish()

    def abandon(self) -> None:
        """The stream ended too early: what was being made is incomplete."""
        current, self._current = self._current, None
        if current is not None:
            current.damaged = current.damaged or not current.is_complete
            self._objects.finish(current)

    def missing(self) -> list[int]:
        """Entries of the plan that never came."""
        return [at for at in range(len(self._plan.names) - 1) if not self._done[at]] if self.remaining else []

    # --- the general path ----------------------------------------------------------------------------------

    def step(self) -> bool:
        """Handle the next header and its records; False at the end of the work."""
        reader, current = self._reader, self._current
        skips = reader.skips
        header = reader.header()
        if skips != reader.skips and current is not None and not current.is_complete:
            current.damaged = True
        if header.type == RecordType.INODE:
            if header.is_extension:
                if current is not None and header.inumber == current.inumber:
                    try:
                        problems = read_attributes(reader, header, current.attributes)
                    except StreamBroken:
                        current.damaged = True
                        raise
                    for problem in problems:
                        self._report.error(current.path(), f"lost: {problem}", current.target.request)
                else:
                    reader.skip(header.data_records)
                return True
            self._finish_current()
            if not self.remaining or header.inumber > self._last_wanted:
                reader.unread_header()
                return False
            self._begin(header)
        elif header.type == RecordType.ADDR:
            if current is not None and header.inumber == current.inumber:
                self._objects.add_data(current, header)
            else:
                reader.skip(header.data_records)
        elif is_map(header):
            reader.skip(header.records)
        elif header.type == RecordType.END:
            self._finish_current()
            self.end = header
            return False
        else:
            self._report.log(LogType.WARNING, f"a record of the unknown type {header.type} was skipped".encode())
        return True

    def _finish_current(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            self._objects.finish(current)

    def _begin(self, header: Header) -> None:
        inumber, inumbers = header.inumber, self._plan.inumbers
        first = self._cursor = bisect_left(inumbers, min(inumber, BEYOND - 1))
        if inumbers[first] != inumber:
            self._reader.skip(header.data_records)
            return
        last = first
        while inumbers[last] == inumber:
            last += 1
        if self._done[first]:
            target = self._plan.targets[self._plan.places[first]]
            self._report.error(target.path(self._plan.names[first]), "comes twice in the stream: the first was kept")
            self._reader.skip(header.data_records)
            return
        # The stream may end in the middle of it: first an object is under way, then its content is read.
        self._current = self._objects.begin(header, range(first, last))
        self._done[first:last] = b"\1" * (last - first)
        self.remaining -= last - first
        self._last, self._cursor = first, last
        if not stat.S_ISLNK(header.inode.mode):
            self._objects.add_data(self._current, header)

    # --- what was handed over to the second writer -----------------------------------------------------------

    def count_made(self, files: "array[int]") -> None:
        """It has made these."""
        self._report.add_files(list(files[2::3]))

    def make_late(self, slot: memoryview, at: int, number: int, size: int) -> None:
        """It has not made this one."""
        reader = self._reader
        with slot[at : at + RECORD_BYTES + -(-size // RECORD_BYTES) * RECORD_BYTES] as records:
            before = reader.revisit(records)
            try:
                header = parse_header(reader.take(1))
                current = self._objects.begin(header, range(number, number + 1))
                self._objects.add_data(current, header)
                if current is not None:
                    self._objects.finish(current)
            finally:
                reader.resume(before)

    # --- the fast path -------------------------------------------------------------------------------------

    def _adopt(self, at: int, words: tuple[int, ...], owner: tuple[int, int], marked: bool, fd: int) -> Unfinished:
        """A file of the fast path whose attributes follow: from here on one of the general path.

        Args:
            words: the varying ones of its header.
        """
        low, high = (words[13], words[14]) if marked else (0, 0)
        times = [
            words[word] * _BILLION + words[word + 1] * 1000 + (low >> shift & 0x3FF)
            for word, shift in ((7, 0), (9, 10), (11, 20))
        ]
        assert not high, "left to the general path"
        size = words[5] | words[6] << 32
        inode = Inode(words[3] & 0xFFFF, words[3] >> 16, *owner, size, *times)
        self._report.files -= 1  # counted again when it is finished
        self._report.tally.take_back(size)
        return self._objects.adopt(words[1], inode, at, fd)

    def _run_little_endian(self) -> None:
        reader, plan, report, writer = self._reader, self._plan, self._report, self._writer
        inumbers, places, names, targets, done = plan.inumbers, plan.places, plan.names, plan.targets, self._done
        read_varying, read_same = VARYING.unpack_from, REPEATED.unpack_from
        open_file, write, set_times, close = os.open, os.write, os.utime, os.close
        uid, gid, gives_away = writer.attributes.uid, writer.attributes.gid, writer.attributes.gives_away
        owner, group, given = uid, gid, False  # of the files that come; whether they are given to others
        view, pos, end = reader.view, reader.pos, reader.end
        cursor, last_wanted = self._cursor, self._last_wanted
        place, directory, direct = -1, -1, False
        same: tuple[bytes, ...] = ()
        expected, record_type, present, plain, marked, makes, addr = -1, 0, 0, False, False, False, b""
        fd, fd_marked = -1, False  # the file made last; its attributes may follow
        fd_words: tuple[int, ...] = ()
        fd_owner = owner, group
        made: list[int] = []  # sizes of the files made here
        count = made.append
        shared, view_at, own = self._shared, reader.view_at, 0
        gives = shared is not None and shared.wants_more()  # whether the next files are for the second writer
        batch: array[int] = shared.batch if shared is not None else array("q")
        try:
            while True:
                if pos == end:
                    reader.pos = pos
                    report.add_files(made)
                    self._last = cursor - 1
                    reader.more()
                    place = -1  # what was left to the second writer and made late has opened other directories
                    view, pos, end = reader.view, 0, reader.end
                    view_at = reader.view_at
                if (parts := read_same(view, pos)) != same:
                    same = parts
                    repeated: Repeated = read_repeated(*parts)
                    expected, record_type, owner, group, addr, present, plain, marked = repeated
                    given = owner != uid or group != gid
                    makes = not given or (gives_away and NOBODY not in (owner, group))
                words = read_varying(view, pos)
                good = sum(words) & _U32 == expected
                if good and plain and (record_type == _INODE or (record_type == _ADDR and self._current is None)):
                    if fd >= 0:
                        close(fd)
                        fd = -1
                    records = words[15]
                    body = pos + RECORD_BYTES
                    if record_type == _INODE:
                        if self._current is not None:
                            self._finish_current()
                            place = -1
                        inumber = words[1]
                        if not self.remaining or inumber > last_wanted:
                            reader.pos = pos
                            return
                        if inumber > inumbers[cursor]:
                            cursor = bisect_left(inumbers, inumber, cursor)
                        wanted = inumber == inumbers[cursor]
                        after = body + (records << 10)
                        size = words[5] | words[6] << 32
                        if (
                            after > end
                            and wanted
                            and records <= present
                            and after - pos <= JOINED_BYTES_MAX
                            and not reader.has_ended
                        ):
                            # It goes on in the next slot: begun again with a copy of it that lies in one piece.
                            reader.pos = pos
                            report.add_files(made)
                            reader.join(after - pos)
                            place = -1  # as above
                            view, pos, end = reader.view, reader.pos, reader.end
                            view_at = reader.view_at
                            continue
                        if (
                            wanted
                            # A regular file without set-id bits, with one name, whole and in one piece.
                            and words[3] & 0o177000 == 0o100000
                            and makes
                            and inumbers[cursor + 1] != inumber
                            and records <= present
                            and 0 <= (records << 10) - size < RECORD_BYTES
                            and after <= end
                            and not (marked and words[14])
                            and not done[cursor]
                        ):
                            if (
                                gives
                                and view_at >= 0  # in a copy the second writer finds nothing
                                and after < end
                                and not view[after + EXTENSION_BYTE] & 0x80
                                and not targets[places[cursor]].inherits
                            ):
                                batch.extend((view_at + pos, cursor, size))
                                done[cursor] = 1
                                self.remaining -= 1
                                cursor += 1
                                pos = after
                                if len(batch) >= FULL:
                                    assert shared is not None
                                    gives = shared.hand_over()
                                continue
                            if places[cursor] != place:
                                place = places[cursor]
                                target = targets[place]
                                try:
                                    directory = writer.descriptor(target)
                                    direct = not target.inherits
                                except OSError:
                                    direct = False  # the general path meets it again, and reports it
                            if direct:
                                low = words[13] if marked else 0
                                try:
                                    mode = words[3] & (OWNER_BITS if given else 0o777)
                                    fd = open_file(names[cursor], FILE_FLAGS, mode, dir_fd=directory)
                                    if not size or write(fd, view[body : body + size]) == size:
                                        if given:
                                            give_away(fd, owner, group, words[3] & 0o777)
                                        set_times(
                                            fd,
                                            ns=(
                                                words[7] * _BILLION + words[8] * 1000 + (low & 0x3FF),
                                                words[9] * _BILLION + words[10] * 1000 + (low >> 10 & 0x3FF),
                                            ),
                                        )
                                        done[cursor] = 1
                                        self.remaining -= 1
                                        cursor += 1
                                        count(size)
                                        fd_words, fd_marked, fd_owner = words, marked, (owner, group)
                                        pos = after
                                        own += 1
                                        if own == RUN and shared is not None:
                                            own, gives = 0, shared.wants_more()
                                        continue
                                except OSError:
                                    direct = False
                                # It exists, or the disk is full, or the like: begun again below, and reported there.
                                if fd >= 0:
                                    close(fd)
                                    fd = -1
                                    writer.discard(targets[place], names[cursor])
                    else:
                        wanted = False
                    if not wanted and records <= HEADER_RECORDS_MAX and (not cursor or words[1] > inumbers[cursor - 1]):
                        if records > present:
                            records -= addr.count(0, 0, records)
                        pos = body + (records << 10)
                        if pos > end:
                            reader.pos = body
                            reader.skip(records)
                            place = -1  # as above
                            view, pos, end = reader.view, reader.pos, reader.end
                            view_at = reader.view_at
                        continue
                elif fd >= 0:
                    if good and not plain and words[1] == fd_words[1]:
                        report.add_files(made)
                        self._current = self._adopt(cursor - 1, fd_words, fd_owner, fd_marked, fd)
                    else:
                        close(fd)
                    fd = -1
                reader.pos = pos
                report.add_files(made)
                self._cursor = cursor
                if not self.step():
                    return
                cursor = self._cursor
                view, pos, end = reader.view, reader.pos, reader.end
                view_at = reader.view_at
                if gives_away != writer.attributes.gives_away:
                    gives_away, same = False, ()
                place = -1  # its descriptor may be closed by now
        finally:
            if fd >= 0:
                close(fd)
            report.add_files(made)
