"""The members of a tar stream: each header with all that was said of its object before it.

Source: tar.md; GNU tar manual, "Basic Tar Format".
"""

import os
import stat
from array import array
from collections.abc import Callable
from typing import Final, NamedTuple

from mover.data.dump_format import Inode
from mover.data.stream_blocks import Source, StreamRefused
from mover.data.tar_format import (
    BLOCK_BYTES,
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    COMMENT,
    CONTIGUOUS,
    DIRECTORY,
    DUMPDIR,
    EXTENDED,
    EXTENDED_BYTES_MAX,
    EXTENDED_GLOBAL,
    EXTENDED_PREFIX,
    FIFO,
    GNU_DIRECTORY,
    GNU_LONG_LINK,
    GNU_LONG_NAME,
    GNU_SPARSE,
    GNU_VOLUME_LABEL,
    HARD_LINK,
    IDENTITY_NAME,
    LINK_PATH,
    NAMED_TYPES,
    PATH,
    REGULAR,
    REGULAR_OLD,
    SPARSE_MAJOR,
    SPARSE_MINOR,
    SPARSE_NAME,
    SPARSE_SIZE,
    SYMBOLIC_LINK,
    FormatError,
    first_place,
)
from mover.data.tar_headers import Header, parse_header, pax_integer, pax_records, pax_time_ns, sum_is_good
from mover.data.tar_listing import listing_mark
from mover.data.tar_recover_attributes import Accounts, AttributeReader, mode_with_acl
from mover.data.tar_recover_headers import PAX_TYPES, HeaderReader, tell_nobody
from mover.data.tar_recover_small import TIMES_BYTES
from mover.data.tar_recover_sparse import (
    LeadingMap,
    add_record,
    checked,
    is_continued,
    map_of_text,
    more_of_old_map,
    old_map,
)
from mover.data.xattr_blob import Attribute

GLOBAL_BYTES_MAX: Final = 1 << 20
PATH_BYTES_MAX: Final = 128 << 10
KIND_HARD_LINK: Final = 0
"""Member.kind of a further name; the others are stat's S_IF numbers."""
KIND_DIRECTORY: Final = stat.S_IFDIR

_ZEROS: Final = bytes(BLOCK_BYTES)
_OWN_NAME: Final = EXTENDED_PREFIX.rstrip(b"/") + b"/" + IDENTITY_NAME
_KINDS: Final = {
    REGULAR: stat.S_IFREG,
    REGULAR_OLD: stat.S_IFREG,
    CONTIGUOUS: stat.S_IFREG,
    GNU_SPARSE: stat.S_IFREG,
    HARD_LINK: KIND_HARD_LINK,
    SYMBOLIC_LINK: stat.S_IFLNK,
    CHARACTER_DEVICE: stat.S_IFCHR,
    BLOCK_DEVICE: stat.S_IFBLK,
    DIRECTORY: stat.S_IFDIR,
    GNU_DIRECTORY: stat.S_IFDIR,
    FIFO: stat.S_IFIFO,
}
# A size in the header of one of these is no content that follows.
_WITHOUT_CONTENT: Final = frozenset({SYMBOLIC_LINK, CHARACTER_DEVICE, BLOCK_DEVICE, DIRECTORY, FIFO})
_SPARSE_SIZES: Final = (SPARSE_SIZE, b"GNU.sparse.size")
_SPARSE_MAP: Final = b"GNU.sparse.map"
_SPARSE_RECORDS: Final = frozenset({b"GNU.sparse.offset", b"GNU.sparse.numbytes"})
_OF_VOLUMES: Final = b"GNU.volume."
_MAJOR_MAX, _MINOR_MAX = (1 << 12) - 1, (1 << 20) - 1  # of Linux
_NO_OWNER: Final = 0xFFFF_FFFF


