"""Dump streams made to do harm or damaged, by what is wrong with each: none may write outside, all must be told of.

Every stream would put a file "good" into the destination, so that one can see whether the rest of it was recovered.
"""

import stat
import struct
from collections.abc import Callable

from tests.data.dump_writer import DATE, RECORD, DumpWriter, Meta, attribute_blob, padded

FILE = Meta(stat.S_IFREG | 0o644)
LINK = Meta(stat.S_IFLNK | 0o777)
DIRECTORY = Meta(stat.S_IFDIR | 0o755, nlink=2)
OUTSIDE = b"../outside"
BAD_NAMES = {
    "up": b"..",
    "here": b".",
    "up and in": b"../outside/new",
    "absolute": b"/tmp/new",
    "two components": b"a/b",
    "a NUL": b"a\0b",
    "nothing": b"",
    "down and up": b"sub/../../outside/kept",
}

Make = Callable[[], bytes]
STREAMS: dict[str, Make] = {}


def stream(name: str) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        STREAMS[name] = make
        return make

    return add


def begun(entries: list[tuple[int, bytes]], *, inodes: int = 12, bits: list[int] | None = None) -> DumpWriter:
    """A stream up to its root directory, which has "good" as inode 3."""
    writer = DumpWriter().begin(bits or range(2, inodes))
    return writer.directory(2, [(3, b"good"), *entries])


def ended(writer: DumpWriter) -> bytes:
    return writer.end(2)


def good(writer: DumpWriter) -> DumpWriter:
    return writer.file(3, b"good")


def _bad_name(name: bytes, as_directory: bool) -> Make:
    def make() -> bytes:
        writer = begun([(4, name)])
        if as_directory:
            writer.directory(4, [(5, b"in")])
        good(writer)
        if not as_directory:
            writer.file(4, b"harm")
        return ended(writer.file(5, b"harm"))

    return make


for _what, _name in BAD_NAMES.items():
    STREAMS[f"a file with the name {_what}"] = _bad_name(_name, False)
    if _name != b"..":
        STREAMS[f"a directory with the name {_what}"] = _bad_name(_name, True)


@stream("a symbolic link and a directory with its name")
def _() -> bytes:
    writer = begun([(4, b"way"), (5, b"way")]).directory(5, [(6, b"kept")])
    return ended(good(writer).content(4, LINK, OUTSIDE).file(6, b"harm"))


@stream("a directory and a symbolic link with its name")
def _() -> bytes:
    writer = begun([(5, b"way"), (4, b"way")]).directory(5, [(6, b"kept")])
    return ended(good(writer).content(4, LINK, OUTSIDE).file(6, b"harm"))


@stream("a symbolic link that is written through as a directory entry")
def _() -> bytes:
    writer = begun([(4, b"way"), (5, b"way/kept")])
    return ended(good(writer).content(4, LINK, OUTSIDE).file(5, b"harm"))


@stream("a directory in itself")
def _() -> bytes:
    writer = begun([(4, b"d")]).directory(4, [(4, b"self")])
    return ended(good(writer))


@stream("the root in itself")
def _() -> bytes:
    return ended(good(begun([(2, b"root")])))


@stream("a directory under two names")
def _() -> bytes:
    writer = begun([(4, b"one"), (4, b"two")]).directory(4, [(5, b"in")])
    return ended(good(writer).file(5, b"in"))


@stream("two directories in each other")
def _() -> bytes:
    writer = begun([(4, b"one")]).directory(4, [(5, b"two")]).directory(5, [(4, b"one")], parent=4)
    return ended(good(writer))


def _entry(number: int, length: int, name_length: int, name: bytes) -> bytes:
    return struct.pack("<IHBB", number, length, 8, name_length) + name


