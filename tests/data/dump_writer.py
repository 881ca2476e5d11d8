"""Writes dump streams for tests, straight from the table in the format's description and apart from mover.data."""

import stat
import struct
from collections.abc import Iterable
from typing import NamedTuple

RECORD = 1024
DATE = 1_700_000_000


class Meta(NamedTuple):
    """What an inode header says of an object."""

    mode: int
    uid: int = 0
    gid: int = 0
    nlink: int = 1
    mtime_s: int = 1_600_000_000
    mtime_us: int = 123_456
    device: int = 0


def padded(data: bytes, size: int = RECORD) -> bytes:
    return data + bytes(-len(data) % size)


class DumpWriter:
    """A growing stream; every method appends."""

    def __init__(self, order: str = "<", *, level: int = 0, volume: int = 1, flags: int = 2) -> None:
        self.order = order
        self.level = level
        self.volume = volume
        self.flags = flags
        self.date = DATE
        self.label = b""
        self.ddate = 0
        self.stream = bytearray()
        self.offsets: dict[int, int] = {}  # inode -> offset of its header

    def header(
        self,
        kind: int,
        *,
        inumber: int = 0,
        meta: Meta | None = None,
        size: int = 0,
        addr: bytes = b"",
        count: int | None = None,
        flags: int = 0,
        extension: int = 0,
        checksum_offset: int = 0,
    ) -> int:
        """A header record; returns its offset. checksum_offset: makes the checksum wrong by so much."""
        record = bytearray(RECORD)
        order = self.order

        def put(offset: int, form: str, *values: int) -> None:
            struct.pack_into(order + form, record, offset, *values)

        at = len(self.stream)
        put(0, "iiiiII", kind, self.date, self.ddate, self.volume, at // RECORD, inumber)
        put(24, "I", 60012)
        if meta is not None:
            put(32, "HhHHQ", meta.mode, meta.nlink, meta.uid & 0xFFFF, meta.gid & 0xFFFF, size)
            for offset in (48, 56, 64):
                put(offset, "II", meta.mtime_s, meta.mtime_us)
            put(72, "I", meta.device)
            put(144, "II", meta.uid, meta.gid)
        put(160, "I", len(addr) if count is None else count)
        record[164 : 164 + len(addr)] = addr
        record[676 : 676 + len(self.label)] = self.label
        put(692, "i", self.level)
        record[696:704] = b"/volume\0"
        put(888, "I", self.flags | flags)
        put(896, "I", 10)
        put(900, "I", extension)
        total = sum(struct.unpack(order + "256I", record))
        put(28, "I", (84446 - total + checksum_offset) & 0xFFFFFFFF)
        self.stream += record
        return at

    def begin(self, inodes: Iterable[int], *, used: bytes | None = None) -> "DumpWriter":
        """TAPE, CLRI and BITS.

        Args:
            used: CLRI; None = of a full dump what is in BITS, of an incremental one that every inode is in use.
        """
        self.header(1, flags=1)
        numbers = list(inodes)
        bitmap = bytearray(max(numbers) // 8 + 1)
        for number in numbers:
            bitmap[(number - 1) // 8] |= 1 << (number - 1) % 8
        records = padded(bytes(bitmap))
        if used is None:
            used = b"\xff" * len(records) if self.ddate else records
        for kind, written in ((6, padded(used)), (3, records)):
            self.header(kind, count=len(written) // RECORD)
            self.stream += written
        return self

    def directory(
        self, inumber: int, entries: list[tuple[int, bytes]], *, parent: int = 2, mode: int = 0o755, chunk: int = 512,
        kinds: dict[int, int] | None = None, meta: Meta | None = None,
    ) -> "DumpWriter":  # fmt: skip
        """A directory of (inode, name), "." and ".." added; one header for each KiB, as Linux dump does."""
        data = bytearray()
        used = 0
        last = -1
        for number, name in [(inumber, b"."), (parent, b".."), *entries]:
            length = (8 + len(name) + 1 + 3) // 4 * 4
            if used + length > chunk:
                data[last + 4 : last + 6] = struct.pack(self.order + "H", chunk - (last % chunk))
                data += bytes(chunk - used)
                used = 0
            last = len(data)
            kind = (kinds or {}).get(number, 0)
            data += struct.pack(self.order + "IHBB", number, length, kind, len(name)) + name
            data += bytes(length - 8 - len(name))
            used += length
        data[last + 4 : last + 6] = struct.pack(self.order + "H", chunk - (last % chunk))
        data += bytes(-len(data) % chunk)
        meta = meta or Meta(stat.S_IFDIR | mode, nlink=2)
        return self.content(inumber, meta, bytes(data), span=1)

    def content(self, inumber: int, meta: Meta, data: bytes, *, span: int = 512, holes: bool = False) -> "DumpWriter":
        """An inode with content; holes: records of zeros are not written."""
        records = [data[at : at + RECORD] for at in range(0, len(data), RECORD)]
        first = True
        while first or records:
            part, records = records[:span], records[span:]
            addr = bytes(0 if holes and not any(record) else 1 for record in part)
            at = self.header(2 if first else 4, inumber=inumber, meta=meta, size=len(data), addr=addr)
            if first:
                self.offsets[inumber] = at
            self.stream += b"".join(padded(record) for record, there in zip(part, addr, strict=True) if there)
            first = False
        return self

    def file(self, inumber: int, data: bytes, mode: int = 0o644, *, holes: bool = False) -> "DumpWriter":
        return self.content(inumber, Meta(stat.S_IFREG | mode), data, holes=holes)

    def extension(self, inumber: int, meta: Meta, blob: bytes, number: int = 3) -> "DumpWriter":
        records = padded(blob)
        addr = b"\1" * (len(records) // RECORD)
        self.header(2, inumber=inumber, meta=meta, size=len(blob), addr=addr, flags=0x8000, extension=number)
        self.stream += records
        return self

    def end(self, count: int = 1) -> bytes:
        for _ in range(count):
            self.header(5)
        return bytes(self.stream)


def attribute_blob(entries: list[tuple[int, bytes, bytes]], *, in_inode: bool = False) -> bytes:
    """An ext2 attribute block of (index, name, value); in_inode: the form taken from inside the inode."""
    head = struct.pack("<I", 0xEA020001) if in_inode else struct.pack("<IIII16x", 0xEA020000, 1, 1, 0)
    table = sum(16 + (len(name) + 3) // 4 * 4 for _, name, _ in entries) + 4
    body, values = bytearray(), bytearray()
    base = 0 if in_inode else len(head)
    for index, name, value in entries:
        body += struct.pack("<BBHIII", len(name), index, base + table + len(values), 0, len(value), 0)
        body += padded(name, 4)
        values += padded(value, 4)
    return head + bytes(body) + bytes(4) + bytes(values)