class Member(NamedTuple):
    """One object as the stream tells of it.

    Attributes:
        kind: S_IF number, or KIND_HARD_LINK.
        link: target of a symbolic link, or the name that a further name stands for.
        inode: its size is that of the file, holes included.
        lost: what of it cannot be used, a line each.
        segments: offset and length of each range of its content; None = one, from the beginning.
        stored: bytes of content that follow.
        offset: of its first header in the stream.
        problem: why it cannot be made at all; "" = it can.
        names: how many names it has, where a stream of ours says so; else 1.
        first: of a further name in a stream of ours, the offset of the member with the content; -1 = not told.
        listing: of a directory, what GNU.dumpdir says is in it; None = nothing.
    """

    path: bytes
    kind: int
    link: bytes
    inode: Inode
    attributes: list[Attribute]
    lost: list[str]
    segments: "array[int] | None"
    stored: int
    offset: int
    problem: str
    names: int
    first: int
    listing: bytes | None

    @property
    def blocks(self) -> int:
        """Blocks of content that follow."""
        return -(-self.stored // BLOCK_BYTES)


class _Extended:
    """What came before a header and belongs to it."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.map: array[int] = array("Q")
        self.problem = ""
        self.bytes = 0

    def take(self, data: bytes) -> None:
        """Use the records of an extended header."""
        try:
            for keyword, value in pax_records(data):
                if keyword in _SPARSE_RECORDS:
                    add_record(self.map, value)
                else:
                    self.values[keyword] = value
        except FormatError as error:
            self.problem = str(error)


class MemberReader(HeaderReader):
    """A tar stream's members, one after the other; their content is read in between, as blocks.

    Attributes:
        times: an extended header of a stream of ours, as a block, whose records are times and nothing else; b"" = none
            came yet.
        foresee: called with an offset as soon as it is known that the stream reaches to it, to what is wanted.
    """

    def __init__(
        self,
        source: Source,
        skipped: Callable[[int, int, str, bool], None],
        on_slot: Callable[[], None],
        note: Callable[[str], None],
    ) -> None:
        """Args: skipped, on_slot: as HeaderReader. note: called with a line about the stream as a whole."""
        super().__init__(source, skipped, on_slot)
        self.times = b""
        self.foresee: Callable[[int], None] = tell_nobody
        self._note = note
        self._globals: dict[bytes, bytes] = {}
        self._accounts = Accounts()

    def next(self) -> Member | None:
        """The next member, whose content, if it has any, must be read or skipped before the one behind it; None = end.

        Raises:
            StreamRefused: no tar stream, or one of a kind that is not supported.
            StreamBroken: the stream ends before its end.
        """
        extended, first, was_extended = _Extended(), -1, False
        while True:
            skips = self.skips
            header = self._header()
            if header is None:
                if was_extended:
                    self._lost(first, "an extended header with nothing behind it")
                return None
            if skips != self.skips:  # what was said before was not said of this one
                extended, first, was_extended = _Extended(), -1, False
            if first < 0:
                first = self.offset - BLOCK_BYTES
            kind = header.type
            if kind in PAX_TYPES:
                was_extended = True
                if not self._members and not self.identity and header.name.startswith(_OWN_NAME):
                    self.identity = header.name
                if header.size == TIMES_BYTES and header.name == self.identity and not self._globals:
                    self.times = header.block
                self._extend(extended, header)
            elif kind in {GNU_LONG_NAME, GNU_LONG_LINK}:
                was_extended = True
                self._long_name(extended, header)
            elif kind == EXTENDED_GLOBAL:
                self._extend_all(header)
                first = first if was_extended else -1
            elif kind == GNU_VOLUME_LABEL:
                self._note(f"the volume's label is {os.fsdecode(header.name)!r}")
                self.skip(-(-header.size // BLOCK_BYTES))
                first = first if was_extended else -1
            else:
                self._all_extended &= was_extended
                self._members += 1
                return self._member(header, extended, first)

    def next_here(self) -> Member:
        """The member of this stream, which must be known by its ``identity``, whose first header is the next block.

        Raises:
            FormatError: there is none, or one of its headers is damaged; nothing was skipped.
            StreamRefused, StreamBroken: as ``next``.
        """
        header = parse_header(self._block())
        if header.type != EXTENDED or header.name != self.identity:
            raise FormatError("a header of another archive")
        self._unread()
        self._strict = True
        try:
            member = self.next()
        finally:
            self._strict = False
        if member is None:
            raise FormatError("the end of the stream")
        return member

    def silence(self) -> None:
        """Tell nobody what is skipped; for a second reader of the same stream."""
        self._skipped = tell_nobody
        self._note = tell_nobody

    # --- what belongs to the next header -------------------------------------------------------------------

    def _small(self, header: Header, most: int) -> bytes | None:
        """The content of a header that tells of another one; None, and skipped, when it is too large."""
        blocks = -(-header.size // BLOCK_BYTES)
        if header.size > most:
            self.skip(blocks)
            return None
        return self.read(blocks)[: header.size]

    def _extend(self, extended: _Extended, header: Header) -> None:
        self.foresee(self.offset + header.size + -header.size % BLOCK_BYTES + BLOCK_BYTES)
        data = self._small(header, EXTENDED_BYTES_MAX - extended.bytes)
        if data is None:
            extended.problem = f"an extended header of {header.size} bytes"
            return
        extended.bytes += len(data)
        extended.take(data)
        if any(keyword.startswith(_OF_VOLUMES) for keyword in extended.values):
            raise StreamRefused("a part of a tar archive on several volumes, which is not supported")

    def _long_name(self, extended: _Extended, header: Header) -> None:
        data = self._small(header, PATH_BYTES_MAX + 1)
        if data is None:
            extended.problem = f"a name of {header.size} bytes"
            return
        # A pax path comes in another kind of archive; where both are, the one said last counts.
        extended.values[PATH if header.type == GNU_LONG_NAME else LINK_PATH] = data.partition(b"\0")[0]

    def _extend_all(self, header: Header) -> None:
        data = self._small(header, GLOBAL_BYTES_MAX)
        try:
            if data is None:
                raise FormatError(f"it has {header.size} bytes")
            values = dict(pax_records(data))
            if sum(map(len, self._globals)) + sum(map(len, self._globals.values())) + len(data) > GLOBAL_BYTES_MAX:
                raise FormatError("all of them together are too large")
        except FormatError as error:
            self._lost(self.offset - BLOCK_BYTES, f"a global extended header that cannot be used: {error}")
            return
        self._globals.update(values)
        self.times = b""  # from here on each member is told more of than its own headers say

    # --- members -------------------------------------------------------------------------------------------

    def _member(self, header: Header, extended: _Extended, offset: int) -> Member:
        values = {**self._globals, **extended.values} if self._globals else extended.values
        lost: list[str] = []
        problem = extended.problem

        def told(keyword: bytes, otherwise: int, read: Callable[[bytes, str], int]) -> int:
            value = values.get(keyword)
            if not value:
                return otherwise
            try:
                return read(value, keyword.decode())
            except FormatError as error:
                lost.append(str(error))
                return otherwise

        kind = _KINDS.get(header.type, -1)
        path = values.get(SPARSE_NAME) or values.get(PATH) or header.name
        link = values.get(LINK_PATH) or header.link
        size = stored = told(b"size", header.size, pax_integer)
        if kind == stat.S_IFREG and path.endswith(b"/") and header.type != GNU_SPARSE:
            kind = stat.S_IFDIR  # v7 has no other way to say it
        segments: array[int] | None = None
        try:
            if header.type in _WITHOUT_CONTENT:
                size = stored = 0
            elif header.type == HARD_LINK:
                size = stored = self._content_of_link(stored)
            elif header.type == GNU_DIRECTORY:
                size = 0  # what follows says which names were in it
            elif header.type == GNU_SPARSE:
                size, segments = self._old_sparse(header)
            elif kind == stat.S_IFREG:
                begin = self.offset
                self.foresee(begin + stored)
                try:
                    size, stored, segments = self._sparse(values, extended.map, stored)
                except FormatError:
                    stored = max(0, stored - (self.offset - begin))  # a map is a part of what is stored
                    raise
            if segments is not None:
                checked(segments, size, stored)
        except FormatError as error:
            problem = problem or str(error)
        if kind < 0:
            problem = problem or f"an object of the unknown type {header.type!r}"
        if len(path) > PATH_BYTES_MAX:
            problem = problem or f"a name of {len(path)} bytes"
        major = told(b"SCHILY.devmajor", header.major, pax_integer)
        minor = told(b"SCHILY.devminor", header.minor, pax_integer)
        device = 0
        if kind in {stat.S_IFCHR, stat.S_IFBLK}:
            if 0 <= major <= _MAJOR_MAX and 0 <= minor <= _MINOR_MAX:
                device = os.makedev(major, minor)
            else:
                problem = problem or f"a device with the number {major}:{minor}"
        reader = AttributeReader(self._accounts)
        for keyword, value in values.items():
            reader.take(keyword, value)
        lost += reader.problems
        attributes = reader.attributes()
        mtime_ns = told(b"mtime", header.mtime_ns, pax_time_ns)
        inode = Inode(
            max(kind, 0) | mode_with_acl(header.mode, attributes),
            1,
            _owner(told(b"uid", header.uid, pax_integer)),
            _owner(told(b"gid", header.gid, pax_integer)),
            len(link) if kind == stat.S_IFLNK else size,
            told(b"atime", mtime_ns if header.atime_ns is None else header.atime_ns, pax_time_ns),
            mtime_ns,
            told(b"ctime", mtime_ns if header.ctime_ns is None else header.ctime_ns, pax_time_ns),
            device,
        )
        listing = values.get(DUMPDIR)
        if listing is not None and self.identity and values.get(COMMENT) != listing_mark(path, listing):
            lost.append("the list of what was in it, which is damaged")
            listing = None
        names = header.minor if self.identity and header.type in NAMED_TYPES and header.minor > 1 else 1
        first = first_place(header.major, header.minor) if self.identity and header.type == HARD_LINK else -1
        return Member(
            path[: PATH_BYTES_MAX + 1],
            max(kind, 0),
            link,
            inode,
            attributes,
            lost,
            segments,
            stored,
            offset,
            problem,
            names,
            first,
            listing,
        )

    def _content_of_link(self, stored: int) -> int:
        """Bytes of content behind a further name: pax allows them, older tars tell the file's size all the same."""
        if not stored:
            return 0
        block = self._block()
        self._unread()
        return 0 if block == _ZEROS or sum_is_good(block) else stored

    def _old_sparse(self, header: Header) -> "tuple[int, array[int]]":
        segments: array[int] = array("Q")
        problem: FormatError | None = None
        size = header.size
        try:
            size = old_map(segments, header.block)
        except FormatError as error:
            problem = error
        more = is_continued(header.block, header=True)
        while more:
            block = self._block()
            more = is_continued(block, header=False)
            if problem is None:
                try:
                    more_of_old_map(segments, block)
                except FormatError as error:
                    problem = error
        if problem is not None:
            raise problem
        return size, segments

    def _sparse(
        self, values: dict[bytes, bytes], offsets: "array[int]", stored: int
    ) -> "tuple[int, int, array[int] | None]":
        """Size, bytes of content and map of a regular file."""
        real = next((values[keyword] for keyword in _SPARSE_SIZES if keyword in values), None)
        if real is None:
            return stored, stored, None
        size = pax_integer(real, "real size")
        version = values.get(SPARSE_MAJOR, b"0"), values.get(SPARSE_MINOR, b"0")
        if version == (b"1", b"0"):
            leading = LeadingMap()
            while True:
                if stored < BLOCK_BYTES:
                    raise FormatError("a map of holes that does not end")
                stored -= BLOCK_BYTES
                if not leading.feed(self._block()):
                    return size, stored, leading.segments
        if version[0] != b"0":
            raise FormatError(f"holes of GNU's format {version[0]!r}.{version[1]!r}")
        return size, stored, map_of_text(values[_SPARSE_MAP]) if _SPARSE_MAP in values else offsets


def _owner(number: int) -> int:
    """A number that chown takes, or the one that it does not set."""
    return number if 0 <= number < _NO_OWNER else _NO_OWNER