def _raw_directory(*entries: bytes, size: int | None = None) -> DumpWriter:
    """A root directory whose bytes are these, behind "good"."""
    data = _entry(3, 16, 4, b"good\0\0\0\0") + b"".join(entries)
    writer = DumpWriter().begin(range(2, 12))
    records = -(-len(data) // RECORD)
    writer.header(2, inumber=2, meta=DIRECTORY, size=records * RECORD if size is None else size, addr=b"\1" * records)
    writer.stream += padded(data)
    return writer


for _what, _bytes in {
    "of length 0": _entry(4, 0, 3, b"bad\0"),
    "of length 4": _entry(4, 4, 3, b"bad\0"),
    "of a length that is no multiple of 4": _entry(4, 13, 3, b"bad\0\0"),
    "that is shorter than its name": _entry(4, 12, 200, b"bad\0"),
    "that reaches beyond its chunk": _entry(4, 2000, 3, b"bad\0"),
    "that reaches beyond the directory": _entry(4, 65532, 3, b"bad\0"),
    "without a name": _entry(4, 1008, 0, b""),
}.items():
    STREAMS[f"an entry {_what}"] = lambda data=_bytes: ended(good(_raw_directory(data)).file(4, b"x"))  # type: ignore[misc]


@stream("a directory of holes")
def _() -> bytes:
    writer = begun([(4, b"d")])
    writer.header(2, inumber=4, meta=DIRECTORY, size=1 << 40, count=512)
    for _ in range(50):
        writer.header(4, inumber=4, meta=DIRECTORY, size=1 << 40, count=512)
    return ended(good(writer))


@stream("a directory that is said to be in the dump and is not")
def _() -> bytes:
    writer = DumpWriter().begin(range(2, 12))
    writer.directory(2, [(3, b"good"), (4, b"d")], kinds={4: 4})
    return ended(good(writer))


@stream("a file that is said to be in the dump and is not")
def _() -> bytes:
    return ended(good(begun([(4, b"missing")])))


@stream("no root")
def _() -> bytes:
    return ended(good(DumpWriter().begin(range(2, 6))))


@stream("a root that is a file")
def _() -> bytes:
    return ended(DumpWriter().begin(range(2, 6)).file(2, b"root").file(3, b"good"))


@stream("no directories at all")
def _() -> bytes:
    return ended(DumpWriter().begin([2]))


def _one_file(size: int, *, count: int | None = None, checksum_offset: int = 0, flags: int = 0) -> Make:
    def make() -> bytes:
        writer = good(begun([(4, b"bad")]))
        writer.header(2, inumber=4, meta=FILE, size=size, count=count, checksum_offset=checksum_offset, flags=flags)
        return ended(writer)

    return make


STREAMS["a file of 2^64 - 1 bytes"] = _one_file(2**64 - 1)
STREAMS["a file of 2^63 bytes"] = _one_file(2**63)
STREAMS["a header of 2^32 - 1 records"] = _one_file(10, count=0xFFFF_FFFF)
STREAMS["a header of 2^31 - 1 records"] = _one_file(10, count=0x7FFF_FFFF)
STREAMS["a header of 513 records"] = _one_file(513 * 1024, count=513)
STREAMS["a wrong checksum"] = _one_file(10, checksum_offset=1)
STREAMS["attributes without their content"] = _one_file(10, flags=0x100)


def _one_object(mode: int, data: bytes = b"", **more: int) -> Make:
    return lambda: ended(good(begun([(4, b"bad")])).content(4, Meta(mode, **more), data))


STREAMS["a symbolic link without a target"] = _one_object(stat.S_IFLNK | 0o777)
STREAMS["a symbolic link with a NUL"] = _one_object(stat.S_IFLNK | 0o777, b"a\0b")
STREAMS["a symbolic link of 5000 bytes"] = _one_object(stat.S_IFLNK | 0o777, b"t" * 5000)
STREAMS["a symbolic link of a mebibyte"] = _one_object(stat.S_IFLNK | 0o777, b"t" * (1 << 20))
STREAMS["an object of no kind"] = _one_object(0o644)
STREAMS["an object of an unknown kind"] = _one_object(0o160644)
STREAMS["a directory behind the files"] = _one_object(stat.S_IFDIR | 0o755, b"x")


def _attributes(blob: bytes, *, of: int = 4, extension: int = 3) -> Make:
    def make() -> bytes:
        writer = good(begun([(4, b"bad"), (5, b"next")])).file(4, b"x")
        writer.extension(of, FILE, blob, extension)
        return ended(writer.file(5, b"next"))

    return make


_ENTRY_AT = 32
_GOOD_BLOB = attribute_blob([(1, b"mark", b"value")])


def _changed(at: int, form: str, value: int) -> bytes:
    blob = bytearray(_GOOD_BLOB)
    struct.pack_into(form, blob, at, value)
    return bytes(blob)


STREAMS["attributes of no known magic"] = _attributes(b"\xff" * 200)
STREAMS["attributes of no bytes"] = _attributes(b"")
STREAMS["an attribute's name beyond its block"] = _attributes(_changed(_ENTRY_AT, "<B", 255))
STREAMS["an attribute of an unknown namespace"] = _attributes(_changed(_ENTRY_AT + 1, "<B", 99))
STREAMS["an attribute's value far beyond its block"] = _attributes(_changed(_ENTRY_AT + 2, "<H", 0xFFFC))
STREAMS["an attribute of 4 GiB"] = _attributes(_changed(_ENTRY_AT + 8, "<I", 0xFFFF_FFFF))
STREAMS["a list of attributes without an end"] = _attributes(_GOOD_BLOB[:48])
STREAMS["an ACL that is none"] = _attributes(attribute_blob([(2, b"", b"\1\0\0\0no ACL")]))
STREAMS["private attributes that are none"] = _attributes(b"\xff" * 300, extension=0x4D560001)


@stream("attributes without end")
def _() -> bytes:
    writer = good(begun([(4, b"bad")])).file(4, b"x")
    blob = attribute_blob([(1, b"mark", b"v" * 60_000)])
    for _ in range(300):
        writer.extension(4, FILE, blob)
    return ended(writer)


@stream("an inode that comes twice")
def _() -> bytes:
    writer = good(begun([(4, b"bad"), (5, b"later")]))
    return ended(writer.file(4, b"first").file(4, b"second").file(5, b"later"))


@stream("inodes out of order, and one twice")
def _() -> bytes:
    writer = begun([(4, b"four"), (5, b"five")])
    return ended(good(writer.file(5, b"five").file(4, b"four").file(5, b"again")))


@stream("a record of an unknown type")
def _() -> bytes:
    writer = good(begun([]))
    writer.header(77)
    return ended(writer)


@stream("a second volume")
def _() -> bytes:
    writer = good(begun([(4, b"bad")]))
    writer.volume = 2
    writer.header(1, flags=1)
    return ended(writer.file(4, b"x"))


@stream("a header of the other byte order")
def _() -> bytes:
    writer = good(begun([(4, b"bad")]))
    other = DumpWriter(">")
    other.file(4, b"bad")
    writer.stream += other.stream
    return ended(writer)


@stream("a header of another dump within a lost file")
def _() -> bytes:
    writer = good(begun([(4, b"bad"), (5, b"after")]))
    inner = DumpWriter()
    inner.date = DATE + 1
    inner.file(5, b"harm")
    writer.header(2, inumber=4, meta=FILE, size=len(inner.stream), addr=b"\1\1", checksum_offset=1)
    writer.stream += inner.stream
    return ended(writer.file(5, b"after"))


@stream("a header of the same date and the right place within a lost file")
def _() -> bytes:
    writer = DumpWriter()
    writer.label = b"random"
    good(writer.begin(range(2, 12)).directory(2, [(3, b"good"), (4, b"bad"), (5, b"after")]))
    writer.header(2, inumber=4, meta=FILE, size=2 * RECORD, addr=b"\1\1", checksum_offset=1)
    writer.label = b""  # that is what whoever wrote the file could not know
    writer.file(5, b"harm")
    writer.label = b"random"
    return ended(writer.file(5, b"after"))


@stream("zeros and garbage between objects")
def _() -> bytes:
    writer = good(begun([(4, b"after")]))
    writer.stream += bytes(RECORD) * 3 + b"\xa5" * RECORD * 2
    return ended(writer.file(4, b"after"))


@stream("a map of 2^31 - 1 records")
def _() -> bytes:
    writer = DumpWriter()
    writer.header(1, flags=1)
    writer.header(3, count=0x7FFF_FFFF)
    return bytes(writer.stream) + bytes(20 * RECORD)


@stream("a map without anything")
def _() -> bytes:
    writer = DumpWriter()
    writer.header(1, flags=1)
    writer.header(3, count=1)
    writer.stream += bytes(RECORD)
    writer.directory(2, [(3, b"good"), (4, b"d")], kinds={4: 4})
    return bytes(good(writer).stream[: -2 * RECORD]) + DumpWriter().end()


def _head(**changes: int) -> Make:
    def make() -> bytes:
        writer = begun([])
        record = bytearray(writer.stream[:RECORD])
        for field, value in changes.items():
            struct.pack_into("<I", record, {"type": 0, "volume": 12, "magic": 24, "flags": 888}[field], value)
        struct.pack_into("<I", record, 28, 0)
        total = sum(struct.unpack("<256I", record))
        struct.pack_into("<I", record, 28, (84446 - total) & 0xFFFF_FFFF)
        return bytes(record) + bytes(good(writer).stream[RECORD:]) + DumpWriter().end()

    return make


STREAMS["a compressed dump"] = _head(flags=0x83)
STREAMS["a dump of old directories"] = _head(flags=1)
STREAMS["a dump of the old format"] = _head(magic=60011)
STREAMS["a first record of another type"] = _head(type=2)
STREAMS["no dump at all"] = lambda: b"no dump " * 1000
STREAMS["nothing"] = bytes
STREAMS["half a record"] = lambda: ended(good(begun([])))[:500]
STREAMS["a stream without an end"] = lambda: bytes(good(begun([(4, b"later")])).stream)
