"""Writes tar streams field by field, right or wrong; shares no code with the reader it tests."""

import os
import struct
from typing import Any

BLOCK = 512
NUL = b"\0"
Records = list[tuple[bytes, bytes]]


def octal(value: int, digits: int) -> bytes:
    return b"%0*o\0" % (digits, value)


def base_256(value: int, width: int) -> bytes:
    return (value % (1 << 8 * width - 1) | 1 << 8 * width - 1).to_bytes(width, "big")


def record(keyword: bytes, value: bytes) -> bytes:
    """A record of an extended header."""
    rest = b" " + keyword + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


class TarWriter:
    """A stream that grows."""

    def __init__(self) -> None:
        self.stream = bytearray()

    def header(
        self,
        name: bytes,
        flag: bytes = b"0",
        *,
        size: int | bytes = 0,
        mode: int = 0o644,
        uid: int | bytes | None = None,
        gid: int | bytes | None = None,
        mtime: int | bytes = 1_000_000_000,
        link: bytes = b"",
        magic: bytes = b"ustar\x0000",
        major: int = 0,
        minor: int = 0,
        prefix: bytes = b"",
        at: dict[int, bytes] | None = None,
        signed: bool = False,
    ) -> "TarWriter":
        """A header block; a field given as bytes is taken as it is, and ``at`` overwrites what lies there."""
        uid = os.geteuid() if uid is None else uid
        gid = os.getegid() if gid is None else gid
        block = bytearray(
            struct.pack(
                "100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x",
                name,
                octal(mode, 7),
                *(field if isinstance(field, bytes) else octal(field, 7) for field in (uid, gid)),
                *(field if isinstance(field, bytes) else octal(field, 11) for field in (size, mtime)),
                b" " * 8,
                flag,
                link,
                magic,
                b"",
                b"",
                octal(major, 7) if magic.strip(NUL) else b"",
                octal(minor, 7) if magic.strip(NUL) else b"",
                prefix,
            )
        )
        for place, field in (at or {}).items():
            block[place : place + len(field)] = field
        total = sum(byte - 256 if signed and byte > 127 else byte for byte in block)
        block[148:156] = b"%06o\0 " % total
        self.stream += block
        return self

    def data(self, content: bytes) -> "TarWriter":
        self.stream += content + bytes(-len(content) % BLOCK)
        return self

    def file(self, name: bytes, content: bytes = b"", flag: bytes = b"0", **fields: Any) -> "TarWriter":
        """A header, its fields by their names, and content."""
        return self.header(name, flag, **{"size": len(content), **fields}).data(content)

    def directory(self, name: bytes, mode: int = 0o755) -> "TarWriter":
        return self.header(name, b"5", mode=mode)

    def link(self, name: bytes, target: bytes) -> "TarWriter":
        return self.header(name, b"1", link=target)

    def symlink(self, name: bytes, target: bytes) -> "TarWriter":
        return self.header(name, b"2", link=target)

    def pax(self, records: Records | bytes, flag: bytes = b"x", name: bytes = b"PaxHeaders/x") -> "TarWriter":
        """An extended header for what comes next."""
        data = records if isinstance(records, bytes) else b"".join(record(*each) for each in records)
        return self.header(name, flag, size=len(data)).data(data)

    def long(self, text: bytes, flag: bytes = b"L") -> "TarWriter":
        """A GNU long name."""
        return self.file(b"././@LongLink", text + NUL, flag, magic=b"ustar  \0")

    def end(self) -> bytes:
        return bytes(self.stream + bytes(2 * BLOCK) + bytes(-(len(self.stream) + 2 * BLOCK) % (20 * BLOCK)))
