"""The recover of a tar stream: each member that the list wants is made as it comes, and steps over the others.

Theory of operation: the stream is read once. Every path becomes components and is walked beneath the destination by
descriptor, as for a dump; what is made goes through the same :class:`ObjectMaker` and :class:`TreeWriter`, one member
at a time. A further name (hard link) is made from the first one, if that was recovered in this same run: never from
what only happens to have its name.
"""

import os
import stat
from array import array
from collections.abc import Callable
from typing import Final

from mover.data.beneath import components
from mover.data.codes import RecoveryStatus
from mover.data.dump_identity import DUMP_ID
from mover.data.object_maker import ObjectMaker, Unfinished
from mover.data.recover_plan import Plan
from mover.data.recover_report import RecoverReport, Request
from mover.data.stream_blocks import StreamRefused
from mover.data.tar_format import BLOCK_BYTES, EXTENDED_PREFIX, IDENTITY_NAME
from mover.data.tar_recover_members import KIND_HARD_LINK, Member, MemberReader
from mover.data.tar_recover_places import DEPTH_MAX, Parts, Places, Spot
from mover.data.tree_writer import TreeWriter
from mover.workers.messages import Pairs

_SYMLINK_BYTES_MAX: Final = 4095
_OWN_NAME: Final = EXTENDED_PREFIX + b"/" + IDENTITY_NAME


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
    ) -> None:
        """Make ready.

        Args:
            recursive: directories with contents.
            writes: things are made; else the stream is read as if they were.
            tell: called with the path of everything that the list wants, when it was made or would have been.
        """
        self._reader = reader
        self._requests = requests
        self._writer = writer
        self._report = report
        self.places = Places(requests, writer, report, recursive=recursive, makes=writes)
        self._writes = writes
        self._tell = tell
        self._plan = Plan(requests)
        self._objects = ObjectMaker(reader, self._plan, writer, report)
        self._made: set[int] = set()  # see _key
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
        while member is not None:
            self._take(member)
            member = self._reader.next()

    def abandon(self) -> None:
        """The stream ended too early: what was being made is incomplete, and what else would have come is not known."""
        current, self._current = self._current, None
        if current is not None:
            current.damaged = True
            self._objects.finish(current)
        for request in self._requests:
            request.fail(RecoveryStatus.IO_ERROR)

    def finish(self) -> None:
        """Set the attributes of the directories."""
        if self._writes:
            self.places.finish()

    def tell_missing(self) -> None:
        """Report the entries of the list that nothing came for."""
        for request in self.places.missing():
            self._report.error(request.name.original, "not in the backup", request)
            request.status = RecoveryStatus.NOT_FOUND

    # --- one member ----------------------------------------------------------------------------------------

    def _take(self, member: Member) -> None:
        parts = self._parts(member.path, member.path)
        wanted = self.places.wanted(parts) if parts is not None else []
        if parts is None or not wanted:
            self._reader.skip(member.blocks)
            return
        if stat.S_ISDIR(member.inode.mode) and not member.problem:
            self._reader.skip(member.blocks)
            for target in self.places.add_directory(wanted, member.inode, member.attributes, member.offset):
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

    def _fail(self, spots: list[Spot], why: str) -> None:
        for spot in spots:
            self._report.error(spot.target.path(spot.name), why, spot.target.request)

    def _object(self, member: Member, parts: Parts, spots: list[Spot]) -> None:
        kind = stat.S_IFMT(member.inode.mode)
        problem = member.problem
        if kind == stat.S_IFLNK and (not 0 < len(member.link) <= _SYMLINK_BYTES_MAX or b"\0" in member.link):
            problem = problem or "a symbolic link without a usable target"
        current = None
        if problem:
            self._fail(spots, problem)
        elif not self._writes:
            self._count(spots, parts)
        elif spots:
            plan = self._plan
            plan.targets = [spot.target for spot in spots]
            plan.places = array("I", range(len(spots)))
            plan.names = [spot.name for spot in spots]
            current = self._objects.make_first(0, member.inode, range(len(spots)), member.link)
        if current is None:
            self._reader.skip(member.blocks)
            return
        self._last = Spot(current.target, current.name)
        current.attributes = member.attributes
        for what in member.lost:
            self._report.error(current.path(), f"lost: {what}", current.target.request)
        self._current = current
        self._content(current, member)
        self._current = None
        errors = self._report.errors
        whole = self._objects.finish(current)
        # Of a member that goes to several places, one may have failed: then only the first is known to be there.
        good = spots if whole and errors == self._report.errors else spots[:whole]
        self._made.difference_update(_key(spot, parts) for spot in spots)
        self._made.update(_key(spot, parts) for spot in good)
        if self._tell is not None:
            for spot in good:
                self._tell(spot.target.path(spot.name))

    def _count(self, spots: list[Spot], parts: Parts) -> None:
        """What would have been made."""
        self._report.files += len(spots)
        self._made.update(_key(spot, parts) for spot in spots)
        if self._tell is not None:
            for spot in spots:
                self._tell(spot.target.path(spot.name))

    def _content(self, current: Unfinished, member: Member) -> None:
        """Write what follows where it belongs."""
        reader, write = self._reader, self._objects.write
        ranges = iter(member.segments if member.segments is not None else (0, member.stored))
        offset, left = 0, 0
        blocks, stored = member.blocks, member.stored
        while blocks:
            with reader.take(blocks) as piece:
                blocks -= len(piece) // BLOCK_BYTES
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
        sources = [spot for spot in self.places.of(self.places.wanted(first)) if _key(spot, first) in self._made]
        if not sources and member.stored:  # its content comes with it
            inode = member.inode._replace(mode=stat.S_IFREG | member.inode.mode)
            self._object(member._replace(kind=stat.S_IFREG, inode=inode), parts, spots)
            return
        self._reader.skip(member.blocks)
        if not sources:
            self._fail(spots, f"another name of {os.fsdecode(b'/'.join(first))!r}, which was not recovered")
            return
        for spot in spots if first != parts else ():
            source = next((each for each in sources if each.target.request is spot.target.request), sources[0])
            if not self._writes:
                self._count([spot], parts)
            elif self._link(source, spot):
                self._made.add(_key(spot, parts))

    def _link(self, source: Spot, spot: Spot) -> bool:
        writer, report = self._writer, self._report
        try:
            writer.link(writer.descriptor(source.target), source.name, writer.descriptor(spot.target), spot.name)
        except OSError as error:
            report.error(spot.target.path(spot.name), error, spot.target.request)
            writer.check_volume(spot.target)
            return False
        report.files += 1
        self._last = spot
        if self._tell is not None:
            self._tell(spot.target.path(spot.name))
        return True


def _key(spot: Spot, parts: Parts) -> int:
    """What stands for a member at its place among those that were made; a hash, because they may be many."""
    return hash((id(spot.target.request), *parts))


def wrong_stream(identity: bytes, env: Pairs) -> str:
    """Why this is not the backup that an environment names; "" = it is, or the environment names none."""
    wanted, found = dict(env).get(DUMP_ID, b""), identity.removeprefix(_OWN_NAME)
    if wanted in {b"", found}:
        return ""
    held = f"the tar stream with the id {found[:64]!r}" if found else "a tar stream of another program"
    return f"the tape file holds {held}, not the backup that is wanted (id {wanted[:64]!r})"
