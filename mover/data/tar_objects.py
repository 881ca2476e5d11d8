"""Writes one object into a pax stream: extended header, header, content.

The three blocks in front of a usual small file are joined from constants, its name and two formatted texts; all other
objects go the general way. Source: tar.md sections 1 and 2.
"""

import os
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Final
from zlib import adler32

from mover.data.backup_format import Job, PackSmall, Written
from mover.data.backup_objects import data_ranges, may_have_holes
from mover.data.backup_stream import ZEROS, BackupStream
from mover.data.dump_format import DT_DIRECTORY, FIRST_INUMBER, Inode
from mover.data.plan import Plan
from mover.data.tar_format import (
    BLOCK_BYTES,
    CHARSET,
    CHARSET_BINARY,
    COMMENT,
    DIRECTORY,
    DUMPDIR,
    EXTENDED,
    EXTENDED_BYTES_MAX,
    EXTENDED_PREFIX,
    HARD_LINK,
    IDENTITY_NAME,
    LARGE_NUMBER_MAX,
    LINK_PATH,
    NAME_BYTES,
    NAMED_TYPES,
    OFFSET_TYPE,
    PATH,
    PREFIX_BYTES,
    REGULAR,
    SEGMENTS_MAX,
    SMALL_NUMBER_MAX,
    SPARSE_MAJOR,
    SPARSE_MINOR,
    SPARSE_NAME,
    SPARSE_SIZE,
    TYPES,
    attribute_records,
    byte_sum,
    is_utf8,
    pack_header,
    pax_record,
    pax_time,
    place_numbers,
    sparse_map,
    split_path,
)
from mover.data.tar_listing import listing_mark
from mover.data.xattr_blob import Attribute

_BILLION: Final = 1_000_000_000
_TEN_DIGITS: Final = 10**9  # seconds from 2001 on; up to 32 bits they have as many
_TIMES: Final = b"30 mtime=%d.%09d\n30 atime=%d.%09d\n30 ctime=%d.%09d\n"
_TIMES_BYTES: Final = 90
_NUMBERS: Final = b"%07o\0%07o\0%07o\0%011o\0%011o\0"  # mode to mtime
_PADDING: Final = tuple(bytes(length) for length in range(BLOCK_BYTES + 1))
_ROOT: Final = b"."
_SPARSE_DIRECTORY: Final = b"GNUSparseFile.0"
_SOCKET: Final = 12
_CODES: Final = bytes.maketrans(b"\0\1", b"NY")


class _Extended(dict[int, bytes]):
    """Bytes of records -> the header in front of them; its name tells of which stream it is."""

    def __init__(self, identity: bytes) -> None:
        super().__init__()
        self._name = IDENTITY_NAME + identity

    def __missing__(self, size: int) -> bytes:
        header = pack_header(self._name, EXTENDED_PREFIX, EXTENDED, mode=0o644, size=size)
        if size <= BLOCK_BYTES:
            self[size] = header
        return header


def _time_records(inode: Inode) -> list[bytes]:
    return [
        pax_record(b"mtime", pax_time(inode.mtime_ns)),
        pax_record(b"atime", pax_time(inode.atime_ns)),
        pax_record(b"ctime", pax_time(inode.ctime_ns)),
    ]


def _large_numbers(uid: int, gid: int, size: int) -> list[bytes]:
    """Records of the numbers that the header cannot hold."""
    bounds = ((b"uid", uid, SMALL_NUMBER_MAX), (b"gid", gid, SMALL_NUMBER_MAX), (b"size", size, LARGE_NUMBER_MAX))
    return [pax_record(keyword, b"%d" % number) for keyword, number, most in bounds if number > most]


def _small_packer(extended: _Extended, prefix: bytes) -> PackSmall:
    """Args: prefix: of the directory's entries."""
    template = pack_header(b"", prefix, REGULAR)
    rest = template[OFFSET_TYPE:]
    # The sum of what is the same in every header, less the ones that two Adler sums begin with.
    constant = byte_sum(bytes(OFFSET_TYPE) + rest) - 2
    times_header, times_padding = extended[_TIMES_BYTES], bytes(BLOCK_BYTES - _TIMES_BYTES)
    padding, join = _PADDING, b"".join

    def pack(
        slot: memoryview, position: int, offset: int, inumber: int, name: bytes, mode: int, uid: int, gid: int,
        size: int, blocks: int, atime: int, mtime: int, ctime: int, atime_ns: int, mtime_ns: int, ctime_ns: int,
    ) -> None:  # fmt: skip
        numbers = _NUMBERS % (mode & 0o7777, uid, gid, size, mtime)
        if mtime >= _TEN_DIGITS and atime >= _TEN_DIGITS and ctime >= _TEN_DIGITS and len(numbers) == 48:
            records = _TIMES % (
                mtime, mtime_ns % _BILLION,
                atime, atime_ns % _BILLION,
                ctime, ctime_ns % _BILLION,
            )  # fmt: skip
            header, after = times_header, times_padding
        else:
            inode = Inode(mode, 1, uid, gid, size, atime_ns, mtime_ns, ctime_ns)
            records = join(_large_numbers(uid, gid, size) + _time_records(inode))
            header, after = extended[len(records)], padding[BLOCK_BYTES - len(records)]
            shown = (mode & 0o7777, min(uid, SMALL_NUMBER_MAX), min(gid, SMALL_NUMBER_MAX), size, mtime)
            numbers = _NUMBERS % shown
        # Adler's first half is one more than the sum of the bytes, as long as that is below 65,520: here it is.
        checksum = constant + (adler32(name) & 0xFFFF) + (adler32(numbers) & 0xFFFF)
        slot[position : position + 3 * BLOCK_BYTES] = join(
            (header, records, after, name, padding[NAME_BYTES - len(name)], numbers, b"%06o\0 " % checksum, rest)
        )

    return pack


