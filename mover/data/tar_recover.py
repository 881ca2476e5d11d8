"""The recover of a tar stream: each member that the list wants is made as it comes, and steps over the others.

Theory of operation: the stream is read once. Every path becomes components and is walked beneath the destination by
descriptor, as for a dump; what is made goes through the same :class:`ObjectMaker` and :class:`TreeWriter`, one member
at a time. A further name (hard link) is made from the first one, if that was recovered in this same run: never from
what only happens to have its name.
"""

import os
import stat
from array import array
from collections.abc import Callable, Iterator
from typing import Final

from mover.data.beneath import components
from mover.data.codes import RecoveryStatus
from mover.data.dump_format import Inode
from mover.data.dump_identity import DUMP_ID
from mover.data.object_maker import ObjectMaker, Unfinished
from mover.data.recover_plan import Plan, overlap
from mover.data.recover_report import RecoverReport, Request
from mover.data.stream_blocks import StreamRefused
from mover.data.tar_format import BLOCK_BYTES, EXTENDED_PREFIX, IDENTITY_NAME
from mover.data.tar_listing import LISTING_BYTES_MAX
from mover.data.tar_recover_kept import KeptObjects
from mover.data.tar_recover_members import KIND_HARD_LINK, Member, MemberReader
from mover.data.tar_recover_places import DEPTH_MAX, Made, Parts, Places, Spot, key_for, key_of
from mover.data.tar_recover_second import SmallFiles
from mover.data.tar_remover import Remover
from mover.data.tree_writer import KeptExisting, TreeWriter
from mover.workers.data_messages import Pairs

_SYMLINK_BYTES_MAX: Final = 4095
OWN_NAME: Final = EXTENDED_PREFIX + b"/" + IDENTITY_NAME


