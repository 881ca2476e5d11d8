"""Small files of a tar stream of ours: as long as one follows the other they are made at a glance, by two processes.

The worker reads the heads, and makes a part of the files itself; those handed over to the second writer
(:mod:`mover.data.second_writer`) are :class:`_Maker`'s. Whatever is different in any way is left where it is, to be
taken as a member.
"""

import contextlib
import os
from array import array
from collections.abc import Callable
from typing import Final

from mover.data.attribute_writer import OWNER_BITS, give_away
from mover.data.object_maker import FILE_FLAGS
from mover.data.recover_plan import Target
from mover.data.recover_report import RecoverReport, Request
from mover.data.second_writer import FULL, RUN, Shared, share
from mover.data.stream_blocks import JOINED_BYTES_MAX, StreamBroken
from mover.data.tar_format import BLOCK_BYTES
from mover.data.tar_recover_members import Member, MemberReader
from mover.data.tar_recover_places import Made, Parts, Places, Spot, directory_of, key_for
from mover.data.tar_recover_small import HEAD_BYTES, SmallHeads
from mover.data.tree_writer import TreeWriter, remove

_WORTH_FILES: Final = 250  # small files that have passed: there may be as many more
_LEVELS_LOOKED_AT: Final = 64  # of a deeper path each level would cost as much as all of a usual one


class SmallFiles:
    """Makes them; see ``key_of`` for the numbers that stand for files here.

    Attributes:
        pending: those handed over and perhaps not made yet.
        last: the one that ``run`` met last; None = it met none.
    """

    def __init__(
        self,
        reader: MemberReader,
        places: Places,
        writer: TreeWriter,
        report: RecoverReport,
        made: Made,
        take: Callable[[Member], None],
        private_fd: int,
    ) -> None:
        """Make ready.

        Args:
            made: filled with those made.
            take: makes a member, whatever it is.
            private_fd: the control socket, which a second writer must not keep; -1 = work alone.
        """
        self.pending: set[int] = set()
        self.last: Spot | None = None
        self._reader = reader
        self._places = places
        self._writer = writer
        self._report = report
        self._made = made
        self._take = take
        # Where nothing is overwritten, what a second writer that was killed leaves would pass for an older file.
        self._private_fd = private_fd if writer.overwrites else -1
        self._heads = SmallHeads()
        self._met = 0
        self._shared: Shared | None = None
        places.before_making = self._settle_above

    def run(self) -> None:
        """Make files that this user may make as long as one follows the other; step over unwanted ones.

        Raises:
            DestinationLost: as the making of objects does.
            StreamBroken: no more comes.
        """
        reader = self._reader
        self.last = None
        while wanted := self._run_at_hand():
            if reader.pos == reader.end:
                reader.more()
            elif reader.has_ended or wanted > JOINED_BYTES_MAX:
                break
            else:
                reader.join(wanted)

    def _run_at_hand(self) -> int:
        """As ``run``, of those that are at hand whole; how many bytes the next one needs in one piece, 0 = it is none.

        Raises:
            DestinationLost: as the making of objects does.
        """
        if self._met >= _WORTH_FILES and self._shared is None:
            maker = _Maker(self._places, self._writer)
            self._shared = share(self._reader, self._private_fd, maker.make, self, self._report)
            self._private_fd = -1  # once in a recover
        shared = self._shared
        gives = shared is not None and self._reader.view_at >= 0 and shared.wants_more()
        batch = shared.batch if shared is not None else array("q")
        noted = len(batch)  # of it, what is pending
        note_for_other = batch.append
        reader, heads, report, pending = self._reader, self._heads, self._report, self.pending
        times_of, view, pos, view_at = heads.times_ns, reader.view, reader.pos, reader.view_at
        open_file, write, set_times, close = os.open, os.write, os.utime, os.close
        attributes = self._writer.attributes
        uid, gid, gives_away = attributes.uid, attributes.gid, attributes.gives_away
        prefix: bytes | None = None
        place, directory, key, name = None, -1, 0, b""
        sizes: list[int] = []  # of the files made here
        count, note = sizes.append, self._made.added.append
        met = own = wanted = 0
        for at, size, after, name in heads.follow(view, pos, reader.end, reader.times):
            met += 1
            if heads.prefix is not prefix:
                prefix, place = heads.prefix, None
                self._pend(batch, noted)
                target, key = directory_of(self._places, prefix)
                noted = len(batch)
                if target is False or target is True or (target is not None and target.inherits):
                    break
                if target is not None:
                    try:
                        directory = self._writer.descriptor(target)
                    except OSError:
                        break  # the general way meets it again, and reports it
                    place = target
            if place is not None:
                given = heads.uid != uid or heads.gid != gid
                if not name or heads.mode & ~0o777 or (given and not gives_away):
                    break
                file_key = hash((key, name))
                if gives:
                    note_for_other(view_at + at)
                    note_for_other(file_key)
                    note_for_other(size)
                    pos = after
                    if len(batch) >= FULL:
                        assert shared is not None
                        if self._pend(batch, noted):
                            prefix = None  # other directories were opened, and perhaps this one was closed
                        noted, gives = 0, shared.hand_over()
                    continue
                if file_key in pending:
                    break  # the same name again
                times_ns = times_of(view, at)
                if times_ns is None:
                    break
                try:
                    fd = open_file(name, FILE_FLAGS, heads.mode & (OWNER_BITS if given else 0o777), dir_fd=directory)
                except OSError:
                    self.stop()  # it exists, perhaps as one of those handed over: from here on alone
                    break
                whole = False
                try:
                    body = at + HEAD_BYTES
                    if not size or write(fd, view[body : body + size]) == size:
                        if given:
                            give_away(fd, heads.uid, heads.gid, heads.mode)
                        set_times(fd, ns=times_ns)
                        whole = True
                except OSError:
                    whole = False  # the general way meets it again
                close(fd)
                if not whole:
                    self._writer.discard(place, name)
                    break
                note(file_key)
                count(size)
                own += 1
                if own == RUN and shared is not None:
                    own, gives = 0, shared.wants_more()
            pos = after
        else:
            wanted = heads.wanted
        self._pend(batch, noted)
        reader.pos = pos
        self._met += met
        self.last = Spot(place, name) if place is not None and name else self.last
        report.add_files(sizes)
        return wanted

    def _pend(self, batch: "array[int]", noted: int) -> bool:
        """All in the batch is pending from here on; where a name comes again, it is made here, in the stream's order.

        Args:
            noted: numbers in it that were so before.

        Returns:
            whether files were made here.

        Raises:
            DestinationLost: as the making of objects does.
        """
        keys, pending = batch[noted + 1 :: 3], self.pending
        wanted = len(pending) + len(keys)
        pending.update(keys)
        if len(pending) == wanted:
            return False
        files = batch[noted:]
        del batch[noted:]
        self.settle()
        slot = self._reader.slot_at_hand()
        assert slot is not None
        with slot:
            numbers = iter(files)
            for at, key, size in zip(numbers, numbers, numbers, strict=True):
                self.make_late(slot, at, key, size)
        return True

    def _settle_above(self, request: Request, parts: Parts) -> None:
        """A directory is to be made; a file of its path, or of one above, that is pending comes before it."""
        pending = self.pending
        if pending and (
            len(parts) > _LEVELS_LOOKED_AT
            or any(key_for(request, parts[:depth]) in pending for depth in range(1, len(parts) + 1))
        ):
            self.settle()

    def settle(self) -> None:
        """Wait until all that was handed over is made.

        Raises:
            DestinationLost: as the making of objects does.
        """
        if self._shared is not None:
            self._shared.settle()

    def stop(self) -> None:
        """Go on alone, with all made that was handed over."""
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.finish()

    # --- what was handed over to the second writer -----------------------------------------------------------

    def count_made(self, files: "array[int]") -> None:
        """It has made these."""
        keys = files[1::3]
        self.pending.difference_update(keys)
        self._made.added.extend(keys)
        self._report.add_files(list(files[2::3]))

    def make_late(self, slot: memoryview, at: int, number: int, size: int) -> None:
        """It has not made this one."""
        self.pending.discard(number)
        reader = self._reader
        with slot[at : at + HEAD_BYTES + (size + BLOCK_BYTES - 1 & -BLOCK_BYTES)] as blocks:
            before = reader.revisit(blocks)
            try:
                member = reader.next()
                if member is not None:
                    self._take(member)
            except StreamBroken as broken:  # its header can be read in two ways
                self._report.damage(str(broken))
            finally:
                reader.resume(before)