class TarObjects:
    """Appends whole objects to a pax stream."""

    head_bytes = 3 * BLOCK_BYTES
    unit_bytes = BLOCK_BYTES
    small_bytes_max = LARGE_NUMBER_MAX
    ascending = False
    names_links = True
    not_held: Final = {_SOCKET: "it is a socket, which a tar stream cannot hold"}

    def __init__(self, job: Job, plan: Plan, stream: BackupStream, identity: bytes) -> None:
        """Args: identity: random name of this stream."""
        self._job = job
        self._plan = plan
        self._stream = stream
        self._extended = _Extended(identity)
        options = job.options
        # Also where a full backup is made instead of the incremental one: it is laid over what came before.
        self._tells_what_is_there = bool(job.level or options.level or options.base_date)

    def directory(self, ordinal: int) -> None:
        """The member of a directory, its history, and those of what is in it come next."""
        plan, report = self._plan, self._job.report
        offset = self._stream.offset
        inode = plan.inode(ordinal, 0)
        records = [] if ordinal else [self._comment()]
        if self._tells_what_is_there:
            records += self._listing(ordinal)
        attributes = plan.attributes.get(ordinal, [])
        self._member(_full(plan.path(ordinal)) + b"/", DIRECTORY, inode, attributes, records=records)
        report.directories += 1
        if not report.directories % 64:
            report.publish()
        if self._job.history is not None:
            entries = [entry for entry in plan.numbered_entries(ordinal) if entry[1] not in self.not_held]
            self._job.history.add_directory(plan, ordinal, entries, inode, offset)

    def packer(self, ordinal: int) -> tuple[PackSmall, int]:
        prefix = _full(self._plan.path(ordinal))
        return _small_packer(self._extended, prefix), NAME_BYTES if len(prefix) <= PREFIX_BYTES else -1

    def regular(
        self, fd: int, inumber: int, path: Callable[[], bytes], inode: Inode, attributes: list[Attribute]
    ) -> None:
        stream = self._stream
        stream.missing_bytes, stream.read_error = 0, None
        full = _full(path())
        segments = _segments(fd, inode.size) if inode.size and may_have_holes(inode, attributes) else None
        if segments is None:
            self._member(full, REGULAR, inode, attributes, size=inode.size)
            stream.read(fd, 0, inode.size)
            size = inode.size
        else:
            size = self._sparse(fd, full, inode, attributes, segments)
        if size % BLOCK_BYTES:
            stream.write(ZEROS[: -size % BLOCK_BYTES])
        stream.complete_reads()

    def special(
        self, inumber: int, path: Callable[[], bytes], inode: Inode, target: bytes, attributes: list[Attribute]
    ) -> None:
        self._member(_full(path()), TYPES[inode.mode >> 12], inode, attributes, link=target)

    def link(self, path: bytes, first: Written) -> None:
        inode, place = first.inode, place_numbers(first.offset)
        self._member(_full(path), HARD_LINK, inode, [], link=_full(first.path), numbers=place)

    def leave_out(self, inumber: int) -> None:
        """Nothing in the stream tells of it."""

    def _listing(self, ordinal: int) -> list[bytes]:
        """What is in a directory, so that a reader that wants it can delete the rest: tar.md section 3.

        Y = in this stream, N = not, D = a directory, whichever. Nothing at all where not everything is known.
        """
        plan = self._plan
        names, types, first = plan.entry_names(ordinal), plan.types[ordinal], plan.firsts[ordinal]
        if plan.inumbers[ordinal] in plan.unsound or (plan.odd[ordinal] and not names):  # the latter: a mount
            return []
        chosen = bytes(b"Y" * len(names))
        if plan.selection is not None:
            others = plan.selection.others[first - FIRST_INUMBER : first - FIRST_INUMBER + len(names)]
            chosen = bytes(others).translate(_CODES)
        parts = [
            b"%b%b\0" % (b"D" if kind == DT_DIRECTORY else chosen[place : place + 1], name)
            for place, (kind, name) in enumerate(zip(types, names, strict=True))
            if kind not in self.not_held and first + place not in plan.absent
        ]
        parts += [b"N%b\0" % name for name in plan.excluded.get(ordinal, [])]
        parts.sort(key=lambda part: part[1:])  # GNU tar looks a name up by halving
        value = b"".join(parts) + b"\0"
        if len(value) > EXTENDED_BYTES_MAX // 2:
            text = "has too many entries to name them all: what is gone from it stays in a recover of this backup"
            self._job.report.warning(plan.path(ordinal), text)
            return []
        path = _full(plan.path(ordinal)) + b"/"
        return [pax_record(DUMPDIR, value), pax_record(COMMENT, listing_mark(path, value))]

    def _kept(self, path: bytes, attributes: list[Attribute]) -> list[bytes]:
        """The records of an object's attributes, as many of them as a reader takes."""
        records = attribute_records(attributes)
        room = EXTENDED_BYTES_MAX // 2
        if sum(map(len, records)) <= room:
            return records
        kept = []
        for (name, _), record in zip(attributes, records, strict=True):
            room -= len(record)
            if room >= 0:
                kept.append(record)
                continue
            text = (
                f"attribute {os.fsdecode(name)!r} left out: there are more than {EXTENDED_BYTES_MAX // 2} bytes of them"
            )
            self._job.report.error(path.removeprefix(b"./"), text)
        return kept

    def _comment(self) -> bytes:
        """What this stream is, for whoever looks into it."""
        job = self._job
        date = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(job.date)).encode()
        return pax_record(COMMENT, b"backup of %b on %b, %b" % (job.filesystem, job.host, date))

    def _sparse(self, fd: int, path: bytes, inode: Inode, attributes: list[Attribute], segments: "array[int]") -> int:
        """A file with holes, but for its padding: GNU format 1.0; returns the bytes of its data."""
        stream = self._stream
        text = sparse_map(segments, inode.size)
        size = sum(segments[1::2])
        charset = [] if is_utf8(path) else [pax_record(CHARSET, CHARSET_BINARY)]
        records = [
            *charset,
            pax_record(SPARSE_MAJOR, b"1"),
            pax_record(SPARSE_MINOR, b"0"),
            pax_record(SPARSE_NAME, path),
            pax_record(SPARSE_SIZE, b"%d" % inode.size),
        ]
        # A reader that knows nothing of this finds map and data in a file beside the real one.
        directory, _, name = path.rpartition(b"/")
        if len(directory) > PREFIX_BYTES:
            directory = _ROOT
        placeholder = directory + b"/" + (_SPARSE_DIRECTORY + b"/" + name)[:NAME_BYTES]
        self._member(placeholder, REGULAR, inode, attributes, size=len(text) + size, records=records)
        stream.write(text)
        for start, length in zip(segments[::2], segments[1::2], strict=True):
            stream.read(fd, start, length)
        return size

    def _member(
        self,
        path: bytes,
        type_flag: bytes,
        inode: Inode,
        attributes: list[Attribute],
        *,
        size: int = 0,
        link: bytes = b"",
        records: Sequence[bytes] = (),
        numbers: tuple[int, int] | None = None,
    ) -> None:
        """Both headers of a member.

        Args:
            path: from _ROOT on; that of a directory ends with a separator.
            size: of what follows.
            records: that belong into the extended header besides.
            numbers: for devmajor and devminor, where they are not those of a device.
        """
        names = []
        # A file that does not fit into its slot gets the header of the small ones around it: a recover knows those.
        split = split_path(path, at_directory=type_flag == REGULAR)
        if split is None:
            names.append((PATH, path))
            split = b"", path[:NAME_BYTES]
        if len(link) > NAME_BYTES:
            names.append((LINK_PATH, link))
        charset = [] if all(is_utf8(text) for _, text in names) else [pax_record(CHARSET, CHARSET_BINARY)]
        extended = b"".join(
            [
                *charset,
                *records,
                *(pax_record(keyword, text) for keyword, text in names),
                *_large_numbers(inode.uid, inode.gid, size),
                *_time_records(inode),
                *self._kept(path, attributes),
            ]
        )
        if numbers is None:
            # Where the minor one means nothing else, how many names there are: who wants a later one keeps the content.
            count = inode.nlink if type_flag in NAMED_TYPES and inode.nlink > 1 else 0
            numbers = os.major(inode.device), os.minor(inode.device) or count
        stream = self._stream
        stream.write(self._extended[len(extended)])
        stream.write_padded(extended, BLOCK_BYTES)
        prefix, name = split
        stream.write(
            pack_header(
                name,
                prefix,
                type_flag,
                mode=inode.mode,
                uid=inode.uid,
                gid=inode.gid,
                size=size,
                mtime=inode.mtime_ns // _BILLION,
                link=link[:NAME_BYTES],
                major=numbers[0],
                minor=numbers[1],
            )
        )


def _full(path: bytes) -> bytes:
    """A path as it stands in the stream, with the root as ``.``"""
    return _ROOT + b"/" + path if path else _ROOT


def _segments(fd: int, size: int) -> "array[int] | None":
    """Offset and length of each range of data; None: there are no holes after all."""
    segments = array("Q")
    for start, end in data_ranges(fd, size):
        if len(segments) == 2 * SEGMENTS_MAX:
            segments[-1] = size - segments[-2]
            break
        segments.extend((start, end - start))
    return None if segments.tolist() == [0, size] else segments
