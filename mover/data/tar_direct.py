"""Direct access to a tar stream of ours: jumps to each member by its fh_info, and believes only what it finds there.

fh_info is the offset of a member's extended header, and comes back from strangers. Each member says of which stream it
is, and by which path; an entry of the list is recovered only if a whole member with both lies there, otherwise it
fails, alone. Of an object with several names any may be asked for at the place of the first: a stream tells the names
one by one and not together, so for these the list is believed.

A directory with its contents is one piece of the stream: its members follow each other until a path leads out of it.
A further name in it whose first one lies elsewhere tells where (:func:`mover.data.tar_format.first_place`); these are
made last. Source: tar.md section 2, backup-env.md section 5.
"""

import os
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from mover.data.beneath import components
from mover.data.codes import LogType, RecoveryStatus
from mover.data.dump_identity import DUMP_ID
from mover.data.pieces import FIRST_BYTES, Pieces, reaches
from mover.data.recover_report import RecoverReport, Request
from mover.data.recover_stream import ALL_ONES
from mover.data.stream_blocks import StreamRefused
from mover.data.tar_format import BLOCK_BYTES, EXTENDED, FormatError
from mover.data.tar_headers import parse_header
from mover.data.tar_recover import OWN_NAME, TarRecoverer, wrong_stream
from mover.data.tar_recover_members import KIND_DIRECTORY, KIND_HARD_LINK, Member, MemberReader
from mover.data.tar_recover_places import Parts, Places, Spot, Wanted, key_of
from mover.data.tree_writer import TreeWriter
from mover.workers.data_messages import Pairs

HEAD_BYTES: Final = 3 * BLOCK_BYTES  # of a member of ours: an extended header, records, the header proper


class _NotThere(Exception):  # noqa: N818 - a finding about one entry
    """What the list says lies at an offset does not; the text says what does."""


class _Link:
    """A further name in a directory, of an object that lies elsewhere in the stream."""

    __slots__ = ("first", "parts", "spots")

    def __init__(self, first: Parts, parts: Parts, spots: list[Spot]) -> None:
        self.first = first
        self.parts = parts
        self.spots = spots


class DirectPlaces(Places):
    """The recover list, of which only the entries at hand count: what a member is wanted for is known by its place.

    Attributes:
        at_hand: numbers of those entries.
    """

    def __init__(self, requests: list[Request], writer: TreeWriter, report: RecoverReport, *, recursive: bool) -> None:
        super().__init__(requests, writer, report, recursive=recursive, makes=True)
        self.at_hand: frozenset[int] = frozenset()

    def wanted(self, parts: Parts) -> list[Wanted]:
        """As of the whole list, less the entries that are not at hand."""
        return [wanted for wanted in super().wanted(parts) if wanted.number in self.at_hand]

    def _names_in(self, parts: Parts) -> bool:
        return False  # all entries at hand are of one path


