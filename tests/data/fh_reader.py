"""Reads the bodies of file history posts for tests, straight from the protocol's description."""

import struct
from typing import NamedTuple

ADD_FILE, ADD_DIR, ADD_NODE = 0x703, 0x704, 0x705
ADD_UNIX_PATH, ADD_UNIX_DIR, ADD_UNIX_NODE = 0x700, 0x701, 0x702


class Name(NamedTuple):
    """An element of ADD_DIR."""

    name: bytes
    node: int
    parent: int


class Attributes(NamedTuple):
    """An element of ADD_NODE or ADD_FILE; links is 0 where the version has none."""

    path: bytes
    ftype: int
    mtime: int
    atime: int
    ctime: int
    owner: int
    group: int
    fattr: int
    size: int
    links: int
    node: int
    fh_info: int


class _Cursor:
    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0

    def take(self, form: str) -> tuple[int, ...]:
        values = struct.unpack_from(">" + form, self.body, self.at)
        self.at += struct.calcsize(">" + form)
        return values

    def string(self) -> bytes:
        (length,) = self.take("I")
        value = self.body[self.at : self.at + length]
        self.at += (length + 3) & ~3
        return value


def elements(kind: int, body: bytes) -> list[Name | Attributes]:
    """The elements of one post."""
    cursor = _Cursor(body)
    (count,) = cursor.take("I")
    found = [_element(kind, cursor) for _ in range(count)]
    assert cursor.at == len(body)
    return found


def _element(kind: int, cursor: _Cursor) -> Name | Attributes:
    path = b""
    if kind in {ADD_DIR, ADD_FILE}:
        assert cursor.take("II") == (1, 0)
    if kind not in {ADD_NODE, ADD_UNIX_NODE}:
        path = cursor.string()
    if kind == ADD_DIR:
        return Name(path, *cursor.take("QQ"))
    if kind == ADD_UNIX_DIR:
        return Name(path, *cursor.take("II"))
    if kind in {ADD_FILE, ADD_NODE}:
        assert cursor.take("III") == (1, 0, 0)
        return Attributes(path, *cursor.take("IIIIIIIQIQQ"))
    ftype, mtime, atime, ctime, owner, group, fattr, size, fh_info = cursor.take("IIIIIIIQQ")
    node = cursor.take("I")[0] if kind == ADD_UNIX_NODE else 0
    return Attributes(path, ftype, mtime, atime, ctime, owner, group, fattr, size, 0, node, fh_info)