class TarRecoverer:
    """Makes what the list wants while the stream passes."""

    def __init__(
        self,
        reader: MemberReader,
        requests: list[Request],
        writer: TreeWriter,
        report: RecoverReport,
        *,
        recursive: bool = True,
        writes: bool = True,
        tell: Callable[[bytes], None] | None = None,
        private_fd: int = -1,
        places: Places | None = None,
        remover: Remover | None = None,
    ) -> None:
        """Make ready.

        Args:
            places: of the requests; None = the usual ones.
            remover: removes what directories do not list; then there must be no second writer, which lags behind.
            private_fd: the control socket, which a second writer must not keep; -1 = work alone.
            recursive: directories with contents.
            writes: things are made; else the stream is read as if they were.
            tell: called with the path of everything that the list wants, when it was made or would have been.
        """
        self._reader = reader
        self._requests = requests
        self._writer = writer
        self._report = report
        self.places = places or Places(requests, writer, report, recursive=recursive, makes=writes)
        self.lists_contents = False  # the stream does, and nothing was made of it
        self._remover = remover
        self._writes = writes
        self._tell = tell
        self._plan = Plan(requests)
        self._objects = ObjectMaker(reader, self._plan, writer, report)
        self._made = Made()
        if overlap(requests):
            private_fd = -1  # with two writers either of the two objects might come last
        self._small = SmallFiles(reader, self.places, writer, report, self._made, self._take, private_fd)
        self._kept = KeptObjects(writer, report, requests[0].name.target.volume)
        self._current: Unfinished | None = None
        self._last: Spot | None = None

    def path_at_hand(self) -> bytes:
        """The path made last; b"" before the first."""
        return self._last.target.path(self._last.name) if self._last is not None else b""

    def run(self, env: Pairs) -> None:
        """Work until the stream's end.

        Args:
            env: of the operation; it may name the one backup that will do.

        Raises:
            StreamBroken, StreamRefused: as the reader does; call ``abandon`` then.
            DestinationLost: writing makes no sense any more.
        """
        member = self._reader.next()
        if wrong := wrong_stream(self._reader.identity, env):
            raise StreamRefused(wrong)
        try:
            while member is not None:
                self._take(member)
                if self._reader.times and self._writes and self._tell is None:
                    self._make_small_files()
                member = self._reader.next()
        finally:
            self._small.stop()

    def abandon(self) -> None:
        """The stream ended too early: what was being made is incomplete, and what else would have come is not known."""
        self._abandon_current()
        for request in self._requests:
            request.fail(RecoveryStatus.IO_ERROR)

    def _abandon_current(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            current.damaged = True
            self._objects.finish(current)

    def finish(self) -> None:
        """Set the attributes of the directories, and let go of what was kept for further names."""
        self._kept.close()
        if self._writes:
            self.places.finish()

    def tell_missing(self) -> None:
        """Report the entries of the list that nothing came for."""
        for request in self.places.missing():
            self._report.error(request.name.original, "not in the backup", request)
            request.status = RecoveryStatus.NOT_FOUND

    def _make_small_files(self) -> None:
        """Make those that are next, if any are."""
        self._small.run()
        self._last = self._small.last or self._last

    # --- one member ----------------------------------------------------------------------------------------

    def _take(self, member: Member) -> None:
        parts = self._parts(member.path, member.path)
        wanted = self.places.wanted(parts) if parts is not None else []
        if parts is None or not wanted:
            self._pass(member, parts or [])
            return
        pending = self._small.pending
        if pending and any(key_for(self._requests[number], parts) in pending for number, _ in wanted):
            self._small.settle()  # the same name again: in the order of the stream
        if stat.S_ISDIR(member.inode.mode) and not member.problem:
            listing = self._listing(member)
            for target in self.places.add_directory(wanted, member.inode, member.attributes, member.offset):
                if listing is not None and self._remover is not None:
                    is_first = len(self.places.targets) == 1 and not self._report.files
                    self._remover.apply(target, listing, is_first=is_first)
                if self._tell is not None:
                    self._tell(target.path())
                for what in member.lost:
                    self._report.error(target.path(), f"lost: {what}", target.request)
            return
        spots = self.places.of(wanted)
        if member.kind == KIND_HARD_LINK and not member.problem:
            self._further_name(member, parts, spots)
        else:
            self._object(member, parts, spots)

    def _listing(self, member: Member) -> bytes | None:
        """What a directory's member says of its contents; in GNU's own format that follows in the stream."""
        listing, blocks = member.listing, member.blocks
        if listing is None and self._remover is not None and 0 < member.stored <= LISTING_BYTES_MAX:
            return self._reader.read(blocks)[: member.stored]
        self._reader.skip(blocks)
        self.lists_contents |= self._remover is None and (listing is not None or blocks > 0)
        return listing

    def _parts(self, path: bytes, member: bytes) -> Parts | None:
        """The components of a path in the stream; None, and reported, for one that cannot be used."""
        try:
            parts = components(path)
            if len(parts) > DEPTH_MAX:
                raise ValueError(f"{os.fsdecode(path[:40])!r}... leads {len(parts)} directories deep")
        except ValueError as error:
            self._report.error(member[:4096], str(error)[:1024])
            for request in self._requests:
                if not components(request.name.original):
                    request.fail(RecoveryStatus.IO_ERROR)
            return None
        if path.startswith(b"/"):
            self._report.left_out(
                "the / in front of names", lambda: member, ValueError("all goes below the destination")
            )
        return parts

    def _pass(self, member: Member, parts: Parts) -> None:
        """Go on behind a member that nothing is made of; what it holds is kept if it has other names: those may be.

        Args: parts: of its path; none = it cannot be made by any name.
        """
        if parts and member.names > 1 and self._writes and not member.problem:
            self._kept.keep(b"/".join(parts), member, self._reader)
        else:
            self._reader.skip(member.blocks)

    def _fail(self, spots: list[Spot], why: str) -> None:
        for spot in spots:
            self._report.error(spot.target.path(spot.name), why, spot.target.request)

    def _object(
        self, member: Member, parts: Parts, spots: list[Spot], kept: Iterator[memoryview] | None = None
    ) -> None:
        """Make an object.

        Args:
            kept: its content, where that does not follow in the stream.
        """
        kind = stat.S_IFMT(member.inode.mode)
        problem = member.problem
        if kind == stat.S_IFLNK and (not 0 < len(member.link) <= _SYMLINK_BYTES_MAX or b"\0" in member.link):
            problem = problem or "a symbolic link without a usable target"
        current = None
        if problem:
            self._fail(spots, problem)
        elif not self._writes:
            self._count(spots, parts, member.inode)
        elif spots:
            plan = self._plan
            plan.targets = [spot.target for spot in spots]
            plan.places = array("I", range(len(spots)))
            plan.names = [spot.name for spot in spots]
            current = self._objects.make_first(0, member.inode, range(len(spots)), member.link)
        if current is None:
            if kept is None:
                self._pass(member, parts if not problem else [])
            return
        self._last = Spot(current.target, current.name)
        current.attributes = member.attributes
        for what in member.lost:
            self._report.error(current.path(), f"lost: {what}", current.target.request)
        self._current = current
        self._content(current, member, self._pieces(member) if kept is None else kept)
        self._current = None
        errors = self._report.errors
        whole = self._objects.finish(current)
        # Of a member that goes to several places, one may have failed: then only the first is known to be there.
        good = spots if whole and errors == self._report.errors else spots[:whole]
        for number, spot in enumerate(spots):
            (self._made.add if number < len(good) else self._made.discard)(key_of(spot, parts))
        if self._tell is not None:
            for spot in good:
                self._tell(spot.target.path(spot.name))

    def _count(self, spots: list[Spot], parts: Parts, inode: Inode | None) -> None:
        """What would have been made; without an inode it is a further name."""
        for _ in spots:
            if inode is None:
                self._report.add_links()
            else:
                self._report.add_entry(inode.mode, inode.size)
        for spot in spots:
            self._made.add(key_of(spot, parts))
        if self._tell is not None:
            for spot in spots:
                self._tell(spot.target.path(spot.name))

    def _pieces(self, member: Member) -> Iterator[memoryview]:
        """The blocks that follow a member, as they come."""
        blocks = member.blocks
        while blocks:
            with self._reader.take(blocks) as piece:
                blocks -= len(piece) // BLOCK_BYTES
                yield piece

    def _content(self, current: Unfinished, member: Member, pieces: Iterator[memoryview]) -> None:
        """Write content where it belongs."""
        write = self._objects.write
        ranges = iter(member.segments if member.segments is not None else (0, member.stored))
        offset, left = 0, 0
        stored = member.stored
        for piece in pieces:
            at, end = 0, min(len(piece), stored)
            stored -= end
            while at < end:
                while not left:
                    offset, left = next(ranges), next(ranges)
                length = min(left, end - at)
                write(current, piece[at : at + length], offset)
                at, offset, left = at + length, offset + length, left - length

    # --- further names -------------------------------------------------------------------------------------

    def _further_name(self, member: Member, parts: Parts, spots: list[Spot]) -> None:
        first = self._parts(member.link, member.path)
        if first is None:
            self._reader.skip(member.blocks)
            self._fail(spots, f"another name of {os.fsdecode(member.link[:255])!r}, which cannot be used")
            return
        firsts = self.places.of(self.places.wanted(first))
        if any(key_of(spot, first) in self._small.pending for spot in firsts):
            self._small.settle()  # what is linked to must be there
        sources = [spot for spot in firsts if key_of(spot, first) in self._made]
        if not sources and member.stored:  # its content comes with it
            inode = member.inode._replace(mode=stat.S_IFREG | member.inode.mode)
            self._object(member._replace(kind=stat.S_IFREG, inode=inode), parts, spots)
            return
        self._reader.skip(member.blocks)
        if not sources and self._writes and self._from_elsewhere(member, first, parts, spots):
            return
        if not sources:
            why = "was not recovered" if firsts else "has the content: name it as well"
            self._fail(spots, f"another name of {os.fsdecode(b'/'.join(first))!r}, which {why}")
            return
        for spot in spots if first != parts else ():
            source = next((each for each in sources if each.target.request is spot.target.request), sources[0])
            if not self._writes:
                self._count([spot], parts, None)
            elif self._link(source, spot):
                self._made.add(key_of(spot, parts))

    def _from_elsewhere(self, member: Member, first: Parts, parts: Parts, spots: list[Spot]) -> bool:
        """Make names of an object whose first one nobody asked for; False where nothing is known of it."""
        kept = self._kept.find(b"/".join(first))
        if kept is None:
            return False
        for spot in spots:
            source = kept.made.get(id(spot.target.request))
            if source is not None:
                if self._link(source, spot):
                    self._made.add(key_of(spot, parts))
                continue
            self._object(kept.member, parts, [spot], self._kept.content(kept))
            if key_of(spot, parts) in self._made:
                kept.made[id(spot.target.request)] = spot
        return True

    def _link(self, source: Spot, spot: Spot) -> bool:
        writer, report = self._writer, self._report
        try:
            writer.link(writer.descriptor(source.target), source.name, writer.descriptor(spot.target), spot.name)
        except KeptExisting:
            report.kept_existing(spot.target.path(spot.name), spot.target.request, named=spot.target.record is None)
            return False
        except OSError as error:
            report.error(spot.target.path(spot.name), error, spot.target.request)
            writer.check_volume(spot.target)
            return False
        report.add_links()
        self._last = spot
        if self._tell is not None:
            self._tell(spot.target.path(spot.name))
        return True


def wrong_stream(identity: bytes, env: Pairs) -> str:
    """Why this is not the backup that an environment names; "" = it is, or the environment names none."""
    wanted, found = dict(env).get(DUMP_ID, b""), identity.removeprefix(OWN_NAME)
    if wanted in {b"", found}:
        return ""
    held = f"the tar stream with the id {found[:64]!r}" if found else "a tar stream of another program"
    return f"the tape file holds {held}, not the backup that is wanted (id {wanted[:64]!r})"