class TarDirect(TarRecoverer):
    """Makes what the list names out of pieces of a stream.

    Attributes:
        left: entries that take the whole stream: all of another program's, and where the stream's length is not
            known directories with what they hold.
    """

    def __init__(
        self,
        pieces: Pieces,
        reader: MemberReader,
        requests: list[Request],
        writer: TreeWriter,
        report: RecoverReport,
        *,
        recursive: bool,
        directories: bool = True,
    ) -> None:
        """Args: reader: of ``pieces``. requests: for which ``suits``. directories: with what they hold, too."""
        places = DirectPlaces(requests, writer, report, recursive=recursive)
        super().__init__(reader, requests, writer, report, recursive=recursive, places=places)
        self.left: list[Request] = []
        self._stream = pieces
        self._recursive = recursive
        self._directories = directories
        self._direct_places = places
        self._paths = [b"/".join(components(request.name.original)) for request in requests]
        self._order = sorted(range(len(requests)), key=lambda number: requests[number].name.fh_info)
        self._reached = 0  # of these so many are through
        self._reach = 0
        self._ahead: Member | None = None  # its headers were read, to see that a directory has ended
        self._firsts: dict[int, Spot] = {}  # offset of a member with several names -> where it was made
        self._links: dict[int, list[_Link]] = {}
        reader.foresee = self._foresee

    @staticmethod
    def suits(requests: list[Request], report: RecoverReport, *, recursive: bool) -> bool:
        """Whether the list can be recovered so; if not, says why to the DMA."""
        unknown = whole = 0
        for request in requests:
            is_root = not components(request.name.original)
            # The root's own place is 0; of anything else some clients say so where they do not know.
            unknown += request.name.fh_info == ALL_ONES or (request.name.fh_info == 0 and not is_root)
            whole += is_root and recursive
        if not unknown and not whole:
            return True
        why = f"{unknown} of {len(requests)} entries have no fh_info" if unknown else "everything is wanted"
        _say_in_order(report, why)
        return False

    def run(self, env: Pairs) -> None:
        """Recover the list.

        Raises:
            StreamBroken: no more of the stream comes; call ``abandon`` then.
            StreamRefused: this is not the backup that is wanted; likewise.
            DestinationLost: writing makes no sense any more.
        """
        wanted = dict(env).get(DUMP_ID, b"")
        self._reader.identity = OWN_NAME + wanted if wanted else self._identity()
        if not self._reader.identity:
            _say_in_order(self._report, "it is a tar stream of another program")
            self.left = list(self._requests)
            return
        requests, landed = self._requests, not wanted
        groups = [(offset, list(group)) for offset, group in groupby(self._order, lambda at: requests[at].name.fh_info)]
        ends = reaches([offset for offset, _ in groups], HEAD_BYTES)
        for (offset, group), reach in zip(groups, ends, strict=True):
            try:
                member = self._land(offset, reach)
                landed = True
                self._make(member, group)
            except _NotThere as wrong:
                self._not_there(group, str(wrong))
            self._reached += len(group)
        if not landed and (wrong_one := wrong_stream(self._identity(), env)):
            raise StreamRefused(wrong_one)  # nothing was where it should be: the tape file holds another backup
        self._make_links()

    def abandon(self) -> None:
        """The stream has ended: what was being made is incomplete, and what was not reached has failed."""
        self._abandon_current()
        for request in [*self.left, *(self._requests[number] for number in self._order[self._reached :])]:
            self._report.error(request.name.original, "not reached", request)
        for links in self._links.values():
            for link in links:
                self._fail(link.spots, "not reached")

    # --- where things lie ----------------------------------------------------------------------------------

    def _foresee(self, offset: int) -> None:
        self._stream.expect(max(offset, self._reach))

    def _identity(self) -> bytes:
        """The name of the extended header that a stream of ours begins with; b"" = it is another program's."""
        self._go_to(0, HEAD_BYTES)
        try:
            with self._reader.take(1) as block:
                header = parse_header(bytes(block))
        except FormatError:
            return b""
        return header.name if header.type == EXTENDED and header.name.startswith(OWN_NAME) else b""

    def _go_to(self, offset: int, reach: int) -> None:
        pieces = self._stream
        pieces.go_to(self._reader, offset)
        self._reach = reach
        pieces.expect(reach)
        pieces.guess(reach + FIRST_BYTES)

    def _land(self, offset: int, reach: int) -> Member:
        """The member at an offset. Raises _NotThere."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.offset == offset:
            self._reach = reach
            return ahead
        if offset % BLOCK_BYTES:
            raise _NotThere(f"fh_info {offset} is not the beginning of a block")
        end = self._stream.end
        if offset + HEAD_BYTES > (ALL_ONES if end is None else end):
            raise _NotThere(f"fh_info {offset} lies behind the end of the stream")
        self._go_to(offset, reach)
        try:
            member = self._reader.next_here()
        except FormatError as error:
            raise _NotThere(f"at fh_info {offset} lies {error}") from error
        if end is not None and self._reader.offset + member.blocks * BLOCK_BYTES > end:
            raise _NotThere(f"what lies at fh_info {offset} leads out of the stream")
        return member

    def _not_there(self, group: list[int], why: str) -> None:
        for number in group:
            request = self._requests[number]
            self._report.error(request.name.original, f"not found by direct access: {why}", request)

    # --- what lies there -----------------------------------------------------------------------------------

    def _make(self, member: Member, group: list[int]) -> None:
        try:
            parts = components(member.path)
        except ValueError as error:
            raise _NotThere(f"at fh_info {member.offset} lies {error}") from error
        path = b"/".join(parts)
        fitting: list[int] = []
        others: list[int] = []
        for number in group:
            (fitting if member.names > 1 or self._paths[number] == path else others).append(number)
        if others:
            self._not_there(others, f"at fh_info {member.offset} lies {os.fsdecode(path[:255])!r}")
        if not fitting:
            return
        self._direct_places.at_hand = frozenset(fitting)
        if member.kind == KIND_DIRECTORY and not member.problem:
            self._directory(member, parts, fitting)
            return
        spots = self.places.of([Wanted(number, []) for number in fitting])
        if member.kind != KIND_HARD_LINK:
            # Different names become links of one; see ObjectMaker.
            self._object(member._replace(inode=member.inode._replace(nlink=member.names)), parts, spots)
        else:
            self._further_name(member, parts, spots)

    def _directory(self, member: Member, parts: Parts, group: list[int]) -> None:
        """A directory; with its contents, if they are wanted and where they end can be seen."""
        if not self._recursive:
            self._take(member)
            return
        requests = [self._requests[number] for number in group]
        if self._stream.end is None or not self._directories:
            self.left += requests
            return
        reader, skips = self._reader, self._reader.skips
        following: Member | None = member
        while following is not None:
            self._take(following)
            if reader.times:
                self._make_small_files()
            following = reader.next()
            if following is not None and not self._is_inside(following, parts, requests):
                break
        self._ahead = following
        if reader.skips != skips:
            for request in requests:
                request.fail(RecoveryStatus.IO_ERROR)

    @staticmethod
    def _is_inside(member: Member, parts: Parts, requests: list[Request]) -> bool:
        try:
            return components(member.path)[: len(parts)] == parts
        except ValueError:
            for request in requests:
                request.fail(RecoveryStatus.IO_ERROR)
            return True  # and is reported as every path that cannot be used

    def _object(
        self, member: Member, parts: Parts, spots: list[Spot], kept: Iterator[memoryview] | None = None
    ) -> None:
        super()._object(member, parts, spots, kept)
        if member.names > 1:
            made = [spot for spot in spots if key_of(spot, parts) in self._made]
            if made:
                self._firsts.setdefault(member.offset, made[0])

    # --- further names -------------------------------------------------------------------------------------

    def _pass(self, member: Member, parts: Parts) -> None:
        self._reader.skip(member.blocks)  # a further name goes back to it

    def _from_elsewhere(self, member: Member, first: Parts, parts: Parts, spots: list[Spot]) -> bool:
        """Put a further name off: its first one may come yet, and going back and forth would cost a read each."""
        if member.first < 0:
            return False
        self._links.setdefault(member.first, []).append(_Link(first, parts, spots))
        return True

    def _make_links(self) -> None:
        for place in sorted(self._links):
            made = self._firsts.get(place)
            far: dict[int, list[_Link]] = {}  # by entry of the list: each has an object of its own
            for link in self._links[place]:
                for spot in link.spots:
                    if made is not None and self._can_link(made, spot):
                        self._link(made, spot)
                    else:
                        far.setdefault(id(spot.target.request), []).append(_Link(link.first, link.parts, [spot]))
            while far:
                self._links[place] = [link for links in far.values() for link in links]
                self._make_far(place, far.pop(next(iter(far))))
            del self._links[place]

    def _can_link(self, made: Spot, spot: Spot) -> bool:
        try:
            devices = {os.fstat(self._writer.descriptor(each.target)).st_dev for each in (made, spot)}
        except OSError:
            return True  # which is tried, and reported
        return len(devices) == 1

    def _make_far(self, place: int, links: list[_Link]) -> None:
        """Names of an object that this recover has not made where they are."""
        try:
            member = self._land(place, place + HEAD_BYTES)
            parts = components(member.path)
        except (_NotThere, ValueError) as error:
            for link in links:
                self._fail(link.spots, f"its content was not found: {error}")
            return
        spots: list[Spot] = []
        for link in links:
            if link.first == parts and member.kind not in {KIND_HARD_LINK, KIND_DIRECTORY}:
                spots += link.spots
            else:
                text = f"its content was not found: at offset {place} lies {os.fsdecode(member.path[:255])!r}"
                self._fail(link.spots, text)
        if spots:
            self._object(member._replace(inode=member.inode._replace(nlink=max(2, member.names))), parts, spots)


def _say_in_order(report: RecoverReport, why: str) -> None:
    report.say(LogType.NORMAL, f"no direct access, the stream is read from its beginning: {why}")