class _Maker:
    """What the second writer does with files whose heads the worker has looked at."""

    def __init__(self, places: Places, writer: TreeWriter) -> None:
        self._places = places
        self._writer = writer
        self._heads = SmallHeads()
        self._prefix = b""
        self._directory = -1

    def make(self, slot: memoryview, files: "array[int]") -> bytes:
        """Make files, each given by where its head is in the slot, a number and its size; 1 = made."""
        self._places.only_find()  # here, and not in the worker
        made = bytearray(len(files) // 3)
        heads = self._heads
        uid, gid = self._writer.attributes.uid, self._writer.attributes.gid
        open_file, write, set_times, close = os.open, os.write, os.utime, os.close
        numbers = iter(files)
        for number, (at, _, size) in enumerate(zip(numbers, numbers, numbers, strict=True)):
            name, times_ns = heads.again(slot, at)
            if times_ns is None:
                continue
            try:
                if heads.prefix is not self._prefix:
                    self._open(heads.prefix)
                directory = self._directory
                given = heads.uid != uid or heads.gid != gid
                fd = open_file(name, FILE_FLAGS, heads.mode & (OWNER_BITS if given else 0o777), dir_fd=directory)
            except OSError:
                continue  # the worker meets it again, and reports it
            whole = False
            try:
                body = at + HEAD_BYTES
                whole = not size or write(fd, slot[body : body + size]) == size
                if given:
                    give_away(fd, heads.uid, heads.gid, heads.mode)
                set_times(fd, ns=times_ns)
            except OSError:
                whole = False
            close(fd)
            if whole:
                made[number] = 1
            else:
                with contextlib.suppress(OSError):  # the worker puts a whole one in its place, or reports it
                    remove(directory, name)
        return bytes(made)

    def _open(self, prefix: bytes) -> None:
        """Go to a directory, which is there and is one place: the worker has looked."""
        self._prefix = b""
        target, _ = directory_of(self._places, prefix)
        assert isinstance(target, Target)
        self._directory = self._writer.descriptor(target)
        self._prefix = prefix
